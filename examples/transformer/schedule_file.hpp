// schedule.json to and from msg::schedule.
#pragma once

#include "transformer/json_file.hpp"

#include <msg/presets.hpp>
#include <msg/ramp.hpp>
#include <msg/schedule.hpp>

#include <algorithm>
#include <filesystem>
#include <iterator>
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

/// {"shape": "linear", "steps": 200}, as schedules and growth.json have it.
[[nodiscard]] inline json ramp_json(const msg::ramp& ramp) {
  return {{"shape", msg::ramp_shape_names[static_cast<std::size_t>(ramp.shape)]}, {"steps", ramp.steps}};
}
/// Reads it; a key left out has the value it has in `otherwise`.
[[nodiscard]] inline msg::ramp read_ramp(const json& value, const std::string& where, findings& found,
                                         const msg::ramp& otherwise = {}) {
  object_reader keys(value, where, found);
  msg::ramp ramp;
  ramp.shape = static_cast<msg::ramp_shape>(
      keys.word("shape", msg::ramp_shape_names, static_cast<std::size_t>(otherwise.shape)));
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

// Whether a trigger's value is a count; else it is a real number.
[[nodiscard]] constexpr bool counts(msg::trigger_kind kind) noexcept {
  return kind == msg::trigger_kind::step || kind == msg::trigger_kind::tokens || kind == msg::trigger_kind::probe;
}
// Whether a trigger looks at losses, of the last `window` steps.
[[nodiscard]] constexpr bool looks_at_loss(msg::trigger_kind kind) noexcept {
  return kind == msg::trigger_kind::loss || kind == msg::trigger_kind::slope || kind == msg::trigger_kind::plateau;
}

// What a trigger has beside its word depends on the word: the rest is unknown.
inline void read_trigger_fields(object_reader& keys, msg::trigger& at) {
  const bool probes = at.kind == msg::trigger_kind::probe;
  if (at.kind == msg::trigger_kind::step) { at.fired = keys.boolean("fired", false); }
  if (!msg::observed(at)) { return; }
  if (looks_at_loss(at.kind)) {
    at.of = static_cast<msg::loss_source>(
        keys.word("of", msg::loss_source_names, static_cast<std::size_t>(msg::loss_source::training)));
  }
  if (looks_at_loss(at.kind) || probes) { at.window = keys.integer("window", 0, most_schedule_count, 0); }
  if (probes) { at.every = keys.integer("every", 0, most_schedule_count, 0); }
  at.not_before = keys.integer("not_before", 0, most_schedule_count, 0);
  at.not_after = keys.integer("not_after", 0, most_schedule_count, 0);
}

[[nodiscard]] inline msg::trigger read_trigger(const json* at, const std::string& where, findings& found) {
  msg::trigger result;
  if (at == nullptr) { return result; }
  object_reader keys(*at, where, found);
  int given = 0;
  for (std::size_t kind = 0; kind < msg::trigger_names.size(); ++kind) {
    const std::string_view name = msg::trigger_names[kind];
    if (keys.find(name) == nullptr) { continue; }
    ++given;
    result.kind = static_cast<msg::trigger_kind>(kind);
    result.value = counts(result.kind) ? static_cast<double>(keys.integer(name, 0, most_schedule_count))
                   : result.kind == msg::trigger_kind::fraction
                       ? keys.number(name, 0, 1)
                       : keys.number(name, 0, std::numeric_limits<double>::infinity());
  }
  if (given == 1) {
    read_trigger_fields(keys, result);
    keys.done();
  } else if (at->is_object()) {
    std::string names;
    for (const std::string_view name : msg::trigger_names) {
      names += (names.empty() ? "" : name == msg::trigger_names.back() ? " and " : ", ") + std::string{name};
    }
    found.add(where, "expected exactly one of " + names + ", found " + std::to_string(given));
  }
  return result;
}

// One word for all axes, or an object of one word per axis.
inline void read_rule(const json* rule, const std::string& where, findings& found, std::string& all,
                      msg::named_words& by_axis) {
  if (rule == nullptr) { return; }
  if (rule->is_string()) {
    all = rule->get<std::string>();
    return;
  }
  if (!rule->is_object()) {
    found.add(where, "expected a string, or an object of one per axis, found " + found_text(*rule));
    return;
  }
  object_reader keys(*rule, where, found);
  for (const std::string& axis : schedule_names().axes) {
    if (keys.find(axis) != nullptr) { by_axis.emplace_back(axis, keys.text(axis)); }
  }
  keys.done();
}

// One ramp per axis; a key left out has the value that the stage's ramp has.
[[nodiscard]] inline msg::named_ramps read_ramps(const json* ramps, const std::string& where, findings& found,
                                                 const msg::ramp& otherwise) {
  msg::named_ramps result;
  if (ramps == nullptr) { return result; }
  object_reader keys(*ramps, where, found);
  for (const std::string& axis : schedule_names().axes) {
    if (const json* ramp = keys.find(axis)) {
      result.emplace_back(axis, read_ramp(*ramp, keys.path(axis), found, otherwise));
    }
  }
  keys.done();
  return result;
}

// A candidate without a rule has the stage's.
[[nodiscard]] inline msg::growth_candidate read_candidate(const json& value, const std::string& where, findings& found,
                                                          const msg::stage& of) {
  msg::growth_candidate result;
  object_reader keys(value, where, found);
  result.grow = read_sizes(keys.require("grow"), keys.path("grow"), found);
  const json* rule = keys.find("rule");
  read_rule(rule, keys.path("rule"), found, result.rule, result.rules);
  if (rule == nullptr) {
    result.rule = of.rule;
    for (const auto& [axis, word] : of.rules) {
      if (msg::size_of(result.grow, axis) > 0) { result.rules.emplace_back(axis, word); }
    }
  }
  keys.done();
  return result;
}

// What a plan expects of a stage that doesn't say which of its candidates will win: the first.
inline void expect_first_candidate(msg::stage& stage) {
  if (stage.candidates.empty()) { return; }
  const auto nobody_grows = [&](const auto& rule) { // left for validate() to find
    return std::none_of(stage.candidates.begin(), stage.candidates.end(),
                        [&](const msg::growth_candidate& c) { return msg::size_of(c.grow, rule.first) > 0; });
  };
  msg::named_words rules = stage.candidates.front().rules;
  std::copy_if(stage.rules.begin(), stage.rules.end(), std::back_inserter(rules), nobody_grows);
  stage.grow = stage.candidates.front().grow;
  stage.rule = stage.candidates.front().rule;
  stage.rules = std::move(rules);
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
  const json* candidates = keys.find("candidates");
  const json* grow = candidates == nullptr ? keys.require("grow") : keys.find("grow");
  result.grow = read_sizes(grow, keys.path("grow"), found);
  read_rule(keys.find("rule"), keys.path("rule"), found, result.rule, result.rules);
  each_element(candidates, keys.path("candidates"), found, [&](const json& candidate, const std::string& place) {
    result.candidates.push_back(read_candidate(candidate, place, found, result));
  });
  if (grow == nullptr) { expect_first_candidate(result); }
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
  result.ramps = read_ramps(keys.find("ramps"), keys.path("ramps"), found, result.ramp);
  if (const json* lr = keys.find("lr")) {
    object_reader inside(*lr, keys.path("lr"), found);
    result.lr.change = static_cast<msg::rate_change>(
        inside.word("at_growth", msg::rate_change_names, static_cast<std::size_t>(result.lr.change)));
    result.lr.steps = inside.integer("steps", 0, most_schedule_count, result.lr.steps);
    result.lr.fresh = inside.number("fresh", 0, std::numeric_limits<double>::infinity(), result.lr.fresh);
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

namespace detail {

[[nodiscard]] inline json sizes_json(const msg::named_sizes& sizes) {
  json object = json::object();
  for (const auto& [axis, size] : sizes) { object[axis] = size; }
  return object;
}

[[nodiscard]] inline json trigger_json(const msg::trigger& at) {
  json object = json::object();
  const auto value = static_cast<msg::index>(at.value);
  object[std::string{msg::trigger_names[static_cast<std::size_t>(at.kind)]}] =
      counts(at.kind) ? json(value) : json(at.value);
  if (at.fired) { object["fired"] = true; }
  if (!msg::observed(at)) { return object; }
  if (looks_at_loss(at.kind)) { object["of"] = msg::loss_source_names[static_cast<std::size_t>(at.of)]; }
  if (looks_at_loss(at.kind) || at.kind == msg::trigger_kind::probe) { object["window"] = at.window; }
  if (at.kind == msg::trigger_kind::probe) { object["every"] = at.every; }
  object["not_before"] = at.not_before;
  object["not_after"] = at.not_after;
  return object;
}

// Of a stage or a candidate. One word per axis: those without a word of their own have the one of all others.
template <class Growth>
[[nodiscard]] json rule_json(const Growth& growth) {
  if (growth.rules.empty()) { return growth.rule; }
  json object = json::object();
  for (const auto& [axis, size] : growth.grow) {
    const auto own =
        std::find_if(growth.rules.begin(), growth.rules.end(), [&a = axis](const auto& r) { return r.first == a; });
    object[axis] = own == growth.rules.end() ? growth.rule : own->second;
  }
  return object;
}

[[nodiscard]] inline json stage_json(const msg::stage& stage) {
  const auto word = [](const auto& names, auto which) { return names[static_cast<std::size_t>(which)]; };
  json object{{"at", trigger_json(stage.at)},
              {"grow", sizes_json(stage.grow)},
              {"rule", rule_json(stage)},
              {"placement", stage.placement},
              {"layers", word(msg::layer_source_names, stage.layers)},
              {"fresh", {{"init", word(msg::fresh_kind_names, stage.fresh.kind)}, {"std", stage.fresh.std}}},
              {"ramp", ramp_json(stage.ramp)},
              {"lr",
               {{"at_growth", word(msg::rate_change_names, stage.lr.change)},
                {"steps", stage.lr.steps},
                {"fresh", stage.lr.fresh}}}};
  for (const auto& [axis, ramp] : stage.ramps) { object["ramps"][axis] = ramp_json(ramp); }
  for (const msg::growth_candidate& c : stage.candidates) {
    object["candidates"].push_back({{"grow", sizes_json(c.grow)}, {"rule", rule_json(c)}});
  }
  return object;
}

} // namespace detail

/// The schedule as schedule.json has it, every key written out that says something: what trainer_state.json embeds.
[[nodiscard]] inline json schedule_json(const msg::schedule& timeline) {
  json stages = json::array();
  for (const msg::stage& stage : timeline.stages) { stages.push_back(detail::stage_json(stage)); }
  return {{"version", 1},
          {"start", detail::sizes_json(timeline.start)},
          {"lr",
           {{"policy", msg::rate_policy_names[static_cast<std::size_t>(timeline.lr.policy)]},
            {"peak", timeline.lr.peak},
            {"min", timeline.lr.min},
            {"warmup_steps", timeline.lr.warmup_steps},
            {"decay_fraction", timeline.lr.decay_fraction}}},
          {"stages", stages}};
}

} // namespace reference
