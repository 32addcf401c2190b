// The trainers' whole programs with --device cuda, their device code run on the CPU: runs that grow, leave checkpoints,
// and go on from them on either device.
#include "kernels/device.hpp"
#define MSG_WITH_CUDA
#include "transformer/cuda_engine.cuh"

#define main train_gpt_program
#include "train_gpt.cpp" // the programs themselves
#undef main
#define main train_bert_program
#include "train_bert.cpp"
#undef main

#include "support/catch.hpp"
#include "support/files_support.hpp"

#include <bit>
#include <cmath>
#include <cstdint>
#include <filesystem>
#include <limits>
#include <string>
#include <utility>
#include <vector>

namespace {

namespace fs = std::filesystem;
using files_test::read_bytes;
using files_test::temporary_folder;
using files_test::write_bytes;
using reference::json;

constexpr const char* small_growth = R"({"version": 1,
  "start": {"hidden": 8, "ffn": 8, "heads": 1, "layers": 1},
  "lr": {"policy": "constant", "peak": 1e-3, "min": 1e-4, "warmup_steps": 1},
  "stages": [{"at": {"step": 1}, "grow": {"hidden": 12, "ffn": 12, "heads": 2, "layers": 2},
              "ramp": {"shape": "linear", "steps": 3}}]})";

/// A program and what makes it train one architecture.
struct kind {
  const char* name;
  int (*program)(int, char**);
  std::vector<std::string> options;
};
const std::vector<kind> kinds{{"gpt2", train_gpt_program, {"--seq", "8"}},
                              {"llama", train_gpt_program, {"--arch", "llama", "--seq", "8"}},
                              {"bert", train_bert_program, {"--seq", "16"}}};

class place {
public:
  explicit place(kind what) : what_(std::move(what)) {
    fs::create_directory(folder_ / "text");
    std::string text;
    while (text.size() < 600) { text += "line " + std::to_string(text.size() * 7 % 977) + " of some text\n\n"; }
    write_bytes(folder_ / "text/a.txt", text);
    write_bytes(folder_ / "grow.json", small_growth);
  }
  [[nodiscard]] std::string operator/(const std::string& name) const { return (folder_ / name).string(); }

  [[nodiscard]] int run(std::vector<std::string> words) const {
    words.insert(words.begin(), "trainer");
    words.emplace_back("--quiet");
    std::vector<char*> arguments;
    for (std::string& w : words) { arguments.push_back(w.data()); }
    return what_.program(static_cast<int>(arguments.size()), arguments.data());
  }
  [[nodiscard]] int train(const std::string& name, const std::string& device,
                          const std::vector<std::string>& more = {}) const {
    std::vector<std::string> words{"--data", *this / "text", "--schedule", *this / "grow.json", "--out", *this / name};
    for (const char* word : {"--batch", "2", "--accumulate", "2", "--head-dim", "4", "--steps", "4", "--save-every",
                             "2", "--log-every", "1", "--eval-every", "0", "--threads", "1", "--device"}) {
      words.emplace_back(word);
    }
    words.push_back(device);
    words.insert(words.end(), what_.options.begin(), what_.options.end());
    words.insert(words.end(), more.begin(), more.end());
    return run(words);
  }
  [[nodiscard]] std::vector<json> metrics(const std::string& name, const std::string& event) const {
    std::vector<json> found;
    for (const json& record : reference::read_metrics(*this / (name + "/metrics.jsonl"))) {
      if (record.at("event") == event) { found.push_back(record); }
    }
    return found;
  }
  [[nodiscard]] std::string model(const std::string& name, const std::string& step = "step-00000004") const {
    const std::string checkpoint = *this / (name + "/" + step);
    return read_bytes(checkpoint + "/model.safetensors") + read_bytes(checkpoint + "/optimizer.safetensors");
  }

private:
  kind what_;
  temporary_folder folder_;
};

// sums of some 100 float terms in another order, and four steps that each add their own
constexpr double rounding = 100 * 10 * 4 * static_cast<double>(std::numeric_limits<float>::epsilon());

} // namespace

TEST_CASE("a run with --device cuda grows, and tells the losses of the CPU's", "[cuda][trainer]") {
  const kind what = GENERATE(from_range(kinds));
  CAPTURE(what.name);
  const place there(what);
  REQUIRE(there.train("cpu", "cpu") == 0);
  REQUIRE(there.train("gpu", "cuda") == 0);
  for (const char* event : {"step", "end", "growth"}) {
    const std::vector<json> expected = there.metrics("cpu", event);
    const std::vector<json> found = there.metrics("gpu", event);
    REQUIRE(found.size() == expected.size());
    for (std::size_t i = 0; i < found.size(); ++i) {
      CAPTURE(event, i);
      for (const char* key : {"loss", "val_loss", "loss_before", "loss_after"}) {
        if (!expected[i].contains(key) || !expected[i].at(key).is_number()) { continue; }
        const double value = expected[i].at(key).get<double>();
        CHECK(std::fabs(found[i].at(key).get<double>() - value) <= rounding * value);
      }
      if (std::string(event) == "growth") {
        CHECK(std::fabs(found[i].at("max_abs_logit_diff").get<double>()) <= rounding);
      }
    }
  }
  const json state = json::parse(read_bytes(there / "gpu/step-00000004/trainer_state.json"));
  CHECK(state.at("gemm").get<std::string>().find("cuBLAS") == 0);
}

TEST_CASE("a run with --device cuda goes on from a checkpoint in the middle of a ramp to the same bits",
          "[cuda][trainer][resume]") {
  const place there(kinds[0]);
  REQUIRE(there.train("whole", "cuda") == 0);
  fs::create_directory(there / "again");
  fs::copy(there / "whole/step-00000002", there / "again/step-00000002", fs::copy_options::recursive);
  fs::copy(there / "whole/metrics.jsonl", there / "again/metrics.jsonl");
  REQUIRE(there.run({"--resume", there / "again/step-00000002"}) == 0);
  CHECK(there.model("again") == there.model("whole"));
}

TEST_CASE("trials on a GPU leave the run as it was, to the bit", "[cuda][trainer]") {
  const place there(kinds[0]);
  write_bytes(there / "grow.json", R"({"version": 1, "start": {"hidden": 8, "ffn": 8, "heads": 1, "layers": 1},
    "lr": {"policy": "constant", "peak": 1e-3}, "stages": [{"at": {"probe": 1, "window": 1},
      "candidates": [{"grow": {"ffn": 12}}, {"grow": {"layers": 2}}], "ramp": {"steps": 2}}]})");
  REQUIRE(there.train("run", "cuda") == 0);
  CHECK(there.metrics("run", "probe").size() == 2);
  REQUIRE(there.train("told", "cuda", {"--schedule", there / "run/schedule-resolved.json"}) == 0);
  CHECK(there.metrics("told", "probe").empty());
  CHECK(there.model("told") == there.model("run"));
}

TEST_CASE("a run goes on on the other device", "[cuda][trainer][resume]") {
  const place there(kinds[0]);
  const std::string from = GENERATE("cpu", "cuda");
  const std::string to = from == "cpu" ? "cuda" : "cpu";
  CAPTURE(from);
  REQUIRE(there.train("whole", from) == 0);
  fs::create_directory(there / "again");
  fs::copy(there / "whole/step-00000002", there / "again/step-00000002", fs::copy_options::recursive);
  fs::copy(there / "whole/metrics.jsonl", there / "again/metrics.jsonl");
  REQUIRE(there.run({"--resume", there / "again/step-00000002", "--device", to}) == 0);
  const double expected = there.metrics("whole", "end").at(0).at("val_loss").get<double>();
  CHECK(std::fabs(there.metrics("again", "end").at(0).at("val_loss").get<double>() - expected) <= rounding * expected);
}

TEST_CASE("matrices are multiplied as they are, or with tf32 or bf16 on a GPU alone", "[cuda][trainer]") {
  const auto [precision, what] =
      GENERATE(std::pair<std::string, kind>{"tf32", kinds[0]}, //
               std::pair<std::string, kind>{"bf16", kinds[0]}, std::pair<std::string, kind>{"bf16", kinds[2]});
  CAPTURE(precision, what.name);
  const place there(what);
  CHECK(there.train("cpu", "cpu", {"--precision", precision}) == 2);
  CHECK(there.train("half", "cuda", {"--precision", "fp16"}) == 2);
  REQUIRE(there.train("full", "cuda") == 0);
  REQUIRE(there.train("gpu", "cuda", {"--precision", precision}) == 0);
  const json state = json::parse(read_bytes(there / "gpu/step-00000004/trainer_state.json"));
  CHECK(state.at("gemm").get<std::string>().find(precision) != std::string::npos);

  const auto loss = [&](const char* name) { return there.metrics(name, "end").at(0).at("val_loss").get<double>(); };
  CHECK(loss("gpu") != loss("full"));
  CHECK(std::fabs(loss("gpu") - loss("full")) <= loss("full") / 128); // operands are within 2^-8 of what they were
  const reference::safetensors_file weights(there / "gpu/step-00000004/model.safetensors");
  bool finer = false; // the weights themselves are not what is multiplied
  for (const reference::tensor_entry& entry : weights.tensors()) {
    for (const float w : weights.read<float>(entry.name)) {
      finer = finer || (std::bit_cast<std::uint32_t>(w) & 0xFFFU) != 0;
    }
  }
  CHECK(finer);

  fs::create_directory(there / "again"); // in the middle of a ramp
  fs::copy(there / "gpu/step-00000002", there / "again/step-00000002", fs::copy_options::recursive);
  fs::copy(there / "gpu/metrics.jsonl", there / "again/metrics.jsonl");
  REQUIRE(there.run({"--resume", there / "again/step-00000002"}) == 0);
  CHECK(there.model("again") == there.model("gpu"));
}

TEST_CASE("a GPU without a driver is refused with the driver's reason", "[cuda][trainer]") {
  const place there(kinds[0]);
  simt::next_error() = cudaErrorInsufficientDriver;
  CHECK(there.train("run", "cuda") == 2);
  CHECK_FALSE(fs::exists(there / "run"));
}
