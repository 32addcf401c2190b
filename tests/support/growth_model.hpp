// A model with every kind of dimension, and the shortest way to grow one of its parameters.
#pragma once

#include "support/random_model.hpp"

#include <msg/apply.hpp>
#include <msg/plan.hpp>

#include <cstdint>
#include <vector>

namespace testing {

inline const msg::axis hidden{"hidden", 3};
inline const msg::axis ffn{"ffn", 4};
inline const msg::axis heads{"heads", 2};
inline const msg::axis kv_heads{"kv_heads", 1};
inline const msg::axis head_dim{"head_dim", 2};
inline const msg::axis layers{"layers", 2};

/// All of them, to sizes that no old size divides and to one that it does.
inline const std::vector<msg::request> all_axes{hidden.grow_to(5), ffn.grow_to(9), heads.grow_to(3),
                                                kv_heads.grow_to(2), layers.grow_to(5)};

/// Products, a fixed multiplicity in two places, a concatenation, both storage orders, and an axis twice.
[[nodiscard]] inline msg::schema growth_model() {
  msg::schema s;
  s.weight("gpt2", each(layers), in(hidden), out(3 * heads * head_dim));
  s.weight("pythia", out(heads * 3 * head_dim), in(hidden));
  s.weight("grouped", out(heads * head_dim | kv_heads * head_dim | kv_heads * head_dim), in(hidden));
  s.bias("grouped_bias", out(heads * head_dim | kv_heads * head_dim | kv_heads * head_dim));
  s.weight("gate_up", each(layers), out(2 * ffn), in(hidden));
  s.weight("square", out(hidden), in(hidden));
  s.weight("kernel", each(layers), out(heads), in(ffn), out(hidden));
  s.norm_gain("gain", each(layers), out(hidden)).norm_bias("shift", out(hidden));
  return s.normed(hidden);
}

template <class T>
[[nodiscard]] std::vector<T> numbers(msg::index count, std::uint64_t seed = 20240509) {
  return random_model(seed).numbers<T>(count);
}

template <class T>
[[nodiscard]] std::vector<T> grown(const msg::param_plan& p, const std::vector<T>& old,
                                   msg::payload what = msg::payload::value) {
  std::vector<T> result(static_cast<std::size_t>(p.size()));
  msg::apply(p, old, result, what);
  return result;
}

} // namespace testing
