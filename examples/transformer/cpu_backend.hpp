// The backend of the host's cores.
#pragma once

#include "transformer/attention.hpp"
#include "transformer/backend.hpp"
#include "transformer/experts.hpp"
#include "transformer/gemm.hpp"
#include "transformer/parallel.hpp"
#include "transformer/tensors.hpp"

#include <msg/config.hpp>
#include <msg/exec/serial.hpp>
#include <msg/kernels/column_sum.hpp>
#include <msg/tensor.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace reference {

/// Rows of a block: an eighth of all, within what suits GEMM (fewer rows cost speed) and the second-level cache (more
/// rows do). A function of the rows alone, so that no result depends on the number of threads.
[[nodiscard]] constexpr index block_rows(index rows) noexcept {
  index block = 256;
  while (block > msg::chunk_rows && rows < 8 * block) { block /= 2; }
  return block;
}
static_assert(block_rows(0) == msg::chunk_rows, "sums over rows take whole chunks of a block");

/// The host's cores.
struct cpu_backend {
  template <class T>
  using storage = reference::storage<T>;
  template <class T>
  using tensors = tensor_set<T>;

  template <class T>
  void copy_in(std::span<const T> from, storage<T>& to) const {
    to.assign(from.begin(), from.end());
  }
  [[nodiscard]] msg::mask_view place(int, const msg::mask_view& mask) const noexcept { return mask; }
  [[nodiscard]] const float* place(int, std::span<const float> gates) const noexcept { return gates.data(); }

  template <class T>
  [[nodiscard]] double sum(const T* x, index count) const noexcept {
    double total = 0;
    for (index i = 0; i < count; ++i) { total += static_cast<double>(x[i]); }
    return total;
  }
  template <class T>
  void add_sum(const T* x, index count, double factor, double* to) const noexcept {
    *to += factor * sum(x, count);
  }
  template <class T>
  void fill_zero(T* x, index count) const {
    std::fill_n(x, count, T(0));
  }

  /// A block goes through several steps while it is in the cache.
  template <class Function>
  void blocks(index rows, const Function& f) const {
    const index block = block_rows(rows);
    parallel_tasks((rows + block - 1) / block, [&](index i) {
      f(row_range{i * block, std::min(block, rows - i * block)});
    });
  }
  // A function of its own for each kernel: where many were inlined into one function, g++ stopped inlining what they
  // call, and vectorised none of them.
  template <class Kernel>
  [[gnu::noinline]] void run(row_range block, index, const Kernel kernel) const {
    for (index r = 0; r < block.count; ++r) { kernel(msg::serial_team{}, block.first + r); }
  }
  template <class Kernel>
  [[gnu::noinline]] void run_chunks(row_range block, index, const Kernel kernel) const {
    const index first = block.first / msg::chunk_rows;
    for (index c = 0; c < msg::chunk_count(block.count); ++c) { kernel(msg::serial_team{}, first + c); }
  }

  template <class T>
  void gemm(bool transpose_a, bool transpose_b, index m, index n, index k, std::type_identity_t<T> alpha, const T* a,
            index lda, const T* b, index ldb, std::type_identity_t<T> beta, T* c, index ldc) const {
    reference::gemm<T>(transpose_a, transpose_b, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
  }
  template <class T>
  void attention_forward(const attention_shape& s, const T* qkv, const msg::mask_view& heads, T* out,
                         T* log_sum) const {
    reference::attention_forward(s, qkv, heads, out, log_sum);
  }
  template <class T>
  void attention_backward(const attention_shape& s, const T* qkv, const msg::mask_view& heads, const T* out,
                          const T* log_sum, const T* dout, T* dqkv) const {
    reference::attention_backward(s, qkv, heads, out, log_sum, dout, dqkv);
  }

  /// Rows in ascending order for every column.
  template <class T>
  void scatter_add(index rows, index width, const std::int32_t* which, const T* dx, T* table) const {
    constexpr index columns = 64;
    parallel_tasks((width + columns - 1) / columns, [&](index block) {
      const index first = block * columns;
      const index count = std::min(columns, width - first);
      for (index r = 0; r < rows; ++r) {
        const T* const from = dx + r * width + first;
        T* const to = table + which[r] * width + first;
        msg::serial_team{}.each(count, [=](index j) { to[j] += from[j]; });
      }
    });
  }

  /// See sort_by_expert() of experts.hpp.
  void sort_by_expert(row_range block, index per_token, index experts, const std::int32_t* chosen, std::int32_t* slots,
                      std::int32_t* rows, row_range* segments) const {
    reference::sort_by_expert(block, per_token, experts, chosen, slots, rows, segments);
  }

  /// Work that ends in parameter gradients: products over all rows, and the second halves of sums over rows.
  template <class T>
  class gradient_tasks {
  public:
    explicit gradient_tasks(cpu_backend&) {}

    /// c += a^T b: a (rows, m), b (rows, n), c (m, n) without gaps; lda, ldb: distances of the rows of a and b.
    void add_product(index rows, index m, index n, const T* a, index lda, const T* b, index ldb, T* c) {
      const row_range all{0, rows};
      add_product(std::span(&all, 1), m, n, a, lda, b, ldb, c);
    }
    /// The same over some of the rows, range after range.
    void add_product(std::span<const row_range> ranges, index m, index n, const T* a, index lda, const T* b, index ldb,
                     T* c) {
      index rows = 0;
      for (const row_range& r : ranges) { rows += r.count; }
      const std::size_t begin = ranges_.size();
      ranges_.insert(ranges_.end(), ranges.begin(), ranges.end());
      for (index i = 0; i < m; i += tile) {
        for (index j = 0; j < n; j += tile) {
          tiles_.push_back({rows, begin, ranges.size(), a + i, lda, std::min(tile, m - i), b + j, ldb,
                            std::min(tile, n - j), c + i * n + j, n});
        }
      }
    }
    /// out += sum of the partial sums (chunks of rows, width).
    void add_join(index rows, index width, msg::accumulate_t<T>* partial, T* out) {
      for (index b = 0; b < msg::join_count(width); ++b) {
        joins_.push_back({{partial, out, msg::chunk_count(rows), width}, b});
      }
    }
    /// Runs what was added, and forgets it.
    void run() {
      const auto products = static_cast<index>(tiles_.size());
      const auto work = [](const product_tile& t) { return t.rows * t.m * t.n; };
      std::stable_sort(tiles_.begin(), tiles_.end(), [&](const auto& a, const auto& b) { return work(a) > work(b); });
      parallel_tasks(products + static_cast<index>(joins_.size()), [&](index i) {
        if (i < products) {
          const product_tile& t = tiles_[static_cast<std::size_t>(i)];
          for (const row_range& r : std::span(ranges_).subspan(t.range, t.ranges)) {
            reference::gemm<T>(true, false, t.m, t.n, r.count, 1, t.a + r.first * t.lda, t.lda, t.b + r.first * t.ldb,
                               t.ldb, 1, t.c, t.ldc);
          }
        } else {
          const join& j = joins_[static_cast<std::size_t>(i - products)];
          j.kernel(msg::serial_team{}, j.block);
        }
      });
      ranges_.clear();
      tiles_.clear();
      joins_.clear();
    }

  private:
    static constexpr index tile = 256;
    struct product_tile {
      index rows; // of all its ranges
      std::size_t range, ranges;
      const T* a;
      index lda, m;
      const T* b;
      index ldb, n;
      T* c;
      index ldc;
    };
    struct join {
      msg::column_join<T> kernel;
      index block;
    };
    std::vector<row_range> ranges_;
    std::vector<product_tile> tiles_;
    std::vector<join> joins_;
  };
};

} // namespace reference
