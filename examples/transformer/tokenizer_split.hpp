// How text is cut into words before byte-pair merges: the regular expressions of the published tokenizers, by hand.
#pragma once

#include "transformer/unicode.hpp"

#include <array>
#include <cstddef>
#include <string_view>

namespace reference {

/// The patterns that are known. A tokenizer.json names its own by the expression; another one is refused.
enum class split_pattern { whole, gpt2, llama3, qwen2 };

inline constexpr std::array<std::string_view, 4> split_expressions{
    "", R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)",
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)",
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)"};

namespace detail {

enum class word_kind : char { letter, number, space, other };

struct word_char {
  word_kind kind = word_kind::other;
  std::size_t size = 0;
};

// Bytes that are no UTF-8 count as `other`, one at a time.
[[nodiscard]] inline word_char word_char_at(std::string_view text, std::size_t at) {
  const utf8_char c = decode_utf8(text, at);
  if (is_space(c.code)) { return {word_kind::space, c.size}; }
  switch (class_of(c.code)) {
    case char_class::letter: return {word_kind::letter, c.size};
    case char_class::number: return {word_kind::number, c.size};
    default: return {word_kind::other, c.size};
  }
}

// End of the run of characters of one kind, of at most `most` characters.
[[nodiscard]] inline std::size_t end_of_run(std::string_view text, std::size_t at, word_kind kind,
                                            std::size_t most = std::string_view::npos) {
  while (at < text.size() && most-- > 0) {
    const word_char c = word_char_at(text, at);
    if (c.kind != kind) { break; }
    at += c.size;
  }
  return at;
}

// 's 't 're 've 'm 'll 'd; or the position itself.
[[nodiscard]] inline std::size_t end_of_contraction(std::string_view text, std::size_t at, bool any_case) {
  if (text[at] != '\'') { return at; }
  const auto letter = [&](std::size_t i) {
    const char c = at + i < text.size() ? text[at + i] : '\0';
    return any_case && c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c;
  };
  const char first = letter(1);
  const char second = letter(2);
  if (first == 's' || first == 't' || first == 'm' || first == 'd') { return at + 2; }
  const bool two = ((first == 'r' || first == 'v') && second == 'e') || (first == 'l' && second == 'l');
  return two ? at + 3 : at;
}

// \s+(?!\S)|\s+ : a run of spaces without its last, which goes with the word behind it, if any is left.
[[nodiscard]] inline std::size_t end_of_spaces(std::string_view text, std::size_t at) {
  const std::size_t end = end_of_run(text, at, word_kind::space);
  if (end == text.size()) { return end; }
  std::size_t last = at;
  for (std::size_t next = at; next < end; next += decode_utf8(text, next).size) { last = next; }
  return last == at ? end : last;
}

[[nodiscard]] inline std::size_t end_of_gpt2_word(std::string_view text, std::size_t at) {
  if (const std::size_t end = end_of_contraction(text, at, false); end > at) { return end; }
  const std::size_t begin = at + (text[at] == ' ' ? 1 : 0);
  if (begin < text.size()) {
    const word_kind kind = word_char_at(text, begin).kind;
    if (kind != word_kind::space) { return end_of_run(text, begin, kind); }
  }
  return end_of_spaces(text, at);
}

[[nodiscard]] inline bool is_line_end(char c) noexcept { return c == '\r' || c == '\n'; }

[[nodiscard]] inline std::size_t end_of_llama3_word(std::string_view text, std::size_t at, std::size_t most_digits) {
  if (const std::size_t end = end_of_contraction(text, at, true); end > at) { return end; }
  const word_char first = word_char_at(text, at);
  if (first.kind == word_kind::letter) { return end_of_run(text, at, word_kind::letter); }
  if (first.kind == word_kind::number) { return end_of_run(text, at, word_kind::number, most_digits); }
  if (!is_line_end(text[at])) { // one character of any kind goes with the letters behind it
    const std::size_t end = end_of_run(text, at + first.size, word_kind::letter);
    if (end > at + first.size) { return end; }
  }
  const std::size_t begin = at + (text[at] == ' ' ? 1 : 0);
  if (std::size_t end = end_of_run(text, begin, word_kind::other); end > begin) {
    while (end < text.size() && is_line_end(text[end])) { ++end; }
    return end;
  }
  const std::size_t end = end_of_run(text, at, word_kind::space);
  const std::size_t line_end = text.substr(at, end - at).find_last_of("\r\n");
  return line_end != std::string_view::npos ? at + line_end + 1 : end_of_spaces(text, at);
}

[[nodiscard]] inline std::size_t end_of_word(std::string_view text, std::size_t at, split_pattern pattern) {
  switch (pattern) {
    case split_pattern::gpt2: return end_of_gpt2_word(text, at);
    case split_pattern::llama3: return end_of_llama3_word(text, at, 3);
    case split_pattern::qwen2: return end_of_llama3_word(text, at, 1);
    case split_pattern::whole: break;
  }
  return text.size();
}

} // namespace detail

/// Calls word(piece) for the pieces of the text in order; together they are the text.
///
/// digits_apart  each digit is a word of its own, and the pattern sees the text between them alone
template <class Word>
void split_words(std::string_view text, split_pattern pattern, bool digits_apart, const Word& word) {
  using namespace detail;
  while (!text.empty()) {
    std::size_t end = text.size();
    if (digits_apart) {
      const word_char first = word_char_at(text, 0);
      if (first.kind == word_kind::number) {
        word(text.substr(0, first.size));
        text.remove_prefix(first.size);
        continue;
      }
      for (end = first.size; end < text.size();) {
        const word_char c = word_char_at(text, end);
        if (c.kind == word_kind::number) { break; }
        end += c.size;
      }
    }
    const std::string_view piece = text.substr(0, end);
    for (std::size_t at = 0; at < piece.size();) {
      const std::size_t next = end_of_word(piece, at, pattern);
      word(piece.substr(at, next - at));
      at = next;
    }
    text.remove_prefix(end);
  }
}

} // namespace reference
