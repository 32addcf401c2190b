// Step times fitted to measurements: exact machines are found, noise doesn't carry predictions away.
#include "support/catch.hpp"
#include "support/thrown.hpp"

#include <msg/schemas/gpt2.hpp>
#include <msg/step_time.hpp>

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <random>
#include <string>
#include <vector>

namespace {

using msg::index;

constexpr index tokens = 512;

msg::schema_cost cost() {
  return msg::schema_cost{
      msg::gpt2({.vocab = 256, .positions = 64, .hidden = 64, .ffn = 256, .heads = 4, .head_dim = 16, .layers = 2}),
      {.tokens = 64}};
}

msg::named_sizes sizes(index hidden, index ffn, index heads, index layers) {
  return {{"hidden", hidden}, {"ffn", ffn}, {"heads", heads}, {"layers", layers}};
}

// What a trainer would measure: the ends, and some between.
const std::vector<msg::named_sizes> measured{sizes(64, 128, 2, 2),  sizes(64, 512, 2, 2),  sizes(64, 512, 4, 4),
                                             sizes(128, 512, 4, 4), sizes(128, 512, 8, 8), sizes(128, 1024, 8, 8)};
const std::vector<msg::named_sizes> unseen{sizes(96, 384, 4, 3), sizes(128, 256, 4, 6), sizes(64, 1024, 8, 2),
                                           sizes(112, 768, 6, 5), sizes(96, 512, 8, 8)};

// A machine written out by hand: narrow products run slower, every element written costs, so do optimizer and start.
struct machine {
  double flops = 0, ffn = 0, attention = 0, written = 0, parameters = 0, fixed = 0;
  double operator()(const msg::model_cost& c) const {
    double gemm = 0;
    for (const auto& g : c.gemm) { gemm += g.flops_per_token * (g.axes == "ffn*hidden" ? ffn : 1); }
    return flops * tokens * (gemm + c.attention * attention) + written * tokens * c.written +
           parameters * double(c.parameters) + fixed;
  }
};
const machine plain{.flops = 2e-8, .ffn = 1, .attention = 1};
const machine uneven{.flops = 2e-8, .ffn = 0.6, .attention = 3, .written = 4e-6, .parameters = 5e-6, .fixed = 1.5};

std::vector<msg::step_timing> timings(const machine& truth, double noise, unsigned seed) {
  std::mt19937 bits{seed};
  std::uniform_real_distribution<double> uniform{-noise, noise};
  std::vector<msg::step_timing> result;
  for (const auto& s : measured) { result.push_back({s, truth(cost()(s)) * (1 + uniform(bits))}); }
  return result;
}

double worst_off(const msg::step_time& fitted, const machine& truth) {
  double worst = 0;
  for (const auto& s : unseen) {
    const auto c = cost()(s);
    worst = std::max(worst, std::abs(msg::milliseconds_of(fitted, c) / truth(c) - 1));
  }
  return worst;
}

} // namespace

TEST_CASE("a machine of FLOPs alone is found exactly", "[step_time]") {
  const auto fitted = msg::calibrate(cost(), timings(plain, 0, 1), tokens);
  CHECK(worst_off(fitted, plain) < 1e-8); // half the digits of double
  CHECK(fitted.error < 1e-8);
  REQUIRE(fitted.coefficients.size() == 1);
  CHECK(fitted.coefficients[0].first == "flops");
}

TEST_CASE("one measurement gives FLOPs, two give a fixed part as well, and neither knows its error", "[step_time]") {
  machine truth = plain;
  truth.fixed = 4;
  const auto all = timings(truth, 0, 1);
  const auto one = msg::calibrate(cost(), std::vector{all[3]}, tokens);
  CHECK(std::abs(msg::milliseconds_of(one, cost()(measured[3])) / all[3].milliseconds - 1) < 1e-8);
  CHECK(std::isinf(one.error));
  const auto two = msg::calibrate(cost(), std::vector{all.front(), all.back()}, tokens);
  CHECK(worst_off(two, truth) < 1e-8);
  CHECK(std::isinf(two.error));
}

TEST_CASE("an uneven machine is predicted within 15 % at sizes nobody measured, 5 % noise included", "[step_time]") {
  const auto seed = GENERATE(range(0U, 30U));
  CAPTURE(seed);
  const auto fitted = msg::calibrate(cost(), timings(uneven, 0.05, seed), tokens);
  CHECK(worst_off(fitted, uneven) < 0.15);
  CHECK(fitted.error < 0.30); // an honest estimate isn't far from the truth: each is left out in turn, ends included
  for (const auto& [name, coefficient] : fitted.coefficients) { CHECK(coefficient > 0); }
}

TEST_CASE("FLOPs alone would miss an uneven machine by far more", "[step_time]") {
  // the negative control: what the other features are for
  const auto all = timings(uneven, 0, 1);
  const auto flops = msg::calibrate(cost(), std::vector{all.back()}, tokens);
  CHECK(worst_off(flops, uneven) > 0.15);
}

TEST_CASE("the fit is the same whatever the order of the measurements", "[step_time]") {
  auto all = timings(uneven, 0.05, 7);
  const auto first = msg::calibrate(cost(), all, tokens);
  std::reverse(all.begin(), all.end());
  const auto second = msg::calibrate(cost(), all, tokens);
  for (const auto& s : unseen) {
    const double a = msg::milliseconds_of(first, cost()(s));
    CHECK(std::abs(msg::milliseconds_of(second, cost()(s)) - a) <= 1e-6 * a);
  }
}

TEST_CASE("measurements that are no measurements are refused, all at once", "[step_time]") {
  std::vector<msg::step_timing> bad = timings(plain, 0, 1);
  bad[1].milliseconds = 0;
  bad[2].milliseconds = std::numeric_limits<double>::quiet_NaN();
  const auto findings = testing::findings_of([&] { (void)msg::calibrate(cost(), bad, 0); });
  REQUIRE(findings.size() == 3);
  CHECK(findings[1].hint == "timings[1]");
  CHECK(testing::findings_of([&] { (void)msg::calibrate(cost(), std::vector<msg::step_timing>{}, tokens); }).size() ==
        1);
}
