// The CUDA team on the SIMT layer; and the layer itself, which has to see what is wrong.
#include "kernels/device.hpp"
#include "kernels/rows.hpp"
#include "support/catch.hpp"

#include <msg/exec/cuda.cuh>
#include <msg/kernels/arithmetic.hpp>

#include <algorithm>
#include <cstddef>
#include <string>
#include <vector>

using msg::cuda::team;
using msg::cuda::detail::launch;
using msg::cuda::detail::launch_shape;
using rows::at;

namespace {

const std::vector<launch_shape> shapes{{false, 32, 1}, {false, 64, 1}, {false, 96, 2}, {true, 32, 1},
                                       {true, 64, 2},  {true, 96, 1},  {true, 256, 1}, {false, 256, 1}};

/// Runs f(team, row) in every order of threads.
template <class Function>
void in_every_order(msg::index row_count, launch_shape shape, const Function& f) {
  for (const simt::order order : {simt::order::forward, simt::order::reverse, simt::order::random}) {
    simt::current_options().order = order;
    launch(f, row_count, shape, nullptr);
  }
}

/// What launch() reports; empty: nothing.
template <class Body>
std::string report(unsigned threads, const Body& body) {
  for (const simt::order order : {simt::order::forward, simt::order::reverse, simt::order::random}) {
    simt::current_options().order = order;
    auto* const shared = reinterpret_cast<unsigned char*>(msg::cuda::detail::shared_memory);
    try {
      simt::block_run::launch(1, threads, shared, 64, body);
    } catch (const simt::failure& problem) { return problem.what(); }
  }
  return {};
}

} // namespace

TEST_CASE("each() gives every index to one member, in rows that every team size and grid shares", "[cuda][team]") {
  const auto shape = GENERATE(from_range(shapes));
  const auto n = GENERATE(msg::index{0}, msg::index{1}, msg::index{15}, msg::index{33}, msg::index{100});
  const auto row_count = GENERATE(msg::index{0}, msg::index{1}, msg::index{3}, msg::index{33}, msg::index{130});
  CAPTURE(shape.whole_block, shape.threads, shape.blocks, n, row_count);
  std::vector<int> visits(at(n * row_count), 0);
  std::vector<int> members(at(row_count), 0);
  launch(
      [&](const team& t, msg::index row) {
        ++members[at(row)];
        t.each(n, [&](msg::index i) { ++visits[at(row * n + i)]; });
      },
      row_count, shape, nullptr);
  CHECK(visits == std::vector<int>(visits.size(), 1));
  CHECK(members == std::vector<int>(members.size(), shape.whole_block ? shape.threads : 16));
}

TEMPLATE_TEST_CASE("sums have the bits of the serial team, whatever the team and the order of threads", "[cuda][team]",
                   float, double) {
  using T = TestType;
  const auto n = GENERATE(from_range(rows::widths));
  const auto shape = GENERATE(from_range(shapes));
  CAPTURE(n, shape.whole_block, shape.threads);
  const msg::index row_count = 5;
  const auto x = rows::normal<T>(row_count * n, 1);
  std::vector<T> expected, squares;
  for (msg::index row = 0; row < row_count; ++row) {
    const T* const from = x.data() + row * n;
    expected.push_back(msg::serial_team{}.sum(n, [=](msg::index i) { return from[i]; }));
    squares.push_back(msg::serial_team{}.fold<T>(
        n, [=](T lane, msg::index i) { return msg::detail::fused(from[i], from[i], lane); }));
  }
  in_every_order(row_count, shape, [&](const team& t, msg::index row) {
    const T* const from = x.data() + row * n;
    const T sum = t.sum(n, [=](msg::index i) { return from[i]; });
    const T square = t.fold<T>(n, [=](T lane, msg::index i) { return msg::detail::fused(from[i], from[i], lane); });
    // known to every member
    simt::require(rows::same_bits(sum, expected[at(row)]), "a member has another sum");
    simt::require(rows::same_bits(square, squares[at(row)]), "a member has another sum of squares");
  });
}

TEST_CASE("appended zeros change no bit of a sum", "[cuda][team]") {
  const auto n = GENERATE(from_range(rows::widths));
  const auto shape = GENERATE(from_range(shapes));
  const auto x = rows::normal<float>(n, 2);
  const float expected = msg::serial_team{}.sum(n, [&](msg::index i) { return x[at(i)]; });
  for (const msg::index more : {1, 7, 16, 100}) {
    in_every_order(3, shape, [&](const team& t, msg::index) {
      const float sum = t.sum(n + more, [&](msg::index i) { return i < n ? x[at(i)] : 0.0F; });
      simt::require(sum == expected, "another sum");
    });
  }
}

TEST_CASE("what members wrote before sync() can be read after it", "[cuda][team]") {
  const auto shape = GENERATE(from_range(shapes));
  const auto n = GENERATE(msg::index{1}, msg::index{31}, msg::index{64}, msg::index{127});
  CAPTURE(shape.whole_block, shape.threads, n);
  const msg::index row_count = 20;
  std::vector<msg::index> written(at(row_count * n));
  std::vector<msg::index> read(written.size(), -1);
  in_every_order(row_count, shape, [&](const team& t, msg::index row) {
    msg::index* const to = written.data() + row * n;
    msg::index* const out = read.data() + row * n;
    t.each(n, [=](msg::index i) { to[i] = row + i; });
    t.sync();
    t.each(n, [=](msg::index i) { out[i] = to[n - 1 - i]; });
    t.sync();
    t.each(n, [=](msg::index i) { to[i] = -1; });
  });
  for (msg::index i = 0; i < row_count * n; ++i) { REQUIRE(read[at(i)] == i / n + n - 1 - i % n); }
}

namespace {

/// Reverses rows of numbers through shared memory.
struct reverse_rows {
  const int* x;
  int* y;
  msg::index width;
  msg::index asked; // elements
  [[nodiscard]] msg::index shared_bytes() const { return width * static_cast<msg::index>(sizeof(int)); }
  template <class Team>
  void operator()(const Team& t, msg::index row) const {
    int* const held = t.template shared<int>(asked);
    t.each(width, [=, this](msg::index i) { held[i] = x[row * width + i]; });
    t.sync();
    t.each(width, [=, this](msg::index i) { y[row * width + i] = held[width - 1 - i]; });
  }
};

} // namespace

TEST_CASE("every team has shared memory of its own, row after row", "[cuda][team]") {
  const auto shape = GENERATE(from_range(shapes));
  const auto width = GENERATE(msg::index{1}, msg::index{33}, msg::index{64});
  CAPTURE(shape.whole_block, shape.threads, width);
  const msg::index row_count = 50;
  std::vector<int> x(at(row_count * width));
  for (std::size_t i = 0; i < x.size(); ++i) { x[i] = static_cast<int>(i); }
  std::vector<int> y(x.size(), -1);
  in_every_order(row_count, shape, reverse_rows{x.data(), y.data(), width, width});
  for (msg::index i = 0; i < row_count * width; ++i) {
    REQUIRE(y[at(i)] == x[at(i / width * width + width - 1 - i % width)]);
  }
}

TEST_CASE("asking for more shared memory than the kernel announced is found", "[cuda][team]") {
  std::vector<int> x(64, 1);
  CHECK_THROWS_AS(launch(reverse_rows{x.data(), x.data(), 32, 40}, 2, {true, 32, 1}, nullptr), simt::failure);
}

TEST_CASE("launches are never empty, too large or of half warps", "[cuda][team]") {
  for (const msg::index row_count : {1, 2, 1023, 1024, 100000, 2000000000}) {
    for (const msg::index cost : {0, 1, 33, 768, 100000}) {
      const launch_shape shape = msg::cuda::detail::shape_of(row_count, cost);
      CAPTURE(row_count, cost, shape.threads, shape.blocks);
      CHECK(shape.threads % 32 == 0);
      CHECK(shape.threads >= 32);
      CHECK(shape.threads <= msg::cuda::detail::most_threads);
      CHECK(shape.blocks >= 1);
      CHECK(shape.blocks <= 2147483647);
      const msg::index teams = shape.whole_block ? 1 : shape.threads / 16;
      CHECK((shape.blocks - 1) * teams < row_count);
    }
  }
}

TEST_CASE("the layer finds a barrier that not every thread reaches", "[simt]") {
  CHECK(report(64, [] {}) == "");
  CHECK(report(64, [] { __syncthreads(); }) == "");
  CHECK(report(64, [] {
          if (threadIdx.x < 40) { __syncthreads(); }
        }).find("divergent barrier") != std::string::npos);
  CHECK(report(64, [] {
          if (threadIdx.x == 7) { return; }
          __syncthreads();
        }).find("divergent barrier") != std::string::npos);
}

TEST_CASE("the layer finds wrong masks", "[simt]") {
  CHECK(report(64, [] { __syncwarp(0xFFFFU << (threadIdx.x % 32 / 16 * 16)); }) == "");
  CHECK(report(32, [] { __syncwarp(0xFFFFU); }).find("not in the mask") != std::string::npos);
  CHECK(report(16, [] { __syncwarp(~0U); }).find("divergent barrier") != std::string::npos);
  CHECK(report(32, [] { __syncwarp(threadIdx.x < 16 ? ~0U : 0xFFFF0000U); }) != "");
  CHECK(report(32, [] { (void)__shfl_xor_sync(0xFFFFU << (threadIdx.x / 16 * 16), 1, 16); }).find("outside its mask") !=
        std::string::npos);
  CHECK(report(32, [] {
          if (threadIdx.x % 2 == 0) { (void)__shfl_xor_sync(~0U, 1, 1); }
        }).find("divergent barrier") != std::string::npos);
}

TEST_CASE("the layer finds threads at different barriers, and writes behind shared memory", "[simt]") {
  CHECK(report(32, [] { threadIdx.x < 16 ? __syncwarp(~0U) : __syncthreads(); }) != "");
  CHECK(report(32, [] {
          reinterpret_cast<unsigned char*>(msg::cuda::detail::shared_memory)[64] = 0;
        }).find("behind its end") != std::string::npos);
}

TEST_CASE("a missing sync gives a wrong result in some order of threads", "[simt]") {
  std::vector<int> wrong;
  for (const simt::order order : {simt::order::forward, simt::order::reverse, simt::order::random}) {
    simt::current_options().order = order;
    int held[32] = {};
    int read[32] = {};
    launch(
        [&](const team& t, msg::index) {
          t.each(32, [&](msg::index i) { held[i] = 1; });
          t.each(32, [&](msg::index i) { read[i] = held[31 - i]; });
        },
        1, {true, 32, 1}, nullptr);
    for (const int value : read) { wrong.push_back(value == 1 ? 0 : 1); }
  }
  CHECK(std::count(wrong.begin(), wrong.end(), 1) > 0);
}
