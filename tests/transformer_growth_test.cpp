// What a growth of any Transformer must keep (method.md, section 10): the function, old gradients, moments; and what
// must fail.

#include "support/catch.hpp"
#include "support/grown_transformer.hpp"

#include "transformer/gemm_probe.hpp"

#include <msg/rules/expert_copies.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

namespace {

using msg::index;
using reference::config;
using support::run;
using tiny::as;
using tiny::form;

constexpr config small{.vocab = 13, .positions = 7, .hidden = 10, .ffn = 18, .heads = 2, .head_dim = 6, .layers = 2};
// Contractions longer and shorter than a GEMM chunk of 256, before and after.
constexpr config wide{.vocab = 50, .positions = 20, .hidden = 72, .ffn = 300, .heads = 3, .head_dim = 24, .layers = 2};

tiny::batch batch_of(const config& c) { return tiny::batch(c, 3, c.positions > 7 ? 20 : 7); }

constexpr index born = support::trained_steps; // the growth's step

struct growth_case {
  std::string name;
  std::vector<std::pair<std::string, index>> sizes; // axis, factor in quarters of the old size
  msg::placement where = msg::placement::append();
  msg::mask rule = {};
};

msg::mask wild(msg::mask::start layers = msg::mask::start::copy) {
  return {.fresh = msg::fresh_values::all(msg::init::normal(30)), .layers = layers};
}

std::vector<growth_case> append_cases() {
  return {{"hidden doubled", {{"hidden", 8}}, msg::placement::append(), wild()},
          {"hidden by half", {{"hidden", 6}}, msg::placement::append(), wild()},
          {"ffn doubled", {{"ffn", 8}}, msg::placement::append(), wild()},
          {"ffn more than doubled", {{"ffn", 11}}, msg::placement::append(), wild()},
          {"heads doubled", {{"heads", 8}}, msg::placement::append(), wild()},
          {"vocab by half", {{"vocab", 6}}, msg::placement::append(), wild()},
          {"positions doubled", {{"positions", 8}}, msg::placement::append(), wild()},
          {"layers stacked", {{"layers", 8}}, msg::placement::append(), wild()},
          {"layers fresh", {{"layers", 6}}, msg::placement::append(), wild(msg::mask::start::fresh)},
          {"experts doubled", {{"experts", 8}}, msg::placement::append(), wild(msg::mask::start::fresh)},
          {"all at once",
           {{"hidden", 7}, {"ffn", 9}, {"heads", 8}, {"layers", 6}, {"vocab", 7}, {"positions", 8}, {"experts", 6}},
           msg::placement::append(),
           wild()}};
}
std::vector<growth_case> other_cases() {
  return {{"hidden in front", {{"hidden", 7}}, msg::placement::prepend(), wild()},
          {"ffn interleaved", {{"ffn", 8}}, msg::placement::interleave(), wild()},
          {"heads in front", {{"heads", 8}}, msg::placement::prepend(), wild()},
          {"layers interleaved", {{"layers", 8}}, msg::placement::interleave(), wild()},
          {"heads within their groups", {{"query heads", 8}}, msg::placement::append(), wild()},
          {"all interleaved",
           {{"hidden", 7}, {"ffn", 9}, {"heads", 8}, {"layers", 6}},
           msg::placement::interleave(),
           wild()}};
}

msg::plan plan_of(const config& sizes, const growth_case& c) {
  const msg::schema schema = reference::schema_of(sizes);
  std::vector<msg::request> requests;
  const auto ask = [&](std::string_view axis, index quarters) {
    const msg::axis* const known = schema.find_axis(axis); // rotary positions have no parameters
    if (known != nullptr) { requests.push_back(known->grow_to(known->size * quarters / 4, {.placement = c.where})); }
  };
  for (const auto& [axis, quarters] : c.sizes) {
    ask(axis == "query heads" ? "heads" : axis, quarters);
    if (axis == "heads") { ask("kv_heads", quarters); } // whole groups
  }
  return msg::plan{schema, requests, c.rule, {.seed = 3}};
}

// Logits pass at most 8 blocks of sums over at most a few hundred terms; each rounding is below epsilon relative to
// values of order 10. A reordered sum may differ by that much; what is not kept differs by more than 1e-3.
template <class T>
constexpr double rounding = std::is_same_v<T, double> ? 1e-12 : 4e-4;

template <class T>
bool bits_promised() {
  static const bool promised = reference::bits_probe().promised;
  return std::is_same_v<T, float> && promised;
}

template <class T>
void check_kept(form f, const config& gpt, const growth_case& c, bool bits) {
  const config sizes = as(f, gpt);
  CAPTURE(tiny::name_of(f), c.name, bits);
  const tiny::batch data = batch_of(sizes);
  reference::model_state<T> state = support::trained<T>(sizes, data);
  const support::result<T> before = run(state, data, born);
  const msg::plan plan = plan_of(sizes, c);
  REQUIRE(plan.keeps() == msg::strictness::exact);
  reference::grow(state, plan, born, msg::linear_ramp{10});
  const support::result<T> after = run(state, data, born);

  const double bound = bits ? 0 : rounding<T>;
  CHECK(std::abs(after.loss - before.loss) <= bound);
  double logits = 0;
  for (std::size_t i = 0; i < before.logits.size(); ++i) {
    logits = std::max(logits, std::abs(static_cast<double>(after.logits[i]) - static_cast<double>(before.logits[i])));
  }
  CHECK(logits <= bound);
  double old_gradients = 0;
  index awake = 0; // fresh elements with a gradient
  index old_elements = 0;
  support::for_each_element(plan, [&](std::size_t p, index element, index from) {
    const auto is = static_cast<double>(after.gradients.tensors[p].data[static_cast<std::size_t>(element)]);
    if (from < 0) {
      awake += is == 0 ? 0 : 1;
    } else {
      ++old_elements;
      const auto was = static_cast<double>(before.gradients.tensors[p].data[static_cast<std::size_t>(from)]);
      old_gradients = std::max(old_gradients, std::abs(is - was));
    }
  });
  CHECK(old_gradients <= bound);
  CHECK(awake == 0);
  CHECK(old_elements == plan.before().size());

  // One step without decay leaves every fresh element alone, and moves old ones.
  const reference::tensor_set<T> grown = state.values;
  support::update(state, after.gradients, born, msg::adamw{.weight_decay = 0});
  index moved = 0;
  support::for_each_element(plan, [&](std::size_t p, index element, index from) {
    const auto e = static_cast<std::size_t>(element);
    if (from < 0) { moved += state.values.tensors[p].data[e] == grown.tensors[p].data[e] ? 0 : 1; }
  });
  CHECK(moved == 0);
  CHECK(state.values.tensors[0].data != grown.tensors[0].data);
}

TEMPLATE_TEST_CASE("a growth by appending keeps logits, loss and old gradients, and leaves fresh entries alone",
                   "[growth][transformer]", double, float) {
  const form f = GENERATE(from_range(tiny::forms));
  for (const growth_case& c : append_cases()) {
    check_kept<TestType>(f, small, c, bits_promised<TestType>());
    check_kept<TestType>(f, wide, c, bits_promised<TestType>());
  }
}

TEMPLATE_TEST_CASE("a growth with any placement keeps logits, loss and old gradients", "[growth][transformer]", double,
                   float) {
  const form f = GENERATE(from_range(tiny::forms));
  for (const growth_case& c : other_cases()) { check_kept<TestType>(f, small, c, false); }
}

TEMPLATE_TEST_CASE("growths one after another, ramps overlapping, each keep the function of the model before them",
                   "[growth][transformer]", double, float) {
  using T = TestType;
  const form f = GENERATE(from_range(tiny::forms));
  CAPTURE(tiny::name_of(f));
  const config sizes = as(f, small);
  const tiny::batch data = batch_of(sizes);
  reference::model_state<T> state = support::trained<T>(sizes, data);
  index step = born;
  const msg::mask gentle{.fresh = msg::fresh_values::all(msg::init::normal(0.3))};
  const std::vector<std::pair<std::string, index>> growths{{"ffn", 23},   {"hidden", 13}, {"heads", 3}, {"ffn", 31},
                                                           {"layers", 3}, {"hidden", 14}, {"layers", 5}};
  for (const auto& [axis, size] : growths) {
    CAPTURE(axis, size, step);
    const support::result<T> before = run(state, data, step);
    const msg::schema schema = reference::schema_of(state.sizes);
    std::vector<msg::request> requests{schema.axis_at(axis).grow_to(axis == "heads" ? size * sizes.heads / 2 : size)};
    if (axis == "heads" && schema.find_axis("kv_heads") != nullptr) {
      requests.push_back(schema.axis_at("kv_heads").grow_to(size * kv_heads_of(sizes) / 2));
    }
    const msg::plan plan{schema, requests, gentle, {.seed = static_cast<std::uint64_t>(step)}};
    reference::grow(state, plan, step, msg::linear_ramp{12});
    const support::result<T> after = run(state, data, step);
    // A ramp under way scales by c, so the order of sums may change where hidden grows twice; bits hold otherwise.
    const double bound = bits_promised<T>() ? 0 : rounding<T>;
    CHECK(std::abs(after.loss - before.loss) <= bound);
    double logits = 0;
    for (std::size_t i = 0; i < before.logits.size(); ++i) {
      logits = std::max(logits, std::abs(static_cast<double>(after.logits[i]) - static_cast<double>(before.logits[i])));
    }
    CHECK(logits <= bound);
    for (int i = 0; i < 3; ++i, ++step) {
      support::update(state, run(state, data, step).gradients, step, msg::adamw{.weight_decay = 0});
    }
  }
  REQUIRE(state.growth.ramping(step));
}

TEST_CASE("fresh gradients grow like the product of the ramping masks on their path", "[growth][transformer]") {
  const form f = GENERATE(from_range(tiny::forms));
  CAPTURE(tiny::name_of(f));
  const config sizes = as(f, small);
  const tiny::batch data = batch_of(sizes);
  const reference::model_state<double> old = support::trained<double>(sizes, data);
  // Norm of the gradient of a block of one parameter where all the named axes are fresh, at mask value c everywhere.
  const auto norm_at = [&](const growth_case& c, const std::string& name, std::size_t least_axes, double value) {
    reference::model_state<double> state = old;
    const msg::plan plan = plan_of(sizes, c);
    reference::grow(state, plan, born, msg::linear_ramp{10000});
    // step born + 10000 c has the mask value c
    const support::result<double> at = run(state, data, born + static_cast<index>(std::lround(10000 * value)));
    const msg::parameter& p = plan.after().at(name);
    const std::vector<index> shape = p.shape();
    double squares = 0;
    const auto& gradient = at.gradients[name].data;
    for (index element = 0; element < p.size(); ++element) {
      index rest = element;
      std::size_t fresh = 0;
      for (std::size_t d = shape.size(); d-- > 0;) {
        const auto j = static_cast<std::size_t>(rest % shape[d]);
        rest /= shape[d];
        fresh += (plan[name].dims[d].flags[j] & msg::detail::newborn) != 0 ? 1 : 0;
      }
      if (fresh == least_axes) {
        squares += gradient[static_cast<std::size_t>(element)] * gradient[static_cast<std::size_t>(element)];
      }
    }
    return std::sqrt(squares);
  };
  struct expectation {
    growth_case growth;
    std::string parameter;
    std::size_t fresh_axes;
    double exponent;
  };
  const msg::mask gentle{}; // as small as old weights: c times fresh values must not rule the norms' statistics
  const auto append = msg::placement::append();
  const reference::part_names names = reference::names_of(sizes);
  const auto weight = [](const char* part) { return std::string(part) + ".weight"; };
  const std::vector<expectation> expected{
      {{"ffn", {{"ffn", 8}}, append, gentle}, weight(names.ffn_in[0]), 1, 1},
      {{"ffn", {{"ffn", 8}}, append, gentle}, weight(names.ffn_out), 1, 1},
      {{"heads", {{"heads", 8}}, append, gentle}, weight(names.qkv[0]), 1, 1},
      {{"heads", {{"heads", 8}}, append, gentle}, weight(names.attention_out), 1, 1},
      {{"hidden", {{"hidden", 8}}, append, gentle}, weight(names.words), 1, 1},
      {{"hidden", {{"hidden", 8}}, append, gentle}, weight(names.ffn_out), 1, 1},
      {{"layers", {{"layers", 8}}, append, gentle}, weight(names.ffn_in[0]), 1, 1},
      {{"two", {{"hidden", 8}, {"ffn", 8}}, append, gentle}, weight(names.ffn_in[0]), 2, 2},
      {{"two", {{"hidden", 8}, {"ffn", 8}}, append, gentle}, weight(names.ffn_out), 2, 2},
      {{"three", {{"hidden", 8}, {"ffn", 8}, {"layers", 8}}, append, gentle}, weight(names.ffn_out), 3, 3},
      {{"three", {{"hidden", 8}, {"heads", 8}, {"layers", 8}}, append, gentle}, weight(names.attention_out), 3, 3}};
  for (const expectation& e : expected) {
    CAPTURE(e.growth.name, e.parameter, e.fresh_axes);
    // Behind a post-norm the next order in c is some 60 times larger: fresh units reach each other past the weights.
    const double least = f == form::bert ? 1e-4 : 1e-3;
    const double a = norm_at(e.growth, e.parameter, e.fresh_axes, least);
    const double b = norm_at(e.growth, e.parameter, e.fresh_axes, 10 * least);
    const double c = norm_at(e.growth, e.parameter, e.fresh_axes, 100 * least);
    REQUIRE(a > 0);
    // The next order in c bends the line by a relative O(c): 10 c of it in the ratio is far more than is seen.
    CHECK(std::abs(std::log10(b / a) - e.exponent) < 0.1);
    CHECK(std::abs(std::log10(c / b) - e.exponent) < 0.5);
  }
}

TEMPLATE_TEST_CASE("at mask value 1 the masked path is the plain path", "[growth][transformer]", double, float) {
  using T = TestType;
  const form f = GENERATE(from_range(tiny::forms));
  CAPTURE(tiny::name_of(f));
  const config sizes = as(f, small);
  const tiny::batch data = batch_of(sizes);
  reference::model_state<T> state = support::trained<T>(sizes, data);
  const growth_case all = append_cases().back();
  growth_case gentle = all;
  gentle.rule = msg::mask{};
  reference::grow(state, plan_of(sizes, gentle), born, msg::linear_ramp{10});
  REQUIRE(state.growth.ramping(born + 10));
  REQUIRE_FALSE(state.growth.ramping(born + 11));
  const support::result<T> masked = run(state, data, born + 10);
  const support::result<T> plain = run(state, data, born + 11);
  CHECK(masked.loss == plain.loss);
  CHECK(masked.logits == plain.logits);
  for (std::size_t p = 0; p < plain.gradients.tensors.size(); ++p) {
    CAPTURE(plain.gradients.tensors[p].name);
    CHECK(masked.gradients.tensors[p].data == plain.gradients.tensors[p].data);
  }
}

TEMPLATE_TEST_CASE("a growth copies the moments of old entries and starts fresh ones at zero", "[growth][transformer]",
                   double, float) {
  using T = TestType;
  const form f = GENERATE(from_range(tiny::forms));
  const config sizes = as(f, small);
  const tiny::batch data = batch_of(sizes);
  for (const growth_case& c : append_cases()) {
    CAPTURE(tiny::name_of(f), c.name);
    reference::model_state<T> state = support::trained<T>(sizes, data);
    const reference::model_state<T> old = state;
    const msg::plan plan = plan_of(sizes, c);
    reference::grow(state, plan, born, msg::linear_ramp{10});
    index wrong = 0;
    support::for_each_element(plan, [&](std::size_t p, index element, index from) {
      const auto e = static_cast<std::size_t>(element);
      const auto o = static_cast<std::size_t>(from);
      const T m = from < 0 ? T(0) : old.moment1.tensors[p].data[o];
      const T v = from < 0 ? T(0) : old.moment2.tensors[p].data[o];
      wrong += state.moment1.tensors[p].data[e] == m && state.moment2.tensors[p].data[e] == v ? 0 : 1;
      if (from >= 0) { wrong += state.values.tensors[p].data[e] == old.values.tensors[p].data[o] ? 0 : 1; }
    });
    CHECK(wrong == 0);
  }
}

TEST_CASE("copies of experts behind gates that sum to 1 keep the function, of a dense model too",
          "[growth][transformer][experts]") {
  const index before = GENERATE(1, 2);
  const index after = GENERATE(2, 4, 8);
  CAPTURE(before, after);
  config sizes = as(form::mixture, small);
  sizes.experts = before;
  sizes.chosen = before;
  const tiny::batch data = batch_of(sizes);
  reference::model_state<double> state = support::trained<double>(sizes, data);
  const support::result<double> was = run(state, data, born);
  const msg::schema schema = reference::schema_of(sizes);
  const msg::plan plan{schema, {schema.axis_at("experts").grow_to(after)}, msg::expert_copies{}, {.seed = 3}};
  reference::grow(state, plan, born, msg::linear_ramp{10});
  if (before == 1) { state.sizes.chosen = 2; } // whichever are chosen: all are equal
  CHECK(state.sizes.chosen == (before == 1 ? 2 : after));
  const support::result<double> is = run(state, data, born);
  CHECK(std::abs(is.loss - was.loss) <= rounding<double>);
  if (before == 2 && after > 2) { // negative control: copies that are not chosen together
    state.sizes.chosen = 2;
    CHECK(std::abs(run(state, data, born).loss - was.loss) > 1e-4);
  }
}

TEST_CASE("a stage makes experts of the one FFN, keeps the function, and its router begins without a past",
          "[growth][transformer][experts]") {
  const form f = GENERATE(form::llama, form::tied_llama);
  const index experts = GENERATE(2, 5);
  const index chosen = GENERATE(1, 2);
  CAPTURE(tiny::name_of(f), experts, chosen);
  config sizes = as(f, small);
  sizes.chosen = chosen;
  const tiny::batch data = batch_of(sizes);
  reference::model_state<double> state = support::trained<double>(sizes, data);
  const reference::model_state<double> dense = state;
  const support::result<double> was = run(state, data, born);
  const msg::stage stage{
      .grow = {{"experts", experts}, {"ffn", small.ffn + 3}}, .rule = "mask", .rules = {{"experts", "upcycle"}}};
  CHECK(reference::after_stage(sizes, stage).experts == experts);
  reference::grow(state, reference::plan_of_stage(sizes, stage, 5), born, msg::linear_ramp{10});
  CHECK(state.sizes == reference::after_stage(sizes, stage));
  CHECK(state.sizes.chosen == chosen);
  CHECK(std::abs(run(state, data, born).loss - was.loss) <= rounding<double>);

  // every expert is the FFN that was, in its old units
  const reference::tensor<double>& old = dense.values["model.layers.*.mlp.up_proj.weight"];
  const reference::tensor<double>& now = state.values["model.layers.*.block_sparse_moe.experts.*.w3.weight"];
  const index rows = old.shape[1], more = now.shape[2], width = old.shape[2];
  index wrong = 0;
  for (index slice = 0; slice < now.shape[0] * experts; ++slice) {
    for (index i = 0; i < rows * width; ++i) {
      const auto is = static_cast<std::size_t>(slice * more * width + i);
      const auto from = static_cast<std::size_t>(slice / experts * rows * width + i);
      wrong += now.data[is] == old.data[from] ? 0 : 1;
    }
  }
  CHECK(wrong == 0);

  const msg::schema schema = reference::schema_of(state.sizes);
  const std::string router = "model.layers.*.block_sparse_moe.gate.weight";
  const auto& momentum = state.moment1[router].data;
  CHECK(std::count(momentum.begin(), momentum.end(), 0.0) == static_cast<std::ptrdiff_t>(momentum.size()));
  const auto births = [&](const std::string& name, std::size_t dim) {
    return state.ages(schema.at(name), born + 3).birth[dim];
  };
  CHECK(births(router, 1) == std::vector<index>(static_cast<std::size_t>(experts), born));
  std::vector<index> of_experts(static_cast<std::size_t>(experts), born);
  of_experts[0] = 0; // the first is the old one, moments and all
  CHECK(births("model.layers.*.block_sparse_moe.experts.*.w1.weight", 1) == of_experts);
}

TEST_CASE("one expert is the one FFN there is, seen from before a growth and from after it", "[growth][experts]") {
  config end = as(form::mixture, small);
  end.experts = 8;
  end.chosen = 4;
  config dense = end;
  dense.experts = 0;
  CHECK(reference::resized(end, {{"experts", 1}}) == dense);
  CHECK(reference::resized(dense, {{"experts", 1}}) == dense);
  CHECK(reference::resized(dense, {{"experts", 8}}) == end);
  CHECK(reference::resized(end, {{"experts", 3}}).chosen == 3);
  CHECK(reference::size_on(dense, "experts") == 1);
  const config single = reference::mixture_of_one(dense); // what a plan sees
  CHECK(reference::resized(single, {{"hidden", 20}}).experts == 1);
}

TEST_CASE("a router that would have nothing to choose from is refused", "[growth][transformer][experts]") {
  const config sizes = as(form::llama, small);
  const auto refusal = [&](const config& c, const char* rule) {
    try {
      (void)reference::after_stage(c, {.grow = {{"experts", 4}}, .rule = rule});
    } catch (const msg::error& failure) { return std::string(failure.what()); }
    return std::string();
  };
  CHECK(refusal(sizes, "upcycle").empty());
  CHECK(refusal(sizes, "mask").find("copies of the one FFN") != std::string::npos);
  CHECK(refusal(sizes, "stack").find("experts") != std::string::npos);
  CHECK(refusal(as(form::gpt2, small), "upcycle").find("experts") != std::string::npos);
}

TEST_CASE("with ages the first updates of fresh entries stay as small as any, with a stale counter they do not",
          "[growth][transformer]") {
  const tiny::batch data = batch_of(small);
  const growth_case all{"all", {{"hidden", 8}, {"ffn", 8}, {"heads", 8}}, msg::placement::append(), msg::mask{}};
  const msg::plan plan = plan_of(small, all);
  // Root mean square of the largest updates of fresh entries over lr, in the first 15 steps of the ramp.
  const auto largest = [&](bool stale) {
    reference::model_state<double> state = support::trained<double>(small, data);
    for (index step = born; step < 400; ++step) { // an old run: stale counters are far from 1
      support::update(state, run(state, data, step).gradients, step, msg::adamw{.beta2 = 0.999, .weight_decay = 0});
    }
    reference::grow(state, plan, 400, msg::linear_ramp{20});
    double greatest = 0;
    for (index step = 400; step < 415; ++step) {
      const reference::tensor_set<double> before = state.values;
      support::update(state, run(state, data, step).gradients, step, msg::adamw{.beta2 = 0.999, .weight_decay = 0},
                      stale);
      double squares = 0;
      double count = 0;
      support::for_each_element(plan, [&](std::size_t p, index element, index from) {
        const auto e = static_cast<std::size_t>(element);
        if (from >= 0) { return; }
        const double moved = (state.values.tensors[p].data[e] - before.tensors[p].data[e]) / 1e-2;
        squares += moved * moved;
        count += 1;
      });
      greatest = std::max(greatest, std::sqrt(squares / count));
    }
    return greatest;
  };
  const double aged = largest(false);
  const double stale = largest(true);
  CAPTURE(aged, stale);
  CHECK(aged <= std::sqrt(3.0) * 1.5); // gradients grow like c or c^2: peaks of sqrt(3) and sqrt(5), few at once
  CHECK(stale > 2 * aged);
}

TEST_CASE("a plain norm in place of the masked one changes the function", "[growth][transformer]") {
  const form f = GENERATE(from_range(tiny::forms));
  CAPTURE(tiny::name_of(f));
  const config sizes = as(f, small);
  const tiny::batch data = batch_of(sizes);
  reference::model_state<double> state = support::trained<double>(sizes, data);
  const support::result<double> before = run(state, data, born);
  reference::grow(state, plan_of(sizes, append_cases().front()), born, msg::linear_ramp{10});
  CHECK(std::abs(tiny::run(state.sizes, data, state.values).loss - before.loss) > 1e-3);
}

TEST_CASE("a tensor that a growth forgets to copy changes the function", "[growth][transformer]") {
  const form f = GENERATE(from_range(tiny::forms));
  const config sizes = as(f, small);
  const tiny::batch data = batch_of(sizes);
  const reference::model_state<double> old = support::trained<double>(sizes, data);
  const support::result<double> before = run(old, data, born);
  for (const msg::schema schema = reference::schema_of(sizes); const msg::parameter& p : schema.parameters()) {
    if (p.name.find("key") != std::string::npos && p.what == msg::kind::bias) { continue; } // softmax does not see it
    CAPTURE(tiny::name_of(f), p.name);
    reference::model_state<double> state = old;
    reference::grow(state, plan_of(sizes, append_cases().front()), born, msg::linear_ramp{10});
    for (double& x : state.values[p.name].data) { x = 0; }
    CHECK(std::abs(run(state, data, born).loss - before.loss) > 1e-6);
  }
}

} // namespace
