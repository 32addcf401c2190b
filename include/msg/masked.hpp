// Masks and depth gates on any tensor (norms: masked_norm.hpp). Each call checks shapes and launches one kernel on an
// executor, host{} if none is given. An axis_mask converts to the mask_view taken here; mask_view{} is the plain
// computation.
#pragma once

#include <msg/config.hpp>
#include <msg/error.hpp>
#include <msg/exec/serial.hpp>
#include <msg/kernels/blend.hpp>
#include <msg/kernels/scale.hpp>
#include <msg/tensor.hpp>

#include <string>
#include <type_traits>
#include <utility>

MSG_NAMESPACE_BEGIN

namespace detail {

/// A tensor read as rows: the last dimension is the masked one, each mask entry serves `repeat` neighbours.
struct row_shape {
  index rows = 0;
  index width = 0;
  index repeat = 1;
};

[[noreturn]] inline void throw_shape(const char* name, const std::string& expected, const std::string& found) {
  throw error(diagnostic{.code = errc::shape_mismatch, .parameter = name, .expected = expected, .found = found});
}

template <class T>
void check_contiguous(const tensor_view<T>& t, const char* name) {
  if (!t.contiguous()) { throw_shape(name, "a contiguous tensor", "gaps or a transposed order"); }
}

/// Rows of t under a mask of `units`: the last extent must be a multiple; a tensor of rank 1 is read as whole rows.
template <class T>
[[nodiscard]] row_shape rows_of(const tensor_view<T>& t, index units, const char* name) {
  check_contiguous(t, name);
  const index last = t.rank == 0 ? 1 : t.extent[t.rank - 1];
  if (units == 0 ? last != 0 : last % units != 0) {
    throw_shape(name, "a last dimension that is a multiple of " + std::to_string(units), std::to_string(last));
  }
  if (units == 0) { return {}; }
  if (t.rank == 1) { return {last / units, units, 1}; }
  return {last == 0 ? 0 : t.size() / last, last, last / units};
}

template <class T>
void check_size(const tensor_view<T>& t, index size, const char* name) {
  check_contiguous(t, name);
  if (t.size() != size) { throw_shape(name, std::to_string(size) + " elements", std::to_string(t.size())); }
}

/// Rows of a kernel that treats all elements alike.
template <class T>
[[nodiscard]] row_shape flat_rows(const tensor_view<T>& t) {
  const index last = t.rank == 0 ? 1 : t.extent[t.rank - 1];
  return {last == 0 ? 0 : t.size() / last, last, 1};
}

template <class T>
void check_workspace(const tensor_view<T>& t, index least) {
  check_contiguous(t, "workspace");
  if (t.size() < least) {
    throw_shape("workspace", "at least " + std::to_string(least) + " elements", std::to_string(t.size()));
  }
}

} // namespace detail

/// h = mask . h in place, forward; the same call on dh is the backward.
///
/// h  any shape, the last dimension the masked one or a multiple of it (heads * head_dim: each entry serves its head)
/// Throws error{shape_mismatch} before writing anything.
template <executor Executor, tensor_like Tensor>
void scale(const Executor& on, const mask_view& mask, Tensor&& h) {
  const auto t = view_of(h);
  if (!mask) { return; }
  const detail::row_shape shape = detail::rows_of(t, mask.size, "h");
  on.run(shape.rows, shape.width, scale_row<element_t<Tensor>>{t.data, t.data, shape.width, mask, shape.repeat});
}

/// Pre-norm layer under a depth gate, y = x + g f; see residual_forward. gate: axis_mask::gate(layer), or null for 1.
template <executor Executor, tensor_like X, tensor_like F, tensor_like Y>
void residual(const Executor& on, const float* gate, const X& x, const F& f, Y&& y) {
  using T = element_t<X>;
  const auto in = view_of(x);
  const auto branch = view_of(f);
  const auto out = view_of(y);
  detail::check_contiguous(in, "x");
  detail::check_size(branch, in.size(), "f");
  detail::check_size(out, in.size(), "y");
  const detail::row_shape shape = detail::flat_rows(in);
  on.run(shape.rows, shape.width, residual_forward<T>{in.data, branch.data, nullptr, out.data, shape.width, gate});
}

/// Gradient of residual in f: df = g dy (the gradient in x is dy).
template <executor Executor, tensor_like Dy, tensor_like Df>
void residual_gradient(const Executor& on, const float* gate, const Dy& dy, Df&& df) {
  const auto slope = view_of(dy);
  const auto out = view_of(df);
  detail::check_contiguous(slope, "dy");
  detail::check_size(out, slope.size(), "df");
  const detail::row_shape shape = detail::flat_rows(slope);
  on.run(shape.rows, shape.width, residual_backward<element_t<Dy>>{slope.data, out.data, shape.width, gate});
}

/// Post-norm layer under a depth gate, y = g block + (1 - g) x; see blend_forward.
template <executor Executor, tensor_like X, tensor_like Block, tensor_like Y>
void blend(const Executor& on, const float* gate, const X& x, const Block& block, Y&& y) {
  const auto in = view_of(x);
  const auto branch = view_of(block);
  const auto out = view_of(y);
  detail::check_contiguous(in, "x");
  detail::check_size(branch, in.size(), "block");
  detail::check_size(out, in.size(), "y");
  const detail::row_shape shape = detail::flat_rows(in);
  on.run(shape.rows, shape.width, blend_forward<element_t<X>>{in.data, branch.data, out.data, shape.width, gate});
}

/// Gradients of blend: dblock = g dy, dx = (1 - g) dy.
template <executor Executor, tensor_like Dy, tensor_like Dx, tensor_like Dblock>
void blend_gradient(const Executor& on, const float* gate, const Dy& dy, Dx&& dx, Dblock&& dblock) {
  const auto slope = view_of(dy);
  const auto through = view_of(dx);
  const auto into = view_of(dblock);
  detail::check_contiguous(slope, "dy");
  detail::check_size(through, slope.size(), "dx");
  detail::check_size(into, slope.size(), "dblock");
  const detail::row_shape shape = detail::flat_rows(slope);
  on.run(shape.rows, shape.width,
         blend_backward<element_t<Dy>>{slope.data, through.data, into.data, shape.width, gate});
}

// The same calls on host{}.

template <class... Arguments>
void scale(const mask_view& mask, Arguments&&... arguments) {
  scale(host{}, mask, std::forward<Arguments>(arguments)...);
}
template <class... Arguments>
void residual(const float* gate, Arguments&&... arguments) {
  residual(host{}, gate, std::forward<Arguments>(arguments)...);
}
template <class... Arguments>
void residual_gradient(const float* gate, Arguments&&... arguments) {
  residual_gradient(host{}, gate, std::forward<Arguments>(arguments)...);
}
template <class... Arguments>
void blend(const float* gate, Arguments&&... arguments) {
  blend(host{}, gate, std::forward<Arguments>(arguments)...);
}
template <class... Arguments>
void blend_gradient(const float* gate, Arguments&&... arguments) {
  blend_gradient(host{}, gate, std::forward<Arguments>(arguments)...);
}

MSG_NAMESPACE_END
