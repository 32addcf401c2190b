// The search for a schedule, against truths whose best schedule is known.
#include "support/catch.hpp"
#include "support/thrown.hpp"

#include <msg/propose.hpp>

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

namespace {

using msg::index;
using msg::loss_model;
using msg::proposal;
using msg::proposal_request;

// Costs and counts as many parameters as the product of its sizes.
double units(const msg::named_sizes& sizes) {
  double product = 1;
  for (const auto& [axis, size] : sizes) { product *= double(size); }
  return product;
}
msg::model_cost cost(const msg::named_sizes& sizes) {
  return {.parameters = index(units(sizes)), .gemm = {{"all", 6 * units(sizes)}}};
}

const loss_model law{.floor = 1, .scale = 2, .exponent = 0.4, .token_scale = 20, .token_exponent = 0.3};

proposal_request one_axis() {
  return {.sizes = {{"width", 64}},
          .choices = {{"width", {16}}},
          .flops = 6 * 64 * 100.0 * 1000, // 1000 steps of 100 tokens of the final model
          .tokens_per_step = 100,
          .most_stages = 1,
          .cells = 50};
}

// Loss of a run that spends `part` of the budget at width 16 and the rest at 64, from the law itself.
double loss_of(const loss_model& truth, const proposal_request& wanted, double part) {
  const double small = truth.floor + truth.scale * std::pow(16, -truth.exponent);
  const double large = truth.floor + truth.scale * std::pow(64, -truth.exponent);
  double seen = 0; // tokens at 64
  if (part > 0) {
    const double tokens = part * wanted.flops / (6 * 16);
    const double kept = small + truth.token_scale * std::pow(tokens, -truth.token_exponent);
    seen = std::pow((kept - large) / truth.token_scale, -1 / truth.token_exponent);
  }
  return large + truth.token_scale * std::pow(seen + (1 - part) * wanted.flops / (6 * 64), -truth.token_exponent);
}

} // namespace

TEST_CASE("the best step to grow at is found", "[propose]") {
  const proposal_request wanted = one_axis();
  const auto found = msg::propose(wanted, cost, units, law);
  REQUIRE(!found.empty());
  double best = loss_of(law, wanted, 0);
  double part = 0;
  for (int cell = 1; cell < 50; ++cell) { // dense, and on the same grid
    if (const double loss = loss_of(law, wanted, cell / 50.0); loss < best) {
      best = loss;
      part = cell / 50.0;
    }
  }
  CHECK(part > 0.1);
  CHECK(part < 0.9);
  CHECK(std::abs(found[0].loss - best) < 1e-12);
  REQUIRE(found[0].timeline.stages.size() == 1);
  const double small_steps = part * wanted.flops / (6 * 16 * 100);
  const double all_steps = small_steps + (1 - part) * wanted.flops / (6 * 64 * 100);
  CHECK(std::abs(found[0].timeline.stages[0].at.value - small_steps / all_steps) < 1 / all_steps);
  CHECK(found[0].run.steps == std::llround(all_steps));
  CHECK(msg::validate(found[0].timeline, found[0].run).empty());
  CHECK(std::abs(found[0].flops / wanted.flops - 1) < 0.001); // steps are whole
  CHECK(found[0].cost_to_whole < 1);
}

TEST_CASE("the cheapest way to the final model's loss is found", "[propose]") {
  proposal_request wanted = one_axis();
  wanted.goal = msg::search_goal::loss_of_whole;
  const double whole = loss_of(law, wanted, 0);
  double cheapest = 1;
  for (int cell = 1; cell < 50; ++cell) { // dense: the rest of the way at 64 from the law itself
    const double part = cell / 50.0;
    const double small = 1 + 2 * std::pow(16, -0.4) + 20 * std::pow(part * wanted.flops / (6 * 16), -0.3);
    const double large = 1 + 2 * std::pow(64, -0.4);
    const auto tokens = [&](double loss) { return std::pow((loss - large) / 20, -1 / 0.3); };
    cheapest = std::min(cheapest, part + (tokens(whole) - tokens(small)) * 6 * 64 / wanted.flops);
  }
  const auto found = msg::propose(wanted, cost, units, law);
  REQUIRE(found.size() == 2);
  CHECK(cheapest < 0.96);
  CHECK(std::abs(found[0].cost_to_whole - cheapest) < 1e-9);
  CHECK(std::abs(found[0].flops / (cheapest * wanted.flops) - 1) < 0.001);
  CHECK(std::abs(found[0].loss - whole) < 1e-9);
  CHECK(found[1].timeline.stages.empty());
  CHECK(std::abs(found[1].cost_to_whole - 1) < 1e-9);
}

TEST_CASE("what is predicted for a proposal is what the law says of its schedule", "[propose]") {
  const proposal_request wanted = one_axis();
  for (const proposal& p : msg::propose(wanted, cost, units, law)) {
    if (p.timeline.stages.empty()) {
      CHECK(std::abs(p.loss - loss_of(law, wanted, 0)) < 1e-12);
      CHECK(std::abs(p.cost_to_whole - 1) < 1e-9); // it is the final model alone
    } else {
      const double small = double(msg::step_of(p.timeline.stages[0].at, p.run)) * 6 * 16 * 100;
      CHECK(std::abs(p.loss - loss_of(law, wanted, small / wanted.flops)) < 1e-4); // whole steps
    }
  }
}

TEST_CASE("growth comes late where width is worth nothing until late, and not at all where all of it is", "[propose]") {
  loss_model idle = law;
  idle.scale = 0; // nothing is gained by width
  const auto late = msg::propose(one_axis(), cost, units, idle);
  REQUIRE(late[0].timeline.stages.size() == 1);
  CHECK(late[0].why.find("after 98 % of the budget") != std::string::npos); // the last cell
  loss_model hungry = law;
  hungry.scale = 200; // a small model gets nowhere
  const auto never = msg::propose(one_axis(), cost, units, hungry);
  CHECK(never[0].timeline.stages.empty());
  CHECK(never[0].timeline.start == msg::named_sizes{{"width", 64}});
}

TEST_CASE("no growth comes later than it may", "[propose]") {
  loss_model idle = law;
  idle.scale = 0; // the later the better
  proposal_request wanted = one_axis();
  wanted.latest = 0.6;
  const auto found = msg::propose(wanted, cost, units, idle);
  REQUIRE(found[0].timeline.stages.size() == 1);
  CHECK(std::abs(found[0].loss - loss_of(idle, wanted, 0.6)) < 1e-12);
  wanted.latest = 0;
  CHECK(msg::propose(wanted, cost, units, idle).size() == 1); // the final model alone
  wanted.latest = 1.5;
  CHECK(testing::findings_of([&] { (void)msg::propose(wanted, cost, units, idle); })[0].hint == "latest");
}

TEST_CASE("tokens of the smaller model count for the grown one as far as they are said to", "[propose]") {
  proposal_request wanted = one_axis();
  wanted.latest = 0.5;
  wanted.carried = {{"width", 1}};
  const auto all = msg::propose(wanted, cost, units, law);
  REQUIRE(all[0].timeline.stages.size() == 1); // as late as it may: these tokens cost a quarter
  CHECK(all[0].timeline.stages[0].at.value == 0.8);
  const double tokens = 0.5 * wanted.flops / (6 * 16) + 0.5 * wanted.flops / (6 * 64);
  CHECK(std::abs(all[0].loss - law.loss(law.limit({}, 64), tokens)) < 1e-12);
  wanted.carried = {{"width", 0.5}}; // for a factor of 4 a quarter: what they count is what they cost
  CHECK(msg::propose(wanted, cost, units, law)[0].loss >= all[0].loss + 1e-3);
  wanted.carried = {{"width", 0}};
  CHECK(msg::propose(wanted, cost, units, law)[0].timeline.stages.empty()); // nothing is kept: no growth pays
}

TEST_CASE("a model hands on no more tokens than it has room for", "[propose]") {
  proposal_request wanted = one_axis();
  wanted.latest = 0.5;
  wanted.carried = {{"width", 1}};
  const double at_half = 0.5 * wanted.flops / (6 * 16); // tokens of the small model
  wanted.most_carried = at_half / 2 / 16;               // for each of its 16 parameters
  const auto found = msg::propose(wanted, cost, units, law);
  REQUIRE(found[0].timeline.stages.size() == 1); // as soon as it is full: after a quarter, or the cell that holds it
  const double tokens = at_half / 2 + 0.74 * wanted.flops / (6 * 64);
  CHECK(std::abs(found[0].loss - law.loss(law.limit({}, 64), tokens)) < 1e-12);
  wanted.most_carried = 0;
  CHECK(testing::findings_of([&] { (void)msg::propose(wanted, cost, units, law); })[0].hint == "most_carried");
}

TEST_CASE("after a growth tokens count for as much as the pace says", "[propose]") {
  proposal_request wanted = one_axis();
  wanted.latest = 0.5;
  wanted.carried = {{"width", 1}};
  wanted.pace = {{"width", 0.9}}; // for a factor of 4: 0.81
  const auto found = msg::propose(wanted, cost, units, law);
  REQUIRE(found[0].timeline.stages.size() == 1);
  const double tokens = 0.5 * wanted.flops / (6 * 16) + 0.81 * 0.5 * wanted.flops / (6 * 64);
  CHECK(std::abs(found[0].loss - law.loss(law.limit({}, 64), tokens)) < 1e-12);
  wanted.goal = msg::search_goal::loss_of_whole; // 4 c + 0.81 (x - c) = 1, with c the part of the budget before
  wanted.latest = 0.1;
  const auto sooner = msg::propose(wanted, cost, units, law);
  CHECK(std::abs(sooner[0].cost_to_whole - (0.1 + 0.6 / 0.81)) < 1e-9);
  wanted.goal = msg::search_goal::lowest_loss;
  wanted.pace = {{"width", 0.3}}; // a growth that spoils the model: what it saves is lost ten times
  wanted.latest = 0.1;
  CHECK(msg::propose(wanted, cost, units, law)[0].timeline.stages.empty());
}

TEST_CASE("a small model that isn't faster is no start", "[propose]") {
  // the machine takes as long for every size: FLOPs saved save no time
  const msg::step_time flat{.tokens_per_step = 100, .coefficients = {{"fixed", 10}}};
  proposal_request wanted = one_axis();
  wanted.flops = 0;
  wanted.seconds = 10;
  const auto found = msg::propose(wanted, cost, units, law, &flat);
  CHECK(found[0].timeline.stages.empty());
  CHECK(std::abs(found[0].seconds - 10) < 1e-9);
  const msg::step_time fair{.tokens_per_step = 100, .coefficients = {{"flops", 10 / (6 * 64 * 100.0)}}};
  CHECK(msg::propose(wanted, cost, units, law, &fair)[0].timeline.stages.size() == 1);
}

TEST_CASE("the dimension that the loss wants grows first", "[propose]") {
  loss_model truth = law;
  truth.scale = 0;
  truth.axis_scales = {{"deep", 0.02}, {"wide", 8}};
  const proposal_request wanted{.sizes = {{"deep", 8}, {"wide", 8}},
                                .choices = {{"deep", {2}}, {"wide", {2}}},
                                .flops = 6 * 64 * 100.0 * 1000,
                                .tokens_per_step = 100,
                                .most_stages = 2};
  const auto found = msg::propose(wanted, cost, units, truth);
  // wide may be there from the start; deep comes last, and alone
  const auto& stages = found[0].timeline.stages;
  REQUIRE(!stages.empty());
  CHECK(stages.back().grow == msg::named_sizes{{"deep", 8}});
}

TEST_CASE("the search finds what trying every path finds", "[propose]") {
  // two axes of three sizes each, two growths at most, six cells: few enough to try them all
  const std::vector<index> rungs{2, 4, 8};
  const int cells = 6;
  const double budget = 6 * 64 * 100.0 * 600;
  const auto limit = [](index a, index b) {
    return law.floor + law.scale * std::pow(double(a * b), -law.exponent) + 0.5 * std::pow(double(a), -law.exponent);
  };
  const bool carries = GENERATE(false, true);
  double best = std::numeric_limits<double>::infinity();
  const auto seen = [&](double loss, index a, index b) {
    return std::pow((loss - limit(a, b)) / law.token_scale, -1 / law.token_exponent);
  };
  // a model that grew along a since the start learns at 0.95 of the pace for each time that doubled
  const auto stay = [&](double loss, index a, index b, int spent, index start) {
    const double pace = carries ? std::pow(0.95, std::log2(double(a) / double(start))) : 1;
    const double tokens =
        (std::isinf(loss) ? 0 : seen(loss, a, b)) + pace * spent * budget / cells / (6.0 * double(a * b));
    return limit(a, b) + law.token_scale * std::pow(tokens, -law.token_exponent);
  };
  const auto grow = [&](double loss, index a, index b, index c, index d) {
    if (!carries) { return loss; }
    const double part =
        std::pow(0.8, std::log2(double(c) / double(a))) * std::pow(0.3, std::log2(double(d) / double(b)));
    return limit(c, d) + law.token_scale * std::pow(part * seen(loss, a, b), -law.token_exponent);
  };
  const double nothing = std::numeric_limits<double>::infinity();
  best = stay(nothing, 8, 8, cells, 8);
  for (const index a : rungs) {
    for (const index b : rungs) {
      if (a == 8 && b == 8) { continue; }
      for (int first = 1; first < cells; ++first) {
        const double once = stay(nothing, a, b, first, a);
        best = std::min(best, stay(grow(once, a, b, 8, 8), 8, 8, cells - first, a));
        for (const index c : rungs) {
          for (const index d : rungs) {
            if (c < a || d < b || (c == a && d == b) || (c == 8 && d == 8)) { continue; }
            for (int second = 1; first + second < cells; ++second) {
              const double twice = stay(grow(once, a, b, c, d), c, d, second, a);
              best = std::min(best, stay(grow(twice, c, d, 8, 8), 8, 8, cells - first - second, a));
            }
          }
        }
      }
    }
  }
  loss_model truth = law;
  truth.axis_scales = {{"a", 0.5}};
  proposal_request wanted{.sizes = {{"a", 8}, {"b", 8}},
                          .choices = {{"a", {4, 2}}, {"b", {2, 4}}},
                          .flops = budget,
                          .tokens_per_step = 100,
                          .most_stages = 2,
                          .cells = cells};
  if (carries) {
    wanted.carried = {{"a", 0.8}, {"b", 0.3}};
    wanted.pace = {{"a", 0.95}};
  }
  const auto found = msg::propose(wanted, cost, units, truth);
  CHECK(std::abs(found[0].loss - best) < 1e-9);
}

TEST_CASE("proposals are ranked, differ, and come out the same every time", "[propose]") {
  proposal_request wanted{.sizes = {{"layers", 8}, {"width", 32}},
                          .choices = {{"layers", {2, 4}}, {"width", {8, 16}}},
                          .flops = 6 * 256 * 100.0 * 2000,
                          .tokens_per_step = 100,
                          .count = 12};
  wanted.base.lr.policy = msg::rate_policy::wsd;
  wanted.base.lr.decay_fraction = 0.05;
  wanted.base.stages = {{.rules = {{"layers", "stack"}}, .ramp = {.steps = 17}}};
  const auto found = msg::propose(wanted, cost, units, law);
  const auto again = msg::propose(wanted, cost, units, law);
  REQUIRE(found.size() == 12);
  for (std::size_t i = 0; i < found.size(); ++i) {
    CAPTURE(i, found[i].why);
    CHECK(found[i].loss == again[i].loss);
    CHECK(found[i].why == again[i].why);
    if (i > 0) { CHECK(found[i].loss >= found[i - 1].loss); }
    CHECK(msg::sizes_after(found[i].timeline, 9) == wanted.sizes);
    CHECK(msg::validate(found[i].timeline, found[i].run, {}, {.growth_in_decay = true}).empty());
    CHECK(found[i].timeline.lr.policy == msg::rate_policy::wsd);
    for (const auto& stage : found[i].timeline.stages) {
      CHECK(stage.ramp.steps == 17);
      const bool deeper = msg::size_of(stage.grow, "layers") > 0;
      CHECK(stage.rules.size() == (deeper ? 1 : 0));
    }
    CHECK(found[i].timeline.stages.size() <= 5);
    CHECK(!found[i].why.empty());
  }
}

TEST_CASE("requests that can't be met are refused with every fault", "[propose]") {
  const auto faults = [](const proposal_request& wanted, const loss_model& model = law) {
    return testing::findings_of([&] { (void)msg::propose(wanted, cost, units, model); });
  };
  proposal_request wanted = one_axis();
  wanted.seconds = 5; // two budgets, and no machine for this one
  wanted.tokens_per_step = 0;
  wanted.choices.push_back({"depth", {1}});
  wanted.choices[0].second.push_back(65);
  CHECK(faults(wanted).size() == 5);
  wanted = one_axis();
  wanted.carried = {{"width", 1.5}, {"depth", 0.5}};
  CHECK(faults(wanted).size() == 2);
  wanted.pace = {{"width", 0}, {"depth", 0.5}};
  CHECK(faults(wanted).size() == 4);
  wanted = one_axis();
  wanted.flops = 6 * 64 * 100.0 * 20; // less than a step a cell
  CHECK(faults(wanted)[0].hint == "budget");
  wanted = one_axis();
  for (index i = 1; i < 64; ++i) { wanted.choices[0].second.push_back(i); }
  for (const char* axis : {"b", "c"}) {
    wanted.sizes.push_back({axis, 64});
    wanted.choices.push_back({axis, wanted.choices[0].second});
  }
  CHECK(faults(wanted)[0].expected == "at most 1024 combinations of sizes");
  loss_model flat = law;
  flat.token_scale = 0;
  CHECK(faults(one_axis(), flat)[0].hint == "loss_model");
}
