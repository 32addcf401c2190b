#include "support/catch.hpp"

#include <msg/random.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <set>
#include <string>
#include <vector>

namespace {

constexpr msg::random_stream source{.seed = 0x0123456789ABCDEF, .stream = 42};
constexpr std::uint64_t count = 1U << 18U;

[[nodiscard]] std::vector<double> normals(const msg::random_stream& from, std::uint64_t size) {
  std::vector<double> values;
  for (std::uint64_t i = 0; i < size; ++i) { values.push_back(msg::random_normal(from, i)); }
  return values;
}

/// Largest distance between the empirical distribution of `values` and `distribution`.
template <class Distribution>
[[nodiscard]] double kolmogorov_distance(std::vector<double> values, const Distribution& distribution) {
  std::sort(values.begin(), values.end());
  const double size = static_cast<double>(values.size());
  double worst = 0;
  for (std::size_t i = 0; i < values.size(); ++i) {
    const double expected = distribution(values[i]);
    worst = std::max({worst, expected - static_cast<double>(i) / size, static_cast<double>(i + 1) / size - expected});
  }
  return worst;
}

// The distance that fair numbers exceed once in 10^4 samples: sqrt(log(2/p) / 2) / sqrt(n).
[[nodiscard]] double kolmogorov_bound(std::uint64_t size) {
  return std::sqrt(std::log(2 / 1e-4) / 2 / static_cast<double>(size));
}

} // namespace

TEST_CASE("philox gives the known answers of Random123", "[random]") {
  struct known {
    msg::random_block counter;
    std::uint32_t key0, key1;
    msg::random_block answer;
  };
  // kat_vectors of the Random123 distribution (Salmon et al. 2011), philox4x32 with 10 rounds
  const known vectors[] = {
      {{{0, 0, 0, 0}}, 0, 0, {{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}}},
      {{{0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff}},
       0xffffffff,
       0xffffffff,
       {{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}}},
      {{{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}},
       0xa4093822,
       0x299f31d0,
       {{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}}},
  };
  for (const known& k : vectors) {
    const msg::random_block found = msg::philox(k.counter, k.key0, k.key1);
    for (int word = 0; word < 4; ++word) { CHECK(found.word[word] == k.answer.word[word]); }
  }
}

TEST_CASE("seed, stream and element fill key and counter without overlap", "[random]") {
  const std::uint64_t high = 0x85a308d3243f6a88;
  const std::uint64_t low = 0x0370734413198a2e;
  const msg::random_block found = msg::random_words({.seed = 0x299f31d0a4093822, .stream = low}, high);
  CHECK(found.word[0] == 0xd16cfe09);
  CHECK(found.word[3] == 0x24126ea1);
  CHECK(msg::random_bits({.seed = 0x299f31d0a4093822, .stream = low}, high) == 0xd16cfe09);
}

TEST_CASE("numbers are usable in constant expressions and do not repeat over streams and elements", "[random]") {
  static_assert(msg::random_bits({.seed = 0, .stream = 0}, 0) == 0x6627e8d5);
  static_assert(msg::random_uniform({.seed = 0, .stream = 0}, 0) < 1);
  std::set<std::uint64_t> seen;
  for (std::uint64_t stream = 0; stream < 64; ++stream) {
    for (std::uint64_t element = 0; element < 64; ++element) {
      const msg::random_block words = msg::random_words({.seed = 1, .stream = stream}, element);
      seen.insert((std::uint64_t{words.word[0]} << 32) | words.word[1]);
    }
  }
  CHECK(seen.size() == 64 * 64);
}

// A change of these bits changes every fresh weight of every run ever started: it must not happen.
TEST_CASE("normal numbers have frozen bits", "[random]") {
  const std::uint64_t expected[] = {0x3fd172728fc60eda, 0x3ff12c4f0f704dc8, 0x4001f7382cc11a90, 0x3f8c8df6d88aac67,
                                    0xbff8f4cd558c456c, 0x3fec1634acfe2403, 0x3f9c62d90e01594d, 0xbfa3e6720667e1a2};
  for (std::uint64_t i = 0; i < std::size(expected); ++i) {
    CAPTURE(i);
    CHECK(__builtin_bit_cast(std::uint64_t, msg::random_normal(source, i)) == expected[i]);
  }
  std::uint64_t hash = 0;
  for (std::uint64_t i = 0; i < 100000; ++i) {
    hash = hash * 0x5851F42D4C957F2D + __builtin_bit_cast(std::uint64_t, msg::random_normal(source, i));
  }
  CHECK(hash == 0x8602bc75ced653d0);
  CHECK(msg::random_uniform(source, 0) == 0x1.7771a6967a1aap-1);
}

TEST_CASE("the logarithm and the sine behind normal numbers are accurate", "[random]") {
  // two roundings of the polynomial's value, one of the sum, and the fits: 4 epsilon
  const long double bound = 4 * 0x1p-52L;
  for (std::uint64_t i = 0; i < 20000; ++i) {
    const std::uint64_t bits = (std::uint64_t{msg::random_bits(source, i)} << 31) | 1;
    const auto integer = static_cast<std::int64_t>(bits >> (i % 63));
    if (integer == 0) { continue; }
    const long double exact = std::log(static_cast<long double>(static_cast<double>(integer)) * 0x1p-63L);
    const double found = msg::detail::log_of_fraction(integer);
    CAPTURE(integer, found);
    REQUIRE(std::abs(static_cast<long double>(found) - exact) <= bound * std::abs(exact));

    const double w = msg::random_uniform(source, i);
    const long double sine = std::sin(1.57079632679489661923132169163975144L * static_cast<long double>(w));
    REQUIRE(std::abs(static_cast<long double>(msg::detail::sine_of_quarter(w)) - sine) <= bound * sine);
  }
  CHECK(msg::detail::sine_of_quarter(0) == 0);
  CHECK(msg::detail::sine_of_quarter(1) == 1);
}

TEST_CASE("normal tails reach beyond 9 deviations and stay finite", "[random]") {
  const double most = std::sqrt(-2 * msg::detail::log_of_fraction(1));
  CHECK(most == Approx(std::sqrt(2 * 63 * std::log(2.0))));
  CHECK(most > 9);
  // the largest first word rounds to u = 1: a radius of 0, not of a negative logarithm
  CHECK(msg::detail::log_of_fraction(0x7FFFFFFFFFFFFFFF) == 0);
}

TEST_CASE("normal numbers have the moments of the normal distribution", "[random]") {
  const auto stream = GENERATE(std::uint64_t{0}, std::uint64_t{1}, msg::stream_of("wte.weight"));
  CAPTURE(stream);
  double moment[5] = {0, 0, 0, 0, 0};
  for (const double z : normals({.seed = 5, .stream = stream}, count)) {
    double power = 1;
    for (int k = 1; k <= 4; ++k) {
      power *= z;
      moment[k] += power;
    }
  }
  const double n = static_cast<double>(count);
  // four deviations of each mean: var(z) = 1, var(z^2) = 2, var(z^3) = 15, var(z^4) = 96
  CHECK(std::abs(moment[1] / n) < 4 * std::sqrt(1 / n));
  CHECK(std::abs(moment[2] / n - 1) < 4 * std::sqrt(2 / n));
  CHECK(std::abs(moment[3] / n) < 4 * std::sqrt(15 / n));
  CHECK(std::abs(moment[4] / n - 3) < 4 * std::sqrt(96 / n));
}

TEST_CASE("normal numbers follow the normal distribution function", "[random]") {
  const std::vector<double> values = normals(source, count);
  const auto phi = [](double z) { return std::erfc(-z / std::sqrt(2.0)) / 2; };
  CHECK(kolmogorov_distance(values, phi) < kolmogorov_bound(count));
  for (const double edge : {1.0, 2.0, 3.0, 4.0}) {
    CAPTURE(edge);
    const double p = 2 * phi(-edge);
    const double n = static_cast<double>(count);
    const auto beyond = std::count_if(values.begin(), values.end(), [&](double z) { return std::abs(z) > edge; });
    CHECK(std::abs(static_cast<double>(beyond) - n * p) < 4 * std::sqrt(n * p * (1 - p)));
  }
}

TEST_CASE("uniform numbers are uniform from 0 to below 1", "[random]") {
  std::vector<double> values;
  for (std::uint64_t i = 0; i < count; ++i) { values.push_back(msg::random_uniform(source, i)); }
  CHECK(*std::min_element(values.begin(), values.end()) >= 0);
  CHECK(*std::max_element(values.begin(), values.end()) < 1);
  CHECK(kolmogorov_distance(values, [](double u) { return u; }) < kolmogorov_bound(count));
}

TEST_CASE("neighbouring elements, streams and seeds are uncorrelated", "[random]") {
  double element = 0;
  double stream = 0;
  double seed = 0;
  for (std::uint64_t i = 0; i < count; ++i) {
    const double z = msg::random_normal({.seed = 3, .stream = 8}, i);
    element += z * msg::random_normal({.seed = 3, .stream = 8}, i + 1);
    stream += z * msg::random_normal({.seed = 3, .stream = 9}, i);
    seed += z * msg::random_normal({.seed = 4, .stream = 8}, i);
  }
  const double bound = 4 * std::sqrt(static_cast<double>(count)); // a product of independent normals has variance 1
  CHECK(std::abs(element) < bound);
  CHECK(std::abs(stream) < bound);
  CHECK(std::abs(seed) < bound);
}

TEST_CASE("the stream of a name is its FNV-1a hash", "[random]") {
  // test vectors of the authors (Fowler, Noll, Vo), 64 bits
  static_assert(msg::stream_of("") == 0xcbf29ce484222325);
  CHECK(msg::stream_of("a") == 0xaf63dc4c8601ec8c);
  CHECK(msg::stream_of("foobar") == 0x85944171f73967e8);
  CHECK(msg::stream_of("h.0.attn.c_attn.weight") != msg::stream_of("h.1.attn.c_attn.weight"));
}
