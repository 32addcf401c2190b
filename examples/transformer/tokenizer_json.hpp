// tokenizer.json of Hugging Face's tokenizers, as far as its BPE and WordPiece models go; include tokenizer_files.hpp.
#pragma once

#include "transformer/tokenizer_files.hpp" // the two readers share its parts

namespace reference {

namespace detail {

/// One document being read; every refusal names the file, the place in it and the reason.
class tokenizer_json_reader {
public:
  tokenizer_json_reader(const json& document, std::string file) : document_(document), file_(std::move(file)) {}

  [[nodiscard]] tokenizer read() {
    const json& model = part(document_, "model", "");
    if (!model.is_object()) { refuse("model", "expected an object, found " + found_text(model)); }
    const std::string type = model.contains("type")     ? text_of_key(model, "type", "model")
                             : model.contains("merges") ? "BPE" // files before the key existed
                                                        : "";
    if (type != "BPE" && type != "WordPiece") {
      refuse("model.type", "expected BPE or WordPiece, found \"" + printable(type) +
                               "\"; encode the text elsewhere and give token files instead");
    }
    vocabulary_reader vocabulary(file_ + ": model.vocab");
    vocabulary.add_all(part(model, "vocab", "model"));
    tokenizer result;
    std::vector<std::string> written = vocabulary.tokens; // added tokens that the model does not know by itself
    vocabulary_reader all(file_ + ": added_tokens");
    all.tokens = std::move(vocabulary.tokens);
    std::vector<std::int32_t> special = read_added(result, all, type == "BPE");
    if (type == "BPE") {
      result.model = read_byte_pair(model, std::move(written));
      // An added token is not merged from bytes: it is known by its own text.
      auto& tokens = std::get<byte_pair>(result.model).tokens;
      for (std::size_t id = 0; id < all.tokens.size(); ++id) {
        if (id >= tokens.size()) { tokens.push_back(all.tokens[id]); }
      }
      result.name = fmt::format("byte-level BPE, {} tokens", all.tokens.size());
    } else {
      result.model = read_word_piece(model, std::move(written));
      result.name = fmt::format("WordPiece, {} tokens", all.tokens.size());
    }
    note_specials(result, all.tokens, std::move(special));
    return result;
  }

private:
  [[noreturn]] void refuse(const std::string& where, const std::string& what) const {
    throw input_error(file_ + ": " + where + ": " + what);
  }
  [[nodiscard]] const json& part(const json& object, const char* key, const std::string& where) const {
    static const json nothing = nullptr;
    if (!object.is_object()) { return nothing; }
    const auto found = object.find(key);
    if (found == object.end()) {
      throw input_error(file_ + ": " + (where.empty() ? "" : where + ": ") + "missing key '" + key + "'");
    }
    return *found;
  }
  [[nodiscard]] std::string text_of_key(const json& object, const char* key, const std::string& where) const {
    const json& value = part(object, key, where);
    if (!value.is_string()) { refuse(where + "." + key, "expected a string, found " + found_text(value)); }
    return value.get<std::string>();
  }
  [[nodiscard]] bool flag(const json& object, const char* key, bool otherwise, const std::string& where) const {
    const auto found = object.find(key);
    if (found == object.end() || found->is_null()) { return otherwise; }
    if (!found->is_boolean()) { refuse(where + "." + key, "expected true or false, found " + found_text(*found)); }
    return found->get<bool>();
  }
  // A key whose every value but `usual` (and null, and being absent) changes what text is encoded to.
  void expect_only(const json& object, const char* key, const json& usual, const std::string& where) const {
    const auto found = object.find(key);
    if (found == object.end() || found->is_null() || *found == usual) { return; }
    refuse(where + "." + key, "expected " + found_text(usual) + ", found " + found_text(*found));
  }

  // Adds them to the vocabulary and returns the special ones. Others are pieces of text that are a token each.
  std::vector<std::int32_t> read_added(tokenizer& result, vocabulary_reader& vocabulary, bool literals) const {
    std::vector<std::int32_t> special;
    const auto added = document_.find("added_tokens");
    if (added == document_.end() || added->is_null()) { return special; }
    if (!added->is_array()) { refuse("added_tokens", "expected an array, found " + found_text(*added)); }
    for (std::size_t i = 0; i < added->size(); ++i) {
      const json& token = (*added)[i];
      const std::string where = fmt::format("added_tokens[{}]", i);
      const std::string content = text_of_key(token, "content", where);
      if (content.empty()) { refuse(where + ".content", "expected text, found none"); }
      vocabulary.add(content, part(token, "id", where));
      const auto id = token.at("id").get<std::int32_t>();
      if (flag(token, "special", false, where)) {
        special.push_back(id);
        continue;
      }
      for (const char* key : {"single_word", "lstrip", "rstrip"}) { expect_only(token, key, false, where); }
      if (!literals) { refuse(where, "expected a special token: WordPiece with other added tokens is not understood"); }
      result.literals.emplace_back(content, id);
    }
    std::stable_sort(result.literals.begin(), result.literals.end(),
                     [](const auto& a, const auto& b) { return a.first.size() > b.first.size(); });
    return special;
  }

  // The elements of a Sequence, or the thing itself.
  [[nodiscard]] std::vector<json> flat(const json& value, const char* list) const {
    if (value.is_null()) { return {}; }
    if (!value.is_object() || value.value("type", json{}) != "Sequence") { return {value}; }
    std::vector<json> all;
    for (const json& element : part(value, list, "Sequence")) {
      for (json& inner : flat(element, list)) { all.push_back(std::move(inner)); }
    }
    return all;
  }
  [[nodiscard]] json optional_part(const char* key) const {
    const auto found = document_.find(key);
    return found == document_.end() ? json(nullptr) : *found;
  }

  [[nodiscard]] byte_pair read_byte_pair(const json& model, std::vector<std::string> written) const {
    for (const char* key : {"dropout", "continuing_subword_prefix", "end_of_word_suffix"}) {
      expect_only(model, key, key == std::string_view{"dropout"} ? json(0.0) : json(""), "model");
    }
    expect_only(model, "byte_fallback", false, "model");
    for (const json& normalizer : flat(optional_part("normalizer"), "normalizers")) {
      refuse("normalizer", "expected none with BPE, found " + found_text(normalizer.value("type", json{})));
    }
    byte_pair_builder builder(std::move(written), file_ + ": model.vocab");
    const json& merges = part(model, "merges", "model");
    if (!merges.is_array()) { refuse("model.merges", "expected an array, found " + found_text(merges)); }
    for (std::size_t i = 0; i < merges.size(); ++i) {
      const std::string where = fmt::format("{}: model.merges[{}]", file_, i);
      const json& merge = merges[i];
      if (merge.is_array() && merge.size() == 2 && merge[0].is_string() && merge[1].is_string()) {
        builder.merge(merge[0].get<std::string>(), merge[1].get<std::string>(), where);
        continue;
      }
      const std::string pair = merge.is_string() ? merge.get<std::string>() : "";
      const std::size_t space = pair.find(' ');
      if (space == std::string::npos || space == 0 || space + 1 == pair.size()) {
        throw input_error(where + ": expected two tokens, found " + found_text(merge));
      }
      builder.merge(pair.substr(0, space), pair.substr(space + 1), where);
    }
    if (flag(model, "ignore_merges", false, "model")) { builder.take_whole_words(); }
    byte_pair result = builder.done();
    read_splits(result);
    return result;
  }

  void read_splits(byte_pair& result) const {
    result.pattern = split_pattern::whole;
    bool bytes = false;
    const std::vector<json> steps = flat(optional_part("pre_tokenizer"), "pretokenizers");
    for (const json& step : steps) {
      const std::string type = text_of_key(step, "type", "pre_tokenizer");
      const std::string where = "pre_tokenizer " + printable(type);
      if (type == "ByteLevel" && !bytes) {
        bytes = true;
        result.space_before = flag(step, "add_prefix_space", true, where);
        if (!flag(step, "use_regex", true, where)) { continue; }
        if (result.pattern != split_pattern::whole) { refuse(where, "expected one pattern, found a second"); }
        result.pattern = split_pattern::gpt2;
      } else if (type == "Digits" && !bytes && result.pattern == split_pattern::whole) {
        if (!flag(step, "individual_digits", false, where)) {
          refuse(where + ".individual_digits", "expected true, found false");
        }
        result.digits_apart = true;
      } else if (type == "Split" && !bytes && result.pattern == split_pattern::whole) {
        expect_only(step, "invert", false, where);
        expect_only(step, "behavior", "Isolated", where);
        const json& pattern = part(step, "pattern", where);
        const std::string expression = text_of_key(pattern, "Regex", where + ".pattern");
        const auto known = std::find(split_expressions.begin() + 1, split_expressions.end(), expression);
        if (known == split_expressions.end()) {
          refuse(where + ".pattern",
                 "expected the expression of GPT-2, Llama 3 or Qwen 2, found '" + printable(expression, 200) + "'");
        }
        result.pattern = static_cast<split_pattern>(known - split_expressions.begin());
      } else {
        refuse("pre_tokenizer", "expected Digits, Split and ByteLevel, at most once each and in this order, found " +
                                    printable(type) + " as step " + std::to_string(&step - steps.data() + 1));
      }
    }
    if (!bytes) { refuse("pre_tokenizer", "expected ByteLevel, as BPE on characters is not understood, found none"); }
  }

  [[nodiscard]] word_piece read_word_piece(const json& model, std::vector<std::string> written) const {
    const std::string unknown = model.contains("unk_token") ? text_of_key(model, "unk_token", "model") : "[UNK]";
    word_piece result = make_word_piece(written, unknown, file_ + ": model");
    if (model.contains("continuing_subword_prefix")) {
      result.continuation = text_of_key(model, "continuing_subword_prefix", "model");
    }
    if (const auto most = model.find("max_input_chars_per_word"); most != model.end()) {
      if (!most->is_number_unsigned()) {
        refuse("model.max_input_chars_per_word", "expected an integer from 0, found " + found_text(*most));
      }
      result.most_word_characters = most->get<std::size_t>();
    }
    result.normal = {.clean = false, .space_cjk = false, .strip_accents = false, .lower = false};
    if (const json normalizer = optional_part("normalizer"); !normalizer.is_null()) {
      const std::string where = "normalizer";
      if (text_of_key(normalizer, "type", where) != "BertNormalizer") {
        refuse(where, "expected BertNormalizer with WordPiece, found " + found_text(normalizer.at("type")));
      }
      result.normal.clean = flag(normalizer, "clean_text", true, where);
      result.normal.space_cjk = flag(normalizer, "handle_chinese_chars", true, where);
      result.normal.lower = flag(normalizer, "lowercase", true, where);
      result.normal.strip_accents = flag(normalizer, "strip_accents", result.normal.lower, where);
    }
    const json splitter = optional_part("pre_tokenizer");
    if (splitter.is_null() || text_of_key(splitter, "type", "pre_tokenizer") != "BertPreTokenizer") {
      refuse("pre_tokenizer", "expected BertPreTokenizer with WordPiece, found " +
                                  (splitter.is_null() ? "none" : found_text(splitter.at("type"))));
    }
    return result;
  }

  const json& document_;
  std::string file_;
};

} // namespace detail

/// Normalizer, pre-tokenizer, model and added tokens are followed, or refused with the reason; the post-processor is
/// not: what stands around a text is the trainer's business.
[[nodiscard]] inline tokenizer read_tokenizer_json(const std::filesystem::path& path) {
  const std::string text = input_file(path).read_text(most_json_bytes);
  const json document = parse_json(text, path.string());
  tokenizer result = detail::tokenizer_json_reader(document, path.string()).read();
  result.hash = fmt::format("{:016x}", data_detail::fnv(text));
  return result;
}

/// The tokenizer at a path: a folder as models are published in, or one of its files. `bytes` or nothing: bytes.
[[nodiscard]] inline tokenizer load_tokenizer(const std::string& given, bool with_special = false) {
  namespace fs = std::filesystem;
  if (given.empty() || given == "bytes") { return byte_tokenizer(with_special); }
  std::error_code ignored;
  fs::path path = given;
  if (!fs::exists(path, ignored)) {
    throw input_error(given + ": expected a tokenizer, a file or a folder of one (or the word bytes), found nothing");
  }
  if (fs::is_directory(path, ignored)) {
    const fs::path folder = path;
    for (const char* name : {"tokenizer.json", "vocab.json", "vocab.txt"}) {
      path = folder / name;
      if (fs::exists(path, ignored)) { break; }
    }
    if (!fs::exists(path, ignored)) {
      throw input_error(given + ": expected tokenizer.json, vocab.json with merges.txt, or vocab.txt, found none");
    }
  }
  const std::string name = path.filename().string();
  if (name == "vocab.json" || name == "merges.txt") {
    return read_vocab_merges(path.parent_path() / "vocab.json", path.parent_path() / "merges.txt");
  }
  if (path.extension() == ".json") { return read_tokenizer_json(path); }
  const fs::path settings = path.parent_path() / "tokenizer_config.json";
  return read_vocab_txt(path, fs::exists(settings, ignored) ? read_json(settings) : json(nullptr));
}

} // namespace reference
