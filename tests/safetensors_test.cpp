// The safetensors writer against bytes of the reference library, and what the reader accepts.
#include "support/catch.hpp"
#include "support/files_safetensors.hpp"

#include <array>
#include <cmath>
#include <limits>

#include <sys/stat.h>

using namespace reference;
using namespace files_test;

TEST_CASE("a written file has the bytes of the reference library", "[safetensors]") {
  // Made by the Python package safetensors 0.8.0: numpy.save of these tensors with metadata {"format": "pt"}.
  const std::string header =
      R"({"__metadata__":{"format":"pt"},"a":{"dtype":"I64","shape":[2,2],"data_offsets":[0,32]},)"
      "\"\xc3\xa9\\\"\\\\\\n\":"
      R"({"dtype":"F64","shape":[],"data_offsets":[32,40]},"a2":{"dtype":"F32","shape":[1],"data_offsets":[40,44]},)"
      R"("b/x":{"dtype":"F32","shape":[3],"data_offsets":[44,56]},)"
      R"("zz":{"dtype":"F32","shape":[0,4],"data_offsets":[56,56]},)"
      R"("h":{"dtype":"F16","shape":[2],"data_offsets":[56,60]},"B":{"dtype":"BOOL","shape":[3],"data_offsets":[60,63]}} )";
  REQUIRE(header.size() == 432);
  const std::array<std::int64_t, 4> a{1, 2, 3, 4};
  const std::array<double, 1> scalar{1.5};
  const std::array<float, 1> a2{7};
  const std::array<float, 3> bx{0, 1, 2};
  const std::array<std::uint16_t, 2> h{0x3c00, 0x4000};
  const std::array<std::uint8_t, 3> flags{1, 0, 1};
  const std::vector<tensor_source> tensors{
      {"b/x", dtype::f32, {3}, std::as_bytes(std::span{bx})},
      {"a", dtype::i64, {2, 2}, std::as_bytes(std::span{a})},
      {"\xc3\xa9\"\\\n", dtype::f64, {}, std::as_bytes(std::span{scalar})},
      {"zz", dtype::f32, {0, 4}, {}},
      {"h", dtype::f16, {2}, std::as_bytes(std::span{h})},
      {"B", dtype::boolean, {3}, std::as_bytes(std::span{flags})},
      {"a2", dtype::f32, {1}, std::as_bytes(std::span{a2})},
  };
  std::string expected = prefixed(432, header);
  for (const auto data :
       {tensors[1].bytes, tensors[2].bytes, tensors[6].bytes, tensors[0].bytes, tensors[4].bytes, tensors[5].bytes}) {
    expected.append(reinterpret_cast<const char*>(data.data()), data.size());
  }
  CHECK(written(tensors, {{"format", "pt"}}) == expected);
}

TEST_CASE("a file without tensors has the bytes of the reference library", "[safetensors]") {
  CHECK(written({}, {}) == prefixed(8, "{}      "));
  CHECK(written({}, {{"format", "pt"}}) == prefixed(32, R"({"__metadata__":{"format":"pt"}})"));
}

TEST_CASE("metadata is {format: pt} unless something else is asked for", "[safetensors]") {
  const temporary_folder folder;
  output_file out(folder / "t.safetensors");
  write_safetensors(out, {});
  out.finish();
  CHECK(safetensors_file{folder / "t.safetensors"}.metadata() == std::map<std::string, std::string>{{"format", "pt"}});
}

TEST_CASE("the writer refuses what a reader would refuse", "[safetensors]") {
  const std::array<float, 2> two{};
  const auto bytes = std::as_bytes(std::span{two});
  const auto message = [&](std::vector<tensor_source> tensors) {
    return input_message([&] { (void)written(std::move(tensors), {}); });
  };
  CHECK(message({{"x", dtype::f32, {3}, bytes}}) == containing("tensor 'x': cannot store 8 bytes as F32 [3]"));
  CHECK(message({{"x", dtype::f32, {2}, bytes}, {"x", dtype::u8, {8}, bytes}}) == containing("tensor 'x' twice"));
  CHECK(message({{"x", dtype::f32, {2, 1, 1, 1, 1, 1, 1, 1, 1}, bytes}}) == containing("cannot store 8 bytes"));
  CHECK(message({{"x", dtype::f32, {-2, -1}, bytes}}) == containing("cannot store 8 bytes"));
  CHECK(message({{"__metadata__", dtype::f32, {2}, bytes}}) == containing("the name is reserved"));
  CHECK(message({{"x\xff", dtype::f32, {2}, bytes}}) == containing("UTF-8, found 'x\\xff'"));
}

TEST_CASE("what was written is read back bit for bit", "[safetensors]") {
  const temporary_folder folder;
  std::vector<float> x{1.5F,
                       -0.0F,
                       std::numeric_limits<float>::quiet_NaN(),
                       std::numeric_limits<float>::infinity(),
                       std::numeric_limits<float>::denorm_min(),
                       3};
  const std::vector<std::int64_t> births{0, -5, std::numeric_limits<std::int64_t>::max()};
  output_file out(folder / "t.safetensors");
  write_safetensors(out, {{"x", dtype::f32, {2, 3}, std::as_bytes(std::span{x})},
                          {"birth/ffn", dtype::i64, {3}, std::as_bytes(std::span{births})}});
  out.finish();
  const safetensors_file file(folder / "t.safetensors");
  REQUIRE(file.tensors().size() == 2);
  CHECK(file.at("x").shape == std::vector<msg::index>{2, 3});
  CHECK(file.read<std::int64_t>("birth/ffn") == births);
  const auto y = file.read<float>("x");
  CHECK(std::memcmp(x.data(), y.data(), x.size() * sizeof(float)) == 0);
  CHECK(first_non_finite(std::span<const float>{y}) == 2);
  const auto raw = file.bytes(file.at("x"));
  CHECK(std::memcmp(x.data(), raw.data(), raw.size()) == 0);
}

TEST_CASE("the data may lie at any alignment", "[safetensors]") {
  for (std::size_t spaces = 0; spaces < 8; ++spaces) {
    const temporary_folder folder;
    std::string bytes = file_of(tensor("F64", "[2]", "[0,16]") + std::string(spaces, ' '));
    const std::array<double, 2> values{1.25, -3e300};
    bytes.append(reinterpret_cast<const char*>(values.data()), sizeof values);
    CHECK(opened(folder, bytes).read<double>("t") == std::vector<double>(values.begin(), values.end()));
  }
}

TEST_CASE("half, bfloat16, single and double are read as float and as double", "[safetensors]") {
  const temporary_folder folder;
  const std::vector<std::uint16_t> half{0x3c00, 0xc000, 0x0001, 0x03ff, 0x7bff, 0x7c00, 0x8000, 0x3555};
  const std::vector<std::uint16_t> brain{0x3f80, 0xc000, 0x0001, 0x7f80, 0x8000, 0x4049};
  const std::vector<float> single{0.1F, -2};
  const std::vector<double> wide{0.1, -2};
  output_file out(folder / "t.safetensors");
  write_safetensors(out, {{"half", dtype::f16, {8}, std::as_bytes(std::span{half})},
                          {"brain", dtype::bf16, {6}, std::as_bytes(std::span{brain})},
                          {"single", dtype::f32, {2}, std::as_bytes(std::span{single})},
                          {"wide", dtype::f64, {2}, std::as_bytes(std::span{wide})}});
  out.finish();
  const safetensors_file file(folder / "t.safetensors");
  const float infinity = std::numeric_limits<float>::infinity();
  CHECK(file.read<float>("half") ==
        std::vector<float>{1, -2, 0x1p-24F, 0x3ffp-24F, 65504, infinity, -0.0F, 0x1.554p-2F});
  CHECK(std::signbit(file.read<float>("half")[6]));
  CHECK(file.read<float>("brain") == std::vector<float>{1, -2, 0x1p-133F, infinity, -0.0F, 3.140625F});
  CHECK(file.read<double>("half")[3] == 0x3ffp-24);
  CHECK(file.read<double>("single") == std::vector<double>{static_cast<double>(0.1F), -2});
  CHECK(file.read<float>("wide") == single);
  CHECK(std::isnan(float_from_half(0x7e00)));
}

TEST_CASE("a tensor longer than one conversion buffer is read whole", "[safetensors]") {
  const temporary_folder folder;
  std::vector<double> wide(20'001);
  for (std::size_t i = 0; i < wide.size(); ++i) { wide[i] = static_cast<double>(i); }
  output_file out(folder / "t.safetensors");
  write_safetensors(out, {{"w", dtype::f64, {20'001}, std::as_bytes(std::span{wide})}});
  out.finish();
  const auto narrow = safetensors_file{folder / "t.safetensors"}.read<float>("w");
  for (std::size_t i = 0; i < wide.size(); ++i) { REQUIRE(narrow[i] == static_cast<float>(i)); }
}

TEST_CASE("reading another type, size or name than is stored says so", "[safetensors]") {
  const temporary_folder folder;
  const auto file = opened(folder, file_of(tensor("I32", "[2,2]", "[0,16]"), 16));
  const std::string path = (folder / "t.safetensors").string();
  std::vector<float> five(5);
  std::vector<float> four(4);
  CHECK(input_message([&] { file.read(file.at("t"), std::span{five}); }) ==
        path + ": tensor 't': expected 5 elements, found I32 [2,2]");
  CHECK(input_message([&] { file.read(file.at("t"), std::span{four}); }) ==
        path + ": tensor 't': expected F64, F32, F16 or BF16, found I32 [2,2]");
  CHECK(input_message([&] { (void)file.read<std::int64_t>("t"); }) ==
        path + ": tensor 't': expected I64, found I32 [2,2]");
  CHECK(input_message([&] { (void)file.at("u\n"); }) == path + ": missing tensor 'u\\x0a'");
}

TEST_CASE("a missing file, a folder and a pipe are no safetensors files", "[safetensors]") {
  const temporary_folder folder;
  CHECK(input_message([&] { safetensors_file{folder / "nothing"}; }) ==
        (folder / "nothing").string() + ": cannot open: No such file or directory");
  CHECK(input_message([&] { safetensors_file{folder.path()}; }) ==
        folder.path().string() + ": expected a regular file");
  REQUIRE(::mkfifo((folder / "pipe").c_str(), 0600) == 0);
  CHECK(input_message([&] { safetensors_file{folder / "pipe"}; }) ==
        (folder / "pipe").string() + ": expected a regular file");
}

TEST_CASE("a file that shrinks after it was opened is an error, not a crash", "[safetensors]") {
  const temporary_folder folder;
  const auto file = opened(folder, file_of(tensor("F32", "[4]", "[0,16]"), 16));
  fs::resize_file(folder / "t.safetensors", 70);
  CHECK(input_message([&] { (void)file.read<float>("t"); }) == containing("the file became shorter while it was read"));
}

// Accepted, though unusual.

TEST_CASE("accept: an empty header with padding of any JSON white space", "[safetensors][accept]") {
  const temporary_folder folder;
  for (const std::string header : {"{}      ", "{}", "{}\r\n\t ", " \n{}"}) {
    CHECK(opened(folder, file_of(header)).tensors().empty());
  }
}

TEST_CASE("accept: zero-size tensors and scalars", "[safetensors][accept]") {
  const temporary_folder folder;
  const auto file = opened(folder, file_of(R"({"z":{"dtype":"F32","shape":[0,281474976710656],"data_offsets":[4,4]},)"
                                           R"("s":{"dtype":"F32","shape":[],"data_offsets":[0,4]},)"
                                           R"("y":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}})",
                                           4));
  CHECK(file.read<float>("s") == std::vector<float>{0});
  CHECK(file.read<float>("z").empty());
  CHECK(file.at("s").size() == 1);
}

TEST_CASE("accept: fields in any order, escapes, and names with slashes, NUL and 10000 characters",
          "[safetensors][accept]") {
  const temporary_folder folder;
  const std::string name(10'000, 'n');
  const auto file = opened(folder, file_of(R"({"a\/b\u0000":{"data_offsets":[0,1],"shape":[1],"dtype":"U8"},")" + name +
                                               R"(":{"shape":[1],"dtype":"I8","data_offsets":[1,2]}})",
                                           2));
  CHECK(file.find(std::string_view("a/b\0", 4)) != nullptr);
  CHECK(file.find(name) != nullptr);
}

TEST_CASE("accept: sub-byte types that fill whole bytes, passed through", "[safetensors][accept]") {
  const temporary_folder folder;
  const auto file = opened(folder, file_of(tensor("F4", "[6]", "[0,3]"), 3));
  CHECK(file.bytes(file.at("t")).size() == 3);
}

TEST_CASE("accept: every dtype of the format", "[safetensors][accept]") {
  for (const dtype_properties& type : dtype_table) {
    const temporary_folder folder;
    const std::string bytes = std::to_string(type.bits);
    const auto file = opened(folder, file_of(tensor(std::string{type.name}, "[8]", "[0," + bytes + "]"), type.bits));
    CHECK(properties_of(file.at("t").type).name == type.name);
  }
}
