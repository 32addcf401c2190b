#include "kernels/rows.hpp"
#include "support/catch.hpp"

#include <msg/exec/serial.hpp>
#include <msg/kernels/scale.hpp>

#include <cmath>
#include <limits>
#include <vector>

using rows::at;

namespace {

constexpr msg::index row_count = 3;

template <class T>
[[nodiscard]] std::vector<T> scaled(const std::vector<T>& x, msg::index width, const rows::unit_mask& mask,
                                    msg::index repeat) {
  std::vector<T> y(x.size(), rows::nan<T>);
  rows::device{}.run(row_count, width, msg::scale_row<T>{x.data(), y.data(), width, mask.view(), repeat});
  return y;
}

} // namespace

TEMPLATE_TEST_CASE("scale multiplies every row by the mask, rounding once", "[kernels][scale]", float, double) {
  const auto units = GENERATE(from_range(rows::widths));
  const auto repeat = GENERATE(msg::index{1}, msg::index{3}, msg::index{64});
  const msg::index width = units * repeat;
  const auto x = rows::normal<TestType>(row_count * width, 1);
  for (const rows::named_mask& m : rows::masks(units)) {
    CAPTURE(units, repeat, m.name);
    const auto y = scaled(x, width, m.mask, repeat);
    std::vector<TestType> expected(x.size());
    for (msg::index i = 0; i < row_count * width; ++i) {
      // a float mask times a float or double fits a long double: rounded once, by the conversion
      expected[at(i)] = static_cast<TestType>(m.mask((i % width) / repeat) * static_cast<long double>(x[at(i)]));
    }
    if (sizeof(TestType) == 4) {
      CHECK(rows::differing(y, expected) == 0);
    } else { // 24 + 53 bits exceed the 64 of a long double: two roundings may differ from one in the last bit
      msg::index wrong = 0;
      for (std::size_t i = 0; i < y.size(); ++i) {
        if (!(std::abs(y[i] - expected[i]) <= rows::epsilon<double> * std::abs(expected[i]))) { ++wrong; }
      }
      CHECK(wrong == 0);
    }
  }
}

TEMPLATE_TEST_CASE("scale keeps the bits of x where the mask is 1 or absent", "[kernels][scale]", float, double) {
  const msg::index width = 65;
  auto x = rows::normal<TestType>(row_count * width, 2);
  x[3] = rows::infinity<TestType>;
  x[4] = -TestType(0);
  x[5] = std::numeric_limits<TestType>::denorm_min();
  CHECK(rows::differing(scaled(x, width, {}, 1), x) == 0);
  CHECK(rows::differing(scaled(x, width, rows::appended(width, width, 1), 1), x) == 0);
}

TEMPLATE_TEST_CASE("scale writes 0 where the mask is 0, whatever x holds", "[kernels][scale]", float, double) {
  const auto repeat = GENERATE(msg::index{1}, msg::index{4});
  const msg::index units = 33;
  const msg::index old_units = 20;
  const msg::index width = units * repeat;
  auto x = rows::normal<TestType>(row_count * width, 3);
  for (msg::index row = 0; row < row_count; ++row) {
    for (msg::index j = old_units * repeat; j < width; ++j) {
      x[at(row * width + j)] = j % 2 == 0 ? rows::nan<TestType> : rows::infinity<TestType>;
    }
  }
  const auto y = scaled(x, width, rows::appended(old_units, units, 0), repeat);
  for (msg::index i = 0; i < row_count * width; ++i) {
    if (i % width < old_units * repeat) {
      REQUIRE(rows::same_bits(y[at(i)], x[at(i)]));
    } else {
      REQUIRE(y[at(i)] == TestType(0));
    }
  }
}

TEMPLATE_TEST_CASE("scale works in place", "[kernels][scale]", float, double) {
  const auto repeat = GENERATE(msg::index{1}, msg::index{5});
  const msg::index width = 65 * repeat;
  const rows::unit_mask mask = rows::mixed(65);
  auto x = rows::normal<TestType>(row_count * width, 4);
  const auto expected = scaled(x, width, mask, repeat);
  rows::device{}.run(row_count, width, msg::scale_row<TestType>{x.data(), x.data(), width, mask.view(), repeat});
  CHECK(rows::differing(x, expected) == 0);
}

TEST_CASE("scale gives an element the same bits in a long row and alone", "[kernels][scale]") {
  const msg::index width = 127;
  const auto x = rows::normal<float>(row_count * width, 5);
  const rows::unit_mask mask = rows::mixed(width);
  const auto y = scaled(x, width, mask, 1);
  for (msg::index j = 0; j < width; ++j) {
    const rows::unit_mask one{{mask.value[at(j)]}};
    float alone = 0;
    msg::scale_row<float>{&x[at(j)], &alone, 1, one.view()}(msg::serial_team{}, 0);
    CHECK(rows::same_bits(alone, y[at(j)]));
  }
}

TEST_CASE("the lane rule sums as its definition says, and appended zeros change no bit", "[kernels][team]") {
  const auto width = GENERATE(from_range(rows::widths));
  CAPTURE(width);
  const auto x = rows::normal<float>(width, 6);
  const msg::serial_team team;
  float lane[16] = {};
  for (msg::index i = 0; i < width; ++i) { lane[i % 16] += x[at(i)]; }
  for (msg::index half = 8; half > 0; half /= 2) {
    for (msg::index l = 0; l < half; ++l) { lane[l] += lane[l + half]; }
  }
  const float sum = team.sum(width, [&](msg::index i) { return x[at(i)]; });
  CHECK(rows::same_bits(sum, lane[0]));
  for (const msg::index more : {1, 7, 15, 16, 100}) {
    const float longer = team.sum(width + more, [&](msg::index i) { return i < width ? x[at(i)] : 0.0F; });
    CHECK(longer == sum);
  }
  const float folded = team.fold<float>(width, [&](float value, msg::index i) { return value + x[at(i)]; });
  CHECK(rows::same_bits(folded, sum));
}
