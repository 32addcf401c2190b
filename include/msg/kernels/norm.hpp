// LayerNorm and RMSNorm over masked units, forward and backward, one row a team. Gains' and biases' gradients are in
// column_sum.hpp.
#pragma once

#include <msg/config.hpp>
#include <msg/kernels/arithmetic.hpp>
#include <msg/kernels/elements.hpp>
#include <msg/tensor.hpp>

#include <cmath>

MSG_NAMESPACE_BEGIN

namespace detail {

/// S: the sum of the mask, or the width. 1 where it would be 0, when every sum over the units is 0 as well.
template <class A>
[[nodiscard]] MSG_HOST_DEVICE A active_width(const mask_view& mask, index width) noexcept {
  const A sum = mask ? A(*mask.sum) : A(width);
  return sum == A(0) ? A(1) : sum;
}

/// dx = scale value(...), or that added to dx, along a row of a norm.
///
/// value  of (weight, output, x, gain, dy)
template <class Team, class A, class Value, class Weight, class Output, class T>
MSG_HOST_DEVICE void norm_gradient_row(const Team& team, index width, A scale, const Value& value, Weight w, Output o,
                                       const T* x, const T* gain, const T* dy, T* dx, bool accumulate) {
  if (accumulate) {
    each_element(
        team, width,
        [=](index, auto weigh, auto m, A z, A g, A d, A& out) { out = fused(scale, value(weigh, m, z, g, d), out); },
        units_of(w), units_of(o), reads(x), reads(gain), reads(dy), updates<T>(dx));
  } else {
    each_element(
        team, width, [=](index, auto weigh, auto m, A z, A g, A d, A& out) { out = scale * value(weigh, m, z, g, d); },
        units_of(w), units_of(o), reads(x), reads(gain), reads(dy), writes<T>(dx));
  }
}

/// f(weight, output), each a no_mask or a unit_mask.
template <class Function>
MSG_HOST_DEVICE void with_masks(const mask_view& weight, const mask_view& output, const Function& f) {
  with_mask(weight, [&](auto w) { with_mask(output, [&](auto o) { f(w, o); }); });
}

} // namespace detail

/// LayerNorm with weighted statistics (w, of sum S) and masked output (m):
///
///   mu = sum w x / S    var = sum w (x - mu)^2 / S    y = m . (gain . (x - mu) / sqrt(var + eps) + bias)
///
/// MSG passes its mask as both, an uneven duplicate its split weights as `weight` alone. Where a mask is 0 nothing of
/// x, gain and bias is looked at. With appended units of mask 0 the old part of y has the bits it had without them.
///
/// x, y           (rows, width); y may be x where no backward follows
/// gain, bias     (width)
/// mean, rstd     (rows), for the backward; either may be null
/// weight, output (width), or none
/// Source: Yao et al. 2024, Masked Structural Growth, sec. 3.
template <class T>
struct layer_norm_forward {
  const T* x;
  const T* gain;
  const T* bias;
  T* y;
  accumulate_t<T>* mean;
  accumulate_t<T>* rstd;
  index width;
  double eps;
  mask_view weight;
  mask_view output;

  template <class Team>
  MSG_HOST_DEVICE void operator()(const Team& team, index row) const {
    detail::with_masks(weight, output, [&](auto w, auto o) { run(team, row, w, o); });
  }

private:
  template <class Team, class Weight, class Output>
  MSG_HOST_DEVICE void run(const Team& team, index row, Weight w, Output o) const {
    using A = accumulate_t<T>;
    const T* const from = x + row * width;
    const A share = detail::active_width<A>(weight, width);
    const A centre = team.template fold<A>(width, [=](A lane, index i) { return w.add(i, A(from[i]), lane); }) / share;
    const A variance = team.template fold<A>(width, [=](A lane, index i) {
      const A d = w.keep(i, A(from[i]) - centre);
      return detail::fused(w.times(i, d), d, lane);
    }) / share;
    const A scale = A(1) / std::sqrt(variance + A(eps));
    detail::each_element(
        team, width,
        [=](index, auto m, A value, A g, A b, A& to) { to = m.times(detail::fused((value - centre) * scale, g, b)); },
        detail::units_of(o), detail::reads(from), detail::reads(gain), detail::reads(bias),
        detail::writes<T>(y + row * width));
    if (team.rank() == 0) {
      if (mean != nullptr) { mean[row] = centre; }
      if (rstd != nullptr) { rstd[row] = scale; }
    }
  }
};

/// Gradient of layer_norm_forward in x. With t = m . dy, n = (x - mu) rstd, a = sum gain t / S, b = sum gain t n / S:
///
///   dx = rstd (gain t - w (a + n b))        added to dx if `accumulate`
///
/// dx, dy (rows, width); dx may be dy. Where both masks are 0, dx is 0 (or stays).
template <class T>
struct layer_norm_backward {
  const T* x;
  const T* gain;
  const accumulate_t<T>* mean;
  const accumulate_t<T>* rstd;
  const T* dy;
  T* dx;
  index width;
  bool accumulate;
  mask_view weight;
  mask_view output;

  template <class Team>
  MSG_HOST_DEVICE void operator()(const Team& team, index row) const {
    detail::with_masks(weight, output, [&](auto w, auto o) { run(team, row, w, o); });
  }

private:
  template <class Team, class Weight, class Output>
  MSG_HOST_DEVICE void run(const Team& team, index row, Weight w, Output o) const {
    using A = accumulate_t<T>;
    const T* const from = x + row * width;
    const T* const slope = dy + row * width;
    const T* const g = gain;
    const A centre = mean[row];
    const A scale = rstd[row];
    const A share = detail::active_width<A>(weight, width);
    const A a = team.template fold<A>(width, [=](A lane, index i) {
      return detail::fused(o.keep(i, A(g[i])), o.times(i, A(slope[i])), lane);
    }) / share;
    const A b = team.template fold<A>(width, [=](A lane, index i) {
      const A n = o.keep(i, (A(from[i]) - centre) * scale);
      return detail::fused(o.keep(i, A(g[i])) * o.times(i, A(slope[i])), n, lane);
    }) / share;
    const auto value = [=](auto weigh, auto m, A z, A gains, A d) {
      const A shared = weigh.times(detail::fused((z - centre) * scale, b, a));
      return detail::fused(m.keep(gains), m.times(d), -shared);
    };
    detail::norm_gradient_row(team, width, scale, value, w, o, from, g, slope, dx + row * width, accumulate);
  }
};

/// RMSNorm with weighted statistics and masked output: y = m . gain . x / sqrt(sum w x^2 / S + eps). Arguments as
/// layer_norm_forward.
template <class T>
struct rms_norm_forward {
  const T* x;
  const T* gain;
  T* y;
  accumulate_t<T>* rstd;
  index width;
  double eps;
  mask_view weight;
  mask_view output;

  template <class Team>
  MSG_HOST_DEVICE void operator()(const Team& team, index row) const {
    detail::with_masks(weight, output, [&](auto w, auto o) { run(team, row, w, o); });
  }

private:
  template <class Team, class Weight, class Output>
  MSG_HOST_DEVICE void run(const Team& team, index row, Weight w, Output o) const {
    using A = accumulate_t<T>;
    const T* const from = x + row * width;
    const A share = detail::active_width<A>(weight, width);
    const A square = team.template fold<A>(width, [=](A lane, index i) {
      const A value = w.keep(i, A(from[i]));
      return detail::fused(w.times(i, value), value, lane);
    }) / share;
    const A scale = A(1) / std::sqrt(square + A(eps));
    detail::each_element(
        team, width, [=](index, auto m, A value, A g, A& to) { to = m.times(value * scale * g); }, detail::units_of(o),
        detail::reads(from), detail::reads(gain), detail::writes<T>(y + row * width));
    if (team.rank() == 0 && rstd != nullptr) { rstd[row] = scale; }
  }
};

/// Gradient of rms_norm_forward in x. With t = m . dy, n = x rstd, b = sum gain t n / S:
///
///   dx = rstd (gain t - w n b)              added to dx if `accumulate`
template <class T>
struct rms_norm_backward {
  const T* x;
  const T* gain;
  const accumulate_t<T>* rstd;
  const T* dy;
  T* dx;
  index width;
  bool accumulate;
  mask_view weight;
  mask_view output;

  template <class Team>
  MSG_HOST_DEVICE void operator()(const Team& team, index row) const {
    detail::with_masks(weight, output, [&](auto w, auto o) { run(team, row, w, o); });
  }

private:
  template <class Team, class Weight, class Output>
  MSG_HOST_DEVICE void run(const Team& team, index row, Weight w, Output o) const {
    using A = accumulate_t<T>;
    const T* const from = x + row * width;
    const T* const slope = dy + row * width;
    const T* const g = gain;
    const A scale = rstd[row];
    const A share = detail::active_width<A>(weight, width);
    const A b = team.template fold<A>(width, [=](A lane, index i) {
      const A n = o.keep(i, A(from[i]) * scale);
      return detail::fused(o.keep(i, A(g[i])) * o.times(i, A(slope[i])), n, lane);
    }) / share;
    const auto value = [=](auto weigh, auto m, A z, A gains, A d) {
      return detail::fused(m.keep(gains), m.times(d), -weigh.times(z * scale * b));
    };
    detail::norm_gradient_row(team, width, scale, value, w, o, from, g, slope, dx + row * width, accumulate);
  }
};

MSG_NAMESPACE_END
