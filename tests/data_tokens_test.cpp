// Token files and tokenizers as input: what is read, what is held out, and what is said of files that do not fit.
#include "support/catch.hpp"
#include "support/files_support.hpp"

#include "transformer/data_load.hpp"
#include "transformer/tokenizer_files.hpp"

#include <cstdint>
#include <cstring>
#include <numeric>
#include <string>
#include <vector>

using namespace reference;
using namespace files_test;

namespace {

template <class Id>
[[nodiscard]] std::string bytes_of(const std::vector<Id>& ids) {
  return {reinterpret_cast<const char*>(ids.data()), ids.size() * sizeof(Id)};
}
[[nodiscard]] std::string header(std::int32_t magic, std::int32_t version, std::int32_t count) {
  std::vector<std::int32_t> words(256, 0);
  words[0] = magic;
  words[1] = version;
  words[2] = count;
  return bytes_of(words);
}
// first, first + 1, ...
template <class Id>
[[nodiscard]] std::vector<Id> rising(Id first, std::size_t count) {
  std::vector<Id> ids(count);
  std::iota(ids.begin(), ids.end(), first);
  return ids;
}
[[nodiscard]] std::string gpt2_file(std::uint16_t first, std::size_t count) {
  return header(20240520, 1, static_cast<std::int32_t>(count)) + bytes_of(rising(first, count));
}
[[nodiscard]] std::string refusal(const fs::path& path, const data_options& options = {.seq = 8}) {
  const std::string message = input_message([&] { (void)load_data(path.string(), options); });
  return message.starts_with(path.string()) ? message.substr(path.string().size()) : message;
}
[[nodiscard]] std::vector<std::int32_t> sorted_targets(const token_batch& batch) {
  std::vector<std::int32_t> all = batch.targets;
  std::sort(all.begin(), all.end());
  return all;
}

} // namespace

TEST_CASE("token files of llm.c are read, two bytes an id or four", "[data][tokens]") {
  const temporary_folder folder;
  const bool four = GENERATE(false, true);
  write_bytes(folder / "a.bin", four ? header(20240801, 7, 2000) + bytes_of(rising<std::uint32_t>(100000, 2000))
                                     : gpt2_file(40000, 2000));
  const training_data data = load_data((folder / "a.bin").string(), {.seq = 8});
  CHECK(data.vocab == (four ? 128256 : 50257));
  CHECK(data.tokens.size() == 2000);
  token_batch batch = make_batch(data, data.train.windows);
  (void)train_batch(data, 1, {}, batch);
  for (std::size_t i = 0; i < batch.tokens.size(); ++i) { REQUIRE(batch.targets[i] == batch.tokens[i] + 1); }
  CHECK(sorted_targets(batch).front() >= (four ? 100000 : 40000));
  CHECK(data.bytes_per_token == 0);
}

TEST_CASE("files without a header hold uint16 ids, and the vocabulary is what they need", "[data][tokens]") {
  const temporary_folder folder;
  write_bytes(folder / "train.bin", bytes_of(rising<std::uint16_t>(0, 600)));
  write_bytes(folder / "val.bin", bytes_of(rising<std::uint16_t>(1000, 100)));
  write_bytes(folder / "meta.pkl", "not a token file: passed over");
  const training_data data = load_data(folder.path().string(), {.seq = 8});
  CHECK(data.vocab == 1100);
  CHECK(data_vocabulary(folder.path().string(), byte_tokenizer(), 0) == 1100);
  // The file that says it is for validation is what is held out.
  token_batch batch = make_batch(data, data.train.windows);
  (void)train_batch(data, 1, {}, batch);
  CHECK(sorted_targets(batch).back() < 600);
  token_batch held_out = make_batch(data, data.validation_windows);
  CHECK(validation_batch(data, 0, held_out) == 12); // (100 - 1) / 8 windows
  CHECK(sorted_targets(held_out).front() > 1000);
}

TEST_CASE("a token file that does not fit its header is refused by name", "[data][tokens]") {
  const temporary_folder folder;
  const fs::path path = folder / "a.bin";
  write_bytes(path, gpt2_file(0, 100).substr(0, 1024 + 150));
  CHECK(refusal(path) == ": expected 1024 + 2 * 100 bytes, as the header says, found 1174");
  write_bytes(path, gpt2_file(0, 100) + "x");
  CHECK(refusal(path) == ": expected 1024 + 2 * 100 bytes, as the header says, found 1225");
  write_bytes(path, gpt2_file(0, 100).substr(0, 500));
  CHECK(refusal(path) == ": expected a header of 1024 bytes (llm.c's tokens of GPT-2), found 500 bytes");
  write_bytes(path, header(20240520, 2, 0));
  CHECK(refusal(path) == ": expected version 1 (llm.c's tokens of GPT-2), found 2");
  write_bytes(path, header(20240520, 1, -1));
  CHECK(refusal(path) == ": expected 1024 + 2 * -1 bytes, as the header says, found 1024");
  write_bytes(path, header(20240801, 7, 1000000000) + std::string(100, 'x'));
  CHECK(refusal(path) == ": expected 1024 + 4 * 1000000000 bytes, as the header says, found 1124");
  write_bytes(path, "abc");
  CHECK(refusal(path) == ": expected uint16 token ids (no header), found an odd number of bytes, 3");
  write_bytes(path, "");
  CHECK(refusal(path) == ": no tokens in it");
}

TEST_CASE("ids outside the vocabulary are refused with the file and the place", "[data][tokens]") {
  const temporary_folder folder;
  write_bytes(folder / "a.bin", bytes_of(rising<std::uint16_t>(0, 300)));
  write_bytes(folder / "b.bin", bytes_of(rising<std::uint16_t>(250, 300)));
  CHECK(refusal(folder.path(), {.seq = 8, .vocab = 300}) ==
        "/b.bin: token 50: expected an id below 300, the vocabulary, found 300");
  write_bytes(folder / "b.bin", gpt2_file(0, 10));
  CHECK(refusal(folder.path()) ==
        "/b.bin: expected uint16 ids without header, as in the files before it, found llm.c's tokens of GPT-2");
  write_bytes(folder / "a.bin", gpt2_file(50250, 10)); // GPT-2's vocabulary is known
  CHECK(refusal(folder.path()) == "/a.bin: token 7: expected an id below 50257, the vocabulary, found 50257");
}

TEST_CASE("what token files cannot say is asked for", "[data][tokens]") {
  const temporary_folder folder;
  write_bytes(folder / "a.bin", bytes_of(rising<std::uint16_t>(0, 300)));
  CHECK(refusal(folder / "a.bin", {.seq = 8, .masked = true}) ==
        ": token files do not say which ids are [CLS], [SEP] and [MASK]: give their --tokenizer");
  CHECK(refusal(folder / "a.bin", {.seq = 8, .documents = document_rule::files}) ==
        ": token files do not say where documents end: --documents expected auto or none");
}

TEST_CASE("text is encoded, and the same files are held out whatever the tokenizer", "[data][tokens]") {
  const temporary_folder folder;
  fs::create_directory(folder / "text");
  std::string letters;
  for (int file = 0; file < 40; ++file) {
    const std::string letter(1, static_cast<char>('A' + file));
    std::string text;
    while (text.size() < 600) { text += letter + letter + "\n"; }
    letters += letter + "\n##" + letter + "\n" + letter + letter + "\n";
    write_bytes(folder / ("text/" + std::to_string(file)), text);
  }
  write_bytes(folder / "vocab.txt", "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\n" + letters);
  write_bytes(folder / "tokenizer_config.json", R"({"do_lower_case": false})");
  const std::string text = (folder / "text").string();
  const training_data as_bytes = load_data(text, {.seq = 16});
  const training_data as_words = load_data(text, {.seq = 16}, load_tokenizer(folder.path().string()));
  CHECK(as_words.vocab == 125);
  CHECK(as_words.bytes_per_token == 3); // two letters and a line end are one token
  CHECK(as_bytes.bytes_per_token == 1);
  CHECK(as_words.validation.parts == as_bytes.validation.parts);
  CHECK(as_words.validation.size == as_bytes.validation.size);
  CHECK(as_words.files_hash != as_bytes.files_hash); // another tokenizer is other data
  CHECK(as_words.files_hash.starts_with(as_bytes.files_hash));
  const auto first_letters = [](const training_data& data) {
    std::set<std::string> all;
    for (const token_segment& s : data.validation.segments) {
      all.insert(data.words.decode(std::vector{data.tokens[s.begin]}).substr(0, 1));
    }
    return all;
  };
  CHECK(first_letters(as_words) == first_letters(as_bytes));
}

TEST_CASE("short files are joined with the end of a document where the vocabulary has one", "[data][tokens]") {
  const temporary_folder folder;
  fs::create_directory(folder / "text");
  for (unsigned file = 0; file < 200; ++file) {
    std::string text = "ab";
    for (unsigned bit = 0; bit < 8; ++bit) { text += (file >> bit) % 2 == 0 ? 'a' : 'b'; }
    write_bytes(folder / ("text/" + std::to_string(file)), text);
  }
  write_bytes(folder / "vocab.json", R"({"a": 0, "b": 1, "ab": 2, "<|endoftext|>": 3})");
  write_bytes(folder / "merges.txt", "a b\n");
  const training_data data = load_data((folder / "text").string(), {.seq = 40}, load_tokenizer(folder.path().string()));
  REQUIRE(data.train.segments.size() == 1);
  msg::index ends = 0;
  const token_segment& s = data.train.segments.front();
  for (msg::index i = 0; i < s.size; ++i) { ends += data.tokens[s.begin + i] == 3 ? 1 : 0; }
  CHECK(ends == data.train.parts);
  CHECK(data.tokens[s.begin] == 2);
}
