// Products of row-major matrices by cuBLAS: C = alpha op(A) op(B) + beta C, alone or one for each head.
#pragma once

#include "transformer/gemm_precision.hpp"

#include <msg/config.hpp>
#include <msg/error.hpp>

#include <cublas_v2.h>
#include <cuda_runtime.h>

#include <concepts>
#include <limits>
#include <string>
#include <type_traits>

namespace reference {

using msg::index;

/// See gemm.hpp: op(a) (m, k), op(b) (k, n), c (m, n), rows lda, ldb, ldc apart.
struct product_sizes {
  bool transpose_a, transpose_b;
  index m, n, k;
  double alpha; // 0, 1, and what float holds
  index lda, ldb;
  double beta;
  index ldc;
};

/// Throws msg::error{cuda} naming the call, unless it succeeded.
inline void check(cublasStatus_t status, const char* call) {
  if (status == CUBLAS_STATUS_SUCCESS) { return; }
  throw msg::error(msg::diagnostic{
      .code = msg::errc::cuda, .expected = std::string(call) + " to succeed", .found = cublasGetStatusName(status)});
}

/// cuBLAS on one stream. Results are the same from run to run on one GPU, but the order of a sum depends on all sizes.
class cuda_products {
public:
  cuda_products(cudaStream_t stream, gemm_precision precision) : precision_(precision) {
    check(cublasCreate(&handle_), "cublasCreate");
    const cublasStatus_t bound = cublasSetStream(handle_, stream);
    if (bound != CUBLAS_STATUS_SUCCESS) { (void)cublasDestroy(handle_); }
    check(bound, "cublasSetStream");
  }
  cuda_products(const cuda_products&) = delete;
  cuda_products& operator=(const cuda_products&) = delete;
  ~cuda_products() { (void)cublasDestroy(handle_); }

  // cuBLAS reads columns where we have rows: it computes C^T = op(B)^T op(A)^T.

  template <std::floating_point T>
  void run(const product_sizes& s, const T* a, const T* b, T* c) const {
    if (s.m == 0 || s.n == 0) { return; }
    const T alpha = static_cast<T>(s.alpha);
    const T beta = static_cast<T>(s.beta);
    check(cublasGemmEx(handle_, operation(s.transpose_b), operation(s.transpose_a), narrow(s.n), narrow(s.m),
                       narrow(s.k), &alpha, b, type<T>, narrow(s.ldb), a, type<T>, narrow(s.lda), &beta, c, type<T>,
                       narrow(s.ldc), compute<T>(), CUBLAS_GEMM_DEFAULT),
          "cublasGemmEx");
  }
  /// a, b, c  (count), in device memory: where each product's matrices are
  template <std::floating_point T>
  void run_batched(const product_sizes& s, const T* const* a, const T* const* b, const T* const* c, index count) const {
    if (s.m == 0 || s.n == 0 || count == 0) { return; }
    const T alpha = static_cast<T>(s.alpha);
    const T beta = static_cast<T>(s.beta);
    const auto addresses = [](const T* const* p) { return reinterpret_cast<const void* const*>(p); };
    check(cublasGemmBatchedEx(handle_, operation(s.transpose_b), operation(s.transpose_a), narrow(s.n), narrow(s.m),
                              narrow(s.k), &alpha, addresses(b), type<T>, narrow(s.ldb), addresses(a), type<T>,
                              narrow(s.lda), &beta, const_cast<void* const*>(addresses(c)), type<T>, narrow(s.ldc),
                              narrow(count), compute<T>(), CUBLAS_GEMM_DEFAULT),
          "cublasGemmBatchedEx");
  }

private:
  template <class T>
  static constexpr cudaDataType type = std::is_same_v<T, double> ? CUDA_R_64F : CUDA_R_32F;
  template <class T>
  [[nodiscard]] cublasComputeType_t compute() const noexcept {
    if (std::is_same_v<T, double>) { return CUBLAS_COMPUTE_64F; }
    switch (precision_) {
      case gemm_precision::full: break;
      case gemm_precision::tf32: return CUBLAS_COMPUTE_32F_FAST_TF32;
      case gemm_precision::bf16: return CUBLAS_COMPUTE_32F_FAST_16BF; // cuBLAS converts operands as it reads them
    }
    return CUBLAS_COMPUTE_32F;
  }
  [[nodiscard]] static cublasOperation_t operation(bool transposed) noexcept {
    return transposed ? CUBLAS_OP_T : CUBLAS_OP_N;
  }
  [[nodiscard]] static int narrow(index size) {
    if (size > std::numeric_limits<int>::max()) {
      throw msg::error(msg::diagnostic{
          .code = msg::errc::unsupported, .expected = "sizes of a product below 2^31", .found = std::to_string(size)});
    }
    return static_cast<int>(size);
  }

  cublasHandle_t handle_ = nullptr;
  gemm_precision precision_;
};

} // namespace reference
