// What the depth rules, copies, donors, noise, experts and vocabularies are made of, unit by unit; and what is refused.
#include "support/catch.hpp"
#include "support/dual.hpp"
#include "support/thrown.hpp"
#include "support/tiny_growth.hpp"

#include <msg/apply.hpp>
#include <msg/plan.hpp>
#include <msg/presets.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <numeric>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

using msg::axis;
using msg::fresh_unit;
using msg::index;
using msg::init;
using msg::payload;
using msg::placement;
using testing::message_of;
using testing::tiny_schema;

namespace {

constexpr index f = fresh_unit;

const axis layers{"layers", 4};
msg::schema stacked() {
  msg::schema s;
  s.weight("w", each(layers), out(axis{"hidden", 2}));
  return s.normed(axis{"hidden", 2});
}
msg::axis_plan grown_layers(index to, const msg::rule& rule) {
  return msg::plan{stacked(), {layers.grow_to(to, {.rule = rule})}}.axis("layers");
}

std::vector<double> counted(index n) {
  std::vector<double> numbers(static_cast<std::size_t>(n));
  std::iota(numbers.begin(), numbers.end(), 1.0);
  return numbers;
}

} // namespace

TEST_CASE("depth rules have orders of their own", "[rules][depth]") {
  using order = std::vector<index>;
  CHECK(grown_layers(6, msg::stack{}).growth.source == order{0, 1, 2, 3, 0, 1});
  CHECK(grown_layers(8, msg::interleave{}).growth.source == order{0, 0, 1, 1, 2, 2, 3, 3});
  CHECK(grown_layers(8, msg::interleave{}).old_of == order{0, f, 1, f, 2, f, 3, f});
  CHECK(grown_layers(6, msg::middle_repeat{}).growth.source == order{0, 1, 2, 1, 2, 3});
  CHECK(grown_layers(6, msg::middle_repeat{}).old_of == order{0, 1, 2, f, f, 3});
  CHECK(grown_layers(10, msg::middle_repeat{}).growth.source == order{0, 1, 2, 3, 0, 1, 2, 3, 0, 1});
  CHECK(grown_layers(6, msg::overlap_stack{}).growth.source == order{0, 1, 2, 1, 2, 3}); // 2 (n - m), m = 1
  CHECK(grown_layers(6, msg::overlap_stack{}).old_of == order{0, 1, 2, f, f, 3});
  CHECK(grown_layers(5, msg::overlap_stack{}).growth.source == order{0, 1, 2, 2, 3});
  CHECK(grown_layers(8, msg::overlap_stack{}).growth.source == order{0, 1, 2, 3, 0, 1, 2, 3});
  const msg::identity after_groups{.where = msg::identity::order::end_of_groups};
  CHECK(grown_layers(6, after_groups).growth.source == order{0, 1, 1, 2, 3, 3});
  CHECK(grown_layers(6, after_groups).old_of == order{0, 1, f, 2, 3, f});
  CHECK(grown_layers(9, after_groups).growth.source == order{0, 0, 1, 1, 2, 2, 3, 3, 3});
  CHECK(grown_layers(4, after_groups).growth.source == order{0, 1, 2, 3});
  CHECK(message_of([] { grown_layers(9, msg::overlap_stack{}); }) ==
        "msg: unsupported: axis 'layers', found rule overlap_stack (two copies of the model have at most 8 layers)");
}

TEST_CASE("a rule with an order of its own takes none from the request", "[rules][depth][error]") {
  const msg::grow_options both{.rule = msg::middle_repeat{}, .placement = placement::append()};
  CHECK(message_of([&] {
          msg::plan{stacked(), {layers.grow_to(6, both)}};
        }) == "msg: bad placement: axis 'layers', expected no placement, found 6 positions: 0 1 2 3 -1 -1 (rule "
              "middle_repeat has an order of its own)");
}

TEST_CASE("what cannot keep the function, or means nothing, is refused with a reason", "[rules][error]") {
  const auto reason = [](const testing::tiny_sizes& sizes, const char* name, const msg::rule& rule) {
    const msg::schema s = tiny_schema(sizes);
    const auto findings = msg::diagnose(s, {s.axis_at(name).grow_to(2 * s.axis_at(name).size, {.rule = rule})});
    return findings.empty() ? "" : findings[0].hint;
  };
  const testing::tiny_sizes gpt{}, llama{.norm = msg::norm_kind::rms}, bert{.where = msg::norm_position::post};
  CHECK(reason(gpt, "hidden", msg::zero_block{}) ==
        "zeros change the mean and variance of a LayerNorm; rule average (pre-norm), duplicate or mask");
  CHECK(reason(llama, "hidden", msg::zero_block{}).empty());
  CHECK(reason(gpt, "hidden", msg::average{}).empty());
  CHECK(reason(llama, "hidden", msg::average{}) == "an RMSNorm doesn't subtract the mean; rule zero_block");
  CHECK(reason(bert, "hidden", msg::average{}) ==
        "a post-norm stream is normalised itself and would lose the mean; rule duplicate or mask");
  CHECK(reason(gpt, "ffn", msg::average{}) ==
        "no norm hides the mean of the units from what reads them; rule duplicate or zero_block");
  CHECK(reason(gpt, "head_dim", msg::duplicate{}) ==
        "a head made wider by copies changes the scale of attention scores; rule zero_block");
  CHECK(reason(gpt, "head_dim", msg::zero_block{}).empty());
  for (const msg::rule& rule : std::vector<msg::rule>{msg::zero_block{}, msg::duplicate{}}) {
    CHECK(reason(gpt, "vocab", rule).find("a softmax runs over the axis") == 0);
  }
  CHECK(reason(gpt, "vocab", msg::presets::lemon()).empty()); // masked logits
  CHECK(reason(gpt, "positions", msg::duplicate{}) ==
        "nothing writes the axis, so its inputs cannot be copied; rule mask or zero_block");
  CHECK(reason(gpt, "layers", msg::duplicate{}) == "layers are no units of one sum; rule stack, identity or mask");
  CHECK(reason(gpt, "ffn", msg::presets::stackbert()) == "grows layers alone; give this axis a rule of its own");
  CHECK(reason(gpt, "layers", msg::presets::hypercloning()) ==
        "grows width alone; give the layers a rule of their own");
  CHECK(reason(gpt, "ffn", msg::duplicate{.split = msg::uneven{1.5}}) == "the first copy's share must be in (0, 1)");

  msg::schema s = tiny_schema();
  const axis& heads = s.axis_at("heads");
  CHECK(message_of([&] {
          msg::plan{s, {heads.grow_to(3, {.rule = msg::presets::hypercloning()})}};
        }) ==
        "msg: unsupported: axis 'heads', found rule hypercloning (tiling needs an integer multiple of the old size)");
  msg::schema bare;
  bare.weight("w", each(layers), out(axis{"hidden", 2}));
  CHECK(msg::diagnose(bare, {layers.grow_to(6, {.rule = msg::identity{}})}).at(0).hint ==
        "no axis is known as the residual stream that layers write to; name it with schema::normed");
  msg::schema kv = tiny_schema({.heads = 4, .kv_heads = 2});
  CHECK(
      msg::diagnose(kv, {kv.axis_at("heads").grow_to(6, {.rule = msg::duplicate{}}), kv.axis_at("kv_heads").grow_to(3)})
          .at(0)
          .hint == "the key-value heads they read must be copies, too");
}

TEST_CASE("presets are found by name, and contracts name both preset and rule", "[presets]") {
  for (const msg::named_rule& one : msg::named_rules) { CHECK(msg::rule_by_name(one.name).name() == one.name); }
  CHECK(message_of([] { (void)msg::rule_by_name("lemmon"); }).find("expected one of mask, zero_block, duplicate") !=
        std::string::npos);
  const msg::schema s = tiny_schema();
  const msg::plan growth{s, {s.axis_at("hidden").grow_to(5), s.axis_at("ffn").grow_to(5)}, msg::presets::lemon()};
  CHECK(growth.contract()[0].rule == "lemon/average");
  CHECK(growth.contract()[1].rule == "lemon/duplicate");
}

TEST_CASE("paired noise is added to one copy and subtracted from its partner, on weights that read them",
          "[rules][duplicate]") {
  const axis a{"a", 2};
  msg::schema s;
  s.weight("reads", out(axis{"b", 3}), in(a)).weight("writes", out(a), in(axis{"b", 3})).norm_gain("gain", in(a));
  const msg::plan growth{s, {a.grow_to(5)}, msg::duplicate{.noise = init::normal(1)}, {.seed = 2}};
  REQUIRE(growth.axis("a").growth.partner == std::vector<index>{2, 3, 0, 1, f}); // 4 is the third copy of 0
  const std::vector<double> old = counted(6);
  std::vector<double> grown(15);
  msg::apply(growth["reads"], old, grown);
  for (std::size_t row = 0; row < 3; ++row) {
    const double* w = grown.data() + 5 * row;
    const double noise = w[0] - old[2 * row] / 3;
    CHECK(std::abs(noise) > 1e-3);
    // one multiplication and one addition of numbers below 10 on each copy
    CHECK(std::abs(w[0] + w[2] - 2 * old[2 * row] / 3) < 40 * std::numeric_limits<double>::epsilon());
    CHECK(std::abs(w[1] + w[3] - old[2 * row + 1]) < 40 * std::numeric_limits<double>::epsilon());
    CHECK(w[4] == old[2 * row] * (1.0 / 3));
  }
  msg::apply(growth["writes"], old, grown);
  CHECK(std::vector<double>(grown.begin() + 6, grown.begin() + 9) == std::vector<double>{1, 2, 3});
  std::vector<double> gain(5);
  msg::apply(growth["gain"], counted(2), gain);
  CHECK(gain == std::vector<double>{1.0 / 3, 1, 1.0 / 3, 1, 1.0 / 3});
  CHECK(growth.approximate_moments().size() == 1);
  CHECK(growth.approximate_moments()[0].parameter == "writes");
}

TEST_CASE("AKI takes what copies write from the next layer, and says that this needs all layers at once",
          "[rules][duplicate][aki]") {
  const axis depth{"layers", 3}, ffn{"ffn", 2}, hidden{"hidden", 1};
  msg::schema s;
  s.weight("up", each(depth), out(ffn), in(hidden))
      .weight("down", each(depth), out(hidden), in(ffn))
      .bias("alone", out(ffn));
  const msg::plan growth{s, {ffn.grow_to(4)}, msg::presets::bert2bert_aki()};
  CHECK_FALSE(growth.strict());
  std::vector<double> grown(12);
  msg::apply(growth["up"], counted(6), grown);                             // layer l writes 2l + 1 and 2l + 2
  CHECK(grown == std::vector<double>{1, 2, 3, 4, 3, 4, 5, 6, 5, 6, 5, 6}); // the last layer: from itself
  msg::apply(growth["down"], counted(6), grown);
  CHECK(grown == std::vector<double>{0.5, 1, 0.5, 1, 1.5, 2, 1.5, 2, 2.5, 3, 2.5, 3});
  std::vector<double> alone(4);
  msg::apply(growth["alone"], counted(2), alone); // no layers: from itself
  CHECK(alone == std::vector<double>{1, 2, 1, 2});
  CHECK(message_of([&] { (void)growth["up"].at(0); }) ==
        "msg: unsupported: parameter 'up', dimension 0, found slice 0 (its copies are rows of the next layer; grow the "
        "tensor of all layers)");
  CHECK(growth["down"].at(0).size() == 4);
  CHECK(growth.approximate_moments().size() == 3);
}

TEST_CASE("new rows of a vocabulary are drawn around the old ones, column by column", "[rules][vocab]") {
  const axis vocab{"vocab", 3}, hidden{"hidden", 2};
  msg::schema s;
  s.weight("token", in(vocab), out(hidden)).bias("logit", out(vocab)).logits(vocab);
  const std::vector<double> old{1, 10, 2, 20, 6, 30};
  const auto grown = [&](double times) {
    const msg::plan growth{s, {vocab.grow_to(5)}, msg::mask{.fresh = msg::fresh_values::all(init::like_units(times))}};
    CHECK(growth.contract()[0].mask_logits);
    std::vector<double> rows(10), bias(5);
    msg::apply(growth["token"], old, rows);
    msg::apply(growth["logit"], std::vector<double>{1, 2, 6}, bias);
    if (times == 0) { CHECK(bias == std::vector<double>{1, 2, 6, 3, 3}); }
    return rows;
  };
  CHECK(grown(0) == std::vector<double>{1, 10, 2, 20, 6, 30, 3, 20, 3, 20});
  const std::vector<double> drawn = grown(1);
  for (std::size_t i = 6; i < 10; ++i) {
    const msg::random_stream stream{0, msg::stream_of("token")};
    const double deviation = i % 2 == 0 ? std::sqrt(14.0 / 3) : std::sqrt(200.0 / 3);
    const double expected = (i % 2 == 0 ? 3 : 20) + deviation * msg::random_normal(stream, i);
    // means, squares and a root of numbers below 100
    CHECK(std::abs(drawn[i] - expected) < 1000 * std::numeric_limits<double>::epsilon());
  }
}

namespace {

/// y = sum over the chosen experts of gate * down_e tanh(up_e x), gates normalised over the `chosen` best.
template <class Number>
Number mixture(const std::vector<Number>& p, index experts, index chosen) {
  using std::exp;
  using std::tanh;
  const double x[2] = {0.4, -0.9};
  std::vector<std::pair<double, index>> best;
  std::vector<Number> score;
  const auto value = [](const auto& n) {
    if constexpr (std::is_same_v<Number, testing::dual>) {
      return n.value;
    } else {
      return n;
    }
  };
  for (index e = 0; e < experts; ++e) {
    const auto r = static_cast<std::size_t>(2 * e);
    score.push_back(exp(p[r] * Number(x[0]) + p[r + 1] * Number(x[1])));
    best.emplace_back(-value(score.back()), e);
  }
  std::stable_sort(best.begin(), best.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
  Number sum = 0, y = 0;
  for (index i = 0; i < chosen; ++i) {
    const auto e = static_cast<std::size_t>(best[static_cast<std::size_t>(i)].second);
    const auto up = static_cast<std::size_t>(2 * experts) + 2 * e;
    const auto down = static_cast<std::size_t>(4 * experts) + e;
    sum = sum + score[e];
    y = y + score[e] * p[down] * tanh(p[up] * Number(x[0]) + p[up + 1] * Number(x[1]));
  }
  return y / sum;
}
msg::schema experts_schema(index n) {
  const axis experts{"experts", n}, hidden{"hidden", 2}, ffn{"ffn", 1};
  msg::schema s;
  s.weight("router", out(experts), in(hidden)).weight("up", each(experts), out(ffn), in(hidden));
  s.weight("down", each(experts), in(ffn)).logits(experts);
  return s;
}

} // namespace

TEST_CASE("one expert becomes many behind gates that sum to one", "[rules][experts]") {
  const msg::schema s = experts_schema(1);
  const msg::plan growth{s, {s.axis_at("experts").grow_to(4)}, msg::presets::upcycle()};
  CHECK(growth.contract()[0].gates_sum_to_one);
  CHECK(growth.keeps() == msg::strictness::rounding);
  const std::vector<double> old{0.3, 0.2, 0.7, -0.4, 1.1};
  std::vector<double> grown(20);
  msg::apply(growth, old, grown);
  CHECK(std::abs(grown[2] - grown[4]) > 1e-9); // router rows of their own
  for (const index chosen : {1, 2, 4}) {
    // a sum of four products by gates that sum to 1
    CHECK(std::abs(mixture(grown, 4, chosen) - mixture(old, 1, 1)) < 20 * std::numeric_limits<double>::epsilon());
  }
  CHECK(growth.approximate_moments().size() == 3);
}

TEST_CASE("experts that are doubled are chosen twice as many, and share gradients", "[rules][experts]") {
  const msg::schema s = experts_schema(3);
  const msg::plan growth{s, {s.axis_at("experts").grow_to(6)}, msg::expert_copies{}};
  CHECK(growth.contract()[0].chosen_factor == 2);
  const std::vector<double> old = testing::random_model(3).numbers<double>(s.size());
  std::vector<double> grown(static_cast<std::size_t>(growth.after().size())), expected(grown);
  msg::apply(growth, old, grown);
  const double tolerance = 100 * std::numeric_limits<double>::epsilon(); // sums of six products of size 1
  CHECK(std::abs(mixture(grown, 6, 4) - mixture(old, 3, 2)) < tolerance);
  CHECK(std::abs(mixture(grown, 6, 2) - mixture(old, 3, 2)) > 1e-3); // as many as before: another function
  const auto gradient = [](const std::vector<double>& numbers, index experts, index chosen) {
    std::vector<testing::dual> carried(numbers.begin(), numbers.end());
    std::vector<double> result;
    for (testing::dual& one : carried) {
      one.slope = 1;
      result.push_back(mixture(carried, experts, chosen).slope);
      one.slope = 0;
    }
    return result;
  };
  msg::apply(growth, gradient(old, 3, 2), expected, payload::moment1);
  CHECK(testing::distance(gradient(grown, 6, 4), expected) < tolerance);
  const msg::plan uneven{s, {s.axis_at("experts").grow_to(5)}, msg::expert_copies{}};
  CHECK_FALSE(uneven.strict());
}

TEST_CASE("a rotary head grows by pairs behind the old ones, where the model has a table of frequencies",
          "[rules][zero_block][rotary]") {
  const axis head_dim{"head_dim", 4};
  const auto schema = [&](msg::rotary_layout layout, msg::rotary_frequencies from) {
    msg::schema s;
    s.weight("query", out(head_dim)).weight("key", out(head_dim)).scored(head_dim).keys("key");
    return s.rotary(head_dim, layout, from);
  };
  const auto order = [&](msg::rotary_layout layout) {
    return msg::plan{schema(layout, msg::rotary_frequencies::listed), {head_dim.grow_to(8)}, msg::zero_block{}}
        .axis("head_dim")
        .old_of;
  };
  CHECK(order(msg::rotary_layout::half_split) == std::vector<index>{0, 1, f, f, 2, 3, f, f});
  CHECK(order(msg::rotary_layout::adjacent) == std::vector<index>{0, 1, 2, 3, f, f, f, f});
  CHECK(msg::diagnose(schema(msg::rotary_layout::half_split, msg::rotary_frequencies::computed), {head_dim.grow_to(8)},
                      msg::zero_block{})
            .at(0)
            .hint == "a wider head changes the rotary frequencies of all pairs; give the model a table of them "
                     "(rotary_frequencies::listed)");
  CHECK(msg::diagnose(schema(msg::rotary_layout::adjacent, msg::rotary_frequencies::listed), {head_dim.grow_to(7)},
                      msg::zero_block{})
            .at(0)
            .hint == "rotary channels come in pairs");
}

TEST_CASE("keys are found in a fused tensor by their part", "[rules][zero_block]") {
  const axis heads{"heads", 1}, head_dim{"head_dim", 1};
  const auto grown = [&](const msg::dimension& fused, index part) {
    msg::schema s;
    s.weight("qkv", fused).scored(head_dim).keys("qkv", part);
    const msg::plan growth{
        s, {head_dim.grow_to(4)}, msg::zero_block{.fresh = msg::fresh_values::all(init::constant(9))}};
    CHECK(growth.contract()[0].key_factor == 2);
    std::vector<double> result(12);
    msg::apply(growth["qkv"], std::vector<double>{1, 2, 3}, result);
    std::vector<double> moments(12);
    msg::apply(growth["qkv"], std::vector<double>{1, 2, 3}, moments, payload::moment2);
    CHECK(moments[4] == 0.5); // v / s^2
    return result;
  };
  const std::vector<double> expected{1, 9, 9, 9, 4, 0, 0, 0, 3, 9, 9, 9};
  CHECK(grown(out(3 * heads * head_dim), 1) == expected);
  CHECK(grown(out(heads * 3 * head_dim), 1) == expected);
  CHECK(grown(out(heads * head_dim | heads * head_dim | heads * head_dim), 1) == expected);
  CHECK(grown(out(2 * head_dim | heads * head_dim), 1) == expected);
}

TEST_CASE("a matrix momentum is padded with zeros, and tiled with division by the copies of what it writes",
          "[rules]") {
  STATIC_REQUIRE(payload::momentum == payload::moment1); // Muon's: what the grown model's own gradients do
  const axis rows{"rows", 2}, columns{"columns", 1};
  msg::schema s;
  s.weight("w", out(rows), in(columns)).bias("b", out(columns));
  std::vector<double> grown(8);
  msg::apply(msg::plan{s, {rows.grow_to(4), columns.grow_to(2)}, msg::duplicate{}}["w"], counted(2), grown,
             payload::momentum);
  CHECK(grown == std::vector<double>{0.5, 0.5, 1, 1, 0.5, 0.5, 1, 1});
  msg::apply(msg::plan{s, {rows.grow_to(4), columns.grow_to(2)}}["w"], counted(2), grown, payload::momentum);
  CHECK(grown == std::vector<double>{1, 0, 2, 0, 0, 0, 0, 0});
}

TEST_CASE("one growth after another is both at once, where fresh numbers do not depend on their place", "[rules]") {
  const auto [first, second] = GENERATE(table<std::string, std::string>(
      {{"ffn", "heads"}, {"hidden", "ffn"}, {"layers", "ffn"}, {"hidden", "layers"}, {"heads", "hidden"}}));
  const msg::fresh_values same = msg::fresh_values::all(init::constant(0.25));
  const msg::rule rule = GENERATE_COPY(as<msg::rule>{}, msg::mask{.fresh = same}, msg::presets::composable(same),
                                       msg::presets::net2net(), msg::presets::lemon(), msg::presets::staged());
  CAPTURE(first, second, rule.name());
  // Under a norm these two fill cells that are fresh on both sides otherwise than cells fresh on one.
  const bool by_sides = rule.name() == "composable" || rule.name() == "lemon";
  if (by_sides && (first == "hidden" || second == "hidden")) { return; }
  const msg::schema s =
      tiny_schema({.norm = rule.name() == "composable" ? msg::norm_kind::rms : msg::norm_kind::layer});
  const msg::request one = s.axis_at(first).grow_to(2 * s.axis_at(first).size);
  const msg::request other = s.axis_at(second).grow_to(2 * s.axis_at(second).size);
  const msg::plan step1{s, {one}, rule}, step2{step1.after(), {other}, rule}, both{s, {one, other}, rule};
  const std::vector<double> old = testing::random_model(9).numbers<double>(s.size());
  for (const payload what : {payload::value, payload::moment1, payload::moment2}) {
    std::vector<double> middle(static_cast<std::size_t>(step1.after().size()));
    std::vector<double> stepwise(static_cast<std::size_t>(both.after().size())), at_once(stepwise);
    msg::apply(step1, old, middle, what);
    msg::apply(step2, middle, stepwise, what);
    msg::apply(both, old, at_once, what);
    // two products of factors instead of one, and means of the same numbers in another order
    CHECK(testing::distance(stepwise, at_once) <= 16 * std::numeric_limits<double>::epsilon());
  }
}
