// Plans: everything decided before a byte moves.
#include "support/catch.hpp"
#include "support/test_rules.hpp"
#include "support/thrown.hpp"

#include <msg/apply.hpp>
#include <msg/plan.hpp>
#include <msg/rules/average.hpp>
#include <msg/rules/mask.hpp>
#include <msg/rules/stack.hpp>
#include <msg/schemas/gpt2.hpp>

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

using msg::axis;
using msg::axis_growth;
using msg::errc;
using msg::fresh_unit;
using msg::index;
using msg::placement;
using msg::rule_request;
using testing::findings_of;
using testing::message_of;

namespace {

const axis hidden{"hidden", 4};
const axis ffn{"ffn", 6};
const axis layers{"layers", 2};

msg::schema model() {
  msg::schema s;
  s.weight("w1", each(layers), out(ffn), in(hidden)).bias("b1", each(layers), out(ffn));
  s.weight("w2", each(layers), out(hidden), in(ffn)).norm_gain("gain", out(hidden));
  return s.normed(hidden);
}

std::vector<index> order(const placement& where, index old_size, index new_size) {
  return msg::positions_of(where, old_size, new_size);
}

} // namespace

TEST_CASE("a plan knows old and new shapes, schemas and sources", "[plan]") {
  const msg::plan growth{model(), {ffn.grow_to(8), layers.grow_to(3)}};
  CHECK(growth["w1"].old_shape() == std::vector<index>{2, 6, 4});
  CHECK(growth["w1"].new_shape() == std::vector<index>{3, 8, 4});
  CHECK(growth["w1"].old_size() == 48);
  CHECK(growth["w1"].size() == 96);
  CHECK(growth["w1"].source_of(1) == 1);
  CHECK(growth["w1"].source_of(2) == 0); // a copy, stacked on top
  CHECK(growth["gain"].new_shape() == std::vector<index>{4});
  CHECK(growth.before().size() == model().size());
  CHECK(growth.after().size() == model().resized({{"ffn", 8}, {"layers", 3}}).size());
  CHECK(growth.after().norm_of("hidden") == msg::norm_kind::layer);
  CHECK(growth.parameters().size() == 4);
  CHECK(growth.parameters()[2].name == "w2");
  REQUIRE(growth.axes().size() == 2);
  CHECK(growth.axis("ffn").new_size == 8);
  CHECK(growth.axis("ffn").growth.contract.rule == "mask");
  CHECK(growth.fresh_units("ffn") == std::vector<std::uint8_t>{0, 0, 0, 0, 0, 0, 1, 1});
}

TEST_CASE("the same size again is a growth of nothing", "[plan]") {
  const msg::plan growth{model(), {ffn.grow_to(6)}};
  CHECK(growth["w1"].new_shape() == growth["w1"].old_shape());
  CHECK(growth.fresh_units("ffn") == std::vector<std::uint8_t>(6, 0));
  CHECK(growth.strict());
}

TEST_CASE("an axis object from before an earlier growth still serves", "[plan]") {
  const msg::plan first{model(), {ffn.grow_to(8)}};
  const msg::plan second{first.after(), {ffn.grow_to(9)}}; // `ffn` says 6
  CHECK(second.axis("ffn").old_size == 8);
  CHECK(second["b1"].new_shape() == std::vector<index>{2, 9});
}

TEST_CASE("the request's rule and placement come before the plan's", "[plan]") {
  const msg::plan growth{
      model(),
      {ffn.grow_to(8, {.rule = testing::blocks{}, .placement = placement::append()}), hidden.grow_to(6)},
      testing::copies{},
      {.placement = placement::prepend()}};
  CHECK(growth.axis("ffn").growth.contract.rule == "blocks");
  CHECK(growth.axis("ffn").placement == placement::order::append);
  CHECK(growth.axis("ffn").old_of.front() == 0);
  CHECK(growth.axis("hidden").growth.contract.rule == "copies");
  CHECK(growth.axis("hidden").placement == placement::order::prepend);
  CHECK(growth.axis("hidden").old_of.front() == fresh_unit);
}

TEST_CASE("placements are index orders that keep the old units in order", "[plan][placement]") {
  const index f = fresh_unit;
  CHECK(order(placement::append(), 2, 5) == std::vector<index>{0, 1, f, f, f});
  CHECK(order(placement::prepend(), 2, 5) == std::vector<index>{f, f, f, 0, 1});
  CHECK(order(placement::interleave(), 3, 6) == std::vector<index>{0, f, 1, f, 2, f});
  CHECK(order(placement::interleave(), 2, 6) == std::vector<index>{0, f, f, 1, f, f});
  CHECK(order(placement::interleave(), 2, 5) == std::vector<index>{0, f, f, 1, f});
  CHECK(order(placement::given({f, 0, f, 1, f}), 2, 5) == std::vector<index>{f, 0, f, 1, f});
}

TEST_CASE("every placement holds every old unit once, in order, at any sizes", "[plan][placement]") {
  for (index old_size = 1; old_size <= 9; ++old_size) {
    for (index new_size = old_size; new_size <= 3 * old_size + 1; ++new_size) {
      for (const placement& where : {placement::append(), placement::prepend(), placement::interleave()}) {
        CAPTURE(old_size, new_size, static_cast<int>(where.what));
        std::vector<index> kept = order(where, old_size, new_size);
        REQUIRE(std::ssize(kept) == new_size);
        index longest = 0, gap = 0; // fresh units behind one old unit
        for (const index unit : kept) {
          gap = unit == fresh_unit ? gap + 1 : 0;
          longest = std::max(longest, gap);
        }
        if (where.what == placement::order::interleave) { // spread evenly
          REQUIRE(kept.front() == 0);
          REQUIRE(longest <= (new_size + old_size - 1) / old_size - 1);
        }
        kept.erase(std::remove(kept.begin(), kept.end(), fresh_unit), kept.end());
        for (index unit = 0; unit < old_size; ++unit) { REQUIRE(kept[static_cast<std::size_t>(unit)] == unit); }
        REQUIRE(std::ssize(kept) == old_size);
      }
    }
  }
}

TEST_CASE("a contract tells what the forward must do on each grown axis", "[plan][contract]") {
  msg::schema s =
      msg::gpt2({.vocab = 5, .positions = 3, .hidden = 4, .ffn = 6, .heads = 2, .head_dim = 2, .layers = 2});
  const axis heads{"heads", 2}, vocab{"vocab", 5}, positions{"positions", 3};
  const msg::plan growth{
      s,
      {hidden.grow_to(6), ffn.grow_to(9), heads.grow_to(3), layers.grow_to(3), vocab.grow_to(7), positions.grow_to(4)}};
  const auto contract = growth.contract();
  REQUIRE(contract.size() == 6);
  const auto says = [](const msg::axis_contract& c) {
    return std::string(c.mask_activations ? "activations " : "") + (c.mask_norm_statistics ? "norms " : "") +
           (c.weight_norm_statistics ? "weighted " : "") + (c.blend_layers ? "blend " : "") +
           (c.mask_logits ? "logits " : "") + c.axis;
  };
  CHECK(says(contract[0]) == "activations norms hidden");
  CHECK(says(contract[1]) == "activations ffn");
  CHECK(says(contract[2]) == "activations heads");
  CHECK(says(contract[3]) == "blend layers");
  CHECK(says(contract[4]) == "logits vocab");
  CHECK(says(contract[5]) == "positions"); // nobody reads a position that was not there
  for (const msg::axis_contract& c : contract) {
    CHECK(c.rule == "mask");
    CHECK(c.keeps == msg::strictness::exact);
    CHECK(c.masked() == (c.axis != "positions"));
  }
  CHECK(growth.keeps() == msg::strictness::exact);
  CHECK(growth.strict());
  CHECK_NOTHROW(growth.require_strict());
}

TEST_CASE("a plan is as strict as its least strict axis", "[plan][contract]") {
  const msg::plan rounding{model(), {ffn.grow_to(8, {.rule = testing::copies{}}), hidden.grow_to(6)}};
  CHECK(rounding.keeps() == msg::strictness::rounding);
  CHECK(rounding.strict());
  CHECK_NOTHROW(rounding.require_strict());
  const msg::plan none{model(), {layers.grow_to(4, {.rule = msg::stack{}}), hidden.grow_to(6)}};
  CHECK(none.keeps() == msg::strictness::none);
  CHECK_FALSE(none.strict());
  CHECK(message_of([&] { none.require_strict(); }) ==
        "msg: not strict: axis 'layers', found rule stack (copied layers act at once)");
  CHECK(std::string(msg::to_string(msg::strictness::exact)) == "exact");
  CHECK(std::string(msg::to_string(msg::strictness::rounding)) == "to rounding");
  CHECK(std::string(msg::to_string(msg::strictness::none)) == "not preserved");
}

TEST_CASE("a rule is any function, named by itself or by the caller", "[plan][rules]") {
  CHECK(msg::rule{msg::mask{}}.name() == "mask");
  CHECK(msg::rule{msg::stack{}}.name() == "stack");
  CHECK(msg::rule{"mine", [](const rule_request& asked) { return axis_growth{.source = asked.old_of}; }}.name() ==
        "mine");
}

TEST_CASE("a rule is told everything about the axis it grows", "[plan][rules]") {
  rule_request heard;
  const msg::rule listener{"listener", [&heard](const rule_request& asked) {
                             heard = asked;
                             return axis_growth{.source = asked.old_of};
                           }};
  msg::schema s = model();
  s.normed(hidden, msg::norm_kind::rms, msg::norm_position::post).logits(ffn).scored(layers);
  (void)msg::plan{s, {hidden.grow_to(6, {.placement = placement::interleave()})}, listener, {.seed = 9}};
  CHECK(heard.axis == "hidden");
  CHECK(heard.old_size == 4);
  CHECK(heard.new_size == 6);
  CHECK(heard.old_of == order(placement::interleave(), 4, 6));
  CHECK(heard.interleaved);
  CHECK((heard.as_out && heard.as_in && !heard.as_each));
  CHECK(heard.norm == msg::norm_kind::rms);
  CHECK(heard.position == msg::norm_position::post);
  CHECK((!heard.logits && !heard.scored));
  CHECK(heard.seed == 9);
  (void)msg::plan{s, {ffn.grow_to(8)}, listener};
  CHECK((heard.logits && heard.norm == msg::norm_kind::none && !heard.interleaved));
  (void)msg::plan{s, {layers.grow_to(3)}, listener};
  CHECK((heard.scored && heard.as_each && !heard.as_out && !heard.as_in));
}

TEST_CASE("only a whole parameter of two dimensions or more has slices", "[plan][slice]") {
  const msg::plan growth{model(), {ffn.grow_to(8), layers.grow_to(3)}};
  const msg::param_plan slice = growth["w1"].at(2);
  CHECK(slice.old_shape() == std::vector<index>{6, 4});
  CHECK(slice.new_shape() == std::vector<index>{8, 4});
  for (const index j : {index{-1}, index{3}}) {
    CAPTURE(j);
    const auto findings = findings_of([&] { (void)growth["w1"].at(j); });
    CHECK(findings[0].code == errc::bad_argument);
    CHECK(findings[0].expected == "a whole parameter of two dimensions or more and an index in [0, 3)");
    CHECK(findings[0].found == std::to_string(j));
  }
  CHECK(findings_of([&] { (void)growth["gain"].at(0); })[0].code == errc::bad_argument);
  CHECK(findings_of([&] { (void)slice.at(0); })[0].code == errc::bad_argument);
  CHECK(findings_of([&] { (void)growth["w1"].at(0).at(0); })[0].code == errc::bad_argument); // the first one, too
}

TEST_CASE("a masked growth is taken back with what training made of the old numbers, moments too", "[plan][undo]") {
  const auto where = GENERATE(placement::order::append, placement::order::prepend, placement::order::interleave);
  const msg::plan growth{
      model(), {hidden.grow_to(6), ffn.grow_to(8), layers.grow_to(3)}, msg::mask{}, {.placement = {where, {}}}};
  const msg::plan undo = growth.undone();
  CHECK(undo.before().size() == growth.after().size());
  CHECK(undo.after().size() == growth.before().size());
  CHECK(undo.strict());
  std::vector<double> old(static_cast<std::size_t>(growth.before().size()));
  for (std::size_t i = 0; i < old.size(); ++i) { old[i] = 1 / (1.0 + static_cast<double>(i)); }
  std::vector<double> grown(static_cast<std::size_t>(growth.after().size())), back(old.size());
  for (const msg::payload what : {msg::payload::value, msg::payload::moment1, msg::payload::moment2}) {
    msg::apply(growth, old, grown, what);
    for (double& number : grown) { number *= 3; } // training goes on; times 3 is exact in what it is compared with
    msg::apply(undo, grown, back, what);
    for (std::size_t i = 0; i < old.size(); ++i) { REQUIRE(back[i] == 3 * old[i]); }
  }
}

TEST_CASE("a growth that acts, or has rescaled old numbers, is not taken back", "[plan][undo][error]") {
  const msg::plan growth{
      model(),
      {ffn.grow_to(8, {.rule = testing::copies{}}), layers.grow_to(3, {.rule = msg::stack{}}), hidden.grow_to(4)}};
  const auto findings = findings_of([&] { (void)growth.undone(); });
  REQUIRE(findings.size() == 2);
  CHECK(to_string(findings[0]) == "unsupported: axis 'ffn', expected a growth behind a mask, found rule copies (its "
                                  "fresh units act, so nothing can take them back)");
  CHECK(findings[1].axis == "layers");
  msg::schema s = model();
  const axis positions{"positions", 2};
  s.weight("position", in(positions), out(hidden));
  CHECK_NOTHROW(msg::plan{s, {positions.grow_to(3)}}.undone()); // no old input knows the new positions
}

TEST_CASE("approximate moments are named with their axis and reason", "[plan][contract]") {
  const msg::plan growth{model(), {hidden.grow_to(8, {.rule = msg::average{}}), ffn.grow_to(8)}};
  const auto named = growth.approximate_moments();
  REQUIRE(named.size() == 1);
  CHECK(named[0].parameter == "w2"); // it writes the residual stream; the gain gets its gradient behind the norm
  CHECK(named[0].reason.find("axis 'hidden': the norm gives part of the gradient") == 0);
  CHECK(msg::plan{model(), {layers.grow_to(4)}, msg::stack{}}.approximate_moments().size() == 4);
}
