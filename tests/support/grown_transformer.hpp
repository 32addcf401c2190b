// A small Transformer with trained weights, grown by the library, and what its forward and backward give.
#pragma once

#include "support/tiny_transformer.hpp"

#include "transformer/cpu_backend.hpp"
#include "transformer/grow_model.hpp"
#include "transformer/model.hpp"

#include <msg/grow.hpp>

#include <cmath>
#include <cstdint>
#include <functional>
#include <limits>
#include <string>
#include <utility>
#include <vector>

namespace support {

using msg::index;

template <class T>
struct result {
  double loss = 0;
  std::vector<T> logits; // (rows, V), fresh tokens at mask 0 left out; then those of pairs of sentences
  reference::tensor_set<T> gradients;
};

/// Forward and backward with the masks of a step.
template <class T>
result<T> run(const reference::model_state<T>& state, const tiny::batch& data, index step) {
  const reference::live_masks masks = state.masks(step);
  tiny::outcome<T> all = tiny::run<T>(state.sizes, data, state.values, masks.view());
  result<T> out{.loss = all.loss, .logits = std::move(all.logits), .gradients = std::move(all.gradients)};
  std::erase(out.logits, -std::numeric_limits<T>::infinity());
  out.logits.insert(out.logits.end(), all.sentence_logits.begin(), all.sentence_logits.end());
  return out;
}

/// One AdamW step on the batch; `stale` ignores the ages of entries.
template <class T>
void update(reference::model_state<T>& state, const reference::tensor_set<T>& gradients, index step,
            const msg::adamw& options, bool stale = false) {
  const msg::schema schema = reference::schema_of(state.sizes);
  for (std::size_t p = 0; p < schema.parameters().size(); ++p) {
    const msg::parameter& parameter = schema.parameters()[p];
    msg::update(options, msg::update_step{.lr = 1e-2, .step = step, .decay = msg::decays(parameter.what)},
                stale ? msg::parameter_ages{} : state.ages(parameter, step), state.values.tensors[p],
                gradients.tensors[p], state.moment1.tensors[p], state.moment2.tensors[p]);
  }
}

inline constexpr index trained_steps = 6;

/// Weights that have left their initial values, biases and gains included, after trained_steps steps of AdamW.
template <class T>
reference::model_state<T> trained(const reference::config& sizes, const tiny::batch& data) {
  reference::model_state<T> state = reference::initial_state<T>(sizes, 11);
  for (index step = 0; step < trained_steps; ++step) {
    update(state, run(state, data, step).gradients, step, msg::adamw{.weight_decay = 0});
  }
  return state;
}

/// Calls visit(parameter, new element, old element) for every element of a grown parameter; old element -1 where the
/// element is fresh or a newborn copy. Written from the axis plans, not from the maps that apply() uses.
inline void for_each_element(const msg::plan& plan, const std::function<void(std::size_t, index, index)>& visit) {
  for (std::size_t p = 0; p < plan.after().parameters().size(); ++p) {
    const msg::parameter& grown = plan.after().parameters()[p];
    const msg::parameter& old = plan.before().parameters()[p];
    std::vector<std::vector<index>> sources; // by dimension
    for (std::size_t d = 0; d < grown.dims.size(); ++d) {
      std::vector<index> source;
      msg::for_each_position(grown.dims[d].extent,
                             [&](index, const msg::product& term, const std::vector<index>& units) {
                               const auto t = static_cast<std::size_t>(&term - grown.dims[d].extent.terms.data());
                               index begin = 0;
                               for (std::size_t before = 0; before < t; ++before) {
                                 begin += old.dims[d].extent.terms[before].size();
                               }
                               index position = 0;
                               bool fresh = false;
                               for (std::size_t k = 0; k < units.size(); ++k) {
                                 index unit = units[k];
                                 for (const msg::axis_plan& a : plan.axes()) {
                                   if (a.name == term.factors[k].axis) {
                                     unit = a.old_of[static_cast<std::size_t>(unit)];
                                   }
                                 }
                                 fresh = fresh || unit < 0;
                                 position = position * old.dims[d].extent.terms[t].factors[k].size + unit;
                               }
                               source.push_back(fresh ? -1 : begin + position);
                             });
      sources.push_back(std::move(source));
    }
    const std::vector<index> old_shape = old.shape();
    const std::vector<index> shape = grown.shape();
    for (index element = 0; element < grown.size(); ++element) {
      index rest = element;
      index from = 0;
      index stride = 1;
      for (std::size_t d = shape.size(); d-- > 0;) {
        const index source = sources[d][static_cast<std::size_t>(rest % shape[d])];
        rest /= shape[d];
        from = from < 0 || source < 0 ? -1 : from + source * stride;
        stride *= old_shape[d];
      }
      visit(p, element, from);
    }
  }
}

} // namespace support
