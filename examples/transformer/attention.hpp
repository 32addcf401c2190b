// Multi-head attention, causal or not, with grouped queries and padding, on query-key-value rows.
#pragma once

#include "transformer/attention_shape.hpp"
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
#include <cstdint>
#include <limits>

namespace reference {

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
  T* const row = qkv + sequence * s.tokens * s.row_width();
  T* const k = row + s.width() + head / s.group() * s.head_dim;
  return {row + head * s.head_dim, k, k + s.kv_heads * s.head_dim};
}

/// Zeros in the rows [first, last) of a head, rows `step` apart.
template <class T>
void clear_rows(T* x, index step, index width, index first, index last) noexcept {
  for (index t = first; t < last; ++t) { std::fill_n(x + t * step, width, T(0)); }
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

/// out = a . drop(softmax(q k^T / sqrt(D))) v, head by head; drop: nothing, or what s.drop says.
///
/// qkv      (B * T, (H + 2 K) * D): columns are all queries, then all keys, then all values
/// heads    (H) or none: factor a of each head's output; a head at exactly 0 is not computed at all
/// out      (B * T, H * D); 0 where the query is padding
/// log_sum  (B, H, T): log of each row's softmax denominator, for the backward; not written where a is 0
/// Scores are computed in tiles and never stored. The result does not depend on the number of threads.
template <class T>
void attention_forward(const attention_shape& s, const T* qkv, const msg::mask_view& heads, T* out, T* log_sum) {
  const index step = s.row_width();
  const T scale = static_cast<T>(1 / std::sqrt(static_cast<double>(s.head_dim)));
  parallel_tasks(s.batch * s.heads, [&](index task) {
    const index sequence = task / s.heads;
    const index head = task % s.heads;
    const T gate = heads ? static_cast<T>(heads.value[head]) : T(1);
    const index length = gate == T(0) ? 0 : s.length(sequence);
    T* const y = out + sequence * s.tokens * s.width() + head * s.head_dim;
    detail::clear_rows(y, s.width(), s.head_dim, length, s.tokens);
    const auto x = detail::rows_of(s, qkv, sequence, head);
    T* const scores = detail::attention_scratch<T>(s.tokens);
    T* const log_sums = log_sum + task * s.tokens;
    for (index first = 0; first < length; first += detail::query_block) {
      const index rows = std::min(detail::query_block, length - first);
      const index keys = s.keys(first, rows, length);
      gemm<T>(false, true, rows, keys, s.head_dim, 1, x.q + first * step, step, x.k, step, 0, scores, keys);
      T factor[detail::query_block];
      for (index r = 0; r < rows; ++r) {
        T* const row = scores + r * keys;
        const index worked = detail::close_row(row, s.causal ? first + r + 1 : keys, keys);
        const T shift = scale * row_maximum(msg::serial_team{}, row, worked);
        const T sum = msg::serial_team{}.sum(worked, [=](index j) {
          row[j] = msg::detail::exp_approx(msg::detail::fused(row[j], scale, -shift));
          return row[j];
        });
        if (s.drop) {
          drop_units(msg::serial_team{}, s.drop, s.weights_row(sequence, head, first + r), row, row, worked);
        }
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
/// is exactly 0, and padding, get exactly zero. Probabilities are computed again from qkv and log_sum. The query heads
/// of a group are summed one after another.
template <class T>
void attention_backward(const attention_shape& s, const T* qkv, const msg::mask_view& heads, const T* out,
                        const T* log_sum, const T* dout, T* dqkv) {
  const index step = s.row_width();
  const index width = s.width();
  const T scale = static_cast<T>(1 / std::sqrt(static_cast<double>(s.head_dim)));
  parallel_tasks(s.batch * s.kv_heads, [&](index task) {
    const index sequence = task / s.kv_heads;
    bool begun = false; // the keys' and values' gradients have been set
    for (index member = 0; member < s.group(); ++member) {
      const index head = task % s.kv_heads * s.group() + member;
      const T gate = heads ? static_cast<T>(heads.value[head]) : T(1);
      const index length = gate == T(0) ? 0 : s.length(sequence);
      const auto dx = detail::rows_of(s, dqkv, sequence, head);
      detail::clear_rows(dx.q, step, s.head_dim, length, s.tokens);
      const auto x = detail::rows_of(s, qkv, sequence, head);
      const index corner = sequence * s.tokens * width + head * s.head_dim;
      const T* const y = out + corner;
      const T* const dy = dout + corner;
      const T* const log_sums = log_sum + (sequence * s.heads + head) * s.tokens;
      T* const weights = detail::attention_scratch<T>(s.tokens);
      T* const dscores = weights + detail::query_block * s.tokens;
      // The last block sees all keys, so it sets what the earlier ones add to.
      for (index block = (length + detail::query_block - 1) / detail::query_block; block-- > 0;) {
        const index first = block * detail::query_block;
        const index rows = std::min(detail::query_block, length - first);
        const index keys = s.keys(first, rows, length);
        const T beta = begun ? T(1) : T(0);
        begun = true;
        const T* const dy_block = dy + first * width;
        const T* const q_block = x.q + first * step;
        gemm<T>(false, true, rows, keys, s.head_dim, 1, q_block, step, x.k, step, 0, weights, keys);
        gemm<T>(false, true, rows, keys, s.head_dim, gate, dy_block, width, x.v, step, 0, dscores, keys);
        for (index r = 0; r < rows; ++r) {
          T* const p = weights + r * keys;
          T* const dp = dscores + r * keys;
          const T* const y_row = y + (first + r) * width;
          const T* const dy_row = dy_block + r * width;
          const index worked = detail::close_row(p, s.causal ? first + r + 1 : keys, keys);
          const T shift = log_sums[first + r];
          const index number = s.weights_row(sequence, head, first + r);
          if (s.drop) { drop_units(msg::serial_team{}, s.drop, number, dp, dp, worked); }
          // sum_j p_j dp_j, by way of the output: drop(p) v = y / gate and dp = gate drop(dy v^T)
          const T mean = msg::serial_team{}.sum(s.head_dim, [=](index d) { return y_row[d] * dy_row[d]; });
          for (index j = 0; j < worked; ++j) {
            p[j] = msg::detail::exp_approx(msg::detail::fused(p[j], scale, -shift));
            dp[j] = scale * p[j] * (dp[j] - mean);
          }
          if (s.drop) { drop_units(msg::serial_team{}, s.drop, number, p, p, worked); }
          std::fill(p + worked, p + keys, T(0));
          std::fill(dp + worked, dp + keys, T(0));
        }
        gemm<T>(true, false, keys, s.head_dim, rows, gate, weights, keys, dy_block, width, beta, dx.v, step);
        gemm<T>(true, false, keys, s.head_dim, rows, 1, dscores, keys, q_block, step, beta, dx.k, step);
        gemm<T>(false, false, rows, s.head_dim, keys, 1, dscores, keys, x.k, step, 0, dx.q + first * step, step);
      }
    }
    const auto dx = detail::rows_of(s, dqkv, sequence, task % s.kv_heads * s.group());
    const index written = begun ? s.length(sequence) : 0;
    for (T* const part : {dx.k, dx.v}) { detail::clear_rows(part, step, s.head_dim, written, s.tokens); }
  });
}

} // namespace reference
