// What a growth schedule is made of, as plain data: stages, and what follows from them.
#pragma once

#include <msg/config.hpp>
#include <msg/learning_rate.hpp>
#include <msg/ramp.hpp>
#include <msg/trigger.hpp>

#include <array>
#include <cstddef>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

MSG_NAMESPACE_BEGIN

// The words of schedule.json, in the order of the enumerators.
enum class layer_source { stack, interleave, fresh };
inline constexpr std::array<std::string_view, 3> layer_source_names{"stack", "interleave", "fresh"};
enum class fresh_kind { normal, matched, copy, zeros };
inline constexpr std::array<std::string_view, 4> fresh_kind_names{"normal", "matched", "copy", "zeros"};

/// Sizes by axis name, absolute.
using named_sizes = std::vector<std::pair<std::string, index>>;
/// Words by axis name.
using named_words = std::vector<std::pair<std::string, std::string>>;

/// First values of fresh width units; std is for `normal`.
struct fresh_weights {
  fresh_kind kind = fresh_kind::normal;
  double std = 0.02;
};

/// One of the growths a probe tries in place of its stage's own.
struct growth_candidate {
  named_sizes grow{};
  std::string rule = "mask";
  named_words rules{};
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
  msg::ramp ramp{};    // of every axis that `ramps` doesn't name
  named_ramps ramps{}; // by axis
  rate_at_growth lr{};
  std::vector<growth_candidate> candidates{}; // of a probe; none: the stage's own growth is tried
};

/// A whole run: the sizes it starts with, its learning rate, and the growths in the order in which they happen.
struct schedule {
  named_sizes start{};
  learning_rate lr{};
  std::vector<stage> stages{};
};

namespace detail {
template <class Value>
[[nodiscard]] const Value* find_named(const std::vector<std::pair<std::string, Value>>& list, std::string_view name) {
  for (const auto& [key, value] : list) {
    if (key == name) { return &value; }
  }
  return nullptr;
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

/// Sizes with those that a growth names in place of the old ones.
[[nodiscard]] inline named_sizes sizes_with(named_sizes sizes, const named_sizes& grown) {
  for (auto& [axis, size] : sizes) {
    if (const index* larger = detail::find_named(grown, axis)) { size = *larger; }
  }
  return sizes;
}

/// Sizes of every axis once the first `stages` stages have happened (0: at the start).
[[nodiscard]] inline named_sizes sizes_after(const schedule& timeline, std::size_t stages) {
  named_sizes sizes = timeline.start;
  for (std::size_t i = 0; i < stages && i < timeline.stages.size(); ++i) {
    sizes = sizes_with(std::move(sizes), timeline.stages[i].grow);
  }
  return sizes;
}

/// How many growths a stage's probe tries.
[[nodiscard]] inline index candidate_count(const stage& growth) noexcept {
  return growth.candidates.empty() ? 1 : static_cast<index>(growth.candidates.size());
}

/// The stage as one of its candidates has it.
[[nodiscard]] inline stage with_candidate(stage growth, index candidate) {
  if (candidate >= 0 && candidate < static_cast<index>(growth.candidates.size())) {
    growth_candidate& chosen = growth.candidates[static_cast<std::size_t>(candidate)];
    growth.grow = std::move(chosen.grow);
    growth.rule = std::move(chosen.rule);
    growth.rules = std::move(chosen.rules);
  }
  growth.candidates.clear();
  return growth;
}

MSG_NAMESPACE_END
