// Growth on the GPU's path, with the bits of the host: values and both moments, every rule and placement, any strides,
// packed buffers, slices; and masks whose values lie in device memory.
#include "kernels/device.hpp"
#include "support/bfloat16.hpp"
#include "support/catch.hpp"
#include "support/growth_model.hpp"
#include "support/on_simt.hpp"
#include "support/poisoned.hpp"
#include "support/test_rules.hpp"

#include <msg/cuda.cuh>

#include <cstddef>
#include <cstring>
#include <memory>
#include <optional>
#include <string>
#include <vector>

using msg::init;
using msg::payload;
using msg::placement;
using testing::all_axes;
using testing::from_device;
using testing::growth_model;
using testing::held_stream;
using testing::numbers;
using testing::on_device;

namespace {

constexpr payload payloads[] = {payload::value, payload::moment1, payload::moment2};

[[nodiscard]] std::vector<msg::rule> rules() {
  return {msg::mask{.fresh = msg::fresh_values::all(init::normal(30))},
          msg::mask{.fresh = msg::fresh_values::all(init::matched()), .layers = msg::mask::start::fresh},
          msg::mask{.width = msg::mask::start::copy, .layers = msg::mask::start::fresh},
          testing::copies{0.75},
          testing::blocks{{msg::fill::init, msg::fill::zero, msg::fill::init}},
          testing::arbitrary{17}};
}

template <class T>
[[nodiscard]] bool same_bits(const std::vector<T>& a, const std::vector<T>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0;
}

template <class T>
[[nodiscard]] std::vector<T> grown_on_host(const msg::param_plan& p, const std::vector<T>& old,
                                           payload what = payload::value) {
  std::vector<T> result(static_cast<std::size_t>(p.size()));
  msg::apply(p, msg::view(old.data(), p.old_size()), msg::view(result.data(), p.size()), what);
  return result;
}

/// Random numbers of any element type.
template <class T>
[[nodiscard]] std::vector<T> elements(msg::index count) {
  std::vector<T> result;
  for (const float number : numbers<float>(count)) { result.push_back(static_cast<T>(number)); }
  return result;
}

} // namespace

TEMPLATE_TEST_CASE("a model grows in device memory to the bits it grows to on the host", "[cuda][growth]", float,
                   double, testing::bfloat16) {
  using T = TestType;
  const std::size_t which = GENERATE(range(std::size_t{0}, std::size_t{6}));
  for (const placement& where : {placement::append(), placement::prepend(), placement::interleave()}) {
    const msg::plan growth{growth_model(), all_axes, rules()[which], {.seed = 5, .placement = where}};
    const msg::cuda::device_plan uploaded{growth};
    for (const msg::param_plan& p : growth.parameters()) {
      const auto old = elements<T>(p.old_size());
      const auto src = on_device(old);
      for (const payload what : payloads) {
        CAPTURE(which, static_cast<int>(where.what), p.name, static_cast<int>(what));
        const msg::cuda::device_array<T> dst(p.size());
        msg::apply(msg::cuda::on(), uploaded[p.name], msg::view(src.data(), src.size()),
                   msg::view(dst.data(), dst.size()), what);
        CHECK(same_bits(from_device(dst), grown_on_host(p, old, what)));
      }
    }
  }
}

TEST_CASE("a packed buffer grows in one call, in stream order, though plan and upload of the host's are gone",
          "[cuda][growth]") {
  for (const payload what : payloads) {
    auto growth = std::make_unique<msg::plan>(growth_model(), all_axes,
                                              msg::mask{.fresh = msg::fresh_values::all(init::matched())});
    const auto old = numbers<float>(growth->before().size());
    std::vector<float> expected(static_cast<std::size_t>(growth->after().size()));
    msg::apply(*growth, old, expected, what);

    const msg::cuda::device_plan uploaded{*growth};
    growth.reset();
    const auto src = on_device(old);
    const msg::cuda::device_array<float> dst(static_cast<msg::index>(expected.size()));
    held_stream stream;
    msg::apply(stream.on(), uploaded, msg::view(src.data(), src.size()), msg::view(dst.data(), dst.size()), what);
    const unsigned before = simt::launches();
    stream.wait();
    CHECK(simt::launches() == before); // everything had been launched
    CHECK(same_bits(from_device(dst), expected));
  }
}

TEST_CASE("large tensors grow to the same bits with small teams", "[cuda][growth]") {
  const msg::axis a{"a", 1000}, b{"b", 24};
  msg::schema s;
  s.weight("w", out(a), in(b));
  const msg::plan growth{s, {a.grow_to(1500), b.grow_to(33)}, msg::mask{}};
  REQUIRE(!msg::cuda::detail::shape_of(1500, 33).whole_block);
  const msg::cuda::device_plan uploaded{growth};
  const auto old = numbers<float>(24000);
  const auto src = on_device(old);
  const msg::cuda::device_array<float> dst(1500 * 33);
  msg::apply(msg::cuda::on(), uploaded["w"], msg::view(src.data(), src.size()), msg::view(dst.data(), dst.size()));
  CHECK(same_bits(from_device(dst), grown_on_host(growth["w"], old)));
}

TEST_CASE("strided views and slices grow in device memory, and nothing around them is written", "[cuda][growth]") {
  const msg::plan growth{growth_model(), all_axes, testing::copies{0.75}};
  const msg::param_plan& whole = growth["gpt2"];
  for (const testing::layout& how :
       {testing::layout{}, testing::layout{{2, 0, 1}, 3, false}, testing::layout{{0, 2, 1}, 1, true}}) {
    testing::poisoned<float> src(whole.old_shape(), how);
    testing::poisoned<float> dst(whole.new_shape(), how);
    const auto old = numbers<float>(whole.old_size());
    src.fill(old);
    // the stand-in's device may read and write what is not device memory, too: guard bands around it can be looked at
    msg::apply(msg::cuda::on(), msg::cuda::device_param{whole}, src.view, dst.view);
    CHECK(testing::exactly_written(dst));
    CHECK(dst.values() == grown_on_host(whole, old));
  }
  for (msg::index layer = 0; layer < 5; ++layer) {
    const msg::param_plan slice = whole.at(layer);
    const auto old = numbers<float>(slice.old_size());
    std::vector<float> found(static_cast<std::size_t>(slice.size()));
    msg::apply(msg::cuda::on(), msg::cuda::device_param{slice}, old, found);
    CHECK(same_bits(found, grown_on_host(slice, old)));
  }
}

TEST_CASE("wrong shapes are found before anything is launched", "[cuda][growth]") {
  const msg::plan growth{growth_model(), all_axes};
  const msg::cuda::device_plan uploaded{growth};
  const msg::cuda::device_array<float> some(7);
  const unsigned before = simt::launches();
  CHECK_THROWS_AS(msg::apply(msg::cuda::on(), uploaded["square"], msg::view(some.data(), some.size()),
                             msg::view(some.data(), some.size())),
                  msg::error);
  CHECK_THROWS_AS(
      msg::apply(msg::cuda::on(), uploaded, msg::view(some.data(), some.size()), msg::view(some.data(), some.size())),
      msg::error);
  CHECK_THROWS_AS(uploaded["nothing"], msg::error);
  CHECK(simt::launches() == before);
}

TEST_CASE("a failed CUDA call is an error that names the call and what the runtime says", "[cuda][error]") {
  const auto text = [](const auto& call) -> std::string {
    simt::next_error() = cudaErrorMemoryAllocation;
    try {
      call();
    } catch (const msg::error& e) {
      return (e.code() == msg::errc::cuda ? "cuda: " : "other: ") + std::string(e.what());
    }
    return "nothing";
  };
  CHECK(text([] { msg::cuda::device_array<float> a(8); }) ==
        "cuda: msg: CUDA call failed, expected cudaMalloc to succeed, found cudaErrorMemoryAllocation: described here");
  const msg::cuda::device_array<float> a(8);
  CHECK(text([&] { a.write(std::vector<float>(8)); }).find("cudaMemcpy to succeed") != std::string::npos);
  CHECK(text([] { msg::cuda::require_device(); }).find("cudaGetDeviceCount to succeed") != std::string::npos);
  CHECK_NOTHROW(msg::cuda::require_device());
  const msg::cuda::device_mask mask{msg::axis_mask(8)};
  CHECK(text([&] { msg::scale(msg::cuda::on(), mask, msg::view(a.data(), 8)); }).find("cudaLaunchKernel to succeed") !=
        std::string::npos);
}

TEST_CASE("a captured graph follows the ramp of a mask", "[cuda][mask]") {
  const msg::plan growth{growth_model(), all_axes};
  msg::axis_mask mask{growth, "ffn"};
  msg::cuda::device_mask uploaded{mask};
  const auto old = numbers<float>(27);
  const auto src = on_device(old);
  const msg::cuda::device_array<float> dst(27), gain(9), bias(9), mean(3), rstd(3);
  gain.write(std::vector<float>(9, 1.5F));
  bias.write(std::vector<float>(9, 0.25F));
  held_stream stream;
  const auto norm = [&](const msg::mask_view& m, const auto& on) {
    msg::layer_norm(on, m, msg::view(src.data(), 3, 9), msg::view(gain.data(), 9), msg::view(bias.data(), 9),
                    msg::view(dst.data(), 3, 9), msg::view(mean.data(), 3), msg::view(rstd.data(), 3));
  };
  norm(uploaded, stream.on());
  stream.capture();
  for (const double c : {0.0, 0.25, 0.7, 1.0}) {
    mask.set(c);
    uploaded.set(stream.on(), mask);
    stream.replay();
    std::vector<float> expected(27), means(3), rstds(3);
    msg::layer_norm(mask, msg::view(old.data(), 3, 9), std::vector<float>(9, 1.5F), std::vector<float>(9, 0.25F),
                    msg::view(expected.data(), 3, 9), means, rstds);
    CHECK(same_bits(from_device(dst), expected));
  }
}

TEST_CASE("several growths of one axis have groups of their own, and unequal units of a group are refused",
          "[cuda][mask]") {
  msg::axis_mask mask(std::vector<std::uint8_t>{0, 0, 1, 1, 1});
  const std::vector<msg::index> births{0, 0, 10, 20, 20};
  const std::vector<float> values{1, 1, 0.5F, 0.25F, 0.25F};
  msg::cuda::device_mask grouped{mask, births};
  mask.set(values);
  grouped.set(msg::cuda::on(), mask);
  const auto scaled = [&](const msg::mask_view& m) {
    const auto x = on_device(std::vector<float>(5, 1.0F));
    msg::scale(msg::cuda::on(), m, msg::view(x.data(), 5));
    return from_device(x);
  };
  CHECK(scaled(grouped) == values);
  msg::cuda::device_mask by_flag{msg::axis_mask(std::vector<std::uint8_t>{0, 0, 1, 1, 1})};
  CHECK_THROWS_AS(by_flag.set(msg::cuda::on(), mask), msg::error);
  CHECK_THROWS_AS(by_flag.set(msg::cuda::on(), msg::axis_mask(3)), msg::error);
  CHECK_THROWS_AS((msg::cuda::device_mask{mask, std::vector<msg::index>{0, 1}}), msg::error);
  std::vector<msg::index> many;
  for (msg::index i = 0; i < 33; ++i) { many.push_back(i); }
  CHECK_THROWS_AS((msg::cuda::device_mask{msg::axis_mask(33), many}), msg::error);
  const auto y = on_device(std::vector<float>{1, 2});
  const auto f = on_device(std::vector<float>{4, 8});
  msg::residual(msg::cuda::on(), grouped.gate(3), msg::view(y.data(), 2), msg::view(f.data(), 2),
                msg::view(y.data(), 2));
  CHECK(from_device(y) == std::vector<float>{2, 4});
}
