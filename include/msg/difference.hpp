// How far computed numbers are from what they should be: in size, in units in the last place, in bits.
#pragma once

#include <msg/config.hpp>

#include <bit>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <limits>
#include <string>
#include <type_traits>

MSG_NAMESPACE_BEGIN

/// Numbers of the type T from a to b: 0 where they are equal (zeros of either sign are), 1 for neighbours, the largest
/// value for NaN. Any IEEE format of 2, 4 or 8 bytes, bfloat16 included.
template <class T>
[[nodiscard]] std::uint64_t ulp_distance(T a, T b) noexcept {
  static_assert(std::is_trivially_copyable_v<T> && (sizeof(T) == 2 || sizeof(T) == 4 || sizeof(T) == 8));
  using bits = std::conditional_t<sizeof(T) == 2, std::uint16_t,
                                  std::conditional_t<sizeof(T) == 4, std::uint32_t, std::uint64_t>>;
  if (std::isnan(static_cast<double>(a)) || std::isnan(static_cast<double>(b))) {
    return std::numeric_limits<std::uint64_t>::max();
  }
  constexpr std::uint64_t sign = std::uint64_t{1} << (8 * sizeof(T) - 1);
  const std::uint64_t x = std::bit_cast<bits>(a);
  const std::uint64_t y = std::bit_cast<bits>(b);
  const std::uint64_t from = x & (sign - 1); // sizes, in units of the last place from zero
  const std::uint64_t to = y & (sign - 1);
  if ((x & sign) != (y & sign)) { return from + to; }
  return from < to ? to - from : from - to;
}

/// What a row of comparisons found.
struct difference {
  index count = 0;           // numbers compared
  index unequal = 0;         // of them, not equal: other bits; NaN is equal to nothing
  double max_abs = 0;        // largest |found - expected|; infinite where one is NaN
  std::uint64_t max_ulp = 0; // largest ulp_distance
  double largest = 0;        // largest finite |expected|
  index worst = -1;          // where max_abs is, by the position given to add(); -1: all are equal
  double expected = 0;       // there
  double found = 0;

  [[nodiscard]] bool same_bits() const noexcept { return unequal == 0; }

  template <class T>
  void add(index position, T wanted, T got) noexcept {
    const auto a = static_cast<double>(wanted);
    const auto b = static_cast<double>(got);
    ++count;
    if (std::isfinite(a) && std::abs(a) > largest) { largest = std::abs(a); }
    if (a == b) { return; }
    ++unequal;
    const std::uint64_t ulp = ulp_distance(wanted, got);
    if (ulp > max_ulp) { max_ulp = ulp; }
    const double size = std::isnan(a) || std::isnan(b) ? std::numeric_limits<double>::infinity() : std::abs(b - a);
    if (worst < 0 || size > max_abs) {
      max_abs = size;
      worst = position;
      expected = a;
      found = b;
    }
  }

  /// As if what the other found had been found here.
  void join(const difference& other) noexcept {
    count += other.count;
    unequal += other.unequal;
    max_ulp = max_ulp < other.max_ulp ? other.max_ulp : max_ulp;
    largest = largest < other.largest ? other.largest : largest;
    if (other.worst >= 0 && (worst < 0 || other.max_abs > max_abs)) {
      max_abs = other.max_abs;
      worst = other.worst;
      expected = other.expected;
      found = other.found;
    }
  }
};

/// A number as people read it: 9 digits, which tell two floats apart.
[[nodiscard]] inline std::string number_text(double value, int digits = 9) {
  char text[40];
  const int length = std::snprintf(text, sizeof text, "%.*g", digits, value);
  return {text, static_cast<std::size_t>(length)};
}

/// "2048 numbers, the same bits", or how far apart they are.
[[nodiscard]] inline std::string to_string(const difference& d) {
  const std::string count = std::to_string(d.count) + (d.count == 1 ? " number" : " numbers");
  if (d.same_bits()) { return count + ", the same bits"; }
  const bool nan = d.max_ulp == std::numeric_limits<std::uint64_t>::max();
  return count + ", " + std::to_string(d.unequal) + " not the same, by at most " + number_text(d.max_abs, 3) +
         (nan ? " (NaN)" : " (" + std::to_string(d.max_ulp) + " ulp)") + " of " + number_text(d.largest, 3);
}

MSG_NAMESPACE_END
