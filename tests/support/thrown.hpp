// What a call throws, as a value to look at.
#pragma once

#include "support/catch.hpp"

#include <msg/error.hpp>

#include <algorithm>
#include <string>
#include <vector>

namespace testing {

/// Findings of the msg::error that f() throws; the test fails where it throws none.
template <class Function>
[[nodiscard]] std::vector<msg::diagnostic> findings_of(const Function& f) {
  try {
    f();
  } catch (const msg::error& thrown) { return thrown.findings(); }
  FAIL("no msg::error was thrown");
  return {};
}

/// What a person reads when f() throws.
template <class Function>
[[nodiscard]] std::string message_of(const Function& f) {
  try {
    f();
  } catch (const msg::error& thrown) { return thrown.what(); }
  FAIL("no msg::error was thrown");
  return {};
}

[[nodiscard]] inline std::vector<msg::errc> codes_of(const std::vector<msg::diagnostic>& findings) {
  std::vector<msg::errc> codes;
  for (const msg::diagnostic& finding : findings) { codes.push_back(finding.code); }
  return codes;
}

} // namespace testing
