// What a schedule costs, before it is run.
#pragma once

#include <msg/config.hpp>
#include <msg/error.hpp>
#include <msg/schedule.hpp>

#include <algorithm>
#include <concepts>
#include <cstddef>
#include <span>
#include <vector>

MSG_NAMESPACE_BEGIN

/// What one stretch of constant sizes costs.
struct stage_cost {
  index first_step = 0;
  index steps = 0;
  double flops_per_token = 0;
  double flops = 0;
};

/// Cost of each stretch between growths: stages + 1 entries, the first of them the start sizes.
///
/// flops_per_token   of a training step at given sizes, forward and backward
/// Throws error{bad_argument} unless both lengths of the run are known.
template <std::invocable<const named_sizes&> Cost>
[[nodiscard]] std::vector<stage_cost> stage_costs(const schedule& timeline, const run_extent& run,
                                                  const Cost& flops_per_token) {
  if (run.steps <= 0 || run.tokens_per_step <= 0) {
    throw error{diagnostic{.code = errc::bad_argument, .expected = "a run of known length", .hint = "stage_costs"}};
  }
  std::vector<index> bounds{0};
  for (const index step : stage_steps(timeline, run)) { bounds.push_back(std::clamp(step, bounds.back(), run.steps)); }
  bounds.push_back(run.steps);
  std::vector<stage_cost> costs;
  for (std::size_t i = 0; i + 1 < bounds.size(); ++i) {
    stage_cost cost{bounds[i], bounds[i + 1] - bounds[i], flops_per_token(sizes_after(timeline, i)), 0};
    cost.flops = cost.flops_per_token * static_cast<double>(run.tokens_per_step) * static_cast<double>(cost.steps);
    costs.push_back(cost);
  }
  return costs;
}

[[nodiscard]] inline double total_flops(std::span<const stage_cost> costs) noexcept {
  double sum = 0;
  for (const stage_cost& cost : costs) { sum += cost.flops; }
  return sum;
}

MSG_NAMESPACE_END
