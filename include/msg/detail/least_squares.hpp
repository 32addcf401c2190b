// Small least-squares problems: a handful of unknowns, solved exactly, with or without signs.
#pragma once

#include <msg/config.hpp>

#include <cmath>
#include <cstddef>
#include <limits>
#include <span>
#include <utility>
#include <vector>

MSG_NAMESPACE_BEGIN

namespace detail {

/// rows[i] . x is to be target[i]: at most 12 unknowns, any number of rows.
struct least_squares {
  std::vector<std::vector<double>> rows{};
  std::vector<double> target{};

  /// The columns of a set as bits.
  using columns = unsigned;
  static constexpr std::size_t most_columns = 12;

  [[nodiscard]] std::size_t width() const noexcept { return rows.empty() ? 0 : rows.front().size(); }

  /// The x of least |rows x - target|^2 that is 0 outside `use`, leaving out row `without`; empty where the columns
  /// depend on one another. By normal equations of columns scaled to 1, with pivots: the columns are few and the data
  /// is noisy, so that losing half the digits costs nothing.
  [[nodiscard]] std::vector<double> solve(columns use, std::size_t without = no_row) const {
    std::vector<std::size_t> at;
    for (std::size_t c = 0; c < width(); ++c) {
      if ((use >> c & 1U) != 0) { at.push_back(c); }
    }
    const std::size_t n = at.size();
    std::vector<double> length(n, 0);
    for (std::size_t k = 0; k < n; ++k) {
      for (std::size_t r = 0; r < rows.size(); ++r) {
        if (r != without) { length[k] += rows[r][at[k]] * rows[r][at[k]]; }
      }
      length[k] = std::sqrt(length[k]);
      if (!(length[k] > 0)) { return {}; }
    }
    std::vector<std::vector<double>> m(n, std::vector<double>(n + 1, 0));
    for (std::size_t r = 0; r < rows.size(); ++r) {
      if (r == without) { continue; }
      for (std::size_t i = 0; i < n; ++i) {
        const double scaled = rows[r][at[i]] / length[i];
        for (std::size_t k = 0; k < n; ++k) { m[i][k] += scaled * rows[r][at[k]] / length[k]; }
        m[i][n] += scaled * target[r];
      }
    }
    for (std::size_t i = 0; i < n; ++i) {
      std::size_t pivot = i;
      for (std::size_t k = i + 1; k < n; ++k) {
        if (std::abs(m[k][i]) > std::abs(m[pivot][i])) { pivot = k; }
      }
      std::swap(m[i], m[pivot]);
      if (std::abs(m[i][i]) < 1e-11) { return {}; } // of ones: the columns agree to 5 digits
      for (std::size_t k = i + 1; k < n; ++k) {
        const double factor = m[k][i] / m[i][i];
        for (std::size_t j = i; j <= n; ++j) { m[k][j] -= factor * m[i][j]; }
      }
    }
    std::vector<double> x(width(), 0);
    for (std::size_t i = n; i-- > 0;) {
      double sum = m[i][n];
      for (std::size_t k = i + 1; k < n; ++k) { sum -= m[i][k] * x[at[k]] * length[k]; }
      x[at[i]] = sum / m[i][i] / length[i];
    }
    return x;
  }

  [[nodiscard]] double predicted(std::size_t row, const std::vector<double>& x) const {
    double sum = 0;
    for (std::size_t c = 0; c < x.size(); ++c) { sum += rows[row][c] * x[c]; }
    return sum;
  }
  [[nodiscard]] double residual(const std::vector<double>& x) const {
    double sum = 0;
    for (std::size_t r = 0; r < rows.size(); ++r) {
      const double off = predicted(r, x) - target[r];
      sum += off * off;
    }
    return sum;
  }

  /// The best x without a negative entry: the best of all sets of columns whose own solution has none, which is where
  /// the conditions of Karush, Kuhn and Tucker have it. 2^columns solutions, so that there is nothing to converge.
  /// Source: Lawson and Hanson 1974, Solving Least Squares Problems, ch. 23 (the problem).
  [[nodiscard]] std::vector<double> solve_nonnegative() const {
    MSG_ASSERT(width() <= most_columns);
    std::vector<double> best(width(), 0);
    double least = residual(best);
    for (columns use = 1; use < columns{1} << width(); ++use) {
      std::vector<double> x = solve(use);
      if (x.empty() || !nonnegative(x)) { continue; }
      const double off = residual(x);
      if (off < least) {
        least = off;
        best = std::move(x);
      }
    }
    return best;
  }

  [[nodiscard]] static bool nonnegative(const std::vector<double>& x) noexcept {
    for (const double value : x) {
      if (!(value >= 0)) { return false; }
    }
    return true;
  }
  static constexpr std::size_t no_row = std::numeric_limits<std::size_t>::max();
};

} // namespace detail

MSG_NAMESPACE_END
