// What the kernels compute with: fma that leaves the compiler no choice, exp, and masks as compile-time cases.
#pragma once

#include <msg/config.hpp>
#include <msg/tensor.hpp>

#include <cmath>
#include <cstdint>
#include <limits>
#include <type_traits>

MSG_NAMESPACE_BEGIN

namespace detail {

// Bits must not depend on whether an element lies in a vector body or in a scalar tail, or on which of two
// instantiations of a kernel ran. So no product is ever left to feed a `+`, where a compiler may or may not contract
// it: it goes through fused(). Where the target has no fma, nothing can be contracted, and a product and a sum do.

/// a * b + c
template <class T>
  requires std::is_floating_point_v<T>
[[nodiscard]] MSG_HOST_DEVICE inline T fused(T a, T b, T c) noexcept {
#if defined(__CUDA_ARCH__) || defined(__FMA__) || defined(__ARM_FEATURE_FMA) || defined(__FP_FAST_FMA)
  return std::fma(a, b, c);
#else
  return a * b + c;
#endif
}

/// c0 + c1 x + c2 x^2 + ... by Horner's rule; recursive, as a loop over coefficients would stop vectorisation.
template <class T>
[[nodiscard]] MSG_HOST_DEVICE inline T polynomial(T, T c0) noexcept {
  return c0;
}
template <class T, class... Rest>
[[nodiscard]] MSG_HOST_DEVICE inline T polynomial(T x, T c0, Rest... rest) noexcept {
  return fused(polynomial(x, rest...), x, c0);
}

template <class T>
struct exp_constants;
template <>
struct exp_constants<float> {
  using bits = std::uint32_t;
  static constexpr int mantissa = 23;
  // 1.5 * 2^23 + 126: adding it rounds to an integer n and leaves the exponent field of 2^(n-1) in the low bits
  static constexpr float magic = 12583038.0F;
  static constexpr float per_log2 = 1.44269504088896340736F;
  static constexpr float log2_high = 0.693145751953125F; // few bits, so that n * log2_high is exact
  static constexpr float log2_low = 1.42860682030941723212e-6F;
  static constexpr float least = -86.6F;
  static constexpr float greatest = 88.72283F;
  static constexpr float infinite = std::numeric_limits<float>::infinity();
  /// 2 (exp(r) - 1 - r) / r^2
  [[nodiscard]] MSG_HOST_DEVICE static float rest(float r) noexcept {
    return polynomial(r, 2 * 0.499999936165F, 2 * 0.166665195851F, 2 * 0.0416683072288F, 2 * 0.00836884415582F,
                      2 * 0.00138215059825F);
  }
};
template <>
struct exp_constants<double> {
  using bits = std::uint64_t;
  static constexpr int mantissa = 52;
  static constexpr double magic = 6755399441056766.0; // 1.5 * 2^52 + 1022
  static constexpr double per_log2 = 1.44269504088896340736;
  static constexpr double log2_high = 0.693147180369123816490;
  static constexpr double log2_low = 1.90821492927058770002e-10;
  static constexpr double least = -707.7;
  static constexpr double greatest = 709.782712893383973096;
  static constexpr double infinite = std::numeric_limits<double>::infinity();
  [[nodiscard]] MSG_HOST_DEVICE static double rest(double r) noexcept {
    return polynomial(r, 2 * 0.5000000000000010908, 2 * 0.16666666666666428131, 2 * 0.041666666666527566168,
                      2 * 0.0083333333334818181488, 2 * 0.0013888888944365324726, 2 * 0.00019841269539563095301,
                      2 * 0.000024801492286659886393, 2 * 2.7557552000012730637e-6, 2 * 2.7630554553818586887e-7,
                      2 * 2.5012470570132900132e-8);
  }
};

/// exp(x) = mantissa * scale for least <= x <= greatest; anything elsewhere, NaN stays.
/// exp(x) = 2^n exp(r) with |r| <= log(2)/2, exp(r) = 1 + r + r^2 q(r), q a minimax fit (Remez) of the relative error;
/// as 2^(n-1) times 2 exp(r), since 2^n itself would overflow for the largest x.
template <class T>
struct exp_parts {
  T mantissa; // 2 exp(r)
  T scale;    // 2^(n-1)
};
template <class T>
[[nodiscard]] MSG_HOST_DEVICE inline exp_parts<T> exp_inside(T x) noexcept {
  using k = exp_constants<T>;
  using bits = typename k::bits;
  const T shifted = fused(x, k::per_log2, k::magic);
  const T n = shifted - k::magic;
  const T r = fused(n, -k::log2_low, fused(n, -k::log2_high, x));
  const T twice = fused(fused(k::rest(r), r, T(2)), r, T(2));
  return {twice, __builtin_bit_cast(T, static_cast<bits>(__builtin_bit_cast(bits, shifted) << k::mantissa))};
}

/// exp(x) without branches or library calls, so that loops over it vectorise: within 2 ulp, exactly 1 at 0, infinity
/// above the overflow threshold, 0 below the smallest normal number (x < -86.6 for float, -707.7 for double); NaN
/// stays.
template <class T>
[[nodiscard]] MSG_HOST_DEVICE inline T exp_approx(T x) noexcept {
  using k = exp_constants<T>;
  const exp_parts<T> parts = exp_inside(x);
  const T value = parts.mantissa * parts.scale;
  const T low = x < k::least ? T(0) : value;
  return x > k::greatest ? k::infinite : low;
}

/// The logistic function 1 / (1 + exp(-x)) for |x| <= -least, and 1 minus it without cancellation.
template <class T>
struct logistic {
  T value;
  T complement;
};
template <class T>
[[nodiscard]] MSG_HOST_DEVICE inline logistic<T> logistic_inside(T x) noexcept {
  const exp_parts<T> e = exp_inside(-x);
  const T value = T(1) / fused(e.mantissa, e.scale, T(1));
  return {value, e.mantissa * e.scale * value};
}

/// A mask inside a kernel, as one of two types, so that the plain path holds no mask code. `i` is the unit.
///   keep(i, x)       x, or 0 where the mask is 0: selected, so that NaN and infinity stay behind
///   times(i, x)      m x, likewise; x itself (its bits) where m is 1
///   add(i, x, c)     c + m x, likewise; one rounding at most more than c + x
/// no_mask and mask_value offer the same for one unit, without `i`.
struct no_mask {
  template <class A>
  [[nodiscard]] MSG_HOST_DEVICE A keep(A x) const noexcept {
    return x;
  }
  template <class A>
  [[nodiscard]] MSG_HOST_DEVICE A times(A x) const noexcept {
    return x;
  }
  template <class A>
  [[nodiscard]] MSG_HOST_DEVICE A add(A x, A c) const noexcept {
    return c + x;
  }
  template <class A>
  [[nodiscard]] MSG_HOST_DEVICE A keep(index, A x) const noexcept {
    return x;
  }
  template <class A>
  [[nodiscard]] MSG_HOST_DEVICE A times(index, A x) const noexcept {
    return x;
  }
  template <class A>
  [[nodiscard]] MSG_HOST_DEVICE A add(index, A x, A c) const noexcept {
    return c + x;
  }
};
struct mask_value {
  float value;
  template <class A>
  [[nodiscard]] MSG_HOST_DEVICE A keep(A x) const noexcept {
    return value == 0.0F ? A(0) : x;
  }
  template <class A>
  [[nodiscard]] MSG_HOST_DEVICE A times(A x) const noexcept {
    const A product = A(value) * x;
    return value == 0.0F ? A(0) : product;
  }
  template <class A>
  [[nodiscard]] MSG_HOST_DEVICE A add(A x, A c) const noexcept {
    return fused(A(value), keep(x), c);
  }
};
struct unit_mask {
  const float* value; // (units)
  [[nodiscard]] MSG_HOST_DEVICE mask_value at(index i) const noexcept { return {value[i]}; }
  template <class A>
  [[nodiscard]] MSG_HOST_DEVICE A keep(index i, A x) const noexcept {
    return at(i).keep(x);
  }
  template <class A>
  [[nodiscard]] MSG_HOST_DEVICE A times(index i, A x) const noexcept {
    return at(i).times(x);
  }
  template <class A>
  [[nodiscard]] MSG_HOST_DEVICE A add(index i, A x, A c) const noexcept {
    return at(i).add(x, c);
  }
};

/// f(no_mask) or f(unit_mask)
template <class Function>
MSG_HOST_DEVICE void with_mask(const mask_view& mask, const Function& f) {
  if (mask) {
    f(unit_mask{mask.value});
  } else {
    f(no_mask{});
  }
}

} // namespace detail

MSG_NAMESPACE_END
