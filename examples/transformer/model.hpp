// The reference Transformer: forward to a loss, hand-written backward, masked while it grows.
#pragma once

#include "transformer/backend.hpp"
#include "transformer/config.hpp"
#include "transformer/dropout.hpp"
#include "transformer/experts.hpp"
#include "transformer/ops.hpp"
#include "transformer/parameters.hpp"
#include "transformer/projection.hpp"
#include "transformer/tensors.hpp"
#include "transformer/workspace.hpp"

#include <msg/config.hpp>
#include <msg/error.hpp>
#include <msg/kernels/activation.hpp>
#include <msg/kernels/blend.hpp>
#include <msg/kernels/norm.hpp>
#include <msg/tensor.hpp>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace reference {

/// The masks of a growing model; everything null is the plain model, and runs no mask code.
///
/// hidden    (C)  weighs the statistics and masks the output of every norm, and of BERT's pooler
/// ffn       (F)  on the FFN after its activation (SwiGLU: on the product)
/// heads     (H)  on the output of each head
/// layers    (L)  depth gates g, on the host. Pre-norm: x + g attention(x), then x + g ffn(x); post-norm, where B is
///                the whole layer with its norms: g B(x) + (1 - g) x. A layer at exactly 0 is skipped.
/// kv_heads  (K)  nothing has to be silenced, as only fresh heads read fresh keys and values: for `released` alone
/// norms     (C)  weighs the statistics of every norm in place of hidden: hidden times the splits of copies, where a
///                growth left units with unequally many (axis_contract::weight_norm_statistics)
/// vocab     (V)  log c is added to the logits of fresh tokens; at 0 they are out of the softmax exactly
/// experts   (E)  log c is added to the router's logits of fresh experts; at 0 they are not chosen
/// released  heads' masks on queries, keys and values, and the FFN's before the activation, as in the paper's code; the
///           same function at mask values 0 and 1
///
/// Units at exactly 0 are selected away before a product reads them. Weights that read them, and in the backward those
/// that write them, still meet their zeros in a GEMM: fresh weights may be anything finite. Layers at exactly 0 may
/// hold anything at all. Source: Yao et al. 2024, Masked Structural Growth, for the masks; method.md, section 2, for
/// their places.
struct masks {
  msg::mask_view hidden;
  msg::mask_view ffn;
  msg::mask_view heads;
  const float* layers = nullptr;
  msg::mask_view kv_heads{};
  msg::mask_view vocab{};
  msg::mask_view experts{};
  bool released = false;
  msg::mask_view norms{};
};

/// A batch of B sequences of T tokens, on the host; what is empty is absent.
struct model_input {
  std::span<const std::int32_t> tokens;          // (B, T), in [0, V)
  std::span<const std::int32_t> targets{};       // (B, T), in [0, V), or negative where a position does not count
  std::span<const std::int32_t> types{};         // (B, T), token types; absent: all 0
  std::span<const std::int32_t> lengths{};       // (B), tokens of each sequence, the rest is padding; absent: T
  std::span<const std::int32_t> next_sentence{}; // (B), BERT: class of each pair of sentences, negative: none
  dropout drop{};                                // of a training step; none in evaluation
};

/// A Transformer of fixed sizes on batches of fixed shape: B sequences of T tokens, M = B * T rows. Parameters and
/// gradients belong to the caller; the model owns the activations.
///
/// Results do not depend on the number of threads. Where the GEMM back-end passes bits_probe(), in float, a model grown
/// by appending has the bits of the old one at mask value 0: logits, loss and gradients of old parameters.
template <class T, backend_for<T> Backend = cpu_backend>
class transformer {
public:
  using parameter_set = typename Backend::template tensors<T>;

  /// Throws msg::error{bad_size, unsupported}.
  transformer(const config& sizes, index batch, index tokens, Backend backend = {});

  [[nodiscard]] const config& sizes() const noexcept { return config_; }
  [[nodiscard]] index batch() const noexcept { return batch_; }
  [[nodiscard]] index tokens() const noexcept { return tokens_; }
  [[nodiscard]] index rows() const noexcept { return batch_ * tokens_; }

  /// Mean negative log-likelihood of the targets, in nats, plus that of the next-sentence classes where they are given.
  /// Without either the logits alone, returns 0.
  ///
  /// parameters  make_parameters(sizes()) gives the names and shapes
  /// silence     what the views point at must live until the backward
  /// Throws msg::error{shape_mismatch, unknown_parameter, bad_argument} before computing anything.
  double forward(const parameter_set& parameters, const model_input& input, const masks& silence = {});
  /// The same, but does not wait for the loss: adds factor * loss to *total, in the backend's memory.
  void forward_into(double factor, double* total, const parameter_set& parameters, const model_input& input,
                    const masks& silence = {});

  /// Gradient of scale * the last forward's loss, added to `gradients`; needs that forward to have had targets, and
  /// turns its logits into their gradient. Gradients of silenced units and skipped layers get exactly nothing.
  ///
  /// scale  1 / (number of batches whose gradients are accumulated)
  void backward(const parameter_set& parameters, parameter_set& gradients, double scale = 1);

  // Of the last forward, in the backend's memory.

  /// (rows, V): of all positions; from BERT, where there were targets, of those that count, in their order.
  [[nodiscard]] std::span<const T> logits() const noexcept { return {work_.logits.data(), work_.logits.size()}; }
  /// One for each row of logits; of a forward that had targets.
  [[nodiscard]] std::span<const T> losses() const noexcept { return {work_.loss.data(), work_.loss.size()}; }
  /// (B, 2): BERT's classes of pairs of sentences; of a forward that had classes, or no targets.
  [[nodiscard]] std::span<const T> sentence_logits() const noexcept {
    return {work_.sentence_logits.data(), work_.sentence_logits.size()};
  }

private:
  using pointers = model_pointers<const T>;
  using gradient_pointers = model_pointers<T>;
  using tasks = typename Backend::template gradient_tasks<T>;
  using norm_state = norm_activations<T, Backend>;
  using layer_state = layer_activations<T, Backend>;

  static const config& checked(const config& sizes, index batch, index tokens);
  void check_batch(const model_input& input, const masks& silence) const;
  void take(const model_input& input, const masks& silence);

  [[nodiscard]] bool pre_norm() const noexcept { return features_.position == msg::norm_position::pre; }
  [[nodiscard]] attention_shape attention(index layer) const noexcept {
    return {.batch = batch_,
            .tokens = tokens_,
            .heads = config_.heads,
            .kv_heads = kv_heads_of(config_),
            .head_dim = config_.head_dim,
            .causal = features_.causal,
            .lengths = padded_ ? work_.lengths.data() : nullptr,
            .drop = dropped(dropout_place::attention, layer)};
  }
  [[nodiscard]] dropped_units dropped(dropout_place place, index layer = 0) const noexcept {
    return drop_.rate == 0 ? dropped_units{} : dropped_units{drop_, place, layer};
  }
  void drop(row_range block, dropout_place place, index layer, const T* from, T* to) {
    on_.run(block, config_.hidden, drop_row<T>{dropped(place, layer), from, to, config_.hidden});
  }
  /// What a sub-layer adds to the stream: its bias and dropout, where that is not left to the residual.
  [[nodiscard]] const T* dropped_branch(row_range block, dropout_place place, index layer, const projection<const T>& w,
                                        T* branch) {
    if (drop_.rate == 0) { return w.matrices[0].bias; }
    add_bias(on_, block, w, branch);
    drop(block, place, layer, branch, branch);
    return nullptr;
  }
  [[nodiscard]] float gate(index layer) const noexcept {
    return masks_.layers == nullptr ? 1.0F : masks_.layers[layer];
  }
  [[nodiscard]] const float* gate_pointer(index layer) const noexcept {
    return gates_ == nullptr ? nullptr : gates_ + layer;
  }
  [[nodiscard]] layer_state& layer(index l) noexcept { return work_.layers[static_cast<std::size_t>(l)]; }
  [[nodiscard]] const msg::mask_view& norm_weight() const noexcept {
    return masks_.norms ? masks_.norms : masks_.hidden;
  }
  static const auto& layer_of(const auto& p, index l) noexcept { return p.layers[static_cast<std::size_t>(l)]; }
  /// The stream that enters layer l: what the last layer before it that was not skipped left.
  [[nodiscard]] const T* stream(index l) noexcept {
    while (l > 0 && gate(l - 1) == 0.0F) { --l; }
    if (l == 0) { return (pre_norm() ? work_.embedded : work_.embedding_norm.out).data(); }
    return (pre_norm() ? layer(l - 1).sum_2 : layer(l - 1).norm_2.out).data();
  }
  /// What a pre-norm layer's second norm reads.
  [[nodiscard]] const T* before_ffn(index l) noexcept { return config_.parallel ? stream(l) : layer(l).sum_1.data(); }
  /// What the sub-layers read.
  [[nodiscard]] const T* attention_input(index l) noexcept {
    return pre_norm() ? layer(l).norm_1.out.data() : stream(l);
  }
  [[nodiscard]] const T* ffn_input(index l) noexcept {
    return (pre_norm() ? layer(l).norm_2 : layer(l).norm_1).out.data();
  }

  // model_forward.hpp
  void norm(row_range block, const T* x, const norm_pointers<const T>& w, norm_state& to);
  void embed(const pointers& p, row_range block);
  void into_attention(const pointers& p, index l, row_range block);
  void out_of_attention(const pointers& p, index l, row_range block);
  void run_ffn(row_range rows, const ffn_pointers<const T>& w, layer_state& x, const T* in, T* out);
  void into_logits(const pointers& p, const T* x, row_range block);
  void predict_hidden_tokens(const pointers& p);
  void predict_next_sentence(const pointers& p);
  void mask_heads(row_range block, const projection<const T>& w, T* qkv);
  void turn(row_range block, T* qkv, int direction);
  void run_forward(const parameter_set& parameters, const model_input& input, const masks& silence);
  // model_backward.hpp
  void norm_back(row_range block, index rows, const T* x, const norm_pointers<const T>& w, const norm_state& n,
                 const T* dy, T* dx, bool accumulate, std::size_t sums);
  void add_norm_gradient(tasks& work, index rows, const norm_pointers<T>& d, std::size_t sums);
  void logits_back(const pointers& p, const gradient_pointers& d, const T* x, T* dx, T scale, row_range block);
  void hidden_tokens_back(const pointers& p, const gradient_pointers& d, T scale);
  void next_sentence_back(const pointers& p, const gradient_pointers& d, T scale);
  void ffn_back(row_range rows, const ffn_pointers<const T>& w, const ffn_pointers<T>& d, layer_state& x, const T* dout,
                T* din, bool accumulate);
  void layer_back(const pointers& p, const gradient_pointers& d, index l);
  void embedding_back(const pointers& p, const gradient_pointers& d);
  [[nodiscard]] auto* sums(std::size_t i) noexcept { return work_.partial[i].data(); }
  /// Gradient of what comes before the FFN's activation.
  [[nodiscard]] T* dbefore() noexcept { return (work_.dbefore.size() == 0 ? work_.dafter : work_.dbefore).data(); }

  // model_experts.hpp
  void run_experts(const pointers& p, index l, row_range block);
  void experts_back(const pointers& p, index l, row_range block, const T* dout, T* din, bool accumulate);
  void add_expert_gradients(tasks& work, const gradient_pointers& d, index l);
  [[nodiscard]] row_range* segments(layer_state& x, row_range block) noexcept {
    return x.experts.segments.data() + block.first / msg::chunk_rows * config_.experts;
  }

  config config_;
  features features_;
  index batch_;
  index tokens_;
  Backend on_;
  msg::schema schema_;
  workspace<T, Backend> work_;
  // of the last forward
  masks masks_;                  // the layers' gates on the host, the rest on the backend
  const float* gates_ = nullptr; // on the backend
  bool padded_ = false;
  bool predicts_tokens_ = false; // it had targets
  bool predicts_next_ = false;   // it had next-sentence classes
  index head_rows_ = 0;          // rows that the head ran on
  index counted_ = 0;            // targets that count
  index counted_sentences_ = 0;
  dropout drop_;
};

template <class T, backend_for<T> Backend>
transformer<T, Backend>::transformer(const config& sizes, index batch, index tokens, Backend backend)
    : config_(checked(sizes, batch, tokens)), features_(features_of(sizes.arch)), batch_(batch), tokens_(tokens),
      on_(std::move(backend)), schema_(schema_of(sizes)), work_(sizes, batch, tokens) {
  std::vector<std::int32_t> numbers;
  for (index r = 0; r < rows(); ++r) { numbers.push_back(static_cast<std::int32_t>(r % tokens)); }
  on_.copy_in(std::span<const std::int32_t>(numbers), work_.places);
  numbers.clear();
  for (index b = 0; b < batch; ++b) { numbers.push_back(static_cast<std::int32_t>(b * tokens)); }
  on_.copy_in(std::span<const std::int32_t>(numbers), work_.first_rows);
  if (features_.rotary) {
    using angle_type = msg::accumulate_t<T>;
    std::vector<angle_type> cosines;
    std::vector<angle_type> sines;
    for (index t = 0; t < tokens; ++t) {
      for (index j = 0; j < sizes.head_dim; j += 2) {
        const double exponent = -static_cast<double>(j) / static_cast<double>(sizes.head_dim);
        const double angle = static_cast<double>(t) * std::pow(sizes.rope_theta, exponent);
        cosines.push_back(static_cast<angle_type>(std::cos(angle)));
        sines.push_back(static_cast<angle_type>(std::sin(angle)));
      }
    }
    on_.copy_in(std::span<const angle_type>(cosines), work_.cosines);
    on_.copy_in(std::span<const angle_type>(sines), work_.sines);
  }
}

} // namespace reference

#include "transformer/model_backward.hpp" // IWYU pragma: export
#include "transformer/model_checks.hpp"   // IWYU pragma: export
#include "transformer/model_experts.hpp"  // IWYU pragma: export
#include "transformer/model_forward.hpp"  // IWYU pragma: export
