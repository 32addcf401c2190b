// How fast a model learns after a growth, next to one of its sizes that was trained from scratch.
#pragma once

#include <msg/config.hpp>
#include <msg/error.hpp>
#include <msg/loss_model.hpp>

#include <algorithm>
#include <cstddef>
#include <optional>
#include <span>
#include <utility>
#include <vector>

MSG_NAMESPACE_BEGIN

/// How many of its tokens a model trained from scratch needs for what a grown one learns from one: the slope, by least
/// squares, of the tokens after which the former is at the loss of the latter. 1: growth has cost nothing but what it
/// did not carry; below 1: what the small model has learnt is in the way.
///
/// alone  a model of the final sizes trained from scratch; tokens rise; between points its lowest loss so far is
///        interpolated linearly
/// grown  from the growth on, at the same learning rate; points outside of the losses of `alone` say nothing
/// Nothing where fewer than two points of `grown` say something.
/// Throws error{bad_argument} where tokens do not rise.
[[nodiscard]] inline std::optional<double> growth_pace(std::span<const loss_point> alone,
                                                       std::span<const loss_point> grown) {
  const auto rising = [](std::span<const loss_point> curve) {
    return std::adjacent_find(curve.begin(), curve.end(), [](const loss_point& a, const loss_point& b) {
             return !(a.tokens < b.tokens);
           }) == curve.end();
  };
  if (!rising(alone) || !rising(grown)) {
    throw error(diagnostic{
        .code = errc::bad_argument, .expected = "points in the order of their tokens", .hint = "growth_pace"});
  }
  const auto tokens_at = [&](double loss) -> std::optional<double> {
    for (std::size_t i = 0; i < alone.size(); ++i) {
      const loss_point& after = alone[i];
      if (!(after.loss <= loss)) { continue; }
      if (i == 0) { return after.loss == loss ? std::optional{after.tokens} : std::nullopt; }
      const auto before = std::min_element(alone.begin(), alone.begin() + static_cast<std::ptrdiff_t>(i),
                                           [](const auto& a, const auto& b) { return a.loss < b.loss; });
      const double from = alone[i - 1].tokens;
      return from + (after.tokens - from) * (before->loss - loss) / (before->loss - after.loss);
    }
    return std::nullopt;
  };
  std::vector<std::pair<double, double>> pairs;
  for (const loss_point& p : grown) {
    if (const std::optional<double> as_alone = tokens_at(p.loss)) { pairs.emplace_back(p.tokens, *as_alone); }
  }
  if (pairs.size() < 2) { return std::nullopt; }
  double x = 0, y = 0;
  for (const auto& [tokens, as_alone] : pairs) {
    x += tokens / static_cast<double>(pairs.size());
    y += as_alone / static_cast<double>(pairs.size());
  }
  double squares = 0, products = 0;
  for (const auto& [tokens, as_alone] : pairs) {
    squares += (tokens - x) * (tokens - x);
    products += (tokens - x) * (as_alone - y);
  }
  return products / squares;
}

MSG_NAMESPACE_END
