// The law of growth (design.md, section 3), cell by cell from multi-indices: what apply() must write.
//
// It shares with the library the axis maps (a rule's answer) and the generator of normal numbers, and nothing else: no
// run, no flag, no stride.
#pragma once

#include <msg/apply.hpp>
#include <msg/plan.hpp>
#include <msg/random.hpp>

#include <cmath>
#include <limits>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace oracle {

using msg::index;

/// What a cell must hold; tolerance 0: these bits (zeros of either sign are equal).
struct cell {
  double value = 0;
  double tolerance = 0;
};

/// One unit of one axis that a position of a dimension stands for.
struct unit {
  const msg::axis_plan* map = nullptr; // null: the axis does not grow, or is a fixed multiplicity
  index size = 0;                      // of the axis, before the growth
  index at = 0;                        // after the growth
};

/// A position of a dimension: its units, outermost first, and the old position at which their term begins.
struct place {
  index begin = 0;
  std::vector<unit> units{};
};

/// Multi-index of a row-major position.
[[nodiscard]] inline std::vector<index> multi_index(index position, const std::vector<index>& shape) {
  std::vector<index> result(shape.size(), 0);
  for (std::size_t d = shape.size(); d-- > 0;) {
    result[d] = position % shape[d];
    position /= shape[d];
  }
  return result;
}

class law {
public:
  explicit law(const msg::plan& growth) : growth_(growth) {}

  /// All cells of a parameter, row-major.
  template <class T>
  [[nodiscard]] std::vector<cell> operator()(std::string_view name, const std::vector<T>& old,
                                             msg::payload what) const {
    const msg::parameter& p = growth_.before().at(name);
    std::vector<index> shape;
    std::vector<std::vector<place>> places;
    index size = 1;
    for (const msg::dimension& d : p.dims) {
      places.push_back(places_of(d));
      shape.push_back(std::ssize(places.back()));
      size *= shape.back();
    }
    std::vector<cell> cells;
    std::vector<const place*> at(shape.size());
    for (index i = 0; i < size; ++i) {
      const std::vector<index> position = multi_index(i, shape);
      for (std::size_t d = 0; d < at.size(); ++d) { at[d] = &places[d][static_cast<std::size_t>(position[d])]; }
      cells.push_back(one(p, old, what, at, i));
    }
    return cells;
  }

private:
  [[nodiscard]] const msg::axis_plan* map_of(const std::string& axis) const {
    for (const msg::axis_plan& a : growth_.axes()) {
      if (a.name == axis) { return &a; }
    }
    return nullptr;
  }
  [[nodiscard]] std::vector<place> places_of(const msg::dimension& d) const {
    std::vector<place> places;
    index begin = 0;
    for (const msg::product& term : d.extent.terms) {
      std::vector<index> sizes;
      index size = 1;
      for (const msg::factor& f : term.factors) {
        const msg::axis_plan* map = map_of(f.axis);
        sizes.push_back(map == nullptr ? f.size : map->new_size);
        size *= sizes.back();
      }
      for (index i = 0; i < size; ++i) {
        const std::vector<index> at = multi_index(i, sizes);
        place here{.begin = begin};
        for (std::size_t k = 0; k < at.size(); ++k) {
          here.units.push_back({map_of(term.factors[k].axis), term.factors[k].size, at[k]});
        }
        places.push_back(std::move(here));
      }
      begin += term.size();
    }
    return places;
  }

  template <class T>
  [[nodiscard]] cell one(const msg::parameter& p, const std::vector<T>& old, msg::payload what,
                         const std::vector<const place*>& at, index element) const {
    index source = 0; // old row-major position
    long double factor = 1;
    int roundings = 0;
    bool newborn = false, silent_writer = false;
    bool fresh_out = false, fresh_in = false, fresh = false;
    const msg::axis_plan* first_fresh = nullptr; // its initialisation is taken
    std::vector<std::pair<const msg::axis_plan*, msg::role>> fresh_axes;
    for (std::size_t d = 0; d < at.size(); ++d) {
      const msg::role role = p.dims[d].what;
      index inside = 0; // old position within the term
      for (const unit& u : at[d]->units) {
        index from = u.at;
        if (u.map != nullptr) {
          const msg::axis_growth& g = u.map->growth;
          const auto j = static_cast<std::size_t>(u.at);
          from = g.source[j];
          const bool is_fresh = from == msg::fresh_unit;
          const bool is_newborn = is_fresh || (!g.newborn.empty() && g.newborn[j] != 0);
          newborn = newborn || is_newborn;
          silent_writer = silent_writer || (is_newborn && g.fills.zero_writers && role == msg::role::each);
          if (is_fresh) {
            fresh = true;
            fresh_out = fresh_out || role == msg::role::out;
            fresh_in = fresh_in || role == msg::role::in;
            first_fresh = first_fresh == nullptr ? u.map : first_fresh;
            fresh_axes.emplace_back(u.map, role);
          }
          // values are split where they are read, gradients where they are written
          if (role == (what == msg::payload::value ? msg::role::in : msg::role::out) && g.split[j] != 1) {
            factor *= what == msg::payload::moment2 ? static_cast<long double>(g.split[j]) * g.split[j] : g.split[j];
            roundings += 2;
          }
        }
        inside = inside * u.size + from; // meaningless, and unused, where fresh
      }
      source = source * p.dims[d].size() + at[d]->begin + inside;
    }
    if (what != msg::payload::value && newborn) { return {}; }
    if (silent_writer && writes_normed(p)) { return {}; }
    if (fresh) {
      for (const auto& [map, role] : fresh_axes) {
        const msg::fresh_fills& fills = map->growth.fills;
        const msg::fill here = fresh_out && fresh_in    ? fills.both
                               : role == msg::role::out ? fills.out
                               : role == msg::role::in  ? fills.in
                                                        : msg::fill::init;
        if (here == msg::fill::zero) { return {}; }
      }
      return fresh_number(first_fresh->growth.fresh.of(p.what), old, p.name, element);
    }
    for (const msg::axis_plan& a : growth_.axes()) {
      if (p.what != msg::kind::norm_gain || a.growth.contract.gain_factor == 1) { continue; }
      const bool on = p.uses(a.name, msg::role::out) || p.uses(a.name, msg::role::in);
      if (!on) { continue; }
      const long double s = a.growth.contract.gain_factor;
      factor *= what == msg::payload::value ? s : what == msg::payload::moment1 ? 1 / s : 1 / (s * s);
      roundings += 3;
    }
    const auto number = static_cast<long double>(old[static_cast<std::size_t>(source)]);
    const auto value = static_cast<double>(number * factor);
    // each factor is rounded to double, their product to T, and the result to T
    const double relative =
        roundings * std::numeric_limits<double>::epsilon() + 2 * static_cast<double>(std::numeric_limits<T>::epsilon());
    return {value, roundings == 0 ? 0 : relative * std::abs(value)};
  }

  template <class T>
  [[nodiscard]] cell fresh_number(const msg::init& what, const std::vector<T>& old, const std::string& name,
                                  index element) const {
    if (what.what == msg::init::kind::zeros) { return {}; }
    if (what.what == msg::init::kind::constant) { return {static_cast<double>(static_cast<T>(what.value)), 0}; }
    const double normal =
        msg::random_normal({growth_.seed(), msg::stream_of(name)}, static_cast<std::uint64_t>(element));
    if (what.what == msg::init::kind::normal) { return {static_cast<double>(static_cast<T>(what.value * normal)), 0}; }
    long double mean = 0, size_of_numbers = 0, squares = 0;
    const auto n = static_cast<long double>(old.size());
    for (const T number : old) { mean += number / n; }
    for (const T number : old) {
      size_of_numbers += std::abs(static_cast<long double>(number)) / n;
      squares += (number - mean) * (number - mean) / n;
    }
    const auto deviation = static_cast<double>(std::sqrt(squares));
    const auto value = static_cast<double>(mean) + deviation * normal;
    // the library sums n numbers in double, twice: the mean is off by n epsilon of the mean size, the deviation by as
    // much again and by n epsilon of its own
    const double sums = (static_cast<double>((n + 4) * size_of_numbers) + static_cast<double>(n + 4) * deviation) *
                        std::numeric_limits<double>::epsilon();
    return {value, sums * (1 + 2 * std::abs(normal)) +
                       static_cast<double>(std::numeric_limits<T>::epsilon()) * std::abs(value)};
  }

  [[nodiscard]] bool writes_normed(const msg::parameter& p) const {
    if (p.what != msg::kind::weight && p.what != msg::kind::bias) { return false; }
    for (const msg::axis& a : growth_.before().axes()) {
      if (growth_.before().norm_of(a.name) != msg::norm_kind::none && p.uses(a.name, msg::role::out)) { return true; }
    }
    return false;
  }

  const msg::plan& growth_;
};

/// Where `found` is not what the law says, in words; empty: nowhere.
template <class T>
[[nodiscard]] std::string difference(const std::vector<cell>& expected, const std::vector<T>& found) {
  if (expected.size() != found.size()) { return "sizes differ"; }
  for (std::size_t i = 0; i < found.size(); ++i) {
    const auto number = static_cast<double>(found[i]);
    if (!(std::abs(number - expected[i].value) <= expected[i].tolerance)) {
      return "cell " + std::to_string(i) + ": expected " + std::to_string(expected[i].value) + ", found " +
             std::to_string(number);
    }
  }
  return {};
}

} // namespace oracle
