// Learning rates by birth on the GPU's path: the bits of the host, step after step, from one captured update.
#include "kernels/device.hpp"
#include "kernels/rows.hpp"
#include "support/catch.hpp"
#include "support/on_simt.hpp"

#include <msg/cuda.cuh>

#include <algorithm>
#include <cstring>
#include <vector>

using testing::from_device;
using testing::held_stream;
using testing::on_device;

namespace {

constexpr msg::index rows_of = 6;
constexpr msg::index columns = 70;

// A third of the columns came at step 10, a half of the rows at step 15.
msg::parameter_ages two_births() {
  msg::parameter_ages ages{
      {std::vector<msg::index>(rows_of, 0), std::vector<msg::index>(columns, 0)}, {}, {rows_of, columns}};
  std::fill(ages.birth[0].begin() + rows_of / 2, ages.birth[0].end(), 15);
  std::fill(ages.birth[1].begin() + columns * 2 / 3, ages.birth[1].end(), 10);
  return ages;
}

template <class Options>
void bits_agree(const Options& options) {
  const msg::parameter_ages ages = two_births();
  std::vector<std::vector<float>> host;
  std::vector<msg::cuda::device_array<float>> gpu;
  for (std::uint64_t stream = 0; stream < 2 + Options::moments; ++stream) {
    host.push_back(stream < 3 ? rows::normal<float>(rows_of * columns, stream)
                              : rows::normal<float>(rows_of * columns, stream, 4, 0.5));
    gpu.push_back(on_device(host.back()));
  }
  const auto view = [&](std::size_t i) { return msg::view(gpu[i].data(), gpu[i].size()); };
  msg::cuda::device_ages<Options, float> on_gpu{{ages}};
  held_stream stream;
  if constexpr (Options::moments == 2) {
    msg::update(stream.on(), on_gpu, 0, true, view(0), view(1), view(2), view(3));
  } else {
    msg::update(stream.on(), on_gpu, 0, true, view(0), view(1), view(2));
  }
  stream.capture();
  for (const msg::index step : {20, 21, 400, 401}) {
    CAPTURE(step);
    // fades, as a ramp does; the older growth learns faster, the younger one slower
    const double faded = step < 400 ? 1.0 / static_cast<double>(step) : 0.5;
    const std::vector<msg::birth_rate> rates{{10, 1 + faded}, {15, 1 - faded}};
    const msg::update_step now{.lr = 0.01, .step = step, .rates = rates};
    on_gpu.set(stream.on(), options, now, {ages});
    stream.replay();
    if constexpr (Options::moments == 2) {
      msg::update(options, now, ages, host[0], host[1], host[2], host[3]);
    } else {
      msg::update(options, now, ages, host[0], host[1], host[2]);
    }
    for (std::size_t i = 0; i < host.size(); ++i) {
      const std::vector<float> back = from_device(gpu[i]);
      CHECK(std::memcmp(back.data(), host[i].data(), back.size() * sizeof(float)) == 0);
    }
  }
}

} // namespace

TEST_CASE("rates by birth have the bits of the host", "[cuda][optimizer][rates]") {
  bits_agree(msg::adamw{.weight_decay = 0.25});
  bits_agree(msg::sgd{.weight_decay = 0.25});
  bits_agree(msg::lion{.weight_decay = 0.25});
}
