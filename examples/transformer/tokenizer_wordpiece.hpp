// WordPiece with the basic tokenizer of BERT: clean, space out, lower-case, cut at punctuation, greedy longest match.
#pragma once

#include "transformer/tokenizer_bpe.hpp"
#include "transformer/unicode.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace reference {

/// How BERT's basic tokenizer treats characters.
struct basic_normalizer {
  bool clean = true;         // control characters go, U+FFFD and NUL too
  bool space_cjk = true;     // each ideograph is a word of its own
  bool strip_accents = true; // canonical decomposition without nonspacing marks
  bool lower = true;
};

/// Source: Devlin et al. 2019 (BERT), released tokenization.py. Unicode classes are those of unicode_tables.hpp; other
/// implementations differ on characters that their tables know or do not know.
struct word_piece {
  std::vector<std::string> tokens; // by id, as vocab.txt has them
  std::unordered_map<std::string, std::int32_t> ids{};
  std::string continuation = "##";
  std::int32_t unknown = 0;
  std::size_t most_word_characters = 100; // a longer word is unknown
  basic_normalizer normal{};

  /// Appends the ids of a text.
  void encode(std::string_view text, std::vector<std::int32_t>& out, word_cache& cache) const {
    for (std::size_t at = 0; at < text.size();) { // white space separates, whatever else is done to characters
      const std::size_t begin = at;
      std::size_t size = 0;
      while (at < text.size()) {
        const utf8_char c = decode_utf8(text, at);
        size = c.size;
        if (separates(c.code)) { break; }
        at += c.size;
        size = 0;
      }
      const std::string_view chunk = text.substr(begin, at - begin);
      if (!chunk.empty()) {
        cache.append(chunk, out, [&](std::vector<std::int32_t>& ids_out) { encode_chunk(chunk, ids_out); });
      }
      at += size;
    }
  }

  /// Appends the text of an id: with a space before it unless it continues a word.
  void decode(std::int32_t id, std::string& text) const {
    if (id < 0 || static_cast<std::size_t>(id) >= tokens.size()) { return; }
    const std::string& token = tokens[static_cast<std::size_t>(id)];
    const bool continues = token.starts_with(continuation) && token.size() > continuation.size();
    text += continues ? token.substr(continuation.size()) : (text.empty() ? "" : " ") + token;
  }

private:
  [[nodiscard]] static bool is_cjk(char32_t c) noexcept {
    return (c >= 0x4E00 && c <= 0x9FFF) || (c >= 0x3400 && c <= 0x4DBF) || (c >= 0x20000 && c <= 0x2A6DF) ||
           (c >= 0x2A700 && c <= 0x2B73F) || (c >= 0x2B740 && c <= 0x2B81F) || (c >= 0x2B820 && c <= 0x2CEAF) ||
           (c >= 0xF900 && c <= 0xFAFF) || (c >= 0x2F800 && c <= 0x2FA1F);
  }
  [[nodiscard]] static bool is_punctuation(char32_t c) {
    const bool ascii_symbol =
        (c >= 33 && c <= 47) || (c >= 58 && c <= 64) || (c >= 91 && c <= 96) || (c >= 123 && c <= 126);
    return ascii_symbol || (c >= 0x80 && class_of(c) == char_class::punctuation);
  }
  // Tab and line ends are control characters that cleaning turns into spaces; the other such are removed first.
  [[nodiscard]] static bool is_removed(char32_t c) {
    return c != '\t' && c != '\n' && c != '\r' &&
           (c == 0 || c == replacement_character || class_of(c) == char_class::control);
  }
  [[nodiscard]] bool separates(char32_t c) const { return is_space(c) && !(normal.clean && is_removed(c)); }

  // A stretch without white space: its words are cut at ideographs and punctuation.
  void encode_chunk(std::string_view chunk, std::vector<std::int32_t>& out) const {
    std::string word;
    std::size_t characters = 0;
    const auto flush = [&] {
      if (characters > 0) { encode_word(word, characters, out); }
      word.clear();
      characters = 0;
    };
    const auto put = [&](char32_t c) {
      const bool alone = is_punctuation(c);
      if (alone) { flush(); }
      append_utf8(c, word);
      ++characters;
      if (alone) { flush(); }
    };
    const auto put_lower = [&](char32_t c) {
      if (normal.lower) {
        lower_case(c, put);
      } else {
        put(c);
      }
    };
    for (std::size_t at = 0; at < chunk.size();) {
      const utf8_char c = decode_utf8(chunk, at);
      at += c.size;
      if (normal.clean && is_removed(c.code)) { continue; }
      const bool alone = normal.space_cjk && is_cjk(c.code);
      if (alone) { flush(); }
      if (normal.strip_accents) {
        without_accents(c.code, put_lower);
      } else {
        put_lower(c.code);
      }
      if (alone) { flush(); }
    }
    flush();
  }

  // Longest piece first, from the left; a word that cannot be cut to its end is unknown as a whole.
  void encode_word(const std::string& word, std::size_t characters, std::vector<std::int32_t>& out) const {
    const std::size_t before = out.size();
    bool known = characters <= most_word_characters;
    for (std::size_t begin = 0; known && begin < word.size();) {
      std::string piece = (begin == 0 ? "" : continuation) + word.substr(begin);
      const std::size_t extra = piece.size() - (word.size() - begin);
      known = false;
      while (piece.size() > extra) {
        if (const auto found = ids.find(piece); found != ids.end()) {
          out.push_back(found->second);
          begin += piece.size() - extra;
          known = true;
          break;
        }
        piece.pop_back(); // part of a character is in no vocabulary
      }
    }
    if (!known) {
      out.resize(before);
      out.push_back(unknown);
    }
  }
};

} // namespace reference
