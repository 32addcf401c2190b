#include "kernels/exact_norm.hpp"
#include "support/catch.hpp"

#include <cmath>
#include <limits>
#include <vector>

using rows::at;
using rows::norm_kind;
using rows::real;

namespace {

/// Numbers of rows around the groups of 4 and the chunks of 64.
const std::vector<msg::index> row_counts{0, 1, 3, 4, 5, 63, 64, 65, 130};

template <class T>
void add_column_sums(const rows::device& on, const T* dy, msg::index row_count, msg::index width, msg::index stride,
                     std::vector<T>& out) {
  const msg::index chunks = msg::chunk_count(row_count);
  std::vector<T> partial(at(chunks * width), rows::nan<T>);
  on.run(chunks, msg::chunk_rows * width, msg::column_sum_partial<T>{dy, partial.data(), row_count, width, stride});
  on.run(msg::join_count(width), chunks * msg::join_columns,
         msg::column_join<T>{partial.data(), out.data(), chunks, width});
}

} // namespace

TEMPLATE_TEST_CASE("column sums add every row to what is there, slices of wider rows too", "[kernels][sum]", float,
                   double) {
  using T = TestType;
  const auto width = GENERATE(from_range(rows::widths));
  const auto row_count = GENERATE(from_range(row_counts));
  const auto gap = GENERATE(msg::index{0}, msg::index{5});
  CAPTURE(width, row_count, gap);
  const msg::index stride = width + gap;
  auto dy = rows::normal<T>(row_count * stride + gap, 1);
  for (msg::index i = 0; i < row_count * stride; ++i) {
    if (i % stride >= width) { dy[at(i)] = rows::nan<T>; }
  }
  const auto before = rows::normal<T>(width, 2);
  auto out = before;
  add_column_sums<T>({}, dy.data(), row_count, width, stride, out);
  // roundings on the way of one row: its chunk, the chunks after it, the sum with what is there
  const real terms = static_cast<real>(msg::chunk_rows + msg::chunk_count(row_count) + 1);
  rows::distance distance;
  for (msg::index j = 0; j < width; ++j) {
    real sum = static_cast<real>(before[at(j)]);
    real size = std::abs(sum);
    for (msg::index row = 0; row < row_count; ++row) {
      sum += static_cast<real>(dy[at(row * stride + j)]);
      size += std::abs(static_cast<real>(dy[at(row * stride + j)]));
    }
    const real bound = terms / 2 * static_cast<real>(rows::epsilon<T>) * size;
    distance.add(out[at(j)], sum, bound);
  }
  CHECK(distance.worst() <= 1);
}

TEMPLATE_TEST_CASE("gradients of a norm's gain and bias agree with long double loops", "[kernels][sum]", float,
                   double) {
  using T = TestType;
  const auto width = GENERATE(msg::index{0}, msg::index{1}, msg::index{17}, msg::index{300});
  const auto row_count = GENERATE(from_range(row_counts));
  for (const rows::norm_masks& m : rows::norm_mask_cases(width)) {
    CAPTURE(width, row_count, m.name);
    rows::norm_run<T, norm_kind::layer> run(row_count, width, m.weight, m.output);
    run.forward();
    const auto before = rows::normal<T>(width, 9);
    run.dgain = before;
    run.dbias = before;
    run.parameter_gradients();
    std::vector<real> gain(at(width));
    std::vector<real> gain_bound(at(width));
    std::vector<real> bias(at(width));
    std::vector<real> bias_bound(at(width));
    const real epsilon = static_cast<real>(rows::epsilon<T>);
    const real terms = static_cast<real>(msg::chunk_rows + msg::chunk_count(row_count) + 4);
    for (msg::index j = 0; j < width; ++j) {
      gain[at(j)] = bias[at(j)] = static_cast<real>(before[at(j)]);
      gain_bound[at(j)] = bias_bound[at(j)] = terms * epsilon * std::abs(gain[at(j)]);
    }
    for (msg::index row = 0; row < row_count; ++row) {
      const auto exact = run.exact(row);
      const rows::norm_bounds bounds(exact, epsilon);
      for (msg::index j = 0; j < width; ++j) {
        gain[at(j)] += exact.dgain[at(j)];
        bias[at(j)] += exact.dbias[at(j)];
        bias_bound[at(j)] += terms * epsilon * std::abs(exact.dbias[at(j)]);
        gain_bound[at(j)] +=
            terms * epsilon * std::abs(exact.dgain[at(j)]) + std::abs(exact.slope(j)) * bounds.normed(exact, j);
      }
    }
    rows::distance dgain, dbias;
    for (msg::index j = 0; j < width; ++j) {
      dgain.add(run.dgain[at(j)], gain[at(j)], gain_bound[at(j)]);
      dbias.add(run.dbias[at(j)], bias[at(j)], bias_bound[at(j)]);
    }
    CHECK(dgain.worst() <= 1);
    CHECK(dbias.worst() <= 1);
  }
}

TEST_CASE("columns are summed alike in narrow and in wide rows, and by any number of threads", "[kernels][sum]") {
  const msg::index row_count = 130;
  const msg::index width = 600;
  const auto dy = rows::normal<float>(row_count * width, 3);
  std::vector<float> wide(at(width), 1);
  add_column_sums<float>({.threads = 1}, dy.data(), row_count, width, width, wide);

  const int threads = GENERATE(2, 5);
  std::vector<float> again(at(width), 1);
  add_column_sums<float>({.threads = threads}, dy.data(), row_count, width, width, again);
  CHECK(rows::differing(again, wide) == 0);

  const auto narrow_width = GENERATE(msg::index{1}, msg::index{37}, msg::index{256}, msg::index{257});
  std::vector<float> narrow(at(narrow_width), 1);
  add_column_sums<float>({}, dy.data(), row_count, narrow_width, width, narrow);
  CHECK(rows::differing(narrow.data(), wide.data(), narrow_width) == 0);
}

TEST_CASE("column sums of two halves of the rows add up as accumulated gradients do", "[kernels][sum]") {
  const msg::index width = 33;
  const msg::index half = 64;
  const auto dy = rows::normal<double>(2 * half * width, 4);
  std::vector<double> once(at(width), 0);
  std::vector<double> twice(at(width), 0);
  add_column_sums<double>({}, dy.data(), 2 * half, width, width, once);
  add_column_sums<double>({}, dy.data(), half, width, width, twice);
  add_column_sums<double>({}, dy.data() + half * width, half, width, width, twice);
  CHECK(rows::differing(once, twice) == 0); // whole chunks: the same additions in the same order
}
