#include "support/catch.hpp"
#include "support/oracle_gpt.hpp"
#include "support/tiny_transformer.hpp"
#include "transformer/cpu_backend.hpp"
#include "transformer/model.hpp"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <functional>
#include <limits>
#include <string>
#include <vector>

namespace {

using msg::index;
using reference::config;
using reference::transformer;
using tiny::form;
using tiny::outcome;
using tiny::run;

constexpr index batch = 2;
constexpr index tokens = 7;

// no size a multiple of another
const config small{.vocab = 11, .positions = 8, .hidden = 10, .ffn = 13, .heads = 3, .head_dim = 5, .layers = 3};
const config before_growth{.vocab = 11, .positions = 8, .hidden = 7, .ffn = 9, .heads = 2, .head_dim = 5, .layers = 2};

oracle::masks for_oracle(const tiny::growth_masks& m) {
  return {m.hidden.doubles(), m.ffn.doubles(), m.heads.doubles(), m.layers.doubles()};
}

double largest_difference(std::span<const double> found, const oracle::matrix& expected) {
  double largest = 0;
  std::size_t i = 0;
  for (const auto& row : expected) {
    for (const double x : row) { largest = std::max(largest, std::fabs(found[i++] - x)); }
  }
  REQUIRE(i == found.size());
  return largest;
}

template <class T>
void require_equal(const outcome<T>& a, const outcome<T>& b) {
  CHECK(a.loss == b.loss);
  CHECK((a.logits == b.logits));
  CHECK((a.sentence_logits == b.sentence_logits));
  for (std::size_t p = 0; p < a.gradients.tensors.size(); ++p) {
    CAPTURE(a.gradients.tensors[p].name);
    CHECK((a.gradients.tensors[p].data == b.gradients.tensors[p].data));
  }
}

} // namespace

TEST_CASE("loss and logits are those of the plain oracle, without masks and with every mask", "[model]") {
  const std::uint64_t seed = 5;
  const auto parameters = tiny::random_parameters<double>(small, seed);
  const auto inputs = tiny::random_tokens(small, batch * tokens, 1);
  auto targets = tiny::random_tokens(small, batch * tokens, 2);
  targets[3] = -1; // padding does not count
  transformer<double> model(small, batch, tokens);
  const bool masked = GENERATE(false, true);
  const float c = masked ? GENERATE(0.0F, 0.3F, 1.0F) : 1.0F;
  CAPTURE(masked, c);
  const auto masks = masked ? tiny::growth_masks(before_growth, small, c) : tiny::growth_masks();
  const double loss = model.forward(parameters, {inputs, targets}, masks.view());
  const auto expected = oracle::forward(small, parameters, inputs, targets, tokens, for_oracle(masks));
  // about 1e3 roundings of 1e-16 on numbers of order 1 to 10
  CHECK(std::fabs(loss - expected.loss) <= 1e-12);
  CHECK(largest_difference(model.logits(), expected.logits) <= 1e-12);
}

TEST_CASE("the oracle agrees across a block of queries and in long sequences", "[model]") {
  const msg::index length = GENERATE(1, 63, 64, 65, 130);
  CAPTURE(length);
  const config c{.vocab = 9, .positions = 130, .hidden = 6, .ffn = 8, .heads = 2, .head_dim = 3, .layers = 2};
  const auto parameters = tiny::random_parameters<double>(c, 6);
  const auto inputs = tiny::random_tokens(c, 2 * length, 1);
  const auto targets = tiny::random_tokens(c, 2 * length, 2);
  transformer<double> model(c, 2, length);
  const double loss = model.forward(parameters, {inputs, targets});
  const auto expected = oracle::forward(c, parameters, inputs, targets, length);
  CHECK(std::fabs(loss - expected.loss) <= 1e-12);
  CHECK(largest_difference(model.logits(), expected.logits) <= 1e-12);
}

TEST_CASE("float differs from the oracle by rounding alone", "[model]") {
  const auto parameters = tiny::random_parameters<float>(small, 5, 0.1);
  auto as_double = reference::make_parameters<double>(small);
  for (std::size_t p = 0; p < as_double.tensors.size(); ++p) {
    std::copy(parameters.tensors[p].data.begin(), parameters.tensors[p].data.end(), as_double.tensors[p].data.begin());
  }
  const auto inputs = tiny::random_tokens(small, batch * tokens, 1);
  const auto targets = tiny::random_tokens(small, batch * tokens, 2);
  transformer<float> model(small, batch, tokens);
  const double loss = model.forward(parameters, {inputs, targets});
  const double expected = oracle::forward(small, as_double, inputs, targets, tokens).loss;
  // some 100 roundings deep, each 6e-8 of numbers of order 1
  CHECK(std::fabs(loss - expected) <= 100 * 6e-8);
}

TEMPLATE_TEST_CASE("masks at 1 change no bit of loss, logits and gradients", "[model]", float, double) {
  const form f = GENERATE(from_range(tiny::forms));
  const bool released = GENERATE(false, true);
  CAPTURE(tiny::name_of(f), released);
  const config c = tiny::as(f, small);
  const tiny::batch data(c, batch, tokens);
  const auto parameters = tiny::random_parameters<TestType>(c, 7);
  const auto plain = run<TestType>(c, data, parameters);
  config from = before_growth;
  from.vocab = 9;
  tiny::growth_masks ones(tiny::as(f, from), c, 1.0F);
  ones.released = released;
  require_equal(run<TestType>(c, data, parameters, ones.view()), plain);
}

TEMPLATE_TEST_CASE("results do not depend on the number of threads", "[model]", float, double) {
  const form f = GENERATE(from_range(tiny::forms));
  CAPTURE(tiny::name_of(f));
  const config c =
      tiny::as(f, {.vocab = 37, .positions = 96, .hidden = 40, .ffn = 90, .heads = 3, .head_dim = 12, .layers = 2});
  const config from = tiny::as(f, {.vocab = 37, .hidden = 30, .ffn = 70, .heads = 2, .head_dim = 12, .layers = 1});
  const tiny::batch data(c, 6, 96); // 576 rows: several blocks
  const auto parameters = tiny::random_parameters<TestType>(c, 8, 0.1);
  const tiny::growth_masks masks(from, c, 0.4F);
  reference::set_threads(1);
  const auto one = run<TestType>(c, data, parameters, masks.view());
  for (const int threads : {2, 5}) {
    reference::set_threads(threads);
    require_equal(run<TestType>(c, data, parameters, masks.view()), one);
  }
  reference::set_threads(0);
}

TEMPLATE_TEST_CASE("running the same step twice gives the same bits", "[model]", float, double) {
  const form f = GENERATE(from_range(tiny::forms));
  CAPTURE(tiny::name_of(f));
  const config c = tiny::as(f, small);
  const auto parameters = tiny::random_parameters<TestType>(c, 9);
  transformer<TestType> model(c, batch, tokens);
  const tiny::batch data(c, batch, tokens);
  tiny::batch other(c, batch, tokens);
  std::reverse(other.tokens.begin(), other.tokens.end());
  std::fill(other.targets.begin(), other.targets.end(), 3); // more rows for BERT's head
  const auto first = run(model, parameters, data.input());
  const tiny::growth_masks masks(tiny::as(f, before_growth), c, 0.0F);
  run(model, parameters, other.input(), masks.view()); // leaves other activations behind, and skips a layer
  require_equal(run(model, parameters, data.input()), first);
}

TEST_CASE("what stands in the padding changes no bit", "[model][padding]") {
  const form f = GENERATE(from_range(tiny::forms));
  CAPTURE(tiny::name_of(f));
  const config c = tiny::as(f, small);
  const auto parameters = tiny::random_parameters<float>(c, 17);
  tiny::batch data(c, 3, tokens);
  data.lengths = {7, 4, 1};
  for (std::size_t r = 0; r < data.targets.size(); ++r) {
    if (static_cast<std::int32_t>(r % 7) >= data.lengths[r / 7]) { data.targets[r] = -1; }
  }
  const auto before = run<float>(c, data, parameters);
  for (std::size_t r = 0; r < data.tokens.size(); ++r) {
    if (static_cast<std::int32_t>(r % 7) >= data.lengths[r / 7]) { data.tokens[r] = (data.tokens[r] + 5) % 11; }
  }
  const auto after = run<float>(c, data, parameters);
  CHECK(after.loss == before.loss);
  CHECK((after.sentence_logits == before.sentence_logits));
  for (std::size_t p = 0; p < after.gradients.tensors.size(); ++p) {
    CAPTURE(after.gradients.tensors[p].name);
    CHECK((after.gradients.tensors[p].data == before.gradients.tensors[p].data));
  }
}

TEST_CASE("a sequence without padding behind it gives the logits of the same sequence with padding",
          "[model][padding]") {
  const form f = GENERATE(from_range(tiny::forms));
  CAPTURE(tiny::name_of(f));
  const config c = tiny::as(f, small);
  const auto parameters = tiny::random_parameters<double>(c, 18);
  const auto text = tiny::random_tokens(c, tokens, 1);
  const std::vector<std::int32_t> length{5};
  transformer<double> padded(c, 1, tokens);
  transformer<double> alone(c, 1, 5);
  padded.forward(parameters, {.tokens = text, .lengths = length});
  alone.forward(parameters, {.tokens = std::span(text).first(5)});
  for (std::size_t i = 0; i < alone.logits().size(); ++i) {
    REQUIRE(std::fabs(padded.logits()[i] - alone.logits()[i]) <= 1e-12); // some hundred roundings, numbers below 10
  }
  CHECK(padded.sentence_logits().size() == alone.sentence_logits().size());
}

TEST_CASE("gradients add up, and scale", "[model]") {
  const auto parameters = tiny::random_parameters<double>(small, 10);
  transformer<double> model(small, batch, tokens);
  const auto inputs = tiny::random_tokens(small, model.rows(), 1);
  auto once = parameters.like();
  model.forward(parameters, {inputs, inputs});
  model.backward(parameters, once);
  auto quarters = parameters.like();
  for (int i = 0; i < 4; ++i) {
    model.forward(parameters, {inputs, inputs});
    model.backward(parameters, quarters, 0.25);
  }
  for (std::size_t p = 0; p < once.tensors.size(); ++p) {
    CAPTURE(once.tensors[p].name);
    double largest = 0;
    double off = 0;
    for (std::size_t i = 0; i < once.tensors[p].data.size(); ++i) {
      largest = std::max(largest, std::fabs(once.tensors[p].data[i]));
      off = std::max(off, std::fabs(once.tensors[p].data[i] - quarters.tensors[p].data[i]));
    }
    CHECK(off <= 1e-15 * 100 * largest); // sums of some hundred terms, in another order
  }
}

TEST_CASE("a target below 0 counts for nothing, in the loss and in the gradient", "[model]") {
  const auto parameters = tiny::random_parameters<double>(small, 11);
  const auto inputs = tiny::random_tokens(small, 2 * tokens, 1);
  auto padded = tiny::random_tokens(small, 2 * tokens, 2);
  std::fill(padded.begin() + tokens, padded.end(), -1); // the second sequence is padding
  const std::vector<std::int32_t> first_inputs(inputs.begin(), inputs.begin() + tokens);
  const std::vector<std::int32_t> first_targets(padded.begin(), padded.begin() + tokens);
  transformer<double> two(small, 2, tokens);
  transformer<double> one(small, 1, tokens);
  CHECK(std::fabs(two.forward(parameters, {inputs, padded}) - one.forward(parameters, {first_inputs, first_targets})) <=
        1e-14);
  auto of_two = parameters.like();
  auto of_one = parameters.like();
  two.backward(parameters, of_two);
  one.backward(parameters, of_one);
  for (std::size_t p = 0; p < of_one.tensors.size(); ++p) {
    CAPTURE(of_one.tensors[p].name);
    double off = 0;
    for (std::size_t i = 0; i < of_one.tensors[p].data.size(); ++i) {
      off = std::max(off, std::fabs(of_one.tensors[p].data[i] - of_two.tensors[p].data[i]));
    }
    CHECK(off <= 1e-13);
  }
  std::fill(padded.begin(), padded.end(), -1);
  CHECK(two.forward(parameters, {inputs, padded}) == 0);
  two.backward(parameters, of_two = parameters.like());
  for (const auto& t : of_two) {
    CHECK(std::all_of(t.data.begin(), t.data.end(), [](double g) { return g == 0; }));
  }
}

TEST_CASE("a prediction depends on no later token, but in BERT", "[model]") {
  const form f = GENERATE(from_range(tiny::forms));
  CAPTURE(tiny::name_of(f));
  const config c = tiny::as(f, small);
  const auto parameters = tiny::random_parameters<double>(c, 12);
  auto inputs = tiny::random_tokens(c, tokens, 1);
  transformer<double> model(c, 1, tokens);
  model.forward(parameters, {inputs});
  const std::vector<double> before(model.logits().begin(), model.logits().end());
  inputs[4] = (inputs[4] + 1) % 11;
  model.forward(parameters, {inputs});
  double earlier = 0;
  double later = 0;
  for (std::size_t i = 0; i < before.size(); ++i) {
    double& largest = i < static_cast<std::size_t>(4 * c.vocab) ? earlier : later;
    largest = std::max(largest, std::fabs(model.logits()[i] - before[i]));
  }
  // rounding alone: a token that chooses another expert changes how many rows Eigen multiplies together
  CHECK((earlier <= 1e-12) == (f != form::bert));
  CHECK(later > 1e-6);
}

TEST_CASE("rotary positions know distances alone, and directions", "[model][rotary]") {
  // One query and one key at places (a, b): the score depends on b - a.
  const config c = tiny::as(
      form::tied_llama, {.vocab = 5, .positions = 9, .hidden = 4, .ffn = 3, .heads = 1, .head_dim = 4, .layers = 1});
  const auto score = [&](msg::index a, msg::index b) {
    std::vector<double> rows{0.3, -1.1, 0.7, 0.2, 0.9, 0.4, -0.6, 1.3};
    std::vector<double> cosines, sines;
    for (msg::index t = 0; t < c.positions; ++t) {
      for (const double frequency : {1.0, 1 / std::sqrt(c.rope_theta)}) {
        cosines.push_back(std::cos(static_cast<double>(t) * frequency));
        sines.push_back(std::sin(static_cast<double>(t) * frequency));
      }
    }
    const std::vector<std::int32_t> places{static_cast<std::int32_t>(a), static_cast<std::int32_t>(b)};
    const reference::rotary_row<double> turn{rows.data(), cosines.data(), sines.data(), places.data(), 1, 4, 4};
    turn(msg::serial_team{}, 0);
    turn(msg::serial_team{}, 1);
    double sum = 0;
    for (std::size_t j = 0; j < 4; ++j) { sum += rows[j] * rows[4 + j]; }
    return sum;
  };
  CHECK(score(2, 5) == Approx(score(0, 3)).epsilon(1e-14));
  CHECK(std::fabs(score(2, 5) - score(5, 2)) > 1e-3);
}

namespace {

/// NaN in every element of the grown model that a predicate picks: of parameters and positions of a dimension that no
/// old unit went to. Loss and logits must be those of finite values there.
void check_nothing_leaks(form f, const config& smaller,
                         const std::function<bool(const msg::parameter&, msg::role)>& takes) {
  const config from = tiny::as(f, smaller);
  const config to = tiny::as(f, small);
  const tiny::batch data(from, batch, tokens);
  const tiny::growth_masks masks(from, to, 0.0F);
  auto parameters = tiny::grown(from, to, tiny::random_parameters<double>(from, 13), 3);
  transformer<double> model(to, batch, tokens);
  const double finite = model.forward(parameters, data.input(), masks.view());
  const std::vector<double> logits(model.logits().begin(), model.logits().end());
  const msg::schema before = reference::schema_of(from);
  const msg::schema after = reference::schema_of(to);
  msg::index poisoned = 0;
  for (std::size_t p = 0; p < after.parameters().size(); ++p) {
    const msg::parameter& grown = after.parameters()[p];
    msg::index inner = grown.size();
    for (std::size_t d = 0; d < grown.dims.size(); ++d) {
      const auto extent = static_cast<std::size_t>(grown.dims[d].size());
      inner /= grown.dims[d].size();
      std::vector<bool> fresh(extent, true);
      for (const msg::index old : tiny::new_positions(before.parameters()[p].dims[d], grown.dims[d], {})) {
        fresh[static_cast<std::size_t>(old)] = false;
      }
      if (!takes(grown, grown.dims[d].what)) { continue; }
      auto& values = parameters.tensors[p].data;
      for (std::size_t i = 0; i < values.size(); ++i) {
        if (!fresh[i / static_cast<std::size_t>(inner) % extent]) { continue; }
        values[i] = std::numeric_limits<double>::quiet_NaN();
        ++poisoned;
      }
    }
  }
  REQUIRE(poisoned > 0);
  CHECK(model.forward(parameters, data.input(), masks.view()) == finite);
  CHECK(std::equal(logits.begin(), logits.end(), model.logits().begin()));
}

} // namespace

TEST_CASE("NaN in what writes silenced units, heads and experts, and in skipped layers, does not reach loss and logits",
          "[model]") {
  const form f = GENERATE(from_range(tiny::forms));
  CAPTURE(tiny::name_of(f));
  config from = small;
  from.ffn = before_growth.ffn;
  from.heads = before_growth.heads;
  from.layers = before_growth.layers;
  from.experts = 2;
  check_nothing_leaks(f, from, [](const msg::parameter&, msg::role what) { return what != msg::role::in; });
}

TEST_CASE("NaN in what only writes silenced hidden units does not reach loss and logits", "[model]") {
  const form f = GENERATE(from_range(tiny::forms));
  CAPTURE(tiny::name_of(f));
  config from = small;
  from.hidden = before_growth.hidden;
  const config to = tiny::as(f, small);
  const std::string words = std::string(reference::names_of(to).words) + ".weight";
  const std::string last = reference::names_of(to).final_norm; // its gain and bias are read and written at once
  check_nothing_leaks(f, from, [&](const msg::parameter& p, msg::role what) {
    return p.name.starts_with(last) || (what == msg::role::out && !(to.tied && p.name == words));
  });
}

TEST_CASE("NaN in what belongs to hidden tokens does not reach loss and logits", "[model]") {
  const form f = GENERATE(from_range(tiny::forms));
  CAPTURE(tiny::name_of(f));
  config from = small;
  from.vocab = 8;
  check_nothing_leaks(f, from, [](const msg::parameter&, msg::role) { return true; });
}
