// Masked growth (MSG): fresh units hold any values and are silenced by a mask that ramps from 0 to 1.
#pragma once

#include <msg/request.hpp>

#include <cstddef>

MSG_NAMESPACE_BEGIN

/// Old unit that a new unit is a copy of: with interleaved placement the one before it, else the old units in turn
/// (layers: 0..L-1 stacked again on top). Old units stand for themselves.
[[nodiscard]] inline std::vector<index> copied_from(const rule_request& asked) {
  std::vector<index> source = asked.old_of;
  index before = 0;
  index turn = 0;
  for (index& unit : source) {
    if (unit != fresh_unit) {
      before = unit;
    } else {
      unit = asked.interleaved ? before : turn++ % asked.old_size;
    }
  }
  return source;
}

/// The rule of Masked Structural Growth: strict for any fresh values, on any axis, at any sizes, while the mask is 0.
///
///   width   fresh units are silenced after they are computed; under a norm, also in its statistics
///   layers  x + c f(x) on fresh layers; their initial values are copies of old layers, or fresh
///
/// Source: Yao et al. 2024, Masked Structural Growth, sec. 3 and 4.
struct mask {
  static constexpr const char* name = "mask";
  enum class start { fresh, copy };

  fresh_values fresh{};
  start width = start::fresh; // fresh units: initialised, or copies of old units
  start layers = start::copy; // fresh layers: initialised, or copies of old layers

  [[nodiscard]] axis_growth operator()(const rule_request& asked) const {
    axis_growth result;
    if (asked.scored) {
      result.refused = "a wider head changes the scale of attention scores; grow the number of heads instead";
      return result;
    }
    result.fresh = fresh;
    result.source = (asked.as_each ? layers : width) == start::copy ? copied_from(asked) : asked.old_of;
    for (const index unit : asked.old_of) { result.newborn.push_back(unit == fresh_unit ? 1 : 0); }
    result.contract.blend_layers = asked.as_each;
    result.contract.mask_norm_statistics = asked.norm != norm_kind::none;
    result.contract.mask_logits = asked.logits;
    // An axis that is only read (positions of an embedding table) needs nothing: no old input selects a fresh unit.
    result.contract.mask_activations = asked.as_out && !asked.logits && !asked.as_each;
    return result;
  }
};

MSG_NAMESPACE_END
