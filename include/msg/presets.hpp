// The published growth operators by name: each a rule for every kind of axis that the system grows.
#pragma once

#include <msg/error.hpp>
#include <msg/request.hpp>
#include <msg/rules/average.hpp>
#include <msg/rules/duplicate.hpp>
#include <msg/rules/expert_copies.hpp>
#include <msg/rules/identity.hpp>
#include <msg/rules/mask.hpp>
#include <msg/rules/stack.hpp>
#include <msg/rules/zero_block.hpp>

#include <string>
#include <string_view>
#include <utility>

MSG_NAMESPACE_BEGIN

/// Which rule grows which kind of axis. It serves wherever a rule does, and its contracts name both: "lemon/average".
struct preset {
  std::string title;
  rule width;            // ffn, heads: units that are summed by what reads them
  rule normed = width;   // a residual stream under norms (hidden)
  rule layers = width;   // slices one after another
  rule head_dim = width; // a scored axis
  rule experts = mask{}; // slices that a gate chooses from
  rule logits = mask{};  // an output vocabulary
  rule input = mask{};   // positions, an input vocabulary

  [[nodiscard]] const rule& rule_for(const rule_request& asked) const {
    if (asked.is_experts()) { return experts; }
    if (asked.is_layers()) { return layers; }
    if (asked.logits) { return logits; }
    if (asked.is_input()) { return input; }
    if (asked.scored) { return head_dim; }
    return asked.norm != norm_kind::none ? normed : width;
  }
  [[nodiscard]] axis_growth operator()(const rule_request& asked) const {
    const rule& chosen = rule_for(asked);
    axis_growth growth = chosen(asked);
    if (growth.contract.rule.empty()) { growth.contract.rule = title + "/" + chosen.name(); }
    return growth;
  }
  operator rule() const { return {title, *this}; } // NOLINT(google-explicit-constructor)
};

namespace presets {

/// Rule of an axis that a system says nothing about.
[[nodiscard]] inline rule none(std::string why) {
  return {"none", [why = std::move(why)](const rule_request&) { return axis_growth{.refused = why}; }};
}
[[nodiscard]] inline rule depth_only() { return none("grows layers alone; give this axis a rule of its own"); }
[[nodiscard]] inline rule width_only() { return none("grows width alone; give the layers a rule of their own"); }

/// Masked Structural Growth (Yao et al. 2024): every axis, any architecture, any initialisation, exact.
[[nodiscard]] inline preset msg(fresh_values fresh = {}) {
  const mask everywhere{.fresh = fresh};
  return {.title = "msg", .width = everywhere, .experts = everywhere, .logits = everywhere, .input = everywhere};
}

/// Net2Net (Chen et al. 2016): copies with an even split, layers that are an identity.
[[nodiscard]] inline preset net2net() { return {.title = "net2net", .width = duplicate{}, .layers = identity{}}; }

/// bert2BERT (Chen et al. 2022), function-preserving initialisation: as Net2Net, layers stacked.
[[nodiscard]] inline preset bert2bert_fpi() {
  return {.title = "bert2bert_fpi", .width = duplicate{}, .layers = stack{}};
}
/// bert2BERT, advanced knowledge initialisation: copied units write what the next layer's do. Not strict, by design.
[[nodiscard]] inline preset bert2bert_aki() {
  return {.title = "bert2bert_aki", .width = duplicate{.writes = duplicate::donor::next_layer}, .layers = stack{}};
}

/// LEMON (Wang et al. 2024): copies with an uneven split; under a LayerNorm the mean, under an RMSNorm zeros; layers
/// that are an identity. first: the part of the outgoing weight that the first copy keeps.
[[nodiscard]] inline preset lemon(double first = 0.75) {
  return {.title = "lemon",
          .width = duplicate{.split = uneven{first}},
          .normed = {"average or zero_block",
                     [](const rule_request& asked) {
                       const bool zeros = asked.norm == norm_kind::rms;
                       axis_growth growth = zeros ? zero_block{}(asked) : average{}(asked);
                       growth.contract.rule = zeros ? "lemon/zero_block" : "lemon/average";
                       return growth;
                     }},
          .layers = identity{}};
}

/// HyperCloning (Samragh et al. 2024): whole tiles, with noise that cancels in pairs if wanted.
[[nodiscard]] inline preset hypercloning(init noise = init::zeros()) {
  return {.title = "hypercloning",
          .width = duplicate{.from = duplicate::sources::tiling, .noise = noise},
          .layers = width_only()};
}

/// Composable function-preserving expansions (Gesmundo and Maile 2023): zero blocks, and masks where there is a
/// softmax.
[[nodiscard]] inline preset composable(fresh_values fresh = {}) {
  const mask masked{.fresh = fresh};
  return {
      .title = "composable", .width = zero_block{.fresh = fresh}, .experts = masked, .logits = masked, .input = masked};
}

/// Staged training (Shen et al. 2022): width by whole tiles, layers that are an identity.
[[nodiscard]] inline preset staged() {
  return {.title = "staged", .width = duplicate{.from = duplicate::sources::tiling}, .layers = identity{}};
}

/// StackBERT (Gong et al. 2019). Not strict, by design; nor are the next three.
[[nodiscard]] inline preset stackbert() { return {.title = "stackbert", .width = depth_only(), .layers = stack{}}; }
/// Multi-stage layerwise training (Yang et al. 2020).
[[nodiscard]] inline preset mslt() { return {.title = "mslt", .width = depth_only(), .layers = stack{}}; }
/// G_stack (Du et al. 2024, Stacking Your Transformers).
[[nodiscard]] inline preset g_stack() { return {.title = "g_stack", .width = depth_only(), .layers = stack{}}; }
/// CompoundGrow (Gu et al. 2021): layers stacked, together with width (by copies) and context.
[[nodiscard]] inline preset compound_grow() {
  return {.title = "compound_grow", .width = duplicate{}, .layers = stack{}};
}
/// MIDAS (Saunshi et al. 2024): the middle layers once more. Not strict, by design.
[[nodiscard]] inline preset midas() { return {.title = "midas", .width = depth_only(), .layers = middle_repeat{}}; }
/// LLaMA Pro (Wu et al. 2024): silent copies behind groups of layers.
[[nodiscard]] inline preset llama_pro() {
  return {.title = "llama_pro", .width = depth_only(), .layers = identity{.where = identity::order::end_of_groups}};
}
/// SOLAR (Kim et al. 2024), depth up-scaling. Not strict, by design.
[[nodiscard]] inline preset solar() { return {.title = "solar", .width = depth_only(), .layers = overlap_stack{}}; }

/// Sparse upcycling (Komatsuzaki et al. 2023): copies of experts.
[[nodiscard]] inline preset upcycle() {
  return {.title = "upcycle",
          .width = none("grows experts alone; give this axis a rule of its own"),
          .experts = expert_copies{}};
}

} // namespace presets

/// Every rule and preset that has a name for command lines and schedules.
struct named_rule {
  std::string_view name;
  rule (*make)();
};
inline constexpr named_rule named_rules[] = {
    {"mask", [] { return rule{mask{}}; }},
    {"zero_block", [] { return rule{zero_block{}}; }},
    {"duplicate", [] { return rule{duplicate{}}; }},
    {"average", [] { return rule{average{}}; }},
    {"stack", [] { return rule{stack{}}; }},
    {"interleave", [] { return rule{interleave{}}; }},
    {"middle_repeat", [] { return rule{middle_repeat{}}; }},
    {"overlap_stack", [] { return rule{overlap_stack{}}; }},
    {"identity", [] { return rule{identity{}}; }},
    {"expert_copies", [] { return rule{expert_copies{}}; }},
    {"msg", [] { return rule(presets::msg()); }},
    {"net2net", [] { return rule(presets::net2net()); }},
    {"bert2bert_fpi", [] { return rule(presets::bert2bert_fpi()); }},
    {"bert2bert_aki", [] { return rule(presets::bert2bert_aki()); }},
    {"lemon", [] { return rule(presets::lemon()); }},
    {"hypercloning", [] { return rule(presets::hypercloning()); }},
    {"composable", [] { return rule(presets::composable()); }},
    {"staged", [] { return rule(presets::staged()); }},
    {"stackbert", [] { return rule(presets::stackbert()); }},
    {"mslt", [] { return rule(presets::mslt()); }},
    {"compound_grow", [] { return rule(presets::compound_grow()); }},
    {"g_stack", [] { return rule(presets::g_stack()); }},
    {"midas", [] { return rule(presets::midas()); }},
    {"llama_pro", [] { return rule(presets::llama_pro()); }},
    {"solar", [] { return rule(presets::solar()); }},
    {"upcycle", [] { return rule(presets::upcycle()); }},
};

/// The rule or preset of a name, with its defaults. Throws error{bad_argument} that lists the names.
[[nodiscard]] inline rule rule_by_name(std::string_view name) {
  std::string names;
  for (const named_rule& one : named_rules) {
    if (one.name == name) { return one.make(); }
    names += (names.empty() ? "one of " : ", ") + std::string(one.name);
  }
  throw error(diagnostic{.code = errc::bad_argument, .expected = names, .found = "rule '" + std::string(name) + "'"});
}

MSG_NAMESPACE_END
