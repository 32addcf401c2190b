// Learning-rate policies at their boundaries, and what a growth does to them.
#include "support/catch.hpp"

#include <msg/learning_rate.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <numbers>
#include <vector>

namespace {

using msg::index;
using msg::rate_change;
using msg::rate_event;
using msg::rate_policy;

// A handful of roundings of numbers no larger than the peak.
constexpr double tolerance = 8 * 2.3e-16;

msg::learning_rate policy(rate_policy which) {
  return {.policy = which, .peak = 1, .min = 0.125, .warmup_steps = 10, .decay_fraction = 0.25};
}
rate_event growth(index step, rate_change change, index steps) { return {step, {change, steps}}; }

} // namespace

TEST_CASE("the rate warms up linearly from peak / warmup_steps to the peak", "[learning_rate]") {
  const auto which = GENERATE(rate_policy::cosine, rate_policy::linear, rate_policy::wsd, rate_policy::constant);
  for (index step = 0; step < 10; ++step) {
    CHECK(std::abs(msg::learning_rate_at(policy(which), step, 110) - double(step + 1) / 10) <= tolerance);
  }
  CHECK(msg::learning_rate_at(policy(which), 10, 110) == 1);
}

TEST_CASE("without warm-up the first step runs at the peak", "[learning_rate]") {
  const auto which = GENERATE(rate_policy::cosine, rate_policy::linear, rate_policy::wsd, rate_policy::constant);
  auto lr = policy(which);
  lr.warmup_steps = 0;
  CHECK(msg::learning_rate_at(lr, 0, 100) == 1);
}

TEST_CASE("cosine goes through its middle and ends at min", "[learning_rate]") {
  const auto lr = policy(rate_policy::cosine);
  CHECK(std::abs(msg::learning_rate_at(lr, 60, 110) - (1 + 0.125) / 2) <= tolerance);
  CHECK(std::abs(msg::learning_rate_at(lr, 35, 110) - (0.125 + 0.875 * (1 + std::cos(std::numbers::pi / 4)) / 2)) <=
        tolerance);
  CHECK(msg::learning_rate_at(lr, 109, 110) > 0.125);
  CHECK(std::abs(msg::learning_rate_at(lr, 110, 110) - 0.125) <= tolerance);
  CHECK(std::abs(msg::learning_rate_at(lr, 500, 110) - 0.125) <= tolerance);
}

TEST_CASE("linear falls by the same amount every step and ends at min", "[learning_rate]") {
  const auto lr = policy(rate_policy::linear);
  for (index step = 10; step <= 110; ++step) {
    CHECK(std::abs(msg::learning_rate_at(lr, step, 110) - (1 - 0.875 * double(step - 10) / 100)) <= tolerance);
  }
}

TEST_CASE("wsd stays at the peak and falls linearly over the last part of the run", "[learning_rate]") {
  const auto lr = policy(rate_policy::wsd);
  for (index step = 10; step <= 75; ++step) { CHECK(msg::learning_rate_at(lr, step, 100) == 1); }
  for (index step = 75; step <= 100; ++step) {
    CHECK(std::abs(msg::learning_rate_at(lr, step, 100) - (1 - 0.875 * double(step - 75) / 25)) <= tolerance);
  }
}

TEST_CASE("constant stays at the peak to the end", "[learning_rate]") {
  const auto lr = policy(rate_policy::constant);
  for (index step = 10; step <= 200; ++step) { CHECK(msg::learning_rate_at(lr, step, 100) == 1); }
}

TEST_CASE("a warm-up longer than the run never divides by zero", "[learning_rate]") {
  const auto which = GENERATE(rate_policy::cosine, rate_policy::linear, rate_policy::wsd, rate_policy::constant);
  for (index step = 0; step < 10; ++step) {
    CHECK(std::abs(msg::learning_rate_at(policy(which), step, 5) - double(step + 1) / 10) <= tolerance);
  }
}

TEST_CASE("a growth with none leaves the rate as it is", "[learning_rate]") {
  const auto which = GENERATE(rate_policy::cosine, rate_policy::linear, rate_policy::wsd, rate_policy::constant);
  const std::array events{growth(30, rate_change::none, 20)};
  for (index step = 0; step < 110; ++step) {
    CHECK(msg::learning_rate_at(policy(which), step, 110, events) == msg::learning_rate_at(policy(which), step, 110));
  }
}

TEST_CASE("the step of a rewind already runs at the peak, and the decay ends with the run", "[learning_rate]") {
  const auto which = GENERATE(rate_policy::cosine, rate_policy::linear);
  const auto lr = policy(which);
  const std::array events{growth(60, rate_change::rewind, 0)};
  CHECK(msg::learning_rate_at(lr, 59, 110, events) == msg::learning_rate_at(lr, 59, 110));
  CHECK(msg::learning_rate_at(lr, 60, 110, events) == 1);
  CHECK(std::abs(msg::learning_rate_at(lr, 85, 110, events) - 0.5625) <= tolerance);
  CHECK(std::abs(msg::learning_rate_at(lr, 110, 110, events) - 0.125) <= tolerance);
}

TEST_CASE("a rewind in the decay of wsd starts the decay anew at the peak", "[learning_rate]") {
  const std::array events{growth(90, rate_change::rewind, 0)};
  const auto lr = policy(rate_policy::wsd);
  CHECK(msg::learning_rate_at(lr, 89, 100, events) < 0.6);
  CHECK(msg::learning_rate_at(lr, 90, 100, events) == 1);
  CHECK(std::abs(msg::learning_rate_at(lr, 95, 100, events) - 0.5625) <= tolerance);
}

TEST_CASE("a rewind in the stable phase of wsd changes nothing", "[learning_rate]") {
  const std::array events{growth(40, rate_change::rewind, 0)};
  const auto lr = policy(rate_policy::wsd);
  for (index step = 0; step < 100; ++step) {
    CHECK(msg::learning_rate_at(lr, step, 100, events) == msg::learning_rate_at(lr, step, 100));
  }
}

TEST_CASE("a re-warm-up rises from near 0 back to the policy's own rate", "[learning_rate]") {
  const auto which = GENERATE(rate_policy::cosine, rate_policy::linear, rate_policy::wsd, rate_policy::constant);
  const auto lr = policy(which);
  const std::array events{growth(50, rate_change::rewarm, 5)};
  CHECK(msg::learning_rate_at(lr, 49, 110, events) == msg::learning_rate_at(lr, 49, 110));
  for (index k = 0; k < 5; ++k) {
    const double expected = double(k + 1) / 5 * msg::learning_rate_at(lr, 50 + k, 110);
    CHECK(std::abs(msg::learning_rate_at(lr, 50 + k, 110, events) - expected) <= tolerance);
  }
  for (index step = 54; step < 110; ++step) {
    CHECK(msg::learning_rate_at(lr, step, 110, events) == msg::learning_rate_at(lr, step, 110));
  }
}

TEST_CASE("a rewind with steps warms up to the new peak", "[learning_rate]") {
  const std::array events{growth(60, rate_change::rewind, 4)};
  const auto lr = policy(rate_policy::linear);
  CHECK(std::abs(msg::learning_rate_at(lr, 60, 110, events) - 0.25) <= tolerance);
  CHECK(std::abs(msg::learning_rate_at(lr, 63, 110, events) - (1 - 0.875 * 3 / 50)) <= tolerance);
}

TEST_CASE("a growth during the first warm-up doesn't jump to the peak", "[learning_rate]") {
  const std::array events{growth(3, rate_change::rewind, 0)};
  const auto lr = policy(rate_policy::linear);
  for (index step = 0; step < 110; ++step) {
    CHECK(msg::learning_rate_at(lr, step, 110, events) == msg::learning_rate_at(lr, step, 110));
  }
}

TEST_CASE("overlapping re-warm-ups take the lower rate", "[learning_rate]") {
  const std::array events{growth(50, rate_change::rewarm, 20), growth(55, rate_change::rewarm, 2)};
  const auto lr = policy(rate_policy::constant);
  CHECK(std::abs(msg::learning_rate_at(lr, 54, 110, events) - 5.0 / 20) <= tolerance);
  CHECK(std::abs(msg::learning_rate_at(lr, 55, 110, events) - 6.0 / 20) <= tolerance);
  CHECK(std::abs(msg::learning_rate_at(lr, 56, 110, events) - 7.0 / 20) <= tolerance);
}

TEST_CASE("the rate depends on past growths alone, in any order", "[learning_rate]") {
  const auto which = GENERATE(rate_policy::cosine, rate_policy::linear, rate_policy::wsd, rate_policy::constant);
  std::vector<rate_event> all{growth(20, rate_change::rewind, 0), growth(40, rate_change::rewarm, 10),
                              growth(60, rate_change::rewind, 5), growth(80, rate_change::none, 0)};
  for (index step = 0; step < 110; ++step) {
    std::vector<rate_event> past;
    for (const rate_event& event : all) {
      if (event.at_step <= step) { past.push_back(event); }
    }
    std::reverse(past.begin(), past.end());
    CHECK(msg::learning_rate_at(policy(which), step, 110, all) ==
          msg::learning_rate_at(policy(which), step, 110, past));
  }
}
