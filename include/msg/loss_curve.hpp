// How the loss falls with compute: a power law through a short stretch of a noisy curve.
#pragma once

#include <msg/config.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <span>
#include <utility>
#include <vector>

MSG_NAMESPACE_BEGIN

/// A loss, and the FLOPs it took to get there.
struct curve_point {
  double flops = 0;
  double loss = 0;
};

/// loss = scale * flops^-exponent
struct power_law {
  double log_scale = 0; // ln(scale)
  double exponent = 0;
  index points = 0; // it was fitted to; fewer than 2: there is no law

  [[nodiscard]] double loss(double flops) const { return std::exp(log_scale - exponent * std::log(flops)); }
  /// Loss gained per FLOP, -dL/dF = exponent * loss / flops; negative where the loss rises.
  [[nodiscard]] double gain(double flops) const { return exponent * loss(flops) / flops; }
  /// FLOPs at which the curve is at a loss; infinite where it never gets there.
  [[nodiscard]] double flops_at(double wanted) const { return std::exp((log_scale - std::log(wanted)) / exponent); }
};

/// Fits ln(loss) against ln(flops) by the median of slopes: a spike, or an outlier among three, moves nothing.
///
///   1. points with a loss or FLOPs that aren't positive numbers are left out
///   2. the others are put in order and into at most 32 bins of equal count, each the mean of its logarithms
///   3. exponent = -median of the slopes of all pairs of bins, ln(scale) = median of ln(loss) + exponent ln(flops)
///
/// A power law, because it extrapolates a short fit without falling below 0, needs no guess at a floor, and is the
/// form in which loss follows compute. As a local slope it is as good as any smooth curve.
/// Sources: Kaplan et al. 2020, Scaling Laws, eq. 1.1 to 1.3 (the form); Theil 1950 and Sen 1968 (the median of
/// slopes).
[[nodiscard]] inline power_law fit_power_law(std::span<const curve_point> points) {
  std::vector<std::pair<double, double>> logs;
  for (const curve_point& p : points) {
    if (p.flops > 0 && p.loss > 0 && std::isfinite(p.flops) && std::isfinite(p.loss)) {
      logs.emplace_back(std::log(p.flops), std::log(p.loss));
    }
  }
  std::sort(logs.begin(), logs.end());
  constexpr std::size_t most_bins = 32;
  const std::size_t bins = std::min(most_bins, logs.size());
  std::vector<std::pair<double, double>> bin;
  for (std::size_t b = 0; b < bins; ++b) {
    const std::size_t from = b * logs.size() / bins;
    const std::size_t to = (b + 1) * logs.size() / bins;
    std::pair<double, double> sum{0, 0};
    for (std::size_t i = from; i < to; ++i) {
      sum.first += logs[i].first;
      sum.second += logs[i].second;
    }
    const auto count = static_cast<double>(to - from);
    bin.emplace_back(sum.first / count, sum.second / count);
  }
  const auto median = [](std::vector<double> values) {
    std::sort(values.begin(), values.end());
    const std::size_t half = values.size() / 2;
    return values.size() % 2 != 0 ? values[half] : (values[half - 1] + values[half]) / 2;
  };
  std::vector<double> slopes;
  for (std::size_t i = 0; i < bin.size(); ++i) {
    for (std::size_t k = i + 1; k < bin.size(); ++k) {
      const double run = bin[k].first - bin[i].first;
      if (run > 0) { slopes.push_back((bin[k].second - bin[i].second) / run); }
    }
  }
  power_law law;
  if (slopes.empty()) { return law; }
  law.points = static_cast<index>(logs.size());
  law.exponent = -median(std::move(slopes));
  std::vector<double> levels;
  levels.reserve(bin.size());
  for (const auto& [flops, loss] : bin) { levels.push_back(loss + law.exponent * flops); }
  law.log_scale = median(std::move(levels));
  return law;
}

/// Loss per FLOP that a model gains once it is at a loss, told by a short curve of its own: the gain of its power law
/// where that is at this loss. A growth that keeps the loss, and the way it falls, continues there. 0 where the curve
/// doesn't fall.
/// Source: Shen et al. 2022, Staged Training for Transformer Language Models, sec. 4: a stage ends where its loss falls
/// slower per compute than that of the grown model does at the same loss.
[[nodiscard]] inline double gain_at_loss(const power_law& law, double loss) {
  if (!(law.exponent > 0) || law.points < 2) { return 0; }
  const double flops = law.flops_at(loss);
  return flops > 0 ? law.exponent * loss / flops : 0;
}

MSG_NAMESPACE_END
