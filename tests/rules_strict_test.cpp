// Every rule on every axis of every architecture: the function is kept as well as the contract says, and where it says
// so, the moments follow the dual of the law.
#include "support/catch.hpp"
#include "support/thrown.hpp"
#include "support/tiny_growth.hpp"

#include <msg/apply.hpp>
#include <msg/plan.hpp>
#include <msg/presets.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <string>
#include <utility>
#include <vector>

using msg::index;
using msg::init;
using msg::payload;
using msg::placement;
using msg::strictness;
using testing::contract_of;
using testing::distance;
using testing::largest;
using testing::tiny_masks;
using testing::tiny_pair;
using testing::tiny_schema;
using testing::tiny_sizes;

namespace {

constexpr msg::norm_kind layer_norm = msg::norm_kind::layer;
constexpr msg::norm_kind rms_norm = msg::norm_kind::rms;
constexpr msg::norm_position pre = msg::norm_position::pre;
constexpr msg::norm_position post = msg::norm_position::post;

std::vector<tiny_sizes> architectures() {
  std::vector<tiny_sizes> all;
  for (const msg::norm_kind norm : {layer_norm, rms_norm}) {
    for (const msg::norm_position where : {pre, post}) {
      for (const auto output : {tiny_sizes::head::tied, tiny_sizes::head::undivided, tiny_sizes::head::untied}) {
        tiny_sizes one{.norm = norm, .where = where, .output = output};
        if (output == tiny_sizes::head::untied) { // and grouped heads
          one.heads = 4;
          one.kv_heads = 2;
        }
        all.push_back(one);
      }
    }
  }
  return all;
}

/// Fresh numbers of a size that no rule may let through.
const msg::fresh_values wild = msg::fresh_values::all(init::normal(2));

std::vector<msg::rule> all_rules() {
  using msg::duplicate;
  return {msg::mask{.fresh = wild},
          msg::mask{.fresh = wild, .width = msg::mask::start::copy, .layers = msg::mask::start::fresh},
          msg::zero_block{.fresh = wild},
          msg::zero_block{.fresh = wild, .rescale_keys = false},
          duplicate{},
          duplicate{.split = msg::uneven{0.7}},
          duplicate{.split = msg::uneven{0.3}, .from = duplicate::sources::random},
          duplicate{.from = duplicate::sources::tiling, .noise = init::normal(0.5)},
          duplicate{.noise = init::spread(0.5), .reset_moments = true},
          duplicate{.writes = duplicate::donor::next_layer},
          msg::average{.fresh = wild},
          msg::stack{},
          msg::interleave{},
          msg::middle_repeat{},
          msg::overlap_stack{},
          msg::identity{},
          msg::identity{.where = msg::identity::order::end_of_groups},
          msg::presets::lemon(),
          msg::presets::composable(wild)};
}

const char* const axis_names[] = {"hidden", "ffn", "heads", "head_dim", "value_dim", "layers", "vocab", "positions"};

/// The function is kept as well as a plan says, on a whole network.
void check_function(const msg::plan& growth, const tiny_pair& models) {
  const std::vector<double> before = models.old_logits();
  const double off = distance(models.new_logits(contract_of(growth, 0)), before);
  switch (growth.keeps()) {
    case strictness::exact: CHECK(off == 0); break;
    case strictness::rounding: CHECK(off <= models.rounding(largest(before))); break;
    case strictness::none: CHECK(off > 1e-6); break; // or it is too modest a promise
  }
}

/// Moments grow as gradients do (the dual), but for those that the plan names: compared along a random direction of the
/// cells of each parameter that have a history. Fresh and newborn cells start from nothing, whatever their gradient.
void check_dual(const msg::plan& growth, const tiny_pair& models, const std::vector<double>& gradient) {
  const tiny_masks masks = contract_of(growth, 0);
  std::vector<double> expected(models.grown.size()), history(models.grown.size());
  msg::apply(growth, gradient, expected, payload::moment1);
  msg::apply(growth, std::vector<double>(gradient.size(), 1), history, payload::moment1);
  std::vector<std::string> approximate;
  for (const auto& [name, reason] : growth.approximate_moments()) { approximate.push_back(name); }
  for (const msg::param_plan& p : growth.parameters()) {
    CAPTURE(p.name);
    if (std::count(approximate.begin(), approximate.end(), p.name) != 0) { continue; }
    std::vector<double> direction = testing::random_model(8).numbers<double>(models.after.size());
    double along = 0, sizes = 0;
    const index begin = growth.after().offset(p.name), end = begin + p.size();
    for (index i = 0; i < models.after.size(); ++i) {
      const auto j = static_cast<std::size_t>(i);
      if (i < begin || i >= end || history[j] == 0) { direction[j] = 0; }
      along += expected[j] * direction[j];
      sizes += std::abs(expected[j] * direction[j]);
    }
    const double found =
        testing::slope(models.after, models.grown, direction, masks, models.new_tokens, models.new_positions);
    CHECK(std::abs(found - along) <= models.rounding(sizes));
  }
}

msg::request request_of(const msg::schema& s, const char* name, index factor, const msg::grow_options& options) {
  const msg::axis& one = s.axis_at(name);
  return one.grow_to(factor == 0 ? one.size + (s.groups().empty() || std::string(name) != "heads" ? 3 : 2)
                                 : factor * one.size,
                     options);
}

} // namespace

TEST_CASE("every rule keeps the function of every architecture as well as it says", "[rules][strict]") {
  const tiny_sizes sizes = GENERATE(from_range(architectures()));
  const msg::schema s = tiny_schema(sizes);
  std::vector<double> gradient; // of the old network, the same for all rules
  for (const msg::rule& rule : all_rules()) {
    for (const char* name : axis_names) {
      for (const index factor : {0, 2, 3}) { // 0: to a size that the old one does not divide
        for (const auto order : {placement::order::append, placement::order::interleave}) {
          CAPTURE(rule.name(), name, factor, static_cast<int>(order), static_cast<int>(sizes.norm),
                  static_cast<int>(sizes.where), static_cast<int>(sizes.output));
          const std::vector<msg::request> requests{request_of(s, name, factor, {.rule = rule})};
          const msg::plan_options options{.seed = 3, .placement = {order, {}}};
          if (!msg::diagnose(s, requests, msg::mask{}, options).empty()) { continue; }
          const msg::plan growth{s, requests, msg::mask{}, options};
          const tiny_pair models(growth);
          check_function(growth, models);
          if (!growth.strict() || factor == 3) { continue; }
          if (gradient.empty()) { gradient = models.old_gradient(); }
          check_dual(growth, models, gradient);
        }
      }
    }
  }
}

TEST_CASE("any two rules in one plan keep function and moments as well as the worse of them", "[rules][strict]") {
  const tiny_sizes sizes = GENERATE(from_range(architectures()));
  const auto rules = all_rules();
  const msg::schema s = tiny_schema(sizes);
  std::vector<double> gradient;
  std::size_t turn = static_cast<std::size_t>(sizes.norm) + static_cast<std::size_t>(sizes.output);
  for (std::size_t pair = 0; pair < rules.size() * rules.size(); ++pair) {
    const std::size_t first = pair / rules.size(), second = pair % rules.size();
    for (const auto& [one, other] : {std::pair{"hidden", "ffn"},
                                     {"hidden", "heads"},
                                     {"hidden", "layers"},
                                     {"ffn", "layers"},
                                     {"heads", "head_dim"},
                                     {"hidden", "vocab"},
                                     {"heads", "layers"}}) {
      const std::vector<msg::request> requests{request_of(s, one, 2, {.rule = rules[first]}),
                                               request_of(s, other, 0, {.rule = rules[second]})};
      if (!msg::diagnose(s, requests).empty()) { continue; }
      CAPTURE(rules[first].name(), rules[second].name(), first, second, one, other, static_cast<int>(sizes.norm),
              static_cast<int>(sizes.where), static_cast<int>(sizes.output));
      const msg::plan growth{s, requests, msg::mask{}, {.seed = 4}};
      if (!growth.strict()) { continue; }
      const tiny_pair models(growth);
      const std::vector<double> before = models.old_logits();
      const double off = distance(models.new_logits(contract_of(growth, 0)), before);
      CHECK(off <= (growth.keeps() == strictness::exact ? 0 : models.rounding(largest(before))));
      if (++turn % 9 != 0) { continue; } // moments of every ninth pair, others in every architecture
      if (gradient.empty()) { gradient = models.old_gradient(); }
      check_dual(growth, models, gradient);
    }
  }
}

TEST_CASE("copied key-value heads whose query heads are fresh give moments that the plan calls approximate",
          "[rules][strict][groups]") {
  const msg::schema s = tiny_schema({.heads = 4, .kv_heads = 2});
  const msg::plan growth{s,
                         {s.axis_at("heads").grow_to(8, {.rule = msg::zero_block{.fresh = wild}}),
                          s.axis_at("kv_heads").grow_to(4, {.rule = msg::duplicate{}})}};
  std::vector<std::string> named;
  for (const auto& [name, reason] : growth.approximate_moments()) { named.push_back(name); }
  CHECK(named == std::vector<std::string>{"key", "key_bias", "value"});
  const tiny_pair models(growth);
  check_function(growth, models);
  check_dual(growth, models, models.old_gradient());
}

TEST_CASE("query heads and key-value heads grow together, at one ratio or another", "[rules][strict][groups]") {
  const auto [heads, kv_heads] = GENERATE(table<index, index>({{6, 3}, {8, 4}, {6, 2}, {9, 3}, {12, 4}}));
  const msg::rule rule =
      GENERATE(as<msg::rule>{}, msg::mask{.fresh = wild}, msg::zero_block{.fresh = wild}, msg::duplicate{},
               msg::duplicate{.split = msg::uneven{0.7}}, msg::duplicate{.from = msg::duplicate::sources::random},
               msg::mask{.width = msg::mask::start::copy});
  const auto order = GENERATE(placement::order::append, placement::order::prepend, placement::order::interleave);
  CAPTURE(heads, kv_heads, rule.name(), static_cast<int>(order));
  const msg::schema s = tiny_schema({.heads = 4, .kv_heads = 2, .norm = rms_norm});
  const msg::plan growth{s,
                         {s.axis_at("heads").grow_to(heads), s.axis_at("kv_heads").grow_to(kv_heads)},
                         rule,
                         {.seed = 6, .placement = {order, {}}}};
  const tiny_pair models(growth);
  check_function(growth, models);
  static const std::vector<double> gradient = models.old_gradient();
  check_dual(growth, models, gradient);
}
