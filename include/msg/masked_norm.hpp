// Masked norms on any tensor, forward and backward; see masked.hpp for what the calls share.
#pragma once

#include <msg/config.hpp>
#include <msg/exec/serial.hpp>
#include <msg/kernels/column_sum.hpp>
#include <msg/kernels/norm.hpp>
#include <msg/masked.hpp>
#include <msg/tensor.hpp>

#include <string>
#include <utility>

MSG_NAMESPACE_BEGIN

namespace detail {

/// Rows of a norm: as wide as its gain, which a mask must fit.
template <class T, class G>
[[nodiscard]] row_shape norm_rows(const tensor_view<T>& x, const tensor_view<G>& gain, const mask_view& mask) {
  check_contiguous(gain, "gain");
  const index width = gain.size();
  if (mask && mask.size != width) { throw_shape("mask", std::to_string(width) + " units", std::to_string(mask.size)); }
  const row_shape shape = rows_of(x, width, "x");
  if (shape.repeat != 1) {
    throw_shape("x", "a last dimension of " + std::to_string(width), std::to_string(shape.width));
  }
  return shape;
}

} // namespace detail

/// LayerNorm with masked statistics and output; see layer_norm_forward.
///
/// x, y        (..., width), or flat; y may be x where no backward follows
/// gain, bias  (width)
/// mean, rstd  one per row, kept for the backward, in accumulate_t of x's element
template <executor Executor, tensor_like X, tensor_like Gain, tensor_like Bias, tensor_like Y, tensor_like Mean,
          tensor_like Rstd>
void layer_norm(const Executor& on, const mask_view& mask, const X& x, const Gain& gain, const Bias& bias, Y&& y,
                Mean&& mean, Rstd&& rstd, double eps = 1e-5) {
  const auto in = view_of(x);
  const auto g = view_of(gain);
  const auto b = view_of(bias);
  const auto out = view_of(y);
  const auto m = view_of(mean);
  const auto r = view_of(rstd);
  const detail::row_shape shape = detail::norm_rows(in, g, mask);
  detail::check_size(b, shape.width, "bias");
  detail::check_size(out, in.size(), "y");
  detail::check_size(m, shape.rows, "mean");
  detail::check_size(r, shape.rows, "rstd");
  on.run(shape.rows, shape.width,
         layer_norm_forward<element_t<X>>{in.data, g.data, b.data, out.data, m.data, r.data, shape.width, eps, mask,
                                          mask});
}

/// Gradient of layer_norm in x, added to dx if `accumulate`; see layer_norm_backward.
template <executor Executor, tensor_like X, tensor_like Gain, tensor_like Mean, tensor_like Rstd, tensor_like Dy,
          tensor_like Dx>
void layer_norm_gradient(const Executor& on, const mask_view& mask, const X& x, const Gain& gain, const Mean& mean,
                         const Rstd& rstd, const Dy& dy, Dx&& dx, bool accumulate = false) {
  const auto in = view_of(x);
  const auto g = view_of(gain);
  const auto m = view_of(mean);
  const auto r = view_of(rstd);
  const auto slope = view_of(dy);
  const auto out = view_of(dx);
  const detail::row_shape shape = detail::norm_rows(in, g, mask);
  detail::check_size(m, shape.rows, "mean");
  detail::check_size(r, shape.rows, "rstd");
  detail::check_size(slope, in.size(), "dy");
  detail::check_size(out, in.size(), "dx");
  on.run(shape.rows, shape.width,
         layer_norm_backward<element_t<X>>{in.data, g.data, m.data, r.data, slope.data, out.data, shape.width,
                                           accumulate, mask, mask});
}

/// Elements of workspace that norm_parameter_gradient needs, of accumulate_t of x's element.
[[nodiscard]] constexpr index norm_workspace(index rows, index width) noexcept { return 2 * chunk_count(rows) * width; }

/// Gradients of a LayerNorm's gain and bias, added to dgain and dbias in an order no thread count changes.
///
/// workspace  at least norm_workspace(rows, width) elements, overwritten
template <executor Executor, tensor_like X, tensor_like Mean, tensor_like Rstd, tensor_like Dy, tensor_like Dgain,
          tensor_like Dbias, tensor_like Workspace>
void layer_norm_parameter_gradient(const Executor& on, const mask_view& mask, const X& x, const Mean& mean,
                                   const Rstd& rstd, const Dy& dy, Dgain&& dgain, Dbias&& dbias,
                                   Workspace&& workspace) {
  using T = element_t<X>;
  const auto in = view_of(x);
  const auto m = view_of(mean);
  const auto r = view_of(rstd);
  const auto slope = view_of(dy);
  const auto to_gain = view_of(dgain);
  const auto to_bias = view_of(dbias);
  const auto space = view_of(workspace);
  const detail::row_shape shape = detail::norm_rows(in, to_gain, mask);
  const index chunks = chunk_count(shape.rows);
  detail::check_size(to_bias, shape.width, "dbias");
  detail::check_size(m, shape.rows, "mean");
  detail::check_size(r, shape.rows, "rstd");
  detail::check_size(slope, in.size(), "dy");
  detail::check_workspace(space, norm_workspace(shape.rows, shape.width));
  accumulate_t<T>* const gains = space.data;
  accumulate_t<T>* const biases = space.data + chunks * shape.width;
  on.run(chunks, chunk_rows * shape.width,
         norm_gain_partial<T>{in.data, slope.data, m.data, r.data, gains, biases, shape.rows, shape.width, mask});
  const index joins = join_count(shape.width);
  on.run(joins, chunks * join_columns, column_join<T>{gains, to_gain.data, chunks, shape.width});
  on.run(joins, chunks * join_columns, column_join<T>{biases, to_bias.data, chunks, shape.width});
}

/// RMSNorm with masked statistics and output; arguments as layer_norm.
template <executor Executor, tensor_like X, tensor_like Gain, tensor_like Y, tensor_like Rstd>
void rms_norm(const Executor& on, const mask_view& mask, const X& x, const Gain& gain, Y&& y, Rstd&& rstd,
              double eps = 1e-5) {
  const auto in = view_of(x);
  const auto g = view_of(gain);
  const auto out = view_of(y);
  const auto r = view_of(rstd);
  const detail::row_shape shape = detail::norm_rows(in, g, mask);
  detail::check_size(out, in.size(), "y");
  detail::check_size(r, shape.rows, "rstd");
  on.run(shape.rows, shape.width,
         rms_norm_forward<element_t<X>>{in.data, g.data, out.data, r.data, shape.width, eps, mask, mask});
}

/// Gradient of rms_norm in x, added to dx if `accumulate`.
template <executor Executor, tensor_like X, tensor_like Gain, tensor_like Rstd, tensor_like Dy, tensor_like Dx>
void rms_norm_gradient(const Executor& on, const mask_view& mask, const X& x, const Gain& gain, const Rstd& rstd,
                       const Dy& dy, Dx&& dx, bool accumulate = false) {
  const auto in = view_of(x);
  const auto g = view_of(gain);
  const auto r = view_of(rstd);
  const auto slope = view_of(dy);
  const auto out = view_of(dx);
  const detail::row_shape shape = detail::norm_rows(in, g, mask);
  detail::check_size(r, shape.rows, "rstd");
  detail::check_size(slope, in.size(), "dy");
  detail::check_size(out, in.size(), "dx");
  on.run(shape.rows, shape.width,
         rms_norm_backward<element_t<X>>{in.data, g.data, r.data, slope.data, out.data, shape.width, accumulate, mask,
                                         mask});
}

/// Gradient of an RMSNorm's gain, added to dgain; workspace as for layer_norm_parameter_gradient, half of it is used.
template <executor Executor, tensor_like X, tensor_like Rstd, tensor_like Dy, tensor_like Dgain, tensor_like Workspace>
void rms_norm_parameter_gradient(const Executor& on, const mask_view& mask, const X& x, const Rstd& rstd, const Dy& dy,
                                 Dgain&& dgain, Workspace&& workspace) {
  using T = element_t<X>;
  const auto in = view_of(x);
  const auto r = view_of(rstd);
  const auto slope = view_of(dy);
  const auto to_gain = view_of(dgain);
  const auto space = view_of(workspace);
  const detail::row_shape shape = detail::norm_rows(in, to_gain, mask);
  const index chunks = chunk_count(shape.rows);
  detail::check_size(r, shape.rows, "rstd");
  detail::check_size(slope, in.size(), "dy");
  detail::check_workspace(space, chunks * shape.width);
  on.run(
      chunks, chunk_rows * shape.width,
      norm_gain_partial<T>{in.data, slope.data, nullptr, r.data, space.data, nullptr, shape.rows, shape.width, mask});
  on.run(join_count(shape.width), chunks * join_columns, column_join<T>{space.data, to_gain.data, chunks, shape.width});
}

// The same calls on host{}.

template <class... Arguments>
void layer_norm(const mask_view& mask, Arguments&&... arguments) {
  layer_norm(host{}, mask, std::forward<Arguments>(arguments)...);
}
template <class... Arguments>
void layer_norm_gradient(const mask_view& mask, Arguments&&... arguments) {
  layer_norm_gradient(host{}, mask, std::forward<Arguments>(arguments)...);
}
template <class... Arguments>
void layer_norm_parameter_gradient(const mask_view& mask, Arguments&&... arguments) {
  layer_norm_parameter_gradient(host{}, mask, std::forward<Arguments>(arguments)...);
}
template <class... Arguments>
void rms_norm(const mask_view& mask, Arguments&&... arguments) {
  rms_norm(host{}, mask, std::forward<Arguments>(arguments)...);
}
template <class... Arguments>
void rms_norm_gradient(const mask_view& mask, Arguments&&... arguments) {
  rms_norm_gradient(host{}, mask, std::forward<Arguments>(arguments)...);
}
template <class... Arguments>
void rms_norm_parameter_gradient(const mask_view& mask, Arguments&&... arguments) {
  rms_norm_parameter_gradient(host{}, mask, std::forward<Arguments>(arguments)...);
}
MSG_NAMESPACE_END
