// Text as bytes: what is read, what is held out, and that a batch depends on its position alone.
#include "support/catch.hpp"
#include "support/files_support.hpp"

#include "transformer/data_load.hpp"

#include <algorithm>
#include <cstdint>
#include <numeric>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include <sys/stat.h>
#include <unistd.h>

using namespace reference;
using namespace files_test;

namespace {

constexpr std::uint64_t seed = 17;

// Text without a repetition longer than 7 bytes, so that a window tells where it is from.
[[nodiscard]] std::string counting_text(int first, int count) {
  std::string text;
  for (int i = first; i < first + count; ++i) { text += fmt::format("{:06d}\n", i); }
  return text;
}

[[nodiscard]] training_data load_text(const std::string& path, msg::index seq, msg::index validation_tokens = 65536) {
  return load_data(path, {.seq = seq, .validation_tokens = validation_tokens});
}
[[nodiscard]] token_batch training(const training_data& data, data_position& at, msg::index size,
                                   std::uint64_t key = seed) {
  token_batch b = make_batch(data, size);
  at = train_batch(data, key, at, b);
  return b;
}
[[nodiscard]] std::vector<std::int32_t> ids_of(const training_data& data) {
  std::vector<std::int32_t> ids(static_cast<std::size_t>(data.tokens.size()));
  data.tokens.copy(0, data.tokens.size(), ids.data());
  return ids;
}

// Where in data.tokens each window of a batch starts. The joined short files are a copy, so search the segments.
[[nodiscard]] std::vector<msg::index> starts_of(const training_data& data, const data_side& split,
                                                const token_batch& b) {
  const std::vector<std::int32_t> ids = ids_of(data);
  std::vector<msg::index> starts;
  for (auto window = b.tokens.begin(); window != b.tokens.end(); window += data.seq) {
    msg::index start = -1;
    for (const token_segment& s : split.segments) {
      const auto begin = ids.begin() + s.begin;
      const auto found = std::search(begin, begin + s.size, window, window + data.seq);
      if (found != begin + s.size) { start = found - ids.begin(); }
    }
    starts.push_back(start);
  }
  return starts;
}

// `count` files in sub-folders; file i holds nothing but the byte 'A' + i, `size(i)` times.
template <class Size>
void write_letter_files(const fs::path& folder, int count, const Size& size) {
  for (int i = 0; i < count; ++i) {
    const fs::path place = folder / fmt::format("part{}", i % 4);
    fs::create_directories(place);
    write_bytes(place / fmt::format("file{}.txt", i),
                std::string(static_cast<std::size_t>(size(i)), static_cast<char>('A' + i)));
  }
}

[[nodiscard]] std::set<std::int32_t> letters_of(const std::vector<std::int32_t>& tokens) {
  return {tokens.begin(), tokens.end()};
}
[[nodiscard]] token_batch whole_validation(const training_data& data) {
  token_batch b = make_batch(data, data.validation_windows);
  CHECK(validation_batch(data, 0, b) == data.validation_windows);
  return b;
}
[[nodiscard]] double held_out_share(const training_data& data) {
  return static_cast<double>(data.validation.size) / static_cast<double>(data.validation.size + data.train.size);
}

} // namespace

TEST_CASE("the keyed order is a permutation of any number of windows", "[data]") {
  const auto count = GENERATE(msg::index{1}, 2, 3, 4, 5, 15, 16, 17, 63, 64, 65, 127, 1000, 4097);
  for (std::uint64_t key = 0; key < 5; ++key) {
    std::vector<bool> seen(static_cast<std::size_t>(count), false);
    for (msg::index i = 0; i < count; ++i) {
      const auto to = static_cast<std::size_t>(data_detail::permute(i, count, key));
      REQUIRE(to < seen.size());
      REQUIRE_FALSE(seen[to]);
      seen[to] = true;
    }
  }
}

TEST_CASE("hashes and the keyed order are the same in every build, or old checkpoints would read other text",
          "[data]") {
  CHECK(data_detail::fnv("") == 0xcbf29ce484222325U); // the published test values of FNV-1a
  CHECK(data_detail::fnv("a") == 0xaf63dc4c8601ec8cU);
  CHECK(data_detail::fnv("foobar") == 0x85944171f73967e8U);
  CHECK(data_detail::mix(0x9e3779b97f4a7c15U) == 0xe220a8397b1dcdafU); // the first output of splitmix64 from seed 0
  std::vector<msg::index> order;
  for (msg::index i = 0; i < 10; ++i) { order.push_back(data_detail::permute(i, 10, seed)); }
  CHECK(order == std::vector<msg::index>{6, 0, 3, 5, 7, 9, 8, 4, 2, 1});
}

TEST_CASE("every pass reads each training window once, each pass in an order of its own", "[data]") {
  const temporary_folder folder;
  write_bytes(folder / "a", counting_text(0, 400));
  write_bytes(folder / "b", counting_text(1000, 311));
  const training_data data = load_text(folder.path().string(), 16);
  data_position at;
  std::vector<std::vector<msg::index>> passes;
  for (msg::index epoch = 0; epoch < 3; ++epoch) {
    std::vector<msg::index> starts;
    while (at.epoch == epoch) {
      const token_batch b = training(data, at, 1);
      starts.push_back(starts_of(data, data.train, b).front());
    }
    REQUIRE(at.position == 0);
    REQUIRE(static_cast<msg::index>(starts.size()) == data.train.windows);
    passes.push_back(starts);
    std::sort(starts.begin(), starts.end());
    REQUIRE(starts.front() >= 0);
    for (std::size_t i = 1; i < starts.size(); ++i) { REQUIRE(starts[i] - starts[i - 1] >= data.seq); }
  }
  CHECK(passes[0] != passes[1]);
  CHECK(passes[1] != passes[2]);
  CHECK_FALSE(std::is_sorted(passes[0].begin(), passes[0].end()));
}

TEST_CASE("the bytes that fill no window at the end of a file are read in other passes", "[data]") {
  const temporary_folder folder;
  write_bytes(folder / "text", counting_text(0, 2000));
  const training_data data = load_text((folder / "text").string(), 64);
  std::set<msg::index> read;
  for (msg::index epoch = 0; epoch < 60; ++epoch) {
    data_position at{epoch, 0};
    for (const msg::index start : starts_of(data, data.train, training(data, at, data.train.windows))) {
      for (msg::index i = 0; i <= data.seq; ++i) { read.insert(start + i); }
    }
  }
  CHECK(static_cast<msg::index>(read.size()) > data.train.size - 4);
}

TEST_CASE("a batch depends on seed and position alone, so a run resumes at any position with the same bytes",
          "[data]") {
  const temporary_folder folder;
  write_bytes(folder / "text", counting_text(0, 900));
  const training_data first = load_text(folder.path().string(), 32);
  std::vector<data_position> positions{{}};
  std::vector<token_batch> batches;
  while (positions.back().epoch < 3) {
    data_position at = positions.back();
    batches.push_back(training(first, at, 7)); // 7 does not divide the windows: batches lie across passes
    positions.push_back(at);
  }
  const training_data again = load_text(folder.path().string(), 32);
  for (std::size_t i = batches.size(); i-- > 0;) {
    data_position at = positions[i];
    REQUIRE(training(again, at, 7) == batches[i]);
    REQUIRE(at == positions[i + 1]);
  }
}

TEST_CASE("one batch of 6 reads what three batches of 2 read", "[data]") {
  const temporary_folder folder;
  write_bytes(folder / "text", counting_text(0, 900));
  const training_data data = load_text(folder.path().string(), 32);
  data_position whole{0, data.train.windows - 3};
  data_position parts = whole;
  const token_batch six = training(data, whole, 6);
  token_batch joined;
  for (int i = 0; i < 3; ++i) {
    const token_batch two = training(data, parts, 2);
    joined.tokens.insert(joined.tokens.end(), two.tokens.begin(), two.tokens.end());
    joined.targets.insert(joined.targets.end(), two.targets.begin(), two.targets.end());
  }
  CHECK(joined.tokens == six.tokens);
  CHECK(joined.targets == six.targets);
  CHECK(parts == whole);
}

TEST_CASE("another seed reads the text in another order", "[data]") {
  const temporary_folder folder;
  write_bytes(folder / "text", counting_text(0, 900));
  const training_data data = load_text(folder.path().string(), 32);
  data_position a;
  data_position b;
  CHECK_FALSE(training(data, a, 8, 1) == training(data, b, 8, 2));
}

TEST_CASE("targets are the tokens one byte later", "[data]") {
  const temporary_folder folder;
  std::string text = counting_text(0, 900);
  for (int i = 0; i < 2048; ++i) { text += static_cast<char>(1 + i % 255); } // bytes above 127 too
  write_bytes(folder / "text", text);
  const training_data data = load_text(folder.path().string(), 32);
  data_position at;
  for (const token_batch& b : {training(data, at, data.train.windows), whole_validation(data)}) {
    for (std::size_t i = 0; i < b.tokens.size(); ++i) {
      REQUIRE(b.tokens[i] >= 1);
      REQUIRE(b.tokens[i] <= 255);
      if (i % 32 != 31) { REQUIRE(b.targets[i] == b.tokens[i + 1]); }
    }
  }
  // The last target is the byte after the window.
  const token_batch b = whole_validation(data);
  const std::vector<msg::index> starts = starts_of(data, data.validation, b);
  for (std::size_t w = 0; w < starts.size(); ++w) { REQUIRE(b.targets[w * 32 + 31] == data.tokens[starts[w] + 32]); }
}

TEST_CASE("no byte of a held-out file is ever trained on", "[data]") {
  const temporary_folder folder;
  write_letter_files(folder.path(), 40, [](int i) { return 300 + 37 * i; });
  const training_data data = load_text(folder.path().string(), 64);
  REQUIRE(data.by_file);
  const std::set<std::int32_t> held_out = letters_of(whole_validation(data).targets);
  std::set<std::int32_t> trained;
  for (msg::index epoch = 0; epoch < 4; ++epoch) {
    data_position at{epoch, 0};
    const token_batch b = training(data, at, data.train.windows);
    trained.merge(letters_of(b.tokens));
    trained.merge(letters_of(b.targets));
  }
  CHECK(held_out.size() == static_cast<std::size_t>(data.validation.parts));
  CHECK(trained.size() + held_out.size() == 40);
  for (const std::int32_t letter : held_out) { CHECK(trained.count(letter) == 0); }
}

TEST_CASE("no byte of a held-out block is ever trained on", "[data]") {
  const temporary_folder folder;
  write_bytes(folder / "text", counting_text(0, 40000));
  const training_data data = load_text((folder / "text").string(), 50);
  REQUIRE_FALSE(data.by_file);
  std::vector<char> held_out(static_cast<std::size_t>(data.tokens.size()), 0);
  for (const token_segment& s : data.validation.segments) {
    std::fill_n(held_out.begin() + s.begin, s.size, static_cast<char>(1));
  }
  CHECK(std::accumulate(held_out.begin(), held_out.end(), msg::index{0}) == data.validation.size);
  for (const token_segment& s : data.train.segments) {
    CHECK(std::count(held_out.begin() + s.begin, held_out.begin() + s.begin + s.size, 1) == 0);
  }
  CHECK(data.train.size + data.validation.size == data.tokens.size());
}

TEST_CASE("between 5 and 10 percent of the bytes are held out, of many files and of one", "[data]") {
  const temporary_folder folder;
  const int files = GENERATE(1, 2, 3, 30, 60);
  CAPTURE(files);
  for (int i = 0; i < files; ++i) {
    write_bytes(folder / fmt::format("f{}", i), counting_text(i * 10000, 2000 + (i * 7919) % 3000));
  }
  const training_data data = load_text(folder.path().string(), 128);
  CHECK(held_out_share(data) >= 0.05);
  CHECK(held_out_share(data) <= 0.10);
  CHECK(data.by_file == (files >= 30)); // one of three large files would be far more than a tenth
}

TEST_CASE("held-out blocks of one file are spread, not its tail", "[data]") {
  const temporary_folder folder;
  write_bytes(folder / "text", counting_text(0, 500000));
  const training_data data = load_text((folder / "text").string(), 128);
  REQUIRE(data.validation.segments.size() >= 2);
  CHECK(data.train.segments.size() >= 3);
  CHECK(data.validation.segments.front().begin < data.tokens.size() / 2);
  for (const token_segment& s : data.validation.segments) { CHECK(s.begin % 65536 == 0); }
}

TEST_CASE("the split depends on relative paths, not on where the folder lies", "[data]") {
  const temporary_folder here;
  const temporary_folder there;
  const fs::path deeper = there / "some/where/else";
  fs::create_directories(deeper);
  write_letter_files(here.path(), 40, [](int i) { return 500 + i; });
  write_letter_files(deeper, 40, [](int i) { return 500 + i; });
  const training_data a = load_text(here.path().string(), 64);
  const training_data b = load_text(deeper.string() + "/", 64);
  CHECK(a.files_hash == b.files_hash);
  CHECK(letters_of(whole_validation(a).tokens) == letters_of(whole_validation(b).tokens));
  CHECK(whole_validation(a) == whole_validation(b));
}

TEST_CASE("the hash of the files changes with a name, a byte, and a file more or less", "[data]") {
  const temporary_folder folder;
  const auto hash = [&] { return load_text(folder.path().string(), 16).files_hash; };
  write_bytes(folder / "a", counting_text(0, 100));
  write_bytes(folder / "b", counting_text(1000, 100));
  const std::string first = hash();
  CHECK(hash() == first);
  CHECK(first.size() == 16);
  fs::rename(folder / "b", folder / "c");
  const std::string renamed = hash();
  CHECK(renamed != first);
  write_bytes(folder / "c", counting_text(1000, 99) + "001098\n");
  CHECK(hash() != renamed);
  write_bytes(folder / "c", counting_text(1000, 100));
  CHECK(hash() == renamed);
  write_bytes(folder / "d", counting_text(2000, 1));
  CHECK(hash() != renamed);
}

TEST_CASE("empty, binary, broken and repeated files are skipped and counted", "[data]") {
  const temporary_folder folder;
  write_bytes(folder / "a", counting_text(0, 400));
  write_bytes(folder / "again", counting_text(0, 400));
  write_bytes(folder / "empty1", "");
  write_bytes(folder / "empty2", "");
  write_bytes(folder / "binary", std::string_view("ELF\0text", 8));
  write_bytes(folder / "late", std::string(100000, 'x') + std::string(1, '\0') + std::string(100000, 'x'));
  fs::create_symlink(folder / "nowhere", folder / "dangling");
  const text_files text = read_text_files(folder.path().string());
  CHECK(text.files.size() == 1);
  CHECK(text.empty == 2);
  CHECK(text.binary == 2);
  CHECK(text.unreadable == 1);
  CHECK(text.repeated == 1);
  CHECK(text.bytes.size() == counting_text(0, 400).size());
  CHECK(load_text(folder.path().string(), 16).description ==
        containing{"in 1 file (skipped: 2 empty, 2 binary, 1 unreadable, 1 repeated)"});
}

TEST_CASE("a file without permission to read is skipped and counted", "[data]") {
  const temporary_folder folder;
  write_bytes(folder / "a", counting_text(0, 400));
  write_bytes(folder / "secret", counting_text(1000, 400));
  fs::permissions(folder / "secret", fs::perms::none);
  const bool allowed = ::access((folder / "secret").c_str(), R_OK) == 0; // root may read everything
  const text_files text = read_text_files(folder.path().string());
  CHECK(text.unreadable == (allowed ? 0 : 1));
  CHECK(text.files.size() == (allowed ? 2U : 1U));
}

TEST_CASE("hidden files and folders are passed over", "[data]") {
  const temporary_folder folder;
  fs::create_directories(folder / ".git/objects");
  write_bytes(folder / ".git/objects/text", counting_text(1000, 400));
  write_bytes(folder / ".hidden", counting_text(2000, 400));
  write_bytes(folder / "a", counting_text(0, 400));
  CHECK(read_text_files(folder.path().string()).files.size() == 1);
}

TEST_CASE("links to folders are not followed, so a loop ends, and links to files are", "[data]") {
  const temporary_folder folder;
  const temporary_folder elsewhere;
  fs::create_directories(folder / "sub");
  write_bytes(folder / "sub/a", counting_text(0, 400));
  write_bytes(elsewhere / "b", counting_text(1000, 400));
  fs::create_directory_symlink(folder.path(), folder / "sub/up");
  fs::create_symlink(folder / "sub/self", folder / "sub/self");
  fs::create_symlink(elsewhere / "b", folder / "sub/b");
  const text_files text = read_text_files(folder.path().string());
  REQUIRE(text.files.size() == 2);
  CHECK(text.files[0].name == "sub/a");
  CHECK(text.files[1].name == "sub/b");
  CHECK(text.unreadable == 1); // the link to itself
}

TEST_CASE("the path itself may be a link to a folder", "[data]") {
  const temporary_folder folder;
  fs::create_directories(folder / "real");
  write_bytes(folder / "real/a", counting_text(0, 400));
  fs::create_directory_symlink(folder / "real", folder / "link");
  CHECK(load_text((folder / "link").string(), 16).files_hash == load_text((folder / "real").string(), 16).files_hash);
}

TEST_CASE("a pipe among the files is passed over without waiting for a writer", "[data]") {
  const temporary_folder folder;
  write_bytes(folder / "a", counting_text(0, 400));
  REQUIRE(::mkfifo((folder / "pipe").c_str(), 0600) == 0);
  CHECK(read_text_files(folder.path().string()).files.size() == 1);
}

TEST_CASE("a file longer than many reads arrives whole and in order", "[data]") {
  const temporary_folder folder;
  const std::string text = counting_text(0, 300000);
  write_bytes(folder / "long", text);
  const text_files read = read_text_files((folder / "long").string());
  CHECK(std::equal(read.bytes.begin(), read.bytes.end(), text.begin(), text.end(),
                   [](std::uint8_t a, char b) { return a == static_cast<unsigned char>(b); }));
}

TEST_CASE("files too short for a window are joined with newlines and still held out whole", "[data]") {
  const temporary_folder folder;
  write_letter_files(folder.path(), 56, [](int i) { return 20 + i; });
  const training_data data = load_text(folder.path().string(), 100);
  REQUIRE(data.by_file);
  REQUIRE(data.train.segments.size() == 1);
  REQUIRE(data.validation.segments.size() == 1);
  const token_segment& s = data.validation.segments.front();
  const std::vector<std::int32_t> ids = ids_of(data);
  const std::string joined(ids.begin() + s.begin, ids.begin() + s.begin + s.size);
  CHECK(std::count(joined.begin(), joined.end(), '\n') == data.validation.parts);
  CHECK(joined.back() == '\n');
  data_position at;
  const std::set<std::int32_t> trained = letters_of(training(data, at, data.train.windows).tokens);
  for (const std::int32_t letter : letters_of(whole_validation(data).tokens)) {
    CHECK((letter == '\n' || trained.count(letter) == 0));
  }
}

TEST_CASE("validation windows are the same for every batch size", "[data]") {
  const temporary_folder folder;
  write_bytes(folder / "text", counting_text(0, 40000));
  const training_data data = load_text(folder.path().string(), 64, 64 * 21);
  REQUIRE(data.validation_windows == 21);
  const token_batch whole = whole_validation(data);
  const msg::index size = GENERATE(1, 2, 4, 21, 30);
  token_batch joined;
  for (msg::index first = 0; first < data.validation_windows; first += size) {
    token_batch part = make_batch(data, size);
    const msg::index count = validation_batch(data, first, part);
    CHECK(count == std::min(size, data.validation_windows - first));
    const auto written = count * data.seq;
    CHECK(std::all_of(part.targets.begin() + written, part.targets.end(), [](std::int32_t t) { return t == -1; }));
    joined.tokens.insert(joined.tokens.end(), part.tokens.begin(), part.tokens.begin() + written);
    joined.targets.insert(joined.targets.end(), part.targets.begin(), part.targets.begin() + written);
  }
  CHECK(joined.tokens == whole.tokens);
  CHECK(joined.targets == whole.targets);
  token_batch none = make_batch(data, 1);
  CHECK(validation_batch(data, 21, none) == 0);
}

TEST_CASE("validation windows do not overlap and are spread over all that is held out", "[data]") {
  const temporary_folder folder;
  write_bytes(folder / "text", counting_text(0, 100000));
  const training_data data = load_text(folder.path().string(), 64, 64 * 40);
  REQUIRE(data.validation.windows > 400);
  std::vector<msg::index> starts = starts_of(data, data.validation, whole_validation(data));
  REQUIRE(std::is_sorted(starts.begin(), starts.end()));
  for (std::size_t i = 1; i < starts.size(); ++i) { CHECK(starts[i] - starts[i - 1] >= data.seq); }
  CHECK(starts.back() > data.validation.segments.back().begin);
  // No limit in reach: every window is evaluated.
  const training_data all = load_text(folder.path().string(), 64, 1000000);
  CHECK(all.validation_windows == all.validation.windows);
}

TEST_CASE("what cannot be trained on is one line that names the path", "[data]") {
  const temporary_folder folder;
  const std::string place = folder.path().string();
  CHECK(input_message([&] { (void)load_text(place + "/none", 16); }) ==
        place + "/none: cannot read the text: No such file or directory");
  CHECK(input_message([&] { (void)load_text("/dev/null", 16); }) ==
        "/dev/null: cannot read the text: neither a file nor a folder");
  CHECK(input_message([&] { (void)load_text(place, 16); }) == place + ": no text in it");
  write_bytes(folder / "a", "");
  write_bytes(folder / "b", std::string_view("\0", 1));
  CHECK(input_message([&] { (void)load_text(place, 16); }) == place + ": no text in it (skipped: 1 empty, 1 binary)");
  CHECK(input_message([&] { (void)load_text(place + "/b", 16); }) == place + "/b: no text in it (skipped: 1 binary)");
  write_bytes(folder / "c", "short");
  CHECK(input_message([&] { (void)load_text(place, 16); }) == containing{place + ": too little text: 5 bytes"});
  CHECK(input_message([&] { (void)load_text(place, 0); }) == containing{"sequence length must be at least 1"});
}

TEST_CASE("the least text that can be split is two windows", "[data]") {
  const temporary_folder folder;
  write_bytes(folder / "a", counting_text(0, 1000).substr(0, 34));
  const training_data data = load_text(folder.path().string(), 16);
  CHECK(data.train.windows == 1);
  CHECK(data.validation.windows == 1);
  write_bytes(folder / "a", counting_text(0, 1000).substr(0, 32));
  CHECK(input_message([&] { (void)load_text(folder.path().string(), 16); }) == containing{"too little text"});
}

TEST_CASE("a position outside the text is refused, as when a checkpoint is of other text", "[data]") {
  const temporary_folder folder;
  write_bytes(folder / "a", counting_text(0, 400));
  const training_data data = load_text(folder.path().string(), 16);
  token_batch b = make_batch(data, 1);
  const data_position bad = GENERATE(data_position{0, 1000000}, data_position{0, -1}, data_position{-1, 0});
  CHECK(input_message([&] { (void)train_batch(data, seed, bad, b); }) == containing{"is outside the text"});
}
