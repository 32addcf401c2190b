// Layers under a depth gate g: the residual add of a pre-norm layer and the blend around a post-norm layer.
#pragma once

#include <msg/config.hpp>
#include <msg/kernels/arithmetic.hpp>
#include <msg/kernels/elements.hpp>
#include <msg/tensor.hpp>

MSG_NAMESPACE_BEGIN

namespace detail {

// g is one number for a whole launch: each case gets a loop of its own, and at 0 and 1 the loop without a gate, whose
// bits are those of a model that never heard of gates.
template <class A>
[[nodiscard]] MSG_HOST_DEVICE A gate_value(const float* gate) noexcept {
  return gate == nullptr ? A(1) : A(*gate);
}

} // namespace detail

/// Pre-norm residual: y = x + g (f + bias). At g = 0 y = x and f is never read; at g = 1 a plain addition.
///
/// x, f, y  (rows, width); y may be x or f
/// bias     (width), or null: the bias of the linear layer that made f
/// gate     one number, on the executor's side, or null for 1
/// Source: Yao et al. 2024, Masked Structural Growth, sec. 3 (depth).
template <class T>
struct residual_forward {
  const T* x;
  const T* f;
  const T* bias;
  T* y;
  index width;
  const float* gate;

  template <class Team>
  MSG_HOST_DEVICE void operator()(const Team& team, index row) const {
    if (bias == nullptr) {
      run(team, row, detail::constant(detail::no_mask{}));
    } else {
      run(team, row, detail::reads(bias));
    }
  }

private:
  // shift: the bias, or nothing to add
  template <class Team, class Shift>
  MSG_HOST_DEVICE void run(const Team& team, index row, const Shift& shift) const {
    using A = accumulate_t<T>;
    const A g = detail::gate_value<A>(gate);
    const detail::reads from(x + row * width);
    const detail::reads branch(f + row * width);
    const detail::writes<T> to(y + row * width);
    if (g == A(0)) {
      if (to.data != from.data) {
        detail::each_element(
            team, width, [](index, A value, A& out) { out = value; }, from, to);
      }
    } else if (g == A(1)) {
      detail::each_element(
          team, width, [](index, A value, A added, auto b, A& out) { out = value + shifted(added, b); }, from, branch,
          shift, to);
    } else {
      detail::each_element(
          team, width,
          [g](index, A value, A added, auto b, A& out) { out = detail::fused(g, shifted(added, b), value); }, from,
          branch, shift, to);
    }
  }
  template <class A>
  [[nodiscard]] MSG_HOST_DEVICE static A shifted(A value, A shift) noexcept {
    return value + shift;
  }
  template <class A>
  [[nodiscard]] MSG_HOST_DEVICE static A shifted(A value, detail::no_mask) noexcept {
    return value;
  }
};

/// Gradient of residual_forward in f (and its bias): df = g dy, exactly 0 at g = 0. The gradient in x is dy itself.
/// At g = 1 df is dy: a caller can skip the launch and read dy.
///
/// dy, df  (rows, width); df may be dy
template <class T>
struct residual_backward {
  const T* dy;
  T* df;
  index width;
  const float* gate;

  template <class Team>
  MSG_HOST_DEVICE void operator()(const Team& team, index row) const {
    using A = accumulate_t<T>;
    const A g = detail::gate_value<A>(gate);
    const detail::reads slope(dy + row * width);
    const detail::writes<T> to(df + row * width);
    if (g == A(0)) {
      detail::each_element(
          team, width, [](index, A& out) { out = A(0); }, to);
    } else {
      detail::each_element(
          team, width, [g](index, A d, A& out) { out = g * d; }, slope, to);
    }
  }
};

/// Post-norm layer: y = g block + (1 - g) x. At g = 0 y = x and block is never read; at g = 1 y = block and x is not.
///
/// x, block, y  (rows, width); y may be either
template <class T>
struct blend_forward {
  const T* x;
  const T* block;
  T* y;
  index width;
  const float* gate;

  template <class Team>
  MSG_HOST_DEVICE void operator()(const Team& team, index row) const {
    using A = accumulate_t<T>;
    const A g = detail::gate_value<A>(gate);
    const A rest = A(1) - g;
    const detail::reads from(x + row * width);
    const detail::reads branch(block + row * width);
    const detail::writes<T> to(y + row * width);
    if (g == A(0) || g == A(1)) {
      detail::each_element(
          team, width, [](index, A value, A& out) { out = value; }, g == A(0) ? from : branch, to);
    } else {
      detail::each_element(
          team, width, [=](index, A value, A inner, A& out) { out = detail::fused(g, inner, rest * value); }, from,
          branch, to);
    }
  }
};

/// Gradient of blend_forward: dblock = g dy, dx = (1 - g) dy, each exactly 0 or dy at g = 0 and 1. The block's own
/// gradient in x is then added to dx.
///
/// dy, dx, dblock  (rows, width); one of dx and dblock may be dy
template <class T>
struct blend_backward {
  const T* dy;
  T* dx;
  T* dblock;
  index width;
  const float* gate;

  template <class Team>
  MSG_HOST_DEVICE void operator()(const Team& team, index row) const {
    using A = accumulate_t<T>;
    const A g = detail::gate_value<A>(gate);
    const A rest = A(1) - g;
    detail::each_element(
        team, width,
        [=](index, A value, A& through, A& into) {
          const A direct = rest * value;
          const A inner = g * value;
          through = rest == A(0) ? A(0) : direct;
          into = g == A(0) ? A(0) : inner;
        },
        detail::reads(dy + row * width), detail::writes<T>(dx + row * width), detail::writes<T>(dblock + row * width));
  }
};

MSG_NAMESPACE_END
