// How a GPU multiplies.
#pragma once

namespace reference {

/// Of float matrices, with sums in float.
enum class gemm_precision {
  full, // as they are
  tf32, // operands rounded to 10 bits of mantissa, for tensor cores
};

} // namespace reference
