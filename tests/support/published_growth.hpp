// Growth operators as the papers state them: an expansion matrix per axis, multiplied out in plain loops.
//
//   W' = write_of_its_rows W read_of_its_columns^T       x' = write x; the function is kept where read^T write = 1
//
// Source: operators.md, sections 1 to 3 and 5; Wang et al. 2023 (LiGO) for the form. No rule, axis map or kernel of the
// library is used.
#pragma once

#include "support/published_model.hpp"

#include <cmath>
#include <cstddef>
#include <limits>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace published {

using real = long double;

/// A cell that an operator leaves free.
inline constexpr real anything = std::numeric_limits<real>::quiet_NaN();

/// (new units, old units), row by row.
using matrix = std::vector<std::vector<real>>;

/// How one axis grows. Where a content is given, added units hold it in arrays of that sort instead of what the
/// matrices say.
struct expansion {
  matrix write{}, read{};
  std::vector<bool> added{};                                   // units that are new
  std::optional<real> writers{}, readers{}, gains{}, shifts{}; // weights and biases; norm gains; norm biases
  bool newborn = false;                                        // added units have moments 0
  bool silent = false;                                         // layers: what added ones write to the residual is 0
};

/// By axis name; an axis that is not named stays.
using growth = std::map<std::string, expansion>;

enum class number { value, moment1, moment2 };

// -- expansions ------------------------------------------------------------------------------------------------------

/// Unit i of the new axis is a copy of old unit from[i], which its readers weight with share[i].
[[nodiscard]] inline expansion copies(index old, const std::vector<index>& from, const std::vector<real>& share) {
  expansion e;
  for (std::size_t i = 0; i < from.size(); ++i) {
    std::vector<real> row(static_cast<std::size_t>(old), 0);
    row[static_cast<std::size_t>(from[i])] = 1;
    e.write.push_back(row);
    row[static_cast<std::size_t>(from[i])] = share[i];
    e.read.push_back(row);
    e.added.push_back(static_cast<index>(i) >= old);
  }
  return e;
}
/// The same with equal shares, 1 / number of copies. Source: Chen et al. 2016, Net2Net, eq. 3.
[[nodiscard]] inline expansion copies(index old, const std::vector<index>& from) {
  std::vector<real> share;
  for (const index unit : from) {
    real count = 0;
    for (const index other : from) { count += other == unit ? 1 : 0; }
    share.push_back(1 / count);
  }
  return copies(old, from, share);
}
/// 0 1 .. h-1 0 1 .. : whole copies one after another. Source: Samragh et al. 2024, HyperCloning.
[[nodiscard]] inline std::vector<index> tiled(index old, index size) {
  std::vector<index> from;
  for (index i = 0; i < size; ++i) { from.push_back(i % old); }
  return from;
}

/// Old units where old_of says so, in order; the others (-1) are new, with given contents.
[[nodiscard]] inline expansion placed(index old, const std::vector<index>& old_of) {
  expansion e;
  for (const index unit : old_of) {
    std::vector<real> row(static_cast<std::size_t>(old), 0);
    if (unit >= 0) { row[static_cast<std::size_t>(unit)] = 1; }
    e.write.push_back(row);
    e.read.push_back(row);
    e.added.push_back(unit < 0);
  }
  e.newborn = true;
  e.writers = e.readers = e.gains = e.shifts = anything;
  return e;
}
/// [1 ; 0]: old units as they were, new ones behind them.
[[nodiscard]] inline expansion appended(index old, index size) {
  std::vector<index> old_of;
  for (index i = 0; i < size; ++i) { old_of.push_back(i < old ? i : -1); }
  return placed(old, old_of);
}
/// Query heads of groups that grow: the first heads of the first groups are the old ones.
[[nodiscard]] inline std::vector<index> in_groups(index old_groups, index old_each, index groups, index each) {
  std::vector<index> old_of;
  for (index g = 0; g < groups; ++g) {
    for (index r = 0; r < each; ++r) { old_of.push_back(g < old_groups && r < old_each ? g * old_each + r : -1); }
  }
  return old_of;
}
/// [W ; R] and [W | 0]: what reads the new units is zero. Source: Gesmundo and Maile 2023, Composable, sec. 3.
[[nodiscard]] inline expansion unread(index old, index size) {
  expansion e = appended(old, size);
  e.readers = 0;
  return e;
}
/// Nothing writes the new units, readers are free: the hidden axis of a Composable expansion.
[[nodiscard]] inline expansion unwritten(index old, index size) {
  expansion e = appended(old, size);
  e.writers = 0;
  return e;
}
/// New units hold the mean of the old ones. Source: Wang et al. 2024, LEMON, sec. 4.
[[nodiscard]] inline expansion averaged(index old, index size) {
  expansion e = appended(old, size);
  for (index i = old; i < size; ++i) {
    e.write[static_cast<std::size_t>(i)].assign(static_cast<std::size_t>(old), 1 / static_cast<real>(old));
  }
  e.writers.reset();
  e.shifts = 0;
  return e;
}
/// New layers from old ones: from[l]; `added` says which are new.
[[nodiscard]] inline expansion layers_from(index old, const std::vector<index>& from, const std::vector<bool>& added) {
  expansion e = copies(old, from);
  e.added = added;
  e.newborn = true;
  return e;
}

// -- the product -----------------------------------------------------------------------------------------------------

/// What a position of a grown dimension is made of.
struct place {
  std::vector<std::pair<index, real>> parts{{0, 1}}; // old positions and their factors
  std::optional<real> content{};                     // instead
  bool newborn = false, silent = false;
};

[[nodiscard]] inline std::optional<real> content_of(const expansion& e, msg::kind what, char does) {
  if (what == msg::kind::norm_gain) { return e.gains; }
  if (what == msg::kind::norm_bias) { return e.shifts; }
  return does == 'r' ? e.readers : e.writers;
}

/// Every position of one dimension of an array after the growth.
[[nodiscard]] inline std::vector<place> places_of(const side& one, msg::kind what, const sizes& old, const growth& g,
                                                  number payload) {
  std::vector<place> all;
  index begin = 0;
  for (const std::vector<std::string>& term : one.terms) {
    std::vector<place> some(1);
    index size = 1;
    for (const std::string& axis : term) {
      const index units = old.of(axis);
      const auto found = g.find(axis);
      const index new_units = found == g.end() ? units : std::ssize(found->second.write);
      std::vector<place> longer;
      for (const place& before : some) {
        for (index u = 0; u < new_units; ++u) {
          place now = before;
          now.parts.clear();
          const auto unit = static_cast<std::size_t>(u);
          const expansion* e = found == g.end() ? nullptr : &found->second;
          if (e != nullptr && e->added[unit]) {
            const std::optional<real> content = content_of(*e, what, one.does);
            // where two axes add a cell, one zero is enough
            if (content && (!now.content || *content == 0)) { now.content = content; }
            now.newborn = now.newborn || e->newborn;
            now.silent = now.silent || e->silent;
          }
          for (const auto& [from, times] : before.parts) {
            for (index v = 0; v < units; ++v) {
              real factor = u == v ? 1 : 0;
              if (e != nullptr) {
                // gradients run the other way: g = write^T g' read
                const bool reads = (one.does == 'r') == (payload == number::value);
                const matrix& m = one.does == 's' || !reads ? e->write : e->read;
                factor = m[unit][static_cast<std::size_t>(v)];
                if (payload == number::moment2) { factor *= factor; }
              }
              if (factor != 0) { now.parts.emplace_back(from * units + v, times * factor); }
            }
          }
          longer.push_back(now);
        }
      }
      some = longer;
      size *= units;
    }
    for (place& here : some) {
      for (auto& part : here.parts) { part.first += begin; }
      all.push_back(here);
    }
    begin += size;
  }
  return all;
}

/// What a layer adds to the residual stream.
[[nodiscard]] inline bool writes_residual(const std::string& name) {
  return name == "join" || name == "join.bias" || name == "down" || name == "down.bias";
}

/// One array after the growth; cells left free are NaN.
[[nodiscard]] inline std::vector<real> grown(const form& array, const std::vector<real>& old, const sizes& size,
                                             const growth& g, number payload) {
  struct cell {
    std::vector<std::pair<index, real>> parts{{0, 1}};
    std::optional<real> content{};
    bool newborn = false, silent = false;
  };
  std::vector<cell> cells(1);
  for (const side& one : array.sides) {
    const std::vector<place> places = places_of(one, array.what, size, g, payload);
    const index extent = extent_of(one, size);
    std::vector<cell> next;
    for (const cell& before : cells) {
      for (const place& here : places) {
        cell now{{}, before.content, before.newborn || here.newborn, before.silent || here.silent};
        if (here.content && (!now.content || *here.content == 0)) { now.content = here.content; }
        for (const auto& [from, times] : before.parts) {
          for (const auto& [v, factor] : here.parts) { now.parts.emplace_back(from * extent + v, times * factor); }
        }
        next.push_back(now);
      }
    }
    cells = next;
  }
  std::vector<real> result;
  for (const cell& one : cells) {
    real sum = 0;
    for (const auto& [from, times] : one.parts) { sum += times * old[static_cast<std::size_t>(from)]; }
    if (payload != number::value) {
      result.push_back(one.newborn ? 0 : sum);
    } else if (one.silent && writes_residual(array.name)) {
      result.push_back(0);
    } else {
      result.push_back(one.content ? *one.content : sum);
    }
  }
  return result;
}

/// Sizes after the growth.
[[nodiscard]] inline sizes grown(sizes s, const growth& g) {
  const auto set = [&](index& size, const char* axis) {
    const auto found = g.find(axis);
    if (found != g.end()) { size = std::ssize(found->second.write); }
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

/// The grown model; what is left free is NaN. gain_factor multiplies every norm gain that was there before.
[[nodiscard]] inline model grown(const model& old, const growth& g, real gain_factor = 1,
                                 number payload = number::value) {
  model result{grown(old.size, g), {}};
  const real factor = payload == number::value     ? gain_factor
                      : payload == number::moment1 ? 1 / gain_factor
                                                   : 1 / (gain_factor * gain_factor);
  for (const form& array : forms(old.size)) {
    std::vector<real>& numbers = result.numbers[array.name];
    numbers = grown(array, old.numbers.at(array.name), old.size, g, payload);
    for (real& one : numbers) { one *= array.what == msg::kind::norm_gain ? factor : 1; }
  }
  return result;
}

/// Free cells set to something wild.
[[nodiscard]] inline model filled(model m, std::uint64_t seed, real size = 3) {
  std::mt19937_64 draw(seed);
  for (auto& [name, numbers] : m.numbers) {
    for (real& one : numbers) {
      if (std::isnan(one)) { one = size * (static_cast<real>(draw() >> 11) * 0x1p-52 - 1); }
    }
  }
  return m;
}

} // namespace published
