// Dropout: how many units are left out, which, where, and that nothing else of a model notices.
#include "support/catch.hpp"
#include "support/oracle_gpt.hpp"
#include "support/tiny_transformer.hpp"
#include "transformer/dropout.hpp"
#include "transformer/parallel.hpp"

#include <msg/exec/serial.hpp>

#include <cmath>
#include <cstddef>
#include <limits>
#include <vector>

namespace {

using reference::config;
using reference::dropout;
using reference::dropout_place;
using reference::dropped_units;
using tiny::form;

constexpr config small{.vocab = 11, .positions = 9, .hidden = 10, .ffn = 13, .heads = 2, .head_dim = 6, .layers = 2};

std::vector<double> factors(const dropped_units& units, msg::index row, msg::index width) {
  std::vector<double> ones(static_cast<std::size_t>(width), 1.0);
  reference::drop_units(msg::serial_team{}, units, row, ones.data(), ones.data(), width);
  return ones;
}

template <class T>
tiny::outcome<T> run_dropping(const config& c, const tiny::batch& data, const reference::tensor_set<T>& parameters,
                              const dropout& drop) {
  reference::transformer<T> model(c, data.sequences, data.length);
  reference::model_input input = data.input();
  input.drop = drop;
  return tiny::run(model, parameters, input);
}

template <class T>
bool same_bits(const tiny::outcome<T>& a, const tiny::outcome<T>& b) {
  bool same = a.loss == b.loss && a.logits == b.logits && a.sentence_logits == b.sentence_logits;
  for (std::size_t p = 0; p < a.gradients.tensors.size(); ++p) {
    same = same && a.gradients.tensors[p].data == b.gradients.tensors[p].data;
  }
  return same;
}

} // namespace

TEST_CASE("the share of units left out is the rate, and what is left keeps the mean and has the variance it should",
          "[dropout]") {
  const double rate = GENERATE(0.001, 0.1, 0.5, 0.9);
  CAPTURE(rate);
  constexpr msg::index rows = 400, width = 501;
  const dropped_units units({.rate = rate, .seed = 3, .step = 5}, dropout_place::after_ffn, 1);
  double kept = 0, sum = 0, squares = 0;
  bool two_values = true;
  for (msg::index r = 0; r < rows; ++r) {
    for (const double f : factors(units, r, width)) {
      two_values = two_values && (f == 0 || f == 1 / (1 - rate));
      kept += f == 0 ? 0 : 1;
      sum += f;
      squares += (f - 1) * (f - 1);
    }
  }
  CHECK(two_values);
  constexpr double n = rows * width;
  // binomial: 5 standard deviations are passed once in two million; the rate is rounded to 2^-32
  CHECK(std::fabs(kept - n * (1 - rate)) <= 5 * std::sqrt(n * rate * (1 - rate)));
  CHECK(std::fabs(sum / n - 1) <= 5 * std::sqrt(rate / (1 - rate) / n)); // variance of the factor: rate / (1 - rate)
  // (f - 1)^2 is 1 with probability rate, else (rate / (1 - rate))^2: their spread is |1 - that| sqrt(rate (1 - rate))
  const double other = rate / (1 - rate) * rate / (1 - rate);
  CHECK(std::fabs(squares / n - rate / (1 - rate)) <=
        5 * std::fabs(1 - other) * std::sqrt(rate * (1 - rate) / n) + n * 1e-16);
}

TEST_CASE("steps, micro-batches, layers, places, rows and seeds leave out independent units", "[dropout]") {
  constexpr msg::index width = 4000;
  const dropout base{.rate = 0.5, .seed = 1, .step = 2, .part = 3};
  std::vector<std::vector<double>> all;
  const auto add = [&](const dropout& d, dropout_place place, msg::index layer, msg::index row) {
    all.push_back(factors(dropped_units(d, place, layer), row, width));
  };
  add(base, dropout_place::after_attention, 4, 5);
  add({.rate = 0.5, .seed = 2, .step = 2, .part = 3}, dropout_place::after_attention, 4, 5);
  add({.rate = 0.5, .seed = 1, .step = 3, .part = 3}, dropout_place::after_attention, 4, 5);
  add({.rate = 0.5, .seed = 1, .step = 3, .part = 2}, dropout_place::after_attention, 4, 5);
  add(base, dropout_place::after_attention, 5, 5);
  add(base, dropout_place::after_attention, 3, 5);
  add(base, dropout_place::after_ffn, 4, 5);
  add(base, dropout_place::attention, 4, 5);
  add(base, dropout_place::embedding, 4, 5);
  add(base, dropout_place::after_attention, 4, 6);
  for (std::size_t a = 0; a < all.size(); ++a) {
    for (std::size_t b = a + 1; b < all.size(); ++b) {
      CAPTURE(a, b);
      double agree = 0;
      for (std::size_t i = 0; i < all[a].size(); ++i) { agree += all[a][i] == all[b][i] ? 1 : 0; }
      CHECK(std::fabs(agree - width / 2.0) <= 5 * std::sqrt(width / 4.0)); // as two coins do
    }
  }
  add(base, dropout_place::after_attention, 4, 5);
  CHECK(all.back() == all.front());
}

TEST_CASE("a wider row leaves out the same old units", "[dropout][growth]") {
  const dropped_units units({.rate = 0.3, .seed = 9, .step = 1}, dropout_place::after_ffn, 0);
  for (const msg::index width : {1, 3, 4, 5, 31}) {
    const std::vector<double> narrow = factors(units, 7, width);
    const std::vector<double> wide = factors(units, 7, 64);
    CHECK(std::equal(narrow.begin(), narrow.end(), wide.begin()));
  }
  // and more heads leave old heads' rows where they are
  const reference::attention_shape few{.batch = 3, .tokens = 5, .heads = 2, .kv_heads = 2, .head_dim = 4};
  reference::attention_shape more = few;
  more.heads = more.kv_heads = 4;
  CHECK(few.weights_row(2, 1, 4) == more.weights_row(2, 1, 4));
  CHECK(few.weights_row(2, 1, 4) != few.weights_row(1, 1, 4));
}

TEST_CASE("units are left out where GPT-2 leaves them out", "[dropout][model]") {
  const dropout drop{.rate = 0.4, .seed = 21, .step = 8, .part = 1};
  const auto parameters = tiny::random_parameters<double>(small, 5);
  const tiny::batch data(small, 3, 7);
  const auto found = run_dropping(small, data, parameters, drop);
  oracle::masks masks;
  masks.keep = [&](int place, msg::index layer, msg::index row, msg::index unit) {
    const dropped_units units(drop, static_cast<dropout_place>(place), layer);
    return units.words(row, unit / 4).word[unit % 4] < units.below ? 0.0 : 1 / (1 - drop.rate);
  };
  const double expected = oracle::forward(small, parameters, data.tokens, data.targets, data.length, masks).loss;
  // sums of up to 40 terms, a dozen on one another, each of which may lose digits to cancellation
  constexpr double rounding = 40 * 12 * 10 * std::numeric_limits<double>::epsilon();
  CHECK(std::fabs(found.loss - expected) <= rounding * expected);
  for (int place = 0; place < 4; ++place) { // the negative control: each of the places matters
    oracle::masks without = masks;
    without.keep = [&, place](int at, msg::index layer, msg::index row, msg::index unit) {
      return at == place ? 1.0 : masks.keep(at, layer, row, unit);
    };
    CAPTURE(place);
    const double other = oracle::forward(small, parameters, data.tokens, data.targets, data.length, without).loss;
    CHECK(std::fabs(found.loss - other) > 1e-3);
  }
}

TEMPLATE_TEST_CASE("a rate of 0 has the bits of a model that knows no dropout", "[dropout][model]", float, double) {
  const form f = GENERATE(from_range(tiny::forms));
  CAPTURE(tiny::name_of(f));
  const config c = tiny::as(f, small);
  const tiny::batch data(c, 3, 7);
  const auto parameters = tiny::random_parameters<TestType>(c, 6);
  const auto plain = tiny::run(c, data, parameters);
  CHECK(same_bits(run_dropping(c, data, parameters, {.rate = 0, .seed = 4, .step = 9}), plain));
  CHECK_FALSE(same_bits(run_dropping(c, data, parameters, {.rate = 0.1, .seed = 4, .step = 9}), plain));
}

TEST_CASE("a step repeats to the bit, for any number of threads", "[dropout][model]") {
  const form f = GENERATE(from_range(tiny::forms));
  CAPTURE(tiny::name_of(f));
  const config c = tiny::as(f, small);
  const tiny::batch data(c, 20, 9); // some blocks of rows
  const auto parameters = tiny::random_parameters<float>(c, 7);
  const dropout drop{.rate = 0.2, .seed = 4, .step = 9};
  reference::set_threads(1);
  const auto first = run_dropping(c, data, parameters, drop);
  for (const int threads : {1, 2, 5}) {
    reference::set_threads(threads);
    CHECK(same_bits(run_dropping(c, data, parameters, drop), first));
  }
  CHECK_FALSE(same_bits(run_dropping(c, data, parameters, {.rate = 0.2, .seed = 4, .step = 10}), first));
  CHECK_FALSE(same_bits(run_dropping(c, data, parameters, {.rate = 0.2, .seed = 4, .step = 9, .part = 1}), first));
}

TEST_CASE("a rate that leaves nothing is refused", "[dropout][model]") {
  const tiny::batch data(small, 1, 5);
  const auto parameters = tiny::random_parameters<double>(small, 6);
  for (const double rate : {1.0, -0.1, std::numeric_limits<double>::quiet_NaN()}) {
    CHECK_THROWS_AS(run_dropping(small, data, parameters, {.rate = rate}), msg::error);
  }
}
