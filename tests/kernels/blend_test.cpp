#include "kernels/rows.hpp"
#include "support/catch.hpp"

#include <msg/exec/serial.hpp>
#include <msg/kernels/blend.hpp>

#include <algorithm>
#include <cmath>
#include <vector>

using rows::at;

namespace {

constexpr msg::index row_count = 3;
const rows::device on;

} // namespace

TEMPLATE_TEST_CASE("residual adds the gated branch and its bias", "[kernels][blend]", float, double) {
  const auto width = GENERATE(from_range(rows::widths));
  const auto gate = GENERATE(0.0F, 0.3F, 1.0F);
  const bool biased = GENERATE(false, true);
  CAPTURE(width, gate, biased);
  const auto x = rows::normal<TestType>(row_count * width, 1);
  const auto f = rows::normal<TestType>(row_count * width, 2);
  const auto bias = rows::normal<TestType>(width, 3);
  std::vector<TestType> y(x.size(), rows::nan<TestType>);
  on.run(row_count, width,
         msg::residual_forward<TestType>{x.data(), f.data(), biased ? bias.data() : nullptr, y.data(), width, &gate});
  rows::distance distance;
  for (msg::index i = 0; i < row_count * width; ++i) {
    const long double shift = biased ? static_cast<long double>(bias[at(i % width)]) : 0.0L;
    const long double branch = static_cast<long double>(f[at(i)]) + shift;
    const long double exact = static_cast<long double>(x[at(i)]) + static_cast<long double>(gate) * branch;
    // one rounding of f + bias, one of the product where there is no fma, one of the sum
    const long double bound = rows::epsilon<TestType> * (std::abs(branch) + std::abs(exact));
    distance.add(y[at(i)], exact, bound);
  }
  CHECK(distance.worst() <= 1);
}

TEMPLATE_TEST_CASE("a gate of 0 passes x on and never reads the branch", "[kernels][blend]", float, double) {
  const msg::index width = 65;
  const float gate = 0;
  const auto x = rows::normal<TestType>(row_count * width, 1);
  const std::vector<TestType> poison(x.size(), rows::nan<TestType>);
  std::vector<TestType> y(x.size(), rows::nan<TestType>);

  on.run(row_count, width,
         msg::residual_forward<TestType>{x.data(), poison.data(), poison.data(), y.data(), width, &gate});
  CHECK(rows::differing(y, x) == 0);

  std::fill(y.begin(), y.end(), rows::nan<TestType>);
  on.run(row_count, width, msg::blend_forward<TestType>{x.data(), poison.data(), y.data(), width, &gate});
  CHECK(rows::differing(y, x) == 0);
}

TEMPLATE_TEST_CASE("a gate of 1 gives the bits of the model without gates", "[kernels][blend]", float, double) {
  const msg::index width = 65;
  const float gate = 1;
  const auto x = rows::normal<TestType>(row_count * width, 1);
  const auto f = rows::normal<TestType>(row_count * width, 2);
  std::vector<TestType> y(x.size());
  std::vector<TestType> plain(x.size());
  on.run(row_count, width, msg::residual_forward<TestType>{x.data(), f.data(), nullptr, y.data(), width, &gate});
  on.run(row_count, width, msg::residual_forward<TestType>{x.data(), f.data(), nullptr, plain.data(), width, nullptr});
  CHECK(rows::differing(y, plain) == 0);
  for (std::size_t i = 0; i < y.size(); ++i) { REQUIRE(rows::same_bits(y[i], x[i] + f[i])); }

  const std::vector<TestType> poison(x.size(), rows::nan<TestType>);
  on.run(row_count, width, msg::blend_forward<TestType>{poison.data(), f.data(), y.data(), width, &gate});
  CHECK(rows::differing(y, f) == 0);
}

TEMPLATE_TEST_CASE("residual and blend work in place", "[kernels][blend]", float, double) {
  const auto gate = GENERATE(0.0F, 0.3F, 1.0F);
  const msg::index width = 33;
  const auto x = rows::normal<TestType>(row_count * width, 1);
  const auto f = rows::normal<TestType>(row_count * width, 2);
  std::vector<TestType> y(x.size());
  on.run(row_count, width, msg::residual_forward<TestType>{x.data(), f.data(), nullptr, y.data(), width, &gate});
  auto same = x;
  on.run(row_count, width, msg::residual_forward<TestType>{same.data(), f.data(), nullptr, same.data(), width, &gate});
  CHECK(rows::differing(same, y) == 0);
  same = f;
  on.run(row_count, width, msg::residual_forward<TestType>{x.data(), same.data(), nullptr, same.data(), width, &gate});
  CHECK(rows::differing(same, y) == 0);

  on.run(row_count, width, msg::blend_forward<TestType>{x.data(), f.data(), y.data(), width, &gate});
  same = x;
  on.run(row_count, width, msg::blend_forward<TestType>{same.data(), f.data(), same.data(), width, &gate});
  CHECK(rows::differing(same, y) == 0);
}

TEMPLATE_TEST_CASE("blend mixes block and x by the gate", "[kernels][blend]", float, double) {
  const auto width = GENERATE(from_range(rows::widths));
  const auto gate = GENERATE(0.3F, 0.75F);
  CAPTURE(width, gate);
  const auto x = rows::normal<TestType>(row_count * width, 1);
  const auto block = rows::normal<TestType>(row_count * width, 2);
  std::vector<TestType> y(x.size(), rows::nan<TestType>);
  on.run(row_count, width, msg::blend_forward<TestType>{x.data(), block.data(), y.data(), width, &gate});
  rows::distance distance;
  for (msg::index i = 0; i < row_count * width; ++i) {
    const auto g = static_cast<long double>(gate);
    const long double kept = (1 - g) * static_cast<long double>(x[at(i)]);
    const long double added = g * static_cast<long double>(block[at(i)]);
    // 1 - g, (1 - g) x, g block where there is no fma, and the sum: half an epsilon each
    const long double bound = rows::epsilon<TestType> * (std::abs(kept) + std::abs(added));
    distance.add(y[at(i)], kept + added, bound);
  }
  CHECK(distance.worst() <= 1);
}

TEMPLATE_TEST_CASE("the backward passes are the adjoints of the forward passes", "[kernels][blend]", float, double) {
  const auto width = GENERATE(from_range(rows::widths));
  const auto gate = GENERATE(0.0F, 0.3F, 1.0F);
  CAPTURE(width, gate);
  const auto dy = rows::normal<TestType>(row_count * width, 4);
  const std::vector<TestType> garbage(dy.size(), rows::nan<TestType>);
  auto df = garbage;
  auto dx = garbage;
  auto dblock = garbage;
  on.run(row_count, width, msg::residual_backward<TestType>{dy.data(), df.data(), width, &gate});
  on.run(row_count, width, msg::blend_backward<TestType>{dy.data(), dx.data(), dblock.data(), width, &gate});
  const auto g = static_cast<TestType>(gate);
  auto f_expected = dy;
  auto x_expected = dy;
  for (std::size_t i = 0; i < dy.size(); ++i) { // y is linear in f, x and block: the derivative is the coefficient
    f_expected[i] = g * dy[i];
    x_expected[i] = (TestType(1) - g) * dy[i];
  }
  CHECK(rows::differing(df, f_expected) == 0);
  CHECK(rows::differing(dblock, f_expected) == 0);
  CHECK(rows::differing(dx, x_expected) == 0);
}

TEMPLATE_TEST_CASE("gradients of a closed gate are exactly 0 even if dy is not finite", "[kernels][blend]", float,
                   double) {
  const msg::index width = 17;
  const float closed = 0;
  const float open = 1;
  const std::vector<TestType> dy(at(row_count * width), rows::infinity<TestType>);
  const std::vector<TestType> zero(dy.size(), TestType(0));
  auto df = dy;
  auto dx = dy;
  auto dblock = dy;
  on.run(row_count, width, msg::residual_backward<TestType>{dy.data(), df.data(), width, &closed});
  CHECK(rows::differing(df, zero) == 0);
  on.run(row_count, width, msg::blend_backward<TestType>{dy.data(), dx.data(), dblock.data(), width, &closed});
  CHECK(rows::differing(dblock, zero) == 0);
  CHECK(rows::differing(dx, dy) == 0);
  on.run(row_count, width, msg::blend_backward<TestType>{dy.data(), dx.data(), dblock.data(), width, &open});
  CHECK(rows::differing(dx, zero) == 0);
  CHECK(rows::differing(dblock, dy) == 0);
}
