// The safetensors reader against every kind of malformed file.
#include "support/catch.hpp"
#include "support/files_safetensors.hpp"

#include <random>

using namespace reference;
using namespace files_test;

// Refused. The numbers are those of the list in formats.md, section 1.

TEST_CASE("reject 1: a file shorter than its length prefix", "[safetensors][reject]") {
  CHECK(refusal("") == "not a safetensors file: expected at least 8 bytes, found 0");
  CHECK(refusal("1234567") == "not a safetensors file: expected at least 8 bytes, found 7");
}

TEST_CASE("reject 2: a header longer than the file or than any header may be", "[safetensors][reject]") {
  CHECK(refusal(prefixed(3, "{}")) == "not a safetensors file: expected a header of at most 2 bytes, found 3");
  CHECK(refusal(prefixed(~std::uint64_t{0}, "{}")) ==
        "not a safetensors file: expected a header of at most 2 bytes, found 18446744073709551615");
  const temporary_folder folder;
  write_bytes(folder / "sparse", prefixed(100'000'001, "{}"));
  fs::resize_file(folder / "sparse", 200'000'000); // a hole: takes no room
  CHECK(input_message([&] { safetensors_file{folder / "sparse"}; }) ==
        containing("expected a header of at most 100000000 bytes, found 100000001"));
}

TEST_CASE("reject 3: a header that is not UTF-8 JSON, not an object, or followed by more", "[safetensors][reject]") {
  CHECK(header_refusal("") == "not valid JSON at byte 8");
  CHECK(header_refusal("{") == "not valid JSON at byte 9");
  CHECK(header_refusal("{]") == "not valid JSON at byte 9");
  CHECK(header_refusal("{\"a\xff\":1}") == containing("not valid JSON at byte 11"));
  CHECK(header_refusal(R"({"\ud800":1})") == containing("not valid JSON at byte"));
  CHECK(header_refusal("[]") == "expected an object, found an array");
  CHECK(header_refusal("7") == "expected an object, found 7");
  CHECK(header_refusal("\"x\"") == "expected an object, found 'x'");
  CHECK(header_refusal("null") == "expected an object, found null");
  CHECK(header_refusal("{} x") == "not valid JSON at byte 11");
  CHECK(header_refusal("{}{}") == "not valid JSON at byte 10");
  CHECK(header_refusal(std::string("{}\0\0", 4)) == "not valid JSON at byte 10");
  CHECK(header_refusal("\xef\xbb\xbf{}") == "not valid JSON at byte 8");
  CHECK(header_refusal("{}//c") == "not valid JSON at byte 10");
}

TEST_CASE("reject 4: nesting, at any depth, without exhausting the stack", "[safetensors][reject]") {
  const int deep = 1'000'000;
  CHECK(header_refusal(repeated("[", deep)) == "expected an object, found an array");
  CHECK(header_refusal(repeated(R"({"a":)", deep)) == "tensor 'a': unknown field 'a'");
  CHECK(header_refusal(R"({"a":)" + repeated("[", deep)) == "tensor 'a': expected an object, found an array");
  CHECK(header_refusal(R"({"a":{"shape":)" + repeated("[", deep)) ==
        "tensor 'a': expected integers from 0 to 2^48 in shape, found an array");
  CHECK(header_refusal(R"({"__metadata__":{"k":)" + repeated("[", deep)) ==
        "__metadata__: expected a string for 'k', found an array");
}

TEST_CASE("reject 5: keys that occur twice, and metadata that is no string", "[safetensors][reject]") {
  const std::string t = R"("t":{"dtype":"U8","shape":[0],"data_offsets":[0,0]})";
  CHECK(header_refusal("{" + t + "," + t + "}") == "tensor 't' twice");
  CHECK(header_refusal(R"({"__metadata__":{},"__metadata__":{}})") == "'__metadata__' twice");
  CHECK(header_refusal(R"({"__metadata__":{"k":"1","k":"2"}})") == "__metadata__: key 'k' twice");
  CHECK(header_refusal(R"({"t":{"dtype":"U8","dtype":"U8","shape":[0],"data_offsets":[0,0]}})") ==
        "tensor 't': field 'dtype' twice");
  CHECK(header_refusal(R"({"__metadata__":{"k":1}})") == "__metadata__: expected a string for 'k', found 1");
  CHECK(header_refusal(R"({"__metadata__":{"k":null}})") == "__metadata__: expected a string for 'k', found null");
  CHECK(header_refusal(R"({"__metadata__":null})") == "__metadata__: expected an object, found null");
}

TEST_CASE("reject 6: missing and unknown fields, unknown types, and a wrong number of offsets",
          "[safetensors][reject]") {
  CHECK(header_refusal(R"({"t":{"shape":[0],"data_offsets":[0,0]}})") == "tensor 't': missing field 'dtype'");
  CHECK(header_refusal(R"({"t":{"dtype":"U8","data_offsets":[0,0]}})") == "tensor 't': missing field 'shape'");
  CHECK(header_refusal(R"({"t":{"dtype":"U8","shape":[0]}})") == "tensor 't': missing field 'data_offsets'");
  CHECK(header_refusal(R"({"t":{"dtype":"U8","strides":[1]}})") == "tensor 't': unknown field 'strides'");
  CHECK(header_refusal(tensor("f32", "[0]", "[0,0]")) == "tensor 't': unknown dtype 'f32'");
  CHECK(header_refusal(R"({"t":{"dtype":3}})") == "tensor 't': expected a string for dtype, found 3");
  CHECK(header_refusal(R"({"t":{"shape":3}})") == "tensor 't': expected an array for shape, found 3");
  CHECK(header_refusal(R"({"t":7})") == "tensor 't': expected an object, found 7");
  CHECK(header_refusal(tensor("U8", "[0]", "[0]")) == "tensor 't': expected 2 data_offsets, found 1");
  CHECK(header_refusal(tensor("U8", "[0]", "[0,0,0]")) == "tensor 't': expected 2 data_offsets, found more");
}

TEST_CASE("reject 7: numbers that are negative, fractional, in exponent form or too large, and too many of them",
          "[safetensors][reject]") {
  for (const std::string number :
       {"-1", "-0", "1.0", "1e2", "0.5", "281474976710657", "18446744073709551616", "true"}) {
    CAPTURE(number);
    CHECK(header_refusal(tensor("U8", "[" + number + "]", "[0,0]")) ==
          "tensor 't': expected integers from 0 to 2^48 in shape, found " + number);
    CHECK(header_refusal(tensor("U8", "[0]", "[0," + number + "]")) ==
          "tensor 't': expected integers from 0 to 2^48 in data_offsets, found " + number);
  }
  CHECK(header_refusal(tensor("U8", "[1e999]", "[0,0]")) == containing("not valid JSON at byte"));
  CHECK(header_refusal(tensor("U8", "[1,1,1,1,1,1,1,1,1]", "[0,1]"), 1) ==
        "tensor 't': expected at most 8 dimensions, found more");
}

TEST_CASE("reject 8: shapes whose size overflows", "[safetensors][reject]") {
  CHECK(header_refusal(tensor("F32", "[281474976710656,281474976710656]", "[0,0]")) ==
        "tensor 't': F32 [281474976710656,281474976710656] is not a whole number of bytes below 2^61");
  CHECK(header_refusal(tensor("U8", "[281474976710656,65536,0]", "[0,0]")) ==
        "tensor 't': U8 [281474976710656,65536,0] is not a whole number of bytes below 2^61");
  // 2^62 elements fit 64 bits, their 2^64 bits of F4 don't; the two classic wrap-arounds have numbers beyond 2^48.
  CHECK(header_refusal(tensor("F4", "[281474976710656,16384]", "[0,0]")) ==
        containing("is not a whole number of bytes"));
  CHECK(header_refusal(tensor("U8", "[2,18446744073709551614]", "[0,0]")) == containing("found 18446744073709551614"));
  CHECK(header_refusal(tensor("U8", "[2,9223372036854775807]", "[0,0]")) == containing("found 9223372036854775807"));
}

TEST_CASE("reject 9: sub-byte types that don't fill whole bytes", "[safetensors][reject]") {
  CHECK(header_refusal(tensor("F4", "[3]", "[0,2]"), 2) ==
        "tensor 't': F4 [3] is not a whole number of bytes below 2^61");
  CHECK(header_refusal(tensor("F6_E2M3", "[2]", "[0,2]"), 2) ==
        "tensor 't': F6_E2M3 [2] is not a whole number of bytes below 2^61");
}

TEST_CASE("reject 10: offsets that are reversed or don't match the shape", "[safetensors][reject]") {
  CHECK(header_refusal(tensor("I32", "[2,2]", "[16,0]"), 16) ==
        "tensor 't': expected 16 bytes for I32 [2,2], found data_offsets [16,0]");
  CHECK(header_refusal(tensor("I32", "[2,2]", "[0,12]"), 12) ==
        "tensor 't': expected 16 bytes for I32 [2,2], found data_offsets [0,12]");
  CHECK(header_refusal(tensor("I32", "[2,2]", "[0,20]"), 20) ==
        "tensor 't': expected 16 bytes for I32 [2,2], found data_offsets [0,20]");
}

TEST_CASE("reject 11: holes and overlaps", "[safetensors][reject]") {
  const auto two = [](const std::string& a, const std::string& b) {
    return R"({"a":{"dtype":"U8","shape":[4],"data_offsets":)" + a +
           R"(},"b":{"dtype":"U8","shape":[4],"data_offsets":)" + b + "}}";
  };
  CHECK(header_refusal(two("[0,4]", "[5,9]"), 9) == "tensor 'b': expected data to begin at byte 4, found 5 (a hole)");
  CHECK(header_refusal(two("[1,5]", "[5,9]"), 9) == "tensor 'a': expected data to begin at byte 0, found 1 (a hole)");
  CHECK(header_refusal(two("[0,4]", "[3,7]"), 7) ==
        "tensor 'b': expected data to begin at byte 4, found 3 (an overlap)");
  CHECK(header_refusal(two("[0,4]", "[0,4]"), 4) ==
        "tensor 'b': expected data to begin at byte 4, found 0 (an overlap)");
}

TEST_CASE("reject 12: data that is shorter or longer than the tensors", "[safetensors][reject]") {
  CHECK(header_refusal(tensor("I32", "[2,2]", "[0,16]"), 15) == "expected 16 bytes of data, found 15");
  CHECK(header_refusal(tensor("I32", "[2,2]", "[0,16]"), 17) == "expected 16 bytes of data, found 17");
  CHECK(header_refusal("{}", 1) == "expected 0 bytes of data, found 1");
}

TEST_CASE("messages escape what a file smuggles into a name and cut it short", "[safetensors][reject]") {
  const std::string shown = header_refusal(R"({"a\u001b[31m\n)" + std::string(500, 'x') + R"(":{"dtype":"?"}})");
  CHECK(shown == "tensor 'a\\x1b[31m\\x0a" + std::string(47, 'x') + "...': unknown dtype '?'");
}

TEST_CASE("every truncation of a file is refused", "[safetensors][reject]") {
  const std::string whole =
      file_of(R"({"__metadata__":{"format":"pt"},"t":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})", 8);
  for (std::size_t length = 0; length < whole.size(); ++length) {
    CAPTURE(length);
    CHECK(refusal(whole.substr(0, length)).starts_with("not a "));
  }
}

TEST_CASE("any damaged byte either leaves a readable file or is an input error", "[safetensors][reject]") {
  const std::string whole =
      file_of(R"({"__metadata__":{"format":"pt"},"a/b":{"dtype":"F32","shape":[2,1],"data_offsets":[0,8]},)"
              R"("c":{"dtype":"I64","shape":[1],"data_offsets":[8,16]}})",
              16);
  const temporary_folder folder;
  std::mt19937 random(20240611);
  int refused = 0;
  for (int trial = 0; trial < 600; ++trial) {
    std::string bytes = whole;
    const std::size_t at = random() % bytes.size();
    bytes[at] = static_cast<char>(random() % 256);
    CAPTURE(trial, at);
    try {
      const auto file = opened(folder, bytes);
      for (const tensor_entry& entry : file.tensors()) { CHECK(file.bytes(entry).size() == entry.size_bytes()); }
    } catch (const input_error&) { ++refused; }
  }
  CHECK(refused > 300); // most of the file is header
}
