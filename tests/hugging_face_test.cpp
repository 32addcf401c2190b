// Checkpoints that the trainers write, loaded by Hugging Face transformers: the same logits. Without transformers the
// test is skipped, with a message and exit code 77.
#include "support/catch.hpp"
#include "support/python.hpp"
#include "support/tiny_transformer.hpp"
#include "support/training.hpp"
#include "transformer/checkpoint.hpp"

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <vector>

namespace {

using msg::index;
using reference::config;
namespace fs = std::filesystem;

// Growth in every dimension, so that what is loaded has grown; no ramp is under way at the end.
constexpr const char* dense = R"({"version": 1, "start": {"hidden": 8, "ffn": 16, "heads": 2, "layers": 1},
  "lr": {"policy": "cosine", "peak": 1e-2, "min": 1e-3, "warmup_steps": 2},
  "stages": [{"at": {"step": 5}, "grow": {"hidden": 16, "ffn": 40, "heads": 4, "layers": 2},
              "ramp": {"shape": "linear", "steps": 6}}]})";
constexpr const char* grouped = R"({"version": 1,
  "start": {"hidden": 8, "ffn": 16, "heads": 2, "kv_heads": 1, "layers": 1},
  "lr": {"policy": "cosine", "peak": 1e-2, "min": 1e-3, "warmup_steps": 2},
  "stages": [{"at": {"step": 5}, "grow": {"hidden": 16, "ffn": 40, "heads": 4, "kv_heads": 2, "layers": 2},
              "ramp": {"shape": "linear", "steps": 6}}]})";
constexpr const char* experts = R"({"version": 1,
  "start": {"hidden": 16, "ffn": 24, "heads": 4, "kv_heads": 2, "layers": 2, "experts": 1},
  "lr": {"policy": "cosine", "peak": 1e-2, "min": 1e-3, "warmup_steps": 2},
  "stages": [{"at": {"step": 5}, "grow": {"experts": 4}, "rule": "upcycle"}]})";

struct kind {
  std::string name;
  const char* program;
  std::vector<std::string> always;
  const char* schedule;
};

std::vector<kind> kinds() {
  return {{"gpt2", MSG_TRAIN_GPT, {}, dense},
          {"bert", MSG_TRAIN_BERT, {"--seq", "32"}, dense},
          {"llama", MSG_TRAIN_GPT, {"--arch", "llama"}, grouped},
          {"llama-tied", MSG_TRAIN_GPT, {"--arch", "llama", "--tied"}, grouped},
          {"llama-wide", MSG_TRAIN_GPT, {"--arch", "llama", "--head-dim", "6"}, grouped}, // H D is not C
          {"mixtral", MSG_TRAIN_GPT, {"--arch", "llama"}, experts}};
}

struct loaded {
  config sizes;
  reference::tensor_set<float> values;
};

loaded load(const fs::path& folder) {
  const reference::checkpoint_documents documents = reference::read_checkpoint_documents(folder);
  REQUIRE(documents.config.why.empty());
  loaded model{documents.config.sizes, reference::make_parameters<float>(documents.config.sizes)};
  reference::tensor_set<float> first = model.values.like();
  reference::tensor_set<float> second = model.values.like();
  std::vector<reference::stored_parameter<float>> parameters;
  for (std::size_t p = 0; p < model.values.tensors.size(); ++p) {
    auto& t = model.values.tensors[p];
    parameters.push_back({reference::stored_name(model.sizes.arch, t.name), t.shape, std::span(t.data),
                          std::span(first.tensors[p].data), std::span(second.tensors[p].data)});
  }
  (void)reference::load_checkpoint<float>(folder, parameters, documents.state.step);
  return model;
}

void write_case(const fs::path& path, const fs::path& checkpoint, const tiny::batch& data) {
  std::map<std::string, std::vector<std::int64_t>> numbers;
  std::vector<reference::tensor_source> sources;
  const auto add = [&](const std::string& name, const std::vector<std::int32_t>& values, std::vector<index> shape) {
    if (values.empty()) { return; }
    auto& wide = numbers[name];
    wide.assign(values.begin(), values.end());
    sources.push_back({"input/" + name, reference::dtype::i64, std::move(shape), std::as_bytes(std::span(wide))});
  };
  add("tokens", data.tokens, {data.sequences, data.length});
  add("types", data.types, {data.sequences, data.length});
  add("lengths", data.lengths, {data.sequences});
  reference::output_file out(path);
  reference::write_safetensors(out, std::move(sources),
                               std::map<std::string, std::string>{{"checkpoint", checkpoint.string()}});
  out.finish();
}

/// |found - expected| over |expected|, norms over the rows that are tokens: what stands in padding is nobody's
/// business.
double relative_error(std::span<const float> found, const std::vector<double>& expected, const tiny::batch& data) {
  REQUIRE(found.size() == expected.size());
  const std::size_t width = found.size() / data.tokens.size();
  double off = 0;
  double size = 0;
  for (std::size_t i = 0; i < found.size(); ++i) {
    const auto r = static_cast<index>(i / width);
    if (!data.lengths.empty() && r % data.length >= data.lengths[static_cast<std::size_t>(r / data.length)]) {
      continue;
    }
    off += std::pow(static_cast<double>(found[i]) - expected[i], 2);
    size += expected[i] * expected[i];
  }
  return std::sqrt(off / size);
}

} // namespace

TEST_CASE("checkpoints load in Hugging Face transformers with every tensor used, and have the same logits",
          "[checkpoint][transformers]") {
  support::need_python("torch, transformers",
                       "Hugging Face transformers (python3-torch; in a venv with --system-site-packages: pip install "
                       "transformers==4.47.1; MSG_TEST_PYTHON=VENV/bin/python)");
  const files_test::temporary_folder folder;
  std::deque<training::workplace> places; // which stay where they are
  std::vector<fs::path> checkpoints;
  std::vector<tiny::batch> batches;
  for (const kind& k : kinds()) {
    CAPTURE(k.name);
    places.emplace_back(k.program, k.always, k.schedule);
    const support::outcome done = places.back().train_new("run");
    INFO(done.error);
    REQUIRE(done.code == 0);
    std::string latest = files_test::read_bytes(places.back() / "run/latest");
    latest.pop_back();
    checkpoints.push_back(places.back() / ("run/" + latest));
    batches.emplace_back(load(checkpoints.back()).sizes, 3, 14);
    write_case(folder.path() / (k.name + ".case.safetensors"), checkpoints.back(), batches.back());
  }
  const support::outcome ran =
      support::run_python(std::string(MSG_SOURCE_DIR) + "/tests/reference/hugging_face.py .", folder.path());
  INFO(ran.error);
  REQUIRE(ran.code == 0);
  for (std::size_t k = 0; k < checkpoints.size(); ++k) {
    const std::string name = kinds()[k].name;
    CAPTURE(name);
    const loaded model = load(checkpoints[k]);
    const tiny::batch& data = batches[k];
    reference::transformer<float> run(model.sizes, data.sequences, data.length);
    (void)run.forward(model.values, {.tokens = data.tokens, .types = data.types, .lengths = data.lengths});
    const reference::safetensors_file expected(folder.path() / (name + ".result.safetensors"));
    CHECK(relative_error(run.logits(), expected.read<double>("logits"), data) <= 1e-5);
    if (name == "bert") {
      const std::vector<double> sentences = expected.read<double>("sentence_logits");
      double off = 0;
      double size = 0;
      for (std::size_t i = 0; i < sentences.size(); ++i) {
        off += std::pow(static_cast<double>(run.sentence_logits()[i]) - sentences[i], 2);
        size += sentences[i] * sentences[i];
      }
      CHECK(std::sqrt(off / size) <= 1e-5);
    }
  }
}
