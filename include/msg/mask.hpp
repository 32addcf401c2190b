// The mask of an axis, its ramps, and the masked forward and backward calls a trainer makes.
#pragma once

#include <msg/config.hpp>
#include <msg/error.hpp>
#include <msg/masked.hpp>
#include <msg/masked_norm.hpp>
#include <msg/ramp.hpp>
#include <msg/tensor.hpp>

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

MSG_NAMESPACE_BEGIN

namespace detail {
template <class T>
concept knows_fresh_units = requires(const T& plan, std::string_view axis) {
  { plan.fresh_units(axis) } -> std::convertible_to<std::vector<std::uint8_t>>;
};
} // namespace detail

/// One number per unit of an axis: 1 for old units, c for fresh ones; and their sum S, which norms divide by. c = 0
/// hides the fresh units exactly, c = 1 is the plain model.
class axis_mask {
public:
  /// No fresh unit: all ones.
  explicit axis_mask(index size) : axis_mask(std::vector<std::uint8_t>(checked(size), 0)) {}

  /// One flag per unit, 1 for fresh; c is 0.
  explicit axis_mask(std::vector<std::uint8_t> fresh) : fresh_(std::move(fresh)), value_(fresh_.size()) { set(0.0); }

  /// The axis of a plan that grows it by masking; c is 0. Throws error{unknown_axis}.
  template <detail::knows_fresh_units Plan>
  axis_mask(const Plan& plan, std::string_view axis) : axis_mask(std::vector<std::uint8_t>(plan.fresh_units(axis))) {}

  /// Gives c to every fresh unit. Throws error{bad_argument} unless 0 <= c <= 1.
  void set(double c) {
    check(c);
    for (std::size_t i = 0; i < value_.size(); ++i) { value_[i] = fresh_[i] != 0 ? static_cast<float>(c) : 1.0F; }
    add_up();
  }
  /// One value per unit: several growths of one axis in flight. Throws error{shape_mismatch} or {bad_argument}.
  void set(std::span<const float> values) {
    if (values.size() != value_.size()) {
      throw error(diagnostic{.code = errc::shape_mismatch,
                             .expected = std::to_string(value_.size()) + " mask values",
                             .found = std::to_string(values.size())});
    }
    for (const float value : values) { check(static_cast<double>(value)); }
    value_.assign(values.begin(), values.end());
    add_up();
  }

  [[nodiscard]] index size() const noexcept { return static_cast<index>(value_.size()); }
  [[nodiscard]] double sum() const noexcept { return sum_; }
  [[nodiscard]] const std::vector<float>& values() const noexcept { return value_; }
  [[nodiscard]] const std::vector<std::uint8_t>& fresh() const noexcept { return fresh_; }

  /// As kernels take it; valid until the mask is moved or destroyed, following every set().
  [[nodiscard]] mask_view view() const& noexcept { return {value_.data(), &sum_, size()}; }
  mask_view view() const&& = delete;
  [[nodiscard]] operator mask_view() const& noexcept { return view(); }
  operator mask_view() const&& = delete;

  /// The number of one unit, for kernels that take a gate: a layer of the depth axis.
  [[nodiscard]] const float* gate(index unit) const& noexcept {
    MSG_ASSERT(unit >= 0 && unit < size());
    return value_.data() + unit;
  }
  const float* gate(index) const&& = delete;

private:
  static std::size_t checked(index size) {
    if (size < 0) {
      throw error(diagnostic{.code = errc::bad_size, .expected = "at least 0 units", .found = std::to_string(size)});
    }
    return static_cast<std::size_t>(size);
  }
  static void check(double c) {
    if (!(c >= 0 && c <= 1)) {
      throw error(
          diagnostic{.code = errc::bad_argument, .expected = "a mask value in [0, 1]", .found = std::to_string(c)});
    }
  }
  // In double, from the floats the kernels see: exact at c = 0, where it is the number of old units.
  void add_up() {
    sum_ = 0;
    for (const float value : value_) { sum_ += static_cast<double>(value); }
  }

  std::vector<std::uint8_t> fresh_;
  std::vector<float> value_;
  double sum_ = 0;
};

MSG_NAMESPACE_END
