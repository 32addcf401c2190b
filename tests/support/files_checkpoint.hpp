// A tiny model with its optimizer state and documents, to be saved and loaded by the tests of checkpoints.
#pragma once

#include "support/files_support.hpp"

#include "transformer/checkpoint.hpp"

#include <cstddef>
#include <limits>
#include <random>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace files_test {

// clang 14 leaks what `x = {{"key", value}}` replaces inside a template: text is parsed instead.
[[nodiscard]] inline reference::json json_of(std::string_view text) { return reference::json::parse(text); }

/// Stacked and plain parameters (2 layers), AdamW's moments, births of two axes, and documents; all values drawn from
/// a seed, so that two of different seeds differ everywhere.
template <class T>
struct tiny_checkpoint {
  struct parameter {
    std::string name{};
    std::vector<msg::index> shape{};
    std::vector<T> value{}, exp_avg{}, exp_avg_sq{};
  };
  std::vector<parameter> parameters{};
  reference::axis_births births{{"ffn", {0, 0, 7, 7}}, {"layers", {0, 9}}};
  reference::checkpoint_documents documents{};

  explicit tiny_checkpoint(unsigned seed, msg::index step = 10) {
    std::mt19937 random(seed);
    const auto drawn = [&](std::size_t count) {
      std::vector<T> values(count);
      for (T& value : values) { value = static_cast<T>(static_cast<double>(random()) / 0x1p32 - 0.5); }
      return values;
    };
    const auto add = [&](std::string name, std::vector<msg::index> shape) {
      std::size_t size = 1;
      for (const msg::index extent : shape) { size *= static_cast<std::size_t>(extent); }
      parameters.push_back({std::move(name), std::move(shape), drawn(size), drawn(size), drawn(size)});
    };
    add("transformer.wte.weight", {5, 3});
    add("transformer.h.*.mlp.c_fc.weight", {2, 3, 4});
    add("transformer.h.*.mlp.c_fc.bias", {2, 4});
    add("transformer.ln_f.bias", {3});
    documents.config.sizes = {
        .vocab = 5, .positions = 16, .hidden = 3, .ffn = 4, .heads = 1, .head_dim = 3, .layers = 2};
    documents.growths = {
        {0, "ffn", 2, 4, "mask", msg::placement::order::append, true, 7, {msg::ramp_shape::cosine, 20}, 11},
        {1, "layers", 1, 2, "stack", msg::placement::order::interleave, false, 9, {}, ~std::uint64_t{0}}};
    reference::trainer_state& state = documents.state;
    state.step = step;
    state.tokens = 2048 * step;
    state.flops = 1.25e15 / 3 + seed;
    state.seconds = 0.1;
    state.log = {{0, 7, msg::verdict::probe, -1, 7, 7, "the step of the next trials"},
                 {0, 7, msg::verdict::grow, 0, 1.0 / 3e12, 0, "loss gained per FLOP"},
                 {1, 9, msg::verdict::grow, -1, 9, 9, "the step of its trigger"}};
    state.seen.steps = {{9, 1.5e12, 0.1, 2.25, std::numeric_limits<double>::quiet_NaN()},
                        {10, 1e13 / 3, 0.2, 1.0 / 3, 2.125}};
    state.seen.probes = {{0, 7, 0, 1e9 / 3, 3.5, std::numeric_limits<double>::quiet_NaN()}};
    state.seen.expected = {{1, {{1e9 / 7, 5.5}, {2e9 / 7, 1.0 / 7}}}};
    state.schedule = json_of(R"({"version": 1})");
    state.options = json_of(R"({"lr": 0.001, "data": "caf\u00e9.txt", "steps": 100})");
    state.seed = ~std::uint64_t{0} - 1;
    state.counters = {{"data", 5}};
    state.files_hash = "00ff";
    state.epoch = 1;
    state.position = 77;
    state.threads = 2;
    state.gemm = "eigen";
    state.isa = "avx512";
    state.metrics_bytes = 1234;
  }
  /// What the trainer hands over: views of the buffers.
  [[nodiscard]] std::vector<reference::stored_parameter<T>> views() {
    std::vector<reference::stored_parameter<T>> all;
    for (parameter& p : parameters) { all.push_back({p.name, p.shape, p.value, p.exp_avg, p.exp_avg_sq}); }
    return all;
  }
  fs::path save(const fs::path& run) {
    const auto parameters_now = views();
    return reference::save_checkpoint<T>(run, parameters_now, births, documents);
  }
  [[nodiscard]] bool same_tensors(const tiny_checkpoint& other) const {
    for (std::size_t i = 0; i < parameters.size(); ++i) {
      const parameter& a = parameters[i];
      const parameter& b = other.parameters[i];
      if (a.value != b.value || a.exp_avg != b.exp_avg || a.exp_avg_sq != b.exp_avg_sq) { return false; }
    }
    return births == other.births;
  }
};

/// Loads a folder into buffers that held something else. Throws what the readers throw.
template <class T>
[[nodiscard]] tiny_checkpoint<T> loaded(const fs::path& folder) {
  tiny_checkpoint<T> result(999);
  result.documents = reference::read_checkpoint_documents(folder);
  const auto views = result.views();
  result.births = reference::load_checkpoint<T>(folder, views, result.documents.state.step);
  return result;
}

} // namespace files_test
