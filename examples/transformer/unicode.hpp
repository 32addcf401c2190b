// UTF-8 and the properties of characters that tokenizers go by; the tables are of one fixed version of Unicode.
#pragma once

#include "transformer/unicode_tables.hpp"

#include <charconv>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace reference {

/// What a character is: \p{L}, \p{N}, \p{P}, \p{Mn}, \p{Cc} | \p{Cf} | \p{Co}, or anything else.
enum class char_class : char { letter = 'L', number = 'N', punctuation = 'P', mark = 'M', control = 'C', other = 'o' };

/// A character of UTF-8 text and the bytes it takes.
struct utf8_char {
  char32_t code = 0;
  std::size_t size = 0;
};

inline constexpr char32_t replacement_character = 0xFFFD;

/// The character at a position before the end; a byte that begins none is U+FFFD, alone.
[[nodiscard]] inline utf8_char decode_utf8(std::string_view text, std::size_t at) noexcept {
  const auto byte = [&](std::size_t i) -> char32_t {
    return at + i < text.size() ? static_cast<unsigned char>(text[at + i]) : 0;
  };
  const char32_t lead = byte(0);
  if (lead < 0x80) { return {lead, 1}; }
  const std::size_t size = lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : 2;
  constexpr char32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
  char32_t code = lead & (0x7FU >> size);
  for (std::size_t i = 1; i < size; ++i) {
    if ((byte(i) & 0xC0U) != 0x80) { return {replacement_character, 1}; }
    code = (code << 6U) | (byte(i) & 0x3FU);
  }
  const bool surrogate = code >= 0xD800 && code < 0xE000;
  if (lead < 0xC0 || lead > 0xF7 || code < least[size] || code > 0x10FFFF || surrogate) {
    return {replacement_character, 1};
  }
  return {code, size};
}

/// Appends the character's bytes.
inline void append_utf8(char32_t code, std::string& text) {
  const auto put = [&](char32_t byte) { text += static_cast<char>(static_cast<unsigned char>(byte)); };
  if (code < 0x80) { return put(code); }
  if (code < 0x800) {
    put(0xC0U | (code >> 6U));
  } else {
    if (code < 0x10000) {
      put(0xE0U | (code >> 12U));
    } else {
      put(0xF0U | (code >> 18U));
      put(0x80U | ((code >> 12U) & 0x3FU));
    }
    put(0x80U | ((code >> 6U) & 0x3FU));
  }
  put(0x80U | (code & 0x3FU));
}

/// \s, the property White_Space.
[[nodiscard]] constexpr bool is_space(char32_t code) noexcept {
  return (code >= 0x09 && code <= 0x0D) || code == 0x20 || code == 0x85 || code == 0xA0 || code == 0x1680 ||
         (code >= 0x2000 && code <= 0x200A) || code == 0x2028 || code == 0x2029 || code == 0x202F || code == 0x205F ||
         code == 0x3000;
}

namespace detail {

class unicode_database {
public:
  unicode_database() {
    read_classes();
    read_lower_cases();
    read_bases();
  }
  [[nodiscard]] char_class class_of(char32_t code) const noexcept {
    return code < classes_.size() ? classes_[code] : char_class::other;
  }
  [[nodiscard]] char32_t lower(char32_t code) const {
    const auto found = lower_.find(code);
    return found == lower_.end() ? code : found->second;
  }
  [[nodiscard]] const std::u32string* base(char32_t code) const {
    const auto found = base_.find(code);
    return found == base_.end() ? nullptr : &found->second;
  }

private:
  // Takes a number off the front of the text, with the one character behind it.
  template <class Number>
  static Number take(std::string_view& text, int base) {
    Number number = 0;
    const auto end = std::from_chars(text.data(), text.data() + text.size(), number, base).ptr;
    text.remove_prefix(static_cast<std::size_t>(end - text.data()) + 1);
    return number;
  }
  void read_classes() {
    classes_.reserve(0x110000);
    for (std::string_view text = unicode_tables::classes; !text.empty();) {
      const bool one = text.front() > '9';
      const char* const begin = text.data();
      const auto length = one ? std::size_t{1} : take<std::size_t>(text, 10);
      if (one) { text.remove_prefix(1); }
      classes_.insert(classes_.end(), length, static_cast<char_class>(begin[text.data() - begin - 1]));
    }
  }
  void read_lower_cases() {
    for (std::string_view text = unicode_tables::lower_cases; !text.empty();) {
      const auto first = take<std::uint32_t>(text, 16);
      const auto count = take<std::uint32_t>(text, 10);
      const auto stride = take<std::uint32_t>(text, 10);
      const auto delta = take<std::int32_t>(text, 10);
      for (std::uint32_t i = 0; i < count; ++i) {
        const std::uint32_t code = first + stride * i;
        lower_[code] = code + static_cast<std::uint32_t>(delta);
      }
    }
  }
  void read_bases() {
    for (std::string_view text = unicode_tables::bases; !text.empty();) {
      const char* const begin = text.data();
      const auto first = take<std::uint32_t>(text, 16);
      const bool many = begin[text.data() - begin - 1] == '*';
      const std::uint32_t count = many ? take<std::uint32_t>(text, 10) : 1;
      std::u32string to;
      do {
        const char* const piece = text.data();
        to += static_cast<char32_t>(take<std::uint32_t>(text, 16));
        if (piece[text.data() - piece - 1] != '+') { break; }
      } while (true);
      for (std::uint32_t i = 0; i < count; ++i) { base_[first + i] = to; }
    }
  }

  std::vector<char_class> classes_;
  std::unordered_map<char32_t, char32_t> lower_;
  std::unordered_map<char32_t, std::u32string> base_;
};

[[nodiscard]] inline const unicode_database& unicode() {
  static const unicode_database database;
  return database;
}

} // namespace detail

[[nodiscard]] inline char_class class_of(char32_t code) { return detail::unicode().class_of(code); }

/// Calls put(char32_t) for each character of the lower case.
template <class Put>
void lower_case(char32_t code, const Put& put) {
  if (code < 0x80) { return put(code >= 'A' && code <= 'Z' ? code + 32 : code); }
  put(code == 0x130 ? U'i' : detail::unicode().lower(code));
  if (code == 0x130) { put(0x307); } // a dotted capital I keeps its dot
}

/// Calls put(char32_t) for each character of the canonical decomposition (NFD) that is no nonspacing mark. Marks are
/// put in no order: those that are left are of combining class 0, with exceptions in no language's everyday writing.
template <class Put>
void without_accents(char32_t code, const Put& put) {
  if (code < 0x80) { return put(code); }
  if (code >= 0xAC00 && code <= 0xD7A3) { // a Hangul syllable: lead, vowel, trail. Unicode, section 3.12
    const char32_t syllable = code - 0xAC00;
    put(0x1100 + syllable / 588);
    put(0x1161 + syllable % 588 / 28);
    if (syllable % 28 != 0) { put(0x11A7 + syllable % 28); }
    return;
  }
  if (class_of(code) == char_class::mark) { return; }
  const std::u32string* base = detail::unicode().base(code);
  if (base == nullptr) { return put(code); }
  for (const char32_t piece : *base) { put(piece); }
}

} // namespace reference
