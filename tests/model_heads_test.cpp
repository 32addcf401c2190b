// The heads of BERT and Llama, written as their equations say, against the model's: logits and losses.
#include "support/catch.hpp"
#include "support/oracle_gpt.hpp"
#include "support/tiny_transformer.hpp"

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

namespace {

using reference::config;
using tiny::form;
using tensors = reference::tensor_set<double>;
using row = std::vector<double>;

constexpr config small{.vocab = 13, .positions = 9, .hidden = 10, .ffn = 12, .heads = 2, .head_dim = 4, .layers = 2};
constexpr config less{.vocab = 13, .positions = 9, .hidden = 7, .ffn = 12, .heads = 2, .head_dim = 4, .layers = 2};

/// W x + b with W (out, in), as torch's Linear.
row linear(const tensors& set, const std::string& name, const row& x) {
  const auto& w = set[name + ".weight"];
  const auto* const b = set.find(name + ".bias");
  row y(static_cast<std::size_t>(w.shape[0]));
  for (std::size_t o = 0; o < y.size(); ++o) {
    y[o] = b == nullptr ? 0.0 : b->data[o];
    for (std::size_t i = 0; i < x.size(); ++i) { y[o] += w.data[o * x.size() + i] * x[i]; }
  }
  return y;
}

row norm(const config& c, const tensors& set, const std::string& name, const row& x, const oracle::masks& m) {
  return oracle::layer_norm(x, oracle::parameter(set, name + ".weight"), oracle::parameter(set, name + ".bias"),
                            c.norm_eps, m);
}

/// Row `number` of an embedding.
row embedded(const tensors& set, const std::string& name, std::int32_t number) {
  const auto& table = set[name];
  const auto width = static_cast<std::ptrdiff_t>(table.shape[1]);
  return row(table.data.begin() + number * width, table.data.begin() + (number + 1) * width);
}

/// -log softmax(logits)[target]
double surprise(const row& logits, std::int32_t target) {
  double total = 0;
  for (const double logit : logits) { total += std::exp(logit); }
  return std::log(total) - logits[static_cast<std::size_t>(target)];
}

struct heads {
  std::vector<row> logits;    // of every position
  std::vector<row> sentences; // of every sequence
  double loss = 0;            // of the targets and of the classes of pairs
};

/// A model whose layers are all skipped: its heads read what the first layer would.
heads bert_heads(const config& c, const tensors& set, const tiny::batch& data, const oracle::masks& m) {
  heads found;
  const std::string e = "bert.embeddings.";
  double tokens = 0, counted = 0, pairs = 0, counted_pairs = 0;
  for (std::size_t r = 0; r < data.tokens.size(); ++r) {
    const auto place = static_cast<std::int32_t>(r % static_cast<std::size_t>(data.length));
    row x = embedded(set, e + "word_embeddings.weight", data.tokens[r]);
    const row places = embedded(set, e + "position_embeddings.weight", place);
    const row types = embedded(set, e + "token_type_embeddings.weight", data.types[r]);
    for (std::size_t i = 0; i < x.size(); ++i) { x[i] += places[i] + types[i]; }
    x = norm(c, set, e + "LayerNorm", x, m);

    row transform = linear(set, "cls.predictions.transform.dense", x);
    for (double& h : transform) { h = 0.5 * h * (1 + std::erf(h / std::sqrt(2.0))); }
    transform = norm(c, set, "cls.predictions.transform.LayerNorm", transform, m);
    row logits;
    for (std::int32_t v = 0; v < c.vocab; ++v) { // the decoder is the word embedding, with a bias of its own
      const row word = embedded(set, e + "word_embeddings.weight", v);
      double logit = set["cls.predictions.bias"].data[static_cast<std::size_t>(v)];
      for (std::size_t i = 0; i < word.size(); ++i) { logit += word[i] * transform[i]; }
      logits.push_back(logit);
    }
    if (data.targets[r] >= 0) {
      tokens += surprise(logits, data.targets[r]);
      counted += 1;
    }
    found.logits.push_back(std::move(logits));

    if (place != 0) { continue; }
    row pooled = linear(set, "bert.pooler.dense", x);
    for (std::size_t i = 0; i < pooled.size(); ++i) {
      pooled[i] = oracle::at(m.hidden, static_cast<msg::index>(i)) * std::tanh(pooled[i]);
    }
    found.sentences.push_back(linear(set, "cls.seq_relationship", pooled));
    const std::int32_t target = data.next_sentence[r / static_cast<std::size_t>(data.length)];
    if (target >= 0) {
      pairs += surprise(found.sentences.back(), target);
      counted_pairs += 1;
    }
  }
  found.loss = tokens / counted + pairs / counted_pairs;
  return found;
}

heads llama_heads(const config& c, const tensors& set, const tiny::batch& data, const oracle::masks& m) {
  heads found;
  double counted = 0;
  for (std::size_t r = 0; r < data.tokens.size(); ++r) {
    row x = embedded(set, "model.embed_tokens.weight", data.tokens[r]);
    double squares = 0, sum = 0;
    const auto mask = [&](std::size_t i) { return oracle::at(m.hidden, static_cast<msg::index>(i)); };
    for (std::size_t i = 0; i < x.size(); ++i) {
      squares += mask(i) * x[i] * x[i];
      sum += mask(i);
    }
    for (std::size_t i = 0; i < x.size(); ++i) {
      x[i] *= mask(i) * set["model.norm.weight"].data[i] / std::sqrt(squares / sum + c.norm_eps);
    }
    row logits;
    for (std::int32_t v = 0; v < c.vocab; ++v) {
      const row word = embedded(set, c.tied ? "model.embed_tokens.weight" : "lm_head.weight", v);
      double logit = 0;
      for (std::size_t i = 0; i < word.size(); ++i) { logit += word[i] * x[i]; }
      logits.push_back(logit);
    }
    if (data.targets[r] >= 0) {
      found.loss += surprise(logits, data.targets[r]);
      counted += 1;
    }
    found.logits.push_back(std::move(logits));
  }
  found.loss /= counted;
  return found;
}

template <class T>
double distance(std::span<const T> found, const std::vector<row>& expected) {
  double most = 0;
  std::size_t i = 0;
  for (const row& r : expected) {
    for (const double value : r) { most = std::max(most, std::fabs(static_cast<double>(found[i++]) - value)); }
  }
  REQUIRE(i == found.size());
  return most;
}

} // namespace

TEMPLATE_TEST_CASE("the heads of BERT and Llama are what their equations say", "[model][heads]", double, float) {
  using T = TestType;
  const form f = GENERATE(form::bert, form::llama, form::tied_llama);
  const float c = GENERATE(-1.0F, 0.0F, 0.3F); // the hidden mask of a growth; negative: none
  CAPTURE(tiny::name_of(f), c);
  const config sizes = tiny::as(f, small);
  tiny::growth_masks masks = c < 0 ? tiny::growth_masks() : tiny::growth_masks(tiny::as(f, less), sizes, c);
  masks.layers.value.assign(static_cast<std::size_t>(sizes.layers), 0.0F);
  const auto parameters = tiny::random_parameters<T>(sizes, 31);
  tensors exact = reference::make_parameters<double>(sizes);
  for (std::size_t p = 0; p < exact.tensors.size(); ++p) {
    exact.tensors[p].data.assign(parameters.tensors[p].data.begin(), parameters.tensors[p].data.end());
  }
  const tiny::batch data(sizes, 3, 7);
  const oracle::masks silence{.hidden = masks.hidden.doubles(), .ffn = {}, .heads = {}, .layers = {}};
  const heads expected =
      f == form::bert ? bert_heads(sizes, exact, data, silence) : llama_heads(sizes, exact, data, silence);

  reference::transformer<T> model(sizes, data.sequences, data.length);
  reference::model_input input = data.input();
  // sums of 10 terms of size 10 at most, four on one another, behind norms of few units that may divide by 1/10
  const double rounding = 10 * 10 * 4 * 10 * static_cast<double>(std::numeric_limits<T>::epsilon());
  CHECK(std::fabs(model.forward(parameters, input, masks.view()) - expected.loss) <= rounding);
  input.targets = {};
  input.next_sentence = {};
  (void)model.forward(parameters, input, masks.view());
  CHECK(distance<T>(model.logits(), expected.logits) <= rounding);
  if (f == form::bert) { CHECK(distance<T>(model.sentence_logits(), expected.sentences) <= rounding); }
  if (f == form::llama) { // the negative control: an untied head is a matrix of its own
    config tied = sizes;
    tied.tied = true;
    CHECK(distance<T>(model.logits(), llama_heads(tied, exact, data, silence).logits) > 1e-2);
  }
}
