// What a forward pass keeps for the backward, and what the backward needs besides; parameters by pointer.
#pragma once

#include "transformer/attention.hpp"
#include "transformer/config.hpp"
#include "transformer/tensors.hpp"

#include <msg/config.hpp>
#include <msg/error.hpp>
#include <msg/kernels/column_sum.hpp>

#include <cstddef>
#include <string>
#include <type_traits>
#include <vector>

namespace reference {

/// Pointers into a parameter (or gradient) set, each with the elements of one layer, where it has layers.
template <class T>
struct gpt_pointers {
  struct stacked {
    T* data;
    index layer_size;
    [[nodiscard]] T* operator[](index layer) const noexcept { return data + layer * layer_size; }
  };
  T* wte;
  T* wpe;
  stacked ln_1_gain, ln_1_bias, attn_weight, attn_bias, attn_out_weight, attn_out_bias;
  stacked ln_2_gain, ln_2_bias, fc_weight, fc_bias, proj_weight, proj_bias;
  T* ln_f_gain;
  T* ln_f_bias;
};

/// Finds the parameters of a config in a set, by name. Throws msg::error, naming every one missing or of another shape.
template <class T, class Set>
[[nodiscard]] gpt_pointers<T> bind(const config& c, const msg::schema& names, Set& set) {
  std::vector<msg::diagnostic> findings;
  const auto text = [](const std::vector<index>& shape) {
    std::string result;
    for (const index extent : shape) { result += (result.empty() ? "(" : ", ") + std::to_string(extent); }
    return result + ")";
  };
  for (const msg::parameter& p : names.parameters()) {
    const auto* const t = set.find(p.name);
    const std::vector<index> shape = p.shape();
    if (t == nullptr) {
      findings.push_back({.code = msg::errc::unknown_parameter, .parameter = p.name});
    } else if (t->shape != shape) {
      findings.push_back(
          {.code = msg::errc::shape_mismatch, .parameter = p.name, .expected = text(shape), .found = text(t->shape)});
    }
  }
  if (!findings.empty()) { throw msg::error(std::move(findings)); }
  const auto whole = [&](const char* name) { return set.find(name)->data.data(); };
  const auto layers = [&](const char* name) {
    auto& t = *set.find(name);
    return typename gpt_pointers<T>::stacked{t.data.data(), t.size() / c.layers};
  };
  return {.wte = whole("wte.weight"),
          .wpe = whole("wpe.weight"),
          .ln_1_gain = layers("h.*.ln_1.weight"),
          .ln_1_bias = layers("h.*.ln_1.bias"),
          .attn_weight = layers("h.*.attn.c_attn.weight"),
          .attn_bias = layers("h.*.attn.c_attn.bias"),
          .attn_out_weight = layers("h.*.attn.c_proj.weight"),
          .attn_out_bias = layers("h.*.attn.c_proj.bias"),
          .ln_2_gain = layers("h.*.ln_2.weight"),
          .ln_2_bias = layers("h.*.ln_2.bias"),
          .fc_weight = layers("h.*.mlp.c_fc.weight"),
          .fc_bias = layers("h.*.mlp.c_fc.bias"),
          .proj_weight = layers("h.*.mlp.c_proj.weight"),
          .proj_bias = layers("h.*.mlp.c_proj.bias"),
          .ln_f_gain = whole("ln_f.weight"),
          .ln_f_bias = whole("ln_f.bias")};
}

/// Activations of one layer, M = B * T rows each.
template <class T>
struct layer_activations {
  storage<T> normed_1;       // (M, C)
  storage<T> mean_1, rstd_1; // (M)
  storage<T> qkv;            // (M, 3 * H * D)
  storage<T> heads;          // (M, H * D)
  storage<T> log_sum;        // (B, H, T)
  storage<T> middle;         // (M, C), the residual stream after attention
  storage<T> normed_2;       // (M, C)
  storage<T> mean_2, rstd_2; // (M)
  storage<T> before;         // (M, F), before bias and activation
  storage<T> after;          // (M, F)
  storage<T> out;            // (M, C), the residual stream after the layer
};

/// Everything a model of these sizes works in, allocated once.
template <class T>
struct workspace {
  std::vector<layer_activations<T>> layers;
  storage<T> embedded;              // (M, C), the residual stream before the first layer
  storage<T> normed, mean, rstd;    // final norm: (M, C), (M), (M)
  storage<T> logits, log_sum, loss; // (M, V), (M), (M)
  storage<T> branch;                // (M, C), what a sub-layer adds to the stream; its gradient under a gate
  storage<T> branch_2;              // (M, C)
  // the backward alone, sized by its first call
  storage<T> stream_top, stream_middle, stream_low; // (M, C), gradient of the residual stream
  storage<T> dnormed;                               // (M, C)
  storage<T> dffn;                                  // (M, F)
  storage<T> dheads, dqkv;                          // (M, H * D), (M, 3 * H * D)
  std::vector<storage<T>> partial; // sums over chunks of rows, at most (chunks, max(F, 3 * H * D, C)) each

  workspace(const config& c, index batch, index tokens) {
    const index rows = batch * tokens;
    const index width = c.heads * c.head_dim;
    layers.resize(static_cast<std::size_t>(c.layers));
    for (auto& l : layers) {
      for (storage<T>* const s : {&l.normed_1, &l.middle, &l.normed_2, &l.out}) { size(*s, rows * c.hidden); }
      for (storage<T>* const s : {&l.mean_1, &l.rstd_1, &l.mean_2, &l.rstd_2}) { size(*s, rows); }
      for (storage<T>* const s : {&l.before, &l.after}) { size(*s, rows * c.ffn); }
      size(l.qkv, rows * 3 * width);
      size(l.heads, rows * width);
      size(l.log_sum, rows * c.heads);
    }
    for (storage<T>* const s : {&embedded, &normed, &branch}) { size(*s, rows * c.hidden); }
    for (storage<T>* const s : {&mean, &rstd, &log_sum, &loss}) { size(*s, rows); }
    size(logits, rows * c.vocab);
  }

  void prepare_backward(const config& c, index rows) {
    if (!partial.empty()) { return; }
    const index width = c.heads * c.head_dim;
    for (storage<T>* const s : {&branch_2, &stream_top, &stream_middle, &stream_low, &dnormed}) {
      size(*s, rows * c.hidden);
    }
    size(dffn, rows * c.ffn);
    size(dheads, rows * width);
    size(dqkv, rows * 3 * width);
    partial.resize(8);
    for (storage<T>& s : partial) { size(s, msg::chunk_count(rows) * std::max({c.ffn, 3 * width, c.hidden})); }
  }

private:
  static void size(storage<T>& s, index count) { s.resize(static_cast<std::size_t>(count)); }
};

} // namespace reference
