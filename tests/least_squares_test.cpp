// Small least-squares problems with and without signs.
#include "support/catch.hpp"

#include <msg/detail/least_squares.hpp>

#include <cmath>
#include <random>
#include <vector>

using msg::detail::least_squares;

TEST_CASE("a solvable system is solved, whatever the scales of its columns", "[least_squares]") {
  // columns 1 and 1e12 apart; exact up to the 11 digits that normal equations of a condition below 100 keep
  least_squares problem{{{1, 1e12}, {2, 5e12}, {3, 1e12}}, {}};
  for (const auto& row : problem.rows) { problem.target.push_back(7 * row[0] + 3e-12 * row[1]); }
  const auto x = problem.solve(0b11);
  REQUIRE(x.size() == 2);
  CHECK(std::abs(x[0] - 7) < 1e-9);
  CHECK(std::abs(x[1] - 3e-12) < 1e-21);
}

TEST_CASE("columns that depend on one another have no solution of their own", "[least_squares]") {
  const least_squares problem{{{1, 2, 0}, {2, 4, 0}, {3, 6, 0}}, {1, 2, 3}};
  CHECK(problem.solve(0b011).empty());
  CHECK(problem.solve(0b100).empty()); // a column of zeros
  const auto x = problem.solve_nonnegative();
  CHECK(std::abs(problem.predicted(2, x) - 3) < 1e-12);
}

TEST_CASE("a row that is left out has no say", "[least_squares]") {
  const least_squares problem{{{1}, {1}, {1}}, {2, 4, 100}};
  CHECK(std::abs(problem.solve(1, 2)[0] - 3) < 1e-12);
}

TEST_CASE("without negative entries the solution meets the conditions of an optimum", "[least_squares]") {
  // Karush, Kuhn and Tucker: where x is 0 the residual doesn't ask for more, where it is above it asks for nothing
  const auto seed = GENERATE(range(0U, 40U));
  CAPTURE(seed);
  std::mt19937 bits{seed};
  std::uniform_real_distribution<double> uniform{-1, 1};
  least_squares problem;
  for (int r = 0; r < 9; ++r) {
    std::vector<double> row;
    for (int c = 0; c < 5; ++c) { row.push_back(uniform(bits)); }
    problem.rows.push_back(row);
    problem.target.push_back(uniform(bits));
  }
  const auto x = problem.solve_nonnegative();
  CHECK(least_squares::nonnegative(x));
  for (std::size_t c = 0; c < 5; ++c) {
    double gradient = 0; // of half the sum of squares
    for (std::size_t r = 0; r < 9; ++r) {
      gradient += problem.rows[r][c] * (problem.predicted(r, x) - problem.target[r]);
    }
    CHECK(gradient > -1e-9);
    if (x[c] > 0) { CHECK(std::abs(gradient) < 1e-9); }
  }
}
