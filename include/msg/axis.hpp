// Axes by name, and what one dimension of a parameter means: a role and an expression over axes.
#pragma once

#include <msg/config.hpp>
#include <msg/error.hpp>

#include <concepts>
#include <string>
#include <utility>
#include <vector>

MSG_NAMESPACE_BEGIN

struct request;
struct grow_options;

/// A named width of the model: hidden, ffn, heads, layers. Activations live on axes; parameters are indexed by them.
struct axis {
  std::string name;
  index size = 0;

  /// Request: this axis gets `new_size` units. The axis is found by name, so an axis object from before earlier growths
  /// serves as well as a new one. Defined in request.hpp.
  [[nodiscard]] request grow_to(index new_size) const;
  [[nodiscard]] request grow_to(index new_size, const grow_options& options) const;
};

/// What a parameter does with the units of a dimension.
enum class role {
  out,  // writes them: rows of W in y = W x, its bias, a norm's gain
  in,   // reads them: columns of W; rows of an embedding table (a one-hot input reads them)
  each, // independent slices: layers, experts
};

[[nodiscard]] constexpr const char* to_string(role what) noexcept {
  return what == role::out ? "out" : what == role::in ? "in" : "each";
}

/// One factor of a product: an axis, or a fixed multiplicity (empty name), as the 3 of a fused query-key-value.
struct factor {
  std::string axis;
  index size = 1;
};

/// A product of factors, outermost first: 3 * heads * head_dim.
struct product {
  std::vector<factor> factors;
  [[nodiscard]] index size() const noexcept {
    index result = 1;
    for (const factor& f : factors) { result *= f.size; }
    return result;
  }
};

/// Products one after another: heads * head_dim | kv_heads * head_dim | kv_heads * head_dim.
struct expression {
  std::vector<product> terms;

  expression() = default;
  expression(const axis& a) : terms{product{{factor{a.name, a.size}}}} {} // NOLINT(google-explicit-constructor)
  template <std::integral Integer>                                        // not a double: 2.5 * heads is a mistake
  expression(Integer multiplicity)                                        // NOLINT(google-explicit-constructor)
      : terms{product{{factor{{}, static_cast<index>(multiplicity)}}}} {}

  [[nodiscard]] index size() const noexcept {
    index result = 0;
    for (const product& t : terms) { result += t.size(); }
    return result;
  }
};

/// Product, the left side outermost. (a | b) * c is a * c | b * c; the right side must be one product, because
/// a * (b | c) is no concatenation. Throws error{bad_argument}.
[[nodiscard]] inline expression operator*(const expression& left, const expression& right) {
  if (right.terms.size() != 1) {
    throw error(diagnostic{.code = errc::bad_argument,
                           .expected = "one product on the right of '*'",
                           .found = "a concatenation of " + std::to_string(right.terms.size()),
                           .hint = "write a * b | a * c only if that is the storage order"});
  }
  expression result = left;
  for (product& term : result.terms) {
    term.factors.insert(term.factors.end(), right.terms[0].factors.begin(), right.terms[0].factors.end());
  }
  return result;
}

/// Concatenation along one dimension.
[[nodiscard]] inline expression operator|(const expression& left, const expression& right) {
  expression result = left;
  result.terms.insert(result.terms.end(), right.terms.begin(), right.terms.end());
  return result;
}

/// One dimension of a parameter.
struct dimension {
  role what = role::out;
  expression extent;
  [[nodiscard]] index size() const noexcept { return extent.size(); }
};

[[nodiscard]] inline dimension out(expression extent) { return {role::out, std::move(extent)}; }
[[nodiscard]] inline dimension in(expression extent) { return {role::in, std::move(extent)}; }
[[nodiscard]] inline dimension each(expression extent) { return {role::each, std::move(extent)}; }

/// Calls f(position, units) for every position of a dimension in storage order; `units[k]` is the index of factor k of
/// `term`, f(position, term, units).
template <class Function>
void for_each_position(const expression& extent, const Function& f) {
  index position = 0;
  std::vector<index> units;
  for (const product& term : extent.terms) {
    units.assign(term.factors.size(), 0);
    const index count = term.size();
    for (index i = 0; i < count; ++i, ++position) {
      index rest = i;
      for (std::size_t k = term.factors.size(); k-- > 0;) {
        units[k] = rest % term.factors[k].size;
        rest /= term.factors[k].size;
      }
      f(position, term, units);
    }
  }
}

MSG_NAMESPACE_END
