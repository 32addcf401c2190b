// config.json of a checkpoint: the keys of Hugging Face's class for each architecture, and why it may not compute it.
#pragma once

#include "transformer/config.hpp"
#include "transformer/json_file.hpp"

#include <algorithm>
#include <array>
#include <cstdint>
#include <limits>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace reference {

inline constexpr msg::index most_size = std::numeric_limits<std::int32_t>::max();
inline constexpr msg::index most_count = std::numeric_limits<msg::index>::max();

/// What config.json says. `why` is empty where Hugging Face's class computes the same.
struct saved_config {
  config sizes{};
  std::string why{};
  std::int32_t pad = -1;            // id of the padding token (BERT), -1: none
  std::vector<float> norm_splits{}; // model_state::norm_splits
  double dropout = 0;               // as trained with; written, as that of a file is its trainer's business
};

/// The name of a parameter of the schema in model files. GPT-2's schema has the names of the model without its head.
[[nodiscard]] inline std::string stored_name(architecture arch, const std::string& name) {
  return arch == architecture::gpt2 ? "transformer." + name : name;
}

/// Why no Hugging Face class can express the model, or nothing.
///
/// masks     mask value of each axis that is ramping; 1 says that the mask is open
/// weighted  norms weight their statistics
[[nodiscard]] inline std::string
why_not_plain(const config& c, const std::vector<std::pair<std::string, double>>& masks, bool weighted = false) {
  std::string why;
  const auto add = [&](const std::string& reason) { why += (why.empty() ? "" : ", ") + reason; };
  const auto text = [](msg::index size) { return std::to_string(size); };
  if (c.arch == architecture::llama) { // has a head_dim of its own, but transformers' LlamaConfig checks this
    if (c.hidden % c.heads != 0) { add("hidden " + text(c.hidden) + " is no multiple of heads " + text(c.heads)); }
  } else if (c.hidden != c.heads * c.head_dim) {
    add("hidden " + text(c.hidden) + " is not heads " + text(c.heads) + " * head_dim " + text(c.head_dim));
  }
  for (const auto& [axis, value] : masks) {
    if (value < 1) { add(axis + " mask " + json(value).dump()); }
  }
  if (weighted) { add("norm statistics weighted by the shares of copied units"); }
  return why;
}

namespace detail {

// Byte-level models have no begin and no end; where a tokenizer has them, who samples says so.
[[nodiscard]] inline json gpt2_keys(const config& c, double dropout) {
  return {{"vocab_size", c.vocab},
          {"n_positions", c.positions},
          {"n_ctx", c.positions},
          {"n_embd", c.hidden},
          {"n_layer", c.layers},
          {"n_head", c.heads},
          {"n_inner", c.ffn},
          {"head_dim", c.head_dim},
          {"activation_function", "gelu_new"},
          {"layer_norm_epsilon", c.norm_eps},
          {"embd_pdrop", dropout},
          {"attn_pdrop", dropout},
          {"resid_pdrop", dropout},
          {"scale_attn_weights", true},
          {"scale_attn_by_inverse_layer_idx", false},
          {"reorder_and_upcast_attn", false},
          {"bos_token_id", nullptr},
          {"eos_token_id", nullptr}};
}
[[nodiscard]] inline json bert_keys(const config& c, std::int32_t pad, double dropout) {
  return {{"vocab_size", c.vocab},
          {"max_position_embeddings", c.positions},
          {"type_vocab_size", c.types},
          {"hidden_size", c.hidden},
          {"num_hidden_layers", c.layers},
          {"num_attention_heads", c.heads},
          {"intermediate_size", c.ffn},
          {"head_dim", c.head_dim},
          {"hidden_act", "gelu"},
          {"layer_norm_eps", c.norm_eps},
          {"position_embedding_type", "absolute"},
          {"pad_token_id", pad >= 0 ? json(pad) : json(nullptr)},
          {"hidden_dropout_prob", dropout},
          {"attention_probs_dropout_prob", dropout},
          {"classifier_dropout", nullptr}};
}
[[nodiscard]] inline json llama_keys(const config& c, double dropout) {
  json keys = {{"vocab_size", c.vocab},
               {"max_position_embeddings", c.positions},
               {"hidden_size", c.hidden},
               {"num_hidden_layers", c.layers},
               {"num_attention_heads", c.heads},
               {"num_key_value_heads", kv_heads_of(c)},
               {"intermediate_size", c.ffn},
               {"head_dim", c.head_dim},
               {"hidden_act", "silu"},
               {"rms_norm_eps", c.norm_eps},
               {"rope_theta", c.rope_theta}, // transformers 4
               {"rope_scaling", nullptr},
               {"rope_parameters", {{"rope_type", "default"}, {"rope_theta", c.rope_theta}}}, // transformers 5
               {"attention_dropout", dropout},
               {"bos_token_id", nullptr},
               {"eos_token_id", nullptr}};
  if (c.experts == 0) {
    keys.update({{"attention_bias", false}, {"mlp_bias", false}, {"pretraining_tp", 1}});
  } else { // no loss but that of the tokens
    keys.update({{"num_local_experts", c.experts},
                 {"num_experts_per_tok", c.chosen},
                 {"output_router_logits", false},
                 {"router_aux_loss_coef", 0.0},
                 {"router_jitter_noise", 0.0},
                 {"sliding_window", nullptr}});
  }
  return keys;
}

/// What Hugging Face calls a model: model_type, its class, and the architecture here.
struct model_kind {
  std::string_view type;
  std::string_view class_name;
  architecture arch;
};
inline constexpr std::array<model_kind, 4> model_kinds{{{"gpt2", "GPT2LMHeadModel", architecture::gpt2},
                                                        {"bert", "BertForPreTraining", architecture::bert},
                                                        {"llama", "LlamaForCausalLM", architecture::llama},
                                                        {"mixtral", "MixtralForCausalLM", architecture::llama}}};

[[nodiscard]] inline const model_kind& kind_of(const config& c) {
  return model_kinds[c.experts > 0 ? 3 : static_cast<std::size_t>(c.arch)];
}

// Values that would make another model: each is a finding.
inline void expect_value(object_reader& keys, std::string_view key, const json& expected) {
  const json* found = keys.find(key);
  if (found == nullptr || found->is_null() || *found == expected) { return; }
  keys.found().add(keys.path(key), "expected " + found_text(expected) + ", found " + found_text(*found));
}

inline void read_gpt2(object_reader& keys, config& c) {
  c.positions = keys.integer("n_positions", 1, most_size);
  c.hidden = keys.integer("n_embd", 1, most_size);
  c.layers = keys.integer("n_layer", 1, most_size);
  c.heads = keys.integer("n_head", 1, most_size);
  const json* inner = keys.find("n_inner"); // Hugging Face: null means 4 n_embd
  c.ffn = inner == nullptr || inner->is_null() ? 4 * c.hidden : keys.integer("n_inner", 1, most_size);
  c.norm_eps = keys.number("layer_norm_epsilon", 0, 1, 1e-5);
  static constexpr std::string_view activations[] = {"gelu_new"};
  (void)keys.word("activation_function", activations, 0);
  if (!keys.boolean("scale_attn_weights", true) || keys.boolean("scale_attn_by_inverse_layer_idx", false)) {
    keys.found().add("", "expected scale_attn_weights true and scale_attn_by_inverse_layer_idx false");
  }
}
inline void read_bert(object_reader& keys, config& c) {
  c.positions = keys.integer("max_position_embeddings", 1, most_size);
  c.types = keys.integer("type_vocab_size", 1, most_size, 2);
  c.hidden = keys.integer("hidden_size", 1, most_size);
  c.layers = keys.integer("num_hidden_layers", 1, most_size);
  c.heads = keys.integer("num_attention_heads", 1, most_size);
  c.ffn = keys.integer("intermediate_size", 1, most_size);
  c.norm_eps = keys.number("layer_norm_eps", 0, 1, 1e-12);
  expect_value(keys, "hidden_act", "gelu");
  expect_value(keys, "position_embedding_type", "absolute");
}
inline void read_llama(object_reader& keys, config& c, bool mixture) {
  c.positions = keys.integer("max_position_embeddings", 1, most_size);
  c.hidden = keys.integer("hidden_size", 1, most_size);
  c.layers = keys.integer("num_hidden_layers", 1, most_size);
  c.heads = keys.integer("num_attention_heads", 1, most_size);
  const json* groups = keys.find("num_key_value_heads"); // null: as many as heads
  c.kv_heads = groups == nullptr || groups->is_null() ? c.heads : keys.integer("num_key_value_heads", 1, most_size);
  if (c.kv_heads == c.heads) { c.kv_heads = 0; }
  c.ffn = keys.integer("intermediate_size", 1, most_size);
  c.norm_eps = keys.number("rms_norm_eps", 0, 1, 1e-6);
  c.rope_theta = keys.number("rope_theta", 1, 1e12, 10000.0);
  if (mixture) {
    c.experts = keys.integer("num_local_experts", 1, most_size);
    c.chosen = keys.integer("num_experts_per_tok", 1, c.experts, std::min<msg::index>(2, c.experts));
    expect_value(keys, "sliding_window", nullptr);
    expect_value(keys, "router_jitter_noise", 0.0);
  }
  expect_value(keys, "hidden_act", "silu");
  expect_value(keys, "attention_bias", false);
  expect_value(keys, "mlp_bias", false);
  if (const json* scaling = keys.find("rope_scaling"); scaling != nullptr && !scaling->is_null()) {
    keys.found().add("rope_scaling", "expected null (plain rotary positions), found " + found_text(*scaling));
  }
  if (const json* rope = keys.find("rope_parameters"); rope != nullptr && !rope->is_null()) {
    object_reader inside(*rope, "rope_parameters", keys.found());
    c.rope_theta = inside.number("rope_theta", 1, 1e12, c.rope_theta);
    expect_value(inside, "rope_type", "default");
  }
}

// One share in (0, 1] for each hidden unit.
[[nodiscard]] inline std::vector<float> read_splits(const json& value, msg::index hidden, const std::string& where,
                                                    findings& found) {
  std::vector<float> splits;
  const bool fits = value.is_array() && static_cast<msg::index>(value.size()) == hidden &&
                    std::all_of(value.begin(), value.end(), [](const json& share) {
                      return share.is_number() && share.get<double>() > 0 && share.get<double>() <= 1;
                    });
  if (!fits) {
    found.add(where, "expected " + std::to_string(hidden) + " numbers in (0, 1], found " + found_text(value));
    return splits;
  }
  for (const json& share : value) { splits.push_back(share.get<float>()); }
  return splits;
}

} // namespace detail

/// config.json with the keys of Hugging Face's class. Where that cannot compute the model, model_type is msg_gpt2 and
/// the like, and the reason stands in msg.why.
template <class T>
[[nodiscard]] json config_json(const saved_config& saved) {
  const config& c = saved.sizes;
  const bool plain = saved.why.empty();
  json document = c.arch == architecture::bert    ? detail::bert_keys(c, saved.pad, saved.dropout)
                  : c.arch == architecture::llama ? detail::llama_keys(c, saved.dropout)
                                                  : detail::gpt2_keys(c, saved.dropout);
  json classes = json::array();
  const detail::model_kind& kind = detail::kind_of(c);
  if (plain) { classes.push_back(kind.class_name); }
  document["architectures"] = classes;
  document["model_type"] = (plain ? "" : "msg_") + std::string(kind.type);
  document["initializer_range"] = c.initializer_range;
  document["tie_word_embeddings"] = c.tied;
  document["torch_dtype"] = sizeof(T) == 8 ? "float64" : "float32";
  document["msg"] = {{"version", 1}, {"plain", plain}, {"why", saved.why}};
  if (!saved.norm_splits.empty()) { document["msg"]["norm_splits"] = saved.norm_splits; }
  return document;
}

/// Reads what config_json() wrote, and the config.json of any model the reference Transformer can compute; keys that
/// don't matter to it may be there. Throws input_error with every finding.
[[nodiscard]] inline saved_config read_config(const json& document, const std::string& file) {
  findings found(file);
  object_reader keys(document, "", found);
  static constexpr std::string_view types[] = {"gpt2",     "bert",     "llama",     "mixtral",
                                               "msg_gpt2", "msg_bert", "msg_llama", "msg_mixtral"};
  const std::size_t type = keys.word("model_type", types);
  const bool plain = type < detail::model_kinds.size();
  const detail::model_kind& kind = detail::model_kinds[type % detail::model_kinds.size()];
  const std::string arch{kind.type};
  saved_config saved;
  config& c = saved.sizes;
  c = defaults_of(kind.arch);
  if (!found.empty()) { found.throw_if_any(); } // what the other keys mean is not known
  c.vocab = keys.integer("vocab_size", 1, most_size);
  c.initializer_range = keys.number("initializer_range", 0, std::numeric_limits<double>::max(), c.initializer_range);
  switch (c.arch) {
    case architecture::gpt2: detail::read_gpt2(keys, c); break;
    case architecture::bert: detail::read_bert(keys, c); break;
    case architecture::llama: detail::read_llama(keys, c, kind.type == "mixtral"); break;
  }
  const json* head_dim = keys.find("head_dim");
  c.head_dim = head_dim == nullptr || head_dim->is_null() ? c.hidden / std::max(c.heads, msg::index{1})
                                                          : keys.integer("head_dim", 1, most_size);
  const bool tied = keys.boolean("tie_word_embeddings", c.tied);
  if (c.arch != architecture::llama && !tied) { found.add("tie_word_embeddings", "expected true, found false"); }
  c.tied = tied;
  if (const json* pad = keys.find("pad_token_id"); pad != nullptr && !pad->is_null() && c.arch == architecture::bert) {
    saved.pad = static_cast<std::int32_t>(keys.integer("pad_token_id", 0, most_size));
  }
  if (const json* own = keys.find("msg")) {
    object_reader inside(*own, "msg", found);
    (void)inside.integer("version", 1, 1);
    if (inside.boolean("plain") != plain && found.empty()) {
      found.add("msg.plain",
                plain ? "expected true for model_type " + arch : "expected false for model_type msg_" + arch);
    }
    saved.why = inside.text("why");
    if (const json* splits = inside.find("norm_splits")) {
      saved.norm_splits = detail::read_splits(*splits, c.hidden, "msg.norm_splits", found);
    }
    inside.done();
  }
  if (found.empty() && plain && c.arch != architecture::llama && c.hidden != c.heads * c.head_dim) {
    const bool gpt = c.arch == architecture::gpt2;
    found.add(gpt ? "n_embd" : "hidden_size", std::string{"expected "} + (gpt ? "n_head" : "num_attention_heads") +
                                                  " * head_dim = " + std::to_string(c.heads * c.head_dim) +
                                                  " for model_type " + arch + ", found " + std::to_string(c.hidden));
  }
  if (found.empty() && plain != saved.why.empty()) {
    found.add("msg.why", "expected " + (plain ? "nothing for model_type " + arch : "a reason for msg_" + arch) +
                             ", found '" + printable(saved.why) + "'");
  }
  found.throw_if_any();
  return saved;
}

} // namespace reference
