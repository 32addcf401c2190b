// Kernels over a Team for a mixture of experts: which experts a token chooses, and sums over them.
#pragma once

#include "transformer/backend.hpp"
#include "transformer/ops.hpp"
#include "transformer/tensors.hpp"

#include <msg/config.hpp>
#include <msg/kernels/arithmetic.hpp>
#include <msg/tensor.hpp>

#include <cmath>
#include <cstdint>
#include <vector>

namespace reference {

/// Gives the tokens of a block to the experts that they chose: slots [first * K, (first + count) * K), by expert,
/// then by token.
///
/// chosen    (M, K)
/// slots     (M, K), the slot of each choice; rows (M * K), the token of each slot
/// segments  (E), on the host: the slots of each expert
inline void sort_by_expert(row_range block, index per_token, index experts, const std::int32_t* chosen,
                           std::int32_t* slots, std::int32_t* rows, row_range* segments) {
  const index first = block.first * per_token;
  const index last = first + block.count * per_token;
  for (index e = 0; e < experts; ++e) { segments[e] = {0, 0}; }
  for (index i = first; i < last; ++i) { ++segments[chosen[i]].count; }
  std::vector<index> next;
  for (index e = 0, begin = first; e < experts; ++e) {
    segments[e].first = begin;
    next.push_back(begin);
    begin += segments[e].count;
  }
  for (index i = first; i < last; ++i) {
    const index slot = next[static_cast<std::size_t>(chosen[i])]++;
    slots[i] = static_cast<std::int32_t>(slot);
    rows[slot] = static_cast<std::int32_t>(i / per_token);
  }
}

/// The experts of greatest logits + log mask, and the softmax over these alone, so that gates sum to 1. The lower
/// number wins a tie; an expert at mask 0 is never chosen while there are `chosen` others.
///
/// logits       (rows, experts)
/// mask         (experts), or none
/// choice, gate (rows, chosen), the greatest first
/// Source: Jiang et al. 2024, Mixtral of experts, sec. 2.1.
template <class T>
struct choose_experts {
  const T* logits;
  std::int32_t* choice;
  T* gate;
  index experts;
  index chosen;
  msg::mask_view mask;

  template <class Team>
  MSG_HOST_DEVICE void operator()(const Team& team, index row) const {
    using A = msg::accumulate_t<T>;
    if (team.rank() != 0) { return; } // a handful of numbers
    constexpr A nothing = detail::minus_infinity<A>;
    const auto value = [&](index e) {
      const A logit = A(logits[row * experts + e]);
      if (!mask) { return logit; }
      return mask.value[e] == 0.0F ? nothing : logit + std::log(A(mask.value[e]));
    };
    std::int32_t* const to = choice + row * chosen;
    for (index k = 0; k < chosen; ++k) {
      index best = -1;
      for (index e = 0; e < experts; ++e) {
        bool taken = false;
        for (index before = 0; before < k; ++before) { taken = taken || to[before] == e; }
        if (!taken && (best < 0 || value(e) > value(best))) { best = e; }
      }
      to[k] = static_cast<std::int32_t>(best);
    }
    const A greatest = value(to[0]);
    A sum = 0;
    for (index k = 0; k < chosen; ++k) { sum += msg::detail::exp_approx(value(to[k]) - greatest); }
    for (index k = 0; k < chosen; ++k) {
      gate[row * chosen + k] = T(msg::detail::exp_approx(value(to[k]) - greatest) / sum);
    }
  }
};

/// y[r] = sum over k of gate[r, k] x[slot[r, k]], in that order; added to y with `accumulate`. gate null: all 1.
template <class T>
struct sum_slots {
  const T* x; // (slots, width)
  const std::int32_t* slot;
  const T* gate;
  T* y; // (rows, width)
  index chosen;
  index width;
  bool accumulate = false;

  template <class Team>
  MSG_HOST_DEVICE void operator()(const Team& team, index row) const {
    using A = msg::accumulate_t<T>;
    T* const to = y + row * width;
    for (index k = 0; k < chosen; ++k) {
      const T* const from = x + slot[row * chosen + k] * width;
      const A g = gate == nullptr ? A(1) : A(gate[row * chosen + k]);
      if (k == 0 && !accumulate) {
        team.each(width, [=](index j) { to[j] = T(g * A(from[j])); });
      } else {
        team.each(width, [=](index j) { to[j] = T(msg::detail::fused(g, A(from[j]), A(to[j]))); });
      }
    }
  }
};

/// Gradients of sum_slots: dgate[r, k] = dy[r] . x[slot[r, k]], and x[slot] becomes its own gradient gate dy[r].
template <class T>
struct sum_slots_backward {
  const T* dy;
  T* x;
  const std::int32_t* slot;
  const T* gate;
  T* dgate;
  index chosen;
  index width;

  template <class Team>
  MSG_HOST_DEVICE void operator()(const Team& team, index row) const {
    using A = msg::accumulate_t<T>;
    const T* const slope = dy + row * width;
    for (index k = 0; k < chosen; ++k) {
      T* const own = x + slot[row * chosen + k] * width;
      const A g = A(gate[row * chosen + k]);
      const A product = team.template fold<A>(
          width, [=](A lane, index j) { return msg::detail::fused(A(slope[j]), A(own[j]), lane); });
      if (team.rank() == 0) { dgate[row * chosen + k] = T(product); }
      team.sync();
      team.each(width, [=](index j) { own[j] = T(g * A(slope[j])); });
    }
  }
};

/// Gradient of choose_experts in the logits: gate (dgate - sum gate dgate) for the chosen, 0 for the others.
template <class T>
struct choose_experts_backward {
  const std::int32_t* choice;
  const T* gate;
  const T* dgate;
  T* dlogits; // (rows, experts)
  index experts;
  index chosen;

  template <class Team>
  MSG_HOST_DEVICE void operator()(const Team& team, index row) const {
    using A = msg::accumulate_t<T>;
    T* const to = dlogits + row * experts;
    team.each(experts, [=](index e) { to[e] = T(0); });
    team.sync();
    if (team.rank() != 0) { return; }
    A mean = 0;
    for (index k = row * chosen; k < (row + 1) * chosen; ++k) {
      mean = msg::detail::fused(A(gate[k]), A(dgate[k]), mean);
    }
    for (index k = row * chosen; k < (row + 1) * chosen; ++k) { to[choice[k]] = T(A(gate[k]) * (A(dgate[k]) - mean)); }
  }
};

} // namespace reference
