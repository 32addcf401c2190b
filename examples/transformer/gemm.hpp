// The one seam to a matrix-multiplication library: C = alpha op(A) op(B) + beta C on the calling thread.
#pragma once

#include "transformer/parallel.hpp"

#include <msg/config.hpp>

// gcc 12 takes its own AVX-512 intrinsics for uninitialised reads (GCC bug 105593).
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif
#include <Eigen/Core>
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic pop
#endif

#include <algorithm>
#include <concepts>
#include <stdexcept>
#include <string_view>
#include <type_traits>
#include <vector>

#if defined(MSG_WITH_DNNL)
#include <dnnl.h>
#endif

namespace reference {

/// The contraction is cut at multiples of this, from 0, so that its old part is summed in the same order after a
/// growth has appended to it. 256 is the longest chunk oneDNN never splits again (and costs nothing).
inline constexpr index gemm_chunk = 256;

[[nodiscard]] constexpr std::string_view gemm_backend_name() noexcept {
#if defined(MSG_WITH_DNNL)
  return "oneDNN";
#else
  return "Eigen";
#endif
}

namespace detail {

template <class T>
struct gemm_operands {
  bool transpose_a, transpose_b;
  index m, n, k;
  T alpha;
  const T* a;
  index lda;
  const T* b;
  index ldb;
  T* c;
  index ldc;
};

/// c += alpha op(a) op(b) by Eigen; the summation order depends on all sizes.
template <class T>
void gemm_eigen(const gemm_operands<T>& g) {
  using matrix = Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
  using source = Eigen::Map<const matrix, Eigen::Unaligned, Eigen::OuterStride<>>;
  const source a(g.a, g.transpose_a ? g.k : g.m, g.transpose_a ? g.m : g.k, Eigen::OuterStride<>(g.lda));
  const source b(g.b, g.transpose_b ? g.n : g.k, g.transpose_b ? g.k : g.n, Eigen::OuterStride<>(g.ldb));
  Eigen::Map<matrix, Eigen::Unaligned, Eigen::OuterStride<>> c(g.c, g.m, g.n, Eigen::OuterStride<>(g.ldc));
  if (g.transpose_a && g.transpose_b) {
    c.noalias() += g.alpha * a.transpose() * b.transpose();
  } else if (g.transpose_a) {
    c.noalias() += g.alpha * a.transpose() * b;
  } else if (g.transpose_b) {
    c.noalias() += g.alpha * a * b.transpose();
  } else {
    c.noalias() += g.alpha * a * b;
  }
}

/// c *= beta, where 0 forgets what c held, NaN included.
template <class T>
void scale_matrix(index m, index n, T beta, T* c, index ldc) {
  if (beta == T(1)) { return; }
  for (index i = 0; i < m; ++i) {
    T* const row = c + i * ldc;
    if (beta == T(0)) {
      std::fill_n(row, n, T(0));
    } else {
      for (index j = 0; j < n; ++j) { row[j] *= beta; }
    }
  }
}

#if defined(MSG_WITH_DNNL)
/// One chunk after another with beta = 1: each output is a sum over chunks of ascending k, whatever m, n and k are.
inline void gemm_dnnl(const gemm_operands<float>& g, float beta) {
  for (index from = 0; from < g.k; from += gemm_chunk) {
    const float* const a = g.transpose_a ? g.a + from * g.lda : g.a + from;
    const float* const b = g.transpose_b ? g.b + from : g.b + from * g.ldb;
    if (dnnl_sgemm(g.transpose_a ? 'T' : 'N', g.transpose_b ? 'T' : 'N', g.m, g.n, std::min(gemm_chunk, g.k - from),
                   g.alpha, a, g.lda, b, g.ldb, from == 0 ? beta : 1.0f, g.c, g.ldc) != dnnl_success) {
      throw std::runtime_error("dnnl_sgemm failed");
    }
  }
}

/// Fewest rows and columns for which oneDNN sums like for any larger number: below, it takes matrix-vector paths, and a
/// kernel of its own for few rows times a transposed b.
[[nodiscard]] constexpr index least_rows(bool transpose_b) noexcept { return transpose_b ? 16 : 2; }
inline constexpr index least_columns = 2;

/// A product with too few rows or columns, padded with zeros to the least numbers.
inline void gemm_dnnl_thin(const gemm_operands<float>& g, float beta) {
  gemm_operands<float> padded = g;
  std::vector<float> a;
  std::vector<float> b;
  if (g.m < least_rows(g.transpose_b)) {
    padded.m = least_rows(g.transpose_b);
    a.resize(static_cast<std::size_t>(padded.m * g.k));
    for (index i = 0; i < g.m; ++i) {
      for (index p = 0; p < g.k; ++p) {
        a[static_cast<std::size_t>(i * g.k + p)] = g.transpose_a ? g.a[p * g.lda + i] : g.a[i * g.lda + p];
      }
    }
    padded.a = a.data();
    padded.lda = g.k;
    padded.transpose_a = false;
  }
  if (g.n < least_columns) {
    padded.n = least_columns;
    b.resize(static_cast<std::size_t>(padded.n * g.k));
    for (index p = 0; p < g.k; ++p) {
      for (index j = 0; j < g.n; ++j) {
        b[static_cast<std::size_t>(g.transpose_b ? j * g.k + p : p * padded.n + j)] =
            g.transpose_b ? g.b[j * g.ldb + p] : g.b[p * g.ldb + j];
      }
    }
    padded.b = b.data();
    padded.ldb = g.transpose_b ? g.k : padded.n;
  }
  std::vector<float> c(static_cast<std::size_t>(padded.m * padded.n));
  for (index i = 0; i < g.m && beta != 0; ++i) { std::copy_n(g.c + i * g.ldc, g.n, c.data() + i * padded.n); }
  padded.c = c.data();
  padded.ldc = padded.n;
  gemm_dnnl(padded, beta);
  for (index i = 0; i < g.m; ++i) { std::copy_n(c.data() + i * padded.n, g.n, g.c + i * g.ldc); }
}
#endif

} // namespace detail

/// c = alpha op(a) op(b) + beta c, row-major, on the calling thread alone.
///
/// op(a) is (m, k), op(b) is (k, n), c is (m, n); a is stored (k, m) if transpose_a, b is stored (n, k) if transpose_b.
/// lda, ldb, ldc are the distances of stored rows. beta = 0 never reads c. c must not overlap a or b.
///
/// With oneDNN, float results have this property wherever bits_probe() finds it: each output is a function of its row
/// of op(a) and column of op(b) alone, and exact zeros appended to them change no bit.
template <std::floating_point T>
void gemm(bool transpose_a, bool transpose_b, index m, index n, index k, std::type_identity_t<T> alpha, const T* a,
          index lda, const T* b, index ldb, std::type_identity_t<T> beta, T* c, index ldc) {
  if (m == 0 || n == 0) { return; }
  if (k == 0) { return detail::scale_matrix(m, n, beta, c, ldc); }
  const detail::gemm_operands<T> g{transpose_a, transpose_b, m, n, k, alpha, a, lda, b, ldb, c, ldc};
  const single_threaded scope;
#if defined(MSG_WITH_DNNL)
  if constexpr (std::is_same_v<T, float>) {
    const bool thin = m < detail::least_rows(transpose_b) || n < detail::least_columns;
    return thin ? detail::gemm_dnnl_thin(g, beta) : detail::gemm_dnnl(g, beta);
  }
#endif
  detail::scale_matrix(m, n, beta, c, ldc);
  detail::gemm_eigen(g);
}

} // namespace reference
