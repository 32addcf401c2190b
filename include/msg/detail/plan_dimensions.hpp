// The axis maps of a plan carried to every position of a parameter's dimensions.
#pragma once

#include <msg/detail/plan_entries.hpp>
#include <msg/request.hpp>
#include <msg/schema.hpp>

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

MSG_NAMESPACE_BEGIN

namespace detail {

[[nodiscard]] inline const axis_plan* find_axis(const std::vector<axis_plan>& axes, const std::string& name) {
  const auto found = std::find_if(axes.begin(), axes.end(), [&](const axis_plan& a) { return a.name == name; });
  return found == axes.end() ? nullptr : &*found;
}

/// Maps of one parameter's dimensions. Each new position of a dimension is a tuple of units, one per factor; it has a
/// source where all units have one.
class dimension_mapper {
public:
  dimension_mapper(const schema& before, const std::vector<axis_plan>& axes, const parameter& p)
      : before_(before), axes_(axes), p_(p), is_norm_(p.what == kind::norm_gain || p.what == kind::norm_bias),
        writes_residual_(!is_norm_ && writes_residual()) {
    for (const axis_plan& a : axes) {
      groups_fresh_ |= a.growth.fresh.of(p.what).what == init::kind::like_units;
      takes_from_next_ |= a.growth.from_next_layer;
    }
  }

  [[nodiscard]] dimension_map operator()(const dimension& old_dim, const dimension& new_dim) const {
    dimension_map map{.what = old_dim.what, .old_size = old_dim.size()};
    std::map<std::vector<index>, index> groups;
    std::vector<std::vector<index>> targets;
    std::vector<index> sources; // old unit of each factor, or -1
    block at{};
    for_each_position(new_dim.extent, [&](index position, const product& term, const std::vector<index>& units) {
      const auto t = static_cast<std::size_t>(&term - new_dim.extent.terms.data());
      if (t != at.term) {
        at = {t, at.old_begin + old_dim.extent.terms[at.term].size(), position,
              at.parts + parts(new_dim.extent.terms[at.term])};
      }
      const cell here = look(map.what, at, old_dim.extent.terms[t], term, units, sources);
      map.source.push_back(here.source);
      map.split.push_back(here.split);
      map.dual.push_back(here.dual);
      map.flags.push_back(static_cast<std::uint16_t>(here.flags));
      map.filler.push_back(here.filler);
      map.donor.push_back(here.donor);
      map.twin.push_back(here.twin);
      index group = -1;
      if ((here.flags & averaged) != 0 || ((here.flags & fresh_any) != 0 && groups_fresh_)) {
        // One group: the same old positions, and the same in every other respect.
        std::vector<index> key{static_cast<index>(t), static_cast<index>(here.flags), here.filler,
                               std::bit_cast<index>(here.split)};
        key.insert(key.end(), sources.begin(), sources.end());
        const auto [known, added] = groups.try_emplace(key, static_cast<index>(targets.size()));
        group = known->second;
        if (added) {
          targets.emplace_back();
          add_members(map.groups, at.old_begin, old_dim.extent.terms[t], sources);
        }
        targets[static_cast<std::size_t>(group)].push_back(position);
      }
      map.groups.of.push_back(group);
    });
    for (const std::vector<index>& positions : targets) {
      map.groups.target.insert(map.groups.target.end(), positions.begin(), positions.end());
      map.groups.target_begin.push_back(static_cast<index>(map.groups.target.size()));
    }
    if (targets.empty()) { map.groups.of.clear(); }
    if (!takes_from_next_ || map.what != role::each) { map.donor.clear(); }
    if (std::all_of(map.twin.begin(), map.twin.end(), [](index twin) { return twin < 0; })) { map.twin.clear(); }
    return map;
  }

  static std::vector<grow_run> runs_of(const dimension_map& map) {
    std::vector<grow_run> runs;
    for (std::size_t j = 0; j < map.source.size(); ++j) {
      const auto of = [j](const std::vector<index>& all) { return all.empty() ? index{-1} : all[j]; };
      const grow_run one{static_cast<index>(j), 1,
                         map.source[j],         map.split[j],
                         map.dual[j],           map.flags[j],
                         map.filler[j],         of(map.donor),
                         of(map.twin),          of(map.groups.of)};
      if (!runs.empty() && follows(runs.back(), one)) {
        ++runs.back().length;
      } else {
        runs.push_back(one);
      }
    }
    return runs;
  }

private:
  /// A term of the dimension: where it begins, and how many parts (schema::keys counts them) lie before it.
  struct block {
    std::size_t term = 0;
    index old_begin = 0, new_begin = 0, parts = 0;
  };
  struct cell {
    index source = 0, donor = 0, twin = -1;
    double split = 1, dual = 1;
    unsigned flags = 0;
    std::uint8_t filler = 0;
  };

  [[nodiscard]] cell look(role what, const block& at, const product& old_term, const product& new_term,
                          const std::vector<index>& units, std::vector<index>& sources) const {
    cell here;
    index twin = 0;
    bool paired = false;
    sources.clear();
    const bool keys = what == role::out && before_.writes_keys(p_.name, at.parts + part_of(new_term, units));
    for (std::size_t k = 0; k < units.size(); ++k) {
      const axis_plan* a = find_axis(axes_, new_term.factors[k].axis);
      index from = units[k];
      index leader = units[k];
      if (a != nullptr) {
        const axis_growth& g = a->growth;
        const auto unit = static_cast<std::size_t>(units[k]);
        const unsigned flags = flags_of(*a, units[k], what, keys);
        const bool fresh = (flags & fresh_any) != 0;
        const bool first_fresh = fresh && (here.flags & fresh_any) == 0;
        from = fresh || (flags & averaged) != 0 ? -1 : g.source[unit];
        const bool noisy = what == role::in && p_.what == kind::weight && !g.partner.empty() && g.partner[unit] >= 0 &&
                           g.noise.what != init::kind::zeros;
        if (first_fresh || (noisy && !paired && (here.flags & fresh_any) == 0)) {
          here.filler = static_cast<std::uint8_t>(a - axes_.data());
        }
        here.flags = joined_flags(static_cast<std::uint16_t>(here.flags), static_cast<std::uint16_t>(flags));
        if (noisy) {
          leader = std::min(units[k], g.partner[unit]);
          if (leader != units[k]) { here.flags ^= noise_minus; }
          paired = true;
        }
        if (from >= 0) { (what == role::in ? here.split : here.dual) *= g.split[unit]; }
        if (keys && before_.is_scored(a->name)) {
          here.split *= g.contract.key_factor;
          here.dual /= g.contract.key_factor;
        }
      }
      const index size = old_term.factors[k].size;
      here.source = here.source < 0 || from < 0 ? -1 : here.source * size + from;
      here.donor = here.donor * size + std::max<index>(donor_of(what, new_term.factors[k].axis, from, size), 0);
      twin = twin * new_term.factors[k].size + leader;
      sources.push_back(from);
    }
    if (here.source >= 0) { here.source += at.old_begin; }
    here.donor += at.old_begin;
    if (paired && (here.flags & (fresh_any | averaged)) == 0) { here.twin = at.new_begin + twin; }
    return here;
  }

  [[nodiscard]] unsigned flags_of(const axis_plan& a, index unit, role what, bool keys) const {
    const axis_growth& g = a.growth;
    const index source = g.source[static_cast<std::size_t>(unit)];
    const bool is_newborn = g.is_newborn(unit);
    unsigned flags = is_newborn ? newborn : 0;
    if (source == mean_unit && what == role::out && !is_norm_) { return flags | averaged; }
    const bool fresh = source < 0 || (g.fresh_writers && is_newborn && what == role::out);
    if (!fresh) {
      if (is_newborn && what == role::each && g.fills.zero_writers && writes_residual_) { flags |= zero_always; }
      if (is_newborn && what == role::out && g.from_next_layer) { flags |= donated; }
      return flags;
    }
    flags |= what == role::out ? fresh_out : what == role::in ? fresh_in : fresh_each;
    if (what == role::each && g.fills.zero_writers && writes_residual_) { flags |= zero_always; }
    if (keys && g.fills.zero_keys) { flags |= zero_always; }
    const bool norm_writes = is_norm_ && what == role::out; // a norm's gain or bias: not a weight that writes
    const fill alone = what == role::out ? g.fills.out : what == role::in ? g.fills.in : fill::init;
    if (alone == fill::zero && !norm_writes) { flags |= zero_alone; }
    if (g.fills.both == fill::zero && !norm_writes) { flags |= zero_both; }
    return flags;
  }

  // Layers are slices that no gate chooses from; the last one is its own next.
  [[nodiscard]] index donor_of(role what, const std::string& axis_name, index from, index old_size) const {
    const bool layers = what == role::each && !axis_name.empty() && !before_.has_logits(axis_name);
    return layers ? std::min(from + 1, old_size - 1) : from;
  }

  [[nodiscard]] static index parts(const product& term) {
    index count = 1;
    for (const factor& f : term.factors) { count *= f.axis.empty() ? f.size : 1; }
    return count;
  }
  [[nodiscard]] static index part_of(const product& term, const std::vector<index>& units) {
    index part = 0;
    for (std::size_t k = 0; k < units.size(); ++k) {
      if (term.factors[k].axis.empty()) { part = part * term.factors[k].size + units[k]; }
    }
    return part;
  }

  // Old positions of a group: every old unit of the factors that average, the source of the others.
  static void add_members(position_groups& groups, index old_begin, const product& old_term,
                          const std::vector<index>& sources) {
    std::vector<index> positions{0};
    for (std::size_t k = 0; k < old_term.factors.size(); ++k) {
      const index source = sources[k];
      const index size = old_term.factors[k].size;
      std::vector<index> next;
      for (const index position : positions) {
        for (index u = source < 0 ? 0 : source; u < (source < 0 ? size : source + 1); ++u) {
          next.push_back(position * size + u);
        }
      }
      positions = std::move(next);
    }
    for (const index position : positions) { groups.member.push_back(old_begin + position); }
    groups.member_begin.push_back(static_cast<index>(groups.member.size()));
  }

  static bool follows(const grow_run& last, const grow_run& next) {
    const auto in_step = [&](index before, index now) { return before < 0 ? now < 0 : now == before + last.length; };
    return in_step(last.source, next.source) && in_step(last.donor, next.donor) && in_step(last.twin, next.twin) &&
           last.group == next.group && last.split == next.split && last.dual == next.dual && last.flags == next.flags &&
           last.filler == next.filler;
  }

  [[nodiscard]] bool writes_residual() const {
    return std::any_of(before_.axes().begin(), before_.axes().end(),
                       [&](const axis& a) { return before_.is_residual(a.name) && p_.uses(a.name, role::out); });
  }

  const schema& before_;
  const std::vector<axis_plan>& axes_;
  const parameter& p_;
  bool is_norm_ = false;
  bool writes_residual_ = false;
  bool groups_fresh_ = false;
  bool takes_from_next_ = false;
};

} // namespace detail

MSG_NAMESPACE_END
