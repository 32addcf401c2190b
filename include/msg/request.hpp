// What a user asks for (axis, new size, rule, placement) and what a rule answers: an axis map, fills, and a contract.
#pragma once

#include <msg/axis.hpp>
#include <msg/contract.hpp>
#include <msg/fresh.hpp>
#include <msg/schema.hpp>

#include <concepts>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

MSG_NAMESPACE_BEGIN

/// How the new units lie among the old ones: an index order, nothing else. Old units keep their relative order.
struct placement {
  enum class order { append, prepend, interleave, given };
  order what = order::append;
  std::vector<index> old_of; // given: for each new position the old unit there, or fresh_unit

  [[nodiscard]] static placement append() { return {}; }
  [[nodiscard]] static placement prepend() { return {order::prepend, {}}; }
  /// Fresh units spread evenly, each behind the old unit it follows (layers: a copy after each layer).
  [[nodiscard]] static placement interleave() { return {order::interleave, {}}; }
  [[nodiscard]] static placement given(std::vector<index> positions) { return {order::given, std::move(positions)}; }
};

/// Entries of axis_growth::source and placement::old_of that are no old unit.
inline constexpr index fresh_unit = -1; // filled by the rule's initialisation
inline constexpr index mean_unit = -2;  // where written, the average of the old units; where read, as fresh

/// Query heads by the group that shares one key-value head: heads [g * new_size, (g + 1) * new_size) are group g.
struct head_grouping {
  index old_size = 0;          // heads of a group before; 0: the axis is not grouped
  index new_size = 0;          // and after
  std::vector<index> source{}; // (new groups): what the rule of the key-value heads made of each
  std::vector<double> split{}; // (new groups): its split
};

/// What a rule gets to know about the axis it grows.
struct rule_request {
  std::string axis{};
  index old_size = 0;
  index new_size = 0;
  std::vector<index> old_of{};                         // (new_size): the old unit at each new position, or fresh_unit
  bool interleaved = false;                            // the placement: fresh units follow the old unit they belong to
  bool as_out = false, as_in = false, as_each = false; // the roles the axis has in the schema
  norm_kind norm = norm_kind::none;
  norm_position position = norm_position::pre;
  bool residual = false; // a residual stream (schema::normed names it)
  bool tied = false;     // output logits read the axis by a matrix that writes it, with no norm on the reading side
  bool logits = false;   // a softmax runs over the axis
  bool scored = false;   // its units are summed in attention scores
  bool keyed = false;    // and the schema says which parameters write keys
  bool any_residual = false, any_post_norm = false; // of the schema, on any axis
  rotary_layout rotary = rotary_layout::none;
  rotary_frequencies frequencies = rotary_frequencies::computed;
  head_grouping groups{};    // of query heads that share key-value heads
  bool feeds_groups = false; // the key-value heads of such groups: fresh ones are read by fresh query heads alone
  std::uint64_t seed = 0;

  /// Independent layers, and nothing else.
  [[nodiscard]] bool is_layers() const noexcept { return as_each && !as_out && !as_in && !logits; }
  /// Slices that a gate chooses from: a softmax runs over them.
  [[nodiscard]] bool is_experts() const noexcept { return as_each && logits; }
  /// Only read: a one-hot input selects a unit (positions, a vocabulary with an untied head).
  [[nodiscard]] bool is_input() const noexcept { return as_in && !as_out && !as_each && !logits; }
};

/// What a rule decides: for each new unit a source, a split weight, and whether the optimizer sees it as newborn.
/// Checked by the plan: sizes, ranges, splits of one old unit that sum to 1 where duplicated.
struct axis_growth {
  std::vector<index> source{};         // (new_size): old unit, fresh_unit or mean_unit
  std::vector<double> split{};         // (new_size): factor on `in` dimensions; empty: all 1
  std::vector<std::uint8_t> newborn{}; // (new_size): 1 where moments start at zero; empty: the fresh ones
  std::vector<index> old_of{};         // (new_size): the rule's own order of the old units; empty: the request's
  std::vector<index> partner{};        // (new_size): the copy that noise is paired with, or fresh_unit; empty: none
  init noise{};                        // of paired columns of weights: +N on one copy, -N on its partner
  bool from_next_layer = false; // newborn copies write what the next layer's unit writes; the last layer's, its own
  bool fresh_writers = false;   // newborn copies are fresh where they are written (the rows of a router)
  fresh_fills fills{};
  fresh_values fresh{};
  axis_contract contract{};  // axis and rule are filled in by the plan
  std::string approximate{}; // not empty: why moments of what writes the axis are not exactly those of the grown model
  bool approximate_norms = false; // nor those of norm gains and biases on it
  std::string refused{};          // not empty: the rule cannot do this, and why

  [[nodiscard]] bool is_newborn(index unit) const {
    const auto j = static_cast<std::size_t>(unit);
    return source[j] < 0 || (!newborn.empty() && newborn[j] != 0);
  }
};

/// A growth rule: any function from rule_request to axis_growth. A type with a `static constexpr const char* name`
/// brings its own name; a lambda is given one, rule{"mine", f}.
class rule {
public:
  template <class Function>
    requires(std::is_invocable_r_v<axis_growth, const Function&, const rule_request&>&& requires { Function::name; } &&
             !std::same_as<std::remove_cvref_t<Function>, rule>)
  rule(Function f) : name_(Function::name), decide_(std::move(f)) {} // NOLINT(google-explicit-constructor)
  rule(std::string name, std::function<axis_growth(const rule_request&)> f)
      : name_(std::move(name)), decide_(std::move(f)) {}

  [[nodiscard]] const std::string& name() const noexcept { return name_; }
  [[nodiscard]] axis_growth operator()(const rule_request& asked) const { return decide_(asked); }

private:
  std::string name_;
  std::function<axis_growth(const rule_request&)> decide_;
};

/// Options of one request; what is not given comes from the plan.
struct grow_options {
  std::optional<msg::rule> rule{};
  std::optional<msg::placement> placement{};
};

struct request {
  std::string axis{};
  index new_size = 0;
  grow_options options{};
};

inline request axis::grow_to(index new_size) const { return {name, new_size, {}}; }
inline request axis::grow_to(index new_size, const grow_options& options) const { return {name, new_size, options}; }

/// Old unit at each new position, or fresh_unit. Empty where the sizes or a given order make no sense.
[[nodiscard]] inline std::vector<index> positions_of(const placement& where, index old_size, index new_size) {
  std::vector<index> old_of;
  old_of.reserve(static_cast<std::size_t>(new_size));
  switch (where.what) {
    case placement::order::append:
      for (index j = 0; j < new_size; ++j) { old_of.push_back(j < old_size ? j : fresh_unit); }
      break;
    case placement::order::prepend:
      for (index j = 0; j < new_size; ++j) {
        old_of.push_back(j < new_size - old_size ? fresh_unit : j - (new_size - old_size));
      }
      break;
    case placement::order::interleave:
      for (index j = 0; j < new_size; ++j) { // the first position that maps to an old unit is that unit
        const index unit = j * old_size / new_size;
        const bool first = j == 0 || (j - 1) * old_size / new_size != unit;
        old_of.push_back(first ? unit : fresh_unit);
      }
      break;
    case placement::order::given: {
      index next = 0;
      for (const index unit : where.old_of) {
        if (unit != fresh_unit && unit != next++) { return {}; }
      }
      if (next != old_size || static_cast<index>(where.old_of.size()) != new_size) { return {}; }
      old_of = where.old_of;
      break;
    }
  }
  return old_of;
}

/// As positions_of, for query heads in groups: fresh heads lie within each group as `where` says, and a fresh group is
/// fresh as a whole, so that every old head goes on reading its old key-value head.
///
/// groups           the old group at each new place, or fresh_unit: positions of the key-value heads
/// old_each, new_each  heads of a group
[[nodiscard]] inline std::vector<index> positions_in_groups(const placement& where, const std::vector<index>& groups,
                                                            index old_each, index new_each) {
  if (where.what == placement::order::given) { return {}; }
  std::vector<index> old_of;
  const std::vector<index> within = positions_of(where, old_each, new_each);
  for (const index group : groups) {
    for (const index unit : within) {
      old_of.push_back(group == fresh_unit || unit == fresh_unit ? fresh_unit : group * old_each + unit);
    }
  }
  return old_of;
}

MSG_NAMESPACE_END
