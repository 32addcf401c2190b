// How a plan is made: checks of the requests, the rules' answers, and their maps carried to every dimension.
#pragma once

#include <msg/detail/plan_check.hpp>
#include <msg/detail/plan_dimensions.hpp>
#include <msg/detail/plan_entries.hpp>
#include <msg/kernels/grow_data.hpp>
#include <msg/request.hpp>
#include <msg/schema.hpp>

#include <algorithm>
#include <cstdint>
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

  /// Axes that need no rule: the way back from a growth.
  plan_builder(const schema& grown, schema original, std::vector<axis_plan> decided, std::uint64_t seed)
      : before(grown), after(std::move(original)), axes(std::move(decided)) {
    for (std::size_t p = 0; p < before.parameters().size(); ++p) { add_parameter(p, seed); }
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
  void check_groups(const std::vector<request>& requests) {
    for (const head_groups& pair : before.groups()) {
      const axis_plan* kv = axis_of(pair.kv_heads);
      if (kv == nullptr) { continue; }
      if (!names(requests, pair.heads)) { // the key-value heads grow alone
        const index heads = before.axis_at(pair.heads).size;
        (void)grouping(pair, heads, heads);
        continue;
      }
      const axis_plan* heads = axis_of(pair.heads);
      if (heads == nullptr) { continue; } // reported
      const index each = heads->new_size / kv->new_size;
      for (index h = 0; h < heads->new_size; ++h) {
        const auto group = static_cast<std::size_t>(h / each);
        if (kv->old_of[group] == fresh_unit && kv->growth.split[group] != 1 && heads->growth.is_newborn(h)) {
          axes[static_cast<std::size_t>(kv - axes.data())].growth.approximate =
              "query heads that read its copies are no copies that act, and give them no gradient yet";
        }
      }
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
    if (!result.growth.old_of.empty() && !take_order(asked, by.name(), result)) { return; }
    if (const auto fault = growth_check(result, ask, by.name())()) {
      findings.push_back(*fault);
    } else {
      axes.push_back(std::move(result));
    }
  }

  // The rule's own order of the old units, in place of a placement that nobody insisted on.
  bool take_order(const request& asked, const std::string& by, axis_plan& result) {
    std::vector<index>& order = result.growth.old_of;
    if (order == result.old_of) { return true; }
    if (asked.options.placement || group_of(asked.axis) != nullptr) {
      refuse(errc::bad_placement, asked.axis, "no placement", positions_text(result.old_of),
             "rule " + by + " has an order of its own");
      return false;
    }
    if (positions_of(placement::given(order), result.old_size, result.new_size).empty()) {
      refuse(errc::bad_rule, asked.axis, "old units in order", positions_text(order), "rule " + by);
      return false;
    }
    result.old_of = order;
    result.placement = placement::order::given;
    return true;
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

  void add_parameter(std::size_t which, std::uint64_t seed) {
    const parameter& p = before.parameters()[which];
    const parameter& grown = after.parameters()[which];
    param_plan result{.name = p.name, .kind = p.what, .seed = seed};
    for (const axis_plan& a : axes) {
      result.fillers.push_back(a.growth.fresh.of(p.what));
      result.noise.push_back(p.what == kind::weight && !a.growth.partner.empty() ? a.growth.noise : init::zeros());
      const bool used = p.uses(a.name, role::out) || p.uses(a.name, role::in);
      if (used && p.what == kind::norm_gain) { result.scale *= a.growth.contract.gain_factor; }
    }
    const dimension_mapper map(before, axes, p);
    bool layers = false;
    bool from_next = false;
    for (std::size_t d = 0; d < p.dims.size(); ++d) {
      result.dims.push_back(map(p.dims[d], grown.dims[d]));
      const dimension_map& dim = result.dims.back();
      layers |= !dim.donor.empty() && dim.donor != dim.source;
      from_next |= std::any_of(dim.flags.begin(), dim.flags.end(), [](unsigned f) { return (f & donated) != 0; });
    }
    result.donated = layers && from_next;
    result.runs = dimension_mapper::runs_of(result.dims.back());
    parameters.push_back(std::move(result));
  }

  [[nodiscard]] const axis_plan* axis_of(const std::string& name) const { return find_axis(axes, name); }
};

} // namespace detail

MSG_NAMESPACE_END
