// Fresh numbers: what they are, and what they depend on.
#include "support/catch.hpp"
#include "support/growth_model.hpp"
#include "support/test_rules.hpp"

#include <msg/apply.hpp>
#include <msg/plan.hpp>
#include <msg/rules/mask.hpp>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <numeric>
#include <vector>

using msg::axis;
using msg::index;
using msg::init;
using msg::payload;
using testing::ffn;
using testing::grown;
using testing::heads;
using testing::hidden;
using testing::numbers;

TEST_CASE("fresh values go by the kind of the parameter", "[apply][init]") {
  const axis a{"a", 2};
  msg::schema s;
  s.weight("weight", out(a)).bias("bias", out(a)).norm_gain("gain", out(a)).norm_bias("shift", out(a));
  const msg::plan growth{
      s,
      {a.grow_to(3)},
      msg::mask{.fresh = {init::constant(1), init::constant(2), init::constant(3), init::constant(4)}}};
  CHECK(grown(growth["weight"], std::vector<float>{9, 9})[2] == 1);
  CHECK(grown(growth["bias"], std::vector<float>{9, 9})[2] == 2);
  CHECK(grown(growth["gain"], std::vector<float>{9, 9})[2] == 3);
  CHECK(grown(growth["shift"], std::vector<float>{9, 9})[2] == 4);
  const msg::plan usual{s, {a.grow_to(3)}};
  CHECK(grown(usual["bias"], std::vector<float>{9, 9})[2] == 0);
  CHECK(grown(usual["gain"], std::vector<float>{9, 9})[2] == 1);
  CHECK(grown(usual["shift"], std::vector<float>{9, 9})[2] == 0);
  CHECK(grown(usual["weight"], std::vector<float>{9, 9})[2] != 0);
}

TEST_CASE("normal fresh values have the deviation asked for", "[apply][init]") {
  const axis a{"a", 1};
  msg::schema s;
  s.weight("w", out(a));
  const index count = 40000;
  const double deviation = 0.02;
  const msg::plan growth{s, {a.grow_to(count + 1)}, msg::mask{}, {.seed = 3}};
  const auto w = grown(growth["w"], std::vector<double>{1});
  const double n = static_cast<double>(count);
  const double mean = std::accumulate(w.begin() + 1, w.end(), 0.0) / n;
  double squares = 0;
  for (auto x = w.begin() + 1; x != w.end(); ++x) { squares += (*x - mean) * (*x - mean); }
  // five standard errors: deviation / sqrt(n) of the mean, deviation / sqrt(2n) of the deviation
  CHECK(std::abs(mean) < 5 * deviation / std::sqrt(n));
  CHECK(std::abs(std::sqrt(squares / n) - deviation) < 5 * deviation / std::sqrt(2 * n));
}

TEST_CASE("matched fresh values have mean and deviation of the old tensor", "[apply][init]") {
  const axis a{"a", 4};
  msg::schema s;
  s.weight("w", out(a)).norm_gain("gain", out(a));
  const index count = 40000;
  const msg::plan growth{s, {a.grow_to(count + 4)}, msg::mask{.fresh = msg::fresh_values::all(init::matched())}};
  const auto w = grown(growth["w"], std::vector<double>{1, 5, 1, 5}); // mean 3, deviation 2
  const double n = static_cast<double>(count);
  const double mean = std::accumulate(w.begin() + 4, w.end(), 0.0) / n;
  double squares = 0;
  for (auto x = w.begin() + 4; x != w.end(); ++x) { squares += (*x - mean) * (*x - mean); }
  CHECK(std::abs(mean - 3) < 5 * 2 / std::sqrt(n));
  CHECK(std::abs(std::sqrt(squares / n) - 2) < 5 * 2 / std::sqrt(2 * n));
  const auto gain = grown(growth["gain"], std::vector<float>{1, 1, 1, 1}); // no deviation: the mean itself
  CHECK(std::all_of(gain.begin(), gain.end(), [](float g) { return g == 1; }));
}

TEST_CASE("copied fresh units hold the values of old units, and no moments", "[apply][init]") {
  const axis a{"a", 2};
  msg::schema s;
  s.weight("w", out(a), in(hidden));
  const msg::plan growth{s, {a.grow_to(5)}, msg::mask{.width = msg::mask::start::copy}};
  const std::vector<float> old{1, 2, 3, 4, 5, 6};
  CHECK(grown(growth["w"], old) == std::vector<float>{1, 2, 3, 4, 5, 6, 1, 2, 3, 4, 5, 6, 1, 2, 3});
  for (const payload what : {payload::moment1, payload::moment2}) {
    CHECK(grown(growth["w"], old, what) == std::vector<float>{1, 2, 3, 4, 5, 6, 0, 0, 0, 0, 0, 0, 0, 0, 0});
  }
}

TEST_CASE("fresh numbers depend on seed, parameter and element, on nothing else", "[apply][determinism]") {
  msg::schema s, reversed;
  s.weight("w1", out(ffn), in(hidden)).weight("w2", out(ffn), in(hidden));
  reversed.bias("other", out(heads)).weight("w2", out(ffn), in(hidden)).weight("w1", out(ffn), in(hidden));
  const auto old = numbers<double>(12);
  const auto fresh = [&](const msg::schema& of, const char* name, std::uint64_t seed) {
    return grown(msg::plan{of, {ffn.grow_to(7)}, msg::mask{}, {.seed = seed}}[name], old);
  };
  const auto w1 = fresh(s, "w1", 1);
  CHECK(w1 == fresh(s, "w1", 1));
  CHECK(w1 == fresh(reversed, "w1", 1)); // the order of parameters is nothing
  CHECK(w1 != fresh(s, "w1", 2));
  CHECK(w1 != fresh(s, "w2", 1));
  CHECK(std::equal(w1.begin(), w1.begin() + 12, old.begin()));
  std::vector<double> sorted(w1.begin() + 12, w1.end());
  std::sort(sorted.begin(), sorted.end());
  CHECK(std::adjacent_find(sorted.begin(), sorted.end()) == sorted.end()); // no number twice
}

TEST_CASE("numbers do not depend on threads", "[apply][determinism]") {
  const axis wide{"wide", 300};
  msg::schema s;
  s.weight("w", out(wide), in(wide)); // large enough for the executor to share rows
  const msg::plan growth{s, {wide.grow_to(410)}, testing::arbitrary{6}, {.seed = 12}};
  const auto old = numbers<float>(300 * 300);
  for (const payload what : {payload::value, payload::moment2}) {
    std::vector<float> one(410 * 410);
    msg::apply(msg::host{1}, growth["w"], old, one, what);
    for (const int threads : {0, 2, 5}) {
      CAPTURE(threads);
      std::vector<float> many(one.size());
      msg::apply(msg::host{threads}, growth["w"], old, many, what);
      CHECK(many == one);
    }
  }
}
