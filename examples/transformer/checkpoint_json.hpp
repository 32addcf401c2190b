// growth.json and trainer_state.json of a checkpoint as plain structs; checkpoint_config.hpp has config.json.
#pragma once

#include "transformer/checkpoint_config.hpp"
#include "transformer/checkpoint_schedule.hpp"
#include "transformer/json_file.hpp"
#include "transformer/schedule_file.hpp"

#include <msg/growth.hpp>

#include <cstdint>
#include <limits>
#include <map>
#include <string>
#include <utility>
#include <vector>

namespace reference {

inline constexpr std::array<std::string_view, 4> placement_names{"append", "prepend", "interleave", "given"};

/// growth.json: the log, as it stands before step `step`. A growth without a mask has the ramp null; the value of a
/// ramp is a matter of the step and isn't stored.
[[nodiscard]] inline json growth_json(const std::vector<msg::growth_record>& log, msg::index step) {
  json growths = json::array();
  for (const msg::growth_record& g : log) {
    growths.push_back({{"id", g.id},
                       {"axis", g.axis},
                       {"from", g.from},
                       {"to", g.to},
                       {"rule", g.rule},
                       {"placement", placement_names[static_cast<std::size_t>(g.placement)]},
                       {"at_step", g.at_step},
                       {"ramp", g.masked ? ramp_json(g.ramp) : json(nullptr)},
                       {"seed", g.seed},
                       {"done", g.done(step)}});
  }
  return {{"version", 1}, {"growths", growths}};
}

/// Reads what growth_json() wrote; an unknown key is an error. Whether the growths fit the model and each other is
/// for msg::growth_state to say. Throws input_error with every finding.
[[nodiscard]] inline std::vector<msg::growth_record> read_growth(const json& document, msg::index step,
                                                                 const std::string& file) {
  findings found(file);
  object_reader top(document, "", found);
  (void)top.integer("version", 1, 1);
  std::vector<msg::growth_record> log;
  each_element(top.require("growths"), "growths", found, [&](const json& element, const std::string& where) {
    object_reader keys(element, where, found);
    msg::growth_record g;
    g.id = keys.integer("id", 0, most_count);
    g.axis = keys.text("axis");
    g.from = keys.integer("from", 1, most_size);
    g.to = keys.integer("to", 1, most_size);
    g.rule = keys.text("rule");
    g.placement = static_cast<msg::placement::order>(keys.word("placement", placement_names));
    g.at_step = keys.integer("at_step", 0, most_count);
    g.seed = keys.unsigned_integer("seed");
    if (const json* ramp = keys.require("ramp"); ramp != nullptr && !ramp->is_null()) {
      g.masked = true;
      g.ramp = read_ramp(*ramp, where + ".ramp", found);
    }
    const bool done = keys.boolean("done");
    keys.done();
    if (found.empty() && done != g.done(step)) {
      found.add(where + ".done", std::string{"expected "} + (done ? "false" : "true") + " at step " +
                                     std::to_string(step) + ", found " + (done ? "true" : "false"));
    }
    log.push_back(std::move(g));
  });
  top.done();
  found.throw_if_any();
  return log;
}

inline constexpr msg::index trainer_state_version = 2;

/// trainer_state.json: where the run stands. `step` is the next step to run.
struct trainer_state {
  msg::index step = 0;
  msg::index tokens = 0;
  double flops = 0;
  double seconds = 0;
  json schedule = nullptr;          // embedded, as it was given; null: no growth
  std::vector<msg::decision> log{}; // which of its stages have begun, and why
  msg::observations seen{};         // what the decisions to come depend on
  json options = json::object();    // command-line options by name
  std::uint64_t seed = 0;
  std::map<std::string, std::uint64_t> counters{}; // of the random streams, by name
  std::string files_hash{};                        // of the training data
  msg::index epoch = 0;
  msg::index position = 0;
  msg::index threads = 0;
  std::string gemm{};
  std::string isa{};
  msg::index metrics_bytes = 0; // length of metrics.jsonl that belongs to this checkpoint
};

[[nodiscard]] inline json trainer_state_json(const trainer_state& state) {
  return {{"version", trainer_state_version},
          {"step", state.step},
          {"tokens", state.tokens},
          {"flops", state.flops},
          {"seconds", state.seconds},
          {"schedule", state.schedule},
          {"decisions", decisions_json(state.log)},
          {"seen", observations_json(state.seen)},
          {"options", state.options},
          {"seed", state.seed},
          {"counters", state.counters},
          {"data", {{"files_hash", state.files_hash}, {"epoch", state.epoch}, {"position", state.position}}},
          {"threads", state.threads},
          {"gemm", state.gemm},
          {"isa", state.isa},
          {"metrics_bytes", state.metrics_bytes}};
}

/// Reads what trainer_state_json() wrote. Throws input_error with every finding.
[[nodiscard]] inline trainer_state read_trainer_state(const json& document, const std::string& file) {
  findings found(file);
  object_reader keys(document, "", found);
  trainer_state state;
  constexpr double infinite = std::numeric_limits<double>::infinity();
  if (const json* version = keys.find("version"); version != nullptr && *version == 1) {
    throw input_error(file + ": version 1 is of a program without a log of decisions: this one cannot resume it");
  }
  (void)keys.integer("version", trainer_state_version, trainer_state_version);
  state.step = keys.integer("step", 0, most_count);
  state.tokens = keys.integer("tokens", 0, most_count);
  state.flops = keys.number("flops", 0, infinite);
  state.seconds = keys.number("seconds", 0, infinite);
  if (const json* schedule = keys.require("schedule")) { state.schedule = *schedule; }
  state.log = read_decisions(keys.require("decisions"), "decisions", found);
  state.seen = read_observations(keys.require("seen"), "seen", found);
  if (const json* options = keys.require("options")) {
    const object_reader checked(*options, "options", found); // which only says if it is no object
    state.options = checked.value();
  }
  state.seed = keys.unsigned_integer("seed");
  if (const json* counters = keys.require("counters")) {
    object_reader inside(*counters, "counters", found);
    if (counters->is_object()) {
      for (const auto& [name, value] : counters->items()) { state.counters[name] = inside.unsigned_integer(name); }
    }
  }
  if (const json* data = keys.require("data")) {
    object_reader inside(*data, "data", found);
    state.files_hash = inside.text("files_hash");
    state.epoch = inside.integer("epoch", 0, most_count);
    state.position = inside.integer("position", 0, most_count);
    inside.done();
  }
  state.threads = keys.integer("threads", 0, most_count);
  state.gemm = keys.text("gemm");
  state.isa = keys.text("isa");
  state.metrics_bytes = keys.integer("metrics_bytes", 0, most_count);
  keys.done();
  found.throw_if_any();
  return state;
}

/// Refuses a resume whose options would make another model or read other data: one line that lists them all. Options
/// that `matter` not may change; one that only one side has counts as changed.
inline void refuse_changed_options(const json& saved, const json& now, const std::vector<std::string>& matter,
                                   const std::string& file) {
  const auto text = [](const json& options, const std::string& name) {
    const auto entry = options.find(name);
    return entry == options.end() ? std::string{"not given"} : found_text(*entry);
  };
  std::string changed;
  for (const std::string& name : matter) {
    if (text(saved, name) == text(now, name) && saved.value(name, json{}) == now.value(name, json{})) { continue; }
    changed +=
        (changed.empty() ? "" : "; ") + ("--" + name) + " expected " + text(saved, name) + ", found " + text(now, name);
  }
  if (!changed.empty()) { throw input_error(file + ": cannot resume with changed options: " + changed); }
}

} // namespace reference
