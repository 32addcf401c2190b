// Kernels over a Team that the model needs beside the library's: the loss, embeddings, rotary positions, moves of rows.
#pragma once

#include "transformer/tensors.hpp"

#include <msg/config.hpp>
#include <msg/exec/serial.hpp>
#include <msg/kernels/arithmetic.hpp>
#include <msg/tensor.hpp>

#include <cmath>
#include <cstdint>
#include <limits>

namespace reference {

namespace detail {
/// Of a logit that is out of the softmax. (A variable, as device code may read it.)
template <class T>
inline constexpr T minus_infinity = -std::numeric_limits<T>::infinity();

/// A number that a fold joins to the larger one.
template <class T>
struct larger {
  T value = minus_infinity<T>;
  [[nodiscard]] MSG_HOST_DEVICE friend constexpr larger operator+(larger a, larger b) noexcept {
    return {a.value < b.value ? b.value : a.value};
  }
};
} // namespace detail

/// Largest of n numbers, -infinity for none, known to every member; lanes, so that it vectorises.
template <class Team, class T>
[[nodiscard]] MSG_HOST_DEVICE T row_maximum(const Team& team, const T* x, index n) {
  using lane_type = detail::larger<T>;
  return team
      .template fold<lane_type>(
          n, [=](lane_type lane, index i) { return lane_type{x[i] > lane.value ? x[i] : lane.value}; })
      .value;
}

/// Negative log-likelihood of a row's target under softmax(logits), and the log of the softmax denominator.
///
/// logits         (rows, classes)
/// target         (rows); negative: the row does not count, loss 0
/// loss, log_sum  (rows)
template <class T>
struct cross_entropy_forward {
  const T* logits;
  const std::int32_t* target;
  T* loss;
  T* log_sum;
  index classes;

  template <class Team>
  MSG_HOST_DEVICE void operator()(const Team& team, index row) const {
    const T* const x = logits + row * classes;
    const T greatest = row_maximum(team, x, classes);
    const T sum = team.sum(classes, [=](index j) { return msg::detail::exp_approx(x[j] - greatest); });
    if (team.rank() == 0) {
      log_sum[row] = greatest + std::log(sum);
      loss[row] = target[row] < 0 ? T(0) : log_sum[row] - x[target[row]];
    }
  }
};

/// Gradient of scale * sum of losses, in place of the logits: scale (softmax - one-hot), or 0 where a row does not
/// count.
template <class T>
struct cross_entropy_backward {
  T* logits;
  const std::int32_t* target;
  const T* log_sum;
  T scale;
  index classes;

  template <class Team>
  MSG_HOST_DEVICE void operator()(const Team& team, index row) const {
    T* const x = logits + row * classes;
    if (target[row] < 0) {
      return team.each(classes, [=](index j) { x[j] = T(0); });
    }
    const T shift = log_sum[row];
    const T factor = scale;
    team.each(classes, [=](index j) { x[j] = factor * msg::detail::exp_approx(x[j] - shift); });
    team.sync();
    if (team.rank() == 0) { x[target[row]] -= factor; }
  }
};

/// What is added to the logits: the decoder's bias, and the log of the vocabulary's mask. One row.
///
/// bias   (classes), or null
/// mask   (classes), or none
/// shift  (classes); -infinity where the mask is 0, whatever the bias holds there
template <class T>
struct logit_shift_row {
  const T* bias;
  T* shift;
  index classes;
  msg::mask_view mask;

  template <class Team>
  MSG_HOST_DEVICE void operator()(const Team& team, index) const {
    using A = msg::accumulate_t<T>;
    const T* const from = bias;
    const float* const units = mask.value;
    T* const to = shift;
    team.each(classes, [=](index j) {
      const A start = from == nullptr ? A(0) : A(from[j]);
      const A more = units == nullptr ? A(0) : std::log(A(units[j]));
      to[j] = units != nullptr && units[j] == 0.0F ? detail::minus_infinity<T> : T(start + more);
    });
  }
};

/// logits += shift; -infinity where shift is, whatever the logit: a hidden token is out of the softmax exactly.
template <class T>
struct shift_logits {
  T* logits; // (rows, classes)
  const T* shift;
  index classes;

  template <class Team>
  MSG_HOST_DEVICE void operator()(const Team& team, index row) const {
    T* const x = logits + row * classes;
    const T* const more = shift;
    team.each(classes, [=](index j) {
      const T sum = x[j] + more[j];
      x[j] = more[j] == detail::minus_infinity<T> ? more[j] : sum;
    });
  }
};

/// x[r] = words[token[r]] + types[type[r]] + places[place[r]], of `width`; types, or types and places, may be null.
template <class T>
struct embedding_forward {
  const T* words;
  const T* types;
  const T* places;
  const std::int32_t* token;
  const std::int32_t* type;
  const std::int32_t* place;
  T* x;
  index width;

  template <class Team>
  MSG_HOST_DEVICE void operator()(const Team& team, index row) const {
    const T* const word = words + token[row] * width;
    T* const to = x + row * width;
    if (places == nullptr) {
      return team.each(width, [=](index j) { to[j] = word[j]; });
    }
    const T* const by_place = places + place[row] * width;
    if (types == nullptr) {
      return team.each(width, [=](index j) { to[j] = word[j] + by_place[j]; });
    }
    const T* const by_type = types + type[row] * width;
    team.each(width, [=](index j) { to[j] = word[j] + by_type[j] + by_place[j]; });
  }
};

/// Turns the pair (x[j], x[j + D/2]) of every head by the angle place * theta^(-2j/D), in place; Hugging Face's pairing
/// (rotate_half). With direction -1 the other way, which is the gradient.
///
/// x          (rows, at least heads * head_dim), row r at x + r * stride
/// cos, sin   (places, head_dim / 2)
/// Source: Su et al. 2021, RoFormer, eq. 34.
template <class T>
struct rotary_row {
  T* x;
  const msg::accumulate_t<T>* cos;
  const msg::accumulate_t<T>* sin;
  const std::int32_t* place;
  index heads;
  index head_dim;
  index stride;
  int direction = 1;

  template <class Team>
  MSG_HOST_DEVICE void operator()(const Team& team, index row) const {
    using A = msg::accumulate_t<T>;
    const index half = head_dim / 2;
    const A* const c = cos + place[row] * half;
    const A* const s = sin + place[row] * half;
    const A sign = A(direction);
    for (index h = 0; h < heads; ++h) {
      T* const low = x + row * stride + h * head_dim;
      T* const high = low + half;
      team.each(half, [=](index j) {
        const A a = A(low[j]);
        const A b = A(high[j]);
        const A turn = sign * s[j];
        low[j] = T(msg::detail::fused(a, c[j], -(b * turn)));
        high[j] = T(msg::detail::fused(b, c[j], a * turn));
      });
    }
  }
};

/// to[r] = from[which[r]], rows of `width`; 0 where which[r] is negative. Without `which` row r is from[r].
template <class T>
struct gather_row {
  const T* from;
  const std::int32_t* which;
  T* to;
  index width;

  template <class Team>
  MSG_HOST_DEVICE void operator()(const Team& team, index row) const {
    T* const target = to + row * width;
    const index found = which == nullptr ? row : which[row];
    if (found < 0) {
      return team.each(width, [=](index j) { target[j] = T(0); });
    }
    const T* const source = from + found * width;
    team.each(width, [=](index j) { target[j] = source[j]; });
  }
};

/// to[which[r]] += from[r], rows of `width`; no two rows may have the same place.
template <class T>
struct scatter_row {
  const T* from;
  const std::int32_t* which;
  T* to;
  index width;

  template <class Team>
  MSG_HOST_DEVICE void operator()(const Team& team, index row) const {
    const T* const source = from + row * width;
    T* const target = to + which[row] * width;
    team.each(width, [=](index j) { target[j] += source[j]; });
  }
};

} // namespace reference
