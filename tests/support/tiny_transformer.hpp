// Small Transformers of every architecture for tests: random parameters, batches, masks with their sums, and growth
// written as plain loops.
#pragma once

#include "transformer/config.hpp"
#include "transformer/cpu_backend.hpp"
#include "transformer/model.hpp"

#include <msg/random.hpp>

#include <algorithm>
#include <cstdint>
#include <functional>
#include <string>
#include <utility>
#include <vector>

namespace tiny {

using msg::index;
using reference::architecture;
using reference::config;
using reference::tensor_set;

/// The configurations that tests go through: every architecture, Llama in both forms it comes in.
enum class form { gpt2, bert, llama, tied_llama, parallel_gpt2, mixture };
inline const std::vector<form> forms{form::gpt2,       form::bert,          form::llama,
                                     form::tied_llama, form::parallel_gpt2, form::mixture};

[[nodiscard]] inline std::string name_of(form f) {
  static const char* const names[] = {"gpt2",        "bert",           "llama, two queries a key",
                                      "llama, tied", "gpt2, parallel", "llama, experts"};
  return names[static_cast<int>(f)];
}

/// The sizes of a GPT as another form. Heads of rotary models are even; grouped ones get two query heads for each head.
[[nodiscard]] inline config as(form f, config sizes) {
  static constexpr architecture archs[] = {architecture::gpt2,  architecture::bert, architecture::llama,
                                           architecture::llama, architecture::gpt2, architecture::llama};
  const config constants = reference::defaults_of(archs[static_cast<int>(f)]);
  sizes.arch = constants.arch;
  sizes.norm_eps = constants.norm_eps;
  sizes.tied = f != form::llama;
  sizes.parallel = f == form::parallel_gpt2;
  if (f == form::mixture && sizes.experts == 0) { sizes.experts = 3; }
  if (f != form::mixture) { sizes.experts = 0; }
  if (sizes.arch == architecture::llama) { sizes.head_dim += sizes.head_dim % 2; }
  if (f == form::llama) {
    sizes.kv_heads = sizes.heads;
    sizes.heads *= 2;
  }
  return sizes;
}

/// Parameters as after some training: no bias 0, no gain 1, everything N(0, deviation^2) around what it starts from.
template <class T>
tensor_set<T> random_parameters(const config& c, std::uint64_t seed, double deviation = 0.3) {
  tensor_set<T> set = reference::initial_parameters<T>(c, seed);
  for (auto& t : set) {
    const msg::random_stream stream{seed + 1, msg::stream_of(t.name)};
    for (std::size_t i = 0; i < t.data.size(); ++i) {
      t.data[i] += static_cast<T>(deviation * msg::random_normal(stream, i));
    }
  }
  return set;
}

/// Numbers in [0, below).
inline std::vector<std::int32_t> random_numbers(index below, index count, std::uint64_t seed) {
  std::vector<std::int32_t> numbers(static_cast<std::size_t>(count));
  for (std::size_t i = 0; i < numbers.size(); ++i) {
    numbers[i] = static_cast<std::int32_t>(msg::random_bits({seed, 7}, i) % static_cast<std::uint32_t>(below));
  }
  return numbers;
}
inline std::vector<std::int32_t> random_tokens(const config& c, index count, std::uint64_t seed) {
  return random_numbers(c.vocab, count, seed);
}

/// A batch that has everything its architecture takes. One target does not count; of BERT's a third do, its sequences
/// have padding behind them, the first pair of sentences does not count.
struct batch {
  index sequences;
  index length;
  std::vector<std::int32_t> tokens, targets, types, lengths, next_sentence;

  batch(const config& c, index count, index sequence_length) : sequences(count), length(sequence_length) {
    const index rows = count * length;
    tokens = random_tokens(c, rows, 1);
    targets = random_tokens(c, rows, 2);
    targets[static_cast<std::size_t>(rows > 1)] = -1;
    if (c.arch != architecture::bert) { return; }
    types = random_numbers(c.types, rows, 3);
    next_sentence = random_numbers(2, count, 4);
    if (count > 1) { next_sentence[0] = -1; }
    for (index b = 0; b < count; ++b) {
      lengths.push_back(static_cast<std::int32_t>(std::max<index>(1, length - b % 3)));
    }
    for (index r = 0; r < rows; ++r) {
      const bool padding = r % length >= lengths[static_cast<std::size_t>(r / length)];
      if (r % 3 != 2 || padding) { targets[static_cast<std::size_t>(r)] = -1; }
    }
  }
  [[nodiscard]] reference::model_input input() const { return {tokens, targets, types, lengths, next_sentence}; }
};

/// A mask of 1 on the first `old` units and c on the others up to `size`, with its sum; keeps what a view points at.
struct mask {
  std::vector<float> value;
  double sum = 0;

  mask() = default;
  mask(index old, index size, float c) : value(static_cast<std::size_t>(size), c) {
    std::fill_n(value.begin(), old, 1.0F);
    for (const float v : value) { sum += static_cast<double>(v); }
  }
  [[nodiscard]] msg::mask_view view() const {
    return value.empty() ? msg::mask_view{} : msg::mask_view{value.data(), &sum, static_cast<index>(value.size())};
  }
  [[nodiscard]] std::vector<double> doubles() const { return {value.begin(), value.end()}; }
};

/// Masks of a growth from one config to a larger one, at ramp value c; axes of equal size have none.
struct growth_masks {
  mask hidden, ffn, heads, layers, kv_heads, vocab, experts;
  bool released = false;

  growth_masks() = default;
  growth_masks(const config& from, const config& to, float c) {
    const auto set = [c](mask& m, index old, index size) {
      if (old != size) { m = mask(old, size, c); }
    };
    set(hidden, from.hidden, to.hidden);
    set(ffn, from.ffn, to.ffn);
    set(heads, from.heads, to.heads);
    set(layers, from.layers, to.layers);
    set(kv_heads, kv_heads_of(from), kv_heads_of(to));
    set(vocab, from.vocab, to.vocab);
    set(experts, from.experts, to.experts);
  }
  [[nodiscard]] reference::masks view() const {
    return {.hidden = hidden.view(),
            .ffn = ffn.view(),
            .heads = heads.view(),
            .layers = layers.value.empty() ? nullptr : layers.value.data(),
            .kv_heads = kv_heads.view(),
            .vocab = vocab.view(),
            .experts = experts.view(),
            .released = released};
  }
};

/// Where the positions of a dimension go when its axes grow by appending; layer l becomes layers[l] (empty: l).
inline std::vector<index> new_positions(const msg::dimension& old, const msg::dimension& grown,
                                        const std::vector<index>& layers) {
  std::vector<index> result;
  std::vector<index> begin{0};
  for (const msg::product& term : grown.extent.terms) { begin.push_back(begin.back() + term.size()); }
  msg::for_each_position(old.extent, [&](index, const msg::product& term, const std::vector<index>& units) {
    const auto t = static_cast<std::size_t>(&term - old.extent.terms.data());
    index position = 0;
    for (std::size_t k = 0; k < units.size(); ++k) {
      const bool moved = term.factors[k].axis == "layers" && !layers.empty();
      const index unit = moved ? layers[static_cast<std::size_t>(units[k])] : units[k];
      position = position * grown.extent.terms[t].factors[k].size + unit;
    }
    result.push_back(begin[t] + position);
  });
  return result;
}

/// Calls f(parameter number, old element, new element) for every element of a model of sizes `from`, embedded in one of
/// sizes `to` by appending; layer l of the old model is layer layers[l] of the new one (empty: l).
inline void for_each_old(const config& from, const config& to, const std::vector<index>& layers,
                         const std::function<void(std::size_t, std::size_t, std::size_t)>& f) {
  const msg::schema old_schema = reference::schema_of(from);
  const msg::schema new_schema = reference::schema_of(to);
  for (std::size_t p = 0; p < old_schema.parameters().size(); ++p) {
    const msg::parameter& old = old_schema.parameters()[p];
    const msg::parameter& grown = new_schema.parameters()[p];
    std::vector<std::vector<index>> moved;
    for (std::size_t d = 0; d < old.dims.size(); ++d) {
      moved.push_back(new_positions(old.dims[d], grown.dims[d], layers));
    }
    for (index i = 0; i < old.size(); ++i) {
      index rest = i;
      index position = 0;
      index step = 1;
      for (std::size_t d = moved.size(); d-- > 0;) {
        const auto extent = static_cast<index>(moved[d].size());
        position += moved[d][static_cast<std::size_t>(rest % extent)] * step;
        rest /= extent;
        step *= grown.dims[d].size();
      }
      f(p, static_cast<std::size_t>(i), static_cast<std::size_t>(position));
    }
  }
}

/// The old parameters inside a larger model whose fresh entries are N(0, deviation^2), biases and gains included.
template <class T>
tensor_set<T> grown(const config& from, const config& to, const tensor_set<T>& old, std::uint64_t seed,
                    double deviation = 30, const std::vector<index>& layers = {}) {
  tensor_set<T> set = reference::make_parameters<T>(to);
  for (auto& t : set) {
    const msg::random_stream stream{seed, msg::stream_of(t.name)};
    for (std::size_t i = 0; i < t.data.size(); ++i) {
      t.data[i] = static_cast<T>(deviation * msg::random_normal(stream, i));
    }
  }
  for_each_old(from, to, layers,
               [&](std::size_t p, std::size_t i, std::size_t j) { set.tensors[p].data[j] = old.tensors[p].data[i]; });
  return set;
}

/// What one batch gives.
template <class T>
struct outcome {
  double loss;
  std::vector<T> logits;          // (rows, V)
  std::vector<T> sentence_logits; // (B, 2), of BERT
  tensor_set<T> gradients;

  [[nodiscard]] index rows(const config& c) const { return static_cast<index>(logits.size()) / c.vocab; }
};

/// Forward and backward.
template <class T>
outcome<T> run(reference::transformer<T>& model, const tensor_set<T>& parameters, const reference::model_input& input,
               const reference::masks& masks = {}) {
  outcome<T> o{model.forward(parameters, input, masks), {}, {}, parameters.like()};
  o.logits.assign(model.logits().begin(), model.logits().end());
  o.sentence_logits.assign(model.sentence_logits().begin(), model.sentence_logits().end());
  model.backward(parameters, o.gradients);
  return o;
}
template <class T>
outcome<T> run(const config& c, const batch& data, const tensor_set<T>& parameters,
               const reference::masks& masks = {}) {
  reference::transformer<T> model(c, data.sequences, data.length);
  return run(model, parameters, data.input(), masks);
}

} // namespace tiny
