// What a plan refuses, and what it says then.
#include "support/catch.hpp"
#include "support/test_rules.hpp"
#include "support/thrown.hpp"

#include <msg/plan.hpp>
#include <msg/rules/mask.hpp>

#include <algorithm>
#include <limits>
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

/// A rule that answers what `change` makes of the right answer.
template <class Change>
msg::rule changed(const Change& change) {
  return {"changed", [change](const rule_request& asked) {
            axis_growth answer{.source = asked.old_of};
            answer.split.assign(answer.source.size(), 1.0);
            answer.newborn.assign(answer.source.size(), 0);
            change(answer);
            return answer;
          }};
}
/// What a plan says of such a rule for ffn 6 to 8.
template <class Change>
std::string verdict(const Change& change) {
  return message_of([&] { msg::plan{model(), {ffn.grow_to(8)}, changed(change)}; });
}

} // namespace

TEST_CASE("a given order that is no order is refused, and shown", "[plan][placement]") {
  const index f = fresh_unit;
  const auto refused = [](std::vector<index> positions) {
    return message_of([&] { msg::plan{model(), {hidden.grow_to(6, {.placement = placement::given(positions)})}}; });
  };
  const std::string start =
      "msg: bad placement: axis 'hidden', expected 6 positions with old units 0..3 in order, found ";
  CHECK(refused({0, 1, 2, 3}) == start + "4 positions: 0 1 2 3");
  CHECK(refused({0, 2, 1, 3, f, f}) == start + "6 positions: 0 2 1 3 -1 -1");
  CHECK(refused({0, 1, 2, f, f, f}) == start + "6 positions: 0 1 2 -1 -1 -1");
  CHECK(refused({0, 1, 2, 3, 3, f}) == start + "6 positions: 0 1 2 3 3 -1");
  CHECK(refused({0, 1, 2, 3, -2, f}) == start + "6 positions: 0 1 2 3 -2 -1");
}

TEST_CASE("all findings come at once, and diagnose tells the same without throwing", "[plan][error]") {
  msg::schema s = model();
  s.bias("b1", each(layers), out(ffn));
  const std::vector<msg::request> requests{{"heads", 8, {}},
                                           hidden.grow_to(3),
                                           ffn.grow_to(8),
                                           ffn.grow_to(9),
                                           layers.grow_to(3, {.placement = placement::given({1, 0, fresh_unit})})};
  const auto findings = findings_of([&] { msg::plan{s, requests}; });
  CHECK(testing::codes_of(findings) == std::vector<errc>{errc::duplicate_name, errc::unknown_axis, errc::shrink,
                                                         errc::duplicate_name, errc::bad_placement});
  REQUIRE(findings.size() == 5);
  CHECK(to_string(findings[1]) == "unknown axis: axis 'heads', expected one of layers, ffn, hidden, found 'heads'");
  CHECK(to_string(findings[2]) == "shrink: axis 'hidden', expected at least 4, found 3");
  CHECK(to_string(findings[3]) == "duplicate name: axis 'ffn', expected one request per axis, found two");
  const auto told = msg::diagnose(s, requests);
  REQUIRE(told.size() == findings.size());
  for (std::size_t i = 0; i < told.size(); ++i) { CHECK(to_string(told[i]) == to_string(findings[i])); }
  CHECK(msg::diagnose(model(), {ffn.grow_to(8)}).empty());
}

TEST_CASE("unknown parameters and axes of a plan are named", "[plan][error]") {
  const msg::plan growth{model(), {ffn.grow_to(8)}};
  CHECK(message_of([&] { (void)growth["w3"]; }) ==
        "msg: unknown parameter: parameter 'w3', expected one of w1, b1, w2, gain");
  CHECK(message_of([&] { (void)growth.axis("hidden"); }) ==
        "msg: unknown axis: axis 'hidden', expected an axis that this plan grows");
  CHECK(findings_of([&] { (void)growth.fresh_units("heads"); }).front().code == errc::unknown_axis);
}

TEST_CASE("an axis without units is reported, not divided by", "[plan][error]") {
  const axis none{"none", 0}, less{"less", -2};
  msg::schema s = model();
  s.weight("w", each(none), out(less));
  const std::vector<msg::request> requests{none.grow_to(3), less.grow_to(3)};
  const auto findings = msg::diagnose(s, requests, msg::mask{}); // mask copies layers in turn, modulo the old size
  CHECK(testing::codes_of(findings) == std::vector<errc>{errc::bad_size, errc::bad_size});
  CHECK(to_string(findings[0]) == "bad size: parameter 'w', dimension 0, axis 'none', expected at least 1, found 0");
  CHECK(to_string(findings[1]) == "bad size: parameter 'w', dimension 1, axis 'less', expected at least 1, found -2");
}

TEST_CASE("nine axes in one plan are too many, and that is said once", "[plan][error]") {
  msg::schema s;
  std::vector<msg::request> requests;
  for (char name = 'a'; name < 'j'; ++name) {
    const axis one{std::string(1, name), 2};
    s.weight("w" + one.name, out(one)).bias("b" + one.name, out(one));
    requests.push_back(one.grow_to(3));
  }
  CHECK(message_of([&] {
          msg::plan{s, requests};
        }) == "msg: unsupported, expected at most 8 axes in one plan, found 9 (make two plans, one after the other)");
  requests.pop_back();
  CHECK(msg::diagnose(s, requests).empty());
}

TEST_CASE("what a rule answers must satisfy the law, whoever wrote it", "[plan][rules][error]") {
  const std::string start = "msg: bad rule: axis 'ffn', expected ";
  CHECK(verdict([](axis_growth& g) { g.source.pop_back(); }) ==
        start + "8 sources, splits and newborn flags, found 7, 8, 8 (rule changed)");
  CHECK(verdict([](axis_growth& g) { g.split.pop_back(); }) ==
        start + "8 sources, splits and newborn flags, found 8, 7, 8 (rule changed)");
  CHECK(verdict([](axis_growth& g) { g.newborn.pop_back(); }) ==
        start + "8 sources, splits and newborn flags, found 8, 8, 7 (rule changed)");
  CHECK(verdict([](axis_growth& g) { g.source[7] = 6; }) ==
        start + "sources in [0, 6) or fresh_unit, found 6 at position 7 (rule changed)");
  CHECK(verdict([](axis_growth& g) { g.source[7] = -7; }) ==
        start + "sources in [0, 6) or fresh_unit, found -7 at position 7 (rule changed)");
  CHECK(verdict([](axis_growth& g) { g.split[7] = std::numeric_limits<double>::infinity(); }) ==
        start + "finite splits, found position 7 (rule changed)");
  CHECK(verdict([](axis_growth& g) { g.source[7] = 5; }) ==
        start + "splits of old unit 5 that sum to 1, found 2.000000 (rule changed)");
  CHECK(verdict([](axis_growth& g) { g.split[0] = 0.5; }) ==
        start + "splits of old unit 0 that sum to 1, found 0.500000 (rule changed)");
  CHECK(verdict([](axis_growth& g) { g.source[0] = 1; }) ==
        start + "old unit 0 to stand for itself, not newborn, found 1 at position 0 (rule changed)");
  CHECK(verdict([](axis_growth& g) { g.newborn[0] = 1; }) ==
        start + "old unit 0 to stand for itself, not newborn, found 0 at position 0 (rule changed)");
  CHECK(verdict([](axis_growth& g) {
          g.source[7] = 5;
          g.split[7] = 0;
          g.contract.mask_activations = true;
        }) == start + "newborn units under a mask, found position 7 (rule changed)");
  CHECK(verdict([](axis_growth& g) { g.contract.gain_factor = 0; }) ==
        start + "a positive gain factor, found 0.000000 (rule changed)");
  CHECK(verdict([](axis_growth& g) { g.contract.key_factor = -1; }) ==
        start + "a positive key factor, found -1.000000 (rule changed)");
  CHECK(verdict([](axis_growth& g) { g.partner.assign(7, fresh_unit); }) ==
        start + "8 partners, found 7 (rule changed)");
  CHECK(verdict([](axis_growth& g) {
          g.partner.assign(8, fresh_unit);
          g.partner[6] = 7; // 6 and 7 are fresh, and 7 doesn't answer
        }) == start + "partners that are two copies of one unit, found position 6 (rule changed)");
  CHECK(verdict([](axis_growth& g) { g.old_of = {0, 1, 2, 3, 4, 5, 5, fresh_unit}; }) ==
        start + "old units in order, found 8 positions: 0 1 2 3 4 5 5 -1 (rule changed)");
  CHECK(message_of([&] {
          msg::plan{model(), {layers.grow_to(3)}, changed([](axis_growth& g) { g.source[2] = msg::mean_unit; })};
        }) == "msg: unsupported: axis 'layers', expected an old unit or fresh_unit for slices (role 'each'), found "
              "mean_unit (rule changed)");
  CHECK(verdict([](axis_growth& g) { g.refused = "not today"; }) ==
        "msg: unsupported: axis 'ffn', found rule changed (not today)");
}

TEST_CASE("splits that sum to 1 but for rounding are accepted", "[plan][rules]") {
  for (index copies = 2; copies <= 200; ++copies) {
    CAPTURE(copies);
    const axis one{"one", 1};
    msg::schema s;
    s.weight("w", in(one));
    CHECK(msg::diagnose(s, {one.grow_to(copies)}, testing::copies{}).empty());    // 1/n each
    CHECK(msg::diagnose(s, {one.grow_to(copies)}, testing::copies{0.7}).empty()); // 0.7, the others share 0.3
    CHECK_FALSE(msg::diagnose(s, {one.grow_to(copies)}, changed([](axis_growth& g) {
                                std::fill(g.source.begin(), g.source.end(), 0);
                                const double part = 1 / static_cast<double>(g.source.size());
                                std::fill(g.split.begin(), g.split.end(), part * (1 + 1e-10));
                              }))
                    .empty());
  }
}

TEST_CASE("newborn copies may stand beside the split, or take part in it", "[plan][rules]") {
  const auto copy = [](double old_part, double new_part) {
    return changed([=](axis_growth& g) {
      for (const std::size_t j : {std::size_t{6}, std::size_t{7}}) {
        g.source[j] = static_cast<index>(j) - 6;
        g.newborn[j] = 1;
        g.split[j - 6] = old_part;
        g.split[j] = new_part;
      }
    });
  };
  CHECK(msg::diagnose(model(), {ffn.grow_to(8)}, copy(1, 1)).empty());
  CHECK(msg::diagnose(model(), {ffn.grow_to(8)}, copy(0.25, 0.75)).empty());
  CHECK_FALSE(msg::diagnose(model(), {ffn.grow_to(8)}, copy(0.5, 1)).empty());
}
