// Causal multi-head attention, forward and backward, on fused query-key-value rows.
#pragma once

#include "transformer/gemm.hpp"
#include "transformer/ops.hpp"
#include "transformer/parallel.hpp"
#include "transformer/tensors.hpp"

#include <msg/config.hpp>
#include <msg/exec/serial.hpp>
#include <msg/kernels/arithmetic.hpp>
#include <msg/tensor.hpp>

#include <algorithm>
#include <cmath>
#include <limits>

namespace reference {

struct attention_shape {
  index batch;    // B
  index tokens;   // T
  index heads;    // H
  index head_dim; // D

  [[nodiscard]] index width() const noexcept { return heads * head_dim; }
};

namespace detail {

/// Queries handled together: one block sees the keys up to its own end, so about half of the masked half is skipped.
inline constexpr index query_block = 64;

/// Where one head of one sequence lies: q, k and v are (T, D) with rows `step` apart.
template <class T>
struct head_rows {
  T* q;
  T* k;
  T* v;
};
template <class T>
[[nodiscard]] head_rows<T> rows_of(const attention_shape& s, T* qkv, index sequence, index head) noexcept {
  T* const q = qkv + sequence * s.tokens * 3 * s.width() + head * s.head_dim;
  return {q, q + s.width(), q + 2 * s.width()};
}

/// Two score tiles, (query_block, T) each, that every thread keeps.
template <class T>
[[nodiscard]] T* attention_scratch(index tokens) {
  thread_local storage<T> scratch;
  const auto needed = static_cast<std::size_t>(2 * query_block * tokens);
  if (scratch.size() < needed) { scratch.resize(needed); }
  return scratch.data();
}

/// Number of leading columns a row of scores is worked on: those it may see, to whole vectors. The others of these are
/// set to -infinity, and so get exactly no weight.
template <class T>
[[nodiscard]] index close_row(T* scores, index seen, index columns) noexcept {
  constexpr index lanes = msg::serial_team::lanes;
  const index worked = std::min(columns, (seen + lanes - 1) / lanes * lanes);
  std::fill(scores + seen, scores + worked, -std::numeric_limits<T>::infinity());
  return worked;
}

} // namespace detail

/// out = a . softmax(q k^T / sqrt(D), causal) v, head by head.
///
/// qkv      (B * T, 3 * H * D): columns are all queries, then all keys, then all values
/// heads    (H) or none: factor a of each head's output; a head at exactly 0 is not computed at all
/// out      (B * T, H * D)
/// log_sum  (B, H, T): log of each row's softmax denominator, for the backward; not written where a is 0
/// Scores are computed in tiles and never stored. The result does not depend on the number of threads.
template <class T>
void attention_forward(const attention_shape& s, const T* qkv, const msg::mask_view& heads, T* out, T* log_sum) {
  const index step = 3 * s.width();
  const T scale = static_cast<T>(1 / std::sqrt(static_cast<double>(s.head_dim)));
  parallel_tasks(s.batch * s.heads, [&](index task) {
    const index sequence = task / s.heads;
    const index head = task % s.heads;
    const T gate = heads ? static_cast<T>(heads.value[head]) : T(1);
    T* const y = out + sequence * s.tokens * s.width() + head * s.head_dim;
    if (gate == T(0)) {
      for (index t = 0; t < s.tokens; ++t) { std::fill_n(y + t * s.width(), s.head_dim, T(0)); }
      return;
    }
    const auto x = detail::rows_of(s, qkv, sequence, head);
    T* const scores = detail::attention_scratch<T>(s.tokens);
    T* const log_sums = log_sum + task * s.tokens;
    for (index first = 0; first < s.tokens; first += detail::query_block) {
      const index rows = std::min(detail::query_block, s.tokens - first);
      const index keys = first + rows;
      gemm<T>(false, true, rows, keys, s.head_dim, 1, x.q + first * step, step, x.k, step, 0, scores, keys);
      T factor[detail::query_block];
      for (index r = 0; r < rows; ++r) {
        T* const row = scores + r * keys;
        const index worked = detail::close_row(row, first + r + 1, keys);
        const T shift = scale * row_maximum(row, worked);
        const T sum = msg::serial_team{}.sum(worked, [=](index j) {
          row[j] = msg::detail::exp_approx(msg::detail::fused(row[j], scale, -shift));
          return row[j];
        });
        std::fill(row + worked, row + keys, T(0));
        log_sums[first + r] = shift + std::log(sum);
        factor[r] = gate / sum;
      }
      gemm<T>(false, false, rows, s.head_dim, keys, 1, scores, keys, x.v, step, 0, y + first * s.width(), s.width());
      for (index r = 0; r < rows; ++r) {
        T* const row = y + (first + r) * s.width();
        for (index d = 0; d < s.head_dim; ++d) { row[d] *= factor[r]; }
      }
    }
  });
}

/// Gradient of attention_forward: dqkv from dout. Arguments as there; dqkv is written, not added to. Heads whose factor
/// is exactly 0 get exactly zero. Probabilities are computed again from qkv and log_sum.
template <class T>
void attention_backward(const attention_shape& s, const T* qkv, const msg::mask_view& heads, const T* out,
                        const T* log_sum, const T* dout, T* dqkv) {
  const index step = 3 * s.width();
  const index width = s.width();
  const T scale = static_cast<T>(1 / std::sqrt(static_cast<double>(s.head_dim)));
  parallel_tasks(s.batch * s.heads, [&](index task) {
    const index sequence = task / s.heads;
    const index head = task % s.heads;
    const T gate = heads ? static_cast<T>(heads.value[head]) : T(1);
    const auto dx = detail::rows_of(s, dqkv, sequence, head);
    if (gate == T(0)) {
      for (T* const part : {dx.q, dx.k, dx.v}) {
        for (index t = 0; t < s.tokens; ++t) { std::fill_n(part + t * step, s.head_dim, T(0)); }
      }
      return;
    }
    const auto x = detail::rows_of(s, qkv, sequence, head);
    const index corner = sequence * s.tokens * width + head * s.head_dim;
    const T* const y = out + corner;
    const T* const dy = dout + corner;
    T* const weights = detail::attention_scratch<T>(s.tokens);
    T* const dscores = weights + detail::query_block * s.tokens;
    // The last block sees all keys, so it sets what the earlier ones add to.
    const index last = (s.tokens - 1) / detail::query_block * detail::query_block;
    for (index first = last; first >= 0; first -= detail::query_block) {
      const index rows = std::min(detail::query_block, s.tokens - first);
      const index keys = first + rows;
      const T beta = first == last ? T(0) : T(1);
      const T* const dy_block = dy + first * width;
      const T* const q_block = x.q + first * step;
      gemm<T>(false, true, rows, keys, s.head_dim, 1, q_block, step, x.k, step, 0, weights, keys);
      gemm<T>(false, true, rows, keys, s.head_dim, gate, dy_block, width, x.v, step, 0, dscores, keys);
      for (index r = 0; r < rows; ++r) {
        T* const p = weights + r * keys;
        T* const dp = dscores + r * keys;
        const T* const y_row = y + (first + r) * width;
        const T* const dy_row = dy_block + r * width;
        const index worked = detail::close_row(p, first + r + 1, keys);
        const T shift = log_sum[task * s.tokens + first + r];
        // sum_j p_j dp_j, by way of the output: p v = y / gate and dp = gate dy v^T
        const T mean = msg::serial_team{}.sum(s.head_dim, [=](index d) { return y_row[d] * dy_row[d]; });
        for (index j = 0; j < worked; ++j) {
          p[j] = msg::detail::exp_approx(msg::detail::fused(p[j], scale, -shift));
          dp[j] = scale * p[j] * (dp[j] - mean);
        }
        std::fill(p + worked, p + keys, T(0));
        std::fill(dp + worked, dp + keys, T(0));
      }
      gemm<T>(true, false, keys, s.head_dim, rows, gate, weights, keys, dy_block, width, beta, dx.v, step);
      gemm<T>(true, false, keys, s.head_dim, rows, 1, dscores, keys, q_block, step, beta, dx.k, step);
      gemm<T>(false, false, rows, s.head_dim, keys, 1, dscores, keys, x.k, step, 0, dx.q + first * step, step);
    }
  });
}

} // namespace reference
