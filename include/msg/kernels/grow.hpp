// Gather-scale-fill: one row of a grown parameter, for values and for both Adam moments.
#pragma once

#include <msg/config.hpp>
#include <msg/random.hpp>
#include <msg/tensor.hpp>

#include <cmath>
#include <cstdint>

MSG_NAMESPACE_BEGIN

namespace detail {

// What is known of one position of one dimension; a cell has the union over its dimensions.
enum cell_flag : std::uint16_t {
  fresh_out = 1,   // a fresh unit on an `out` dimension
  fresh_in = 2,    // on an `in` dimension
  fresh_each = 4,  // on an `each` dimension
  newborn = 8,     // moments start at zero
  zero_alone = 16, // fresh cell is 0 if only one side of it is fresh
  zero_both = 32,  // fresh cell is 0 if both sides are
  zero_always = 64 // the cell is 0 (writers of an identity layer)
};
inline constexpr std::uint16_t fresh_any = fresh_out | fresh_in | fresh_each;

[[nodiscard]] MSG_HOST_DEVICE constexpr bool is_zero_cell(std::uint16_t flags) noexcept {
  if ((flags & zero_always) != 0) { return true; }
  if ((flags & fresh_any) == 0) { return false; }
  const bool both = (flags & fresh_out) != 0 && (flags & fresh_in) != 0;
  return (flags & (both ? zero_both : zero_alone)) != 0;
}

} // namespace detail

/// A stretch of the inner dimension with consecutive sources and one factor.
struct grow_run {
  index begin = 0; // first new position
  index length = 0;
  index source = -1; // old position of the first; -1: fresh
  double split = 1;  // factor of values on an `in` dimension
  std::uint16_t flags = 0;
  std::uint8_t filler = 0; // which initialisation fresh cells take
};

/// One outer dimension, position by position (arrays of its new size).
struct grow_dimension {
  const index* source = nullptr; // old position, or -1
  const double* split = nullptr; // null: the payload ignores splits here
  const std::uint16_t* flags = nullptr;
  const std::uint8_t* filler = nullptr;
};

/// A fresh cell's number: constant, or mean + deviation * normal(stream, element).
struct grow_filler {
  double constant = 0;
  double deviation = 0;
};

inline constexpr int max_fillers = 8;

/// Writes row `row` of a grown tensor; rows are all dimensions but the last, outermost first.
///
///   dst[j...] = src[s(j)...] * scale * product of splits      (all sources exist)
///   dst[j...] = 0 or the filler's number                      (fresh)
///
/// Fresh numbers depend on (stream, element of the whole new tensor) alone. With `moments`, fresh and newborn cells
/// are 0. dst and src may have any strides; they must not overlap.
template <class T>
struct grow_row {
  tensor_view<const T> src;
  tensor_view<T> dst;
  grow_dimension outer[max_rank - 1] = {}; // dimensions before the last
  const grow_run* runs = nullptr;          // of the last dimension
  index run_count = 0;
  double scale = 1;
  bool moments = false;     // fresh and newborn cells are 0
  bool inner_split = false; // the payload is split on the last dimension
  bool squared = false;     // splits enter squared (second moments)
  random_stream stream{};
  grow_filler fillers[max_fillers] = {};
  // Where dst is a slice of the parameter at one index of its leading dimension: what that index brings.
  index first_element = 0;
  double base_split = 1;
  std::uint16_t base_flags = 0;
  int base_filler = -1;

  template <class Team>
  MSG_HOST_DEVICE void operator()(const Team& team, index row) const {
    const index inner = dst.rank - 1;
    index rest = row;
    index dst_offset = 0;
    index src_offset = 0;
    double factor = scale;
    std::uint16_t flags = base_flags;
    int filler = base_filler;
    for (index d = inner - 1; d >= 0; --d) {
      const index position = rest % dst.extent[d];
      rest /= dst.extent[d];
      dst_offset += position * dst.stride[d];
      const index source = outer[d].source[position];
      src_offset += (source < 0 ? 0 : source) * src.stride[d];
      if (outer[d].split != nullptr) { factor *= power(outer[d].split[position]); }
      const std::uint16_t here = outer[d].flags[position];
      flags = static_cast<std::uint16_t>(flags | here);
      if (base_filler < 0 && (here & detail::fresh_any) != 0) { filler = outer[d].filler[position]; } // outermost wins
    }
    factor *= power(base_split); // last, as the outermost dimension of the whole parameter is: same bits
    T* const to = dst.data + dst_offset;
    const T* const from = src.data == nullptr ? nullptr : src.data + src_offset; // null: a fresh slice
    const index element = first_element + row * dst.extent[inner];
    for (index r = 0; r < run_count; ++r) {
      const grow_run run = runs[r];
      const auto all = static_cast<std::uint16_t>(flags | run.flags);
      T* const out = to + run.begin * dst.stride[inner];
      const index out_step = dst.stride[inner];
      const bool blank = moments ? (all & (detail::fresh_any | detail::newborn)) != 0 : detail::is_zero_cell(all);
      if (blank) {
        team.each(run.length, [=](index i) { out[i * out_step] = T(0); });
      } else if ((all & detail::fresh_any) != 0) {
        fill(team, run, out, out_step, filler >= 0 ? filler : run.filler, element + run.begin);
      } else {
        const index in_step = src.stride[inner];
        copy(team, run.length, out, out_step, from + run.source * in_step, in_step,
             inner_split ? factor * power(run.split) : factor);
      }
    }
  }

private:
  [[nodiscard]] MSG_HOST_DEVICE double power(double split) const noexcept { return squared ? split * split : split; }

  template <class Team>
  MSG_HOST_DEVICE void copy(const Team& team, index length, T* out, index out_step, const T* from, index in_step,
                            double factor) const {
    using number = accumulate_t<T>;
    const auto f = static_cast<number>(factor);
    if (out_step == 1 && in_step == 1) {
      if (factor == 1) {
        team.each(length, [=](index i) { out[i] = from[i]; });
      } else {
        team.each(length, [=](index i) { out[i] = static_cast<T>(static_cast<number>(from[i]) * f); });
      }
    } else if (factor == 1) {
      team.each(length, [=](index i) { out[i * out_step] = from[i * in_step]; });
    } else {
      team.each(length,
                [=](index i) { out[i * out_step] = static_cast<T>(static_cast<number>(from[i * in_step]) * f); });
    }
  }

  template <class Team>
  MSG_HOST_DEVICE void fill(const Team& team, const grow_run& run, T* out, index out_step, int which,
                            index element) const {
    const grow_filler f = fillers[which];
    const random_stream from = stream;
    if (f.deviation == 0) {
      const T value = static_cast<T>(f.constant);
      team.each(run.length, [=](index i) { out[i * out_step] = value; });
    } else {
      team.each(run.length, [=](index i) {
        const double normal = random_normal(from, static_cast<std::uint64_t>(element + i));
        out[i * out_step] = static_cast<T>(std::fma(f.deviation, normal, f.constant)); // fma: same bits everywhere
      });
    }
  }
};

MSG_NAMESPACE_END
