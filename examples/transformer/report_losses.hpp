// The part of the report about losses: train and validation loss of one run or two, against time, compute and tokens.
#pragma once

#include "transformer/report_chart.hpp"
#include "transformer/report_format.hpp"
#include "transformer/report_metrics.hpp"
#include "transformer/report_stages.hpp"

#include <msg/config.hpp>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <string>
#include <utility>
#include <vector>

namespace reference::report_detail {

// One run as the charts need it.
struct drawn_run {
  const run_records* records;
  std::string name = {};
  std::string css = {}; // "run" or "other"
  run_summary summary = {};
};

[[nodiscard]] inline double x_of(const step_record& r, chart_unit unit) noexcept {
  switch (unit) {
    case chart_unit::seconds: return r.seconds;
    case chart_unit::flops: return r.flops;
    case chart_unit::tokens: return static_cast<double>(r.tokens);
    case chart_unit::steps: break;
  }
  return static_cast<double>(r.step);
}

// Where on the x axis a step is: on the line between the log steps around it, from the origin.
[[nodiscard]] inline double x_of_step(const run_records& run, index step, chart_unit unit) {
  double x = 0;
  index at = 0;
  for (const step_record& r : run.steps) {
    const double next = x_of(r, unit);
    if (!std::isfinite(next)) { continue; }
    if (r.step >= step && r.step > at) {
      return x + (next - x) * static_cast<double>(step - at) / static_cast<double>(r.step - at);
    }
    x = next;
    at = r.step;
  }
  return x;
}

[[nodiscard]] inline std::vector<chart_line> loss_lines(const std::vector<drawn_run>& runs, chart_unit unit) {
  std::vector<chart_line> lines;
  for (const drawn_run& run : runs) {
    chart_line train{.css = "train " + run.css, .points = {}, .dots = false};
    for (const step_record& r : run.records->steps) { train.points.push_back({x_of(r, unit), r.loss}); }
    lines.push_back(std::move(train));
  }
  for (const drawn_run& run : runs) {
    chart_line held_out{.css = "val " + run.css, .points = {}, .dots = false};
    for (const step_record& r : run.records->steps) {
      if (r.val_loss) { held_out.points.push_back({x_of(r, unit), *r.val_loss}); }
    }
    held_out.dots = held_out.points.size() <= 60;
    lines.push_back(std::move(held_out));
  }
  return lines;
}

// All losses, or, where the first third is cut off, those of validation (training where there is none), with room
// around them.
[[nodiscard]] inline chart_range loss_range(const std::vector<chart_line>& lines, double x_low) {
  chart_range all;
  chart_range late;
  for (const chart_line& line : lines) {
    for (const chart_point& p : line.points) {
      all.include(p.y);
      if (line.css.starts_with("val") && p.x >= x_low) { late.include(p.y); }
    }
  }
  chart_range range = x_low > 0 && !late.empty() ? late : all;
  if (range.empty()) { range = {0, 1}; }
  constexpr double most = 1e300; // a loss that exploded must not make the axis infinite
  if (range.low > 0 && std::isfinite(range.high / range.low)) {
    const double room = std::pow(range.high / range.low, x_low > 0 ? 0.12 : 0.05) * (range.high > range.low ? 1 : 1.1);
    return {std::max(range.low / room, 1 / most), std::min(range.high * room, most)};
  }
  const double room = range.high > range.low ? 0.05 * range.high - 0.05 * range.low : 1;
  return {std::max(range.low - room, -most), std::min(range.high + room, most)};
}

[[nodiscard]] inline std::string draw_losses(const std::vector<drawn_run>& runs, chart_unit unit, bool only_end) {
  chart c{.unit = unit,
          .x = {0, 0},
          .y = {},
          .log_y = true,
          .css = "losses",
          .title = "loss in nats (logarithmic)",
          .lines = loss_lines(runs, unit),
          .marks = {}};
  for (const chart_line& line : c.lines) {
    for (const chart_point& p : line.points) { c.x.include(p.x); }
  }
  c.x.high = c.x.high > 0 ? 1.01 * c.x.high : 1; // a little room, or the last dot is cut in half
  c.x.low = only_end ? c.x.high / 3 : 0;
  c.y = loss_range(c.lines, c.x.low);
  const std::vector<growth_event> events = growth_events(runs.front().records->growths);
  for (std::size_t i = 0; i < events.size(); ++i) {
    chart_mark mark{x_of_step(*runs.front().records, events[i].step, unit), fmt::format("{}", i + 1), {}};
    for (const growth_record& g : events[i].axes) {
      mark.labels.push_back(fmt::format("{} {} → {}", g.axis, g.from, g.to));
    }
    c.marks.push_back(std::move(mark));
  }
  return draw_chart(c);
}

[[nodiscard]] inline std::string draw_loss_card(const std::vector<drawn_run>& runs) {
  const std::array<std::pair<const char*, const char*>, 3> units{
      {{"seconds", "Time"}, {"flops", "Compute"}, {"tokens", "Tokens"}}};
  const std::array<std::pair<const char*, const char*>, 2> ranges{{{"whole", "All"}, {"end", "Zoom to the end"}}};
  std::string inputs;
  std::string panels;
  std::string tabs = R"(<div class="tabs"><div class="group">)";
  for (const auto& [id, label] : units) {
    inputs += fmt::format(R"(<input class="pick" type="radio" name="x" id="x-{}"{} aria-label="against {}">)", id,
                          id == units[0].first ? " checked" : "", label);
    tabs += fmt::format(R"(<label for="x-{}">{}</label>)", id, label);
  }
  tabs += R"(</div><div class="group">)";
  for (const auto& [id, label] : ranges) {
    inputs += fmt::format(R"(<input class="pick" type="radio" name="y" id="y-{}"{} aria-label="{}">)", id,
                          id == ranges[0].first ? " checked" : "", label);
    tabs += fmt::format(R"(<label for="y-{}">{}</label>)", id, label);
  }
  for (std::size_t u = 0; u < units.size(); ++u) {
    for (std::size_t r = 0; r < ranges.size(); ++r) {
      panels += fmt::format("<div class=\"panel {}-{}\">{}</div>\n", units[u].first, ranges[r].first,
                            draw_losses(runs, static_cast<chart_unit>(u), r == 1));
    }
  }
  std::string legend = R"(<div class="legend">)";
  for (const drawn_run& run : runs) {
    const std::string name = runs.size() > 1 ? escape_html(run.name) + ": " : std::string();
    legend +=
        fmt::format(R"(<span class="{0}"><i>{1}validation</i></span><span class="thin {0}"><i>{1}training</i></span>)",
                    run.css, name);
  }
  if (!runs.front().records->growths.empty()) { legend += R"(<span class="badged"><i>growth</i></span>)"; }
  return fmt::format("<section class=\"card\"><h2>Loss</h2>{}{}</div></div>{}</div>{}</section>\n", inputs, tabs,
                     legend, panels);
}

// What the pointer shows, as JSON that cannot end the script element it stands in.
[[nodiscard]] inline std::string pointer_data(const std::vector<drawn_run>& runs) {
  constexpr std::size_t most = 1500;
  nlohmann::json all = nlohmann::json::array();
  for (const drawn_run& run : runs) {
    nlohmann::json rows = nlohmann::json::array();
    const std::vector<step_record>& steps = run.records->steps;
    const std::size_t stride = (steps.size() + most - 1) / most;
    nlohmann::json last_val;
    for (std::size_t i = 0; i < steps.size(); ++i) {
      const step_record& r = steps[i];
      if (r.val_loss) { last_val = *r.val_loss; }
      const bool shown = i % stride == 0 || i + 1 == steps.size();
      if (!shown || !std::isfinite(r.seconds) || !std::isfinite(r.flops)) { continue; }
      rows.push_back({r.step, r.seconds, r.flops, r.tokens, r.loss, last_val});
    }
    all.push_back({{"name", run.name}, {"rows", std::move(rows)}});
  }
  std::string text = all.dump(-1, ' ', true, nlohmann::json::error_handler_t::replace);
  for (std::size_t at = 0; (at = text.find('<', at)) != std::string::npos;) { text.replace(at, 1, "\\u003c"); }
  return text;
}

} // namespace reference::report_detail
