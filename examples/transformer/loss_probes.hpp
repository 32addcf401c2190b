// Short runs of small models that tell how the loss of larger and longer ones will fall.
#pragma once

#include "transformer/compare.hpp"
#include "transformer/model_costs.hpp"
#include "transformer/run_directory.hpp"
#include "transformer/run_setup.hpp"
#include "transformer/trainer.hpp"

#include <msg/loss_model.hpp>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <iterator>
#include <limits>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace reference {

inline constexpr index probe_points = 4;  // losses that a probe tells
inline constexpr index probe_batches = 4; // of held-out text that each is the mean of, at most

/// A model trained at a constant rate, and its losses on the way.
struct loss_probe {
  msg::named_sizes sizes{};
  index steps = 0;
  double seconds = 0; // that it may take: it ends there, whatever its steps
  index points = probe_points;
  std::vector<msg::stage> stages{}; // growths on the way
};

/// What a probe came to beside its losses.
struct probe_end {
  run_outcome outcome{};
  double step_seconds = 0; // on the average
  index evaluations = 0;
  double pauses = 0; // seconds that evaluations and one checkpoint took
};

/// Trains a probe in a folder of its own, and appends its losses to `points`.
///
/// data  its validation_windows are fewer while probes run
[[nodiscard]] inline probe_end run_probe(const run_setup& setup, const loss_probe& probe,
                                         const std::filesystem::path& folder, const training_data& data,
                                         std::vector<msg::loss_point>& points) {
  run_setup small = setup;
  small.timeline.stages = probe.stages;
  small.timeline.start = probe.sizes;
  small.timeline.lr.policy = msg::rate_policy::constant;
  small.timeline.lr.warmup_steps = std::min(small.timeline.lr.warmup_steps, probe.steps / 10);
  small.grows = !probe.stages.empty();
  small.start = resized(setup.end, probe.sizes);
  small.end = resized(setup.end, msg::sizes_after(small.timeline, probe.stages.size()));
  small.directory = folder;
  options& o = small.settings;
  o.schedule = "none";
  o.budget.clear();
  o.steps = probe.steps;
  o.max_seconds = probe.seconds;
  o.eval_every = std::max(index{1}, probe.steps / probe.points);
  o.save_every = 0;
  o.log_every = probe.steps;
  prepare_run_directory(folder);
  printer nobody(stdout, {.quiet = true});
  probe_end result;
  {
    trainer run(small, data, nobody);
    const stopwatch watch;
    result.outcome = run.run();
    result.pauses = watch.seconds() - run.seconds();
    result.step_seconds = run.seconds() / static_cast<double>(std::max(index{1}, run.step()));
  }
  const run_records records = records_of(folder);
  index last = 0;
  const auto add = [&](index step, index tokens, double loss) {
    if (step <= last || !std::isfinite(loss)) { return; }
    points.push_back({probe.sizes, static_cast<double>(tokens), loss});
    last = step;
    ++result.evaluations;
  };
  result.evaluations = 1; // before the first step
  for (const step_record& r : records.steps) { add(r.step, r.tokens, r.val_loss.value_or(missing)); }
  if (records.end) { add(records.end->step, records.end->tokens, records.end->val_loss); } // out of time
  return result;
}

/// Fits the loss to probes, with terms of their own for some axes where these predict the probes of one size better
/// from those of the others than the number of parameters alone does.
template <class Parameters>
[[nodiscard]] msg::loss_model fit_probes(std::span<const msg::loss_point> points, const Parameters& parameters,
                                         const std::vector<std::string>& axes) {
  std::vector<msg::named_sizes> sizes;
  for (const msg::loss_point& p : points) {
    if (std::find(sizes.begin(), sizes.end(), p.sizes) == sizes.end()) { sizes.push_back(p.sizes); }
  }
  // Sum of squares of the relative errors of each size, predicted from the others.
  const auto off = [&](const std::vector<std::string>& terms) {
    double squares = 0;
    for (const msg::named_sizes& left_out : sizes) {
      std::vector<msg::loss_point> others;
      std::copy_if(points.begin(), points.end(), std::back_inserter(others),
                   [&](const auto& p) { return p.sizes != left_out; });
      msg::loss_model model;
      try {
        model = msg::fit_loss_model(others, parameters, terms);
      } catch (const msg::error&) { return std::numeric_limits<double>::infinity(); } // too few to tell
      for (const msg::loss_point& p : points) {
        if (p.sizes != left_out) { continue; }
        const double told = model.loss(model.limit(p.sizes, static_cast<double>(parameters(p.sizes))), p.tokens);
        squares += std::pow(told / p.loss - 1, 2);
      }
    }
    return squares;
  };
  const double without = off({});
  const double with = off(axes);
  return msg::fit_loss_model(points, parameters, with < without ? axes : std::vector<std::string>{});
}

} // namespace reference
