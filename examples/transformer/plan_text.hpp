// What a run will cost before it starts, stage by stage: for --plan-only, and for whoever compares it with what it came
// to.
#pragma once

#include "transformer/foreseen_steps.hpp"
#include "transformer/model_costs.hpp"
#include "transformer/report_format.hpp"
#include "transformer/run_setup.hpp"
#include "transformer/step_timing.hpp"

#include <msg/cost.hpp>

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>
#include <string>
#include <vector>

namespace reference {

/// Steps at which stages are expected: where that can be foreseen, there; the others evenly spread between those.
[[nodiscard]] inline std::vector<index> expected_steps(const msg::schedule& timeline, const msg::run_extent& run) {
  const std::size_t count = timeline.stages.size();
  constexpr index unknown = -1;
  std::vector<index> steps;
  for (const msg::stage& stage : timeline.stages) {
    const std::optional<index> step = foreseen_step(stage.at, run);
    steps.push_back(step ? std::min(*step, run.steps) : unknown);
  }
  for (std::size_t s = 0; s < count; ++s) {
    if (steps[s] != unknown) { continue; }
    std::size_t next = s;
    while (next < count && steps[next] == unknown) { ++next; }
    const index from = s == 0 ? 0 : steps[s - 1];
    const index to = next < count ? steps[next] : run.steps;
    steps[s] = from + (to - from) / static_cast<index>(next - s + 1);
  }
  return steps;
}

/// A stretch of constant sizes, as it is expected to be.
struct stage_outlook {
  msg::stage_forecast cost{}; // milliseconds and seconds only where the machine was measured
  config sizes{};
  msg::memory_bytes memory{};
  bool expected = false;   // training decides when it begins
  bool timed = false;      // its step was measured, not fitted
  double ramp_seconds = 0; // of cost.seconds: what ramping masks add
};

/// A run, as it is expected to be. Growth itself, evaluation and checkpoints take time of their own, which is not in.
struct run_outlook {
  std::vector<stage_outlook> stages{};
  stage_outlook whole{}; // the final model from the start, for as many steps
  double flops = 0;
  double seconds = 0; // 0: the machine was not measured
};

/// Expects the run of a setup: its FLOPs, and the time they take on a machine that was measured. A stage whose sizes
/// were timed has its own time, the others that of the fit.
[[nodiscard]] inline run_outlook outlook_of(const run_setup& setup, const machine_timing& machine) {
  const options& o = setup.settings;
  const msg::run_extent extent = detail::extent_of(o);
  const std::vector<index> steps = expected_steps(setup.timeline, extent);
  const msg::step_time unmeasured{.tokens_per_step = extent.tokens_per_step};
  const msg::forecast told =
      msg::predict(setup.timeline, extent, costs_of(setup), machine.measured() ? machine.fit : unmeasured, steps);
  run_outlook result;
  index ramps_end = 0;
  double ramp_cost = 1; // of a step, in steps without ramps
  const auto stretch = [&](const msg::stage_forecast& forecast) {
    stage_outlook one{.cost = forecast, .sizes = resized(setup.end, forecast.sizes)};
    one.memory = training_memory(one.sizes, o.batch, o.seq);
    const sizes_timing* timing = machine.find(forecast.sizes);
    one.timed = timing != nullptr;
    if (one.timed) { one.cost.milliseconds_per_step = timing->milliseconds; }
    one.cost.seconds = one.cost.milliseconds_per_step * static_cast<double>(forecast.steps) / 1000;
    return one;
  };
  for (std::size_t s = 0; s < told.stages.size(); ++s) {
    stage_outlook one = stretch(told.stages[s]);
    if (s > 0) {
      const msg::stage& growth = setup.timeline.stages[s - 1];
      one.expected = msg::observed(growth.at);
      const sizes_timing* timing = machine.find(one.cost.sizes);
      if (timing != nullptr && timing->in_ramp > 0) { ramp_cost = timing->in_ramp / timing->milliseconds; }
      for (const auto& [axis, size] : growth.grow) {
        ramps_end = std::max(ramps_end, one.cost.first_step + msg::ramp_of(growth.ramps, axis, growth.ramp).steps);
      }
    }
    const index ramping = std::clamp(ramps_end - one.cost.first_step, index{0}, one.cost.steps);
    one.ramp_seconds = (ramp_cost - 1) * one.cost.milliseconds_per_step * static_cast<double>(ramping) / 1000;
    one.cost.seconds += one.ramp_seconds;
    result.flops += one.cost.flops;
    result.seconds += one.cost.seconds;
    result.stages.push_back(std::move(one));
  }
  result.whole = stretch(told.whole);
  return result;
}

namespace detail {

/// 0.4 -> "0.40 s", 42 -> "42.0 s", 192 -> "3:12"
[[nodiscard]] inline std::string seconds_text(double seconds) {
  if (seconds >= 99.5) { return format_duration(seconds); }
  return fmt::format("{:.{}f} s", seconds, seconds < 9.995 ? 2 : 1);
}
[[nodiscard]] inline std::string bytes_text(double bytes) {
  const magnitude size = magnitude_of(bytes, si_prefixes);
  return three_digits(bytes, size.unit) + " " + std::string(size.prefix) + "B";
}
[[nodiscard]] inline std::string milliseconds_text(double value) {
  return fmt::format("{:.{}f}", value, value < 9.995 ? 2 : value < 999.5 ? 1 : 0);
}

} // namespace detail

/// What was measured, in a line or two.
[[nodiscard]] inline std::string machine_text(const machine_timing& machine) {
  if (!machine.measured()) { return fmt::format("time      not measured: {}\n", machine.why_not); }
  const double error = machine.fit.error;
  std::string text = fmt::format("time      steps of {} sizes, measured here in {}", machine.timings.size(),
                                 detail::seconds_text(machine.seconds));
  if (std::isfinite(error)) {
    text += fmt::format("; each is predicted from the others to {:.0f} % or better", std::ceil(100 * error));
  }
  return text + "\n";
}

/// --plan-only: stages, sizes and cost, beside the final model trained for as many steps.
[[nodiscard]] inline std::string plan_text(const run_setup& setup, const machine_timing& machine) {
  const run_outlook run = outlook_of(setup, machine);
  const bool timed = machine.measured();
  std::string text =
      fmt::format("{:<5}  {:>8} {:>8}  {:<25} {:>11} {:>9}", "stage", "step", "steps", "sizes", "parameters", "FLOPs");
  if (timed) { text += fmt::format(" {:>8} {:>8}", "ms/step", "time"); }
  text += fmt::format(" {:>8}\n", "memory");
  bool expected = false;
  const auto line = [&](const std::string& name, const stage_outlook& s) {
    const std::string first = (s.expected ? "~" : "") + std::to_string(s.cost.first_step);
    expected = expected || s.expected;
    text += fmt::format("{:<5}  {:>8} {:>8}  {:<25} {:>11} {:>9.3g}", name, first, s.cost.steps, sizes_text(s.sizes),
                        format_grouped(s.cost.parameters), s.cost.flops);
    if (timed) {
      text += fmt::format(" {:>8} {:>8}", detail::milliseconds_text(s.cost.milliseconds_per_step),
                          detail::seconds_text(s.cost.seconds));
    }
    text += fmt::format(" {:>8}\n", detail::bytes_text(s.memory.total()));
  };
  for (std::size_t s = 0; s < run.stages.size(); ++s) { line(std::to_string(s), run.stages[s]); }
  const auto total = [&](const char* name, double flops, double seconds, const std::string& end) {
    text += fmt::format("{:<{}}{:>9.3g}", name, 65, flops);
    if (timed) { text += fmt::format(" {:>8} {:>8}", "", detail::seconds_text(seconds)); }
    text += end + "\n";
  };
  total("total", run.flops, run.seconds, "");
  if (!setup.timeline.stages.empty()) {
    line("alone", run.whole);
    text += fmt::format("alone: the final model for as many steps; {:.2f} times the FLOPs",
                        run.whole.cost.flops / run.flops);
    if (timed) { text += fmt::format(", {:.2f} times the time", run.whole.cost.seconds / run.seconds); }
    text += "\n";
  }
  if (expected) { text += "~ training decides: the latest step allowed, or evenly spread\n"; }
  text += machine_text(machine);
  if (timed) { text += "          forward, backward and update; growth, evaluation and checkpoints come on top\n"; }
  return text;
}

} // namespace reference
