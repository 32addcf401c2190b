// Where kernel tests run: on the host, or, compiled again with MSG_TEST_ON_SIMT, on the CUDA team over the SIMT layer.
#pragma once

#if defined(MSG_TEST_ON_SIMT)
#include <cuda_runtime.h> // tests/support/device: before the library, for which it stands in for nvcc

#include <msg/exec/cuda.cuh>
#endif

#include <msg/exec/serial.hpp>

namespace rows {

#if defined(MSG_TEST_ON_SIMT)

/// Every launch another team, block and order of threads: 18 of them in turn.
struct device {
  int threads = 0; // as msg::host's: says where in the turn to be; nothing computed may depend on it

  static constexpr msg::cuda::detail::launch_shape shapes[] = {{false, 32, 1}, {true, 32, 1}, {false, 64, 2},
                                                               {true, 64, 2},  {true, 96, 1}, {false, 96, 3}};
  static constexpr simt::order orders[] = {simt::order::forward, simt::order::reverse, simt::order::random};

  template <class Kernel>
  void run(msg::index rows, msg::index, const Kernel& kernel) const {
    static unsigned turn = 0;
    const unsigned now = threads > 0 ? static_cast<unsigned>(threads) : turn++;
    simt::current_options().order = orders[now % 3];
    simt::current_options().seed = now;
    msg::cuda::detail::launch(kernel, rows, shapes[now / 3 % 6], nullptr);
  }
};

#else

using device = msg::host;

#endif

} // namespace rows
