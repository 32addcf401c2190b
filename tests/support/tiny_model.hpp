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
  tiny_model(const msg::schema& s, const std::vector<Number>& numbers)
      : numbers_(numbers), token_(s, "token"), position_(s, "position"), gain_(s, "gain"), shift_(s, "shift"),
        value_(s, "value"), join_(s, "join"), up_(s, "up"), up_bias_(s, "up_bias"), down_(s, "down"),
        down_bias_(s, "down_bias"), last_gain_(s, "last_gain"), last_shift_(s, "last_shift"),
        layers_(s.axis_at("layers").size) {}

  [[nodiscard]] std::vector<Number> logits(index token, index position, const tiny_masks& masks) const {
    std::vector<Number> x = row(token_, token);
    add(x, row(position_, position));
    for (index l = 0; l < layers_; ++l) {
      const std::vector<Number> n = norm(x, row(gain_, l), row(shift_, l), masks.hidden);
      std::vector<Number> v = product(value_, l, n);
      for (std::size_t i = 0; i < v.size(); ++i) { v[i] = times(masks.heads, i / 2, v[i] * tanh_of(v[i])); }
      std::vector<Number> h = product(up_, l, n);
      add(h, row(up_bias_, l));
      for (std::size_t i = 0; i < h.size(); ++i) { h[i] = times(masks.ffn, i, tanh_of(h[i])); }
      std::vector<Number> branch = product(join_, l, v);
      add(branch, product(down_, l, h));
      add(branch, row(down_bias_, l));
      for (Number& number : branch) { number = times(masks.layers, static_cast<std::size_t>(l), number); }
      add(x, branch);
    }
    return product(token_, 0, norm(x, row(last_gain_, 0), row(last_shift_, 0), masks.hidden));
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
  /// Where a parameter lies: matrices (or rows) of `columns`, one per layer.
  struct part {
    part(const msg::schema& s, const char* name) : offset(s.offset(name)), columns(s.at(name).shape().back()) {
      const std::vector<index> shape = s.at(name).shape();
      rows = shape.size() < 2 ? 1 : shape[shape.size() - 2];
    }
    index offset = 0, rows = 0, columns = 0;
  };

  [[nodiscard]] std::vector<Number> row(const part& of, index i) const {
    const auto first = numbers_.begin() + of.offset + i * of.columns;
    return {first, first + of.columns};
  }
  /// y = W[l] x, summed in order.
  [[nodiscard]] std::vector<Number> product(const part& of, index l, const std::vector<Number>& x) const {
    std::vector<Number> y;
    auto w = numbers_.begin() + of.offset + l * of.rows * of.columns;
    for (index i = 0; i < of.rows; ++i) {
      Number sum = 0;
      for (const Number& number : x) { sum = sum + *w++ * number; }
      y.push_back(sum);
    }
    return y;
  }
  static void add(std::vector<Number>& x, const std::vector<Number>& y) {
    for (std::size_t j = 0; j < x.size(); ++j) { x[j] = x[j] + y[j]; }
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

  const std::vector<Number>& numbers_;
  part token_, position_, gain_, shift_, value_, join_, up_, up_bias_, down_, down_bias_, last_gain_, last_shift_;
  index layers_;
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
