// Depth by copying layers, with nothing to keep the function: stacking, and interleaving by placement.
#pragma once

#include <msg/request.hpp>
#include <msg/rules/mask.hpp>

MSG_NAMESPACE_BEGIN

/// New layers are copies of old ones and act at once: 0..L-1 again on top (append), or each behind the layer it copies
/// (placement interleave). Moments of the copies start at zero. The function is not kept; mask{} with the same copies
/// keeps it.
/// Source: Gong et al. 2019, Efficient Training of BERT by Progressively Stacking, sec. 3.
struct stack {
  static constexpr const char* name = "stack";

  [[nodiscard]] axis_growth operator()(const rule_request& asked) const {
    axis_growth result;
    if (!asked.as_each || asked.as_out || asked.as_in) {
      result.refused = "stack repeats independent slices; the axis must have the role 'each' and no other";
      return result;
    }
    result.source = copied_from(asked);
    for (const index unit : asked.old_of) { result.newborn.push_back(unit == fresh_unit ? 1 : 0); }
    result.contract.keeps = strictness::none;
    result.contract.reason = "copied layers act at once";
    return result;
  }
};

MSG_NAMESPACE_END
