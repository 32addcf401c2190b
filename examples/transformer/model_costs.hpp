// What a Transformer costs, as the library counts it: FLOPs, parameters, bytes.
#pragma once

#include "transformer/config.hpp"
#include "transformer/data_masking.hpp"
#include "transformer/grow_model.hpp"
#include "transformer/workspace.hpp"

#include <msg/model_cost.hpp>
#include <msg/stage.hpp>

#include <algorithm>
#include <cstddef>

namespace reference {

/// The share of tokens that a model predicts.
[[nodiscard]] inline double predicted_share(const config& c) {
  return features_of(c.arch).masked_language ? token_hiding{}.predicted : 1;
}

/// Cost of a model on sequences of so many tokens; its FLOPs are those of training_flops_per_token().
///
/// predicted  BERT: the share of tokens that are predicted, as its head runs on those alone
[[nodiscard]] inline msg::model_cost cost_of(const config& c, index tokens, double predicted) {
  msg::weight_uses uses{.tokens = tokens};
  if (c.experts > 0) { uses.active = {{"experts", c.chosen}}; }
  if (features_of(c.arch).masked_language) {
    const double once = 1 / static_cast<double>(tokens); // for a sequence: its first token alone is pooled
    uses.per_token = {{"bert.embeddings.token_type_embeddings.weight", 0}, // looked up
                      {"bert.embeddings.word_embeddings.weight", predicted},
                      {"cls.predictions.transform.dense.weight", predicted},
                      {"bert.pooler.dense.weight", once},
                      {"cls.seq_relationship.weight", once}};
  }
  msg::model_cost cost = msg::schema_cost{schema_of(c), uses}();
  if (c.experts == 0) { return cost; }
  // A router scores every expert, those that are not chosen too.
  for (msg::gemm_cost& part : cost.gemm) {
    if (part.axes != "experts*hidden") { continue; }
    part.flops_per_token = 6 * static_cast<double>(c.layers * c.hidden * c.experts);
  }
  return cost;
}
[[nodiscard]] inline msg::model_cost cost_of(const config& c, index tokens) {
  return cost_of(c, tokens, predicted_share(c));
}

/// Length of the sequences that a model sees: that of the data, or fewer tokens while it has fewer positions; those of
/// the data are then several in a row.
[[nodiscard]] inline index sequence_of(const config& c, index seq) { return std::min(seq, c.positions); }

/// Cost of a run's models by their sizes: what msg::calibrate(), predict() and propose() ask for.
struct cost_by_sizes {
  config base;   // of any of them
  index seq = 0; // of the data
  [[nodiscard]] msg::model_cost operator()(const msg::named_sizes& sizes) const {
    const config c = resized(base, sizes);
    return cost_of(c, sequence_of(c, seq));
  }
};

namespace detail {
/// Memory that only counts: a workspace made of it tells its size.
struct counting_backend {
  inline static thread_local double bytes = 0;
  template <class T>
  class storage {
  public:
    void resize(std::size_t count) {
      bytes += (static_cast<double>(count) - static_cast<double>(count_)) * static_cast<double>(sizeof(T));
      count_ = count;
    }

  private:
    std::size_t count_ = 0;
  };
};
} // namespace detail

/// Bytes of everything a model in training works in beside its parameters, for one micro-batch.
[[nodiscard]] inline double activation_bytes(const config& c, index batch, index tokens) {
  detail::counting_backend::bytes = 0;
  workspace<float, detail::counting_backend> all(c, batch, tokens);
  if (features_of(c.arch).masked_language) {
    all.prepare_head(c, static_cast<index>(predicted_share(c) * static_cast<double>(batch * tokens)));
  }
  all.prepare_backward(c, batch * tokens);
  return detail::counting_backend::bytes;
}

/// What training a model of these sizes takes on the micro-batches of a run.
[[nodiscard]] inline msg::memory_bytes training_memory(const config& c, index batch, index seq) {
  const index tokens = sequence_of(c, seq);
  const index rows = batch * seq;
  return msg::memory_of(
      {.parameters = parameter_count(c)},
      {.activation_bytes_per_token = activation_bytes(c, rows / tokens, tokens) / static_cast<double>(rows),
       .tokens_at_once = rows});
}

} // namespace reference
