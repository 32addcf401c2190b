// The executor of a CUDA stream: rows of a kernel over teams of threads. No call waits for the GPU or allocates, and
// every one can be captured into a graph.
#pragma once

#include <msg/config.hpp>
#include <msg/error.hpp>
#include <msg/exec/cuda_team.cuh>

#include <cuda_runtime.h>

#include <algorithm>
#include <string>
#include <utility>

MSG_NAMESPACE_BEGIN

namespace cuda {

/// Throws error{cuda} naming the call, unless it succeeded.
inline void check(cudaError_t code, const char* call) {
  if (code == cudaSuccess) { return; }
  (void)cudaGetLastError(); // it has been seen
  throw error(diagnostic{.code = errc::cuda,
                         .expected = std::string(call) + " to succeed",
                         .found = std::string(cudaGetErrorName(code)) + ": " + cudaGetErrorString(code)});
}

/// Throws error{cuda} that says so where no GPU can be used: none is there, or no driver that is new enough.
inline void require_device() {
  int count = 0; // left alone by the runtime where there is no driver
  check(cudaGetDeviceCount(&count), "cudaGetDeviceCount");
  if (count == 0) { check(cudaErrorNoDevice, "cudaGetDeviceCount"); }
}

namespace detail {

// The architectures of this translation unit are part of each kernel's name, so that two units compiled for different
// ones can meet in one program.
#if defined(__CUDA_ARCH_LIST__)
using architectures = std::integer_sequence<int, __CUDA_ARCH_LIST__>;
#else
using architectures = std::integer_sequence<int>;
#endif

inline constexpr int most_threads = 256; // of a block
inline constexpr index most_blocks = index{1} << 20;
inline constexpr index rows_for_small_teams = 1024; // from which on half-warps keep a GPU busy

/// Blocks of a kernel that a multiprocessor holds at once, at least: what bounds the registers of a thread.
template <class Kernel>
inline constexpr int least_blocks = 2;

template <class Kernel, class Architectures>
__global__ void __launch_bounds__(most_threads, least_blocks<Kernel>) __attribute__((visibility("hidden")))
rows_kernel(const __grid_constant__ Kernel kernel, index rows, bool whole_block, index scratch_bytes) {
  run_rows(kernel, rows, whole_block, scratch_bytes);
}

/// How a kernel is launched. Nothing computed depends on it.
struct launch_shape {
  bool whole_block = false; // a team is a block, else half a warp
  int threads = 0;          // of a block, a multiple of 32
  index blocks = 0;
};
[[nodiscard]] inline launch_shape shape_of(index rows, index cost) noexcept {
  launch_shape shape;
  shape.whole_block = rows < rows_for_small_teams;
  shape.threads =
      shape.whole_block ? static_cast<int>(std::clamp<index>((cost + 31) / 32 * 32, 32, most_threads)) : most_threads;
  const index teams = shape.whole_block ? 1 : shape.threads / team::lanes;
  shape.blocks = std::min((rows + teams - 1) / teams, most_blocks);
  return shape;
}

template <class Kernel>
void launch(const Kernel& kernel, index rows, launch_shape shape, cudaStream_t stream) {
  if (rows <= 0) { return; }
  index scratch_bytes = 0;
  if constexpr (wants_shared_memory<Kernel>) { scratch_bytes = (kernel.shared_bytes() + 15) / 16 * 16; }
  const index teams = shape.whole_block ? 1 : shape.threads / team::lanes;
  const auto shared = static_cast<std::size_t>(team::reserved_bytes + teams * scratch_bytes);
  Kernel copy = kernel;
  void* arguments[] = {&copy, &rows, &shape.whole_block, &scratch_bytes};
  check(cudaLaunchKernel(&rows_kernel<Kernel, architectures>, dim3(static_cast<unsigned>(shape.blocks)),
                         dim3(static_cast<unsigned>(shape.threads)), arguments, shared, stream),
        "cudaLaunchKernel");
}

/// The kernel reads arrays that a plan or an optimizer made on the host.
template <class Kernel>
inline constexpr bool reads_host_arrays = false;

/// A kernel whose arrays are the GPU's after all.
template <class Kernel>
struct device_row {
  Kernel kernel;
  template <class Team>
  MSG_HOST_DEVICE void operator()(const Team& team, index row) const {
    kernel(team, row);
  }
};

} // namespace detail

/// Runs kernels on a stream, in its order: msg::layer_norm(msg::cuda::on(stream), ...). Every tensor, mask and gate it
/// is given lies in memory that the GPU reads; plans and ages are uploaded first (device_plan, device_ages).
class on {
public:
  explicit on(cudaStream_t stream = nullptr) noexcept : stream_(stream) {}
  [[nodiscard]] cudaStream_t stream() const noexcept { return stream_; }

  template <class Kernel>
  void run(index rows, index cost, const Kernel& kernel) const {
    static_assert(!detail::reads_host_arrays<Kernel>,
                  "this call takes arrays of the host's to the GPU: upload them once, by msg::cuda::device_plan for "
                  "apply(), by msg::cuda::device_ages for update(); sum_of_squares() is in msg::cuda");
    detail::launch(kernel, rows, detail::shape_of(rows, cost), stream_);
  }

private:
  cudaStream_t stream_;
};

} // namespace cuda

MSG_NAMESPACE_END
