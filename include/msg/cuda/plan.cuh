// Growth on the GPU: a plan whose maps are uploaded once, and apply() with it.
#pragma once

#include <msg/apply.hpp>
#include <msg/config.hpp>
#include <msg/cuda/memory.cuh>
#include <msg/error.hpp>
#include <msg/exec/cuda.cuh>
#include <msg/kernels/grow.hpp>
#include <msg/plan.hpp>
#include <msg/request.hpp>
#include <msg/tensor.hpp>

#include <algorithm>
#include <cstddef>
#include <memory>
#include <span>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

MSG_NAMESPACE_BEGIN

namespace cuda {

namespace detail {

template <class T>
inline constexpr bool reads_host_arrays<grow_row<T>> = true;

/// A grow_row whose arrays are the GPU's; or the one that match_row has left in device memory.
template <class T, bool averages>
struct device_grow_row {
  grow_row<T> kernel;
  const grow_row<T>* matched = nullptr;

  template <class Team>
  MSG_HOST_DEVICE void operator()(const Team& team, index row) const {
    (matched == nullptr ? kernel : *matched).template run<averages>(team, row);
  }
};
template <class T> // averages take more registers than two blocks of threads have
inline constexpr int least_blocks<device_grow_row<T, true>> = 1;

/// Row 0: puts the kernel in device memory, after finding out what init::matched() stands for in its fillers.
template <class T>
struct match_row {
  grow_row<T> kernel;
  init fillers[max_fillers];
  init noise[max_fillers];
  int count;
  grow_row<T>* to;

  template <class Team>
  MSG_HOST_DEVICE void operator()(const Team& team, index) const {
    const grow_filler found = msg::detail::matched_filler<T>(kernel.src, team);
    if (team.rank() == 0) {
      *to = kernel;
      for (int f = 0; f < count; ++f) {
        to->fillers[f] = msg::detail::filler_of(fillers[f], found);
        to->noise[f] = msg::detail::filler_of(noise[f], found).deviation;
      }
    }
  }
};

} // namespace detail

/// One parameter of a plan, or a slice of one (plan["name"].at(layer)), on the GPU. Keeps a copy; the plan may go.
class device_param {
public:
  /// Uploads its maps. Throws error{cuda}.
  explicit device_param(param_plan entry) : device_param(std::make_unique<const param_plan>(std::move(entry))) {}
  /// The same of an entry that outlives this.
  explicit device_param(const param_plan* entry) : host_(entry) {
    // Every array that a grow_row points to; what is missing here is found by at_device().
    upload(host_->runs);
    for (const dimension_map& d : host_->dims) {
      const auto upload_all = [this](const auto&... arrays) { (upload(arrays), ...); };
      const position_groups& g = d.groups;
      upload_all(d.source, d.split, d.dual, d.flags, d.filler, d.donor, d.twin, g.of, g.member_begin, g.member,
                 g.target_begin, g.target);
    }
    if (matches()) { kernel_ = device_array<unsigned char>(static_cast<index>(sizeof(grow_row<double>))); }
  }
  [[nodiscard]] const param_plan& host() const noexcept { return *host_; }

  /// Launches a kernel that apply() made, with the GPU's arrays in place of the host's.
  template <class T>
  void run(const on& stream, index rows, index cost, grow_row<T> kernel) const {
    static_assert(std::is_trivially_copyable_v<grow_row<T>> && sizeof(grow_row<T>) == sizeof(grow_row<double>));
    each_array(kernel, [this](auto& array, index count) { array = count == 0 ? nullptr : this->at_device(array); });
    if (kernel.moments || !matches()) {
      grow(stream, rows, cost, kernel);
      return;
    }
    auto* const place = reinterpret_cast<grow_row<T>*>(kernel_.data());
    detail::match_row<T> find{kernel, {}, {}, static_cast<int>(host_->fillers.size()), place};
    std::copy(host_->fillers.begin(), host_->fillers.end(), find.fillers);
    std::copy(host_->noise.begin(), host_->noise.end(), find.noise);
    stream.run(1, kernel.src.size(), find);
    grow(stream, rows, cost, kernel, place);
  }

private:
  template <class T>
  void grow(const on& stream, index rows, index cost, const grow_row<T>& kernel,
            const grow_row<T>* matched = nullptr) const {
    if (averages()) {
      stream.run(rows, cost, detail::device_grow_row<T, true>{kernel, matched});
    } else {
      stream.run(rows, cost, detail::device_grow_row<T, false>{kernel, matched});
    }
  }
  /// Some cells are averages of old ones.
  [[nodiscard]] bool averages() const {
    return std::any_of(host_->dims.begin(), host_->dims.end(),
                       [](const dimension_map& d) { return !d.groups.of.empty(); });
  }

  explicit device_param(std::unique_ptr<const param_plan> entry) : device_param(entry.get()) {
    own_ = std::move(entry);
  }

  struct uploaded_array {
    const void* host;
    device_array<unsigned char> device;
  };
  template <class Element>
  void upload(const std::vector<Element>& values) {
    const auto* const bytes = reinterpret_cast<const unsigned char*>(values.data());
    arrays_.push_back({values.data(), device_array<unsigned char>(std::span(bytes, values.size() * sizeof(Element)))});
  }
  /// Where an array of this entry's lies on the GPU; null stays null.
  template <class Element>
  [[nodiscard]] const Element* at_device(const Element* host) const {
    if (host == nullptr) { return nullptr; }
    for (const uploaded_array& a : arrays_) {
      if (a.host == host) { return reinterpret_cast<const Element*>(a.device.data()); }
    }
    throw error(diagnostic{.code = errc::unsupported,
                           .parameter = host_->name,
                           .hint = "the plan has an array that is not known to be needed on a GPU"});
  }
  [[nodiscard]] bool matches() const { return msg::detail::looks_at_old(*host_); }

  const param_plan* host_;
  std::unique_ptr<const param_plan> own_; // where host_ points, unless that is another's
  std::vector<uploaded_array> arrays_;
  device_array<unsigned char> kernel_; // a grow_row, while init::matched() is being found out
};

/// A plan on the GPU: what apply() needs of it there. Keeps a copy; the plan may go.
class device_plan {
public:
  /// Uploads the maps of every parameter. Throws error{cuda}.
  explicit device_plan(plan growth) : host_(std::move(growth)) {
    for (const param_plan& p : host_.parameters()) { parameters_.emplace_back(&p); }
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
