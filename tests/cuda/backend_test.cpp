// What the CUDA backend offers a model, call by call, its device code run on the CPU: attention over several blocks of
// queries, scattered sums over several chunks of rows, products of any layout, copies larger than the staging area.
#include "kernels/device.hpp"
#include "support/catch.hpp"
#include "support/thrown.hpp"
#include "transformer/cpu_backend.hpp"
#include "transformer/cuda_backend.cuh"

#include <msg/random.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace {

using reference::attention_shape;
using reference::cuda_backend;
using reference::cuda_storage;

using doubles = std::vector<double>;
constexpr double poison = std::numeric_limits<double>::quiet_NaN();

doubles random_numbers(std::size_t count, std::uint64_t seed) {
  doubles x(count);
  for (std::size_t i = 0; i < count; ++i) { x[i] = msg::random_normal({seed, 3}, i); }
  return x;
}
template <class T>
cuda_storage<T> there(const cuda_backend& on, const std::vector<T>& x) {
  cuda_storage<T> storage;
  on.copy_in(std::span<const T>(x), storage);
  return storage;
}
template <class T>
std::vector<T> here(const cuda_backend& on, const cuda_storage<T>& x) {
  std::vector<T> values(x.size());
  on.read(x.data(), std::span<T>(values));
  return values;
}
double most_apart(const doubles& a, const doubles& b) {
  REQUIRE(a.size() == b.size());
  double most = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    most = std::fabs(a[i] - b[i]) >= 0 ? std::max(most, std::fabs(a[i] - b[i])) : HUGE_VAL; // NaN is far
  }
  return most;
}

struct attention_case {
  attention_shape shape;
  std::vector<std::int32_t> lengths;
  std::vector<float> heads;
};

} // namespace

TEST_CASE("attention on the CUDA backend is the CPU's, forward and backward", "[cuda][backend][attention]") {
  simt::current_options().order = simt::order::random;
  const attention_case c =
      GENERATE(attention_case{{1, 1, 1, 1, 1}, {}, {}}, attention_case{{2, 9, 2, 2, 3}, {}, {}},
               attention_case{{2, 9, 4, 2, 3}, {}, {1, 0.5F, 0, 1}},            // groups, a head half on, a head off
               attention_case{{3, 9, 2, 1, 2, false}, {9, 1, 0}, {}},           // padding, a sequence of nothing else
               attention_case{{3, 9, 4, 2, 2, false}, {4, 9, 8}, {0, 0, 1, 1}}, // a whole group off
               attention_case{{2, 9, 2, 2, 3, true}, {5, 9}, {}},               // both
               attention_case{{1, 260, 2, 1, 2}, {}, {}},                       // two blocks of queries
               attention_case{{2, 257, 1, 1, 2, false}, {257, 100}, {}});
  attention_shape s = c.shape;
  CAPTURE(s.batch, s.tokens, s.heads, s.kv_heads, s.causal);
  const auto rows = static_cast<std::size_t>(s.batch * s.tokens);
  doubles qkv = random_numbers(rows * static_cast<std::size_t>(s.row_width()), 1);
  for (std::size_t i = 0; i < qkv.size() && !c.heads.empty(); ++i) { // what heads that are off hold may be anything
    const msg::index column = static_cast<msg::index>(i) % s.row_width() / s.head_dim; // queries, keys, values
    const msg::index kv_head = (column - s.heads) % s.kv_heads;
    const auto off = [&](msg::index head) { return c.heads[static_cast<std::size_t>(head)] == 0.0F; };
    bool silent = true;
    for (msg::index member = 0; member < s.group(); ++member) {
      silent = silent && off(column < s.heads ? column : kv_head * s.group() + member);
    }
    if (silent) { qkv[i] = poison; }
  }
  const doubles dout = random_numbers(rows * static_cast<std::size_t>(s.width()), 2);
  const auto sums = rows * static_cast<std::size_t>(s.heads);
  double sum = 0;
  for (const float h : c.heads) { sum += static_cast<double>(h); }
  const msg::mask_view mask = c.heads.empty() ? msg::mask_view{} : msg::mask_view{c.heads.data(), &sum, s.heads};

  s.lengths = c.lengths.empty() ? nullptr : c.lengths.data();
  doubles out(dout.size()), log_sum(sums), dqkv(qkv.size());
  const reference::cpu_backend cpu;
  cpu.attention_forward(s, qkv.data(), mask, out.data(), log_sum.data());
  cpu.attention_backward(s, qkv.data(), mask, out.data(), log_sum.data(), dout.data(), dqkv.data());

  const cuda_backend on;
  const cuda_storage<std::int32_t> lengths = there(on, c.lengths);
  s.lengths = c.lengths.empty() ? nullptr : lengths.data();
  const auto x = there(on, qkv);
  const auto dy = there(on, dout);
  const auto y = there(on, doubles(dout.size(), poison)); // every element is written
  const auto kept = there(on, doubles(sums, poison));
  const auto dx = there(on, doubles(qkv.size(), poison));
  const msg::mask_view placed = on.place(0, mask);
  on.attention_forward<double>(s, x.data(), placed, y.data(), kept.data());
  on.attention_backward<double>(s, x.data(), placed, y.data(), kept.data(), dy.data(), dx.data());

  // sums of up to T terms of a few units each in another order
  const double tolerance = 20 * static_cast<double>(s.tokens) * std::numeric_limits<double>::epsilon();
  CHECK(most_apart(here(on, y), out) <= tolerance);
  CHECK(most_apart(here(on, dx), dqkv) <= tolerance);
}

TEST_CASE("scattered sums are those of a loop, and the same in every run", "[cuda][backend]") {
  const msg::index rows = GENERATE(0, 1, 127, 128, 129, 300);
  const msg::index table_rows = GENERATE(1, 5, 200);
  constexpr msg::index width = 3;
  CAPTURE(rows, table_rows);
  std::vector<std::int32_t> which;
  for (msg::index r = 0; r < rows; ++r) {
    which.push_back(static_cast<std::int32_t>(msg::random_bits({4, 4}, static_cast<std::uint64_t>(r)) %
                                              static_cast<std::uint64_t>(table_rows)));
  }
  const doubles dx = random_numbers(static_cast<std::size_t>(rows * width), 5);
  const doubles start = random_numbers(static_cast<std::size_t>(table_rows * width), 6);
  doubles expected = start;
  for (std::size_t i = 0; i < dx.size(); ++i) {
    expected[static_cast<std::size_t>(which[i / width] * width) + i % width] += dx[i];
  }
  const cuda_backend on;
  const auto places = there(on, which);
  const auto slopes = there(on, dx);
  std::vector<doubles> found;
  for (const simt::order order : {simt::order::forward, simt::order::reverse, simt::order::random}) {
    simt::current_options().order = order;
    const auto table = there(on, start);
    on.scatter_add<double>(rows, width, places.data(), slopes.data(), table.data());
    found.push_back(here(on, table));
  }
  CHECK(found[1] == found[0]);
  CHECK(found[2] == found[0]);
  CHECK(most_apart(found[0], expected) <= 300 * 5 * std::numeric_limits<double>::epsilon()); // 300 terms below 5
}

TEST_CASE("products of every layout are those of a loop", "[cuda][backend]") {
  const bool transpose_a = GENERATE(false, true);
  const bool transpose_b = GENERATE(false, true);
  const double beta = GENERATE(0.0, 1.0);
  constexpr msg::index m = 3, n = 4, k = 5, gap = 2; // rows lie further apart than they are long
  const msg::index lda = (transpose_a ? m : k) + gap;
  const msg::index ldb = (transpose_b ? k : n) + gap;
  constexpr msg::index ldc = n + gap;
  const doubles a = random_numbers(static_cast<std::size_t>((transpose_a ? k : m) * lda), 7);
  const doubles b = random_numbers(static_cast<std::size_t>((transpose_b ? n : k) * ldb), 8);
  doubles expected = random_numbers(static_cast<std::size_t>(m * ldc), 9);
  const cuda_backend on;
  const auto c = there(on, expected);
  on.gemm<double>(transpose_a, transpose_b, m, n, k, 2, there(on, a).data(), lda, there(on, b).data(), ldb, beta,
                  c.data(), ldc);
  for (msg::index i = 0; i < m; ++i) {
    for (msg::index j = 0; j < n; ++j) {
      double sum = 0;
      for (msg::index p = 0; p < k; ++p) {
        sum += a[static_cast<std::size_t>(transpose_a ? p * lda + i : i * lda + p)] *
               b[static_cast<std::size_t>(transpose_b ? j * ldb + p : p * ldb + j)];
      }
      double& to = expected[static_cast<std::size_t>(i * ldc + j)];
      to = 2 * sum + beta * to;
    }
  }
  CHECK(most_apart(here(on, c), expected) <= 100 * std::numeric_limits<double>::epsilon());
}

TEST_CASE("tf32 and bf16 round what is multiplied, and nothing else", "[cuda][backend]") {
  const auto [precision, mantissa] =
      GENERATE(std::pair{reference::gemm_precision::full, 23}, std::pair{reference::gemm_precision::tf32, 10},
               std::pair{reference::gemm_precision::bf16, 7});
  constexpr msg::index m = 3, n = 4, k = 50;
  CAPTURE(mantissa);
  const auto rounded = [bits = mantissa](double x) { // to nearest, ties to even
    int exponent = 0;
    const double fraction = std::frexp(x, &exponent);
    return std::ldexp(std::nearbyint(std::ldexp(fraction, bits + 1)), exponent - bits - 1);
  };
  const auto floats = [](std::size_t count, std::uint64_t seed) {
    const doubles x = random_numbers(count, seed);
    return std::vector<float>(x.begin(), x.end());
  };
  const std::vector<float> a = floats(m * k, 11), b = floats(k * n, 12), start = floats(m * n, 13);
  doubles exact(start.begin(), start.end()), expected = exact;
  for (std::size_t i = 0; i < m * n; ++i) {
    for (std::size_t p = 0; p < k; ++p) {
      const double x = a[i / n * k + p], y = b[p * n + i % n];
      exact[i] += x * y;
      expected[i] += rounded(x) * rounded(y);
    }
  }
  const cuda_backend on(precision);
  const auto da = there(on, a), db = there(on, b), dc = there(on, start);
  on.gemm<float>(false, false, m, n, k, 1, da.data(), k, db.data(), n, 1, dc.data(), n);
  const std::vector<float> once = here(on, dc);
  const reference::cuda_products products(on.stream().stream(), precision);
  const auto again = there(on, start);
  const auto pa = there(on, std::vector<const float*>{da.data()}), pb = there(on, std::vector<const float*>{db.data()});
  const auto pc = there(on, std::vector<const float*>{again.data()});
  products.run_batched<float>({false, false, m, n, k, 1, k, n, 1, n}, pa.data(), pb.data(), pc.data(), 1);
  CHECK(here(on, again) == once);
  const doubles found(once.begin(), once.end());
  const double sums = 50 * 10 * static_cast<double>(std::numeric_limits<float>::epsilon()); // 50 terms below 10
  CHECK(most_apart(found, expected) <= sums);
  CHECK((most_apart(found, exact) > sums) == (mantissa < 23));
}

TEST_CASE("copies to the device take what the host holds now, however much it is", "[cuda][backend]") {
  const cuda_backend on;
  std::vector<std::int32_t> values(3'000'001); // more than the staging area holds
  for (std::size_t i = 0; i < values.size(); ++i) { values[i] = static_cast<std::int32_t>(i); }
  const auto all = there(on, values);
  std::vector<std::int32_t> few(5, 1);
  const auto first = there(on, few);
  std::fill(few.begin(), few.end(), 2); // nothing has been waited for
  CHECK(here(on, first) == std::vector<std::int32_t>(5, 1));
  CHECK(here(on, all) == values);
}

TEST_CASE("a sum over losses is a double that every run finds again", "[cuda][backend]") {
  const cuda_backend on;
  const doubles x = random_numbers(101, 10);
  double expected = 0;
  for (const double v : x) { expected += v; }
  const auto losses = there(on, x);
  CHECK(std::fabs(on.sum(losses.data(), 101) - expected) <= 101 * 3 * std::numeric_limits<double>::epsilon());
  const auto total = there(on, doubles{10});
  on.add_sum(losses.data(), 101, 0.5, total.data());
  CHECK(here(on, total)[0] == 10 + 0.5 * on.sum(losses.data(), 101));
}

TEST_CASE("a failure of the GPU names the call", "[cuda][backend]") {
  const cuda_backend on;
  cuda_storage<float> x;
  simt::next_error() = cudaErrorMemoryAllocation;
  CHECK(testing::message_of([&] { x.resize(10); }).find("cudaMalloc to succeed") != std::string::npos);
  x.resize(10); // and can be asked for again
  CHECK(x.size() == 10);
  const auto too_narrow = [&] { on.gemm<float>(false, false, 2, 2, 2, 1, x.data(), 1, x.data(), 2, 0, x.data(), 2); };
  CHECK(testing::message_of(too_narrow).find("cublasGemmEx to succeed") != std::string::npos);
}
