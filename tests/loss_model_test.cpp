// Loss models fitted to probes: exact laws are found, noise doesn't carry predictions away.
#include "support/catch.hpp"
#include "support/thrown.hpp"

#include <msg/loss_model.hpp>

#include <cmath>
#include <limits>
#include <random>
#include <vector>

namespace {

using msg::index;

double parameters(const msg::named_sizes& sizes) {
  const auto hidden = double(msg::size_of(sizes, "hidden"));
  return 12 * double(msg::size_of(sizes, "layers")) * hidden * hidden;
}

msg::named_sizes sizes(index hidden, index layers) { return {{"hidden", hidden}, {"layers", layers}}; }

// Numbers of the size that character models of a few hundred thousand parameters have.
const msg::loss_model chinchilla{
    .floor = 1.1, .scale = 30, .exponent = 0.34, .token_scale = 60, .token_exponent = 0.28};

std::vector<msg::loss_point> probes(const msg::loss_model& truth, double noise = 0, unsigned seed = 1) {
  std::mt19937 bits{seed};
  std::uniform_real_distribution<double> uniform{-noise, noise};
  std::vector<msg::loss_point> points;
  for (const auto& s : {sizes(32, 2), sizes(64, 2), sizes(64, 6), sizes(128, 4)}) {
    for (const double tokens : {1e5, 3e5, 1e6, 3e6}) {
      points.push_back({s, tokens, truth.loss(truth.limit(s, parameters(s)), tokens) * (1 + uniform(bits))});
    }
  }
  return points;
}

double off(const msg::loss_model& fitted, const msg::loss_model& truth, const msg::named_sizes& s, double tokens) {
  return std::abs(
      fitted.loss(fitted.limit(s, parameters(s)), tokens) / truth.loss(truth.limit(s, parameters(s)), tokens) - 1);
}

} // namespace

TEST_CASE("an exact law is found, and holds ten times beyond its points", "[loss_model]") {
  const msg::loss_model fitted = msg::fit_loss_model(probes(chinchilla), parameters);
  // exponents are sought to 75 / 4^5 times finer than a cell; what is left of it shows below a part in a thousand
  CHECK(fitted.error < 1e-4);
  CHECK(std::abs(fitted.exponent / 0.34 - 1) < 0.02);
  CHECK(std::abs(fitted.token_exponent / 0.28 - 1) < 0.02);
  CHECK(off(fitted, chinchilla, sizes(256, 8), 3e7) < 0.005);
}

TEST_CASE("a hundredth of noise leaves a prediction within a few", "[loss_model]") {
  const auto seed = GENERATE(range(1U, 9U));
  CAPTURE(seed);
  const msg::loss_model fitted = msg::fit_loss_model(probes(chinchilla, 0.01, seed), parameters);
  CHECK(fitted.error < 0.01);
  CHECK(off(fitted, chinchilla, sizes(128, 8), 1e7) < 0.05);
}

TEST_CASE("terms by axis tell which dimension the loss wants", "[loss_model]") {
  msg::loss_model truth = chinchilla;
  truth.scale = 0;
  truth.axis_scales = {{"hidden", 4}, {"layers", 0}}; // depth is worth nothing here
  const msg::loss_model fitted = msg::fit_loss_model(probes(truth), parameters, {"hidden", "layers"});
  CHECK(fitted.error < 1e-4);
  CHECK(off(fitted, truth, sizes(256, 2), 1e7) < 0.01);
  const auto gain = [&](const msg::named_sizes& larger) {
    return fitted.limit(sizes(64, 2), parameters(sizes(64, 2))) - fitted.limit(larger, parameters(larger));
  };
  CHECK(gain(sizes(128, 2)) > 20 * gain(sizes(64, 8))); // the same number of parameters
}

TEST_CASE("tokens at a loss are the inverse of the loss", "[loss_model]") {
  const double limit = chinchilla.limit(sizes(64, 2), parameters(sizes(64, 2)));
  CHECK(std::abs(chinchilla.tokens_at(limit, chinchilla.loss(limit, 12345)) / 12345 - 1) < 1e-9);
  CHECK(std::isinf(chinchilla.tokens_at(limit, limit)));
}

TEST_CASE("points that can't tell a model are refused with what they lack", "[loss_model]") {
  const auto lacking = [](std::vector<msg::loss_point> points, const std::vector<std::string>& axes) {
    return testing::findings_of([&] { (void)msg::fit_loss_model(points, parameters, axes); });
  };
  CHECK(lacking({}, {}).size() == 3);
  std::vector<msg::loss_point> one_size{{sizes(32, 2), 1e5, 3}, {sizes(32, 2), 2e5, 3}, {sizes(32, 2), 3e5, 3}};
  CHECK(lacking(one_size, {}).size() == 2); // too few points, too
  auto one_depth = probes(chinchilla);
  for (auto& p : one_depth) { p.sizes[1].second = 2; }
  const auto depth = lacking(one_depth, {"layers"});
  REQUIRE(depth.size() == 1);
  CHECK(depth[0].axis == "layers");
  auto spoilt = probes(chinchilla);
  spoilt[3].loss = std::numeric_limits<double>::quiet_NaN();
  CHECK(lacking(spoilt, {}).size() == 1);
}
