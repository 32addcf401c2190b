// Growth schedules: when stages begin, sizes per stage, and every fault a schedule can have.
#include "support/catch.hpp"
#include "support/thrown.hpp"

#include <msg/schedule.hpp>

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <string>
#include <vector>

namespace {

using msg::errc;
using msg::index;
using msg::schedule;
using msg::trigger_kind;

schedule four_dimensions() {
  schedule s;
  s.start = {{"hidden", 64}, {"ffn", 128}, {"heads", 2}, {"layers", 2}};
  s.lr.warmup_steps = 10;
  s.stages = {{.at = {trigger_kind::fraction, 0.2}, .grow = {{"ffn", 512}}},
              {.at = {trigger_kind::fraction, 0.3},
               .grow = {{"layers", 4}, {"heads", 4}},
               .rules = {{"layers", "stack"}},
               .ramp = {.steps = 20},
               .lr = {msg::rate_change::rewarm, 5}},
              {.at = {trigger_kind::fraction, 0.5}, .grow = {{"hidden", 128}}}};
  return s;
}

constexpr double not_a_number = std::numeric_limits<double>::quiet_NaN();
constexpr double infinite = std::numeric_limits<double>::infinity();

} // namespace

TEST_CASE("a step trigger begins at its step", "[schedule]") {
  CHECK(msg::step_of({trigger_kind::step, 17}, {}) == 17);
  CHECK(msg::step_of({trigger_kind::step, 0x1p53}, {}) == index{1} << 53);
}

TEST_CASE("a token trigger begins at the first step that starts with enough tokens consumed", "[schedule]") {
  const msg::run_extent run{.steps = 0, .tokens_per_step = 100};
  CHECK(msg::step_of({trigger_kind::tokens, 1}, run) == 1);
  CHECK(msg::step_of({trigger_kind::tokens, 99}, run) == 1);
  CHECK(msg::step_of({trigger_kind::tokens, 100}, run) == 1);
  CHECK(msg::step_of({trigger_kind::tokens, 101}, run) == 2);
  CHECK(msg::step_of({trigger_kind::tokens, 1e15}, run) == 10'000'000'000'000);
}

TEST_CASE("a fraction begins at the first step that is that far into the run", "[schedule]") {
  CHECK(msg::step_of({trigger_kind::fraction, 0.5}, {.steps = 5}) == 3);
  CHECK(msg::step_of({trigger_kind::fraction, 0.001}, {.steps = 5}) == 1);
  CHECK(msg::step_of({trigger_kind::fraction, 0.999}, {.steps = 5}) == 5);
  CHECK(msg::step_of({trigger_kind::fraction, 0.2}, {.steps = 1000}) == 200);
}

TEST_CASE("a fraction written for a step begins at that step, however its product rounds", "[schedule]") {
  CHECK(0.07 * 100 > 7); // what a plain ceil would fall for
  for (index steps = 1; steps <= 1000; ++steps) {
    for (index step = 1; step < steps; ++step) {
      const double fraction = double(step) / double(steps);
      if (msg::step_of({trigger_kind::fraction, fraction}, {.steps = steps}) != step) {
        CAPTURE(step, steps);
        FAIL();
      }
    }
  }
  for (int hundredth = 1; hundredth < 100; ++hundredth) { // as parsed from decimal text
    const double fraction = std::stod("0." + std::string(hundredth < 10 ? "0" : "") + std::to_string(hundredth));
    CHECK(msg::step_of({trigger_kind::fraction, fraction}, {.steps = 100}) == hundredth);
  }
}

TEST_CASE("triggers that need an unknown length throw", "[schedule]") {
  const auto kind = GENERATE(trigger_kind::tokens, trigger_kind::fraction);
  const auto findings = testing::findings_of([&] { (void)msg::step_of({kind, 0.5}, {}); });
  CHECK(testing::codes_of(findings) == std::vector{errc::bad_argument});
}

TEST_CASE("stages resolve in order", "[schedule]") {
  CHECK(msg::stage_steps(four_dimensions(), {.steps = 1000}) == std::vector<index>{200, 300, 500});
}

TEST_CASE("sizes follow the stages that have happened", "[schedule]") {
  const schedule s = four_dimensions();
  CHECK(msg::sizes_after(s, 0) == s.start);
  CHECK(msg::sizes_after(s, 2) == msg::named_sizes{{"hidden", 64}, {"ffn", 512}, {"heads", 4}, {"layers", 4}});
  CHECK(msg::sizes_after(s, 3) == msg::named_sizes{{"hidden", 128}, {"ffn", 512}, {"heads", 4}, {"layers", 4}});
  CHECK(msg::sizes_after(s, 9) == msg::sizes_after(s, 3));
  CHECK(msg::size_of(s.start, "ffn") == 128);
  CHECK(msg::size_of(s.start, "vocab") == 0);
}

TEST_CASE("an axis takes its own rule, or that of the stage", "[schedule]") {
  const schedule s = four_dimensions();
  CHECK(msg::rule_of(s.stages[1], "layers") == "stack");
  CHECK(msg::rule_of(s.stages[1], "heads") == "mask");
}

TEST_CASE("the learning rate sees the stages that have begun", "[schedule]") {
  const std::vector<index> begun{200, 301};
  const auto events = msg::rate_events(four_dimensions(), begun);
  REQUIRE(events.size() == 2);
  CHECK(events[0].lr.change == msg::rate_change::none);
  CHECK(events[1].at_step == 301);
  CHECK(events[1].lr.change == msg::rate_change::rewarm);
  CHECK(events[1].lr.steps == 5);
}

TEST_CASE("a sound schedule has no findings", "[schedule]") {
  CHECK(msg::validate(four_dimensions()).empty());
  CHECK(msg::validate(four_dimensions(), {.steps = 1000, .tokens_per_step = 64},
                      {.axes = {"hidden", "ffn", "heads", "layers", "vocab"}, .rules = {"mask", "stack"}})
            .empty());
}

TEST_CASE("an axis may be listed at the size it has, and two axes may grow at one step", "[schedule]") {
  schedule s = four_dimensions();
  s.stages[2].grow.push_back({"ffn", 512});
  s.stages[1].at.value = s.stages[0].at.value;
  CHECK(msg::validate(s, {.steps = 1000}).empty());
}

TEST_CASE("triggers of different kinds are in order once the lengths are known", "[schedule]") {
  schedule s = four_dimensions();
  s.stages[1].at = {trigger_kind::step, 300};
  s.stages[2].at = {trigger_kind::tokens, 40'000};
  CHECK(msg::validate(s, {.steps = 1000, .tokens_per_step = 100}).empty());
  CHECK(testing::codes_of(msg::validate(s)) == std::vector{errc::bad_argument, errc::bad_argument});
}

TEST_CASE("each fault of a schedule is found and located", "[schedule]") {
  struct fault {
    std::function<void(schedule&)> make;
    errc code;
    std::string axis;
    std::string hint;
  };
  const std::vector<fault> faults{
      {[](schedule& s) {
         s.start.push_back({"vocab", 0});
       },
       errc::bad_size, "vocab", "start"},
      {[](schedule& s) {
         s.start.push_back({"ffn", 128});
       },
       errc::duplicate_name, "ffn", "start"},
      {[](schedule& s) {
         s.start.push_back({"width", 8});
       },
       errc::unknown_axis, "width", "start"},
      {[](schedule& s) { s = {}; }, errc::bad_size, "", "start"},
      {[](schedule& s) {
         s.lr.peak = 0;
         s.lr.min = 0;
       },
       errc::bad_argument, "", "lr.peak"},
      {[](schedule& s) { s.lr.peak = infinite; }, errc::bad_argument, "", "lr.peak"},
      {[](schedule& s) { s.lr.min = 1; }, errc::bad_argument, "", "lr.min"},
      {[](schedule& s) { s.lr.min = -1; }, errc::bad_argument, "", "lr.min"},
      {[](schedule& s) { s.lr.min = not_a_number; }, errc::bad_argument, "", "lr.min"},
      {[](schedule& s) { s.lr.warmup_steps = -1; }, errc::bad_argument, "", "lr.warmup_steps"},
      {[](schedule& s) { s.lr.decay_fraction = 1.5; }, errc::bad_argument, "", "lr.decay_fraction"},
      {[](schedule& s) { s.stages[0].at.value = 0; }, errc::bad_argument, "", "stages[0].at"},
      {[](schedule& s) { s.stages[2].at.value = 1; }, errc::bad_argument, "", "stages[2].at"},
      {[](schedule& s) { s.stages[2].at.value = not_a_number; }, errc::bad_argument, "", "stages[2].at"},
      {[](schedule& s) { s.stages[1].at.value = 0.1; }, errc::bad_argument, "", "stages[1].at"},
      {[](schedule& s) {
         s.stages[2].at = {trigger_kind::step, 299};
       },
       errc::bad_argument, "", "stages[2].at"},
      {[](schedule& s) {
         s.stages[2].at = {trigger_kind::tokens, 29'899};
       },
       errc::bad_argument, "", "stages[2].at"},
      {[](schedule& s) {
         s.stages[2].at = {trigger_kind::step, 400.5};
       },
       errc::bad_argument, "", "stages[2].at"},
      {[](schedule& s) {
         s.stages[0].at = {trigger_kind::step, 0};
       },
       errc::bad_argument, "", "stages[0].at"},
      {[](schedule& s) {
         s.stages[2].at = {trigger_kind::step, 1000};
       },
       errc::bad_argument, "", "stages[2].at"},
      {[](schedule& s) {
         s.stages[2].at = {trigger_kind::tokens, 1e300};
       },
       errc::bad_argument, "", "stages[2].at"},
      {[](schedule& s) {
         s.stages[0].grow = {{"ffn", 64}};
       },
       errc::shrink, "ffn", "stages[0].grow"},
      {[](schedule& s) { s.stages[1].grow[0].second = 0; }, errc::shrink, "layers", "stages[1].grow"},
      {[](schedule& s) {
         s.stages[2].grow.push_back({"ffn", 256});
       },
       errc::shrink, "ffn", "stages[2].grow"},
      {[](schedule& s) {
         s.stages[0].grow = {{"depth", 4}};
       },
       errc::unknown_axis, "depth", "stages[0].grow"},
      {[](schedule& s) { s.stages[0].grow = {}; }, errc::bad_size, "", "stages[0].grow"},
      {[](schedule& s) {
         s.stages[0].grow = {{"ffn", 128}};
       },
       errc::bad_size, "", "stages[0].grow"},
      {[](schedule& s) {
         s.stages[0].grow.push_back({"ffn", 512});
       },
       errc::duplicate_name, "ffn", "stages[0].grow"},
      {[](schedule& s) {
         s.stages[0].rules = {{"layers", "mask"}};
       },
       errc::unknown_axis, "layers", "stages[0].rule"},
      {[](schedule& s) {
         s.stages[1].rules.push_back({"layers", "mask"});
       },
       errc::duplicate_name, "layers", "stages[1].rule"},
      {[](schedule& s) { s.stages[0].rule = "masks"; }, errc::bad_rule, "", "stages[0].rule"},
      {[](schedule& s) { s.stages[1].rules[0].second = "stak"; }, errc::bad_rule, "layers", "stages[1].rule"},
      {[](schedule& s) { s.stages[0].placement = "behind"; }, errc::bad_placement, "", "stages[0].placement"},
      {[](schedule& s) { s.stages[0].fresh.std = -1; }, errc::bad_argument, "", "stages[0].fresh.std"},
      {[](schedule& s) { s.stages[0].fresh.std = infinite; }, errc::bad_argument, "", "stages[0].fresh.std"},
      {[](schedule& s) { s.stages[0].ramp.steps = -1; }, errc::bad_argument, "", "stages[0].ramp.steps"},
      {[](schedule& s) { s.stages[0].lr.steps = -1; }, errc::bad_argument, "", "stages[0].lr.steps"},
      {[](schedule& s) { s.stages[1].lr.steps = 0; }, errc::bad_argument, "", "stages[1].lr.steps"},
      {[](schedule& s) { s.stages[0].lr.fresh = -0.5; }, errc::bad_argument, "", "stages[0].lr.fresh"},
      {[](schedule& s) { s.stages[0].lr.fresh = not_a_number; }, errc::bad_argument, "", "stages[0].lr.fresh"},
      {[](schedule& s) {
         s.stages[1].ramps = {{"heads", {.steps = -1}}};
       },
       errc::bad_argument, "", "stages[1].ramps.heads"},
      {[](schedule& s) {
         s.stages[1].ramps = {{"ffn", {.steps = 5}}};
       },
       errc::unknown_axis, "ffn", "stages[1].ramps"},
      {[](schedule& s) {
         s.stages[1].ramps = {{"heads", {.steps = 5}}, {"heads", {.steps = 6}}};
       },
       errc::duplicate_name, "heads", "stages[1].ramps"},
      {[](schedule& s) {
         s.stages[0].at = {trigger_kind::seconds, 0};
       },
       errc::bad_argument, "", "stages[0].at"},
      {[](schedule& s) {
         s.stages[0].at = {trigger_kind::loss, not_a_number};
       },
       errc::bad_argument, "", "stages[0].at"},
      {[](schedule& s) { s.stages[0].at = {.kind = trigger_kind::loss, .value = 3, .window = -1}; }, errc::bad_argument,
       "", "stages[0].at.window"},
      {[](schedule& s) { s.stages[0].at = {.kind = trigger_kind::slope, .value = 1, .window = 3}; }, errc::bad_argument,
       "", "stages[0].at.window"},
      {[](schedule& s) { s.stages[0].at = {.kind = trigger_kind::plateau, .value = 1, .window = 8}; },
       errc::bad_argument, "", "stages[0].at"},
      {[](schedule& s) { s.stages[0].at = {.kind = trigger_kind::probe, .value = 1.5, .window = 8}; },
       errc::bad_argument, "", "stages[0].at"},
      {[](schedule& s) { s.stages[0].at = {.kind = trigger_kind::probe, .value = 5, .window = 0}; }, errc::bad_argument,
       "", "stages[0].at.window"},
      {[](schedule& s) { s.stages[0].at = {.kind = trigger_kind::probe, .value = 5, .window = 5, .every = -1}; },
       errc::bad_argument, "", "stages[0].at.every"},
      {[](schedule& s) {
         s.stages[0].at = {.kind = trigger_kind::seconds, .value = 5, .not_before = 20, .not_after = 19};
       },
       errc::bad_argument, "", "stages[0].at.not_after"},
      {[](schedule& s) {
         s.stages[0].candidates = {{.grow = {{"ffn", 256}}}};
       },
       errc::bad_argument, "", "stages[0].candidates"},
      {[](schedule& s) {
         s.stages[0].at = {.kind = trigger_kind::probe, .value = 5, .window = 5};
         s.stages[0].candidates = {{.grow = {{"ffn", 64}}}};
       },
       errc::shrink, "ffn", "stages[0].candidates[0].grow"},
      {[](schedule& s) {
         s.stages[0].at = {.kind = trigger_kind::probe, .value = 5, .window = 5};
         s.stages[0].candidates = {{.grow = {{"ffn", 256}}}, {.grow = {{"ffn", 256}}, .rule = "mush"}};
       },
       errc::bad_rule, "", "stages[0].candidates[1].rule"},
      {[](schedule& s) { // what comes later must be able to follow every candidate
         s.stages[0].at = {.kind = trigger_kind::probe, .value = 5, .window = 5};
         s.stages[0].candidates = {{.grow = {{"hidden", 256}}}, {.grow = {{"ffn", 256}}}};
       },
       errc::shrink, "hidden", "stages[2].grow"},
  };
  for (std::size_t i = 0; i < faults.size(); ++i) {
    CAPTURE(i);
    schedule s = four_dimensions();
    faults[i].make(s);
    const auto findings =
        msg::validate(s, {.steps = 1000, .tokens_per_step = 100},
                      {.axes = {"hidden", "ffn", "heads", "layers", "vocab"}, .rules = {"mask", "stack"}});
    REQUIRE(findings.size() == 1);
    CAPTURE(to_string(findings[0]));
    CHECK(findings[0].code == faults[i].code);
    CHECK(findings[0].axis == faults[i].axis);
    CHECK(findings[0].hint == faults[i].hint);
  }
}

TEST_CASE("one axis cannot grow twice at one step", "[schedule]") {
  schedule s = four_dimensions();
  s.stages[2].grow = {{"ffn", 1024}};
  s.stages[1].at = s.stages[2].at = s.stages[0].at;
  const auto findings = msg::validate(s, {.steps = 1000});
  REQUIRE(findings.size() == 1);
  CHECK(findings[0].axis == "ffn");
  CHECK(findings[0].hint == "stages[2].at");
}

TEST_CASE("a run too short to reach a stage is a finding", "[schedule]") {
  CHECK(msg::validate(four_dimensions(), {.steps = 4}).empty()); // steps 1, 2 and 2
  const auto findings = msg::validate(four_dimensions(), {.steps = 1});
  CHECK(findings.size() == 3);
}

TEST_CASE("all faults of a schedule are found at once", "[schedule]") {
  schedule s = four_dimensions();
  s.lr.peak = -1;
  s.stages[0].at.value = 2;
  s.stages[0].grow[0].second = 1;
  s.stages[1].ramp.steps = -5;
  s.stages[2].placement = "nowhere";
  const auto findings = msg::validate(s);
  CHECK(testing::codes_of(findings) == std::vector{errc::bad_argument, errc::bad_argument, errc::bad_argument,
                                                   errc::shrink, errc::bad_argument, errc::bad_placement});
  CHECK(std::any_of(findings.begin(), findings.end(), [](const auto& f) {
    return to_string(f) == "shrink: axis 'ffn', expected at least 128, found 1 (stages[0].grow)";
  }));
}

TEST_CASE("a trigger that training decides has no step beforehand", "[schedule]") {
  const auto kind = GENERATE(trigger_kind::seconds, trigger_kind::loss, trigger_kind::slope, trigger_kind::plateau,
                             trigger_kind::probe);
  CHECK(msg::observed({kind, 1}));
  const auto findings = testing::findings_of([&] {
    (void)msg::step_of({kind, 1}, {.steps = 10, .tokens_per_step = 10});
  });
  REQUIRE(findings.size() == 1);
  CHECK(findings[0].expected == "a trigger that is known beforehand");
}

TEST_CASE("triggers that training decides stand anywhere among others", "[schedule]") {
  schedule s = four_dimensions();
  s.stages[0].at = {.kind = trigger_kind::plateau, .value = 0.01, .window = 20, .not_after = 500};
  s.stages[1].at = {.kind = trigger_kind::seconds, .value = 0.5};
  CHECK(msg::validate(s, {.steps = 1000, .tokens_per_step = 64}).empty());
  CHECK(msg::validate(s).empty());
}

TEST_CASE("a growth in the decay of wsd is a finding, unless it is allowed or rewinds", "[schedule]") {
  schedule s = four_dimensions();
  s.lr.policy = msg::rate_policy::wsd;
  s.lr.decay_fraction = 0.5; // from step 500 of 1000 on, where the last stage is
  const msg::run_extent run{.steps = 1000};
  const auto findings = msg::validate(s, run);
  REQUIRE(findings.size() == 1);
  CHECK(findings[0].hint == "stages[2].at");
  CHECK(findings[0].found == "500");
  CHECK(msg::validate(s, run, {}, {.growth_in_decay = true}).empty());
  CHECK(msg::validate(s).empty()); // nothing can be said of a run of unknown length
  SECTION("a rewind puts the decay off") {
    s.stages[2].lr.change = msg::rate_change::rewind;
    CHECK(msg::validate(s, run).empty());
  }
  SECTION("before the decay it is none") {
    s.stages[2].at.value = 0.499;
    CHECK(msg::validate(s, run).empty());
  }
  SECTION("other policies have no decay phase") {
    s.lr.policy = msg::rate_policy::cosine;
    CHECK(msg::validate(s, run).empty());
  }
  SECTION("a trigger that training decides counts by its not_after") {
    s.stages[2].at = {.kind = trigger_kind::seconds, .value = 9, .not_after = 501};
    REQUIRE(msg::validate(s, run).size() == 1);
    CHECK(msg::validate(s, run)[0].hint == "stages[2].at.not_after");
    s.stages[2].at.not_after = 0;
    CHECK(msg::validate(s, run).empty());
  }
  SECTION("what training decided in another run may be repeated wherever it was") {
    s.stages[2].at = {.value = 700, .fired = true};
    CHECK(msg::validate(s, run).empty());
    s.stages[2].at.fired = false;
    CHECK(msg::validate(s, run).size() == 1);
  }
}

TEST_CASE("an axis takes its own ramp, or that of the stage", "[schedule]") {
  schedule s = four_dimensions();
  s.stages[1].ramps = {{"heads", {msg::ramp_shape::cosine, 7}}};
  CHECK(msg::validate(s, {.steps = 1000}).empty());
  CHECK(msg::ramp_of(s.stages[1].ramps, "heads", s.stages[1].ramp).steps == 7);
  CHECK(msg::ramp_of(s.stages[1].ramps, "heads", s.stages[1].ramp).shape == msg::ramp_shape::cosine);
  CHECK(msg::ramp_of(s.stages[1].ramps, "layers", s.stages[1].ramp).steps == 20);
}

TEST_CASE("a candidate takes the place of its stage's growth", "[schedule]") {
  msg::stage growth = four_dimensions().stages[1];
  growth.candidates = {{.grow = {{"hidden", 96}}, .rule = "stack"}, {.grow = {{"ffn", 256}}}};
  CHECK(msg::candidate_count(growth) == 2);
  CHECK(msg::candidate_count(four_dimensions().stages[1]) == 1);
  const msg::stage second = msg::with_candidate(growth, 1);
  CHECK(second.grow == msg::named_sizes{{"ffn", 256}});
  CHECK(second.rule == "mask");
  CHECK(second.rules.empty());
  CHECK(second.candidates.empty());
  CHECK(second.ramp.steps == 20);
  CHECK(msg::with_candidate(growth, -1).grow == growth.grow);
}

TEST_CASE("fresh rates fade to 1 with the ramp that is furthest behind", "[schedule]") {
  schedule s = four_dimensions();
  s.stages[1].lr.fresh = 3;
  s.stages[1].ramps = {{"heads", {msg::ramp_shape::linear, 40}}}; // layers: 20 steps
  const std::vector<index> steps{200, 300};
  CHECK(msg::fresh_rates(s, steps, 299).empty());
  for (const index elapsed : {0, 10, 39}) {
    const auto rates = msg::fresh_rates(s, steps, 300 + elapsed);
    REQUIRE(rates.size() == 1);
    CHECK(rates[0].birth == 300);
    CHECK(std::abs(rates[0].factor - (3 - 2 * double(elapsed) / 40)) <= 4 * 2.3e-16 * 3);
  }
  CHECK(msg::fresh_rates(s, steps, 340).empty());
  CHECK(msg::fresh_rates(s, std::vector<index>{200}, 310).empty()); // the stage hasn't begun
}
