// --schedule auto: times this machine, probes the loss, and searches the schedule that comes to the lowest loss within
// a budget of time.
#pragma once

#include "transformer/atomic_file.hpp"
#include "transformer/loss_probes.hpp"
#include "transformer/plan_text.hpp"
#include "transformer/run_setup.hpp"
#include "transformer/schedule_file.hpp"
#include "transformer/scratch_folder.hpp"
#include "transformer/step_timing.hpp"

#include <msg/propose.hpp>

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <initializer_list>
#include <limits>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace reference {

// What becomes of a budget.
inline constexpr double calibration_share = 0.1; // to time steps, at most
inline constexpr double probe_share = 0.1;       // to probe the loss
inline constexpr double training_share = 0.97;   // of what is left, to train: steps are not all alike
inline constexpr double overrun = 1.04;          // of the budget: a run that is slower than expected stops there
inline constexpr double latest_growth = 0.5;     // of the time: the final model must have some to train
inline constexpr double most_carried = 350;      // tokens by parameter: a small model is full by then
inline constexpr index least_probe_steps = 8;
inline constexpr index most_pauses = 40; // evaluations, and checkpoints, of a run that wasn't told how many

namespace detail {

/// A part of a size as a size: to whole multiples of a number that suits it.
[[nodiscard]] inline index rounded_part(index size, double part, index multiple) {
  const auto times = static_cast<index>(std::llround(static_cast<double>(size) * part / static_cast<double>(multiple)));
  return std::max(index{1}, times) * multiple;
}

/// Sizes of the final model, without those that follow from others.
[[nodiscard]] inline msg::named_sizes searched_sizes_of(const run_setup& setup) {
  msg::named_sizes sizes;
  for (const auto& [axis, size] : setup.timeline.start) {
    if (axis != "kv_heads") { sizes.emplace_back(axis, size); }
  }
  return sizes;
}

/// The sizes a run may have on its way: two smaller ones of each width, those of MSG's and compound schedules; and one
/// layer, a third and a half of them.
[[nodiscard]] inline msg::detail::size_choices smaller_sizes(const config& full) {
  msg::detail::size_choices choices;
  const auto add = [&](const char* axis, index size, index multiple, std::initializer_list<double> parts) {
    std::vector<index> some;
    for (const double part : parts) {
      const index smaller = rounded_part(size, part, multiple);
      if (smaller < size && (some.empty() || smaller > some.back())) { some.push_back(smaller); }
    }
    if (!some.empty()) { choices.emplace_back(axis, std::move(some)); }
  };
  const auto round = [](index size) { return size >= 128 ? index{32} : size >= 32 ? index{8} : index{1}; };
  add("hidden", full.hidden, round(full.hidden), {0.5, 2.0 / 3});
  add("ffn", full.ffn, round(full.ffn), {0.25, 0.5});
  add("heads", full.heads, full.heads / kv_heads_of(full), {1.0 / 3, 2.0 / 3}); // groups of queries stay whole
  add("layers", full.layers, 1, {0, 1.0 / 3, 0.5});
  return choices;
}

/// What of a smaller model's tokens counts for one twice as large: nearly all of a shallower one's (Bu 2025, Deep
/// Progressive Training), little of a narrower one's, as benchmarks/run.sh dynamics has it, too: growing depth after
/// half of the tokens loses nothing to the final model from the start, growing width does.
[[nodiscard]] inline std::vector<std::pair<std::string, double>> carried_tokens(const run_setup& setup) {
  std::vector<std::pair<std::string, double>> carried;
  for (const auto& [axis, size] : searched_sizes_of(setup)) {
    carried.emplace_back(axis, axis == "layers" ? 0.9 : 0.3);
  }
  return carried;
}

/// Sizes that are timed and probed: the smallest, the middle, the final ones, and those that are only deep or only
/// wide. The final ones come last.
[[nodiscard]] inline std::vector<msg::named_sizes> sizes_to_probe(const msg::named_sizes& full,
                                                                  const msg::detail::size_choices& choices) {
  const auto at = [&](bool middle, bool deep, bool wide) {
    msg::named_sizes sizes = full;
    for (auto& [axis, size] : sizes) {
      const auto* some = msg::detail::find_named(choices, axis);
      if (some == nullptr || (axis == "layers" ? deep : wide)) { continue; }
      size = middle ? some->back() : some->front();
    }
    return sizes;
  };
  std::vector<msg::named_sizes> all;
  for (msg::named_sizes sizes :
       {at(false, false, false), at(true, false, false), at(false, true, false), at(false, false, true), full}) {
    if (std::find(all.begin(), all.end(), sizes) == all.end()) { all.push_back(std::move(sizes)); }
  }
  return all;
}

/// Whether fresh layers are blended with what passes them by. There copies belong beside their sources, and ramps are
/// short: layers appended to what has learnt alone read streams in which its norms left little of the tokens, and under
/// a long ramp the others come to lean on what passes by (BERT, L6 C16: 1.94 nats by these, 2.02 by the usual).
[[nodiscard]] constexpr bool post_norm(const config& c) noexcept {
  return features_of(c.arch).position == msg::norm_position::post;
}

/// What growths of proposals and their learning rate are like: those of the default schedule, the rate constant up to a
/// decay to nothing at the end, so that growths happen while it is high.
[[nodiscard]] inline msg::schedule proposal_base(const run_setup& setup) {
  msg::schedule base;
  base.lr = setup.timeline.lr;
  base.lr.policy = msg::rate_policy::wsd;
  base.lr.min = 0;
  msg::stage growth;
  if (!setup.settings.rule.empty()) { growth.rule = setup.settings.rule; }
  growth.layers = post_norm(setup.end) ? msg::layer_source::interleave : msg::layer_source::stack;
  growth.lr = {.change = msg::rate_change::rewarm, .steps = 30};
  base.stages = {growth};
  return base;
}

/// A proposal as a run has it. By its length: warm-up and rewarming take at most 5 % of the steps each, ramps 10 % (2 %
/// under post-norm), no ramp more than half of the stretch it begins; the rate decays over all that comes after the
/// last growth. Key-value heads follow the heads.
[[nodiscard]] inline msg::schedule finished(msg::schedule timeline, const msg::run_extent& run, const config& full) {
  const std::vector<index> steps = msg::stage_steps(timeline, run);
  const index part = std::max(index{1}, run.steps / 20);
  timeline.lr.warmup_steps = std::min(timeline.lr.warmup_steps, part);
  const bool groups = kv_heads_of(full) != full.heads;
  const auto follow = [&](msg::named_sizes& sizes) {
    const index heads = msg::size_of(sizes, "heads");
    if (groups && heads > 0) { sizes.emplace_back("kv_heads", heads * kv_heads_of(full) / full.heads); }
  };
  follow(timeline.start);
  for (std::size_t s = 0; s < steps.size(); ++s) {
    msg::stage& stage = timeline.stages[s];
    const index end = s + 1 < steps.size() ? steps[s + 1] : run.steps;
    const index ramp = run.steps / (post_norm(full) ? 50 : 10);
    stage.ramp.steps = std::min(std::max(index{1}, ramp), (end - steps[s]) / 2);
    stage.lr.steps = std::max(index{1}, std::min(stage.lr.steps, part));
    follow(stage.grow);
  }
  timeline.lr.decay_fraction = 0.5;
  if (!steps.empty()) {
    timeline.lr.decay_fraction = static_cast<double>(run.steps - steps.back() - 1) / static_cast<double>(run.steps);
  }
  return timeline;
}

/// While it lives, evaluations of the data are short.
struct fewer_windows {
  training_data& data;
  index before;
  fewer_windows(training_data& of, index windows) : data(of), before(of.validation_windows) {
    data.validation_windows = std::min(before, windows);
  }
  fewer_windows(const fewer_windows&) = delete;
  fewer_windows& operator=(const fewer_windows&) = delete;
  ~fewer_windows() { data.validation_windows = before; }
};

} // namespace detail

/// What a search found.
struct found_schedule {
  msg::proposal chosen{};
  double max_seconds = 0; // of training: the run is stopped there
  index eval_every = 0;
  index save_every = 0;
  std::string text{}; // proposals and reasons, for people
};

/// The setup of the run that was found.
inline void adopt(run_setup& setup, const found_schedule& found) {
  setup.timeline = found.chosen.timeline;
  setup.grows = !setup.timeline.stages.empty();
  setup.start = resized(setup.end, setup.timeline.start);
  options& o = setup.settings;
  o.steps = found.chosen.run.steps;
  o.eval_every = found.eval_every;
  o.save_every = found.save_every;
  o.max_seconds = o.max_seconds > 0 ? std::min(o.max_seconds, found.max_seconds) : found.max_seconds;
}

/// Searches the schedule of a setup whose timeline is the final model from the start. Nothing if someone asked it to
/// stop.
///
/// given     options by name that someone gave: evaluations and checkpoints come as often as these say
/// data      its validation_windows are fewer for a while
/// terminal  is told what goes on
/// Throws input_error for a budget that is too small.
[[nodiscard]] inline std::optional<found_schedule> search_schedule(const run_setup& setup, const json& given,
                                                                   training_data& data, printer& terminal) {
  const options& o = setup.settings;
  const stopwatch watch;
  const auto elapsed = [&] { return watch.seconds(); };
  const double budget = *duration_of(o.budget);
  const auto too_small = [&](const std::string& why, double enough) {
    const std::string hint =
        std::isfinite(enough) ? fmt::format("; about {} would do", format_duration(std::ceil(enough))) : "";
    return input_error(fmt::format("--budget {}: too small: {}{}", o.budget, why, hint));
  };
  const cost_by_sizes cost = costs_of(setup);
  std::map<msg::named_sizes, index> counted; // a fit asks thousands of times
  const auto parameters = [&](const msg::named_sizes& sizes) {
    const auto [entry, fresh] = counted.try_emplace(sizes, 0);
    if (fresh) { entry->second = parameter_count(resized(setup.end, sizes)); }
    return entry->second;
  };
  msg::proposal_request wanted{.sizes = detail::searched_sizes_of(setup),
                               .choices = detail::smaller_sizes(setup.end),
                               .tokens_per_step = detail::extent_of(o).tokens_per_step,
                               .latest = latest_growth,
                               .carried = detail::carried_tokens(setup),
                               .most_carried = most_carried,
                               .count = 1000,
                               .base = detail::proposal_base(setup)};
  const std::vector<msg::named_sizes> corners = detail::sizes_to_probe(wanted.sizes, wanted.choices);
  if (corners.size() < 2) { throw input_error("--schedule auto: the final sizes leave nothing to grow from"); }

  // How fast
  std::vector<sizes_to_time> timed;
  for (const msg::named_sizes& sizes : corners) { timed.push_back({sizes, {}}); }
  const double limit = std::min(o.calibrate, calibration_share * budget);
  const machine_timing machine = measure_machine(setup, timed, limit, &data);
  if (!machine.measured()) { throw too_small(machine.why_not, std::numeric_limits<double>::infinity()); }
  std::string told = machine_text(machine);
  told.pop_back(); // a note ends its line itself
  terminal.note(told);

  // How good
  const auto seconds_of = [&](const msg::named_sizes& sizes) { return machine.find(sizes)->milliseconds / 1000; };
  const auto evaluation = [&](const msg::named_sizes& sizes, index windows) { // seconds
    return std::ceil(static_cast<double>(windows) / static_cast<double>(o.batch)) * machine.find(sizes)->forward / 1000;
  };
  const detail::fewer_windows fewer(data, probe_batches * o.batch);
  std::vector<msg::loss_point> points;
  std::vector<msg::step_timing> probed, with_pauses; // averages: what a budget is spent by
  const bool evaluates = given.contains("eval-every");
  const bool saves = given.contains("save-every");
  double checkpoint = 0; // seconds
  const scratch_folder scratch;
  const auto shares = static_cast<double>(corners.size() + 1); // the final sizes have two: they are the slowest
  for (std::size_t i = 0; i < corners.size(); ++i) {
    const bool last = i + 1 == corners.size();
    const double share = (last ? 2 : 1) * probe_share * budget / shares;
    const double one_evaluation = evaluation(corners[i], data.validation_windows);
    const double evaluations = (probe_points + 2) * one_evaluation;
    const double steps = (share - evaluations) / seconds_of(corners[i]);
    if (steps < least_probe_steps) {
      const double needed = least_probe_steps * seconds_of(corners[i]) + evaluations;
      throw too_small(fmt::format("a probe of {} has no time for {} steps", sizes_text(resized(setup.end, corners[i])),
                                  least_probe_steps),
                      budget * needed / share);
    }
    const loss_probe probe{corners[i], static_cast<index>(steps), 2 * share};
    const probe_end end = run_probe(setup, probe, scratch.path() / fmt::format("probe-{}", i), data, points);
    if (end.outcome == run_outcome::interrupted) { return std::nullopt; }
    if (points.empty()) { throw run_error("a probe found no loss"); }
    terminal.note(fmt::format("probe     {:<25} {:>7} tokens, loss {}", sizes_text(resized(setup.end, probe.sizes)),
                              format_count(points.back().tokens), format_loss(points.back().loss)));
    // A step with its share of the run's evaluations and checkpoints
    checkpoint = std::max(checkpoint, end.pauses - static_cast<double>(end.evaluations) * one_evaluation);
    const double pauses =
        (evaluates && o.eval_every > 0 ? evaluation(corners[i], fewer.before) / static_cast<double>(o.eval_every) : 0) +
        (saves && o.save_every > 0 ? checkpoint / static_cast<double>(o.save_every) : 0);
    probed.push_back({corners[i], 1000 * end.step_seconds});
    with_pauses.push_back({corners[i], 1000 * (end.step_seconds + pauses)});
  }
  const msg::loss_model model = fit_probes(points, parameters, {"hidden", "layers"});
  if (!(model.token_scale > 0)) {
    throw too_small("no loss of a probe falls with tokens", std::numeric_limits<double>::infinity());
  }

  // What to make of the time that is left, of which evaluations and checkpoints take their part
  const double left = budget - elapsed();
  const msg::step_time all_in = msg::calibrate(cost, with_pauses, wanted.tokens_per_step);
  // Those before the first step, after the last, and where their number isn't told
  const double ends =
      static_cast<double>(2 + (evaluates ? 0 : most_pauses)) * evaluation(corners.back(), fewer.before) +
      static_cast<double>(1 + (saves ? 0 : most_pauses)) * checkpoint;
  wanted.seconds = training_share * (left - ends);
  const double least = 2 * wanted.cells * msg::milliseconds_of(all_in, cost(wanted.sizes)) / 1000;
  if (wanted.seconds < least) {
    throw too_small(fmt::format("there is no time left for {} steps of the final model", 2 * wanted.cells),
                    budget + 2 * (least - std::min(wanted.seconds, 0.0)));
  }
  std::vector<msg::proposal> proposals;
  run_setup trial = setup;
  for (msg::proposal& p : msg::propose(wanted, cost, parameters, model, &all_in)) {
    p.timeline = detail::finished(std::move(p.timeline), p.run, setup.end);
    adopt(trial, {.chosen = p});
    try {
      detail::check_stages(trial, "proposal");
    } catch (const input_error&) { continue; } // a rule that cannot, or two growths within a step
    proposals.push_back(std::move(p));
  }
  found_schedule found{.chosen = proposals.front()};
  const msg::proposal& first = found.chosen;
  const double in_steps =
      msg::predict(first.timeline, first.run, cost, msg::calibrate(cost, probed, wanted.tokens_per_step)).seconds /
      first.seconds;
  found.max_seconds = in_steps * (left - ends + (overrun - 1) * budget);
  found.eval_every = evaluates ? o.eval_every : std::max(o.eval_every, first.run.steps / most_pauses);
  found.save_every = saves ? o.save_every : std::max(o.save_every, first.run.steps / most_pauses);
  found.text = fmt::format(
      "loss      fitted to {} losses of {} probes with terms of {}parameters and tokens; error {:.1f} %\n",
      points.size(), corners.size(), model.axis_scales.empty() ? "" : "hidden, layers, ", 100 * model.error);
  found.text += fmt::format("search    took {}; {} of the budget are left\n", detail::seconds_text(elapsed()),
                            detail::seconds_text(left));
  constexpr std::size_t shown = 4;
  for (std::size_t i = 0; i < proposals.size(); ++i) {
    const msg::proposal& p = proposals[i];
    const bool alone = p.timeline.stages.empty();
    if (i >= shown && !alone) { continue; }
    found.text += fmt::format("{:>8}. loss {}  {:>8}  {} steps from {}: {}\n", i + 1, format_loss(p.loss),
                              detail::seconds_text(p.seconds), p.run.steps,
                              sizes_text(resized(setup.end, p.timeline.start)), p.why);
  }
  const auto alone = std::find_if(proposals.begin(), proposals.end(),
                                  [](const msg::proposal& p) { return p.timeline.stages.empty(); });
  if (alone != proposals.begin() && alone->loss - first.loss < model.error * first.loss) {
    found.text += "          the final model from the start is no worse within the fit's error\n";
  }
  return found;
}

} // namespace reference
