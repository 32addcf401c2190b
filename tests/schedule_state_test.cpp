// A schedule under way: decisions in order, ranks and resumed runs that decide alike, and saved data that can't be.
#include "support/catch.hpp"
#include "support/thrown.hpp"

#include <msg/learning_rate.hpp>
#include <msg/schedule_state.hpp>

#include <cmath>
#include <functional>
#include <limits>
#include <string>
#include <vector>

namespace {

using msg::decision;
using msg::errc;
using msg::index;
using msg::observations;
using msg::schedule_state;
using msg::trigger_kind;
using msg::verdict;

// A plateau, then seconds, then a probe of two candidates.
msg::schedule three_stages() {
  msg::schedule s;
  s.start = {{"ffn", 4}, {"layers", 2}, {"hidden", 8}};
  s.stages = {{.at = {.kind = trigger_kind::plateau, .value = 0.01, .window = 20}, .grow = {{"ffn", 8}}},
              {.at = {trigger_kind::seconds, 40}, .grow = {{"layers", 4}}, .lr = {msg::rate_change::rewarm, 5}},
              {.at = {.kind = trigger_kind::probe, .value = 100, .window = 5, .every = 20},
               .grow = {{"hidden", 16}},
               .candidates = {{.grow = {{"hidden", 16}}}, {.grow = {{"ffn", 16}}, .rule = "stack"}}}};
  return s;
}

constexpr msg::run_extent run{.steps = 200, .tokens_per_step = 10};

msg::observation seen_at(index step) {
  return {.step = step,
          .flops = 1e6 * double(step),
          .seconds = 0.5 * double(step),
          .loss = 5 - 0.04 * double(std::min<index>(step, 30))};
}

// The trials at step 100 are won by going on as it is, those at 120 by the second candidate.
msg::probe_result trial(index step, index candidate) {
  const double after = step == 100 ? (candidate < 0 ? 3.0 : 3.9) : (candidate == 1 ? 3.0 : 3.9);
  return {2, step, candidate, candidate < 0 ? 1e6 : 2e6, 4, after};
}

/// Trains from a step on, as a trainer would.
void train(schedule_state& state, index from, index to) {
  for (index step = from; step < to; ++step) {
    for (decision d = state.next(step); d.what != verdict::wait; d = state.next(step)) {
      if (d.what == verdict::probe) {
        for (index c = -1; c < 2; ++c) { state.observe(trial(step, c)); }
      }
    }
    state.observe(seen_at(step + 1));
  }
}

schedule_state trained(index to) {
  schedule_state state(three_stages(), run);
  train(state, 0, to);
  return state;
}

} // namespace

TEST_CASE("stages begin one after another, whatever decides them", "[schedule_state]") {
  const schedule_state state = trained(150);
  const std::vector<index> steps = state.steps();
  REQUIRE(steps.size() == 3);
  CHECK(steps[0] > 30); // the loss stops falling at 30
  CHECK(steps[0] < 50);
  CHECK(steps[1] == 80); // 40 seconds
  CHECK(steps[2] == 120);
  CHECK(state.begun() == 3);
  CHECK(msg::sizes_after(state.resolved(), 3) == msg::named_sizes{{"ffn", 16}, {"layers", 4}, {"hidden", 8}});
  CHECK(state.resolved().stages[2].rule == "stack");
  CHECK(msg::stage_steps(state.resolved(), run) == steps); // a schedule like any other now
  CHECK(msg::validate(state.resolved(), run).empty());
  for (const msg::stage& growth : state.resolved().stages) { CHECK(growth.at.fired); } // none was known beforehand
  const auto events = msg::rate_events(state.resolved(), steps);
  CHECK(events[1].lr.change == msg::rate_change::rewarm);
}

TEST_CASE("the log says what was seen, what was decided, and why", "[schedule_state]") {
  const auto log = trained(150).log();
  std::vector<verdict> what;
  for (const decision& d : log) { what.push_back(d.what); }
  CHECK(what ==
        std::vector{verdict::grow, verdict::grow, verdict::probe, verdict::wait, verdict::probe, verdict::grow});
  CHECK(log[0].why == "relative gain of the window's second half over its first");
  CHECK(log[0].seen < log[0].limit);
  CHECK(log[1].seen == 40);
  CHECK(log[3].candidate == msg::probe_result::as_it_is);
  CHECK(log[5].candidate == 1);
  CHECK(log[5].seen == 0.5e-6);
}

TEST_CASE("a run resumed at any step decides as the one that was never stopped", "[schedule_state]") {
  const schedule_state whole = trained(150);
  for (index stop = 0; stop <= 150; ++stop) {
    CAPTURE(stop);
    const schedule_state before = trained(stop);
    schedule_state resumed(three_stages(), run, before.seen(), before.log());
    train(resumed, stop, 150);
    CHECK(resumed.log() == whole.log());
  }
}

TEST_CASE("ranks that were shown the same decide alike without talking", "[schedule_state]") {
  CHECK(trained(150).log() == trained(150).log());
}

TEST_CASE("history that no trigger looks back to is forgotten", "[schedule_state]") {
  schedule_state state(three_stages(), run);
  train(state, 0, 30);
  CHECK(state.seen().steps.size() >= 20);
  train(state, 30, 99);
  CHECK(state.seen().steps.size() <= 3);
}

TEST_CASE("no axis grows twice at one step", "[schedule_state]") {
  msg::schedule s;
  s.start = {{"ffn", 4}, {"layers", 1}};
  for (const auto& grow : {msg::named_sizes{{"ffn", 8}}, {{"layers", 2}}, {{"ffn", 16}}}) {
    s.stages.push_back({.at = {trigger_kind::seconds, 1}, .grow = grow});
  }
  schedule_state state(s, run);
  train(state, 0, 10);
  CHECK(state.steps() == std::vector<index>{2, 2, 3});
}

TEST_CASE("asking again changes nothing, and every stage begins once", "[schedule_state]") {
  schedule_state state(three_stages(), run);
  train(state, 0, 100);
  CHECK(state.next(100).what == verdict::probe);
  const std::size_t entries = state.log().size();
  CHECK(state.next(100).what == verdict::probe);
  CHECK(state.log().size() == entries);
  train(state, 100, 150);
  CHECK(state.next(150).why == "every stage has begun");
}

TEST_CASE("a curve to compare with can be given, and given anew", "[schedule_state]") {
  msg::schedule s = three_stages();
  s.stages[0].at = {.kind = trigger_kind::slope, .value = 1, .window = 20};
  schedule_state state(s, run);
  CHECK(testing::codes_of(testing::findings_of([&] { (void)state.next(0); })) == std::vector{errc::bad_argument});
  state.expect(0, {{1e6, 5}, {2e6, 4}});
  state.expect(0, {{1e6, 5}, {2e6, 4}, {3e6, 3}});
  CHECK(state.next(0).what == verdict::wait);
  REQUIRE(state.seen().expected.size() == 1);
  CHECK(state.seen().expected[0].points.size() == 3);
}

TEST_CASE("observations out of order and trials nobody asked for are refused", "[schedule_state]") {
  schedule_state state(three_stages(), run);
  state.observe(seen_at(5));
  const auto refused = [&](const auto& what) {
    return testing::codes_of(testing::findings_of([&] { state.observe(what); })) == std::vector{errc::bad_argument};
  };
  CHECK(refused(seen_at(5)));
  msg::observation fewer = seen_at(6);
  fewer.seconds = 0;
  CHECK(refused(fewer));
  CHECK(refused(trial(5, 0)));
  CHECK(state.seen().steps.size() == 1);
  train(state, 5, 100);
  CHECK(state.next(100).what == verdict::probe);
  CHECK(refused(trial(100, 2)));
  CHECK(refused(trial(99, 0)));
}

TEST_CASE("a schedule with faults is no schedule to run", "[schedule_state]") {
  msg::schedule s = three_stages();
  s.stages[0].at.window = 1;
  s.stages[1].grow = {{"layers", 1}};
  CHECK(testing::findings_of([&] { schedule_state{s, run}; }).size() == 2);
}

TEST_CASE("contradictions in saved data are all reported", "[schedule_state]") {
  struct fault {
    std::function<void(observations&, std::vector<decision>&)> make;
    std::string hint;
  };
  const std::vector<fault> faults{
      {[](auto& seen, auto&) { seen.steps.push_back(seen.steps.front()); }, "the saved observations"},
      {[](auto& seen, auto&) { seen.steps.back().flops = -1; }, "the saved observations"},
      {[](auto& seen, auto&) { seen.probes[0].candidate = 2; }, "the saved trials"},
      {[](auto& seen, auto&) { seen.probes[0].step = 99; }, "the saved trials"},
      {[](auto&, auto& log) { log.erase(log.begin()); }, "the saved decision at step 80"},
      {[](auto&, auto& log) { log.push_back(log.back()); }, "the saved decision at step 120"},
      {[](auto&, auto& log) { log[1].step = 7; }, "the saved decision at step 7"},
      {[](auto&, auto& log) { log[5].candidate = 5; }, "the saved decision at step 120"},
      {[](auto&, auto& log) { log[5].candidate = 0; }, "the saved decision at step 120"}, // the trials say 1
      {[](auto& seen, auto&) { seen.probes.back().loss_after = 4; }, "the saved decision at step 120"},
  };
  const schedule_state good = trained(150);
  for (std::size_t i = 0; i < faults.size(); ++i) {
    CAPTURE(i);
    observations seen = good.seen();
    std::vector<decision> log = good.log();
    faults[i].make(seen, log);
    const auto findings = testing::findings_of([&] { schedule_state(three_stages(), run, seen, log); });
    REQUIRE(!findings.empty());
    for (const auto& finding : findings) { CHECK(finding.code == errc::bad_state); }
    CHECK(findings[0].hint == faults[i].hint);
  }
}

TEST_CASE("a saved growth that its own history contradicts is found while the history is there", "[schedule_state]") {
  const schedule_state good = trained(60); // the plateau has begun; its window is still there
  observations seen = good.seen();
  seen.steps.clear();
  for (index step = 1; step <= 60; ++step) { seen.steps.push_back(seen_at(step)); }
  std::vector<decision> log = good.log();
  REQUIRE(log.size() == 1);
  schedule_state(three_stages(), run, seen, log);
  log[0].step -= 10; // the loss was still falling
  CHECK(testing::codes_of(testing::findings_of([&] { schedule_state(three_stages(), run, seen, log); })) ==
        std::vector{errc::bad_state});
}

TEST_CASE("a longer run doesn't contradict growths at fractions of the shorter one", "[schedule_state]") {
  msg::schedule s;
  s.start = {{"ffn", 4}};
  s.stages = {{.at = {trigger_kind::fraction, 0.5}, .grow = {{"ffn", 8}}}};
  schedule_state state(s, run);
  train(state, 0, 110);
  CHECK(state.steps() == std::vector<index>{100});
  const schedule_state longer(s, {.steps = 400, .tokens_per_step = 10}, state.seen(), state.log());
  CHECK(longer.steps() == std::vector<index>{100});
}
