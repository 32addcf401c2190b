// Views: what tensor_traits sees of ranges, pointers, mdspan-like types and a user's own.
#include "support/catch.hpp"

#include <msg/tensor.hpp>

#include <array>
#include <span>
#include <type_traits>
#include <vector>

using msg::index;

namespace {

/// A user's own matrix, which is no range.
struct own_matrix {
  std::vector<double> numbers;
  index rows = 0;
  index columns = 0;
};

/// The interface of std::mdspan, as much of it as matters.
template <class T, std::size_t Rank>
struct span_of {
  T* first = nullptr;
  std::array<int, Rank> extents{};
  std::array<int, Rank> strides{};
  [[nodiscard]] static constexpr std::size_t rank() { return Rank; }
  [[nodiscard]] constexpr int extent(std::size_t d) const { return extents[d]; }
  [[nodiscard]] constexpr int stride(std::size_t d) const { return strides[d]; }
  [[nodiscard]] constexpr T* data_handle() const { return first; }
};

} // namespace

template <>
struct msg::tensor_traits<own_matrix> {
  static msg::tensor_view<double> view(own_matrix& m) { return msg::view(m.numbers.data(), m.rows, m.columns); }
  static msg::tensor_view<const double> view(const own_matrix& m) {
    return msg::view(m.numbers.data(), m.rows, m.columns);
  }
};

TEST_CASE("a contiguous range is a view of rank one", "[tensor]") {
  std::vector<float> numbers(6);
  const auto seen = msg::view_of(numbers);
  STATIC_REQUIRE(std::is_same_v<decltype(seen), const msg::tensor_view<float>>);
  CHECK(seen.data == numbers.data());
  CHECK(seen.rank == 1);
  CHECK(seen.extent[0] == 6);
  CHECK(seen.stride[0] == 1);
  CHECK(seen.size() == 6);
  const std::vector<float>& constant = numbers;
  STATIC_REQUIRE(std::is_same_v<decltype(msg::view_of(constant)), msg::tensor_view<const float>>);
  std::array<double, 4> fixed{};
  CHECK(msg::view_of(fixed).size() == 4);
  CHECK(msg::view_of(std::span<const double>(fixed)).data == fixed.data());
}

TEST_CASE("a raw pointer is seen row-major", "[tensor]") {
  double numbers[24] = {};
  const auto seen = msg::view(numbers, 2, 3, 4);
  CHECK(seen.rank == 3);
  CHECK(seen.stride[0] == 12);
  CHECK(seen.stride[1] == 4);
  CHECK(seen.stride[2] == 1);
  CHECK(seen.size() == 24);
  CHECK(seen.contiguous());
}

TEST_CASE("contiguous means one run without gaps, row-major, whatever the stride of an extent of one", "[tensor]") {
  double numbers[64] = {};
  CHECK(msg::strided(numbers, {3, 4}, {4, 1}).contiguous());
  CHECK(msg::strided(numbers, {1, 4}, {99, 1}).contiguous());
  CHECK(msg::strided(numbers, {4, 1}, {1, 7}).contiguous());
  CHECK_FALSE(msg::strided(numbers, {3, 4}, {1, 3}).contiguous()); // transposed
  CHECK_FALSE(msg::strided(numbers, {3, 4}, {8, 1}).contiguous()); // gaps between rows
  CHECK_FALSE(msg::strided(numbers, {3, 4}, {8, 2}).contiguous()); // gaps within rows
  CHECK_FALSE(msg::strided(numbers + 3, {4}, {-1}).contiguous());  // backwards
  CHECK(msg::strided(numbers, {0, 4}, {4, 1}).size() == 0);
}

TEST_CASE("an mdspan-like type is seen with its strides", "[tensor]") {
  float numbers[12] = {};
  const span_of<float, 2> transposed{numbers, {3, 4}, {1, 3}};
  const auto seen = msg::view_of(transposed);
  STATIC_REQUIRE(std::is_same_v<decltype(seen), const msg::tensor_view<float>>);
  CHECK(seen.data == numbers);
  CHECK(seen.rank == 2);
  CHECK(seen.extent[0] == 3);
  CHECK(seen.extent[1] == 4);
  CHECK(seen.stride[0] == 1);
  CHECK(seen.stride[1] == 3);
  STATIC_REQUIRE(std::is_same_v<decltype(msg::view_of(span_of<const float, 1>{})), msg::tensor_view<const float>>);
}

TEST_CASE("a user's own tensor enters through tensor_traits", "[tensor]") {
  own_matrix m{std::vector<double>(6), 2, 3};
  CHECK(msg::view_of(m).stride[0] == 3);
  const own_matrix& constant = m;
  STATIC_REQUIRE(std::is_same_v<decltype(msg::view_of(constant)), msg::tensor_view<const double>>);
  STATIC_REQUIRE(std::is_same_v<msg::element_t<const own_matrix>, double>);
}

TEST_CASE("only what tensor_traits can see is tensor_like", "[tensor]") {
  STATIC_REQUIRE(msg::tensor_like<std::vector<float>&>);
  STATIC_REQUIRE(msg::tensor_like<const std::array<double, 3>&>);
  STATIC_REQUIRE(msg::tensor_like<msg::tensor_view<float>>);
  STATIC_REQUIRE(msg::tensor_like<span_of<float, 3>>);
  STATIC_REQUIRE(msg::tensor_like<own_matrix&>);
  STATIC_REQUIRE_FALSE(msg::tensor_like<float>);
  STATIC_REQUIRE_FALSE(msg::tensor_like<float*>); // a pointer has no size: view(p, rows, columns)
  STATIC_REQUIRE_FALSE(msg::tensor_like<std::vector<bool>&>);
  STATIC_REQUIRE_FALSE(msg::tensor_like<std::vector<std::vector<float>>&>);
}

TEST_CASE("views are trivially copyable and become constant by themselves", "[tensor]") {
  STATIC_REQUIRE(std::is_trivially_copyable_v<msg::tensor_view<float>>);
  STATIC_REQUIRE(std::is_trivially_copyable_v<msg::mask_view>);
  STATIC_REQUIRE(std::is_convertible_v<msg::tensor_view<float>, msg::tensor_view<const float>>);
  STATIC_REQUIRE_FALSE(std::is_convertible_v<msg::tensor_view<const float>, msg::tensor_view<float>>);
  float numbers[6] = {};
  const msg::tensor_view<const float> constant = msg::strided(numbers, {2, 3}, {1, 2});
  CHECK(constant.data == numbers);
  CHECK(constant.rank == 2);
  CHECK(constant.extent[1] == 3);
  CHECK(constant.stride[1] == 2);
  CHECK_FALSE(static_cast<bool>(msg::mask_view{}));
  const float one = 1;
  CHECK(static_cast<bool>(msg::mask_view{&one, nullptr, 1}));
}

TEST_CASE("sums run in double for double and in float for everything shorter", "[tensor]") {
  STATIC_REQUIRE(std::is_same_v<msg::accumulate_t<double>, double>);
  STATIC_REQUIRE(std::is_same_v<msg::accumulate_t<const double>, double>);
  STATIC_REQUIRE(std::is_same_v<msg::accumulate_t<float>, float>);
}
