// Strict JSON: what the parser refuses, and what the getters say of values that don't fit.
#include "support/catch.hpp"
#include "support/files_support.hpp"

#include "transformer/json_file.hpp"

#include <limits>
#include <string>

using namespace reference;
using namespace files_test;

namespace {
[[nodiscard]] std::string refusal(std::string_view text) {
  return input_message([&] { (void)parse_json(text, "f.json"); });
}
/// Findings of what `read` does with the object.
template <class Read>
[[nodiscard]] std::string findings_of(std::string_view text, const Read& read) {
  const json value = parse_json(text, "f.json");
  return input_message([&] {
    findings found("f.json");
    object_reader keys(value, "a.b", found);
    read(keys);
    found.throw_if_any();
  });
}
} // namespace

TEST_CASE("a key that occurs twice in one object is refused, in two objects it isn't", "[json_file]") {
  CHECK(refusal(R"({"a": {"k": 1, "x": 2, "k": 3}})") == "f.json: key 'k' occurs twice in one object");
  CHECK(parse_json(R"([{"k": 1}, {"k": {"k": 2}}])", "f.json").size() == 2);
}

TEST_CASE("nesting is limited, and a million levels don't exhaust the stack", "[json_file]") {
  CHECK(parse_json(std::string(32, '[') + std::string(32, ']'), "f.json").is_array());
  CHECK(refusal(std::string(33, '[') + std::string(33, ']')) == "f.json: expected at most 32 levels of nesting");
  CHECK(refusal(std::string(1'000'000, '[')) == "f.json: expected at most 32 levels of nesting");
}

TEST_CASE("bad syntax is reported with line and column on one line", "[json_file]") {
  CHECK(refusal("{\"a\": 1,\n \"b\": }") == containing("f.json: not valid JSON: parse error at line 2, column 7"));
  CHECK(refusal("") == containing("f.json: not valid JSON: parse error at line 1, column 1"));
  CHECK(refusal("{} {}") == containing("f.json: not valid JSON"));
  CHECK(refusal("{\"a\": 1e999}") == containing("f.json: not valid JSON"));
  CHECK(refusal(std::string_view("{}\0", 3)) == "f.json: not valid JSON: a NUL byte at position 2");
  CHECK(refusal("\xef\xbb\xbf{}") == "f.json: not valid JSON: begins with a byte order mark");
  CHECK(refusal("\"" + std::string(10'000, 'x')).size() < 300);
}

TEST_CASE("a missing file and a huge one are refused", "[json_file]") {
  const temporary_folder folder;
  CHECK(input_message([&] { (void)read_json(folder / "no.json"); }) ==
        (folder / "no.json").string() + ": cannot open: No such file or directory");
  write_bytes(folder / "big.json", "{}");
  fs::resize_file(folder / "big.json", (64U << 20U) + 1); // a hole: takes no room
  CHECK(input_message([&] { (void)read_json(folder / "big.json"); }) ==
        (folder / "big.json").string() + ": expected at most 67108864 bytes, found 67108865");
}

TEST_CASE("all findings are reported at once, each with its path", "[json_file]") {
  const std::string shown =
      findings_of(R"({"i": 7, "n": "x", "f": 1, "s": 2, "w": "red", "extra\n": 1, "u": -1})", [](object_reader& keys) {
        static constexpr std::string_view colours[] = {"blue", "green", "grey"};
        CHECK(keys.integer("i", 8, 9) == 8);
        CHECK(keys.number("n", 0, 1, 0.5) == 0.5);
        CHECK_FALSE(keys.boolean("f"));
        CHECK(keys.text("s", "standard") == "standard");
        CHECK(keys.word("w", colours, 2) == 2);
        CHECK(keys.unsigned_integer("u") == 0);
        CHECK(keys.integer("missing", 0, 1) == 0);
        keys.done();
      });
  CHECK(shown == "f.json: a.b.i: expected an integer from 8 to 9, found 7; a.b.n: expected a number from 0.0 to 1.0, "
                 "found \"x\"; a.b.f: expected true or false, found 1; a.b.s: expected a string, found 2; "
                 "a.b.w: expected blue, green or grey, found \"red\"; a.b.u: expected an integer from 0, found -1; "
                 "a.b: missing key 'missing'; a.b: unknown key 'extra\\x0a' (known: i, n, f, s, w, u, missing)");
}

TEST_CASE("integers are integers: no fraction, no exponent, no overflow", "[json_file]") {
  const msg::index largest = std::numeric_limits<msg::index>::max();
  for (const std::string number :
       {"1.0", "1e3", "9223372036854775808", "18446744073709551615", "1e30", "\"1\"", "null"}) {
    CAPTURE(number);
    const std::string shown =
        findings_of("{\"i\": " + number + "}", [&](object_reader& keys) { (void)keys.integer("i", 0, largest); });
    CHECK(shown == containing("f.json: a.b.i: expected an integer from 0, found "));
  }
  const json value = {{"i", largest}, {"u", ~std::uint64_t{0}}, {"m", std::numeric_limits<msg::index>::min()}};
  findings found("f.json");
  object_reader keys(value, "", found);
  CHECK(keys.integer("i", 0, largest) == largest);
  CHECK(keys.integer("m", std::numeric_limits<msg::index>::min(), 0) == std::numeric_limits<msg::index>::min());
  CHECK(keys.unsigned_integer("u") == ~std::uint64_t{0});
  CHECK(found.empty());
}

TEST_CASE("values that are left out have their default, and nothing is found", "[json_file]") {
  const json value = json::object();
  findings found("f.json");
  object_reader keys(value, "", found);
  CHECK(keys.integer("i", 1, 9, 5) == 5);
  CHECK(keys.number("n", 0, 1, 0.25) == 0.25);
  CHECK(keys.boolean("b", true));
  CHECK(keys.text("t", "x") == "x");
  keys.done();
  CHECK(found.empty());
}

TEST_CASE("anything but an object in the place of one is one finding, not many", "[json_file]") {
  const std::string shown = findings_of("[1]", [](object_reader& keys) {
    (void)keys.integer("i", 0, 1);
    (void)keys.text("t");
    keys.done();
  });
  CHECK(shown == "f.json: a.b: expected an object, found an array");
}

TEST_CASE("elements of an array are read in order with their place", "[json_file]") {
  findings found("f.json");
  const json array = {3, 4};
  std::string seen;
  each_element(&array, "list", found,
               [&](const json& value, const std::string& where) { seen += where + "=" + value.dump() + " "; });
  CHECK(seen == "list[0]=3 list[1]=4 ");
  const json other = "x";
  each_element(&other, "list", found, [&](const json&, const std::string&) { seen = "called"; });
  CHECK(seen != "called");
  CHECK(input_message([&] { found.throw_if_any(); }) == "f.json: list: expected an array, found \"x\"");
}

TEST_CASE("a flood of findings is cut short and counted", "[json_file]") {
  findings found("f.json");
  for (int i = 0; i < 1000; ++i) { found.add("", "x"); }
  const std::string shown = input_message([&] { found.throw_if_any(); });
  CHECK(shown.ends_with("; x; and 980 more"));
  CHECK(shown.size() < 100);
}
