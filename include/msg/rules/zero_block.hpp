// Zero-block growth (Composable function-preserving expansions): fresh units hold any values and nobody hears them.
#pragma once

#include <msg/request.hpp>
#include <msg/rules/sources.hpp>

#include <cmath>

MSG_NAMESPACE_BEGIN

namespace detail {

/// What a fresh layer that writes nothing keeps: x + 0 before the norms of the next layer, but N(x + 0) after its own.
inline void silent_layers(const rule_request& asked, axis_growth& result) {
  result.fills.zero_writers = true;
  if (!asked.any_residual) {
    result.refused = "no axis is known as the residual stream that layers write to; name it with schema::normed";
  } else if (asked.any_post_norm && asked.new_size > asked.old_size) {
    result.contract.keeps = strictness::none;
    result.contract.reason =
        "a layer that adds nothing still normalises what passes it (post-norm); rule mask blends it";
  }
}

} // namespace detail

/// Fresh units are computed from any values, and what would read them is zero: exact without a mask or a ramp. Never
/// are both sides of a unit zero, so all of it wakes up.
///
///   width     columns that read fresh units are 0
///   hidden    under an RMSNorm: what writes fresh units is 0, columns that read them are free; gains * sqrt(old / new)
///             (by apply), eps * old / new (by the forward: the contract). Under a LayerNorm: refused
///   layers    what fresh layers write to the residual stream is 0: exact under pre-norm
///   head_dim  what writes keys (schema::keys) has zero fresh rows; old keys * sqrt(new / old), or the forward's scale
///
/// Source: Gesmundo and Maile 2023, Composable Function-preserving Expansions for Transformer Architectures.
struct zero_block {
  static constexpr const char* name = "zero_block";

  fresh_values fresh{};
  /// What makes up for a score that is scaled with 1 / sqrt(new): true: the stored keys; false: the forward, by
  /// axis_contract::softmax_scale (whoever goes on scaling with 1 / sqrt(old) keeps every bit).
  bool rescale_keys = true;

  [[nodiscard]] axis_growth operator()(const rule_request& asked) const {
    axis_growth result{.source = asked.old_of, .fresh = fresh};
    const double ratio = static_cast<double>(asked.new_size) / static_cast<double>(asked.old_size);
    if (asked.is_experts()) {
      result.refused = "a fresh expert takes part of the gates; rule expert_copies, or mask";
    } else if (asked.logits) {
      result.refused = "a softmax runs over the axis, and a logit of 0 takes part in it; rule mask";
    } else if (asked.is_layers()) {
      detail::silent_layers(asked, result);
    } else if (asked.as_each) {
      result.refused = "the axis is both slices and units";
    } else if (asked.scored) {
      widen_heads(asked, result);
    } else if (asked.norm == norm_kind::layer) {
      result.refused = "zeros change the mean and variance of a LayerNorm; rule average (pre-norm), duplicate or mask";
    } else if (asked.norm == norm_kind::rms) {
      result.fills = {.out = fill::zero, .in = fill::init, .both = fill::zero};
      result.fresh.norm_bias = init::zeros(); // or readers would hear it
      result.contract.gain_factor = 1 / std::sqrt(ratio);
      result.contract.eps_factor = 1 / ratio;
      if (ratio > 1) { result.contract.keeps = strictness::rounding; }
    } else {
      result.fills.in = fill::zero;
    }
    return result;
  }

private:
  void widen_heads(const rule_request& asked, axis_growth& result) const {
    if (!asked.keyed) {
      result.refused =
          "a wider head changes the scale of attention scores, and the schema doesn't say what writes keys "
          "(schema::keys)";
      return;
    }
    if (asked.norm != norm_kind::none) {
      result.refused = "a norm runs over the head, so zeros are not silent in it";
      return;
    }
    if (asked.rotary != rotary_layout::none) {
      if (asked.frequencies == rotary_frequencies::computed) {
        result.refused = "a wider head changes the rotary frequencies of all pairs; give the model a table of them "
                         "(rotary_frequencies::listed)";
        return;
      }
      if (asked.old_size % 2 != 0 || asked.new_size % 2 != 0) {
        result.refused = "rotary channels come in pairs";
        return;
      }
      // Fresh pairs come after the old ones, in both halves where the halves are apart.
      const bool halves = asked.rotary == rotary_layout::half_split;
      result.old_of = halves ? positions_in_groups({}, {0, 1}, asked.old_size / 2, asked.new_size / 2)
                             : positions_of({}, asked.old_size, asked.new_size);
      result.source = result.old_of;
    }
    result.fills.in = fill::zero;
    result.fills.zero_keys = true;
    const double factor = std::sqrt(static_cast<double>(asked.new_size) / static_cast<double>(asked.old_size));
    (rescale_keys ? result.contract.key_factor : result.contract.softmax_scale) = factor;
    if (factor != 1) { result.contract.keeps = strictness::rounding; }
  }
};

MSG_NAMESPACE_END
