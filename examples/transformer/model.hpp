// The reference GPT: forward to a loss, hand-written backward, masked while it grows.
#pragma once

#include "transformer/attention.hpp"
#include "transformer/config.hpp"
#include "transformer/ops.hpp"
#include "transformer/tensors.hpp"
#include "transformer/workspace.hpp"

#include <msg/config.hpp>
#include <msg/error.hpp>
#include <msg/kernels/activation.hpp>
#include <msg/kernels/blend.hpp>
#include <msg/kernels/norm.hpp>
#include <msg/tensor.hpp>

#include <algorithm>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace reference {

/// The masks of a growing model; everything null is the plain model, and runs no mask code.
///
/// hidden  (C)  weighs the statistics and masks the output of every norm, the final one included
/// ffn     (F)  on the FFN after its activation
/// heads   (H)  on the output of each head
/// layers  (L)  depth gates: x + g attention(x), then x + g ffn(x); a layer at exactly 0 is skipped
///
/// Units at exactly 0 are selected away before a product reads them. Weights that read them, and in the backward those
/// that write them, still meet their zeros in a GEMM: fresh weights may be anything finite. Layers at exactly 0 may
/// hold anything at all. Source: Yao et al. 2024, Masked Structural Growth, for the masks; method.md, section 2, for
/// their pre-norm places.
struct masks {
  msg::mask_view hidden;
  msg::mask_view ffn;
  msg::mask_view heads;
  const float* layers = nullptr;
};

/// A GPT-2 of fixed sizes on batches of fixed shape: B sequences of T tokens, M = B * T rows. Parameters and gradients
/// belong to the caller; the model owns the activations.
///
/// Results do not depend on the number of threads. Where the GEMM back-end passes bits_probe(), in float, a model grown
/// by appending has the bits of the old one at mask value 0: logits, loss and gradients of old parameters.
template <class T>
class gpt {
public:
  /// Throws msg::error{bad_size}.
  gpt(const config& sizes, index batch, index tokens)
      : config_(checked(sizes, batch, tokens)), batch_(batch), tokens_(tokens), names_(schema_of(sizes)),
        work_(sizes, batch, tokens) {}

  [[nodiscard]] const config& sizes() const noexcept { return config_; }
  [[nodiscard]] index batch() const noexcept { return batch_; }
  [[nodiscard]] index tokens() const noexcept { return tokens_; }
  [[nodiscard]] index rows() const noexcept { return batch_ * tokens_; }

  /// Mean negative log-likelihood of the targets, in nats.
  ///
  /// parameters  make_parameters(sizes()) gives the names and shapes
  /// inputs      (B, T), in [0, V)
  /// targets     (B, T), in [0, V), or negative where a position does not count; empty: logits alone, returns 0
  /// silence     what the views point at must live until the backward
  /// Throws msg::error{shape_mismatch, unknown_parameter, bad_argument} before computing anything.
  double forward(const tensor_set<T>& parameters, std::span<const std::int32_t> inputs,
                 std::span<const std::int32_t> targets, const masks& silence = {});

  /// Gradient of scale * the last forward's loss, added to `gradients`; needs that forward to have had targets, and
  /// turns its logits into their gradient. Gradients of silenced units and skipped layers get exactly nothing.
  ///
  /// scale  1 / (number of batches whose gradients are accumulated)
  void backward(const tensor_set<T>& parameters, tensor_set<T>& gradients, double scale = 1);

  /// (B, T, V), of the last forward.
  [[nodiscard]] std::span<const T> logits() const noexcept { return work_.logits; }
  /// (B, T), loss of each position of the last forward that had targets.
  [[nodiscard]] std::span<const T> losses() const noexcept { return work_.loss; }

private:
  using pointers = gpt_pointers<const T>;

  static const config& checked(const config& sizes, index batch, index tokens);
  void check_batch(std::span<const std::int32_t> inputs, std::span<const std::int32_t> targets,
                   const masks& silence) const;
  [[nodiscard]] attention_shape attention() const noexcept {
    return {batch_, tokens_, config_.heads, config_.head_dim};
  }
  [[nodiscard]] float gate(index layer) const noexcept {
    return masks_.layers == nullptr ? 1.0F : masks_.layers[layer];
  }
  [[nodiscard]] const float* gate_pointer(index layer) const noexcept {
    return masks_.layers == nullptr ? nullptr : masks_.layers + layer;
  }
  [[nodiscard]] layer_activations<T>& layer(index l) noexcept { return work_.layers[static_cast<std::size_t>(l)]; }
  /// The residual stream that enters layer l: what the last layer before it that was not skipped left.
  [[nodiscard]] const T* stream(index l) noexcept {
    while (l > 0 && gate(l - 1) == 0.0F) { --l; }
    return l == 0 ? work_.embedded.data() : layer(l - 1).out.data();
  }

  // model_forward.hpp
  void into_attention(const pointers& p, index l, row_range block);
  void out_of_attention(const pointers& p, index l, row_range block);
  void into_logits(const pointers& p, row_range block);
  [[nodiscard]] double mean_loss() const noexcept;
  // model_backward.hpp
  void through_logits(const pointers& p, const gpt_pointers<T>& d, T scale);
  void through_layer(const pointers& p, const gpt_pointers<T>& d, index l);

  config config_;
  index batch_;
  index tokens_;
  msg::schema names_;
  workspace<T> work_;
  masks masks_;                       // of the last forward
  std::vector<std::int32_t> inputs_;  // (B, T), of the last forward
  std::vector<std::int32_t> targets_; // (B, T) or empty
  index counted_ = 0;                 // targets that count
};

template <class T>
const config& gpt<T>::checked(const config& sizes, index batch, index tokens) {
  check(sizes);
  std::vector<msg::diagnostic> findings;
  if (batch < 1) {
    findings.push_back(
        {.code = msg::errc::bad_size, .axis = "batch", .expected = "at least 1", .found = std::to_string(batch)});
  }
  if (tokens < 1 || tokens > sizes.positions) {
    findings.push_back({.code = msg::errc::bad_size,
                        .axis = "tokens",
                        .expected = "1 to " + std::to_string(sizes.positions) + ", the positions",
                        .found = std::to_string(tokens)});
  }
  if (!findings.empty()) { throw msg::error(std::move(findings)); }
  return sizes;
}

template <class T>
void gpt<T>::check_batch(std::span<const std::int32_t> inputs, std::span<const std::int32_t> targets,
                         const masks& silence) const {
  std::vector<msg::diagnostic> findings;
  const auto expect = [&](const char* what, index expected, index found) {
    if (expected != found) {
      findings.push_back({.code = msg::errc::shape_mismatch,
                          .axis = what,
                          .expected = std::to_string(expected),
                          .found = std::to_string(found)});
    }
  };
  expect("inputs", rows(), static_cast<index>(inputs.size()));
  if (!targets.empty()) { expect("targets", rows(), static_cast<index>(targets.size())); }
  if (silence.hidden) { expect("mask of hidden", config_.hidden, silence.hidden.size); }
  if (silence.ffn) { expect("mask of ffn", config_.ffn, silence.ffn.size); }
  if (silence.heads) { expect("mask of heads", config_.heads, silence.heads.size); }
  const auto in_vocabulary = [&](std::int32_t token) { return token < config_.vocab; };
  const auto not_negative = [](std::int32_t token) { return token >= 0; };
  if (!std::all_of(inputs.begin(), inputs.end(), in_vocabulary) ||
      !std::all_of(inputs.begin(), inputs.end(), not_negative) ||
      !std::all_of(targets.begin(), targets.end(), in_vocabulary)) {
    findings.push_back({.code = msg::errc::bad_argument,
                        .axis = "vocab",
                        .expected = "tokens below " + std::to_string(config_.vocab),
                        .found = "one outside"});
  }
  if (!findings.empty()) { throw msg::error(std::move(findings)); }
}

} // namespace reference

#include "transformer/model_backward.hpp" // IWYU pragma: export
#include "transformer/model_forward.hpp"  // IWYU pragma: export
