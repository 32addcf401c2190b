// A model with one FFN a layer, seen as a mixture of one expert: where a growth of experts begins.
#pragma once

#include "transformer/config.hpp"
#include "transformer/parameters.hpp"
#include "transformer/tensors.hpp"

#include <msg/plan.hpp>
#include <msg/schema.hpp>

#include <cstddef>
#include <string>
#include <utility>

namespace reference {

/// The same model with its FFNs as the only expert of each layer. The same function whatever the router holds: gates of
/// the chosen sum to 1, and one is chosen.
[[nodiscard]] inline config mixture_of_one(const config& dense) {
  config c = dense;
  c.experts = 1;
  c.chosen = 1;
  return c;
}

/// Whether a plan was made for mixture_of_one() of a model.
[[nodiscard]] inline bool begins_mixture(const config& dense, const msg::plan& plan) {
  return dense.experts == 0 && plan.before().find_axis("experts") != nullptr;
}

/// What a parameter of mixture_of_one() is called in the model itself; nothing for the router, which it does not have.
[[nodiscard]] inline std::string dense_name(const config& dense, const std::string& name) {
  const part_names was = names_of(dense);
  const part_names is = names_of(mixture_of_one(dense));
  const std::pair<const char*, const char*> parts[] = {
      {is.ffn_in[0], was.ffn_in[0]}, {is.ffn_in[1], was.ffn_in[1]}, {is.ffn_out, was.ffn_out}};
  for (const auto& [now, before] : parts) {
    if (now != nullptr && name == std::string(now) + ".weight") { return std::string(before) + ".weight"; }
  }
  return is.router != nullptr && name == std::string(is.router) + ".weight" ? std::string() : name;
}

/// Turns the tensors of a model into those of mixture_of_one(): the same numbers, which are not moved, under other
/// names.
///
/// router  makes the tensor of a parameter that the model does not have
template <class Set, class Router>
void become_mixture(const config& dense, Set& set, const Router& router) {
  const msg::schema schema = schema_of(mixture_of_one(dense));
  Set result;
  for (const msg::parameter& p : schema.parameters()) {
    const std::string old = dense_name(dense, p.name);
    if (old.empty()) {
      result.tensors.push_back(router(p));
      continue;
    }
    auto& t = set[old];
    t.name = p.name;
    t.shape = p.shape();
    result.tensors.push_back(std::move(t));
  }
  set = std::move(result);
}

/// The router's first values, or its moments: on the host.
template <class T>
[[nodiscard]] tensor<T> router_values(const config& dense, std::uint64_t seed, const msg::parameter& p) {
  tensor<T> values = make_tensor<T>(p.name, p.shape());
  initialize(dense, seed, p, values.data);
  return values;
}
template <class T>
[[nodiscard]] tensor<T> router_moments(const msg::parameter& p) {
  return make_tensor<T>(p.name, p.shape());
}

} // namespace reference
