#include "support/catch.hpp"
#include "transformer/gemm.hpp"
#include "transformer/gemm_probe.hpp"

#include <msg/random.hpp>

#include <algorithm>
#include <cmath>
#include <limits>
#include <stdexcept>
#include <vector>

namespace {

using msg::index;

template <class T>
std::vector<T> random_matrix(index rows, index stride, std::uint64_t stream) {
  std::vector<T> m(static_cast<std::size_t>(rows * stride));
  for (std::size_t i = 0; i < m.size(); ++i) { m[i] = static_cast<T>(msg::random_normal({11, stream}, i)); }
  return m;
}

struct product {
  index m, n, k;
  bool transpose_a, transpose_b;
};

/// Compares with long double loops; strides are larger than the rows, and what lies between must stay.
template <class T>
void check_product(const product& p, T alpha, T beta) {
  CAPTURE(p.m, p.n, p.k, p.transpose_a, p.transpose_b, alpha, beta);
  const index lda = (p.transpose_a ? p.m : p.k) + 3;
  const index ldb = (p.transpose_b ? p.k : p.n) + 1;
  const index ldc = p.n + 2;
  const auto a = random_matrix<T>(p.transpose_a ? p.k : p.m, lda, 1);
  const auto b = random_matrix<T>(p.transpose_b ? p.n : p.k, ldb, 2);
  const auto before = random_matrix<T>(p.m, ldc, 3);
  auto c = before;
  reference::gemm<T>(p.transpose_a, p.transpose_b, p.m, p.n, p.k, alpha, a.data(), lda, b.data(), ldb, beta, c.data(),
                     ldc);
  for (index i = 0; i < p.m; ++i) {
    for (index j = 0; j < p.n; ++j) {
      const auto old = static_cast<long double>(before[static_cast<std::size_t>(i * ldc + j)]);
      long double sum = 0;
      long double size = 0;
      for (index q = 0; q < p.k; ++q) {
        const auto x = static_cast<long double>(a[static_cast<std::size_t>(p.transpose_a ? q * lda + i : i * lda + q)]);
        const auto y = static_cast<long double>(b[static_cast<std::size_t>(p.transpose_b ? j * ldb + q : q * ldb + j)]);
        sum += x * y;
        size += std::fabs(x * y);
      }
      const long double expected = static_cast<long double>(alpha) * sum + static_cast<long double>(beta) * old;
      const long double magnitude = std::fabs(alpha) * size + std::fabs(static_cast<long double>(beta) * old);
      // every order of k products and sums, alpha and beta: at most k + 3 roundings of eps / 2 each, to first order
      const long double bound = static_cast<long double>(p.k + 4) *
                                static_cast<long double>(std::numeric_limits<T>::epsilon()) / 2 * magnitude;
      const auto found = static_cast<long double>(c[static_cast<std::size_t>(i * ldc + j)]);
      if (!(std::fabs(found - expected) <= bound)) {
        CAPTURE(i, j, static_cast<double>(found), static_cast<double>(expected), static_cast<double>(bound));
        FAIL("an element is off");
      }
    }
    for (index j = p.n; j < ldc; ++j) {
      const auto at = static_cast<std::size_t>(i * ldc + j);
      if (c[at] != before[at]) { FAIL("an element between the rows was written"); }
    }
  }
}

template <class T>
void check_sizes() {
  const index sizes[] = {1, 2, 5, 15, 16, 17, 33, 64};
  for (const bool transpose_a : {false, true}) {
    for (const bool transpose_b : {false, true}) {
      for (const index m : sizes) {
        for (const index n : sizes) {
          for (const index k : {1, 7, 64, 130}) { check_product<T>({m, n, k, transpose_a, transpose_b}, 1, 0); }
        }
      }
      for (const index k : {255, 256, 257, 512, 700}) { check_product<T>({19, 23, k, transpose_a, transpose_b}, 1, 0); }
      for (const T beta : {T(0), T(1), T(-0.5)}) {
        for (const product p :
             {product{1, 9, 300, false, false}, {9, 1, 300, false, false}, {20, 30, 300, false, false}}) {
          check_product<T>({p.m, p.n, p.k, transpose_a, transpose_b}, T(0.75), beta);
        }
      }
    }
  }
}

} // namespace

TEST_CASE("float products agree with long double loops in every transposition, at odd sizes and strides", "[gemm]") {
  check_sizes<float>();
}

TEST_CASE("double products agree with long double loops in every transposition, at odd sizes and strides", "[gemm]") {
  check_sizes<double>();
}

TEMPLATE_TEST_CASE("a product with beta 0 forgets NaN in its destination", "[gemm]", float, double) {
  for (const msg::index m : {1, 4}) { // both the thin and the wide path
    const std::vector<TestType> a(static_cast<std::size_t>(m * 3), TestType(2));
    const std::vector<TestType> b(3 * 5, TestType(1));
    std::vector<TestType> c(static_cast<std::size_t>(m * 5), std::numeric_limits<TestType>::quiet_NaN());
    reference::gemm<TestType>(false, false, m, 5, 3, 1, a.data(), 3, b.data(), 5, 0, c.data(), 5);
    CHECK(c == std::vector<TestType>(static_cast<std::size_t>(m * 5), TestType(6)));
  }
}

TEMPLATE_TEST_CASE("an empty contraction scales the destination by beta", "[gemm]", float, double) {
  const TestType none = 0;
  std::vector<TestType> c{1, 2, 3, 4};
  reference::gemm<TestType>(false, false, 2, 2, 0, 1, &none, 1, &none, 2, TestType(0.5), c.data(), 2);
  CHECK(c == std::vector<TestType>{0.5, 1, 1.5, 2});
}

TEST_CASE("a product gives the same bits inside and outside a parallel region, for 1 and 2 threads", "[gemm]") {
  const auto a = random_matrix<float>(70, 600, 4);
  const auto b = random_matrix<float>(600, 90, 5);
  const auto multiply = [&] {
    std::vector<float> c(70 * 90);
    reference::gemm<float>(false, false, 70, 90, 600, 1, a.data(), 600, b.data(), 90, 0, c.data(), 90);
    return c;
  };
  reference::set_threads(1);
  const auto alone = multiply();
  reference::set_threads(2);
  CHECK(multiply() == alone);
  std::vector<std::vector<float>> inside(4);
  reference::parallel_tasks(4, [&](msg::index i) { inside[static_cast<std::size_t>(i)] = multiply(); });
  for (const auto& c : inside) { CHECK(c == alone); }
  reference::set_threads(0);
}

TEST_CASE("the number of threads is what was asked for, and survives a product", "[gemm]") {
  const int before = reference::set_threads(0);
  CHECK(before >= 1);
#if defined(_OPENMP)
  CHECK(reference::set_threads(3) == 3);
  const float x = 2;
  float y = 0;
  reference::gemm<float>(false, false, 1, 1, 1, 1, &x, 1, &x, 1, 0, &y, 1);
  CHECK(reference::threads() == 3);
#endif
  CHECK(reference::set_threads(0) == before);
}

TEST_CASE("tasks run exactly once each, whatever the number of threads", "[gemm]") {
  for (const int threads : {1, 2, 5}) {
    reference::set_threads(threads);
    std::vector<int> runs(101);
    reference::parallel_tasks(101, [&](msg::index i) { ++runs[static_cast<std::size_t>(i)]; });
    CHECK(runs == std::vector<int>(101, 1));
  }
  reference::set_threads(0);
}

TEST_CASE("an exception in a task reaches the caller", "[gemm]") {
  for (const int threads : {1, 2}) {
    reference::set_threads(threads);
    CHECK_THROWS_AS(reference::parallel_tasks(9,
                                              [](msg::index i) {
                                                if (i == 5) { throw std::runtime_error("task 5"); }
                                              }),
                    std::runtime_error);
  }
  reference::set_threads(0);
}

TEST_CASE("the probe gives a reason, repeats itself, and never promises bits with Eigen", "[gemm][bits]") {
  const reference::bits_promise first = reference::bits_probe();
  const reference::bits_promise again = reference::bits_probe();
  CHECK(first.promised == again.promised);
  CHECK(first.reason == again.reason);
  CHECK(first.reason.find(reference::gemm_backend_name()) != std::string::npos);
  if (reference::gemm_backend_name() == "Eigen") { CHECK_FALSE(first.promised); }
}

#if defined(MSG_WITH_DNNL)
TEST_CASE("with oneDNN's AVX-512 kernels the probe promises bits", "[gemm][bits]") {
  // cpu-speed.md, section 4; elsewhere the probe decides
  if ((dnnl_get_effective_cpu_isa() & dnnl_cpu_isa_avx512_core) != dnnl_cpu_isa_avx512_core) {
    WARN("this machine has no AVX-512");
    return;
  }
  const reference::bits_promise promise = reference::bits_probe();
  CAPTURE(promise.reason);
  CHECK(promise.promised);
}
#endif

TEST_CASE("where the probe promises bits, products it did not try keep them too", "[gemm][bits]") {
  if (!reference::bits_probe().promised) {
    WARN("bits are not promised here: " << reference::bits_probe().reason);
    return;
  }
  const auto seed = static_cast<std::uint64_t>(GENERATE(1, 2, 3));
  CAPTURE(seed);
  auto pick = [&, element = std::uint64_t{0}](msg::index most) mutable {
    return 1 + static_cast<msg::index>(msg::random_bits({seed, 9}, element++) % static_cast<std::uint32_t>(most));
  };
  for (int trial = 0; trial < 60; ++trial) {
    const reference::detail::gemm_sizes size{pick(300), pick(300), pick(600)};
    const reference::detail::gemm_sizes room{size.m + pick(200), size.n + pick(200), size.k + pick(300)};
    const bool transpose_a = trial % 3 == 2;
    const bool transpose_b = trial % 3 == 1;
    CAPTURE(trial, size.m, size.n, size.k, room.m, room.n, room.k);
    const auto before = reference::detail::probe_product(transpose_a, transpose_b, size, size, 0);
    CHECK((reference::detail::probe_product(transpose_a, transpose_b, size, room, 0) == before));
    CHECK((reference::detail::probe_product(transpose_a, transpose_b, size, room, room.n - size.n) == before));
  }
}
