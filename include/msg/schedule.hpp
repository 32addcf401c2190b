// Growth schedules as plain data: stages, triggers, and their checks.
#pragma once

#include <msg/config.hpp>
#include <msg/error.hpp>
#include <msg/learning_rate.hpp>
#include <msg/ramp.hpp>

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <cstddef>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

MSG_NAMESPACE_BEGIN

// The words of schedule.json, in the order of the enumerators.
enum class trigger_kind { step, tokens, fraction };
inline constexpr std::array<std::string_view, 3> trigger_kind_names{"step", "tokens", "fraction"};
enum class layer_source { stack, interleave, fresh };
inline constexpr std::array<std::string_view, 3> layer_source_names{"stack", "interleave", "fresh"};
enum class fresh_kind { normal, matched, copy, zeros };
inline constexpr std::array<std::string_view, 4> fresh_kind_names{"normal", "matched", "copy", "zeros"};

/// When a stage begins: at an optimizer step, once so many tokens are consumed, or after a part of the run.
struct trigger {
  trigger_kind kind = trigger_kind::step;
  double value = 0; // steps and tokens are exact up to 2^53
};

/// Sizes by axis name, absolute.
using named_sizes = std::vector<std::pair<std::string, index>>;
/// Words by axis name.
using named_words = std::vector<std::pair<std::string, std::string>>;

/// First values of fresh width units; std is for `normal`.
struct fresh_weights {
  fresh_kind kind = fresh_kind::normal;
  double std = 0.02;
};

/// One growth event: what grows, when, and how.
struct stage {
  trigger at{};
  named_sizes grow{};        // new sizes; an axis that isn't named, or keeps its size, does not grow
  std::string rule = "mask"; // of every axis that `rules` doesn't name
  named_words rules{};       // by axis
  std::string placement = "append";
  layer_source layers = layer_source::stack;
  fresh_weights fresh{};
  msg::ramp ramp{};
  rate_at_growth lr{};
};

/// A whole run: the sizes it starts with, its learning rate, and the growths in the order in which they happen.
struct schedule {
  named_sizes start{};
  learning_rate lr{};
  std::vector<stage> stages{};
};

/// Length of a run in optimizer steps, and the tokens one step consumes; 0 where it is not known.
struct run_extent {
  index steps = 0;
  index tokens_per_step = 0;
};

/// Names a caller understands, for validate(). An empty list accepts any name.
struct known_names {
  std::vector<std::string> axes{};
  std::vector<std::string> rules{};
  std::vector<std::string> placements{"append", "prepend", "interleave"};
};

namespace detail {
template <class Value>
[[nodiscard]] const Value* find_named(const std::vector<std::pair<std::string, Value>>& list, std::string_view name) {
  for (const auto& [key, value] : list) {
    if (key == name) { return &value; }
  }
  return nullptr;
}

/// Whether a trigger's step can be told.
[[nodiscard]] constexpr bool resolvable(const trigger& at, const run_extent& run) noexcept {
  return at.kind == trigger_kind::tokens ? run.tokens_per_step > 0 : at.kind == trigger_kind::step || run.steps > 0;
}
} // namespace detail

/// Size of an axis, or 0 if it is not listed.
[[nodiscard]] inline index size_of(const named_sizes& sizes, std::string_view axis) {
  const index* size = detail::find_named(sizes, axis);
  return size == nullptr ? 0 : *size;
}

/// Name of the rule by which a stage grows an axis.
[[nodiscard]] inline const std::string& rule_of(const stage& growth, std::string_view axis) {
  const std::string* rule = detail::find_named(growth.rules, axis);
  return rule == nullptr ? growth.rule : *rule;
}

/// Sizes of every axis once the first `stages` stages have happened (0: at the start).
[[nodiscard]] inline named_sizes sizes_after(const schedule& timeline, std::size_t stages) {
  named_sizes sizes = timeline.start;
  for (std::size_t i = 0; i < stages && i < timeline.stages.size(); ++i) {
    for (auto& [axis, size] : sizes) {
      if (const index* grown = detail::find_named(timeline.stages[i].grow, axis)) { size = *grown; }
    }
  }
  return sizes;
}

/// The step before whose forward a stage grows the model, optimizer steps counted from 0:
///
///   step       that step
///   tokens     the first step s that begins with s * tokens_per_step >= value tokens consumed
///   fraction   the first step s with s / steps >= value, compared in double (0.07 of 100 steps is step 7)
///
/// Throws error{bad_argument} if the trigger needs a length that `run` doesn't know.
[[nodiscard]] inline index step_of(const trigger& at, const run_extent& run) {
  if (!detail::resolvable(at, run)) {
    throw error{diagnostic{.code = errc::bad_argument,
                           .expected = "a run of known length",
                           .hint = std::string{trigger_kind_names[static_cast<std::size_t>(at.kind)]} + " trigger"}};
  }
  if (at.kind == trigger_kind::step) { return static_cast<index>(at.value); }
  if (at.kind == trigger_kind::tokens) {
    const auto tokens = static_cast<index>(at.value);
    return tokens / run.tokens_per_step + (tokens % run.tokens_per_step != 0 ? 1 : 0);
  }
  const auto steps = static_cast<double>(run.steps);
  auto step = static_cast<index>(at.value * steps);
  while (static_cast<double>(step) / steps < at.value) { ++step; }
  return step;
}

/// step_of() each stage.
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

namespace detail {
/// Collects findings; `where` is a path into schedule.json.
struct schedule_findings {
  std::vector<diagnostic> all{};
  std::string where{};

  [[nodiscard]] static std::string text_of(double value) {
    char text[32] = {};
    return {text, std::to_chars(text, text + sizeof text, value).ptr};
  }
  void add(errc code, std::string_view key, std::string axis, std::string expected, std::string found) {
    all.push_back({code, {}, -1, std::move(axis), std::move(expected), std::move(found), where + std::string{key}});
  }
  void check(bool good, std::string_view key, std::string expected, double found) {
    if (!good) { add(errc::bad_argument, key, {}, std::move(expected), text_of(found)); }
  }
  void check_word(const std::vector<std::string>& known, errc code, std::string_view key, std::string axis,
                  const std::string& word) {
    if (known.empty() || std::find(known.begin(), known.end(), word) != known.end()) { return; }
    std::string expected;
    for (const std::string& name : known) { expected += (expected.empty() ? "one of " : ", ") + name; }
    add(code, key, std::move(axis), std::move(expected), word);
  }
  template <class Value>
  void check_once(std::string_view key, const std::vector<std::pair<std::string, Value>>& list) {
    for (const auto& [axis, value] : list) {
      if (find_named(list, axis) != &value) { add(errc::duplicate_name, key, axis, "one entry", "several"); }
    }
  }

  void check_rate(const learning_rate& lr) {
    check(lr.peak > 0 && std::isfinite(lr.peak), ".peak", "more than 0", lr.peak);
    check(lr.min >= 0 && lr.min <= lr.peak, ".min", "from 0 to peak", lr.min);
    check(lr.warmup_steps >= 0, ".warmup_steps", "at least 0", static_cast<double>(lr.warmup_steps));
    check(lr.decay_fraction >= 0 && lr.decay_fraction <= 1, ".decay_fraction", "from 0 to 1", lr.decay_fraction);
  }

  /// before   trigger of the stage before, or null
  /// Returns whether `at` is sound by itself, so that the next one may be compared with it.
  bool check_trigger(const trigger& at, const trigger* before, const run_extent& run) {
    const std::size_t findings = all.size();
    if (at.kind == trigger_kind::fraction) {
      check(at.value > 0 && at.value < 1, ".at", "a fraction between 0 and 1", at.value);
    } else {
      const bool whole = at.value >= 1 && at.value <= 0x1p53 && at.value == std::floor(at.value);
      check(whole, ".at", "a whole number, at least 1", at.value);
    }
    if (all.size() != findings) { return false; }
    const bool known = resolvable(at, run);
    if (known && run.steps > 0 && step_of(at, run) >= run.steps) {
      check(false, ".at", "a step before the end, " + std::to_string(run.steps), static_cast<double>(step_of(at, run)));
    }
    if (before == nullptr) { return true; }
    if (before->kind == at.kind) {
      check(at.value >= before->value, ".at", "at least " + text_of(before->value), at.value);
    } else if (known && resolvable(*before, run)) {
      const index first = step_of(*before, run);
      check(step_of(at, run) >= first, ".at", "at least step " + std::to_string(first),
            static_cast<double>(step_of(at, run)));
    } else {
      add(errc::bad_argument, ".at", {}, "triggers of one kind, or a run of known length",
          std::string{trigger_kind_names[static_cast<std::size_t>(before->kind)]} + " before " +
              std::string{trigger_kind_names[static_cast<std::size_t>(at.kind)]});
    }
    return true;
  }

  /// sizes   of every known axis; takes over those the stage grows to
  /// last    step of the last growth of each axis that grew; likewise
  /// step    of this stage, or -1 if it is not known
  void check_growth(const stage& growth, named_sizes& sizes, std::map<std::string, index>& last, index step) {
    bool grows = false;
    for (const auto& [axis, size] : growth.grow) {
      const auto found = std::find_if(sizes.begin(), sizes.end(), [&name = axis](auto& s) { return s.first == name; });
      if (found == sizes.end()) {
        add(errc::unknown_axis, ".grow", axis, "an axis with a size in start", axis);
        grows = true;
      } else if (size < found->second) {
        add(errc::shrink, ".grow", axis, "at least " + std::to_string(found->second), std::to_string(size));
        grows = true;
      } else if (size > found->second) {
        const auto [before, first] = last.emplace(axis, step);
        if (!first && step >= 0 && before->second == step) {
          add(errc::bad_argument, ".at", axis, "a step after its last growth", std::to_string(step));
        }
        before->second = step;
        found->second = size;
        grows = true;
      }
    }
    if (!grows) { add(errc::bad_size, ".grow", {}, "an axis that grows", "none"); }
    for (const auto& [axis, rule] : growth.rules) {
      if (find_named(growth.grow, axis) == nullptr) { add(errc::unknown_axis, ".rule", axis, "an axis of grow", rule); }
    }
  }
};
} // namespace detail

/// Every fault of a schedule; empty if there is none. `hint` says where it is, as a path into schedule.json.
///
/// run     lengths as far as they are known; without them triggers of different kinds cannot be put in order
/// names   axes, rules and placements the caller understands
[[nodiscard]] inline std::vector<diagnostic> validate(const schedule& timeline, const run_extent& run = {},
                                                      const known_names& names = {}) {
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
    const bool known = before != nullptr && detail::resolvable(growth.at, run);
    found.check_growth(growth, sizes, last, known ? step_of(growth.at, run) : -1);
    found.check_once(".rule", growth.rules);
    found.check_word(names.rules, errc::bad_rule, ".rule", {}, growth.rule);
    for (const auto& [axis, rule] : growth.rules) {
      found.check_word(names.rules, errc::bad_rule, ".rule", axis, rule);
    }
    found.check_word(names.placements, errc::bad_placement, ".placement", {}, growth.placement);
    found.check(growth.fresh.std >= 0 && std::isfinite(growth.fresh.std), ".fresh.std", "at least 0", growth.fresh.std);
    found.check(growth.ramp.steps >= 0, ".ramp.steps", "at least 0", static_cast<double>(growth.ramp.steps));
    const index least = growth.lr.change == rate_change::rewarm ? 1 : 0;
    found.check(growth.lr.steps >= least, ".lr.steps", "at least " + std::to_string(least),
                static_cast<double>(growth.lr.steps));
  }
  return std::move(found.all);
}

MSG_NAMESPACE_END
