// What a growth asks of the forward pass, axis by axis, and how well the function is kept when it gets it.
#pragma once

#include <msg/config.hpp>

#include <string>

MSG_NAMESPACE_BEGIN

enum class strictness {
  exact,    // same value up to the sign of zeros, in any arithmetic that sums in order
  rounding, // same function, different rounding
  none,     // the function changes
};

[[nodiscard]] constexpr const char* to_string(strictness what) noexcept {
  return what == strictness::exact ? "exact" : what == strictness::rounding ? "to rounding" : "not preserved";
}

/// What the forward pass must do on one grown axis for the growth to keep the function.
struct axis_contract {
  std::string axis{};
  std::string rule{};
  bool mask_activations = false;        // multiply activations on the axis by its axis_mask (select where it is 0)
  bool mask_norm_statistics = false;    // norms over the axis: statistics weighted, outputs multiplied by the mask
  bool weight_norm_statistics = false;  // norms over the axis: statistics weighted by the split, outputs untouched
  bool blend_layers = false;            // pre-norm x + c f(x), post-norm x + c (F(x) - x), on fresh layers
  bool mask_logits = false;             // add log c to the logits (experts: of the router) of fresh units
  bool masked_by_readers = false;       // nothing: all who read fresh units (key-value heads) are masked themselves
  bool gates_sum_to_one = false;        // experts: gates of the chosen ones are normalised to sum 1
  double chosen_factor = 1;             // experts: choose this many times as many
  double gain_factor = 1;               // applied to stored norm gains by apply()
  double key_factor = 1;                // applied to stored keys (schema::keys) by apply()
  double eps_factor = 1;                // the forward's eps times this
  double softmax_scale = 1;             // attention logits times this, beside the 1 / sqrt(size of the scored axis)
  double logit_scale = 1;               // output logits times this, before a bias of theirs is added
  strictness keeps = strictness::exact; // given that the forward does the above
  std::string reason{};                 // why not exact, or what to note
  /// The axis has a mask that ramps from 0 to 1.
  [[nodiscard]] bool masked() const noexcept {
    return mask_activations || mask_norm_statistics || blend_layers || mask_logits || masked_by_readers;
  }
};

MSG_NAMESPACE_END
