// Sums of squares on the GPU, for gradient norms that nothing waits for.
#pragma once

#include <msg/config.hpp>
#include <msg/detail/update_layout.hpp>
#include <msg/error.hpp>
#include <msg/exec/cuda.cuh>
#include <msg/kernels/optimizer.hpp>
#include <msg/optimizer.hpp>
#include <msg/tensor.hpp>

#include <string>

MSG_NAMESPACE_BEGIN

namespace cuda {

namespace detail {

template <class T>
inline constexpr bool reads_host_arrays<square_row<T>> = true;

/// Row 0: *sum = or += the partial sums, one after another.
struct join_squares {
  const double* partial;
  double* sum;
  index count;
  bool accumulate;

  template <class Team>
  MSG_HOST_DEVICE void operator()(const Team& team, index) const {
    if (team.rank() != 0) { return; }
    double total = 0;
    for (index i = 0; i < count; ++i) { total += partial[i]; }
    *sum = accumulate ? *sum + total : total;
  }
};

} // namespace detail

/// Elements of workspace that sum_of_squares() of `size` elements needs.
[[nodiscard]] constexpr index squares_workspace(index size) noexcept {
  return (size + msg::detail::update_chunk - 1) / msg::detail::update_chunk;
}

/// *result = sum of the squares of a tensor's elements, or that added to it if `accumulate`, with the bits of
/// msg::sum_of_squares(); in stream order, without waiting.
///
/// workspace  squares_workspace(size) elements, overwritten
/// result     in device memory
template <tensor_like Tensor, tensor_like Workspace>
void sum_of_squares(const on& stream, const Tensor& tensor, Workspace&& workspace, double* result,
                    bool accumulate = false) {
  const auto x = view_of(tensor);
  const tensor_view<double> space = view_of(workspace);
  const index rows = squares_workspace(x.size());
  if (space.size() < rows) {
    throw error(diagnostic{.code = errc::shape_mismatch,
                           .parameter = "workspace",
                           .expected = "at least " + std::to_string(rows) + " elements",
                           .found = std::to_string(space.size())});
  }
  square_row<element_t<Tensor>> kernel;
  kernel.data = msg::detail::flat(x, x.size(), "tensor");
  kernel.size = x.size();
  kernel.length = msg::detail::update_chunk;
  kernel.partial = space.data;
  stream.run(rows, msg::detail::update_chunk, detail::device_row<decltype(kernel)>{kernel});
  stream.run(1, 1, detail::join_squares{space.data, result, rows, accumulate});
}

} // namespace cuda

MSG_NAMESPACE_END
