// Milliseconds of a training step at any sizes, from a few that were measured.
#pragma once

#include <msg/config.hpp>
#include <msg/detail/least_squares.hpp>
#include <msg/error.hpp>
#include <msg/model_cost.hpp>
#include <msg/stage.hpp>

#include <algorithm>
#include <bit>
#include <cmath>
#include <concepts>
#include <cstddef>
#include <limits>
#include <span>
#include <string>
#include <utility>
#include <vector>

MSG_NAMESPACE_BEGIN

/// A measured step: the median of several, after one or two that warm up, sizes in turn. (Not the least: where other
/// programs run, a short step finds an undisturbed moment that a long one never does.)
struct step_timing {
  named_sizes sizes{};
  double milliseconds = 0;
};

/// A fitted machine: milliseconds of a step are the sum of coefficient * feature.
struct step_time {
  index tokens_per_step = 0;
  named_values coefficients{}; // by feature: flops, gemm AXES, attention, written, parameters, fixed
  double error = 0; // the largest relative error of a measurement predicted from all the others; infinite: too few
};

namespace detail {

/// The features of a step; every one of them takes its time, none can give time back.
[[nodiscard]] inline named_values step_features(const model_cost& cost, index tokens_per_step) {
  const auto tokens = static_cast<double>(tokens_per_step);
  named_values result{{"flops", cost.flops_per_token() * tokens},
                      {"fixed", 1},
                      {"written", cost.written * tokens},
                      {"parameters", static_cast<double>(cost.parameters)},
                      {"attention", cost.attention * tokens}};
  for (const gemm_cost& part : cost.gemm) { result.emplace_back("gemm " + part.axes, part.flops_per_token * tokens); }
  return result;
}

} // namespace detail

/// Milliseconds of a step.
[[nodiscard]] inline double milliseconds_of(const step_time& machine, const model_cost& cost) {
  double sum = 0;
  for (const auto& [name, feature] : detail::step_features(cost, machine.tokens_per_step)) {
    const double* coefficient = detail::find_named(machine.coefficients, name);
    if (coefficient != nullptr) { sum += *coefficient * feature; }
  }
  return sum;
}

/// Fits a machine to measurements, for relative errors, by non-negative least squares on what a step does:
///
///   milliseconds = a * FLOPs + b + c * elements written + d * parameters + e * attention + sum of f * FLOPs by axes
///
/// Which of the terms behind the first are in is decided by the measurements: the set (with no negative coefficient)
/// that predicts each of them best from the others, the smaller set where two do equally well. So two measurements give
/// FLOPs and a fixed part, and eight can tell that narrow products run slower.
///
/// cost      sizes to model_cost, schema_cost for instance
/// timings   at sizes that span those to be predicted, smallest and largest among them; 4 to 8 are good
/// Throws error{bad_argument} for no timing, times that are no positive numbers, and no tokens.
template <std::invocable<const named_sizes&> Cost>
[[nodiscard]] step_time calibrate(const Cost& cost, std::span<const step_timing> timings, index tokens_per_step) {
  std::vector<diagnostic> findings;
  const auto check = [&](bool good, std::string expected, std::string found, std::string hint) {
    if (!good) {
      findings.push_back({.code = errc::bad_argument,
                          .expected = std::move(expected),
                          .found = std::move(found),
                          .hint = std::move(hint)});
    }
  };
  check(!timings.empty(), "a measured step", "none", "calibrate");
  check(tokens_per_step > 0, "at least 1 token a step", std::to_string(tokens_per_step), "calibrate");
  for (std::size_t i = 0; i < timings.size(); ++i) {
    check(timings[i].milliseconds > 0 && std::isfinite(timings[i].milliseconds), "milliseconds, more than 0",
          std::to_string(timings[i].milliseconds), "timings[" + std::to_string(i) + "]");
  }
  if (!findings.empty()) { throw error(std::move(findings)); }

  detail::least_squares fit;
  named_values names; // of the columns
  for (const step_timing& timing : timings) {
    named_values features = detail::step_features(cost(timing.sizes), tokens_per_step);
    if (features.size() > detail::least_squares::most_columns) { features.resize(detail::least_squares::most_columns); }
    if (names.empty()) { names = features; }
    std::vector<double> row;
    for (const auto& [name, unused] : names) {
      const double* feature = detail::find_named(features, name);
      row.push_back(feature == nullptr ? 0 : *feature / timing.milliseconds);
    }
    fit.rows.push_back(std::move(row));
    fit.target.push_back(1);
  }

  const std::size_t measured = timings.size();
  const bool testable = measured >= 3;
  const std::size_t most = testable ? measured - 1 : measured; // terms
  std::vector<double> best;
  double least = 0;
  double worst = 0;
  int fewest = 0;
  for (unsigned rest = 0; rest < 1U << (fit.width() - 1); ++rest) {
    const unsigned use = rest << 1U | 1U; // FLOPs are always in
    const int size = std::popcount(use);
    if (static_cast<std::size_t>(size) > most || (!testable && rest > 1)) { continue; }
    std::vector<double> x = fit.solve(use);
    if (x.empty() || !detail::least_squares::nonnegative(x)) { continue; }
    double squares = 0;
    double largest = 0;
    for (std::size_t i = 0; i < measured; ++i) {
      const std::vector<double> without = testable ? fit.solve(use, i) : x;
      const double off = without.empty() ? 1 : std::abs(fit.predicted(i, without) - 1);
      squares += off * off;
      largest = std::max(largest, off);
    }
    constexpr double rounding = 1e-16; // squares below it tell nothing
    const bool better =
        best.empty() || squares < 0.98 * least - rounding || (squares <= least + rounding && size < fewest);
    if (better) {
      best = std::move(x);
      least = squares;
      worst = largest;
      fewest = size;
    }
  }
  step_time machine{.tokens_per_step = tokens_per_step,
                    .error = testable ? worst : std::numeric_limits<double>::infinity()};
  for (std::size_t c = 0; c < best.size(); ++c) {
    if (best[c] > 0) { machine.coefficients.emplace_back(names[c].first, best[c]); }
  }
  return machine;
}

MSG_NAMESPACE_END
