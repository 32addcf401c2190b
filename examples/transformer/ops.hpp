// Steps the model is made of: blocks of rows through GEMMs and kernels, sums over rows, the loss, the embedding.
#pragma once

#include "transformer/gemm.hpp"
#include "transformer/parallel.hpp"
#include "transformer/tensors.hpp"

#include <msg/config.hpp>
#include <msg/exec/serial.hpp>
#include <msg/kernels/arithmetic.hpp>
#include <msg/kernels/column_sum.hpp>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

namespace reference {

/// Rows (tokens) [first, first + count).
struct row_range {
  index first;
  index count;
};

/// Rows of a block: an eighth of all, within what suits GEMM (fewer rows cost speed) and the second-level cache (more
/// rows do). A function of the rows alone, so that no result depends on the number of threads.
[[nodiscard]] constexpr index block_rows(index rows) noexcept {
  index block = 256;
  while (block > msg::chunk_rows && rows < 8 * block) { block /= 2; }
  return block;
}
static_assert(block_rows(0) == msg::chunk_rows, "sums over rows take whole chunks of a block");

/// Runs f(row_range) over blocks of rows in parallel. A block goes through several steps while it is in the cache.
template <class Function>
void for_row_blocks(index rows, const Function& f) {
  const index block = block_rows(rows);
  parallel_tasks((rows + block - 1) / block, [&](index i) {
    f(row_range{i * block, std::min(block, rows - i * block)});
  });
}

/// Runs a kernel of the library on rows of a block.
template <class Kernel>
void run_rows(row_range block, const Kernel& kernel) {
  for (index r = 0; r < block.count; ++r) { kernel(msg::serial_team{}, block.first + r); }
}
/// Runs a *_partial kernel on the chunks of a block.
template <class Kernel>
void run_chunks(row_range block, const Kernel& kernel) {
  const index first = block.first / msg::chunk_rows;
  for (index c = 0; c < msg::chunk_count(block.count); ++c) { kernel(msg::serial_team{}, first + c); }
}

/// y = x w on a block of rows: x (rows, in), w (in, out), y (rows, out).
template <class T>
void linear_forward(row_range block, index in, index out, const T* x, const T* w, T* y) {
  gemm<T>(false, false, block.count, out, in, 1, x + block.first * in, in, w, out, 0, y + block.first * out, out);
}

/// dx = dy w^T on a block of rows. `parts` equal parts of `out` are summed one after another, so that units appended to
/// each of them (heads to queries, keys and values) leave the order of the old ones alone.
template <class T>
void linear_backward(row_range block, index in, index out, const T* dy, const T* w, T* dx, index parts = 1) {
  const index width = out / parts;
  for (index p = 0; p < parts; ++p) {
    gemm<T>(false, true, block.count, in, width, 1, dy + block.first * out + p * width, out, w + p * width, out,
            p == 0 ? T(0) : T(1), dx + block.first * in, in);
  }
}

/// Work that ends in parameter gradients: products x^T dy over all rows, and the second halves of sums over rows.
template <class T>
class gradient_tasks {
public:
  explicit gradient_tasks(index rows) : rows_(rows) {}

  /// dw += x^T dy: x (rows, in), dy (rows, out), dw (in, out).
  void add_product(index in, index out, const T* x, const T* dy, T* dw) {
    for (index i = 0; i < in; i += tile) {
      for (index j = 0; j < out; j += tile) {
        tiles_.push_back({x + i, in, std::min(tile, in - i), dy + j, out, std::min(tile, out - j), dw + i * out + j});
      }
    }
  }
  /// out += sum of the partial sums (chunks, width).
  void add_join(index width, T* partial, T* out) {
    for (index b = 0; b < msg::join_count(width); ++b) {
      joins_.push_back({{partial, out, msg::chunk_count(rows_), width}, b});
    }
  }
  /// Runs what was added, and forgets it.
  void run() {
    const auto products = static_cast<index>(tiles_.size());
    std::stable_sort(tiles_.begin(), tiles_.end(), [](const auto& a, const auto& b) { return a.m * a.n > b.m * b.n; });
    parallel_tasks(products + static_cast<index>(joins_.size()), [&](index i) {
      if (i < products) {
        const product_tile& t = tiles_[static_cast<std::size_t>(i)];
        gemm<T>(true, false, t.m, t.n, rows_, 1, t.x, t.ldx, t.dy, t.ldy, 1, t.dw, t.ldy);
      } else {
        const join& j = joins_[static_cast<std::size_t>(i - products)];
        j.kernel(msg::serial_team{}, j.block);
      }
    });
    tiles_.clear();
    joins_.clear();
  }

private:
  static constexpr index tile = 256;
  struct product_tile {
    const T* x;
    index ldx, m;
    const T* dy;
    index ldy, n;
    T* dw;
  };
  struct join {
    msg::column_join<T> kernel;
    index block;
  };
  index rows_;
  std::vector<product_tile> tiles_;
  std::vector<join> joins_;
};

/// Largest of n numbers, -infinity for none; lanes, so that it vectorises.
template <class T>
[[nodiscard]] T row_maximum(const T* x, index n) noexcept {
  constexpr index lanes = msg::serial_team::lanes;
  T lane[lanes];
  std::fill_n(lane, lanes, -std::numeric_limits<T>::infinity());
  index i = 0;
  for (; i + lanes <= n; i += lanes) {
    for (index l = 0; l < lanes; ++l) { lane[l] = x[i + l] > lane[l] ? x[i + l] : lane[l]; }
  }
  for (index l = 0; i + l < n; ++l) { lane[l] = x[i + l] > lane[l] ? x[i + l] : lane[l]; }
  return *std::max_element(lane, lane + lanes);
}

/// Negative log-likelihood of a row's target under softmax(logits), and the log of the softmax denominator.
///
/// logits         (rows, classes)
/// target         (rows); negative: the row does not count, loss 0
/// loss, log_sum  (rows)
template <class T>
struct cross_entropy_forward {
  const T* logits;
  const std::int32_t* target;
  T* loss;
  T* log_sum;
  index classes;

  template <class Team>
  void operator()(const Team& team, index row) const {
    const T* const x = logits + row * classes;
    const T greatest = row_maximum(x, classes);
    const T sum = team.sum(classes, [=](index j) { return msg::detail::exp_approx(x[j] - greatest); });
    log_sum[row] = greatest + std::log(sum);
    loss[row] = target[row] < 0 ? T(0) : log_sum[row] - x[target[row]];
  }
};

/// Gradient of scale * sum of losses, in place of the logits: scale (softmax - one-hot), or 0 where a row does not
/// count.
template <class T>
struct cross_entropy_backward {
  T* logits;
  const std::int32_t* target;
  const T* log_sum;
  T scale;
  index classes;

  template <class Team>
  void operator()(const Team& team, index row) const {
    T* const x = logits + row * classes;
    if (target[row] < 0) {
      return team.each(classes, [=](index j) { x[j] = T(0); });
    }
    const T shift = log_sum[row];
    const T factor = scale;
    team.each(classes, [=](index j) { x[j] = factor * msg::detail::exp_approx(x[j] - shift); });
    x[target[row]] -= factor;
  }
};

/// x[r] = wte[token[r]] + wpe[r mod tokens], rows of `width`.
template <class T>
struct embedding_forward {
  const T* wte;
  const T* wpe;
  const std::int32_t* token;
  T* x;
  index tokens;
  index width;

  template <class Team>
  void operator()(const Team& team, index row) const {
    const T* const word = wte + token[row] * width;
    const T* const place = wpe + row % tokens * width;
    T* const to = x + row * width;
    team.each(width, [=](index j) { to[j] = word[j] + place[j]; });
  }
};

/// dwte[token[r]] += dx[r] and dwpe[r mod tokens] += dx[r], rows in ascending order for every column.
template <class T>
void embedding_backward(index rows, index tokens, index width, const std::int32_t* token, const T* dx, T* dwte,
                        T* dwpe) {
  constexpr index columns = 64;
  parallel_tasks((width + columns - 1) / columns, [&](index block) {
    const index first = block * columns;
    const index count = std::min(columns, width - first);
    for (index r = 0; r < rows; ++r) {
      const T* const from = dx + r * width + first;
      T* const word = dwte + token[r] * width + first;
      T* const place = dwpe + r % tokens * width + first;
      msg::serial_team{}.each(count, [=](index j) {
        word[j] += from[j];
        place[j] += from[j];
      });
    }
  });
}

} // namespace reference
