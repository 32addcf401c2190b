// The CPU team (one member) and its launcher: rows of a kernel one after another, or over OpenMP threads.
#pragma once

#include <msg/config.hpp>

MSG_NAMESPACE_BEGIN

/// A team of one. A kernel is a functor `template <class Team> void operator()(const Team&, index row) const`; what a
/// team offers is each(), sum(), fold(), sync(), rank(), size() and shared().
struct serial_team {
  static constexpr index lanes = 16;

  [[nodiscard]] MSG_HOST_DEVICE constexpr index rank() const noexcept { return 0; }
  [[nodiscard]] MSG_HOST_DEVICE constexpr index size() const noexcept { return 1; }
  MSG_HOST_DEVICE constexpr void sync() const noexcept {}

  /// f(i) for i in [0, n), in any order, nothing one i writes being read by another: a loop that vectorises (g++: also
  /// where source and destination are the same array).
  template <class Function>
  MSG_HOST_DEVICE constexpr void each(index n, const Function& f) const {
#if defined(__GNUC__) && !defined(__clang__) && !defined(__CUDACC__)
#pragma GCC ivdep // clang's counterpart warns wherever f has no vector form; clang checks for overlap as it runs
#endif
    for (index i = 0; i < n; ++i) { f(i); }
  }

  /// Sum over i in [0, n), known to every member, in lanes: step(lane, i) returns the lane with term i added to it, so
  /// that a product can join by fma. Element i goes to lane i mod 16, a fixed tree joins the lanes (the lane rule):
  /// appending terms that are exact zeros changes no bit.
  template <class Value, class Function>
  [[nodiscard]] MSG_HOST_DEVICE constexpr Value fold(index n, const Function& step) const {
    Value lane[lanes] = {};
    index i = 0;
    for (; i + lanes <= n; i += lanes) {
#if defined(__GNUC__) && !defined(__clang__) && !defined(__CUDACC__)
#pragma GCC unroll 1 // kept whole, the 16 lanes become vectors; unrolled, g++ makes them 16 scalars
#pragma GCC ivdep
#endif
      for (index l = 0; l < lanes; ++l) { lane[l] = step(lane[l], i + l); }
    }
    if (i < n) {
      Value rest[lanes]; // a copy, as the variable index of the tail would keep `lane` out of the registers
      for (index l = 0; l < lanes; ++l) { rest[l] = lane[l]; }
      for (index l = 0; i + l < n; ++l) { rest[l] = step(rest[l], i + l); }
      return joined<lanes>(rest);
    }
    return joined<lanes>(lane);
  }

  /// Sum of f(i) over i in [0, n): fold() with lane + f(i). f should not end in a product (see fold).
  template <class Function>
  [[nodiscard]] MSG_HOST_DEVICE constexpr auto sum(index n, const Function& f) const {
    using value = decltype(f(index{0}));
    return fold<value>(n, [&f](value lane, index i) { return lane + f(i); });
  }

private:
  template <index count, class Value>
  MSG_HOST_DEVICE static constexpr Value joined(const Value (&lane)[count]) {
    if constexpr (count == 1) {
      return lane[0];
    } else {
      Value half[count / 2];
      for (index l = 0; l < count / 2; ++l) { half[l] = lane[l] + lane[l + count / 2]; }
      return joined<count / 2>(half);
    }
  }
};

namespace detail {
struct any_kernel {
  template <class Team>
  MSG_HOST_DEVICE void operator()(const Team&, index) const {}
};
} // namespace detail

/// Something that can run a row kernel: host{}, msg::cuda::on(stream).
template <class T>
concept executor = requires(const T& on) {
  on.run(index{}, index{}, detail::any_kernel{});
};

/// Executor of the host: runs `kernel(team, row)` for every row in [0, rows). Rows are independent, so the result does
/// not depend on the number of threads. With OpenMP, rows are shared among `threads` (0: OpenMP's own default) once
/// there is enough work, rows * cost >= 32768 elements, to pay for waking them.
struct host {
  int threads = 0;

  template <class Kernel>
  void run(index rows, index cost, const Kernel& kernel) const {
#if defined(_OPENMP)
    if (threads != 1 && rows > 1 && rows * (cost > 0 ? cost : 1) >= 32768) {
      if (threads > 0) {
#pragma omp parallel for schedule(static) num_threads(threads)
        for (index row = 0; row < rows; ++row) { kernel(serial_team{}, row); }
      } else {
#pragma omp parallel for schedule(static)
        for (index row = 0; row < rows; ++row) { kernel(serial_team{}, row); }
      }
      return;
    }
#else
    (void)cost;
#endif
    for (index row = 0; row < rows; ++row) { kernel(serial_team{}, row); }
  }
};

MSG_NAMESPACE_END
