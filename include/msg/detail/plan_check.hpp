// What a rule answered must satisfy the law, whoever wrote it.
#pragma once

#include <msg/detail/plan_entries.hpp>
#include <msg/error.hpp>
#include <msg/request.hpp>

#include <cmath>
#include <cstddef>
#include <limits>
#include <optional>
#include <string>
#include <utility>
#include <vector>

MSG_NAMESPACE_BEGIN

namespace detail {

/// The first fault of a rule's answer, if there is one.
class growth_check {
public:
  growth_check(const axis_plan& a, const rule_request& asked, const std::string& by) : a_(a), asked_(asked), by_(by) {}

  [[nodiscard]] std::optional<diagnostic> operator()() {
    const axis_growth& g = a_.growth;
    if (!g.refused.empty()) {
      return diagnostic{.code = errc::unsupported, .axis = a_.name, .found = "rule " + by_, .hint = g.refused};
    }
    if (sizes() && factors() && partners() && units()) { sums(); }
    return fault_;
  }

private:
  bool fail(errc code, std::string expected, std::string found) {
    fault_ = {.code = code,
              .axis = a_.name,
              .expected = std::move(expected),
              .found = std::move(found),
              .hint = "rule " + by_};
    return false;
  }
  static std::string at(std::size_t position) { return "position " + std::to_string(position); }

  bool sizes() {
    const axis_growth& g = a_.growth;
    const auto size = static_cast<std::size_t>(a_.new_size);
    const bool all =
        g.source.size() == size && g.split.size() == size && (g.newborn.empty() || g.newborn.size() == size);
    return all || fail(errc::bad_rule, std::to_string(size) + " sources, splits and newborn flags",
                       std::to_string(g.source.size()) + ", " + std::to_string(g.split.size()) + ", " +
                           std::to_string(g.newborn.size()));
  }
  bool factors() {
    const axis_contract& c = a_.growth.contract;
    const auto positive = [](double x) { return x > 0 && std::isfinite(x); };
    if (!positive(c.gain_factor)) {
      return fail(errc::bad_rule, "a positive gain factor", std::to_string(c.gain_factor));
    }
    return positive(c.key_factor) || fail(errc::bad_rule, "a positive key factor", std::to_string(c.key_factor));
  }
  // Noise cancels only between two copies of one unit.
  bool partners() {
    const axis_growth& g = a_.growth;
    if (g.partner.empty()) { return true; }
    const auto size = static_cast<std::size_t>(a_.new_size);
    for (std::size_t j = 0; j < g.partner.size() && g.partner.size() == size; ++j) {
      const index other = g.partner[j];
      if (other == fresh_unit) { continue; }
      const auto k = static_cast<std::size_t>(other);
      const bool fits = other >= 0 && other < a_.new_size && k != j && g.partner[k] == static_cast<index>(j) &&
                        g.source[j] >= 0 && g.source[k] == g.source[j];
      if (!fits) { return fail(errc::bad_rule, "partners that are two copies of one unit", at(j)); }
    }
    return g.partner.size() == size ||
           fail(errc::bad_rule, std::to_string(size) + " partners", std::to_string(g.partner.size()));
  }

  bool units() {
    const axis_growth& g = a_.growth;
    for (std::size_t j = 0; j < g.source.size(); ++j) {
      const index s = g.source[j];
      if (s == mean_unit && asked_.as_each) {
        return fail(errc::unsupported, "an old unit or fresh_unit for slices (role 'each')", "mean_unit");
      }
      if (s != fresh_unit && s != mean_unit && (s < 0 || s >= a_.old_size)) {
        return fail(errc::bad_rule, "sources in [0, " + std::to_string(a_.old_size) + ") or fresh_unit",
                    std::to_string(s) + " at " + at(j));
      }
      if (!std::isfinite(g.split[j])) { return fail(errc::bad_rule, "finite splits", at(j)); }
      const bool is_newborn = g.is_newborn(static_cast<index>(j));
      if (a_.old_of[j] != fresh_unit && (s != a_.old_of[j] || is_newborn)) {
        return fail(errc::bad_rule, "old unit " + std::to_string(a_.old_of[j]) + " to stand for itself, not newborn",
                    std::to_string(s) + " at " + at(j));
      }
      if (a_.old_of[j] == fresh_unit && g.contract.masked() && !is_newborn) {
        return fail(errc::bad_rule, "newborn units under a mask", at(j));
      }
    }
    return true;
  }

  // Newborn copies count where they act at once; where they are silent (masked, or writers zeroed) the rest sums to 1.
  bool sums() {
    const axis_growth& g = a_.growth;
    std::vector<double> with_newborn(static_cast<std::size_t>(a_.old_size), 0.0);
    std::vector<double> without_newborn(with_newborn);
    for (std::size_t j = 0; j < g.source.size(); ++j) {
      if (g.source[j] < 0) { continue; }
      const auto s = static_cast<std::size_t>(g.source[j]);
      with_newborn[s] += g.split[j];
      without_newborn[s] += g.is_newborn(static_cast<index>(j)) ? 0 : g.split[j];
    }
    // n rounded parts of 1, and n sums: off by at most n epsilon.
    const double tolerance = static_cast<double>(a_.new_size) * std::numeric_limits<double>::epsilon();
    const auto is_one = [tolerance](double sum) { return std::abs(sum - 1) <= tolerance; };
    for (std::size_t s = 0; s < with_newborn.size(); ++s) {
      if (is_one(with_newborn[s]) || is_one(without_newborn[s])) { continue; }
      return fail(errc::bad_rule, "splits of old unit " + std::to_string(s) + " that sum to 1",
                  std::to_string(with_newborn[s]));
    }
    return true;
  }

  const axis_plan& a_;
  const rule_request& asked_;
  const std::string& by_;
  std::optional<diagnostic> fault_{};
};

} // namespace detail

MSG_NAMESPACE_END
