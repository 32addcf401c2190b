// The first updates of fresh entries with and without ages (method.md section 10, test 7), in units of the rate.
#include "support/catch.hpp"

#include <msg/optimizer.hpp>

#include <algorithm>
#include <cmath>
#include <random>
#include <vector>

namespace {

using msg::index;

constexpr index grown_at = 100'000; // so late that the corrections of an old entry have come to 1

// Ages of n entries born at grown_at; or none, the stale counter of an optimizer that knows nothing of growth.
msg::parameter_ages born(std::size_t n, bool with_ages) {
  return with_ages ? msg::parameter_ages{{std::vector<index>(n, grown_at)}, {}, {}} : msg::parameter_ages{};
}

struct peak {
  double value = 0;
  index step = 0; // steps since the growth, from 1
};

// Largest |update| / lr of one fresh entry over `steps` steps of gradients gradient(1), gradient(2), ...
template <class Gradient>
peak largest_update(const msg::adamw& options, bool with_ages, index steps, const Gradient& gradient) {
  std::vector<double> w{0};
  std::vector<double> m{0};
  std::vector<double> v{0};
  const auto ages = born(1, with_ages);
  peak result;
  for (index t = 1; t <= steps; ++t) {
    w = {0};
    msg::update(options, {.lr = 1, .step = grown_at + t - 1}, ages, w, std::vector<double>{gradient(t)}, m, v);
    if (std::abs(w[0]) > result.value) { result = {std::abs(w[0]), t}; }
  }
  return result;
}

// Adam with eps and decay out of the way: ratios of moments alone.
msg::adamw pure(double beta1, double beta2) {
  return {.beta1 = beta1, .beta2 = beta2, .eps = 1e-30, .weight_decay = 0};
}

constexpr double rounding = 1e-12; // thousands of steps of a few roundings of 1.1e-16

} // namespace

TEST_CASE("with ages a constant gradient never moves a fresh entry by more than the rate", "[optimizer][dynamics]") {
  const double beta2 = GENERATE(0.999, 0.98, 0.95);
  const double gradient = GENERATE(1e-6, 3.0);
  const peak p = largest_update(pure(0.9, beta2), true, 3000, [&](index) { return gradient; });
  CHECK(p.value <= 1 + rounding);
  CHECK(p.value >= 1 - rounding); // and by no less: the correction is exact
}

TEST_CASE("a stale counter moves a fresh entry by the published peaks", "[optimizer][dynamics]") {
  // closed form (1 - b1^t) / sqrt(1 - b2^t); 6.57 at t = 12, 1.55 and 1.10 are those of operators.md section 5
  struct row {
    double beta2, peak;
  };
  const row published = GENERATE(row{0.999, 6.57}, row{0.98, 1.55}, row{0.95, 1.10});
  const peak p = largest_update(pure(0.9, published.beta2), false, 3000, [](index) { return 0.25; });
  double expected = 0;
  for (int t = 1; t <= 3000; ++t) {
    expected = std::max(expected, (1 - std::pow(0.9, t)) / std::sqrt(1 - std::pow(published.beta2, t)));
  }
  CHECK(std::abs(p.value - expected) <= rounding * expected);
  CHECK(std::abs(p.value - published.peak) <= 0.005);
  if (published.beta2 == 0.999) { CHECK(p.step == 12); }
}

TEST_CASE("with ages a gradient that grows like c^k moves a fresh entry by at most sqrt(2k+1)",
          "[optimizer][dynamics]") {
  const double beta2 = GENERATE(0.999, 0.95);
  const int k = GENERATE(1, 2, 3);
  const index ramp = GENERATE(50, 1000, 5000);
  const auto gradient = [&](index t) { return std::pow(static_cast<double>(std::min(t, ramp)) / double(ramp), k); };
  const peak aged = largest_update(pure(0.9, beta2), true, 2 * ramp, gradient);
  CHECK(aged.value <= std::sqrt(2 * k + 1) + rounding);
  const peak stale = largest_update(pure(0.9, beta2), false, 2 * ramp, gradient);
  CHECK(stale.value > aged.value);
}

TEST_CASE("the bound of a growing gradient is nearly reached", "[optimizer][dynamics]") {
  // long after m has caught up (10 steps), long before v forgets (1000 steps)
  const int k = GENERATE(1, 2, 3);
  const auto gradient = [&](index t) { return std::pow(static_cast<double>(t), k); };
  CHECK(largest_update(pure(0.9, 0.99999), true, 3000, gradient).value >= 0.97 * std::sqrt(2 * k + 1));
}

TEST_CASE("under noise ages keep the RMS of the first updates at the rate, a stale counter doesn't",
          "[optimizer][dynamics]") {
  // Gradients N(0, 1): the steady RMS is sqrt((1-b1)/(1+b1)); the first stale update is (1-b1)/sqrt(1-b2) of a sign,
  // 13.8 and 1.95 times that; the first with ages is the sign itself, and later ones are smaller.
  const double beta2 = GENERATE(0.999, 0.95);
  constexpr std::size_t n = 4096;
  const double steady = std::sqrt(0.1 / 1.9);
  for (const bool with_ages : {true, false}) {
    std::mt19937 bits{7};
    std::normal_distribution<double> normal;
    std::vector<double> w(n), m(n), v(n), g(n);
    const auto ages = born(n, with_ages);
    double largest = 0;
    for (index t = 0; t < 50; ++t) {
      std::fill(w.begin(), w.end(), 0.0);
      for (double& x : g) { x = normal(bits); }
      msg::update(pure(0.9, beta2), {.lr = 1, .step = grown_at + t}, ages, w, g, m, v);
      largest = std::max(largest, std::sqrt(msg::sum_of_squares(w) / n));
    }
    if (with_ages) {
      CHECK(std::abs(largest - 1) <= rounding);
    } else {
      CHECK(largest >= 0.1 / std::sqrt(1 - beta2) - rounding);
      CHECK(std::abs(largest / steady - (beta2 == 0.999 ? 13.8 : 1.95)) <= 0.1);
    }
  }
}

TEST_CASE("old and fresh entries of one parameter each follow their own clock", "[optimizer][dynamics]") {
  // 3 old entries in a steady state, 2 fresh: with a constant gradient all move by the rate, step after step
  std::vector<double> w(5, 0);
  const std::vector<double> g(5, 0.5);
  std::vector<double> m{0.5, 0.5, 0.5, 0, 0};
  std::vector<double> v{0.25, 0.25, 0.25, 0, 0};
  const msg::parameter_ages ages{{{0, 0, 0, grown_at, grown_at}}, {}, {}};
  for (index t = 1; t <= 30; ++t) {
    msg::update(pure(0.9, 0.999), {.lr = 1, .step = grown_at + t - 1}, ages, w, g, m, v);
    for (const double x : w) { CHECK(std::abs(x + double(t)) <= rounding * double(t)); }
  }
}
