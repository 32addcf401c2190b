// A mask whose values and sum lie in device memory and change in stream order, so that a captured graph follows a ramp.
#pragma once

#include <msg/config.hpp>
#include <msg/cuda/memory.cuh>
#include <msg/error.hpp>
#include <msg/exec/cuda.cuh>
#include <msg/mask.hpp>
#include <msg/tensor.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

MSG_NAMESPACE_BEGIN

namespace cuda {

namespace detail {

inline constexpr std::size_t most_mask_groups = 32;

/// Row 0: value[i] = of_group[group[i]], and the sum.
struct set_mask {
  float of_group[most_mask_groups];
  double total;
  const std::uint8_t* group; // (size)
  float* value;              // (size)
  double* sum;
  index size;

  template <class Team>
  MSG_HOST_DEVICE void operator()(const Team& team, index) const {
    team.each(size, [=, this](index i) { value[i] = of_group[group[i]]; });
    if (team.rank() == 0) { *sum = total; }
  }
};

} // namespace detail

/// The counterpart of an axis_mask on the GPU. Units that came to be together have one value: they are a group.
class device_mask {
public:
  /// Uploads a mask.
  ///
  /// births  when each unit came to be (growth_state::births()), where several growths of the axis may be in flight;
  ///         left out: the groups are the old and the fresh units
  /// Throws error{shape_mismatch, unsupported} (32 groups at most), error{cuda}.
  explicit device_mask(const axis_mask& mask, std::span<const index> births = {})
      : group_(groups_of(mask, births)), groups_(group_), value_(mask.size()), sum_(1) {
    set(on(), mask);
  }

  /// Takes over the values of a mask, in stream order, without waiting: for what is launched on the stream from here
  /// on, graphs that were captured before among it. Not to be captured itself: the values would be those of now.
  /// Throws error{shape_mismatch}, error{bad_argument} where units of one group differ.
  void set(const on& stream, const axis_mask& mask) {
    if (mask.size() != size()) {
      throw error(diagnostic{.code = errc::shape_mismatch,
                             .expected = std::to_string(size()) + " mask values",
                             .found = std::to_string(mask.size())});
    }
    detail::set_mask kernel{};
    kernel.total = mask.sum();
    kernel.group = groups_.data();
    kernel.value = value_.data();
    kernel.sum = sum_.data();
    kernel.size = size();
    std::vector<bool> known(detail::most_mask_groups, false);
    for (std::size_t i = 0; i < group_.size(); ++i) {
      float& value = kernel.of_group[group_[i]];
      if (known[group_[i]] && value != mask.values()[i]) {
        throw error(diagnostic{.code = errc::bad_argument,
                               .expected = std::to_string(value) + " as in the rest of its group",
                               .found = std::to_string(mask.values()[i]) + " at unit " + std::to_string(i),
                               .hint = "after another growth make a new device_mask, with the births of its units"});
      }
      known[group_[i]] = true;
      value = mask.values()[i];
    }
    stream.run(1, size(), kernel);
  }

  [[nodiscard]] index size() const noexcept { return value_.size(); }

  /// As kernels take it; valid until the mask is moved or destroyed.
  [[nodiscard]] mask_view view() const& noexcept { return {value_.data(), sum_.data(), size()}; }
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
  static std::vector<std::uint8_t> groups_of(const axis_mask& mask, std::span<const index> births) {
    if (births.empty()) { return mask.fresh(); }
    if (static_cast<index>(births.size()) != mask.size()) {
      throw error(diagnostic{.code = errc::shape_mismatch,
                             .expected = std::to_string(mask.size()) + " births",
                             .found = std::to_string(births.size())});
    }
    std::vector<index> known;
    std::vector<std::uint8_t> groups;
    for (const index birth : births) {
      const auto found = std::find(known.begin(), known.end(), birth);
      groups.push_back(static_cast<std::uint8_t>(found - known.begin()));
      if (found == known.end()) { known.push_back(birth); }
      if (known.size() > detail::most_mask_groups) {
        throw error(
            diagnostic{.code = errc::unsupported,
                       .expected = "at most " + std::to_string(detail::most_mask_groups) + " growths of an axis",
                       .found = "more",
                       .hint = "give all units whose ramp is over one birth"});
      }
    }
    return groups;
  }

  std::vector<std::uint8_t> group_;
  device_array<std::uint8_t> groups_;
  device_array<float> value_;
  device_array<double> sum_;
};

} // namespace cuda

MSG_NAMESPACE_END
