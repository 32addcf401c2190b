// A residual network in plain loops, with every axis that grows: hidden, ffn, heads, layers, vocab, positions.
#pragma once

#include "support/dual.hpp"

#include <msg/schema.hpp>

#include <cmath>
#include <cstddef>
#include <string>
#include <utility>
#include <vector>

namespace testing {

using msg::index;

/// Sizes of the tiny network; heads have two channels each.
struct tiny_sizes {
  index hidden = 4;
  index ffn = 4;
  index heads = 2;
  index layers = 2;
  index vocab = 4;
  index positions = 2;
};

[[nodiscard]] inline msg::schema tiny_schema(const tiny_sizes& sizes = {}) {
  const msg::axis hidden{"hidden", sizes.hidden}, ffn{"ffn", sizes.ffn}, heads{"heads", sizes.heads};
  const msg::axis layers{"layers", sizes.layers}, vocab{"vocab", sizes.vocab}, positions{"positions", sizes.positions};
  msg::schema s;
  s.weight("token", in(vocab), out(hidden)).weight("position", in(positions), out(hidden));
  s.norm_gain("gain", each(layers), out(hidden)).norm_bias("shift", each(layers), out(hidden));
  s.weight("value", each(layers), out(heads * 2), in(hidden)).weight("join", each(layers), out(hidden), in(heads * 2));
  s.weight("up", each(layers), out(ffn), in(hidden)).bias("up_bias", each(layers), out(ffn));
  s.weight("down", each(layers), out(hidden), in(ffn)).bias("down_bias", each(layers), out(hidden));
  s.norm_gain("last_gain", in(hidden)).norm_bias("last_shift", in(hidden)); // on the reading side of the tied head
  return s.normed(hidden).logits(vocab);
}

/// One value per unit; empty: no mask.
struct tiny_masks {
  std::vector<float> hidden{}, ffn{}, heads{}, layers{}, vocab{};
};

/// The network over a packed buffer of parameters:
///
///   x = token[t] + position[p]
///   x = x + join (v tanh v) + down tanh(up n + up_bias) + down_bias,   v = value n,  n = norm(x)    for each layer
///   logits = token norm(x)
template <class Number>
class tiny_model {
public:
  tiny_model(const msg::schema& s, const std::vector<Number>& numbers) : s_(s), numbers_(numbers) {}

  [[nodiscard]] std::vector<Number> logits(index token, index position, const tiny_masks& masks) const {
    const index width = s_.axis_at("hidden").size;
    std::vector<Number> x;
    for (index j = 0; j < width; ++j) { x.push_back(at("token", {token, j}) + at("position", {position, j})); }
    for (index l = 0; l < s_.axis_at("layers").size; ++l) {
      const std::vector<Number> n = norm(x, row("gain", l), row("shift", l), masks.hidden);
      std::vector<Number> v = product("value", l, n);
      for (std::size_t i = 0; i < v.size(); ++i) { v[i] = times(masks.heads, i / 2, v[i] * tanh_of(v[i])); }
      std::vector<Number> h = product("up", l, n);
      for (std::size_t i = 0; i < h.size(); ++i) {
        h[i] = times(masks.ffn, i, tanh_of(h[i] + at("up_bias", {l, static_cast<index>(i)})));
      }
      const std::vector<Number> a = product("join", l, v), b = product("down", l, h);
      for (std::size_t j = 0; j < x.size(); ++j) {
        const Number branch = a[j] + b[j] + at("down_bias", {l, static_cast<index>(j)});
        x[j] = x[j] + times(masks.layers, static_cast<std::size_t>(l), branch);
      }
    }
    const std::vector<Number> n = norm(x, row("last_gain", 0), row("last_shift", 0), masks.hidden);
    std::vector<Number> result;
    for (index t = 0; t < s_.axis_at("vocab").size; ++t) {
      Number sum = 0;
      for (index j = 0; j < width; ++j) { sum = sum + at("token", {t, j}) * n[static_cast<std::size_t>(j)]; }
      result.push_back(sum);
    }
    return result;
  }

  /// -log softmax(logits)[target], fresh tokens weighted by their mask.
  [[nodiscard]] Number loss(index token, index position, index target, const tiny_masks& masks) const {
    using std::exp;
    using std::log;
    const std::vector<Number> all = logits(token, position, masks);
    Number sum = 0;
    for (std::size_t t = 0; t < all.size(); ++t) { sum = sum + times(masks.vocab, t, exp(all[t])); }
    return log(sum) - all[static_cast<std::size_t>(target)];
  }

private:
  [[nodiscard]] const Number& at(const char* name, const std::vector<index>& where) const {
    const std::vector<index> shape = s_.at(name).shape();
    index flat = 0;
    for (std::size_t d = 0; d < shape.size(); ++d) { flat = flat * shape[d] + where[d]; }
    return numbers_[static_cast<std::size_t>(s_.offset(name) + flat)];
  }
  /// Row l of a stacked vector, or the vector.
  [[nodiscard]] std::vector<Number> row(const char* name, index l) const {
    const index width = s_.at(name).shape().back();
    const auto first = numbers_.begin() + s_.offset(name) + l * width;
    return {first, first + width};
  }
  /// y = W[l] x, summed in order.
  [[nodiscard]] std::vector<Number> product(const char* name, index l, const std::vector<Number>& x) const {
    const std::vector<index> shape = s_.at(name).shape();
    std::vector<Number> y;
    for (index i = 0; i < shape[1]; ++i) {
      Number sum = 0;
      for (index j = 0; j < shape[2]; ++j) { sum = sum + at(name, {l, i, j}) * x[static_cast<std::size_t>(j)]; }
      y.push_back(sum);
    }
    return y;
  }
  [[nodiscard]] static Number times(const std::vector<float>& mask, std::size_t unit, const Number& x) {
    if (mask.empty()) { return x; }
    return mask[unit] == 0 ? Number(0) : Number(static_cast<double>(mask[unit])) * x;
  }
  [[nodiscard]] static Number tanh_of(const Number& x) {
    using std::tanh;
    return tanh(x);
  }
  [[nodiscard]] static std::vector<Number> norm(const std::vector<Number>& x, const std::vector<Number>& gain,
                                                const std::vector<Number>& shift, const std::vector<float>& mask) {
    using std::sqrt;
    double s = 0;
    for (std::size_t j = 0; j < x.size(); ++j) { s += mask.empty() ? 1 : static_cast<double>(mask[j]); }
    Number mean = 0, variance = 0;
    for (std::size_t j = 0; j < x.size(); ++j) { mean = mean + times(mask, j, x[j]); }
    mean = mean / Number(s);
    for (std::size_t j = 0; j < x.size(); ++j) { variance = variance + times(mask, j, (x[j] - mean) * (x[j] - mean)); }
    const Number deviation = sqrt(variance / Number(s) + Number(1e-5));
    std::vector<Number> y;
    for (std::size_t j = 0; j < x.size(); ++j) {
      y.push_back(times(mask, j, gain[j] * ((x[j] - mean) / deviation) + shift[j]));
    }
    return y;
  }

  const msg::schema& s_;
  const std::vector<Number>& numbers_;
};

/// Logits of every token at every position of the old model, one after another; only those of old tokens.
[[nodiscard]] inline std::vector<double> all_logits(const msg::schema& s, const std::vector<double>& numbers,
                                                    const tiny_masks& masks, const std::vector<index>& tokens,
                                                    const std::vector<index>& positions) {
  const tiny_model<double> model(s, numbers);
  std::vector<double> result;
  for (const index t : tokens) {
    for (const index p : positions) {
      const std::vector<double> one = model.logits(t, p, masks);
      for (const index u : tokens) { result.push_back(one[static_cast<std::size_t>(u)]); }
    }
  }
  return result;
}

/// Gradient of the summed loss of every token at every position, the target the next token.
[[nodiscard]] inline std::vector<double> gradient(const msg::schema& s, const std::vector<double>& numbers,
                                                  const tiny_masks& masks, const std::vector<index>& tokens,
                                                  const std::vector<index>& positions) {
  std::vector<dual> carried(numbers.begin(), numbers.end());
  const tiny_model<dual> model(s, carried);
  std::vector<double> result;
  for (dual& number : carried) {
    number.slope = 1;
    double sum = 0;
    for (std::size_t t = 0; t < tokens.size(); ++t) {
      for (const index p : positions) { sum += model.loss(tokens[t], p, tokens[(t + 1) % tokens.size()], masks).slope; }
    }
    result.push_back(sum);
    number.slope = 0;
  }
  return result;
}

} // namespace testing
