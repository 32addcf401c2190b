// The header of a safetensors file: element types, entries, and the checks that every entry must pass.
#pragma once

#include "transformer/errors.hpp"

#include <msg/config.hpp>

#include <nlohmann/json.hpp>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <numeric>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace reference {

// In the order of the format's reference library, which sorts by it.
enum class dtype : std::uint8_t {
  boolean,
  f4,
  f6_e2m3,
  f6_e3m2,
  u8,
  i8,
  f8_e5m2,
  f8_e4m3,
  f8_e8m0,
  f8_e4m3fnuz,
  f8_e5m2fnuz,
  i16,
  u16,
  f16,
  bf16,
  i32,
  u32,
  f32,
  c64,
  f64,
  i64,
  u64
};

struct dtype_properties {
  std::string_view name;
  std::uint64_t bits;
};
inline constexpr std::array<dtype_properties, 22> dtype_table{{
    {"BOOL", 8},    {"F4", 4},      {"F6_E2M3", 6}, {"F6_E3M2", 6},     {"U8", 8},          {"I8", 8},
    {"F8_E5M2", 8}, {"F8_E4M3", 8}, {"F8_E8M0", 8}, {"F8_E4M3FNUZ", 8}, {"F8_E5M2FNUZ", 8}, {"I16", 16},
    {"U16", 16},    {"F16", 16},    {"BF16", 16},   {"I32", 32},        {"U32", 32},        {"F32", 32},
    {"C64", 64},    {"F64", 64},    {"I64", 64},    {"U64", 64},
}};
[[nodiscard]] constexpr const dtype_properties& properties_of(dtype type) noexcept {
  return dtype_table[static_cast<std::size_t>(type)];
}

/// One tensor of a file: row-major, packed, little-endian, at [begin, end) of the data buffer.
struct tensor_entry {
  std::string name{};
  dtype type{};
  std::vector<msg::index> shape{};
  std::uint64_t begin = 0;
  std::uint64_t end = 0;
  [[nodiscard]] std::uint64_t size_bytes() const noexcept { return end - begin; }
  /// Elements; of a checked entry it cannot overflow.
  [[nodiscard]] msg::index size() const noexcept {
    return std::accumulate(shape.begin(), shape.end(), msg::index{1}, [](auto a, auto b) { return a * b; });
  }
};

/// "F32 [2,3]", as messages show it.
[[nodiscard]] inline std::string text_of(dtype type, const std::vector<msg::index>& shape) {
  std::string text{properties_of(type).name};
  text += " [";
  for (std::size_t i = 0; i < shape.size(); ++i) {
    if (i > 0) { text += ','; }
    text += std::to_string(shape[i]);
  }
  return text + "]";
}

/// Bytes of a tensor, or nothing if they overflow 64 bits or aren't a whole number.
[[nodiscard]] inline std::optional<std::uint64_t> bytes_of(dtype type, const std::vector<msg::index>& shape) noexcept {
  std::uint64_t bits = 1;
  for (const msg::index extent : shape) {
    if (extent < 0 || __builtin_mul_overflow(bits, static_cast<std::uint64_t>(extent), &bits)) { return {}; }
  }
  if (__builtin_mul_overflow(bits, properties_of(type).bits, &bits) || bits % 8 != 0) { return {}; }
  return bits / 8;
}

inline constexpr std::uint64_t most_header_bytes = 100'000'000;
inline constexpr std::size_t most_tensor_dims = 8;
inline constexpr std::uint64_t most_tensor_extent = std::uint64_t{1} << 48U;

struct safetensors_header {
  std::map<std::string, std::string> metadata{};
  std::vector<tensor_entry> tensors{}; // sorted by name
};

namespace detail {

// Events of the JSON parser, turned into entries at once: no document is built, so a header costs little more than its
// own size, and nothing can nest deeper than the grammar (three levels).
class header_events {
public:
  explicit header_events(std::string file) : file_(std::move(file)) {}
  safetensors_header header{};

  bool null() { refuse_value("null"); }
  bool boolean(bool value) { refuse_value(value ? "true" : "false"); }
  bool number_integer(std::int64_t value) { refuse_value(value == 0 ? "-0" : std::to_string(value)); } // has a minus
  bool number_float(double, const std::string& text) {
    refuse_value(printable(text));
  } // fraction, exponent, or beyond 64 bits
  bool binary(nlohmann::json::binary_t&) { refuse_value("binary data"); }

  bool number_unsigned(std::uint64_t value) {
    if ((where_ != place::shape && where_ != place::offsets) || value > most_tensor_extent) {
      refuse_value(std::to_string(value));
    }
    if (where_ == place::shape) {
      if (entry_.shape.size() == most_tensor_dims) {
        refuse(about() + "expected at most " + std::to_string(most_tensor_dims) + " dimensions, found more");
      }
      entry_.shape.push_back(static_cast<msg::index>(value));
    } else {
      if (offsets_ == 2) { refuse(about() + "expected 2 data_offsets, found more"); }
      (offsets_ == 0 ? entry_.begin : entry_.end) = value;
      ++offsets_;
    }
    return true;
  }
  bool string(std::string& text) {
    if (where_ == place::metadata) {
      if (!header.metadata.emplace(key_, text).second) { refuse(about() + "key '" + printable(key_) + "' twice"); }
      return true;
    }
    if (where_ != place::entry || key_ != "dtype") { refuse_value("'" + printable(text) + "'"); }
    for (std::size_t i = 0; i < dtype_table.size(); ++i) {
      if (dtype_table[i].name == text) {
        entry_.type = static_cast<dtype>(i);
        return true;
      }
    }
    refuse(about() + "unknown dtype '" + printable(text) + "'");
  }
  bool key(std::string& name) {
    key_ = name;
    if (where_ == place::entry) {
      const auto field = std::find(fields.begin(), fields.end(), name);
      if (field == fields.end()) { refuse(about() + "unknown field '" + printable(name) + "'"); }
      bool& seen = seen_[static_cast<std::size_t>(field - fields.begin())];
      if (seen) { refuse(about() + "field '" + name + "' twice"); }
      seen = true;
    }
    return true;
  }
  bool start_object(std::size_t) {
    if (where_ == place::outside) {
      where_ = place::top;
    } else if (where_ == place::top && key_ == "__metadata__") {
      if (std::exchange(metadata_seen_, true)) { refuse("'__metadata__' twice"); }
      where_ = place::metadata;
    } else if (where_ == place::top) {
      entry_ = {};
      entry_.name = key_;
      seen_ = {};
      offsets_ = 0;
      where_ = place::entry;
    } else {
      refuse_value("an object");
    }
    return true;
  }
  bool end_object() {
    if (where_ == place::entry) { take_entry(); }
    where_ = where_ == place::top ? place::outside : place::top;
    return true;
  }
  bool start_array(std::size_t) {
    if (where_ != place::entry || key_ == "dtype") { refuse_value("an array"); }
    where_ = key_ == "shape" ? place::shape : place::offsets;
    return true;
  }
  bool end_array() {
    where_ = place::entry;
    return true;
  }
  template <class Exception>
  bool parse_error(std::size_t position, const std::string&, const Exception&) {
    refuse("not valid JSON at byte " + std::to_string(position + 7)); // position counts from 1, behind 8 bytes
  }
  [[noreturn]] void refuse(const std::string& what) const {
    throw input_error(file_ + ": not a valid safetensors header: " + what);
  }

private:
  enum class place { outside, top, metadata, entry, shape, offsets };
  static constexpr std::array<std::string_view, 3> fields{"dtype", "shape", "data_offsets"};

  [[nodiscard]] std::string about() const {
    if (where_ == place::metadata) { return "__metadata__: "; }
    return "tensor '" + printable(where_ == place::top ? key_ : entry_.name) + "': ";
  }
  // A value of the wrong kind for its place, or a number out of range.
  [[noreturn]] void refuse_value(const std::string& found) const {
    std::string expected;
    switch (where_) {
      case place::outside: refuse("expected an object, found " + found);
      case place::top: expected = "an object"; break;
      case place::metadata: expected = "a string for '" + printable(key_) + "'"; break;
      case place::entry: expected = key_ == "dtype" ? "a string for dtype" : "an array for " + key_; break;
      case place::shape: expected = "integers from 0 to 2^48 in shape"; break;
      case place::offsets: expected = "integers from 0 to 2^48 in data_offsets"; break;
    }
    const std::string who = where_ == place::top && key_ == "__metadata__" ? "__metadata__: " : about();
    refuse(who + "expected " + expected + ", found " + found);
  }
  void take_entry() {
    for (std::size_t i = 0; i < fields.size(); ++i) {
      if (!seen_[i]) { refuse(about() + "missing field '" + std::string{fields[i]} + "'"); }
    }
    if (offsets_ != 2) { refuse(about() + "expected 2 data_offsets, found " + std::to_string(offsets_)); }
    const std::string what = text_of(entry_.type, entry_.shape);
    const auto bytes = bytes_of(entry_.type, entry_.shape);
    if (!bytes) { refuse(about() + what + " is not a whole number of bytes below 2^61"); }
    if (entry_.end < entry_.begin || entry_.size_bytes() != *bytes) {
      refuse(about() + "expected " + std::to_string(*bytes) + " bytes for " + what + ", found data_offsets [" +
             std::to_string(entry_.begin) + "," + std::to_string(entry_.end) + "]");
    }
    header.tensors.push_back(std::move(entry_));
  }

  std::string file_;
  place where_ = place::outside;
  std::string key_{};
  tensor_entry entry_{};
  std::array<bool, 3> seen_{};
  int offsets_ = 0;
  bool metadata_seen_ = false;
};

} // namespace detail

/// Parses and checks a header whose data buffer has `buffer_bytes` bytes; `file` is what messages call it.
/// The tensors must cover the buffer without holes or overlap. Throws input_error.
[[nodiscard]] inline safetensors_header parse_safetensors_header(std::string_view text, std::uint64_t buffer_bytes,
                                                                 const std::string& file) {
  detail::header_events events(file);
  // Two things that the parser would let pass: it takes a NUL for the end of input and skips a byte order mark.
  if (const auto nul = text.find('\0'); nul != std::string_view::npos) {
    events.refuse("not valid JSON at byte " + std::to_string(nul + 8));
  }
  if (text.starts_with("\xef\xbb\xbf")) { events.refuse("not valid JSON at byte 8"); }
  nlohmann::json::sax_parse(text.begin(), text.end(), &events);
  auto& tensors = events.header.tensors;

  std::sort(tensors.begin(), tensors.end(),
            [](const auto& a, const auto& b) { return std::pair(a.begin, a.end) < std::pair(b.begin, b.end); });
  std::uint64_t covered = 0;
  for (const tensor_entry& entry : tensors) {
    if (entry.begin != covered) {
      events.refuse("tensor '" + printable(entry.name) + "': expected data to begin at byte " +
                    std::to_string(covered) + ", found " + std::to_string(entry.begin) +
                    (entry.begin > covered ? " (a hole)" : " (an overlap)"));
    }
    covered = entry.end;
  }
  if (covered != buffer_bytes) {
    events.refuse("expected " + std::to_string(covered) + " bytes of data, found " + std::to_string(buffer_bytes));
  }
  std::sort(tensors.begin(), tensors.end(), [](const auto& a, const auto& b) { return a.name < b.name; });
  const auto same =
      std::adjacent_find(tensors.begin(), tensors.end(), [](const auto& a, const auto& b) { return a.name == b.name; });
  if (same != tensors.end()) { events.refuse("tensor '" + printable(same->name) + "' twice"); }
  return std::move(events.header);
}

} // namespace reference
