// config.json, growth.json and trainer_state.json: their keys, and what is said of documents that don't fit.
#include "support/catch.hpp"
#include "support/files_checkpoint.hpp"

#include <string>
#include <vector>

using namespace reference;
using namespace files_test;

namespace {
[[nodiscard]] saved_config small_gpt2() {
  return {{.vocab = 256, .positions = 128, .hidden = 192, .ffn = 512, .heads = 6, .head_dim = 32, .layers = 4}};
}
[[nodiscard]] saved_config small_bert() {
  saved_config saved = small_gpt2();
  saved.sizes.arch = architecture::bert;
  saved.sizes.vocab = 260;
  saved.sizes.norm_eps = 1e-12;
  saved.pad = 256;
  return saved;
}
[[nodiscard]] saved_config small_llama() {
  saved_config saved = small_gpt2();
  saved.sizes.arch = architecture::llama;
  saved.sizes.kv_heads = 2;
  saved.sizes.tied = false;
  return saved;
}
[[nodiscard]] std::string config_refusal(const json& change, const saved_config& good = small_gpt2()) {
  json document = config_json<float>(good);
  document.merge_patch(change);
  return input_message([&] { (void)read_config(document, "config.json"); });
}
[[nodiscard]] std::string growth_refusal(const json& change) {
  json document = growth_json(tiny_checkpoint<float>(1).documents.growths, 10);
  document["growths"][0].merge_patch(change);
  return input_message([&] { (void)read_growth(document, 10, "growth.json"); });
}
[[nodiscard]] std::string state_refusal(const json& change) {
  json document = trainer_state_json(tiny_checkpoint<float>(1).documents.state);
  document.merge_patch(change);
  return input_message([&] { (void)read_trainer_state(document, "trainer_state.json"); });
}
} // namespace

TEST_CASE("a model that Hugging Face's GPT-2 can express is saved as gpt2", "[checkpoint][config]") {
  const json document = config_json<float>(small_gpt2());
  CHECK(document == json::parse(R"({"architectures": ["GPT2LMHeadModel"], "model_type": "gpt2", "vocab_size": 256,
    "n_positions": 128, "n_ctx": 128, "n_embd": 192, "n_layer": 4, "n_head": 6, "n_inner": 512, "head_dim": 32,
    "activation_function": "gelu_new", "layer_norm_epsilon": 1e-5, "initializer_range": 0.02, "embd_pdrop": 0.0,
    "attn_pdrop": 0.0, "resid_pdrop": 0.0, "scale_attn_weights": true, "scale_attn_by_inverse_layer_idx": false,
    "reorder_and_upcast_attn": false, "tie_word_embeddings": true, "bos_token_id": null, "eos_token_id": null,
    "torch_dtype": "float32", "msg": {"version": 1, "plain": true, "why": ""}})"));
  CHECK(config_json<double>(small_gpt2())["torch_dtype"] == "float64");
}

TEST_CASE("a model that it cannot express is saved as msg_gpt2 with the reason", "[checkpoint][config]") {
  saved_config config = small_gpt2();
  CHECK(why_not_plain(config.sizes, {}).empty());
  CHECK(why_not_plain(config.sizes, {{"ffn", 1.0}}).empty());
  CHECK(why_not_plain(config.sizes, {{"ffn", 0.4}, {"heads", 1.0}, {"layers", 0.0}}) ==
        "ffn mask 0.4, layers mask 0.0");
  config.sizes.hidden = 96;
  config.why = why_not_plain(config.sizes, {{"ffn", 0.4}});
  CHECK(config.why == "hidden 96 is not heads 6 * head_dim 32, ffn mask 0.4");
  const json document = config_json<float>(config);
  CHECK(document["model_type"] == "msg_gpt2");
  CHECK(document["architectures"] == json::array());
  CHECK(document["msg"] == json{{"version", 1}, {"plain", false}, {"why", config.why}});
  CHECK(read_config(document, "config.json").why == config.why);
}

TEST_CASE("a config of Hugging Face, with its defaults and further keys, is read", "[checkpoint][config]") {
  const config sizes =
      read_config(
          json::parse(R"({"model_type": "gpt2", "vocab_size": 50257, "n_positions": 1024, "n_embd": 768, "n_layer": 12,
                      "n_head": 12, "n_inner": null, "activation_function": "gelu_new", "task_specific_params": {}})"),
          "config.json")
          .sizes;
  CHECK(sizes.ffn == 3072);
  CHECK(sizes.head_dim == 64);
  CHECK(sizes.norm_eps == 1e-5);
  const config bert = read_config(json::parse(R"({"model_type": "bert", "vocab_size": 30522, "hidden_size": 768,
    "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072, "hidden_act": "gelu",
    "max_position_embeddings": 512, "type_vocab_size": 2, "pad_token_id": 0, "gradient_checkpointing": false})"),
                                  "config.json")
                          .sizes;
  CHECK(bert.arch == architecture::bert);
  CHECK(bert.head_dim == 64);
  CHECK(bert.norm_eps == 1e-12);
  const config llama = read_config(json::parse(R"({"model_type": "llama", "vocab_size": 49152, "hidden_size": 576,
    "num_hidden_layers": 30, "num_attention_heads": 9, "num_key_value_heads": 3, "intermediate_size": 1536,
    "hidden_act": "silu", "max_position_embeddings": 2048, "rms_norm_eps": 1e-5, "tie_word_embeddings": true,
    "rope_theta": 100000.0, "rope_scaling": null, "eos_token_id": [1, 2]})"),
                                   "config.json")
                           .sizes;
  CHECK(llama.arch == architecture::llama);
  CHECK(llama.kv_heads == 3);
  CHECK(llama.tied);
  CHECK(llama.rope_theta == 100000);
}

TEST_CASE("a config that the model cannot follow is refused", "[checkpoint][config]") {
  CHECK(config_refusal({{"model_type", "mamba"}}) ==
        "config.json: model_type: expected gpt2, bert, llama, mixtral, msg_gpt2, msg_bert, msg_llama or "
        "msg_mixtral, found \"mamba\"");
  CHECK(config_refusal({{"activation_function", "relu"}}) ==
        "config.json: activation_function: expected gelu_new, found \"relu\"");
  CHECK(config_refusal({{"n_embd", 0}, {"n_layer", nullptr}}) ==
        "config.json: n_embd: expected an integer from 1 to 2147483647, found 0; missing key 'n_layer'");
  CHECK(config_refusal({{"n_head", 2147483648}}) ==
        "config.json: n_head: expected an integer from 1 to 2147483647, found 2147483648");
  CHECK(config_refusal({{"tie_word_embeddings", false}}) ==
        "config.json: tie_word_embeddings: expected true, found false");
  CHECK(config_refusal({{"scale_attn_weights", false}}) ==
        "config.json: expected scale_attn_weights true and scale_attn_by_inverse_layer_idx false");
  CHECK(config_refusal({{"n_embd", 96}}) ==
        "config.json: n_embd: expected n_head * head_dim = 192 for model_type gpt2, found 96");
  CHECK(config_refusal({{"msg", {{"version", 2}}}}) ==
        "config.json: msg.version: expected an integer from 1 to 1, found 2");
  CHECK(config_refusal({{"msg", {{"extra", 2}}}}) ==
        "config.json: msg: unknown key 'extra' (known: version, plain, why, norm_splits)");
  CHECK(config_refusal({{"msg", {{"why", "ffn mask 0.5"}}}}) ==
        "config.json: msg.why: expected nothing for model_type gpt2, found 'ffn mask 0.5'");
  CHECK(config_refusal({{"msg", {{"plain", false}}}}) == "config.json: msg.plain: expected true for model_type gpt2");
  CHECK(config_refusal({{"model_type", "msg_gpt2"}, {"msg", {{"plain", false}}}}) ==
        "config.json: msg.why: expected a reason for msg_gpt2, found ''");
}

TEST_CASE("BERT and Llama are saved with the keys of their classes and come back", "[checkpoint][config]") {
  CHECK(config_json<float>(small_bert()) == json::parse(R"({"architectures": ["BertForPreTraining"],
    "model_type": "bert", "vocab_size": 260, "max_position_embeddings": 128, "type_vocab_size": 2, "hidden_size": 192,
    "num_hidden_layers": 4, "num_attention_heads": 6, "intermediate_size": 512, "head_dim": 32, "hidden_act": "gelu",
    "layer_norm_eps": 1e-12, "position_embedding_type": "absolute", "pad_token_id": 256, "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0, "classifier_dropout": null, "initializer_range": 0.02,
    "tie_word_embeddings": true, "torch_dtype": "float32", "msg": {"version": 1, "plain": true, "why": ""}})"));
  CHECK(config_json<float>(small_llama()) == json::parse(R"({"architectures": ["LlamaForCausalLM"],
    "model_type": "llama", "vocab_size": 256, "max_position_embeddings": 128, "hidden_size": 192,
    "num_hidden_layers": 4, "num_attention_heads": 6, "num_key_value_heads": 2, "intermediate_size": 512,
    "head_dim": 32, "hidden_act": "silu", "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "rope_scaling": null,
    "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0}, "attention_bias": false, "mlp_bias": false,
    "attention_dropout": 0.0, "pretraining_tp": 1, "bos_token_id": null, "eos_token_id": null,
    "initializer_range": 0.02, "tie_word_embeddings": false, "torch_dtype": "float32",
    "msg": {"version": 1, "plain": true, "why": ""}})"));
  for (saved_config saved : {small_gpt2(), small_bert(), small_llama()}) {
    CHECK(read_config(config_json<float>(saved), "c").sizes == saved.sizes);
    CHECK(read_config(config_json<float>(saved), "c").pad == saved.pad);
    saved.sizes.hidden = 100;
    saved.sizes.initializer_range = 0.14;
    saved.why = why_not_plain(saved.sizes, {});
    CHECK(config_json<float>(saved)["model_type"] == "msg_" + std::string(name_of(saved.sizes.arch)));
    CHECK(read_config(config_json<float>(saved), "c").sizes == saved.sizes);
  }
  config wide = small_llama().sizes; // heads * head_dim is free in Llama, but hidden has to be a multiple of heads
  wide.hidden = 96;
  CHECK(why_not_plain(wide, {}).empty());
  wide.hidden = 100;
  CHECK(why_not_plain(wide, {{"kv_heads", 0.5}}) == "hidden 100 is no multiple of heads 6, kv_heads mask 0.5");
}

TEST_CASE("a Llama with experts is saved as a Mixtral and comes back", "[checkpoint][config][experts]") {
  saved_config saved = small_llama();
  saved.sizes.experts = 8;
  saved.sizes.chosen = 3;
  CHECK(config_json<float>(saved) == json::parse(R"({"architectures": ["MixtralForCausalLM"],
    "model_type": "mixtral", "vocab_size": 256, "max_position_embeddings": 128, "hidden_size": 192,
    "num_hidden_layers": 4, "num_attention_heads": 6, "num_key_value_heads": 2, "intermediate_size": 512,
    "head_dim": 32, "hidden_act": "silu", "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "rope_scaling": null,
    "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0}, "attention_dropout": 0.0,
    "num_local_experts": 8, "num_experts_per_tok": 3, "output_router_logits": false, "router_aux_loss_coef": 0.0,
    "router_jitter_noise": 0.0, "sliding_window": null, "bos_token_id": null, "eos_token_id": null,
    "initializer_range": 0.02, "tie_word_embeddings": false, "torch_dtype": "float32",
    "msg": {"version": 1, "plain": true, "why": ""}})"));
  CHECK(read_config(config_json<float>(saved), "c").sizes == saved.sizes);
  saved.why = why_not_plain(saved.sizes, {{"experts", 0.25}});
  CHECK(saved.why == "experts mask 0.25");
  CHECK(config_json<float>(saved)["model_type"] == "msg_mixtral");
  CHECK(read_config(config_json<float>(saved), "c").sizes == saved.sizes);
  saved.why.clear();
  CHECK(config_refusal({{"num_experts_per_tok", 9}, {"sliding_window", 4096}}, saved) ==
        "config.json: num_experts_per_tok: expected an integer from 1 to 8, found 9; sliding_window: expected null, "
        "found 4096");
}

TEST_CASE("configs of BERT and Llama that the model cannot follow are refused", "[checkpoint][config]") {
  CHECK(config_refusal({{"hidden_act", "relu"}, {"position_embedding_type", "relative_key"}}, small_bert()) ==
        "config.json: hidden_act: expected \"gelu\", found \"relu\"; position_embedding_type: expected \"absolute\", "
        "found \"relative_key\"");
  CHECK(config_refusal({{"hidden_size", 96}}, small_bert()) ==
        "config.json: hidden_size: expected num_attention_heads * head_dim = 192 for model_type bert, found 96");
  CHECK(
      config_refusal({{"attention_bias", true}, {"rope_scaling", {{"type", "linear"}}}}, small_llama()) ==
      "config.json: attention_bias: expected false, found true; rope_scaling: expected null (plain rotary positions), "
      "found an object");
  CHECK(config_refusal({{"rope_parameters", {{"rope_type", "yarn"}}}}, small_llama()) ==
        "config.json: rope_parameters.rope_type: expected \"default\", found \"yarn\"");
  CHECK(config_refusal({{"model_type", "msg_llama"}, {"msg", {{"plain", false}}}}, small_llama()) ==
        "config.json: msg.why: expected a reason for msg_llama, found ''");
}

TEST_CASE("growth.json has the keys of the design, and a ramp only where there is a mask", "[checkpoint][growth]") {
  CHECK(growth_json(tiny_checkpoint<float>(1).documents.growths, 28) == json::parse(R"({"version": 1, "growths": [
    {"id": 0, "axis": "ffn", "from": 2, "to": 4, "rule": "mask", "placement": "append", "at_step": 7,
     "ramp": {"shape": "cosine", "steps": 20}, "seed": 11, "done": true},
    {"id": 1, "axis": "layers", "from": 1, "to": 2, "rule": "stack", "placement": "interleave", "at_step": 9,
     "ramp": null, "seed": 18446744073709551615, "done": true}]})"));
  CHECK(growth_json(tiny_checkpoint<float>(1).documents.growths, 27)["growths"][0]["done"] == false);
  CHECK(growth_json({}, 0) == json{{"version", 1}, {"growths", json::array()}});
}

TEST_CASE("a growth.json that doesn't fit is refused with every finding", "[checkpoint][growth]") {
  CHECK(growth_refusal({{"mask", 0.5}}) == "growth.json: growths[0]: unknown key 'mask' (known: id, axis, from, to, "
                                           "rule, placement, at_step, seed, ramp, done)");
  CHECK(growth_refusal({{"from", "2"}, {"to", -4}, {"placement", "middle"}}) ==
        "growth.json: growths[0].from: expected an integer from 1 to 2147483647, found \"2\"; "
        "growths[0].to: expected an integer from 1 to 2147483647, found -4; "
        "growths[0].placement: expected append, prepend, interleave or given, found \"middle\"");
  CHECK(growth_refusal({{"ramp", {{"shape", "wave"}}}}) ==
        "growth.json: growths[0].ramp.shape: expected linear, cosine or step, found \"wave\"");
  CHECK(growth_refusal({{"ramp", {{"c", 1}}}}) ==
        "growth.json: growths[0].ramp: unknown key 'c' (known: shape, steps)");
  CHECK(growth_refusal({{"done", true}}) == "growth.json: growths[0].done: expected false at step 10, found true");
  CHECK(growth_refusal({{"seed", nullptr}}) == "growth.json: growths[0]: missing key 'seed'");
  CHECK(input_message([] { (void)read_growth(json::parse(R"({"version": 2, "growths": {}, "log": 1})"), 0, "g"); }) ==
        "g: version: expected an integer from 1 to 1, found 2; growths: expected an array, found an object; "
        "unknown key 'log' (known: version, growths)");
}

TEST_CASE("a trainer_state.json that doesn't fit is refused with every finding", "[checkpoint][state]") {
  CHECK(state_refusal({{"step", -1}, {"seconds", "1"}, {"seed", 1.5}}) ==
        "trainer_state.json: step: expected an integer from 0, found -1; "
        "seconds: expected a number from 0.0, found \"1\"; seed: expected an integer from 0, found 1.5");
  CHECK(state_refusal({{"data", {{"position", nullptr}, {"where", 1}}}}) ==
        "trainer_state.json: data: missing key 'position'; data: unknown key 'where' (known: files_hash, epoch, "
        "position)");
  CHECK(state_refusal({{"version", 3}}) == "trainer_state.json: version: expected an integer from 2 to 2, found 3");
  CHECK(state_refusal({{"version", 1}}) ==
        "trainer_state.json: version 1 is of a program without a log of decisions: this one cannot resume it");
  CHECK(state_refusal({{"options", 3}}) == "trainer_state.json: options: expected an object, found 3");
  CHECK(state_refusal({{"counters", {{"data", -1}}}}) ==
        "trainer_state.json: counters.data: expected an integer from 0, found -1");
  CHECK(state_refusal({{"metrics_bytes", nullptr}, {"metrics", 5}}) == containing("missing key 'metrics_bytes'"));
}

TEST_CASE("decisions and what was seen are read strictly", "[checkpoint][state]") {
  const auto refused = [](const char* pointer, const json& value) {
    json document = trainer_state_json(tiny_checkpoint<float>(1).documents.state);
    document[json::json_pointer(pointer)] = value;
    return input_message([&] { (void)read_trainer_state(document, "s"); });
  };
  CHECK(refused("/decisions", 3) == "s: decisions: expected an array, found 3");
  CHECK(refused("/decisions/0/what", "stop") == "s: decisions[0].what: expected wait, probe or grow, found \"stop\"");
  CHECK(refused("/decisions/1/candidate", -2) == containing("s: decisions[1].candidate: expected an integer from -1"));
  CHECK(refused("/decisions/1/reason", "") ==
        "s: decisions[1]: unknown key 'reason' (known: stage, step, what, candidate, seen, limit, why)");
  CHECK(refused("/seen/trials/0/flops", nullptr) == "s: seen.trials[0].flops: expected a number, found null");
  CHECK(refused("/seen/trials/0/loss_after", "3") ==
        "s: seen.trials[0].loss_after: expected a number or null, found \"3\"");
  CHECK(refused("/seen/steps/loss", {1.5}) == "s: seen.steps.loss: expected 2 elements, as step has, found 1");
  CHECK(refused("/seen/steps/step/0", 1.5) == "s: seen.steps.step[0]: expected an integer, found 1.5");
  CHECK(refused("/seen/curves/0/loss", json::array()) ==
        "s: seen.curves[0].loss: expected 2 elements, as flops has, found 0");
  CHECK(refused("/seen/losses", 1) == "s: seen: unknown key 'losses' (known: steps, trials, curves)");
}

TEST_CASE("changed options that matter are all listed, the others are accepted", "[checkpoint][state]") {
  const json saved = {{"seq", 64}, {"data", "a.txt"}, {"lr", 0.001}, {"threads", 2}};
  const json now = {{"seq", 128}, {"data", "b.txt"}, {"lr", 0.002}, {"threads", 1}, {"arch", "gpt2"}};
  CHECK(input_message([&] {
          refuse_changed_options(saved, now, {"seq", "batch", "data", "arch"}, "state.json");
        }) == "state.json: cannot resume with changed options: --seq expected 64, found 128; "
              "--data expected \"a.txt\", found \"b.txt\"; --arch expected not given, found \"gpt2\"");
  CHECK_NOTHROW(refuse_changed_options(saved, now, {"batch"}, "state.json"));
  CHECK_NOTHROW(refuse_changed_options(saved, saved, {"seq", "data", "lr"}, "state.json"));
}
