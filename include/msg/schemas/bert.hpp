// BERT, as a schema: Hugging Face names and storage (Linear is out x in), parameters stacked over layers.
#pragma once

#include <msg/schema.hpp>
#include <msg/schemas/axes.hpp>

#include <string>

MSG_NAMESPACE_BEGIN

/// Sizes of a BERT. heads * head_dim is independent of hidden.
struct bert_sizes {
  index vocab = 30522;
  index positions = 512;
  index types = 2; // token types: which of two sentences
  index hidden = 768;
  index ffn = 3072;
  index heads = 12;
  index head_dim = 64;
  index layers = 12;
};

/// Schema of a post-LN BERT with the heads it is pre-trained with: masked language model, its decoder tied to the word
/// embeddings, and next sentence. The `*` of a name stands for the layer number, the leading dimension.
///
/// The norm before the decoder has its gain and bias `in(hidden)`: they belong to the tied matrix' reading side, so
/// that a rule that copies hidden units divides them and the tied matrix stays tied.
/// Source: Devlin et al. 2019; names and shapes of transformers' BertForPreTraining.
[[nodiscard]] inline schema bert(const bert_sizes& sizes) {
  const auto [vocab, hidden, ffn, heads, head_dim, layers] = detail::axes_of(sizes);
  const axis positions{"positions", sizes.positions};
  const expression width = heads * head_dim;
  const std::string layer = "bert.encoder.layer.*.";
  schema s;
  s.weight("bert.embeddings.word_embeddings.weight", in(vocab), out(hidden));
  s.weight("bert.embeddings.position_embeddings.weight", in(positions), out(hidden));
  s.weight("bert.embeddings.token_type_embeddings.weight", in(sizes.types), out(hidden));
  s.norm_gain("bert.embeddings.LayerNorm.weight", out(hidden));
  s.norm_bias("bert.embeddings.LayerNorm.bias", out(hidden));
  for (const char* part : {"query", "key", "value"}) {
    s.weight(layer + "attention.self." + part + ".weight", each(layers), out(width), in(hidden));
    s.bias(layer + "attention.self." + part + ".bias", each(layers), out(width));
  }
  s.weight(layer + "attention.output.dense.weight", each(layers), out(hidden), in(width));
  s.bias(layer + "attention.output.dense.bias", each(layers), out(hidden));
  s.norm_gain(layer + "attention.output.LayerNorm.weight", each(layers), out(hidden));
  s.norm_bias(layer + "attention.output.LayerNorm.bias", each(layers), out(hidden));
  s.weight(layer + "intermediate.dense.weight", each(layers), out(ffn), in(hidden));
  s.bias(layer + "intermediate.dense.bias", each(layers), out(ffn));
  s.weight(layer + "output.dense.weight", each(layers), out(hidden), in(ffn));
  s.bias(layer + "output.dense.bias", each(layers), out(hidden));
  s.norm_gain(layer + "output.LayerNorm.weight", each(layers), out(hidden));
  s.norm_bias(layer + "output.LayerNorm.bias", each(layers), out(hidden));
  s.weight("bert.pooler.dense.weight", out(hidden), in(hidden));
  s.bias("bert.pooler.dense.bias", out(hidden));
  s.bias("cls.predictions.bias", out(vocab));
  s.weight("cls.predictions.transform.dense.weight", out(hidden), in(hidden));
  s.bias("cls.predictions.transform.dense.bias", out(hidden));
  s.norm_gain("cls.predictions.transform.LayerNorm.weight", in(hidden));
  s.norm_bias("cls.predictions.transform.LayerNorm.bias", in(hidden));
  s.weight("cls.seq_relationship.weight", out(2), in(hidden));
  s.bias("cls.seq_relationship.bias", out(2));
  s.normed(hidden, norm_kind::layer, norm_position::post).logits(vocab).scored(head_dim);
  for (const char* kind : {"weight", "bias"}) { s.keys(layer + "attention.self.key." + kind); }
  return s;
}

MSG_NAMESPACE_END
