// A training run on the CUDA engine beside the CPU engine: steps, growths, ramps and resumes, for every architecture.
// Compiled twice: with the device code run on the CPU, and for a GPU, where there is one.
#if defined(MSG_TEST_ON_SIMT)
#include "kernels/device.hpp"
#include "transformer/cuda_engine.cuh"
#endif

#include "support/catch.hpp"
#include "support/tiny_transformer.hpp"
#include "transformer/engine.hpp"

#include <msg/grow.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdlib>
#include <limits>
#include <string>
#include <vector>

namespace {

using msg::index;
using reference::config;
using reference::cpu_engine;
using reference::cuda_engine;
using state = reference::model_state<float>;

constexpr config small{.vocab = 13, .positions = 7, .hidden = 8, .ffn = 12, .heads = 2, .head_dim = 4, .layers = 1};
#if defined(MSG_TEST_ON_SIMT)
void need_gpu() {}
void order_of_threads(simt::order order) { simt::current_options().order = order; }
using simt::order;
#else
void need_gpu() {
  if (reference::why_no_gpu()) { std::_Exit(77); } // skipped
}
enum class order { forward, random };
void order_of_threads(order) {} // the GPU's own
#endif

/// What the others are made of has been seen in transformer_test.cpp.
const std::vector<tiny::form> forms{tiny::form::gpt2, tiny::form::bert, tiny::form::llama, tiny::form::mixture};

constexpr index sequences = 2;
constexpr index tokens = 6;
constexpr index ramp_steps = 2;

/// Growth in every dimension, appended to what is there.
msg::plan growth_of(const config& c) {
  const msg::schema schema = reference::schema_of(c);
  std::vector<msg::request> requests;
  for (const auto& [axis, more] : {std::pair{"hidden", 5}, {"ffn", 7}, {"layers", 1}}) {
    requests.push_back({axis, schema.axis_at(axis).size + more, {}});
  }
  for (const char* axis : {"heads", "kv_heads"}) {
    if (schema.find_axis(axis) != nullptr) { requests.push_back({axis, schema.axis_at(axis).size * 2, {}}); }
  }
  const msg::mask loud{.fresh = msg::fresh_values::all(msg::init::normal(0.3))}; // so that the ramp is heard
  return msg::plan{schema, requests, loud, {.seed = 9}};
}

/// A run: an engine and its state, which stays where it is.
template <class Engine>
struct run {
  state model;
  Engine engine;
  tiny::batch data;
  index step = 0;
  msg::adamw optimizer{};
  std::vector<msg::birth_rate> rates{};

  explicit run(const state& start, index at = 0)
      : model(start), engine(model), data(start.sizes, sequences, tokens), step(at) {
    engine.build(sequences, tokens);
  }
  /// A step on as many parts of a batch, with the masks of the step. Returns what the engine found.
  reference::step_numbers train(int parts = 1) {
    const reference::live_masks masks = model.masks(step);
    for (int part = 0; part < parts; ++part) { engine.add_batch(data.input(), masks.view(), 1.0 / parts); }
    std::vector<msg::parameter_ages> ages;
    const msg::schema schema = reference::schema_of(model.sizes);
    for (const msg::parameter& p : schema.parameters()) { ages.push_back(model.ages(p, step)); }
    return engine.update({.optimizer = optimizer, .lr = 1e-3, .step = step++, .clip = 0.5, .rates = rates}, ages);
  }
  double loss() { return engine.forward(data.input(), model.masks(step).view()); }
  void grow(const msg::named_ramps& ramps = {}) {
    engine.grow(growth_of(model.sizes), step, {msg::ramp_shape::linear, ramp_steps}, ramps);
    engine.build(sequences, tokens);
  }
  const state& now() {
    engine.fetch();
    return model;
  }
};
bool same_bits(const reference::tensor_set<float>& a, const reference::tensor_set<float>& b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](const auto& x, const auto& y) {
    return x.name == y.name && x.shape == y.shape && x.data == y.data;
  });
}
bool same_bits(const state& a, const state& b) {
  return a.sizes == b.sizes && same_bits(a.values, b.values) && same_bits(a.moment1, b.moment1) &&
         same_bits(a.moment2, b.moment2);
}

/// Largest difference of two sets over the largest number of all.
double difference(const reference::tensor_set<float>& a, const reference::tensor_set<float>& b) {
  double most = 0;
  double scale = 0;
  for (std::size_t p = 0; p < a.tensors.size(); ++p) {
    REQUIRE(a.tensors[p].shape == b.tensors[p].shape);
    for (std::size_t i = 0; i < a.tensors[p].data.size(); ++i) {
      const double x = a.tensors[p].data[i];
      const double y = b.tensors[p].data[i];
      most = std::fabs(x - y) >= 0 ? std::max(most, std::fabs(x - y)) : std::numeric_limits<double>::infinity();
      scale = std::max(scale, std::fabs(y));
    }
  }
  return most / scale;
}

// Sums of up to 40 terms in another order, some six products on one another; see transformer_test.cpp.
constexpr double rounding = 40 * 10 * static_cast<double>(std::numeric_limits<float>::epsilon());

state start_of(tiny::form f) {
  state s = reference::initial_state<float>(tiny::as(f, small), 3);
  s.values = tiny::random_parameters<float>(s.sizes, 4, 0.1);
  return s;
}

} // namespace

TEST_CASE("a step on the CUDA engine has the loss, the norm and the moments of the CPU engine", "[cuda][engine]") {
  const tiny::form f = GENERATE(from_range(forms));
  CAPTURE(tiny::name_of(f));
  need_gpu();
  run<cpu_engine> cpu(start_of(f));
  run<cuda_engine> gpu(start_of(f));
  const reference::step_numbers expected = cpu.train(2);
  const reference::step_numbers found = gpu.train(2);
  CHECK(std::fabs(found.loss - expected.loss) <= rounding * expected.loss);
  CHECK(std::fabs(found.squares - expected.squares) <= 2 * rounding * expected.squares);
  CHECK(difference(gpu.now().moment1, cpu.now().moment1) <= 2 * rounding); // clipping has the norm's error too
  CHECK(difference(gpu.now().moment2, cpu.now().moment2) <= 4 * rounding); // squares
}

TEST_CASE("a growth on the CUDA engine moves the bits that the CPU engine moves", "[cuda][engine][growth]") {
  const tiny::form f = GENERATE(from_range(forms));
  CAPTURE(tiny::name_of(f));
  need_gpu();
  run<cuda_engine> gpu(start_of(f));
  gpu.train();
  run<cpu_engine> cpu(gpu.now(), gpu.step);
  REQUIRE(same_bits(cpu.model, gpu.model));
  cpu.grow();
  gpu.grow();
  CHECK(same_bits(cpu.now(), gpu.now()));
  CHECK(gpu.model.growth.log().size() == cpu.model.growth.log().size());
}

TEST_CASE("one FFN becomes experts on the CUDA engine, with the bits of the CPU engine", "[cuda][engine][experts]") {
  need_gpu();
  run<cuda_engine> gpu(start_of(tiny::form::llama));
  gpu.train();
  run<cpu_engine> cpu(gpu.now(), gpu.step);
  const double before = gpu.loss();
  const msg::plan plan = reference::plan_of_stage(gpu.model.sizes, {.grow = {{"experts", 3}}, .rule = "upcycle"}, 7);
  cpu.engine.grow(plan, cpu.step, {});
  gpu.engine.grow(plan, gpu.step, {});
  REQUIRE(gpu.model.sizes.experts == 3);
  CHECK(same_bits(cpu.now(), gpu.now()));
  cpu.engine.build(sequences, tokens);
  gpu.engine.build(sequences, tokens);
  CHECK(std::fabs(gpu.loss() - before) <= rounding * before);
  const double expected = cpu.train().loss;
  CHECK(std::fabs(gpu.train().loss - expected) <= rounding * expected);
}

TEST_CASE("a growth on the CUDA engine keeps the loss and the logits, and the ramp moves them",
          "[cuda][engine][growth]") {
  const tiny::form f = GENERATE(from_range(forms));
  CAPTURE(tiny::name_of(f));
  need_gpu();
  run<cuda_engine> gpu(start_of(f));
  gpu.train();
  const double before = gpu.loss();
  const std::vector<float> logits(gpu.engine.logits().begin(), gpu.engine.logits().end());
  gpu.grow();
  const double after = gpu.loss();
  CHECK(std::fabs(after - before) <= rounding * before);
  double most = 0;
  double scale = 0;
  REQUIRE(gpu.engine.logits().size() == logits.size());
  for (std::size_t i = 0; i < logits.size(); ++i) {
    most = std::max(most, std::fabs(static_cast<double>(gpu.engine.logits()[i]) - static_cast<double>(logits[i])));
    scale = std::max(scale, std::fabs(static_cast<double>(logits[i])));
  }
  CHECK(most <= rounding * scale);
  ++gpu.step; // half of the ramp: fresh units are heard
  CHECK(std::fabs(gpu.loss() - before) > 1e-4 * before);
}

TEST_CASE("losses through a growth and its ramp are those of the CPU engine", "[cuda][engine]") {
  const tiny::form f = GENERATE(from_range(forms));
  CAPTURE(tiny::name_of(f));
  need_gpu();
  run<cpu_engine> cpu(start_of(f));
  run<cuda_engine> gpu(start_of(f));
  for (msg::index step = 0; step < 1 + ramp_steps + 1; ++step) {
    CAPTURE(step);
    if (step == 1) {
      cpu.grow();
      gpu.grow();
    }
    const double expected = cpu.train().loss;
    // AdamW makes a whole step of a gradient that is nothing but rounding: such entries (the bias of keys) move the
    // loss by no more than rounding again, and each step adds its own
    CHECK(std::fabs(gpu.train().loss - expected) <= static_cast<double>(step + 1) * rounding * expected);
  }
}

TEST_CASE("a rate of fresh entries reaches them alone on the CUDA engine and each axis has its own ramp",
          "[cuda][engine]") {
  const tiny::form f = GENERATE(tiny::form::gpt2, tiny::form::llama);
  CAPTURE(tiny::name_of(f));
  need_gpu();
  const auto trained = [&](const std::vector<msg::birth_rate>& rates, msg::index steps) {
    run<cuda_engine> gpu(start_of(f));
    gpu.optimizer.weight_decay = 0; // which rates leave alone
    gpu.train();
    gpu.grow({{"ffn", {msg::ramp_shape::linear, 4}}});
    gpu.rates = rates;
    for (msg::index s = 0; s < steps; ++s) { gpu.train(); }
    return gpu.now();
  };
  const state before = trained({}, 1); // masks are 0 there: nothing fresh has moved
  const state whole = trained({}, 2);
  const state part = trained({{1, 0.25}}, 2);
  for (const msg::growth_record& g : whole.growth.log()) { CHECK(g.ramp.steps == (g.axis == "ffn" ? 4 : ramp_steps)); }
  const msg::schema schema = reference::schema_of(whole.sizes);
  msg::index fresh = 0;
  for (std::size_t p = 0; p < whole.values.tensors.size(); ++p) {
    const auto& tensor = whole.values.tensors[p];
    CAPTURE(tensor.name);
    const msg::parameter_ages ages = whole.growth.ages(schema.parameters()[p], 1);
    for (std::size_t i = 0; i < tensor.data.size(); ++i) {
      auto rest = static_cast<msg::index>(i); // row-major
      bool young = false;
      for (std::size_t d = tensor.shape.size(); d-- > 0; rest /= tensor.shape[d]) {
        const auto at = static_cast<std::size_t>(rest % tensor.shape[d]);
        young = young || (!ages.birth[d].empty() && ages.birth[d][at] == 1);
      }
      const double was = before.values.tensors[p].data[i];
      const double moved = static_cast<double>(tensor.data[i]) - was;
      const double less = static_cast<double>(part.values.tensors[p].data[i]) - was;
      if (!young) {
        REQUIRE(less == moved);
        continue;
      }
      fresh += moved != 0 ? 1 : 0;
      const double once = std::numeric_limits<float>::epsilon() * (std::fabs(was) + 4 * std::fabs(moved));
      REQUIRE(std::fabs(less - 0.25 * moved) <= 2 * once); // each value rounds once, and the update thrice
    }
  }
  CHECK(fresh > 100);
}

TEST_CASE("two runs on the CUDA engine have the same bits, resumed in the middle of a ramp or not",
          "[cuda][engine][resume]") {
  const tiny::form f = GENERATE(from_range(forms));
  CAPTURE(tiny::name_of(f));
  need_gpu();
  order_of_threads(order::forward);
  run<cuda_engine> whole(start_of(f));
  whole.train();
  whole.grow();
  whole.train();
  order_of_threads(order::random);
  run<cuda_engine> resumed(whole.now(), whole.step);
  resumed.train();
  order_of_threads(order::forward);
  whole.train();
  CHECK(same_bits(whole.now(), resumed.now()));
}

#if defined(MSG_TEST_ON_SIMT)
TEST_CASE("what no GPU can do is said, and why", "[cuda][engine]") {
  CHECK(!reference::why_no_gpu().has_value());
  simt::next_error() = cudaErrorInsufficientDriver;
  const auto reason = reference::why_no_gpu();
  REQUIRE(reason.has_value());
  CHECK(reason->find("cudaErrorInsufficientDriver") != std::string::npos);

  const state start = start_of(tiny::form::gpt2);
  state copy = start;
  simt::next_error() = cudaErrorMemoryAllocation;
  CHECK_THROWS_AS(cuda_engine(copy), reference::run_error);
}
#endif
