// A two-byte element as trainers use it: bfloat16 storage, rounded to nearest even; no header of CUDA's needed.
#pragma once

#include <bit>
#include <cstdint>
#include <limits>

namespace testing {

class bfloat16 {
public:
  bfloat16() = default;
  explicit bfloat16(float x) {
    const auto bits = std::bit_cast<std::uint32_t>(x);
    const bool nan = (bits & 0x7FFFFFFFU) > 0x7F800000U;
    bits_ = static_cast<std::uint16_t>(nan ? 0x7FFF : (bits + 0x7FFFU + (bits >> 16 & 1U)) >> 16);
  }
  explicit bfloat16(double x) : bfloat16(static_cast<float>(x)) {}
  explicit bfloat16(int x) : bfloat16(static_cast<float>(x)) {}
  operator float() const { return std::bit_cast<float>(std::uint32_t{bits_} << 16); }
  [[nodiscard]] std::uint16_t bits() const { return bits_; }

private:
  std::uint16_t bits_ = 0;
};

} // namespace testing
