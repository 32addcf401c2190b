// Activations times a mask: what keeps fresh units silent. The same kernel serves the backward pass.
#pragma once

#include <msg/config.hpp>
#include <msg/kernels/arithmetic.hpp>
#include <msg/tensor.hpp>

MSG_NAMESPACE_BEGIN

namespace detail {

/// f(j, mask, unit) for j in [0, width), each mask entry serving `repeat` neighbours (a head's channels). No mask: unit
/// is meaningless and mask a no_mask.
template <class Team, class Function>
MSG_HOST_DEVICE void each_unit(const Team& team, index width, const mask_view& mask, index repeat, const Function& f) {
  if (!mask) {
    team.each(width, [&](index j) { f(j, no_mask{}, j); });
  } else if (repeat == 1) {
    const unit_mask units{mask.value};
    team.each(width, [&](index j) { f(j, units, j); });
  } else {
    const unit_mask units{mask.value};
    for (index begin = 0, unit = 0; begin < width; begin += repeat, ++unit) {
      team.each(repeat, [&](index j) { f(begin + j, units, unit); });
    }
  }
}

} // namespace detail

/// y = mask . x, row by row; 0 where the mask is 0 whatever x holds there, the bits of x where it is 1.
///
/// x, y   (rows, width); y may be x
/// mask   (width / repeat), or none: a copy
/// Source: Yao et al. 2024, Masked Structural Growth, sec. 3.
template <class T>
struct scale_row {
  const T* x;
  T* y;
  index width;
  mask_view mask;
  index repeat = 1;

  template <class Team>
  MSG_HOST_DEVICE void operator()(const Team& team, index row) const {
    using A = accumulate_t<T>;
    const T* const from = x + row * width;
    T* const to = y + row * width;
    detail::each_unit(team, width, mask, repeat,
                      [=](index j, auto units, index unit) { to[j] = T(units.times(unit, A(from[j]))); });
  }
};

MSG_NAMESPACE_END
