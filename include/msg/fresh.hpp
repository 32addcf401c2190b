// What fresh cells of a grown parameter hold: numbers by kind of parameter, zeros by where the fresh unit stands.
#pragma once

#include <msg/parameter.hpp>

#include <cstdint>

MSG_NAMESPACE_BEGIN

/// Numbers for fresh cells.
struct init {
  enum class kind { zeros, constant, normal, matched, spread, like_units };
  kind what = kind::zeros;
  double value = 0; // constant: the value; normal: the standard deviation; spread, like_units: times the old one

  [[nodiscard]] static constexpr init zeros() noexcept { return {kind::zeros, 0}; }
  [[nodiscard]] static constexpr init constant(double v) noexcept { return {kind::constant, v}; }
  [[nodiscard]] static constexpr init normal(double standard_deviation) noexcept {
    return {kind::normal, standard_deviation};
  }
  /// Normal with the mean and standard deviation of the old tensor.
  [[nodiscard]] static constexpr init matched() noexcept { return {kind::matched, 0}; }
  /// Normal with mean 0 and `times` the standard deviation of the old tensor.
  [[nodiscard]] static constexpr init spread(double times) noexcept { return {kind::spread, times}; }
  /// A fresh unit like the old ones of its axis: in each place normal with their mean there and `times` their standard
  /// deviation; 0: their mean. For new rows of a vocabulary.
  /// Source: Hewitt 2021, Initializing new word embeddings for pretrained language models (with a diagonal covariance).
  [[nodiscard]] static constexpr init like_units(double times = 1) noexcept { return {kind::like_units, times}; }
  friend constexpr bool operator==(const init&, const init&) noexcept = default;
};

/// Fresh values by the kind of parameter. Source: MSG, sec. 4.1 (normal 0.02; biases 0; gains 1).
struct fresh_values {
  init weight = init::normal(0.02);
  init bias = init::zeros();
  init norm_gain = init::constant(1);
  init norm_bias = init::zeros();

  /// One initialisation for every kind: what a test of strictness wants.
  [[nodiscard]] static constexpr fresh_values all(init what) noexcept { return {what, what, what, what}; }
  [[nodiscard]] constexpr const init& of(msg::kind what) const noexcept {
    switch (what) {
      case msg::kind::weight: return weight;
      case msg::kind::bias: return bias;
      case msg::kind::norm_gain: return norm_gain;
      case msg::kind::norm_bias: return norm_bias;
    }
    return weight;
  }
};

enum class fill { init, zero };

/// What fresh cells hold, by where the fresh unit stands in the parameter (design: the law of growth). A norm's own
/// gain and bias are no weights that write: `out` and `both` leave them alone.
struct fresh_fills {
  fill out = fill::init;     // fresh unit written by old ones
  fill in = fill::init;      // fresh unit read by old ones
  fill both = fill::init;    // fresh read by fresh
  bool zero_writers = false; // layers: what a new layer writes to the residual axis is zero
  bool zero_keys = false;    // a scored axis: what writes keys (schema::keys) is zero on fresh units
};

MSG_NAMESPACE_END
