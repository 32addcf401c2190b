// The axes that ready schemas have in common, by the names that rules and trainers know them by.
#pragma once

#include <msg/axis.hpp>

MSG_NAMESPACE_BEGIN

namespace detail {

struct transformer_axes {
  axis vocab, hidden, ffn, heads, head_dim, layers;
};

/// sizes  gpt2_sizes and the like: a member of the name of each axis
template <class Sizes>
[[nodiscard]] transformer_axes axes_of(const Sizes& sizes) {
  return {{"vocab", sizes.vocab}, {"hidden", sizes.hidden},     {"ffn", sizes.ffn},
          {"heads", sizes.heads}, {"head_dim", sizes.head_dim}, {"layers", sizes.layers}};
}

} // namespace detail

MSG_NAMESPACE_END
