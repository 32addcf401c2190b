// Activation functions with the bias before and the mask behind fused in: y = m . act(x + bias), and its gradient.
#pragma once

#include <msg/config.hpp>
#include <msg/kernels/arithmetic.hpp>
#include <msg/kernels/elements.hpp>
#include <msg/kernels/scale.hpp>
#include <msg/tensor.hpp>

#include <cmath>

MSG_NAMESPACE_BEGIN

// An activation is a stateless type with value(x) and slope(x), its derivative, on float and double; made of IEEE
// operations alone (arithmetic.hpp), so that loops vectorise and every element gets the same bits wherever it lies.

/// x; with a bias, the plain bias addition.
struct no_activation {
  template <class A>
  [[nodiscard]] MSG_HOST_DEVICE static A value(A x) noexcept {
    return x;
  }
  template <class A>
  [[nodiscard]] MSG_HOST_DEVICE static A slope(A) noexcept {
    return A(1);
  }
};

/// x / (1 + exp(-x)), also called swish.
struct silu {
  template <class A>
  [[nodiscard]] MSG_HOST_DEVICE static A value(A x) noexcept {
    constexpr A bound = -detail::exp_constants<A>::least; // beyond, the result is x or 0 to any precision
    const A low = x < -bound ? -bound : x;
    const A inner = x > bound ? bound : low;
    return low * detail::logistic_inside(inner).value;
  }
  template <class A>
  [[nodiscard]] MSG_HOST_DEVICE static A slope(A x) noexcept {
    constexpr A bound = -detail::exp_constants<A>::least;
    const A low = x < -bound ? -bound : x;
    const A inner = x > bound ? bound : low;
    const detail::logistic<A> s = detail::logistic_inside(inner);
    return detail::fused(inner * s.value, s.complement, s.value);
  }
};

/// GPT-2's GELU, Hugging Face's gelu_new: x/2 (1 + tanh(u)) = x sigmoid(2u), u = sqrt(2/pi) (x + 0.044715 x^3).
/// Source: Hendrycks and Gimpel 2016, Gaussian error linear units.
struct gelu_tanh {
  template <class A>
  [[nodiscard]] MSG_HOST_DEVICE static A value(A x) noexcept {
    const A low = x < -bound<A> ? -bound<A> : x;
    const A inner = x > bound<A> ? bound<A> : low;
    const A square = inner * inner;
    return low * detail::logistic_inside(inner * detail::fused(square, cubic<A>, linear<A>)).value;
  }
  template <class A>
  [[nodiscard]] MSG_HOST_DEVICE static A slope(A x) noexcept {
    const A low = x < -bound<A> ? -bound<A> : x;
    const A inner = x > bound<A> ? bound<A> : low;
    const A square = inner * inner;
    const detail::logistic<A> s = detail::logistic_inside(inner * detail::fused(square, cubic<A>, linear<A>));
    const A du = detail::fused(square, A(3) * cubic<A>, linear<A>); // d(2u)/dx
    return detail::fused(inner * (s.value * s.complement), du, s.value);
  }

private:
  template <class A>
  static constexpr A linear = A(1.59576912160573071176); // 2 sqrt(2/pi)
  template <class A>
  static constexpr A cubic = A(1.59576912160573071176 * 0.044715);
  template <class A> // beyond, the result is x or 0 to any precision; 2u stays where logistic_inside holds
  static constexpr A bound = A(sizeof(A) == sizeof(float) ? 9.9 : 21.0);
};

/// The exact GELU, Hugging Face's gelu: x Phi(x), Phi the normal distribution function. For z = |x| and t = 1/(1 + k
/// z), Phi(-z) = exp(-z^2/2) t p(t), p a minimax fit (Remez) of the relative error: 8e-9 for float, 2e-17 for double.
/// Source: Hendrycks and Gimpel 2016, Gaussian error linear units.
struct gelu_erf {
  template <class A>
  [[nodiscard]] MSG_HOST_DEVICE static A value(A x) noexcept {
    const A low = x < -bound<A> ? -bound<A> : x;
    const A inner = x > bound<A> ? bound<A> : low;
    const A tail = bell(inner) * ratio(inner < A(0) ? -inner : inner);
    const A positive = detail::fused(-x, tail, x);
    const A negative = low * tail;
    return x > bound<A> ? x : (x < A(0) ? negative : positive);
  }
  template <class A>
  [[nodiscard]] MSG_HOST_DEVICE static A slope(A x) noexcept {
    const A low = x < -bound<A> ? -bound<A> : x;
    const A inner = x > bound<A> ? bound<A> : low;
    const A e = bell(inner);
    const A tail = e * ratio(inner < A(0) ? -inner : inner);
    const A rest = detail::fused(-e, ratio(inner < A(0) ? -inner : inner), A(1));
    const A distribution = inner < A(0) ? tail : rest;
    return detail::fused(inner * A(0.39894228040143267794), e, distribution);
  }

private:
  template <class A> // beyond, the result is x or 0 to any precision
  static constexpr A bound = A(sizeof(A) == sizeof(float) ? 13.1 : 37.6);

  /// exp(-x^2/2)
  template <class A>
  [[nodiscard]] MSG_HOST_DEVICE static A bell(A x) noexcept {
    const detail::exp_parts<A> parts = detail::exp_inside(A(-0.5) * x * x);
    return parts.mantissa * parts.scale;
  }
  /// Phi(-z) / exp(-z^2/2) for z >= 0
  [[nodiscard]] MSG_HOST_DEVICE static float ratio(float z) noexcept {
    const float t = 1.0F / detail::fused(0.25F, z, 1.0F);
    return t * detail::polynomial(t, 0.0997505998216F, 0.0994437735157F, 0.0958952777205F, 0.0703310647821F,
                                  0.0912281823846F, 0.00460278140295F, 0.0377638356241F, 0.0449314099447F,
                                  -0.060035227401F, 0.0160883059368F);
  }
  [[nodiscard]] MSG_HOST_DEVICE static double ratio(double z) noexcept {
    const double t = 1.0 / detail::fused(0.2, z, 1.0);
    return t * detail::polynomial(
                   t, 0.079788456087331275174, 0.079788455609931127078, 0.076596932398588459229,
                   0.070213563286374842782, 0.061025886877990067569, 0.049752214760591603701, 0.037849984061814576641,
                   0.024078869754219993604, 0.022353033915921199257, -0.020277807982399597846, 0.084325075850824751176,
                   -0.20698623473560612091, 0.41385196631286081955, -0.68297840305633633038, 0.8983967544979659073,
                   -0.9390630560554386953, 0.76246472773293534688, -0.46335248836553459608, 0.20181881032858022855,
                   -0.059345882889388194002, 0.010559602601849312216, -0.00086046099307597051015);
  }
};

/// tanh(x), of the C library: for a few rows (a pooler), not for wide layers.
struct hyperbolic_tangent {
  template <class A>
  [[nodiscard]] MSG_HOST_DEVICE static A value(A x) noexcept {
    return std::tanh(x);
  }
  template <class A>
  [[nodiscard]] MSG_HOST_DEVICE static A slope(A x) noexcept {
    const A y = std::tanh(x);
    return (A(1) - y) * (A(1) + y);
  }
};

/// y = m . act(x + bias).
///
/// x, y    (rows, width); y may be x where no backward follows
/// bias    (width), or null
/// mask    (width / repeat), or none
/// stride  between rows, so that x and y can be the same columns of wider rows; 0: width
template <class T, class Activation = gelu_tanh>
struct activation_forward {
  const T* x;
  const T* bias;
  T* y;
  index width;
  mask_view mask;
  index repeat = 1;
  index stride = 0;

  template <class Team>
  MSG_FLATTEN MSG_HOST_DEVICE void operator()(const Team& team, index row) const {
    using A = accumulate_t<T>;
    const index step = stride == 0 ? width : stride;
    const detail::reads from(x + row * step);
    const detail::writes<T> to(y + row * step);
    if (bias == nullptr) {
      detail::each_unit(
          team, width, mask, repeat, [](index, auto m, A z, A& out) { out = m.times(Activation::value(z)); }, from, to);
    } else {
      detail::each_unit(
          team, width, mask, repeat, [](index, auto m, A z, A b, A& out) { out = m.times(Activation::value(z + b)); },
          from, detail::reads(bias), to);
    }
  }
};

/// Gradient of activation_forward in x (and, summed over rows, in bias): dx = m . dy . act'(x + bias).
///
/// dy, dx  (rows, width); dx may be dy or x
template <class T, class Activation = gelu_tanh>
struct activation_backward {
  const T* x;
  const T* bias;
  const T* dy;
  T* dx;
  index width;
  mask_view mask;
  index repeat = 1;

  template <class Team>
  MSG_FLATTEN MSG_HOST_DEVICE void operator()(const Team& team, index row) const {
    using A = accumulate_t<T>;
    const detail::reads from(x + row * width);
    const detail::reads slope(dy + row * width);
    const detail::writes<T> to(dx + row * width);
    if (bias == nullptr) {
      detail::each_unit(
          team, width, mask, repeat, [](index, auto m, A z, A d, A& out) { out = m.times(d * Activation::slope(z)); },
          from, slope, to);
    } else {
      detail::each_unit(
          team, width, mask, repeat,
          [](index, auto m, A z, A b, A d, A& out) { out = m.times(d * Activation::slope(z + b)); }, from,
          detail::reads(bias), slope, to);
    }
  }
};

/// A gated linear unit: y = m . act(gate) . up; with silu, SwiGLU. The mask stands on the product, once.
///
/// x      (rows, 2 width): gates, then ups
/// y      (rows, width)
/// mask   (width), or none
/// Source: Shazeer 2020, GLU variants improve Transformer.
template <class T, class Activation = silu>
struct gated_forward {
  const T* x;
  T* y;
  index width;
  mask_view mask;

  template <class Team>
  MSG_FLATTEN MSG_HOST_DEVICE void operator()(const Team& team, index row) const {
    using A = accumulate_t<T>;
    const T* const gate = x + row * 2 * width;
    detail::each_unit(
        team, width, mask, 1, [](index, auto m, A g, A up, A& out) { out = m.times(Activation::value(g) * up); },
        detail::reads(gate), detail::reads(gate + width), detail::writes<T>(y + row * width));
  }
};

/// Gradient of gated_forward in x: d gate = m . dy . up . act'(gate), d up = m . dy . act(gate).
///
/// dy  (rows, width)
/// dx  (rows, 2 width); may be x
template <class T, class Activation = silu>
struct gated_backward {
  const T* x;
  const T* dy;
  T* dx;
  index width;
  mask_view mask;

  template <class Team>
  MSG_FLATTEN MSG_HOST_DEVICE void operator()(const Team& team, index row) const {
    using A = accumulate_t<T>;
    const T* const gate = x + row * 2 * width;
    T* const to = dx + row * 2 * width;
    detail::each_unit(
        team, width, mask, 1,
        [](index, auto m, A g, A up, A d, A& by_gate, A& by_up) {
          by_gate = m.times(d * up * Activation::slope(g));
          by_up = m.times(d * Activation::value(g));
        },
        detail::reads(gate), detail::reads(gate + width), detail::reads(dy + row * width), detail::writes<T>(to),
        detail::writes<T>(to + width));
  }
};

MSG_NAMESPACE_END
