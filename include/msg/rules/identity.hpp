// Depth without a change of the function: copies of layers that write nothing yet.
#pragma once

#include <msg/request.hpp>
#include <msg/rules/sources.hpp>
#include <msg/rules/zero_block.hpp>

#include <vector>

MSG_NAMESPACE_BEGIN

/// New layers are copies of old ones whose writers to the residual stream (output projections and their biases) are 0:
/// exact under pre-norm, not kept under post-norm, where the layer's own norm still acts.
/// Source: Wu et al. 2024, LLaMA Pro, sec. 3 (block expansion).
struct identity {
  static constexpr const char* name = "identity";
  enum class order {
    placed,       // where the request's placement says, copies as stack takes them
    end_of_groups // n new layers behind n groups of old ones, each a copy of the last of its group
  };

  order where = order::placed;

  [[nodiscard]] axis_growth operator()(const rule_request& asked) const {
    axis_growth result;
    if (!asked.is_layers()) {
      result.refused = "identity inserts independent slices; the axis must have the role 'each' and no other";
      return result;
    }
    if (where == order::placed) {
      result.source = copied_from(asked);
    } else {
      const index count = asked.new_size - asked.old_size;
      index inserted = 0;
      for (index layer = 0; layer < asked.old_size; ++layer) {
        result.source.push_back(layer);
        result.old_of.push_back(layer);
        for (; (inserted + 1) * asked.old_size <= (layer + 1) * count; ++inserted) {
          result.source.push_back(layer);
          result.old_of.push_back(fresh_unit);
        }
      }
    }
    result.newborn = new_positions(result.old_of.empty() ? asked.old_of : result.old_of);
    detail::silent_layers(asked, result);
    return result;
  }
};

MSG_NAMESPACE_END
