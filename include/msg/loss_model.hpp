// The loss as a function of sizes and tokens, fitted to short probes.
#pragma once

#include <msg/config.hpp>
#include <msg/detail/least_squares.hpp>
#include <msg/error.hpp>
#include <msg/stage.hpp>

#include <algorithm>
#include <cmath>
#include <concepts>
#include <cstddef>
#include <limits>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

MSG_NAMESPACE_BEGIN

/// A loss that was measured: a model of these sizes, trained from scratch on so many tokens.
struct loss_point {
  named_sizes sizes{};
  double tokens = 0;
  double loss = 0;
};

/// Loss of a model trained on D tokens, N its parameters, x_a the sizes of some axes:
///
///   L = floor + scale * N^-exponent + sum of axis_scale_a * x_a^-exponent + token_scale * D^-token_exponent
///
/// The first, second and last term are those of Hoffmann et al. 2022, Training Compute-Optimal Large Language Models
/// (Chinchilla), eq. 2. The terms by axis let probes tell which dimension is worth growing, where all that N knows is
/// how many; without them it is that equation.
struct loss_model {
  double floor = 0;
  double scale = 0;
  double exponent = 0.5;
  std::vector<std::pair<std::string, double>> axis_scales{};
  double token_scale = 0;
  double token_exponent = 0.5;
  double error = 0; // root mean square of the relative errors of its points

  /// What a model of these sizes comes to with tokens without end.
  [[nodiscard]] double limit(const named_sizes& sizes, double parameters) const {
    double loss = floor + scale * std::pow(parameters, -exponent);
    for (const auto& [axis, axis_scale] : axis_scales) {
      const auto size = static_cast<double>(size_of(sizes, axis));
      if (size > 0) { loss += axis_scale * std::pow(size, -exponent); }
    }
    return loss;
  }
  [[nodiscard]] double loss(double limit_of_sizes, double tokens) const {
    return limit_of_sizes + token_scale * std::pow(tokens, -token_exponent);
  }
  /// Tokens after which a model with this limit, trained from scratch, is at a loss: infinite below its limit.
  [[nodiscard]] double tokens_at(double limit_of_sizes, double loss) const {
    if (!(loss > limit_of_sizes)) { return std::numeric_limits<double>::infinity(); }
    return std::pow((loss - limit_of_sizes) / token_scale, -1 / token_exponent);
  }
};

namespace detail {

/// The best linear part of a loss model for two exponents.
struct loss_fit {
  double off = std::numeric_limits<double>::infinity(); // sum of squares of relative errors
  double exponent = 0;
  double token_exponent = 0;
  std::vector<double> x{};
};

} // namespace detail

/// Fits a loss model to probes: for each pair of exponents the other numbers are a non-negative least-squares problem
/// (of relative errors), solved exactly; the exponents are sought on a grid from 0.02 to 1.5 that is made finer four
/// times. Nothing depends on a starting point.
///
/// points      at two or more sizes (for an axis term: at two or more of its sizes), several tokens each
/// parameters  number of parameters of sizes: model_cost::parameters, or those that count (without tables)
/// axes        that get a term of their own
/// Throws error{bad_argument} with what the points lack.
template <std::invocable<const named_sizes&> Parameters>
[[nodiscard]] loss_model fit_loss_model(std::span<const loss_point> points, const Parameters& parameters,
                                        const std::vector<std::string>& axes = {}) {
  std::vector<diagnostic> findings;
  const auto need = [&](bool good, std::string axis, std::string expected, std::string found) {
    if (!good) {
      findings.push_back({.code = errc::bad_argument,
                          .axis = std::move(axis),
                          .expected = std::move(expected),
                          .found = std::move(found),
                          .hint = "fit_loss_model"});
    }
  };
  std::set<double> counts;
  std::set<double> lengths;
  for (const loss_point& p : points) {
    need(p.loss > 0 && std::isfinite(p.loss) && p.tokens > 0 && std::isfinite(p.tokens), {}, "loss and tokens above 0",
         std::to_string(p.loss) + ", " + std::to_string(p.tokens));
    counts.insert(static_cast<double>(parameters(p.sizes)));
    lengths.insert(p.tokens);
  }
  need(axes.size() + 3 <= detail::least_squares::most_columns, {}, "at most 9 axes", std::to_string(axes.size()));
  need(counts.size() >= 2, {}, "points at two model sizes or more", std::to_string(counts.size()));
  need(lengths.size() >= 2, {}, "points at two numbers of tokens or more", std::to_string(lengths.size()));
  need(points.size() >= 4, {}, "4 points or more", std::to_string(points.size()));
  for (const std::string& axis : axes) {
    std::set<index> sizes;
    for (const loss_point& p : points) { sizes.insert(size_of(p.sizes, axis)); }
    need(sizes.size() >= 2 && *sizes.begin() > 0, axis, "points at two of its sizes or more",
         std::to_string(sizes.size()));
  }
  if (!findings.empty()) { throw error(std::move(findings)); }

  const auto fit_at = [&](double exponent, double token_exponent) {
    detail::least_squares problem;
    for (const loss_point& p : points) {
      std::vector<double> row{1, std::pow(static_cast<double>(parameters(p.sizes)), -exponent)};
      for (const std::string& axis : axes) {
        row.push_back(std::pow(static_cast<double>(size_of(p.sizes, axis)), -exponent));
      }
      row.push_back(std::pow(p.tokens, -token_exponent));
      for (double& value : row) { value /= p.loss; }
      problem.rows.push_back(std::move(row));
      problem.target.push_back(1);
    }
    detail::loss_fit fit{.exponent = exponent, .token_exponent = token_exponent, .x = problem.solve_nonnegative()};
    fit.off = problem.residual(fit.x);
    return fit;
  };
  detail::loss_fit best;
  double low[2] = {std::log(0.02), std::log(0.02)}; // the grid is of logarithms
  double high[2] = {std::log(1.5), std::log(1.5)};
  constexpr int cells = 12;
  for (int pass = 0; pass < 5; ++pass) {
    for (int i = 0; i <= cells; ++i) {
      for (int k = 0; k <= cells; ++k) {
        detail::loss_fit fit = fit_at(std::exp(low[0] + (high[0] - low[0]) * i / cells),
                                      std::exp(low[1] + (high[1] - low[1]) * k / cells));
        if (fit.off < best.off) { best = std::move(fit); }
      }
    }
    const double centre[2] = {std::log(best.exponent), std::log(best.token_exponent)};
    for (int d = 0; d < 2; ++d) {
      const double half = 1.5 * (high[d] - low[d]) / cells;
      low[d] = centre[d] - half;
      high[d] = std::min(centre[d] + half, std::log(1.5));
    }
  }
  loss_model result{.floor = best.x[0],
                    .scale = best.x[1],
                    .exponent = best.exponent,
                    .token_scale = best.x.back(),
                    .token_exponent = best.token_exponent,
                    .error = std::sqrt(best.off / static_cast<double>(points.size()))};
  for (std::size_t a = 0; a < axes.size(); ++a) { result.axis_scales.emplace_back(axes[a], best.x[2 + a]); }
  return result;
}

MSG_NAMESPACE_END
