// On a GPU: growth, kernels, optimizer and graphs have the bits of the host. Ends with 77 where there is no GPU.
// Compiled as C++ for the SIMT layer too, so that the test itself has been run.
#include <cuda_runtime.h>

#include <msg/cuda.cuh>
#include <msg/kernels/activation.hpp>

#if defined(MSG_TEST_ON_SIMT)
#include "support/bfloat16.hpp"
using bfloat16 = testing::bfloat16;
#else
#include <cuda_bf16.h>
using bfloat16 = __nv_bfloat16;
#endif

#include <cmath>
#include <cstdio>
#include <cstring>
#include <span>
#include <string>
#include <vector>

namespace {

using msg::index;
using msg::view;
using msg::cuda::check;
using msg::cuda::device_array;

int failures = 0;

void report(bool good, const std::string& what) {
  std::printf("%s %s\n", good ? "ok    " : "FAILED", what.c_str());
  failures += good ? 0 : 1;
}

/// The same numbers on the host and on the GPU.
template <class T>
struct both {
  std::vector<T> host;
  device_array<T> gpu;

  explicit both(std::vector<T> values) : host(std::move(values)), gpu(std::span<const T>(host)) {}
  both(index size, std::uint64_t stream, double mean = 0) : both(normal(size, stream, mean)) {}
  static std::vector<T> normal(index size, std::uint64_t stream, double mean) {
    std::vector<T> values;
    for (index i = 0; i < size; ++i) {
      const double x = msg::random_normal({.seed = 9, .stream = stream}, static_cast<std::uint64_t>(i));
      values.push_back(static_cast<T>(static_cast<float>(mean + 0.5 * x)));
    }
    return values;
  }
  [[nodiscard]] bool same_bits() const {
    std::vector<T> found(host.size());
    gpu.read(found);
    return std::memcmp(found.data(), host.data(), host.size() * sizeof(T)) == 0;
  }
};

/// f(where, executor) with the host's arrays and with the GPU's.
struct on_host {
  template <class T>
  T* operator()(both<T>& b) const {
    return b.host.data();
  }
};
struct on_gpu {
  template <class T>
  T* operator()(both<T>& b) const {
    return b.gpu.data();
  }
};

template <class T>
void growth(const msg::cuda::on& on, const char* type) {
  const msg::axis hidden{"hidden", 48}, ffn{"ffn", 64}, layers{"layers", 2};
  msg::schema s;
  s.weight("w1", each(layers), out(ffn), in(hidden)).weight("w2", each(layers), out(hidden), in(ffn));
  s.bias("b1", each(layers), out(ffn)).norm_gain("gain", out(hidden)).norm_bias("shift", out(hidden));
  for (const msg::init fill : {msg::init::normal(0.02), msg::init::matched()}) {
    const msg::plan plan{s,
                         {hidden.grow_to(72), ffn.grow_to(101), layers.grow_to(3)},
                         msg::mask{.fresh = msg::fresh_values::all(fill), .layers = msg::mask::start::fresh}};
    const msg::cuda::device_plan uploaded{plan};
    for (const msg::payload what : {msg::payload::value, msg::payload::moment1, msg::payload::moment2}) {
      both<T> old(plan.before().size(), 1);
      both<T> grown(plan.after().size(), 2);
      msg::apply(plan, view(old.host.data(), plan.before().size()), view(grown.host.data(), plan.after().size()), what);
      msg::apply(on, uploaded, view(old.gpu.data(), plan.before().size()), view(grown.gpu.data(), plan.after().size()),
                 what);
      check(cudaStreamSynchronize(on.stream()), "cudaStreamSynchronize");
      report(grown.same_bits(), std::string("growth of ") + type +
                                    (fill.what == msg::init::kind::normal ? ", normal" : ", matched") + ", payload " +
                                    std::to_string(static_cast<int>(what)));
    }
  }
}

template <class T>
void kernels(const msg::cuda::on& on, index rows, index width, bool masked, const char* type) {
  using A = msg::accumulate_t<T>;
  msg::axis_mask host_mask(std::vector<std::uint8_t>(static_cast<std::size_t>(width), 0));
  {
    std::vector<std::uint8_t> fresh(static_cast<std::size_t>(width), 0);
    for (index i = width / 2; i < width; ++i) { fresh[static_cast<std::size_t>(i)] = 1; }
    host_mask = msg::axis_mask(fresh);
    host_mask.set(0.3);
  }
  const msg::cuda::device_mask gpu_mask{host_mask};
  both<T> x(rows * width, 1, 0.5), y(rows * width, 2), dy(rows * width, 3), dx(rows * width, 4), f(rows * width, 5);
  both<T> gain(width, 6, 1), bias(width, 7), dgain(width, 8), dbias(width, 9);
  both<A> mean(rows, 10), rstd(rows, 11), space(msg::norm_workspace(rows, width), 12);
  both<float> gate(std::vector<float>{0.3F});
  const auto all = [&](const auto& executor, const auto& of, const msg::mask_view& mask) {
    const auto matrix = [&](auto& b) { return view(of(b), rows, width); };
    const auto vector = [&](auto& b) { return view(of(b), width); };
    msg::layer_norm(executor, mask, matrix(x), vector(gain), vector(bias), matrix(y), view(of(mean), rows),
                    view(of(rstd), rows));
    msg::layer_norm_gradient(executor, mask, matrix(x), vector(gain), view(of(mean), rows), view(of(rstd), rows),
                             matrix(dy), matrix(dx), true);
    msg::layer_norm_parameter_gradient(executor, mask, matrix(x), view(of(mean), rows), view(of(rstd), rows),
                                       matrix(dy), vector(dgain), vector(dbias), view(of(space), space.gpu.size()));
    msg::rms_norm(executor, mask, matrix(y), vector(gain), matrix(f), view(of(rstd), rows));
    msg::rms_norm_gradient(executor, mask, matrix(y), vector(gain), view(of(rstd), rows), matrix(dx), matrix(dy));
    msg::residual(executor, of(gate), matrix(x), matrix(f), matrix(x));
    msg::blend(executor, of(gate), matrix(x), matrix(f), matrix(y));
    executor.run(rows, width, msg::activation_forward<T, msg::gelu_tanh>{of(y), of(bias), of(f), width, mask});
    executor.run(rows, width, msg::activation_backward<T, msg::gelu_erf>{of(y), of(bias), of(dy), of(dx), width, mask});
    executor.run(rows, width, msg::activation_forward<T, msg::silu>{of(y), nullptr, of(y), width, mask});
    msg::scale(executor, mask, matrix(x));
  };
  all(msg::host{}, on_host{}, masked ? host_mask.view() : msg::mask_view{});
  all(on, on_gpu{}, masked ? gpu_mask.view() : msg::mask_view{});
  check(cudaStreamSynchronize(on.stream()), "cudaStreamSynchronize");
  const std::string where =
      std::string(type) + (masked ? " masked " : " ") + std::to_string(rows) + " x " + std::to_string(width);
  report(y.same_bits() && f.same_bits() && x.same_bits(), "forward kernels, " + where);
  report(dx.same_bits() && dy.same_bits(), "backward kernels, " + where);
  report(mean.same_bits() && rstd.same_bits(), "statistics, " + where);
  report(dgain.same_bits() && dbias.same_bits(), "gradients of gain and bias, " + where);
}

void optimizer_and_graph(cudaStream_t stream) {
  const msg::cuda::on on(stream);
  const index rows = 96, width = 80;
  msg::parameter_ages ages{.birth = {{}, {}}, .mask = {{}, {}}, .shape = {rows, width}};
  for (index j = 0; j < width; ++j) {
    ages.birth[1].push_back(j < 50 ? 0 : 10);
    ages.mask[1].push_back(j < 50 ? 1.0F : 0.0F);
  }
  both<float> w(rows * width, 1), g(rows * width, 2), m(rows * width, 3), v(rows * width, 4, 4);
  both<double> squares(std::vector<double>{0}), space(std::vector<double>(8, 0.0));
  msg::cuda::device_ages<msg::adamw> uploaded{{ages}};
  cudaGraph_t graph{};
  cudaGraphExec_t executable{};
  check(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), "cudaStreamBeginCapture");
  msg::cuda::sum_of_squares(on, view(g.gpu.data(), g.gpu.size()), view(space.gpu.data(), 8), squares.gpu.data());
  uploaded.clip(on, squares.gpu.data(), 1.0);
  msg::update(on, uploaded, 0, true, view(w.gpu.data(), rows * width), view(g.gpu.data(), rows * width),
              view(m.gpu.data(), rows * width), view(v.gpu.data(), rows * width));
  check(cudaStreamEndCapture(stream, &graph), "cudaStreamEndCapture");
  check(cudaGraphInstantiate(&executable, graph, 0), "cudaGraphInstantiate");
  for (const index step : {10, 11, 15}) {
    for (index j = 50; j < width; ++j) {
      ages.mask[1][static_cast<std::size_t>(j)] = static_cast<float>(step - 10) / 5;
    }
    msg::update_step now{.lr = 0.01, .step = step};
    uploaded.set(on, {}, now, {ages});
    check(cudaGraphLaunch(executable, stream), "cudaGraphLaunch");
    now.gradient_scale = msg::clip_scale(std::sqrt(msg::sum_of_squares(g.host)), 1.0);
    msg::update(msg::adamw{}, now, ages, w.host, g.host, m.host, v.host);
    check(cudaStreamSynchronize(stream), "cudaStreamSynchronize");
    report(w.same_bits() && m.same_bits() && v.same_bits(), "captured AdamW at step " + std::to_string(step));
  }
  check(cudaGraphExecDestroy(executable), "cudaGraphExecDestroy");
  check(cudaGraphDestroy(graph), "cudaGraphDestroy");
}

} // namespace

int main() try {
  try {
    msg::cuda::require_device();
  } catch (const msg::error& e) {
    std::printf("skipped: %s\n", e.what());
    return 77;
  }
  cudaStream_t stream{};
  check(cudaStreamCreate(&stream), "cudaStreamCreate");
  const msg::cuda::on on(stream);
  growth<float>(on, "float");
  growth<bfloat16>(on, "bfloat16");
  for (const bool masked : {false, true}) {
    kernels<float>(on, 70, 257, masked, "float");  // a block for each row, no packs
    kernels<float>(on, 1100, 96, masked, "float"); // half a warp for each row, packs
    kernels<bfloat16>(on, 1100, 64, masked, "bfloat16");
  }
  optimizer_and_graph(stream);
  check(cudaStreamDestroy(stream), "cudaStreamDestroy");
  std::printf("%d failures\n", failures);
  return failures == 0 ? 0 : 1;
} catch (const std::exception& e) {
  std::fprintf(stderr, "device_test: %s\n", e.what());
  return 1;
}
