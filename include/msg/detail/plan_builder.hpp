// How a plan is made: checks of the requests, the rules' answers, and their maps carried to every dimension.
#pragma once

#include <msg/detail/plan_entries.hpp>
#include <msg/kernels/grow.hpp>
#include <msg/request.hpp>
#include <msg/schema.hpp>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

MSG_NAMESPACE_BEGIN

namespace detail {

struct plan_builder {
  const schema& before;
  schema after;
  std::vector<axis_plan> axes;
  std::vector<param_plan> parameters;
  std::vector<diagnostic> findings;

  plan_builder(const schema& old, const std::vector<request>& requests, const rule& fallback,
               const plan_options& options)
      : before(old), findings(old.diagnose()) {
    // Key-value heads first: the query heads that share them are placed, and copied, as they are.
    for (const bool grouped : {false, true}) {
      for (const request& r : requests) {
        if ((group_of(r.axis) != nullptr) != grouped) { continue; }
        add_axis(r, r.options.rule ? *r.options.rule : fallback, options, requests);
      }
    }
    check_groups(requests);
    if (axes.size() > static_cast<std::size_t>(max_fillers)) {
      findings.push_back({.code = errc::unsupported,
                          .expected = "at most " + std::to_string(max_fillers) + " axes in one plan",
                          .found = std::to_string(axes.size()),
                          .hint = "make two plans, one after the other"});
    }
    if (!findings.empty()) { return; }
    const auto asked = [&requests](const axis_plan& a) {
      return std::find_if(requests.begin(), requests.end(), [&a](const request& r) { return r.axis == a.name; });
    };
    std::sort(axes.begin(), axes.end(), [&](const axis_plan& a, const axis_plan& b) { return asked(a) < asked(b); });
    std::map<std::string, index, std::less<>> sizes;
    for (const axis_plan& a : axes) { sizes[a.name] = a.new_size; }
    after = before.resized(sizes);
    for (std::size_t p = 0; p < before.parameters().size(); ++p) { add_parameter(p, options.seed); }
  }

private:
  void refuse(errc code, const std::string& axis_name, std::string expected, std::string found, std::string hint = {}) {
    findings.push_back({.code = code,
                        .axis = axis_name,
                        .expected = std::move(expected),
                        .found = std::move(found),
                        .hint = std::move(hint)});
  }

  [[nodiscard]] const head_groups* group_of(std::string_view heads) const {
    for (const head_groups& g : before.groups()) {
      if (g.heads == heads) { return &g; }
    }
    return nullptr;
  }

  // How query heads are grouped, before and after: nothing, with a finding, where the new sizes make no whole groups or
  // an old head would have to change its key-value head.
  [[nodiscard]] head_grouping grouping(const head_groups& pair, index old_heads, index new_heads) {
    head_grouping groups;
    const index old_kv = before.axis_at(pair.kv_heads).size;
    const axis_plan* kv = axis_of(pair.kv_heads);
    const index new_kv = kv == nullptr ? old_kv : kv->new_size;
    if (new_heads % new_kv != 0) {
      refuse(errc::bad_size, pair.heads, "a multiple of " + std::to_string(new_kv) + " '" + pair.kv_heads + "'",
             std::to_string(new_heads));
    } else if (new_heads / new_kv < old_heads / old_kv) {
      refuse(errc::unsupported, pair.heads,
             "at least " + std::to_string(old_heads / old_kv) + " for each of '" + pair.kv_heads + "'",
             std::to_string(new_heads / new_kv), "an old query head would change its key-value head");
    } else {
      groups.old_size = old_heads / old_kv;
      groups.new_size = new_heads / new_kv;
      for (index g = 0; g < new_kv; ++g) {
        groups.source.push_back(kv == nullptr ? g : kv->growth.source[static_cast<std::size_t>(g)]);
        groups.split.push_back(kv == nullptr ? 1 : kv->growth.split[static_cast<std::size_t>(g)]);
      }
    }
    return groups;
  }
  [[nodiscard]] static bool names(const std::vector<request>& requests, const std::string& axis_name) {
    return std::any_of(requests.begin(), requests.end(), [&](const request& r) { return r.axis == axis_name; });
  }
  // Groups of which only the key-value heads grow.
  void check_groups(const std::vector<request>& requests) {
    for (const head_groups& pair : before.groups()) {
      if (axis_of(pair.kv_heads) == nullptr || names(requests, pair.heads)) { continue; }
      const index heads = before.axis_at(pair.heads).size;
      (void)grouping(pair, heads, heads);
    }
  }

  void add_axis(const request& asked, const rule& by, const plan_options& options,
                const std::vector<request>& requests) {
    const axis* known = before.find_axis(asked.axis);
    if (known == nullptr) {
      return refuse(errc::unknown_axis, asked.axis, before.axis_names(), "'" + asked.axis + "'");
    }
    if (known->size < 1) { return; } // the schema has reported it
    for (const axis_plan& a : axes) {
      if (a.name == asked.axis) { return refuse(errc::duplicate_name, asked.axis, "one request per axis", "two"); }
    }
    if (asked.new_size < known->size) {
      return refuse(errc::shrink, asked.axis, "at least " + std::to_string(known->size),
                    std::to_string(asked.new_size));
    }
    const placement& where = asked.options.placement ? *asked.options.placement : options.placement;
    axis_plan result{.name = asked.axis, .old_size = known->size, .new_size = asked.new_size, .placement = where.what};
    head_grouping groups;
    if (const head_groups* pair = group_of(asked.axis)) {
      const axis_plan* kv = axis_of(pair->kv_heads);
      if (!before.diagnose().empty() || (kv == nullptr && names(requests, pair->kv_heads))) { return; } // reported
      groups = grouping(*pair, known->size, asked.new_size);
      if (groups.old_size == 0) { return; }
      const index kv_size = before.axis_at(pair->kv_heads).size;
      const std::vector<index> kv_places = kv == nullptr ? positions_of({}, kv_size, kv_size) : kv->old_of;
      result.old_of = positions_in_groups(where, kv_places, groups.old_size, groups.new_size);
      if (result.old_of.empty()) {
        return refuse(errc::bad_placement, asked.axis,
                      "an order that holds for every group of '" + pair->kv_heads + "'", positions_text(where.old_of),
                      "append, prepend or interleave");
      }
    } else {
      result.old_of = positions_of(where, known->size, asked.new_size);
    }
    if (static_cast<index>(result.old_of.size()) != asked.new_size) {
      return refuse(errc::bad_placement, asked.axis,
                    std::to_string(asked.new_size) + " positions with old units 0.." + std::to_string(known->size - 1) +
                        " in order",
                    positions_text(where.old_of));
    }
    rule_request ask{.axis = asked.axis,
                     .old_size = known->size,
                     .new_size = asked.new_size,
                     .old_of = result.old_of,
                     .interleaved = where.what == placement::order::interleave,
                     .norm = before.norm_of(asked.axis),
                     .position = before.norm_position_of(asked.axis),
                     .residual = before.is_residual(asked.axis),
                     .tied = has_tied_head(asked.axis),
                     .logits = before.has_logits(asked.axis),
                     .scored = before.is_scored(asked.axis),
                     .rotary = before.rotary_of(asked.axis).first,
                     .frequencies = before.rotary_of(asked.axis).second,
                     .groups = std::move(groups),
                     .seed = options.seed};
    for (const head_groups& pair : before.groups()) { ask.feeds_groups |= pair.kv_heads == asked.axis; }
    for (const parameter& p : before.parameters()) {
      ask.as_out = ask.as_out || p.uses(asked.axis, role::out);
      ask.as_in = ask.as_in || p.uses(asked.axis, role::in);
      ask.as_each = ask.as_each || p.uses(asked.axis, role::each);
      ask.keyed = ask.keyed || (before.writes_keys(p.name) && p.uses(asked.axis, role::out));
    }
    for (const axis& a : before.axes()) {
      if (!before.is_residual(a.name)) { continue; }
      ask.any_residual = true;
      const bool normed = before.norm_of(a.name) != norm_kind::none;
      ask.any_post_norm |= normed && before.norm_position_of(a.name) == norm_position::post;
    }
    result.growth = by(ask);
    result.growth.contract.axis = asked.axis;
    if (result.growth.contract.rule.empty()) { result.growth.contract.rule = by.name(); }
    if (result.growth.split.empty()) { result.growth.split.assign(result.growth.source.size(), 1.0); }
    if (check_growth(result, by.name())) { axes.push_back(std::move(result)); }
  }

  // Output logits read the axis by the matrix that embeds tokens on it, undivided by a norm on the reading side.
  [[nodiscard]] bool has_tied_head(const std::string& axis_name) const {
    for (const axis& vocab : before.axes()) {
      if (!before.has_logits(vocab.name)) { continue; }
      bool embeds = false;
      bool reads = false;
      for (const parameter& p : before.parameters()) {
        embeds |= p.uses(vocab.name, role::in) && p.uses(axis_name, role::out);
        reads |= p.uses(vocab.name, role::out) && p.uses(axis_name, role::in);
        reads |= p.what == kind::norm_gain && p.uses(axis_name, role::in);
      }
      if (embeds && !reads) { return true; }
    }
    return false;
  }

  static std::string positions_text(const std::vector<index>& positions) {
    std::string text = std::to_string(positions.size()) + " positions:";
    for (std::size_t j = 0; j < positions.size() && j < 32; ++j) {
      text += ' ';
      text += std::to_string(positions[j]);
    }
    return text + (positions.size() > 32 ? " ..." : "");
  }

  // What a rule answered must satisfy the law, whoever wrote it.
  bool check_growth(const axis_plan& a, const std::string& by) {
    const axis_growth& g = a.growth;
    if (!g.refused.empty()) {
      refuse(errc::unsupported, a.name, {}, "rule " + by, g.refused);
      return false;
    }
    if (!g.partner.empty() || g.from_next_layer || g.fresh_writers || g.fills.zero_keys || !g.old_of.empty()) {
      refuse(errc::unsupported, a.name, {}, "rule " + by, "not yet");
      return false;
    }
    const auto size = static_cast<std::size_t>(a.new_size);
    if (g.source.size() != size || g.split.size() != size || (!g.newborn.empty() && g.newborn.size() != size)) {
      refuse(errc::bad_rule, a.name, std::to_string(size) + " sources, splits and newborn flags",
             std::to_string(g.source.size()) + ", " + std::to_string(g.split.size()) + ", " +
                 std::to_string(g.newborn.size()),
             "rule " + by);
      return false;
    }
    if (!(g.contract.gain_factor > 0) || !std::isfinite(g.contract.gain_factor)) {
      refuse(errc::bad_rule, a.name, "a positive gain factor", std::to_string(g.contract.gain_factor), "rule " + by);
      return false;
    }
    // Newborn copies count where they act at once; where they are silent (masked, or writers zeroed) the rest sums
    // to 1.
    std::vector<double> with_newborn(static_cast<std::size_t>(a.old_size), 0.0);
    std::vector<double> without_newborn(with_newborn);
    for (std::size_t j = 0; j < size; ++j) {
      const index s = g.source[j];
      if (s == mean_unit) {
        refuse(errc::unsupported, a.name, "an old unit or fresh_unit", "mean_unit", "rule " + by);
        return false;
      }
      if (s != fresh_unit && (s < 0 || s >= a.old_size)) {
        refuse(errc::bad_rule, a.name, "sources in [0, " + std::to_string(a.old_size) + ") or fresh_unit",
               std::to_string(s) + " at position " + std::to_string(j), "rule " + by);
        return false;
      }
      if (!std::isfinite(g.split[j])) {
        refuse(errc::bad_rule, a.name, "finite splits", "position " + std::to_string(j), "rule " + by);
        return false;
      }
      const bool is_newborn = g.is_newborn(static_cast<index>(j));
      if (a.old_of[j] != fresh_unit && (s != a.old_of[j] || is_newborn)) {
        refuse(errc::bad_rule, a.name, "old unit " + std::to_string(a.old_of[j]) + " to stand for itself, not newborn",
               std::to_string(s) + " at position " + std::to_string(j), "rule " + by);
        return false;
      }
      if (a.old_of[j] == fresh_unit && g.contract.masked() && !is_newborn) {
        refuse(errc::bad_rule, a.name, "newborn units under a mask", "position " + std::to_string(j), "rule " + by);
        return false;
      }
      if (s != fresh_unit) {
        with_newborn[static_cast<std::size_t>(s)] += g.split[j];
        without_newborn[static_cast<std::size_t>(s)] += is_newborn ? 0 : g.split[j];
      }
    }
    // n rounded parts of 1, and n sums: off by at most n epsilon.
    const double tolerance = static_cast<double>(a.new_size) * std::numeric_limits<double>::epsilon();
    const auto is_one = [tolerance](double sum) { return std::abs(sum - 1) <= tolerance; };
    for (std::size_t s = 0; s < with_newborn.size(); ++s) {
      if (!is_one(with_newborn[s]) && !is_one(without_newborn[s])) {
        refuse(errc::bad_rule, a.name, "splits of old unit " + std::to_string(s) + " that sum to 1",
               std::to_string(with_newborn[s]), "rule " + by);
        return false;
      }
    }
    return true;
  }

  void add_parameter(std::size_t which, std::uint64_t seed) {
    const parameter& p = before.parameters()[which];
    const parameter& grown = after.parameters()[which];
    param_plan result{.name = p.name, .kind = p.what, .seed = seed};
    for (const axis_plan& a : axes) {
      result.fillers.push_back(a.growth.fresh.of(p.what));
      const bool used = p.uses(a.name, role::out) || p.uses(a.name, role::in);
      if (used && p.what == kind::norm_gain) { result.scale *= a.growth.contract.gain_factor; }
    }
    for (std::size_t d = 0; d < p.dims.size(); ++d) {
      result.dims.push_back(map_dimension(p, p.dims[d], grown.dims[d]));
    }
    result.runs = runs_of(result.dims.back());
    parameters.push_back(std::move(result));
  }

  // Each new position of a dimension is a tuple of units, one per factor; it has a source where all units have one.
  dimension_map map_dimension(const parameter& p, const dimension& old_dim, const dimension& new_dim) const {
    dimension_map map{.what = old_dim.what, .old_size = old_dim.size()};
    std::vector<index> first; // old position at which each term begins
    index begin = 0;
    for (const product& term : old_dim.extent.terms) {
      first.push_back(begin);
      begin += term.size();
    }
    const bool writes_residual = (p.what == kind::weight || p.what == kind::bias) && writes_normed(p);
    for_each_position(new_dim.extent, [&](index, const product& term, const std::vector<index>& units) {
      const auto t = static_cast<std::size_t>(&term - new_dim.extent.terms.data());
      const product& old_term = old_dim.extent.terms[t];
      index source = 0;
      double split = 1;
      std::uint16_t flags = 0;
      std::uint8_t filler = 0;
      for (std::size_t k = 0; k < units.size(); ++k) {
        const axis_plan* a = axis_of(term.factors[k].axis);
        index from = units[k];
        if (a != nullptr) {
          const auto unit = static_cast<std::size_t>(units[k]);
          from = a->growth.source[unit];
          split *= a->growth.split[unit];
          if (from == fresh_unit && (flags & fresh_any) == 0) { filler = static_cast<std::uint8_t>(a - axes.data()); }
          flags = static_cast<std::uint16_t>(flags | flags_of(*a, units[k], old_dim.what, writes_residual));
        }
        source = source < 0 || from < 0 ? -1 : source * old_term.factors[k].size + from;
      }
      map.source.push_back(source < 0 ? -1 : first[t] + source);
      map.split.push_back(split);
      map.flags.push_back(flags);
      map.filler.push_back(filler);
    });
    return map;
  }

  static std::uint16_t flags_of(const axis_plan& a, index unit, role what, bool writes_residual) {
    const axis_growth& g = a.growth;
    unsigned flags = 0;
    if (g.is_newborn(unit)) {
      flags |= newborn;
      if (what == role::each && g.fills.zero_writers && writes_residual) { flags |= zero_always; }
    }
    if (g.source[static_cast<std::size_t>(unit)] == fresh_unit) {
      flags |= newborn | (what == role::out ? fresh_out : what == role::in ? fresh_in : fresh_each);
      if ((what == role::out ? g.fills.out : what == role::in ? g.fills.in : fill::init) == fill::zero) {
        flags |= zero_alone;
      }
      if (g.fills.both == fill::zero) { flags |= zero_both; }
    }
    return static_cast<std::uint16_t>(flags);
  }

  [[nodiscard]] const axis_plan* axis_of(const std::string& name) const {
    for (const axis_plan& a : axes) {
      if (a.name == name) { return &a; }
    }
    return nullptr;
  }
  [[nodiscard]] bool writes_normed(const parameter& p) const {
    for (const axis& a : before.axes()) {
      if (before.norm_of(a.name) != norm_kind::none && p.uses(a.name, role::out)) { return true; }
    }
    return false;
  }

  static std::vector<grow_run> runs_of(const dimension_map& map) {
    std::vector<grow_run> runs;
    for (std::size_t j = 0; j < map.source.size(); ++j) {
      if (!runs.empty()) {
        grow_run& last = runs.back();
        const bool follows =
            map.source[j] < 0 ? last.source < 0 : last.source >= 0 && map.source[j] == last.source + last.length;
        if (follows && last.split == map.split[j] && last.flags == map.flags[j] && last.filler == map.filler[j]) {
          ++last.length;
          continue;
        }
      }
      runs.push_back({static_cast<index>(j), 1, map.source[j], map.split[j], map.flags[j], map.filler[j]});
    }
    return runs;
  }
};

} // namespace detail

MSG_NAMESPACE_END
