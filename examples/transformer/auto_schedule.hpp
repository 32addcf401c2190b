// --schedule auto: times this machine, probes the loss, and searches the schedule that comes to the lowest loss within
// a budget of time.
#pragma once

#include "transformer/atomic_file.hpp"
#include "transformer/auto_proposals.hpp"
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
#include <limits>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace reference {

// What becomes of a budget.
inline constexpr double calibration_share = 0.1; // to time steps, at most
inline constexpr double probe_share = 0.15;      // to probe the loss
inline constexpr double final_shares = 3;        // of it, of the final sizes: they are the slowest
inline constexpr double growth_shares = 2.5;     // of a growth to them
inline constexpr double training_share = 0.97;   // of what is left, to train: steps are not all alike
inline constexpr double overrun = 1.04;          // of the budget: a run that is slower than expected stops there
inline constexpr double latest_growth = 0.5;     // of the time: the final model must have some to train
inline constexpr double most_carried = 350;      // predicted tokens by parameter: a small model is full by then
inline constexpr index least_probe_steps = 8;
inline constexpr index most_pauses = 40; // evaluations, and checkpoints, of a run that wasn't told how many

namespace detail {

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

/// The search of search_schedule().
class schedule_search {
public:
  schedule_search(const run_setup& setup, const json& given, training_data& data, printer& terminal)
      : setup_(setup), o_(setup.settings), data_(data), terminal_(terminal), budget_(*duration_of(o_.budget)),
        evaluates_(given.contains("eval-every")), saves_(given.contains("save-every")),
        cost_(costs_of(setup)), wanted_{.sizes = detail::searched_sizes_of(setup),
                                        .choices = detail::smaller_sizes(setup.end),
                                        .tokens_per_step = detail::extent_of(o_).tokens_per_step,
                                        .latest = latest_growth,
                                        .carried = detail::carried_tokens(setup),
                                        .most_carried = most_carried / (data.masked() ? data.hiding.predicted : 1),
                                        .count = 1000,
                                        .base = detail::proposal_base(setup)},
        corners_(detail::sizes_to_probe(wanted_.sizes, wanted_.choices)),
        share_(probe_share * budget_ /
               (static_cast<double>(corners_.size() - 1) + final_shares +
                (detail::probes_growth(wanted_.choices, setup.end) ? growth_shares : 0))),
        fewer_(data, probe_batches * o_.batch) {
    if (corners_.size() < 2) { throw input_error("--schedule auto: the final sizes leave nothing to grow from"); }
  }

  [[nodiscard]] std::optional<found_schedule> run() {
    time_steps();
    if (!probe_losses() || !price_growth()) { return std::nullopt; }
    std::map<msg::named_sizes, index> counted; // a fit asks thousands of times
    const auto parameters = [&](const msg::named_sizes& sizes) {
      const auto [entry, fresh] = counted.try_emplace(sizes, 0);
      if (fresh) { entry->second = parameter_count(resized(setup_.end, sizes)); }
      return entry->second;
    };
    const msg::loss_model model = fit_probes(points_, parameters, {"hidden", "layers"});
    if (!(model.token_scale > 0)) { throw too_small("no loss of a probe falls with tokens"); }

    // What to make of the time that is left, of which evaluations and checkpoints take their part
    const double left = budget_ - watch_.seconds();
    const double ends = pauses_at_ends();
    const msg::step_time all_in = msg::calibrate(cost_, with_pauses_, wanted_.tokens_per_step);
    wanted_.seconds = training_share * (left - ends);
    const double least = 2 * wanted_.cells * msg::milliseconds_of(all_in, cost_(wanted_.sizes)) / 1000;
    if (wanted_.seconds < least) {
      throw too_small(fmt::format("there is no time left for {} steps of the final model", 2 * wanted_.cells),
                      budget_ + 2 * (least - std::min(wanted_.seconds, 0.0)));
    }
    std::vector<msg::proposal> proposals;
    for (msg::proposal& p : msg::propose(wanted_, cost_, parameters, model, &all_in)) {
      p.timeline = detail::finished(std::move(p.timeline), p.run, setup_.end);
      if (possible(p.timeline, p.run)) { proposals.push_back(std::move(p)); }
    }
    const bool costs =
        std::any_of(wanted_.pace.begin(), wanted_.pace.end(), [](const auto& p) { return p.second < 1; });
    const std::string remark = detail::weigh_alone(proposals, model.error, costs);
    found_schedule found{.chosen = proposals.front()};
    const msg::proposal& first = found.chosen;
    const msg::step_time steps_alone = msg::calibrate(cost_, probed_, wanted_.tokens_per_step);
    const double in_steps = msg::predict(first.timeline, first.run, cost_, steps_alone).seconds / first.seconds;
    found.max_seconds = in_steps * (left - ends + (overrun - 1) * budget_);
    found.eval_every = evaluates_ ? o_.eval_every : std::max(o_.eval_every, first.run.steps / most_pauses);
    found.save_every = saves_ ? o_.save_every : std::max(o_.save_every, first.run.steps / most_pauses);
    found.text = fmt::format(
        "loss      fitted to {} losses of {} probes with terms of {}parameters and tokens; error {:.1f} %\n",
        points_.size(), corners_.size(), model.axis_scales.empty() ? "" : "hidden, layers, ", 100 * model.error);
    found.text += fmt::format("search    took {}; {} of the budget are left\n", detail::seconds_text(watch_.seconds()),
                              detail::seconds_text(left));
    found.text += text_of(proposals) + remark;
    return found;
  }

private:
  [[nodiscard]] input_error too_small(const std::string& why,
                                      double enough = std::numeric_limits<double>::infinity()) const {
    const std::string hint =
        std::isfinite(enough) ? fmt::format("; about {} would do", format_duration(std::ceil(enough))) : "";
    return input_error(fmt::format("--budget {}: too small: {}{}", o_.budget, why, hint));
  }
  /// Whether a run may have a timeline: a rule may not, and no two growths may be in one step.
  [[nodiscard]] bool possible(const msg::schedule& timeline, const msg::run_extent& run) const {
    run_setup trial = setup_;
    adopt(trial, {.chosen = {.timeline = timeline, .run = run}});
    try {
      detail::check_stages(trial, "proposal");
    } catch (const input_error&) { return false; }
    return true;
  }

  /// How fast.
  void time_steps() {
    std::vector<sizes_to_time> timed;
    for (const msg::named_sizes& sizes : corners_) { timed.push_back({sizes, {}}); }
    machine_ = measure_machine(setup_, timed, std::min(o_.calibrate, calibration_share * budget_), &data_);
    if (!machine_.measured()) { throw too_small(machine_.why_not); }
    std::string told = machine_text(machine_);
    told.pop_back(); // a note ends its line itself
    terminal_.note(told);
  }
  /// Seconds of an evaluation.
  [[nodiscard]] double evaluation(const msg::named_sizes& sizes, index windows) const {
    return std::ceil(static_cast<double>(windows) / static_cast<double>(o_.batch)) * machine_.find(sizes)->forward /
           1000;
  }
  /// Seconds of the evaluations and checkpoints before the first step, after the last, and where their number isn't
  /// told.
  [[nodiscard]] double pauses_at_ends() const {
    return static_cast<double>(2 + (evaluates_ ? 0 : most_pauses)) * evaluation(corners_.back(), fewer_.before) +
           static_cast<double>(1 + (saves_ ? 0 : most_pauses)) * checkpoint_;
  }

  /// Trains a probe; false if someone asked it to stop.
  [[nodiscard]] bool train(const loss_probe& probe, const std::string& name, std::vector<msg::loss_point>& curve,
                           probe_end& end) const {
    end = run_probe(setup_, probe, scratch_.path() / name, data_, curve);
    if (end.outcome == run_outcome::interrupted) { return false; }
    if (curve.empty()) { throw run_error("a probe found no loss"); }
    std::string sizes = sizes_text(resized(setup_.end, probe.sizes));
    for (const msg::stage& s : probe.stages) { sizes += fmt::format(" to L{}", msg::size_of(s.grow, "layers")); }
    terminal_.note(fmt::format("probe     {:<25} {:>7} tokens, loss {}", sizes,
                               format_count(static_cast<index>(curve.back().tokens)), format_loss(curve.back().loss)));
    return true;
  }

  /// How good; false if someone asked it to stop.
  [[nodiscard]] bool probe_losses() {
    for (std::size_t i = 0; i < corners_.size(); ++i) {
      const bool last = i + 1 == corners_.size();
      const double share = (last ? final_shares : 1) * share_;
      const index losses = last ? curve_points : probe_points;
      const double one_step = machine_.find(corners_[i])->milliseconds / 1000;
      const double one_evaluation = evaluation(corners_[i], data_.validation_windows);
      const double evaluations = static_cast<double>(losses + 2) * one_evaluation;
      const double steps = (share - evaluations) / one_step;
      if (steps < least_probe_steps) {
        const double needed = least_probe_steps * one_step + evaluations;
        throw too_small(fmt::format("a probe of {} has no time for {} steps",
                                    sizes_text(resized(setup_.end, corners_[i])), least_probe_steps),
                        budget_ * needed / share);
      }
      final_steps_ = static_cast<index>(steps);
      curve_.clear();
      probe_end end;
      if (!train({corners_[i], final_steps_, 2 * share, losses}, fmt::format("probe-{}", i), curve_, end)) {
        return false;
      }
      const auto each = static_cast<std::size_t>(losses / probe_points); // no sizes have more of a say than others
      for (std::size_t k = 0; k < curve_.size(); ++k) {
        if ((k + 1) % each == 0 || k + 1 == curve_.size()) { points_.push_back(curve_[k]); }
      }
      // A step with its share of the run's evaluations and checkpoints
      checkpoint_ = std::max(checkpoint_, end.pauses - static_cast<double>(end.evaluations) * one_evaluation);
      const double pauses =
          (evaluates_ && o_.eval_every > 0 ? evaluation(corners_[i], fewer_.before) / static_cast<double>(o_.eval_every)
                                           : 0) +
          (saves_ && o_.save_every > 0 ? checkpoint_ / static_cast<double>(o_.save_every) : 0);
      probed_.push_back({corners_[i], 1000 * end.step_seconds});
      with_pauses_.push_back({corners_[i], 1000 * (end.step_seconds + pauses)});
    }
    return true;
  }
  /// What growth costs; false if someone asked it to stop.
  [[nodiscard]] bool price_growth() {
    if (detail::fewest_layers(wanted_.choices) == 0) { return true; }
    double pace = detail::usual_pace(setup_.end);
    const char* told_by = "the first weights";
    std::optional<loss_probe> probe = detail::growth_probe(wanted_, setup_.end, final_steps_);
    if (probe && possible({.start = probe->sizes, .lr = wanted_.base.lr, .stages = probe->stages},
                          {probe->steps, wanted_.tokens_per_step})) {
      probe->seconds = 2 * growth_shares * share_;
      std::vector<msg::loss_point> grown;
      probe_end end;
      if (!train(*probe, "probe-growth", grown, end)) { return false; }
      const double before = probe->stages.front().at.value * static_cast<double>(wanted_.tokens_per_step); // tokens
      std::erase_if(grown, [&](const msg::loss_point& p) { return p.tokens <= before; });
      if (!grown.empty()) { // it is empty where time ran out
        const double probed = detail::pace_of_doubling(curve_, grown);
        if (probed <= pace) { told_by = "the last probe"; }
        pace = std::min(pace, probed);
      }
    }
    wanted_.pace = {{"layers", pace}};
    terminal_.note(pace < 1 ? fmt::format("growth    a token counts for {:.2g} with each doubling of the layers, by {}",
                                          pace, told_by)
                            : fmt::format("growth    counts as free, by {}", told_by));
    return true;
  }

  [[nodiscard]] std::string text_of(const std::vector<msg::proposal>& proposals) const {
    constexpr std::size_t shown = 4;
    std::string text;
    for (std::size_t i = 0; i < proposals.size(); ++i) {
      const msg::proposal& p = proposals[i];
      if (i >= shown && !p.timeline.stages.empty()) { continue; }
      text += fmt::format("{:>8}. loss {}  {:>8}  {} steps from {}: {}\n", i + 1, format_loss(p.loss),
                          detail::seconds_text(p.seconds), p.run.steps,
                          sizes_text(resized(setup_.end, p.timeline.start)), p.why);
    }
    return text;
  }

  const stopwatch watch_;
  const run_setup& setup_;
  const options& o_;
  const training_data& data_;
  printer& terminal_;
  const double budget_; // seconds
  const bool evaluates_, saves_;
  const cost_by_sizes cost_;
  msg::proposal_request wanted_;
  const std::vector<msg::named_sizes> corners_;
  const double share_; // seconds of a probe
  const detail::fewer_windows fewer_;
  const scratch_folder scratch_;
  machine_timing machine_;
  std::vector<msg::loss_point> points_;                // what the loss is fitted to
  std::vector<msg::loss_point> curve_;                 // of the last probe of the corners
  index final_steps_ = 0;                              // of that probe
  std::vector<msg::step_timing> probed_, with_pauses_; // averages: what a budget is spent by
  double checkpoint_ = 0;                              // seconds
};

/// Searches the schedule of a setup whose timeline is the final model from the start. Nothing if someone asked it to
/// stop.
///
/// given     options by name that someone gave: evaluations and checkpoints come as often as these say
/// data      its validation_windows are fewer for a while
/// terminal  is told what goes on
/// Throws input_error for a budget that is too small.
[[nodiscard]] inline std::optional<found_schedule> search_schedule(const run_setup& setup, const json& given,
                                                                   training_data& data, printer& terminal) {
  return schedule_search(setup, given, data, terminal).run();
}

} // namespace reference
