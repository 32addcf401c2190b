// Whether a stage begins: a pure function of its trigger, of what training has shown, and of the step.
#pragma once

#include <msg/config.hpp>
#include <msg/error.hpp>
#include <msg/loss_curve.hpp>
#include <msg/schedule.hpp>
#include <msg/stage.hpp>
#include <msg/trigger.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <limits>
#include <string>
#include <string_view>
#include <vector>

MSG_NAMESPACE_BEGIN

/// What training has come to, after `step` optimizer steps: sums since the beginning, and losses; a loss that wasn't
/// taken isn't a number. Ranks must agree on every number, seconds included: reduce them before they are put in here.
struct observation {
  index step = 0;
  double flops = 0;
  double seconds = 0;
  double loss = std::numeric_limits<double>::quiet_NaN(); // training, of the step
  double validation_loss = std::numeric_limits<double>::quiet_NaN();
};

/// What a trial came to: the run forked at `step`, grown as the candidate has it, and trained for trigger::window
/// steps.
struct probe_result {
  static constexpr index as_it_is = -1;
  index stage = 0;
  index step = 0;
  index candidate = as_it_is;
  double flops = 0; // of the trial's steps
  double loss_before = 0;
  double loss_after = 0; // both of the same held-out or averaged batches
};

/// A short curve of the model that a stage grows into, trained from scratch: what a slope trigger measures against.
struct expected_curve {
  index stage = 0;
  std::vector<curve_point> points{};
};

/// Everything that decisions depend on, as plain data.
struct observations {
  std::vector<observation> steps{}; // in the order of their steps
  std::vector<probe_result> probes{};
  std::vector<expected_curve> expected{};
};

enum class verdict { wait, probe, grow }; // probe: run the trials, note their results, and ask again
inline constexpr std::array<std::string_view, 3> verdict_names{"wait", "probe", "grow"};

/// What was decided before the forward of a step, what was seen, and why. Plain data for a log.
struct decision {
  index stage = 0;
  index step = 0;
  verdict what = verdict::wait;
  index candidate = probe_result::as_it_is; // of a probe, the one that won
  double seen = 0;                          // the number looked at: a step, a loss, a gain per FLOP
  double limit = 0;                         // what it was compared with
  std::string why{};

  friend bool operator==(const decision&, const decision&) = default;
};

namespace detail {

/// One decision in the making.
struct decider {
  const trigger& at;
  const observations& seen;
  index step;  // now
  index since; // step of the growth before: what was seen until then is of another model
  decision result;
  index forced = 0; // candidate of a probe where not_after says that one must grow

  [[nodiscard]] double loss_of(const observation& o) const noexcept {
    return at.of == loss_source::training ? o.loss : o.validation_loss;
  }
  /// Visits the losses of the steps in (from, to].
  template <class Visit>
  void each_loss(index from, index to, const Visit& visit) const {
    auto o = std::lower_bound(seen.steps.begin(), seen.steps.end(), from + 1,
                              [](const observation& a, index wanted) { return a.step < wanted; });
    for (; o != seen.steps.end() && o->step <= to; ++o) {
      if (std::isfinite(loss_of(*o))) { visit(*o); }
    }
  }
  /// Mean loss of the steps in (from, to]; not a number if there is none.
  [[nodiscard]] double mean(index from, index to) const {
    double sum = 0;
    double count = 0;
    each_loss(from, to, [&](const observation& o) {
      sum += loss_of(o);
      ++count;
    });
    return sum / count;
  }
  /// The window lies behind the last growth as a whole.
  [[nodiscard]] bool full() const noexcept { return step - std::max<index>(at.window, 1) >= since; }

  void verdict_if(bool grow, double value, double limit, std::string_view why) {
    result.what = grow ? verdict::grow : verdict::wait;
    result.seen = std::isfinite(value) ? value : 0;
    result.limit = limit;
    result.why = why;
  }

  void known(const run_extent& run) {
    const index due = step_of(at, run);
    verdict_if(step >= due, static_cast<double>(step), static_cast<double>(due), "the step of its trigger");
  }
  void seconds() {
    double spent = 0;
    for (const observation& o : seen.steps) {
      if (o.step <= step) { spent = std::max(spent, o.seconds); }
    }
    verdict_if(spent >= at.value, spent, at.value, "seconds of training");
  }
  void loss() {
    const double now =
        full() ? mean(step - std::max<index>(at.window, 1), step) : std::numeric_limits<double>::quiet_NaN();
    verdict_if(now <= at.value, now, at.value, "mean loss of the window");
  }
  void plateau() {
    if (!full()) { return; }
    const double first = mean(step - at.window, step - at.window / 2);
    const double second = mean(step - at.window / 2, step);
    const double gained = (first - second) / std::abs(first);
    verdict_if(gained < at.value, gained, at.value, "relative gain of the window's second half over its first");
  }
  void slope() {
    const auto curve = std::find_if(seen.expected.begin(), seen.expected.end(),
                                    [&](const expected_curve& c) { return c.stage == result.stage; });
    if (curve == seen.expected.end()) {
      throw error(
          diagnostic{.code = errc::bad_argument,
                     .expected = "a curve of the model that stage " + std::to_string(result.stage) + " grows into",
                     .found = "none",
                     .hint = "slope trigger; observations::expected"});
    }
    if (!full()) { return; }
    std::vector<curve_point> points;
    each_loss(step - at.window, step, [&](const observation& o) { points.push_back({o.flops, loss_of(o)}); });
    const power_law now = fit_power_law(points);
    if (now.points < 4) { return; }
    const double flops = points.back().flops;
    const double limit = at.value * gain_at_loss(fit_power_law(curve->points), now.loss(flops));
    verdict_if(now.gain(flops) < limit, now.gain(flops), limit, "loss gained per FLOP");
  }
  void probe(index candidates) {
    index last = -1; // step of the last trials
    for (const probe_result& p : seen.probes) {
      if (p.stage == result.stage && p.step <= step) { last = std::max(last, p.step); }
    }
    if (last == step) { return judge(candidates); }
    if (last >= 0 && at.every == 0) { return; } // the winner grew then; or no trial gave a number, and none will
    const index due = last < 0 ? std::max(static_cast<index>(at.value), at.not_before) : last + at.every;
    verdict_if(false, static_cast<double>(step), static_cast<double>(due), "the step of the next trials");
    if (step >= due) { result.what = verdict::probe; }
  }
  /// Of the trials at this step the one with the most loss gained per FLOP; of equals the first.
  void judge(index candidates) {
    const double none = -std::numeric_limits<double>::infinity();
    double best = none;
    double stay = none;
    for (index c = probe_result::as_it_is; c < candidates; ++c) {
      for (const probe_result& p : seen.probes) {
        if (p.stage != result.stage || p.step != step || p.candidate != c) { continue; }
        const double gain = (p.loss_before - p.loss_after) / p.flops;
        if (!std::isfinite(gain) || !(p.flops > 0)) { continue; } // a trial that came to nothing
        if (c == probe_result::as_it_is) {
          stay = std::max(stay, gain);
        } else if (gain > best) {
          best = gain;
          result.candidate = c;
        }
      }
    }
    const bool grow = best > none && (at.every == 0 || best > stay);
    forced = std::max<index>(0, result.candidate);
    if (!grow) { result.candidate = probe_result::as_it_is; }
    verdict_if(grow, best, std::isfinite(stay) ? stay : 0,
               best > none ? "loss gained per FLOP of the best candidate, and as it is" : "no trial gave a number");
  }
};

} // namespace detail

/// Whether stage `stage` begins before the forward of step `step`, that is after `step` optimizer steps. Looks at what
/// was seen up to then, and at nothing else: ranks with the same observations decide alike, and so does a resumed run.
///
///   seconds   the run has trained for `value` seconds
///   loss      mean of the losses of the last `window` steps <= value
///   plateau   (first - second) / |first| < value, the means of the window's halves
///   slope     gain per FLOP of the power law through the window < value * gain of the grown model at the same loss
///   probe     at step `value`: verdict::probe; with the results of that step noted, the candidate with the largest
///             (loss_before - loss_after) / flops grows. With `every`, going on as it is may win, and trials are run
///             again `every` steps later
///
/// Losses before `since`, the step of the growth before, are another model's: windows begin behind it.
/// Throws error{bad_argument} for a trigger that needs a length or a curve that isn't there.
/// Sources: fit_power_law(), gain_at_loss(). Loss per FLOP of short trials: Shen et al. 2022, sec. 4.
[[nodiscard]] inline decision decide(const schedule& timeline, index stage, const observations& seen, index step,
                                     const run_extent& run = {}, index since = 0) {
  const msg::stage& growth = timeline.stages.at(static_cast<std::size_t>(stage));
  const trigger& at = growth.at;
  detail::decider by{at, seen, step, since, {.stage = stage, .step = step}};
  by.result.why = "too little was seen";
  switch (at.kind) {
    case trigger_kind::step:
    case trigger_kind::tokens:
    case trigger_kind::fraction: by.known(run); return by.result;
    case trigger_kind::seconds: by.seconds(); break;
    case trigger_kind::loss: by.loss(); break;
    case trigger_kind::slope: by.slope(); break;
    case trigger_kind::plateau: by.plateau(); break;
    case trigger_kind::probe: by.probe(candidate_count(growth)); break;
  }
  if (by.result.what != verdict::wait && step < at.not_before) {
    by.verdict_if(false, static_cast<double>(step), static_cast<double>(at.not_before), "before not_before");
    by.result.candidate = probe_result::as_it_is;
  }
  if (by.result.what == verdict::wait && at.not_after > 0 && step >= at.not_after) {
    by.verdict_if(true, static_cast<double>(step), static_cast<double>(at.not_after), "not_after is reached");
    by.result.candidate = at.kind == trigger_kind::probe ? by.forced : probe_result::as_it_is;
  }
  return by.result;
}

MSG_NAMESPACE_END
