// Errors: a code, one finding (diagnostic), and the exception that carries all findings at once.
#pragma once

#include <msg/config.hpp>

#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

MSG_NAMESPACE_BEGIN

enum class errc {
  unknown_axis,      // a request or mask names an axis the schema does not use
  unknown_parameter, // no parameter of that name
  duplicate_name,    // two parameters, or two requests, of one name
  size_conflict,     // one axis name with two sizes
  bad_size,          // zero, negative, or otherwise impossible size
  shrink,            // new size below the old one
  bad_placement,     // an order that is no permutation, or breaks the order of old units
  bad_rule,          // a rule returned a map that violates the law
  unsupported,       // the combination is refused, with the reason
  not_strict,        // strictness was required and cannot be had
  shape_mismatch,    // a buffer does not have the shape the plan expects
  bad_argument,      // an option outside its range
  bad_state,         // saved growth state that does not fit
  cuda,              // a call of the CUDA runtime failed
};

[[nodiscard]] constexpr std::string_view to_string(errc code) noexcept {
  switch (code) {
    case errc::unknown_axis: return "unknown axis";
    case errc::unknown_parameter: return "unknown parameter";
    case errc::duplicate_name: return "duplicate name";
    case errc::size_conflict: return "size conflict";
    case errc::bad_size: return "bad size";
    case errc::shrink: return "shrink";
    case errc::bad_placement: return "bad placement";
    case errc::bad_rule: return "bad rule";
    case errc::unsupported: return "unsupported";
    case errc::not_strict: return "not strict";
    case errc::shape_mismatch: return "shape mismatch";
    case errc::bad_argument: return "bad argument";
    case errc::bad_state: return "bad state";
    case errc::cuda: return "CUDA call failed";
  }
  return "unknown error";
}

/// One finding. Fields that do not apply are empty, or -1 for dimension.
struct diagnostic {
  errc code{};
  std::string parameter{}; // name of the parameter
  index dimension = -1;    // which dimension of it, from 0
  std::string axis{};      // name of the axis
  std::string expected{};  // what would have been right
  std::string found{};     // what was there
  std::string hint{};      // why, or what to do
};

[[nodiscard]] inline std::string to_string(const diagnostic& finding) {
  std::string text{to_string(finding.code)};
  if (!finding.parameter.empty()) { text += ": parameter '" + finding.parameter + "'"; }
  if (finding.dimension >= 0) { text += ", dimension " + std::to_string(finding.dimension); }
  if (!finding.axis.empty()) { text += (finding.parameter.empty() ? ": axis '" : ", axis '") + finding.axis + "'"; }
  if (!finding.expected.empty()) { text += ", expected " + finding.expected; }
  if (!finding.found.empty()) { text += ", found " + finding.found; }
  if (!finding.hint.empty()) { text += " (" + finding.hint + ")"; }
  return text;
}

/// Thrown by everything in msg. what() lists every finding, one a line.
class error : public std::runtime_error {
public:
  explicit error(std::vector<diagnostic> all) : std::runtime_error(text_of(all)), findings_(std::move(all)) {}
  explicit error(diagnostic one) : error(std::vector<diagnostic>{std::move(one)}) {}

  [[nodiscard]] errc code() const noexcept { return findings_.empty() ? errc{} : findings_.front().code; }
  [[nodiscard]] const std::vector<diagnostic>& findings() const noexcept { return findings_; }

private:
  static std::string text_of(const std::vector<diagnostic>& all) {
    std::string text = "msg: ";
    for (std::size_t i = 0; i < all.size(); ++i) { text += (i == 0 ? "" : "\nmsg: ") + to_string(all[i]); }
    return text;
  }
  std::vector<diagnostic> findings_;
};

MSG_NAMESPACE_END
