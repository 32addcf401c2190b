#include "kernels/rows.hpp"
#include "support/catch.hpp"

#include <msg/exec/serial.hpp>
#include <msg/kernels/activation.hpp>

#include <cmath>
#include <limits>
#include <string>
#include <tuple>
#include <vector>

using rows::at;

namespace {

using real = long double;
constexpr msg::index row_count = 3;
const rows::device on;

// The functions with the C library in long double: value and derivative; steepness is the
// size of the exponential's argument in the kernel; roundings, in half epsilons, what its other operations may add:
// exp 2, a division, sums and products 3; erf's polynomial cancels, its terms add up to 11 times its value.
struct exact_identity {
  using kernel = msg::no_activation;
  static real value(real x) { return x; }
  static real slope(real) { return 1; }
  static real steepness(real) { return 0; }
};
struct exact_silu {
  using kernel = msg::silu;
  static constexpr real roundings = 6;
  static real value(real x) { return x / (1 + std::exp(-x)); }
  static real slope(real x) {
    const real s = 1 / (1 + std::exp(-x));
    return s + x * s * (1 - s);
  }
  static real steepness(real x) { return std::abs(x); }
};
struct exact_gelu_tanh {
  using kernel = msg::gelu_tanh;
  static constexpr real roundings = 6;
  static constexpr real k = 0.797884560802865355879892119868763737L; // sqrt(2 / pi)
  // (1 + tanh(u)) / 2 without its cancellation for u < 0
  static real half_tanh(real x) { return 1 / (1 + std::exp(-2 * k * (x + 0.044715L * x * x * x))); }
  static real value(real x) { return x * half_tanh(x); }
  static real slope(real x) {
    return half_tanh(x) + x * half_tanh(x) * half_tanh(-x) * 2 * k * (1 + 3 * 0.044715L * x * x);
  }
  static real steepness(real x) { return 2 * k * std::abs(x + 0.044715L * x * x * x); }
};
struct exact_gelu_erf {
  using kernel = msg::gelu_erf;
  static constexpr real roundings = 17;
  static constexpr real root_half = 0.707106781186547524400844362104849039L;
  static constexpr real density = 0.398942280401432677939946059934381868L; // 1 / sqrt(2 pi)
  static real value(real x) { return x / 2 * std::erfc(-x * root_half); }
  static real slope(real x) { return std::erfc(-x * root_half) / 2 + x * density * std::exp(-x * x / 2); }
  static real steepness(real x) { return x * x / 2; }
};

/// Deep in the negative tail results have vanished, and the kernels stop following them.
template <class T>
constexpr T vanished = sizeof(T) == 4 ? T(1e-34) : T(1e-296);

/// Points from -range to range with a step that no grid shares.
template <class T>
[[nodiscard]] std::vector<T> points(double range) {
  std::vector<T> values;
  for (double x = -range; x < range; x += range * 0.000371) { values.push_back(static_cast<T>(x)); }
  return values;
}

} // namespace

TEMPLATE_TEST_CASE("exp_approx is within 2 ulp of exp wherever its result is normal", "[kernels][exp]", float, double) {
  using T = TestType;
  const double least = sizeof(T) == 4 ? -86.6 : -707.7;
  const double greatest = sizeof(T) == 4 ? 88.722 : 709.782;
  double worst = 0;
  for (double x = least; x <= greatest; x += 0.000913) {
    const T rounded = static_cast<T>(x);
    if (static_cast<double>(rounded) < least) { continue; }
    const real exact = std::exp(static_cast<real>(rounded));
    const real found = static_cast<real>(msg::detail::exp_approx(rounded));
    worst = std::max(worst, static_cast<double>(std::abs(found - exact) / exact) / rows::epsilon<T>);
  }
  CHECK(worst <= 1); // an epsilon is 1 to 2 ulp
}

TEMPLATE_TEST_CASE("exp_approx is exact at 0, saturates at the ends and keeps NaN", "[kernels][exp]", float, double) {
  using T = TestType;
  CHECK(msg::detail::exp_approx(T(0)) == T(1));
  CHECK(msg::detail::exp_approx(-T(0)) == T(1));
  CHECK(msg::detail::exp_approx(-rows::infinity<T>) == T(0));
  CHECK(msg::detail::exp_approx(T(-1e30)) == T(0));
  CHECK(msg::detail::exp_approx(rows::infinity<T>) == rows::infinity<T>);
  CHECK(msg::detail::exp_approx(T(1e30)) == rows::infinity<T>);
  CHECK(std::isnan(msg::detail::exp_approx(rows::nan<T>)));
}

TEST_CASE("the functions the tests compare with are those of the paper", "[kernels][activation]") {
  for (const double point : points<double>(4)) {
    const auto x = static_cast<real>(point);
    const real paper = x / 2 * (1 + std::tanh(exact_gelu_tanh::k * (x + 0.044715L * x * x * x)));
    REQUIRE(std::abs(exact_gelu_tanh::value(x) - paper) < 1e-18L);
    REQUIRE(std::abs(exact_gelu_tanh::value(x) - exact_gelu_erf::value(x)) < 5e-4L); // it approximates x Phi(x)
  }
}

TEMPLATE_TEST_CASE("the derivatives the tests compare with are derivatives", "[kernels][activation]", exact_identity,
                   exact_silu, exact_gelu_tanh, exact_gelu_erf) {
  const real h = 1e-3L;
  for (const double point : points<double>(8)) {
    const auto x = static_cast<real>(point);
    const auto f = [](real z) { return TestType::value(z); };
    const real difference = (8 * (f(x + h) - f(x - h)) - (f(x + 2 * h) - f(x - 2 * h))) / (12 * h);
    // fourth order: h^4/30 times a fifth derivative below 30; cancellation 8 * 10 * 2^-64 / (12 h) is far less
    REQUIRE(std::abs(difference - TestType::slope(x)) < 1e-12L);
  }
}

TEMPLATE_PRODUCT_TEST_CASE("activations and their slopes are accurate to a few epsilon", "[kernels][activation]",
                           std::tuple,
                           ((float, exact_silu), (float, exact_gelu_tanh), (float, exact_gelu_erf),
                            (double, exact_silu), (double, exact_gelu_tanh), (double, exact_gelu_erf))) {
  using T = std::tuple_element_t<0, TestType>;
  using exact = std::tuple_element_t<1, TestType>;
  rows::distance values, slopes;
  for (const T x : points<T>(40)) {
    const auto z = static_cast<real>(x);
    // The argument u of the exponential is rounded a few times: exp(u) errs by |u| times that, which weighs only as
    // much as the smaller of the two sides of the sigmoid, exp(-|u|).
    const real u = exact::steepness(z);
    const real smaller = std::exp(-u);
    const real value = exact::value(z);
    const real around = exact::roundings / 2;
    const real value_bound = rows::epsilon<T> * (around * std::abs(value) + 3 * u * smaller * std::abs(z));
    values.add(exact::kernel::value(x), value, value_bound + vanished<T>);
    const real slope = exact::slope(z);
    const real terms = 1 + std::abs(z) * (1 + u); // the derivative's own factor of the exponential, and 1
    const real slope_bound =
        rows::epsilon<T> * (z > -1 ? around * (1 + smaller * terms) : around * (1 + u) * smaller * terms);
    slopes.add(exact::kernel::slope(x), slope, slope_bound + vanished<T>);
  }
  CHECK(values.worst() <= 1);
  CHECK(slopes.worst() <= 1);
}

TEMPLATE_PRODUCT_TEST_CASE("activations are sound at the ends of the number range", "[kernels][activation]", std::tuple,
                           ((float, exact_silu), (float, exact_gelu_tanh), (float, exact_gelu_erf),
                            (double, exact_silu), (double, exact_gelu_tanh), (double, exact_gelu_erf))) {
  using T = std::tuple_element_t<0, TestType>;
  using act = typename std::tuple_element_t<1, TestType>::kernel;
  for (const T large : {T(1000), T(1e30), std::numeric_limits<T>::max(), rows::infinity<T>}) {
    CAPTURE(large);
    CHECK(act::value(large) == large);
    CHECK(act::slope(large) == T(1));
    CHECK(std::abs(act::value(-large)) < vanished<T>);
    CHECK(std::abs(act::slope(-large)) < vanished<T>);
  }
  CHECK(act::value(T(0)) == T(0));
  CHECK(act::slope(T(0)) == T(0.5));
  CHECK(std::isnan(act::value(rows::nan<T>)));
  CHECK(std::isnan(act::slope(rows::nan<T>)));
}

TEMPLATE_PRODUCT_TEST_CASE("bias, activation and mask are fused in every row", "[kernels][activation]", std::tuple,
                           ((float, exact_identity), (float, exact_gelu_tanh), (double, exact_gelu_tanh),
                            (double, exact_silu))) {
  using T = std::tuple_element_t<0, TestType>;
  using act = typename std::tuple_element_t<1, TestType>::kernel;
  const auto units = GENERATE(from_range(rows::widths));
  const auto repeat = GENERATE(msg::index{1}, msg::index{4});
  const bool biased = GENERATE(false, true);
  const msg::index width = units * repeat;
  const msg::index size = row_count * width;
  const auto x = rows::normal<T>(size, 1);
  const auto dy = rows::normal<T>(size, 2);
  const auto bias = rows::normal<T>(width, 3);
  const T* const shift = biased ? bias.data() : nullptr;
  for (const rows::named_mask& m : rows::masks(units)) {
    CAPTURE(units, repeat, biased, m.name);
    std::vector<T> y(at(size), rows::nan<T>);
    std::vector<T> dx(at(size), rows::nan<T>);
    on.run(row_count, width, msg::activation_forward<T, act>{x.data(), shift, y.data(), width, m.mask.view(), repeat});
    on.run(row_count, width,
           msg::activation_backward<T, act>{x.data(), shift, dy.data(), dx.data(), width, m.mask.view(), repeat});
    msg::index wrong = 0;
    for (msg::index i = 0; i < size; ++i) {
      const T z = biased ? x[at(i)] + bias[at(i % width)] : x[at(i)];
      const T unit = static_cast<T>(m.mask((i % width) / repeat));
      // the same operations on one element alone: not a bound but the same bits, wherever the element lies
      wrong += y[at(i)] == unit * act::value(z) ? 0 : 1;
      wrong += dx[at(i)] == unit * (dy[at(i)] * act::slope(z)) ? 0 : 1;
    }
    CHECK(wrong == 0);
  }
}

TEMPLATE_TEST_CASE("activations write 0 under a zero mask, whatever the input holds", "[kernels][activation]", float,
                   double) {
  using T = TestType;
  const msg::index width = 33;
  const msg::index old_width = 20;
  auto x = rows::normal<T>(row_count * width, 1);
  auto dy = rows::normal<T>(row_count * width, 2);
  auto bias = rows::normal<T>(width, 3);
  const rows::unit_mask mask = rows::appended(old_width, width, 0);
  for (msg::index i = 0; i < row_count * width; ++i) {
    if (i % width >= old_width) {
      x[at(i)] = i % 2 == 0 ? rows::nan<T> : rows::infinity<T>;
      dy[at(i)] = rows::nan<T>;
      bias[at(i % width)] = -rows::infinity<T>;
    }
  }
  std::vector<T> y(x.size(), rows::nan<T>);
  std::vector<T> dx(x.size(), rows::nan<T>);
  on.run(row_count, width, msg::activation_forward<T>{x.data(), bias.data(), y.data(), width, mask.view()});
  on.run(row_count, width,
         msg::activation_backward<T>{x.data(), bias.data(), dy.data(), dx.data(), width, mask.view()});
  for (msg::index i = 0; i < row_count * width; ++i) {
    const bool fresh = i % width >= old_width;
    CHECK((y[at(i)] == T(0)) == fresh);
    CHECK((dx[at(i)] == T(0)) == fresh);
  }
}

TEST_CASE("appended masked units leave the bits of the old activations alone", "[kernels][activation]") {
  const auto old_width = GENERATE(msg::index{1}, msg::index{13}, msg::index{16}, msg::index{37}, msg::index{64});
  const auto more = GENERATE(msg::index{1}, msg::index{16}, msg::index{21});
  const msg::index width = old_width + more;
  const auto x = rows::normal<float>(width, 1);
  const auto bias = rows::normal<float>(width, 2);
  const auto dy = rows::normal<float>(width, 3);
  const rows::unit_mask mask = rows::appended(old_width, width, 0);
  std::vector<float> before(at(old_width));
  std::vector<float> after(at(width));
  on.run(1, old_width, msg::activation_forward<float>{x.data(), bias.data(), before.data(), old_width, {}});
  on.run(1, width, msg::activation_forward<float>{x.data(), bias.data(), after.data(), width, mask.view()});
  CHECK(rows::differing(before.data(), after.data(), old_width) == 0);
  on.run(1, old_width, msg::activation_backward<float>{x.data(), bias.data(), dy.data(), before.data(), old_width, {}});
  on.run(1, width, msg::activation_backward<float>{x.data(), bias.data(), dy.data(), after.data(), width, mask.view()});
  CHECK(rows::differing(before.data(), after.data(), old_width) == 0);
}

TEST_CASE("activations work in place", "[kernels][activation]") {
  const msg::index width = 65;
  const auto x = rows::normal<float>(row_count * width, 1);
  const auto bias = rows::normal<float>(width, 2);
  const auto dy = rows::normal<float>(row_count * width, 3);
  std::vector<float> expected(x.size());
  on.run(row_count, width, msg::activation_forward<float>{x.data(), bias.data(), expected.data(), width, {}});
  auto same = x;
  on.run(row_count, width, msg::activation_forward<float>{same.data(), bias.data(), same.data(), width, {}});
  CHECK(rows::differing(same, expected) == 0);
  on.run(row_count, width,
         msg::activation_backward<float>{x.data(), bias.data(), dy.data(), expected.data(), width, {}});
  same = dy;
  on.run(row_count, width, msg::activation_backward<float>{x.data(), bias.data(), same.data(), same.data(), width, {}});
  CHECK(rows::differing(same, expected) == 0);
  same = x;
  on.run(row_count, width,
         msg::activation_backward<float>{same.data(), bias.data(), dy.data(), same.data(), width, {}});
  CHECK(rows::differing(same, expected) == 0);
}
