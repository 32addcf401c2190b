#include "kernels/exact_norm.hpp"
#include "support/catch.hpp"
#include "support/thrown.hpp"

#include <msg/mask.hpp>

#include <cmath>
#include <cstdint>
#include <limits>
#include <string_view>
#include <type_traits>
#include <vector>

using rows::at;
using rows::norm_kind;
using rows::norm_run;

namespace {

/// What axis_mask needs of a plan: three old units, then two fresh ones.
struct tiny_plan {
  [[nodiscard]] std::vector<std::uint8_t> fresh_units(std::string_view axis) const {
    if (axis != "ffn") { throw msg::error(msg::diagnostic{.code = msg::errc::unknown_axis}); }
    return {0, 0, 0, 1, 1};
  }
};

template <class Function>
[[nodiscard]] msg::errc thrown_code(const Function& f) {
  return testing::findings_of(f).front().code;
}

} // namespace

TEST_CASE("a linear ramp is i / T at step i and ends at exactly 1", "[ramp]") {
  const auto steps = GENERATE(msg::index{1}, msg::index{3}, msg::index{200}, msg::index{5000});
  const msg::linear_ramp ramp{.steps = steps};
  CHECK(ramp(-1) == 0);
  CHECK(ramp(0) == 0);
  for (msg::index i = 0; i <= steps; ++i) { REQUIRE(ramp(i) == static_cast<double>(i) / static_cast<double>(steps)); }
  CHECK(ramp(steps) == 1);
  CHECK(ramp(steps + 1) == 1);
  CHECK(ramp(std::numeric_limits<msg::index>::max()) == 1);
}

TEST_CASE("a cosine ramp rises by half a cosine", "[ramp]") {
  const msg::index steps = 1000;
  const msg::cosine_ramp ramp{.steps = steps};
  CHECK(ramp(-5) == 0);
  CHECK(ramp(0) == 0);
  CHECK(ramp(steps) == 1);
  double last = -1;
  for (msg::index i = 0; i <= steps; ++i) {
    const long double t = static_cast<long double>(i) / static_cast<long double>(steps);
    const long double exact = (1 - std::cos(3.14159265358979323846264338327950288L * t)) / 2;
    // i / T, the sine twice (4 epsilon, as random_test bounds it), the square
    REQUIRE(std::abs(static_cast<long double>(ramp(i)) - exact) < 10 * 0x1p-53L);
    REQUIRE(ramp(i) > last);
    last = ramp(i);
  }
}

TEST_CASE("a step ramp waits and jumps", "[ramp]") {
  const msg::step_ramp ramp{.steps = 7};
  CHECK(ramp(0) == 0);
  CHECK(ramp(6) == 0);
  CHECK(ramp(7) == 1);
  CHECK(ramp(8) == 1);
}

TEST_CASE("a ramp of no steps is 1 at once", "[ramp]") {
  const auto shape = GENERATE(msg::ramp_shape::linear, msg::ramp_shape::cosine, msg::ramp_shape::step);
  const msg::ramp ramp{shape, 0};
  CHECK(ramp(-1) == 0);
  CHECK(ramp(0) == 1);
  CHECK(ramp(1) == 1);
}

TEST_CASE("ramps by name are ramps", "[ramp]") {
  const msg::ramp linear = msg::linear_ramp{.steps = 4};
  const msg::ramp cosine = msg::cosine_ramp{.steps = 5};
  const msg::ramp step = msg::step_ramp{.steps = 6};
  CHECK((linear.shape == msg::ramp_shape::linear && linear.steps == 4));
  CHECK((cosine.shape == msg::ramp_shape::cosine && cosine.steps == 5));
  CHECK((step.shape == msg::ramp_shape::step && step.steps == 6));
}

TEST_CASE("a mask without fresh units is all ones", "[mask]") {
  msg::axis_mask mask{5};
  mask.set(0.25);
  CHECK(mask.size() == 5);
  CHECK(mask.sum() == 5);
  CHECK(mask.values() == std::vector<float>(5, 1));
  CHECK(msg::axis_mask{0}.size() == 0);
  CHECK(thrown_code([] { msg::axis_mask{-1}; }) == msg::errc::bad_size);
}

TEST_CASE("a mask starts at 0 on fresh units and follows set()", "[mask]") {
  msg::axis_mask mask{std::vector<std::uint8_t>{0, 1, 0, 1, 1}};
  CHECK(mask.values() == std::vector<float>{1, 0, 1, 0, 0});
  CHECK(mask.sum() == 2);
  mask.set(msg::linear_ramp{.steps = 8}(2));
  CHECK(mask.values() == std::vector<float>{1, 0.25F, 1, 0.25F, 0.25F});
  CHECK(mask.sum() == 2.75);
  mask.set(1.0);
  CHECK(mask.sum() == 5);
}

TEST_CASE("the sum of a mask is that of the floats the kernels see", "[mask]") {
  msg::axis_mask mask{std::vector<std::uint8_t>(1000, 1)};
  mask.set(0.3);
  CHECK(mask.sum() == Approx(1000 * static_cast<double>(0.3F)).epsilon(1e-13)); // 1000 additions in double
  CHECK(std::abs(mask.sum() - 300) > 1e-6);                                     // not of the double 0.3
}

TEST_CASE("a mask takes several growths in flight, unit by unit", "[mask]") {
  msg::axis_mask mask{4};
  mask.set(std::vector<float>{1, 1, 0.75F, 0});
  CHECK(mask.sum() == 2.75);
  CHECK(mask.values()[3] == 0);
  CHECK(thrown_code([&] { mask.set(std::vector<float>{1, 1, 1}); }) == msg::errc::shape_mismatch);
  CHECK(thrown_code([&] { mask.set(std::vector<float>{1, 1, 1, 1.5F}); }) == msg::errc::bad_argument);
  CHECK(mask.sum() == 2.75); // unchanged by the refusals
}

TEST_CASE("a mask refuses values outside 0 and 1", "[mask]") {
  const auto c = GENERATE(-0.1, 1.1, std::numeric_limits<double>::quiet_NaN());
  msg::axis_mask mask{std::vector<std::uint8_t>{0, 1}};
  CHECK(thrown_code([&] { mask.set(c); }) == msg::errc::bad_argument);
  CHECK(mask.values() == std::vector<float>{1, 0});
}

TEST_CASE("a mask reads its fresh units from a plan", "[mask]") {
  const msg::axis_mask mask{tiny_plan{}, "ffn"};
  CHECK(mask.values() == std::vector<float>{1, 1, 1, 0, 0});
  CHECK(mask.fresh() == std::vector<std::uint8_t>{0, 0, 0, 1, 1});
  CHECK(thrown_code([] { msg::axis_mask{tiny_plan{}, "hidden"}; }) == msg::errc::unknown_axis);
}

TEST_CASE("a view follows its mask, and a temporary mask gives none", "[mask]") {
  msg::axis_mask mask{tiny_plan{}, "ffn"};
  const msg::mask_view view = mask.view();
  mask.set(0.5);
  CHECK(*view.sum == 4);
  CHECK(view.value[4] == 0.5F);
  CHECK(view.size == 5);
  CHECK(*mask.gate(4) == 0.5F);
  static_assert(std::is_convertible_v<const msg::axis_mask&, msg::mask_view>);
  static_assert(!std::is_convertible_v<msg::axis_mask&&, msg::mask_view>);
}

TEST_CASE("scale multiplies the last dimension of any tensor", "[mask]") {
  msg::axis_mask mask{std::vector<std::uint8_t>{0, 0, 1}};
  mask.set(0.5);
  std::vector<float> flat{1, 2, 3, 4, 5, 6};
  msg::scale(mask, flat); // rank 1: two rows of three
  CHECK(flat == std::vector<float>{1, 2, 1.5F, 4, 5, 3});

  double cube[12] = {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1};
  msg::scale(msg::host{.threads = 1}, mask, msg::view(cube, 2, 1, 6)); // heads * head_dim: two channels a unit
  for (msg::index i = 0; i < 12; ++i) { CHECK(cube[i] == (i % 6 < 4 ? 1.0 : 0.5)); }

  std::vector<float> none;
  msg::scale(mask, none);
  msg::scale(msg::mask_view{}, flat);
  CHECK(flat[2] == 1.5F); // no mask: nothing done
}

TEST_CASE("masked calls refuse shapes that do not fit, before writing", "[mask]") {
  const msg::axis_mask mask{std::vector<std::uint8_t>{0, 1, 1}};
  std::vector<float> h(8, 1);
  CHECK(thrown_code([&] { msg::scale(mask, h); }) == msg::errc::shape_mismatch);
  CHECK(thrown_code([&] { msg::scale(mask, msg::view(h.data(), 2, 4)); }) == msg::errc::shape_mismatch);
  const auto transposed = msg::strided(h.data(), {2, 3}, {1, 2});
  CHECK(thrown_code([&] { msg::scale(mask, transposed); }) == msg::errc::shape_mismatch);
  CHECK(h == std::vector<float>(8, 1));

  std::vector<float> x(6, 1);
  std::vector<float> gain(3, 1);
  std::vector<float> bias(3, 1);
  std::vector<float> y(6, -1);
  std::vector<float> mean(2);
  std::vector<float> rstd(2);
  std::vector<float> shorter(2);
  const auto norm = [&](auto&... tensors) { return [&] { msg::layer_norm(mask, tensors...); }; };
  CHECK(thrown_code(norm(x, gain, shorter, y, mean, rstd)) == msg::errc::shape_mismatch);
  CHECK(thrown_code(norm(x, shorter, bias, y, mean, rstd)) == msg::errc::shape_mismatch);
  CHECK(thrown_code(norm(x, gain, bias, shorter, mean, rstd)) == msg::errc::shape_mismatch);
  CHECK(thrown_code(norm(x, gain, bias, y, x, rstd)) == msg::errc::shape_mismatch);
  CHECK(thrown_code(norm(x, gain, bias, y, mean, x)) == msg::errc::shape_mismatch);
  CHECK(y == std::vector<float>(6, -1));
  auto wide = msg::view(x.data(), 1, 6); // twice the gain's width: not a row of this norm
  CHECK(thrown_code(norm(wide, gain, bias, y, mean, rstd)) == msg::errc::shape_mismatch);
  CHECK(thrown_code([&] { msg::layer_norm_parameter_gradient(mask, x, mean, rstd, y, gain, bias, shorter); }) ==
        msg::errc::shape_mismatch);
  CHECK(thrown_code([&] { msg::residual(nullptr, x, shorter, y); }) == msg::errc::shape_mismatch);
  CHECK(thrown_code([&] { msg::blend_gradient(nullptr, x, y, shorter); }) == msg::errc::shape_mismatch);
}

TEST_CASE("the calls on a LayerNorm run its kernels", "[mask]") {
  const msg::index width = 33;
  const msg::index row_count = 70;
  msg::axis_mask mask{width};
  mask.set(rows::mixed(width).value);
  norm_run<float, norm_kind::layer> expected(row_count, width, rows::mixed(width), rows::mixed(width));
  norm_run<float, norm_kind::layer> run = expected;
  expected.forward();
  expected.backward();
  expected.parameter_gradients();

  msg::layer_norm(mask, run.x, run.gain, run.bias, run.y, run.mean, run.rstd);
  msg::layer_norm_gradient(mask, run.x, run.gain, run.mean, run.rstd, run.dy, run.dx);
  std::vector<float> workspace(at(msg::norm_workspace(row_count, width)), rows::nan<float>);
  msg::layer_norm_parameter_gradient(mask, run.x, run.mean, run.rstd, run.dy, run.dgain, run.dbias, workspace);
  CHECK(rows::differing(run.y, expected.y) == 0);
  CHECK(rows::differing(run.dx, expected.dx) == 0);
  CHECK(rows::differing(run.dgain, expected.dgain) == 0);
  CHECK(rows::differing(run.dbias, expected.dbias) == 0);
  msg::layer_norm_gradient(mask, run.x, run.gain, run.mean, run.rstd, run.dy, run.dx, true);
  CHECK(run.dx[0] == 2 * expected.dx[0]);
}

TEST_CASE("the calls on an RMSNorm run its kernels, also without a mask", "[mask]") {
  const msg::index width = 33;
  const msg::index row_count = 70;
  const bool masked = GENERATE(false, true);
  const rows::unit_mask units = masked ? rows::mixed(width) : rows::unit_mask{};
  norm_run<double, norm_kind::rms> expected(row_count, width, units, units);
  norm_run<double, norm_kind::rms> run = expected;
  expected.forward();
  expected.backward();
  expected.parameter_gradients();

  msg::rms_norm(units.view(), msg::view(run.x.data(), row_count, width), run.gain, run.y, run.rstd);
  msg::rms_norm_gradient(units.view(), run.x, run.gain, run.rstd, run.dy, run.dx);
  std::vector<double> workspace(at(msg::norm_workspace(row_count, width)), rows::nan<double>);
  msg::rms_norm_parameter_gradient(units.view(), run.x, run.rstd, run.dy, run.dgain, workspace);
  CHECK(rows::differing(run.y, expected.y) == 0);
  CHECK(rows::differing(run.dx, expected.dx) == 0);
  CHECK(rows::differing(run.dgain, expected.dgain) == 0);
}

TEST_CASE("residual and blend take their gate from a mask of the layers", "[mask]") {
  msg::axis_mask layers{std::vector<std::uint8_t>{0, 1}};
  layers.set(0.25);
  const std::vector<float> x{1, 2};
  const std::vector<float> f{4, 8};
  std::vector<float> y(2);
  std::vector<float> dx(2);
  msg::residual(layers.gate(0), x, f, y);
  CHECK(y == std::vector<float>{5, 10});
  msg::residual(layers.gate(1), x, f, y);
  CHECK(y == std::vector<float>{2, 4});
  msg::residual_gradient(layers.gate(1), f, y);
  CHECK(y == std::vector<float>{1, 2});
  msg::blend(msg::host{}, layers.gate(1), x, f, y);
  CHECK(y == std::vector<float>{1.75F, 3.5F});
  msg::blend_gradient(layers.gate(1), f, dx, y);
  CHECK(y == std::vector<float>{1, 2});
  CHECK(dx == std::vector<float>{3, 6});
}
