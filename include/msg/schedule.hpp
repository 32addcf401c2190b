// Growth schedules: when their stages begin, what the learning rate sees of them, and every fault they can have.
#pragma once

#include <msg/ages.hpp>
#include <msg/config.hpp>
#include <msg/detail/schedule_findings.hpp>
#include <msg/error.hpp>
#include <msg/learning_rate.hpp>
#include <msg/ramp.hpp>
#include <msg/stage.hpp>
#include <msg/trigger.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <map>
#include <span>
#include <string>
#include <utility>
#include <vector>

MSG_NAMESPACE_BEGIN

/// Names a caller understands, for validate(). An empty list accepts any name.
struct known_names {
  std::vector<std::string> axes{};
  std::vector<std::string> rules{};
  std::vector<std::string> placements{"append", "prepend", "interleave"};
};

/// What validate() lets pass.
struct allowances {
  bool growth_in_decay = false; // see growths_in_decay()
};

/// step_of() each stage. Throws error{bad_argument} for a stage whose step isn't known beforehand.
[[nodiscard]] inline std::vector<index> stage_steps(const schedule& timeline, const run_extent& run) {
  std::vector<index> steps;
  for (const stage& growth : timeline.stages) { steps.push_back(step_of(growth.at, run)); }
  return steps;
}

/// The events of the stages that have begun; `steps` are those of stage_steps(), or where they really happened.
[[nodiscard]] inline std::vector<rate_event> rate_events(const schedule& timeline, std::span<const index> steps) {
  std::vector<rate_event> events;
  for (std::size_t i = 0; i < steps.size() && i < timeline.stages.size(); ++i) {
    events.push_back({steps[i], timeline.stages[i].lr});
  }
  return events;
}

/// Learning-rate factors of the entries that past growths brought, where they aren't 1: what update_step::rates wants.
///
///   factor = fresh + (1 - fresh) c       c: the ramp of the growth; of several ramps the one that is furthest behind
///
/// fresh = 0 makes fresh entries learn in step with their mask, which Adam, being scale-free, doesn't do by itself.
/// steps   of the stages that have begun, as in rate_events()
/// Source: operators.md 5 (a rate that depends on c); method.md 4.
[[nodiscard]] inline std::vector<birth_rate> fresh_rates(const schedule& timeline, std::span<const index> steps,
                                                         index step) {
  std::vector<birth_rate> rates;
  for (std::size_t i = 0; i < steps.size() && i < timeline.stages.size(); ++i) {
    const stage& growth = timeline.stages[i];
    if (growth.lr.fresh == 1 || steps[i] > step) { continue; }
    double c = 1;
    for (const auto& [axis, size] : growth.grow) {
      c = std::min(c, ramp_of(growth.ramps, axis, growth.ramp)(step - steps[i]));
    }
    if (c < 1) { rates.push_back({steps[i], growth.lr.fresh + (1 - growth.lr.fresh) * c}); }
  }
  return rates;
}

/// A finding for every stage that begins in wsd's decay, where what it brings is not trained at the rate it needs:
/// growth belongs in the stable phase. A rewind puts the decay off, so it is none. Stages whose step isn't known
/// beforehand count by their not_after, if they have one; those that repeat what training decided in another run are
/// none, wherever that was.
/// Source: Hu et al. 2024, MiniCPM, sec. 4 (wsd); Bu 2025, Deep Progressive Training (growth before the decay).
[[nodiscard]] inline std::vector<diagnostic> growths_in_decay(const schedule& timeline, const run_extent& run) {
  detail::schedule_findings found;
  if (timeline.lr.policy != rate_policy::wsd || run.steps <= 0) { return {}; }
  const double begin = decay_begin(timeline.lr, run.steps);
  for (std::size_t i = 0; i < timeline.stages.size(); ++i) {
    const trigger& at = timeline.stages[i].at;
    if (timeline.stages[i].lr.change == rate_change::rewind || at.fired) { continue; }
    const bool known = detail::resolvable(at, run);
    if (!known && !(observed(at) && at.not_after > 0)) { continue; }
    const auto step = static_cast<double>(known ? step_of(at, run) : at.not_after);
    found.where = "stages[" + std::to_string(i) + "]";
    found.check(step < begin, known ? ".at" : ".at.not_after",
                "a growth before the decay of the learning rate, from step " +
                    detail::schedule_findings::text_of(begin) + ", or a rewind",
                step);
  }
  return std::move(found.all);
}

/// Every fault of a schedule; empty if there is none. `hint` says where it is, as a path into schedule.json.
///
/// run      lengths as far as they are known; without them triggers of different kinds cannot be put in order
/// names    axes, rules and placements the caller understands
/// allow    faults that aren't to be reported
[[nodiscard]] inline std::vector<diagnostic> validate(const schedule& timeline, const run_extent& run = {},
                                                      const known_names& names = {}, const allowances& allow = {}) {
  detail::schedule_findings found{{}, "start"};
  if (timeline.start.empty()) { found.add(errc::bad_size, "", {}, "a size for each axis", "none"); }
  found.check_once("", timeline.start);
  for (const auto& [axis, size] : timeline.start) {
    found.check_word(names.axes, errc::unknown_axis, "", axis, axis);
    if (size < 1) { found.add(errc::bad_size, "", axis, "at least 1", std::to_string(size)); }
  }
  found.where = "lr";
  found.check_rate(timeline.lr);

  named_sizes sizes = timeline.start;
  std::map<std::string, index> last;
  const trigger* before = nullptr;
  for (std::size_t i = 0; i < timeline.stages.size(); ++i) {
    const stage& growth = timeline.stages[i];
    found.where = "stages[" + std::to_string(i) + "]";
    before = found.check_trigger(growth.at, before, run) ? &growth.at : nullptr;
    found.check_once(".grow", growth.grow);
    named_sizes after = sizes;
    if (growth.candidates.empty() || !growth.grow.empty()) {
      after = found.check_growth(growth.grow, growth.rules, "", sizes);
      found.check_names(growth.rule, growth.rules, "", names.rules);
    }
    if (!growth.candidates.empty() && growth.at.kind != trigger_kind::probe) {
      found.add(errc::bad_argument, ".candidates", {}, "a probe trigger",
                std::string{trigger_names[static_cast<std::size_t>(growth.at.kind)]});
    }
    for (std::size_t c = 0; c < growth.candidates.size(); ++c) {
      const growth_candidate& candidate = growth.candidates[c];
      const std::string place = ".candidates[" + std::to_string(c) + "]";
      found.check_once(place + ".grow", candidate.grow);
      const named_sizes grown = found.check_growth(candidate.grow, candidate.rules, place, sizes);
      found.check_names(candidate.rule, candidate.rules, place, names.rules);
      for (std::size_t a = 0; a < after.size(); ++a) { // what comes later must grow from the largest of them
        after[a].second = std::max(after[a].second, grown[a].second);
      }
    }
    const bool known = before != nullptr && detail::resolvable(growth.at, run);
    found.check_steps(sizes, after, last, known ? step_of(growth.at, run) : -1);
    sizes = std::move(after);
    found.check_word(names.placements, errc::bad_placement, ".placement", {}, growth.placement);
    found.check(growth.fresh.std >= 0 && std::isfinite(growth.fresh.std), ".fresh.std", "at least 0", growth.fresh.std);
    found.check_ramps(growth);
    const index least = growth.lr.change == rate_change::rewarm ? 1 : 0;
    found.check(growth.lr.steps >= least, ".lr.steps", "at least " + std::to_string(least),
                static_cast<double>(growth.lr.steps));
    found.check(growth.lr.fresh >= 0 && std::isfinite(growth.lr.fresh), ".lr.fresh", "at least 0", growth.lr.fresh);
  }
  if (!allow.growth_in_decay && found.all.empty()) { return growths_in_decay(timeline, run); }
  return std::move(found.all);
}

MSG_NAMESPACE_END
