// The part of the report about growth: sizes over the steps, mask ramps, a table of stages and one of growths.
#pragma once

#include "transformer/report_chart.hpp"
#include "transformer/report_format.hpp"
#include "transformer/report_metrics.hpp"
#include "transformer/report_trials.hpp"

#include <msg/config.hpp>

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace reference {

/// Consecutive steps with one set of sizes.
struct run_stage {
  index first_step = 0; // the growth that began it, or 0
  index last_step = 0;
  named_sizes dims = {};
  index parameters = 0;
  double val_loss = missing;          // the last one measured in it
  double tokens_per_second = missing; // mean over its log steps
};

[[nodiscard]] inline std::vector<run_stage> stages_of(const run_records& run) {
  std::vector<run_stage> stages;
  double speed = 0;
  index speeds = 0;
  for (const step_record& r : run.steps) {
    if (stages.empty() || stages.back().dims != r.dims) {
      index begin = stages.empty() ? 0 : stages.back().last_step;
      for (const growth_record& g : run.growths) {
        if (!stages.empty() && g.step >= begin && g.step < r.step) { begin = g.step; }
      }
      if (!stages.empty()) { stages.back().last_step = begin; }
      stages.push_back({.first_step = begin, .last_step = r.step, .dims = r.dims, .parameters = r.parameters});
      speed = 0;
      speeds = 0;
    }
    run_stage& stage = stages.back();
    stage.last_step = r.step;
    if (r.val_loss) { stage.val_loss = *r.val_loss; }
    if (std::isfinite(r.tokens_per_second)) {
      speed += r.tokens_per_second;
      stage.tokens_per_second = speed / static_cast<double>(++speeds);
    }
  }
  return stages;
}

/// One growth: the records of all axes that grew together.
struct growth_event {
  index step = 0;
  std::vector<growth_record> axes = {};
};

[[nodiscard]] inline std::vector<growth_event> growth_events(const std::vector<growth_record>& growths) {
  std::vector<growth_event> events;
  for (const growth_record& g : growths) {
    if (events.empty() || events.back().step != g.step || events.back().axes.back().group != g.group) {
      events.push_back({g.step, {}});
    }
    events.back().axes.push_back(g);
  }
  return events;
}

namespace report_detail {

// The style class that colours an axis.
[[nodiscard]] inline std::string axis_class(std::string_view axis) {
  for (const std::string_view known : {"hidden", "ffn", "heads", "layers"}) {
    if (axis == known) { return std::string(known); }
  }
  return "more";
}

[[nodiscard]] inline index size_of(const run_stage& stage, const std::string& axis) {
  if (axis == "parameters") { return stage.parameters; }
  for (const auto& [name, size] : stage.dims) {
    if (name == axis) { return size; }
  }
  return 0;
}

// The axes that change, and the four of the model; a size that never changes would only be noise (head_dim).
[[nodiscard]] inline std::vector<std::string> axes_of(const std::vector<run_stage>& stages) {
  std::vector<std::string> axes;
  for (const run_stage& stage : stages) {
    for (const auto& [axis, size] : stage.dims) {
      const bool changes = size_of(stages.front(), axis) != size;
      const bool seen = std::find(axes.begin(), axes.end(), axis) != axes.end();
      if (!seen && (changes || axis_class(axis) != "more")) { axes.push_back(axis); }
    }
  }
  return axes;
}

// One row per axis, one block per size, as wide as its steps are many and as high as the size.
[[nodiscard]] inline std::string draw_strip(const std::vector<run_stage>& stages, const std::string& axis,
                                            double steps) {
  index largest = 1;
  for (const run_stage& stage : stages) { largest = std::max(largest, size_of(stage, axis)); }
  std::string blocks;
  for (std::size_t i = 0; i < stages.size();) {
    const index size = size_of(stages[i], axis);
    std::size_t last = i;
    while (last + 1 < stages.size() && size_of(stages[last + 1], axis) == size) { ++last; }
    const double left = 100 * static_cast<double>(stages[i].first_step) / steps;
    const double right = last + 1 == stages.size() ? 100 : 100 * static_cast<double>(stages[last].last_step) / steps;
    const std::string text = axis == "parameters" ? format_count(static_cast<double>(size)) : fmt::format("{}", size);
    blocks += fmt::format(R"(<div class="block" style="left:{:.2f}%;width:{:.2f}%" title="{} {} from step {} to )"
                          R"({}"><i style="height:{:.1f}%"></i><b>{}</b></div>)",
                          left, std::max(right - left, 0.0), escape_html(axis), text, stages[i].first_step,
                          stages[last].last_step, 100 * static_cast<double>(size) / static_cast<double>(largest), text);
    i = last + 1;
  }
  const std::string name = axis == "parameters" ? "params" : axis == "kv_heads" ? "kv" : axis;
  return fmt::format("<div class=\"strip\"><div class=\"name\">{}</div><div class=\"track {}\">{}</div></div>\n",
                     escape_html(name), axis_class(axis), blocks);
}

// The mask value of every axis that ever had a ramp; a line breaks where the axis has none under way.
[[nodiscard]] inline std::vector<chart_line> mask_lines(const run_records& run, std::vector<std::string>& axes) {
  std::vector<chart_line> lines;
  for (const step_record& r : run.steps) {
    for (const auto& [axis, value] : r.masks) {
      if (std::find(axes.begin(), axes.end(), axis) == axes.end()) { axes.push_back(axis); }
    }
  }
  std::stable_sort(axes.begin(), axes.end(),
                   [](const std::string& a, const std::string& b) { return axis_rank(a) < axis_rank(b); });
  for (const std::string& axis : axes) {
    chart_line line{.css = axis_class(axis), .points = {}, .dots = false};
    for (const step_record& r : run.steps) {
      const auto found = std::find_if(r.masks.begin(), r.masks.end(), [&](const auto& m) { return m.first == axis; });
      line.points.push_back({static_cast<double>(r.step), found == r.masks.end() ? missing : found->second});
    }
    lines.push_back(std::move(line));
  }
  return lines;
}

[[nodiscard]] inline std::string draw_growth_charts(const run_records& run, double steps) {
  std::vector<chart_mark> marks;
  const std::vector<growth_event> events = growth_events(run.growths);
  for (std::size_t i = 0; i < events.size(); ++i) {
    marks.push_back({static_cast<double>(events[i].step), fmt::format("{}", i + 1), {}});
  }
  std::string html;
  std::vector<std::string> axes;
  std::vector<chart_line> masks = mask_lines(run, axes);
  if (!axes.empty()) {
    html += R"(<div class="legend" style="margin-top:16px"><i class="key">Masks of fresh units</i>)";
    for (const std::string& axis : axes) {
      html += fmt::format(R"(<span class="{}"><i>{}</i></span>)", axis_class(axis), escape_html(axis));
    }
    html += "</div>";
    html += draw_chart({.unit = chart_unit::steps,
                        .x = {0, steps},
                        .y = {0, 1.04},
                        .log_y = false,
                        .css = "low",
                        .title = "mask value c: 0 silent, 1 part of the model",
                        .lines = std::move(masks),
                        .marks = marks});
  }
  chart_line rate{.css = "more", .points = {}, .dots = false};
  chart_range range{0, 0};
  for (const step_record& r : run.steps) {
    rate.points.push_back({static_cast<double>(r.step), r.lr});
    range.include(r.lr);
  }
  if (range.high > 0) {
    range.high *= 1.06;
    html += R"(<div style="height:14px"></div>)";
    html += draw_chart({.unit = chart_unit::steps,
                        .x = {0, steps},
                        .y = range,
                        .log_y = false,
                        .css = "low",
                        .title = "learning rate",
                        .lines = {std::move(rate)},
                        .marks = std::move(marks)});
  }
  return html;
}

[[nodiscard]] inline std::string draw_stage_table(const std::vector<run_stage>& stages) {
  const std::vector<std::string> axes = axes_of(stages);
  std::string html = R"(<div class="wide"><table><thead><tr><th class="l">stage</th><th class="l">steps</th>)";
  for (const std::string& axis : axes) { html += fmt::format("<th>{}</th>", escape_html(axis)); }
  html += "<th>parameters</th><th>tokens/s</th><th>validation loss at its end</th></tr></thead><tbody>\n";
  for (std::size_t i = 0; i < stages.size(); ++i) {
    const run_stage& stage = stages[i];
    html +=
        fmt::format(R"(<tr><td class="l">{}</td><td class="l">{}–{}</td>)", i + 1, stage.first_step, stage.last_step);
    for (const std::string& axis : axes) {
      const bool changed = i > 0 && size_of(stages[i - 1], axis) != size_of(stage, axis);
      html += fmt::format("<td{}>{}</td>", changed ? R"( class="new")" : "", size_of(stage, axis));
    }
    html += fmt::format("<td>{}</td><td>{}</td><td>{}</td></tr>\n",
                        stage.parameters > 0 ? format_grouped(stage.parameters) : std::string(no_value),
                        format_count(stage.tokens_per_second), format_loss(stage.val_loss));
  }
  return html + "</tbody></table></div>\n";
}

[[nodiscard]] inline std::string draw_growth_table(const std::vector<growth_event>& events) {
  const bool reasons = std::any_of(events.begin(), events.end(),
                                   [](const growth_event& e) { return !reason_of(e.axes.front()).empty(); });
  std::string html =
      R"(<div class="wide"><table><thead><tr><th class="l">growth</th><th>step</th><th class="l">axis)"
      R"(</th><th class="l">from → to</th><th class="l">rule</th><th>loss before</th><th>loss after</th>)"
      "<th>difference</th><th>largest logit change</th><th>same bits</th>";
  html += std::string(reasons ? R"(<th class="l">why then</th>)" : "") + "</tr></thead><tbody>\n";
  for (std::size_t i = 0; i < events.size(); ++i) {
    for (std::size_t a = 0; a < events[i].axes.size(); ++a) {
      const growth_record& g = events[i].axes[a];
      html += "<tr>";
      html += a == 0 ? fmt::format(R"(<td class="l"><span class="badge">{}</span></td><td>{}</td>)", i + 1, g.step)
                     : std::string("<td></td><td></td>");
      html += fmt::format(R"(<td class="l">{}</td><td class="l">{} → {}</td><td class="l">{}</td>)",
                          escape_html(g.axis), g.from, g.to, escape_html(g.rule));
      const std::string logits = g.max_abs_logit_diff == 0             ? "0"
                                 : std::isfinite(g.max_abs_logit_diff) ? fmt::format("{:.1e}", g.max_abs_logit_diff)
                                                                       : std::string(no_value);
      html += fmt::format("<td>{}</td><td>{}</td><td>{}</td><td>{}</td><td{}>{}</td>", format_loss(g.loss_before),
                          format_loss(g.loss_after), format_difference(g.loss_after - g.loss_before), logits,
                          g.bits_equal ? R"( class="same")" : "", g.bits_equal ? "✓ yes" : "no");
      if (reasons) { html += fmt::format(R"(<td class="l">{}</td>)", a == 0 ? escape_html(reason_of(g)) : ""); }
      html += "</tr>\n";
    }
  }
  return html + "</tbody></table></div>\n";
}

} // namespace report_detail
} // namespace reference
