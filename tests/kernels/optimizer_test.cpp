// Optimizer kernels against plain long-double loops, at every kind of row: plain, runs, single positions, outer ages.
#include "kernels/device.hpp"
#include "support/catch.hpp"

#include <msg/exec/serial.hpp>
#include <msg/kernels/optimizer.hpp>

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <vector>

namespace {

using msg::index;
using factors = msg::age_factors<double>;

// One of `members` that share the work of each(), run one after another: valid for kernels that need no sync().
struct striding_team {
  index member = 0;
  index members = 1;
  [[nodiscard]] index rank() const { return member; }
  [[nodiscard]] index size() const { return members; }
  void sync() const {}
  template <class Function>
  void each(index n, const Function& f) const {
    for (index i = member; i < n; i += members) { f(i); }
  }
};

template <class T>
std::vector<T> numbers(index n, unsigned seed, double low, double high) {
  std::mt19937 bits{seed};
  std::uniform_real_distribution<double> uniform{low, high};
  std::vector<T> result;
  for (index i = 0; i < n; ++i) { result.push_back(static_cast<T>(uniform(bits))); }
  return result;
}

template <class T>
struct state {
  std::vector<T> w, g, m, v;
  explicit state(index n)
      : w(numbers<T>(n, 1, -1, 1)), g(numbers<T>(n, 2, -1, 1)), m(numbers<T>(n, 3, -1, 1)), v(numbers<T>(n, 4, 0, 1)) {}
  bool operator==(const state&) const = default;
};

template <class T>
msg::adamw_rule<T> some_adamw() {
  return {T(0.01), T(0.5), T(0.75), T(0.25), T(0.875), T(0.125), T(1e-6)};
}

template <class Rule, class T>
msg::update_row<Rule, T, T, T> kernel_of(const Rule& rule, state<T>& s, index length) {
  msg::update_row<Rule, T, T, T> kernel;
  kernel.rule = rule;
  kernel.value = s.w.data();
  kernel.gradient = s.g.data();
  kernel.moment1 = s.m.data();
  kernel.moment2 = s.v.data();
  kernel.size = static_cast<index>(s.w.size());
  kernel.length = length;
  return kernel;
}

template <class Kernel>
void run(const Kernel& kernel, index row_count) {
  rows::device{}.run(row_count, 1, kernel);
}

/// After one update as a single row, of one age.
template <class Rule, class T>
state<T> updated(const Rule& rule, state<T> s, const msg::age_factors<T>& oldest) {
  auto kernel = kernel_of(rule, s, static_cast<index>(s.w.size()));
  kernel.oldest = oldest;
  run(kernel, 1);
  return s;
}

} // namespace

TEMPLATE_TEST_CASE("the square root is within 1.5 ulp over the whole range of exponents", "[kernels][optimizer]", float,
                   double) {
  using T = TestType;
  using limits = std::numeric_limits<T>;
  std::mt19937_64 bits{11};
  std::uniform_real_distribution<double> exponent{limits::min_exponent - 30.0, limits::max_exponent - 1.0};
  bool good = true;
  for (int i = 0; i < 200'000; ++i) {
    const T x = static_cast<T>(std::exp2(static_cast<long double>(exponent(bits))));
    const long double exact = std::sqrt(static_cast<long double>(x) + limits::min());
    const long double ulp = std::exp2(std::floor(std::log2(exact))) * limits::epsilon();
    // half an ulp each: x + s and root * root (of y, so at most that of the root), and the last sum
    good = good && std::abs(msg::detail::square_root(x) - exact) <= 1.5L * ulp;
  }
  CHECK(good);
  CHECK(msg::detail::square_root(T(0)) == std::sqrt(limits::min()));
  CHECK(msg::detail::square_root(T(1)) == 1);
  CHECK(msg::detail::square_root(T(0.25)) == T(0.5));
  CHECK(std::isnan(msg::detail::square_root(limits::quiet_NaN())));
}

TEMPLATE_TEST_CASE("a plain adamw row matches a long-double loop", "[kernels][optimizer]", float, double) {
  using T = TestType;
  const index n = GENERATE(0, 1, 31, 32, 33, 63, 64, 65, 127);
  const state<T> before{n};
  const auto rule = some_adamw<T>();
  const state<T> after = updated(rule, before, {T(0.125), T(1.5)});
  const long double epsilon = std::numeric_limits<T>::epsilon();
  for (std::size_t i = 0; i < before.w.size(); ++i) {
    const long double g = 0.5L * before.g[i];
    const long double m = 0.75L * before.m[i] + 0.25L * g;
    const long double v = 0.875L * before.v[i] + 0.125L * g * g;
    const long double decay = static_cast<long double>(rule.decay) * before.w[i];
    const long double root = 1.5L * std::sqrt(v) + static_cast<long double>(rule.eps);
    const long double w = before.w[i] - decay - 0.125L * m / root;
    // at most three roundings in m (of its terms: they may cancel) and v, eight in the quotient, three in w
    const long double terms = 0.75L * std::abs(before.m[i]) + 0.25L * std::abs(g);
    CHECK(std::abs(after.m[i] - m) <= 3 * epsilon * terms);
    CHECK(std::abs(after.v[i] - v) <= 3 * epsilon * v);
    const long double quotient = 0.125L * terms / root;
    CHECK(std::abs(after.w[i] - w) <= epsilon * (std::abs(w) + 3 * std::abs(decay) + 8 * quotient));
  }
}

TEMPLATE_TEST_CASE("a plain sgd row matches a long-double loop, with Nesterov's momentum and without",
                   "[kernels][optimizer]", float, double) {
  using T = TestType;
  const index n = GENERATE(0, 1, 31, 32, 33, 63, 64, 65, 127);
  const bool nesterov = GENERATE(false, true);
  const state<T> before{n};
  const msg::sgd_rule<T> rule{T(0.125), T(0.01), T(0.5), T(0.75), T(nesterov ? 1 : 0), T(nesterov ? 0.75 : 1)};
  const state<T> after = updated(rule, before, {.rate = T(0.5)});
  const long double epsilon = std::numeric_limits<T>::epsilon();
  for (std::size_t i = 0; i < before.w.size(); ++i) {
    const long double g = 0.5L * before.g[i];
    const long double m = 0.75L * before.m[i] + g;
    const long double u = nesterov ? g + 0.75L * m : m;
    const long double decay = static_cast<long double>(rule.decay) * before.w[i];
    const long double w = before.w[i] - decay - 0.0625L * u;
    // the terms of m and u may cancel: two roundings in m, two more in u, three in w
    const long double terms = 0.75L * std::abs(before.m[i]) + 2 * std::abs(g);
    CHECK(std::abs(after.m[i] - m) <= 2 * epsilon * terms);
    CHECK(std::abs(after.w[i] - w) <= epsilon * (std::abs(w) + 3 * std::abs(decay) + 6 * 0.0625L * terms));
  }
  CHECK(after.v == before.v);
}

TEMPLATE_TEST_CASE("a plain lion row matches a long-double loop, and stays where the sign is 0", "[kernels][optimizer]",
                   float, double) {
  using T = TestType;
  const index n = GENERATE(0, 1, 31, 32, 33, 63, 64, 65, 127);
  state<T> before{n};
  for (std::size_t i = 0; i < before.g.size(); i += 5) { before.g[i] = before.m[i] = 0; }
  const msg::lion_rule<T> rule{T(0.125), T(0.01), T(0.5), T(0.75), T(0.25), T(0.875), T(0.125)};
  const state<T> after = updated(rule, before, {.rate = T(0.5)});
  const long double epsilon = std::numeric_limits<T>::epsilon();
  for (std::size_t i = 0; i < before.w.size(); ++i) {
    const long double g = 0.5L * before.g[i];
    const long double u = 0.75L * before.m[i] + 0.25L * g;
    const long double m = 0.875L * before.m[i] + 0.125L * g;
    const long double decay = static_cast<long double>(rule.decay) * before.w[i];
    const long double w = before.w[i] - decay - (u > 0 ? 0.0625L : u < 0 ? -0.0625L : 0.0L);
    const long double terms = 0.875L * std::abs(before.m[i]) + 0.125L * std::abs(g);
    CHECK(std::abs(after.m[i] - m) <= 2 * epsilon * terms); // its terms may cancel
    CHECK(std::abs(after.w[i] - w) <= epsilon * (std::abs(w) + 3 * std::abs(decay) + 0.0625L));
  }
  CHECK(after.v == before.v);
}

TEST_CASE("a parameter cut into stretches has the bits of one row, the last stretch being short",
          "[kernels][optimizer]") {
  const index n = GENERATE(1, 15, 16, 17, 100);
  state<float> whole{n};
  state<float> cut{n};
  run(kernel_of(some_adamw<float>(), whole, n), 1);
  run(kernel_of(some_adamw<float>(), cut, 16), (n + 15) / 16);
  CHECK(whole == cut);
}

TEST_CASE("runs and single positions give the same bits", "[kernels][optimizer]") {
  const index rows = 3;
  const index length = GENERATE(1, 7, 33, 64);
  const index old = length / 2;
  std::vector<factors> ages(static_cast<std::size_t>(length), factors{0.1, 1});
  std::vector<float> masks(ages.size(), 1);
  for (auto j = static_cast<std::size_t>(old); j < ages.size(); ++j) {
    ages[j] = {0.3, 4};
    masks[j] = 0.25F;
  }
  const std::vector<msg::update_run<double>> runs{{0, old, {0.1, 1}, 1}, {old, length - old, {0.3, 4}, 0.25F}};

  state<double> by_run{rows * length};
  state<double> by_position{rows * length};
  auto kernel = kernel_of(some_adamw<double>(), by_run, length);
  kernel.oldest = {0.1, 1};
  kernel.outer[0].extent = rows;
  kernel.outer_rank = 1;
  auto other = kernel_of(some_adamw<double>(), by_position, length);
  other.oldest = {0.1, 1};
  other.outer[0].extent = rows;
  other.outer_rank = 1;
  kernel.runs = runs.data();
  kernel.run_count = 2;
  other.inner = {length, ages.data(), masks.data()};
  run(kernel, rows);
  run(other, rows);
  CHECK(by_run == by_position);
}

TEST_CASE("an entry takes the youngest age and the least mask of its positions", "[kernels][optimizer]") {
  // (2, 2, 1): ages grow along each outer dimension, masks fall; sgd's decay shows the mask, adamw's step the age
  const std::vector<factors> first{{1, 1}, {2, 1}};
  const std::vector<factors> second{{1, 1}, {3, 1}};
  const std::vector<float> first_mask{1, 0.5F};
  const std::vector<float> second_mask{0.75F, 0.25F};
  state<double> s{4};
  s.w.assign(4, 0);
  s.g.assign(4, 0);
  s.m.assign(4, 1);
  s.v.assign(4, 1);
  auto kernel = kernel_of(msg::adamw_rule<double>{0, 1, 1, 0, 1, 0, 0}, s, 1);
  kernel.oldest = {1, 1};
  kernel.outer[0] = {2, first.data(), first_mask.data()};
  kernel.outer[1] = {2, second.data(), second_mask.data()};
  kernel.outer_rank = 2;
  run(kernel, 4);
  CHECK(s.w == std::vector<double>{-1, -3, -2, -3});

  s.w.assign(4, 1);
  auto decaying = kernel_of(msg::sgd_rule<double>{0, 1, 1, 0, 0, 1}, s, 1);
  decaying.outer[0] = kernel.outer[0];
  decaying.outer[1] = kernel.outer[1];
  decaying.outer_rank = 2;
  run(decaying, 4);
  CHECK(s.w == std::vector<double>{0.25, 0.75, 0.5, 0.75});
}

TEST_CASE("an update stays within its row", "[kernels][optimizer]") {
  const state<float> before{100};
  state<float> after = before;
  const std::vector<msg::update_run<float>> runs{{0, 10, {}, 1}, {10, 15, {}, 0.5F}};
  auto kernel = kernel_of(some_adamw<float>(), after, 25);
  kernel.outer[0].extent = 4;
  kernel.outer_rank = 1;
  kernel.runs = runs.data();
  kernel.run_count = 2;
  kernel(msg::serial_team{}, 2);
  for (std::size_t i = 0; i < 100; ++i) {
    const bool inside = i >= 50 && i < 75;
    CHECK((after.w[i] != before.w[i]) == inside);
    CHECK((after.m[i] != before.m[i]) == inside);
    CHECK((after.v[i] != before.v[i]) == inside);
    CHECK(after.g[i] == before.g[i]);
  }
}

TEST_CASE("the size of the team changes no bit of an update", "[kernels][optimizer]") {
  const index members = GENERATE(2, 3, 32);
  const index n = GENERATE(1, 31, 64, 65);
  state<float> alone{n};
  state<float> shared{n};
  run(kernel_of(some_adamw<float>(), alone, n), 1);
  const auto kernel = kernel_of(some_adamw<float>(), shared, n);
  for (index member = 0; member < members; ++member) { kernel(striding_team{member, members}, 0); }
  CHECK(alone == shared);
}

TEST_CASE("squares are summed row by row", "[kernels][optimizer]") {
  const index n = GENERATE(0, 1, 15, 16, 17, 31, 32, 33, 127);
  const auto x = numbers<float>(n, 5, -2, 2);
  const index length = 16;
  const index rows = (n + length - 1) / length;
  std::vector<double> partial(static_cast<std::size_t>(rows), -1);
  run(msg::square_row<float>{x.data(), n, length, partial.data()}, rows);
  for (index row = 0; row < rows; ++row) {
    long double expected = 0;
    for (index i = row * length; i < std::min(n, (row + 1) * length); ++i) {
      expected += static_cast<long double>(x[static_cast<std::size_t>(i)]) * x[static_cast<std::size_t>(i)];
    }
    // 16 squares, exact in double, and four levels of adding
    CHECK(std::abs(partial[static_cast<std::size_t>(row)] - expected) <= 4 * 2.3e-16L * expected);
  }
}

TEST_CASE("appended zeros change no bit of a sum of squares", "[kernels][optimizer]") {
  auto x = numbers<float>(100, 6, -2, 2);
  double before = 0;
  double after = 0;
  msg::square_row<float>{x.data(), 100, 4096, &before}(msg::serial_team{}, 0);
  x.resize(137, 0);
  msg::square_row<float>{x.data(), 137, 4096, &after}(msg::serial_team{}, 0);
  CHECK(before == after);
}
