// A linear layer as its architecture stores it: one matrix or several side by side, with a bias or without.
#pragma once

#include "transformer/backend.hpp"

#include <msg/config.hpp>
#include <msg/kernels/activation.hpp>
#include <msg/kernels/column_sum.hpp>
#include <msg/tensor.hpp>

#include <array>
#include <span>

namespace reference {

/// y = x W + b. W is the matrices side by side: GPT-2's fused queries, keys and values are one, BERT's and Llama's are
/// three, SwiGLU's gate and up are two.
template <class T>
struct projection {
  struct matrix {
    T* weight = nullptr; // (in, out) or (out, in)
    T* bias = nullptr;   // (out), or null
    index out = 0;
  };
  std::array<matrix, 3> matrices{};
  index count = 0;     // of matrices
  index in = 0;        // columns of x
  index out = 0;       // columns of y: those of all matrices
  bool in_out = false; // stored (in, out), as GPT-2's Conv1D; otherwise (out, in), as torch's Linear
  index pieces = 1;    // equal parts of each matrix' columns that grow each on its own

  [[nodiscard]] std::span<const matrix> parts() const noexcept {
    return {matrices.data(), static_cast<std::size_t>(count)};
  }
  void add(const matrix& m) noexcept {
    matrices[static_cast<std::size_t>(count++)] = m;
    out += m.out;
  }
};

/// Calls f(matrix, its first column in y).
template <class T, class Function>
void for_each_matrix(const projection<T>& w, const Function& f) {
  index column = 0;
  for (const auto& m : w.parts()) {
    f(m, column);
    column += m.out;
  }
}

/// y = x W on a block of rows, without the bias: x (rows, in), y (rows, out).
template <class T, class Backend>
void linear_forward(Backend& on, row_range block, const projection<const T>& w, const T* x, T* y) {
  for_each_matrix(w, [&](const auto& m, index column) {
    on.template gemm<T>(false, !w.in_out, block.count, m.out, w.in, 1, x + block.first * w.in, w.in, m.weight,
                        w.in_out ? m.out : w.in, 0, y + block.first * w.out + column, w.out);
  });
}

/// dx = dy W^T on a block of rows, or dx += with `accumulate`. Matrices and pieces are summed one after another, so
/// that units appended to each of them (heads to queries, keys and values) leave the order of the old ones alone.
template <class T, class Backend>
void linear_backward(Backend& on, row_range block, const projection<const T>& w, const T* dy, T* dx,
                     bool accumulate = false) {
  for_each_matrix(w, [&](const auto& m, index column) {
    const index width = m.out / w.pieces;
    for (index p = 0; p < w.pieces; ++p) {
      const bool first = column == 0 && p == 0 && !accumulate;
      on.template gemm<T>(false, w.in_out, block.count, w.in, width, 1, dy + block.first * w.out + column + p * width,
                          w.out, m.weight + (w.in_out ? p * width : p * width * w.in), w.in_out ? m.out : w.in,
                          first ? T(0) : T(1), dx + block.first * w.in, w.in);
    }
  });
}

/// y += b on a block of rows.
template <class T, class Backend>
void add_bias(Backend& on, row_range block, const projection<const T>& w, T* y) {
  for_each_matrix(w, [&](const auto& m, index column) {
    if (m.bias == nullptr) { return; }
    on.run(block, m.out,
           msg::activation_forward<T, msg::no_activation>{y + column, m.bias, y + column, m.out, {}, 1, w.out});
  });
}

/// y = m . y on a block of rows, the mask on each piece of each matrix: the forward's and the backward's call.
///
/// units(matrix number)  its mask, each entry for `repeat` columns
template <class T, class Backend, class Units>
void mask_pieces(Backend& on, row_range block, const projection<const T>& w, T* y, index repeat, const Units& units) {
  index number = 0;
  for_each_matrix(w, [&](const auto& m, index column) {
    const index width = m.out / w.pieces;
    const msg::mask_view mask = units(number++);
    for (index p = 0; p < w.pieces && mask; ++p) {
      T* const at = y + column + p * width;
      on.run(block, width, msg::activation_forward<T, msg::no_activation>{at, nullptr, at, width, mask, repeat, w.out});
    }
  });
}

/// Sums of a block's dy over rows, the first half of the biases' gradients; add_gradient() adds the second.
///
/// partial  (chunk_count(rows), out)
template <class T, class Backend>
void bias_sums(Backend& on, row_range block, index rows, const projection<T>& d, const T* dy,
               msg::accumulate_t<T>* partial) {
  for_each_matrix(d, [&](const auto& m, index column) {
    if (m.bias == nullptr) { return; }
    on.run_chunks(
        block, m.out,
        msg::column_sum_partial<T>{dy + column, partial + msg::chunk_count(rows) * column, rows, m.out, d.out});
  });
}

/// dW += x^T dy over some rows, of a layer without biases.
template <class T, class Tasks>
void add_gradient(Tasks& tasks, std::span<const row_range> rows, const projection<T>& d, const T* x, const T* dy) {
  for_each_matrix(d, [&](const auto& m, index column) {
    if (d.in_out) {
      tasks.add_product(rows, d.in, m.out, x, d.in, dy + column, d.out, m.weight);
    } else {
      tasks.add_product(rows, m.out, d.in, dy + column, d.out, x, d.in, m.weight);
    }
  });
}

/// dW += x^T dy, db += the sums of bias_sums(); x (rows, in), dy (rows, out).
template <class T, class Tasks>
void add_gradient(Tasks& tasks, index rows, const projection<T>& d, const T* x, const T* dy,
                  msg::accumulate_t<T>* partial) {
  const row_range all{0, rows};
  add_gradient(tasks, std::span(&all, 1), d, x, dy);
  for_each_matrix(d, [&](const auto& m, index column) {
    if (m.bias != nullptr) { tasks.add_join(rows, m.out, partial + msg::chunk_count(rows) * column, m.bias); }
  });
}

} // namespace reference
