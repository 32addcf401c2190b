// Growths one after another against growths at once: the same numbers where an operator promises them, the same
// function everywhere, with the contracts multiplied.
#include "support/catch.hpp"
#include "support/published_library.hpp"

#include <msg/growth.hpp>
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

namespace {

/// Takes the units back that a growth added: new unit i is the place of old unit i.
growth undoing(const msg::plan& plan) {
  growth back;
  for (const msg::axis_plan& a : plan.axes()) {
    expansion e;
    for (index i = 0; i < a.old_size; ++i) {
      std::vector<real> row(static_cast<std::size_t>(a.new_size), 0);
      for (std::size_t j = 0; j < row.size(); ++j) { row[j] = a.old_of[j] == i ? 1 : 0; }
      e.write.push_back(row);
      e.read.push_back(row);
      e.added.push_back(false);
    }
    back[a.name] = e;
  }
  return back;
}

} // namespace

TEST_CASE("a masked growth that is taken back leaves old numbers as they are by now", "[composition][undo]") {
  const family kind = GENERATE(from_range(families));
  const bool tied = GENERATE(true, false);
  const auto order =
      GENERATE(msg::placement::order::append, msg::placement::order::prepend, msg::placement::order::interleave);
  CAPTURE(static_cast<int>(kind), tied, static_cast<int>(order));
  const sizes s = small(kind, tied);
  const bool llama = kind == family::llama;
  const targets to{{"hidden", 7}, {"ffn", 8},   {"heads", llama ? 9 : 3}, {"kv_heads", 3},
                   {"layers", 3}, {"vocab", 7}, {"positions", 5}};
  const msg::plan plan = plan_of(s, to, presets::msg(fresh_values::all(init::normal(30))), {order, {}});
  const model now = random_model(sizes_of(s, plan.after()), 53); // the grown model after some training
  const msg::plan back = plan.undone();
  const growth undo = undoing(plan);
  for (const payload what : {payload::value, payload::moment1, payload::moment2}) {
    CHECK(difference(grown(now, undo), applied(back, now, what)) == "");
  }
  CHECK(back.strict());
  if (order == msg::placement::order::append) { // the text is of old tokens, which are the first ones only here
    const model again = applied(back, now);
    CHECK(between(again, now, keeping(plan)).none()); // and the function is what the grown model's was at 0
  }
  CHECK(difference(applied(back, applied(plan, random_model(s, 54))), random_model(s, 54)) == "");
}

TEST_CASE("growths that act at once are not taken back", "[composition][undo]") {
  const family kind = GENERATE(from_range(families));
  const bool llama = kind == family::llama;
  const auto refused = [&](const targets& to, const msg::rule& by) {
    try {
      (void)plan_of(small(kind), to, by).undone();
      return false;
    } catch (const msg::error& e) { return e.code() == msg::errc::unsupported; }
  };
  CHECK(refused({{"ffn", 12}}, presets::net2net()));
  CHECK(refused({{"ffn", 12}}, presets::hypercloning()));
  CHECK(refused({{"ffn", 12}}, presets::composable()));
  CHECK(refused({{"layers", 4}}, presets::stackbert()));
  CHECK(refused({{"layers", 4}}, presets::llama_pro()));
  CHECK((!llama || refused({{"hidden", 8}}, presets::composable())));
  CHECK((kind != family::gpt || refused({{"hidden", 8}}, presets::lemon())));
}

TEST_CASE("a growth that is taken back is forgotten by ages and masks", "[composition][undo]") {
  const sizes s = small(family::gpt);
  const msg::plan first = plan_of(s, {{"ffn", 8}}, presets::msg());
  const msg::plan second = plan_of(sizes_of(s, first.after()), {{"ffn", 9}, {"hidden", 6}}, presets::msg());
  msg::growth_state state;
  state.record(first, 10, {.steps = 5});
  const auto births = state.births();
  state.record(second, 40, {.steps = 100});
  CHECK(state.births().at("ffn").size() == 9);
  CHECK_THROWS_AS(state.take_back(second.undone(), 60), msg::error); // its units are awake
  state.take_back(second.undone(), 40);
  CHECK(state.births() == births);
  CHECK(state.log().size() == 1);
  CHECK(state.mask("hidden", 40).empty());
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
