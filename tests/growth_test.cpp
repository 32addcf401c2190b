// Growths in flight: the log, births, masks of overlapping ramps, ages, and what a checkpoint restores.
#include "support/catch.hpp"
#include "support/test_rules.hpp"
#include "support/thrown.hpp"

#include <msg/growth.hpp>
#include <msg/mask.hpp>
#include <msg/plan.hpp>
#include <msg/rules/mask.hpp>
#include <msg/rules/stack.hpp>

#include <functional>
#include <map>
#include <string>
#include <vector>

using msg::axis;
using msg::errc;
using msg::growth_record;
using msg::growth_state;
using msg::index;
using msg::linear_ramp;
using msg::placement;

namespace {

const axis hidden{"hidden", 2};
const axis ffn{"ffn", 3};
const axis heads{"heads", 1};
const axis head_dim{"head_dim", 2};
const axis layers{"layers", 2};

msg::schema model() {
  msg::schema s;
  s.weight("up", each(layers), out(ffn), in(hidden));
  s.weight("fused", in(hidden), out(2 * heads * head_dim | ffn));
  s.bias("alone", out(head_dim));
  return s.normed(hidden);
}

using births = std::map<std::string, std::vector<index>, std::less<>>;

} // namespace

TEST_CASE("a growth leaves one record per axis that grew, and the births of its units", "[growth]") {
  growth_state state;
  CHECK(state.log().empty());
  const msg::plan growth{model(),
                         {hidden.grow_to(3, {.placement = placement::prepend()}), ffn.grow_to(3), // not at all
                          layers.grow_to(4, {.rule = msg::stack{}, .placement = placement::interleave()})},
                         msg::mask{},
                         {.seed = 42}};
  state.record(growth, 10, msg::cosine_ramp{.steps = 5});
  REQUIRE(state.log().size() == 2);
  const growth_record& first = state.log()[0];
  CHECK(first.id == 0);
  CHECK(first.axis == "hidden");
  CHECK(first.from == 2);
  CHECK(first.to == 3);
  CHECK(first.rule == "mask");
  CHECK(first.placement == placement::order::prepend);
  CHECK(first.masked);
  CHECK(first.at_step == 10);
  CHECK(first.ramp.shape == msg::ramp_shape::cosine);
  CHECK(first.ramp.steps == 5);
  CHECK(first.seed == 42);
  const growth_record& second = state.log()[1];
  CHECK(second.id == 1);
  CHECK(second.axis == "layers");
  CHECK(second.rule == "stack");
  CHECK_FALSE(second.masked);
  CHECK(second.value(10) == 1);
  CHECK(second.done(10));
  CHECK(state.births() == births{{"hidden", {10, 0, 0}}, {"layers", {0, 10, 0, 10}}});
}

TEST_CASE("a linear ramp is 0, 1/T, ..., 1 from the growth on, and then the plain path runs", "[growth][ramp]") {
  const index steps = GENERATE(1, 2, 4, 7);
  growth_state state;
  state.record(msg::plan{model(), {ffn.grow_to(5)}}, 100, linear_ramp{steps});
  CHECK_FALSE(state.ramping("ffn", 99));
  CHECK(state.mask("ffn", 99).empty());
  for (index i = 0; i <= steps; ++i) {
    CAPTURE(steps, i);
    const auto c = static_cast<float>(static_cast<double>(i) / static_cast<double>(steps));
    CHECK(state.ramping("ffn", 100 + i));
    CHECK(state.ramping(100 + i));
    CHECK(state.mask("ffn", 100 + i) == std::vector<float>{1, 1, 1, c, c});
    CHECK(state.log()[0].value(100 + i) == static_cast<double>(i) / static_cast<double>(steps));
  }
  CHECK_FALSE(state.ramping("ffn", 100 + steps + 1));
  CHECK_FALSE(state.ramping(100 + steps + 1));
  CHECK(state.mask("ffn", 100 + steps + 1).empty());
  CHECK(state.mask("hidden", 100).empty());
}

TEST_CASE("a ramp of no steps is 1 at once", "[growth][ramp]") {
  growth_state state;
  state.record(msg::plan{model(), {ffn.grow_to(5)}}, 100, linear_ramp{0});
  CHECK(state.mask("ffn", 100) == std::vector<float>{1, 1, 1, 1, 1});
  CHECK(state.mask("ffn", 101).empty());
}

TEST_CASE("two ramps of one axis overlap, each unit on the ramp of its own growth", "[growth][ramp]") {
  growth_state state;
  const msg::plan first{model(), {ffn.grow_to(4)}};
  const msg::plan second{first.after(), {ffn.grow_to(6, {.placement = placement::prepend()})}};
  state.record(first, 10, linear_ramp{8});
  state.record(second, 14, linear_ramp{2});
  CHECK(state.births().at("ffn") == std::vector<index>{14, 14, 0, 0, 0, 10});
  CHECK(state.mask("ffn", 14) == std::vector<float>{0, 0, 1, 1, 1, 0.5});
  CHECK(state.mask("ffn", 15) == std::vector<float>{0.5, 0.5, 1, 1, 1, 0.625});
  CHECK(state.mask("ffn", 17) == std::vector<float>{1, 1, 1, 1, 1, 0.875}); // the second is over, the first is not
  CHECK(state.mask("ffn", 18) == std::vector<float>{1, 1, 1, 1, 1, 1});
  CHECK(state.mask("ffn", 19).empty());
  msg::axis_mask mask(second, "ffn"); // what the trainer's kernels take
  mask.set(state.mask("ffn", 15));
  CHECK(mask.sum() == 3 + 0.5 + 0.5 + 0.625);
}

TEST_CASE("ramps of different axes overlap without touching one another", "[growth][ramp]") {
  growth_state state;
  const msg::plan first{model(), {ffn.grow_to(4), layers.grow_to(3, {.placement = placement::interleave()})}};
  const msg::plan second{first.after(), {hidden.grow_to(3)}};
  state.record(first, 5, linear_ramp{4});
  state.record(second, 6, msg::step_ramp{4});
  CHECK(state.mask("ffn", 6) == std::vector<float>{1, 1, 1, 0.25});
  CHECK(state.mask("layers", 6) == std::vector<float>{1, 0.25, 1});
  CHECK(state.mask("hidden", 6) == std::vector<float>{1, 1, 0});
  CHECK(state.mask("ffn", 10).empty());
  CHECK(state.mask("hidden", 9) == std::vector<float>{1, 1, 0});
  CHECK(state.mask("hidden", 10) == std::vector<float>{1, 1, 1});
  CHECK(state.ramping(10));
  CHECK_FALSE(state.ramping(11));
}

TEST_CASE("the axes of one growth ramp at their own pace", "[growth][ramp]") {
  growth_state state;
  state.record(msg::plan{model(), {hidden.grow_to(3), ffn.grow_to(5)}}, 100, linear_ramp{4},
               {{"ffn", linear_ramp{10}}, {"heads", linear_ramp{99}}});
  CHECK(state.mask("hidden", 102) == std::vector<float>{1, 1, 0.5F});
  CHECK(state.mask("ffn", 105) == std::vector<float>{1, 1, 1, 0.5F, 0.5F});
  CHECK_FALSE(state.ramping("hidden", 105));
  CHECK(state.ramping("ffn", 110));
  CHECK_FALSE(state.ramping(111));
}

TEST_CASE("births ride along with their units through later growths and copies", "[growth]") {
  growth_state state;
  const msg::plan first{model(), {layers.grow_to(3)}};
  const msg::plan second{first.after(), {layers.grow_to(6, {.placement = placement::interleave()})}};
  const msg::plan third{second.after(), {layers.grow_to(8, {.rule = testing::copies{}})}};
  state.record(first, 3, linear_ramp{1});
  CHECK(state.births().at("layers") == std::vector<index>{0, 0, 3});
  state.record(second, 7, linear_ramp{1});
  CHECK(state.births().at("layers") == std::vector<index>{0, 7, 0, 7, 3, 7});
  state.record(third, 9, linear_ramp{1}); // a copy with its moments is as old as what it copies
  CHECK(state.births().at("layers") == std::vector<index>{0, 7, 0, 7, 3, 7, 0, 7});
}

TEST_CASE("a fresh unit that a rule forgets to call newborn is born all the same", "[growth]") {
  const msg::rule forgetful{"forgetful", [](const msg::rule_request& asked) {
                              return msg::axis_growth{.source = asked.old_of,
                                                      .newborn = std::vector<std::uint8_t>(asked.old_of.size(), 0)};
                            }};
  growth_state state;
  state.record(msg::plan{model(), {ffn.grow_to(5)}, forgetful}, 4, linear_ramp{});
  CHECK(state.births().at("ffn") == std::vector<index>{0, 0, 0, 4, 4});
}

TEST_CASE("a position is as young as its youngest unit and as awake as its sleepiest", "[growth][ages]") {
  growth_state state;
  const msg::plan first{model(), {heads.grow_to(2), layers.grow_to(3, {.rule = msg::stack{}})}};
  const msg::plan second{first.after(), {ffn.grow_to(4), hidden.grow_to(3)}};
  state.record(first, 10, linear_ramp{4});
  state.record(second, 12, linear_ramp{8});
  const msg::schema& now = second.after();
  const msg::parameter_ages up = state.ages(now.at("up"), 13);
  CHECK(up.shape == std::vector<index>{3, 4, 3});
  CHECK(up.birth == std::vector<std::vector<index>>{{0, 0, 10}, {0, 0, 0, 12}, {0, 0, 12}});
  CHECK(up.mask == std::vector<std::vector<float>>{{1, 1, 1}, {1, 1, 1, 0.125}, {1, 1, 0.125}});
  // 2 * heads * head_dim | ffn: two blocks of (old head, fresh head) of two channels each, then ffn
  const msg::parameter_ages fused = state.ages(now.at("fused"), 13);
  REQUIRE(fused.birth.size() == 2);
  CHECK(fused.birth[0] == std::vector<index>{0, 0, 12});
  CHECK(fused.birth[1] == std::vector<index>{0, 0, 10, 10, 0, 0, 10, 10, 0, 0, 0, 12});
  CHECK(fused.mask[1] == std::vector<float>{1, 1, 0.75, 0.75, 1, 1, 0.75, 0.75, 1, 1, 1, 0.125});
  const msg::parameter_ages alone = state.ages(now.at("alone"), 13); // no axis of it ever grew
  CHECK(alone.birth == std::vector<std::vector<index>>{{}});
  CHECK(alone.mask == std::vector<std::vector<float>>{{}});
}

TEST_CASE("in a product of two grown axes the latest birth and the least mask count", "[growth][ages]") {
  const axis a{"a", 1}, b{"b", 1};
  msg::schema s;
  s.weight("w", out(a * b));
  growth_state state;
  const msg::plan first{s, {a.grow_to(2)}};
  const msg::plan second{first.after(), {b.grow_to(2)}};
  state.record(first, 2, linear_ramp{16}); // slow: at step 6 it is behind the second
  state.record(second, 4, linear_ramp{4});
  const msg::parameter_ages ages = state.ages(second.after().at("w"), 6);
  CHECK(ages.birth == std::vector<std::vector<index>>{{0, 4, 2, 4}}); // (a, b): 00 01 10 11
  CHECK(ages.mask == std::vector<std::vector<float>>{{1, 0.5, 0.25, 0.25}});
}

TEST_CASE("ages of a parameter of another size are refused", "[growth][ages][error]") {
  growth_state state;
  const msg::plan growth{model(), {ffn.grow_to(5)}};
  state.record(growth, 10, linear_ramp{4});
  CHECK(testing::message_of([&] { (void)state.ages(growth.before().at("up"), 10); }) ==
        "msg: shape mismatch: parameter 'up', dimension 1, axis 'ffn', expected 5, found 3 (the parameter of the "
        "schema after the growth)");
}

TEST_CASE("steps of growths rise, and a plan starts where the last one ended", "[growth][error]") {
  growth_state state;
  const msg::plan growth{model(), {hidden.grow_to(3), ffn.grow_to(5)}};
  const auto refused = [&](const msg::plan& next, index at_step) {
    const growth_state before = state;
    const auto findings = testing::findings_of([&] { state.record(next, at_step, linear_ramp{4}); });
    CHECK(state.log().size() == before.log().size()); // nothing changed
    CHECK(state.births() == before.births());
    CHECK(findings[0].code == errc::bad_argument);
    return findings[0].axis + ": " + findings[0].expected + ", found " + findings[0].found;
  };
  CHECK(refused(growth, 0) == "hidden: a step after 0, found 0"); // births of 0 are the originals
  CHECK(refused(growth, -3) == "hidden: a step after 0, found -3");
  state.record(growth, 10, linear_ramp{4});
  const msg::plan next{growth.after(), {ffn.grow_to(6)}};
  CHECK(refused(next, 10) == "ffn: a step after 10, found 10");
  CHECK(refused(growth, 11) == "hidden: a plan from 3 units, found 2"); // the same growth again
  CHECK_NOTHROW(state.record(next, 11, linear_ramp{4}));
}

TEST_CASE("saved state restores to the same masks and ages", "[growth][restore]") {
  growth_state state;
  const msg::plan first{model(), {ffn.grow_to(4), layers.grow_to(4, {.placement = placement::interleave()})}};
  const msg::plan second{first.after(), {ffn.grow_to(7), hidden.grow_to(4, {.rule = testing::copies{}})}};
  state.record(first, 10, linear_ramp{8});
  state.record(second, 14, linear_ramp{2});
  const growth_state restored(state.log(), state.births(), second.after());
  for (index step = 13; step < 20; ++step) {
    CAPTURE(step);
    for (const char* name : {"ffn", "layers", "hidden"}) { CHECK(restored.mask(name, step) == state.mask(name, step)); }
    for (const char* name : {"up", "fused"}) {
      const auto now = restored.ages(second.after().at(name), step), then = state.ages(second.after().at(name), step);
      CHECK(now.birth == then.birth);
      CHECK(now.mask == then.mask);
    }
  }
  CHECK_NOTHROW(growth_state({}, {}, model()));
}

TEST_CASE("contradictions in saved state are all reported", "[growth][restore][error]") {
  growth_state state;
  const msg::plan first{model(), {ffn.grow_to(4)}};
  const msg::plan second{first.after(), {ffn.grow_to(6)}};
  state.record(first, 10, linear_ramp{8});
  state.record(second, 14, linear_ramp{2});
  const auto says = [&](const std::function<void(std::vector<growth_record>&, births&)>& damage,
                        const msg::schema& of) {
    std::vector<growth_record> log = state.log();
    births born = state.births();
    damage(log, born);
    return testing::message_of([&] { growth_state(log, born, of); });
  };
  const msg::schema& now = second.after();
  using records = std::vector<growth_record>;
  CHECK(says([](records& log, births&) { log[1].from = 5; }, now) ==
        "msg: bad state: axis 'ffn', expected growth 1 from 4, found 5\n"
        "msg: bad state: axis 'ffn', expected 1 births at step 14, found 2");
  CHECK(says([](records& log, births&) { log[1].at_step = 10; }, now) ==
        "msg: bad state: axis 'ffn', expected growths at rising steps from 1, found 10\n"
        "msg: bad state: axis 'ffn', expected 2 births at step 10, found 1\n"
        "msg: bad state: axis 'ffn', expected births at steps of its growths, found 14");
  CHECK(says([](records& log, births&) { log[0].at_step = 0; }, now) ==
        "msg: bad state: axis 'ffn', expected growths at rising steps from 1, found 0\n"
        "msg: bad state: axis 'ffn', expected 1 births at step 0, found 3\n"
        "msg: bad state: axis 'ffn', expected births at steps of its growths, found 10");
  CHECK(says([](records& log, births&) { log[0].ramp.steps = -1; }, now) ==
        "msg: bad state: axis 'ffn', expected a ramp of 0 steps or more, found -1");
  CHECK(says([](records& log, births&) { log[0].from = 0; }, now) ==
        "msg: bad state: axis 'ffn', expected a growth, found 0 to 4\n"
        "msg: bad state: axis 'ffn', expected 4 births at step 10, found 1");
  CHECK(says([](records&, births&) {}, first.after()) == "msg: bad state: axis 'ffn', expected 4, found 6\n"
                                                         "msg: bad state: axis 'ffn', expected 4 births, found 6");
  CHECK(says([](records&, births& born) { born.clear(); }, now) ==
        "msg: bad state: axis 'ffn', expected births of its units, found none");
  CHECK(says([](records&, births& born) { born["ffn"].pop_back(); }, now) ==
        "msg: bad state: axis 'ffn', expected 6 births, found 5\n"
        "msg: bad state: axis 'ffn', expected 2 births at step 14, found 1");
  CHECK(says([](records&, births& born) { born["ffn"][0] = 11; }, now) ==
        "msg: bad state: axis 'ffn', expected births at steps of its growths, found 11");
  CHECK(says([](records&, births& born) { born["ffn"][0] = 10; }, now) ==
        "msg: bad state: axis 'ffn', expected 1 births at step 10, found 2");
  CHECK(says([](records&, births& born) { born["nobody"] = {0}; }, now) ==
        "msg: bad state: axis 'nobody', expected one of layers, ffn, hidden, heads, head_dim, found 1");
}

TEST_CASE("a growth that is taken back while its mask is 0 leaves no trace in the state", "[growth][undo]") {
  growth_state state;
  const msg::plan first{model(), {hidden.grow_to(4)}};
  state.record(first, 5, {.steps = 10});
  const births before = state.births();
  const msg::plan second{first.after(), {hidden.grow_to(6), ffn.grow_to(5)}};
  state.record(second, 20, {.steps = 10});
  const msg::plan undo = second.undone();
  CHECK(testing::message_of([&] { state.take_back(undo, 21); }) ==
        "msg: bad argument: axis 'hidden', expected a mask of 0, found 0.100000");
  CHECK(testing::message_of([&] { state.take_back(first.undone(), 20); }) ==
        "msg: bad argument: axis 'hidden', expected the way back from its last growth, found 4 to 2");
  CHECK(testing::message_of([&] { state.record(undo, 21, {}); }) ==
        "msg: bad argument: axis 'hidden', expected a growth, found 6 to 4 (take_back() notes an undone one)");
  REQUIRE(state.log().size() == 3);
  state.take_back(undo, 20);
  CHECK(state.births() == before);
  CHECK(state.log().size() == 1);
  CHECK_FALSE(state.ramping(20));
  CHECK_NOTHROW(growth_state(state.log(), state.births(), first.after()));
  state.record(second, 21, {.steps = 10}); // once more, later
  CHECK(state.log().back().id == 2);
}
