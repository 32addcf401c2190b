// Counter-based random numbers: a pure function of (seed, stream, element), the same bits on every machine.
#pragma once

#include <msg/config.hpp>

#include <cmath>
#include <cstdint>
#include <string_view>

MSG_NAMESPACE_BEGIN

/// Where numbers come from: one seed for a run, one stream for each thing that needs numbers of its own.
struct random_stream {
  std::uint64_t seed = 0;
  std::uint64_t stream = 0;
};

/// Four 32-bit words.
struct random_block {
  std::uint32_t word[4] = {0, 0, 0, 0};
};

/// The block cipher behind every number: Philox4x32-10.
/// Source: Salmon et al. 2011, Parallel random numbers: as easy as 1, 2, 3, SC'11.
[[nodiscard]] MSG_HOST_DEVICE constexpr random_block philox(random_block counter, std::uint32_t key0,
                                                            std::uint32_t key1) noexcept {
  for (int round = 0; round < 10; ++round) {
    const std::uint64_t a = std::uint64_t{0xD2511F53} * counter.word[0];
    const std::uint64_t b = std::uint64_t{0xCD9E8D57} * counter.word[2];
    counter = {{static_cast<std::uint32_t>(b >> 32) ^ counter.word[1] ^ key0, static_cast<std::uint32_t>(b),
                static_cast<std::uint32_t>(a >> 32) ^ counter.word[3] ^ key1, static_cast<std::uint32_t>(a)}};
    key0 += 0x9E3779B9;
    key1 += 0xBB67AE85;
  }
  return counter;
}

/// The 128 bits of one element. The functions below all read these, so one element of a stream gives one number of one
/// kind; take another stream for an independent number of another kind.
[[nodiscard]] MSG_HOST_DEVICE constexpr random_block random_words(const random_stream& source,
                                                                  std::uint64_t element) noexcept {
  const random_block counter = {{static_cast<std::uint32_t>(element), static_cast<std::uint32_t>(element >> 32),
                                 static_cast<std::uint32_t>(source.stream),
                                 static_cast<std::uint32_t>(source.stream >> 32)}};
  return philox(counter, static_cast<std::uint32_t>(source.seed), static_cast<std::uint32_t>(source.seed >> 32));
}

/// 32 random bits.
[[nodiscard]] MSG_HOST_DEVICE constexpr std::uint32_t random_bits(const random_stream& source,
                                                                  std::uint64_t element) noexcept {
  return random_words(source, element).word[0];
}

/// Uniform in [0, 1), a multiple of 2^-53.
[[nodiscard]] MSG_HOST_DEVICE constexpr double random_uniform(const random_stream& source,
                                                              std::uint64_t element) noexcept {
  const random_block bits = random_words(source, element);
  const std::uint64_t joined = (std::uint64_t{bits.word[0]} << 32) | bits.word[1];
  return static_cast<double>(joined >> 11) * 0x1p-53;
}

namespace detail {

// Both polynomials are minimax fits of the relative error (Remez), evaluated by fma alone, so that neither the compiler
// nor the machine has a choice of rounding.

/// log(integer * 2^-63) for 0 < integer < 2^63, to 1e-15 of its value once `integer` is rounded to double.
[[nodiscard]] MSG_HOST_DEVICE inline double log_of_fraction(std::int64_t integer) noexcept {
  const double value = static_cast<double>(integer);
  const std::uint64_t bits = __builtin_bit_cast(std::uint64_t, value);
  // value = 2^exponent * (1 + f) with 1 + f in [sqrt(1/2), sqrt(2))
  const std::uint64_t root_half = 0x3FE6A09E667F3BCD;
  const std::int64_t exponent = static_cast<std::int64_t>((bits - root_half) >> 52);
  const double f = __builtin_bit_cast(double, bits - (static_cast<std::uint64_t>(exponent) << 52)) - 1.0;
  constexpr double c[] = {1.0,
                          -0.50000000000000003749,
                          0.33333333333333559384,
                          -0.24999999999997705836,
                          0.19999999999923408482,
                          -0.16666666667044321072,
                          0.1428571429592281318,
                          -0.12499999975874821641,
                          0.11111110414155361238,
                          -0.10000000509319667653,
                          0.09090936420641843963,
                          -0.083333456281482986907,
                          0.076916644474345161478,
                          -0.071419573950449026908,
                          0.06675648456775690874,
                          -0.062706060689354107293,
                          0.05815210967459127484,
                          -0.053205047042321453543,
                          0.054198268009985791414,
                          -0.062940452487355841182,
                          0.057071060298670085672,
                          -0.024238233997223489786};
  const double square = f * f; // even and odd powers apart: two chains of half the length
  double even = c[20];
  double odd = c[21];
  for (int i = 18; i >= 0; i -= 2) {
    even = std::fma(even, square, c[i]);
    odd = std::fma(odd, square, c[i + 1]);
  }
  return std::fma(static_cast<double>(exponent - 63), 0.69314718055994530942, f * std::fma(odd, f, even));
}

/// sin(pi/2 * w) for w in [0, 1]; relative error below 4e-16. Exactly 0 at 0 and 1 at 1.
[[nodiscard]] MSG_HOST_DEVICE inline double sine_of_quarter(double w) noexcept {
  constexpr double c[] = {1.5707963267948966188,     -0.64596409750624619109,    0.079692626246165435634,
                          -0.0046817541353026426095, 0.0001604411847068220602,   -3.5988430072086252833e-6,
                          5.6921348727088370971e-8,  -6.6843217199601501977e-10, 5.8706109643396161336e-12};
  const double square = w * w;
  double p = c[8];
  for (int i = 7; i >= 0; --i) { p = std::fma(p, square, c[i]); }
  return w * p;
}

} // namespace detail

/// Standard normal: sign * sqrt(-2 log u) * sin(pi/2 w) with u of 63 bits (so the tails reach 9.3), w of 52 bits and
/// one sign bit. Integer operations, +, -, *, fma and sqrt alone, each correctly rounded: the same bits everywhere,
/// whatever the contraction flags (the products below feed no addition). Source: Box and Muller 1958, with the angle
/// folded into one quarter turn and a sign.
[[nodiscard]] MSG_HOST_DEVICE inline double random_normal(const random_stream& source, std::uint64_t element) noexcept {
  const random_block bits = random_words(source, element);
  const std::uint64_t first = (std::uint64_t{bits.word[0]} << 32) | bits.word[1];
  const std::uint64_t second = (std::uint64_t{bits.word[2]} << 32) | bits.word[3];
  const double radius = std::sqrt(-2.0 * detail::log_of_fraction(static_cast<std::int64_t>((first >> 1) | 1)));
  const double w = static_cast<double>(((second >> 12) << 1) | 1) * 0x1p-53; // odd multiples: never 0, never 1
  const double size = radius * detail::sine_of_quarter(w);
  return (second & 1) != 0 ? -size : size;
}

/// The stream of a name (a parameter's, say): FNV-1a, 64 bits.
[[nodiscard]] constexpr std::uint64_t stream_of(std::string_view name) noexcept {
  std::uint64_t hash = 0xCBF29CE484222325;
  for (const char c : name) {
    hash ^= static_cast<std::uint8_t>(c);
    hash *= 0x100000001B3;
  }
  return hash;
}

MSG_NAMESPACE_END
