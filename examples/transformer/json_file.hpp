// JSON read strictly: no key twice, bounded nesting, and typed getters that report every finding at once.
#pragma once

#include "transformer/file_io.hpp"

#include <msg/config.hpp>

#include <nlohmann/json.hpp>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <optional>
#include <set>
#include <vector>

namespace reference {

using json = nlohmann::json;

inline constexpr int most_json_levels = 32;
inline constexpr std::uint64_t most_json_bytes = 64U << 20U;

/// Parses one JSON value; `file` is what messages call it. Throws input_error for bad syntax, a key that occurs twice,
/// or more than 32 levels.
[[nodiscard]] inline json parse_json(std::string_view text, const std::string& file) {
  // Two things that the parser would let pass: it takes a NUL for the end of input and skips a byte order mark.
  if (const auto nul = text.find('\0'); nul != std::string_view::npos) {
    throw input_error(file + ": not valid JSON: a NUL byte at position " + std::to_string(nul));
  }
  if (text.starts_with("\xef\xbb\xbf")) { throw input_error(file + ": not valid JSON: begins with a byte order mark"); }
  std::vector<std::set<std::string>> open_objects;
  int levels = 0;
  const auto check = [&](int, json::parse_event_t event, json& value) {
    using kind = json::parse_event_t;
    if (event == kind::object_start || event == kind::array_start) {
      if (++levels > most_json_levels) {
        throw input_error(file + ": expected at most " + std::to_string(most_json_levels) + " levels of nesting");
      }
      if (event == kind::object_start) { open_objects.emplace_back(); }
    } else if (event == kind::object_end || event == kind::array_end) {
      --levels;
      if (event == kind::object_end) { open_objects.pop_back(); }
    } else if (event == kind::key) {
      const auto& name = value.get_ref<const std::string&>();
      if (!open_objects.back().insert(name).second) {
        throw input_error(file + ": key '" + printable(name) + "' occurs twice in one object");
      }
    }
    return true;
  };
  try {
    return json::parse(text.begin(), text.end(), check);
  } catch (const json::exception& failure) {
    std::string_view why = failure.what(); // "[json.exception.parse_error.101] parse error at line 1, column 2: ..."
    if (const auto end = why.find("] "); end != std::string_view::npos) { why.remove_prefix(end + 2); }
    throw input_error(file + ": not valid JSON: " + printable(why, 200));
  }
}

[[nodiscard]] inline json read_json(const std::filesystem::path& path) {
  return parse_json(input_file(path).read_text(most_json_bytes), path.string());
}

/// What is wrong with a file, collected to be reported in one line.
class findings {
public:
  explicit findings(std::string file) : file_(std::move(file)) {}
  void add(const std::string& where, const std::string& what) {
    ++count_;
    if (all_.size() < 20) { all_.push_back(where.empty() ? what : where + ": " + what); }
  }
  [[nodiscard]] bool empty() const noexcept { return count_ == 0; }
  void throw_if_any() const {
    if (all_.empty()) { return; }
    std::string text = file_ + ": ";
    for (std::size_t i = 0; i < all_.size(); ++i) { text += (i == 0 ? "" : "; ") + all_[i]; }
    if (count_ > all_.size()) { text += "; and " + std::to_string(count_ - all_.size()) + " more"; }
    throw input_error(text);
  }

private:
  std::string file_;
  std::vector<std::string> all_{}; // the first of them: a broken file of many tensors makes thousands
  std::size_t count_ = 0;
};

/// A JSON value as messages show it.
[[nodiscard]] inline std::string found_text(const json& value) {
  if (value.is_object()) { return "an object"; }
  if (value.is_array()) { return "an array"; }
  return printable(value.dump(-1, ' ', true), 40);
}

/// An object being read key by key. A key that is missing (and has no default), of another type or out of range
/// becomes a finding, and the getter returns its default; done() makes every key nobody asked for a finding.
class object_reader {
public:
  object_reader(const json& value, std::string where, findings& found)
      : value_(&value), where_(std::move(where)), found_(&found) {
    if (!value.is_object()) { found.add(where_, "expected an object, found " + found_text(value)); }
  }

  [[nodiscard]] std::string path(std::string_view key) const {
    return where_.empty() ? std::string{key} : where_ + "." + std::string{key};
  }
  /// The value of a key, or null if it isn't there; marks the key as known.
  [[nodiscard]] const json* find(std::string_view key) {
    if (std::find(known_.begin(), known_.end(), key) == known_.end()) { known_.emplace_back(key); }
    if (!value_->is_object()) { return nullptr; }
    const auto entry = value_->find(key);
    return entry == value_->end() ? nullptr : &*entry;
  }
  /// The value of a key; a missing one is a finding.
  [[nodiscard]] const json* require(std::string_view key) {
    const json* value = find(key);
    if (value == nullptr && value_->is_object()) { found_->add(where_, "missing key '" + std::string{key} + "'"); }
    return value;
  }
  [[nodiscard]] msg::index integer(std::string_view key, msg::index least, msg::index most,
                                   std::optional<msg::index> otherwise = {}) {
    const json* value = otherwise ? find(key) : require(key);
    if (value == nullptr) { return otherwise.value_or(least); }
    constexpr msg::index largest = std::numeric_limits<msg::index>::max();
    const bool fits = value->is_number_unsigned() ? value->get<std::uint64_t>() <= std::uint64_t{largest}
                                                  : value->is_number_integer();
    if (fits && value->get<msg::index>() >= least && value->get<msg::index>() <= most) {
      return value->get<msg::index>();
    }
    found_->add(path(key), "expected an integer from " + std::to_string(least) +
                               (most == largest ? "" : " to " + std::to_string(most)) + ", found " +
                               found_text(*value));
    return otherwise.value_or(least);
  }
  [[nodiscard]] std::uint64_t unsigned_integer(std::string_view key) {
    const json* value = require(key);
    if (value == nullptr) { return 0; }
    if (value->is_number_unsigned()) { return value->get<std::uint64_t>(); }
    found_->add(path(key), "expected an integer from 0, found " + found_text(*value));
    return 0;
  }
  [[nodiscard]] double number(std::string_view key, double least, double most, std::optional<double> otherwise = {}) {
    const json* value = otherwise ? find(key) : require(key);
    if (value == nullptr) { return otherwise.value_or(least); }
    if (value->is_number()) {
      const auto number = value->get<double>();
      if (number >= least && number <= most) { return number; }
    }
    const std::string range =
        std::isinf(most) ? "from " + json(least).dump() : "from " + json(least).dump() + " to " + json(most).dump();
    found_->add(path(key), "expected a number " + range + ", found " + found_text(*value));
    return otherwise.value_or(least);
  }
  [[nodiscard]] bool boolean(std::string_view key, std::optional<bool> otherwise = {}) {
    const json* value = otherwise ? find(key) : require(key);
    if (value == nullptr) { return otherwise.value_or(false); }
    if (value->is_boolean()) { return value->get<bool>(); }
    found_->add(path(key), "expected true or false, found " + found_text(*value));
    return otherwise.value_or(false);
  }
  [[nodiscard]] std::string text(std::string_view key, const std::optional<std::string>& otherwise = {}) {
    const json* value = otherwise ? find(key) : require(key);
    if (value == nullptr) { return otherwise.value_or(""); }
    if (value->is_string()) { return value->get<std::string>(); }
    found_->add(path(key), "expected a string, found " + found_text(*value));
    return otherwise.value_or("");
  }
  /// Position of the key's value in a list of words.
  [[nodiscard]] std::size_t word(std::string_view key, std::span<const std::string_view> words,
                                 std::optional<std::size_t> otherwise = {}) {
    const json* value = otherwise ? find(key) : require(key);
    if (value == nullptr) { return otherwise.value_or(0); }
    std::string list;
    for (std::size_t i = 0; i < words.size(); ++i) {
      if (*value == words[i]) { return i; }
      list += (i == 0 ? "" : i + 1 == words.size() ? " or " : ", ") + std::string{words[i]};
    }
    found_->add(path(key), "expected " + list + ", found " + found_text(*value));
    return otherwise.value_or(0);
  }
  /// Every key of the object that wasn't asked for is a finding.
  void done() {
    if (!value_->is_object()) { return; }
    for (const auto& [key, value] : value_->items()) {
      if (std::find(known_.begin(), known_.end(), key) == known_.end()) {
        std::string list;
        for (const std::string& name : known_) { list += (list.empty() ? "" : ", ") + name; }
        found_->add(where_, "unknown key '" + printable(key) + "' (known: " + list + ")");
      }
    }
  }
  [[nodiscard]] const json& value() const noexcept { return *value_; }
  [[nodiscard]] findings& found() noexcept { return *found_; }

private:
  const json* value_;
  std::string where_;
  findings* found_;
  std::vector<std::string> known_{};
};

/// Calls f(element, "where[i]") for the elements of an array; anything else is a finding.
template <class Function>
void each_element(const json* array, const std::string& where, findings& found, const Function& f) {
  if (array == nullptr) { return; }
  if (!array->is_array()) { return found.add(where, "expected an array, found " + found_text(*array)); }
  for (std::size_t i = 0; i < array->size(); ++i) { f((*array)[i], where + "[" + std::to_string(i) + "]"); }
}

} // namespace reference
