// Layers under a depth gate g: the residual add of a pre-norm layer and the blend around a post-norm layer.
#pragma once

#include <msg/config.hpp>
#include <msg/kernels/arithmetic.hpp>
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
    using A = accumulate_t<T>;
    const T* const b = bias;
    if (b == nullptr) {
      run(
          team, row, [](index) { return A(0); }, [](A value, A) { return value; });
    } else {
      run(
          team, row, [=](index j) { return A(b[j]); }, [](A value, A shift) { return value + shift; });
    }
  }

private:
  template <class Team, class Bias, class Add>
  MSG_HOST_DEVICE void run(const Team& team, index row, const Bias& shift, const Add& add) const {
    using A = accumulate_t<T>;
    const A g = detail::gate_value<A>(gate);
    const T* const from = x + row * width;
    const T* const branch = f + row * width;
    T* const to = y + row * width;
    if (g == A(0)) {
      if (to != from) {
        team.each(width, [=](index j) { to[j] = from[j]; });
      }
    } else if (g == A(1)) {
      team.each(width, [=](index j) { to[j] = T(A(from[j]) + add(A(branch[j]), shift(j))); });
    } else {
      team.each(width, [=](index j) { to[j] = T(detail::fused(g, add(A(branch[j]), shift(j)), A(from[j]))); });
    }
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
    const T* const slope = dy + row * width;
    T* const to = df + row * width;
    if (g == A(0)) {
      team.each(width, [=](index j) { to[j] = T(A(0)); });
    } else {
      team.each(width, [=](index j) { to[j] = T(g * A(slope[j])); });
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
    const T* const from = x + row * width;
    const T* const branch = block + row * width;
    T* const to = y + row * width;
    if (g == A(0) || g == A(1)) {
      const T* const chosen = g == A(0) ? from : branch;
      team.each(width, [=](index j) { to[j] = chosen[j]; });
    } else {
      team.each(width, [=](index j) { to[j] = T(detail::fused(g, A(branch[j]), rest * A(from[j]))); });
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
    const T* const slope = dy + row * width;
    T* const through = dx + row * width;
    T* const into = dblock + row * width;
    team.each(width, [=](index j) {
      const A value = A(slope[j]);
      const A direct = rest * value;
      const A inner = g * value;
      through[j] = T(rest == A(0) ? A(0) : direct);
      into[j] = T(g == A(0) ? A(0) : inner);
    });
  }
};

MSG_NAMESPACE_END
