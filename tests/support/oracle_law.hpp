// The law of growth (design.md, section 3), cell by cell from multi-indices: what apply() must write.
//
// It shares with the library the axis maps (a rule's answer) and the generator of normal numbers, and nothing else: no
// run, no flag, no stride.
#pragma once

#include <msg/apply.hpp>
#include <msg/plan.hpp>
#include <msg/random.hpp>

#include <algorithm>
#include <cmath>
#include <cstdint>
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
  std::string_view axis{};             // empty: a fixed multiplicity
  index size = 0;                      // of the axis, before the growth
  index new_size = 0;
  index at = 0; // after the growth
};

/// A position of a dimension: its units, outermost first, where their term begins before and after the growth, and
/// which part of a fused dimension it belongs to.
struct place {
  index begin = 0;
  index new_begin = 0;
  index part = 0;
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
    index new_begin = 0;
    index first_part = 0;
    for (const msg::product& term : d.extent.terms) {
      std::vector<index> sizes;
      index size = 1;
      index parts = 1;
      for (const msg::factor& f : term.factors) {
        const msg::axis_plan* map = map_of(f.axis);
        sizes.push_back(map == nullptr ? f.size : map->new_size);
        size *= sizes.back();
        parts *= f.axis.empty() ? f.size : 1;
      }
      for (index i = 0; i < size; ++i) {
        const std::vector<index> at = multi_index(i, sizes);
        place here{.begin = begin, .new_begin = new_begin};
        for (std::size_t k = 0; k < at.size(); ++k) {
          const msg::factor& f = term.factors[k];
          here.units.push_back({map_of(f.axis), f.axis, f.size, sizes[k], at[k]});
          if (f.axis.empty()) { here.part = here.part * f.size + at[k]; }
        }
        here.part += first_part;
        places.push_back(std::move(here));
      }
      begin += term.size();
      new_begin += size;
      first_part += parts;
    }
    return places;
  }

  /// Which old units a new one stands for.
  enum class standing { old, mean, fresh };
  [[nodiscard]] static standing standing_of(const msg::parameter& p, msg::role role, const unit& u) {
    if (u.map == nullptr) { return standing::old; }
    const msg::axis_growth& g = u.map->growth;
    const auto j = static_cast<std::size_t>(u.at);
    const bool norm = p.what == msg::kind::norm_gain || p.what == msg::kind::norm_bias;
    if (g.source[j] == msg::mean_unit && role == msg::role::out && !norm) { return standing::mean; }
    const bool newborn_copy = !g.newborn.empty() && g.newborn[j] != 0;
    const bool rows = g.fresh_writers && newborn_copy && role == msg::role::out;
    return g.source[j] < 0 || rows ? standing::fresh : standing::old;
  }

  template <class T>
  [[nodiscard]] cell one(const msg::parameter& p, const std::vector<T>& old, msg::payload what,
                         const std::vector<const place*>& at, index element) const {
    const bool norm = p.what == msg::kind::norm_gain || p.what == msg::kind::norm_bias;
    const bool value_wanted = what == msg::payload::value;
    long double factor = 1;
    int roundings = 0;
    bool newborn = false, zero = false, donated = false;
    bool fresh_out = false, fresh_in = false;
    const msg::axis_plan* first_fresh = nullptr; // its initialisation is taken
    const msg::axis_plan* noisy = nullptr;       // the outermost axis whose copies are paired here
    std::vector<std::pair<const msg::axis_plan*, msg::role>> fresh_axes;
    const auto scaled_by = [&](double s, bool inverse) {
      if (s == 1) { return; }
      const long double f = inverse ? 1 / static_cast<long double>(s) : s;
      factor *= what == msg::payload::moment2 ? f * f : f;
      roundings += 3;
    };
    for (std::size_t d = 0; d < at.size(); ++d) {
      const msg::role role = p.dims[d].what;
      const bool keys = role == msg::role::out && growth_.before().writes_keys(p.name, at[d]->part);
      for (const unit& u : at[d]->units) {
        if (u.map == nullptr) { continue; }
        const msg::axis_growth& g = u.map->growth;
        const auto j = static_cast<std::size_t>(u.at);
        const standing here = standing_of(p, role, u);
        const bool is_newborn = g.source[j] < 0 || (!g.newborn.empty() && g.newborn[j] != 0);
        newborn = newborn || is_newborn;
        zero = zero || (is_newborn && g.fills.zero_writers && role == msg::role::each && writes_residual(p));
        zero = zero || (here == standing::fresh && keys && g.fills.zero_keys);
        if (here == standing::fresh) {
          fresh_out = fresh_out || role == msg::role::out;
          fresh_in = fresh_in || role == msg::role::in;
          first_fresh = first_fresh == nullptr ? u.map : first_fresh;
          fresh_axes.emplace_back(u.map, role);
        }
        if (here == standing::old && is_newborn && role == msg::role::out) { donated = donated || g.from_next_layer; }
        if (noisy == nullptr && paired(p, role, u)) { noisy = u.map; }
        // values are split where they are read, gradients where they are written
        if (here == standing::old && (role == msg::role::in) == value_wanted) { scaled_by(g.split[j], false); }
        if (keys && growth_.before().is_scored(u.map->name)) { scaled_by(g.contract.key_factor, !value_wanted); }
      }
    }
    if (!value_wanted && (newborn || first_fresh != nullptr)) { return {}; }
    if (zero) { return {}; }
    for (const auto& [map, role] : fresh_axes) {
      const msg::fresh_fills& fills = map->growth.fills;
      if (norm && role == msg::role::out) { continue; } // no weight that writes
      const msg::fill here = fresh_out && fresh_in    ? fills.both
                             : role == msg::role::out ? fills.out
                             : role == msg::role::in  ? fills.in
                                                      : msg::fill::init;
      if (here == msg::fill::zero) { return {}; }
    }
    const bool like_units =
        first_fresh != nullptr && first_fresh->growth.fresh.of(p.what).what == msg::init::kind::like_units;
    if (first_fresh != nullptr && !like_units) {
      return fresh_number(first_fresh->growth.fresh.of(p.what), old, p.name, element);
    }
    for (const msg::axis_plan& a : growth_.axes()) {
      if (p.what != msg::kind::norm_gain) { continue; }
      if (p.uses(a.name, msg::role::out) || p.uses(a.name, msg::role::in)) {
        scaled_by(a.growth.contract.gain_factor, !value_wanted);
      }
    }
    const bool many = like_units || is_mean(p, at);
    // each factor is rounded to double, their product to T, and the result to T
    const double relative =
        roundings * std::numeric_limits<double>::epsilon() + 2 * static_cast<double>(std::numeric_limits<T>::epsilon());
    if (!many) {
      const auto source = static_cast<std::size_t>(old_cell(p, at, donated));
      const auto value = static_cast<double>(static_cast<long double>(old[source]) * factor);
      if (noisy != nullptr && value_wanted) { return with_noise(p, old, at, noisy, value, relative); }
      return {value, roundings == 0 ? 0 : relative * std::abs(value)};
    }
    const double times = like_units ? first_fresh->growth.fresh.of(p.what).value : 0;
    return average(old, old_cells(p, at), times, factor, relative, p.name, element);
  }

  [[nodiscard]] static bool is_mean(const msg::parameter& p, const std::vector<const place*>& at) {
    for (std::size_t d = 0; d < at.size(); ++d) {
      for (const unit& u : at[d]->units) {
        if (standing_of(p, p.dims[d].what, u) == standing::mean) { return true; }
      }
    }
    return false;
  }
  [[nodiscard]] static bool paired(const msg::parameter& p, msg::role role, const unit& u) {
    if (u.map == nullptr || role != msg::role::in || p.what != msg::kind::weight) { return false; }
    const msg::axis_growth& g = u.map->growth;
    return !g.partner.empty() && g.partner[static_cast<std::size_t>(u.at)] >= 0 &&
           g.noise.what != msg::init::kind::zeros;
  }

  /// Row-major position of the old cell that a new one is made of.
  [[nodiscard]] index old_cell(const msg::parameter& p, const std::vector<const place*>& at, bool donated) const {
    index cell = 0;
    for (std::size_t d = 0; d < at.size(); ++d) {
      index inside = 0; // old position within the term
      for (const unit& u : at[d]->units) {
        index from = u.map == nullptr ? u.at : u.map->growth.source[static_cast<std::size_t>(u.at)];
        const bool layer = p.dims[d].what == msg::role::each && !u.axis.empty() && !growth_.before().has_logits(u.axis);
        if (donated && layer) { from = std::min(from + 1, u.size - 1); }
        inside = inside * u.size + from;
      }
      cell = cell * p.dims[d].size() + at[d]->begin + inside;
    }
    return cell;
  }
  /// Of all those that it averages over.
  [[nodiscard]] static std::vector<index> old_cells(const msg::parameter& p, const std::vector<const place*>& at) {
    std::vector<index> cells{0};
    for (std::size_t d = 0; d < at.size(); ++d) {
      std::vector<index> inside{0};
      for (const unit& u : at[d]->units) {
        const bool one = standing_of(p, p.dims[d].what, u) == standing::old;
        const index from = u.map == nullptr ? u.at : u.map->growth.source[static_cast<std::size_t>(u.at)];
        std::vector<index> next;
        for (const index position : inside) {
          for (index k = one ? from : 0; k < (one ? from + 1 : u.size); ++k) { next.push_back(position * u.size + k); }
        }
        inside = std::move(next);
      }
      std::vector<index> next;
      for (const index position : cells) {
        for (const index k : inside) { next.push_back(position * p.dims[d].size() + at[d]->begin + k); }
      }
      cells = std::move(next);
    }
    return cells;
  }

  /// The number of the first copy of a pair, subtracted on the second: at the element of all first copies.
  template <class T>
  [[nodiscard]] cell with_noise(const msg::parameter& p, const std::vector<T>& old, const std::vector<const place*>& at,
                                const msg::axis_plan* noisy, double value, double relative) const {
    index element = 0;
    double sign = 1;
    for (std::size_t d = 0; d < at.size(); ++d) {
      index inside = 0;
      for (const unit& u : at[d]->units) {
        index first = u.at;
        if (paired(p, p.dims[d].what, u)) {
          first = std::min(first, u.map->growth.partner[static_cast<std::size_t>(u.at)]);
          if (first != u.at) { sign = -sign; }
        }
        inside = inside * u.new_size + first;
      }
      const index size = growth_.after().at(p.name).dims[d].size();
      element = element * size + at[d]->new_begin + inside;
    }
    // what init::normal or init::spread would fill there, in double
    const std::vector<double> numbers(old.begin(), old.end());
    const cell noise = fresh_number(noisy->growth.noise, numbers, p.name, element);
    const double sum = value + sign * noise.value;
    return {sum, noise.tolerance + relative * (std::abs(value) + std::abs(noise.value))};
  }

  template <class T>
  [[nodiscard]] cell average(const std::vector<T>& old, const std::vector<index>& cells, double times,
                             long double factor, double relative, const std::string& name, index element) const {
    const auto n = static_cast<long double>(cells.size());
    long double mean = 0, sizes = 0, squares = 0;
    for (const index c : cells) { mean += static_cast<long double>(old[static_cast<std::size_t>(c)]) / n; }
    for (const index c : cells) {
      const auto number = static_cast<long double>(old[static_cast<std::size_t>(c)]);
      sizes += std::abs(number) / n;
      squares += (number - mean) * (number - mean) / n;
    }
    const double normal =
        times == 0 ? 0
                   : msg::random_normal({growth_.seed(), msg::stream_of(name)}, static_cast<std::uint64_t>(element));
    const double deviation = times * static_cast<double>(std::sqrt(squares));
    const auto value = static_cast<double>((static_cast<long double>(mean) + deviation * normal) * factor);
    // sums of n numbers in double, as in fresh_number
    const double sums = static_cast<double>((n + 4) * sizes) * std::numeric_limits<double>::epsilon() *
                        (1 + 2 * times * std::abs(normal)) * static_cast<double>(std::abs(factor));
    return {value, sums + relative * (std::abs(value) + static_cast<double>(sizes * std::abs(factor)))};
  }

  template <class T>
  [[nodiscard]] cell fresh_number(const msg::init& what, const std::vector<T>& old, const std::string& name,
                                  index element) const {
    if (what.what == msg::init::kind::zeros) { return {}; }
    if (what.what == msg::init::kind::constant) { return {static_cast<double>(static_cast<T>(what.value)), 0}; }
    const double normal =
        msg::random_normal({growth_.seed(), msg::stream_of(name)}, static_cast<std::uint64_t>(element));
    if (what.what == msg::init::kind::normal) { return {static_cast<double>(static_cast<T>(what.value * normal)), 0}; }
    const bool spread = what.what == msg::init::kind::spread; // else matched
    long double mean = 0, size_of_numbers = 0, squares = 0;
    const auto n = static_cast<long double>(old.size());
    for (const T number : old) { mean += number / n; }
    for (const T number : old) {
      size_of_numbers += std::abs(static_cast<long double>(number)) / n;
      squares += (number - mean) * (number - mean) / n;
    }
    const auto deviation = static_cast<double>(std::sqrt(squares)) * (spread ? what.value : 1);
    const auto value = (spread ? 0 : static_cast<double>(mean)) + deviation * normal;
    // the library sums n numbers in double, twice: the mean is off by n epsilon of the mean size, the deviation by as
    // much again and by n epsilon of its own
    const double sums = (static_cast<double>((n + 4) * size_of_numbers) * (spread ? what.value : 1) +
                         static_cast<double>(n + 4) * deviation) *
                        std::numeric_limits<double>::epsilon();
    return {value, sums * (1 + 2 * std::abs(normal)) +
                       static_cast<double>(std::numeric_limits<T>::epsilon()) * std::abs(value)};
  }

  [[nodiscard]] bool writes_residual(const msg::parameter& p) const {
    if (p.what != msg::kind::weight && p.what != msg::kind::bias) { return false; }
    for (const msg::axis& a : growth_.before().axes()) {
      if (growth_.before().is_residual(a.name) && p.uses(a.name, msg::role::out)) { return true; }
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
