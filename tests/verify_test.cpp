// Old model against new: what is equal, what rounding explains, and that whatever is wrong is found and named.
#include "support/catch.hpp"
#include "support/test_rules.hpp"
#include "support/thrown.hpp"
#include "support/tiny_growth.hpp"
#include "support/tiny_model.hpp"

#include <msg/difference.hpp>
#include <msg/plan.hpp>
#include <msg/random.hpp>
#include <msg/rules/stack.hpp>
#include <msg/tensor.hpp>
#include <msg/verify.hpp>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

using msg::difference;
using msg::evaluation;
using msg::fresh_values;
using msg::index;
using msg::init;
using msg::placement;
using msg::strictness;
using testing::tiny_schema;

namespace {

// ---- A whole network: every axis of tiny_model, double, sums in order ----

/// The network before and after a growth, the contract kept, masks of fresh units at c.
msg::verification verified(const msg::plan& growth, float c = 0) {
  const testing::tiny_pair models(growth);
  const auto evaluated = [](const msg::schema& s, const std::vector<double>& numbers, const testing::tiny_masks& masks,
                            const std::vector<index>& tokens, const std::vector<index>& positions) {
    evaluation<std::vector<double>, std::vector<double>> result;
    const testing::tiny_model<double> model(s, numbers);
    for (const auto& sequence : testing::sequences(tokens, positions)) {
      const std::vector<double> one = model.logits(sequence, masks);
      result.outputs.insert(result.outputs.end(), one.begin(), one.end());
      result.loss += model.loss(sequence, sequence[1].first, masks);
    }
    result.gradients = testing::gradient(s, numbers, masks, tokens, positions);
    return result;
  };
  return msg::verify(
      growth, [&] { return evaluated(models.before, models.old, {}, models.tokens, models.positions); },
      [&] {
        return evaluated(models.after, models.grown, testing::contract_of(growth, c), models.new_tokens,
                         models.new_positions);
      });
}

index count(const msg::verification& found, difference msg::gradient_difference::*what) {
  index all = 0;
  for (const msg::gradient_difference& g : found.gradients) { all += (g.*what).count; }
  return all;
}

const msg::mask wild{.fresh = fresh_values::all(init::normal(30))};

// ---- Something small enough to spoil by hand ----

const msg::axis hidden{"hidden", 4}, ffn{"ffn", 3};
msg::schema small() {
  msg::schema s;
  s.weight("up", out(ffn), in(hidden)).weight("down", out(hidden), in(ffn));
  return s;
}
const msg::plan wider{small(), {ffn.grow_to(5)}};

using by_name = std::map<std::string, std::vector<float>>;
struct outcome {
  double loss = 2.5;
  std::vector<float> outputs{0.5F, -1.25F, 3};
  by_name gradients{};
};
const outcome before{.gradients = {{"up", std::vector<float>(12, 0.25F)}, {"down", std::vector<float>(12, -0.5F)}}};
/// What `wider` must make of it.
outcome after() {
  outcome result = before;
  result.gradients["up"].resize(20, 0); // rows appended
  result.gradients["down"] = {-0.5F, -0.5F, -0.5F, 0, 0, -0.5F, -0.5F, -0.5F, 0, 0,
                              -0.5F, -0.5F, -0.5F, 0, 0, -0.5F, -0.5F, -0.5F, 0, 0};
  return result;
}
/// `like` where text has it, else the whole text, for the message of a failing test.
std::string part(const std::string& text, const std::string& like) {
  return text.find(like) == std::string::npos ? text : like;
}

msg::verification found_in(const outcome& spoiled) { return msg::verifier{wider, before}.against(spoiled); }

} // namespace

TEST_CASE("the distance in units of the last place counts the numbers between", "[verify]") {
  const float next = std::nextafter(1.0F, 2.0F);
  CHECK(msg::ulp_distance(1.0F, 1.0F) == 0);
  CHECK(msg::ulp_distance(1.0F, next) == 1);
  CHECK(msg::ulp_distance(-next, -1.0F) == 1);
  CHECK(msg::ulp_distance(0.0F, -0.0F) == 0);
  const float least = std::numeric_limits<float>::denorm_min();
  CHECK(msg::ulp_distance(-least, least) == 2);
  CHECK(msg::ulp_distance(1.0F, 2.0F) == 1U << 23);
  CHECK(msg::ulp_distance(1.0, 2.0) == std::uint64_t{1} << 52);
  constexpr double most = std::numeric_limits<double>::max();
  CHECK(msg::ulp_distance(-most, most) == 2 * (std::uint64_t{0x7FEF} << 48 | 0xFFFFFFFFFFFF));
  CHECK(msg::ulp_distance(1.0, std::numeric_limits<double>::quiet_NaN()) == std::numeric_limits<std::uint64_t>::max());
}

TEST_CASE("a difference keeps the worst place, and takes zeros of either sign for equal", "[verify]") {
  difference d;
  d.add(0, 0.0F, -0.0F);
  CHECK(d.same_bits());
  CHECK(d.worst == -1);
  d.add(1, 4.0F, 4.5F);
  d.add(2, -8.0F, -7.25F);
  d.add(3, 1e-8F, 2e-8F); // more ulp, less in size
  CHECK(d.count == 4);
  CHECK(d.unequal == 3);
  CHECK(d.max_abs == 0.75);
  CHECK(d.worst == 2);
  CHECK(d.expected == -8);
  CHECK(d.found == -7.25);
  CHECK(d.largest == 8);
  CHECK(d.max_ulp == msg::ulp_distance(1e-8F, 2e-8F));
}

TEST_CASE("NaN is equal to nothing, itself included, and infinities are equal to themselves", "[verify]") {
  constexpr float nan = std::numeric_limits<float>::quiet_NaN();
  constexpr float infinity = std::numeric_limits<float>::infinity();
  difference d;
  d.add(0, infinity, infinity);
  CHECK(d.same_bits());
  d.add(1, 1.0F, nan);
  d.add(2, nan, nan);
  CHECK(d.unequal == 2);
  CHECK(std::isinf(d.max_abs));
  CHECK(d.worst == 1);
  CHECK(part(to_string(d), "3 numbers, 2 not the same, by at most inf (NaN)") ==
        "3 numbers, 2 not the same, by at most inf (NaN)");
}

TEST_CASE("a masked growth of any axis keeps every bit and silences what is fresh", "[verify][growth]") {
  const std::string axis = GENERATE("hidden", "ffn", "heads", "layers", "vocab", "positions");
  const msg::schema s = tiny_schema();
  const msg::plan growth{s, {s.axis_at(axis).grow_to(7)}, wild, {.seed = 3}};
  const msg::verification found = verified(growth);
  CAPTURE(axis, to_string(found));
  CHECK(found.same_bits());
  CHECK(kept(found) == strictness::exact);
  CHECK_NOTHROW(msg::require(found, strictness::exact));
  CHECK(found.outputs.count == 4 * 2 * 4); // a sequence for every token at every position; logits of old tokens
  CHECK(count(found, &msg::gradient_difference::carried) == s.size());
  // fresh positions are never read: not under a mask, and free to be anything
  const bool masked = axis != "positions";
  CHECK(count(found, &msg::gradient_difference::asleep) == (masked ? growth.after().size() - s.size() : 0));
}

TEST_CASE("growths of several axes are followed to the places of old entries, wherever they lie", "[verify][growth]") {
  const msg::schema s = tiny_schema();
  const msg::plan growth{s,
                         {s.axis_at("hidden").grow_to(6), s.axis_at("ffn").grow_to(9), s.axis_at("layers").grow_to(3),
                          s.axis_at("vocab").grow_to(6, {.placement = placement::append()})},
                         wild,
                         {.seed = 4, .placement = placement::interleave()}};
  const msg::verification found = verified(growth);
  CAPTURE(to_string(found));
  CHECK(kept(found) != strictness::none); // sums run in another order
  CHECK(count(found, &msg::gradient_difference::carried) == s.size());
  CHECK(found.outputs.count == 4 * 2 * 4);
}

TEST_CASE("outputs are not taken for the logits of a router that grows", "[verify][growth][experts]") {
  const msg::axis experts{"experts", 2}, features{"features", 3}, vocab{"vocab", 4};
  msg::schema s;
  s.weight("router", out(experts), in(features)).weight("up", each(experts), out(features), in(features));
  s.weight("head", out(vocab), in(features)).logits(experts).logits(vocab);
  const std::vector<float> old{1, 2, 3, 4, 5, 6, 7, 8};
  const msg::plan routed{s, {experts.grow_to(4)}, msg::expert_copies{}};
  const msg::verifier check{routed, msg::evaluation{0.5, old}};
  CHECK(check.against(msg::evaluation{0.5, old}).same_bits());
  const msg::plan both{s, {experts.grow_to(4, {.rule = msg::expert_copies{}}), vocab.grow_to(5)}};
  const std::vector<float> longer{1, 2, 3, 4, 0, 5, 6, 7, 8, 0};
  CHECK(msg::verifier{both, msg::evaluation{0.5, old}}.against(msg::evaluation{0.5, longer}).same_bits());
}

TEST_CASE("copies have their share of the old gradient", "[verify][growth]") {
  const double first = GENERATE(0.0, 0.7); // evenly; the first of them gets 0.7
  const std::string axis = GENERATE("ffn", "heads");
  CAPTURE(first, axis);
  const msg::schema s = tiny_schema();
  const msg::plan growth{s, {s.axis_at(axis).grow_to(7)}, testing::copies{first}};
  const msg::verification found = verified(growth);
  CAPTURE(to_string(found));
  CHECK(found.promised == strictness::rounding);
  CHECK(kept(found) != strictness::none);
  CHECK(count(found, &msg::gradient_difference::carried) == growth.after().size());
}

TEST_CASE("a growth that changes the function is found out, whatever was promised", "[verify][growth]") {
  const msg::schema s = tiny_schema();
  SECTION("stacked layers") {
    const msg::verification found = verified(msg::plan{s, {s.axis_at("layers").grow_to(4)}, msg::stack{}});
    CHECK(found.promised == strictness::none);
    CHECK(kept(found) == strictness::none);
  }
  SECTION("a mask that is not at 0") {
    const msg::plan growth{s, {s.axis_at("hidden").grow_to(6)}, msg::mask{}};
    const msg::verification found = verified(growth, 0.01F);
    CHECK(found.promised == strictness::exact);
    CHECK(kept(found) == strictness::none);
    const auto codes = testing::codes_of(testing::findings_of([&] { msg::require(found); }));
    CHECK(std::count(codes.begin(), codes.end(), msg::errc::not_strict) == std::ssize(codes));
  }
}

TEST_CASE("entries that are born awake may have any gradient", "[verify]") {
  const msg::plan zeros{small(), {ffn.grow_to(5)}, testing::blocks{.fills = {.in = msg::fill::zero}}};
  outcome grown = after();
  grown.gradients["down"][3] = 7;
  const msg::verification found = msg::verifier{zeros, before}.against(grown);
  CHECK(found.same_bits());
  CHECK(count(found, &msg::gradient_difference::asleep) == 0);
}

TEST_CASE("gradients that the plan calls approximate are shown and not required", "[verify]") {
  const msg::rule mixing{"mixing", [](const msg::rule_request& asked) {
                           msg::axis_growth growth = testing::copies{}(asked);
                           growth.approximate = "a norm mixes them";
                           return growth;
                         }};
  const msg::plan plan{small(), {ffn.grow_to(6)}, mixing};
  outcome grown = before;
  grown.gradients["up"].assign(24, 0.125F);  // split where ffn is written,
  grown.gradients["down"].assign(24, -0.5F); // whole where it is read
  CHECK(msg::verifier{plan, before}.against(grown).same_bits());
  grown.gradients["up"][5] = 1;
  const msg::verification found = msg::verifier{plan, before}.against(grown);
  CHECK(kept(found) == strictness::rounding);
  CHECK(part(to_string(found), "approximate, as the plan says: 24 numbers, 1 not the same, by at most 0.875") ==
        "approximate, as the plan says: 24 numbers, 1 not the same, by at most 0.875");
  CHECK(msg::findings(found, strictness::exact).size() == 1);
  grown.gradients["down"][5] = 1; // not approximate: it only reads the axis
  CHECK(kept(msg::verifier{plan, before}.against(grown)) == strictness::none);
}

TEST_CASE("require names the worst output", "[verify]") {
  CHECK_NOTHROW(msg::require(found_in(after()), strictness::exact));
  outcome spoiled = after();
  spoiled.outputs[0] = 0.75F;
  spoiled.outputs[2] = -3;
  const std::string text = testing::message_of([&] { msg::require(found_in(spoiled)); });
  CHECK(part(text, "msg: not strict: parameter 'outputs', expected 3 at (2), found -3") ==
        "msg: not strict: parameter 'outputs', expected 3 at (2), found -3");
  CHECK(part(text, "2 of 3 outputs differ, by at most 6;") == "2 of 3 outputs differ, by at most 6;");
}

TEST_CASE("require names the loss", "[verify]") {
  outcome spoiled = after();
  spoiled.loss = 2.75;
  CHECK(part(testing::message_of([&] { msg::require(found_in(spoiled)); }),
             "msg: not strict: parameter 'loss', expected 2.5, found 2.75") ==
        "msg: not strict: parameter 'loss', expected 2.5, found 2.75");
  spoiled.loss = std::numeric_limits<double>::quiet_NaN();
  CHECK(part(testing::message_of([&] { msg::require(found_in(spoiled)); }),
             "msg: not strict: parameter 'loss', expected 2.5, found nan") ==
        "msg: not strict: parameter 'loss', expected 2.5, found nan");
}

TEST_CASE("require names every parameter that is off, the worst first", "[verify]") {
  outcome spoiled = after();
  spoiled.gradients["up"][5] = 0.5F;    // an old entry, row 1, column 1
  spoiled.gradients["down"][13] = 2.0F; // row 2, column 3: under the mask
  const auto findings = testing::findings_of([&] { msg::require(found_in(spoiled)); });
  REQUIRE(findings.size() == 2);
  CHECK(findings[0].parameter == "down");
  CHECK(findings[0].expected == "0 at (2, 3)");
  CHECK(findings[0].found == "2");
  CHECK(part(findings[0].hint, "1 of 8 gradients under a mask differ") == "1 of 8 gradients under a mask differ");
  CHECK(findings[1].parameter == "up");
  CHECK(findings[1].expected == "0.25 at (1, 1)");
  CHECK(part(findings[1].hint, "1 of 12 gradients of old entries and copies differ") ==
        "1 of 12 gradients of old entries and copies differ");
}

TEST_CASE("one bit is rounding where bits are not wanted, and a gradient under a mask never is", "[verify]") {
  outcome spoiled = after();
  spoiled.outputs[1] = std::nextafter(spoiled.outputs[1], 0.0F);
  CHECK(kept(found_in(spoiled)) == strictness::rounding);
  CHECK_NOTHROW(msg::require(found_in(spoiled)));
  CHECK(part(testing::message_of([&] { msg::require(found_in(spoiled), strictness::exact); }),
             "'outputs', expected -1.25 at (1), found -1.24999988") ==
        "'outputs', expected -1.25 at (1), found -1.24999988");
  spoiled = after();
  spoiled.gradients["up"][19] = std::numeric_limits<float>::denorm_min();
  CHECK(kept(found_in(spoiled)) == strictness::none);
}

TEST_CASE("rounding is as much as the longest path through the model allows", "[verify]") {
  // up is 5 x 4, down 4 x 5
  CHECK(msg::path_length(wider.after()) == 18);
  const msg::verification exact = found_in(after());
  CHECK(exact.rounding == 18 * static_cast<double>(std::numeric_limits<float>::epsilon()));
  CHECK(exact.output_bound() == exact.rounding * 3);
  CHECK(exact.gradient_bound() == 2 * (exact.rounding + exact.output_bound()) * 0.5);
  const msg::axis layers{"layers", 2};
  msg::schema layered;
  layered.weight("w", each(layers), out(ffn), in(hidden)).norm_gain("gain", out(hidden));
  CHECK(msg::path_length(layered) == 2 * (3 + 4) + 4);
  // one ulp beyond the bound is a finding
  outcome spoiled = after();
  spoiled.outputs[0] += static_cast<float>(1.01 * exact.output_bound());
  CHECK(kept(found_in(spoiled)) == strictness::none);
  spoiled.outputs[0] = 0.5F + static_cast<float>(0.99 * exact.output_bound());
  CHECK(kept(found_in(spoiled)) == strictness::rounding);
}

TEST_CASE("the old model may be grown in place: what it computed is kept", "[verify]") {
  outcome model = before;
  const msg::verifier check{wider, model};
  model = after();
  CHECK(check.against(model).same_bits());
  model.outputs.assign(3, 0);
  CHECK_FALSE(check.against(model).same_bits());
}

TEST_CASE("gradients may be packed, called by name, of any strides, or not given at all", "[verify]") {
  const by_name& old = before.gradients;
  const by_name grown = after().gradients;
  std::vector<float> outputs{1, 2};
  SECTION("packed, in the order of the schema") {
    const auto packed = [](const by_name& g) {
      std::vector<float> all = g.at("up");
      all.insert(all.end(), g.at("down").begin(), g.at("down").end());
      return all;
    };
    CHECK(msg::verifier{wider, evaluation{1.0, outputs, packed(old)}}
              .against(evaluation{1.0, outputs, packed(grown)})
              .same_bits());
  }
  SECTION("called by name, transposed") {
    // stored column by column: what lies at (row, column) is at column * rows + row
    const auto transposed = [](const by_name& g) {
      by_name turned;
      for (const auto& [name, values] : g) {
        const std::size_t rows = name == "up" ? values.size() / 4 : 4;
        const std::size_t columns = values.size() / rows;
        std::vector<float>& to = turned[name];
        for (std::size_t c = 0; c < columns; ++c) {
          for (std::size_t r = 0; r < rows; ++r) { to.push_back(values[r * columns + c]); }
        }
      }
      return turned;
    };
    const by_name old_turned = transposed(old);
    by_name grown_turned = transposed(grown);
    const auto named = [](by_name& g) {
      return [&g](std::string_view name) {
        std::vector<float>& values = g.at(std::string{name});
        const index rows = name == "up" ? std::ssize(values) / 4 : 4;
        return msg::strided(values.data(), {rows, std::ssize(values) / rows}, {1, rows});
      };
    };
    by_name old_copy = old_turned;
    const msg::verifier check{wider, evaluation{1.0, outputs, named(old_copy)}};
    CHECK(check.against(evaluation{1.0, outputs, named(grown_turned)}).same_bits());
    grown_turned["down"][1] = 9; // row 1, column 0
    const auto findings = msg::findings(check.against(evaluation{1.0, outputs, named(grown_turned)}));
    REQUIRE(findings.size() == 1);
    CHECK(findings[0].expected == "-0.5 at (1, 0)");
  }
  SECTION("not at all") {
    const msg::verification found = msg::verify(
        wider,
        [&] {
          return evaluation{1.0, outputs};
        },
        [&] {
          return evaluation{1.0, outputs};
        });
    CHECK(found.gradients.empty());
    CHECK(found.same_bits());
  }
}

TEST_CASE("the same batch is put through both models", "[verify]") {
  const std::vector<float> batch{1, 2, 3};
  const auto twice = [](const std::vector<float>& x, float factor) {
    std::vector<float> y;
    for (const float value : x) { y.push_back(factor * value); }
    return evaluation{0.0, y};
  };
  CHECK(msg::verify(wider, twice, twice, batch, 2.0F).same_bits());
}

TEST_CASE("shapes that do not fit are named", "[verify]") {
  outcome spoiled = after();
  spoiled.outputs.push_back(1);
  CHECK(part(testing::message_of([&] { (void)found_in(spoiled); }),
             "shape mismatch: parameter 'outputs', expected 3 elements, found 4") ==
        "shape mismatch: parameter 'outputs', expected 3 elements, found 4");
  spoiled = after();
  spoiled.gradients["down"].pop_back();
  CHECK(part(testing::message_of([&] { (void)found_in(spoiled); }),
             "shape mismatch: parameter 'down', expected (4, 5), found (19)") ==
        "shape mismatch: parameter 'down', expected (4, 5), found (19)");
  CHECK(part(testing::message_of([&] {
               (void)msg::verifier{wider, after()};
             }),
             "shape mismatch: parameter 'up', expected (3, 4), found (20)") ==
        "shape mismatch: parameter 'up', expected (3, 4), found (20)");
}

TEST_CASE("a report is a few lines", "[verify]") {
  CHECK(to_string(found_in(after())) == "function   promised exact, found exact\n"
                                        "outputs    3 numbers, the same bits\n"
                                        "loss       1 number, the same bits\n"
                                        "gradients  24 numbers, the same bits\n"
                                        "           silenced: 16 numbers, the same bits");
  outcome spoiled = after();
  spoiled.gradients["up"][5] = 0.5F;
  spoiled.outputs[0] = 0.25F;
  CHECK(to_string(found_in(spoiled)) ==
        "function   promised exact, found not preserved\n"
        "outputs    3 numbers, 1 not the same, by at most 0.25 (8388608 ulp) of 3\n"
        "loss       1 number, the same bits\n"
        "gradients  24 numbers, 1 not the same, by at most 0.25 (8388608 ulp) of 0.5, in 'up' at (1, 1)\n"
        "           silenced: 16 numbers, the same bits");
}
