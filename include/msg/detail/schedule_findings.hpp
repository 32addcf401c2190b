// Collects every fault of a schedule: the checks of one part each, and where it is.
#pragma once

#include <msg/config.hpp>
#include <msg/error.hpp>
#include <msg/learning_rate.hpp>
#include <msg/ramp.hpp>
#include <msg/stage.hpp>
#include <msg/trigger.hpp>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstddef>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

MSG_NAMESPACE_BEGIN

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

  /// A trigger decided from what training shows; returns whether it is sound.
  bool check_observed(const trigger& at) {
    const std::size_t findings = all.size();
    const auto count = [&](std::string_view key, index value, index least) {
      check(value >= least, std::string{".at"}.append(key), "at least " + std::to_string(least),
            static_cast<double>(value));
    };
    if (at.kind == trigger_kind::probe) {
      check(at.value >= 1 && at.value <= 0x1p53 && at.value == std::floor(at.value), ".at",
            "a whole number, at least 1", at.value);
    } else if (at.kind == trigger_kind::plateau) {
      check(at.value > 0 && at.value < 1, ".at", "a relative improvement between 0 and 1", at.value);
    } else {
      check(at.value > 0 && std::isfinite(at.value), ".at", "more than 0", at.value);
    }
    const bool halves = at.kind == trigger_kind::plateau || at.kind == trigger_kind::slope;
    count(".window", at.window, halves ? 4 : at.kind == trigger_kind::probe ? 1 : 0);
    count(".every", at.every, 0);
    count(".not_before", at.not_before, 0);
    count(".not_after", at.not_after, at.not_after == 0 ? 0 : std::max<index>(1, at.not_before));
    return all.size() == findings;
  }

  /// before   trigger of the stage before, or null
  /// Returns whether `at` is sound by itself, so that the next one may be compared with it.
  bool check_trigger(const trigger& at, const trigger* before, const run_extent& run) {
    if (observed(at)) { return check_observed(at); }
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
    if (before == nullptr || observed(*before)) { return true; }
    if (before->kind == at.kind) {
      check(at.value >= before->value, ".at", "at least " + text_of(before->value), at.value);
    } else if (known && resolvable(*before, run)) {
      const index first = step_of(*before, run);
      check(step_of(at, run) >= first, ".at", "at least step " + std::to_string(first),
            static_cast<double>(step_of(at, run)));
    } else {
      add(errc::bad_argument, ".at", {}, "triggers of one kind, or a run of known length",
          std::string{trigger_names[static_cast<std::size_t>(before->kind)]} + " before " +
              std::string{trigger_names[static_cast<std::size_t>(at.kind)]});
    }
    return true;
  }

  /// What a stage or one of its candidates grows.
  ///
  /// grow, rules   with their place in the stage, "" or ".candidates[0]"
  /// sizes         of every known axis before it
  /// Returns the sizes after it.
  [[nodiscard]] named_sizes check_growth(const named_sizes& grow, const named_words& rules, const std::string& place,
                                         const named_sizes& sizes) {
    named_sizes after = sizes;
    bool grows = false;
    for (const auto& [axis, size] : grow) {
      const auto found = std::find_if(after.begin(), after.end(), [&name = axis](auto& s) { return s.first == name; });
      if (found == after.end()) {
        add(errc::unknown_axis, place + ".grow", axis, "an axis with a size in start", axis);
        grows = true;
      } else if (size < found->second) {
        add(errc::shrink, place + ".grow", axis, "at least " + std::to_string(found->second), std::to_string(size));
        grows = true;
      } else if (size > found->second) {
        found->second = size;
        grows = true;
      }
    }
    if (!grows) { add(errc::bad_size, place + ".grow", {}, "an axis that grows", "none"); }
    check_once(place + ".rule", rules);
    for (const auto& [axis, rule] : rules) {
      if (find_named(grow, axis) == nullptr) {
        add(errc::unknown_axis, place + ".rule", axis, "an axis of grow", rule);
      }
    }
    return after;
  }

  /// last    step of the last growth of each axis that grew; takes over those of this stage
  /// step    of this stage, or -1 if it is not known
  void check_steps(const named_sizes& before, const named_sizes& after, std::map<std::string, index>& last,
                   index step) {
    for (std::size_t i = 0; i < before.size(); ++i) {
      if (after[i].second == before[i].second) { continue; }
      const std::string& axis = before[i].first;
      const auto [earlier, first] = last.emplace(axis, step);
      if (!first && step >= 0 && earlier->second == step) {
        add(errc::bad_argument, ".at", axis, "a step after its last growth", std::to_string(step));
      }
      earlier->second = step;
    }
  }

  void check_names(const std::string& rule, const named_words& rules, const std::string& place,
                   const std::vector<std::string>& known) {
    check_word(known, errc::bad_rule, place + ".rule", {}, rule);
    for (const auto& [axis, word] : rules) { check_word(known, errc::bad_rule, place + ".rule", axis, word); }
  }

  void check_ramps(const stage& growth) {
    const auto steps = [&](std::string_view key, const ramp& shape) {
      check(shape.steps >= 0, key, "at least 0", static_cast<double>(shape.steps));
    };
    steps(".ramp.steps", growth.ramp);
    check_once(".ramps", growth.ramps);
    for (const auto& [axis, shape] : growth.ramps) {
      steps(".ramps." + axis, shape);
      const auto names = [&name = axis](const growth_candidate& c) { return find_named(c.grow, name) != nullptr; };
      if (find_named(growth.grow, axis) == nullptr &&
          std::none_of(growth.candidates.begin(), growth.candidates.end(), names)) {
        add(errc::unknown_axis, ".ramps", axis, "an axis of grow", axis);
      }
    }
  }
};
} // namespace detail

MSG_NAMESPACE_END
