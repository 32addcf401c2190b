// A growth, decided and checked before a byte moves: for every parameter where each new cell comes from.
#pragma once

#include <msg/detail/plan_builder.hpp>
#include <msg/detail/plan_entries.hpp>
#include <msg/request.hpp>
#include <msg/rules/mask.hpp>
#include <msg/schema.hpp>

#include <algorithm>
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

private:
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
