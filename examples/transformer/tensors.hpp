// Named tensors the reference Transformer owns: aligned storage, one tensor, an ordered set of them.
#pragma once

#include <msg/config.hpp>
#include <msg/error.hpp>
#include <msg/tensor.hpp>

#include <algorithm>
#include <concepts>
#include <cstddef>
#include <new>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace reference {

using msg::index;

/// Allocates on cache-line boundaries, so that vector loads never straddle one and threads never share one.
template <class T>
struct aligned_allocator {
  using value_type = T;
  static constexpr std::align_val_t alignment{64};

  aligned_allocator() = default;
  template <class Other>
  constexpr aligned_allocator(const aligned_allocator<Other>&) noexcept {}

  [[nodiscard]] T* allocate(std::size_t count) { return static_cast<T*>(::operator new(count * sizeof(T), alignment)); }
  void deallocate(T* data, std::size_t) noexcept { ::operator delete(data, alignment); }
  friend constexpr bool operator==(aligned_allocator, aligned_allocator) noexcept { return true; }
};

/// A std::vector whose data() is 64-byte aligned.
template <class T>
using storage = std::vector<T, aligned_allocator<T>>;

/// Number of elements of a shape; an empty shape is a scalar, 1.
[[nodiscard]] inline index size_of(const std::vector<index>& shape) noexcept {
  index size = 1;
  for (const index extent : shape) { size *= extent; }
  return size;
}

/// A named row-major tensor of at most four dimensions. Storage: where its elements are, the host or a device.
template <class T, class Storage = storage<T>>
struct tensor {
  std::string name;
  std::vector<index> shape;
  Storage data; // size_of(shape) elements

  [[nodiscard]] index size() const noexcept { return static_cast<index>(data.size()); }
};

template <class T>
[[nodiscard]] tensor<T> make_tensor(std::string name, std::vector<index> shape, T value = T{}) {
  const auto count = static_cast<std::size_t>(size_of(shape));
  return {std::move(name), std::move(shape), storage<T>(count, value)};
}

/// Tensors in a fixed order, found by name: the parameters of a model, their gradients, one moment of an optimizer.
template <class T, class Storage = storage<T>>
struct tensor_set {
  using value_type = tensor<T, Storage>;
  std::vector<value_type> tensors;

  [[nodiscard]] value_type* find(std::string_view name) noexcept {
    const auto at = std::find_if(tensors.begin(), tensors.end(), [&](const auto& t) { return t.name == name; });
    return at == tensors.end() ? nullptr : &*at;
  }
  [[nodiscard]] const value_type* find(std::string_view name) const noexcept {
    return const_cast<tensor_set*>(this)->find(name);
  }

  /// The tensor of that name. Throws msg::error{unknown_parameter}.
  [[nodiscard]] value_type& operator[](std::string_view name) {
    if (value_type* found = find(name)) { return *found; }
    throw msg::error({.code = msg::errc::unknown_parameter, .parameter = std::string{name}});
  }
  [[nodiscard]] const value_type& operator[](std::string_view name) const {
    return const_cast<tensor_set&>(*this)[name];
  }

  [[nodiscard]] auto begin() noexcept { return tensors.begin(); }
  [[nodiscard]] auto end() noexcept { return tensors.end(); }
  [[nodiscard]] auto begin() const noexcept { return tensors.begin(); }
  [[nodiscard]] auto end() const noexcept { return tensors.end(); }

  /// Elements of all tensors together.
  [[nodiscard]] index size() const noexcept {
    index total = 0;
    for (const auto& t : tensors) { total += t.size(); }
    return total;
  }
  void zero() noexcept // of the host
      requires std::same_as<Storage, storage<T>> {
    for (auto& t : tensors) { std::fill(t.data.begin(), t.data.end(), T{}); }
  }
  /// A set of the same names and shapes, all zero.
  [[nodiscard]] tensor_set like() const requires std::same_as<Storage, storage<T>> {
    tensor_set result;
    result.tensors.reserve(tensors.size());
    for (const auto& t : tensors) { result.tensors.push_back(make_tensor<T>(t.name, t.shape)); }
    return result;
  }
};

} // namespace reference

/// How msg sees a reference::tensor: row-major, the whole shape.
template <class T, class Storage>
struct msg::tensor_traits<reference::tensor<T, Storage>> {
  static tensor_view<T> view(reference::tensor<T, Storage>& t) noexcept { return whole<T>(t.data.data(), t.shape); }
  static tensor_view<const T> view(const reference::tensor<T, Storage>& t) noexcept {
    return whole<const T>(t.data.data(), t.shape);
  }

private:
  template <class Element>
  static tensor_view<Element> whole(Element* data, const std::vector<index>& shape) noexcept {
    MSG_ASSERT(shape.size() <= static_cast<std::size_t>(max_rank));
    tensor_view<Element> result;
    result.data = data;
    result.rank = static_cast<index>(shape.size());
    index step = 1;
    for (index d = result.rank - 1; d >= 0; --d) {
      result.extent[d] = shape[static_cast<std::size_t>(d)];
      result.stride[d] = step;
      step *= result.extent[d];
    }
    return result;
  }
};
