// Numbers and text for people: durations, counts, losses, and text that is safe inside HTML.
#pragma once

#include <msg/config.hpp>

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace reference {

using msg::index;

inline constexpr std::string_view no_value = "–";

/// Characters, not bytes, of UTF-8 text.
[[nodiscard]] inline std::size_t characters(std::string_view text) noexcept {
  return static_cast<std::size_t>(
      std::count_if(text.begin(), text.end(), [](char c) { return (static_cast<unsigned char>(c) & 0xC0U) != 0x80U; }));
}

/// Text and spaces up to `width` characters.
[[nodiscard]] inline std::string padded(std::string_view text, std::size_t width) {
  const std::size_t length = characters(text);
  return std::string(text) + std::string(length < width ? width - length : 0, ' ');
}

/// Text as part of an HTML page, inside an element or a quoted attribute.
[[nodiscard]] inline std::string escape_html(std::string_view text) {
  std::string result;
  for (const char character : text) {
    switch (character) {
      case '&': result += "&amp;"; break;
      case '<': result += "&lt;"; break;
      case '>': result += "&gt;"; break;
      case '"': result += "&quot;"; break;
      case '\'': result += "&#39;"; break;
      default:
        // NUL and its kin are parse errors in HTML; tab and line ends are not.
        if (static_cast<unsigned char>(character) >= 0x20 || character == '\n' || character == '\t') {
          result += character;
        } else {
          result += "\xEF\xBF\xBD"; // U+FFFD
        }
    }
  }
  return result;
}

/// A loss: four decimals, fewer for what is far from the usual, or a dash if there is none.
[[nodiscard]] inline std::string format_loss(double loss) {
  if (!std::isfinite(loss)) { return std::string(no_value); }
  return std::abs(loss) < 1e4 ? fmt::format("{:.4f}", loss) : fmt::format("{:.3g}", loss);
}

/// A difference of two losses: 0 only if it is exactly that.
[[nodiscard]] inline std::string format_difference(double difference) {
  if (!std::isfinite(difference)) { return std::string(no_value); }
  return difference == 0 ? "0" : fmt::format("{:+.1e}", difference);
}

/// 42 -> "0:42", 192 -> "3:12", 3723 -> "1:02:03", 273845 -> "3d 04:04:05"; to the nearest second.
[[nodiscard]] inline std::string format_duration(double seconds) {
  if (!std::isfinite(seconds) || seconds > 1e12) { return std::string(no_value); }
  const auto total = static_cast<std::int64_t>(std::llround(seconds < 0 ? 0 : seconds));
  const std::int64_t days = total / 86400;
  const std::int64_t hours = total / 3600 % 24;
  const std::int64_t minutes = total / 60 % 60;
  if (days > 0) { return fmt::format("{}d {:02}:{:02}:{:02}", days, hours, minutes, total % 60); }
  if (hours > 0) { return fmt::format("{}:{:02}:{:02}", hours, minutes, total % 60); }
  return fmt::format("{}:{:02}", minutes, total % 60);
}

/// A power of 1000 and its prefix.
struct magnitude {
  double unit = 1;
  std::string_view prefix;
};

inline constexpr std::array<std::string_view, 5> count_prefixes{"", "k", "M", "B", "T"};
inline constexpr std::array<std::string_view, 7> si_prefixes{"", "k", "M", "G", "T", "P", "E"};

/// The largest magnitude that leaves at least 1, rounding to three digits included: 999,999 is 1.00 M.
template <std::size_t N>
[[nodiscard]] magnitude magnitude_of(double value, const std::array<std::string_view, N>& prefixes) noexcept {
  double unit = 1;
  std::size_t power = 0;
  while (power + 1 < N && std::abs(value) >= 999.5 * unit) {
    unit *= 1000;
    ++power;
  }
  return {unit, prefixes[power]};
}

/// Three digits: 31234 -> "31.2", with the prefix set apart.
[[nodiscard]] inline std::string three_digits(double value, double unit) {
  const double scaled = value / unit;
  if (unit == 1 && scaled == std::floor(scaled)) { return fmt::format("{:.0f}", scaled); }
  const int decimals = std::abs(scaled) < 9.995 ? 2 : std::abs(scaled) < 99.95 ? 1 : 0;
  return fmt::format("{:.{}f}", scaled, decimals);
}

/// 950 -> "950", 31234 -> "31.2k", 1234567 -> "1.23M", 7e9 -> "7.00B".
[[nodiscard]] inline std::string format_count(double value) {
  if (!std::isfinite(value)) { return std::string(no_value); }
  const magnitude size = magnitude_of(value, count_prefixes);
  return three_digits(value, size.unit) + std::string(size.prefix);
}

/// 33.6e12 -> "33.6 TFLOP".
[[nodiscard]] inline std::string format_flops(double value) {
  if (!std::isfinite(value)) { return std::string(no_value); }
  const magnitude size = magnitude_of(value, si_prefixes);
  return three_digits(value, size.unit) + " " + std::string(size.prefix) + "FLOP";
}

/// 1234567 -> "1,234,567".
[[nodiscard]] inline std::string format_grouped(index value) {
  std::string digits = fmt::format("{}", value);
  const std::size_t first = digits[0] == '-' ? 1 : 0;
  for (std::size_t at = digits.size(); at > first + 3;) { digits.insert(at -= 3, ","); }
  return digits;
}

} // namespace reference
