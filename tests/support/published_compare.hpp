// What a model of published_model.hpp computes, its exact gradient, and how far apart two of them are.
#pragma once

#include "support/dual.hpp"
#include "support/published_forward.hpp"
#include "support/published_model.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <utility>
#include <vector>

namespace published {

template <class Number>
[[nodiscard]] values<Number> converted(const values<long double>& numbers) {
  values<Number> result;
  for (const auto& [name, all] : numbers) {
    for (const long double one : all) { result[name].push_back(wide<Number>(one)); }
  }
  return result;
}

template <class Number = double>
[[nodiscard]] std::vector<Number> outputs(const model& of, const setting& how = {}) {
  const values<Number> numbers = converted<Number>(of.numbers);
  return network<Number>(of.size, numbers, how).outputs();
}

template <class Number = double>
[[nodiscard]] Number loss(const model& of, const setting& how = {}) {
  const values<Number> numbers = converted<Number>(of.numbers);
  return network<Number>(of.size, numbers, how).loss();
}

/// How far apart two models are on one text.
struct distance {
  double in_double = 0, in_long_double = 0; // largest difference of an output
  double bound = 0;                         // of rounding, in epsilons
  /// The same numbers, whatever the signs of zeros.
  [[nodiscard]] bool none() const { return in_double == 0 && in_long_double == 0; }
  /// What differs shrinks with epsilon.
  [[nodiscard]] bool rounding() const {
    return in_double <= bound * std::numeric_limits<double>::epsilon() &&
           in_long_double <= bound * static_cast<double>(std::numeric_limits<long double>::epsilon());
  }
  /// Far from rounding: a part in a thousand of an output.
  [[nodiscard]] bool visible() const { return in_long_double > 1e-3; }
};

template <class Number>
[[nodiscard]] double apart(const std::vector<Number>& a, const std::vector<Number>& b) {
  Number worst = a.size() == b.size() ? Number(0) : std::numeric_limits<Number>::infinity();
  for (std::size_t i = 0; i < a.size() && i < b.size(); ++i) {
    const Number d = std::abs(a[i] - b[i]);
    if (std::isnan(d)) { return std::numeric_limits<double>::quiet_NaN(); } // neither near nor far
    worst = std::max(worst, d);
  }
  return static_cast<double>(worst);
}

/// Outputs for the tokens of the old vocabulary, which are the first of the new one.
template <class Number>
[[nodiscard]] std::vector<Number> first_logits(const std::vector<Number>& all, index old, index now, index tokens) {
  std::vector<Number> some;
  for (index i = 0; i < std::ssize(all); ++i) {
    if (i >= tokens * now || i % now < old) { some.push_back(all[static_cast<std::size_t>(i)]); }
  }
  return some;
}

[[nodiscard]] inline distance between(const model& old, const model& now, const setting& how = {},
                                      const setting& before = {}) {
  const auto both = [&]<class Number>(Number) {
    const auto a = outputs<Number>(old, before);
    return std::pair{a, first_logits(outputs<Number>(now, how), old.size.vocab, now.size.vocab, std::ssize(how.text))};
  };
  const auto [old_double, new_double] = both(double{});
  const auto [old_long, new_long] = both(static_cast<long double>(0));
  distance d{apart(old_double, new_double), apart(old_long, new_long)};
  // Every parameter enters one multiply-add per token. Each is off by epsilon of what it adds up, numbers below 16
  // here, and what follows, norms above all, enlarges that: by at most the largest gain over the root of the smallest
  // variance, 1.5 / sqrt(0.05) < 8, in each of the few layers; 64 for two norms on a path.
  double operations = 0;
  for (const auto& [name, numbers] : now.numbers) { operations += static_cast<double>(numbers.size()); }
  d.bound = operations * static_cast<double>(how.text.size()) * 16 * 64;
  return d;
}

/// Gradient of the loss in every parameter.
[[nodiscard]] inline values<long double> gradient(const model& of, const setting& how = {}) {
  values<testing::dual> carried = converted<testing::dual>(of.numbers);
  const network<testing::dual> net(of.size, carried, how);
  values<long double> result;
  for (auto& [name, numbers] : carried) {
    for (testing::dual& number : numbers) {
      number.slope = 1;
      result[name].push_back(net.loss().slope);
      number.slope = 0;
    }
  }
  return result;
}

} // namespace published
