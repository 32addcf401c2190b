// Growing numbers: one parameter, or a packed buffer of all of them, from the old storage into the new.
#pragma once

#include <msg/exec/serial.hpp>
#include <msg/kernels/grow.hpp>
#include <msg/plan.hpp>
#include <msg/tensor.hpp>

#include <algorithm>
#include <cmath>
#include <functional>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

MSG_NAMESPACE_BEGIN

/// Which numbers of a parameter are being grown; the optimizer's follow the dual of the law.
enum class payload {
  value,   // split over `in` dimensions, factor w
  moment1, // gradient-like (Adam m, momentum): split over `out` dimensions, factor w; fresh and newborn cells 0
  moment2, // Adam v: split over `out` dimensions, factor w^2; fresh and newborn cells 0
};

namespace detail {

[[nodiscard]] inline std::string shape_text(const index* extents, index rank) {
  std::string text = "(";
  for (index d = 0; d < rank && d < max_rank; ++d) { text += (d == 0 ? "" : ", ") + std::to_string(extents[d]); }
  return text + (rank > max_rank ? ", ...)" : ")");
}

/// The view with the shape the plan expects: as it is, or a contiguous range of the right size read as row-major.
template <class T>
[[nodiscard]] tensor_view<T> shaped(const tensor_view<T>& given, const std::vector<index>& shape,
                                    const std::string& name, const char* which) {
  const auto rank = static_cast<index>(shape.size());
  index size = 1;
  for (const index extent : shape) { size *= extent; }
  bool same = given.rank == rank;
  for (index d = 0; same && d < rank; ++d) { same = given.extent[d] == shape[static_cast<std::size_t>(d)]; }
  if (same) { return given; }
  if (given.rank == 1 && given.extent[0] == size && given.contiguous()) {
    tensor_view<T> result;
    result.data = given.data;
    result.rank = rank;
    index step = 1;
    for (index d = rank - 1; d >= 0; --d) {
      result.extent[d] = shape[static_cast<std::size_t>(d)];
      result.stride[d] = step;
      step *= result.extent[d];
    }
    return result;
  }
  throw error(diagnostic{.code = errc::shape_mismatch,
                         .parameter = name,
                         .expected = shape_text(shape.data(), rank),
                         .found = shape_text(given.extent, given.rank),
                         .hint = which});
}

template <class T>
[[nodiscard]] bool overlap(const tensor_view<const T>& a, const tensor_view<const T>& b) {
  if (a.size() == 0 || b.size() == 0 || a.data == nullptr || b.data == nullptr) { return false; }
  const auto range = [](const tensor_view<const T>& v) {
    const T* low = v.data;
    const T* high = v.data;
    for (index d = 0; d < v.rank; ++d) {
      const index reach = (v.extent[d] - 1) * v.stride[d];
      (reach < 0 ? low : high) += reach;
    }
    return std::pair{low, high};
  };
  const auto [a_low, a_high] = range(a);
  const auto [b_low, b_high] = range(b);
  const std::less_equal<const T*> up_to;
  return up_to(a_low, b_high) && up_to(b_low, a_high);
}

/// Mean and standard deviation of a tensor of any strides, in double, in an order that depends on the shape alone.
template <class T, class Team = serial_team>
[[nodiscard]] MSG_HOST_DEVICE grow_filler matched_filler(const tensor_view<const T>& v, const Team& team = {}) {
  const index size = v.size();
  const bool contiguous = v.contiguous();
  const auto at = [&v, contiguous](index i) {
    if (contiguous) { return static_cast<double>(v.data[i]); }
    index offset = 0;
    for (index d = v.rank - 1; d >= 0; --d) {
      offset += i % v.extent[d] * v.stride[d];
      i /= v.extent[d];
    }
    return static_cast<double>(v.data[offset]);
  };
  const auto n = static_cast<double>(size);
  const double mean = team.sum(size, at) / n;
  const double squares = team.template fold<double>(size, [&](double lane, index i) {
    const double apart = at(i) - mean;
    return std::fma(apart, apart, lane);
  });
  return {mean, std::sqrt(squares / n)};
}

[[nodiscard]] inline bool matches(const init& what) noexcept { return what.what == init::kind::matched; }

/// matched   what init::matched() stands for
[[nodiscard]] MSG_HOST_DEVICE inline grow_filler filler_of(const init& what, const grow_filler& matched) noexcept {
  switch (what.what) {
    case init::kind::zeros: return {0, 0};
    case init::kind::constant: return {what.value, 0};
    case init::kind::normal: return {0, what.value};
    case init::kind::matched: return matched;
  }
  return {};
}

template <class T, executor Executor>
void apply_views(const Executor& on, const param_plan& p, const tensor_view<const T>& src, const tensor_view<T>& dst,
                 payload what) {
  grow_row<T> kernel{};
  kernel.src = src;
  kernel.dst = dst;
  const role split_role = what == payload::value ? role::in : role::out;
  index rows = 1;
  for (std::size_t d = 0; d + 1 < p.dims.size(); ++d) {
    const dimension_map& map = p.dims[d];
    kernel.outer[d] = {map.source.data(), map.what == split_role ? map.split.data() : nullptr, map.flags.data(),
                       map.filler.data()};
    rows *= map.new_size();
  }
  kernel.runs = p.runs.data();
  kernel.run_count = static_cast<index>(p.runs.size());
  kernel.moments = what != payload::value;
  kernel.squared = what == payload::moment2;
  kernel.inner_split = p.dims.back().what == split_role;
  kernel.scale = what == payload::value ? p.scale : what == payload::moment1 ? 1 / p.scale : 1 / (p.scale * p.scale);
  kernel.base_split = p.base_role == split_role ? p.base_split : 1;
  kernel.stream = {p.seed, stream_of(p.name)};
  if (!kernel.moments) {
    constexpr bool reads_src = !requires { Executor::matches_by_itself; }; // else src is not the host's to read
    const bool any_matches = reads_src && std::any_of(p.fillers.begin(), p.fillers.end(), matches);
    const grow_filler matched = any_matches ? matched_filler<T>(src) : grow_filler{};
    for (std::size_t f = 0; f < p.fillers.size(); ++f) { kernel.fillers[f] = filler_of(p.fillers[f], matched); }
  }
  kernel.first_element = p.first_element;
  kernel.base_flags = p.base_flags;
  kernel.base_filler = p.base_filler;
  on.run(rows, p.dims.back().new_size(), kernel);
}

} // namespace detail

/// Grows one parameter into storage the caller owns.
///
///   dst[j...] = src[s(j)...] * product of split over the `in` dims      (old cells)
///   dst[j...] = the rule's fill                                          (fresh cells)
///
/// on    executor, host{} if not given
/// p     entry of a plan, plan["name"], or a slice of one, plan["name"].at(layer)
/// src   old tensor, shape p.old_shape(), any strides; a contiguous range of that size counts as row-major
/// dst   new tensor, shape p.new_shape(); every element is written; must not overlap src
/// what  value | moment1 | moment2, selects the scaling (see payload)
/// Throws error{shape_mismatch} or error{bad_argument} (overlap) before writing anything.
/// Cost: one pass, size(dst) stores, at most as many loads; no allocation. init::matched() reads src twice more.
/// Source: Chen et al. 2016, Net2Net, sec. 2; Yao et al. 2024, Masked Structural Growth.
template <executor Executor, tensor_like Source, tensor_like Destination>
void apply(const Executor& on, const param_plan& p, const Source& src, Destination&& dst,
           payload what = payload::value) {
  using T = element_t<Destination>;
  static_assert(std::is_same_v<std::remove_const_t<typename decltype(view_of(src))::element>, T>,
                "source and destination have one element type");
  const bool fresh_slice = (p.base_flags & detail::fresh_any) != 0;
  const tensor_view<const T> given = view_of(src);
  const bool matches = what == payload::value && std::any_of(p.fillers.begin(), p.fillers.end(), detail::matches);
  const bool none = fresh_slice && !matches && given.size() == 0; // nothing to read
  const tensor_view<const T> from = none ? given : detail::shaped<const T>(given, p.old_shape(), p.name, "old tensor");
  const tensor_view<T> to = detail::shaped<T>(view_of(dst), p.new_shape(), p.name, "new tensor");
  if (detail::overlap<T>(from, to)) {
    throw error(diagnostic{.code = errc::bad_argument,
                           .parameter = p.name,
                           .expected = "separate storage for old and new",
                           .found = "overlapping tensors"});
  }
  detail::apply_views<T>(on, p, from, to, what);
}

template <tensor_like Source, tensor_like Destination>
void apply(const param_plan& p, const Source& src, Destination&& dst, payload what = payload::value) {
  apply(host{}, p, src, dst, what);
}

/// Grows a packed buffer: all parameters one after another in schema order, as llm.c keeps them.
///
/// src   old buffer, before().size() elements
/// dst   new buffer, after().size() elements; must not overlap src
/// Throws error{shape_mismatch} before writing anything.
template <executor Executor, tensor_like Source, tensor_like Destination>
void apply(const Executor& on, const plan& growth, const Source& src, Destination&& dst,
           payload what = payload::value) {
  using T = element_t<Destination>;
  const tensor_view<const T> from =
      detail::shaped<const T>(view_of(src), {growth.before().size()}, "packed buffer", "old buffer");
  const tensor_view<T> to = detail::shaped<T>(view_of(dst), {growth.after().size()}, "packed buffer", "new buffer");
  if (!from.contiguous() || !to.contiguous() || detail::overlap<T>(from, to)) {
    throw error(diagnostic{.code = errc::bad_argument,
                           .parameter = "packed buffer",
                           .expected = "two separate contiguous buffers",
                           .found = "overlap or gaps"});
  }
  index old_offset = 0;
  index new_offset = 0;
  for (const param_plan& p : growth.parameters()) {
    apply(on, p, view(from.data + old_offset, p.old_size()), view(to.data + new_offset, p.size()), what);
    old_offset += p.old_size();
    new_offset += p.size();
  }
}

template <tensor_like Source, tensor_like Destination>
void apply(const plan& growth, const Source& src, Destination&& dst, payload what = payload::value) {
  apply(host{}, growth, src, dst, what);
}

MSG_NAMESPACE_END
