// AdamW, SGD and Lion for parameters that grow: bias correction by the age of each entry, weight decay by its mask.
#pragma once

#include <msg/ages.hpp>
#include <msg/apply.hpp>
#include <msg/config.hpp>
#include <msg/detail/update_layout.hpp>
#include <msg/error.hpp>
#include <msg/exec/serial.hpp>
#include <msg/kernels/optimizer.hpp>
#include <msg/tensor.hpp>

#include <algorithm>
#include <cmath>
#include <concepts>
#include <cstddef>
#include <span>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

MSG_NAMESPACE_BEGIN

struct adamw {
  static constexpr int moments = 2;
  double beta1 = 0.9;
  double beta2 = 0.95;
  double eps = 1e-8; // more than 0: a fresh entry without a gradient would be 0 / 0
  double weight_decay = 0.1;
};

/// Weight decay is decoupled, as in AdamW.
struct sgd {
  static constexpr int moments = 1;
  double momentum = 0.9;
  bool nesterov = false;
  double weight_decay = 0;
};

struct lion {
  static constexpr int moments = 1;
  double beta1 = 0.9;
  double beta2 = 0.99;
  double weight_decay = 0.1;
};

template <class T>
concept optimizer_options = std::same_as<T, adamw> || std::same_as<T, sgd> || std::same_as<T, lion>;

/// What one update needs besides tensors.
struct update_step {
  double lr = 0;
  index step = 0;            // optimizer step from 0; an entry born at b has age step - b + 1
  double gradient_scale = 1; // of every gradient: clipping, loss scaling
  bool decay = true;         // false: the group without weight decay (norms and biases)
  /// Factors of lr by birth, for entries that a growth brought; those of other births have 1. An entry has the factor
  /// of the youngest of its indices. Weight decay doesn't know of them. What it views must live during the call.
  std::span<const birth_rate> rates{};
};

namespace detail {

template <class Options>
[[nodiscard]] std::vector<diagnostic> option_findings(const Options& options, const update_step& now) {
  std::vector<diagnostic> findings;
  const auto check = [&](bool good, const char* name, const char* expected, double found) {
    if (!good) {
      findings.push_back(
          {.code = errc::bad_argument, .expected = expected, .found = std::to_string(found), .hint = name});
    }
  };
  const auto part = [&](double value, const char* name) {
    check(value >= 0 && value < 1, name, "from 0 to less than 1", value);
  };
  check(now.lr >= 0 && std::isfinite(now.lr), "lr", "at least 0, finite", now.lr);
  check(std::isfinite(now.gradient_scale), "gradient_scale", "a finite number", now.gradient_scale);
  check(now.step >= 0, "step", "at least 0", static_cast<double>(now.step));
  for (const birth_rate& rate : now.rates) {
    check(rate.factor >= 0 && std::isfinite(rate.factor), "rates", "factors of at least 0, finite", rate.factor);
  }
  check(options.weight_decay >= 0 && std::isfinite(options.weight_decay), "weight_decay", "at least 0",
        options.weight_decay);
  if constexpr (std::same_as<Options, sgd>) {
    part(options.momentum, "momentum");
  } else {
    part(options.beta1, "beta1");
    part(options.beta2, "beta2");
  }
  if constexpr (std::same_as<Options, adamw>) {
    check(options.eps >= 1e-30 && std::isfinite(options.eps), "eps", "at least 1e-30", options.eps);
  }
  return findings;
}

/// 1 - beta^age, and 1 for beta = 0
[[nodiscard]] inline double correction(double beta, index age) {
  return -std::expm1(static_cast<double>(age) * std::log(beta));
}

/// Factors of an entry born at a step. Births are told apart only where their rates may differ: up to 2^24 in float,
/// from where on neighbours may be taken for one another.
template <class Real, class Options>
[[nodiscard]] age_factors<Real> factors_at(const Options& options, const update_step& now, index birth) {
  age_factors<Real> result;
  double rate = 1;
  for (const birth_rate& given : now.rates) {
    if (given.birth == birth) { rate = given.factor; }
  }
  if (!now.rates.empty()) { result.born = static_cast<Real>(birth); }
  if constexpr (std::same_as<Options, adamw>) {
    const index age = now.step - birth + 1;
    result.step = static_cast<Real>(rate * now.lr / correction(options.beta1, age));
    result.root = static_cast<Real>(1 / std::sqrt(correction(options.beta2, age)));
  } else {
    result.rate = static_cast<Real>(rate);
  }
  return result;
}

template <class Real>
[[nodiscard]] adamw_rule<Real> rule_from(const adamw& options, const update_step& now) {
  adamw_rule<Real> rule;
  rule.decay = static_cast<Real>(now.decay ? now.lr * options.weight_decay : 0);
  rule.gradient_scale = static_cast<Real>(now.gradient_scale);
  rule.beta1 = static_cast<Real>(options.beta1);
  rule.fresh1 = static_cast<Real>(1 - options.beta1);
  rule.beta2 = static_cast<Real>(options.beta2);
  rule.fresh2 = static_cast<Real>(1 - options.beta2);
  rule.eps = static_cast<Real>(options.eps);
  return rule;
}
template <class Real>
[[nodiscard]] sgd_rule<Real> rule_from(const sgd& options, const update_step& now) {
  sgd_rule<Real> rule;
  rule.lr = static_cast<Real>(now.lr);
  rule.decay = static_cast<Real>(now.decay ? now.lr * options.weight_decay : 0);
  rule.gradient_scale = static_cast<Real>(now.gradient_scale);
  rule.momentum = static_cast<Real>(options.momentum);
  rule.direct = options.nesterov ? Real(1) : Real(0);
  rule.carried = options.nesterov ? rule.momentum : Real(1);
  return rule;
}
template <class Real>
[[nodiscard]] lion_rule<Real> rule_from(const lion& options, const update_step& now) {
  lion_rule<Real> rule;
  rule.lr = static_cast<Real>(now.lr);
  rule.decay = static_cast<Real>(now.decay ? now.lr * options.weight_decay : 0);
  rule.gradient_scale = static_cast<Real>(now.gradient_scale);
  rule.beta1 = static_cast<Real>(options.beta1);
  rule.fresh1 = static_cast<Real>(1 - options.beta1);
  rule.beta2 = static_cast<Real>(options.beta2);
  rule.fresh2 = static_cast<Real>(1 - options.beta2);
  return rule;
}

/// Data of a tensor that can be read as one run of `size` elements.
template <class T>
[[nodiscard]] T* flat(const tensor_view<T>& given, index size, const char* which) {
  if (given.size() != size || !given.contiguous()) {
    throw error(diagnostic{.code = errc::shape_mismatch,
                           .expected = std::to_string(size) + " elements without gaps",
                           .found = std::to_string(given.size()) + (given.contiguous() ? "" : ", strided"),
                           .hint = which});
  }
  return given.data;
}

} // namespace detail

/// One optimizer step of one parameter, in place.
///
///   adamw   m = b1 m + (1 - b1) g,  v = b2 v + (1 - b2) g^2,  t = step - birth + 1
///           w -= lr (m / (1 - b1^t)) / (sqrt(v / (1 - b2^t)) + eps)
///   sgd     m = momentum m + g,  w -= lr m, or lr (g + momentum m) with nesterov
///   lion    w -= lr sign(b1 m + (1 - b1) g),  m = b2 m + (1 - b2) g
///   all     w -= lr weight_decay mask w as well, if now.decay; g is the gradient times now.gradient_scale
///           lr, but not that of weight decay, is times the factor that now.rates has for the entry's birth
///
/// on                 where it runs; left out: host{}
/// ages               births and masks by dimension; {}: every entry born at step 0 and awake
/// value, gradient    any contiguous tensors of one size
/// moments            adamw: m and v; sgd, lion: m. Zero for fresh entries
/// Throws error{bad_argument, shape_mismatch} before writing anything.
/// Cost: one pass over the tensors; the bits do not depend on the number of threads.
/// Source: method.md 4; kernels/optimizer.hpp names the papers.
template <executor Executor, optimizer_options Options, tensor_like Value, tensor_like Gradient, tensor_like... Moments>
  requires(sizeof...(Moments) == Options::moments)
void update(const Executor& on, const Options& options, const update_step& now, const parameter_ages& ages,
            Value&& value, const Gradient& gradient, Moments&&... moments) {
  const auto w = view_of(value);
  const index size = w.size();
  std::vector<index> shape = ages.shape;
  if (shape.empty()) { shape.assign(w.extent, w.extent + w.rank); }
  std::vector<diagnostic> findings = detail::option_findings(options, now);
  for (diagnostic& finding : detail::age_findings(ages, shape, size, now.step)) {
    findings.push_back(std::move(finding));
  }
  if (!findings.empty()) { throw error(std::move(findings)); }

  using real = accumulate_t<element_t<Value>>;
  const auto layout = detail::layout_of<real>(
      ages, shape, size, [&](index birth) { return detail::factors_at<real>(options, now, birth); });

  using moment = std::common_type_t<element_t<Moments>...>;
  const auto rule = detail::rule_from<real>(options, now);
  update_row<std::remove_const_t<decltype(rule)>, element_t<Value>, element_t<Gradient>, moment> kernel;
  kernel.rule = rule;
  kernel.value = detail::flat(w, size, "value");
  kernel.gradient = detail::flat(view_of(gradient), size, "gradient");
  moment* const data[] = {detail::flat(view_of(moments), size, "moments")...};
  kernel.moment1 = data[0];
  kernel.moment2 = data[Options::moments - 1];
  kernel.size = size;
  kernel.length = layout.length;
  kernel.oldest = layout.oldest;
  std::copy(layout.outer.begin(), layout.outer.end(), kernel.outer);
  kernel.outer_rank = static_cast<index>(layout.outer.size());
  kernel.runs = layout.runs.empty() ? nullptr : layout.runs.data();
  kernel.run_count = static_cast<index>(layout.runs.size());
  kernel.inner = layout.inner;
  on.run(layout.rows, layout.length, kernel);
}

template <optimizer_options Options, tensor_like Value, tensor_like Gradient, tensor_like... Moments>
  requires(sizeof...(Moments) == Options::moments)
void update(const Options& options, const update_step& now, const parameter_ages& ages, Value&& value,
            const Gradient& gradient, Moments&&... moments) {
  update(host{}, options, now, ages, value, gradient, moments...);
}

/// Sum of the squares of a tensor's elements, in double: stretches of 4096 elements by the lane rule, then the
/// stretches in order. The bits do not depend on the number of threads. For norms over many parameters add the sums.
template <executor Executor, tensor_like Tensor>
[[nodiscard]] double sum_of_squares(const Executor& on, const Tensor& tensor) {
  const auto x = view_of(tensor);
  const index size = x.size();
  std::vector<double> partial(static_cast<std::size_t>((size + detail::update_chunk - 1) / detail::update_chunk));
  square_row<element_t<Tensor>> kernel;
  kernel.data = detail::flat(x, size, "tensor");
  kernel.size = size;
  kernel.length = detail::update_chunk;
  kernel.partial = partial.data();
  on.run(static_cast<index>(partial.size()), detail::update_chunk, kernel);
  double sum = 0;
  for (const double part : partial) { sum += part; }
  return sum;
}
template <tensor_like Tensor>
[[nodiscard]] double sum_of_squares(const Tensor& tensor) {
  return sum_of_squares(host{}, tensor);
}

/// Factor for gradients of norm `norm` to have at most the norm `limit`; 0 or less: no limit. NaN stays NaN.
[[nodiscard]] MSG_HOST_DEVICE inline double clip_scale(double norm, double limit) noexcept {
  return limit <= 0 || norm <= limit ? 1 : limit / norm;
}

MSG_NAMESPACE_END
