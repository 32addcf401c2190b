// Start-up probe: may growth promise bits with this GEMM back-end on this machine?
#pragma once

#include "transformer/gemm.hpp"

#include <algorithm>
#include <array>
#include <cstdint>
#include <string>
#include <vector>

namespace reference {

/// Answer of bits_probe().
struct bits_promise {
  bool promised = false; // a growth by appending keeps every bit of float logits, loss and old gradients at c = 0
  std::string reason;    // why, or the first product that changed
};

namespace detail {

struct gemm_sizes {
  index m, n, k;
};

/// Numbers in (-1, 1) that need no library: fractions of an odd multiplicative sequence.
inline float probe_number(std::uint32_t i) noexcept {
  std::uint32_t h = i * 2654435761u + 0x9e3779b9u;
  h ^= h >> 15;
  h *= 2246822519u;
  h ^= h >> 13;
  return static_cast<float>(static_cast<std::int32_t>(h)) * 0x1p-31f;
}

/// Computes the product `size` with a and b embedded in operands as large as `room`, from column `shift` of b on.
/// What lies outside of the old parts is exact zeros along the contraction of a, and large numbers elsewhere.
inline std::vector<float> probe_product(bool transpose_a, bool transpose_b, gemm_sizes size, gemm_sizes room,
                                        index shift) {
  std::vector<float> a(static_cast<std::size_t>(room.m * room.k));
  std::vector<float> b(static_cast<std::size_t>(room.k * room.n));
  std::vector<float> c(static_cast<std::size_t>(room.m * room.n));
  const index lda = transpose_a ? room.m : room.k;
  const index ldb = transpose_b ? room.k : room.n;
  std::uint32_t fresh = 1u << 30;
  for (index i = 0; i < room.m; ++i) {
    for (index p = 0; p < room.k; ++p) {
      float& cell = a[static_cast<std::size_t>(transpose_a ? p * lda + i : i * lda + p)];
      const bool old = i < size.m && p < size.k;
      cell = old ? probe_number(static_cast<std::uint32_t>(i * size.k + p)) : p < size.k ? probe_number(++fresh) : 0.0f;
    }
  }
  for (index p = 0; p < room.k; ++p) {
    for (index j = 0; j < room.n; ++j) {
      float& cell = b[static_cast<std::size_t>(transpose_b ? j * ldb + p : p * ldb + j)];
      const bool old = p < size.k && j >= shift && j < shift + size.n;
      cell = old ? probe_number(static_cast<std::uint32_t>(0x100000 + p * size.n + j - shift))
                 : 30.0f * probe_number(++fresh);
    }
  }
  gemm<float>(transpose_a, transpose_b, room.m, room.n, room.k, 1, a.data(), lda, b.data(), ldb, 0, c.data(), room.n);
  std::vector<float> old(static_cast<std::size_t>(size.m * size.n));
  for (index i = 0; i < size.m; ++i) {
    for (index j = 0; j < size.n; ++j) {
      old[static_cast<std::size_t>(i * size.n + j)] = c[static_cast<std::size_t>(i * room.n + shift + j)];
    }
  }
  return old;
}

} // namespace detail

/// Tries some hundred products before and after growing each of their sizes, and asks for equal bits.
///
/// A pass is evidence, not proof: it is taken as a promise for back-ends that are known to sum in a fixed order (fixed
/// chunks of oneDNN's dnnl_sgemm), and never for Eigen. Cost: tens of milliseconds, once.
[[nodiscard]] inline bits_promise bits_probe() {
#if !defined(MSG_WITH_DNNL)
  return {false, "the GEMM back-end is Eigen, whose order of summation depends on the sizes"};
#else
  using detail::gemm_sizes;
  const std::array<gemm_sizes, 8> sizes{
      {{1, 1, 1}, {1, 33, 64}, {2, 16, 6}, {5, 9, 48}, {17, 37, 100}, {48, 64, 128}, {64, 33, 256}, {33, 70, 300}}};
  const std::array<gemm_sizes, 8> growths{
      {{0, 0, 1}, {0, 0, 16}, {0, 0, 250}, {0, 3, 0}, {0, 64, 0}, {3, 0, 0}, {64, 0, 0}, {16, 16, 16}}};
  const auto text = [](gemm_sizes s) {
    return std::to_string(s.m) + "x" + std::to_string(s.n) + "x" + std::to_string(s.k);
  };
  for (const gemm_sizes size : sizes) {
    for (const int layout : {0, 1, 2}) { // x w, dy w^T, x^T dy
      const bool transpose_a = layout == 2;
      const bool transpose_b = layout == 1;
      const std::vector<float> before = detail::probe_product(transpose_a, transpose_b, size, size, 0);
      for (const gemm_sizes more : growths) {
        const gemm_sizes room{size.m + more.m, size.n + more.n, size.k + more.k};
        // the old columns first, as units are appended, and last, as queries push keys and values aside
        for (index shift = 0; shift <= more.n; shift += std::max<index>(more.n, 1)) {
          if (detail::probe_product(transpose_a, transpose_b, size, room, shift) != before) {
            return {false, std::string{gemm_backend_name()} + " changes bits when a product (m x n x k) grows from " +
                               text(size) + " to " + text(room)};
          }
        }
      }
    }
  }
  return {true, std::string{gemm_backend_name()} + " in chunks of " + std::to_string(gemm_chunk) +
                    " kept every bit of every product tried"};
#endif
}

} // namespace reference
