// Trials of a run: candidates of a probe trained for some steps from where the run stands, and the short curve of a
// model that a slope trigger is measured against. The run itself is set aside meanwhile, and comes back to the bit.
#pragma once

#include "transformer/report_metrics.hpp"
#include "transformer/stop_signal.hpp"
#include "transformer/trained_model.hpp"

#include <msg/grow.hpp>
#include <msg/schedule_state.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

namespace reference {

/// The growths of a run so far, as its learning rate sees them.
struct growth_course {
  msg::schedule timeline = {}; // stages that have begun as the candidate that won
  std::vector<index> steps = {};
  index total = 0; // steps of the run

  [[nodiscard]] double rate(index step) const {
    return msg::learning_rate_at(timeline.lr, step, total, msg::rate_events(timeline, steps));
  }
  [[nodiscard]] std::vector<msg::birth_rate> fresh_rates(index step) const {
    return msg::fresh_rates(timeline, steps, step);
  }
  /// As it would be if the next stage began now, so.
  [[nodiscard]] growth_course with(const msg::stage& growth, index step) const {
    growth_course next = *this;
    next.timeline.stages[steps.size()] = growth;
    next.steps.push_back(step);
    return next;
  }
};

/// Seed of the fresh weights of a stage, in the run as in its trials.
[[nodiscard]] inline std::uint64_t growth_seed(const options& o, index stage) {
  return msg::random_bits({o.seed, msg::stream_of("growth")}, static_cast<std::uint64_t>(stage));
}

/// Steps of the curve that a slope trigger is measured against: its window, behind the warm-up of the learning rate,
/// whose losses say little of what comes.
[[nodiscard]] inline index curve_steps(const msg::schedule& timeline, const msg::trigger& at) {
  return timeline.lr.warmup_steps + at.window;
}

/// Tries one candidate: grows `start` as it is in the schedule, and trains it on the batches to come as the run would.
///
/// model         borrowed: is another one afterwards
/// now           the growths so far
/// stage         the one to come, with its candidates
/// candidate     msg::probe_result::as_it_is: nothing grows
/// loss_before   of `start`, over the held-out windows
/// Returns nothing if someone asked the run to stop. A loss that is not finite ends a trial, without a result.
[[nodiscard]] inline std::optional<trial_record> try_candidate(trained_model& model, const model_state<float>& start,
                                                               const options& o, const growth_course& now,
                                                               const msg::stage& stage, index candidate, index step,
                                                               data_position position, double loss_before) {
  const auto group = static_cast<index>(now.steps.size());
  const bool grows = candidate != msg::probe_result::as_it_is;
  const msg::stage growth = msg::with_candidate(stage, candidate);
  const growth_course course = grows ? now.with(growth, step) : now;
  model.become(start);
  trial_record record{.step = step,
                      .stage = group,
                      .candidate = candidate,
                      .grows = grows ? growth.grow : named_sizes{},
                      .steps = 0,
                      .loss_before = loss_before};
  if (grows) {
    const msg::plan plan = plan_of_stage(model.sizes(), growth, growth_seed(o, group));
    const stopwatch watch;
    model.grow(plan, step, growth);
    record.seconds += watch.seconds();
  }
  for (index i = 0; i < stage.at.window; ++i) {
    if (stop_requested()) { return std::nullopt; }
    const stopwatch watch;
    const step_numbers found = model.train(step + i, course.rate(step + i), course.fresh_rates(step + i), position);
    record.seconds += watch.seconds();
    record.flops += model.flops_per_step(model.sizes());
    ++record.steps;
    if (!std::isfinite(found.loss) || !std::isfinite(found.squares)) { return record; }
  }
  record.loss_after = model.evaluate(step + stage.at.window).loss;
  return record;
}

/// The curve of the model that the next stage grows into, trained from scratch on the data's first batches, and what it
/// cost. Returns nothing if someone asked the run to stop.
struct expected_trial {
  trial_record record;
  std::vector<msg::curve_point> points;
};
[[nodiscard]] inline std::optional<expected_trial>
train_expected(trained_model& model, const config& sizes, const options& o, const growth_course& now, index step) {
  const msg::stage& stage = now.timeline.stages[now.steps.size()];
  const growth_course scratch{.timeline = {.start = {}, .lr = now.timeline.lr, .stages = {}}, .total = now.total};
  const index warm_up = now.timeline.lr.warmup_steps;
  model.become(initial_state<float>(sizes, o.seed));
  expected_trial result{{.step = step,
                         .stage = static_cast<index>(now.steps.size()),
                         .candidate = 0,
                         .from_scratch = true,
                         .grows = stage.grow},
                        {}};
  trial_record& record = result.record;
  data_position position;
  for (index i = 0; i < curve_steps(now.timeline, stage.at); ++i) {
    if (stop_requested()) { return std::nullopt; }
    const stopwatch watch;
    const step_numbers found = model.train(i, scratch.rate(i), {}, position);
    record.seconds += watch.seconds();
    record.flops += model.flops_per_step(sizes);
    ++record.steps;
    if (i == 0) { record.loss_before = found.loss; }
    if (!std::isfinite(found.loss) || !std::isfinite(found.squares)) { return result; }
    record.loss_after = found.loss;
    if (i >= warm_up) { result.points.push_back({record.flops, found.loss}); }
  }
  return result;
}

} // namespace reference
