// Tokenizers from files: tokenizer.json, vocab.json with merges.txt, vocab.txt; what is not understood is refused.
#pragma once

#include "transformer/data_files.hpp"
#include "transformer/json_file.hpp"
#include "transformer/tokenizer.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <initializer_list>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace reference {

namespace detail {

inline constexpr std::int32_t most_tokens = 1 << 24;

/// Tokens by id from pairs of token and id. Gaps stay empty: their ids occur in no text.
class vocabulary_reader {
public:
  explicit vocabulary_reader(std::string where) : where_(std::move(where)) {}
  void add(const std::string& token, const json& id) {
    if (!id.is_number_integer() || id < 0 || id >= most_tokens) {
      throw input_error(fmt::format("{}: token '{}': expected an id from 0 to {}, found {}", where_, printable(token),
                                    most_tokens - 1, found_text(id)));
    }
    const auto place = id.get<std::size_t>();
    if (place >= tokens.size()) { tokens.resize(place + 1); }
    if (!tokens[place].empty() && tokens[place] != token) {
      throw input_error(fmt::format("{}: id {} is given to '{}' and to '{}'", where_, place, printable(tokens[place]),
                                    printable(token)));
    }
    tokens[place] = token;
  }
  void add_all(const json& object) {
    if (!object.is_object()) {
      throw input_error(where_ + ": expected an object of tokens and ids, found " + found_text(object));
    }
    for (const auto& [token, id] : object.items()) { add(token, id); }
    if (tokens.empty()) { throw input_error(where_ + ": expected tokens, found none"); }
  }
  std::vector<std::string> tokens{};

private:
  std::string where_;
};

/// The bytes that a token of a vocabulary file is written for, or nothing if a character of it stands for no byte.
class byte_alphabet {
public:
  byte_alphabet() {
    const auto characters = byte_characters();
    for (std::size_t byte = 0; byte < 256; ++byte) { bytes_[characters[byte]] = static_cast<char>(byte); }
  }
  [[nodiscard]] std::optional<std::string> bytes_of(std::string_view token) const {
    std::string bytes;
    for (std::size_t at = 0; at < token.size();) {
      const utf8_char c = decode_utf8(token, at);
      const auto found = bytes_.find(c.code);
      if (found == bytes_.end()) { return std::nullopt; }
      bytes += found->second;
      at += c.size;
    }
    return bytes;
  }

private:
  std::unordered_map<char32_t, char> bytes_;
};

/// Turns a vocabulary as it is written into tokens of bytes, and lists of pairs into merges.
class byte_pair_builder {
public:
  byte_pair_builder(std::vector<std::string> written, std::string file) : file_(std::move(file)) {
    result_.bytes.fill(-1);
    for (std::size_t id = 0; id < written.size(); ++id) {
      ids_.emplace(written[id], static_cast<std::int32_t>(id));
      const std::optional<std::string> bytes = alphabet_.bytes_of(written[id]);
      if (bytes && bytes->size() == 1) {
        result_.bytes[static_cast<unsigned char>(bytes->front())] = static_cast<std::int32_t>(id);
      }
      result_.tokens.push_back(bytes ? *bytes : written[id]);
    }
    if (std::all_of(result_.bytes.begin(), result_.bytes.end(), [](std::int32_t id) { return id < 0; })) {
      throw input_error(file_ + ": no token stands for a single byte: not a byte-level vocabulary");
    }
  }
  /// `where` names the merge in messages.
  void merge(const std::string& left, const std::string& right, const std::string& where) {
    const auto id_of = [&](const std::string& token) {
      const auto found = ids_.find(token);
      if (found == ids_.end()) {
        throw input_error(fmt::format("{}: '{} {}': token '{}' is not in the vocabulary", where, printable(left),
                                      printable(right), printable(token)));
      }
      return found->second;
    };
    const std::uint64_t key = byte_pair::pair_key(id_of(left), id_of(right));
    if (!result_.merges.emplace(key, byte_pair::merge{count_++, id_of(left + right)}).second) {
      throw input_error(fmt::format("{}: '{} {}' is listed twice", where, printable(left), printable(right)));
    }
  }
  void take_whole_words() { whole_words_ = true; }
  /// The builder is of no use after it.
  [[nodiscard]] byte_pair done() {
    if (whole_words_) {
      for (const auto& [written, id] : ids_) {
        result_.whole_words.emplace(result_.tokens[static_cast<std::size_t>(id)], id);
      }
    }
    return std::move(result_);
  }

private:
  std::string file_;
  byte_alphabet alphabet_;
  std::unordered_map<std::string, std::int32_t> ids_;
  std::int32_t count_ = 0;
  bool whole_words_ = false;
  byte_pair result_;
};

[[nodiscard]] inline std::int32_t id_of_any(const std::vector<std::string>& tokens,
                                            std::initializer_list<std::string_view> names) {
  for (const std::string_view name : names) {
    const auto found = std::find(tokens.begin(), tokens.end(), name);
    if (found != tokens.end()) { return static_cast<std::int32_t>(found - tokens.begin()); }
  }
  return -1;
}

/// Finds the special tokens by their names; `more` are special for another reason.
inline void note_specials(tokenizer& result, const std::vector<std::string>& tokens, std::vector<std::int32_t> more) {
  result.vocab = static_cast<index>(tokens.size());
  result.special = {.pad = id_of_any(tokens, {"[PAD]", "<pad>", "<|pad|>", "<|padding|>"}),
                    .unknown = id_of_any(tokens, {"[UNK]", "<unk>"}),
                    .classify = id_of_any(tokens, {"[CLS]", "<s>", "<cls>"}),
                    .separate = id_of_any(tokens, {"[SEP]", "</s>", "<sep>"}),
                    .mask = id_of_any(tokens, {"[MASK]", "<mask>"}),
                    .end = id_of_any(tokens, {"<|endoftext|>", "<|end_of_text|>", "</s>"})};
  const special_ids& s = result.special;
  for (const std::int32_t id : {s.pad, s.unknown, s.classify, s.separate, s.mask, s.end}) {
    if (id >= 0) { more.push_back(id); }
  }
  for (std::size_t id = 0; id < tokens.size(); ++id) {
    if (tokens[id].empty()) { more.push_back(static_cast<std::int32_t>(id)); } // a gap
  }
  std::sort(more.begin(), more.end());
  more.erase(std::unique(more.begin(), more.end()), more.end());
  result.specials = std::move(more);
}

[[nodiscard]] inline word_piece make_word_piece(const std::vector<std::string>& tokens, std::string_view unknown,
                                                const std::string& file) {
  word_piece model;
  model.tokens = tokens;
  for (std::size_t id = 0; id < tokens.size(); ++id) {
    if (!tokens[id].empty()) { model.ids.emplace(tokens[id], static_cast<std::int32_t>(id)); }
  }
  const auto found = model.ids.find(std::string{unknown});
  if (found == model.ids.end()) {
    throw input_error(
        fmt::format("{}: the token for unknown words, '{}', is not in the vocabulary", file, printable(unknown)));
  }
  model.unknown = found->second;
  return model;
}

/// Lines without their ends; an empty last one is none.
[[nodiscard]] inline std::vector<std::string> lines_of(std::string_view text) {
  std::vector<std::string> lines;
  while (!text.empty()) {
    const std::size_t end = std::min(text.find('\n'), text.size());
    std::string_view line = text.substr(0, end);
    if (line.ends_with('\r')) { line.remove_suffix(1); }
    lines.emplace_back(line);
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return lines;
}

} // namespace detail

/// The tokenizer of BERT from vocab.txt: a token a line, its id the number of the line from 0.
///
/// settings  tokenizer_config.json beside it, or null: do_lower_case, strip_accents, tokenize_chinese_chars
[[nodiscard]] inline tokenizer read_vocab_txt(const std::filesystem::path& path, const json& settings = nullptr) {
  const std::string text = input_file(path).read_text(most_json_bytes);
  std::vector<std::string> tokens = detail::lines_of(text);
  std::unordered_map<std::string_view, std::size_t> seen;
  for (std::size_t line = 0; line < tokens.size(); ++line) {
    if (tokens[line].empty()) {
      throw input_error(fmt::format("{}: line {}: expected a token, found nothing", path.string(), line + 1));
    }
    if (const auto [first, fresh] = seen.emplace(tokens[line], line); !fresh) {
      throw input_error(fmt::format("{}: line {}: '{}' stands in line {} already", path.string(), line + 1,
                                    printable(tokens[line]), first->second + 1));
    }
  }
  tokenizer result;
  word_piece model = detail::make_word_piece(tokens, "[UNK]", path.string());
  if (settings.is_object()) {
    findings found((path.parent_path() / "tokenizer_config.json").string());
    object_reader keys(settings, "", found);
    model.normal.lower = keys.boolean("do_lower_case", true);
    const json* strip = keys.find("strip_accents");
    model.normal.strip_accents =
        strip == nullptr || strip->is_null() ? model.normal.lower : keys.boolean("strip_accents");
    model.normal.space_cjk = keys.boolean("tokenize_chinese_chars", true);
    found.throw_if_any();
  }
  result.model = std::move(model);
  detail::note_specials(result, tokens, {});
  result.name = fmt::format("WordPiece, {} tokens", tokens.size());
  result.hash = fmt::format("{:016x}", data_detail::fnv(text + settings.dump()));
  return result;
}

/// The tokenizer of GPT-2 from vocab.json and merges.txt (a pair a line, a comment line `#version` first).
[[nodiscard]] inline tokenizer read_vocab_merges(const std::filesystem::path& vocab,
                                                 const std::filesystem::path& merges) {
  detail::vocabulary_reader reader(vocab.string());
  const std::string vocab_text = input_file(vocab).read_text(most_json_bytes);
  reader.add_all(parse_json(vocab_text, vocab.string()));
  detail::byte_pair_builder builder(reader.tokens, vocab.string());
  const std::string merge_text = input_file(merges).read_text(most_json_bytes);
  const std::vector<std::string> lines = detail::lines_of(merge_text);
  for (std::size_t line = 0; line < lines.size(); ++line) {
    if (lines[line].empty() || lines[line].starts_with("#version")) { continue; }
    const std::string where = fmt::format("{}: line {}", merges.string(), line + 1);
    const std::size_t space = lines[line].find(' ');
    if (space == std::string::npos || space == 0 || space + 1 == lines[line].size() ||
        lines[line].find(' ', space + 1) != std::string::npos) {
      throw input_error(where + ": expected two tokens with a space between, found '" + printable(lines[line]) + "'");
    }
    builder.merge(lines[line].substr(0, space), lines[line].substr(space + 1), where);
  }
  tokenizer result;
  result.model = builder.done();
  detail::note_specials(result, reader.tokens, {});
  result.name = fmt::format("byte-level BPE, {} tokens", reader.tokens.size());
  result.hash = fmt::format("{:016x}", data_detail::fnv(merge_text, data_detail::fnv(vocab_text)));
  return result;
}

} // namespace reference

#include "transformer/tokenizer_json.hpp" // IWYU pragma: export
