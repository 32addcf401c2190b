// Published schedules as data.
#include "support/catch.hpp"
#include "support/thrown.hpp"

#include <msg/cost.hpp>
#include <msg/schedule_presets.hpp>

#include <cmath>
#include <string>
#include <utility>
#include <vector>

namespace {

using msg::index;
using msg::named_sizes;

const named_sizes bert{{"hidden", 768}, {"ffn", 3072}, {"heads", 12}, {"layers", 12}};

// L, C, F, H
std::vector<index> lcfh(const msg::schedule& s, std::size_t stage) {
  const named_sizes sizes = msg::sizes_after(s, stage);
  return {msg::size_of(sizes, "layers"), msg::size_of(sizes, "hidden"), msg::size_of(sizes, "ffn"),
          msg::size_of(sizes, "heads")};
}

// Parameters of a BERT without pooler and heads' extras is not needed: products per token, relative to the last stage.
double relative_cost(const msg::schedule& s, std::size_t stage) {
  const auto products = [](const std::vector<index>& z) {
    const double L = double(z[0]), C = double(z[1]), F = double(z[2]), W = 64 * double(z[3]);
    return L * (4 * C * W + 2 * C * F);
  };
  return products(lcfh(s, stage)) / products(lcfh(s, s.stages.size()));
}

} // namespace

TEST_CASE("BERT-base and BERT-large go through the published sizes", "[presets]") {
  const msg::schedule base = msg::msg_bert_base();
  const std::vector<std::vector<index>> base_sizes{{3, 512, 768, 8},  {3, 512, 3072, 8},  {6, 512, 3072, 8},
                                                   {6, 768, 3072, 8}, {6, 768, 3072, 12}, {12, 768, 3072, 12}};
  const msg::schedule large = msg::msg_bert_large();
  const std::vector<std::vector<index>> large_sizes{{6, 512, 1024, 8},   {6, 512, 4096, 8},    {12, 512, 4096, 8},
                                                    {12, 1024, 4096, 8}, {12, 1024, 4096, 16}, {24, 1024, 4096, 16}};
  for (std::size_t stage = 0; stage < 6; ++stage) {
    CHECK(lcfh(base, stage) == base_sizes[stage]);
    CHECK(lcfh(large, stage) == large_sizes[stage]);
  }
  for (const msg::schedule& s : {base, large}) {
    REQUIRE(s.stages.size() == 5);
    CHECK(msg::validate(s, {.steps = 1'000'000}).empty());
    CHECK(s.lr.policy == msg::rate_policy::linear);
    CHECK(s.stages[0].lr.change == msg::rate_change::rewind);
    CHECK(s.stages[1].lr.change == msg::rate_change::rewind);
    CHECK(s.stages[2].lr.change == msg::rate_change::none);
    for (std::size_t i = 0; i < 5; ++i) { CHECK(std::abs(s.stages[i].at.value - double(i + 1) / 6) < 1e-15); }
  }
  CHECK(relative_cost(base, 0) < relative_cost(base, 1));
}

TEST_CASE("an even split of BERT is MSG's schedule of it", "[presets]") {
  const msg::schedule base = msg::even_split(bert);
  const msg::schedule published = msg::msg_bert_base();
  for (std::size_t stage = 0; stage < 6; ++stage) { CHECK(lcfh(base, stage) == lcfh(published, stage)); }
  const named_sizes large{{"hidden", 1024}, {"ffn", 4096}, {"heads", 16}, {"layers", 24}};
  for (std::size_t stage = 0; stage < 6; ++stage) {
    CHECK(lcfh(msg::even_split(large, {}, 0.5), stage) == lcfh(msg::msg_bert_large(), stage));
  }
}

TEST_CASE("presets work for any sizes, small ones and missing axes included", "[presets]") {
  const auto sizes = GENERATE(named_sizes{{"hidden", 1}, {"ffn", 1}, {"heads", 1}, {"layers", 1}},
                              named_sizes{{"hidden", 7}, {"ffn", 5}, {"heads", 3}, {"layers", 2}},
                              named_sizes{{"hidden", 33}, {"layers", 3}, {"vocab", 100}}, bert);
  for (const auto& s : {msg::even_split(sizes), msg::depth_stack(sizes), msg::one_layer(sizes), msg::compound(sizes),
                        msg::compound(sizes, 5, 0.1)}) {
    CHECK(msg::validate(s, {.steps = 10'000}).empty());
    CHECK(msg::sizes_after(s, s.stages.size()) == sizes);
  }
}

TEST_CASE("depth is stacked from a quarter, or grown from one layer before the decay", "[presets]") {
  const msg::schedule stacked = msg::depth_stack(bert);
  REQUIRE(stacked.stages.size() == 1);
  CHECK(lcfh(stacked, 0) == std::vector<index>{3, 768, 3072, 12});
  CHECK(stacked.stages[0].rule == "stack");
  CHECK(stacked.stages[0].at.value == 0.1);
  const msg::schedule one = msg::one_layer(bert);
  REQUIRE(one.stages.size() == 1);
  CHECK(lcfh(one, 0) == std::vector<index>{1, 768, 3072, 12});
  CHECK(one.lr.policy == msg::rate_policy::wsd);
  CHECK(msg::growths_in_decay(one, {.steps = 1000}).empty());
  CHECK(msg::growths_in_decay(msg::one_layer(bert, 0.85), {.steps = 1000}).size() == 1); // the control
}

TEST_CASE("compound growth grows everything by equal factors", "[presets]") {
  const msg::schedule s = msg::compound({{"hidden", 64}, {"ffn", 256}, {"heads", 16}, {"layers", 16}}, 2, 0.25);
  REQUIRE(s.stages.size() == 2);
  CHECK(lcfh(s, 0) == std::vector<index>{4, 16, 64, 4});
  CHECK(lcfh(s, 1) == std::vector<index>{8, 32, 128, 8});
  CHECK(s.stages[0].grow.size() == 4);
}

TEST_CASE("presets take their learning rate, rules, ramps and names from the caller", "[presets]") {
  msg::preset_options options;
  options.lr.peak = 3;
  options.each = {.rules = {{"depth", "stack"}}, .ramp = {.steps = 9}, .ramps = {{"wide", {.steps = 4}}}};
  options.axes = {.ffn = "inner", .layers = "depth", .hidden = "wide", .heads = "h"};
  const msg::schedule s = msg::even_split({{"wide", 12}, {"inner", 48}, {"h", 3}, {"depth", 4}}, options);
  CHECK(s.lr.peak == 3);
  REQUIRE(s.stages.size() == 5);
  CHECK(s.stages[0].grow == named_sizes{{"inner", 48}});
  CHECK(s.stages[0].rules.empty());
  CHECK(s.stages[0].ramps.empty());
  CHECK(msg::rule_of(s.stages[1], "depth") == "stack");
  CHECK(s.stages[2].ramps.size() == 1);
  CHECK(s.stages[4].ramp.steps == 9);
  CHECK(msg::validate(s, {.steps = 100}).empty());
}

TEST_CASE("a preset needs sizes", "[presets]") {
  CHECK(testing::codes_of(testing::findings_of([] { (void)msg::even_split({}); })) == std::vector{msg::errc::bad_size});
}
