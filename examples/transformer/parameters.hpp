// Where the model finds its parameters: names by architecture, pointers into a set, by layer.
#pragma once

#include "transformer/config.hpp"
#include "transformer/projection.hpp"

#include <msg/config.hpp>
#include <msg/error.hpp>
#include <msg/schema.hpp>

#include <algorithm>
#include <array>
#include <initializer_list>
#include <span>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

namespace reference {

/// What an architecture calls the parts of the model, without .weight and .bias; null where it has none.
struct part_names {
  const char* words;
  const char* places;
  const char* types;
  const char* embedding_norm;
  const char* norm_1;             // before attention, or behind its residual
  std::array<const char*, 3> qkv; // one name where they are fused
  const char* attention_out;
  const char* norm_2;                // before the FFN, or behind its residual
  std::array<const char*, 2> ffn_in; // gate and up, or one
  const char* ffn_out;
  const char* router;     // in place of the FFN: experts, each like it
  const char* transform;  // before the last norm, with an activation
  const char* final_norm; // what the head reads
  const char* head;       // null: words
  const char* head_bias;  // a parameter's whole name
  const char* pooler;
  const char* next_sentence;
};

[[nodiscard]] inline part_names names_of(const config& c) {
  const bool mixture = c.experts > 0;
  switch (c.arch) {
    case architecture::bert:
      return {.words = "bert.embeddings.word_embeddings",
              .places = "bert.embeddings.position_embeddings",
              .types = "bert.embeddings.token_type_embeddings",
              .embedding_norm = "bert.embeddings.LayerNorm",
              .norm_1 = "bert.encoder.layer.*.attention.output.LayerNorm",
              .qkv = {"bert.encoder.layer.*.attention.self.query", "bert.encoder.layer.*.attention.self.key",
                      "bert.encoder.layer.*.attention.self.value"},
              .attention_out = "bert.encoder.layer.*.attention.output.dense",
              .norm_2 = "bert.encoder.layer.*.output.LayerNorm",
              .ffn_in = {"bert.encoder.layer.*.intermediate.dense"},
              .ffn_out = "bert.encoder.layer.*.output.dense",
              .router = nullptr,
              .transform = "cls.predictions.transform.dense",
              .final_norm = "cls.predictions.transform.LayerNorm",
              .head = nullptr,
              .head_bias = "cls.predictions.bias",
              .pooler = "bert.pooler.dense",
              .next_sentence = "cls.seq_relationship"};
    case architecture::llama:
      return {.words = "model.embed_tokens",
              .places = nullptr,
              .types = nullptr,
              .embedding_norm = nullptr,
              .norm_1 = "model.layers.*.input_layernorm",
              .qkv = {"model.layers.*.self_attn.q_proj", "model.layers.*.self_attn.k_proj",
                      "model.layers.*.self_attn.v_proj"},
              .attention_out = "model.layers.*.self_attn.o_proj",
              .norm_2 = "model.layers.*.post_attention_layernorm",
              .ffn_in = {mixture ? "model.layers.*.block_sparse_moe.experts.*.w1" : "model.layers.*.mlp.gate_proj",
                         mixture ? "model.layers.*.block_sparse_moe.experts.*.w3" : "model.layers.*.mlp.up_proj"},
              .ffn_out = mixture ? "model.layers.*.block_sparse_moe.experts.*.w2" : "model.layers.*.mlp.down_proj",
              .router = mixture ? "model.layers.*.block_sparse_moe.gate" : nullptr,
              .transform = nullptr,
              .final_norm = "model.norm",
              .head = c.tied ? nullptr : "lm_head",
              .head_bias = nullptr,
              .pooler = nullptr,
              .next_sentence = nullptr};
    case architecture::gpt2: break;
  }
  return {.words = "wte",
          .places = "wpe",
          .types = nullptr,
          .embedding_norm = nullptr,
          .norm_1 = "h.*.ln_1",
          .qkv = {"h.*.attn.c_attn"},
          .attention_out = "h.*.attn.c_proj",
          .norm_2 = "h.*.ln_2",
          .ffn_in = {"h.*.mlp.c_fc"},
          .ffn_out = "h.*.mlp.c_proj",
          .router = nullptr,
          .transform = nullptr,
          .final_norm = "ln_f",
          .head = nullptr,
          .head_bias = nullptr,
          .pooler = nullptr,
          .next_sentence = nullptr};
}

template <class T>
struct norm_pointers {
  T* gain = nullptr; // (C)
  T* bias = nullptr; // (C), or null: RMSNorm
};

template <class T>
struct ffn_pointers {
  projection<T> in, out;
};

template <class T>
struct layer_pointers {
  norm_pointers<T> norm_1, norm_2;
  projection<T> qkv, attention_out;
  projection<T> router;              // none where there is one FFN
  std::vector<ffn_pointers<T>> ffns; // the FFN, or one for each expert
};

/// Pointers into a set of parameters, or of gradients; null where the architecture has no such part.
template <class T>
struct model_pointers {
  T* words = nullptr;  // (V, C)
  T* places = nullptr; // (P, C)
  T* types = nullptr;
  norm_pointers<T> embedding_norm;
  std::vector<layer_pointers<T>> layers;
  projection<T> transform;
  norm_pointers<T> final_norm;
  projection<T> head; // the token embedding where it is tied
  projection<T> pooler, next_sentence;
};

namespace detail {

/// Finds parts of a model in a set that has been checked.
template <class T, class Set>
class binder {
public:
  binder(const msg::schema& schema, Set& set) : schema_(schema), set_(set) {}

  /// Elements of one layer and expert, or null where there is no such parameter.
  [[nodiscard]] T* find(const std::string& name, index layer, index expert) const {
    auto* const found = set_.find(name);
    if (found == nullptr) { return nullptr; }
    const std::vector<msg::dimension>& dims = schema_.at(name).dims;
    const index slices[] = {layer, expert};
    index offset = 0;
    index size = found->size();
    for (std::size_t d = 0; d < dims.size() && dims[d].what == msg::role::each; ++d) {
      size /= dims[d].size();
      offset += slices[d] * size;
    }
    return found->data.data() + offset;
  }
  [[nodiscard]] T* find(const char* part, const char* kind, index layer = 0, index expert = 0) const {
    return part == nullptr ? nullptr : find(std::string(part) + kind, layer, expert);
  }
  [[nodiscard]] norm_pointers<T> norm(const char* part, index layer = 0) const {
    return {find(part, ".weight", layer), find(part, ".bias", layer)};
  }
  /// How the matrices are stored, and what in them grows on its own, is what the schema says.
  [[nodiscard]] projection<T> linear(std::span<const char* const> parts, index layer = 0, index expert = 0) const {
    projection<T> w;
    for (const char* const part : parts) {
      if (part == nullptr) { continue; }
      const std::vector<msg::dimension>& dims = schema_.at(std::string(part) + ".weight").dims;
      const msg::dimension& last = dims[dims.size() - 1];
      const msg::dimension& before = dims[dims.size() - 2];
      w.in_out = last.what == msg::role::out;
      const msg::dimension& out = w.in_out ? last : before;
      const std::vector<msg::factor>& factors = out.extent.terms.front().factors;
      w.pieces = factors.size() > 1 && factors.front().axis.empty() ? factors.front().size : 1;
      w.in = (w.in_out ? before : last).size();
      w.add({find(part, ".weight", layer, expert), find(part, ".bias", layer, expert), out.size()});
    }
    return w;
  }
  [[nodiscard]] projection<T> linear(const char* part, index layer = 0, index expert = 0) const {
    return linear(std::span<const char* const>(&part, 1), layer, expert);
  }

private:
  const msg::schema& schema_;
  Set& set_;
};

/// Throws msg::error, naming every parameter missing or of another shape.
template <class Set>
void check_set(const msg::schema& schema, const Set& set) {
  std::vector<msg::diagnostic> findings;
  const auto text = [](const std::vector<index>& shape) {
    std::string result;
    for (const index extent : shape) { result += (result.empty() ? "(" : ", ") + std::to_string(extent); }
    return result + ")";
  };
  for (const msg::parameter& p : schema.parameters()) {
    const auto* const t = set.find(p.name);
    const std::vector<index> shape = p.shape();
    if (t == nullptr) {
      findings.push_back({.code = msg::errc::unknown_parameter, .parameter = p.name});
    } else if (t->shape != shape) {
      findings.push_back(
          {.code = msg::errc::shape_mismatch, .parameter = p.name, .expected = text(shape), .found = text(t->shape)});
    }
  }
  if (!findings.empty()) { throw msg::error(std::move(findings)); }
}

} // namespace detail

/// Finds the parameters of a config in a set, by name. Throws msg::error, naming every one missing or of another shape.
template <class T, class Set>
[[nodiscard]] model_pointers<T> bind(const config& c, const msg::schema& schema, Set& set) {
  detail::check_set(schema, set);
  const detail::binder<T, Set> in(schema, set);
  const part_names names = names_of(c);
  model_pointers<T> p;
  p.words = in.find(names.words, ".weight");
  p.places = in.find(names.places, ".weight");
  p.types = in.find(names.types, ".weight");
  p.embedding_norm = in.norm(names.embedding_norm);
  for (index l = 0; l < c.layers; ++l) {
    p.layers.push_back({in.norm(names.norm_1, l),
                        in.norm(names.norm_2, l),
                        in.linear(names.qkv, l),
                        in.linear(names.attention_out, l),
                        in.linear(names.router, l),
                        {}});
    for (index e = 0; e < std::max<index>(c.experts, 1); ++e) {
      p.layers.back().ffns.push_back({in.linear(names.ffn_in, l, e), in.linear(names.ffn_out, l, e)});
    }
  }
  p.transform = in.linear(names.transform);
  p.final_norm = in.norm(names.final_norm);
  p.head.in = c.hidden;
  p.head.add({names.head == nullptr ? p.words : in.find(names.head, ".weight"), in.find(names.head_bias, ""), c.vocab});
  p.pooler = in.linear(names.pooler);
  p.next_sentence = in.linear(names.next_sentence);
  return p;
}

} // namespace reference
