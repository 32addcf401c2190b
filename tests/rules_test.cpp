// The library's rules, and those of a user: what they decide, and that a whole network keeps its function and its
// gradients.
#include "support/catch.hpp"
#include "support/test_rules.hpp"
#include "support/thrown.hpp"
#include "support/tiny_growth.hpp"

#include <msg/apply.hpp>
#include <msg/plan.hpp>
#include <msg/rules/mask.hpp>
#include <msg/rules/stack.hpp>

#include <cstdint>
#include <limits>
#include <string>
#include <vector>

using msg::axis;
using msg::fresh_unit;
using msg::index;
using msg::init;
using msg::payload;
using msg::placement;
using msg::rule_request;
using testing::contract_of;
using testing::distance;
using testing::largest;
using testing::tiny_pair;
using testing::tiny_schema;

namespace {

/// What a rule is asked where an axis of two grows to five.
rule_request two_to_five(const placement& where) {
  return {.axis = "a",
          .old_size = 2,
          .new_size = 5,
          .old_of = msg::positions_of(where, 2, 5),
          .interleaved = where.what == placement::order::interleave};
}

const char* const axis_names[] = {"hidden", "ffn", "heads", "layers", "vocab", "positions"};

/// Growth of one axis of the tiny network, or of all of them (number 6); by 3 (divides none), or to twice the size.
std::vector<msg::request> requests(int which, bool doubled, const placement& where) {
  const msg::schema s = tiny_schema();
  std::vector<msg::request> result;
  for (int a = 0; a < 6; ++a) {
    if (which != 6 && which != a) { continue; }
    const axis& one = s.axis_at(axis_names[a]);
    result.push_back(one.grow_to(doubled ? 2 * one.size : one.size + 3, {.placement = where}));
  }
  return result;
}

} // namespace

TEST_CASE("mask leaves width units fresh or copies old ones in turn, by request", "[rules][mask]") {
  const index f = fresh_unit;
  rule_request asked = two_to_five(placement::append());
  asked.as_out = true;
  const msg::axis_growth fresh = msg::mask{}(asked);
  CHECK(fresh.source == std::vector<index>{0, 1, f, f, f});
  CHECK(fresh.newborn == std::vector<std::uint8_t>{0, 0, 1, 1, 1});
  CHECK(fresh.contract.mask_activations);
  const msg::axis_growth copied = msg::mask{.width = msg::mask::start::copy}(asked);
  CHECK(copied.source == std::vector<index>{0, 1, 0, 1, 0});
  CHECK(copied.newborn == fresh.newborn); // copies of values, not of moments
}

TEST_CASE("new layers are stacked, interleaved or put in front as copies", "[rules][mask][stack]") {
  const auto sources = [](const placement& where) {
    rule_request asked = two_to_five(where);
    asked.as_each = true;
    const msg::axis_growth masked = msg::mask{}(asked);
    CHECK(masked.contract.blend_layers);
    CHECK_FALSE(masked.contract.mask_activations);
    const msg::axis_growth stacked = msg::stack{}(asked);
    CHECK(stacked.source == masked.source);
    CHECK(stacked.newborn == masked.newborn);
    CHECK_FALSE(stacked.contract.masked());
    return masked.source;
  };
  CHECK(sources(placement::append()) == std::vector<index>{0, 1, 0, 1, 0});
  CHECK(sources(placement::interleave()) == std::vector<index>{0, 0, 0, 1, 1});
  CHECK(sources(placement::prepend()) == std::vector<index>{0, 1, 0, 0, 1});
  CHECK(sources(placement::given({0, fresh_unit, fresh_unit, fresh_unit, 1})) == std::vector<index>{0, 0, 1, 0, 1});
}

TEST_CASE("a head does not get wider, and width is not stacked", "[rules][error]") {
  const axis width{"width", 2};
  msg::schema s;
  s.weight("w", out(width)).scored(width);
  CHECK(testing::message_of([&] {
          msg::plan{s, {width.grow_to(3)}};
        }) ==
        "msg: unsupported: axis 'width', found rule mask (a wider head changes the scale of attention scores; grow "
        "the number of heads instead)");
  msg::schema plain;
  plain.weight("w", out(width)).weight("slices", each(width));
  CHECK(testing::message_of([&] {
          msg::plan{plain, {width.grow_to(3)}, msg::stack{}};
        }) ==
        "msg: unsupported: axis 'width', found rule stack (stack repeats independent slices; the axis must have the "
        "role 'each' and no other)");
}

TEST_CASE("a masked growth keeps every bit of the function, on any axis, at any sizes and placement", "[rules][mask]") {
  const int which = GENERATE(range(0, 7));
  const bool doubled = GENERATE(false, true);
  const auto order = GENERATE(placement::order::append, placement::order::prepend, placement::order::interleave);
  const msg::rule rule = GENERATE(as<msg::rule>{}, msg::mask{.fresh = msg::fresh_values::all(init::normal(30))},
                                  msg::mask{.fresh = msg::fresh_values::all(init::matched()),
                                            .width = msg::mask::start::copy,
                                            .layers = msg::mask::start::fresh});
  CAPTURE(which, doubled, static_cast<int>(order));
  const msg::plan growth{tiny_schema(), requests(which, doubled, {order, {}}), rule, {.seed = 77}};
  const tiny_pair models(growth);
  // Sums run in order, and what a mask silences is exactly 0: no bit may change.
  CHECK(models.new_logits(contract_of(growth, 0)) == models.old_logits());
  CHECK(models.new_logits(contract_of(growth, 1)) == models.new_logits({})); // c = 1 is the plain path
  const bool needs_mask = which != 4 && which != 5; // a new token or position is not in the old tokens' logits
  if (needs_mask) { CHECK(distance(models.new_logits({}), models.old_logits()) > 1e-6); }
}

TEST_CASE("at c = 0 old gradients keep their bits and fresh ones are zero", "[rules][mask][gradient]") {
  const int which = GENERATE(range(0, 7));
  const auto order = GENERATE(placement::order::append, placement::order::interleave);
  CAPTURE(which, static_cast<int>(order));
  const msg::plan growth{tiny_schema(), requests(which, false, {order, {}}),
                         msg::mask{.fresh = msg::fresh_values::all(init::normal(1))}};
  const tiny_pair models(growth);
  std::vector<double> expected(models.grown.size()); // moments grow like this: fresh and newborn cells 0
  msg::apply(growth, models.old_gradient(), expected, payload::moment1);
  CHECK(models.new_gradient(contract_of(growth, 0)) == expected);
  if (which < 5) { CHECK(models.new_gradient(contract_of(growth, 0.5F)) != expected); } // they do wake up
}

TEST_CASE("stacked layers act at once", "[rules][stack]") {
  const msg::plan growth{tiny_schema(), {tiny_schema().axis_at("layers").grow_to(4)}, msg::stack{}};
  const tiny_pair models(growth);
  CHECK_FALSE(growth.strict());
  CHECK(distance(models.new_logits({}), models.old_logits()) > 1e-6);
}

TEST_CASE("layers whose writers are zero keep every bit of the function", "[rules][identity]") {
  const auto order = GENERATE(placement::order::append, placement::order::prepend, placement::order::interleave);
  const msg::plan growth{tiny_schema(), requests(3, false, {order, {}}), testing::identity_layers{}};
  const tiny_pair models(growth);
  CHECK(models.new_logits({}) == models.old_logits());
}

TEST_CASE("fresh units that nobody reads keep every bit of the function", "[rules][zero]") {
  const int which = GENERATE(1, 2); // ffn, heads; a norm would notice fresh hidden units
  const msg::plan growth{tiny_schema(), requests(which, false, {}), testing::blocks{{.in = msg::fill::zero}}};
  const tiny_pair models(growth);
  CHECK(models.new_logits({}) == models.old_logits());
}

TEST_CASE("copied units keep the function and split the gradient, the dual of the law", "[rules][copies][gradient]") {
  // hidden has a norm, so each of its units must have as many copies; the other axes are split unevenly, and ffn to a
  // size its old one does not divide
  const int which = GENERATE(0, 1, 2, 3);
  const msg::schema s = tiny_schema();
  const msg::request hidden = s.axis_at("hidden").grow_to(8, {.rule = testing::copies{}});
  const msg::request ffn = s.axis_at("ffn").grow_to(7, {.rule = testing::copies{0.7}});
  const msg::request heads = s.axis_at("heads").grow_to(5, {.rule = testing::copies{0.2}});
  const std::vector<msg::request> asked[] = {{hidden}, {ffn}, {heads}, {hidden, ffn, heads}};
  CAPTURE(which);
  const msg::plan growth{s, asked[which]};
  const tiny_pair models(growth);
  const std::vector<double> logits = models.old_logits();
  CHECK(distance(models.new_logits({}), logits) <= models.rounding(largest(logits)));

  const std::vector<double> gradient = models.old_gradient(), found = models.new_gradient({});
  std::vector<double> expected(found.size());
  msg::apply(growth, gradient, expected, payload::moment1);
  CHECK(distance(found, expected) <= models.rounding(largest(gradient)));
  // Adam's second moment: the square of that
  std::vector<double> squares, found_squares;
  for (const double g : gradient) { squares.push_back(g * g); }
  for (const double g : found) { found_squares.push_back(g * g); }
  msg::apply(growth, squares, expected, payload::moment2);
  CHECK(distance(found_squares, expected) <= 2 * models.rounding(largest(squares)));
}
