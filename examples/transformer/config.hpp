// Sizes of the reference GPT, and what follows from them: parameters, their number, FLOPs, first values.
#pragma once

#include "transformer/tensors.hpp"

#include <msg/config.hpp>
#include <msg/error.hpp>
#include <msg/random.hpp>
#include <msg/schema.hpp>
#include <msg/schemas/gpt2.hpp>

#include <cmath>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace reference {

/// A GPT-2: pre-LN, learned positions, GELU (tanh form), head tied to the token embedding.
struct config {
  index vocab = 256;   // V
  index positions = 0; // longest sequence
  index hidden = 0;    // C
  index ffn = 0;       // F
  index heads = 0;     // H
  index head_dim = 0;  // D; H * D is independent of C
  index layers = 0;    // L
  double norm_eps = 1e-5;

  friend bool operator==(const config&, const config&) = default;
};

/// The parameters of a config as the library sees them, stacked over layers; names and order are those of the schema.
[[nodiscard]] inline msg::schema schema_of(const config& c) {
  return msg::gpt2({.vocab = c.vocab,
                    .positions = c.positions,
                    .hidden = c.hidden,
                    .ffn = c.ffn,
                    .heads = c.heads,
                    .head_dim = c.head_dim,
                    .layers = c.layers});
}

/// Throws msg::error{bad_size}, naming every size below 1.
inline void check(const config& c) {
  std::vector<msg::diagnostic> findings;
  const std::pair<const char*, index> sizes[] = {
      {"vocab", c.vocab}, {"positions", c.positions}, {"hidden", c.hidden}, {"ffn", c.ffn},
      {"heads", c.heads}, {"head_dim", c.head_dim},   {"layers", c.layers}};
  for (const auto& [name, size] : sizes) {
    if (size < 1) {
      findings.push_back(
          {.code = msg::errc::bad_size, .axis = name, .expected = "at least 1", .found = std::to_string(size)});
    }
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
///   6 N + 12 L H D T     N = L (3 C H D + H D C + 2 C F) + V C, every weight a product with a token's activations
///
/// where T = `tokens` is the sequence length. 2 operations per weight forward and 4 backward; attention is counted in
/// full, although half of it is masked, as is the custom: skipping the masked half shows as speed. Evaluation is a
/// third.
[[nodiscard]] inline double training_flops_per_token(const config& c, index tokens) noexcept {
  const auto width = static_cast<double>(c.heads * c.head_dim);
  const auto hidden = static_cast<double>(c.hidden);
  const auto layers = static_cast<double>(c.layers);
  const double weights =
      layers * (4 * hidden * width + 2 * hidden * static_cast<double>(c.ffn)) + static_cast<double>(c.vocab) * hidden;
  return 6 * weights + 12 * layers * width * static_cast<double>(tokens);
}

/// GPT-2's first values: weights N(0, 0.02^2), those that write the residual stream narrower by sqrt(2 L), biases 0,
/// gains 1. A function of (seed, name, element) alone.
/// Source: Radford et al. 2019, sec. 2.3; transformers' GPT2PreTrainedModel._init_weights.
template <class T>
void initialize(const config& c, std::uint64_t seed, tensor_set<T>& parameters) {
  const msg::schema names = schema_of(c);
  for (const msg::parameter& p : names.parameters()) {
    storage<T>& data = parameters[p.name].data;
    if (p.what != msg::kind::weight) {
      std::fill(data.begin(), data.end(), p.what == msg::kind::norm_gain ? T(1) : T(0));
      continue;
    }
    const bool residual = p.name.find("c_proj") != std::string::npos;
    const double deviation = residual ? 0.02 / std::sqrt(2.0 * static_cast<double>(c.layers)) : 0.02;
    const msg::random_stream stream{seed, msg::stream_of(p.name)};
    for (std::size_t i = 0; i < data.size(); ++i) {
      data[i] = static_cast<T>(deviation * msg::random_normal(stream, i));
    }
  }
}

template <class T>
[[nodiscard]] tensor_set<T> initial_parameters(const config& c, std::uint64_t seed) {
  tensor_set<T> result = make_parameters<T>(c);
  initialize(c, seed, result);
  return result;
}

} // namespace reference
