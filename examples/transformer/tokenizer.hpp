// Text to token ids and back, by one of three kinds: bytes, byte-level BPE, WordPiece. tokenizer_files.hpp reads them.
#pragma once

#include "transformer/tokenizer_bpe.hpp"
#include "transformer/tokenizer_wordpiece.hpp"

#include <msg/config.hpp>

#include <algorithm>
#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace reference {

using msg::index;

/// Each byte is its own id, 0 to 255.
struct byte_level {
  static void encode(std::string_view text, std::vector<std::int32_t>& ids) {
    for (const char c : text) { ids.push_back(static_cast<unsigned char>(c)); }
  }
  static void decode(std::int32_t id, std::string& text) {
    if (id >= 0 && id < 256) { text += static_cast<char>(static_cast<unsigned char>(id)); }
  }
};

/// Ids that stand for no text, -1 where there is none.
struct special_ids {
  std::int32_t pad = -1;      // [PAD]: fills a batch, never counts
  std::int32_t unknown = -1;  // [UNK]
  std::int32_t classify = -1; // [CLS]: begins a sequence of BERT
  std::int32_t separate = -1; // [SEP]: ends each of its segments
  std::int32_t mask = -1;     // [MASK]
  std::int32_t end = -1;      // <|endoftext|>: ends a document of GPT
};

/// A vocabulary and how text becomes ids of it.
///
/// Text is data: special tokens that are spelled out in it are encoded as the characters they are written with.
struct tokenizer {
  std::variant<byte_level, byte_pair, word_piece> model{};
  index vocab = 256; // ids are below
  special_ids special{};
  std::vector<std::int32_t> specials{};                         // all ids that stand for no text, rising
  std::vector<std::pair<std::string, std::int32_t>> literals{}; // pieces of text that are one token each, longest first
  std::string name = "bytes";
  std::string hash{}; // of the files it was read from; none for bytes

  [[nodiscard]] bool bytes() const noexcept { return std::holds_alternative<byte_level>(model); }

  /// Appends the ids of a text. Throws input_error for a byte without a token.
  ///
  /// cache  holds views of the text: one cache for texts that all stay where they are
  void encode(std::string_view text, std::vector<std::int32_t>& ids, word_cache& cache) const {
    const auto plain = [&](std::string_view part) {
      if (part.empty()) { return; }
      std::visit(
          [&](const auto& kind) {
            if constexpr (requires { kind.encode(part, ids, cache); }) {
              kind.encode(part, ids, cache);
            } else {
              kind.encode(part, ids);
            }
          },
          model);
    };
    std::size_t begin = 0;
    for (std::size_t at = 0; !literals.empty() && at < text.size();) {
      const auto* found = literal_at(text, at);
      if (found == nullptr) {
        ++at;
        continue;
      }
      plain(text.substr(begin, at - begin));
      ids.push_back(found->second);
      begin = at += found->first.size();
    }
    plain(text.substr(begin));
  }
  [[nodiscard]] std::vector<std::int32_t> encode(std::string_view text) const {
    std::vector<std::int32_t> ids;
    word_cache cache;
    encode(text, ids, cache);
    return ids;
  }

  /// The text of ids. Special tokens of bytes give nothing, those of files their names.
  [[nodiscard]] std::string decode(std::span<const std::int32_t> ids) const {
    std::string text;
    for (const std::int32_t id : ids) {
      std::visit([&](const auto& kind) { kind.decode(id, text); }, model);
    }
    return text;
  }

private:
  [[nodiscard]] const std::pair<std::string, std::int32_t>* literal_at(std::string_view text, std::size_t at) const {
    for (const auto& literal : literals) {
      if (literal.first.front() == text[at] && text.substr(at).starts_with(literal.first)) { return &literal; }
    }
    return nullptr;
  }
};

/// Bytes, with special tokens above them where a model needs some (BERT does).
[[nodiscard]] inline tokenizer byte_tokenizer(bool with_special = false) {
  tokenizer bytes;
  if (with_special) {
    bytes.special = {.pad = 256, .classify = 257, .separate = 258, .mask = 259};
    bytes.specials = {256, 257, 258, 259};
    bytes.vocab = 260;
  }
  return bytes;
}

} // namespace reference
