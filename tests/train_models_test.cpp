// BERT and Llama through the same trainer as GPT: growth in every dimension, kill and resume, what users see.

#include "support/training.hpp"

#include "transformer/checkpoint.hpp"

#include <cmath>
#include <fstream>
#include <string>
#include <vector>

namespace {

using namespace training;
using reference::input_file;

// Query heads that share keys and values, growing with them.
constexpr const char* grouped_schedule = R"({"version": 1,
  "start": {"hidden": 8, "ffn": 16, "heads": 2, "kv_heads": 1, "layers": 1},
  "lr": {"policy": "cosine", "peak": 3e-3, "min": 3e-4, "warmup_steps": 2},
  "stages": [
    {"at": {"step": 4}, "grow": {"ffn": 24}, "ramp": {"shape": "linear", "steps": 5}},
    {"at": {"step": 7}, "grow": {"hidden": 16, "heads": 4, "kv_heads": 2}, "ramp": {"shape": "cosine", "steps": 6}},
    {"at": {"step": 15}, "grow": {"ffn": 32, "layers": 3}, "ramp": {"shape": "linear", "steps": 4}}]})";

// One FFN becomes experts, those are copied, and more come behind a mask.
constexpr const char* experts_schedule = R"({"version": 1,
  "start": {"hidden": 8, "ffn": 16, "heads": 2, "layers": 2, "experts": 1},
  "lr": {"policy": "cosine", "peak": 3e-3, "min": 3e-4, "warmup_steps": 2},
  "stages": [
    {"at": {"step": 3}, "grow": {"ffn": 24}, "ramp": {"shape": "linear", "steps": 6}},
    {"at": {"step": 6}, "grow": {"experts": 3}, "rule": "upcycle"},
    {"at": {"step": 11}, "grow": {"experts": 6, "hidden": 12}, "rule": {"experts": "expert_copies", "hidden": "mask"},
     "ramp": {"shape": "linear", "steps": 4}},
    {"at": {"step": 15}, "grow": {"experts": 8}, "ramp": {"shape": "linear", "steps": 4}}]})";

struct kind {
  const char* name;
  const char* program;
  std::vector<std::string> always;
  const char* schedule;
};

[[nodiscard]] std::vector<kind> kinds() {
  return {{"bert", MSG_TRAIN_BERT, {"--seq", "32"}, schedule},
          {"llama", MSG_TRAIN_GPT, {"--arch", "llama", "--head-dim", "4"}, grouped_schedule},
          {"experts", MSG_TRAIN_GPT, {"--arch", "llama", "--head-dim", "4"}, experts_schedule}};
}

/// A place for one kind of model.
[[nodiscard]] workplace place_of(const kind& k) { return workplace{k.program, k.always, k.schedule}; }

[[nodiscard]] json checkpoint_json(const workplace& place, const std::string& run, const std::string& file) {
  std::string name = read_bytes(place / (run + "/latest"));
  name.pop_back();
  return json::parse(read_bytes(place / (run + "/" + name + "/" + file)));
}
[[nodiscard]] std::vector<std::string> tensor_names(const workplace& place, const std::string& run) {
  std::string name = read_bytes(place / (run + "/latest"));
  name.pop_back();
  std::vector<std::string> names;
  const reference::safetensors_file model(place / (run + "/" + name + "/model.safetensors"));
  for (const reference::tensor_entry& entry : model.tensors()) { names.push_back(entry.name); }
  return names;
}
[[nodiscard]] bool has(const std::vector<std::string>& names, const std::string& name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

} // namespace

TEST_CASE("BERT and Llama grow strictly, learn, and leave what GPT leaves", "[trainer]") {
  for (const kind& k : kinds()) {
    CAPTURE(k.name);
    const workplace place = place_of(k);
    const outcome done = place.train_new("run", {"--save-every", "9"});
    INFO(done.error);
    REQUIRE(done.code == 0);
    CHECK(done.error.empty());
    const std::vector<json> records = place.metrics("run");
    const std::vector<json> growths = of_event(records, "growth");
    CHECK(growths.size() >= 5);
    for (const json& g : growths) {
      CHECK(std::abs(g.at("loss_before").get<double>() - g.at("loss_after").get<double>()) < 1e-5);
      CHECK(g.at("max_abs_logit_diff").get<double>() < 1e-4);
    }
    const std::vector<json> steps = of_event(records, "step");
    const json end = of_event(records, "end").at(0);
    CHECK(end.at("val_loss").get<double>() < steps.front().at("val_loss").get<double>() - 0.3);
    CHECK(read_bytes(place / "run/report.html").find("<svg") != std::string::npos);
    const std::string title = std::string{k.name} == "bert" ? "BERT pre-training, bytes" : "Llama pre-training, bytes";
    CHECK(read_bytes(place / "run/report.html").find("<h1>" + title) != std::string::npos);
    CHECK(done.out.find(std::string{k.name} == "bert" ? "hidden perplexity" : "bits per byte") != std::string::npos);
  }
}

TEST_CASE("the loss of BERT is that of hidden tokens and that of pairs, and both are told", "[trainer]") {
  const workplace place = place_of(kinds()[0]);
  REQUIRE(place.train_new("run").code == 0);
  for (const json& r : of_event(place.metrics("run"), "step")) {
    if (r.at("val_loss").is_null()) { continue; }
    const json& parts = r.at("val_parts");
    CHECK(parts.at("hidden_tokens").get<double>() + parts.at("next_segment").get<double>() ==
          Approx(r.at("val_loss").get<double>()));
    CHECK(parts.at("next_segment").get<double>() == Approx(std::log(2.0)).margin(0.2));
  }
  REQUIRE(place.train_new("alone", {"--documents", "none"}).code == 0);
  const json end = of_event(place.metrics("alone"), "end").at(0);
  CHECK(end.at("val_parts") == json{{"hidden_tokens", end.at("val_loss")}});
}

TEST_CASE("validation does not depend on the batch size", "[trainer]") {
  const workplace place = place_of(kinds()[0]);
  REQUIRE(place.train_new("a", {"--steps", "1", "--schedule", "none", "--batch", "4"}).code == 0);
  REQUIRE(place.train_new("b", {"--steps", "1", "--schedule", "none", "--batch", "7"}).code == 0);
  const auto first = [&](const char* run) {
    return of_event(place.metrics(run), "step").front().at("val_loss").get<double>();
  };
  CHECK(first("a") == Approx(first("b")).epsilon(1e-6)); // sums of floats in another order
}

TEST_CASE("checkpoints of BERT and Llama have Hugging Face's names and keys, or the reason why not", "[trainer]") {
  const workplace bert = place_of(kinds()[0]);
  REQUIRE(bert.train_new("run", {"--save-every", "9"}).code == 0);
  const json config = checkpoint_json(bert, "run", "config.json");
  CHECK(config.at("model_type") == "bert");
  CHECK(config.at("vocab_size") == 260);
  CHECK(config.at("pad_token_id") == 256);
  CHECK(config.at("max_position_embeddings") == 32);
  std::vector<std::string> names = tensor_names(bert, "run");
  CHECK(has(names, "bert.embeddings.word_embeddings.weight"));
  CHECK(has(names, "bert.encoder.layer.2.attention.self.query.weight"));
  CHECK(has(names, "cls.predictions.bias"));
  CHECK(has(names, "cls.seq_relationship.weight"));
  const json ramping = json::parse(read_bytes(bert / "run/step-00000018/config.json"));
  CHECK(ramping.at("model_type") == "msg_bert");
  CHECK(ramping.at("msg").at("why") == "ffn mask 0.75, layers mask 0.75");

  const workplace llama = place_of(kinds()[1]);
  REQUIRE(llama.train_new("run").code == 0);
  CHECK(checkpoint_json(llama, "run", "config.json").at("model_type") == "llama");
  CHECK(checkpoint_json(llama, "run", "config.json").at("num_key_value_heads") == 2);
  CHECK(checkpoint_json(llama, "run", "config.json").at("tie_word_embeddings") == false);
  names = tensor_names(llama, "run");
  CHECK(has(names, "model.layers.2.self_attn.k_proj.weight"));
  CHECK(has(names, "lm_head.weight"));
  REQUIRE(llama.train_new("tied", {"--tied"}).code == 0);
  CHECK_FALSE(has(tensor_names(llama, "tied"), "lm_head.weight"));
}

TEST_CASE("one FFN becomes experts that a checkpoint holds as Mixtral's, and copies of them are chosen together",
          "[trainer][experts]") {
  const workplace place = place_of(kinds()[2]);
  const outcome done = place.train_new("run", {"--save-every", "1", "--experts", "8"});
  INFO(done.error);
  REQUIRE(done.code == 0);
  const std::vector<json> growths = of_event(place.metrics("run"), "growth");
  REQUIRE(growths.size() == 5); // one for each axis
  const auto told = [&](std::size_t g, const char* axis, msg::index from, msg::index to, const char* rule) {
    CAPTURE(g);
    CHECK(growths[g].at("axis") == axis);
    CHECK(growths[g].at("from") == from);
    CHECK(growths[g].at("to") == to);
    CHECK(growths[g].at("rule") == rule);
  };
  told(1, "experts", 1, 3, "upcycle/expert_copies");
  told(4, "experts", 6, 8, "mask");
  CHECK(growths[1].at("promised") == "to rounding");
  CHECK(growths[4].at("promised") == "exact");
  // the gates' sum is 1 but for rounding: some ten sums of 24 terms on one another, of logits below 1
  CHECK(growths[1].at("max_abs_logit_diff").get<double>() < 24 * 10 * 1.2e-7);

  const json dense = json::parse(read_bytes(place / "run/step-00000023/config.json"));
  CHECK(dense.at("model_type") == "mixtral");
  CHECK(dense.at("num_local_experts") == 8);
  CHECK(dense.at("num_experts_per_tok") == 4); // two copies of each of the two that were
  CHECK(of_event(place.metrics("run"), "step").back().at("dims").at("experts") == 8);
  CHECK(of_event(place.metrics("run"), "step").front().at("dims").at("experts") == 1);
  const std::vector<std::string> names = tensor_names(place, "run");
  CHECK(has(names, "model.layers.1.block_sparse_moe.gate.weight"));
  CHECK(has(names, "model.layers.1.block_sparse_moe.experts.7.w3.weight"));
  CHECK_FALSE(has(names, "model.layers.1.mlp.up_proj.weight"));
}

TEST_CASE("a plan counts the experts that work on a token", "[trainer][experts]") {
  const workplace place = place_of(kinds()[2]);
  const outcome plan = place.train({"--data", "text", "--arch", "llama", "--schedule", "llama-upcycle", "--plan-only"});
  INFO(plan.error);
  REQUIRE(plan.code == 0);
  for (const char* sizes : {"C192 F256 H6 K3 L4 ", "C192 F256 H6 K3 L4 E4 ", "C192 F256 H6 K3 L4 E8 "}) {
    CHECK(plan.out.find(sizes) != std::string::npos);
  }
}

TEST_CASE("a run may begin with experts, and as many work on a token as is asked for", "[trainer][experts]") {
  const workplace place = place_of(kinds()[2]);
  const outcome done = place.train_new("run", {"--schedule", "none", "--experts", "5", "--experts-per-token", "3",
                                               "--steps", "2", "--hidden", "8", "--heads", "2", "--kv-heads", "2"});
  INFO(done.error);
  REQUIRE(done.code == 0);
  CHECK(checkpoint_json(place, "run", "config.json").at("num_local_experts") == 5);
  CHECK(checkpoint_json(place, "run", "config.json").at("num_experts_per_tok") == 3);
  // told before the growth, known after a resume
  REQUIRE(place.train_new("late", {"--experts-per-token", "1", "--max-seconds", "1e-9"}).code == 0);
  REQUIRE(place.train({"--resume", "late", "--max-seconds", "0"}).code == 0);
  CHECK(checkpoint_json(place, "late", "config.json").at("num_experts_per_tok") == 2); // 1, copied once
}

TEST_CASE("experts that cannot be are refused before the first step, in one line", "[trainer][experts]") {
  const workplace place = place_of(kinds()[2]);
  const auto refused = [&](const std::vector<std::string>& more, const std::string& why) {
    const outcome done = place.train_new("run", more);
    CHECK(done.code == 2);
    CHECK(one_line(done.error));
    INFO(done.error);
    CHECK(done.error.find(why) != std::string::npos);
  };
  refused({"--rule", "mask"}, "stages[1]: msg: unsupported: axis 'experts'");
  refused({"--experts", "4"}, "--experts expected 8, found 4");
  refused({"--experts-per-token", "4"}, "stages[1]");
  refused({"--experts-per-token", "0"}, "--experts-per-token expected at least 1, found 0");
  refused({"--arch", "gpt2", "--experts", "8"}, "--experts expected 1, or --arch llama");
  refused({"--arch", "gpt2"}, "experts");
}

TEST_CASE("with dropout a run resumes to the same bits, and growths are checked without it", "[trainer][dropout]") {
  for (const kind& k : kinds()) {
    CAPTURE(k.name);
    kind dropping = k;
    for (const char* word : {"--dropout", "0.2", "--accumulate", "2", "--batch", "2"}) {
      dropping.always.push_back(word);
    }
    const workplace place = place_of(dropping);
    check_resume_at_every_step(place);
    for (const json& g : of_event(place.metrics("whole"), "growth")) {
      CHECK(g.at("max_abs_logit_diff").get<double>() < 1e-4);
    }
    REQUIRE(place.train_new("without", {"--dropout", "0"}).code == 0);
    CHECK(checkpoint_of(place, "without") != checkpoint_of(place, "whole"));
    const json config = checkpoint_json(place, "whole", "config.json");
    CHECK(config.at(std::string{k.name} == "bert" ? "attention_probs_dropout_prob" : "attention_dropout") == 0.2);
  }
  const workplace place = place_of(kinds()[0]);
  for (const char* rate : {"1", "-0.1", "nan"}) {
    const outcome refused = place.train_new("refused", {"--dropout", rate});
    CHECK(refused.code == 2);
    CHECK(one_line(refused.error));
    CHECK(refused.error.find("--dropout") != std::string::npos);
  }
}

TEST_CASE("BERT and Llama killed at random moments resume to the same bits", "[trainer]") {
  for (const kind& k : kinds()) {
    CAPTURE(k.name);
    check_kills(place_of(k), 3);
  }
}

TEST_CASE("a resume of BERT and Llama at every step ends with the same bits", "[trainer]") {
  for (const kind& k : kinds()) {
    CAPTURE(k.name);
    check_resume_at_every_step(place_of(k));
  }
}

TEST_CASE("key-value heads are asked for by number, and grow with their groups", "[trainer]") {
  const workplace place = place_of(kinds()[1]);
  REQUIRE(place.train_new("run", {"--schedule", "grow.json", "--kv-heads", "2"}).code == 0);
  CHECK(of_event(place.metrics("run"), "step").back().at("dims") ==
        json({{"hidden", 16}, {"ffn", 32}, {"heads", 4}, {"kv_heads", 2}, {"layers", 3}}));
  const outcome wrong = place.train_new("wrong", {"--kv-heads", "4"});
  CHECK(wrong.code == 2);
  CHECK(wrong.error.find("--kv-heads expected 2, found 4") != std::string::npos);
  write_bytes(place / "even.json", R"({"version": 1, "start": {"hidden": 8, "ffn": 8, "heads": 2, "layers": 1},
    "stages": [{"at": {"step": 3}, "grow": {"heads": 4}}]})");
  const outcome derived = place.train_new("derived", {"--schedule", "even.json", "--kv-heads", "2"});
  INFO(derived.error);
  REQUIRE(derived.code == 0); // 1 of 2 at the start
  CHECK(of_event(place.metrics("derived"), "step").front().at("dims").at("kv_heads") == 1);
  const outcome odd = place.train_new("odd", {"--schedule", "even.json", "--kv-heads", "1"});
  CHECK(odd.code == 2);
  CHECK(odd.error.find("2 heads at the start cannot have groups of the size that 4 heads with --kv-heads 1 have") !=
        std::string::npos);
}

TEST_CASE("vocabulary and context grow through a schedule", "[trainer]") {
  const workplace place{MSG_TRAIN_GPT};
  write_bytes(place / "wide.json", R"({"version": 1,
    "start": {"hidden": 8, "ffn": 16, "heads": 1, "layers": 1, "vocab": 256, "positions": 8}, "lr": {"peak": 3e-3},
    "stages": [{"at": {"step": 4}, "grow": {"vocab": 300}, "ramp": {"shape": "linear", "steps": 4}},
               {"at": {"step": 12}, "grow": {"positions": 16}, "ramp": {"shape": "linear", "steps": 1}}]})");
  const outcome done = place.train_new("run", {"--schedule", "wide.json", "--save-every", "6"});
  INFO(done.error);
  REQUIRE(done.code == 0);
  const std::vector<json> growths = of_event(place.metrics("run"), "growth");
  REQUIRE(growths.size() == 2);
  for (const json& g : growths) {
    CHECK(g.at("loss_before").get<double>() == Approx(g.at("loss_after").get<double>()).epsilon(1e-6));
  }
  const json config = checkpoint_json(place, "run", "config.json");
  CHECK(config.at("vocab_size") == 300);
  CHECK(config.at("n_positions") == 16);
  // The data may not hold what is fresh.
  write_bytes(place / "tight.json", R"({"version": 1,
    "start": {"hidden": 8, "ffn": 16, "heads": 1, "layers": 1, "vocab": 100}, "lr": {"peak": 3e-3},
    "stages": [{"at": {"step": 4}, "grow": {"vocab": 300}, "ramp": {"shape": "linear", "steps": 4}}]})");
  const outcome refused = place.train_new("refused", {"--schedule", "tight.json"});
  CHECK(refused.code == 2);
  CHECK(one_line(refused.error));
  CHECK(refused.error.find("the data holds token 1") != std::string::npos);
  CHECK(refused.error.find("a fresh token as a target has infinite loss while its mask is 0") != std::string::npos);
  const outcome short_context = place.train_new("refused", {"--schedule", "wide.json", "--seq", "12"});
  CHECK(short_context.code == 2);
  CHECK(short_context.error.find("start: positions expected at least --seq 12, or a divisor of it, found 8") !=
        std::string::npos);
}

TEST_CASE("a run with a tokenizer encodes its text, counts by bytes, and refuses to resume with another", "[trainer]") {
  const workplace place{MSG_TRAIN_GPT};
  std::string vocab = "{";
  std::string merges = "#version: 0.2\n";
  for (int byte = 33; byte < 127; ++byte) {
    const std::string written = byte == '"' || byte == '\\' ? std::string{"\\"} + static_cast<char>(byte)
                                                            : std::string(1, static_cast<char>(byte));
    vocab += "\"" + written + "\": " + std::to_string(byte - 33) + ", ";
  }
  vocab += R"("Ġ": 94, "Ċ": 95, "li": 96, "ne": 97, "line": 98, "te": 99, "<|endoftext|>": 100})";
  merges += "l i\nn e\nli ne\nt e\n";
  write_bytes(place / "vocab.json", vocab);
  write_bytes(place / "merges.txt", merges);
  const outcome done = place.train_new("run", {"--tokenizer", "vocab.json", "--sample", "20", "--save-every", "8"});
  INFO(done.error);
  REQUIRE(done.code == 0);
  CHECK(done.out.find("byte-level BPE, 101 tokens") != std::string::npos);
  CHECK(done.out.find("bits per byte") != std::string::npos);
  CHECK(checkpoint_json(place, "run", "config.json").at("vocab_size") == 101);
  const double nats = of_event(place.metrics("run"), "end").at(0).at("val_loss");
  const double ratio = std::stod(done.out.substr(done.out.find("101 tokens, ") + 12)); // bytes of a token
  const double shown = std::stod(done.out.substr(done.out.find("bits per byte") + 13));
  CHECK(shown == Approx(nats / std::log(2.0) / ratio).epsilon(0.01)); // the ratio is shown with two digits
  write_bytes(place / "merges.txt", merges + "te x\n");
  const outcome broken = place.train({"--resume", "run"});
  CHECK(broken.code == 2);
  CHECK(one_line(broken.error));
  CHECK(broken.error.find("merges.txt: line 6: 'te x': token 'tex' is not in the vocabulary") != std::string::npos);
  write_bytes(place / "merges.txt", "#version: 0.2\nl i\n");
  const outcome other = place.train({"--resume", "run"});
  CHECK(other.code == 2);
  CHECK(other.error.find("is not what this run was trained on") != std::string::npos);
}

TEST_CASE("token files are trained on as they are", "[trainer]") {
  const workplace place{MSG_TRAIN_GPT};
  std::string ids;
  for (int i = 0; i < 4000; ++i) { ids += {static_cast<char>(i * i % 50), '\0'}; }
  write_bytes(place / "tokens.bin", ids);
  const outcome done = place.train_new("run", {"--data", "tokens.bin"});
  INFO(done.error);
  REQUIRE(done.code == 0);
  CHECK(done.out.find("bits per token") != std::string::npos);
  CHECK(checkpoint_json(place, "run", "config.json").at("vocab_size") == 50);
  const outcome plan = place.train_new("plan", {"--data", "tokens.bin", "--plan-only"});
  CHECK(plan.code == 0);
}

TEST_CASE("input that BERT and Llama cannot have is one line and exit code 2", "[trainer]") {
  struct wrong {
    std::size_t kind;
    std::vector<std::string> arguments;
    std::string says;
  };
  const std::vector<wrong> all{
      {0, {"--arch", "gpt2"}, "--arch"}, // train_bert has no such option
      {0, {"--sample", "10"}, "--sample"},
      {0, {"--seq", "7"}, "sequence length must be at least 8, not 7"},
      {0, {"--documents", "pages"}, "--documents expected auto, files, blank-lines or none, found pages"},
      {0, {"--tokenizer", "text/0.txt"}, "text/0.txt: the token for unknown words, '[UNK]', is not in the vocabulary"},
      {0, {"--tokenizer", "gone"}, "gone: expected a tokenizer"},
      {0, {"--data", "tokens.bin"}, "give their --tokenizer"},
      {1, {"--data", "cut.bin"}, "cut.bin: expected 1024 + 2 * 100 bytes, as the header says, found 1026"},
      {1,
       {"--data", "tokens.bin", "--vocab", "50"},
       "tokens.bin: token 50: expected an id below 50, the vocabulary, found 50"},
      {1, {"--head-dim", "3"}, "head_dim"},
      {1, {"--vocab", "100"}, "--vocab expected at least 256, the tokenizer's (bytes), found 100"}};
  for (const wrong& w : all) {
    CAPTURE(w.says);
    const workplace place = place_of(kinds()[w.kind]);
    std::string ids;
    for (int i = 0; i < 400; ++i) { ids += {static_cast<char>(i % 60), '\0'}; }
    write_bytes(place / "tokens.bin", ids);
    std::string cut(1026, '\0');
    cut.replace(0, 12, std::string("\x88\xd8\x34\x01\x01\0\0\0\x64\0\0\0", 12)); // 20240520, 1, 100
    write_bytes(place / "cut.bin", cut);
    const outcome refused = place.train_new("run", w.arguments);
    CHECK(refused.code == 2);
    CHECK(refused.out.empty());
    CHECK(one_line(refused.error));
    INFO(refused.error);
    CHECK(refused.error.find(w.says) != std::string::npos);
    CHECK_FALSE(fs::exists(place / "run"));
  }
}

TEST_CASE("every shipped schedule can be planned, and MSG's have the parameters of the paper", "[trainer]") {
  const workplace bert{MSG_TRAIN_BERT};
  const auto plan = [](const workplace& place, const std::string& name, const std::string& arch = "") {
    std::vector<std::string> words{"--plan-only", "--calibrate", "0",          "--steps", "1000000",
                                   "--data",      "text",        "--schedule", name};
    if (!arch.empty()) { words.insert(words.end(), {"--arch", arch}); }
    const outcome planned = place.train(words);
    INFO(planned.error);
    REQUIRE(planned.code == 0);
    return planned.out;
  };
  // method.md, section 7, in millions: with the heads of pre-training
  for (const char* parameters : {" 21,970,", " 29,055,", " 41,661,", " 62,855,", " 67,579,", " 110,106,"}) {
    CHECK(plan(bert, "msg-bert-base").find(parameters) != std::string::npos);
  }
  for (const char* parameters : {" 29,066,", " 47,958,", " 79,468,", " 159,887,", " 185,071,", " 336,226,"}) {
    CHECK(plan(bert, "msg-bert-large").find(parameters) != std::string::npos);
  }
  CHECK(plan(bert, "bert-all-dimensions").find("C192 F768 H6 L6") != std::string::npos);
  const workplace gpt{MSG_TRAIN_GPT};
  CHECK(plan(gpt, "llama-all-dimensions", "llama").find("C192 F512 H6 K3 L6") != std::string::npos);
  CHECK(plan(gpt, "even-split", "llama").find("C192 F768 H6 K6 L6") != std::string::npos);
  for (const char* name : {"even-split", "depth-stack", "one-layer", "compound"}) {
    CAPTURE(name);
    CHECK(plan(gpt, name).find("C192 F768 H6 L6") != std::string::npos);
    CHECK(plan(bert, name).find("C192 F768 H6 L6") != std::string::npos);
  }
}
