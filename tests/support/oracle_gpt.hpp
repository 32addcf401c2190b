// The reference GPT's forward written as plainly as possible, in double: what the real one is compared with.
#pragma once

#include "transformer/config.hpp"

#include <cmath>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace oracle {

using msg::index;
using matrix = std::vector<std::vector<double>>; // row by row

/// Masks by value; empty: all ones.
struct masks {
  std::vector<double> hidden, ffn, heads, layers;
  bool masked_norm = true; // false: a plain norm in place of the masked one, the negative control
  /// Dropout's factor, 0 or 1 / (1 - rate): place, layer, row (head, sequence, query for weights of values; else token
  /// of the batch), unit. None: 1.
  std::function<double(int, index, index, index)> keep{};
};
inline double kept(const masks& m, int place, index layer, index row, std::size_t unit) {
  return m.keep ? m.keep(place, layer, row, static_cast<index>(unit)) : 1.0;
}

inline double at(const std::vector<double>& mask, index i) {
  return mask.empty() ? 1.0 : mask[static_cast<std::size_t>(i)];
}

/// One layer's slice of a stacked parameter, as a function of (row, column).
struct slice {
  const double* data;
  index columns;
  double operator()(index row, index column) const { return data[row * columns + column]; }
  double operator()(index column) const { return data[column]; }
};
inline slice parameter(const reference::tensor_set<double>& set, const std::string& name, index layer = 0) {
  const auto& t = set[name];
  const bool stacked = name.find('*') != std::string::npos;
  const index size = stacked ? t.size() / t.shape[0] : t.size();
  return {t.data.data() + layer * size, t.shape.back()};
}

/// N_m(x): method.md, section 2; entries at mask 0 are not looked at.
inline std::vector<double> layer_norm(const std::vector<double>& x, const slice& gain, const slice& bias, double eps,
                                      const masks& m) {
  const index width = static_cast<index>(x.size());
  const auto weight = [&](index i) { return m.masked_norm ? at(m.hidden, i) : 1.0; };
  double sum = 0, mean = 0, variance = 0;
  for (index i = 0; i < width; ++i) { sum += weight(i); }
  for (index i = 0; i < width; ++i) {
    if (weight(i) != 0) { mean += weight(i) * x[static_cast<std::size_t>(i)] / sum; }
  }
  for (index i = 0; i < width; ++i) {
    const double d = x[static_cast<std::size_t>(i)] - mean;
    if (weight(i) != 0) { variance += weight(i) * d * d / sum; }
  }
  std::vector<double> y(x.size());
  for (index i = 0; i < width; ++i) {
    if (at(m.hidden, i) != 0) {
      const double n = (x[static_cast<std::size_t>(i)] - mean) / std::sqrt(variance + eps);
      y[static_cast<std::size_t>(i)] = at(m.hidden, i) * (gain(i) * n + bias(i));
    }
  }
  return y;
}

/// x w + b, w (in, out)
inline std::vector<double> linear(const std::vector<double>& x, const slice& w, const slice& b) {
  std::vector<double> y(static_cast<std::size_t>(w.columns));
  for (index o = 0; o < w.columns; ++o) {
    double sum = b(o);
    for (std::size_t i = 0; i < x.size(); ++i) { sum += x[i] * w(static_cast<index>(i), o); }
    y[static_cast<std::size_t>(o)] = sum;
  }
  return y;
}

inline double gelu(double x) {
  return 0.5 * x * (1 + std::tanh(std::sqrt(2 / std::acos(-1.0)) * (x + 0.044715 * x * x * x)));
}

/// Causal attention over one sequence; qkv rows are queries, keys, values of all heads.
inline matrix attention(const matrix& qkv, index heads, index head_dim, const masks& m, index layer = 0,
                        index sequence = 0, index sequences = 1) {
  const index width = heads * head_dim;
  matrix y(qkv.size(), std::vector<double>(static_cast<std::size_t>(width)));
  for (index h = 0; h < heads; ++h) {
    if (at(m.heads, h) == 0) { continue; }
    const auto entry = [&](std::size_t row, index part, index d) {
      return qkv[row][static_cast<std::size_t>(part * width + h * head_dim + d)];
    };
    for (std::size_t t = 0; t < qkv.size(); ++t) {
      std::vector<double> p(t + 1);
      double total = 0;
      for (std::size_t s = 0; s <= t; ++s) {
        double score = 0;
        for (index d = 0; d < head_dim; ++d) { score += entry(t, 0, d) * entry(s, 1, d); }
        p[s] = std::exp(score / std::sqrt(static_cast<double>(head_dim)));
        total += p[s];
      }
      for (index d = 0; d < head_dim; ++d) {
        double sum = 0;
        const auto tokens = static_cast<index>(qkv.size());
        const index row = (h * sequences + sequence) * tokens + static_cast<index>(t);
        for (std::size_t s = 0; s <= t; ++s) { sum += kept(m, 1, layer, row, s) * p[s] / total * entry(s, 2, d); }
        y[t][static_cast<std::size_t>(h * head_dim + d)] = at(m.heads, h) * sum;
      }
    }
  }
  return y;
}

struct result {
  double loss;   // mean over the targets that are not negative
  matrix logits; // (B * T, V)
};

/// Loss and logits of a batch of `tokens` long sequences.
inline result forward(const reference::config& c, const reference::tensor_set<double>& set,
                      const std::vector<std::int32_t>& inputs, const std::vector<std::int32_t>& targets, index tokens,
                      const masks& m = {}) {
  result r{0, {}};
  index counted = 0;
  const slice wte = parameter(set, "wte.weight");
  const slice wpe = parameter(set, "wpe.weight");
  for (std::size_t begin = 0; begin < inputs.size(); begin += static_cast<std::size_t>(tokens)) {
    matrix x(static_cast<std::size_t>(tokens), std::vector<double>(static_cast<std::size_t>(c.hidden)));
    for (index t = 0; t < tokens; ++t) {
      for (index i = 0; i < c.hidden; ++i) {
        x[static_cast<std::size_t>(t)][static_cast<std::size_t>(i)] =
            kept(m, 0, 0, static_cast<index>(begin) + t, static_cast<std::size_t>(i)) *
            (wte(inputs[begin + static_cast<std::size_t>(t)], i) + wpe(t, i));
      }
    }
    for (index l = 0; l < c.layers; ++l) {
      const double g = at(m.layers, l);
      if (g == 0) { continue; }
      const auto p = [&](const char* name) { return parameter(set, std::string("h.*.") + name, l); };
      const auto add = [&](std::size_t t, int place, const std::vector<double>& f) {
        for (std::size_t i = 0; i < f.size(); ++i) {
          x[t][i] += g * kept(m, place, l, static_cast<index>(begin + t), i) * f[i];
        }
      };
      matrix qkv;
      for (const auto& row : x) {
        qkv.push_back(linear(layer_norm(row, p("ln_1.weight"), p("ln_1.bias"), c.norm_eps, m), p("attn.c_attn.weight"),
                             p("attn.c_attn.bias")));
      }
      const index sequence = static_cast<index>(begin) / tokens;
      const matrix y = attention(qkv, c.heads, c.head_dim, m, l, sequence, static_cast<index>(inputs.size()) / tokens);
      for (std::size_t t = 0; t < x.size(); ++t) {
        add(t, 2, linear(y[t], p("attn.c_proj.weight"), p("attn.c_proj.bias")));
        auto h = linear(layer_norm(x[t], p("ln_2.weight"), p("ln_2.bias"), c.norm_eps, m), p("mlp.c_fc.weight"),
                        p("mlp.c_fc.bias"));
        for (index i = 0; i < c.ffn; ++i) {
          double& unit = h[static_cast<std::size_t>(i)];
          unit = at(m.ffn, i) == 0 ? 0 : at(m.ffn, i) * gelu(unit);
        }
        add(t, 3, linear(h, p("mlp.c_proj.weight"), p("mlp.c_proj.bias")));
      }
    }
    for (std::size_t t = 0; t < x.size(); ++t) {
      const auto n = layer_norm(x[t], parameter(set, "ln_f.weight"), parameter(set, "ln_f.bias"), c.norm_eps, m);
      std::vector<double> logits(static_cast<std::size_t>(c.vocab));
      double total = 0;
      for (index v = 0; v < c.vocab; ++v) {
        double& logit = logits[static_cast<std::size_t>(v)];
        for (index i = 0; i < c.hidden; ++i) { logit += n[static_cast<std::size_t>(i)] * wte(v, i); }
        total += std::exp(logit);
      }
      if (const std::int32_t target = targets[begin + t]; target >= 0) {
        r.loss += std::log(total) - logits[static_cast<std::size_t>(target)];
        ++counted;
      }
      r.logits.push_back(std::move(logits));
    }
  }
  r.loss /= counted == 0 ? 1.0 : static_cast<double>(counted);
  return r;
}

} // namespace oracle
