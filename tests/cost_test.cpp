// The cost model of schedules.
#include "support/catch.hpp"
#include "support/thrown.hpp"

#include <msg/cost.hpp>

#include <cmath>
#include <vector>

namespace {

using msg::index;

double hidden_flops(const msg::named_sizes& sizes) { return static_cast<double>(msg::size_of(sizes, "hidden")); }

msg::schedule two_growths() {
  msg::schedule s;
  s.start = {{"hidden", 4}};
  s.stages = {{.at = {msg::trigger_kind::step, 10}, .grow = {{"hidden", 8}}},
              {.at = {msg::trigger_kind::fraction, 0.75}, .grow = {{"hidden", 16}}}};
  return s;
}

} // namespace

TEST_CASE("each stretch between growths costs its steps at its sizes", "[cost]") {
  const auto costs = msg::stage_costs(two_growths(), {.steps = 40, .tokens_per_step = 100}, hidden_flops);
  REQUIRE(costs.size() == 3);
  CHECK(costs[0].first_step == 0);
  CHECK(costs[0].steps == 10);
  CHECK(costs[0].flops == 4 * 100 * 10);
  CHECK(costs[1].first_step == 10);
  CHECK(costs[1].steps == 20);
  CHECK(costs[1].flops_per_token == 8);
  CHECK(costs[2].first_step == 30);
  CHECK(costs[2].flops == 16 * 100 * 10);
  CHECK(msg::total_flops(costs) == 4000 + 16000 + 16000);
}

TEST_CASE("a run that ends before a growth doesn't pay for it", "[cost]") {
  const auto costs = msg::stage_costs(two_growths(), {.steps = 8, .tokens_per_step = 1}, hidden_flops);
  REQUIRE(costs.size() == 3);
  CHECK(msg::total_flops(costs) == 4 * 8);
}

TEST_CASE("a schedule without growths costs every step at the start sizes", "[cost]") {
  msg::schedule s;
  s.start = {{"hidden", 4}};
  const auto costs = msg::stage_costs(s, {.steps = 7, .tokens_per_step = 3}, hidden_flops);
  REQUIRE(costs.size() == 1);
  CHECK(msg::total_flops(costs) == 4 * 7 * 3);
}

TEST_CASE("a run of unknown length has no cost", "[cost]") {
  const auto findings = testing::findings_of(
      [] { (void)msg::stage_costs(two_growths(), {.steps = 8, .tokens_per_step = 0}, hidden_flops); });
  CHECK(testing::codes_of(findings) == std::vector{msg::errc::bad_argument});
}

TEST_CASE("an even split over the published stages predicts the published FLOP speed-ups", "[cost]") {
  // method.md section 7: costs relative to the final model, and the speed-ups they give; two decimals are printed
  struct row {
    std::vector<double> cost;
    double speedup;
  };
  const auto published =
      GENERATE(row{{.196, .259, .376, .562, .608, 1}, 2.00}, row{{.086, .141, .236, .469, .547, 1}, 2.42});
  msg::schedule s;
  s.start = {{"stage", 1}};
  for (index i = 1; i < 6; ++i) {
    s.stages.push_back({.at = {msg::trigger_kind::fraction, double(i) / 6}, .grow = {{"stage", i + 1}}});
  }
  const auto costs = msg::stage_costs(s, {.steps = 600, .tokens_per_step = 1}, [&](const msg::named_sizes& sizes) {
    return published.cost[static_cast<std::size_t>(msg::size_of(sizes, "stage") - 1)];
  });
  CHECK(std::abs(600 / msg::total_flops(costs) - published.speedup) <= 0.005);
}

namespace {

// Costs as many FLOPs per token as hidden, and has ten times as many parameters.
msg::model_cost by_hidden(const msg::named_sizes& sizes) {
  const index hidden = msg::size_of(sizes, "hidden");
  return {.parameters = 10 * hidden, .gemm = {{"hidden", double(hidden)}}};
}

// 2 ms + 0.5 ms for every FLOP of a token.
msg::step_time machine(index tokens_per_step) {
  return {.tokens_per_step = tokens_per_step,
          .coefficients = {{"flops", 0.5 / double(tokens_per_step)}, {"fixed", 2}},
          .error = 0.1};
}

} // namespace

TEST_CASE("a forecast has tokens, FLOPs and time of every stage, and the saving", "[cost]") {
  const auto run = msg::run_extent{.steps = 40, .tokens_per_step = 100};
  const msg::forecast f = msg::predict(two_growths(), run, by_hidden, machine(100));
  REQUIRE(f.stages.size() == 3);
  CHECK(f.stages[1].first_step == 10);
  CHECK(f.stages[1].steps == 20);
  CHECK(f.stages[1].sizes == msg::named_sizes{{"hidden", 8}});
  CHECK(f.stages[1].parameters == 80);
  CHECK(f.stages[1].tokens == 2000);
  CHECK(f.stages[1].flops == 8 * 2000);
  CHECK(f.stages[1].milliseconds_per_step == 6);
  CHECK(f.stages[1].seconds == 0.12);
  CHECK(f.tokens == 4000);
  CHECK(f.flops == 36000);
  CHECK(std::abs(f.seconds - (10 * 4 + 20 * 6 + 10 * 10) / 1000.0) < 1e-12);
  CHECK(f.whole.flops == 16 * 4000);
  CHECK(f.whole.tokens == f.tokens); // the same tokens
  CHECK(std::abs(f.whole.seconds - 0.4) < 1e-12);
  CHECK(std::abs(f.flops_saving() - 64.0 / 36) < 1e-12);
  CHECK(std::abs(f.time_saving() - 400.0 / 260) < 1e-12);
  CHECK(f.error == 0.1);
}

TEST_CASE("stages that training decides are forecast where they are expected", "[cost]") {
  msg::schedule s = two_growths();
  s.stages[1].at = {.kind = msg::trigger_kind::plateau, .value = 0.01, .window = 10};
  const auto run = msg::run_extent{.steps = 40, .tokens_per_step = 100};
  CHECK(testing::codes_of(testing::findings_of([&] { (void)msg::predict(s, run, by_hidden, machine(100)); })) ==
        std::vector{msg::errc::bad_argument});
  const std::vector<index> expected{10, 30};
  CHECK(msg::predict(s, run, by_hidden, machine(100), expected).flops == 36000);
  CHECK(msg::total_flops(msg::stage_costs(s, run, by_hidden, expected)) == 36000);
  CHECK(testing::findings_of([&] { (void)msg::predict(s, run, by_hidden, machine(100), std::vector<index>{10}); })[0]
            .expected == "2 steps");
}

TEST_CASE("a machine that was calibrated for other batches is refused", "[cost]") {
  const auto findings = testing::findings_of(
      [] { (void)msg::predict(two_growths(), {.steps = 40, .tokens_per_step = 100}, by_hidden, machine(50)); });
  REQUIRE(findings.size() == 1);
  CHECK(findings[0].found == "50");
}
