// Kernels over a Team that attention on a device is made of, between its batched products; see cuda_backend.cuh.
#pragma once

#include "transformer/attention_shape.hpp"
#include "transformer/ops.hpp"

#include <msg/config.hpp>
#include <msg/kernels/arithmetic.hpp>
#include <msg/tensor.hpp>

#include <cmath>

namespace reference {

/// The heads of some sequences that one batched product serves, for a block of queries. They are numbered by
/// (member of a group, sequence, head of keys and values), so that each member's are neighbours: keys and values are
/// shared by the members of a group, and so are written by one after another.
struct head_batch {
  attention_shape shape; // lengths on the executor's side
  index sequence;        // first of them
  index sequences;
  index first; // query
  index rows;  // queries

  struct place {
    index sequence, head, kv_head;
  };
  /// Heads of keys and values: what one member counts.
  [[nodiscard]] MSG_HOST_DEVICE index count() const noexcept { return sequences * shape.kv_heads; }
  [[nodiscard]] MSG_HOST_DEVICE index items() const noexcept { return sequences * shape.heads; }
  /// Keys that some query sees; without a causal order all, padding among them.
  [[nodiscard]] MSG_HOST_DEVICE index keys() const noexcept { return shape.keys(first, rows, shape.tokens); }
  [[nodiscard]] MSG_HOST_DEVICE place at(index item) const noexcept {
    const index kv_head = item % shape.kv_heads;
    return {sequence + item % count() / shape.kv_heads, kv_head * shape.group() + item / count(), kv_head};
  }
};

/// Where a matrix of each head lies: start + sequence * by_sequence + head * by_head + item * by_item.
template <class T>
struct head_table {
  const T** to; // (items), in device memory
  const T* start;
  index by_sequence;
  index by_head;
  index by_item;
  bool shared;        // head: that of keys and values
  bool quiet = false; // heads that are off have zeros there
};

/// Row t: fills table t. What a head that is off holds may be anything: products are given zeros in its place.
///
/// heads  (H) or none
/// zeros  as large as a matrix with its gaps; null where there are no heads
template <class T, int count>
struct head_tables {
  head_batch batch;
  msg::mask_view heads;
  const T* zeros;
  head_table<T> tables[count];

  template <class Team>
  MSG_HOST_DEVICE void operator()(const Team& team, index row) const {
    const head_table<T> t = tables[row];
    const head_batch b = batch;
    const float* const gate = heads.value;
    const T* const nothing = zeros;
    team.each(b.items(), [=](index item) {
      const head_batch::place at = b.at(item);
      const bool off = t.quiet && gate != nullptr && gate[at.head] == 0.0F;
      t.to[item] = off ? nothing
                       : t.start + at.sequence * t.by_sequence + (t.shared ? at.kv_head : at.head) * t.by_head +
                             item * t.by_item;
    });
  }
};

namespace detail {

/// A row of scores: whose it is, and what it may see.
template <class T>
struct score_row {
  index token;   // (B, T)
  index head;    // of queries
  index log_sum; // its place in (B, H, T)
  index number;  // as dropped_units count it
  index seen;    // leading keys it sees; 0: a query of padding, or of a head that is off
  T gate;        // of the head
  T scale;       // 1 / sqrt(D)
};
template <class T>
[[nodiscard]] MSG_HOST_DEVICE score_row<T> score_row_of(const head_batch& b, const msg::mask_view& heads, index row) {
  const attention_shape& s = b.shape;
  const head_batch::place at = b.at(row / b.rows);
  const index query = b.first + row % b.rows;
  const index length = s.length(at.sequence);
  const T gate = heads ? static_cast<T>(heads.value[at.head]) : T(1);
  const bool off = query >= length || gate == T(0);
  return {at.sequence * s.tokens + query,
          at.head,
          (at.sequence * s.heads + at.head) * s.tokens + query,
          s.weights_row(at.sequence, at.head, query),
          off ? 0 : (s.causal ? query + 1 : length),
          gate,
          static_cast<T>(1 / std::sqrt(static_cast<double>(s.head_dim)))};
}

} // namespace detail

/// scores become a . drop(softmax(scores / sqrt(D))), head by head: the weights of the values. Row: (item, query).
///
/// scores   (items, rows, keys), q k^T
/// log_sum  (B, H, T), as attention_forward() leaves it
/// heads    (H) or none: a; where it is 0, and for padding, nothing of the scores is looked at
template <class T>
struct attention_weights {
  head_batch batch;
  msg::mask_view heads;
  T* scores;
  T* log_sum;

  template <class Team>
  MSG_HOST_DEVICE void operator()(const Team& team, index row) const {
    const index keys = batch.keys();
    T* const x = scores + row * keys;
    const detail::score_row<T> r = detail::score_row_of<T>(batch, heads, row);
    if (r.seen == 0) {
      return team.each(keys, [=](index j) { x[j] = T(0); });
    }
    const T scale = r.scale;
    const T shift = scale * row_maximum(team, x, r.seen);
    const T sum =
        team.sum(r.seen, [=](index j) { return msg::detail::exp_approx(msg::detail::fused(x[j], scale, -shift)); });
    const T factor = r.gate / sum;
    const index seen = r.seen;
    team.each(seen, [=](index j) { x[j] = factor * msg::detail::exp_approx(msg::detail::fused(x[j], scale, -shift)); });
    team.each(keys - seen, [=](index j) { x[seen + j] = T(0); });
    if (batch.shape.drop) {
      team.sync();
      drop_units(team, batch.shape.drop, r.number, x, x, seen);
    }
    if (team.rank() == 0) { log_sum[r.log_sum] = shift + std::log(sum); }
  }
};

/// The way back through the softmax. Row: (item, query). With p = softmax(scores / sqrt(D)):
///
///   scores   (items, rows, keys), q k^T; becomes a drop(p)
///   dscores  (items, rows, keys), dout v^T =: s; becomes the gradient of q k^T: p (a drop(s) - sum) / sqrt(D)
///
/// out, dout  (B * T, H * D): sum = sum p a drop(s) is their product along the head
/// log_sum    (B, H, T)
/// Where a is 0, and for padding, both become 0.
template <class T>
struct attention_gradients {
  head_batch batch;
  msg::mask_view heads;
  T* scores;
  T* dscores;
  const T* out;
  const T* dout;
  const T* log_sum;

  template <class Team>
  MSG_HOST_DEVICE void operator()(const Team& team, index row) const {
    const index keys = batch.keys();
    const index dim = batch.shape.head_dim;
    T* const weight = scores + row * keys;
    T* const slope = dscores + row * keys;
    const detail::score_row<T> r = detail::score_row_of<T>(batch, heads, row);
    const index seen = r.seen;
    team.each(keys - seen, [=](index j) {
      weight[seen + j] = T(0);
      slope[seen + j] = T(0);
    });
    if (seen == 0) { return; }
    const T* const y = out + r.token * batch.shape.width() + r.head * dim;
    const T* const dy = dout + r.token * batch.shape.width() + r.head * dim;
    const T mean = team.template fold<T>(dim, [=](T lane, index d) { return msg::detail::fused(y[d], dy[d], lane); });
    const T shift = log_sum[r.log_sum];
    const T scale = r.scale;
    const T gate = r.gate;
    const dropped_units drop = batch.shape.drop;
    if (drop) {
      drop_units(team, drop, r.number, slope, slope, seen);
      team.sync();
    }
    team.each(seen, [=](index j) {
      const T p = msg::detail::exp_approx(msg::detail::fused(weight[j], scale, -shift));
      weight[j] = gate * p;
      slope[j] = scale * p * msg::detail::fused(gate, slope[j], -mean);
    });
    if (drop) {
      team.sync();
      drop_units(team, drop, r.number, weight, weight, seen);
    }
  }
};

} // namespace reference
