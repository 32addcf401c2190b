// Masked growth (MSG): fresh units hold any values and are silenced by a mask that ramps from 0 to 1.
#pragma once

#include <msg/request.hpp>

#include <cstddef>

MSG_NAMESPACE_BEGIN

/// Old unit that a new unit is a copy of: with interleaved placement the one before it, else the old units in turn
/// (layers: 0..L-1 stacked again on top). Old units stand for themselves. Query heads are copied from the group whose
/// key-value head their group has; where that one is fresh, from any head.
[[nodiscard]] inline std::vector<index> copied_from(const rule_request& asked) {
  std::vector<index> source = asked.old_of;
  const head_grouping& groups = asked.groups;
  index before = 0;
  index turn = 0;
  for (std::size_t j = 0; j < source.size(); ++j) {
    const auto unit = static_cast<index>(j);
    const index group =
        groups.old_size == 0 ? fresh_unit : groups.source[j / static_cast<std::size_t>(groups.new_size)];
    if (groups.old_size != 0 && unit % groups.new_size == 0) { turn = group < 0 ? turn : 0; }
    if (source[j] != fresh_unit) {
      before = source[j];
    } else if (group >= 0) {
      const index within =
          asked.interleaved ? unit % groups.new_size * groups.old_size / groups.new_size : turn++ % groups.old_size;
      source[j] = group * groups.old_size + within;
    } else {
      source[j] = asked.interleaved ? before : turn++ % asked.old_size;
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
