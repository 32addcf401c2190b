// The forward passes of the models of published_model.hpp in plain loops that sum in order, with MSG's masks.
//
// Number is double, long double, or a dual number for exact gradients.
#pragma once

#include "support/dual.hpp"
#include "support/published_model.hpp"

#include <cmath>
#include <cstddef>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

namespace published {

/// What a forward pass is told besides its parameters. An empty mask or weight is no mask: all 1.
struct setting {
  long double eps = 0.05;      //  large, so that a wrong eps shows
  long double logit_scale = 1; // logits times this, before their bias
  long double score_scale = 1; // attention scores times this, besides 1 / sqrt(width of a key)
  std::vector<double> hidden{}, ffn{}, heads{}, value_dim{}, layers{}, vocab{},
      experts{};                         // MSG masks, one value per unit
  std::vector<long double> statistics{}; // weight of each hidden unit in norms, outputs untouched
  std::vector<double> frequencies{};     // rotary, one per pair; empty: 10000^(-2 i / head_dim)
  index top = 0;                         // experts that act on a token; 0: all
  bool normalised = true;                // their gates sum to 1
  std::vector<index> text{1, 3, 0};
};

[[nodiscard]] inline double plain(const testing::dual& x) { return x.value; }
[[nodiscard]] inline double plain(double x) { return x; }
[[nodiscard]] inline double plain(long double x) { return static_cast<double>(x); }

/// A constant as a Number.
template <class Number>
[[nodiscard]] Number wide(long double x) {
  if constexpr (std::is_floating_point_v<Number>) {
    return static_cast<Number>(x);
  } else {
    return Number(static_cast<double>(x));
  }
}

/// x times a mask; what a mask of 0 silences is 0, whatever it was.
template <class Number, class Real>
[[nodiscard]] Number masked(const std::vector<Real>& mask, index unit, const Number& x) {
  if (mask.empty()) { return x; }
  const Real c = mask[static_cast<std::size_t>(unit)];
  return c == 0 ? Number(0) : c == 1 ? x : wide<Number>(c) * x;
}

template <class Number>
class network {
public:
  using row = std::vector<Number>;
  using rows = std::vector<row>; // one per token

  network(const sizes& s, const values<Number>& numbers, const setting& how) : s_(s), numbers_(numbers), how_(how) {}

  /// Logits of every token of the text; of a BERT also the two of the sentence pair, at the end.
  [[nodiscard]] std::vector<Number> outputs() const {
    rows x = s_.kind == family::bert ? embedded_bert() : embedded();
    for (index l = 0; l < s_.layers; ++l) { x = s_.kind == family::bert ? post_norm(x, l) : pre_norm(x, l); }
    std::vector<Number> all;
    for (const row& one : x) {
      row top = one;
      if (s_.kind == family::bert) {
        top = linear("transform", 0, one, s_.hidden);
        for (Number& number : top) { number = gelu(number); }
      }
      const row read = norm("last", 0, top);
      row logits = linear(s_.tied ? "token" : "head", 0, read, s_.vocab);
      for (Number& logit : logits) { logit = wide<Number>(how_.logit_scale) * logit; }
      if (s_.kind == family::bert) { logits = plus(logits, slice("head.bias", 0, s_.vocab)); }
      all.insert(all.end(), logits.begin(), logits.end());
    }
    if (s_.kind == family::bert) {
      row pooled = linear("pooler", 0, x[0], s_.hidden);
      for (std::size_t i = 0; i < pooled.size(); ++i) {
        using std::tanh;
        pooled[i] = masked(how_.hidden, static_cast<index>(i), tanh(pooled[i]));
      }
      for (const Number& logit : linear("pair", 0, pooled, 2)) { all.push_back(logit); }
    }
    return all;
  }

  /// Sum of -log softmax(logits)[next token of the text], and of the second class of the pair.
  [[nodiscard]] Number loss() const {
    const std::vector<Number> all = outputs();
    const auto tokens = std::ssize(how_.text);
    Number sum = 0;
    for (index t = 0; t < tokens; ++t) {
      sum = sum +
            surprise(all, t * s_.vocab, s_.vocab, how_.text[static_cast<std::size_t>((t + 1) % tokens)], how_.vocab);
    }
    return s_.kind == family::bert ? sum + surprise(all, tokens * s_.vocab, 2, 1, {}) : sum;
  }

private:
  [[nodiscard]] static Number surprise(const std::vector<Number>& all, index first, index count, index target,
                                       const std::vector<double>& mask) {
    using std::exp;
    using std::log;
    Number sum = 0;
    for (index i = 0; i < count; ++i) { sum = sum + masked(mask, i, exp(all[static_cast<std::size_t>(first + i)])); }
    return log(sum) - all[static_cast<std::size_t>(first + target)];
  }

  [[nodiscard]] row slice(const std::string& name, index which, index count) const {
    const auto first = numbers_.at(name).begin() + which * count;
    return {first, first + count};
  }
  [[nodiscard]] static row plus(const row& x, const row& y) {
    row sum;
    for (std::size_t i = 0; i < x.size(); ++i) { sum.push_back(x[i] + y[i]); }
    return sum;
  }

  /// y = W x + b of slice l, W stored (out, in), or (in, out) in the blocks of a GPT; b where there is one.
  [[nodiscard]] row linear(const std::string& name, index l, const row& x, index out) const {
    const std::vector<Number>& w = numbers_.at(name);
    const auto in = std::ssize(x);
    const bool transposed = s_.kind == family::gpt && name != "token" && name != "head";
    row y;
    for (index i = 0; i < out; ++i) {
      Number sum = 0;
      for (index j = 0; j < in; ++j) {
        const index at = l * out * in + (transposed ? j * out + i : i * in + j);
        sum = sum + w[static_cast<std::size_t>(at)] * x[static_cast<std::size_t>(j)];
      }
      y.push_back(sum);
    }
    const bool bias = name != "token" && name != "head" && numbers_.count(name + ".bias") != 0;
    return bias ? plus(y, slice(name + ".bias", l, out)) : y;
  }

  [[nodiscard]] row norm(const std::string& name, index l, const row& x) const {
    using std::sqrt;
    const bool rms = s_.kind == family::llama;
    std::vector<long double> weight(how_.hidden.begin(), how_.hidden.end());
    if (!how_.statistics.empty()) { weight = how_.statistics; }
    const auto n = std::ssize(x);
    long double total = 0;
    for (index i = 0; i < n; ++i) { total += weight.empty() ? 1 : weight[static_cast<std::size_t>(i)]; }
    Number mean = 0, square = 0;
    for (index i = 0; i < n && !rms; ++i) { mean = mean + masked(weight, i, x[static_cast<std::size_t>(i)]); }
    mean = mean / wide<Number>(total);
    for (index i = 0; i < n; ++i) {
      const Number d = x[static_cast<std::size_t>(i)] - mean;
      square = square + masked(weight, i, d * d);
    }
    const Number root = sqrt(square / wide<Number>(total) + wide<Number>(how_.eps));
    const row gain = slice(name + ".gain", l, n), bias = rms ? row() : slice(name + ".bias", l, n);
    row y;
    for (std::size_t i = 0; i < x.size(); ++i) {
      const Number scaled = gain[i] * ((x[i] - mean) / root);
      y.push_back(masked(how_.hidden, static_cast<index>(i), rms ? scaled : scaled + bias[i]));
    }
    return y;
  }

  [[nodiscard]] static Number gelu(const Number& x) { // the form with tanh
    using std::tanh;
    const Number inner = Number(0.7978845608028654) * (x + Number(0.044715) * x * x * x);
    return Number(0.5) * x * (Number(1) + tanh(inner));
  }
  [[nodiscard]] static Number silu(const Number& x) {
    using std::exp;
    return x / (Number(1) + exp(Number(0) - x));
  }

  [[nodiscard]] rows embedded() const {
    rows x;
    for (std::size_t t = 0; t < how_.text.size(); ++t) {
      const row token = slice("token", how_.text[t], s_.hidden);
      x.push_back(s_.kind == family::llama ? token : plus(token, slice("position", static_cast<index>(t), s_.hidden)));
    }
    return x;
  }
  [[nodiscard]] rows embedded_bert() const {
    rows x = embedded();
    for (std::size_t t = 0; t < x.size(); ++t) {
      x[t] = norm("embedding", 0, plus(x[t], slice("type", static_cast<index>(t % 2), s_.hidden)));
    }
    return x;
  }

  /// x + g f(N(x)), twice.
  [[nodiscard]] rows pre_norm(const rows& x, index l) const {
    rows n;
    for (const row& one : x) { n.push_back(norm("first", l, one)); }
    const rows attended = attention(n, l);
    rows y;
    for (std::size_t t = 0; t < x.size(); ++t) {
      const row middle = plus(x[t], blended(attended[t], l));
      y.push_back(plus(middle, blended(feed_forward(norm("second", l, middle), l), l)));
    }
    return y;
  }
  /// g B(x) + (1 - g) x with B the whole block, norms included.
  [[nodiscard]] rows post_norm(const rows& x, index l) const {
    const rows attended = attention(x, l);
    rows y;
    for (std::size_t t = 0; t < x.size(); ++t) {
      const row middle = norm("first", l, plus(attended[t], x[t]));
      const row block = norm("second", l, plus(feed_forward(middle, l), middle));
      const double g = how_.layers.empty() ? 1 : how_.layers[static_cast<std::size_t>(l)];
      row rest = x[t];
      for (Number& number : rest) { number = Number(1 - g) * number; }
      y.push_back(g == 0 ? x[t] : g == 1 ? block : plus(blended(block, l), rest));
    }
    return y;
  }
  [[nodiscard]] row blended(row x, index l) const {
    for (Number& number : x) { number = masked(how_.layers, l, number); }
    return x;
  }

  [[nodiscard]] rows attention(const rows& x, index l) const {
    const bool bert = s_.kind == family::bert, llama = s_.kind == family::llama;
    const index key = bert ? s_.key_dim : s_.head_dim, value = bert ? s_.value_dim : s_.head_dim;
    const index kv_heads = llama ? s_.kv_heads : s_.heads, group = s_.heads / kv_heads;
    rows q, k, v;
    for (const row& one : x) {
      if (bert) {
        q.push_back(linear("query", l, one, s_.heads * key));
        k.push_back(linear("key", l, one, s_.heads * key));
        v.push_back(linear("value", l, one, s_.heads * value));
        continue;
      }
      const row all = linear("qkv", l, one, (s_.heads + 2 * kv_heads) * key);
      const auto second = all.begin() + s_.heads * key, third = second + kv_heads * key;
      q.emplace_back(all.begin(), second);
      k.emplace_back(second, third);
      v.emplace_back(third, all.end());
      if (llama) {
        rotate(q.back(), std::ssize(q) - 1);
        rotate(k.back(), std::ssize(k) - 1);
      }
    }
    rows joined;
    for (std::size_t t = 0; t < x.size(); ++t) {
      row together;
      for (index h = 0; h < s_.heads; ++h) {
        const auto seen = bert ? x.size() : t + 1; // a BERT looks both ways
        row scores;
        for (std::size_t u = 0; u < seen; ++u) {
          Number score = 0;
          for (index d = 0; d < key; ++d) {
            score = score +
                    q[t][static_cast<std::size_t>(h * key + d)] * k[u][static_cast<std::size_t>(h / group * key + d)];
          }
          scores.push_back(wide<Number>(how_.score_scale / std::sqrt(static_cast<long double>(key))) * score);
        }
        const row weights = softmax(scores);
        for (index d = 0; d < value; ++d) {
          Number mixed = 0;
          for (std::size_t u = 0; u < seen; ++u) {
            mixed = mixed + weights[u] * v[u][static_cast<std::size_t>(h / group * value + d)];
          }
          together.push_back(masked(how_.heads, h, masked(how_.value_dim, d, mixed)));
        }
      }
      joined.push_back(linear("join", l, together, s_.hidden));
    }
    return joined;
  }

  /// A mask of c is log c on a score.
  [[nodiscard]] static row softmax(row scores, const std::vector<double>& mask = {}) {
    using std::exp;
    Number largest = scores[0], sum = 0; // old units come first, so the first one is awake
    for (index i = 0; i < std::ssize(scores); ++i) {
      const Number& score = scores[static_cast<std::size_t>(i)];
      const bool awake = mask.empty() || mask[static_cast<std::size_t>(i)] != 0;
      largest = awake && plain(score) > plain(largest) ? score : largest;
    }
    for (index i = 0; i < std::ssize(scores); ++i) {
      Number& score = scores[static_cast<std::size_t>(i)];
      score = masked(mask, i, exp(score - largest));
      sum = sum + score;
    }
    for (Number& score : scores) { score = score / sum; }
    return scores;
  }

  /// Rotary positions in the half-split layout: channel i is paired with i + head_dim / 2.
  void rotate(row& x, index position) const {
    const index half = s_.head_dim / 2;
    for (index begin = 0; begin < std::ssize(x); begin += s_.head_dim) {
      for (index i = 0; i < half; ++i) {
        const double frequency =
            how_.frequencies.empty()
                ? std::pow(10000.0, -2.0 * static_cast<double>(i) / static_cast<double>(s_.head_dim))
                : how_.frequencies[static_cast<std::size_t>(i)];
        const double angle = static_cast<double>(position) * frequency;
        Number& a = x[static_cast<std::size_t>(begin + i)];
        Number& b = x[static_cast<std::size_t>(begin + i + half)];
        const Number turned = Number(std::cos(angle)) * a - Number(std::sin(angle)) * b;
        b = Number(std::sin(angle)) * a + Number(std::cos(angle)) * b;
        a = turned;
      }
    }
  }

  [[nodiscard]] row feed_forward(const row& x, index l) const {
    if (s_.kind != family::llama) {
      row h = linear("up", l, x, s_.ffn);
      for (std::size_t i = 0; i < h.size(); ++i) { h[i] = masked(how_.ffn, static_cast<index>(i), gelu(h[i])); }
      return linear("down", l, h, s_.hidden);
    }
    if (s_.experts == 0) { return gated(x, l); }
    const row gates = gates_of(linear("router", l, x, s_.experts));
    row sum(x.size(), Number(0));
    for (index e = 0; e < s_.experts; ++e) {
      const Number& gate = gates[static_cast<std::size_t>(e)];
      if (plain(gate) == 0) { continue; }
      row one = gated(x, l * s_.experts + e);
      for (Number& number : one) { number = gate * number; }
      sum = plus(sum, one);
    }
    return sum;
  }
  [[nodiscard]] row gated(const row& x, index which) const {
    const row both = linear("up", which, x, 2 * s_.ffn);
    row h;
    for (index i = 0; i < s_.ffn; ++i) {
      h.push_back(
          masked(how_.ffn, i, silu(both[static_cast<std::size_t>(i)]) * both[static_cast<std::size_t>(s_.ffn + i)]));
    }
    return linear("down", which, h, s_.hidden);
  }
  /// Softmax over all experts, 0 outside the `top` largest; the first of equals is taken.
  [[nodiscard]] row gates_of(const row& scores) const {
    const row all = softmax(scores, how_.experts);
    row gates(all.size(), Number(0));
    Number kept = 0;
    for (index n = 0; n < (how_.top == 0 ? s_.experts : how_.top); ++n) {
      std::size_t best = all.size();
      for (std::size_t e = 0; e < all.size(); ++e) {
        if (plain(gates[e]) == 0 && (best == all.size() || plain(all[e]) > plain(all[best]))) { best = e; }
      }
      gates[best] = all[best];
      kept = kept + all[best];
    }
    for (Number& gate : gates) { gate = how_.normalised ? gate / kept : gate; }
    return gates;
  }

  const sizes& s_;
  const values<Number>& numbers_;
  const setting& how_;
};

} // namespace published
