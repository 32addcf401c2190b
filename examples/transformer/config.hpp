// Sizes of the reference Transformer, and what follows from them: parameters, their number, FLOPs, first values.
#pragma once

#include "transformer/tensors.hpp"

#include <msg/config.hpp>
#include <msg/error.hpp>
#include <msg/random.hpp>
#include <msg/schema.hpp>
#include <msg/schemas/bert.hpp>
#include <msg/schemas/gpt2.hpp>
#include <msg/schemas/llama.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace reference {

enum class architecture {
  gpt2,  // pre-LN, learned positions, GELU (tanh form), head tied to the token embedding
  bert,  // post-LN, both directions, token types, GELU (exact), masked-language and next-sentence heads
  llama, // pre-norm with RMSNorm, rotary positions, SwiGLU, grouped queries, no biases
};

/// By the number of the architecture: what Hugging Face calls `model_type`.
inline constexpr std::array<std::string_view, 3> architecture_names{"gpt2", "bert", "llama"};

[[nodiscard]] constexpr std::string_view name_of(architecture a) noexcept {
  return architecture_names[static_cast<std::size_t>(a)];
}

/// A Transformer's sizes and constants.
struct config {
  architecture arch = architecture::gpt2;
  index vocab = 256;     // V
  index positions = 0;   // longest sequence
  index hidden = 0;      // C
  index ffn = 0;         // F
  index heads = 0;       // H
  index kv_heads = 0;    // K, heads of keys and values, a divisor of H (Llama); 0: as many as heads
  index head_dim = 0;    // D; H * D is independent of C
  index layers = 0;      // L
  index experts = 0;     // E, FFNs of a layer that a router chooses from (Llama, as Mixtral); 0: one FFN, no router
  index chosen = 2;      // experts for each token; their gates sum to 1
  index types = 2;       // token types (BERT)
  bool parallel = false; // pre-norm: attention and FFN both read the stream as it enters the layer (GPT-J, NeoX, PaLM)
  bool tied = true;      // the head reads the token embedding; false: it has a matrix of its own (Llama)
  double norm_eps = 1e-5;
  double rope_theta = 10000;       // base of the rotary frequencies (Llama)
  double initializer_range = 0.02; // standard deviation of first weights

  friend bool operator==(const config&, const config&) = default;
};

/// A config without sizes, but with the constants that models of this architecture are published with.
[[nodiscard]] constexpr config defaults_of(architecture a) noexcept {
  return {.arch = a, .tied = a != architecture::llama, .norm_eps = a == architecture::bert ? 1e-12 : 1e-5};
}

enum class activation { gelu_tanh, gelu_erf, swiglu };

/// What an architecture is made of: the model's code asks for these, never for the architecture.
struct features {
  msg::norm_kind norm;
  msg::norm_position position;
  activation act;
  bool rotary;          // positions turn queries and keys; otherwise an embedding is added
  bool causal;          // a token sees itself and those before it; otherwise all
  bool drops_embedding; // dropout has a place before the first layer
  bool masked_language; // hidden tokens are predicted, and whether one sentence follows another; otherwise next tokens
};

[[nodiscard]] constexpr features features_of(architecture a) noexcept {
  using msg::norm_kind;
  using msg::norm_position;
  switch (a) {
    case architecture::bert:
      return {norm_kind::layer, norm_position::post, activation::gelu_erf, false, false, true, true};
    case architecture::llama: return {norm_kind::rms, norm_position::pre, activation::swiglu, true, true, false, false};
    case architecture::gpt2: break;
  }
  return {norm_kind::layer, norm_position::pre, activation::gelu_tanh, false, true, true, false};
}

/// K: heads of keys and values.
[[nodiscard]] constexpr index kv_heads_of(const config& c) noexcept { return c.kv_heads == 0 ? c.heads : c.kv_heads; }

/// E, where one FFN counts as one expert.
[[nodiscard]] constexpr index experts_of(const config& c) noexcept { return c.experts == 0 ? 1 : c.experts; }

/// The parameters of a config as the library sees them, stacked over layers; names and order are those of the schema.
[[nodiscard]] inline msg::schema schema_of(const config& c) {
  switch (c.arch) {
    case architecture::bert:
      return msg::bert({.vocab = c.vocab,
                        .positions = c.positions,
                        .types = c.types,
                        .hidden = c.hidden,
                        .ffn = c.ffn,
                        .heads = c.heads,
                        .head_dim = c.head_dim,
                        .layers = c.layers});
    case architecture::llama:
      return msg::llama({.vocab = c.vocab,
                         .hidden = c.hidden,
                         .ffn = c.ffn,
                         .heads = c.heads,
                         .kv_heads = kv_heads_of(c),
                         .head_dim = c.head_dim,
                         .layers = c.layers,
                         .experts = c.experts,
                         .tied = c.tied});
    case architecture::gpt2: break;
  }
  return msg::gpt2({.vocab = c.vocab,
                    .positions = c.positions,
                    .hidden = c.hidden,
                    .ffn = c.ffn,
                    .heads = c.heads,
                    .head_dim = c.head_dim,
                    .layers = c.layers});
}

/// Throws msg::error, naming every size below 1 and what the architecture has no place for.
inline void check(const config& c) {
  std::vector<msg::diagnostic> findings;
  const std::pair<const char*, index> sizes[] = {
      {"vocab", c.vocab}, {"positions", c.positions}, {"hidden", c.hidden}, {"ffn", c.ffn},
      {"heads", c.heads}, {"head_dim", c.head_dim},   {"layers", c.layers}, {"types", c.types}};
  for (const auto& [name, size] : sizes) {
    if (size < 1) {
      findings.push_back(
          {.code = msg::errc::bad_size, .axis = name, .expected = "at least 1", .found = std::to_string(size)});
    }
  }
  const std::string name{name_of(c.arch)};
  const index kv_heads = kv_heads_of(c);
  if (c.arch == architecture::llama) {
    if (kv_heads < 0 || (kv_heads > 0 && c.heads % kv_heads != 0)) {
      findings.push_back({.code = msg::errc::bad_size,
                          .axis = "kv_heads",
                          .expected = "a divisor of heads, " + std::to_string(c.heads),
                          .found = std::to_string(kv_heads)});
    }
    if (c.experts < 0 || (c.experts > 0 && (c.chosen < 1 || c.chosen > c.experts))) {
      findings.push_back(
          {.code = msg::errc::bad_size,
           .axis = "experts",
           .expected = "at least the " + std::to_string(c.chosen) + " that are chosen, and those at least 1",
           .found = std::to_string(c.experts)});
    }
    if (c.head_dim % 2 != 0) {
      findings.push_back({.code = msg::errc::bad_size,
                          .axis = "head_dim",
                          .expected = "an even number: rotary positions turn pairs",
                          .found = std::to_string(c.head_dim)});
    }
  } else {
    if (kv_heads != c.heads) {
      findings.push_back({.code = msg::errc::unsupported,
                          .axis = "kv_heads",
                          .expected = name + " to have as many as heads, " + std::to_string(c.heads),
                          .found = std::to_string(kv_heads)});
    }
    if (c.experts != 0) {
      findings.push_back({.code = msg::errc::unsupported,
                          .axis = "experts",
                          .expected = name + " with one FFN a layer, experts 0",
                          .found = std::to_string(c.experts)});
    }
    if (!c.tied) {
      findings.push_back({.code = msg::errc::unsupported, .expected = name + " with a tied head", .found = "untied"});
    }
  }
  if (c.parallel && features_of(c.arch).position == msg::norm_position::post) {
    findings.push_back(
        {.code = msg::errc::unsupported, .expected = name + " with its FFN behind attention", .found = "parallel"});
  }
  if (!findings.empty()) { throw msg::error(std::move(findings)); }
}

/// Zeros for every parameter: parameters to fill, gradients, moments.
template <class T>
[[nodiscard]] tensor_set<T> make_parameters(const config& c) {
  check(c);
  tensor_set<T> result;
  const msg::schema names = schema_of(c);
  for (const msg::parameter& p : names.parameters()) { result.tensors.push_back(make_tensor<T>(p.name, p.shape())); }
  return result;
}

[[nodiscard]] inline index parameter_count(const config& c) { return schema_of(c).size(); }

/// Floating-point operations per token of one training step, forward and backward:
///
///   6 N + 12 L H D T     N: every weight that is multiplied with a token's activations
///
/// where T = `tokens` is the sequence length. 2 operations per weight forward and 4 backward; attention is counted in
/// full, although a causal model skips half of it, as is the custom: skipping shows as speed. Evaluation is a third.
///
/// predicted  BERT: the share of tokens that are predicted, as its head runs on those alone
[[nodiscard]] inline double training_flops_per_token(const config& c, index tokens, double predicted = 1) noexcept {
  const features f = features_of(c.arch);
  const auto width = static_cast<double>(c.heads * c.head_dim);
  const auto kv_width = static_cast<double>(kv_heads_of(c) * c.head_dim);
  const auto hidden = static_cast<double>(c.hidden);
  const auto layers = static_cast<double>(c.layers);
  const auto length = static_cast<double>(tokens);
  const double ffn = (f.act == activation::swiglu ? 3 : 2) * static_cast<double>(c.ffn);
  const auto experts = static_cast<double>(c.experts);
  const double ffns = c.experts == 0 ? ffn : static_cast<double>(c.chosen) * ffn + experts; // and the router
  double weights = layers * hidden * (2 * width + 2 * kv_width + ffns);
  const double decoder = static_cast<double>(c.vocab) * hidden;
  if (f.masked_language) {
    weights += predicted * (decoder + hidden * hidden) + hidden * (hidden + 2) / length; // one pooled token a sequence
  } else {
    weights += decoder;
  }
  return 6 * weights + 12 * layers * width * length;
}

/// The architecture's own first values of a parameter: weights N(0, initializer_range^2), in GPT-2 those that write the
/// residual stream narrower by sqrt(2 L), biases 0, gains 1. A function of (seed, name, element) alone.
/// Source: Radford et al. 2019, sec. 2.3; _init_weights of transformers' GPT2, Bert and LlamaPreTrainedModel.
template <class T>
void initialize(const config& c, std::uint64_t seed, const msg::parameter& p, storage<T>& data) {
  if (p.what != msg::kind::weight) {
    std::fill(data.begin(), data.end(), p.what == msg::kind::norm_gain ? T(1) : T(0));
    return;
  }
  const bool residual = c.arch == architecture::gpt2 && p.name.find("c_proj") != std::string::npos;
  const double deviation = c.initializer_range / (residual ? std::sqrt(2.0 * static_cast<double>(c.layers)) : 1.0);
  const msg::random_stream stream{seed, msg::stream_of(p.name)};
  for (std::size_t i = 0; i < data.size(); ++i) { data[i] = static_cast<T>(deviation * msg::random_normal(stream, i)); }
}
/// Those of every parameter.
template <class T>
void initialize(const config& c, std::uint64_t seed, tensor_set<T>& parameters) {
  const msg::schema names = schema_of(c);
  for (const msg::parameter& p : names.parameters()) { initialize(c, seed, p, parameters[p.name].data); }
}

template <class T>
[[nodiscard]] tensor_set<T> initial_parameters(const config& c, std::uint64_t seed) {
  tensor_set<T> result = make_parameters<T>(c);
  initialize(c, seed, result);
  return result;
}

} // namespace reference
