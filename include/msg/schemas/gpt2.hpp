// GPT-2, as a schema: Hugging Face names and storage (Conv1D is in x out), parameters stacked over layers.
#pragma once

#include <msg/schema.hpp>
#include <msg/schemas/axes.hpp>

#include <string>

MSG_NAMESPACE_BEGIN

/// Sizes of a GPT-2. heads * head_dim is independent of hidden.
struct gpt2_sizes {
  index vocab = 50257;
  index positions = 1024;
  index hidden = 768;
  index ffn = 3072;
  index heads = 12;
  index head_dim = 64;
  index layers = 12;
};

/// Schema of a pre-LN GPT-2 with learned positions and tied head. The `*` of a name stands for the layer number, the
/// leading dimension; a trainer with one tensor per layer uses plan[name].at(layer).
///
/// The final norm's gain and bias are `in(hidden)`: they belong to the tied head's reading side, so that a rule that
/// copies hidden units divides them and the tied matrix stays tied.
/// Source: Radford et al. 2019; names and shapes of transformers' GPT2LMHeadModel.
[[nodiscard]] inline schema gpt2(const gpt2_sizes& sizes) {
  const auto [vocab, hidden, ffn, heads, head_dim, layers] = detail::axes_of(sizes);
  const axis positions{"positions", sizes.positions};
  const expression width = heads * head_dim;
  schema s;
  s.weight("wte.weight", in(vocab), out(hidden));
  s.weight("wpe.weight", in(positions), out(hidden));
  s.norm_gain("h.*.ln_1.weight", each(layers), out(hidden));
  s.norm_bias("h.*.ln_1.bias", each(layers), out(hidden));
  s.weight("h.*.attn.c_attn.weight", each(layers), in(hidden), out(3 * width));
  s.bias("h.*.attn.c_attn.bias", each(layers), out(3 * width));
  s.weight("h.*.attn.c_proj.weight", each(layers), in(width), out(hidden));
  s.bias("h.*.attn.c_proj.bias", each(layers), out(hidden));
  s.norm_gain("h.*.ln_2.weight", each(layers), out(hidden));
  s.norm_bias("h.*.ln_2.bias", each(layers), out(hidden));
  s.weight("h.*.mlp.c_fc.weight", each(layers), in(hidden), out(ffn));
  s.bias("h.*.mlp.c_fc.bias", each(layers), out(ffn));
  s.weight("h.*.mlp.c_proj.weight", each(layers), in(ffn), out(hidden));
  s.bias("h.*.mlp.c_proj.bias", each(layers), out(hidden));
  s.norm_gain("ln_f.weight", in(hidden));
  s.norm_bias("ln_f.bias", in(hidden));
  s.normed(hidden).logits(vocab).scored(head_dim);
  for (const char* kind : {"weight", "bias"}) { s.keys(std::string("h.*.attn.c_attn.") + kind, 1); }
  return s;
}

MSG_NAMESPACE_END
