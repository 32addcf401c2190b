// What kernel tests share: sizes around the team's lanes, random rows, masks, and comparison by bits.
#pragma once

#include "kernels/device.hpp"

#include <msg/exec/serial.hpp>
#include <msg/random.hpp>
#include <msg/tensor.hpp>

#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <string>
#include <type_traits>
#include <vector>

namespace rows {

using msg::index;

/// Around 0, 1, the 16 lanes, and whole vectors of every target.
inline const std::vector<index> widths{0, 1, 2, 15, 16, 17, 31, 32, 33, 63, 64, 65, 127, 768, 1023};

template <class T>
constexpr double epsilon = static_cast<double>(std::numeric_limits<T>::epsilon());

template <class T>
constexpr T nan = std::numeric_limits<T>::quiet_NaN();
template <class T>
constexpr T infinity = std::numeric_limits<T>::infinity();

[[nodiscard]] inline std::size_t at(index i) { return static_cast<std::size_t>(i); }

/// Normal numbers, mean * 1 + deviation * normal.
template <class T>
[[nodiscard]] std::vector<T> normal(index size, std::uint64_t stream, double mean = 0, double deviation = 1) {
  std::vector<T> values(at(size));
  for (index i = 0; i < size; ++i) {
    values[at(i)] = static_cast<T>(
        mean + deviation * msg::random_normal({.seed = 7, .stream = stream}, static_cast<std::uint64_t>(i)));
  }
  return values;
}

template <class T>
[[nodiscard]] bool same_bits(T a, T b) {
  using bits = std::conditional_t<sizeof(T) == 4, std::uint32_t, std::uint64_t>;
  return std::bit_cast<bits>(a) == std::bit_cast<bits>(b);
}

/// Elements of [0, size) whose bits differ; -0 and +0 count as equal, NaN equals only itself.
template <class T>
[[nodiscard]] index differing(const T* a, const T* b, index size) {
  index count = 0;
  for (index i = 0; i < size; ++i) {
    if (!same_bits(a[i], b[i]) && !(a[i] == T(0) && b[i] == T(0))) { ++count; }
  }
  return count;
}
template <class T>
[[nodiscard]] index differing(const std::vector<T>& a, const std::vector<T>& b) {
  return a.size() == b.size() ? differing(a.data(), b.data(), static_cast<index>(a.size())) : -1;
}

/// How far numbers are from what they should be, in units of what they may be: at most 1 when all is well.
class distance {
public:
  template <class T>
  void add(T found, long double exact, long double bound) {
    const long double error = std::abs(static_cast<long double>(found) - exact);
    if (error <= bound * worst_) { return; }
    worst_ = error > 0 && bound > 0 ? error / bound : std::numeric_limits<long double>::infinity(); // NaN: infinity
  }
  [[nodiscard]] double worst() const { return static_cast<double>(worst_); }

private:
  long double worst_ = 0;
};

/// A mask and its sum; none() is the plain computation.
struct unit_mask {
  std::vector<float> value;
  double sum = 0;
  bool present = true;

  unit_mask() : present(false) {}
  explicit unit_mask(std::vector<float> values) : value(std::move(values)) {
    for (const float v : value) { sum += static_cast<double>(v); }
  }
  [[nodiscard]] msg::mask_view view() const {
    // a vector of no element may have no address, yet the mask is there
    static const float nothing = 0;
    if (!present) { return {}; }
    return {value.empty() ? &nothing : value.data(), &sum, static_cast<index>(value.size())};
  }
  [[nodiscard]] long double operator()(index i) const {
    return present ? static_cast<long double>(value[at(i)]) : 1.0L;
  }
  [[nodiscard]] long double total(index width) const {
    return present ? static_cast<long double>(sum) : static_cast<long double>(width);
  }
};

/// Old units first, then fresh ones at c: what appending gives.
[[nodiscard]] inline unit_mask appended(index old_size, index new_size, float c) {
  std::vector<float> value(at(new_size), c);
  for (index i = 0; i < old_size; ++i) { value[at(i)] = 1; }
  return unit_mask(value);
}

/// Several growths in flight, placed anywhere: 1, 0, 0.3 and 0.85 in turn, in stretches of 3.
[[nodiscard]] inline unit_mask mixed(index size) {
  const float values[] = {1, 0, 0.3F, 0.85F};
  std::vector<float> value(at(size));
  for (index i = 0; i < size; ++i) { value[at(i)] = values[(i / 3) % 4]; }
  return unit_mask(value);
}

/// The masks every kernel is tested with, by name.
struct named_mask {
  std::string name;
  unit_mask mask;
};
[[nodiscard]] inline std::vector<named_mask> masks(index width) {
  const index old_size = (2 * width + 2) / 3;
  return {{"none", {}},
          {"c = 0", appended(old_size, width, 0)},
          {"c = 0.3", appended(old_size, width, 0.3F)},
          {"c = 1", appended(old_size, width, 1)},
          {"mixed", mixed(width)}};
}

} // namespace rows
