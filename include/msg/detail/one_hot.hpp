// Which axes of a schema carry one-hot inputs, so that the weights that read them are tables.
#pragma once

#include <msg/schema.hpp>

#include <algorithm>
#include <string>
#include <string_view>

MSG_NAMESPACE_BEGIN

namespace detail {

/// Some axis of the dimension is one for which is(name).
template <class Predicate>
[[nodiscard]] bool any_axis(const dimension& d, const Predicate& is) {
  return std::any_of(d.extent.terms.begin(), d.extent.terms.end(), [&](const product& t) {
    return std::any_of(t.factors.begin(), t.factors.end(),
                       [&](const factor& f) { return !f.axis.empty() && is(f.axis); });
  });
}

/// Some weight writes the units of the axis.
[[nodiscard]] inline bool is_written(const schema& model, std::string_view axis_name) {
  const auto& all = model.parameters();
  return std::any_of(all.begin(), all.end(),
                     [&](const parameter& p) { return p.what == kind::weight && p.uses(axis_name, role::out); });
}

/// Tokens, positions: an axis with logits, or one that no weight writes.
[[nodiscard]] inline bool one_hot(const schema& model, std::string_view axis_name) {
  return model.has_logits(axis_name) || !is_written(model, axis_name);
}

} // namespace detail

MSG_NAMESPACE_END
