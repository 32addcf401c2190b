// The backend of a GPU: memory, kernels and products on one stream, by msg::cuda and cuBLAS.
#pragma once

#include "transformer/attention_rows.hpp"
#include "transformer/backend.hpp"
#include "transformer/cuda_attention.cuh"
#include "transformer/cuda_gemm.cuh"
#include "transformer/cuda_storage.cuh"
#include "transformer/experts.hpp"
#include "transformer/scatter_rows.hpp"
#include "transformer/tensors.hpp"

#include <msg/config.hpp>
#include <msg/cuda.cuh>
#include <msg/kernels/column_sum.hpp>
#include <msg/tensor.hpp>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

namespace reference {

namespace detail {
/// Rows of a kernel from `first` on.
template <class Kernel>
struct rows_from {
  Kernel kernel;
  index first;
  template <class Team>
  MSG_HOST_DEVICE void operator()(const Team& team, index row) const {
    kernel(team, first + row);
  }
};
} // namespace detail

/// One stream of the current GPU with what belongs to it; copies share it. No call waits for the GPU but sum(),
/// read() and sort_by_expert(), copy_in() when its room on the host is used up, and what allocates.
class cuda_backend {
public:
  template <class T>
  using storage = cuda_storage<T>;
  template <class T>
  using tensors = tensor_set<T, cuda_storage<T>>;

  /// Throws msg::error{cuda}.
  explicit cuda_backend(gemm_precision precision = gemm_precision::full)
      : shared_(std::make_shared<shared_state>(precision)) {}

  [[nodiscard]] msg::cuda::on stream() const noexcept { return msg::cuda::on(shared_->stream.get()); }
  /// Waits for everything that was launched.
  void wait() const { shared_->staging.wait(shared_->stream.get()); }

  template <class T>
  void copy_in(std::span<const T> from, cuda_storage<T>& to) const {
    to.resize(from.size());
    copy_in(from, to.data());
  }
  template <class T>
  void copy_in(std::span<const T> from, T* to) const {
    shared_->staging.copy(shared_->stream.get(), to, from.data(), from.size_bytes());
  }
  /// To the host; waits.
  template <class T>
  void read(const T* from, std::span<T> to) const {
    if (to.empty()) { return; }
    msg::cuda::check(cudaMemcpyAsync(to.data(), from, to.size_bytes(), cudaMemcpyDeviceToHost, shared_->stream.get()),
                     "cudaMemcpyAsync");
    wait();
  }

  [[nodiscard]] msg::mask_view place(int slot, const msg::mask_view& mask) const {
    if (!mask) { return {}; }
    placed_mask& to = shared_->places[static_cast<std::size_t>(slot)];
    copy_in(std::span<const float>(mask.value, static_cast<std::size_t>(mask.size)), to.values);
    copy_in(std::span<const double>(mask.sum, 1), to.sum);
    return {to.values.data(), to.sum.data(), mask.size};
  }
  [[nodiscard]] const float* place(int slot, std::span<const float> gates) const {
    placed_mask& to = shared_->places[static_cast<std::size_t>(slot)];
    copy_in(gates, to.values);
    return to.values.data();
  }

  template <class T>
  [[nodiscard]] double sum(const T* x, index count) const {
    stream().run(1, count, sum_all<T>{x, shared_->number.data(), count, 1, false});
    double total = 0;
    read(shared_->number.data(), std::span(&total, 1));
    return total;
  }
  template <class T>
  void add_sum(const T* x, index count, double factor, double* to) const {
    stream().run(1, count, sum_all<T>{x, to, count, factor, true});
  }
  template <class T>
  void fill_zero(T* x, index count) const {
    if (count == 0) { return; }
    msg::cuda::check(cudaMemsetAsync(x, 0, static_cast<std::size_t>(count) * sizeof(T), shared_->stream.get()),
                     "cudaMemsetAsync");
  }

  template <class Function>
  void blocks(index rows, const Function& f) const {
    if (rows > 0) { f(row_range{0, rows}); }
  }
  template <class Kernel>
  void run(row_range block, index width, const Kernel& kernel) const {
    stream().run(block.count, width, detail::rows_from<Kernel>{kernel, block.first});
  }
  template <class Kernel>
  void run_chunks(row_range block, index width, const Kernel& kernel) const {
    stream().run(msg::chunk_count(block.count), width,
                 detail::rows_from<Kernel>{kernel, block.first / msg::chunk_rows});
  }

  template <class T>
  void gemm(bool transpose_a, bool transpose_b, index m, index n, index k, std::type_identity_t<T> alpha, const T* a,
            index lda, const T* b, index ldb, std::type_identity_t<T> beta, T* c, index ldc) const {
    shared_->products.template run<T>({transpose_a, transpose_b, m, n, k, alpha, lda, ldb, beta, ldc}, a, b, c);
  }

  /// See attention.hpp. Scores are kept for a block of queries of some sequences, and computed again in the backward.
  template <class T>
  void attention_forward(const attention_shape& s, const T* qkv, const msg::mask_view& heads, T* out,
                         T* log_sum) const {
    const index step = s.row_width();
    const T* const zeros = zeros_for<T>(s, heads);
    for_each_head_batch<T>(s, [&](const head_batch& b, const attention_tables<T>& at, T* scores, T*) {
      at.fill(stream(), b, heads, zeros, qkv, false, out, qkv, scores, scores); // there are no gradients yet
      batched<T>({false, true, b.rows, b.keys(), s.head_dim, 1, step, step, 0, b.keys()}, at.query, at.key, at.scores,
                 b.items());
      stream().run(b.items() * b.rows, b.keys(), attention_weights<T>{b, heads, scores, log_sum});
      batched<T>({false, false, b.rows, s.head_dim, b.keys(), 1, b.keys(), step, 0, s.width()}, at.scores, at.value,
                 at.out, b.items());
    });
  }
  template <class T>
  void attention_backward(const attention_shape& s, const T* qkv, const msg::mask_view& heads, const T* out,
                          const T* log_sum, const T* dout, T* dqkv) const {
    const index step = s.row_width();
    const index dim = s.head_dim;
    const T* const zeros = zeros_for<T>(s, heads);
    for_each_head_batch<T>(s, [&](const head_batch& b, const attention_tables<T>& at, T* scores, T* dscores) {
      const index keys = b.keys();
      at.fill(stream(), b, heads, zeros, qkv, true, dout, dqkv, scores, dscores);
      batched<T>({false, true, b.rows, keys, dim, 1, step, step, 0, keys}, at.query, at.key, at.scores, b.items());
      batched<T>({false, true, b.rows, keys, dim, 1, s.width(), step, 0, keys}, at.out, at.value, at.dscores,
                 b.items());
      stream().run(b.items() * b.rows, keys, attention_gradients<T>{b, heads, scores, dscores, out, dout, log_sum});
      batched<T>({false, false, b.rows, dim, keys, 1, keys, step, 0, step}, at.dscores, at.key, at.dquery, b.items());
      // The last block of queries comes first and sees all keys, so its first member sets what the others add to.
      for (index member = 0; member < s.group(); ++member) {
        const T beta = b.first + b.rows == s.tokens && member == 0 ? T(0) : T(1);
        const index from = member * b.count();
        batched<T>({true, false, keys, dim, b.rows, 1, keys, s.width(), beta, step}, at.scores + from, at.out + from,
                   at.dvalue + from, b.count());
        batched<T>({true, false, keys, dim, b.rows, 1, keys, step, beta, step}, at.dscores + from, at.query + from,
                   at.dkey + from, b.count());
      }
    });
  }

  template <class T>
  void scatter_add(index rows, index width, const std::int32_t* which, const T* dx, T* table) const {
    auto& sums = shared_->template scratch<msg::accumulate_t<T>>();
    sums.resize(static_cast<std::size_t>(rows * width));
    shared_->rows.resize(static_cast<std::size_t>(rows));
    std::int32_t* const place = shared_->rows.data();
    stream().run(rows, width, scatter_within_chunk<T>{which, dx, sums.data(), place, rows, width});
    stream().run(rows, width, scatter_across_chunks<T>{place, sums.data(), table, rows, width});
  }

  /// See cpu_backend; everything is launched as it is added.
  template <class T>
  class gradient_tasks {
  public:
    explicit gradient_tasks(cuda_backend& on) : on_(on) {}
    void add_product(index rows, index m, index n, const T* a, index lda, const T* b, index ldb, T* c) {
      on_.gemm<T>(true, false, m, n, rows, 1, a, lda, b, ldb, 1, c, n);
    }
    void add_product(std::span<const row_range> ranges, index m, index n, const T* a, index lda, const T* b, index ldb,
                     T* c) {
      for (const row_range& r : ranges) {
        add_product(r.count, m, n, a + r.first * lda, lda, b + r.first * ldb, ldb, c);
      }
    }
    void add_join(index rows, index width, msg::accumulate_t<T>* partial, T* out) {
      on_.stream().run(msg::join_count(width), msg::join_columns,
                       msg::column_join<T>{partial, out, msg::chunk_count(rows), width});
    }
    void run() {}

  private:
    cuda_backend& on_;
  };

  /// See experts.hpp. The host learns how many tokens each expert has: products of that size follow. Waits.
  void sort_by_expert(row_range block, index per_token, index experts, const std::int32_t* chosen, std::int32_t* slots,
                      std::int32_t* rows, row_range* segments) const {
    const auto first = static_cast<std::size_t>(block.first * per_token);
    const auto count = static_cast<std::size_t>(block.count * per_token);
    std::vector<std::int32_t> choices(first + count);
    std::vector<std::int32_t> slots_here(first + count);
    std::vector<std::int32_t> rows_here(first + count);
    read(chosen + first, std::span(choices).subspan(first));
    reference::sort_by_expert(block, per_token, experts, choices.data(), slots_here.data(), rows_here.data(), segments);
    copy_in(std::span<const std::int32_t>(slots_here).subspan(first), slots + first);
    copy_in(std::span<const std::int32_t>(rows_here).subspan(first), rows + first);
  }

private:
  struct placed_mask {
    cuda_storage<float> values;
    cuda_storage<double> sum;
  };
  struct shared_state {
    explicit shared_state(gemm_precision precision) : number(1), products(stream.get(), precision) {}
    cuda_stream stream;
    staging_area staging;
    std::array<placed_mask, 8> places; // of masks and gates, by slot
    cuda_storage<double> number;
    cuda_storage<std::int32_t> rows;
    cuda_storage<float> floats;
    cuda_storage<double> doubles;
    cuda_storage<unsigned char> tables, zeros;
    cuda_products products;

    template <class T>
    [[nodiscard]] auto& scratch() {
      if constexpr (std::is_same_v<T, double>) {
        return doubles;
      } else {
        return floats;
      }
    }
  };

  template <class T>
  void batched(const product_sizes& sizes, const T* const* a, const T* const* b, const T* const* c, index count) const {
    shared_->products.template run_batched<T>(sizes, a, b, c, count);
  }

  /// What heads that are off read: zeros of a sequence's size. Null where no head can be off.
  template <class T>
  [[nodiscard]] const T* zeros_for(const attention_shape& s, const msg::mask_view& heads) const {
    if (!heads) { return nullptr; }
    const auto bytes = static_cast<std::size_t>(s.tokens * s.row_width()) * sizeof(T);
    shared_->zeros.resize(bytes);
    fill_zero(shared_->zeros.data(), static_cast<index>(bytes));
    return reinterpret_cast<const T*>(shared_->zeros.data());
  }

  /// Calls f(batch, tables, scores, dscores): some sequences after others, the last queries of each first.
  template <class T, class Function>
  void for_each_head_batch(const attention_shape& s, const Function& f) const {
    constexpr index query_block = 256;            // half of a causal block's end is wasted, so not too many
    constexpr index most_scores = index{1} << 26; // elements; one sequence may need more
    const index tile = s.heads * std::min(query_block, s.tokens) * s.tokens;
    const index together = std::clamp<index>(most_scores / std::max<index>(tile, 1), 1, std::max<index>(s.batch, 1));
    auto& scratch = shared_->template scratch<T>();
    scratch.resize(static_cast<std::size_t>(2 * together * tile));
    const index items = together * s.heads;
    shared_->tables.resize(static_cast<std::size_t>(attention_tables<T>::count * items) * sizeof(const T*));
    const attention_tables<T> at(reinterpret_cast<const T**>(shared_->tables.data()), items);
    for (index sequence = 0; sequence < s.batch; sequence += together) {
      for (index block = (s.tokens + query_block - 1) / query_block; block-- > 0;) {
        const index first = block * query_block;
        f(head_batch{s, sequence, std::min(together, s.batch - sequence), first,
                     std::min(query_block, s.tokens - first)},
          at, scratch.data(), scratch.data() + together * tile);
      }
    }
  }

  std::shared_ptr<shared_state> shared_;
};

} // namespace reference
