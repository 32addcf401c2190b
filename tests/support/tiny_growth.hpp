// A tiny network before and after a growth: what a test of a rule compares.
#pragma once

#include "support/random_model.hpp"
#include "support/tiny_model.hpp"

#include <msg/apply.hpp>
#include <msg/plan.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

namespace testing {

/// Old units of an axis, where they are after a growth that may not have been its own.
[[nodiscard]] inline std::vector<index> old_places(const msg::plan& growth, const std::string& axis_name) {
  std::vector<index> places;
  for (const msg::axis_plan& a : growth.axes()) {
    if (a.name != axis_name) { continue; }
    for (index j = 0; j < a.new_size; ++j) {
      if (a.old_of[static_cast<std::size_t>(j)] != msg::fresh_unit) { places.push_back(j); }
    }
    return places;
  }
  for (index j = 0; j < growth.before().axis_at(axis_name).size; ++j) { places.push_back(j); }
  return places;
}
[[nodiscard]] inline std::vector<index> up_to(index n) {
  std::vector<index> all;
  for (index i = 0; i < n; ++i) { all.push_back(i); }
  return all;
}

/// What the contract of a plan asks of the forward, masks of fresh units at c.
[[nodiscard]] inline tiny_masks contract_of(const msg::plan& growth, float c) {
  tiny_masks masks;
  for (const msg::axis_plan& a : growth.axes()) {
    const msg::axis_contract& asked = a.growth.contract;
    masks.eps_factor *= asked.eps_factor;
    masks.softmax_scale *= asked.softmax_scale;
    masks.logit_scale *= asked.logit_scale;
    if (asked.weight_norm_statistics) { masks.norm_weight = a.growth.split; }
    std::vector<float> values;
    for (const std::uint8_t fresh : growth.fresh_units(a.name)) { values.push_back(fresh != 0 ? c : 1.0F); }
    if (asked.mask_norm_statistics) { masks.hidden = values; }
    if (asked.mask_activations && a.name == "ffn") { masks.ffn = values; }
    if (asked.mask_activations && a.name == "heads") { masks.heads = values; }
    if (asked.mask_activations && a.name == "value_dim") { masks.value_dim = values; }
    if (asked.blend_layers) { masks.layers = values; }
    if (asked.mask_logits) { masks.vocab = values; }
  }
  return masks;
}

/// The old network and the grown one, old parameters of size 1.
struct tiny_pair {
  explicit tiny_pair(const msg::plan& growth)
      : before(growth.before()), after(growth.after()), old(random_model(5).numbers<double>(before.size())),
        grown(static_cast<std::size_t>(after.size())), tokens(up_to(before.axis_at("vocab").size)),
        positions(up_to(before.axis_at("positions").size)), new_tokens(old_places(growth, "vocab")),
        new_positions(old_places(growth, "positions")) {
    msg::apply(growth, old, grown);
  }
  [[nodiscard]] std::vector<double> old_logits() const { return all_logits(before, old, {}, tokens, positions); }
  [[nodiscard]] std::vector<double> new_logits(const tiny_masks& masks) const {
    return all_logits(after, grown, masks, new_tokens, new_positions);
  }
  [[nodiscard]] std::vector<double> old_gradient() const { return gradient(before, old, {}, tokens, positions); }
  [[nodiscard]] std::vector<double> new_gradient(const tiny_masks& masks) const {
    return gradient(after, grown, masks, new_tokens, new_positions);
  }
  /// Bound of the rounding of a number of size `largest` that depends on all parameters: each enters a few
  /// multiply-adds at two places of a sequence, and what follows is a handful of layers, each of which magnifies an
  /// error by the size of its sums, at most a hundred here.
  [[nodiscard]] double rounding(double largest) const {
    return static_cast<double>(grown.size()) * 100 * std::numeric_limits<double>::epsilon() * std::max(largest, 1.0);
  }

  const msg::schema& before;
  const msg::schema& after;
  std::vector<double> old;
  std::vector<double> grown;
  std::vector<index> tokens, positions, new_tokens, new_positions;
};

/// Largest difference of two lists of numbers; infinite where their lengths differ.
[[nodiscard]] inline double distance(const std::vector<double>& a, const std::vector<double>& b) {
  if (a.size() != b.size()) { return std::numeric_limits<double>::infinity(); }
  double result = 0;
  for (std::size_t i = 0; i < a.size(); ++i) { result = std::max(result, std::abs(a[i] - b[i])); }
  return result;
}
[[nodiscard]] inline double largest(const std::vector<double>& a) {
  return distance(a, std::vector<double>(a.size(), 0));
}

} // namespace testing
