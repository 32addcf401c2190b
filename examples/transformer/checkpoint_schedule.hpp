// What a schedule under way has decided and seen, in trainer_state.json: all that msg::schedule_state is restored from.
#pragma once

#include "transformer/checkpoint_config.hpp"
#include "transformer/json_file.hpp"

#include <msg/decision.hpp>
#include <msg/loss_curve.hpp>
#include <msg/schedule_state.hpp>

#include <cmath>
#include <cstddef>
#include <limits>
#include <string>
#include <utility>
#include <vector>

namespace reference {

namespace detail {
/// JSON has no number for a loss that wasn't taken, or isn't finite: null.
[[nodiscard]] inline json number_json(double value) { return std::isfinite(value) ? json(value) : json(nullptr); }

[[nodiscard]] inline double read_number(const json& value, const std::string& where, bool may_miss, findings& found) {
  if (value.is_number()) { return value.get<double>(); }
  if (!value.is_null() || !may_miss) {
    found.add(where, std::string{"expected a number"} + (may_miss ? " or null" : "") + ", found " + found_text(value));
  }
  return std::numeric_limits<double>::quiet_NaN();
}
[[nodiscard]] inline double read_number(object_reader& keys, std::string_view key, bool may_miss) {
  const json* value = keys.require(key);
  return value == nullptr ? 0 : read_number(*value, keys.path(key), may_miss, keys.found());
}
[[nodiscard]] inline std::vector<double> read_numbers(object_reader& keys, std::string_view key, bool may_miss) {
  std::vector<double> numbers;
  each_element(keys.require(key), keys.path(key), keys.found(), [&](const json& value, const std::string& where) {
    numbers.push_back(read_number(value, where, may_miss, keys.found()));
  });
  return numbers;
}
// Columns of a table must be equally long; returns the length they all have.
[[nodiscard]] inline std::size_t same_length(const object_reader& keys, std::string_view first, std::size_t expected,
                                             std::string_view other, std::size_t length, findings& found) {
  if (expected != length) {
    found.add(keys.path(other), "expected " + std::to_string(expected) + " elements, as " + std::string{first} +
                                    " has, found " + std::to_string(length));
  }
  return std::min(expected, length);
}
} // namespace detail

/// The decisions, one object each.
[[nodiscard]] inline json decisions_json(const std::vector<msg::decision>& log) {
  json list = json::array();
  for (const msg::decision& d : log) {
    list.push_back({{"stage", d.stage},
                    {"step", d.step},
                    {"what", msg::verdict_names[static_cast<std::size_t>(d.what)]},
                    {"candidate", d.candidate},
                    {"seen", detail::number_json(d.seen)},
                    {"limit", detail::number_json(d.limit)},
                    {"why", d.why}});
  }
  return list;
}

[[nodiscard]] inline std::vector<msg::decision> read_decisions(const json* list, const std::string& where,
                                                               findings& found) {
  std::vector<msg::decision> log;
  each_element(list, where, found, [&](const json& element, const std::string& place) {
    object_reader keys(element, place, found);
    msg::decision d;
    d.stage = keys.integer("stage", 0, most_count);
    d.step = keys.integer("step", 0, most_count);
    d.what = static_cast<msg::verdict>(keys.word("what", msg::verdict_names));
    d.candidate = keys.integer("candidate", msg::probe_result::as_it_is, most_count);
    d.seen = detail::read_number(keys, "seen", true);
    d.limit = detail::read_number(keys, "limit", true);
    d.why = keys.text("why");
    keys.done();
    log.push_back(std::move(d));
  });
  return log;
}

/// What was seen: steps and curves as columns, trials as objects.
[[nodiscard]] inline json observations_json(const msg::observations& seen) {
  json steps = {{"step", json::array()},
                {"flops", json::array()},
                {"seconds", json::array()},
                {"loss", json::array()},
                {"validation_loss", json::array()}};
  for (const msg::observation& o : seen.steps) {
    steps["step"].push_back(o.step);
    steps["flops"].push_back(o.flops);
    steps["seconds"].push_back(o.seconds);
    steps["loss"].push_back(detail::number_json(o.loss));
    steps["validation_loss"].push_back(detail::number_json(o.validation_loss));
  }
  json trials = json::array();
  for (const msg::probe_result& p : seen.probes) {
    trials.push_back({{"stage", p.stage},
                      {"step", p.step},
                      {"candidate", p.candidate},
                      {"flops", p.flops},
                      {"loss_before", detail::number_json(p.loss_before)},
                      {"loss_after", detail::number_json(p.loss_after)}});
  }
  json curves = json::array();
  for (const msg::expected_curve& c : seen.expected) {
    json curve = {{"stage", c.stage}, {"flops", json::array()}, {"loss", json::array()}};
    for (const msg::curve_point& p : c.points) {
      curve["flops"].push_back(p.flops);
      curve["loss"].push_back(detail::number_json(p.loss));
    }
    curves.push_back(std::move(curve));
  }
  return {{"steps", steps}, {"trials", trials}, {"curves", curves}};
}

[[nodiscard]] inline msg::observations read_observations(const json* value, const std::string& where, findings& found) {
  msg::observations seen;
  if (value == nullptr) { return seen; }
  object_reader keys(*value, where, found);
  if (const json* table = keys.require("steps")) {
    object_reader columns(*table, keys.path("steps"), found);
    std::vector<msg::index> steps;
    each_element(columns.require("step"), columns.path("step"), found, [&](const json& step, const std::string& place) {
      if (!step.is_number_integer()) { found.add(place, "expected an integer, found " + found_text(step)); }
      steps.push_back(step.is_number_integer() ? step.get<msg::index>() : 0);
    });
    std::vector<double> numbers[4];
    constexpr std::string_view names[] = {"flops", "seconds", "loss", "validation_loss"};
    std::size_t count = steps.size();
    for (std::size_t n = 0; n < std::size(names); ++n) {
      numbers[n] = detail::read_numbers(columns, names[n], n >= 2);
      count = std::min(count, detail::same_length(columns, "step", steps.size(), names[n], numbers[n].size(), found));
    }
    columns.done();
    for (std::size_t i = 0; i < count; ++i) {
      seen.steps.push_back({steps[i], numbers[0][i], numbers[1][i], numbers[2][i], numbers[3][i]});
    }
  }
  each_element(keys.require("trials"), keys.path("trials"), found, [&](const json& trial, const std::string& place) {
    object_reader inside(trial, place, found);
    msg::probe_result p;
    p.stage = inside.integer("stage", 0, most_count);
    p.step = inside.integer("step", 0, most_count);
    p.candidate = inside.integer("candidate", msg::probe_result::as_it_is, most_count);
    p.flops = detail::read_number(inside, "flops", false);
    p.loss_before = detail::read_number(inside, "loss_before", true);
    p.loss_after = detail::read_number(inside, "loss_after", true);
    inside.done();
    seen.probes.push_back(p);
  });
  each_element(keys.require("curves"), keys.path("curves"), found, [&](const json& curve, const std::string& place) {
    object_reader inside(curve, place, found);
    msg::expected_curve c{inside.integer("stage", 0, most_count), {}};
    const std::vector<double> flops = detail::read_numbers(inside, "flops", false);
    const std::vector<double> loss = detail::read_numbers(inside, "loss", true);
    const std::size_t count = detail::same_length(inside, "flops", flops.size(), "loss", loss.size(), found);
    for (std::size_t i = 0; i < count; ++i) { c.points.push_back({flops[i], loss[i]}); }
    inside.done();
    seen.expected.push_back(std::move(c));
  });
  keys.done();
  return seen;
}

} // namespace reference
