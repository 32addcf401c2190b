// What a run reads: text or token files, what is held out, and the bytes or tokens of every batch.
#pragma once

#include "transformer/data_files.hpp"
#include "transformer/data_masking.hpp"
#include "transformer/data_pairs.hpp"
#include "transformer/data_split.hpp"
#include "transformer/data_tokens.hpp"
#include "transformer/errors.hpp"
#include "transformer/token_store.hpp"
#include "transformer/tokenizer.hpp"

#include <msg/config.hpp>
#include <msg/random.hpp>

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cstdint>
#include <limits>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace reference {

/// What the model learns to predict: the token after each, hidden tokens, or these and whether two segments belong
/// together.
enum class objective { next_token, hidden_tokens, hidden_tokens_in_pairs };

struct data_options {
  index seq = 128;
  index validation_tokens = 65536; // how many tokens of the held-out part an evaluation reads, at most
  bool masked = false;             // hidden tokens are predicted (BERT), not the next
  document_rule documents = document_rule::automatic; // masked: pairs, of which documents
  index vocab = 0;                                    // of token files; 0: the tokenizer's, or what the files need
};

/// A stretch of the store that windows are cut from; no window leaves it.
struct token_segment {
  index begin = 0;        // first token
  index size = 0;         // at least one window
  index first_window = 0; // windows of all segments before this one
};

/// One side of the division. What a batch takes one of, a window, is a stretch of a segment or a chunk of a document.
struct data_side {
  std::vector<token_segment> segments;
  pair_side pairs;
  index windows = 0;
  index tokens = 0;
  index size = 0;  // bytes of text, or tokens of token files
  index parts = 0; // files if whole files are held out, else blocks of files
};

/// Everything that batches are made of.
struct training_data {
  token_store tokens;
  objective task = objective::next_token;
  tokenizer words;     // special tokens, and what a model's text is written with
  index vocab = 256;   // ids are below
  token_hiding hiding; // masked objectives
  index seq = 0;
  data_side train;
  data_side validation;
  index validation_windows = 0; // how many of validation.windows an evaluation reads, evenly spread
  bool by_file = true;          // whole files are held out; else blocks of files
  double bytes_per_token = 0;   // of the held-out text; 0 for token files
  std::string files_hash;       // of everything that was read; a resumed run must find the same
  std::string description;      // for people: bytes, files, what was skipped and held out

  [[nodiscard]] bool masked() const noexcept { return task != objective::next_token; }
  [[nodiscard]] bool pairs() const noexcept { return task == objective::hidden_tokens_in_pairs; }
  /// New tokens of a window, and how many it holds: the next token is the target of the last; [CLS] and [SEP] stand
  /// around hidden ones.
  [[nodiscard]] index window_step() const noexcept { return masked() ? seq - 2 : seq; }
  [[nodiscard]] index window_size() const noexcept { return masked() ? seq - 2 : seq + 1; }
};

/// Where training is in the data: `position` windows of pass number `epoch` have been read.
struct data_position {
  index epoch = 0;
  index position = 0;
  friend bool operator==(const data_position&, const data_position&) = default;
};

/// Sequences and what is known of them; B sequences of T tokens. What the objective has no use for is empty.
struct token_batch {
  index sequences = 0;
  index seq = 0;
  std::vector<std::int32_t> tokens;        // (B, T)
  std::vector<std::int32_t> targets;       // (B, T), -1 where nothing is predicted
  std::vector<std::int32_t> types;         // (B, T), pairs: 0 in the first segment, 1 in the second
  std::vector<std::int32_t> lengths;       // (B), pairs: tokens before the padding
  std::vector<std::int32_t> next_sentence; // (B), pairs: 0 if the second segment follows, 1 if not; -1: does not count
  friend bool operator==(const token_batch&, const token_batch&) = default;
};

/// Room for `sequences` of the data, as sequences in which nothing counts.
[[nodiscard]] inline token_batch make_batch(const training_data& data, index sequences) {
  token_batch b;
  b.sequences = sequences;
  b.seq = data.seq;
  const auto rows = static_cast<std::size_t>(sequences);
  const auto all = rows * static_cast<std::size_t>(data.seq);
  b.tokens.assign(all, 0);
  b.targets.assign(all, -1);
  if (data.pairs()) {
    b.types.assign(all, 0);
    b.lengths.assign(rows, 0);
    b.next_sentence.assign(rows, -1);
  }
  return b;
}

namespace data_detail {

// A bijection of [0, count) chosen by key and computed for one position at a time, so that no order has to be stored:
// a balanced Feistel network on the next power of four, walked until it lands inside (less than 4 walks on average).
[[nodiscard]] inline index permute(index position, index count, std::uint64_t key) noexcept {
  const auto half = (std::bit_width(static_cast<std::uint64_t>(count > 1 ? count - 1 : 1)) + 1) / 2;
  const std::uint64_t low = (std::uint64_t{1} << half) - 1;
  auto value = static_cast<std::uint64_t>(position);
  do {
    std::uint64_t left = value >> half;
    std::uint64_t right = value & low;
    for (std::uint64_t round = 0; round < 6; ++round) {
      const std::uint64_t next = left ^ (mix(key + round, right) & low);
      left = right;
      right = next;
    }
    value = (left << half) | right;
  } while (value >= static_cast<std::uint64_t>(count));
  return static_cast<index>(value);
}

[[nodiscard]] inline const token_segment& segment_of(const data_side& side, index window) {
  const auto after = std::upper_bound(side.segments.begin(), side.segments.end(), window,
                                      [](index w, const token_segment& s) { return w < s.first_window; });
  return *(after - 1);
}

// Writes row b of the batch.
//
// window, shift  of the side; the window of a segment begins `shift` tokens late
// pass           numbers of hidden tokens and pairs are the pass's own
// number         of the sequence within the pass
inline void write_row(const training_data& data, const data_side& side, index window, index shift,
                      const msg::random_stream& pass, index number, token_batch& batch, index b) {
  const auto at = static_cast<std::size_t>(b * data.seq);
  const auto size = static_cast<std::size_t>(data.seq);
  const std::span<std::int32_t> tokens = std::span(batch.tokens).subspan(at, size);
  const std::span<std::int32_t> targets = std::span(batch.targets).subspan(at, size);
  if (data.pairs()) {
    pair_row row{tokens, std::span(batch.types).subspan(at, size)};
    write_pair(side.pairs, data.tokens, data.words.special, static_cast<std::size_t>(window),
               {pass.seed, mix(pass.stream, msg::stream_of("pairs"))}, row);
    batch.lengths[static_cast<std::size_t>(b)] = row.length;
    batch.next_sentence[static_cast<std::size_t>(b)] = row.next_sentence;
  } else {
    const token_segment& segment = segment_of(side, window);
    const index start = segment.begin + (window - segment.first_window) * data.window_step() + shift;
    if (!data.masked()) { // inputs and, one token later, targets
      data.tokens.copy(start, data.seq, tokens.data());
      data.tokens.copy(start + 1, data.seq, targets.data());
      return;
    }
    tokens.front() = data.words.special.classify;
    data.tokens.copy(start, data.seq - 2, tokens.data() + 1);
    tokens.back() = data.words.special.separate;
  }
  hide_tokens(data.hiding, {pass.seed, mix(pass.stream, msg::stream_of("hidden"))},
              static_cast<std::uint64_t>(number) * size, tokens, targets);
}

} // namespace data_detail

/// Writes training sequences and returns the position after them.
///
/// Every pass reads each window once, in an order of its own; a pure function of (seed, at), so the position is all
/// that a checkpoint holds, and one batch of 8 reads what two of 4 do. Windows of a pass start at an offset of its own
/// within the tokens that do not fill a window, so that no token is left out of every pass.
///
/// batch  of make_batch(); every element is written
/// Throws input_error for a position that is not in the data (a checkpoint of other text).
[[nodiscard]] inline data_position train_batch(const training_data& data, std::uint64_t seed, data_position at,
                                               token_batch& batch) {
  const data_side& side = data.train;
  if (at.epoch < 0 || at.position < 0 || at.position >= side.windows) {
    throw input_error(fmt::format("data position {} of pass {} is outside the text ({} windows)", at.position, at.epoch,
                                  side.windows));
  }
  for (index b = 0; b < batch.sequences; ++b) {
    const std::uint64_t key = data_detail::mix(seed, static_cast<std::uint64_t>(at.epoch));
    const index window = data_detail::permute(at.position, side.windows, key);
    index shift = 0;
    if (!data.pairs()) {
      const token_segment& segment = data_detail::segment_of(side, window);
      const index spare = (segment.size - (data.window_size() - data.window_step())) % data.window_step();
      const std::uint64_t drawn = data_detail::mix(~key, static_cast<std::uint64_t>(segment.begin));
      shift = static_cast<index>(drawn % static_cast<std::uint64_t>(spare + 1));
    }
    data_detail::write_row(data, side, window, shift, {seed, key}, at.position, batch, b);
    if (++at.position == side.windows) { at = {at.epoch + 1, 0}; }
  }
  return at;
}

/// Writes validation windows `first` to `first + batch.sequences - 1`, or fewer at the end, and returns how many; in
/// the sequences that are left nothing counts.
///
/// There are data.validation_windows of them, evenly spread over the held-out text: the same for every seed, step and
/// batch size, with the same tokens hidden. An evaluation is the mean over them all.
[[nodiscard]] inline index validation_batch(const training_data& data, index first, token_batch& batch) {
  const data_side& side = data.validation;
  const index count = std::clamp(data.validation_windows - first, index{0}, batch.sequences);
  if (count < batch.sequences) { batch = make_batch(data, batch.sequences); }
  for (index b = 0; b < count; ++b) {
    const index window = (first + b) * side.windows / data.validation_windows;
    data_detail::write_row(data, side, window, 0, {0, msg::stream_of("validation")}, first + b, batch, b);
  }
  return count;
}

} // namespace reference
