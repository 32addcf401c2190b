// What the model's code is written against, so that one code runs on any device: memory, blocks of rows, kernels,
// products, attention. The CPU is in cpu_backend.hpp, a GPU in cuda_backend.cuh.
#pragma once

#include "transformer/attention_shape.hpp"

#include <msg/config.hpp>
#include <msg/exec/serial.hpp>
#include <msg/tensor.hpp>

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <span>

namespace reference {

/// Rows (tokens) [first, first + count).
struct row_range {
  index first;
  index count;
};

namespace detail {
struct any_blocks { // a lambda inside a concept is more than nvcc takes
  void operator()(row_range) const {}
};
} // namespace detail

/// A place that computes. Everything a model computes goes through these calls, in order; pointers they take are the
/// backend's own memory, except where the host is named.
///
///   Backend::storage<E>             numbers in the backend's memory: resize(n) (any contents), data(), size()
///   Backend::tensors<T>             a tensor_set there: parameters, gradients
///   copy_in(host span, storage)     resizes and copies to the backend
///   place(slot, mask or span)       the same on the backend's side, valid until the next place() of that slot
///   sum(pointer, n)                 a double on the host, added in an order that is the same in every run; waits
///   add_sum(pointer, n, factor, to) *to += factor * sum(pointer, n), a double in the backend's memory; does not wait
///   fill_zero(pointer, n)
///   blocks(rows, f)                 f(row_range) over all rows. The CPU: blocks that stay in the cache from one step
///                                   to the next, in parallel. A device: one block, all rows; each step is a launch.
///   run(block, width, kernel)       a kernel of the library on the rows of a block; width: elements of a row
///   run_chunks(block, width, k)     a *_partial kernel on the chunks of chunk_rows rows of a block
///   gemm(...)                       see gemm.hpp
///   attention_forward(...), attention_backward(...)       see attention.hpp
///   scatter_add(rows, width, which, dx, table)    table[which[r]] += dx[r], in an order that is the same in every run
///   sort_by_expert(block, ...)      see cpu_backend
///   Backend::gradient_tasks<T>      work that ends in parameter gradients, see cpu_backend
template <class Backend, class T>
concept backend_for = requires(Backend& b, typename Backend::template storage<T>& numbers,
                               typename Backend::template tensors<T>& set, std::span<const T> host,
                               const std::int32_t* which, T* p, const msg::mask_view& mask) {
  numbers.resize(std::size_t{});
  set.begin();
  b.copy_in(host, numbers);
  { b.place(0, mask) } -> std::convertible_to<msg::mask_view>;
  { b.sum(p, index{}) } -> std::convertible_to<double>;
  b.add_sum(p, index{}, double{}, static_cast<double*>(nullptr));
  b.fill_zero(p, index{});
  b.blocks(index{}, detail::any_blocks{});
  b.run(row_range{}, index{}, msg::detail::any_kernel{});
  b.run_chunks(row_range{}, index{}, msg::detail::any_kernel{});
  b.gemm(false, false, index{}, index{}, index{}, T(1), p, index{}, p, index{}, T(0), p, index{});
  b.scatter_add(index{}, index{}, which, p, p);
  typename Backend::template gradient_tasks<T>;
};

struct cpu_backend;

} // namespace reference
