// Where the stages of a schedule begin, as far as that can be told before they do.
#pragma once

#include <msg/config.hpp>
#include <msg/schedule.hpp>
#include <msg/trigger.hpp>

#include <algorithm>
#include <cstddef>
#include <optional>
#include <span>
#include <vector>

namespace reference {

using msg::index;

/// The step of a trigger; nothing for one that waits for training to show something, unless it has a latest step.
[[nodiscard]] inline std::optional<index> foreseen_step(const msg::trigger& at, const msg::run_extent& run) {
  if (!msg::observed(at)) { return msg::step_of(at, run); }
  std::optional<index> step;
  if (at.kind == msg::trigger_kind::probe && at.every == 0) { // one of the candidates grows at once
    step = std::max(static_cast<index>(at.value), at.not_before);
  }
  if (at.not_after > 0) { step = std::min(step.value_or(at.not_after), at.not_after); }
  return step;
}

/// Steps of the stages up to the first that cannot be told: fewer than there are, if there is one.
///
/// begun   where those that have begun did
/// now     steps done: what is to come comes after
[[nodiscard]] inline std::vector<index> foreseen_steps(const msg::schedule& timeline, const msg::run_extent& run,
                                                       std::span<const index> begun = {}, index now = 0) {
  std::vector<index> steps(begun.begin(), begun.end());
  for (std::size_t s = steps.size(); s < timeline.stages.size(); ++s) {
    const std::optional<index> step = foreseen_step(timeline.stages[s].at, run);
    if (!step) { break; }
    steps.push_back(std::max({*step, now, steps.empty() ? index{0} : steps.back()}));
  }
  return steps;
}

} // namespace reference
