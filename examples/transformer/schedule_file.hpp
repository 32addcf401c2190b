// schedule.json to and from msg::schedule.
#pragma once

#include "transformer/json_file.hpp"

#include <msg/presets.hpp>
#include <msg/ramp.hpp>
#include <msg/schedule.hpp>

#include <array>
#include <filesystem>
#include <limits>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace reference {

// The first so many axes must have a size at the start; the others have one where they grow, or where they are not what
// the data, the sequence length or the heads make them.
inline constexpr std::size_t required_axes = 4;

inline constexpr msg::index most_schedule_count = msg::index{1} << 53U; // triggers are double: exact up to here

/// What the reference Transformer can be told to do by a schedule.
[[nodiscard]] inline msg::known_names schedule_names() {
  msg::known_names names{.axes = {"hidden", "ffn", "heads", "layers", "kv_heads", "vocab", "positions", "experts"}};
  for (const msg::named_rule& rule : msg::named_rules) { names.rules.emplace_back(rule.name); }
  return names;
}

// In the order of msg::ramp_shape.
inline constexpr std::array<std::string_view, 3> ramp_shape_names{"linear", "cosine", "step"};

/// {"shape": "linear", "steps": 200}, as schedules and growth.json have it.
[[nodiscard]] inline json ramp_json(const msg::ramp& ramp) {
  return {{"shape", ramp_shape_names[static_cast<std::size_t>(ramp.shape)]}, {"steps", ramp.steps}};
}
/// Reads it; a key left out has the value it has in `otherwise`.
[[nodiscard]] inline msg::ramp read_ramp(const json& value, const std::string& where, findings& found,
                                         const msg::ramp& otherwise = {}) {
  object_reader keys(value, where, found);
  msg::ramp ramp;
  ramp.shape =
      static_cast<msg::ramp_shape>(keys.word("shape", ramp_shape_names, static_cast<std::size_t>(otherwise.shape)));
  ramp.steps = keys.integer("steps", 0, most_schedule_count, otherwise.steps);
  keys.done();
  return ramp;
}

namespace detail {

[[nodiscard]] inline msg::named_sizes read_sizes(const json* sizes, const std::string& where, findings& found) {
  msg::named_sizes result;
  if (sizes == nullptr) { return result; }
  object_reader keys(*sizes, where, found);
  for (const std::string& axis : schedule_names().axes) { // in this order, whatever that of the file
    if (keys.find(axis) != nullptr) {
      result.emplace_back(axis, keys.integer(axis, 1, std::numeric_limits<std::int32_t>::max()));
    }
  }
  keys.done();
  return result;
}

[[nodiscard]] inline msg::trigger read_trigger(const json* at, const std::string& where, findings& found) {
  msg::trigger result;
  if (at == nullptr) { return result; }
  object_reader keys(*at, where, found);
  int given = 0;
  for (std::size_t kind = 0; kind < msg::trigger_kind_names.size(); ++kind) {
    const std::string_view name = msg::trigger_kind_names[kind];
    if (keys.find(name) == nullptr) { continue; }
    ++given;
    result.kind = static_cast<msg::trigger_kind>(kind);
    result.value = result.kind == msg::trigger_kind::fraction
                       ? keys.number(name, 0, 1)
                       : static_cast<double>(keys.integer(name, 0, most_schedule_count));
  }
  keys.done();
  if (at->is_object() && given != 1) {
    found.add(where, "expected exactly one of step, tokens and fraction, found " + std::to_string(given));
  }
  return result;
}

// One word for all axes, or an object of one word per axis.
inline void read_rule(const json* rule, const std::string& where, findings& found, msg::stage& result) {
  if (rule == nullptr) { return; }
  if (rule->is_string()) {
    result.rule = rule->get<std::string>();
    return;
  }
  if (!rule->is_object()) {
    found.add(where, "expected a string, or an object of one per axis, found " + found_text(*rule));
    return;
  }
  object_reader keys(*rule, where, found);
  for (const std::string& axis : schedule_names().axes) {
    if (keys.find(axis) != nullptr) { result.rules.emplace_back(axis, keys.text(axis)); }
  }
  keys.done();
}

[[nodiscard]] inline msg::learning_rate read_learning_rate(const json* lr, findings& found) {
  msg::learning_rate result;
  if (lr == nullptr) { return result; }
  constexpr double infinite = std::numeric_limits<double>::infinity();
  object_reader keys(*lr, "lr", found);
  result.policy = static_cast<msg::rate_policy>(
      keys.word("policy", msg::rate_policy_names, static_cast<std::size_t>(result.policy)));
  result.peak = keys.number("peak", 0, infinite, result.peak);
  result.min = keys.number("min", 0, infinite, result.min);
  result.warmup_steps = keys.integer("warmup_steps", 0, most_schedule_count, result.warmup_steps);
  result.decay_fraction = keys.number("decay_fraction", 0, 1, result.decay_fraction);
  keys.done();
  return result;
}

[[nodiscard]] inline msg::stage read_stage(const json& value, const std::string& where, findings& found) {
  msg::stage result;
  object_reader keys(value, where, found);
  result.at = read_trigger(keys.require("at"), keys.path("at"), found);
  result.grow = read_sizes(keys.require("grow"), keys.path("grow"), found);
  read_rule(keys.find("rule"), keys.path("rule"), found, result);
  result.placement = keys.text("placement", result.placement);
  result.layers = static_cast<msg::layer_source>(
      keys.word("layers", msg::layer_source_names, static_cast<std::size_t>(result.layers)));
  if (const json* fresh = keys.find("fresh")) {
    object_reader inside(*fresh, keys.path("fresh"), found);
    result.fresh.kind = static_cast<msg::fresh_kind>(
        inside.word("init", msg::fresh_kind_names, static_cast<std::size_t>(result.fresh.kind)));
    result.fresh.std = inside.number("std", 0, std::numeric_limits<double>::infinity(), result.fresh.std);
    inside.done();
  }
  if (const json* ramp = keys.find("ramp")) { result.ramp = read_ramp(*ramp, keys.path("ramp"), found, result.ramp); }
  if (const json* lr = keys.find("lr")) {
    object_reader inside(*lr, keys.path("lr"), found);
    result.lr.change = static_cast<msg::rate_change>(
        inside.word("at_growth", msg::rate_change_names, static_cast<std::size_t>(result.lr.change)));
    result.lr.steps = inside.integer("steps", 0, most_schedule_count, result.lr.steps);
    inside.done();
  }
  keys.done();
  return result;
}

} // namespace detail

/// Reads a schedule; an unknown key is an error, a key left out has the default of msg::schedule.
///
/// run   length of the run as far as it is known, for the order of triggers of different kinds
/// file  what messages call the document
/// Throws input_error with every finding in one line: of form if there is any, else of msg::validate.
[[nodiscard]] inline msg::schedule read_schedule(const json& document, const msg::run_extent& run,
                                                 const std::string& file) {
  findings found(file);
  msg::schedule result;
  object_reader keys(document, "", found);
  (void)keys.integer("version", 1, 1);
  result.start = detail::read_sizes(keys.require("start"), "start", found);
  const std::vector<std::string> axes = schedule_names().axes;
  for (std::size_t a = 0; a < required_axes; ++a) {
    if (document.is_object() && document.contains("start") && document["start"].is_object() &&
        msg::size_of(result.start, axes[a]) == 0) {
      found.add("start", "missing key '" + axes[a] + "'");
    }
  }
  result.lr = detail::read_learning_rate(keys.find("lr"), found);
  each_element(keys.find("stages"), "stages", found, [&](const json& stage, const std::string& where) {
    result.stages.push_back(detail::read_stage(stage, where, found));
  });
  keys.done();
  found.throw_if_any();
  const std::vector<msg::diagnostic> faults = msg::validate(result, run, schedule_names());
  if (!faults.empty()) { throw input_error(file + ": " + one_line(faults)); }
  return result;
}
[[nodiscard]] inline msg::schedule read_schedule(const std::filesystem::path& path, const msg::run_extent& run = {}) {
  return read_schedule(read_json(path), run, path.string());
}

/// The schedule as schedule.json has it, every key written out: what trainer_state.json embeds.
[[nodiscard]] inline json schedule_json(const msg::schedule& timeline) {
  const auto word = [](const auto& names, auto which) { return names[static_cast<std::size_t>(which)]; };
  const auto sizes = [](const msg::named_sizes& list) {
    json object = json::object();
    for (const auto& [axis, size] : list) { object[axis] = size; }
    return object;
  };
  json stages = json::array();
  for (const msg::stage& stage : timeline.stages) {
    json at = json::object();
    at[std::string{word(msg::trigger_kind_names, stage.at.kind)}] = stage.at.kind == msg::trigger_kind::fraction
                                                                        ? json(stage.at.value)
                                                                        : json(static_cast<msg::index>(stage.at.value));
    json rule = stage.rule;
    if (!stage.rules.empty()) { // one word per axis: those without a word of their own have the stage's
      rule = json::object();
      for (const auto& [axis, size] : stage.grow) { rule[axis] = msg::rule_of(stage, axis); }
    }
    stages.push_back(
        {{"at", at},
         {"grow", sizes(stage.grow)},
         {"rule", rule},
         {"placement", stage.placement},
         {"layers", word(msg::layer_source_names, stage.layers)},
         {"fresh", {{"init", word(msg::fresh_kind_names, stage.fresh.kind)}, {"std", stage.fresh.std}}},
         {"ramp", ramp_json(stage.ramp)},
         {"lr", {{"at_growth", word(msg::rate_change_names, stage.lr.change)}, {"steps", stage.lr.steps}}}});
  }
  return {{"version", 1},
          {"start", sizes(timeline.start)},
          {"lr",
           {{"policy", word(msg::rate_policy_names, timeline.lr.policy)},
            {"peak", timeline.lr.peak},
            {"min", timeline.lr.min},
            {"warmup_steps", timeline.lr.warmup_steps},
            {"decay_fraction", timeline.lr.decay_fraction}}},
          {"stages", stages}};
}

} // namespace reference
