// What a forward pass keeps for the backward, and what the backward needs besides, in a backend's memory.
#pragma once

#include "transformer/backend.hpp"
#include "transformer/config.hpp"

#include <msg/config.hpp>
#include <msg/kernels/column_sum.hpp>
#include <msg/tensor.hpp>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

namespace reference {

template <class T, class Backend>
struct norm_activations {
  typename Backend::template storage<T> out;                           // (M, C)
  typename Backend::template storage<msg::accumulate_t<T>> mean, rstd; // (M)
};

/// How the tokens of a layer went to experts, and what those made of them. A token has K slots, one for each expert it
/// chose; within a block of rows slots lie by expert.
template <class T, class Backend>
struct expert_activations {
  typename Backend::template storage<T> logits;            // (M, E), of the router
  typename Backend::template storage<std::int32_t> chosen; // (M, K)
  typename Backend::template storage<T> gates;             // (M, K), which sum to 1
  typename Backend::template storage<std::int32_t> slots;  // (M, K), where the token lies
  typename Backend::template storage<std::int32_t> rows;   // (M * K), the token of each slot
  typename Backend::template storage<T> in, out;           // (M * K, C)
  std::vector<row_range> segments;                         // (blocks, E), slots of each expert
};

/// Activations of one layer, M = B * T rows each.
template <class T, class Backend>
struct layer_activations {
  norm_activations<T, Backend> norm_1, norm_2;
  typename Backend::template storage<T> qkv;     // (M, (H + 2 K) * D)
  typename Backend::template storage<T> heads;   // (M, H * D)
  typename Backend::template storage<T> log_sum; // (B, H, T)
  typename Backend::template storage<T> sum_1;   // (M, C), the stream plus attention
  typename Backend::template storage<T> before;  // (M, F), before the activation; SwiGLU (M, 2 F)
  typename Backend::template storage<T> after;   // (M, F)
  expert_activations<T, Backend> experts;
  typename Backend::template storage<T> sum_2; // (M, C), what the FFN is added to, plus the FFN
};

/// Everything a model of these sizes works in, allocated once.
template <class T, class Backend>
struct workspace {
  template <class Element>
  using storage = typename Backend::template storage<Element>;
  using sums = storage<msg::accumulate_t<T>>;

  // the batch
  storage<std::int32_t> tokens, types, places; // (M)
  storage<std::int32_t> lengths;               // (B), or empty
  storage<std::int32_t> predicted;             // rows the head runs on where those are not all
  storage<std::int32_t> targets;               // one for each row of the head, or empty
  storage<std::int32_t> first_rows;            // (B): the first token of each sequence
  storage<std::int32_t> next_sentence;         // (B), or empty
  sums cosines, sines;                         // (T, D / 2), rotary positions

  std::vector<layer_activations<T, Backend>> layers;
  storage<T> embedded;                                         // (M, C)
  norm_activations<T, Backend> embedding_norm;                 // post-norm
  norm_activations<T, Backend> final_norm;                     // of the head's rows
  storage<T> chosen;                                           // head's rows of the stream
  storage<T> transform_before, transform;                      // head's rows, C
  storage<T> logit_shift;                                      // (V)
  storage<T> logits, log_sum, loss;                            // head's rows: V, 1, 1
  storage<T> first, pooled_before, pooled;                     // (B, C)
  storage<T> sentence_logits, sentence_log_sum, sentence_loss; // (B, 2), (B), (B)
  storage<T> branch;                                           // (M, C), what a sub-layer adds to the stream

  // the backward alone
  storage<T> stream_top, stream_middle, stream_low; // (M, C), gradient of the stream
  storage<T> branch_2;                              // (M, C)
  storage<T> dnormed;                               // (M, C)
  storage<T> dafter, dbefore;                       // (M, F), and as `before`
  storage<T> dheads, dqkv;
  storage<T> dchosen, dgates, drouter; // (M * K, C), (M, K), (M, E): of experts
  std::vector<sums> partial;           // sums over chunks of rows, one for each that a layer makes
  sums head_partial;                   // (chunks, V)

  workspace(const config& c, index batch, index length) {
    const index rows = batch * length;
    const features f = features_of(c.arch);
    layers.resize(static_cast<std::size_t>(c.layers));
    for (auto& l : layers) {
      size(l.norm_1, rows, c.hidden);
      size(l.norm_2, rows, c.hidden);
      size(l.sum_1, rows * c.hidden);
      size(l.sum_2, rows * c.hidden);
      size(l.qkv, rows * qkv_width(c));
      size(l.heads, rows * c.heads * c.head_dim);
      size(l.log_sum, rows * c.heads);
      size(l.before, slots(c, rows) * before_width(c));
      size(l.after, slots(c, rows) * c.ffn);
      if (c.experts == 0) { continue; }
      size(l.experts.logits, rows * c.experts);
      for (auto* const s : {&l.experts.chosen, &l.experts.slots, &l.experts.rows}) { size(*s, rows * c.chosen); }
      size(l.experts.gates, rows * c.chosen);
      for (storage<T>* const s : {&l.experts.in, &l.experts.out}) { size(*s, rows * c.chosen * c.hidden); }
      l.experts.segments.resize(static_cast<std::size_t>(msg::chunk_count(rows) * c.experts));
    }
    size(embedded, rows * c.hidden);
    size(branch, rows * c.hidden);
    if (f.position == msg::norm_position::post) { size(embedding_norm, rows, c.hidden); }
    if (f.masked_language) {
      for (storage<T>* const s : {&first, &pooled_before, &pooled}) { size(*s, batch * c.hidden); }
      size(sentence_logits, batch * 2);
      size(sentence_log_sum, batch);
      size(sentence_loss, batch);
    } else {
      prepare_head(c, rows);
    }
  }

  /// Room for a head that runs on `rows` rows.
  void prepare_head(const config& c, index rows) {
    size(final_norm, rows, c.hidden);
    size(logits, rows * c.vocab);
    size(log_sum, rows);
    size(loss, rows);
    if (features_of(c.arch).masked_language) {
      for (storage<T>* const s : {&chosen, &transform_before, &transform}) { size(*s, rows * c.hidden); }
    }
  }

  void prepare_backward(const config& c, index rows) {
    if (!partial.empty()) { return; }
    for (storage<T>* const s : {&branch_2, &stream_top, &stream_middle, &stream_low, &dnormed}) {
      size(*s, rows * c.hidden);
    }
    size(dafter, slots(c, rows) * c.ffn);
    if (before_width(c) != c.ffn) { size(dbefore, slots(c, rows) * before_width(c)); }
    if (c.experts > 0) {
      size(dchosen, rows * c.chosen * c.hidden);
      size(dgates, rows * c.chosen);
      size(drouter, rows * c.experts);
    }
    size(dheads, rows * c.heads * c.head_dim);
    size(dqkv, rows * qkv_width(c));
    partial.resize(8);
    const index widest = std::max({before_width(c), qkv_width(c), c.hidden});
    for (sums& s : partial) { size(s, msg::chunk_count(rows) * widest); }
  }

  [[nodiscard]] static index qkv_width(const config& c) noexcept { return (c.heads + 2 * kv_heads_of(c)) * c.head_dim; }
  /// Rows that FFNs run on.
  [[nodiscard]] static index slots(const config& c, index rows) noexcept {
    return c.experts == 0 ? rows : rows * c.chosen;
  }
  [[nodiscard]] static index before_width(const config& c) noexcept {
    return features_of(c.arch).act == activation::swiglu ? 2 * c.ffn : c.ffn;
  }

private:
  template <class Storage>
  static void size(Storage& s, index count) {
    s.resize(static_cast<std::size_t>(count));
  }
  static void size(norm_activations<T, Backend>& n, index rows, index width) {
    size(n.out, rows * width);
    size(n.mean, rows);
    size(n.rstd, rows);
  }
};

} // namespace reference
