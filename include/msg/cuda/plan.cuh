// Growth on the GPU: a plan whose maps are uploaded once, and apply() with it.
#pragma once

#include <msg/apply.hpp>
#include <msg/config.hpp>
#include <msg/cuda/memory.cuh>
#include <msg/exec/cuda.cuh>
#include <msg/kernels/grow.hpp>
#include <msg/plan.hpp>
#include <msg/tensor.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

MSG_NAMESPACE_BEGIN

namespace cuda {

namespace detail {

template <class T>
inline constexpr bool reads_host_arrays<grow_row<T>> = true;

/// A grow_row whose arrays are the GPU's.
template <class T>
struct device_grow_row {
  grow_row<T> kernel;
  template <class Team>
  MSG_HOST_DEVICE void operator()(const Team& team, index row) const {
    kernel(team, row);
  }
};

/// Row 0: puts the kernel in device memory, after finding out what init::matched() stands for in its fillers.
template <class T>
struct match_row {
  grow_row<T> kernel;
  bool matches[max_fillers];
  grow_row<T>* to;

  template <class Team>
  MSG_HOST_DEVICE void operator()(const Team& team, index) const {
    const grow_filler found = msg::detail::matched_filler<T>(kernel.src, team);
    if (team.rank() == 0) {
      *to = kernel;
      for (int f = 0; f < max_fillers; ++f) {
        if (matches[f]) { to->fillers[f] = found; }
      }
    }
  }
};

/// The kernel that match_row has left in device memory.
template <class T>
struct matched_grow_row {
  const grow_row<T>* kernel;
  template <class Team>
  MSG_HOST_DEVICE void operator()(const Team& team, index row) const {
    (*kernel)(team, row);
  }
};

} // namespace detail

/// One parameter of a plan, or a slice of one (plan["name"].at(layer)), on the GPU. Keeps a copy; the plan may go.
class device_param {
public:
  /// Uploads its maps. Throws error{cuda}.
  explicit device_param(param_plan entry)
      : host_(std::move(entry)), runs_(host_.runs),
        kernel_(matches() ? static_cast<index>(sizeof(grow_row<double>)) : 0) {
    for (const dimension_map& d : host_.dims) {
      maps_.push_back({device_array<index>(d.source), device_array<double>(d.split),
                       device_array<std::uint16_t>(d.flags), device_array<std::uint8_t>(d.filler)});
    }
  }
  [[nodiscard]] const param_plan& host() const noexcept { return host_; }

  /// Launches a kernel that apply() made, with the GPU's arrays in place of the host's.
  template <class T>
  void run(const on& stream, index rows, index cost, grow_row<T> kernel) const {
    for (std::size_t d = 0; d + 1 < maps_.size(); ++d) {
      const map& m = maps_[d];
      const double* const split = kernel.outer[d].split == nullptr ? nullptr : m.split.data();
      kernel.outer[d] = {m.source.data(), split, m.flags.data(), m.filler.data()};
    }
    kernel.runs = runs_.data();
    if (kernel.moments || !matches()) {
      stream.run(rows, cost, detail::device_grow_row<T>{kernel});
      return;
    }
    static_assert(sizeof(grow_row<T>) == sizeof(grow_row<double>) && std::is_trivially_copyable_v<grow_row<T>>);
    auto* const place = reinterpret_cast<grow_row<T>*>(kernel_.data());
    detail::match_row<T> find{kernel, {}, place};
    for (std::size_t f = 0; f < host_.fillers.size(); ++f) { find.matches[f] = msg::detail::matches(host_.fillers[f]); }
    stream.run(1, kernel.src.size(), find);
    stream.run(rows, cost, detail::matched_grow_row<T>{place});
  }

private:
  struct map {
    device_array<index> source;
    device_array<double> split;
    device_array<std::uint16_t> flags;
    device_array<std::uint8_t> filler;
  };
  [[nodiscard]] bool matches() const {
    return std::any_of(host_.fillers.begin(), host_.fillers.end(), msg::detail::matches);
  }

  param_plan host_;
  std::vector<map> maps_; // by dimension
  device_array<grow_run> runs_;
  device_array<unsigned char> kernel_; // a grow_row, while init::matched() is being found out
};

/// A plan on the GPU: what apply() needs of it there. Keeps a copy; the plan may go.
class device_plan {
public:
  /// Uploads the maps of every parameter. Throws error{cuda}.
  explicit device_plan(plan growth) : host_(std::move(growth)) {
    for (const param_plan& p : host_.parameters()) { parameters_.emplace_back(p); }
  }
  [[nodiscard]] const plan& host() const noexcept { return host_; }
  [[nodiscard]] const std::vector<device_param>& parameters() const noexcept { return parameters_; }
  /// Throws error{unknown_parameter}.
  [[nodiscard]] const device_param& operator[](std::string_view name) const {
    return parameters_[static_cast<std::size_t>(&host_[name] - host_.parameters().data())];
  }

private:
  plan host_;
  std::vector<device_param> parameters_;
};

namespace detail {

/// What apply() is given in place of a stream: sends the kernel it makes for a parameter to that parameter's arrays.
template <class Entry>
struct uploaded {
  static constexpr bool matches_by_itself = true;
  const on& stream;
  const Entry& entry;

  template <class Kernel>
  void run(index rows, index cost, const Kernel& kernel) const {
    if constexpr (std::is_same_v<Entry, device_param>) {
      entry.run(stream, rows, cost, kernel);
    } else {
      for (std::size_t p = 0; p < entry.parameters().size(); ++p) { // known by its runs, which are of the plan it keeps
        if (entry.host().parameters()[p].runs.data() == kernel.runs) {
          entry.parameters()[p].run(stream, rows, cost, kernel);
        }
      }
    }
  }
};

} // namespace detail

} // namespace cuda

/// Grows one parameter in device memory, in stream order: apply() of apply.hpp, with the same bits. Tensors are views
/// of device memory; whatever can be wrong is found before anything is launched. init::matched() makes a launch of its
/// own, in which sixteen threads read the old tensor twice.
template <tensor_like Source, tensor_like Destination>
void apply(const cuda::on& stream, const cuda::device_param& p, const Source& src, Destination&& dst,
           payload what = payload::value) {
  apply(cuda::detail::uploaded<cuda::device_param>{stream, p}, p.host(), src, dst, what);
}

/// Grows a packed buffer in device memory; one launch for each parameter.
template <tensor_like Source, tensor_like Destination>
void apply(const cuda::on& stream, const cuda::device_plan& growth, const Source& src, Destination&& dst,
           payload what = payload::value) {
  apply(cuda::detail::uploaded<cuda::device_plan>{stream, growth}, growth.host(), src, dst, what);
}

MSG_NAMESPACE_END
