// Llama, as a schema: Hugging Face names and storage (Linear is out x in), parameters stacked over layers.
#pragma once

#include <msg/schema.hpp>
#include <msg/schemas/axes.hpp>

#include <string>

MSG_NAMESPACE_BEGIN

/// Sizes of a Llama. heads * head_dim is independent of hidden; kv_heads divides heads, and each serves as many query
/// heads, its group.
struct llama_sizes {
  index vocab = 32000;
  index hidden = 4096;
  index ffn = 11008;
  index heads = 32;
  index kv_heads = 32;
  index head_dim = 128;
  index layers = 32;
  index experts = 0; // FFNs of a layer that a router chooses from (Mixtral); 0: one FFN, no router
  bool tied = false; // the head reads the token embedding
};

/// Schema of a Llama: RMSNorm before each sub-layer, rotary positions (which have no parameters), SwiGLU, grouped
/// queries, no biases. The `*` of a name stands for the layer number, the leading dimension.
///
/// With a tied head the final norm's gain is `in(hidden)`: it belongs to the head's reading side, so that a rule that
/// copies hidden units divides it and the tied matrix stays tied.
/// Source: Touvron et al. 2023; Jiang et al. 2024, Mixtral of experts; names and shapes of transformers'
/// LlamaForCausalLM and, with experts, MixtralForCausalLM, where the second `*` stands for the expert.
[[nodiscard]] inline schema llama(const llama_sizes& sizes) {
  const auto [vocab, hidden, ffn, heads, head_dim, layers] = detail::axes_of(sizes);
  const axis kv_heads{"kv_heads", sizes.kv_heads};
  const std::string layer = "model.layers.*.";
  schema s;
  s.weight("model.embed_tokens.weight", in(vocab), out(hidden));
  s.norm_gain(layer + "input_layernorm.weight", each(layers), out(hidden));
  s.weight(layer + "self_attn.q_proj.weight", each(layers), out(heads * head_dim), in(hidden));
  s.weight(layer + "self_attn.k_proj.weight", each(layers), out(kv_heads * head_dim), in(hidden));
  s.weight(layer + "self_attn.v_proj.weight", each(layers), out(kv_heads * head_dim), in(hidden));
  s.weight(layer + "self_attn.o_proj.weight", each(layers), out(hidden), in(heads * head_dim));
  s.norm_gain(layer + "post_attention_layernorm.weight", each(layers), out(hidden));
  if (sizes.experts == 0) {
    s.weight(layer + "mlp.gate_proj.weight", each(layers), out(ffn), in(hidden));
    s.weight(layer + "mlp.up_proj.weight", each(layers), out(ffn), in(hidden));
    s.weight(layer + "mlp.down_proj.weight", each(layers), out(hidden), in(ffn));
  } else {
    const axis experts{"experts", sizes.experts};
    const std::string expert = layer + "block_sparse_moe.experts.*.";
    s.weight(layer + "block_sparse_moe.gate.weight", each(layers), out(experts), in(hidden));
    s.weight(expert + "w1.weight", each(layers), each(experts), out(ffn), in(hidden)); // gate
    s.weight(expert + "w3.weight", each(layers), each(experts), out(ffn), in(hidden)); // up
    s.weight(expert + "w2.weight", each(layers), each(experts), out(hidden), in(ffn)); // down
    s.logits(experts);
  }
  s.norm_gain("model.norm.weight", sizes.tied ? in(hidden) : out(hidden));
  if (!sizes.tied) { s.weight("lm_head.weight", out(vocab), in(hidden)); }
  s.normed(hidden, norm_kind::rms).logits(vocab).grouped(heads, kv_heads);
  s.scored(head_dim).keys(layer + "self_attn.k_proj.weight").rotary(head_dim, rotary_layout::half_split);
  return s;
}

MSG_NAMESPACE_END
