// Eigen's matrices, vectors, maps, blocks and transposes through tensor_traits.
#include "support/catch.hpp"
#include "support/test_rules.hpp"
#include "support/thrown.hpp"

#include <msg/apply.hpp>
#include <msg/plan.hpp>

#include <Eigen/Core>

#include <cmath>
#include <limits>
#include <vector>

template <class Matrix>
  requires requires(const Matrix& m) { m.rowStride() + m.colStride() + m.innerStride(), m.data(); }
struct msg::tensor_traits<Matrix> {
  static auto view(auto&& m) {
    if constexpr (Matrix::IsVectorAtCompileTime) {
      return msg::strided(m.data(), {m.size()}, {m.innerStride()});
    } else {
      return msg::strided(m.data(), {m.rows(), m.cols()}, {m.rowStride(), m.colStride()});
    }
  }
};

namespace {

using row_major = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
using any_stride = Eigen::Stride<Eigen::Dynamic, Eigen::Dynamic>;

const msg::axis hidden{"hidden", 3};
const msg::axis ffn{"ffn", 2};

/// w (2, 3) to (5, 4), b (2) to (5)
msg::plan growth() {
  msg::schema s;
  s.weight("w", out(ffn), in(hidden)).bias("b", out(ffn));
  return {s, {ffn.grow_to(5), hidden.grow_to(4)}, testing::copies{0.25}, {.placement = msg::placement::interleave()}};
}
row_major old() { return row_major{{1, 2, 3}, {4, 5, 6}}; }
/// What apply() makes of it in plain storage.
row_major expected() {
  std::vector<double> result(20);
  msg::apply(growth()["w"], std::vector<double>{1, 2, 3, 4, 5, 6}, result);
  return Eigen::Map<const row_major>(result.data(), 5, 4);
}

} // namespace

TEST_CASE("matrices of either storage order hold the same numbers", "[tensor][eigen]") {
  const msg::plan plan = growth();
  const row_major from_rows = old();
  const Eigen::MatrixXd from_columns = old();
  row_major rows(5, 4);
  msg::apply(plan["w"], from_columns, rows);
  CHECK(rows == expected());
  Eigen::MatrixXd columns(5, 4);
  msg::apply(plan["w"], from_rows, columns);
  CHECK(columns == expected());
}

TEST_CASE("fixed sizes, vectors and row vectors are tensors", "[tensor][eigen]") {
  const msg::plan plan = growth();
  const Eigen::Matrix<double, 2, 3> fixed = old();
  Eigen::Matrix<double, 5, 4> grown;
  msg::apply(plan["w"], fixed, grown);
  CHECK(grown == expected());
  const Eigen::RowVector2d b(7, 8);
  Eigen::VectorXd column(5);
  Eigen::RowVectorXd row(5);
  msg::apply(plan["b"], b, column);
  msg::apply(plan["b"], b.transpose(), row);
  CHECK(column == row.transpose());
  CHECK(column(0) == 7);
}

TEST_CASE("blocks, transposes and strided maps are written where they lie", "[tensor][eigen]") {
  const msg::plan plan = growth();
  const double nan = std::numeric_limits<double>::quiet_NaN();
  Eigen::MatrixXd board = Eigen::MatrixXd::Constant(8, 9, nan);
  msg::apply(plan["w"], old(), board.block(2, 3, 5, 4));
  CHECK(board.block(2, 3, 5, 4) == expected());
  CHECK((board.array() == board.array()).count() == 20); // NaN differs from itself: the rest was left alone

  Eigen::MatrixXd turned(4, 5);
  msg::apply(plan["w"], old(), turned.transpose());
  CHECK(turned.transpose() == expected());

  std::vector<double> storage(200, nan);
  Eigen::Map<row_major, 0, any_stride> map(storage.data() + 10, 5, 4, any_stride(20, 3));
  msg::apply(plan["w"], old(), map);
  CHECK(map == expected());
  CHECK(Eigen::Map<const Eigen::ArrayXd>(storage.data(), 200).isNaN().count() == 180);
}

TEST_CASE("a matrix of the wrong shape is refused, its transpose too", "[tensor][eigen][error]") {
  const msg::plan plan = growth();
  Eigen::MatrixXd grown(4, 5);
  CHECK(testing::message_of([&] { msg::apply(plan["w"], old(), grown); }) ==
        "msg: shape mismatch: parameter 'w', expected (5, 4), found (4, 5) (new tensor)");
}
