// Gather-scale-fill: one row of a grown parameter, for values and for both Adam moments.
#pragma once

#include <msg/config.hpp>
#include <msg/kernels/elements.hpp>
#include <msg/kernels/grow_data.hpp>
#include <msg/random.hpp>
#include <msg/tensor.hpp>

#include <cmath>
#include <cstdint>

MSG_NAMESPACE_BEGIN

/// Writes row `row` of a grown tensor; rows are all dimensions but the last, outermost first.
///
///   dst[j...] = src[s(j)...] * scale * product of splits, +- noise of paired columns      (all sources exist)
///   dst[j...] = average of src over the old units of a dimension * the same                (a mean unit)
///   dst[j...] = 0 or the filler's number                                                   (fresh)
///
/// Fresh numbers depend on (stream, element of the whole new tensor) alone. With `moments`, fresh and newborn cells
/// are 0. Cells that average over an outer dimension are the same in all its rows of one group: the first of these rows
/// works them out and writes them to all. dst and src may have any strides; they must not overlap.
template <class T>
struct grow_row {
  tensor_view<const T> src;
  tensor_view<T> dst;
  grow_dimension outer[max_rank - 1] = {}; // dimensions before the last
  const grow_run* runs = nullptr;          // of the last dimension
  index run_count = 0;
  grow_groups inner_groups{};
  double scale = 1;
  bool moments = false; // fresh and newborn cells are 0
  bool squared = false; // splits enter squared (second moments)
  random_stream stream{};
  grow_filler fillers[max_fillers] = {};
  double noise[max_fillers] = {}; // deviation, by the axis whose copies are paired
  // Where dst is a slice of the parameter at one index of its leading dimension: what that index brings.
  index first_element = 0;
  index first_noise = 0; // as first_element, at the index that noise is paired with
  double base_split = 1;
  std::uint16_t base_flags = 0;
  int base_filler = -1;
  int base_noise = -1;

  template <class Team>
  MSG_HOST_DEVICE void operator()(const Team& team, index row) const {
    run<true>(team, row);
  }
  /// averages   false: for plans that average nothing, with half as many registers on a GPU
  template <bool averages, class Team>
  MSG_HOST_DEVICE void run(const Team& team, index row) const {
    const place here = locate(row);
    const index inner = dst.rank - 1;
    T* const to = dst.data + here.dst_offset;
    const index element = first_element + row * dst.extent[inner];
    const index out_step = dst.stride[inner];
    const index in_step = src.stride[inner];
    for (index r = 0; r < run_count; ++r) {
      const grow_run run = runs[r];
      const auto all = detail::joined_flags(here.flags, run.flags);
      T* const out = to + run.begin * out_step;
      const double factor = here.factor * power(moments ? run.dual : run.split);
      const bool blank = moments ? (all & (detail::fresh_any | detail::newborn)) != 0 : detail::is_zero_cell(all);
      if (blank) {
        team.each(run.length, [=](index i) { out[i * out_step] = T(0); });
      } else if ((all & detail::fresh_any) != 0) {
        const grow_filler number = fillers[here.filler >= 0 ? here.filler : run.filler];
        if constexpr (averages) {
          if (number.like_units) {
            average(team, here, run, factor, number.deviation);
            continue;
          }
        }
        fill(team, number, run.length, out, out_step, element + run.begin);
      } else if (averages && (all & detail::averaged) != 0) {
        if constexpr (averages) { average(team, here, run, factor, 0); }
      } else {
        const bool donated = (all & detail::donated) != 0;
        const index column = donated && run.donor >= 0 ? run.donor : run.source;
        const T* const old = src.data + (donated ? here.donor_offset : here.src_offset) + column * in_step;
        const int noisy = here.noise >= 0 ? here.noise : run.twin >= 0 ? run.filler : -1;
        if (noisy < 0 || moments || noise[noisy] == 0) {
          copy(team, run.length, out, out_step, old, in_step, factor);
        } else {
          const double deviation = (all & detail::noise_minus) != 0 ? -noise[noisy] : noise[noisy];
          const index first = here.noise_element + (run.twin >= 0 ? run.twin : run.begin);
          copy_noisy(team, run.length, out, out_step, old, in_step, factor, deviation, first);
        }
      }
    }
  }

private:
  /// What a row's outer positions bring to all its cells.
  struct place {
    index at[max_rank - 1] = {};
    index dst_offset = 0, src_offset = 0, donor_offset = 0, noise_element = 0;
    double factor = 1;
    std::uint16_t flags = 0;
    int filler = -1;
    int noise = -1;
  };
  [[nodiscard]] MSG_HOST_DEVICE place locate(index row) const {
    place here;
    here.factor = scale;
    here.flags = base_flags;
    here.filler = base_filler;
    here.noise = base_noise;
    const index inner = dst.rank - 1;
    index rest = row;
    index step = dst.extent[inner];
    here.noise_element = first_noise;
    for (int d = max_rank - 2; d >= 0; --d) { // to a constant: what is indexed by d stays in a GPU's registers
      if (d >= inner) { continue; }
      const grow_dimension& dim = outer[d];
      const index position = rest % dst.extent[d];
      rest /= dst.extent[d];
      here.at[d] = position;
      here.dst_offset += position * dst.stride[d];
      const index source = dim.source[position] < 0 ? 0 : dim.source[position];
      here.src_offset += source * src.stride[d];
      here.donor_offset += (dim.donor == nullptr ? source : dim.donor[position]) * src.stride[d];
      here.factor *= power(dim.split[position]);
      const std::uint16_t flags = dim.flags[position];
      here.flags = detail::joined_flags(here.flags, flags);
      if (base_filler < 0 && (flags & detail::fresh_any) != 0) { here.filler = dim.filler[position]; } // outermost wins
      const index twin = dim.twin == nullptr ? -1 : dim.twin[position];
      if (base_noise < 0 && twin >= 0) { here.noise = dim.filler[position]; }
      here.noise_element += (twin >= 0 ? twin : position) * step;
      step *= dst.extent[d];
    }
    here.factor *= power(base_split); // last, as the outermost dimension of the whole parameter is: same bits
    return here;
  }
  [[nodiscard]] MSG_HOST_DEVICE double power(double split) const noexcept { return squared ? split * split : split; }

  template <class Team>
  MSG_HOST_DEVICE void copy(const Team& team, index length, T* out, index out_step, const T* from, index in_step,
                            double factor) const {
    using number = accumulate_t<T>;
    const auto f = static_cast<number>(factor);
    if (out_step == 1 && in_step == 1) {
      const detail::reads old(from);
      const detail::writes<T> to(out);
      if (factor == 1) {
        detail::each_element(
            team, length, [](index, number x, number& y) { y = x; }, old, to);
      } else {
        detail::each_element(
            team, length, [f](index, number x, number& y) { y = x * f; }, old, to);
      }
    } else if (factor == 1) {
      team.each(length, [=](index i) { out[i * out_step] = from[i * in_step]; });
    } else {
      team.each(length,
                [=](index i) { out[i * out_step] = static_cast<T>(static_cast<number>(from[i * in_step]) * f); });
    }
  }

  // Column and partner take the same number with opposite signs, so they still sum to what they did.
  template <class Team>
  MSG_HOST_DEVICE void copy_noisy(const Team& team, index length, T* out, index out_step, const T* from, index in_step,
                                  double factor, double deviation, index element) const {
    const random_stream numbers = stream;
    team.each(length, [=](index i) {
      const double normal = random_normal(numbers, static_cast<std::uint64_t>(element + i));
      out[i * out_step] = static_cast<T>(std::fma(deviation, normal, static_cast<double>(from[i * in_step]) * factor));
    });
  }

  template <class Team>
  MSG_HOST_DEVICE void fill(const Team& team, const grow_filler& f, index length, T* out, index out_step,
                            index element) const {
    const random_stream from = stream;
    if (f.deviation == 0) {
      const T value = static_cast<T>(f.constant);
      team.each(length, [=](index i) { out[i * out_step] = value; });
    } else {
      const grow_filler number = f;
      team.each(length, [=](index i) {
        const double normal = random_normal(from, static_cast<std::uint64_t>(element + i));
        out[i * out_step] = static_cast<T>(std::fma(number.deviation, normal, number.constant)); // same bits everywhere
      });
    }
  }

  // Mean over old units, and `times` their deviation of noise; in double, in the order of the members.
  template <class Team>
  MSG_HOST_DEVICE void average(const Team& team, const place& here, const grow_run& run, double factor,
                               double times) const {
    const index inner = dst.rank - 1;
    detail::row_combinations members, targets;
    members.start = here.src_offset;
    targets.start = here.dst_offset;
    index step = dst.extent[inner];
    index row_element = 0;
    for (int d = max_rank - 2; d >= 0; --d) {
      if (d >= inner) { continue; }
      const grow_groups& groups = outer[d].groups;
      const index group = groups.of == nullptr ? -1 : groups.of[here.at[d]];
      row_element += here.at[d] * step;
      if (group >= 0) {
        const index begin = groups.target_begin[group];
        if (groups.target[begin] != here.at[d]) { return; } // the first row of the group writes this one
        members.first[d] = groups.member + groups.member_begin[group];
        members.count[d] = groups.member_begin[group + 1] - groups.member_begin[group];
        members.step[d] = src.stride[d];
        targets.first[d] = groups.target + begin;
        targets.count[d] = groups.target_begin[group + 1] - begin;
        targets.step[d] = dst.stride[d];
        targets.element[d] = step;
        targets.start -= here.at[d] * dst.stride[d];
        row_element -= here.at[d] * step;
      }
      step *= dst.extent[d];
    }
    targets.start_element = first_element + row_element;
    if (run.group >= 0) {
      average_inside(team, run, members, targets, factor, times);
    } else {
      average_across(team, run, members, targets, factor, times);
    }
  }

  // The averaged units lie in the outer dimensions alone: every column has a mean of its own.
  template <class Team>
  MSG_HOST_DEVICE void average_across(const Team& team, const grow_run& run, const detail::row_combinations& members,
                                      const detail::row_combinations& targets, double factor, double times) const {
    const index in_step = src.stride[dst.rank - 1];
    const index out_step = dst.stride[dst.rank - 1];
    const index count = members.size();
    const T* const from = src.data + (run.source < 0 ? 0 : run.source) * in_step;
    T* const to = dst.data + run.begin * out_step;
    const random_stream numbers = stream;
    team.each(run.length, [=](index i) {
      index offset = 0, position = 0;
      double sum = 0;
      for (index m = 0; m < count; ++m) {
        members.decode(m, offset, position);
        sum += static_cast<double>(from[offset + i * in_step]);
      }
      const double mean = sum / static_cast<double>(count);
      double squares = 0;
      for (index m = 0; times != 0 && m < count; ++m) {
        members.decode(m, offset, position);
        const double apart = static_cast<double>(from[offset + i * in_step]) - mean;
        squares = std::fma(apart, apart, squares); // the same bits everywhere
      }
      const double deviation = times * std::sqrt(squares / static_cast<double>(count));
      for (index t = 0; t < targets.size(); ++t) {
        targets.decode(t, offset, position);
        const auto element = static_cast<std::uint64_t>(position + run.begin + i);
        const double number = times == 0 ? mean : std::fma(deviation, random_normal(numbers, element), mean);
        to[offset + i * out_step] = static_cast<T>(number * factor);
      }
    });
  }

  // Also along the row: one mean for the whole run.
  template <class Team>
  MSG_HOST_DEVICE void average_inside(const Team& team, const grow_run& run, const detail::row_combinations& members,
                                      const detail::row_combinations& targets, double factor, double times) const {
    const index in_step = src.stride[dst.rank - 1];
    const index out_step = dst.stride[dst.rank - 1];
    const index* const column = inner_groups.member + inner_groups.member_begin[run.group];
    const index columns = inner_groups.member_begin[run.group + 1] - inner_groups.member_begin[run.group];
    const index count = members.size() * columns;
    const T* const from = src.data;
    const auto at = [=](index m) {
      index offset = 0, position = 0;
      members.decode(m / columns, offset, position);
      return static_cast<double>(from[offset + column[m % columns] * in_step]);
    };
    const double mean = team.sum(count, at) / static_cast<double>(count);
    double squares = 0;
    if (times != 0) {
      squares = team.template fold<double>(count, [=](double lane, index m) {
        const double apart = at(m) - mean;
        return std::fma(apart, apart, lane);
      });
    }
    const double deviation = times * std::sqrt(squares / static_cast<double>(count));
    T* const to = dst.data + run.begin * out_step;
    const random_stream numbers = stream;
    team.each(run.length, [=](index i) {
      for (index t = 0; t < targets.size(); ++t) {
        index offset = 0, position = 0;
        targets.decode(t, offset, position);
        const auto element = static_cast<std::uint64_t>(position + run.begin + i);
        const double number = times == 0 ? mean : std::fma(deviation, random_normal(numbers, element), mean);
        to[offset + i * out_step] = static_cast<T>(number * factor);
      }
    });
  }
};

MSG_NAMESPACE_END
