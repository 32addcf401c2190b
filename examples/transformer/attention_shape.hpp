// The sizes of attention, and how the rows it reads are laid out.
#pragma once

#include "transformer/dropout.hpp"

#include <msg/config.hpp>

#include <cstdint>

namespace reference {

using msg::index;

struct attention_shape {
  index batch;    // B
  index tokens;   // T
  index heads;    // H
  index kv_heads; // K, a divisor of H: query head h reads the keys and values of head h / (H / K)
  index head_dim; // D
  bool causal = true;
  const std::int32_t* lengths = nullptr; // (B): tokens of each sequence, the rest is padding; null: T
  dropped_units drop{};                  // weights of values that are left out, a unit for each key

  [[nodiscard]] MSG_HOST_DEVICE index width() const noexcept { return heads * head_dim; }
  [[nodiscard]] MSG_HOST_DEVICE index group() const noexcept { return heads / kv_heads; }
  /// Columns of queries, keys and values together.
  [[nodiscard]] MSG_HOST_DEVICE index row_width() const noexcept { return (heads + 2 * kv_heads) * head_dim; }
  [[nodiscard]] MSG_HOST_DEVICE index length(index sequence) const noexcept {
    return lengths == nullptr ? tokens : lengths[sequence];
  }
  /// A row of weights as `drop` counts it: old heads keep their rows when there are more.
  [[nodiscard]] MSG_HOST_DEVICE index weights_row(index sequence, index head, index query) const noexcept {
    return (head * batch + sequence) * tokens + query;
  }
  /// Keys that a block of queries [first, first + rows) may see, of `length`.
  [[nodiscard]] MSG_HOST_DEVICE index keys(index first, index rows, index length) const noexcept {
    return causal ? first + rows : length;
  }
};

} // namespace reference
