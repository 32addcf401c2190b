// The masks of a growing model at one step, in the form its forward takes.
#pragma once

#include "transformer/model.hpp"

#include <msg/growth.hpp>
#include <msg/mask.hpp>

#include <array>
#include <cstddef>
#include <iterator>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

namespace reference {

/// Holds the values that masks::views point at; must outlive the forward and the backward that use them.
class live_masks {
public:
  /// splits    one per hidden unit, or empty: what norm statistics are weighted by, beside the mask
  /// released  see masks
  live_masks(const msg::growth_state& growth, index step, std::span<const float> splits = {}, bool released = false)
      : released_(released) {
    for (std::size_t a = 0; a < std::size(axes); ++a) { units_[a] = of(growth, axes[a], step); }
    layers_ = growth.mask("layers", step);
    if (splits.empty()) { return; }
    std::vector<float> weights(splits.begin(), splits.end());
    for (std::size_t j = 0; units_[0] && j < weights.size(); ++j) { weights[j] *= units_[0]->values()[j]; }
    norms_ = mask_of(weights);
  }

  [[nodiscard]] masks view() const noexcept {
    const auto unit = [&](std::size_t a) { return units_[a] ? units_[a]->view() : msg::mask_view{}; };
    return {.hidden = unit(0),
            .ffn = unit(1),
            .heads = unit(2),
            .layers = layers_.empty() ? nullptr : layers_.data(),
            .kv_heads = unit(3),
            .vocab = unit(4),
            .experts = unit(5),
            .released = released_,
            .norms = norms_ ? norms_->view() : msg::mask_view{}};
  }

private:
  static constexpr std::array<std::string_view, 6> axes{"hidden", "ffn", "heads", "kv_heads", "vocab", "experts"};

  [[nodiscard]] static std::optional<msg::axis_mask> of(const msg::growth_state& growth, std::string_view axis,
                                                        index step) {
    const std::vector<float> values = growth.mask(axis, step);
    if (values.empty()) { return std::nullopt; }
    return mask_of(values);
  }
  [[nodiscard]] static msg::axis_mask mask_of(const std::vector<float>& values) {
    msg::axis_mask mask(static_cast<index>(values.size()));
    mask.set(std::span<const float>(values));
    return mask;
  }

  std::array<std::optional<msg::axis_mask>, std::size(axes)> units_;
  std::optional<msg::axis_mask> norms_;
  std::vector<float> layers_; // one gate per layer, or empty
  bool released_;
};

} // namespace reference
