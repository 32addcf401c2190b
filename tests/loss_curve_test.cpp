// Power laws through short, noisy loss curves.
#include "support/catch.hpp"

#include <msg/loss_curve.hpp>

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <vector>

namespace {

using msg::curve_point;

// loss = 40 flops^-0.12
std::vector<curve_point> curve(int points, double noise = 0, unsigned seed = 1) {
  std::mt19937 bits{seed};
  std::uniform_real_distribution<double> uniform{-noise, noise};
  std::vector<curve_point> result;
  for (int i = 1; i <= points; ++i) {
    const double flops = 1e9 * i;
    result.push_back({flops, 40 * std::pow(flops, -0.12) * (1 + uniform(bits))});
  }
  return result;
}

} // namespace

TEST_CASE("a power law is found from any number of its points", "[loss_curve]") {
  const int points = GENERATE(2, 3, 31, 32, 33, 500);
  const msg::power_law law = msg::fit_power_law(curve(points));
  CHECK(law.points == points);
  // bins average logarithms, which lie on the line exactly; some rounding of numbers around 25
  CHECK(std::abs(law.exponent - 0.12) < 1e-10);
  CHECK(std::abs(law.loss(3e9) / (40 * std::pow(3e9, -0.12)) - 1) < 1e-9);
  CHECK(std::abs(law.gain(3e9) / (0.12 * 40 * std::pow(3e9, -1.12)) - 1) < 1e-9);
  CHECK(std::abs(law.flops_at(law.loss(7e9)) / 7e9 - 1) < 1e-8);
}

TEST_CASE("a tenth of the points may be spikes", "[loss_curve]") {
  auto points = curve(300, 0.01, GENERATE(range(1U, 9U)));
  const double clean = msg::fit_power_law(points).exponent;
  for (std::size_t i = 60; i < 90; ++i) { points[i].loss *= 10; } // a divergence that recovers
  CHECK(std::abs(msg::fit_power_law(points).exponent - clean) < 0.05);
  // the negative control: least squares on the same logarithms is carried away
  double n = 0, x = 0, y = 0, xx = 0, xy = 0;
  for (const auto& p : points) {
    const double a = std::log(p.flops);
    const double b = std::log(p.loss);
    n += 1, x += a, y += b, xx += a * a, xy += a * b;
  }
  CHECK(std::abs(-(n * xy - x * y) / (n * xx - x * x) - clean) > 0.05);
}

TEST_CASE("points without a number, or below 0, are left out", "[loss_curve]") {
  auto points = curve(20);
  const msg::power_law clean = msg::fit_power_law(points);
  points.push_back({1e9, std::numeric_limits<double>::quiet_NaN()});
  points.push_back({std::numeric_limits<double>::infinity(), 2});
  points.push_back({-1, 2});
  points.push_back({1e9, 0});
  CHECK(msg::fit_power_law(points).exponent == clean.exponent);
  CHECK(msg::fit_power_law(points).points == 20);
}

TEST_CASE("the order of points doesn't matter", "[loss_curve]") {
  auto points = curve(100, 0.02);
  const msg::power_law law = msg::fit_power_law(points);
  std::reverse(points.begin(), points.end());
  CHECK(msg::fit_power_law(points).exponent == law.exponent);
  CHECK(msg::fit_power_law(points).log_scale == law.log_scale);
}

TEST_CASE("one point is no law, and neither are many at the same FLOPs", "[loss_curve]") {
  CHECK(msg::fit_power_law(std::vector<curve_point>{}).points == 0);
  CHECK(msg::fit_power_law(curve(1)).points == 0);
  CHECK(msg::fit_power_law(std::vector<curve_point>{{1e9, 3}, {1e9, 2}}).points == 0);
}

TEST_CASE("the gain at a loss is the slope where the curve has this loss", "[loss_curve]") {
  const msg::power_law law = msg::fit_power_law(curve(50));
  const double flops = 2e11; // far behind the points
  const double loss = 40 * std::pow(flops, -0.12);
  const double h = 1e-4 * flops; // central difference: error h^2 / 6 times the third derivative, 1e-8 relative
  const double slope = (40 * std::pow(flops - h, -0.12) - 40 * std::pow(flops + h, -0.12)) / (2 * h);
  CHECK(std::abs(msg::gain_at_loss(law, loss) / slope - 1) < 1e-6);
}

TEST_CASE("a curve that rises, or that isn't there, promises no gain", "[loss_curve]") {
  CHECK(msg::gain_at_loss({}, 3) == 0);
  CHECK(msg::gain_at_loss(msg::fit_power_law(std::vector<curve_point>{{1, 2}, {2, 3}, {3, 4}}), 3) == 0);
}
