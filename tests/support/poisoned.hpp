// Storage that tells what was written: poisoned all over, with a view of any memory layout somewhere inside.
#pragma once

#include <msg/tensor.hpp>

#include <cmath>
#include <cstddef>
#include <limits>
#include <vector>

namespace testing {

/// How a tensor lies in memory.
struct layout {
  std::vector<msg::index> order{}; // dimensions, outermost first; empty: row-major
  msg::index gap = 0;              // unused elements behind each run of a dimension
  bool backwards = false;          // every second dimension runs backwards
};

/// NaN everywhere, guard bands on both ends. Nothing the library writes is NaN, so what is still NaN was not written.
template <class T>
struct poisoned {
  static constexpr msg::index guard = 7;
  std::vector<T> storage{};
  msg::tensor_view<T> view{};

  explicit poisoned(const std::vector<msg::index>& shape, const layout& how = {}) {
    view.rank = static_cast<msg::index>(shape.size());
    std::vector<msg::index> order = how.order;
    if (order.empty()) {
      for (msg::index d = 0; d < view.rank; ++d) { order.push_back(d); }
    }
    msg::index step = 1;
    msg::index first = guard;
    for (std::size_t i = order.size(); i-- > 0;) {
      const msg::index d = order[i];
      const msg::index extent = shape[static_cast<std::size_t>(d)];
      const bool reversed = how.backwards && d % 2 == 0;
      view.extent[d] = extent;
      view.stride[d] = reversed ? -step : step;
      if (reversed) { first += (extent - 1) * step; }
      step *= extent + how.gap;
    }
    storage.assign(static_cast<std::size_t>(step + 2 * guard), std::numeric_limits<T>::quiet_NaN());
    view.data = storage.data() + first;
  }
  poisoned(const poisoned&) = delete; // the view points into the storage
  poisoned& operator=(const poisoned&) = delete;

  /// The element at a row-major position.
  [[nodiscard]] T& at(msg::index position) {
    msg::index offset = 0;
    for (msg::index d = view.rank - 1; d >= 0; --d) {
      offset += position % view.extent[d] * view.stride[d];
      position /= view.extent[d];
    }
    return view.data[offset];
  }
  void fill(const std::vector<T>& numbers) {
    for (std::size_t i = 0; i < numbers.size(); ++i) { at(static_cast<msg::index>(i)) = numbers[i]; }
  }
  [[nodiscard]] std::vector<T> values() {
    std::vector<T> result;
    for (msg::index i = 0; i < view.size(); ++i) { result.push_back(at(i)); }
    return result;
  }
  /// Elements of the storage that were written; size() of the view, and all of its own, where apply() did its work.
  [[nodiscard]] msg::index written() const {
    msg::index count = 0;
    for (const T number : storage) { count += std::isnan(number) ? 0 : 1; }
    return count;
  }
};

/// Every cell of the view was written, and nothing else.
template <class T>
[[nodiscard]] bool exactly_written(poisoned<T>& tensor) {
  for (const T number : tensor.values()) {
    if (std::isnan(number)) { return false; }
  }
  return tensor.written() == tensor.view.size();
}

} // namespace testing
