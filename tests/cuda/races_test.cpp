// Every kernel with a thread of the operating system for each CUDA thread, in small shapes: under ThreadSanitizer this
// finds what a thread reads or writes without a barrier in between.
#include "cuda/every_kernel.hpp"
#include "kernels/device.hpp"
#include "kernels/rows.hpp"
#include "support/catch.hpp"

#include <msg/exec/cuda.cuh>

#include <string>
#include <vector>

using msg::cuda::detail::launch_shape;

TEST_CASE("kernels do not race, and have the bits of the host on real threads", "[cuda][threads]") {
  const launch_shape shape = GENERATE(launch_shape{false, 32, 1}, launch_shape{true, 32, 1}, launch_shape{true, 64, 1});
  const msg::index width = GENERATE(msg::index{33}, msg::index{48});
  const rows::unit_mask mask = rows::mixed(width);
  testing::arrays<float> serial(5, width, 0);
  testing::arrays<float> simt(5, width, 0);
  std::vector<testing::arrays<float>> steps;
  testing::every_kernel(serial, mask.view(), [&](const char*, msg::index number, const auto& kernel) {
    msg::host{1}.run(number, width, kernel);
    steps.push_back(serial);
  });
  simt::current_options().threads = true;
  std::size_t step = 0;
  std::string different;
  testing::every_kernel(simt, mask.view(), [&](const char* name, msg::index number, const auto& kernel) {
    msg::cuda::detail::launch(kernel, number, shape, nullptr);
    if (different.empty() && !(simt == steps[step])) { different = name; }
    ++step;
  });
  CHECK(different == "");
}
