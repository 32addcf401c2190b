// Errors: one exception with all findings, each naming what it is about.
#include "support/catch.hpp"

#include <msg/error.hpp>

#include <string>
#include <vector>

using msg::diagnostic;
using msg::errc;

TEST_CASE("a finding names code, parameter, dimension, axis, expected, found and hint", "[error]") {
  const diagnostic all{.code = errc::shape_mismatch,
                       .parameter = "w",
                       .dimension = 1,
                       .axis = "ffn",
                       .expected = "8",
                       .found = "6",
                       .hint = "old tensor"};
  CHECK(to_string(all) == "shape mismatch: parameter 'w', dimension 1, axis 'ffn', expected 8, found 6 (old tensor)");
  CHECK(to_string(diagnostic{.code = errc::unknown_axis, .axis = "ffn"}) == "unknown axis: axis 'ffn'");
  CHECK(to_string(diagnostic{.code = errc::bad_state}) == "bad state");
}

TEST_CASE("an error carries every finding, its code is the first one's", "[error]") {
  const msg::error both({{.code = errc::shrink, .axis = "a"}, {.code = errc::bad_rule, .axis = "b"}});
  CHECK(both.code() == errc::shrink);
  CHECK(both.findings().size() == 2);
  CHECK(std::string(both.what()) == "msg: shrink: axis 'a'\nmsg: bad rule: axis 'b'");
  CHECK(msg::error(diagnostic{.code = errc::bad_size}).code() == errc::bad_size);
}

TEST_CASE("every code has a name of its own", "[error]") {
  std::vector<std::string> names;
  for (int code = 0; code <= static_cast<int>(errc::bad_state); ++code) {
    const std::string name{to_string(static_cast<errc>(code))};
    CAPTURE(code, name);
    CHECK(name != "unknown error");
    for (const std::string& other : names) { CHECK(other != name); }
    names.push_back(name);
  }
}
