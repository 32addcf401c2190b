// The reference Transformer's mixture of experts, forward and backward: members of transformer; include model.hpp.
#pragma once

#include "transformer/model.hpp"

#include <vector>

namespace reference {

// Each block of rows is given to its experts by itself, so that the passes between attentions stay whole.

/// Leaves in `branch` the experts' outputs, weighed by their gates.
template <class T, backend_for<T> Backend>
void transformer<T, Backend>::run_experts(const pointers& p, index l, row_range block) {
  const index hidden = config_.hidden;
  const index chosen = config_.chosen;
  layer_state& x = layer(l);
  expert_activations<T, Backend>& e = x.experts;
  const layer_pointers<const T>& w = layer_of(p, l);
  row_range* const parts = segments(x, block);
  linear_forward(on_, block, w.router, ffn_input(l), e.logits.data());
  on_.run(block, config_.experts,
          choose_experts<T>{e.logits.data(), e.chosen.data(), e.gates.data(), config_.experts, chosen, masks_.experts});
  on_.sort_by_expert(block, chosen, config_.experts, e.chosen.data(), e.slots.data(), e.rows.data(), parts);
  on_.run({block.first * chosen, block.count * chosen}, hidden,
          gather_row<T>{ffn_input(l), e.rows.data(), e.in.data(), hidden});
  for (index i = 0; i < config_.experts; ++i) {
    if (parts[i].count > 0) { run_ffn(parts[i], w.ffns[static_cast<std::size_t>(i)], x, e.in.data(), e.out.data()); }
  }
  on_.run(block, hidden,
          sum_slots<T>{e.out.data(), e.slots.data(), e.gates.data(), work_.branch.data(), chosen, hidden});
}

/// As ffn_back(). Afterwards x.experts.out holds its own gradient, and drouter that of the router's logits.
template <class T, backend_for<T> Backend>
void transformer<T, Backend>::experts_back(const pointers& p, index l, row_range block, const T* dout, T* din,
                                           bool accumulate) {
  const index hidden = config_.hidden;
  const index chosen = config_.chosen;
  layer_state& x = layer(l);
  expert_activations<T, Backend>& e = x.experts;
  const layer_pointers<const T>& w = layer_of(p, l);
  const row_range* const parts = segments(x, block);
  T* const dchosen = work_.dchosen.data();
  on_.run(
      block, hidden,
      sum_slots_backward<T>{dout, e.out.data(), e.slots.data(), e.gates.data(), work_.dgates.data(), chosen, hidden});
  for (index i = 0; i < config_.experts; ++i) {
    if (parts[i].count > 0) {
      ffn_back(parts[i], w.ffns[static_cast<std::size_t>(i)], {}, x, e.out.data(), dchosen, false);
    }
  }
  on_.run(block, hidden, sum_slots<T>{dchosen, e.slots.data(), nullptr, din, chosen, hidden, accumulate});
  on_.run(block, config_.experts,
          choose_experts_backward<T>{e.chosen.data(), e.gates.data(), work_.dgates.data(), work_.drouter.data(),
                                     config_.experts, chosen});
  linear_backward(on_, block, w.router, work_.drouter.data(), din, true);
}

template <class T, backend_for<T> Backend>
void transformer<T, Backend>::add_expert_gradients(tasks& work, const gradient_pointers& d, index l) {
  layer_state& x = layer(l);
  const layer_pointers<T>& g = layer_of(d, l);
  add_gradient(work, rows(), g.router, ffn_input(l), work_.drouter.data(), nullptr);
  for (index i = 0; i < config_.experts; ++i) {
    std::vector<row_range> parts; // the expert's slots, block after block
    for (std::size_t s = static_cast<std::size_t>(i); s < x.experts.segments.size();
         s += static_cast<std::size_t>(config_.experts)) {
      if (x.experts.segments[s].count > 0) { parts.push_back(x.experts.segments[s]); }
    }
    const ffn_pointers<T>& expert = g.ffns[static_cast<std::size_t>(i)];
    add_gradient(work, parts, expert.out, x.after.data(), x.experts.out.data());
    add_gradient(work, parts, expert.in, x.experts.in.data(), dbefore());
  }
}

} // namespace reference
