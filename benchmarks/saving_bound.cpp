// How much sooner can a model that grows be, at most, by the law that losses of Transformers follow?
//
// L = floor + A N^-a + B D^-b (Hoffmann et al. 2022, eq. 2) gives the loss of N parameters after D tokens; a token
// costs 6 N FLOPs. Suppose that growth loses nothing: at any loss a model of any size up to the final one may be
// trained, and goes on from there as if it had come to this loss from scratch. Then the least cost of getting to a loss
// is the integral of the least dC/dL of all sizes, and what the final size alone costs is that of its own. The ratio
// depends on the exponents and on the budget alone, not on A, B or the floor. Real growth does better only where it
// brings what training from scratch does not find, or where the rival from scratch is not trained at its best.
//
// usage: saving_bound [--csv FILE] [--smoke]
#include "figure.hpp"
#include "study.hpp"

#include <msg/loss_model.hpp>

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <string>
#include <utility>
#include <vector>

namespace {

/// Numbers from low to high, each the same multiple of the one before it.
std::vector<double> spread(double low, double high, int count) {
  std::vector<double> all;
  for (int i = 0; i < count; ++i) { all.push_back(low * std::pow(high / low, i / (count - 1.0))); }
  return all;
}

/// A law with these exponents, in units in which the final size is 1 and its compute-optimal tokens are 1.
msg::loss_model law_of(double exponent, double token_exponent) {
  msg::loss_model law;
  law.scale = 1;
  law.exponent = exponent;
  law.token_exponent = token_exponent;
  law.token_scale = exponent / token_exponent; // d/dN = d/dD at N = D = 1
  return law;
}

struct bound {
  double ratio = 1;
  double best_alone = 1; // the size, as a part of the final one, that comes to the lowest loss for the same FLOPs
};

/// budget: tokens of the final model from scratch, as a multiple of those for which it is the best size
bound bound_of(const msg::loss_model& law, double budget, int points) {
  const std::vector<double> sizes = spread(1e-3, 1, points / 10);
  const double limit = law.limit({}, 1);
  // dC/dL of a size at a loss, but for signs and the 6 of FLOPs
  const auto cost = [&](double size, double loss) {
    const double over = loss - law.limit({}, size);
    return over > 0 ? size * law.tokens_at(law.limit({}, size), loss) / (law.token_exponent * over)
                    : std::numeric_limits<double>::infinity();
  };
  double alone = 0;
  double grown = 0;
  double before[3] = {};
  const double last = law.token_scale * std::pow(budget, -law.token_exponent); // above the limit, at the end
  for (const double over : spread(last, last * std::pow(1e5, law.token_exponent), points)) {
    const double own = cost(1, limit + over);
    double least = own;
    for (const double size : sizes) { least = std::min(least, cost(size, limit + over)); }
    if (before[0] > 0) { // trapezoids
      alone += (own + before[1]) / 2 * (over - before[0]);
      grown += (least + before[2]) / 2 * (over - before[0]);
    }
    before[0] = over;
    before[1] = own;
    before[2] = least;
  }
  const auto loss_alone = [&](double size) { return law.loss(law.limit({}, size), budget / size); };
  const auto best =
      std::min_element(sizes.begin(), sizes.end(), [&](double a, double b) { return loss_alone(a) < loss_alone(b); });
  return {alone / grown, *best};
}

int study_of(int argc, char** argv) {
  const study::arguments given(argc, argv, {"--csv"});
  const std::string csv = given.text("--csv");
  const int points = given.smoke ? 500 : 3000;
  const std::pair<double, double> exponents[] = {{0.34, 0.28}, {0.3, 0.3}, {0.5, 0.5}, {0.2, 0.2}};
  const std::vector<double> budgets{0.1, 0.25, 0.5, 1, 2, 4};
  constexpr double left = 70, width = 480, top = 60, height = 320;
  study::figure page(left + width + 200, top + height + 60, "How much sooner growth that loses nothing is, at most");
  const study::number_line x{.low = 0, .high = 4, .begin = left, .end = left + width};
  const study::number_line y{.low = 1, .high = 2.2, .begin = top + height, .end = top};
  page.y_axis(y, left, left + width, "times sooner");
  page.x_axis(x, top, top + height, "tokens, by those for which the final size is the best");
  study::table rows({"exponent", "token_exponent", "budget", "times_sooner", "best_size_alone"});
  std::size_t color = 0;
  for (const auto& [a, b] : exponents) {
    const msg::loss_model law = law_of(a, b);
    std::vector<std::pair<double, double>> curve;
    for (const double budget : budgets) {
      const bound found = bound_of(law, budget, points);
      rows.add({fmt::format("{:g}", a), fmt::format("{:g}", b), fmt::format("{:g}", budget),
                fmt::format("{:.3f}", found.ratio), fmt::format("{:.2f}", found.best_alone)});
      curve.emplace_back(x.at(budget), y.at(found.ratio));
    }
    const std::string style = fmt::format("stroke:{};stroke-width:1.6", study::palette[color]);
    page.curve(curve, style);
    const double row = top + 10 + 18 * static_cast<double>(color++);
    page.line(left + width + 14, row, left + width + 36, row, style);
    page.text(left + width + 42, row + 4, fmt::format("exponents {:g}, {:g}", a, b), "font-size:11px");
  }
  rows.print();
  rows.write_csv(csv);
  if (!csv.empty()) { page.write(study::figure_path(csv)); }
  return 0;
}

} // namespace

int main(int argc, char** argv) {
  return study::run("saving_bound", [&] { return study_of(argc, argv); });
}
