// A chart as HTML: lines in an SVG that stretches with the page, and labels that keep their size whatever its width.
#pragma once

#include "transformer/report_format.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <iterator>
#include <limits>
#include <string>
#include <string_view>
#include <vector>

namespace reference {

struct chart_point {
  double x = 0;
  double y = 0;
};

struct chart_line {
  std::string css = {};                 // classes of the line
  std::vector<chart_point> points = {}; // in the order of x; one that is not finite breaks the line
  bool dots = false;                    // mark each point
};

/// A vertical line: something that happened at x.
struct chart_mark {
  double x = 0;
  std::string number = {};              // in a badge on the line
  std::vector<std::string> labels = {}; // above it, one under the other
};

struct chart_range {
  double low = std::numeric_limits<double>::infinity();
  double high = -std::numeric_limits<double>::infinity();
  [[nodiscard]] bool empty() const noexcept { return !(low <= high); }
  void include(double value) noexcept {
    if (!std::isfinite(value)) { return; }
    low = std::min(low, value);
    high = std::max(high, value);
  }
};

enum class chart_unit { seconds, flops, tokens, steps };

struct chart {
  chart_unit unit = chart_unit::steps;
  chart_range x{0, 1};
  chart_range y = {};     // what is outside of these two is not seen
  bool log_y = false;     // only if y.low > 0
  std::string css = {};   // classes of the plot
  std::string title = {}; // what y is
  std::vector<chart_line> lines = {};
  std::vector<chart_mark> marks = {};
};

namespace report_detail {

// At most about `count` multiples of 1, 2 or 5 times a power of ten.
[[nodiscard]] inline std::vector<double> even_ticks(double low, double high, int count) {
  const double raw = (high - low) / count;
  if (!(raw > 0) || !std::isfinite(raw)) { return {low}; }
  const double power = std::pow(10.0, std::floor(std::log10(raw)));
  double step = 10 * power;
  for (const double factor : {1.0, 2.0, 5.0}) {
    if (raw <= factor * power * (1 + 1e-9)) {
      step = factor * power;
      break;
    }
  }
  std::vector<double> ticks;
  const double slack = 1e-9 * (high - low);
  // Multiples by counting, so that the tick at zero is zero.
  for (double k = std::ceil((low - slack) / step); k * step <= high + slack && ticks.size() < 64; ++k) {
    ticks.push_back(k == 0 ? 0.0 : k * step); // not -0
  }
  return ticks;
}

[[nodiscard]] inline std::vector<double> time_ticks(double low, double high, int count) {
  constexpr std::array<double, 19> steps{1,   2,    5,    10,   15,    30,    60,    120,   300,   600,
                                         900, 1800, 3600, 7200, 10800, 21600, 43200, 86400, 172800};
  const auto step = std::find_if(steps.begin(), steps.end(), [&](double s) { return (high - low) / s <= count; });
  if (high < 6 || step == steps.end()) { return even_ticks(low, high, count); }
  std::vector<double> ticks;
  for (double at = *step * std::ceil(low / *step); at <= high; at += *step) { ticks.push_back(at); }
  return ticks;
}

// Round numbers on a logarithmic axis: the coarsest family that gives at least four, else even steps; of very many
// powers of ten every second, third and so on.
[[nodiscard]] inline std::vector<double> log_ticks(double low, double high) {
  if (!(low > 0) || !std::isfinite(high)) { return {}; }
  const double first = std::floor(std::log10(low));
  const double last = std::floor(std::log10(high));
  const double stride = std::ceil((last - first) / 10);
  const std::vector<std::vector<double>> families{{1}, {1, 2, 5}, {1, 1.5, 2, 3, 4, 5, 7}};
  for (const std::vector<double>& family : families) {
    std::vector<double> ticks;
    for (double power = first; power <= last; power += std::max(stride, 1.0)) {
      for (const double factor : family) {
        const double tick = factor * std::pow(10.0, power);
        if (tick >= low && tick <= high) { ticks.push_back(tick); }
      }
    }
    if (ticks.size() >= 4) { return ticks; }
  }
  return even_ticks(low, high, 8);
}

struct x_axis {
  std::string title = {};
  std::vector<double> ticks = {};
  std::vector<std::string> labels = {};
};

[[nodiscard]] inline x_axis make_x_axis(chart_unit unit, chart_range range) {
  x_axis axis;
  const double high = range.high;
  const auto scaled = [&](magnitude size) {
    axis.ticks = even_ticks(range.low, high, 6);
    for (const double tick : axis.ticks) { axis.labels.push_back(fmt::format("{:g}", tick / size.unit)); }
  };
  if (unit == chart_unit::seconds) {
    axis.ticks = time_ticks(range.low, high, 7);
    axis.title = high < 6      ? "wall time of training (s)"
                 : high < 3600 ? "wall time of training (min:s)"
                               : "wall time of training (h:min)";
    for (const double tick : axis.ticks) {
      const std::string whole = format_duration(tick);
      axis.labels.push_back(high < 6      ? fmt::format("{:g}", tick)
                            : high < 3600 ? whole
                                          : fmt::format("{:.0f}:{:02.0f}", std::floor(tick / 3600),
                                                        std::floor(std::fmod(tick, 3600) / 60)));
    }
  } else if (unit == chart_unit::flops) {
    const magnitude size = magnitude_of(high, si_prefixes);
    scaled(size);
    axis.title = fmt::format("compute ({}FLOP)", size.prefix);
  } else if (unit == chart_unit::tokens) {
    const magnitude size = magnitude_of(high, count_prefixes);
    scaled(size);
    constexpr std::array<std::string_view, 5> words{"", "thousand ", "million ", "billion ", "trillion "};
    const auto power = std::find(count_prefixes.begin(), count_prefixes.end(), size.prefix) - count_prefixes.begin();
    axis.title = fmt::format("{}training tokens", words[static_cast<std::size_t>(power)]);
  } else {
    scaled({});
    axis.title = "step";
  }
  return axis;
}

// At most about `limit` points: the lowest and the highest of each stretch, so that no spike is lost.
[[nodiscard]] inline std::vector<chart_point> downsample(const std::vector<chart_point>& points, std::size_t limit) {
  if (points.size() <= limit || limit < 4) { return points; }
  const std::size_t stretches = limit / 2;
  std::vector<chart_point> kept;
  for (std::size_t s = 0; s < stretches; ++s) {
    const auto begin = points.begin() + static_cast<std::ptrdiff_t>(s * points.size() / stretches);
    const auto end = points.begin() + static_cast<std::ptrdiff_t>((s + 1) * points.size() / stretches);
    const auto [low, high] = std::minmax_element(begin, end, [](auto a, auto b) { return a.y < b.y; });
    kept.push_back(*std::min(low, high));
    if (low != high) { kept.push_back(*std::max(low, high)); }
  }
  return kept;
}

struct scale {
  const chart& c;
  [[nodiscard]] double x(double value) const noexcept {
    const double width = c.x.high > c.x.low ? c.x.high - c.x.low : 1;
    return std::clamp(1000 * (value - c.x.low) / width, -9000.0, 9000.0);
  }
  [[nodiscard]] double y(double value) const noexcept {
    const bool log_y = c.log_y && c.y.low > 0;
    if (log_y && value <= 0) { return 1010; }
    const double low = log_y ? std::log(c.y.low) : c.y.low;
    const double high = log_y ? std::log(c.y.high) : c.y.high;
    const double at = ((log_y ? std::log(value) : value) - low) / (high > low ? high - low : 1);
    return std::clamp(1000 * (1 - at), -1000.0, 2000.0);
  }
};

// Lines in a 1000 x 1000 box. A dot, and a stretch of one point, is a line of no length with a round end.
[[nodiscard]] inline std::string draw_line(const chart_line& line, const scale& at) {
  std::string path;
  std::string dots;
  std::vector<chart_point> stretch;
  const auto finish = [&] {
    const char* command = "M";
    for (const chart_point& p : downsample(stretch, 800)) {
      path += fmt::format("{}{:.1f} {:.1f}", command, at.x(p.x), at.y(p.y));
      command = "L";
      if (line.dots) { dots += fmt::format("M{:.1f} {:.1f}h0", at.x(p.x), at.y(p.y)); }
    }
    if (stretch.size() == 1) { path += "h0"; }
    stretch.clear();
  };
  for (const chart_point& p : line.points) {
    if (std::isfinite(p.x) && std::isfinite(p.y)) {
      stretch.push_back(p);
    } else if (!stretch.empty()) {
      finish();
    }
  }
  if (!stretch.empty()) { finish(); }
  std::string svg;
  if (!path.empty()) { svg += fmt::format(R"(<path class="line {}" d="{}"/>)", line.css, path); }
  if (!dots.empty()) { svg += fmt::format(R"(<path class="dots {}" d="{}"/>)", line.css, dots); }
  return svg;
}

// A label that would run into the one before is left out: the badge and the table of growths still say it. Widths are
// those on a screen of about 900 pixels; the style hides the labels on narrow ones.
[[nodiscard]] inline std::string draw_labels(const chart& c, const scale& at) {
  std::string html;
  std::size_t rows = 0;
  double free_from = -1e9;
  for (const chart_mark& mark : c.marks) {
    std::size_t longest = 0;
    for (const std::string& label : mark.labels) { longest = std::max(longest, characters(label)); }
    const double width = 7 * static_cast<double>(longest) + 10;
    const double x = at.x(mark.x);
    if (x < 0 || x > 1000) { continue; }
    const bool left = x + width > 1000;
    if (longest == 0 || (left ? x - width : x) < free_from) { continue; }
    free_from = left ? x : x + width;
    rows = std::max(rows, mark.labels.size());
    html += fmt::format(R"(<div class="label{}" style="left:{:.2f}%">)", left ? " left" : "", x / 10);
    for (const std::string& label : mark.labels) { html += escape_html(label) + "<br>"; }
    html += "</div>";
  }
  return rows == 0 ? "" : fmt::format(R"(<div class="lane" style="height:{}px">{}</div>)", 15 * rows + 4, html);
}

} // namespace report_detail

/// The chart as one HTML element. Numbers that are not finite draw nothing.
[[nodiscard]] inline std::string draw_chart(const chart& c) {
  using namespace report_detail;
  const scale at{c};
  const x_axis x = make_x_axis(c.unit, c.x);
  const std::vector<double> y_ticks =
      c.log_y && c.y.low > 0 ? log_ticks(c.y.low, c.y.high) : even_ticks(c.y.low, c.y.high, 5);
  constexpr std::array<std::string_view, 4> keys{"seconds", "flops", "tokens", "step"};
  std::string grid;
  std::string labels;
  for (const double tick : y_ticks) {
    const double y = at.y(tick);
    grid += fmt::format(R"(<path class="grid" d="M0 {:.1f}H1000"/>)", y);
    labels +=
        fmt::format(R"(<span class="yt" style="top:{:.2f}%">{:g}</span>)", y / 10, std::abs(tick) < 1e-12 ? 0 : tick);
  }
  for (std::size_t i = 0; i < x.ticks.size(); ++i) {
    labels += fmt::format(R"(<span class="xt" style="left:{:.2f}%">{}</span>)", at.x(x.ticks[i]) / 10, x.labels[i]);
  }
  std::string marks;
  double last = -1000;
  int row = 0;
  for (const chart_mark& mark : c.marks) {
    if (mark.x < c.x.low || mark.x > c.x.high) { continue; }
    const double position = at.x(mark.x);
    row = position - last < 24 ? (row + 1) % 3 : 0; // badges that would hide each other stand in three rows
    last = position;
    grid += fmt::format(R"(<path class="mark" d="M{:.1f} 0V1000"/>)", position);
    marks += fmt::format(R"(<span class="badge" style="left:{:.2f}%;top:{}px">{}</span>)", position / 10, 2 + 20 * row,
                         escape_html(mark.number));
  }
  std::string lines;
  for (const chart_line& line : c.lines) { lines += draw_line(line, at); }
  return fmt::format("<div class=\"chart\"><div class=\"ytitle\">{}</div>{}\n<div class=\"plot {}\" data-x=\"{}\" "
                     R"(data-low="{:g}" data-high="{:g}"><svg viewBox="0 0 1000 1000" preserveAspectRatio="none" )"
                     "aria-hidden=\"true\">{}{}</svg>{}{}</div>\n<div class=\"xtitle\">{}</div></div>\n",
                     escape_html(c.title), draw_labels(c, at), c.css, keys[static_cast<std::size_t>(c.unit)], c.x.low,
                     c.x.high, grid, lines, labels, marks, x.title);
}

} // namespace reference
