// Eigen's matrices as tensors: five lines of tensor_traits, for matrices, vectors and maps of either storage order.
#include <msg/grow.hpp>

#include <Eigen/Core>

#include <cstdio>
#include <vector>

// The five lines. rowStride() and colStride() are in elements, as a tensor_view has them; a vector has one dimension.
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

using row_major = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

} // namespace

int main() {
  const msg::axis hidden{"hidden", 3}, ffn{"ffn", 2};
  msg::schema s;
  s.weight("w", out(ffn), in(hidden)).bias("b", out(ffn)); // y = w x + b, w is (2, 3), b is (2)
  const msg::plan plan{s, {ffn.grow_to(4, {.placement = msg::placement::prepend()})}, msg::mask{}, {.seed = 3}};

  Eigen::MatrixXf w(2, 3); // column-major, Eigen's default
  w << 1, 2, 3, 4, 5, 6;
  Eigen::MatrixXf columns(4, 3);
  msg::apply(plan["w"], w, columns);

  row_major rows(4, 3); // the same numbers in the other order
  msg::apply(plan["w"], w, rows);

  std::vector<float> mine(12); // and in somebody else's storage
  Eigen::Map<row_major> map(mine.data(), 4, 3);
  msg::apply(plan["w"], w, map);

  const Eigen::VectorXf b = Eigen::VectorXf::Constant(2, 0.5F);
  Eigen::VectorXf grown_b(4);
  msg::apply(plan["b"], b, grown_b);

  std::printf("w, 2 x 3, became 4 x 3, fresh rows in front:\n");
  for (Eigen::Index i = 0; i < 4; ++i) {
    std::printf("  % .4f % .4f % .4f   b % .4f\n", static_cast<double>(columns(i, 0)),
                static_cast<double>(columns(i, 1)), static_cast<double>(columns(i, 2)),
                static_cast<double>(grown_b(i)));
  }
  const bool same = columns == rows && rows == map && columns.bottomRows(2) == w && grown_b.tail(2) == b;
  std::printf("column-major, row-major and mapped results are %s\n", same ? "the same" : "DIFFERENT");
  return same ? 0 : 1;
}
