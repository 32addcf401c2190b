// Whether a stage begins: each trigger at its boundaries, on histories written out by hand.
#include "support/catch.hpp"
#include "support/thrown.hpp"

#include <msg/decision.hpp>

#include <cmath>
#include <functional>
#include <limits>
#include <vector>

namespace {

using msg::decision;
using msg::index;
using msg::observations;
using msg::trigger;
using msg::trigger_kind;
using msg::verdict;

constexpr double none = std::numeric_limits<double>::quiet_NaN();

msg::schedule with(const trigger& at) {
  msg::schedule s;
  s.start = {{"ffn", 4}};
  s.stages = {{.at = at, .grow = {{"ffn", 8}}}};
  return s;
}

// 1e6 FLOPs and half a second a step.
observations history(index steps, const std::function<double(index)>& loss) {
  observations seen;
  for (index s = 1; s <= steps; ++s) { seen.steps.push_back({s, 1e6 * double(s), 0.5 * double(s), loss(s), none}); }
  return seen;
}

// The first step at which a trigger grows, or -1.
index begins(const trigger& at, const observations& seen, index steps, index since = 0) {
  for (index step = 0; step <= steps; ++step) {
    if (msg::decide(with(at), 0, seen, step, {}, since).what == verdict::grow) { return step; }
  }
  return -1;
}

} // namespace

TEST_CASE("triggers known beforehand need no history", "[decision]") {
  const msg::run_extent run{.steps = 100, .tokens_per_step = 10};
  const auto at = GENERATE(trigger{trigger_kind::step, 40}, trigger{trigger_kind::tokens, 395},
                           trigger{trigger_kind::fraction, 0.4});
  CHECK(msg::decide(with(at), 0, {}, 39, run).what == verdict::wait);
  CHECK(msg::decide(with(at), 0, {}, 40, run).what == verdict::grow);
  CHECK(msg::decide(with(at), 0, {}, 41, run).what == verdict::grow);
}

TEST_CASE("seconds are those that were observed, not those of a clock", "[decision]") {
  const observations seen = history(100, [](index) { return 3.0; });
  CHECK(begins({trigger_kind::seconds, 10}, seen, 100) == 20);
  CHECK(begins({trigger_kind::seconds, 50.1}, seen, 200) == -1);
}

TEST_CASE("a loss trigger waits for the mean of its window", "[decision]") {
  const observations seen = history(100, [](index s) { return 5 - 0.04 * double(s); });
  CHECK(begins({.kind = trigger_kind::loss, .value = 3 + 1e-9}, seen, 100) == 50);
  // mean of 11 steps of a line is its middle: 5 - 0.04 (s - 5)
  CHECK(begins({.kind = trigger_kind::loss, .value = 3 + 1e-9, .window = 11}, seen, 100) == 55);
}

TEST_CASE("one lucky batch doesn't pull a loss trigger", "[decision]") {
  const observations seen = history(100, [](index s) { return s == 30 ? 0.1 : 4.0; });
  CHECK(begins({.kind = trigger_kind::loss, .value = 3, .window = 10}, seen, 100) == -1);
  CHECK(begins({.kind = trigger_kind::loss, .value = 3, .window = 1}, seen, 100) == 30); // the negative control
}

TEST_CASE("a loss trigger may look at validation, wherever that was taken", "[decision]") {
  observations seen = history(100, [](index) { return 0.1; });
  for (index s = 10; s <= 100; s += 10) { seen.steps[std::size_t(s - 1)].validation_loss = 5 - 0.04 * double(s); }
  const trigger at{.kind = trigger_kind::loss, .value = 3.5, .of = msg::loss_source::validation, .window = 10};
  CHECK(begins(at, seen, 100) == 40);
}

TEST_CASE("losses that aren't numbers pull nothing", "[decision]") {
  const observations seen = history(100, [](index) { return none; });
  for (const auto kind : {trigger_kind::loss, trigger_kind::plateau}) {
    CHECK(begins({.kind = kind, .value = 0.5, .window = 10}, seen, 100) == -1);
  }
}

TEST_CASE("a plateau begins where the window's second half gains too little over the first", "[decision]") {
  // falls by 0.04 a step to 3 at step 50, and stays there; halves of 10 steps
  const observations seen = history(100, [](index s) { return 5 - 0.04 * double(std::min<index>(s, 50)); });
  const trigger at{.kind = trigger_kind::plateau, .value = 0.01, .window = 20};
  index expected = 20;
  for (;; ++expected) {
    double halves[2] = {0, 0};
    for (index s = expected - 19; s <= expected; ++s) {
      halves[s > expected - 10 ? 1 : 0] += (5 - 0.04 * double(std::min<index>(s, 50))) / 10;
    }
    if ((halves[0] - halves[1]) / halves[0] < 0.01) { break; }
  }
  CHECK(expected > 50);
  CHECK(begins(at, seen, 100) == expected);
}

TEST_CASE("windows begin behind the last growth", "[decision]") {
  const observations seen = history(100, [](index) { return 3.0; });
  const trigger at{.kind = trigger_kind::plateau, .value = 0.01, .window = 20};
  CHECK(begins(at, seen, 100) == 20);
  CHECK(begins(at, seen, 100, 37) == 57);
}

TEST_CASE("a slope trigger grows where the grown model would gain more per FLOP", "[decision]") {
  // small: 40 F^-0.10; the grown model 60 F^-0.12, less at first and more later; loss is kept by growth
  const auto small = [](double flops) { return 40 * std::pow(flops, -0.10); };
  observations seen = history(4000, [&](index s) { return small(1e6 * double(s)); });
  msg::expected_curve large{.stage = 0};
  for (int i = 1; i <= 30; ++i) { large.points.push_back({1e6 * i, 60 * std::pow(1e6 * i, -0.12)}); }
  seen.expected.push_back(large);
  // gains at a loss L: 0.10 L / F_small(L) and 0.12 L / F_large(L); equal where F_large(L) = 1.2 F_small(L)
  index expected = 1;
  for (;; ++expected) {
    const double flops = 1e6 * double(expected);
    const double same_loss = std::pow(60 / small(flops), 1 / 0.12);
    if (0.10 / flops < 0.12 / same_loss) { break; }
  }
  CHECK(expected > 100);
  CHECK(expected < 3900);
  const trigger at{.kind = trigger_kind::slope, .value = 1, .window = 64};
  CHECK(std::abs(begins(at, seen, 4000) - expected) <= 1);
  // asks for a gain 1 / 0.8 times as large: their ratio goes with F^(1/6), so at 1.25^6 as many FLOPs
  const double later = double(expected) * std::pow(1.25, 6);
  const index hesitant = begins({.kind = trigger_kind::slope, .value = 0.8, .window = 64}, seen, 4000);
  CHECK(std::abs(double(hesitant) - later) <= 0.02 * later); // expected is off by up to one step in 214
}

TEST_CASE("a slope trigger without a curve to compare with fails at once", "[decision]") {
  const auto findings = testing::findings_of(
      [] { (void)msg::decide(with({.kind = trigger_kind::slope, .value = 1, .window = 64}), 0, {}, 0); });
  CHECK(testing::codes_of(findings) == std::vector{msg::errc::bad_argument});
}

TEST_CASE("not_before and not_after bound what training decides", "[decision]") {
  const observations seen = history(100, [](index) { return 1.0; });
  trigger at{.kind = trigger_kind::loss, .value = 2, .window = 4, .not_before = 30};
  CHECK(begins(at, seen, 100) == 30);
  at.value = 0.5;
  CHECK(begins(at, seen, 100) == -1);
  at.not_after = 70;
  CHECK(begins(at, seen, 100) == 70);
  CHECK(msg::decide(with(at), 0, seen, 70).why == "not_after is reached");
  CHECK(msg::decide(with(at), 0, {}, 70).what == verdict::grow); // whatever was seen
}

TEST_CASE("what is yet to come has no say", "[decision]") {
  const auto kind = GENERATE(trigger_kind::seconds, trigger_kind::loss, trigger_kind::plateau);
  const auto loss = [](index s) { return 5 - 0.04 * double(s); };
  const trigger at{.kind = kind, .value = kind == trigger_kind::plateau ? 0.05 : 3.1, .window = 10};
  const observations all = history(100, loss);
  for (index step = 0; step <= 100; ++step) {
    CHECK(msg::decide(with(at), 0, all, step) == msg::decide(with(at), 0, history(step, loss), step));
  }
}

TEST_CASE("a probe asks for trials, and the most loss per FLOP wins", "[decision]") {
  msg::schedule s = with({.kind = trigger_kind::probe, .value = 50, .window = 10});
  s.stages[0].candidates = {{.grow = {{"ffn", 6}}}, {.grow = {{"ffn", 8}}}, {.grow = {{"ffn", 9}}}};
  observations seen;
  CHECK(msg::decide(s, 0, seen, 49).what == verdict::wait);
  CHECK(msg::decide(s, 0, seen, 50).what == verdict::probe);
  seen.probes = {{0, 50, -1, 1e6, 4, 3.7}, // 0.3 per 1e6: more than any, but it can't win without `every`
                 {0, 50, 0, 2e6, 4, 3.6},  // 0.2
                 {0, 50, 1, 4e6, 4, 3.1},  // 0.225: the best, though not the most loss
                 {0, 50, 2, 6e6, 4, 2.8}}; // 0.2
  const decision d = msg::decide(s, 0, seen, 50);
  CHECK(d.what == verdict::grow);
  CHECK(d.candidate == 1);
  CHECK(std::abs(d.seen - 0.9 / 4e6) < 1e-18);
  CHECK(std::abs(d.limit - 0.3 / 1e6) < 1e-18);
}

TEST_CASE("with every, going on as it is may win, and trials are run again", "[decision]") {
  const msg::schedule s = with({.kind = trigger_kind::probe, .value = 50, .window = 10, .every = 30});
  observations seen;
  seen.probes = {{0, 50, -1, 1e6, 4, 3.7}, {0, 50, 0, 2e6, 4, 3.6}};
  CHECK(msg::decide(s, 0, seen, 50).what == verdict::wait);
  CHECK(msg::decide(s, 0, seen, 79).what == verdict::wait);
  CHECK(msg::decide(s, 0, seen, 80).what == verdict::probe);
  seen.probes.push_back({0, 80, -1, 1e6, 3.5, 3.45});
  seen.probes.push_back({0, 80, 0, 2e6, 3.5, 3.3});
  CHECK(msg::decide(s, 0, seen, 80).what == verdict::grow);
  CHECK(msg::decide(s, 0, seen, 80).candidate == 0);
}

TEST_CASE("trials that diverged, and ties, are settled the same everywhere", "[decision]") {
  msg::schedule s = with({.kind = trigger_kind::probe, .value = 50, .window = 10});
  s.stages[0].candidates = {{.grow = {{"ffn", 6}}}, {.grow = {{"ffn", 8}}}, {.grow = {{"ffn", 9}}}};
  observations seen;
  seen.probes = {{0, 50, 2, 2e6, 4, 3}, {0, 50, 1, 2e6, 4, 3}, {0, 50, 0, 2e6, 4, none}};
  CHECK(msg::decide(s, 0, seen, 50).candidate == 1); // the first of equals, in whatever order they came
  seen.probes = {{0, 50, 0, 2e6, 4, none}, {0, 50, 1, 0, 4, 3}};
  CHECK(msg::decide(s, 0, seen, 50).what == verdict::wait);
  CHECK(msg::decide(s, 0, seen, 50).why == "no trial gave a number");
  s.stages[0].at.not_after = 60;
  CHECK(msg::decide(s, 0, seen, 60).what == verdict::grow);
  CHECK(msg::decide(s, 0, seen, 60).candidate == 0);
}

TEST_CASE("at not_after the best trial grows even if going on as it is has won", "[decision]") {
  msg::schedule s = with({.kind = trigger_kind::probe, .value = 50, .window = 10, .every = 30, .not_after = 50});
  s.stages[0].candidates = {{.grow = {{"ffn", 6}}}, {.grow = {{"ffn", 8}}}};
  observations seen;
  seen.probes = {{0, 50, -1, 1e6, 4, 3}, {0, 50, 0, 2e6, 4, 3.6}, {0, 50, 1, 2e6, 4, 3.5}};
  CHECK(msg::decide(s, 0, seen, 50).what == verdict::grow);
  CHECK(msg::decide(s, 0, seen, 50).candidate == 1);
}
