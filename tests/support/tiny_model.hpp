// A residual network with attention in plain loops, in the architectures that rules tell apart, with every axis that
// grows: hidden, ffn, heads, kv_heads, head_dim, value_dim, layers, vocab, positions.
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

struct tiny_sizes {
  index hidden = 4;
  index ffn = 4;
  index heads = 2;
  index kv_heads = 0; // 0: every head has its own
  index head_dim = 2;
  index value_dim = 2;
  index layers = 2;
  index vocab = 4;
  index positions = 2;
  msg::norm_kind norm = msg::norm_kind::layer;
  msg::norm_position where = msg::norm_position::pre;
  enum class head { tied, undivided, untied } output = head::tied; // undivided: final norm on the writing side
};

[[nodiscard]] inline msg::schema tiny_schema(const tiny_sizes& sizes = {}) {
  const msg::axis hidden{"hidden", sizes.hidden}, ffn{"ffn", sizes.ffn}, heads{"heads", sizes.heads};
  const msg::axis layers{"layers", sizes.layers}, vocab{"vocab", sizes.vocab}, positions{"positions", sizes.positions};
  const msg::axis head_dim{"head_dim", sizes.head_dim}, value_dim{"value_dim", sizes.value_dim};
  const bool grouped = sizes.kv_heads != 0;
  const msg::axis kv_heads = grouped ? msg::axis{"kv_heads", sizes.kv_heads} : heads;
  msg::schema s;
  s.weight("token", in(vocab), out(hidden)).weight("position", in(positions), out(hidden));
  s.norm_gain("first_gain", out(hidden)).norm_bias("first_shift", out(hidden)); // used under post-norm alone
  s.norm_gain("gain", each(layers), out(hidden)).norm_bias("shift", each(layers), out(hidden));
  s.weight("query", each(layers), out(heads * head_dim), in(hidden))
      .bias("query_bias", each(layers), out(heads * head_dim));
  s.weight("key", each(layers), out(kv_heads * head_dim), in(hidden));
  s.bias("key_bias", each(layers), out(kv_heads * head_dim));
  s.weight("value", each(layers), out(kv_heads * value_dim), in(hidden));
  s.weight("join", each(layers), out(hidden), in(heads * value_dim));
  s.weight("up", each(layers), out(ffn), in(hidden)).bias("up_bias", each(layers), out(ffn));
  s.weight("down", each(layers), out(hidden), in(ffn)).bias("down_bias", each(layers), out(hidden));
  if (sizes.output == tiny_sizes::head::tied) {
    s.norm_gain("last_gain", in(hidden)).norm_bias("last_shift", in(hidden)); // on the reading side of the tied head
  } else {
    s.norm_gain("last_gain", out(hidden)).norm_bias("last_shift", out(hidden));
  }
  if (sizes.output == tiny_sizes::head::untied) { s.weight("head", out(vocab), in(hidden)); }
  s.normed(hidden, sizes.norm, sizes.where).logits(vocab).scored(head_dim).keys("key").keys("key_bias");
  if (grouped) { s.grouped(heads, kv_heads); }
  return s;
}

/// What a contract asks of the forward. Masks: one value per unit; empty: no mask.
struct tiny_masks {
  std::vector<float> hidden{}, ffn{}, heads{}, value_dim{}, layers{}, vocab{};
  std::vector<double> norm_weight{}; // of hidden units in the statistics; empty: 1
  double eps_factor = 1, softmax_scale = 1, logit_scale = 1;
};

/// The network over a packed buffer of parameters, for a sequence of tokens (with their positions), all of which attend
/// to all. Pre-norm, and post-norm with N around every sum:
///
///   x = token[t] + position[p]
///   x = x + join attention(N(x)) + down tanh(up N(x) + up_bias) + down_bias    for each layer
///   logits = head N(x), of the first token
template <class Number>
class tiny_model {
public:
  using row_of = std::vector<Number>;

  tiny_model(const msg::schema& s, const std::vector<Number>& numbers)
      : numbers_(numbers), schema_(s), heads_(s.axis_at("heads").size),
        groups_(s.groups().empty() ? heads_ : s.axis_at("kv_heads").size), head_dim_(s.axis_at("head_dim").size),
        value_dim_(s.axis_at("value_dim").size), layers_(s.axis_at("layers").size),
        rms_(s.norm_of("hidden") == msg::norm_kind::rms),
        post_(s.norm_position_of("hidden") == msg::norm_position::post), token_(s, "token"), position_(s, "position"),
        first_gain_(s, "first_gain"), first_shift_(s, "first_shift"), gain_(s, "gain"), shift_(s, "shift"),
        query_(s, "query"), query_bias_(s, "query_bias"), key_(s, "key"), key_bias_(s, "key_bias"), value_(s, "value"),
        join_(s, "join"), up_(s, "up"), up_bias_(s, "up_bias"), down_(s, "down"), down_bias_(s, "down_bias"),
        last_gain_(s, "last_gain"), last_shift_(s, "last_shift"),
        head_(s, s.find("head") == nullptr ? "token" : "head") {}

  /// sequence   token and position of each place
  [[nodiscard]] row_of logits(const std::vector<std::pair<index, index>>& sequence, const tiny_masks& masks) const {
    std::vector<row_of> x;
    for (const auto& [token, position] : sequence) {
      row_of one = row(token_, token);
      add(one, row(position_, position));
      x.push_back(post_ ? norm(one, row(first_gain_, 0), row(first_shift_, 0), masks) : one);
    }
    for (index l = 0; l < layers_; ++l) {
      std::vector<row_of> n = x;
      for (row_of& one : n) { one = post_ ? one : norm(one, row(gain_, l), row(shift_, l), masks); }
      const std::vector<row_of> attended = attention(l, n, masks);
      for (std::size_t i = 0; i < x.size(); ++i) {
        row_of h = product(up_, l, n[i]);
        add(h, row(up_bias_, l));
        for (std::size_t u = 0; u < h.size(); ++u) { h[u] = times(masks.ffn, u, tanh_of(h[u])); }
        row_of branch = product(join_, l, attended[i]);
        add(branch, product(down_, l, h));
        add(branch, row(down_bias_, l));
        if (post_) { // the whole layer, its norm included, is what a fresh layer adds
          add(branch, x[i]);
          branch = norm(branch, row(gain_, l), row(shift_, l), masks);
          for (std::size_t j = 0; j < branch.size(); ++j) { branch[j] = branch[j] - x[i][j]; }
          if (masks.layers.empty() || masks.layers[static_cast<std::size_t>(l)] == 1) {
            for (std::size_t j = 0; j < branch.size(); ++j) { x[i][j] = x[i][j] + branch[j]; }
            continue;
          }
        }
        for (Number& number : branch) { number = times(masks.layers, static_cast<std::size_t>(l), number); }
        add(x[i], branch);
      }
    }
    row_of all = product(head_, 0, norm(x[0], row(last_gain_, 0), row(last_shift_, 0), masks));
    for (Number& number : all) { number = masks.logit_scale == 1 ? number : Number(masks.logit_scale) * number; }
    return all;
  }

  /// -log softmax(logits)[target], fresh tokens weighted by their mask.
  [[nodiscard]] Number loss(const std::vector<std::pair<index, index>>& sequence, index target,
                            const tiny_masks& masks) const {
    using std::exp;
    using std::log;
    const row_of all = logits(sequence, masks);
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

  [[nodiscard]] row_of row(const part& of, index i) const {
    const auto first = numbers_.begin() + of.offset + i * of.columns;
    return {first, first + of.columns};
  }
  /// y = W[l] x, summed in order.
  [[nodiscard]] row_of product(const part& of, index l, const row_of& x) const {
    row_of y;
    auto w = numbers_.begin() + of.offset + l * of.rows * of.columns;
    for (index i = 0; i < of.rows; ++i) {
      Number sum = 0;
      for (const Number& number : x) { sum = sum + *w++ * number; }
      y.push_back(sum);
    }
    return y;
  }
  static void add(row_of& x, const row_of& y) {
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

  [[nodiscard]] static double value_of(double x) { return x; }
  [[nodiscard]] static double value_of(const dual& x) { return x.value; }

  /// Head a reads key-value head a / (heads / groups).
  [[nodiscard]] std::vector<row_of> attention(index l, const std::vector<row_of>& n, const tiny_masks& masks) const {
    using std::exp;
    std::vector<row_of> q, k, v, result;
    for (const row_of& one : n) {
      q.push_back(product(query_, l, one));
      add(q.back(), row(query_bias_, l));
      k.push_back(product(key_, l, one));
      add(k.back(), row(key_bias_, l));
      v.push_back(product(value_, l, one));
    }
    const Number scale = masks.softmax_scale / std::sqrt(static_cast<double>(head_dim_));
    const auto at = [](const row_of& numbers, index i) { return numbers[static_cast<std::size_t>(i)]; };
    for (const row_of& query : q) {
      row_of joined;
      for (index a = 0; a < heads_; ++a) {
        const index g = a / (heads_ / groups_);
        row_of weight;
        Number highest = 0;
        for (const row_of& key : k) {
          Number score = 0;
          for (index d = 0; d < head_dim_; ++d) {
            score = score + at(query, a * head_dim_ + d) * at(key, g * head_dim_ + d);
          }
          weight.push_back(score * scale);
          if (weight.size() == 1 || value_of(highest) < value_of(weight.back())) { highest = weight.back(); }
        }
        Number sum = 0;
        for (Number& number : weight) {
          number = exp(number - highest);
          sum = sum + number;
        }
        for (index d = 0; d < value_dim_; ++d) {
          Number mean = 0;
          for (std::size_t j = 0; j < v.size(); ++j) { mean = mean + weight[j] * at(v[j], g * value_dim_ + d); }
          const Number channel = times(masks.value_dim, static_cast<std::size_t>(d), mean / sum);
          joined.push_back(times(masks.heads, static_cast<std::size_t>(a), channel));
        }
      }
      result.push_back(std::move(joined));
    }
    return result;
  }

  /// Statistics weighted by the mask or by norm_weight; outputs by the mask.
  [[nodiscard]] row_of norm(const row_of& x, const row_of& gain, const row_of& shift, const tiny_masks& masks) const {
    using std::sqrt;
    const auto weighted = [&](std::size_t j, const Number& number) {
      if (masks.norm_weight.empty()) { return times(masks.hidden, j, number); }
      return Number(masks.norm_weight[j]) * times(masks.hidden, j, number);
    };
    Number s = 0;
    for (std::size_t j = 0; j < x.size(); ++j) { s = s + weighted(j, Number(1)); }
    Number mean = 0, variance = 0;
    for (std::size_t j = 0; j < x.size() && !rms_; ++j) { mean = mean + weighted(j, x[j]); }
    mean = mean / s;
    for (std::size_t j = 0; j < x.size(); ++j) { variance = variance + weighted(j, (x[j] - mean) * (x[j] - mean)); }
    const Number deviation = sqrt(variance / s + Number(1e-2 * masks.eps_factor)); // large, so that an error shows
    row_of y;
    for (std::size_t j = 0; j < x.size(); ++j) {
      y.push_back(times(masks.hidden, j, gain[j] * ((x[j] - mean) / deviation) + shift[j]));
    }
    return y;
  }

  const std::vector<Number>& numbers_;
  const msg::schema& schema_;
  index heads_, groups_, head_dim_, value_dim_, layers_;
  bool rms_, post_;
  part token_, position_, first_gain_, first_shift_, gain_, shift_, query_, query_bias_, key_, key_bias_, value_, join_,
      up_, up_bias_, down_, down_bias_, last_gain_, last_shift_, head_;
};

/// Sequences of two: every token at every position, then the next of both.
[[nodiscard]] inline std::vector<std::vector<std::pair<index, index>>> sequences(const std::vector<index>& tokens,
                                                                                 const std::vector<index>& positions) {
  std::vector<std::vector<std::pair<index, index>>> all;
  for (std::size_t t = 0; t < tokens.size(); ++t) {
    for (std::size_t p = 0; p < positions.size(); ++p) {
      all.push_back(
          {{tokens[t], positions[p]}, {tokens[(t + 1) % tokens.size()], positions[(p + 1) % positions.size()]}});
    }
  }
  return all;
}

/// Logits of all sequences, one after another; only those of the given (old) tokens.
[[nodiscard]] inline std::vector<double> all_logits(const msg::schema& s, const std::vector<double>& numbers,
                                                    const tiny_masks& masks, const std::vector<index>& tokens,
                                                    const std::vector<index>& positions) {
  const tiny_model<double> model(s, numbers);
  std::vector<double> result;
  for (const auto& sequence : sequences(tokens, positions)) {
    const std::vector<double> one = model.logits(sequence, masks);
    for (const index u : tokens) { result.push_back(one[static_cast<std::size_t>(u)]); }
  }
  return result;
}

/// Slope of the summed loss of all sequences along a direction of the parameters; the target is the next token.
[[nodiscard]] inline double slope(const msg::schema& s, const std::vector<double>& numbers,
                                  const std::vector<double>& direction, const tiny_masks& masks,
                                  const std::vector<index>& tokens, const std::vector<index>& positions) {
  std::vector<dual> carried;
  for (std::size_t i = 0; i < numbers.size(); ++i) { carried.emplace_back(numbers[i], direction[i]); }
  const tiny_model<dual> model(s, carried);
  double sum = 0;
  for (const auto& sequence : sequences(tokens, positions)) {
    sum += model.loss(sequence, sequence[1].first, masks).slope;
  }
  return sum;
}

/// Gradient of that loss.
[[nodiscard]] inline std::vector<double> gradient(const msg::schema& s, const std::vector<double>& numbers,
                                                  const tiny_masks& masks, const std::vector<index>& tokens,
                                                  const std::vector<index>& positions) {
  std::vector<dual> carried(numbers.begin(), numbers.end());
  const tiny_model<dual> model(s, carried);
  std::vector<double> result;
  for (dual& number : carried) {
    number.slope = 1;
    double sum = 0;
    for (const auto& sequence : sequences(tokens, positions)) {
      sum += model.loss(sequence, sequence[1].first, masks).slope;
    }
    result.push_back(sum);
    number.slope = 0;
  }
  return result;
}

} // namespace testing
