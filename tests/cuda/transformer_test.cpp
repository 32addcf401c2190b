// The reference Transformer on the CUDA backend, its device code run on the CPU: the same numbers as on the CPU
// backend, for every architecture, with and without masks.
#include "kernels/device.hpp"
#include "support/catch.hpp"
#include "support/tiny_transformer.hpp"
#include "transformer/cuda_backend.cuh"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace {

using msg::index;
using reference::config;
using reference::cuda_backend;

/// A set's copy in device memory, and back.
template <class T>
cuda_backend::tensors<T> to_device(const cuda_backend& on, const reference::tensor_set<T>& host) {
  cuda_backend::tensors<T> set;
  for (const auto& t : host) {
    set.tensors.push_back({t.name, t.shape, {}});
    on.copy_in(std::span<const T>(t.data), set.tensors.back().data);
  }
  return set;
}
template <class T>
std::vector<T> to_host(const cuda_backend& on, std::span<const T> there) {
  std::vector<T> here(there.size());
  on.read(there.data(), std::span<T>(here));
  return here;
}

/// tiny::run() on the CUDA backend.
template <class T>
tiny::outcome<T> run_on_device(const config& c, const tiny::batch& data, const reference::tensor_set<T>& parameters,
                               const reference::masks& masks = {}, const reference::dropout& drop = {}) {
  cuda_backend on;
  reference::transformer<T, cuda_backend> model(c, data.sequences, data.length, on);
  const auto values = to_device(on, parameters);
  tiny::outcome<T> o{0, {}, {}, parameters.like()};
  auto gradients = to_device(on, o.gradients);
  reference::model_input input = data.input();
  input.drop = drop;
  o.loss = model.forward(values, input, masks);
  o.logits = to_host(on, model.logits());
  o.sentence_logits = to_host(on, model.sentence_logits());
  model.backward(values, gradients);
  for (std::size_t p = 0; p < gradients.tensors.size(); ++p) {
    on.read(gradients.tensors[p].data.data(), std::span<T>(o.gradients.tensors[p].data));
  }
  return o;
}

template <class Range>
double largest(const Range& a) {
  double most = 0;
  for (const auto x : a) { most = std::max(most, std::fabs(static_cast<double>(x))); }
  return most;
}
/// Largest difference over the largest number, or `least`; NaN counts as infinite.
template <class A, class B>
double difference(const A& a, const B& b, double least = 0) {
  REQUIRE(a.size() == b.size());
  double most = 0;
  double scale = least;
  for (std::size_t i = 0; i < a.size(); ++i) {
    const double off = std::fabs(static_cast<double>(a[i]) - static_cast<double>(b[i]));
    most = off >= 0 ? std::max(most, off) : INFINITY;
    scale = std::max(scale, std::fabs(static_cast<double>(b[i])));
  }
  return scale > 0 ? most / scale : most;
}

template <class T>
void check_same(const tiny::outcome<T>& device, const tiny::outcome<T>& cpu, double tolerance) {
  CHECK(std::fabs(device.loss - cpu.loss) <= tolerance * std::max(1.0, std::fabs(cpu.loss)));
  CHECK(difference(device.logits, cpu.logits) <= tolerance);
  CHECK(difference(device.sentence_logits, cpu.sentence_logits) <= tolerance);
  double most = 0;
  for (const auto& g : cpu.gradients) { most = std::max(most, largest(g.data)); }
  for (std::size_t p = 0; p < cpu.gradients.tensors.size(); ++p) {
    CAPTURE(cpu.gradients.tensors[p].name);
    // a softmax does not feel the bias of keys, whose gradient is 0: what is left of the others'
    CHECK(difference(device.gradients.tensors[p].data, cpu.gradients.tensors[p].data, most / 100) <= tolerance);
  }
}

const config small{.vocab = 13, .positions = 12, .hidden = 9, .ffn = 14, .heads = 2, .head_dim = 5, .layers = 2};
const config large{.vocab = 13, .positions = 12, .hidden = 12, .ffn = 19, .heads = 4, .head_dim = 5, .layers = 3};

// Both backends add the same terms in different orders: sums of up to 40 terms (rows, columns), four layers of two
// products each on one another, each of which can lose some of its terms to cancellation: 40 epsilon, ten times.
template <class T>
constexpr double rounding = 40 * 10 * static_cast<double>(std::numeric_limits<T>::epsilon());

} // namespace

TEMPLATE_TEST_CASE("loss, logits and gradients on the CUDA backend are the CPU's", "[cuda][model]", double, float) {
  const tiny::form f = GENERATE(from_range(tiny::forms));
  simt::current_options().order = GENERATE(simt::order::forward, simt::order::random);
  const config c = tiny::as(f, small);
  CAPTURE(tiny::name_of(f));
  const tiny::batch data(c, 3, 5);
  const auto parameters = tiny::random_parameters<TestType>(c, 5);
  check_same(run_on_device(c, data, parameters), tiny::run(c, data, parameters), rounding<TestType>);
}

TEST_CASE("the CUDA backend leaves out the units that the CPU leaves out", "[cuda][model][dropout]") {
  const tiny::form f = GENERATE(from_range(tiny::forms));
  simt::current_options().order = GENERATE(simt::order::forward, simt::order::random);
  const config to = tiny::as(f, large);
  CAPTURE(tiny::name_of(f));
  const tiny::growth_masks masks(tiny::as(f, small), to, 0.3F);
  const tiny::batch data(to, 3, 5);
  const auto parameters = tiny::random_parameters<double>(to, 6);
  const reference::dropout drop{.rate = 0.3, .seed = 2, .step = 7};
  reference::transformer<double> model(to, data.sequences, data.length);
  reference::model_input input = data.input();
  input.drop = drop;
  check_same(run_on_device(to, data, parameters, masks.view(), drop), tiny::run(model, parameters, input, masks.view()),
             rounding<double>);
}

TEST_CASE("masked losses, logits and gradients on the CUDA backend are the CPU's", "[cuda][model]") {
  const tiny::form f = GENERATE(from_range(tiny::forms));
  const auto [c, released] = GENERATE(table<float, bool>({{0.0F, false}, {0.3F, false}, {0.3F, true}, {1.0F, false}}));
  const config from = tiny::as(f, small);
  const config to = tiny::as(f, large);
  CAPTURE(tiny::name_of(f), c, released);
  tiny::growth_masks masks(from, to, c);
  masks.released = released;
  const tiny::batch data(to, 3, 5);
  const auto parameters = tiny::random_parameters<double>(to, 6);
  check_same(run_on_device(to, data, parameters, masks.view()), tiny::run(to, data, parameters, masks.view()),
             rounding<double>);
}
