// A growth, decided and checked before a byte moves: for every parameter where each new cell comes from.
#pragma once

#include <msg/detail/plan_builder.hpp>
#include <msg/detail/plan_entries.hpp>
#include <msg/request.hpp>
#include <msg/rules/mask.hpp>
#include <msg/schema.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

MSG_NAMESPACE_BEGIN

/// All findings of a growth, without throwing; empty: a plan can be made.
[[nodiscard]] inline std::vector<diagnostic> diagnose(const schema& before, const std::vector<request>& requests,
                                                      const rule& fallback = mask{}, const plan_options& options = {}) {
  return detail::plan_builder{before, requests, fallback, options}.findings;
}

/// A checked growth of some axes of a schema.
///
/// before    the schema as it is
/// requests  axes and their new sizes: {ffn.grow_to(16), hidden.grow_to(8, {.rule = ..., .placement = ...})}
/// fallback  rule of the requests that name none
/// options   seed of the fresh weights, default placement
/// Throws error with every finding (unknown axis, shrink, two requests of one axis, refused combinations, ...).
/// Source: design.md, The law of growth.
class plan {
public:
  plan(const schema& before, const std::vector<request>& requests, const rule& fallback = mask{},
       const plan_options& options = {})
      : plan(detail::plan_builder{before, requests, fallback, options}, options.seed) {}

  /// Entry of one parameter. Throws error{unknown_parameter}.
  [[nodiscard]] const param_plan& operator[](std::string_view name) const {
    return parameters_[static_cast<std::size_t>(&before_.at(name) - before_.parameters().data())];
  }
  /// In the order of the schema and of the packed buffer.
  [[nodiscard]] const std::vector<param_plan>& parameters() const noexcept { return parameters_; }
  [[nodiscard]] const schema& before() const noexcept { return before_; }
  [[nodiscard]] const schema& after() const noexcept { return after_; }
  [[nodiscard]] const std::vector<axis_plan>& axes() const noexcept { return axes_; }
  [[nodiscard]] std::uint64_t seed() const noexcept { return seed_; }

  /// Map of one grown axis. Throws error{unknown_axis} where the plan does not grow it.
  [[nodiscard]] const axis_plan& axis(std::string_view name) const {
    const auto found = std::find_if(axes_.begin(), axes_.end(), [&](const axis_plan& a) { return a.name == name; });
    if (found != axes_.end()) { return *found; }
    throw error(
        diagnostic{.code = errc::unknown_axis, .axis = std::string(name), .expected = "an axis that this plan grows"});
  }
  /// One flag per unit of a grown axis: 1 where its mask ramps.
  [[nodiscard]] std::vector<std::uint8_t> fresh_units(std::string_view name) const {
    const axis_plan& grown = axis(name);
    std::vector<std::uint8_t> flags;
    for (const index old : grown.old_of) { flags.push_back(grown.growth.contract.masked() && old == fresh_unit); }
    return flags;
  }

  /// Per grown axis, what the forward pass must do for the growth to keep the function.
  [[nodiscard]] std::vector<axis_contract> contract() const {
    std::vector<axis_contract> result;
    for (const axis_plan& a : axes_) { result.push_back(a.growth.contract); }
    return result;
  }
  /// How well the function is kept when the contract is.
  [[nodiscard]] strictness keeps() const noexcept {
    strictness worst = strictness::exact;
    for (const axis_plan& a : axes_) { worst = std::max(worst, a.growth.contract.keeps); }
    return worst;
  }
  [[nodiscard]] bool strict() const noexcept { return keeps() != strictness::none; }
  /// Throws error{not_strict} naming every axis that changes the function, and why.
  void require_strict() const {
    std::vector<diagnostic> findings;
    for (const axis_plan& a : axes_) {
      const axis_contract& c = a.growth.contract;
      if (c.keeps == strictness::none) {
        findings.push_back({.code = errc::not_strict, .axis = a.name, .found = "rule " + c.rule, .hint = c.reason});
      }
    }
    if (!findings.empty()) { throw error(std::move(findings)); }
  }

  /// Parameters whose moments are not exactly those of the grown model's own gradients, and why: what writes a normed
  /// axis under `average`, under an uneven split, or read with paired noise; copies of experts; everything where the
  /// function is not kept. All others follow the dual of the law to rounding.
  [[nodiscard]] std::vector<approximate_moment> approximate_moments() const {
    std::vector<approximate_moment> result;
    for (const parameter& p : before_.parameters()) {
      for (const axis_plan& a : axes_) {
        const std::string& why =
            a.growth.contract.keeps == strictness::none ? a.growth.contract.reason : a.growth.approximate;
        if (why.empty() || (a.growth.contract.keeps != strictness::none && !mixes(a, p))) { continue; }
        result.push_back({p.name, "axis '" + a.name + "': " + why});
        break;
      }
    }
    return result;
  }

  /// The way back from a growth whose fresh units are still silent (mask 0): it gives every parameter, and every
  /// moment, the old slice as it is by now, bit for bit. Apply it as any plan, and tell growth_state::take_back().
  /// Throws error{unsupported}, with every axis that is not masked: its fresh units act, or old numbers were rescaled.
  [[nodiscard]] plan undone() const {
    std::vector<diagnostic> findings;
    std::vector<axis_plan> back;
    for (const axis_plan& a : axes_) {
      if (!silent(a)) {
        findings.push_back({.code = errc::unsupported,
                            .axis = a.name,
                            .expected = "a growth behind a mask",
                            .found = "rule " + a.growth.contract.rule,
                            .hint = "its fresh units act, so nothing can take them back"});
      }
      axis_plan undo{.name = a.name, .old_size = a.new_size, .new_size = a.old_size};
      for (std::size_t j = 0; j < a.old_of.size(); ++j) {
        if (a.old_of[j] != fresh_unit) { undo.old_of.push_back(static_cast<index>(j)); }
      }
      undo.placement = placement::order::given;
      undo.growth.source = undo.old_of;
      undo.growth.split.assign(undo.old_of.size(), 1.0);
      undo.growth.contract.axis = a.name;
      undo.growth.contract.rule = "undo";
      back.push_back(std::move(undo));
    }
    if (!findings.empty()) { throw error(std::move(findings)); }
    return plan{detail::plan_builder{after_, before_, std::move(back), seed_}, seed_};
  }

private:
  /// The axis mixes gradients of this parameter with others.
  [[nodiscard]] bool mixes(const axis_plan& a, const parameter& p) const {
    if (p.uses(a.name, role::each)) { return true; }
    if (!p.uses(a.name, role::out)) { return false; }
    // a pre-norm's own gain and bias get their gradient behind the norm, where nothing is mixed yet
    const bool norm = p.what == kind::norm_gain || p.what == kind::norm_bias;
    return !norm || a.growth.approximate_norms;
  }
  /// Nothing hears the fresh units of an axis while its mask is 0, and old numbers are what they were.
  [[nodiscard]] bool silent(const axis_plan& a) const {
    const axis_contract& c = a.growth.contract;
    if (a.new_size == a.old_size) { return true; }
    for (std::size_t j = 0; j < a.old_of.size(); ++j) {
      if (a.old_of[j] != fresh_unit && a.growth.split[j] != 1) { return false; }
    }
    const bool only_read = std::none_of(before_.parameters().begin(), before_.parameters().end(), [&](const auto& p) {
      return p.uses(a.name, role::out) || p.uses(a.name, role::each);
    });
    return c.gain_factor == 1 && c.key_factor == 1 && (c.masked() || (only_read && c.keeps == strictness::exact));
  }

  plan(detail::plan_builder&& built, std::uint64_t seed)
      : before_(built.before), after_(std::move(built.after)), axes_(std::move(built.axes)),
        parameters_(std::move(built.parameters)), seed_(seed) {
    if (!built.findings.empty()) { throw error(std::move(built.findings)); }
  }

  schema before_;
  schema after_;
  std::vector<axis_plan> axes_;
  std::vector<param_plan> parameters_;
  std::uint64_t seed_ = 0;
};

MSG_NAMESPACE_END
