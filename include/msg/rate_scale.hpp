// Learning rates that follow the width: one factor per parameter, from what its dimensions mean.
#pragma once

#include <msg/config.hpp>
#include <msg/detail/one_hot.hpp>
#include <msg/error.hpp>
#include <msg/schema.hpp>

#include <algorithm>
#include <array>
#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

MSG_NAMESPACE_BEGIN

/// Optimizers whose update doesn't depend on the gradient's scale (Adam, Lion), and plain gradient descent.
enum class rate_rule { adam, sgd };
inline constexpr std::array<std::string_view, 2> rate_rule_names{"adam", "sgd"};

namespace detail {

/// Units that a parameter's dimensions have: of `what` if it is a weight, of all but independent ones otherwise.
[[nodiscard]] inline double fan(const parameter& p, role what) {
  double result = 1;
  for (const dimension& d : p.dims) {
    const bool counts = p.what == kind::weight ? d.what == what : d.what != role::each;
    if (counts) { result *= static_cast<double>(d.size()); }
  }
  return result;
}

/// A weight that reads one-hot inputs.
[[nodiscard]] inline bool is_table(const schema& model, const parameter& p) {
  return std::any_of(p.dims.begin(), p.dims.end(), [&](const dimension& d) {
    return d.what == role::in && any_axis(d, [&](const std::string& a) { return one_hot(model, a); });
  });
}

} // namespace detail

/// Factor of each parameter's learning rate, in the order of the schema, for a rate that was tuned at the sizes of
/// `base`: the maximal-update parametrisation's (muP), so that one rate serves a model before and after it has grown.
/// With w = fan-in now / fan-in of the base and u = fan-out now / that of the base,
///
///                                  adam    sgd
///   matrices that read a width     1 / w   u / w    hidden weights, FFN, attention; an untied head, whose u is 1
///   tables, biases, norms          1       u        their fan-in is no width
///
/// muP's initial values and output factor are the model's own affair: a head that isn't tied is to start narrower by
/// w, a tied one has its logits scaled by 1 / w. The factor multiplies update_step::lr, and with it weight decay.
///
/// base   same parameters at other sizes, schema::resized()
/// Throws error{shape_mismatch, unknown_parameter} unless the parameters are the same.
/// Source: Yang et al. 2022, Tensor Programs V, table 3 (rates relative to those of a base width, appendix B.1).
[[nodiscard]] inline std::vector<double> width_rates(const schema& now, const schema& base,
                                                     rate_rule rule = rate_rule::adam) {
  std::vector<double> factors;
  if (now.parameters().size() != base.parameters().size()) {
    throw error(diagnostic{.code = errc::shape_mismatch,
                           .expected = std::to_string(now.parameters().size()) + " parameters",
                           .found = std::to_string(base.parameters().size()),
                           .hint = "the schema of the base width"});
  }
  for (const parameter& p : now.parameters()) {
    const parameter& before = base.at(p.name);
    if (p.dims.size() != before.dims.size() || p.what != before.what) {
      throw error(diagnostic{.code = errc::shape_mismatch,
                             .parameter = p.name,
                             .expected = std::to_string(p.dims.size()) + " dimensions",
                             .found = std::to_string(before.dims.size()),
                             .hint = "the schema of the base width"});
    }
    const bool matrix = p.what == kind::weight && !detail::is_table(now, p);
    const double w = matrix ? detail::fan(p, role::in) / detail::fan(before, role::in) : 1;
    const double u = detail::fan(p, role::out) / detail::fan(before, role::out);
    factors.push_back(rule == rate_rule::adam ? 1 / w : u / w);
  }
  return factors;
}

MSG_NAMESPACE_END
