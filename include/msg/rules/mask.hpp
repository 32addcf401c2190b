// Masked growth (MSG): fresh units hold any values and are silenced by a mask that ramps from 0 to 1.
#pragma once

#include <msg/request.hpp>
#include <msg/rules/sources.hpp>

MSG_NAMESPACE_BEGIN

/// The rule of Masked Structural Growth: strict for any fresh values, on any axis, at any sizes, while the mask is 0.
///
///   width    fresh units are silenced after they are computed; under a norm, also in its statistics
///   layers   x + c f(x) on fresh layers; their initial values are copies of old layers, or fresh
///   logits   log c is added to the logits of fresh tokens, or to the router's of fresh experts
///   context  fresh positions need nothing: no old input selects one
///
/// Source: Yao et al. 2024, Masked Structural Growth, sec. 3 and 4.
struct mask {
  static constexpr const char* name = "mask";
  enum class start { fresh, copy };

  fresh_values fresh{};
  start width = start::fresh; // fresh units: initialised, or copies of old units
  start layers = start::copy; // fresh layers and experts: initialised, or copies of old ones

  [[nodiscard]] axis_growth operator()(const rule_request& asked) const {
    axis_growth result;
    if (asked.scored) {
      result.refused = "a wider head changes the scale of attention scores; grow the number of heads instead";
      return result;
    }
    result.fresh = fresh;
    result.source = (asked.as_each ? layers : width) == start::copy ? copied_from(asked) : asked.old_of;
    result.newborn = new_positions(asked.old_of);
    result.contract.blend_layers = asked.as_each && !asked.logits;
    result.contract.mask_norm_statistics = asked.norm != norm_kind::none;
    result.contract.mask_logits = asked.logits;
    // An axis that is only read (positions of an embedding table) needs nothing: no old input selects a fresh unit.
    result.contract.mask_activations = asked.as_out && !asked.logits && !asked.as_each && !asked.feeds_groups;
    result.contract.masked_by_readers = asked.feeds_groups;
    return result;
  }
};

MSG_NAMESPACE_END
