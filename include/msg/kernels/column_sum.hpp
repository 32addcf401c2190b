// Sums over rows: gradients of biases and of norm gains, in an order that no thread count changes. Rows are cut in
// chunks of 64; one kernel sums each chunk into a row of partial sums, another joins these in order.
#pragma once

#include <msg/config.hpp>
#include <msg/kernels/arithmetic.hpp>
#include <msg/kernels/elements.hpp>
#include <msg/tensor.hpp>

#include <type_traits>

MSG_NAMESPACE_BEGIN

inline constexpr index chunk_rows = 64;    // rows summed by one team of a *_partial kernel
inline constexpr index join_columns = 256; // columns joined by one team of column_join

/// Teams to launch for `rows` rows, and rows of the buffer of partial sums.
[[nodiscard]] MSG_HOST_DEVICE constexpr index chunk_count(index rows) noexcept {
  return (rows + chunk_rows - 1) / chunk_rows;
}
/// Teams to launch a column_join with.
[[nodiscard]] MSG_HOST_DEVICE constexpr index join_count(index width) noexcept {
  return (width + join_columns - 1) / join_columns;
}

namespace detail {

/// f(first row, count as a constant) over the rows [begin, end) of a chunk: four at a time, which quarters the traffic
/// of the partial sums, then one by one. Each column is still added in the order of the rows.
template <class Function>
MSG_HOST_DEVICE void each_four(index begin, index end, const Function& f) {
  index row = begin;
  for (; row + 4 <= end; row += 4) { f(row, std::integral_constant<index, 4>{}); }
  for (; row < end; ++row) { f(row, std::integral_constant<index, 1>{}); }
}

/// sum += `many` rows, one after another.
template <index many, class Team, class T, class A>
MSG_HOST_DEVICE void add_rows(const Team& team, index width, const T* first, index step, A* sum) {
  each_element(
      team, width,
      [](index, const auto& row, A& value) {
        for (index k = 0; k < many; ++k) { value += row.at[k]; }
      },
      reads_rows<T, many>(first, step), updates<A>(sum));
}

[[nodiscard]] MSG_HOST_DEVICE constexpr index chunk_end(index chunk, index rows) noexcept {
  const index end = (chunk + 1) * chunk_rows;
  return end < rows ? end : rows;
}

} // namespace detail

/// One chunk of sum over rows of dy: the gradient of a bias, before column_join. Launch chunk_count(rows) teams.
///
/// dy       (rows, width), row r at dy + r * stride, so that a slice of columns can be summed
/// partial  (chunk_count(rows), width)
template <class T>
struct column_sum_partial {
  const T* dy;
  accumulate_t<T>* partial;
  index rows;
  index width;
  index stride;

  template <class Team>
  MSG_HOST_DEVICE void operator()(const Team& team, index chunk) const {
    using A = accumulate_t<T>;
    A* const sum = partial + chunk * width;
    team.each(width, [=](index j) { sum[j] = A(0); });
    detail::each_four(chunk * chunk_rows, detail::chunk_end(chunk, rows), [&](index row, auto count) {
      team.sync();
      detail::add_rows<decltype(count)::value>(team, width, dy + row * stride, stride, sum);
    });
  }
};

/// One chunk of the gradients of a norm's gain and bias, before column_join. Launch chunk_count(rows) teams.
///
///   gain' = sum over rows of m . dy . (x - mean) rstd     bias' = sum over rows of m . dy
///
/// x, dy                       (rows, width)
/// mean, rstd                  (rows); mean null for RMSNorm
/// gain_partial, bias_partial  (chunk_count(rows), width); bias_partial null for RMSNorm
/// output                      (width), the forward's, or none
template <class T>
struct norm_gain_partial {
  const T* x;
  const T* dy;
  const accumulate_t<T>* mean;
  const accumulate_t<T>* rstd;
  accumulate_t<T>* gain_partial;
  accumulate_t<T>* bias_partial;
  index rows;
  index width;
  mask_view output;

  template <class Team>
  MSG_HOST_DEVICE void operator()(const Team& team, index chunk) const {
    detail::with_mask(output, [&](auto o) {
      if (bias_partial != nullptr) {
        run(team, chunk, o, std::true_type{});
      } else {
        run(team, chunk, o, std::false_type{});
      }
    });
  }

private:
  template <class Team, class Output, class Biased>
  MSG_HOST_DEVICE void run(const Team& team, index chunk, Output o, Biased) const {
    using A = accumulate_t<T>;
    A* const gain_sum = gain_partial + chunk * width;
    A* const bias_sum = Biased::value ? bias_partial + chunk * width : nullptr;
    team.each(width, [=](index j) {
      gain_sum[j] = A(0);
      if constexpr (Biased::value) { bias_sum[j] = A(0); }
    });
    detail::each_four(chunk * chunk_rows, detail::chunk_end(chunk, rows), [&](index row, auto count) {
      constexpr index many = decltype(count)::value;
      norm_scales<A, many> of;
      for (index k = 0; k < many; ++k) {
        of.centre[k] = mean != nullptr ? mean[row + k] : A(0);
        of.scale[k] = rstd[row + k];
      }
      const auto add = [of](auto m, const auto& from, const auto& slope, A& gain_value, A& bias_value) {
        for (index k = 0; k < many; ++k) {
          const A n = m.keep((from.at[k] - of.centre[k]) * of.scale[k]);
          gain_value = detail::fused(m.times(slope.at[k]), n, gain_value);
          if constexpr (Biased::value) { bias_value = m.add(slope.at[k], bias_value); }
        }
      };
      const detail::reads_rows<T, many> from(x + row * width, width);
      const detail::reads_rows<T, many> slope(dy + row * width, width);
      const detail::updates<A> gains(gain_sum);
      team.sync();
      if constexpr (Biased::value) {
        detail::each_element(
            team, width, [add](index, auto m, const auto& z, const auto& d, A& g, A& b) { add(m, z, d, g, b); },
            detail::units_of(o), from, slope, gains, detail::updates<A>(bias_sum));
      } else {
        detail::each_element(
            team, width,
            [add](index, auto m, const auto& z, const auto& d, A& g) {
              A unused(0);
              add(m, z, d, g, unused);
            },
            detail::units_of(o), from, slope, gains);
      }
    });
  }

  template <class A, index many>
  struct norm_scales {
    A centre[many];
    A scale[many];
  };
};

/// Adds the partial sums, chunk after chunk, to a gradient: out += sum of partial. Launch join_count(width) teams.
///
/// partial  (chunks, width); used up: its first row holds the total afterwards
/// out      (width)
template <class T>
struct column_join {
  accumulate_t<T>* partial;
  T* out;
  index chunks;
  index width;

  template <class Team>
  MSG_HOST_DEVICE void operator()(const Team& team, index block) const {
    using A = accumulate_t<T>;
    if (chunks == 0) { return; }
    const index begin = block * join_columns;
    const index columns = width - begin < join_columns ? width - begin : join_columns;
    const index step = width;
    A* const total = partial + begin;
    detail::each_four(1, chunks, [&](index chunk, auto count) {
      detail::add_rows<decltype(count)::value>(team, columns, total + chunk * step, step, total);
      team.sync();
    });
    detail::each_element(
        team, columns, [](index, A sum, A& value) { value += sum; }, detail::reads(total),
        detail::updates<T>(out + begin));
  }
};

MSG_NAMESPACE_END
