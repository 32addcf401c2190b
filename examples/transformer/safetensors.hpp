// Tensors in files: a safetensors writer that matches the reference library byte for byte, and a reader that trusts
// nothing. Source: the safetensors format, https://github.com/huggingface/safetensors.
#pragma once

#include "transformer/file_io.hpp"
#include "transformer/safetensors_header.hpp"

#include <bit>
#include <cmath>
#include <cstring>
#include <type_traits>

namespace reference {

static_assert(std::endian::native == std::endian::little, "tensors are stored little-endian and not swapped here");

/// A tensor to be written: what it is called, and where its packed row-major elements lie.
struct tensor_source {
  std::string name{};
  dtype type{};
  std::vector<msg::index> shape{};
  std::span<const std::byte> bytes{};
};

template <class T>
concept storable = std::is_same_v<T, float> || std::is_same_v<T, double> || std::is_same_v<T, std::int64_t>;

/// How elements of a C++ type are stored.
template <storable T>
inline constexpr dtype dtype_of = std::is_same_v<T, float>    ? dtype::f32
                                  : std::is_same_v<T, double> ? dtype::f64
                                                              : dtype::i64;

[[nodiscard]] inline float float_from_half(std::uint16_t half) noexcept {
  const std::uint32_t sign = (half & 0x8000U) << 16U;
  const std::uint32_t exponent = (half >> 10U) & 31U;
  const std::uint32_t fraction = half & 0x3ffU;
  if (exponent == 0) { // zero or subnormal: fraction * 2^-24, exact in float
    const float magnitude = static_cast<float>(fraction) * 0x1p-24F;
    return sign != 0 ? -magnitude : magnitude;
  }
  const std::uint32_t wide = exponent == 31 ? 255U : exponent + 112U;
  return std::bit_cast<float>(sign | (wide << 23U) | (fraction << 13U));
}
[[nodiscard]] inline float float_from_bfloat16(std::uint16_t value) noexcept {
  return std::bit_cast<float>(static_cast<std::uint32_t>(value) << 16U);
}

namespace detail {
// A JSON string literal; nlohmann escapes exactly what the reference library escapes.
[[nodiscard]] inline std::string json_string(const std::string& text) {
  try {
    return nlohmann::json(text).dump();
  } catch (const nlohmann::json::exception&) {
    throw input_error("tensor names and metadata must be UTF-8, found '" + printable(text) + "'");
  }
}
} // namespace detail

/// Header of a file holding `tensors` in the order given: length prefix, JSON, padding to a multiple of 8.
[[nodiscard]] inline std::string safetensors_header_text(std::span<const tensor_source> tensors,
                                                         const std::map<std::string, std::string>& metadata) {
  std::string text = "{";
  if (!metadata.empty()) {
    text += R"("__metadata__":{)";
    for (const auto& [key, value] : metadata) {
      text += detail::json_string(key) + ":" + detail::json_string(value) + ",";
    }
    text.back() = '}';
    text += ",";
  }
  std::uint64_t begin = 0;
  for (const tensor_source& tensor : tensors) {
    const std::uint64_t end = begin + tensor.bytes.size();
    text += detail::json_string(tensor.name);
    text += R"(:{"dtype":")" + std::string{properties_of(tensor.type).name} + R"(","shape":[)";
    for (std::size_t i = 0; i < tensor.shape.size(); ++i) {
      if (i > 0) { text += ','; }
      text += std::to_string(tensor.shape[i]);
    }
    text += R"(],"data_offsets":[)" + std::to_string(begin) + "," + std::to_string(end) + "]},";
    begin = end;
  }
  if (text.back() == ',') { text.pop_back(); }
  text += "}";
  text.resize((text.size() + 7) / 8 * 8, ' ');
  const auto length = std::bit_cast<std::array<char, 8>>(static_cast<std::uint64_t>(text.size()));
  return std::string(length.begin(), length.end()) + text;
}

/// Writes tensors to an open file, straight from where they lie: nothing but the header is built in memory.
///
/// tensors    any order, names distinct; the file holds them by element type (wide ones first), then by name
/// metadata   Hugging Face readers need {"format": "pt"}
/// Throws input_error if a reader would refuse the result, before anything is written; run_error if writing fails.
inline void write_safetensors(output_file& out, std::vector<tensor_source> tensors,
                              const std::map<std::string, std::string>& metadata = {{"format", "pt"}}) {
  std::sort(tensors.begin(), tensors.end(),
            [](const auto& a, const auto& b) { return a.type != b.type ? a.type > b.type : a.name < b.name; });
  std::vector<std::string> names;
  for (const tensor_source& tensor : tensors) {
    const std::string who = out.path().string() + ": tensor '" + printable(tensor.name) + "': ";
    const auto bytes = bytes_of(tensor.type, tensor.shape);
    const bool small = std::all_of(tensor.shape.begin(), tensor.shape.end(),
                                   [](msg::index n) { return n <= static_cast<msg::index>(most_tensor_extent); });
    if (!bytes || *bytes != tensor.bytes.size() || !small || tensor.shape.size() > most_tensor_dims) {
      throw input_error(who + "cannot store " + std::to_string(tensor.bytes.size()) + " bytes as " +
                        text_of(tensor.type, tensor.shape));
    }
    if (tensor.name == "__metadata__") { throw input_error(who + "the name is reserved"); }
    names.push_back(tensor.name);
  }
  std::sort(names.begin(), names.end());
  if (const auto same = std::adjacent_find(names.begin(), names.end()); same != names.end()) {
    throw input_error(out.path().string() + ": tensor '" + printable(*same) + "' twice");
  }
  const std::string header = safetensors_header_text(tensors, metadata);
  if (header.size() - 8 > most_header_bytes) {
    throw input_error(out.path().string() + ": a header of " + std::to_string(header.size() - 8) +
                      " bytes is too long");
  }
  out.write(header);
  for (const tensor_source& tensor : tensors) { out.write(tensor.bytes); }
}

/// A safetensors file being read: the header is checked when it is opened, data is read on demand.
class safetensors_file {
public:
  /// Throws input_error if anything about the file is not as the format says; nothing large is allocated before the
  /// file has been seen to hold it.
  explicit safetensors_file(const std::filesystem::path& path) : file_(path) {
    if (file_.size_bytes() < 8) {
      throw input_error(path.string() + ": not a safetensors file: expected at least 8 bytes, found " +
                        std::to_string(file_.size_bytes()));
    }
    std::array<std::byte, 8> prefix{};
    file_.read_at(0, prefix);
    const auto length = std::bit_cast<std::uint64_t>(prefix);
    if (length > most_header_bytes || length > file_.size_bytes() - 8) {
      throw input_error(path.string() + ": not a safetensors file: expected a header of at most " +
                        std::to_string(std::min(most_header_bytes, file_.size_bytes() - 8)) + " bytes, found " +
                        std::to_string(length));
    }
    std::string text(static_cast<std::size_t>(length), '\0');
    file_.read_at(8, std::as_writable_bytes(std::span{text.data(), text.size()}));
    data_begin_ = 8 + length;
    header_ = parse_safetensors_header(text, file_.size_bytes() - data_begin_, path.string());
  }

  /// Every tensor, sorted by name.
  [[nodiscard]] const std::vector<tensor_entry>& tensors() const noexcept { return header_.tensors; }
  [[nodiscard]] const std::map<std::string, std::string>& metadata() const noexcept { return header_.metadata; }
  [[nodiscard]] const std::filesystem::path& path() const noexcept { return file_.path(); }

  /// The entry of that name, or null.
  [[nodiscard]] const tensor_entry* find(std::string_view name) const noexcept {
    const auto& all = header_.tensors;
    const auto found = std::lower_bound(
        all.begin(), all.end(), name, [](const tensor_entry& entry, std::string_view key) { return entry.name < key; });
    return found != all.end() && found->name == name ? &*found : nullptr;
  }
  /// The entry of that name, or input_error.
  [[nodiscard]] const tensor_entry& at(std::string_view name) const {
    const tensor_entry* entry = find(name);
    if (entry == nullptr) { throw input_error(path().string() + ": missing tensor '" + printable(name) + "'"); }
    return *entry;
  }

  /// The bytes as they are stored, for tensors that are passed through.
  [[nodiscard]] std::vector<std::byte> bytes(const tensor_entry& entry) const {
    std::vector<std::byte> all(static_cast<std::size_t>(entry.size_bytes()));
    file_.read_at(data_begin_ + entry.begin, all);
    return all;
  }

  /// Elements of one tensor, converted: F64, F32, F16 and BF16 to float or double, I64 to std::int64_t.
  ///
  /// out   (entry.size()); F64 read as float is rounded
  /// Throws input_error for another dtype or size, before writing anything.
  template <storable T>
  void read(const tensor_entry& entry, std::span<T> out) const {
    if (entry.size() != static_cast<msg::index>(out.size())) {
      refuse(entry, std::to_string(out.size()) + " elements");
    }
    if (entry.type == dtype_of<T>) {
      file_.read_at(data_begin_ + entry.begin, std::as_writable_bytes(out));
      return;
    }
    if constexpr (std::is_floating_point_v<T>) {
      switch (entry.type) {
        case dtype::f64: return convert<double>(entry, out, [](double x) { return static_cast<T>(x); });
        case dtype::f32: return convert<float>(entry, out, [](float x) { return static_cast<T>(x); });
        case dtype::f16:
          return convert<std::uint16_t>(entry, out, [](std::uint16_t x) { return T{float_from_half(x)}; });
        case dtype::bf16:
          return convert<std::uint16_t>(entry, out, [](std::uint16_t x) { return T{float_from_bfloat16(x)}; });
        default: break;
      }
    }
    refuse(entry, std::is_floating_point_v<T> ? "F64, F32, F16 or BF16" : "I64");
  }
  template <storable T>
  [[nodiscard]] std::vector<T> read(std::string_view name) const {
    const tensor_entry& entry = at(name);
    std::vector<T> values(static_cast<std::size_t>(entry.size()));
    read(entry, std::span<T>{values});
    return values;
  }

private:
  [[noreturn]] void refuse(const tensor_entry& entry, const std::string& expected) const {
    throw input_error(path().string() + ": tensor '" + printable(entry.name) + "': expected " + expected + ", found " +
                      text_of(entry.type, entry.shape));
  }
  template <class Stored, class T, class Function>
  void convert(const tensor_entry& entry, std::span<T> out, Function from) const {
    std::array<Stored, 8192> chunk{};
    std::uint64_t position = data_begin_ + entry.begin;
    for (std::size_t done = 0; done < out.size();) {
      const std::size_t count = std::min(chunk.size(), out.size() - done);
      const std::span<std::byte> bytes = std::as_writable_bytes(std::span{chunk.data(), count});
      file_.read_at(position, bytes);
      for (std::size_t i = 0; i < count; ++i) { out[done + i] = from(chunk[i]); }
      position += bytes.size();
      done += count;
    }
  }

  input_file file_;
  safetensors_header header_{};
  std::uint64_t data_begin_ = 0;
};

/// Position of the first element that is infinite or not a number, or -1.
template <class T>
[[nodiscard]] msg::index first_non_finite(std::span<const T> values) noexcept {
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (!std::isfinite(values[i])) { return static_cast<msg::index>(i); }
  }
  return -1;
}

} // namespace reference
