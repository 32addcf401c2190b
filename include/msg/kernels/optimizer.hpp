// Optimizer updates of one row of a parameter whose entries differ in age and mask, and sums of squares.
#pragma once

#include <msg/config.hpp>
#include <msg/kernels/arithmetic.hpp>
#include <msg/kernels/elements.hpp>
#include <msg/tensor.hpp>

#include <cstdint>
#include <limits>

MSG_NAMESPACE_BEGIN

namespace detail {

template <class T>
struct root_constants;
template <>
struct root_constants<float> {
  using bits = std::uint32_t;
  static constexpr bits magic = 0x5f375a86U;
  static constexpr float least = std::numeric_limits<float>::min();
  static constexpr int iterations = 2;
};
template <>
struct root_constants<double> {
  using bits = std::uint64_t;
  static constexpr bits magic = 0x5fe6ec85e7de30daU;
  static constexpr double least = std::numeric_limits<double>::min();
  static constexpr int iterations = 3;
};

/// sqrt(x + s) for x from 0 to half the largest number, s being the smallest normal one, within 1.5 ulp; NaN stays. As
/// std::sqrt sets errno, no compiler vectorises a loop over it by default; this one, over memory, is as fast as the
/// instruction with AVX-512, nearly with AVX2. From a guess at 1 / sqrt that is off by 3.5 %, each iteration of
/// Newton's turns an error e into 1.5 e^2, and so does the last step, on the root itself.
/// Source: Lomont 2003, Fast Inverse Square Root (the constants).
template <class T>
[[nodiscard]] MSG_HOST_DEVICE inline T square_root(T x) noexcept {
  using k = root_constants<T>;
  const T y = x + k::least; // not max(x, s): g++ makes two paths of it
  const T half = T(0.5) * y;
  T r = __builtin_bit_cast(T, k::magic - (__builtin_bit_cast(typename k::bits, y) >> 1));
  for (int i = 0; i < k::iterations; ++i) { r *= fused(-half * r, r, T(1.5)); }
  const T root = y * r;
  return fused(T(0.5) * r, fused(-root, root, y), root);
}

} // namespace detail

/// Adam's bias corrections at one age t: step = lr / (1 - beta1^t), root = 1 / sqrt(1 - beta2^t). Both fall with t, so
/// that the youngest of several indices is where both are largest. That fails where births have learning rates of
/// their own (in Adam's step, in rate for others): then `born` tells which is the youngest; otherwise it is 0.
template <class Real>
struct age_factors {
  Real step = 0;
  Real root = 0;
  Real rate = 1;
  Real born = 0;
};

/// AdamW:  m = b1 m + (1 - b1) g,  v = b2 v + (1 - b2) g^2,  w -= step m / (root sqrt(v) + eps) + decay mask w.
/// Source: Loshchilov and Hutter 2019, Decoupled Weight Decay Regularization, algorithm 2.
template <class Real>
struct adamw_rule {
  static constexpr int moments = 2;
  Real decay = 0, gradient_scale = 1; // decay is lr * weight_decay, in every rule
  Real beta1 = 0, fresh1 = 1;         // fresh is 1 - beta, in every rule
  Real beta2 = 0, fresh2 = 1;
  Real eps = 0;

  struct element {
    Real step, root, decay, gradient_scale, beta1, fresh1, beta2, fresh2, eps;
    MSG_HOST_DEVICE Real operator()(Real w, Real gradient, Real& m, Real& v) const {
      const Real g = gradient * gradient_scale;
      m = detail::fused(beta1, m, fresh1 * g);
      v = detail::fused(fresh2 * g, g, beta2 * v);
      return w - detail::fused(decay, w, step * m / detail::fused(root, detail::square_root(v), eps));
    }
  };
  [[nodiscard]] MSG_HOST_DEVICE element at(const age_factors<Real>& age, Real mask) const {
    return {age.step, age.root, decay * mask, gradient_scale, beta1, fresh1, beta2, fresh2, eps};
  }
};

/// SGD:  m = momentum m + g,  w -= lr u + decay mask w,  u = m, or g + momentum m (Nesterov).
template <class Real>
struct sgd_rule {
  static constexpr int moments = 1;
  Real lr = 0, decay = 0, gradient_scale = 1;
  Real momentum = 0;
  Real direct = 0, carried = 1; // u = direct g + carried m: (0, 1), or (1, momentum) for Nesterov

  struct element {
    Real lr, decay, gradient_scale, momentum, direct, carried;
    MSG_HOST_DEVICE Real operator()(Real w, Real gradient, Real& m) const {
      const Real g = gradient * gradient_scale;
      m = detail::fused(momentum, m, g);
      return w - detail::fused(decay, w, lr * detail::fused(carried, m, direct * g));
    }
  };
  [[nodiscard]] MSG_HOST_DEVICE element at(const age_factors<Real>& age, Real mask) const {
    return {lr * age.rate, decay * mask, gradient_scale, momentum, direct, carried};
  }
};

/// Lion:  u = sign(b1 m + (1 - b1) g),  m = b2 m + (1 - b2) g,  w -= lr u + decay mask w;  sign(0) = 0.
/// Source: Chen et al. 2023, Symbolic Discovery of Optimization Algorithms, program 1.
template <class Real>
struct lion_rule {
  static constexpr int moments = 1;
  Real lr = 0, decay = 0, gradient_scale = 1;
  Real beta1 = 0, fresh1 = 1;
  Real beta2 = 0, fresh2 = 1;

  struct element {
    Real lr, decay, gradient_scale, beta1, fresh1, beta2, fresh2;
    MSG_HOST_DEVICE Real operator()(Real w, Real gradient, Real& m) const {
      const Real g = gradient * gradient_scale;
      const Real u = detail::fused(beta1, m, fresh1 * g);
      m = detail::fused(beta2, m, fresh2 * g);
      return w - detail::fused(decay, w, u > 0 ? lr : u < 0 ? -lr : Real(0));
    }
  };
  [[nodiscard]] MSG_HOST_DEVICE element at(const age_factors<Real>& age, Real mask) const {
    return {lr * age.rate, decay * mask, gradient_scale, beta1, fresh1, beta2, fresh2};
  }
};

/// One dimension, position by position. Null: nothing special.
template <class Real>
struct update_dimension {
  index extent = 1;
  const age_factors<Real>* age = nullptr; // (extent)
  const float* mask = nullptr;            // (extent)
};

/// A stretch of the innermost dimension with one age and one mask.
template <class Real>
struct update_run {
  index begin = 0;
  index length = 0;
  age_factors<Real> age{};
  float mask = 1;
};

/// What changes from step to step, where a captured graph has to read it anew at every launch.
template <class Rule, class Real>
struct update_now {
  Rule rule{};
  age_factors<Real> oldest{};
};

/// Updates row `row` of a contiguous parameter seen as (outer..., length). The age of an entry is the youngest of its
/// positions, its mask the least of theirs. Only a parameter without outer dimensions may be cut into stretches of
/// `length` elements, the last of them shorter.
template <class Rule, class Value, class Gradient, class Moment>
struct update_row {
  using real = accumulate_t<Value>;

  Rule rule{};
  Value* value = nullptr; // (size), contiguous, as are the other three; none may overlap another
  const Gradient* gradient = nullptr;
  Moment* moment1 = nullptr;
  Moment* moment2 = nullptr; // unused if the rule has one moment
  index size = 0;
  index length = 0;
  age_factors<real> oldest{};                  // of an entry with nothing special
  const update_now<Rule, real>* now = nullptr; // in the executor's memory, in place of rule and oldest
  update_dimension<real> outer[max_rank - 1] = {};
  index outer_rank = 0;
  // The innermost dimension: as runs, or (runs too short to pay) both arrays of `inner`, or neither: nothing special.
  const update_run<real>* runs = nullptr;
  index run_count = 0;
  update_dimension<real> inner{};

  template <class Team>
  MSG_HOST_DEVICE void operator()(const Team& team, index row) const {
    const Rule by = now != nullptr ? now->rule : rule;
    age_factors<real> age = now != nullptr ? now->oldest : oldest;
    float mask = 1;
    index rest = row;
    for (index d = outer_rank - 1; d >= 0; --d) {
      const index position = rest % outer[d].extent;
      rest /= outer[d].extent;
      if (outer[d].age != nullptr) { age = younger(age, outer[d].age[position]); }
      if (outer[d].mask != nullptr) { mask = lesser(mask, outer[d].mask[position]); }
    }
    const index begin = row * length;
    const auto alike = [&](index from, index count, const age_factors<real>& young, float awake) {
      const auto next = by.at(young, static_cast<real>(awake));
      update(team, from, count, [next](index) { return next; });
    };
    if (inner.age != nullptr) {
      update(team, begin, length, [by, age, mask, ages = inner.age, masks = inner.mask](index i) {
        return by.at(younger(age, ages[i]), static_cast<real>(lesser(mask, masks[i])));
      });
    } else if (runs != nullptr) {
      for (index r = 0; r < run_count; ++r) {
        const update_run<real>& run = runs[r];
        alike(begin + run.begin, run.length, younger(age, run.age), lesser(mask, run.mask));
      }
    } else {
      alike(begin, length < size - begin ? length : size - begin, age, mask);
    }
  }

private:
  [[nodiscard]] MSG_HOST_DEVICE static float lesser(float a, float b) noexcept { return b < a ? b : a; }
  [[nodiscard]] MSG_HOST_DEVICE static age_factors<real> younger(const age_factors<real>& a,
                                                                 const age_factors<real>& b) noexcept {
    if (a.born != b.born) { return a.born < b.born ? b : a; }
    return {a.step < b.step ? b.step : a.step, a.root < b.root ? b.root : a.root, a.rate, a.born};
  }

  /// next(i) gives the update of the i-th of `count` elements from `begin` on.
  template <class Team, class Next>
  MSG_HOST_DEVICE void update(const Team& team, index begin, index count, const Next& next) const {
    const detail::updates<Value> w(value + begin);
    const detail::reads<Gradient> g(gradient + begin);
    const detail::updates<Moment> m1(moment1 + begin);
    if constexpr (Rule::moments == 2) {
      const detail::updates<Moment> m2(moment2 + begin);
      detail::each_element(
          team, count, [=](index i, real& x, real slope, auto& m, auto& v) { x = apply(next(i), x, slope, m, v); }, w,
          g, m1, m2);
    } else {
      detail::each_element(
          team, count, [=](index i, real& x, real slope, auto& m) { x = apply(next(i), x, slope, m); }, w, g, m1);
    }
  }

  /// Moments are worked on in the precision of the values.
  template <class Element, class... Moments>
  MSG_HOST_DEVICE static real apply(const Element& element, real x, real slope, Moments&... moments) {
    return [&](auto... m) {
      const real result = element(x, slope, m...);
      ((moments = static_cast<Moments>(m)), ...);
      return result;
    }(static_cast<real>(moments)...);
  }
};

/// partial[row] = sum of the squares of the row's elements by the lane rule, in double.
template <class T>
struct square_row {
  const T* data = nullptr; // (size)
  index size = 0;
  index length = 0;          // elements of a row; the last row may be shorter
  double* partial = nullptr; // (rows)

  template <class Team>
  MSG_HOST_DEVICE void operator()(const Team& team, index row) const {
    const index begin = row * length;
    const T* const x = data + begin;
    const index count = length < size - begin ? length : size - begin;
    const double sum = team.template fold<double>(count, [=](double lane, index i) {
      const auto element = static_cast<double>(x[i]);
      return detail::fused(element, element, lane);
    });
    if (team.rank() == 0) { partial[row] = sum; }
  }
};

MSG_NAMESPACE_END
