// Byte-level text: what is held out, and the bytes of every training and validation batch.
#pragma once

#include "transformer/data_files.hpp"
#include "transformer/errors.hpp"

#include <msg/config.hpp>

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace reference {

struct text_options {
  index validation_tokens = 65536; // how many tokens of the held-out text an evaluation reads, at most
};

/// A stretch of `text_data::bytes` that windows are cut from; no window leaves it.
struct text_segment {
  index begin = 0;        // first byte
  index size = 0;         // at least seq + 1
  index first_window = 0; // windows of all segments before this one
};

/// One side of the split. A window is seq inputs and the byte after the last of them; windows are seq bytes apart.
struct text_split {
  std::vector<text_segment> segments;
  index windows = 0;
  index bytes = 0;
  index parts = 0; // files if whole files are held out, else blocks of files
};

struct text_data {
  std::vector<std::uint8_t> bytes;
  index seq = 0;
  text_split train;
  text_split validation;
  index validation_windows = 0; // how many of validation.windows an evaluation reads, evenly spread
  bool by_file = true;          // whole files are held out; else blocks of files
  std::string files_hash;       // of everything that was read; a resumed run must find the same
  std::string description;      // one line for people: bytes, files, what was skipped and held out
};

/// Where training is in the data: `position` windows of pass number `epoch` have been read.
struct data_position {
  index epoch = 0;
  index position = 0;
  friend bool operator==(const data_position&, const data_position&) = default;
};

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

// A file, or a block of one: what the split holds out or not.
struct unit {
  std::size_t file = 0;
  index begin = 0;
  index size = 0;
  std::uint64_t hash = 0;
  bool held_out = false;
};

// Marks units in the order of their hash until 5 % of the bytes are held out, passing over those that would make it
// more than 10 %, and never more than half of the units. Returns the bytes held out.
inline index hold_out(std::vector<unit>& units, index total) {
  std::vector<std::size_t> order(units.size());
  for (std::size_t i = 0; i < order.size(); ++i) { order[i] = i; }
  std::sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
    return units[a].hash != units[b].hash ? units[a].hash < units[b].hash : a < b;
  });
  index held = 0;
  std::size_t count = 0;
  for (const std::size_t i : order) {
    if (held * 20 >= total || (count + 1) * 2 > units.size()) { break; }
    if ((held + units[i].size) * 10 > total) { continue; }
    units[i].held_out = true;
    held += units[i].size;
    ++count;
  }
  return held;
}

// For text of so few blocks that each is more than a tenth: the first by hash, if another is left to train on.
inline void hold_out_one(std::vector<unit>& units) {
  const auto first =
      std::min_element(units.begin(), units.end(), [](const unit& a, const unit& b) { return a.hash < b.hash; });
  first->held_out = units.size() > 1;
}

[[nodiscard]] inline std::vector<unit> file_units(const std::vector<text_files::file>& files) {
  std::vector<unit> units;
  for (std::size_t f = 0; f < files.size(); ++f) {
    units.push_back({f, files[f].begin, files[f].size, mix(fnv(files[f].name))});
  }
  return units;
}

[[nodiscard]] inline std::vector<unit> block_units(const std::vector<text_files::file>& files, index total, index seq) {
  const index block = std::max(std::min(total / 32, index{65536}), seq + 1);
  std::vector<unit> units;
  for (std::size_t f = 0; f < files.size(); ++f) {
    for (index at = 0; at < files[f].size; at += block) {
      const std::uint64_t hash = mix(fnv(files[f].name), static_cast<std::uint64_t>(at / block));
      units.push_back({f, files[f].begin + at, std::min(block, files[f].size - at), hash});
    }
  }
  return units;
}

inline void add_segment(text_split& split, index begin, index size, index seq) {
  split.segments.push_back({begin, size, split.windows});
  split.windows += (size - 1) / seq;
  split.bytes += size;
}

// Neighbouring units of one file become one segment. What is too short for a window is joined, in path order and with
// a newline after each piece, into one segment at the end; windows of that one may hold several short files.
inline void cut_segments(text_data& data, const std::vector<unit>& units, bool held_out) {
  text_split& split = held_out ? data.validation : data.train;
  std::vector<std::uint8_t> joined;
  for (std::size_t i = 0; i < units.size();) {
    std::size_t last = i + 1;
    index size = units[i].size;
    while (last < units.size() && units[last].file == units[i].file && units[last].held_out == units[i].held_out) {
      size += units[last++].size;
    }
    if (units[i].held_out == held_out) {
      if (size > data.seq) {
        add_segment(split, units[i].begin, size, data.seq);
      } else {
        joined.insert(joined.end(), data.bytes.begin() + units[i].begin, data.bytes.begin() + units[i].begin + size);
        joined.push_back('\n');
      }
      split.parts += static_cast<index>(last - i);
    }
    i = last;
  }
  if (static_cast<index>(joined.size()) > data.seq) {
    add_segment(split, static_cast<index>(data.bytes.size()), static_cast<index>(joined.size()), data.seq);
    data.bytes.insert(data.bytes.end(), joined.begin(), joined.end());
  }
}

// One window as inputs and, one byte later, targets.
inline void copy_window(const text_data& data, index start, std::int32_t* tokens, std::int32_t* targets) noexcept {
  const std::uint8_t* text = data.bytes.data() + start;
  for (index t = 0; t < data.seq; ++t) {
    tokens[t] = text[t];
    targets[t] = text[t + 1];
  }
}

[[nodiscard]] inline const text_segment& segment_of(const text_split& split, index window) {
  const auto after = std::upper_bound(split.segments.begin(), split.segments.end(), window,
                                      [](index w, const text_segment& s) { return w < s.first_window; });
  return *(after - 1);
}

} // namespace data_detail

/// Reads the text at `path`, a file or a folder, and decides what is held out.
///
/// Whole files are held out, 5 to 10 % of the bytes, chosen by a hash of their relative path: the same on every
/// machine. Where that is impossible (one file, or a few large ones) blocks of at most 64 KiB are, by file and block
/// number. Throws input_error if nothing is readable or too little is left for one window on each side.
[[nodiscard]] inline text_data load_text(const std::string& path, index seq, const text_options& options = {}) {
  if (seq < 1) { throw input_error(fmt::format("the sequence length must be at least 1, not {}", seq)); }
  text_files text = read_text_files(path);
  const auto total = static_cast<index>(text.bytes.size());
  text_data data;
  data.seq = seq;
  data.files_hash = text.hash;
  data.bytes = std::move(text.bytes);
  std::vector<data_detail::unit> units = data_detail::file_units(text.files);
  data.by_file = data_detail::hold_out(units, total) * 50 >= total;
  if (!data.by_file) {
    units = data_detail::block_units(text.files, total, seq);
    if (data_detail::hold_out(units, total) == 0) { data_detail::hold_out_one(units); }
  }
  data_detail::cut_segments(data, units, false);
  data_detail::cut_segments(data, units, true);
  if (data.train.windows == 0 || data.validation.windows == 0) {
    throw input_error(fmt::format("{}: too little text: {} bytes cannot give windows of {} bytes (the sequence "
                                  "length and one) both to train on and to hold out",
                                  path, total, seq + 1));
  }
  data.validation_windows = std::clamp(options.validation_tokens / seq, index{1}, data.validation.windows);
  const double unit = total < 1000000 ? 1e3 : 1e6;
  const std::string left_out = skipped(text);
  data.description =
      fmt::format("{:.1f} {} of text in {} file{}{}; held out: {} of {} {} ({:.1f} % of the bytes)",
                  static_cast<double>(total) / unit, total < 1000000 ? "kB" : "MB", text.files.size(),
                  text.files.size() == 1 ? "" : "s", left_out.empty() ? "" : fmt::format(" ({})", left_out),
                  data.validation.parts, units.size(), data.by_file ? "files" : "blocks",
                  100 * static_cast<double>(data.validation.bytes) / static_cast<double>(total));
  return data;
}

/// Writes the next `batch` training windows and returns the position after them.
///
/// Every pass reads each window once, in an order of its own; a pure function of (seed, at), so the position is all
/// that a checkpoint holds, and one batch of 8 reads what two of 4 do. Windows of a pass start at an offset of its own
/// within the bytes that do not fill a window, so that no byte is left out of every pass.
///
/// tokens, targets  (batch, seq), the targets one byte later; every element is written
/// Throws input_error for a position that is not in the data (a checkpoint of other text).
[[nodiscard]] inline data_position train_batch(const text_data& data, std::uint64_t seed, data_position at, index batch,
                                               std::int32_t* tokens, std::int32_t* targets) {
  const text_split& split = data.train;
  if (at.epoch < 0 || at.position < 0 || at.position >= split.windows) {
    throw input_error(fmt::format("data position {} of pass {} is outside the text ({} windows)", at.position, at.epoch,
                                  split.windows));
  }
  for (index b = 0; b < batch; ++b) {
    const std::uint64_t key = data_detail::mix(seed, static_cast<std::uint64_t>(at.epoch));
    const index window = data_detail::permute(at.position, split.windows, key);
    const text_segment& segment = data_detail::segment_of(split, window);
    const index spare = (segment.size - 1) % data.seq;
    const std::uint64_t shift = data_detail::mix(~key, static_cast<std::uint64_t>(segment.begin));
    const index start = segment.begin + (window - segment.first_window) * data.seq +
                        static_cast<index>(shift % static_cast<std::uint64_t>(spare + 1));
    data_detail::copy_window(data, start, tokens + b * data.seq, targets + b * data.seq);
    if (++at.position == split.windows) { at = {at.epoch + 1, 0}; }
  }
  return at;
}

/// Writes validation windows `first` to `first + batch - 1`, or fewer at the end, and returns how many.
///
/// There are data.validation_windows of them, evenly spread over the held-out text: the same for every seed, step and
/// batch size. An evaluation is the mean over them all.
///
/// tokens, targets  (batch, seq); only the windows that exist are written
[[nodiscard]] inline index validation_batch(const text_data& data, index first, index batch, std::int32_t* tokens,
                                            std::int32_t* targets) {
  const text_split& split = data.validation;
  const index count = std::clamp(data.validation_windows - first, index{0}, batch);
  for (index b = 0; b < count; ++b) {
    const index window = (first + b) * split.windows / data.validation_windows;
    const text_segment& segment = data_detail::segment_of(split, window);
    const index start = segment.begin + (window - segment.first_window) * data.seq;
    data_detail::copy_window(data, start, tokens + b * data.seq, targets + b * data.seq);
  }
  return count;
}

} // namespace reference
