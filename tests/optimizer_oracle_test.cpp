// AdamW, SGD and Lion against plain long-double loops, for every pattern of ages and masks.
#include "support/catch.hpp"
#include "support/optimizer_state.hpp"

#include <msg/optimizer.hpp>

#include <cmath>
#include <cstddef>
#include <limits>

using namespace testing;

TEMPLATE_TEST_CASE("adamw matches a plain long-double loop for every pattern of ages", "[optimizer]", float, double) {
  using T = TestType;
  const auto which = GENERATE(range(std::size_t{0}, shapes.size()));
  const auto seed = GENERATE(range(1U, 9U));
  CAPTURE(which, seed);
  const shape& extents = shapes[which];
  const msg::adamw options{.beta1 = 0.9, .beta2 = 0.99, .eps = 1e-6, .weight_decay = 0.1};
  const msg::update_step now{.lr = 0.003, .step = 20, .gradient_scale = 0.7};
  const parameter_ages ages = some_ages(extents, seed, now.step);
  const state<T> before{size_of(extents), seed};
  state<T> after = before;
  msg::update(options, now, ages, after.w, after.g, after.m, after.v);

  const long double epsilon = std::numeric_limits<T>::epsilon();
  bool good = true;
  for (std::size_t i = 0; i < before.w.size(); ++i) {
    const auto [birth, mask] = of_entry(ages, extents, i);
    const auto t = static_cast<long double>(now.step - birth + 1);
    const long double g = static_cast<long double>(before.g[i]) * 0.7L;
    const long double m = 0.9L * before.m[i] + 0.1L * g;
    const long double v = 0.99L * before.v[i] + 0.01L * g * g;
    const long double corrected = v / (1 - std::pow(0.99L, t));
    const long double scale = 0.003L / (1 - std::pow(0.9L, t)) / (std::sqrt(corrected) + 1e-6L);
    const long double decay = 0.003L * 0.1L * mask * before.w[i];
    const long double w = before.w[i] - scale * m - decay;
    // Roundings: options to T, each product and sum. m: 4 of its terms (which may cancel), v: 7, quotient: 4 of m,
    // half of v's, and 8 of its own factors; decay: 4; the last subtraction: 1 of w. Second order: one more of each.
    const long double terms = 0.9L * std::abs(before.m[i]) + 0.1L * std::abs(g);
    good = good && std::abs(after.m[i] - m) <= 5 * epsilon * terms && std::abs(after.v[i] - v) <= 8 * epsilon * v &&
           std::abs(after.w[i] - w) <= epsilon * (std::abs(w) + 17 * scale * terms + 5 * std::abs(decay));
  }
  CHECK(good);
  CHECK(after.g == before.g);
}

TEMPLATE_TEST_CASE("sgd matches a plain long-double loop", "[optimizer]", float, double) {
  using T = TestType;
  const auto which = GENERATE(range(std::size_t{0}, shapes.size()));
  const bool nesterov = GENERATE(false, true);
  CAPTURE(which, nesterov);
  const shape& extents = shapes[which];
  const msg::update_step now{.lr = 0.03, .step = 20, .gradient_scale = 0.7};
  const parameter_ages ages = some_ages(extents, 3, now.step);
  const state<T> before{size_of(extents)};
  state<T> after = before;
  msg::update(msg::sgd{.momentum = 0.8, .nesterov = nesterov, .weight_decay = 0.1}, now, ages, after.w, after.g,
              after.m);

  const long double epsilon = std::numeric_limits<T>::epsilon();
  bool good = true;
  for (std::size_t i = 0; i < before.w.size(); ++i) {
    const long double g = static_cast<long double>(before.g[i]) * 0.7L;
    const long double m = 0.8L * before.m[i] + g;
    const long double direction = nesterov ? g + 0.8L * m : m;
    const long double decay = 0.03L * 0.1L * of_entry(ages, extents, i).second * before.w[i];
    const long double w = before.w[i] - 0.03L * direction - decay;
    const long double terms = 0.8L * std::abs(before.m[i]) + 2 * std::abs(g); // no cancellation: of either direction
    good = good && std::abs(after.m[i] - m) <= 5 * epsilon * terms &&
           std::abs(after.w[i] - w) <= epsilon * (std::abs(w) + 10 * 0.03L * terms + 5 * std::abs(decay));
  }
  CHECK(good);
}

TEMPLATE_TEST_CASE("lion matches a plain long-double loop", "[optimizer]", float, double) {
  using T = TestType;
  const auto which = GENERATE(range(std::size_t{0}, shapes.size()));
  CAPTURE(which);
  const shape& extents = shapes[which];
  const msg::update_step now{.lr = 0.03, .step = 20, .gradient_scale = 0.7};
  const parameter_ages ages = some_ages(extents, 3, now.step);
  const state<T> before{size_of(extents)};
  state<T> after = before;
  msg::update(msg::lion{.beta1 = 0.9, .beta2 = 0.99, .weight_decay = 0.1}, now, ages, after.w, after.g, after.m);

  const long double epsilon = std::numeric_limits<T>::epsilon();
  bool good = true;
  for (std::size_t i = 0; i < before.w.size(); ++i) {
    const long double g = static_cast<long double>(before.g[i]) * 0.7L;
    const long double u = 0.9L * before.m[i] + 0.1L * g;
    const long double m = 0.99L * before.m[i] + 0.01L * g;
    const long double terms = 0.9L * std::abs(before.m[i]) + 0.1L * std::abs(g);
    if (std::abs(u) <= 5 * epsilon * terms) { continue; } // the sign is within rounding
    const long double decay = 0.03L * 0.1L * of_entry(ages, extents, i).second * before.w[i];
    const long double w = before.w[i] - (u > 0 ? 0.03L : -0.03L) - decay;
    good = good && std::abs(after.m[i] - m) <= 5 * epsilon * (std::abs(before.m[i]) + std::abs(g)) &&
           std::abs(after.w[i] - w) <= epsilon * (std::abs(w) + 3 * 0.03L + 5 * std::abs(decay));
  }
  CHECK(good);
}
