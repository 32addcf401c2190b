// What a schedule costs, before it is run: FLOPs, tokens and time, stage by stage, beside the final model.
#pragma once

#include <msg/config.hpp>
#include <msg/error.hpp>
#include <msg/model_cost.hpp>
#include <msg/schedule.hpp>
#include <msg/step_time.hpp>

#include <algorithm>
#include <concepts>
#include <cstddef>
#include <span>
#include <string>
#include <type_traits>
#include <vector>

MSG_NAMESPACE_BEGIN

/// What one stretch of constant sizes costs.
struct stage_cost {
  index first_step = 0;
  index steps = 0;
  double flops_per_token = 0;
  double flops = 0;
};

namespace detail {

/// FLOPs per token, from a caller's number or from a model_cost.
template <class Cost>
[[nodiscard]] double flops_of(const Cost& cost) {
  if constexpr (std::is_convertible_v<Cost, double>) {
    return cost;
  } else {
    return cost.flops_per_token();
  }
}

/// First steps of the stretches between growths, and the end.
[[nodiscard]] inline std::vector<index> stretch_bounds(const schedule& timeline, const run_extent& run,
                                                       std::span<const index> steps, const char* who) {
  if (run.steps <= 0 || run.tokens_per_step <= 0 || steps.size() != timeline.stages.size()) {
    const bool length = run.steps <= 0 || run.tokens_per_step <= 0;
    throw error{
        diagnostic{.code = errc::bad_argument,
                   .expected = length ? "a run of known length" : std::to_string(timeline.stages.size()) + " steps",
                   .found = length ? "" : std::to_string(steps.size()),
                   .hint = who}};
  }
  std::vector<index> bounds{0};
  for (const index step : steps) { bounds.push_back(std::clamp(step, bounds.back(), run.steps)); }
  bounds.push_back(run.steps);
  return bounds;
}

} // namespace detail

/// Cost of each stretch between growths: stages + 1 entries, the first of them the start sizes.
///
/// flops_per_token   of a training step at given sizes, forward and backward: a number, or a model_cost
/// steps             of the stages, for triggers that training decides: where they are expected, or where they were
/// Throws error{bad_argument} unless both lengths of the run are known.
template <std::invocable<const named_sizes&> Cost>
[[nodiscard]] std::vector<stage_cost> stage_costs(const schedule& timeline, const run_extent& run,
                                                  const Cost& flops_per_token, std::span<const index> steps) {
  const std::vector<index> bounds = detail::stretch_bounds(timeline, run, steps, "stage_costs");
  std::vector<stage_cost> costs;
  for (std::size_t i = 0; i + 1 < bounds.size(); ++i) {
    stage_cost cost{bounds[i], bounds[i + 1] - bounds[i], detail::flops_of(flops_per_token(sizes_after(timeline, i))),
                    0};
    cost.flops = cost.flops_per_token * static_cast<double>(run.tokens_per_step) * static_cast<double>(cost.steps);
    costs.push_back(cost);
  }
  return costs;
}
/// The same at the steps that the triggers name; throws error{bad_argument} where one doesn't.
template <std::invocable<const named_sizes&> Cost>
[[nodiscard]] std::vector<stage_cost> stage_costs(const schedule& timeline, const run_extent& run,
                                                  const Cost& flops_per_token) {
  if (run.steps <= 0 || run.tokens_per_step <= 0) {
    throw error{diagnostic{.code = errc::bad_argument, .expected = "a run of known length", .hint = "stage_costs"}};
  }
  const std::vector<index> steps = stage_steps(timeline, run);
  return stage_costs(timeline, run, flops_per_token, steps);
}

[[nodiscard]] inline double total_flops(std::span<const stage_cost> costs) noexcept {
  double sum = 0;
  for (const stage_cost& cost : costs) { sum += cost.flops; }
  return sum;
}

/// A stretch of constant sizes, as it is expected to be.
struct stage_forecast {
  named_sizes sizes{};
  index first_step = 0;
  index steps = 0;
  index parameters = 0;
  double tokens = 0;
  double flops = 0;
  double milliseconds_per_step = 0;
  double seconds = 0;
};

/// A run, as it is expected to be.
struct forecast {
  std::vector<stage_forecast> stages{}; // stages of the schedule + 1
  double tokens = 0;
  double flops = 0;
  double seconds = 0;
  stage_forecast whole{}; // the final model, trained for as many steps: for the same tokens
  double error = 0;       // relative, of the seconds; step_time::error

  /// The final model's cost over this run's: 2 is half the cost.
  [[nodiscard]] double flops_saving() const noexcept { return flops > 0 ? whole.flops / flops : 0; }
  [[nodiscard]] double time_saving() const noexcept { return seconds > 0 ? whole.seconds / seconds : 0; }
};

/// Predicts a run before it starts. Growth itself, evaluation and checkpoints take time of their own, which is not in.
///
/// cost      sizes to model_cost
/// machine   calibrate(); its tokens per step are the run's
/// steps     of the stages: stage_steps(), or where stages that training decides are expected
/// Throws error{bad_argument} unless the run's lengths are known, and the machine's tokens per step are the run's.
template <std::invocable<const named_sizes&> Cost>
[[nodiscard]] forecast predict(const schedule& timeline, const run_extent& run, const Cost& cost,
                               const step_time& machine, std::span<const index> steps) {
  const std::vector<index> bounds = detail::stretch_bounds(timeline, run, steps, "predict");
  if (machine.tokens_per_step != run.tokens_per_step) {
    throw error{diagnostic{.code = errc::bad_argument,
                           .expected = std::to_string(run.tokens_per_step) + " tokens a step",
                           .found = std::to_string(machine.tokens_per_step),
                           .hint = "calibrate() the machine for this run"}};
  }
  const auto stretch = [&](std::size_t stage, index first, index count) {
    stage_forecast part{.sizes = sizes_after(timeline, stage), .first_step = first, .steps = count};
    const model_cost model = cost(part.sizes);
    part.parameters = model.parameters;
    part.tokens = static_cast<double>(count) * static_cast<double>(run.tokens_per_step);
    part.flops = model.flops_per_token() * part.tokens;
    part.milliseconds_per_step = milliseconds_of(machine, model);
    part.seconds = part.milliseconds_per_step * static_cast<double>(count) / 1000;
    return part;
  };
  forecast result{.whole = stretch(timeline.stages.size(), 0, run.steps), .error = machine.error};
  for (std::size_t i = 0; i + 1 < bounds.size(); ++i) {
    result.stages.push_back(stretch(i, bounds[i], bounds[i + 1] - bounds[i]));
    result.tokens += result.stages.back().tokens;
    result.flops += result.stages.back().flops;
    result.seconds += result.stages.back().seconds;
  }
  return result;
}
template <std::invocable<const named_sizes&> Cost>
[[nodiscard]] forecast predict(const schedule& timeline, const run_extent& run, const Cost& cost,
                               const step_time& machine) {
  const std::vector<index> steps = stage_steps(timeline, run);
  return predict(timeline, run, cost, machine, steps);
}

MSG_NAMESPACE_END
