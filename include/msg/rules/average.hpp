// Growth under a LayerNorm to any size: fresh units of the residual stream hold the mean of the old ones.
#pragma once

#include <msg/request.hpp>
#include <msg/rules/sources.hpp>

#include <cmath>

MSG_NAMESPACE_BEGIN

/// Whatever writes the axis writes the mean of its old units to the fresh ones. The mean stays, the variance shrinks by
/// old / new, and fresh units are 0 after the norm: what reads them is free. Gains * sqrt(old / new) (by apply), eps *
/// old / new (by the forward: the contract). Only where everything on the axis is a linear sum that a LayerNorm reads
/// (a pre-norm residual stream).
/// Source: Wang et al. 2024, LEMON, sec. 4 (average expansion).
struct average {
  static constexpr const char* name = "average";

  fresh_values fresh{};

  [[nodiscard]] axis_growth operator()(const rule_request& asked) const {
    axis_growth result{.source = asked.old_of, .fresh = fresh};
    if (asked.as_each || asked.logits || asked.scored) {
      result.refused = "average holds for a residual stream under a LayerNorm";
    } else if (asked.norm == norm_kind::none) {
      result.refused = "no norm hides the mean of the units from what reads them; rule duplicate or zero_block";
    } else if (asked.norm == norm_kind::rms) {
      result.refused = "an RMSNorm doesn't subtract the mean; rule zero_block";
    } else if (asked.position == norm_position::post) {
      result.refused = "a post-norm stream is normalised itself and would lose the mean; rule duplicate or mask";
    }
    if (!result.refused.empty()) { return result; }
    for (index& unit : result.source) { unit = unit == fresh_unit ? mean_unit : unit; }
    result.fresh.norm_bias = init::zeros(); // fresh units are 0 after the norm
    const double ratio = static_cast<double>(asked.new_size) / static_cast<double>(asked.old_size);
    result.contract.gain_factor = 1 / std::sqrt(ratio);
    result.contract.eps_factor = 1 / ratio;
    if (ratio > 1) {
      result.contract.keeps = strictness::rounding;
      result.approximate = "the norm gives part of the gradient to the fresh units, which hold the mean";
    }
    return result;
  }
};

MSG_NAMESPACE_END
