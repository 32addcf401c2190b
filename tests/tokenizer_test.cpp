// Tokenizers: ids worked out by hand on small vocabularies, the same ids as Hugging Face's where that is installed, and
// what is said of files that are not understood.
#include "support/catch.hpp"
#include "support/files_support.hpp"

#include "transformer/tokenizer_files.hpp"

#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

using namespace reference;
using namespace files_test;

namespace {

using ids = std::vector<std::int32_t>;
using words = std::vector<std::string>;

[[nodiscard]] words split(std::string_view text, split_pattern pattern, bool digits_apart = false) {
  words result;
  split_words(text, pattern, digits_apart, [&](std::string_view word) { result.emplace_back(word); });
  return result;
}

// Ġ is how a space is written. Merges in this order: a b, ab c, b c, Ġ a.
constexpr std::string_view small_vocab =
    R"({"a": 0, "b": 1, "c": 2, "ab": 3, "abc": 4, "bc": 5, "Ġ": 6, "Ġa": 7, "<|endoftext|>": 8})";
constexpr std::string_view small_merges = "#version: 0.2\na b\nab c\nb c\nĠ a\n";

// The same as one document.
[[nodiscard]] json small_json() {
  return json::parse(R"({"version": "1.0", "added_tokens": [{"id": 8, "content": "<|endoftext|>", "special": true}],
    "normalizer": null, "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "use_regex": true},
    "post_processor": null, "decoder": {"type": "ByteLevel"},
    "model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "c": 2, "ab": 3, "abc": 4, "bc": 5, "Ġ": 6, "Ġa": 7},
      "merges": ["a b", ["ab", "c"], "b c", "Ġ a"]}})");
}

constexpr std::string_view small_pieces =
    "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nun\n##aff\n##able\nresume\n,\n!\n中\n##s\n";

/// What a user sees who gives this document as tokenizer.json.
[[nodiscard]] std::string refusal(const json& patch) {
  const temporary_folder folder;
  json document = small_json();
  document.merge_patch(patch);
  write_bytes(folder / "tokenizer.json", document.dump());
  const std::string message = input_message([&] { (void)load_tokenizer(folder.path().string()); });
  const std::string start = (folder / "tokenizer.json").string() + ": ";
  return message.starts_with(start) ? message.substr(start.size()) : message;
}

[[nodiscard]] std::string python() {
  const char* chosen = std::getenv("MSG_PYTHON");
  return chosen == nullptr ? "python3" : chosen;
}

} // namespace

TEST_CASE("characters are read from UTF-8, and a byte that begins none is one replacement character", "[tokenizer]") {
  const auto decoded = [](std::string_view text) {
    std::u32string all;
    for (std::size_t at = 0; at < text.size();) {
      const utf8_char c = decode_utf8(text, at);
      all += c.code;
      at += c.size;
    }
    return all;
  };
  CHECK(decoded("aé中😀") == U"aé中😀");
  CHECK(decoded("\xff") == U"\uFFFD");
  CHECK(decoded("\xc3") == U"\uFFFD");                               // cut off
  CHECK(decoded("\xc0\xaf") == U"\uFFFD\uFFFD");                     // overlong
  CHECK(decoded("\xed\xa0\x80") == U"\uFFFD\uFFFD\uFFFD");           // a surrogate
  CHECK(decoded("\xf4\x90\x80\x80") == U"\uFFFD\uFFFD\uFFFD\uFFFD"); // beyond U+10FFFF
  for (const char32_t code :
       {U'\0', U'a', U'\u007f', U'\u0080', U'\u07ff', U'\u0800', U'\uffff', U'\U00010000', U'\U0010ffff'}) {
    std::string text;
    append_utf8(code, text);
    CHECK(decode_utf8(text, 0).code == code);
    CHECK(decode_utf8(text, 0).size == text.size());
  }
}

TEST_CASE("characters have the classes of the Unicode standard", "[tokenizer]") {
  CHECK(class_of(U'a') == char_class::letter);
  CHECK(class_of(U'\u01c5') == char_class::letter); // Lt
  CHECK(class_of(U'\u02b0') == char_class::letter); // Lm
  CHECK(class_of(U'中') == char_class::letter);
  CHECK(class_of(U'7') == char_class::number);
  CHECK(class_of(U'\u00bd') == char_class::number); // No
  CHECK(class_of(U'\u2167') == char_class::number); // Nl
  CHECK(class_of(U'\u00a1') == char_class::punctuation);
  CHECK(class_of(U'$') == char_class::other);
  CHECK(class_of(U'\u0301') == char_class::mark);
  CHECK(class_of(U'\u200b') == char_class::control); // Cf
  CHECK(class_of(U'\U0010ffff') == char_class::other);
  CHECK(class_of(U'\U0010fffd') == char_class::control); // private use
}

TEST_CASE("words are cut as by GPT-2's expression", "[tokenizer]") {
  const auto cut = [](std::string_view text) { return split(text, split_pattern::gpt2); };
  CHECK(cut("") == words{});
  CHECK(cut("Hello world") == words{"Hello", " world"});
  CHECK(cut("I've said 'don't', he'd SAY'S") ==
        words{"I", "'ve", " said", " '", "don", "'t", "',", " he", "'d", " SAY", "'", "S"});
  CHECK(cut("x=12.5é ½") == words{"x", "=", "12", ".", "5", "é", " ½"});
  CHECK(cut("a   b") == words{"a", "  ", " b"}); // all but the last space are a word
  CHECK(cut("a \n b") == words{"a", " \n", " b"});
  CHECK(cut("a\n\nb") == words{"a", "\n", "\n", "b"}); // a line end does not go with the word behind it
  CHECK(cut("a  ") == words{"a", "  "});
  CHECK(cut("中文。ok") == words{"中文", "。", "ok"});
  CHECK(cut("\xff\xfe!") == words{"\xff\xfe!"});
}

TEST_CASE("words are cut as by the expression of Llama 3, and of Qwen 2 with single digits", "[tokenizer]") {
  const auto cut = [](std::string_view text) { return split(text, split_pattern::llama3); };
  CHECK(cut("HE'S 12345") == words{"HE", "'S", " ", "123", "45"});
  CHECK(cut("(word _x\ty") == words{"(word", " _", "x", "\ty"}); // one character of any kind goes with letters
  CHECK(cut("a, !!\n\n b") == words{"a", ",", " !!\n\n", " b"});
  CHECK(cut("a \n \n  b") == words{"a", " \n \n", " ", " b"});
  CHECK(split("a123", split_pattern::qwen2) == words{"a", "1", "2", "3"});
  CHECK(split("a 12b", split_pattern::gpt2, true) == words{"a", " ", "1", "2", "b"});
}

TEST_CASE("byte pairs merge in the order of the list", "[tokenizer]") {
  const temporary_folder folder;
  write_bytes(folder / "vocab.json", small_vocab);
  write_bytes(folder / "merges.txt", small_merges);
  const tokenizer t = load_tokenizer(folder.path().string());
  CHECK(t.vocab == 9);
  CHECK(t.special.end == 8);
  CHECK(t.specials == ids{8});
  CHECK(t.encode("abc") == ids{4}); // a b, then ab c
  CHECK(t.encode("bcabc") == ids{5, 4});
  CHECK(t.encode("aab") == ids{0, 3});
  CHECK(t.encode(" abc") == ids{6, 4}); // a b comes before Ġ a
  CHECK(t.encode(" a b") == ids{7, 6, 1});
  CHECK(t.encode("abababab") == ids{3, 3, 3, 3});
  CHECK(t.encode("") == ids{});
  CHECK(t.decode(ids{6, 4, 7, 5}) == " abc abc");
  CHECK(input_message([&] { (void)t.encode("abd"); }) == "the tokenizer has no token for the byte 'd' of the text");
  // Special tokens are found in files, not in text.
  CHECK(input_message([&] { (void)t.encode("<|endoftext|>"); }) == containing("no token for the byte '<'"));
  CHECK(load_tokenizer((folder / "merges.txt").string()).hash == t.hash);
}

TEST_CASE("tokenizer.json gives the same ids as vocab.json and merges.txt", "[tokenizer]") {
  const temporary_folder folder;
  write_bytes(folder / "tokenizer.json", small_json().dump());
  const tokenizer t = load_tokenizer((folder / "tokenizer.json").string());
  CHECK(t.vocab == 9);
  CHECK(t.specials == ids{8});
  CHECK(t.encode(" abcab a") == ids{6, 4, 3, 7});
  json document = small_json();
  document["model"]["ignore_merges"] = true; // " a" is in the vocabulary: taken whole, as is "bc"
  document["pre_tokenizer"]["add_prefix_space"] = true;
  write_bytes(folder / "tokenizer.json", document.dump());
  CHECK(load_tokenizer(folder.path().string()).encode("a bc") == ids{7, 6, 5});
  CHECK(load_tokenizer(folder.path().string()).encode(" a") == ids{7});
  document["added_tokens"].push_back({{"id", 9}, {"content", "bb"}, {"special", false}});
  document["pre_tokenizer"]["add_prefix_space"] = false;
  write_bytes(folder / "tokenizer.json", document.dump());
  const tokenizer with_literal = load_tokenizer(folder.path().string());
  CHECK(with_literal.vocab == 10);
  CHECK(with_literal.encode("abbab") == ids{0, 9, 3});
}

TEST_CASE("a word of any length is encoded in little time", "[tokenizer]") {
  const temporary_folder folder;
  write_bytes(folder / "tokenizer.json", small_json().dump());
  const tokenizer t = load_tokenizer(folder.path().string());
  std::string text;
  for (int i = 0; i < 300000; ++i) { text += "abc"; }
  const ids encoded = t.encode(text); // 900 kB without a space: quadratic time would be minutes
  CHECK(encoded == ids(300000, 4));
}

TEST_CASE("WordPiece lower-cases, strips accents, spaces ideographs and takes the longest piece", "[tokenizer]") {
  const temporary_folder folder;
  write_bytes(folder / "vocab.txt", small_pieces);
  const tokenizer t = load_tokenizer(folder.path().string());
  CHECK(t.vocab == 13);
  CHECK(t.special.pad == 0);
  CHECK(t.special.mask == 4);
  CHECK(t.specials == ids{0, 1, 2, 3, 4});
  CHECK(t.encode("Unaffable, RÉSUMÉS!") == ids{5, 6, 7, 9, 8, 12, 10});
  CHECK(t.encode("un中un") == ids{5, 11, 5});
  CHECK(t.encode("unx un\u200b,\u3000un") == ids{1, 5, 9, 5}); // unknown whole word; a control character is dropped
  CHECK(t.encode("[MASK]") == ids{1, 1, 1});                   // text is data: no special token in it
  CHECK(t.encode(std::string(101, 'a')) == ids{1});
  CHECK(t.encode("un\xff") == ids{5});
  CHECK(t.decode(ids{5, 6, 7, 9}) == "unaffable ,");
  write_bytes(folder / "tokenizer_config.json", R"({"do_lower_case": false})");
  CHECK(load_tokenizer(folder.path().string()).encode("un Un résume") == ids{5, 1, 1});
  write_bytes(folder / "tokenizer_config.json", R"({"do_lower_case": "no"})");
  CHECK(input_message([&] { (void)load_tokenizer(folder.path().string()); }) ==
        (folder / "tokenizer_config.json").string() + ": do_lower_case: expected true or false, found \"no\"");
}

TEST_CASE("bytes need no file, and have special tokens above them where a model asks for some", "[tokenizer]") {
  const tokenizer plain = load_tokenizer("");
  CHECK(plain.vocab == 256);
  CHECK(plain.specials.empty());
  CHECK(plain.encode("A\xff") == ids{65, 255});
  const tokenizer special = load_tokenizer("bytes", true);
  CHECK(special.vocab == 260);
  CHECK(special.specials == ids{256, 257, 258, 259});
  CHECK(special.decode(ids{257, 65, 259, 66}) == "AB");
}

TEST_CASE("files that are no tokenizer are one line that names file and reason", "[tokenizer]") {
  const temporary_folder folder;
  const std::string place = folder.path().string();
  CHECK(input_message([&] { (void)load_tokenizer(place + "/nowhere"); }) ==
        place + "/nowhere: expected a tokenizer, a file or a folder of one (or the word bytes), found nothing");
  CHECK(input_message([&] { (void)load_tokenizer(place); }) ==
        place + ": expected tokenizer.json, vocab.json with merges.txt, or vocab.txt, found none");
  write_bytes(folder / "vocab.txt", "a\n[UNK]\na\n");
  CHECK(input_message([&] { (void)load_tokenizer(place); }) ==
        place + "/vocab.txt: line 3: 'a' stands in line 1 already");
  write_bytes(folder / "vocab.txt", "a\n\n[UNK]\n");
  CHECK(input_message([&] { (void)load_tokenizer(place); }) ==
        place + "/vocab.txt: line 2: expected a token, found nothing");
  write_bytes(folder / "vocab.txt", "a\n");
  CHECK(input_message([&] { (void)load_tokenizer(place); }) ==
        place + "/vocab.txt: the token for unknown words, '[UNK]', is not in the vocabulary");
  write_bytes(folder / "vocab.json", small_vocab);
  CHECK(input_message([&] { (void)load_tokenizer(place); }) ==
        place + "/merges.txt: cannot open: No such file or directory");
  write_bytes(folder / "merges.txt", "a b\nab\n");
  CHECK(input_message([&] { (void)load_tokenizer(place); }) ==
        place + "/merges.txt: line 2: expected two tokens with a space between, found 'ab'");
  write_bytes(folder / "merges.txt", "a b\nab x\n");
  CHECK(input_message([&] { (void)load_tokenizer(place); }) ==
        place + "/merges.txt: line 2: 'ab x': token 'x' is not in the vocabulary");
  write_bytes(folder / "merges.txt", "a b\na b\n");
  CHECK(input_message([&] { (void)load_tokenizer(place); }) == place + "/merges.txt: line 2: 'a b' is listed twice");
  write_bytes(folder / "vocab.json", R"({"a": 0, "b": 0})");
  CHECK(input_message([&] { (void)load_tokenizer(place); }) == place + "/vocab.json: id 0 is given to 'a' and to 'b'");
  write_bytes(folder / "vocab.json", R"({"a": -1})");
  CHECK(input_message([&] { (void)load_tokenizer(place); }) ==
        place + "/vocab.json: token 'a': expected an id from 0 to 16777215, found -1");
  write_bytes(folder / "vocab.json", "[1, 2]");
  CHECK(input_message([&] { (void)load_tokenizer(place); }) ==
        place + "/vocab.json: expected an object of tokens and ids, found an array");
}

TEST_CASE("parts of tokenizer.json that are not understood are refused with the reason", "[tokenizer]") {
  CHECK(refusal({{"model", {{"type", "Unigram"}}}}) ==
        "model.type: expected BPE or WordPiece, found \"Unigram\"; encode "
        "the text elsewhere and give token files instead");
  CHECK(refusal({{"model", nullptr}}) == "missing key 'model'");
  CHECK(refusal({{"model", {{"byte_fallback", true}}}}) == "model.byte_fallback: expected false, found true");
  CHECK(refusal({{"model", {{"end_of_word_suffix", "</w>"}}}}) ==
        "model.end_of_word_suffix: expected \"\", found \"</w>\"");
  CHECK(refusal({{"normalizer", {{"type", "NFC"}}}}) == "normalizer: expected none with BPE, found \"NFC\"");
  CHECK(refusal({{"pre_tokenizer", nullptr}}) ==
        "pre_tokenizer: expected ByteLevel, as BPE on characters is not understood, found none");
  CHECK(refusal({{"pre_tokenizer", {{"type", "Metaspace"}}}}) ==
        "pre_tokenizer: expected Digits, Split and ByteLevel, at most once each and in this order, found Metaspace as "
        "step 1");
  CHECK(refusal({{"pre_tokenizer",
                  {{"type", "Sequence"},
                   {"pretokenizers",
                    {{{"type", "Split"}, {"pattern", {{"Regex", "\\w+"}}}, {"behavior", "Isolated"}}}}}}}) ==
        "pre_tokenizer Split.pattern: expected the expression of GPT-2, Llama 3 or Qwen 2, found '\\\\w+'");
  CHECK(refusal({{"model", {{"merges", {"a b", "ab"}}}}}) == "model.merges[1]: expected two tokens, found \"ab\"");
  CHECK(refusal({{"model", {{"merges", 3}}}}) == "model.merges: expected an array, found 3");
  CHECK(refusal({{"added_tokens", {{{"id", 9}, {"content", "bb"}, {"lstrip", true}}}}}) ==
        "added_tokens[0].lstrip: expected false, found true");
  CHECK(refusal({{"added_tokens", {{{"id", 3}, {"content", "bb"}}}}}) ==
        "added_tokens: id 3 is given to 'ab' and to 'bb'");
  CHECK(refusal({{"model", {{"type", "WordPiece"}}}}) ==
        "model: the token for unknown words, '[UNK]', is not in the vocabulary");
}

TEST_CASE("every truncation of a tokenizer.json is an input error", "[tokenizer]") {
  const temporary_folder folder;
  const std::string whole = small_json().dump();
  for (std::size_t length = 0; length < whole.size(); length += 5) {
    write_bytes(folder / "tokenizer.json", whole.substr(0, length));
    CAPTURE(length);
    CHECK(input_message([&] { (void)load_tokenizer(folder.path().string()); }) == containing("not valid JSON"));
  }
}

// The other implementation trains small tokenizers of every kind on text with many scripts, encodes a text that is
// harder, and leaves both here.
TEST_CASE("the ids are those of Hugging Face's tokenizers", "[tokenizer]") {
  const temporary_folder folder;
  const std::string command = python() + " " + MSG_SOURCE_DIR "/tests/support/tokenizers_reference.py " +
                              folder.path().string() + " 2>" + (folder / "error").string();
  const int status = std::system(command.c_str()); // NOLINT: our own words alone
  if (status != 0) {
    const std::string why = read_bytes(folder / "error");
    INFO(why);
    REQUIRE(
        (why.find("No module named 'tokenizers'") != std::string::npos || why.find("not found") != std::string::npos));
    WARN("skipped: no Python with the package tokenizers (pip install tokenizers; MSG_PYTHON names another Python)");
    return;
  }
  const std::vector<std::string> kinds = names_in(folder.path(), "kind-");
  REQUIRE(kinds.size() == 5);
  for (const std::string& kind : kinds) {
    CAPTURE(kind);
    const tokenizer t = load_tokenizer((folder / kind).string());
    for (const char* text : {"easy", "hard"}) {
      CAPTURE(text);
      const std::string expected = read_bytes(folder / (kind + "/" + text + ".ids"));
      std::string found;
      for (const std::int32_t id : t.encode(read_bytes(folder / (std::string{text} + ".txt")))) {
        found += std::to_string(id) + "\n";
      }
      CHECK(found.size() > 1000);
      CHECK((found == expected));
    }
  }
}
