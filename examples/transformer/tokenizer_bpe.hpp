// Byte-level byte-pair encoding, as GPT-2, Llama 3 and others have it.
#pragma once

#include "transformer/errors.hpp"
#include "transformer/tokenizer_split.hpp"

#include <msg/config.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <queue>
#include <string>
#include <string_view>
#include <tuple>
#include <unordered_map>
#include <utility>
#include <vector>

namespace reference {

/// Token ids of words that were met before, so that each is encoded once. Words are views: of one text that stays.
class word_cache {
public:
  /// Appends the ids of a word, which encode(ids) appends where they are not known yet.
  template <class Encode>
  void append(std::string_view word, std::vector<std::int32_t>& ids, const Encode& encode) {
    const auto found = places_.find(word);
    if (found != places_.end()) {
      const auto begin = known_.begin() + static_cast<std::ptrdiff_t>(found->second.first);
      ids.insert(ids.end(), begin, begin + static_cast<std::ptrdiff_t>(found->second.second));
      return;
    }
    const std::size_t before = ids.size();
    encode(ids);
    if (word.size() > most_bytes || places_.size() >= most_words) { return; }
    places_.emplace(word, std::pair{known_.size(), ids.size() - before});
    known_.insert(known_.end(), ids.begin() + static_cast<std::ptrdiff_t>(before), ids.end());
  }

private:
  static constexpr std::size_t most_bytes = 64; // longer ones rarely come twice
  static constexpr std::size_t most_words = std::size_t{1} << 21U;
  std::unordered_map<std::string_view, std::pair<std::size_t, std::size_t>> places_;
  std::vector<std::int32_t> known_;
};

/// The character that vocabulary files write for each byte: printable ones for themselves, the other 68 from U+0100 on.
/// Source: Radford et al. 2019; bytes_to_unicode() of the released GPT-2.
[[nodiscard]] inline std::array<char32_t, 256> byte_characters() noexcept {
  std::array<char32_t, 256> characters{};
  char32_t next = 0x100;
  for (char32_t byte = 0; byte < 256; ++byte) {
    const bool itself = (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
    characters[byte] = itself ? byte : next++;
  }
  return characters;
}

/// Finds a string by a view of its text.
struct text_hash {
  using is_transparent = void;
  [[nodiscard]] std::size_t operator()(std::string_view text) const noexcept {
    return std::hash<std::string_view>{}(text);
  }
};

/// A word is its bytes; the pair of neighbours that comes first in the list of merges is merged, until none is listed.
struct byte_pair {
  struct merge {
    std::int32_t rank = 0; // lower merges first
    std::int32_t id = 0;   // of the merged token
  };
  std::vector<std::string> tokens;                 // bytes by id; special tokens as they are written
  std::array<std::int32_t, 256> bytes{};           // id of each single byte, -1 where the vocabulary lacks it
  std::unordered_map<std::uint64_t, merge> merges; // by pair_key() of the two ids
  // Taken at once where they are listed (ignore_merges)
  std::unordered_map<std::string, std::int32_t, text_hash, std::equal_to<>> whole_words;
  split_pattern pattern = split_pattern::gpt2;
  bool digits_apart = false;
  bool space_before = false; // text begins with a space, its own or an added one

  [[nodiscard]] static std::uint64_t pair_key(std::int32_t left, std::int32_t right) noexcept {
    return (std::uint64_t{static_cast<std::uint32_t>(left)} << 32U) | static_cast<std::uint32_t>(right);
  }

  /// Appends the ids of a text. Throws input_error for a byte without a token.
  void encode(std::string_view text, std::vector<std::int32_t>& ids, word_cache& cache) const {
    const auto append = [&](std::string_view word) {
      cache.append(word, ids, [&](std::vector<std::int32_t>& out) { encode_word(word, out); });
    };
    std::size_t begin = 0;
    if (space_before && !text.empty() && !is_space(decode_utf8(text, 0).code)) {
      // The added space goes with the first word: an owned copy of that, past the cache.
      const std::string start = ' ' + std::string{text.substr(0, most_first_word)};
      std::size_t first = 0;
      split_words(start, pattern, digits_apart, [&](std::string_view word) {
        if (first++ == 0) {
          encode_word(word, ids);
          begin = word.size() - 1;
        }
      });
    }
    split_words(text.substr(begin), pattern, digits_apart, append);
  }

  /// The text of ids; ids outside the vocabulary give nothing.
  void decode(std::int32_t id, std::string& text) const {
    if (id >= 0 && static_cast<std::size_t>(id) < tokens.size()) { text += tokens[static_cast<std::size_t>(id)]; }
  }

private:
  static constexpr std::size_t most_first_word = 4096;

  // Neighbours in a list, the best pair from a queue; entries that a merge has overtaken are passed over.
  void encode_word(std::string_view word, std::vector<std::int32_t>& ids) const {
    if (const auto whole = whole_words.find(word); whole != whole_words.end()) {
      ids.push_back(whole->second);
      return;
    }
    struct piece {
      std::int32_t id = 0;
      std::int32_t before = 0, after = 0; // positions, -1 at the ends
    };
    std::vector<piece> pieces;
    const auto count = static_cast<std::int32_t>(word.size());
    for (std::int32_t i = 0; i < count; ++i) {
      const auto byte = static_cast<unsigned char>(word[static_cast<std::size_t>(i)]);
      if (bytes[byte] < 0) {
        throw input_error("the tokenizer has no token for the byte '" +
                          printable(word.substr(static_cast<std::size_t>(i), 1)) + "' of the text");
      }
      pieces.push_back({bytes[byte], i - 1, i + 1 < count ? i + 1 : -1});
    }
    const auto at = [&](std::int32_t position) -> piece& { return pieces[static_cast<std::size_t>(position)]; };
    using entry = std::tuple<std::int32_t, std::int32_t, std::uint64_t, std::int32_t>; // rank, position, pair, merged
    std::priority_queue<entry, std::vector<entry>, std::greater<>> queue;
    const auto offer = [&](std::int32_t left) {
      if (left < 0 || at(left).after < 0) { return; }
      const std::uint64_t pair = pair_key(at(left).id, at(at(left).after).id);
      if (const auto found = merges.find(pair); found != merges.end()) {
        queue.emplace(found->second.rank, left, pair, found->second.id);
      }
    };
    for (std::int32_t i = 0; i + 1 < count; ++i) { offer(i); }
    while (!queue.empty()) {
      const auto [rank, left, pair, merged] = queue.top();
      queue.pop();
      piece& l = at(left);
      if (l.id < 0 || l.after < 0 || pair_key(l.id, at(l.after).id) != pair) { continue; }
      piece& r = at(l.after);
      l.id = merged;
      l.after = r.after;
      r.id = -1; // gone
      if (l.after >= 0) { at(l.after).before = left; }
      offer(l.before);
      offer(left);
    }
    for (std::int32_t i = 0; i >= 0; i = at(i).after) { ids.push_back(at(i).id); }
  }
};

} // namespace reference
