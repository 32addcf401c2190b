// Memory bandwidth of growth and of masked norms on a GPU, beside a device-to-device copy of as many bytes in the same
// run. Ends with 77 where there is no GPU.
//
// usage: cuda_bandwidth [--csv FILE] [--repetitions 20]
#include <msg/cuda.cuh>

#include <cuda_bf16.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

namespace {

using msg::index;
using msg::view;
using msg::cuda::check;
using msg::cuda::device_array;

int repetitions = 20;
std::FILE* csv = nullptr;

/// Median time of what `enqueue` puts on the stream, in milliseconds.
template <class Enqueue>
double milliseconds(cudaStream_t stream, const Enqueue& enqueue) {
  cudaEvent_t begin{}, end{};
  check(cudaEventCreate(&begin), "cudaEventCreate");
  check(cudaEventCreate(&end), "cudaEventCreate");
  std::vector<float> times;
  for (int i = 0; i < repetitions + 3; ++i) {
    check(cudaEventRecord(begin, stream), "cudaEventRecord");
    enqueue();
    check(cudaEventRecord(end, stream), "cudaEventRecord");
    check(cudaEventSynchronize(end), "cudaEventSynchronize");
    float time = 0;
    check(cudaEventElapsedTime(&time, begin, end), "cudaEventElapsedTime");
    if (i >= 3) { times.push_back(time); } // the first ones warm up
  }
  check(cudaEventDestroy(begin), "cudaEventDestroy");
  check(cudaEventDestroy(end), "cudaEventDestroy");
  std::nth_element(times.begin(), times.begin() + repetitions / 2, times.end());
  return times[static_cast<std::size_t>(repetitions / 2)];
}

/// Bytes read and written by `enqueue`, against a copy that reads and writes as many.
template <class Enqueue>
void compare(cudaStream_t stream, const std::string& name, index bytes, const Enqueue& enqueue) {
  const device_array<unsigned char> from(bytes / 2), to(bytes / 2);
  const double copy = milliseconds(stream, [&] {
    check(
        cudaMemcpyAsync(to.data(), from.data(), static_cast<std::size_t>(bytes / 2), cudaMemcpyDeviceToDevice, stream),
        "cudaMemcpyAsync");
  });
  const double ours = milliseconds(stream, enqueue);
  const double scale = static_cast<double>(bytes) / 1e6;
  std::printf("%-44s %8.1f GB/s   copy %8.1f GB/s   ratio %.2f\n", name.c_str(), scale / ours, scale / copy,
              copy / ours);
  if (csv != nullptr) { std::fprintf(csv, "%s,%g,%g,%g\n", name.c_str(), scale / ours, scale / copy, copy / ours); }
}

template <class T>
void growth(const msg::cuda::on& on, const char* type) {
  const msg::axis hidden{"hidden", 3072}, ffn{"ffn", 12288};
  msg::schema s;
  s.weight("w", out(ffn), in(hidden));
  const msg::plan plan{s, {hidden.grow_to(4096), ffn.grow_to(16384)}, msg::mask{.width = msg::mask::start::copy}};
  const msg::cuda::device_plan uploaded{plan};
  const device_array<T> old(plan.before().size()), grown(plan.after().size());
  const index bytes = (plan.before().size() + plan.after().size()) * static_cast<index>(sizeof(T));
  for (const auto& [what, name] :
       {std::pair{msg::payload::value, "value"}, std::pair{msg::payload::moment1, "moment"}}) {
    compare(on.stream(), std::string("growth ") + type + " 12288x3072 to 16384x4096 " + name, bytes, [&, what = what] {
      msg::apply(on, uploaded, view(old.data(), old.size()), view(grown.data(), grown.size()), what);
    });
  }
}

template <class T>
void norms(const msg::cuda::on& on, const char* type) {
  const index rows = 16384, width = 4096;
  msg::axis_mask mask(std::vector<std::uint8_t>(static_cast<std::size_t>(width), 1));
  mask.set(0.5);
  const msg::cuda::device_mask uploaded{mask};
  const device_array<T> x(rows * width), y(rows * width), gain(width), bias(width);
  const device_array<float> mean(rows), rstd(rows);
  const index bytes = 2 * rows * width * static_cast<index>(sizeof(T));
  for (const bool masked : {false, true}) {
    compare(on.stream(), std::string(masked ? "masked" : "plain ") + " layer norm " + type + " 16384x4096", bytes, [&] {
      msg::layer_norm(on, masked ? uploaded.view() : msg::mask_view{}, view(x.data(), rows, width),
                      view(gain.data(), width), view(bias.data(), width), view(y.data(), rows, width),
                      view(mean.data(), rows), view(rstd.data(), rows));
    });
  }
}

} // namespace

int main(int count, char** arguments) try {
  for (int i = 1; i + 1 < count; i += 2) {
    const std::string option = arguments[i];
    if (option == "--csv") {
      csv = std::fopen(arguments[i + 1], "w");
    } else if (option == "--repetitions") {
      repetitions = std::max(1, std::atoi(arguments[i + 1]));
    } else {
      std::fprintf(stderr, "usage: cuda_bandwidth [--csv FILE] [--repetitions 20]\n");
      return 2;
    }
  }
  try {
    msg::cuda::require_device();
  } catch (const msg::error& e) {
    std::printf("skipped: %s\n", e.what());
    return 77;
  }
  if (csv != nullptr) { std::fprintf(csv, "what,gb_per_s,copy_gb_per_s,ratio\n"); }
  cudaStream_t stream{};
  check(cudaStreamCreate(&stream), "cudaStreamCreate");
  const msg::cuda::on on(stream);
  growth<float>(on, "float");
  growth<__nv_bfloat16>(on, "bfloat16");
  norms<float>(on, "float");
  norms<__nv_bfloat16>(on, "bfloat16");
  check(cudaStreamDestroy(stream), "cudaStreamDestroy");
  if (csv != nullptr) { std::fclose(csv); }
  return 0;
} catch (const std::exception& e) {
  std::fprintf(stderr, "cuda_bandwidth: %s\n", e.what());
  return 1;
}
