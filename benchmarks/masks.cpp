// What a mask costs in the passes that touch the data anyway: rows of norms, activations, scalings and depth gates with
// a mask beside the same rows without one, forward and backward, one thread.
//
// 64 rows of 768 (norms, residual, blend) or 3072 (activations, scaling) floats. Half of the units, or the layer, are
// at c: 0 and 0.5 are a ramp's beginning and middle, 1 is its last step. Plain scaling is a copy.
//
// usage: masks [--smoke] [Google Benchmark's options]
#include "ratios.hpp"

#include <msg/grow.hpp>
#include <msg/kernels/activation.hpp>

#include <benchmark/benchmark.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace {

using msg::index;

constexpr index most_rows = 64; // a block of rows, as a model takes them through its steps while they are in the cache

/// Numbers that stay what they are, and somewhere to write.
struct rows {
  index count, width;
  std::vector<float> x, dy;          // (count, width)
  std::vector<float> pair;           // (count, 2 width), gates and ups
  std::vector<float> y, z, pair_out; // written
  std::vector<float> gain, bias, mean, rstd;

  rows(index row_count, index row_width)
      : count(row_count), width(row_width), x(numbers(row_count * row_width, 1)), dy(numbers(row_count * row_width, 2)),
        pair(numbers(2 * row_count * row_width, 5)), y(x.size()), z(x.size()), pair_out(pair.size()),
        gain(numbers(row_width, 3)), bias(numbers(row_width, 4)), mean(static_cast<std::size_t>(row_count), 0.1F),
        rstd(static_cast<std::size_t>(row_count), 1.1F) {}

private:
  static std::vector<float> numbers(index size, std::uint64_t stream) {
    std::vector<float> result;
    result.reserve(static_cast<std::size_t>(size));
    for (index i = 0; i < size; ++i) {
      result.push_back(static_cast<float>(msg::random_normal({1, stream}, static_cast<std::uint64_t>(i))));
    }
    return result;
  }
};

/// Registers kernel(rows, mask, gate) with a mask at each c beside the same without.
template <class Kernel>
void add(const std::string& name, const std::shared_ptr<rows>& data, const Kernel& kernel) {
  for (const double c : {0.0, 0.5, 1.0}) {
    const std::string full = name + "/" + std::to_string(data->count) + "x" + std::to_string(data->width) + "/c=" +
                             (c == 0.5 ? "0.5"
                              : c == 0 ? "0"
                                       : "1");
    benchmark::RegisterBenchmark(full.c_str(),
                                 [=](benchmark::State& state) {
                                   std::vector<std::uint8_t> fresh(static_cast<std::size_t>(data->width), 0);
                                   for (std::size_t i = fresh.size() / 2; i < fresh.size(); ++i) { fresh[i] = 1; }
                                   msg::axis_mask mask(std::move(fresh));
                                   mask.set(c);
                                   const auto gate = static_cast<float>(c);
                                   const auto run = [&](const msg::mask_view& units, const float* layer) {
                                     msg::host{1}.run(data->count, data->width, kernel(*data, units, layer));
                                     benchmark::DoNotOptimize(data->y.data());
                                     benchmark::ClobberMemory();
                                   };
                                   study::time_in_turn(
                                       state, data->y.size() * sizeof(float), "plain", [&] { run({}, nullptr); },
                                       [&] { run(mask, &gate); });
                                 })
        ->UseManualTime()
        ->Unit(benchmark::kMicrosecond);
  }
}

template <class Activation>
void add_activation(const std::string& name, const std::shared_ptr<rows>& data) {
  add(name + " forward", data, [](rows& r, const msg::mask_view& mask, const float*) {
    return msg::activation_forward<float, Activation>{r.x.data(), r.bias.data(), r.y.data(), r.width, mask};
  });
  add(name + " backward", data, [](rows& r, const msg::mask_view& mask, const float*) {
    return msg::activation_backward<float, Activation>{r.x.data(), r.bias.data(), r.dy.data(),
                                                       r.y.data(), r.width,       mask};
  });
}

} // namespace

int main(int argc, char** argv) {
  const study::benchmark_arguments arguments(argc, argv);
  if (!arguments.valid) { return 2; }
  const msg::index count = arguments.smoke ? 8 : most_rows;
  const auto narrow = std::make_shared<rows>(count, 768);
  const auto wide = std::make_shared<rows>(count, 3072);

  add("layer_norm forward", narrow, [](rows& r, const msg::mask_view& mask, const float*) {
    return msg::layer_norm_forward<float>{r.x.data(),    r.gain.data(), r.bias.data(), r.y.data(), r.mean.data(),
                                          r.rstd.data(), r.width,       1e-5,          mask,       mask};
  });
  add("layer_norm backward", narrow, [](rows& r, const msg::mask_view& mask, const float*) {
    return msg::layer_norm_backward<float>{r.x.data(), r.gain.data(), r.mean.data(), r.rstd.data(), r.dy.data(),
                                           r.y.data(), r.width,       false,         mask,          mask};
  });
  add("rms_norm forward", narrow, [](rows& r, const msg::mask_view& mask, const float*) {
    return msg::rms_norm_forward<float>{r.x.data(), r.gain.data(), r.y.data(), r.rstd.data(),
                                        r.width,    1e-5,          mask,       mask};
  });
  add("rms_norm backward", narrow, [](rows& r, const msg::mask_view& mask, const float*) {
    return msg::rms_norm_backward<float>{r.x.data(), r.gain.data(), r.rstd.data(), r.dy.data(), r.y.data(),
                                         r.width,    false,         mask,          mask};
  });
  add_activation<msg::gelu_tanh>("gelu_tanh", wide);
  add_activation<msg::gelu_erf>("gelu_erf", wide);
  add("swiglu forward", wide, [](rows& r, const msg::mask_view& mask, const float*) {
    return msg::gated_forward<float>{r.pair.data(), r.y.data(), r.width, mask};
  });
  add("swiglu backward", wide, [](rows& r, const msg::mask_view& mask, const float*) {
    return msg::gated_backward<float>{r.pair.data(), r.dy.data(), r.pair_out.data(), r.width, mask};
  });
  add("scale", wide, [](rows& r, const msg::mask_view& mask, const float*) {
    return msg::scale_row<float>{r.x.data(), r.y.data(), r.width, mask};
  });
  add("residual forward", narrow, [](rows& r, const msg::mask_view&, const float* gate) {
    return msg::residual_forward<float>{r.x.data(), r.dy.data(), r.bias.data(), r.y.data(), r.width, gate};
  });
  add("residual backward", narrow, [](rows& r, const msg::mask_view&, const float* gate) {
    return msg::residual_backward<float>{r.dy.data(), r.y.data(), r.width, gate};
  });
  add("blend forward", narrow, [](rows& r, const msg::mask_view&, const float* gate) {
    return msg::blend_forward<float>{r.x.data(), r.dy.data(), r.y.data(), r.width, gate};
  });
  add("blend backward", narrow, [](rows& r, const msg::mask_view&, const float* gate) {
    return msg::blend_backward<float>{r.dy.data(), r.y.data(), r.z.data(), r.width, gate};
  });
  return study::run_benchmarks(
      arguments, "Masked rows beside plain rows, one thread", "time over that of the same rows without a mask",
      [](const std::string& name) { return name.find("backward") != std::string::npos ? 1 : 0; });
}
