// The masks of a growing model at one step, in the form its forward takes.
#pragma once

#include "transformer/model.hpp"

#include <msg/growth.hpp>
#include <msg/mask.hpp>

#include <optional>
#include <span>
#include <string_view>
#include <vector>

namespace reference {

/// Holds the values that masks::views point at; must outlive the forward and the backward that use them.
class live_masks {
public:
  live_masks(const msg::growth_state& growth, index step)
      : hidden_(of(growth, "hidden", step)), ffn_(of(growth, "ffn", step)), heads_(of(growth, "heads", step)),
        layers_(growth.mask("layers", step)) {}

  [[nodiscard]] masks view() const noexcept {
    const auto view_of_mask = [](const std::optional<msg::axis_mask>& mask) {
      return mask ? mask->view() : msg::mask_view{};
    };
    return {view_of_mask(hidden_), view_of_mask(ffn_), view_of_mask(heads_),
            layers_.empty() ? nullptr : layers_.data()};
  }

private:
  [[nodiscard]] static std::optional<msg::axis_mask> of(const msg::growth_state& growth, std::string_view axis,
                                                        index step) {
    const std::vector<float> values = growth.mask(axis, step);
    if (values.empty()) { return std::nullopt; }
    msg::axis_mask mask(static_cast<index>(values.size()));
    mask.set(std::span<const float>(values));
    return mask;
  }

  std::optional<msg::axis_mask> hidden_;
  std::optional<msg::axis_mask> ffn_;
  std::optional<msg::axis_mask> heads_;
  std::vector<float> layers_; // one gate per layer, or empty
};

} // namespace reference
