// A model in training and how it grows: a stage of a schedule becomes a plan, the plan moves every number.
#pragma once

#include "transformer/config.hpp"
#include "transformer/errors.hpp"
#include "transformer/live_masks.hpp"
#include "transformer/mixture.hpp"
#include "transformer/tensors.hpp"

#include <msg/apply.hpp>
#include <msg/growth.hpp>
#include <msg/plan.hpp>
#include <msg/presets.hpp>
#include <msg/rules/mask.hpp>
#include <msg/schedule.hpp>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace reference {

/// The axes a model can grow on, where its architecture has them, and where its config keeps their sizes.
inline constexpr std::pair<std::string_view, index config::*> config_axes[] = {
    {"hidden", &config::hidden},       {"ffn", &config::ffn},           {"heads", &config::heads},
    {"layers", &config::layers},       {"kv_heads", &config::kv_heads}, {"vocab", &config::vocab},
    {"positions", &config::positions}, {"experts", &config::experts}};

/// Those that a schedule gives a size at the start.
inline constexpr auto grown_axes = std::span(config_axes).first<4>();

/// The size of an axis as schedules count it: key-value heads and experts are there even where they are not apart.
[[nodiscard]] inline index size_on(const config& c, std::string_view axis) {
  if (axis == "kv_heads") { return kv_heads_of(c); }
  if (axis == "experts") { return experts_of(c); }
  for (const auto& [name, member] : config_axes) {
    if (name == axis) { return c.*member; }
  }
  return 0;
}

/// The config with other sizes; key-value heads follow the heads, their groups as they are, unless they are named. One
/// expert is the one FFN there is.
[[nodiscard]] inline config resized(const config& before, const msg::named_sizes& sizes) {
  config c = before;
  bool named = false;
  for (const auto& [axis, size] : sizes) {
    for (const auto& [name, member] : config_axes) {
      if (name == axis) { c.*member = size; }
    }
    named = named || axis == "kv_heads";
  }
  if (!named && before.heads > 0 && c.heads * c.kv_heads % before.heads == 0) {
    c.kv_heads = c.heads * c.kv_heads / before.heads;
  }
  if (before.kv_heads == 0 && c.kv_heads == c.heads) { c.kv_heads = 0; }
  if (before.experts != 1 && c.experts == 1) { c.experts = 0; }                                  // one expert is an FFN
  if (c.experts > 0 && c.experts < before.experts) { c.chosen = std::min(c.chosen, c.experts); } // looking back
  return c;
}

/// Everything about a model that a growth changes, and that a checkpoint holds.
template <class T>
struct model_state {
  config sizes;
  tensor_set<T> values;
  tensor_set<T> moment1; // AdamW's m
  tensor_set<T> moment2; // AdamW's v
  msg::growth_state growth;
  std::vector<float> norm_splits; // one per hidden unit, or empty: see masks::norms

  /// One mask value per unit of each axis at a step, for the model; empty views where the plain path runs.
  [[nodiscard]] live_masks masks(index step) const { return live_masks(growth, step, norm_splits); }

  /// How old every entry of a parameter is. Of a router, no row is older than the growth that gave it a choice: before,
  /// it had no gradient.
  [[nodiscard]] msg::parameter_ages ages(const msg::parameter& p, index step) const {
    msg::parameter_ages result = growth.ages(p, step);
    for (const msg::growth_record& g : growth.log()) {
      if (g.axis != "experts" || g.from != 1) { continue; }
      for (std::size_t d = 0; d < p.dims.size(); ++d) {
        if (p.dims[d].what != msg::role::out || !p.uses("experts", msg::role::out)) { continue; }
        for (index& birth : result.birth[d]) { birth = std::max(birth, g.at_step); }
      }
    }
    return result;
  }
};

template <class T>
[[nodiscard]] model_state<T> initial_state(const config& sizes, std::uint64_t seed) {
  model_state<T> state{sizes, initial_parameters<T>(sizes, seed), {}, {}, {}, {}};
  state.moment1 = state.values.like();
  state.moment2 = state.values.like();
  return state;
}

/// A stage's rule for one axis as the library's; mask takes its first values from the stage. Throws
/// msg::error{bad_argument} for a name that is no rule.
[[nodiscard]] inline msg::rule rule_of_stage(const msg::stage& stage, std::string_view axis) {
  const std::string& name = msg::rule_of(stage, axis);
  if (name != msg::mask::name) { return msg::rule_by_name(name); }
  msg::mask rule;
  rule.layers = stage.layers == msg::layer_source::fresh ? msg::mask::start::fresh : msg::mask::start::copy;
  switch (stage.fresh.kind) {
    case msg::fresh_kind::normal: rule.fresh.weight = msg::init::normal(stage.fresh.std); break;
    case msg::fresh_kind::matched: rule.fresh.weight = msg::init::matched(); break;
    case msg::fresh_kind::copy: rule.width = msg::mask::start::copy; break;
    case msg::fresh_kind::zeros: rule.fresh.weight = msg::init::zeros(); break;
  }
  return rule;
}

/// A stage's ramps by axis; key-value heads that follow the heads ramp with them.
[[nodiscard]] inline msg::named_ramps ramps_of_stage(const msg::stage& stage) {
  msg::named_ramps ramps = stage.ramps;
  const auto find = [&](std::string_view axis) {
    return std::find_if(ramps.begin(), ramps.end(), [&](const auto& r) { return r.first == axis; });
  };
  if (find("heads") != ramps.end() && find("kv_heads") == ramps.end() && msg::size_of(stage.grow, "kv_heads") == 0) {
    ramps.emplace_back("kv_heads", find("heads")->second);
  }
  return ramps;
}

/// The plan of a stage for a model as it is; where the stage makes experts of its FFNs, for mixture_of_one(). Throws
/// msg::error with every finding.
[[nodiscard]] inline msg::plan plan_of_stage(const config& now, const msg::stage& stage, std::uint64_t seed) {
  const bool begins = now.experts == 0 && msg::size_of(stage.grow, "experts") > 1;
  const msg::schema schema = schema_of(begins ? mixture_of_one(now) : now);
  std::vector<msg::request> requests;
  msg::named_sizes sizes = stage.grow;
  if (schema.find_axis("kv_heads") != nullptr && msg::size_of(sizes, "kv_heads") == 0) {
    sizes.emplace_back("kv_heads", kv_heads_of(resized(now, sizes)));
  }
  for (const auto& [axis, size] : sizes) {
    if (size == size_on(now, axis)) { continue; }
    std::optional<msg::placement> where; // none: append, or the rule's own order
    if (stage.placement == "prepend") { where = msg::placement::prepend(); }
    const bool interleaved = axis == "layers"
                                 ? stage.layers == msg::layer_source::interleave || stage.placement == "interleave"
                                 : stage.placement == "interleave";
    if (interleaved) { where = msg::placement::interleave(); }
    requests.push_back({axis, size, {.rule = rule_of_stage(stage, axis), .placement = where}});
  }
  return msg::plan{schema, requests, msg::mask{}, {.seed = seed}};
}

/// Sizes after a plan, and the constants that its contract asks for. Throws msg::error{unsupported} for those that the
/// model has no place for, and for experts that a router could not learn to choose.
[[nodiscard]] inline config sizes_after(const config& before, const msg::plan& plan) {
  msg::named_sizes sizes;
  for (const msg::axis& a : plan.after().axes()) { sizes.emplace_back(a.name, a.size); }
  config after = resized(before, sizes);
  for (const msg::axis_contract& c : plan.contract()) {
    after.norm_eps *= c.eps_factor;
    if (c.axis == "experts") { // copies of experts are chosen together
      after.chosen = std::lround(static_cast<double>(before.chosen) * c.chosen_factor);
    }
    if (begins_mixture(before, plan) && c.axis == "experts" && !c.gates_sum_to_one) {
      throw msg::error(
          {.code = msg::errc::unsupported,
           .axis = c.axis,
           .expected = "copies of the one FFN there is (rule upcycle)",
           .found = "rule " + c.rule,
           .hint = "behind a mask one expert alone is chosen, and its gate is 1 whatever the router says"});
    }
    if (c.softmax_scale != 1 || c.logit_scale != 1) {
      throw msg::error({.code = msg::errc::unsupported,
                        .axis = c.axis,
                        .found = "rule " + c.rule,
                        .hint = "the reference model has no scale of attention scores or of logits"});
    }
  }
  return after;
}

/// The model after a stage, without growing it: sizes, experts that a token chooses, constants.
[[nodiscard]] inline config after_stage(const config& now, const msg::stage& stage) {
  return sizes_after(now, plan_of_stage(now, stage, 0));
}

/// What norm statistics are weighted by after a plan: the splits of all copies so far, where they are not equally many.
/// Throws msg::error{unsupported} for a growth that counts on plain statistics where they are weighted already.
[[nodiscard]] inline std::vector<float> norm_splits_after(const std::vector<float>& before, const msg::plan& plan) {
  std::vector<float> after = before;
  for (const msg::axis_plan& a : plan.axes()) {
    const msg::axis_contract& c = a.growth.contract;
    const bool split = c.weight_norm_statistics;
    if (!before.empty() && c.eps_factor != 1) {
      throw msg::error({.code = msg::errc::unsupported,
                        .axis = a.name,
                        .found = "rule " + c.rule,
                        .hint = "an earlier growth left units with unequally many copies, whose norms weight their "
                                "statistics; this rule counts on plain ones"});
    }
    if (a.name != "hidden" || (before.empty() && !split)) { continue; }
    after.assign(static_cast<std::size_t>(a.new_size), 1);
    for (std::size_t j = 0; j < after.size(); ++j) {
      const index source = a.growth.source[j];
      if (source < 0) { continue; }
      const double old = before.empty() ? 1 : static_cast<double>(before[static_cast<std::size_t>(source)]);
      after[j] = static_cast<float>(split ? old * a.growth.split[j] : old);
    }
  }
  return after;
}

/// Grows values and moments, tensor by tensor (never more than one old tensor beside the new ones), and notes the
/// growth, which happens before the forward of `step`.
///
/// ramp, ramps   of the axes that `ramps` doesn't name, and of those that it does
template <class T>
void grow(model_state<T>& state, const msg::plan& plan, index step, const msg::ramp& ramp,
          const msg::named_ramps& ramps = {}) {
  const config sizes = sizes_after(state.sizes, plan);
  std::vector<float> norm_splits = norm_splits_after(state.norm_splits, plan);
  state.growth.record(plan, step, ramp, ramps); // all three throw before anything is changed
  if (begins_mixture(state.sizes, plan)) {
    become_mixture(state.sizes, state.values,
                   [&](const msg::parameter& p) { return router_values<T>(state.sizes, plan.seed(), p); });
    for (tensor_set<T>* moment : {&state.moment1, &state.moment2}) {
      become_mixture(state.sizes, *moment, router_moments<T>);
    }
  }
  const auto grow_set = [&](tensor_set<T>& set, msg::payload what) {
    for (const msg::param_plan& p : plan.parameters()) {
      tensor<T>& old = set[p.name];
      tensor<T> grown = make_tensor<T>(p.name, p.new_shape());
      msg::apply(p, std::as_const(old), grown, what);
      old = std::move(grown);
    }
  };
  grow_set(state.values, msg::payload::value);
  grow_set(state.moment1, msg::payload::moment1);
  grow_set(state.moment2, msg::payload::moment2);
  state.norm_splits = std::move(norm_splits);
  state.sizes = sizes;
}

} // namespace reference
