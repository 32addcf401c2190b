// Small GPTs for tests: random parameters, batches, masks with their sums, and growth written as plain loops.
#pragma once

#include "transformer/config.hpp"
#include "transformer/model.hpp"

#include <msg/random.hpp>

#include <algorithm>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace tiny {

using msg::index;
using reference::config;
using reference::tensor_set;

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

inline std::vector<std::int32_t> random_tokens(const config& c, index count, std::uint64_t seed) {
  std::vector<std::int32_t> tokens(static_cast<std::size_t>(count));
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    tokens[i] = static_cast<std::int32_t>(msg::random_bits({seed, 7}, i) % static_cast<std::uint32_t>(c.vocab));
  }
  return tokens;
}

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
  mask hidden, ffn, heads, layers;

  growth_masks() = default;
  growth_masks(const config& from, const config& to, float c) {
    const auto set = [c](mask& m, index old, index size) {
      if (old != size) { m = mask(old, size, c); }
    };
    set(hidden, from.hidden, to.hidden);
    set(ffn, from.ffn, to.ffn);
    set(heads, from.heads, to.heads);
    set(layers, from.layers, to.layers);
  }
  [[nodiscard]] reference::masks view() const {
    return {hidden.view(), ffn.view(), heads.view(), layers.value.empty() ? nullptr : layers.value.data()};
  }
};

/// Calls f(parameter number, old element, new element) for every element of a model of sizes `from`, embedded in one of
/// sizes `to` by appending; layer l of the old model is layer layers[l] of the new one (empty: l).
inline void for_each_old(const config& from, const config& to, const std::vector<index>& layers,
                         const std::function<void(std::size_t, std::size_t, std::size_t)>& f) {
  using reference::schema_of;
  const msg::schema old_schema = schema_of(from);
  const msg::schema new_schema = schema_of(to);
  for (std::size_t p = 0; p < old_schema.parameters().size(); ++p) {
    const std::string& name = old_schema.parameters()[p].name;
    const std::vector<index> old_shape = old_schema.parameters()[p].shape();
    const std::vector<index> new_shape = new_schema.parameters()[p].shape();
    const bool stacked = name.find('*') != std::string::npos;
    const bool fused = name.find("c_attn") != std::string::npos; // columns: queries, keys, values
    const index old_width = from.heads * from.head_dim;
    const index new_width = to.heads * to.head_dim;
    for (index i = 0; i < reference::size_of(old_shape); ++i) {
      index rest = i;
      index position = 0;
      index step = 1;
      for (std::size_t d = old_shape.size(); d-- > 0;) {
        const index unit = rest % old_shape[d];
        rest /= old_shape[d];
        index moved = unit;
        if (fused && d + 1 == old_shape.size()) { moved = unit / old_width * new_width + unit % old_width; }
        if (stacked && d == 0 && !layers.empty()) { moved = layers[static_cast<std::size_t>(unit)]; }
        position += moved * step;
        step *= new_shape[d];
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
  std::vector<T> logits;
  tensor_set<T> gradients;
};

/// Forward and backward on random text; one target is padding.
template <class T>
outcome<T> run(const config& c, index batch, index tokens, const tensor_set<T>& parameters,
               const reference::masks& masks = {}) {
  reference::transformer<T> model(c, batch, tokens);
  const auto inputs = random_tokens(c, model.rows(), 1);
  auto targets = random_tokens(c, model.rows(), 2);
  targets[1] = -1;
  outcome<T> o{model.forward(parameters, {inputs, targets}, masks), {}, parameters.like()};
  o.logits.assign(model.logits().begin(), model.logits().end());
  model.backward(parameters, o.gradients);
  return o;
}

} // namespace tiny
