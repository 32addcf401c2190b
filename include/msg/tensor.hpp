// Tensors of any library, seen as strided views that own nothing.
#pragma once

#include <msg/config.hpp>

#include <concepts>
#include <cstddef>
#include <initializer_list>
#include <iterator>
#include <memory>
#include <ranges>
#include <type_traits>

MSG_NAMESPACE_BEGIN

inline constexpr index max_rank = 4;

/// A strided, non-owning view: at most four dimensions, strides in elements, trivially copyable (kernels take it).
template <class T>
struct tensor_view {
  using element = T;
  T* data = nullptr;
  index rank = 0;
  index extent[max_rank] = {1, 1, 1, 1};
  index stride[max_rank] = {0, 0, 0, 0};

  [[nodiscard]] MSG_HOST_DEVICE constexpr index size() const noexcept {
    return extent[0] * extent[1] * extent[2] * extent[3];
  }
  /// Row-major without gaps, so that it can be read as one run of size() elements.
  [[nodiscard]] MSG_HOST_DEVICE constexpr bool contiguous() const noexcept {
    index expected = 1;
    for (index d = rank - 1; d >= 0; --d) {
      if (extent[d] != 1 && stride[d] != expected) { return false; }
      expected *= extent[d];
    }
    return true;
  }
  // A template, as a conversion to itself, which it would be for a const T, makes nvcc warn.
  template <class Constant>
    requires(std::is_same_v<Constant, const T> && !std::is_const_v<T>)
  [[nodiscard]] constexpr operator tensor_view<Constant>() const noexcept {
    tensor_view<Constant> result;
    result.data = data;
    result.rank = rank;
    for (index d = 0; d < max_rank; ++d) {
      result.extent[d] = extent[d];
      result.stride[d] = stride[d];
    }
    return result;
  }
};

/// View with given extents and strides (in elements); a transposed matrix is strided(p, {rows, cols}, {1, rows}).
template <class T>
[[nodiscard]] constexpr tensor_view<T> strided(T* data, std::initializer_list<index> extents,
                                               std::initializer_list<index> strides) noexcept {
  MSG_ASSERT(extents.size() == strides.size() && extents.size() <= static_cast<std::size_t>(max_rank));
  tensor_view<T> result;
  result.data = data;
  result.rank = static_cast<index>(extents.size());
  index d = 0;
  for (const index extent : extents) { result.extent[d++] = extent; }
  d = 0;
  for (const index stride : strides) { result.stride[d++] = stride; }
  return result;
}

/// Row-major view of a raw pointer: view(p, rows, cols).
template <class T, std::integral... Extents>
  requires(sizeof...(Extents) <= 4)
[[nodiscard]] constexpr tensor_view<T> view(T* data, Extents... extents) noexcept {
  tensor_view<T> result;
  result.data = data;
  result.rank = static_cast<index>(sizeof...(Extents));
  index d = 0;
  ((result.extent[d++] = static_cast<index>(extents)), ...);
  index step = 1;
  for (d = result.rank - 1; d >= 0; --d) {
    result.stride[d] = step;
    step *= result.extent[d];
  }
  return result;
}

namespace detail {
template <class T>
concept mdspan_like = requires(const T& t, std::size_t d) {
  { t.rank() } -> std::convertible_to<std::size_t>;
  { t.extent(d) } -> std::convertible_to<index>;
  { t.stride(d) } -> std::convertible_to<index>;
  {*t.data_handle()};
};
template <class T>
concept contiguous_elements = std::ranges::contiguous_range<T> && std::ranges::sized_range<T> &&
    std::is_arithmetic_v<std::ranges::range_value_t<T>>;
} // namespace detail

/// The one customisation point: how a foreign tensor is seen. Specialise it with
///
///   static tensor_view<Element> view(Tensor& t);      // and for const Tensor&, tensor_view<const Element>
///
/// The primary template serves anything mdspan-like and any contiguous range (rank 1; apply() and the packed buffers
/// read such a range as row-major of the shape the plan expects).
template <class T>
struct tensor_traits;

template <class T>
struct tensor_traits<tensor_view<T>> {
  static constexpr tensor_view<T> view(const tensor_view<T>& t) noexcept { return t; }
};

template <class T>
  requires detail::mdspan_like<T>
struct tensor_traits<T> {
  template <class Span>
  static constexpr auto view(Span&& t) {
    using element = std::remove_reference_t<decltype(*t.data_handle())>;
    tensor_view<element> result;
    result.data = std::to_address(t.data_handle());
    result.rank = static_cast<index>(t.rank());
    for (index d = 0; d < result.rank && d < max_rank; ++d) {
      result.extent[d] = static_cast<index>(t.extent(static_cast<std::size_t>(d)));
      result.stride[d] = static_cast<index>(t.stride(static_cast<std::size_t>(d)));
    }
    return result;
  }
};

template <class T>
  requires(detail::contiguous_elements<T> && !detail::mdspan_like<T>)
struct tensor_traits<T> {
  template <class Range>
  static constexpr auto view(Range&& range) {
    return msg::view(std::ranges::data(range), static_cast<index>(std::ranges::size(range)));
  }
};

/// Anything tensor_traits can see.
template <class T>
concept tensor_like = requires(T&& t) {
  tensor_traits<std::remove_cvref_t<T>>::view(t);
};

/// The view of any tensor_like; lvalues only where the tensor owns its data is the caller's care.
template <tensor_like Tensor>
[[nodiscard]] constexpr auto view_of(Tensor&& tensor) {
  return tensor_traits<std::remove_cvref_t<Tensor>>::view(tensor);
}

template <class Tensor>
using element_t = std::remove_const_t<typename decltype(view_of(std::declval<Tensor&>()))::element>;

namespace detail {
template <class T>
struct accumulate {
  using type = float; // half and bfloat16 storage
};
template <>
struct accumulate<double> {
  using type = double;
};
} // namespace detail

/// The type sums over T run in: double for double, float for float, half and bfloat16.
template <class T>
using accumulate_t = typename detail::accumulate<std::remove_const_t<T>>::type;

/// A mask as a kernel sees it: one value in [0, 1] per unit and their sum S. A null `value` means no mask: the plain
/// computation. Values are float whatever the element type is; c = 0 and c = 1 are exact. Both pointers may lie in
/// device memory, so that a captured graph follows a ramp.
struct mask_view {
  const float* value = nullptr; // (size)
  const double* sum = nullptr;  // one number, the sum of the values
  index size = 0;
  [[nodiscard]] MSG_HOST_DEVICE constexpr explicit operator bool() const noexcept { return value != nullptr; }
};

MSG_NAMESPACE_END
