// The three JSON documents of a checkpoint as plain structs: config.json, growth.json, trainer_state.json.
#pragma once

#include "transformer/json_file.hpp"
#include "transformer/schedule_file.hpp"

#include <msg/growth.hpp>

#include <cstdint>
#include <limits>
#include <map>
#include <string>
#include <utility>
#include <vector>

namespace reference {

inline constexpr msg::index most_size = std::numeric_limits<std::int32_t>::max();
inline constexpr msg::index most_count = std::numeric_limits<msg::index>::max();

/// What config.json says of a GPT-2 like model. `why` is empty where Hugging Face's class computes the same.
struct gpt2_config {
  msg::index vocab = 0, positions = 0, hidden = 0, ffn = 0, heads = 0, head_dim = 0, layers = 0;
  double layer_norm_epsilon = 1e-5;
  std::string why{};
};

/// Why no Hugging Face class can express the model, or nothing.
///
/// masks  mask value of each axis that is ramping; 1 says that the mask is open
[[nodiscard]] inline std::string why_not_plain(const gpt2_config& config,
                                               const std::vector<std::pair<std::string, double>>& masks) {
  std::string why;
  const auto add = [&](const std::string& reason) { why += (why.empty() ? "" : ", ") + reason; };
  if (config.hidden != config.heads * config.head_dim) {
    add("hidden " + std::to_string(config.hidden) + " is not heads " + std::to_string(config.heads) + " * head_dim " +
        std::to_string(config.head_dim));
  }
  for (const auto& [axis, value] : masks) {
    if (value < 1) { add(axis + " mask " + json(value).dump()); }
  }
  return why;
}

/// config.json with the keys of Hugging Face's GPT2Config (bos and eos: a byte-level model has none).
template <class T>
[[nodiscard]] json config_json(const gpt2_config& config) {
  const bool plain = config.why.empty();
  return {{"architectures", plain ? json::array({"GPT2LMHeadModel"}) : json::array()},
          {"model_type", plain ? "gpt2" : "msg_gpt2"},
          {"vocab_size", config.vocab},
          {"n_positions", config.positions},
          {"n_ctx", config.positions},
          {"n_embd", config.hidden},
          {"n_layer", config.layers},
          {"n_head", config.heads},
          {"n_inner", config.ffn},
          {"head_dim", config.head_dim},
          {"activation_function", "gelu_new"},
          {"layer_norm_epsilon", config.layer_norm_epsilon},
          {"initializer_range", 0.02},
          {"embd_pdrop", 0.0},
          {"attn_pdrop", 0.0},
          {"resid_pdrop", 0.0},
          {"scale_attn_weights", true},
          {"scale_attn_by_inverse_layer_idx", false},
          {"reorder_and_upcast_attn", false},
          {"tie_word_embeddings", true},
          {"bos_token_id", nullptr},
          {"eos_token_id", nullptr},
          {"torch_dtype", sizeof(T) == 8 ? "float64" : "float32"},
          {"msg", {{"version", 1}, {"plain", plain}, {"why", config.why}}}};
}

/// Reads what config_json() wrote, and the config.json of any GPT-2 the reference Transformer can compute; keys that
/// don't matter to it may be there. Throws input_error with every finding.
[[nodiscard]] inline gpt2_config read_config(const json& document, const std::string& file) {
  findings found(file);
  object_reader keys(document, "", found);
  static constexpr std::string_view types[] = {"gpt2", "msg_gpt2"};
  static constexpr std::string_view activations[] = {"gelu_new"};
  const bool plain = keys.word("model_type", types) == 0;
  gpt2_config config;
  config.vocab = keys.integer("vocab_size", 1, most_size);
  config.positions = keys.integer("n_positions", 1, most_size);
  config.hidden = keys.integer("n_embd", 1, most_size);
  config.layers = keys.integer("n_layer", 1, most_size);
  config.heads = keys.integer("n_head", 1, most_size);
  const json* inner = keys.find("n_inner"); // Hugging Face: null means 4 n_embd
  config.ffn = inner == nullptr || inner->is_null() ? 4 * config.hidden : keys.integer("n_inner", 1, most_size);
  config.head_dim = keys.integer("head_dim", 1, most_size, config.hidden / std::max(config.heads, msg::index{1}));
  config.layer_norm_epsilon = keys.number("layer_norm_epsilon", 0, 1, 1e-5);
  (void)keys.word("activation_function", activations, 0);
  if (!keys.boolean("scale_attn_weights", true) || keys.boolean("scale_attn_by_inverse_layer_idx", false)) {
    found.add("", "expected scale_attn_weights true and scale_attn_by_inverse_layer_idx false");
  }
  if (!keys.boolean("tie_word_embeddings", true)) { found.add("tie_word_embeddings", "expected true, found false"); }
  if (const json* own = keys.find("msg")) {
    object_reader inside(*own, "msg", found);
    (void)inside.integer("version", 1, 1);
    if (inside.boolean("plain") != plain && found.empty()) {
      found.add("msg.plain", plain ? "expected true for model_type gpt2" : "expected false for model_type msg_gpt2");
    }
    config.why = inside.text("why");
    inside.done();
  }
  if (found.empty() && plain && config.hidden != config.heads * config.head_dim) {
    found.add("n_embd", "expected n_head * head_dim = " + std::to_string(config.heads * config.head_dim) +
                            " for model_type gpt2, found " + std::to_string(config.hidden));
  }
  if (found.empty() && plain != config.why.empty()) {
    found.add("msg.why", "expected " + std::string{plain ? "nothing for model_type gpt2" : "a reason for msg_gpt2"} +
                             ", found '" + printable(config.why) + "'");
  }
  found.throw_if_any();
  return config;
}

inline constexpr std::array<std::string_view, 4> placement_names{"append", "prepend", "interleave", "given"};

/// growth.json: the log, as it stands before step `step`. A growth without a mask has the ramp null; the value of a
/// ramp is a matter of the step and isn't stored.
[[nodiscard]] inline json growth_json(const std::vector<msg::growth_record>& log, msg::index step) {
  json growths = json::array();
  for (const msg::growth_record& g : log) {
    growths.push_back({{"id", g.id},
                       {"axis", g.axis},
                       {"from", g.from},
                       {"to", g.to},
                       {"rule", g.rule},
                       {"placement", placement_names[static_cast<std::size_t>(g.placement)]},
                       {"at_step", g.at_step},
                       {"ramp", g.masked ? ramp_json(g.ramp) : json(nullptr)},
                       {"seed", g.seed},
                       {"done", g.done(step)}});
  }
  return {{"version", 1}, {"growths", growths}};
}

/// Reads what growth_json() wrote; an unknown key is an error. Whether the growths fit the model and each other is
/// for msg::growth_state to say. Throws input_error with every finding.
[[nodiscard]] inline std::vector<msg::growth_record> read_growth(const json& document, msg::index step,
                                                                 const std::string& file) {
  findings found(file);
  object_reader top(document, "", found);
  (void)top.integer("version", 1, 1);
  std::vector<msg::growth_record> log;
  each_element(top.require("growths"), "growths", found, [&](const json& element, const std::string& where) {
    object_reader keys(element, where, found);
    msg::growth_record g;
    g.id = keys.integer("id", 0, most_count);
    g.axis = keys.text("axis");
    g.from = keys.integer("from", 1, most_size);
    g.to = keys.integer("to", 1, most_size);
    g.rule = keys.text("rule");
    g.placement = static_cast<msg::placement::order>(keys.word("placement", placement_names));
    g.at_step = keys.integer("at_step", 0, most_count);
    g.seed = keys.unsigned_integer("seed");
    if (const json* ramp = keys.require("ramp"); ramp != nullptr && !ramp->is_null()) {
      g.masked = true;
      g.ramp = read_ramp(*ramp, where + ".ramp", found);
    }
    const bool done = keys.boolean("done");
    keys.done();
    if (found.empty() && done != g.done(step)) {
      found.add(where + ".done", std::string{"expected "} + (done ? "false" : "true") + " at step " +
                                     std::to_string(step) + ", found " + (done ? "true" : "false"));
    }
    log.push_back(std::move(g));
  });
  top.done();
  found.throw_if_any();
  return log;
}

/// trainer_state.json: where the run stands. `step` is the next step to run.
struct trainer_state {
  msg::index step = 0;
  msg::index tokens = 0;
  double flops = 0;
  double seconds = 0;
  msg::index next_stage = 0;     // first stage of the schedule that hasn't happened
  json schedule = nullptr;       // embedded; null: no growth
  json options = json::object(); // command-line options by name
  std::uint64_t seed = 0;
  std::map<std::string, std::uint64_t> counters{}; // of the random streams, by name
  std::string files_hash{};                        // of the training data
  msg::index epoch = 0;
  msg::index position = 0;
  msg::index threads = 0;
  std::string gemm{};
  std::string isa{};
  msg::index metrics_bytes = 0; // length of metrics.jsonl that belongs to this checkpoint
};

[[nodiscard]] inline json trainer_state_json(const trainer_state& state) {
  return {{"version", 1},
          {"step", state.step},
          {"tokens", state.tokens},
          {"flops", state.flops},
          {"seconds", state.seconds},
          {"next_stage", state.next_stage},
          {"schedule", state.schedule},
          {"options", state.options},
          {"seed", state.seed},
          {"counters", state.counters},
          {"data", {{"files_hash", state.files_hash}, {"epoch", state.epoch}, {"position", state.position}}},
          {"threads", state.threads},
          {"gemm", state.gemm},
          {"isa", state.isa},
          {"metrics_bytes", state.metrics_bytes}};
}

/// Reads what trainer_state_json() wrote. Throws input_error with every finding.
[[nodiscard]] inline trainer_state read_trainer_state(const json& document, const std::string& file) {
  findings found(file);
  object_reader keys(document, "", found);
  trainer_state state;
  constexpr double infinite = std::numeric_limits<double>::infinity();
  (void)keys.integer("version", 1, 1);
  state.step = keys.integer("step", 0, most_count);
  state.tokens = keys.integer("tokens", 0, most_count);
  state.flops = keys.number("flops", 0, infinite);
  state.seconds = keys.number("seconds", 0, infinite);
  state.next_stage = keys.integer("next_stage", 0, most_count);
  if (const json* schedule = keys.require("schedule")) { state.schedule = *schedule; }
  if (const json* options = keys.require("options")) {
    const object_reader checked(*options, "options", found); // which only says if it is no object
    state.options = checked.value();
  }
  state.seed = keys.unsigned_integer("seed");
  if (const json* counters = keys.require("counters")) {
    object_reader inside(*counters, "counters", found);
    if (counters->is_object()) {
      for (const auto& [name, value] : counters->items()) { state.counters[name] = inside.unsigned_integer(name); }
    }
  }
  if (const json* data = keys.require("data")) {
    object_reader inside(*data, "data", found);
    state.files_hash = inside.text("files_hash");
    state.epoch = inside.integer("epoch", 0, most_count);
    state.position = inside.integer("position", 0, most_count);
    inside.done();
  }
  state.threads = keys.integer("threads", 0, most_count);
  state.gemm = keys.text("gemm");
  state.isa = keys.text("isa");
  state.metrics_bytes = keys.integer("metrics_bytes", 0, most_count);
  keys.done();
  found.throw_if_any();
  return state;
}

/// Refuses a resume whose options would make another model or read other data: one line that lists them all. Options
/// that `matter` not may change; one that only one side has counts as changed.
inline void refuse_changed_options(const json& saved, const json& now, const std::vector<std::string>& matter,
                                   const std::string& file) {
  const auto text = [](const json& options, const std::string& name) {
    const auto entry = options.find(name);
    return entry == options.end() ? std::string{"not given"} : found_text(*entry);
  };
  std::string changed;
  for (const std::string& name : matter) {
    if (text(saved, name) == text(now, name) && saved.value(name, json{}) == now.value(name, json{})) { continue; }
    changed +=
        (changed.empty() ? "" : "; ") + ("--" + name) + " expected " + text(saved, name) + ", found " + text(now, name);
  }
  if (!changed.empty()) { throw input_error(file + ": cannot resume with changed options: " + changed); }
}

} // namespace reference
