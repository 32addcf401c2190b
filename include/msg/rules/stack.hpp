// Depth by copies of layers that act at once: stacked, interleaved, the middle repeated, or two halves that overlap.
#pragma once

#include <msg/request.hpp>
#include <msg/rules/sources.hpp>

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

MSG_NAMESPACE_BEGIN

namespace detail {

/// Copies of layers, moments from zero, with nothing to keep the function. Empty sources: refused.
[[nodiscard]] inline axis_growth copied_layers(const rule_request& asked, std::vector<index> source,
                                               std::vector<index> old_of, const char* rule_name) {
  axis_growth result;
  if (!asked.is_layers()) {
    result.refused =
        std::string(rule_name) + " repeats independent slices; the axis must have the role 'each' and no other";
    return result;
  }
  result.newborn = new_positions(old_of.empty() ? asked.old_of : old_of);
  result.source = std::move(source);
  result.old_of = std::move(old_of);
  if (asked.new_size > asked.old_size) {
    result.contract.keeps = strictness::none;
    result.contract.reason = "copied layers act at once";
  }
  return result;
}

} // namespace detail

/// New layers are copies of old ones and act at once: 0..L-1 again on top (append), or each behind the layer it copies
/// (placement interleave). Moments of the copies start at zero. The function is not kept; mask{} with the same copies
/// keeps it.
/// Source: Gong et al. 2019, Efficient Training of BERT by Progressively Stacking, sec. 3.
struct stack {
  static constexpr const char* name = "stack";

  [[nodiscard]] axis_growth operator()(const rule_request& asked) const {
    return detail::copied_layers(asked, copied_from(asked), {}, name);
  }
};

/// Copies behind the layers they copy: stack with an order of its own.
/// Source: Chang et al. 2018, Multi-level Residual Networks (interpolation of layers).
struct interleave {
  static constexpr const char* name = "interleave";

  [[nodiscard]] axis_growth operator()(const rule_request& asked) const {
    std::vector<index> old_of = positions_of(placement::interleave(), asked.old_size, asked.new_size);
    std::vector<index> source = old_of;
    for (std::size_t j = 1; j < source.size(); ++j) {
      if (source[j] == fresh_unit) { source[j] = source[j - 1]; }
    }
    return detail::copied_layers(asked, std::move(source), std::move(old_of), name);
  }
};

/// The middle of the model once more, behind itself: with n new layers the n in the middle (all, in turn, if n > L).
/// Source: Saunshi et al. 2024, On the Inductive Bias of Stacking Towards Improving Reasoning (MIDAS).
struct middle_repeat {
  static constexpr const char* name = "middle_repeat";

  [[nodiscard]] axis_growth operator()(const rule_request& asked) const {
    const index count = asked.new_size - asked.old_size;
    const index block = std::min(count, asked.old_size);
    const index begin = (asked.old_size - block) / 2;
    std::vector<index> source;
    std::vector<index> old_of;
    for (index layer = 0; layer < asked.old_size; ++layer) {
      source.push_back(layer);
      old_of.push_back(layer);
      for (index copy = 0; layer + 1 == begin + block && copy < count; ++copy) {
        source.push_back(begin + copy % block);
        old_of.push_back(fresh_unit);
      }
    }
    return detail::copied_layers(asked, std::move(source), std::move(old_of), name);
  }
};

/// Layers 0..n-m-1, then m..n-1: the model twice, without its last m layers below and its first m layers above.
/// Source: Kim et al. 2024, SOLAR 10.7B, sec. 2 (depth up-scaling).
struct overlap_stack {
  static constexpr const char* name = "overlap_stack";

  [[nodiscard]] axis_growth operator()(const rule_request& asked) const {
    if (asked.new_size > 2 * asked.old_size) {
      return {.refused = "two copies of the model have at most " + std::to_string(2 * asked.old_size) + " layers"};
    }
    const index below = (asked.new_size + 1) / 2;
    const index above = asked.old_size - asked.new_size / 2; // first layer of the upper copy; not above `below`
    std::vector<index> source;
    std::vector<index> old_of;
    for (index layer = 0; layer < below; ++layer) {
      source.push_back(layer);
      old_of.push_back(layer);
    }
    for (index layer = above; layer < asked.old_size; ++layer) {
      source.push_back(layer);
      old_of.push_back(layer < below ? fresh_unit : layer);
    }
    return detail::copied_layers(asked, std::move(source), std::move(old_of), name);
  }
};

MSG_NAMESPACE_END
