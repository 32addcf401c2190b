// A number and its derivative, carried along: exact gradients of plain loops, to test other gradients against.
#pragma once

#include <cmath>

namespace testing {

struct dual {
  double value = 0;
  double slope = 0;

  dual() = default;
  dual(double v, double s = 0) : value(v), slope(s) {} // NOLINT(google-explicit-constructor)
};

inline dual operator+(const dual& a, const dual& b) { return {a.value + b.value, a.slope + b.slope}; }
inline dual operator-(const dual& a, const dual& b) { return {a.value - b.value, a.slope - b.slope}; }
inline dual operator*(const dual& a, const dual& b) {
  return {a.value * b.value, a.slope * b.value + a.value * b.slope};
}
inline dual operator/(const dual& a, const dual& b) {
  const double quotient = a.value / b.value;
  return {quotient, (a.slope - quotient * b.slope) / b.value};
}
inline dual sqrt(const dual& a) {
  const double root = std::sqrt(a.value);
  return {root, a.slope / (2 * root)};
}
inline dual tanh(const dual& a) {
  const double t = std::tanh(a.value);
  return {t, a.slope * (1 - t * t)};
}
inline dual exp(const dual& a) {
  const double e = std::exp(a.value);
  return {e, a.slope * e};
}
inline dual log(const dual& a) { return {std::log(a.value), a.slope / a.value}; }

} // namespace testing
