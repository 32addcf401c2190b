// How a GPU multiplies.
#pragma once

#include <array>
#include <optional>
#include <string_view>
#include <utility>

namespace reference {

/// Of float matrices, with sums in float. Weights, gradients and optimizer state are float in every case.
enum class gemm_precision {
  full, // as they are
  tf32, // operands rounded to 10 bits of mantissa, for tensor cores
  bf16, // operands rounded to 7 bits of mantissa, for tensor cores
};

/// By the name that --precision takes.
inline constexpr std::array<std::pair<std::string_view, gemm_precision>, 3> gemm_precisions{
    {{"fp32", gemm_precision::full}, {"tf32", gemm_precision::tf32}, {"bf16", gemm_precision::bf16}}};

[[nodiscard]] constexpr std::optional<gemm_precision> gemm_precision_of(std::string_view name) noexcept {
  for (const auto& [known, precision] : gemm_precisions) {
    if (known == name) { return precision; }
  }
  return std::nullopt;
}

} // namespace reference
