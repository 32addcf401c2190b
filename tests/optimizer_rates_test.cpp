// Learning rates by birth: entries that a growth brought learn faster or slower than those of before.
#include "support/catch.hpp"
#include "support/optimizer_state.hpp"
#include "support/thrown.hpp"

#include <msg/optimizer.hpp>

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

using namespace testing;

namespace {

// Rows 0 to 2 are old, rows 3 and 4 came at step 10; columns 0 to 39 are old, 40 to 59 came at 10, 60 to 69 at 20.
const shape extents{5, 70};
constexpr index now = 2000; // so old that the bias corrections of all births are 1 in float

parameter_ages three_births() {
  parameter_ages ages{{std::vector<index>(5, 0), std::vector<index>(70, 0)}, {}, extents};
  std::fill(ages.birth[0].begin() + 3, ages.birth[0].end(), 10);
  std::fill(ages.birth[1].begin() + 40, ages.birth[1].end(), 10);
  std::fill(ages.birth[1].begin() + 60, ages.birth[1].end(), 20);
  return ages;
}

double factor(const std::vector<msg::birth_rate>& rates, index birth) {
  for (const auto& r : rates) {
    if (r.birth == birth) { return r.factor; }
  }
  return 1;
}

const std::vector<msg::birth_rate> faster_then_slower{{10, 3}, {20, 0.25}};

} // namespace

TEST_CASE("adamw moves an entry by the factor of its youngest index, old or not", "[optimizer][rates]") {
  const index step = GENERATE(index{25}, now);
  state<double> with{size_of(extents)};
  const state<double> before = with;
  const parameter_ages ages = three_births();
  const msg::adamw options{.weight_decay = 0.1};
  const msg::update_step at{.lr = 0.01, .step = step, .rates = faster_then_slower};
  msg::update(options, at, ages, with.w, with.g, with.m, with.v);
  // Magnitudes up to 3 * 0.01 / (1 - 0.9^6) * 1 / 1e-2: a hundred roundings of a number below 10.
  constexpr double tolerance = 100 * 10 * 2.3e-16;
  for (std::size_t i = 0; i < before.w.size(); ++i) {
    const auto [birth, mask] = of_entry(ages, extents, i);
    const double m = 0.9 * before.m[i] + 0.1 * before.g[i];
    const double v = 0.95 * before.v[i] + 0.05 * before.g[i] * before.g[i];
    const double age = double(step - birth + 1);
    const double m_hat = m / (1 - std::pow(0.9, age));
    const double v_hat = v / (1 - std::pow(0.95, age));
    const double moved = factor(faster_then_slower, birth) * 0.01 * m_hat / (std::sqrt(v_hat) + 1e-8);
    CAPTURE(i, birth, mask);
    CHECK(std::abs(with.w[i] - (before.w[i] - moved - 0.01 * 0.1 * before.w[i])) <= tolerance);
  }
}

TEST_CASE("sgd and lion know rates by birth too", "[optimizer][rates]") {
  const parameter_ages ages = three_births();
  const msg::update_step at{.lr = 0.01, .step = now, .rates = faster_then_slower};
  state<double> descended{size_of(extents)};
  state<double> signed_by = descended;
  const state<double> before = descended;
  msg::update(msg::sgd{.momentum = 0.5}, at, ages, descended.w, descended.g, descended.m);
  msg::update(msg::lion{.weight_decay = 0}, at, ages, signed_by.w, signed_by.g, signed_by.m);
  constexpr double tolerance = 10 * 2 * 2.3e-16; // a few roundings of numbers below 2
  for (std::size_t i = 0; i < before.w.size(); ++i) {
    const double lr = 0.01 * factor(faster_then_slower, of_entry(ages, extents, i).first);
    CHECK(std::abs(descended.w[i] - (before.w[i] - lr * (0.5 * before.m[i] + before.g[i]))) <= tolerance);
    const double u = 0.9 * before.m[i] + (1 - 0.9) * before.g[i];
    CHECK(std::abs(signed_by.w[i] - (before.w[i] - (u > 0 ? lr : -lr))) <= tolerance);
  }
}

TEST_CASE("a rate of 0 leaves fresh entries where they are and lets their moments live", "[optimizer][rates]") {
  const parameter_ages ages = three_births();
  const std::vector<msg::birth_rate> still{{10, 0}, {20, 0}};
  state<float> with{size_of(extents)};
  const state<float> before = with;
  msg::update(msg::adamw{.weight_decay = 0}, {.lr = 0.01, .step = 20, .rates = still}, ages, with.w, with.g, with.m,
              with.v);
  for (std::size_t i = 0; i < before.w.size(); ++i) {
    const bool fresh = of_entry(ages, extents, i).first > 0;
    CHECK((with.w[i] == before.w[i]) == fresh);
    CHECK(with.m[i] != before.m[i]);
  }
}

TEST_CASE("rates of 1, and rates of births that nothing has, change no bit", "[optimizer][rates]") {
  const parameter_ages ages = three_births();
  const std::vector<msg::birth_rate> given{{10, 1}, {500, 7}};
  state<float> plain{size_of(extents)};
  state<float> rated = plain;
  for (index step = 20; step < 23; ++step) {
    msg::update(msg::adamw{}, {.lr = 0.01, .step = step}, ages, plain.w, plain.g, plain.m, plain.v);
    msg::update(msg::adamw{}, {.lr = 0.01, .step = step, .rates = given}, ages, rated.w, rated.g, rated.m, rated.v);
  }
  CHECK(plain == rated);
}

TEST_CASE("old entries keep their bits whatever the rate of fresh ones", "[optimizer][rates]") {
  const parameter_ages ages = three_births();
  state<float> plain{size_of(extents)};
  state<float> rated = plain;
  msg::update(msg::adamw{}, {.lr = 0.01, .step = 30}, ages, plain.w, plain.g, plain.m, plain.v);
  msg::update(msg::adamw{}, {.lr = 0.01, .step = 30, .rates = faster_then_slower}, ages, rated.w, rated.g, rated.m,
              rated.v);
  for (std::size_t i = 0; i < plain.w.size(); ++i) {
    CHECK((plain.w[i] == rated.w[i]) == (of_entry(ages, extents, i).first == 0));
  }
}

TEST_CASE("rates below 0 or without a number are refused", "[optimizer][rates]") {
  const double bad = GENERATE(-0.5, std::numeric_limits<double>::quiet_NaN(), std::numeric_limits<double>::infinity());
  const std::vector<msg::birth_rate> given{{10, bad}};
  state<float> s{4};
  const state<float> before = s;
  const auto findings =
      findings_of([&] { msg::update(msg::adamw{}, {.lr = 0.01, .step = 30, .rates = given}, {}, s.w, s.g, s.m, s.v); });
  CHECK(codes_of(findings) == std::vector{msg::errc::bad_argument});
  CHECK(s == before);
}
