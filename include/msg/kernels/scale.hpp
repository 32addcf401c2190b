// Activations times a mask: what keeps fresh units silent. The same kernel serves the backward pass.
#pragma once

#include <msg/config.hpp>
#include <msg/kernels/arithmetic.hpp>
#include <msg/kernels/elements.hpp>
#include <msg/tensor.hpp>

MSG_NAMESPACE_BEGIN

namespace detail {

/// f(j, mask, x...) for j in [0, width), mask a no_mask or mask_value, x... of the columns (see each_element); each
/// mask entry serves `repeat` neighbours (a head's channels).
template <class Team, class Function, class... Columns>
MSG_HOST_DEVICE void each_unit(const Team& team, index width, const mask_view& mask, index repeat, const Function& f,
                               const Columns&... columns) {
  if (!mask) {
    each_element(team, width, f, units_of(no_mask{}), columns...);
  } else if (repeat == 1) {
    each_element(team, width, f, units_of(unit_mask{mask.value}), columns...);
  } else {
    for (index begin = 0, unit = 0; begin < width; begin += repeat, ++unit) {
      each_element(team, repeat, f, constant(mask_value{mask.value[unit]}), columns.from(begin)...);
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
    detail::each_unit(
        team, width, mask, repeat, [](index, auto m, A from, A& to) { to = m.times(from); },
        detail::reads(x + row * width), detail::writes<T>(y + row * width));
  }
};

MSG_NAMESPACE_END
