// What a token of a run that grew is worth, next to one of a run from scratch.
#pragma once

#include <msg/config.hpp>
#include <msg/error.hpp>
#include <msg/loss_model.hpp>

#include <algorithm>
#include <cstddef>
#include <span>
#include <string>
#include <utility>
#include <vector>

MSG_NAMESPACE_BEGIN

/// Tokens that the final model trained from scratch takes to where a run that grew is, for each token of that run: the
/// mean over its losses, for one alone is noisy. 1: what the small model has learnt, and cheaper, is worth as much as
/// if the large one had learnt it; below 1: growth has a price.
///
/// alone  a run from scratch at the same learning rate; between two points its lowest loss so far is interpolated
///        linearly; before the first and after the last the tokens of these count: the truth is farther away
/// grown  a run that grew to those sizes, its last few points
/// Throws error{bad_argument} where a run has no points, or its tokens do not rise.
[[nodiscard]] inline double growth_pace(std::span<const loss_point> alone, std::span<const loss_point> grown) {
  std::vector<diagnostic> findings;
  for (const auto& [curve, name] : {std::pair{alone, "alone"}, std::pair{grown, "grown"}}) {
    const auto wrong = std::adjacent_find(curve.begin(), curve.end(),
                                          [](const auto& a, const auto& b) { return !(a.tokens < b.tokens); });
    if (curve.empty() || wrong != curve.end()) {
      findings.push_back({.code = errc::bad_argument,
                          .expected = std::string{name} + ": points in the order of their tokens",
                          .found = curve.empty() ? "none" : "others",
                          .hint = "growth_pace"});
    }
  }
  if (!findings.empty()) { throw error(std::move(findings)); }
  const auto tokens_at = [&](double loss) {
    double lowest = alone.front().loss;
    if (!(lowest > loss)) { return alone.front().tokens; }
    for (std::size_t i = 1; i < alone.size(); ++i) {
      if (alone[i].loss <= loss) {
        const double part = (lowest - loss) / (lowest - alone[i].loss);
        return alone[i - 1].tokens + part * (alone[i].tokens - alone[i - 1].tokens);
      }
      lowest = std::min(lowest, alone[i].loss);
    }
    return alone.back().tokens;
  };
  double sum = 0;
  for (const loss_point& p : grown) { sum += tokens_at(p.loss) / p.tokens; }
  return sum / static_cast<double>(grown.size());
}

MSG_NAMESPACE_END
