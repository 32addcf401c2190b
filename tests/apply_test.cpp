// Moving numbers: the law, on a model with every kind of dimension.
#include "support/catch.hpp"
#include "support/growth_model.hpp"
#include "support/oracle_law.hpp"
#include "support/test_rules.hpp"

#include <msg/apply.hpp>
#include <msg/plan.hpp>
#include <msg/rules/mask.hpp>

#include <utility>
#include <vector>

using msg::axis;
using msg::index;
using msg::init;
using msg::payload;
using msg::placement;
using testing::all_axes;
using testing::ffn;
using testing::grown;
using testing::growth_model;
using testing::heads;
using testing::layers;
using testing::numbers;

TEST_CASE("every parameter and both moments obey the law, for every rule and placement", "[apply][law]") {
  const int which = GENERATE(range(0, 5));
  const msg::rule rules[] = {
      msg::mask{.fresh = msg::fresh_values::all(init::normal(30))},
      msg::mask{.width = msg::mask::start::copy, .layers = msg::mask::start::fresh}, testing::copies{0.75},
      testing::blocks{{msg::fill::init, msg::fill::zero, msg::fill::init}}, testing::arbitrary{17}};
  for (const placement& where : {placement::append(), placement::prepend(), placement::interleave()}) {
    const msg::plan growth{growth_model(), all_axes, rules[which], {.seed = 5, .placement = where}};
    for (const msg::param_plan& p : growth.parameters()) {
      for (const payload what : {payload::value, payload::moment1, payload::moment2}) {
        CAPTURE(which, static_cast<int>(where.what), p.name, static_cast<int>(what));
        const auto old = numbers<double>(p.old_size());
        CHECK(oracle::difference(oracle::law(growth)(p.name, old, what), grown(p, old, what)) == "");
        const auto short_old = numbers<float>(p.old_size());
        CHECK(oracle::difference(oracle::law(growth)(p.name, short_old, what), grown(p, short_old, what)) == "");
      }
    }
  }
}

TEST_CASE("old cells keep their bits, in the places of their units", "[apply]") {
  const axis a{"a", 2}, b{"b", 2};
  msg::schema s;
  s.weight("w", out(a), in(2 * b));
  const msg::plan growth{s,
                         {a.grow_to(3, {.placement = placement::prepend()}), b.grow_to(3)},
                         testing::blocks{.fresh = msg::fresh_values::all(init::constant(9))}};
  const auto w = grown(growth["w"], std::vector<double>{1, 2, 3, 4, 5, 6, 7, 8});
  CHECK(w == std::vector<double>{9, 9, 9, 9, 9, 9,   //
                                 1, 2, 9, 3, 4, 9,   //
                                 5, 6, 9, 7, 8, 9}); //
}

TEST_CASE("copies share the outgoing weight: values where they are read, gradients where they are written", "[apply]") {
  const axis a{"a", 2};
  msg::schema s;
  s.weight("reads", in(a)).weight("writes", out(a)).weight("both", out(a), in(a)).weight("slices", each(a));
  const msg::plan growth{s, {a.grow_to(3)}, testing::copies{0.25}}; // unit 0 twice: 0.25 and 0.75
  const std::vector<double> two{8, 16}, four{16, 32, 64, 128};
  CHECK(grown(growth["reads"], two) == std::vector<double>{2, 16, 6});
  CHECK(grown(growth["writes"], two) == std::vector<double>{8, 16, 8});
  CHECK(grown(growth["slices"], two) == std::vector<double>{8, 16, 8});
  CHECK(grown(growth["both"], four) == std::vector<double>{4, 32, 12, 16, 128, 48, 4, 32, 12});
  CHECK(grown(growth["reads"], two, payload::moment1) == std::vector<double>{8, 16, 8});
  CHECK(grown(growth["writes"], two, payload::moment1) == std::vector<double>{2, 16, 6});
  CHECK(grown(growth["both"], four, payload::moment1) == std::vector<double>{4, 8, 4, 64, 128, 64, 12, 24, 12});
  CHECK(grown(growth["writes"], two, payload::moment2) == std::vector<double>{0.5, 16, 4.5});
}

TEST_CASE("fresh cells are filled by where the fresh unit stands", "[apply][rules]") {
  using msg::fill;
  const axis a{"a", 1}, b{"b", 1};
  msg::schema s;
  s.weight("w", out(a), in(b)).weight("out_alone", out(a)).weight("in_alone", in(b)).weight("slices", each(a), in(b));
  const auto table = [&](fill on_out, fill on_in, fill on_both) {
    const msg::rule rule = testing::blocks{{on_out, on_in, on_both}, msg::fresh_values::all(init::constant(7))};
    const msg::plan growth{s, {a.grow_to(2), b.grow_to(2)}, rule};
    std::vector<double> cells = grown(growth["w"], std::vector<double>{1});
    for (const char* name : {"out_alone", "in_alone", "slices"}) {
      const auto more = grown(growth[name], std::vector<double>{1});
      cells.insert(cells.end(), more.begin() + 1, more.end());
    }
    return cells;
  };
  // w: old, fresh in, fresh out, both; then out alone, in alone; slices: in, each, each and in
  CHECK(table(fill::init, fill::init, fill::init) == std::vector<double>{1, 7, 7, 7, 7, 7, 7, 7, 7});
  CHECK(table(fill::init, fill::zero, fill::init) == std::vector<double>{1, 0, 7, 7, 7, 0, 0, 7, 0});
  CHECK(table(fill::zero, fill::init, fill::init) == std::vector<double>{1, 7, 0, 7, 0, 7, 7, 7, 7});
  CHECK(table(fill::zero, fill::init, fill::zero) == std::vector<double>{1, 7, 0, 0, 0, 7, 7, 7, 7});
  CHECK(table(fill::init, fill::init, fill::zero) == std::vector<double>{1, 7, 7, 0, 7, 7, 7, 7, 7});
}

TEST_CASE("a rescaled gain takes its moments the other way, fresh gains are left alone", "[apply]") {
  const axis a{"a", 2};
  msg::schema s;
  s.norm_gain("gain", out(a)).norm_gain("read_gain", in(a)).weight("w", out(a)).norm_bias("shift", out(a));
  const msg::rule rule{"rescale", [](const msg::rule_request& asked) {
                         msg::axis_growth g{.source = asked.old_of};
                         g.contract.gain_factor = 0.5;
                         return g;
                       }};
  const msg::plan growth{s, {a.grow_to(3)}, rule};
  const std::vector<double> old{4, 8};
  CHECK(grown(growth["gain"], old) == std::vector<double>{2, 4, 1});
  CHECK(grown(growth["read_gain"], old) == std::vector<double>{2, 4, 1});
  CHECK(grown(growth["gain"], old, payload::moment1) == std::vector<double>{8, 16, 0});
  CHECK(grown(growth["gain"], old, payload::moment2) == std::vector<double>{16, 32, 0});
  CHECK(grown(growth["w"], old)[1] == 8);
  CHECK(grown(growth["shift"], old)[1] == 8);
}

TEST_CASE("the writers of an identity layer are zero, its norms and readers are copies", "[apply][rules]") {
  const msg::plan growth{growth_model(), {layers.grow_to(3)}, testing::identity_layers{}};
  const auto last = [&](const char* name) {
    const msg::param_plan& p = growth[name];
    const auto old = numbers<double>(p.old_size());
    const auto all = grown(p, old);
    const auto slice = static_cast<std::ptrdiff_t>(p.size() / 3);
    return std::pair{std::vector<double>(all.end() - slice, all.end()),
                     std::vector<double>(old.end() - slice, old.end())};
  };
  const auto [kernel, old_kernel] = last("kernel"); // writes hidden, which is normed
  CHECK(kernel == std::vector<double>(kernel.size(), 0.0));
  for (const char* name : {"gpt2", "gate_up", "gain"}) {
    CAPTURE(name);
    const auto [copy, old] = last(name);
    CHECK(copy == old);
  }
}

TEST_CASE("growing one axis and then another is growing both at once, for old cells", "[apply][composition]") {
  const msg::rule rule = GENERATE(as<msg::rule>{}, msg::mask{}, testing::copies{0.75}, testing::copies{});
  const placement where = GENERATE(placement::append(), placement::prepend(), placement::interleave());
  // 4 to 8 and 2 to 4 heads: the splits are powers of two and quarters, so that no product is rounded
  const msg::request first = ffn.grow_to(8), second = heads.grow_to(4);
  const msg::plan both{growth_model(), {first, second}, rule, {.placement = where}};
  const msg::plan a{growth_model(), {first}, rule, {.placement = where}};
  const msg::plan b{a.after(), {second}, rule, {.placement = where}};
  for (const msg::param_plan& p : both.parameters()) {
    for (const payload what : {payload::value, payload::moment1, payload::moment2}) {
      CAPTURE(rule.name(), static_cast<int>(where.what), p.name, static_cast<int>(what));
      const auto old = numbers<double>(p.old_size());
      const auto at_once = grown(p, old, what);
      const auto in_turn = grown(b[p.name], grown(a[p.name], old, what), what);
      REQUIRE(at_once.size() == in_turn.size());
      index compared = 0;
      for (std::size_t i = 0; i < at_once.size(); ++i) {
        index rest = static_cast<index>(i);
        bool has_source = true;
        for (std::size_t d = p.dims.size(); d-- > 0;) {
          has_source = has_source && p.dims[d].source[static_cast<std::size_t>(rest % p.dims[d].new_size())] >= 0;
          rest /= p.dims[d].new_size();
        }
        if (!has_source) { continue; }
        CHECK(at_once[i] == in_turn[i]);
        ++compared;
      }
      CHECK(compared >= p.old_size());
    }
  }
}
