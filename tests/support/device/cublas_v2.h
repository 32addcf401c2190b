// The part of cuBLAS that the reference Transformer calls, for tests without a GPU: plain loops over columns, as work
// of a stream of tests/support/device/cuda_runtime.h. Fast compute types round every operand that they read.
#pragma once

#include <cuda_runtime.h>

#include <bit>
#include <cstddef>
#include <cstdint>
#include <utility>

enum cublasStatus_t : int { CUBLAS_STATUS_SUCCESS = 0, CUBLAS_STATUS_NOT_INITIALIZED = 1, CUBLAS_STATUS_INVALID_VALUE = 7 };
enum cublasOperation_t { CUBLAS_OP_N, CUBLAS_OP_T };
enum cudaDataType { CUDA_R_32F, CUDA_R_64F };
enum cublasComputeType_t {
  CUBLAS_COMPUTE_32F,
  CUBLAS_COMPUTE_32F_FAST_16BF,
  CUBLAS_COMPUTE_32F_FAST_TF32,
  CUBLAS_COMPUTE_64F
};
enum cublasGemmAlgo_t { CUBLAS_GEMM_DEFAULT };
#define CUBLAS_VER_MAJOR 0
#define CUBLAS_VER_MINOR 0

namespace simt {

struct cublas {
  cudaStream_t stream = nullptr;
};

/// Bits of mantissa that a compute type leaves to operands.
inline int mantissa_bits(cublasComputeType_t compute) {
  switch (compute) {
    case CUBLAS_COMPUTE_32F_FAST_16BF: return 7;
    case CUBLAS_COMPUTE_32F_FAST_TF32: return 10;
    case CUBLAS_COMPUTE_32F: return 23;
    case CUBLAS_COMPUTE_64F: break;
  }
  return 52;
}

/// To nearest, ties to even; NaN and infinity stay what they are.
inline float rounded(float x, int mantissa) {
  const auto bits = std::bit_cast<std::uint32_t>(x);
  const int lost = 23 - mantissa;
  if (lost <= 0 || (bits & 0x7F800000U) == 0x7F800000U) { return x; }
  const std::uint32_t half = (std::uint32_t{1} << (lost - 1)) - 1 + (bits >> lost & 1U);
  return std::bit_cast<float>((bits + half) >> lost << lost);
}
inline double rounded(double x, int) { return x; }

/// Column-major C = alpha op(A) op(B) + beta C; every sum in the order of the contraction. beta = 0 never reads C.
///
/// mantissa  bits that operands are rounded to
template <class T>
void multiply(int mantissa, bool transpose_a, bool transpose_b, int m, int n, int k, T alpha, const T* a, int lda,
              const T* b, int ldb, T beta, T* c, int ldc) {
  for (int j = 0; j < n; ++j) {
    for (int i = 0; i < m; ++i) {
      T sum = 0;
      for (int p = 0; p < k; ++p) {
        sum += rounded(transpose_a ? a[std::ptrdiff_t{i} * lda + p] : a[std::ptrdiff_t{p} * lda + i], mantissa) *
               rounded(transpose_b ? b[std::ptrdiff_t{p} * ldb + j] : b[std::ptrdiff_t{j} * ldb + p], mantissa);
      }
      T& to = c[std::ptrdiff_t{j} * ldc + i];
      to = alpha * sum + (beta == 0 ? T(0) : beta * to);
    }
  }
}

inline bool valid_product(cublasOperation_t a, cublasOperation_t b, int m, int n, int k, int lda, int ldb, int ldc,
                          cudaDataType type, cublasComputeType_t compute) {
  if ((type == CUDA_R_64F) != (compute == CUBLAS_COMPUTE_64F)) { return false; }
  const auto least = [](int rows) { return rows > 1 ? rows : 1; };
  return m >= 0 && n >= 0 && k >= 0 && lda >= least(a == CUBLAS_OP_N ? m : k) &&
         ldb >= least(b == CUBLAS_OP_N ? k : n) && ldc >= least(m);
}

} // namespace simt

using cublasHandle_t = simt::cublas*;

inline const char* cublasGetStatusName(cublasStatus_t status) {
  return status == CUBLAS_STATUS_INVALID_VALUE ? "CUBLAS_STATUS_INVALID_VALUE" : "CUBLAS_STATUS_NOT_INITIALIZED";
}
inline cublasStatus_t cublasCreate(cublasHandle_t* handle) {
  *handle = new simt::cublas;
  return CUBLAS_STATUS_SUCCESS;
}
inline cublasStatus_t cublasDestroy(cublasHandle_t handle) {
  delete handle;
  return CUBLAS_STATUS_SUCCESS;
}
inline cublasStatus_t cublasSetStream(cublasHandle_t handle, cudaStream_t stream) {
  handle->stream = stream;
  return CUBLAS_STATUS_SUCCESS;
}

namespace simt {

template <class Function>
void with_type(cudaDataType type, const Function& f) {
  type == CUDA_R_64F ? f(double{}) : f(float{});
}

} // namespace simt

inline cublasStatus_t cublasGemmBatchedEx(cublasHandle_t handle, cublasOperation_t op_a, cublasOperation_t op_b, int m,
                                          int n, int k, const void* alpha, const void* const* a, cudaDataType type,
                                          int lda, const void* const* b, cudaDataType, int ldb, const void* beta,
                                          void* const* c, cudaDataType, int ldc, int count, cublasComputeType_t compute,
                                          cublasGemmAlgo_t) {
  if (!simt::valid_product(op_a, op_b, m, n, k, lda, ldb, ldc, type, compute) || count < 0) {
    return CUBLAS_STATUS_INVALID_VALUE;
  }
  const int bits = simt::mantissa_bits(compute);
  simt::with_type(type, [&](auto zero) {
    using T = decltype(zero);
    const T al = *static_cast<const T*>(alpha); // taken now, as cuBLAS does
    const T be = *static_cast<const T*>(beta);
    simt::enqueue(handle->stream, [=] {
      for (int i = 0; i < count; ++i) { // the addresses are read when it runs
        simt::multiply<T>(bits, op_a == CUBLAS_OP_T, op_b == CUBLAS_OP_T, m, n, k, al, static_cast<const T*>(a[i]), lda,
                          static_cast<const T*>(b[i]), ldb, be, static_cast<T*>(c[i]), ldc);
      }
    });
  });
  return CUBLAS_STATUS_SUCCESS;
}

inline cublasStatus_t cublasGemmEx(cublasHandle_t handle, cublasOperation_t op_a, cublasOperation_t op_b, int m, int n,
                                   int k, const void* alpha, const void* a, cudaDataType type, int lda, const void* b,
                                   cudaDataType, int ldb, const void* beta, void* c, cudaDataType, int ldc,
                                   cublasComputeType_t compute, cublasGemmAlgo_t) {
  if (!simt::valid_product(op_a, op_b, m, n, k, lda, ldb, ldc, type, compute)) { return CUBLAS_STATUS_INVALID_VALUE; }
  const int bits = simt::mantissa_bits(compute);
  simt::with_type(type, [&](auto zero) {
    using T = decltype(zero);
    const T al = *static_cast<const T*>(alpha);
    const T be = *static_cast<const T*>(beta);
    simt::enqueue(handle->stream, [=] {
      simt::multiply<T>(bits, op_a == CUBLAS_OP_T, op_b == CUBLAS_OP_T, m, n, k, al, static_cast<const T*>(a), lda,
                        static_cast<const T*>(b), ldb, be, static_cast<T*>(c), ldc);
    });
  });
  return CUBLAS_STATUS_SUCCESS;
}
