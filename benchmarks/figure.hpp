// Figures of the studies: lines, bars and dots as one self-contained SVG file.
#pragma once

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <limits>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace study {

/// Text of an SVG element.
[[nodiscard]] inline std::string escaped(std::string_view text) {
  std::string result;
  for (const char c : text) {
    if (c == '&') {
      result += "&amp;";
    } else if (c == '<') {
      result += "&lt;";
    } else {
      result += c;
    }
  }
  return result;
}

/// Colours that stay apart for colour-blind readers, in a fixed order, and then dashed.
inline constexpr std::array<std::string_view, 8> palette{"#0072b2", "#d55e00", "#009e73", "#cc79a7",
                                                         "#e69f00", "#56b4e9", "#6a3d9a", "#8c6d31"};

/// A number line on the page: from value to pixel, linear or logarithmic.
struct number_line {
  double low = 0, high = 1;  // values
  double begin = 0, end = 1; // pixels of low and high
  bool logarithmic = false;  // low > 0
  double gap = 0;            // logarithmic: pixels before `begin` at which zero lies

  [[nodiscard]] double at(double value) const {
    if (logarithmic && value <= 0) { return begin - (end > begin ? gap : -gap); }
    const auto scaled = [&](double v) { return logarithmic ? std::log10(v) : v; };
    const double share = (scaled(value) - scaled(low)) / (scaled(high) - scaled(low));
    return begin + std::clamp(share, 0.0, 1.0) * (end - begin);
  }
  /// Round values: about `count` of them, or powers of ten.
  [[nodiscard]] std::vector<double> ticks(int count = 6) const {
    std::vector<double> result;
    if (logarithmic) {
      const double first = std::ceil(std::log10(low) - 1e-9);
      const double last = std::floor(std::log10(high) + 1e-9);
      const double step = std::max(1.0, std::ceil((last - first) / count));
      for (double power = first; power <= last + 1e-9; power += step) { result.push_back(std::pow(10.0, power)); }
      return result;
    }
    const double raw = (high - low) / count;
    const double power = std::pow(10.0, std::floor(std::log10(raw)));
    const double step = raw <= power ? power : raw <= 2 * power ? 2 * power : raw <= 5 * power ? 5 * power : 10 * power;
    for (double k = std::ceil(low / step - 1e-9); k * step <= high + 1e-9 * step; ++k) {
      result.push_back(k == 0 ? 0.0 : k * step);
    } // not -0
    return result;
  }
};

/// A page of given size to which elements are added.
class figure {
public:
  figure(double width, double height, std::string_view title) : width_(width), height_(height) {
    text(16, 26, title, "font-size:15px;font-weight:600");
  }
  void line(double x1, double y1, double x2, double y2, std::string_view style) {
    body_ += fmt::format("<path d=\"M{:.1f} {:.1f}L{:.1f} {:.1f}\" style=\"{}\"/>\n", x1, y1, x2, y2, style);
  }
  void curve(const std::vector<std::pair<double, double>>& points, std::string_view style) {
    std::string path;
    for (const auto& [x, y] : points) { path += fmt::format("{}{:.1f} {:.1f}", path.empty() ? "M" : "L", x, y); }
    if (!path.empty()) { body_ += fmt::format("<path d=\"{}\" style=\"fill:none;{}\"/>\n", path, style); }
  }
  /// A closed area.
  void area(const std::vector<std::pair<double, double>>& points, std::string_view style) {
    std::string path;
    for (const auto& [x, y] : points) { path += fmt::format("{}{:.1f} {:.1f}", path.empty() ? "M" : "L", x, y); }
    body_ += fmt::format("<path d=\"{}Z\" style=\"{}\"/>\n", path, style);
  }
  void box(double x, double y, double width, double height, std::string_view style) {
    body_ += fmt::format("<rect x=\"{:.1f}\" y=\"{:.1f}\" width=\"{:.1f}\" height=\"{:.1f}\" style=\"{}\"/>\n", x, y,
                         std::max(width, 0.0), height, style);
  }
  void dot(double x, double y, double radius, std::string_view style) {
    body_ += fmt::format("<circle cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"{:.1f}\" style=\"{}\"/>\n", x, y, radius, style);
  }
  void text(double x, double y, std::string_view what, std::string_view style) {
    body_ += fmt::format("<text x=\"{:.1f}\" y=\"{:.1f}\" style=\"{}\">{}</text>\n", x, y, style, escaped(what));
  }
  /// Grid, ticks and title of a horizontal axis below `bottom`, of a vertical one left of `left`.
  void x_axis(const number_line& x, double top, double bottom, std::string_view title) {
    for (const double tick : x.ticks(8)) {
      line(x.at(tick), top, x.at(tick), bottom, grid);
      text(x.at(tick), bottom + 16, fmt::format("{:g}", tick), "text-anchor:middle");
    }
    text((x.begin + x.end) / 2, bottom + 34, title, "text-anchor:middle");
  }
  void y_axis(const number_line& y, double left, double right, std::string_view title) {
    for (const double tick : y.ticks()) {
      line(left, y.at(tick), right, y.at(tick), grid);
      text(left - 6, y.at(tick) + 4, fmt::format("{:g}", tick), "text-anchor:end");
    }
    text(left, y.end - 8, title, "");
  }
  /// Throws std::runtime_error where the file cannot be written.
  void write(const std::string& path) const {
    std::FILE* const file = std::fopen(path.c_str(), "w");
    if (file == nullptr) { throw std::runtime_error("cannot write " + path); }
    fmt::print(file,
               "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {0:g} {1:g}\" width=\"{0:g}\" height=\"{1:g}\" "
               "style=\"font:12px sans-serif;background:#fff\">\n{2}</svg>\n",
               width_, height_, body_);
    if (std::fclose(file) != 0) { throw std::runtime_error("cannot write " + path); }
  }

private:
  static constexpr std::string_view grid = "stroke:#ddd;fill:none";
  double width_, height_;
  std::string body_;
};

/// FILE.svg for FILE.csv.
[[nodiscard]] inline std::string figure_path(const std::string& csv) {
  const std::size_t dot = csv.rfind(".csv");
  return (dot == std::string::npos ? csv : csv.substr(0, dot)) + ".svg";
}

struct bar {
  std::string label;
  double value = 0;
  std::size_t colour = 0;
};

/// Horizontal bars, one below the other, and a mark at `reference`: from 0, or where they are very different on a
/// logarithmic scale.
inline void write_bars(const std::string& path, std::string_view title, std::string_view unit,
                       const std::vector<bar>& bars, double reference) {
  std::size_t longest = 0;
  double greatest = reference;
  for (const bar& b : bars) {
    longest = std::max(longest, b.label.size());
    greatest = std::max(greatest, b.value);
  }
  const double left = 24 + 6.6 * static_cast<double>(longest);
  const double bottom = 46 + 18 * static_cast<double>(bars.size());
  figure page(left + 620, bottom + 46, title);
  double least = reference;
  for (const bar& b : bars) { least = std::min(least, b.value); }
  const bool logarithmic = greatest > 20 * least;
  const number_line x{.low = logarithmic ? least / 2 : 0,
                      .high = greatest * 1.05,
                      .begin = left,
                      .end = left + 560,
                      .logarithmic = logarithmic};
  page.x_axis(x, 40, bottom, unit);
  for (std::size_t i = 0; i < bars.size(); ++i) {
    const double y = 44 + 18 * static_cast<double>(i);
    page.box(left, y, x.at(bars[i].value) - left, 13, fmt::format("fill:{}", palette[bars[i].colour % palette.size()]));
    page.text(left - 6, y + 11, bars[i].label, "text-anchor:end");
    page.text(x.at(bars[i].value) + 4, y + 11, fmt::format("{:.2f}", bars[i].value), "fill:#444");
  }
  page.line(x.at(reference), 40, x.at(reference), bottom, "stroke:#444;stroke-dasharray:4 3");
  page.write(path);
}

} // namespace study
