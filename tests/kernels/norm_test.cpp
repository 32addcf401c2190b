#include "kernels/exact_norm.hpp"
#include "support/catch.hpp"

#include <cmath>
#include <tuple>
#include <type_traits>
#include <vector>

using rows::at;
using rows::norm_kind;
using rows::norm_run;
using rows::real;

namespace {

template <class T, norm_kind kind>
struct tested {
  using element = T;
  static constexpr norm_kind norm = kind;
};
using layer_float = tested<float, norm_kind::layer>;
using layer_double = tested<double, norm_kind::layer>;
using rms_float = tested<float, norm_kind::rms>;
using rms_double = tested<double, norm_kind::rms>;

/// Fresh units hold what no number should meet.
template <class Run>
void poison(Run& run, msg::index old_width) {
  using T = std::remove_reference_t<decltype(run.x[0])>;
  for (msg::index i = old_width; i < run.width; ++i) {
    run.gain[at(i)] = rows::nan<T>;
    run.bias[at(i)] = -rows::infinity<T>;
    for (msg::index row = 0; row < run.row_count; ++row) {
      run.x[at(row * run.width + i)] = i % 2 == 0 ? rows::nan<T> : rows::infinity<T>;
      run.dy[at(row * run.width + i)] = i % 3 == 0 ? rows::nan<T> : -rows::infinity<T>;
    }
  }
}

/// How many old entries of the wide rows differ from the narrow rows, and how many fresh entries are not 0.
template <class T>
[[nodiscard]] msg::index differing_rows(const std::vector<T>& narrow, msg::index old_width, const std::vector<T>& wide,
                                        msg::index width, msg::index row_count) {
  msg::index wrong = 0;
  for (msg::index row = 0; row < row_count; ++row) {
    wrong += rows::differing(narrow.data() + row * old_width, wide.data() + row * width, old_width);
    for (msg::index i = old_width; i < width; ++i) { wrong += wide[at(row * width + i)] == T(0) ? 0 : 1; }
  }
  return wrong;
}

} // namespace

TEMPLATE_TEST_CASE("norms agree with long double loops, forward and backward", "[kernels][norm]", layer_float,
                   layer_double, rms_float, rms_double) {
  using T = typename TestType::element;
  const auto width = GENERATE(from_range(rows::widths));
  for (const rows::norm_masks& m : rows::norm_mask_cases(width)) {
    CAPTURE(width, m.name);
    norm_run<T, TestType::norm> run(3, width, m.weight, m.output);
    run.forward();
    run.backward();
    rows::distance mean, rstd, y, dx;
    for (msg::index row = 0; row < run.row_count; ++row) {
      const auto exact = run.exact(row);
      const rows::norm_bounds bounds(exact, static_cast<real>(rows::epsilon<T>));
      rstd.add(run.rstd[at(row)], exact.rstd, bounds.scale * exact.rstd);
      if (TestType::norm == norm_kind::layer) { mean.add(run.mean[at(row)], exact.mean, bounds.centre / exact.rstd); }
      const std::vector<real> dx_bound = bounds.dx(exact);
      for (msg::index i = 0; i < width; ++i) {
        const std::size_t cell = at(row * width + i);
        y.add(run.y[cell], exact.y[at(i)], bounds.y(exact, i));
        dx.add(run.dx[cell], exact.dx[at(i)], dx_bound[at(i)]);
      }
    }
    CHECK(mean.worst() <= 1);
    CHECK(rstd.worst() <= 1);
    CHECK(y.worst() <= 1);
    CHECK(dx.worst() <= 1);
  }
}

TEMPLATE_TEST_CASE("the gradients of norms are those of finite differences", "[kernels][norm]", layer_double,
                   rms_double) {
  const auto width = GENERATE(msg::index{1}, msg::index{5}, msg::index{17}, msg::index{33});
  for (const rows::norm_masks& m : rows::norm_mask_cases(width)) {
    CAPTURE(width, m.name);
    norm_run<double, TestType::norm> run(1, width, m.weight, m.output);
    run.forward();
    run.backward();
    run.parameter_gradients();
    const auto exact = run.exact(0);
    const auto loss = [&](const auto& change, real by) { // sum of dy . y, in long double
      auto moved = exact;
      change(moved, by);
      moved.forward();
      real sum = 0;
      for (msg::index i = 0; i < width; ++i) { sum += exact.dy[at(i)] * moved.y[at(i)]; }
      return sum;
    };
    const auto slope = [&](const auto& change) {
      const real h = 1e-4L / exact.rstd; // relative to the spread of x
      const auto by = [&](real step) { return loss(change, step); };
      return (8 * (by(h) - by(-h)) - (by(2 * h) - by(-2 * h))) / (12 * h);
    };
    // Fourth order: (1e-4)^4 times fifth derivatives of order 100 in units of the spread, and cancellation 2^-64 / 1e-4
    // of a loss of order width; the kernel in double adds 1e-16 times its sums.
    const real bound = 1e-12L * (1 + exact.rstd) * static_cast<real>(1 + width) * 10;
    for (msg::index i = 0; i < width; ++i) {
      CAPTURE(i);
      CHECK(std::abs(slope([i](auto& n, real by) { n.x[at(i)] += by; }) - static_cast<real>(run.dx[at(i)])) < bound);
      CHECK(std::abs(slope([i](auto& n, real by) { n.gain[at(i)] += by; }) - static_cast<real>(run.dgain[at(i)])) <
            bound);
      if (TestType::norm == norm_kind::layer) {
        CHECK(std::abs(slope([i](auto& n, real by) { n.bias[at(i)] += by; }) - static_cast<real>(run.dbias[at(i)])) <
              bound);
      }
    }
  }
}

TEMPLATE_TEST_CASE("a norm under a mask of ones has the bits of the plain norm", "[kernels][norm]", layer_float,
                   layer_double, rms_float, rms_double) {
  using T = typename TestType::element;
  const auto width = GENERATE(from_range(rows::widths));
  CAPTURE(width);
  const rows::unit_mask ones = rows::appended(width, width, 1);
  norm_run<T, TestType::norm> plain(3, width, {}, {});
  norm_run<T, TestType::norm> masked(3, width, ones, ones);
  for (auto* run : {&plain, &masked}) {
    run->forward();
    run->backward();
    run->parameter_gradients();
  }
  CHECK(rows::differing(plain.y, masked.y) == 0);
  CHECK(rows::differing(plain.rstd, masked.rstd) == 0);
  CHECK(rows::differing(plain.dx, masked.dx) == 0);
  CHECK(rows::differing(plain.dgain, masked.dgain) == 0);
  CHECK(rows::differing(plain.dbias, masked.dbias) == 0);
}

TEMPLATE_TEST_CASE("appended units of mask 0 change no old bit, whatever they hold", "[kernels][norm]", layer_float,
                   layer_double, rms_float, rms_double) {
  using T = typename TestType::element;
  const auto old_width = GENERATE(msg::index{1}, msg::index{13}, msg::index{16}, msg::index{37}, msg::index{64},
                                  msg::index{100}, msg::index{768});
  const auto more = GENERATE(msg::index{1}, msg::index{16}, msg::index{21}, msg::index{64});
  const bool accumulate = GENERATE(false, true);
  CAPTURE(old_width, more, accumulate);
  const msg::index width = old_width + more;
  const msg::index row_count = 5;
  const rows::unit_mask mask = rows::appended(old_width, width, 0);
  norm_run<T, TestType::norm> grown(row_count, width, mask, mask);
  poison(grown, old_width);
  norm_run<T, TestType::norm> plain(row_count, old_width, {}, {});
  plain.take_columns(grown);
  for (auto* run : {&plain, &grown}) {
    run->dx.assign(run->dx.size(), T(0));
    run->forward();
    run->backward({}, accumulate);
    run->parameter_gradients();
  }
  CHECK(differing_rows(plain.y, old_width, grown.y, width, row_count) == 0);
  CHECK(differing_rows(plain.dx, old_width, grown.dx, width, row_count) == 0);
  CHECK(rows::differing(plain.rstd, grown.rstd) == 0);
  if (TestType::norm == norm_kind::layer) { CHECK(rows::differing(plain.mean, grown.mean) == 0); }
  CHECK(differing_rows(plain.dgain, old_width, grown.dgain, width, 1) == 0);
  CHECK(differing_rows(plain.dbias, old_width, grown.dbias, width, 1) == 0);
}

TEMPLATE_TEST_CASE("a plain norm over appended units is not the old norm", "[kernels][norm]", layer_double,
                   rms_double) {
  const msg::index old_width = 6;
  const msg::index width = 9;
  norm_run<double, TestType::norm> grown(1, width, {}, rows::appended(old_width, width, 0));
  norm_run<double, TestType::norm> plain(1, old_width, {}, {});
  plain.take_columns(grown);
  plain.forward();
  grown.forward();
  CHECK(std::abs(grown.y[0] - plain.y[0]) > 1e-3);
}

TEMPLATE_TEST_CASE("backward adds to dx on request and leaves dx of masked units alone", "[kernels][norm]", layer_float,
                   rms_float) {
  const msg::index width = 65;
  const msg::index old_width = 40;
  const rows::unit_mask mask = rows::appended(old_width, width, 0);
  norm_run<float, TestType::norm> fresh(3, width, mask, mask);
  poison(fresh, old_width);
  fresh.forward();
  fresh.backward();
  norm_run<float, TestType::norm> added = fresh;
  const auto before = rows::normal<float>(3 * width, 9);
  added.dx = before;
  added.backward({}, true);
  for (std::size_t i = 0; i < before.size(); ++i) {
    CAPTURE(i);
    // dx + r v: two roundings apart by an fma, one in the separate product
    const double expected = static_cast<double>(before[i]) + static_cast<double>(fresh.dx[i]);
    const double bound = rows::epsilon<float> * (std::abs(expected) + std::abs(static_cast<double>(fresh.dx[i])));
    REQUIRE(std::abs(static_cast<double>(added.dx[i]) - expected) <= bound);
    if (static_cast<msg::index>(i) % width >= old_width) { REQUIRE(rows::same_bits(added.dx[i], before[i])); }
  }
}

TEMPLATE_TEST_CASE("a norm whose units are all masked writes zeros", "[kernels][norm]", layer_float, rms_double) {
  using T = typename TestType::element;
  const msg::index width = 17;
  const rows::unit_mask mask = rows::appended(0, width, 0);
  norm_run<T, TestType::norm> run(2, width, mask, mask);
  poison(run, 0);
  run.forward();
  run.backward();
  const std::vector<T> zero(run.y.size(), T(0));
  CHECK(rows::differing(run.y, zero) == 0);
  CHECK(rows::differing(run.dx, zero) == 0);
  CHECK(std::isfinite(run.rstd[0]));
}

TEST_CASE("norms run without places for their statistics", "[kernels][norm]") {
  const msg::index width = 33;
  norm_run<float, norm_kind::layer> run(3, width, {}, {});
  run.forward();
  std::vector<float> y(run.y.size(), rows::nan<float>);
  const rows::device on;
  on.run(3, width,
         msg::layer_norm_forward<float>{
             run.x.data(), run.gain.data(), run.bias.data(), y.data(), nullptr, nullptr, width, 1e-5, {}, {}});
  CHECK(rows::differing(y, run.y) == 0);
}

TEMPLATE_TEST_CASE("norms work in place", "[kernels][norm]", layer_float, rms_float) {
  const msg::index width = 65;
  norm_run<float, TestType::norm> apart(3, width, rows::mixed(width), rows::mixed(width));
  apart.forward();
  apart.backward();
  const auto y = rows::mixed(width);
  norm_run<float, TestType::norm> same(3, width, y, y);
  const rows::device on;
  if constexpr (TestType::norm == norm_kind::layer) {
    on.run(3, width,
           msg::layer_norm_forward<float>{same.x.data(), same.gain.data(), same.bias.data(), same.x.data(), nullptr,
                                          nullptr, width, 1e-5, y.view(), y.view()});
    on.run(3, width,
           msg::layer_norm_backward<float>{apart.x.data(), same.gain.data(), apart.mean.data(), apart.rstd.data(),
                                           same.dy.data(), same.dy.data(), width, false, y.view(), y.view()});
  } else {
    on.run(3, width,
           msg::rms_norm_forward<float>{same.x.data(), same.gain.data(), same.x.data(), nullptr, width, 1e-5, y.view(),
                                        y.view()});
    on.run(3, width,
           msg::rms_norm_backward<float>{apart.x.data(), same.gain.data(), apart.rstd.data(), same.dy.data(),
                                         same.dy.data(), width, false, y.view(), y.view()});
  }
  CHECK(rows::differing(same.x, apart.y) == 0);
  CHECK(rows::differing(same.dy, apart.dx) == 0);
}

TEMPLATE_TEST_CASE("norms give the same bits on 1, 2 and 5 threads", "[kernels][norm][threads]", layer_float,
                   rms_float) {
  const msg::index width = 257;
  const msg::index row_count = 201; // more than the 32768 elements below which rows are not shared
  norm_run<float, TestType::norm> one(row_count, width, rows::mixed(width), rows::mixed(width));
  auto many = one;
  one.forward({.threads = 1});
  one.backward({.threads = 1});
  one.parameter_gradients({.threads = 1});
  const int threads = GENERATE(2, 5);
  many.forward({.threads = threads});
  many.backward({.threads = threads});
  many.parameter_gradients({.threads = threads});
  CHECK(rows::differing(one.y, many.y) == 0);
  CHECK(rows::differing(one.dx, many.dx) == 0);
  CHECK(rows::differing(one.dgain, many.dgain) == 0);
  CHECK(rows::differing(one.dbias, many.dbias) == 0);
}
