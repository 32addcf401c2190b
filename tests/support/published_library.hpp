// The library's side of the published operators: a plan applied to a model, what its contract asks of the forward pass,
// and the comparison with the loops of published_growth.hpp, cell by cell.
#pragma once

#include "support/published_compare.hpp"
#include "support/published_forward.hpp"
#include "support/published_growth.hpp"
#include "support/thrown.hpp"

#include <msg/apply.hpp>
#include <msg/plan.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <map>
#include <string>
#include <vector>

namespace published {

/// Sizes of a model by its schema.
[[nodiscard]] inline sizes sizes_of(sizes s, const msg::schema& now) {
  const auto set = [&](index& size, const char* axis) {
    if (const msg::axis* known = now.find_axis(axis)) { size = known->size; }
  };
  set(s.vocab, "vocab");
  set(s.positions, "positions");
  set(s.hidden, "hidden");
  set(s.ffn, "ffn");
  set(s.heads, "heads");
  set(s.kv_heads, "kv_heads");
  set(s.head_dim, "head_dim");
  set(s.key_dim, "key_dim");
  set(s.value_dim, "value_dim");
  set(s.layers, "layers");
  set(s.experts, "experts");
  return s;
}

/// The numbers of a model as the library grows them, in double.
[[nodiscard]] inline model applied(const msg::plan& plan, const model& old, msg::payload what = msg::payload::value) {
  std::vector<double> now(static_cast<std::size_t>(plan.after().size()), std::numeric_limits<double>::quiet_NaN());
  msg::apply(plan, packed(old.numbers, plan.before()), now, what);
  return {sizes_of(old.size, plan.after()), unpacked(now, plan.after())};
}

/// What the forward pass of the grown model is told: what it was told before, and the contract, masks at c.
[[nodiscard]] inline setting keeping(const msg::plan& plan, double c = 0, setting how = {}) {
  for (const msg::axis_plan& a : plan.axes()) {
    const msg::axis_contract& asked = a.growth.contract;
    how.eps *= asked.eps_factor;
    how.logit_scale *= asked.logit_scale;
    how.score_scale *= asked.softmax_scale;
    if (asked.weight_norm_statistics) { how.statistics.assign(a.growth.split.begin(), a.growth.split.end()); }
    std::vector<double> mask;
    for (const std::uint8_t fresh : plan.fresh_units(a.name)) { mask.push_back(fresh != 0 ? c : 1); }
    if (asked.mask_norm_statistics && a.name == "hidden") { how.hidden = mask; }
    if (asked.mask_activations && a.name == "ffn") { how.ffn = mask; }
    if (asked.mask_activations && a.name == "heads") { how.heads = mask; }
    if (asked.mask_activations && a.name == "value_dim") { how.value_dim = mask; }
    if (asked.blend_layers && a.name == "layers") { how.layers = mask; }
    if (asked.mask_logits && a.name == "vocab") { how.vocab = mask; }
    if (asked.mask_logits && a.name == "experts") { how.experts = mask; }
    how.top = static_cast<index>(std::lround(static_cast<double>(how.top) * asked.chosen_factor));
  }
  return how;
}

/// Where the library's numbers are not those of the loops, in words; empty: nowhere.
///
/// roundings   0: bit for bit (zeros of either sign are equal); else each cell may be off by so many epsilons of
///             `largest`, the size of what is added up (0: of the cell itself)
/// Cells the operator leaves free must be finite.
[[nodiscard]] inline std::string difference(const model& expected, const model& found, int roundings = 0,
                                            double largest = 0) {
  if (expected.numbers.size() != found.numbers.size()) { return "not the same arrays"; }
  for (const auto& [name, numbers] : expected.numbers) {
    const auto there = found.numbers.find(name);
    if (there == found.numbers.end() || there->second.size() != numbers.size()) { return name + ": not of this size"; }
    for (std::size_t i = 0; i < numbers.size(); ++i) {
      const real one = there->second[i], wanted = numbers[i];
      const real tolerance = static_cast<real>(roundings * std::numeric_limits<double>::epsilon()) *
                             std::max(std::abs(wanted), static_cast<real>(largest));
      const bool good = std::isnan(wanted) ? std::isfinite(one) : std::abs(one - wanted) <= tolerance;
      if (!good) {
        return name + "[" + std::to_string(i) + "]: expected " + std::to_string(wanted) + ", found " +
               std::to_string(one);
      }
    }
  }
  return {};
}

using targets = std::map<std::string, index>;

[[nodiscard]] inline msg::plan plan_of(const sizes& s, const targets& to, const msg::rule& by,
                                       const msg::placement& where = {}) {
  const msg::schema before = schema_of(s);
  std::vector<msg::request> asked;
  for (const auto& [axis, size] : to) {
    if (before.find_axis(axis) != nullptr) { asked.push_back(before.axis_at(axis).grow_to(size)); }
  }
  return {before, asked, by, {.seed = 5, .placement = where}};
}

/// A growth by the library.
struct trial {
  trial(const sizes& s, const targets& to, const msg::rule& by, const msg::placement& where = {})
      : plan(plan_of(s, to, by, where)), old(random_model(s, 41)), now(applied(plan, old)) {}

  [[nodiscard]] std::vector<index> from(const char* axis) const { return plan.axis(axis).growth.source; }
  [[nodiscard]] distance apart(double c = 0, const setting& before = {}) const {
    return between(old, now, keeping(plan, c, before), before);
  }
  /// Moments of Adam as the library grows them against the dual of the operator.
  [[nodiscard]] std::string moments_differ(const growth& g, real gain_factor = 1, int roundings = 0) const {
    const std::string first =
        difference(grown(old, g, gain_factor, number::moment1), applied(plan, old, msg::payload::moment1), roundings);
    return first.empty() ? difference(grown(old, g, gain_factor, number::moment2),
                                      applied(plan, old, msg::payload::moment2), 2 * roundings)
                         : first;
  }

  msg::plan plan;
  model old, now;
};

/// What a refused growth says.
[[nodiscard]] inline std::string refusal(const sizes& s, const targets& to, const msg::rule& by) {
  return testing::message_of([&] { (void)plan_of(s, to, by); });
}
[[nodiscard]] inline bool says(const std::string& text, const char* what) {
  return text.find(what) != std::string::npos;
}

/// A growth that cannot keep the function is refused, or its plan says so and it shows.
[[nodiscard]] inline bool refused_or_lossy(const sizes& s, const targets& to, const msg::rule& by) {
  try {
    const trial t(s, to, by);
    return t.plan.keeps() == msg::strictness::none && t.apart().visible();
  } catch (const msg::error&) { return true; }
}

} // namespace published
