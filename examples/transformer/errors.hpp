// The two exceptions of the example programs, and text that is safe to print on one line.
#pragma once

#include <msg/error.hpp>

#include <cstddef>
#include <filesystem>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>

namespace reference {

/// Usage or bad input: one line that names the file, what was expected and what was found. The program exits with 2.
class input_error : public std::runtime_error {
public:
  using std::runtime_error::runtime_error;
};

/// A failure while running (a full disk, say): one line. The program exits with 1.
class run_error : public std::runtime_error {
public:
  using std::runtime_error::runtime_error;
};

/// Text of a foreign file as part of a one-line message: control characters, quotes, backslashes and bytes outside
/// ASCII escaped, what goes beyond `limit` characters cut off.
[[nodiscard]] inline std::string printable(std::string_view text, std::size_t limit = 60) {
  constexpr std::string_view digits = "0123456789abcdef";
  std::string result;
  for (const char character : text) {
    if (result.size() >= limit) { return result + "..."; }
    const auto byte = static_cast<unsigned char>(character);
    if (byte < 0x20 || byte >= 0x7f) {
      result += "\\x";
      result += digits[byte >> 4U];
      result += digits[byte & 15U];
    } else {
      if (character == '\'' || character == '\\') { result += '\\'; }
      result += character;
    }
  }
  return result;
}

/// Findings of the library on one line.
[[nodiscard]] inline std::string one_line(std::span<const msg::diagnostic> all) {
  std::string text;
  for (const msg::diagnostic& finding : all) { text += (text.empty() ? "" : "; ") + msg::to_string(finding); }
  return text;
}

/// Several lines as one.
[[nodiscard]] inline std::string one_line(std::string_view text) {
  std::string result;
  for (const char character : text) { result += character == '\n' ? std::string{"; "} : std::string{character}; }
  return result;
}

/// "PATH: cannot WHAT: No space left on device", for an errno value.
[[nodiscard]] inline std::string system_message(const std::filesystem::path& path, std::string_view what, int code) {
  return path.string() + ": cannot " + std::string{what} + ": " + std::generic_category().message(code);
}

} // namespace reference
