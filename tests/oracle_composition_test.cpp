// Growths one after another against growths at once: the same numbers where an operator promises them, the same
// function everywhere, with the contracts multiplied.
#include "support/catch.hpp"
#include "support/published_library.hpp"

#include <msg/presets.hpp>

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

using namespace published;
using msg::fresh_values;
using msg::init;
using msg::payload;
namespace presets = msg::presets;

namespace {

/// A model grown in steps, each by its own plan; the contracts of all steps hold at the end.
struct journey {
  journey(const sizes& s, const std::vector<targets>& steps, const msg::rule& by) : old(random_model(s, 51)), now(old) {
    for (const payload what : {payload::value, payload::moment1, payload::moment2}) {
      states.push_back(old);
      model& state = states.back();
      setting kept;
      for (const targets& to : steps) {
        const msg::plan plan = plan_of(state.size, to, by);
        state = applied(plan, state, what);
        kept = keeping(plan, 0, kept);
      }
      how = kept;
    }
    now = states[0];
  }
  model old, now;
  std::vector<model> states{}; // value, moment1, moment2
  setting how{};
};

/// Where two journeys differ, in words.
std::string apart(const journey& a, const journey& b, int roundings) {
  for (std::size_t i = 0; i < 3; ++i) {
    const std::string text = difference(a.states[i], b.states[i], roundings);
    if (!text.empty()) { return (i == 0 ? "value " : i == 1 ? "moment1 " : "moment2 ") + text; }
  }
  return {};
}

} // namespace

TEST_CASE("copies of hidden units and then of ffn units are both at once", "[composition][duplicate]") {
  const family kind = GENERATE(from_range(families));
  const auto by = GENERATE(as<msg::rule>{}, presets::hypercloning(), presets::staged(), presets::net2net());
  CAPTURE(static_cast<int>(kind), by.name());
  const sizes s = small(kind);
  const journey one(s, {{{"hidden", 8}}, {{"ffn", 12}}}, by), other(s, {{{"ffn", 12}}, {{"hidden", 8}}}, by);
  const journey both(s, {{{"hidden", 8}, {"ffn", 12}}}, by);
  CHECK(apart(one, both, 0) == ""); // halves of halves are exact
  CHECK(apart(other, both, 0) == "");
  CHECK(between(one.old, one.now, one.how).rounding());
}

TEST_CASE("uneven copies of two axes one after the other are both at once", "[composition][duplicate]") {
  const family kind = GENERATE(from_range(families));
  const auto by = GENERATE(as<msg::rule>{}, presets::net2net(), presets::lemon());
  CAPTURE(static_cast<int>(kind), by.name());
  const sizes s = small(kind);
  const targets heads{{"heads", kind == family::llama ? 10 : 5}, {"kv_heads", 5}};
  targets all = heads;
  all["ffn"] = 11;
  const journey one(s, {{{"ffn", 11}}, heads}, by), both(s, {all}, by);
  CHECK(apart(one, both, 4) == ""); // no array has both axes: the same factors, each product rounded once
  CHECK(between(one.old, one.now, one.how).rounding());
}

TEST_CASE("doubling twice is quadrupling where copies are tiled", "[composition][duplicate]") {
  const family kind = GENERATE(from_range(families));
  const bool tied = GENERATE(true, false);
  const auto by = GENERATE(as<msg::rule>{}, presets::hypercloning(), presets::staged());
  CAPTURE(static_cast<int>(kind), tied, by.name());
  const sizes s = small(kind, tied);
  targets twice, four;
  for (const char* axis : {"hidden", "ffn", "heads", "kv_heads"}) {
    twice[axis] = 2 * s.of(axis);
    four[axis] = 4 * s.of(axis);
  }
  const journey steps(s, {twice, four}, by), once(s, {four}, by);
  CHECK(apart(steps, once, 0) == "");
  CHECK(between(steps.old, steps.now, steps.how).rounding());
}

TEST_CASE("stacking twice by two is stacking by four", "[composition][stack]") {
  const family kind = GENERATE(from_range(families));
  const sizes s = small(kind);
  const journey steps(s, {{{"layers", 4}}, {{"layers", 8}}}, presets::g_stack());
  const journey once(s, {{{"layers", 8}}}, presets::g_stack());
  CHECK(difference(steps.now, once.now) == "");
}

TEST_CASE("masked growth of one axis after another is that of all at once", "[composition][mask]") {
  const family kind = GENERATE(from_range(families));
  CAPTURE(static_cast<int>(kind));
  const sizes s = small(kind);
  const msg::rule by =
      presets::msg(fresh_values::all(init::constant(1.5))); // numbers that do not depend on the element
  const targets heads{{"heads", kind == family::llama ? 9 : 3}, {"kv_heads", 3}};
  targets all = heads;
  all["hidden"] = 7;
  all["ffn"] = 8;
  all["layers"] = 3;
  const journey steps(s, {{{"hidden", 7}}, {{"ffn", 8}}, heads, {{"layers", 3}}}, by), once(s, {all}, by);
  CHECK(apart(steps, once, 0) == "");
  CHECK(between(steps.old, steps.now, steps.how).none());
  const journey two(s, {{{"ffn", 7}}, {{"ffn", 9}}}, by), one(s, {{{"ffn", 9}}}, by);
  CHECK(apart(two, one, 0) == "");
}

TEST_CASE("zero blocks of one axis after another are those of all at once", "[composition][zero_block]") {
  const family kind = GENERATE(from_range(families));
  CAPTURE(static_cast<int>(kind));
  const sizes s = small(kind);
  const msg::rule by = presets::composable(fresh_values::all(init::constant(1.5)));
  const targets heads{{"heads", kind == family::llama ? 9 : 3}, {"kv_heads", 3}};
  targets all = heads;
  all["ffn"] = 8;
  const journey steps(s, {{{"ffn", 8}}, heads}, by), once(s, {all}, by);
  CHECK(apart(steps, once, 0) == "");
  CHECK(between(steps.old, steps.now, steps.how).none());
  const journey two(s, {{{"ffn", 7}}, {{"ffn", 9}}}, by);
  CHECK(between(two.old, two.now, two.how).none());
}

TEST_CASE("contracts of several growths multiply", "[composition]") {
  const bool tied = GENERATE(true, false);
  const journey zeros(small(family::llama, tied), {{{"hidden", 6}}, {{"ffn", 9}}, {{"hidden", 9}, {"layers", 4}}},
                      presets::composable());
  CHECK(static_cast<double>(zeros.how.eps / setting{}.eps) == Approx(4.0 / 9).epsilon(1e-14));
  CHECK(between(zeros.old, zeros.now, zeros.how).rounding());
  const journey means(small(family::gpt, tied), {{{"hidden", 5}}, {{"ffn", 9}, {"layers", 3}}, {{"hidden", 8}}},
                      presets::lemon());
  CHECK(static_cast<double>(means.how.eps / setting{}.eps) == Approx(0.5).epsilon(1e-14));
  CHECK(between(means.old, means.now, means.how).rounding());
  const journey once(small(family::gpt, tied), {{{"hidden", 8}, {"ffn", 9}, {"layers", 3}}}, presets::lemon());
  CHECK(between(once.old, once.now, once.how).rounding());
  sizes undivided = small(family::gpt); // a tied head whose last norm is not divided
  undivided.last_reads = false;
  const journey copies(undivided, {{{"hidden", 8}}, {{"hidden", 24}}}, presets::hypercloning());
  CHECK(static_cast<double>(copies.how.logit_scale) == Approx(1.0 / 6).epsilon(1e-14));
  CHECK(between(copies.old, copies.now, copies.how).rounding());
}

TEST_CASE("operators of different papers follow one another", "[composition]") {
  // ffn by copies, then heads by zero blocks, then layers in silence, then a mask over everything
  const sizes s = small(family::gpt);
  const model old = random_model(s, 52);
  model now = old;
  setting how;
  const std::vector<std::pair<targets, msg::rule>> steps{
      {{{"ffn", 9}}, presets::lemon()},
      {{{"heads", 3}}, presets::composable(fresh_values::all(init::normal(1)))},
      {{{"layers", 4}}, presets::llama_pro()},
      {{{"hidden", 8}}, presets::hypercloning()},
      {{{"hidden", 11}, {"ffn", 10}, {"heads", 4}, {"layers", 5}}, presets::msg(fresh_values::all(init::normal(30)))}};
  for (const auto& [to, by] : steps) {
    const msg::plan plan = plan_of(now.size, to, by);
    now = applied(plan, now);
    how = keeping(plan, 0, how);
    CAPTURE(by.name());
    CHECK(between(old, now, how).rounding());
  }
}
