// AdamW, SGD and Lion with ages and masks: bits, groups, threads, norms, refusals.
#include "support/catch.hpp"
#include "support/optimizer_state.hpp"
#include "support/thrown.hpp"

#include <msg/optimizer.hpp>

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

using namespace testing;

TEST_CASE("ages that say nothing give the bits of no ages", "[optimizer]") {
  const auto which = GENERATE(range(std::size_t{0}, shapes.size()));
  const shape& extents = shapes[which];
  parameter_ages uniform;
  uniform.shape = extents;
  for (const index extent : extents) {
    uniform.birth.emplace_back(static_cast<std::size_t>(extent), 0);
    uniform.mask.emplace_back(static_cast<std::size_t>(extent), 1.0F);
  }
  state<float> plain{size_of(extents)};
  state<float> aged = plain;
  for (index step = 0; step < 3; ++step) {
    msg::update(msg::adamw{}, {.lr = 0.01, .step = step}, {}, plain.w, plain.g, plain.m, plain.v);
    msg::update(msg::adamw{}, {.lr = 0.01, .step = step}, uniform, aged.w, aged.g, aged.m, aged.v);
  }
  CHECK(plain == aged);
}

TEST_CASE("a parameter born as a whole has the bits of a run that starts with it", "[optimizer]") {
  const shape extents{6, 50};
  parameter_ages ages;
  ages.shape = extents;
  ages.birth = {std::vector<index>(6, 1000), {}};
  state<float> late{300};
  state<float> early = late;
  for (index step = 0; step < 3; ++step) {
    msg::update(msg::adamw{}, {.lr = 0.01, .step = 1000 + step}, ages, late.w, late.g, late.m, late.v);
    msg::update(msg::adamw{}, {.lr = 0.01, .step = step}, {}, early.w, early.g, early.m, early.v);
  }
  CHECK(late == early);
}

TEST_CASE("old entries get the same bits whatever grew beside them", "[optimizer]") {
  // 40 of 64 rows and 30 of 96 columns are old: their updates must be those of the small parameter
  const index step = 500;
  state<float> old{40 * 30};
  state<float> grown{64 * 96, 9};
  const auto at = [](index i, index j) { return static_cast<std::size_t>(i * 96 + j); };
  for (index i = 0; i < 40; ++i) {
    for (index j = 0; j < 30; ++j) {
      const auto from = static_cast<std::size_t>(i * 30 + j);
      grown.w[at(i, j)] = old.w[from];
      grown.g[at(i, j)] = old.g[from];
      grown.m[at(i, j)] = old.m[from];
      grown.v[at(i, j)] = old.v[from];
    }
  }
  parameter_ages ages{
      {std::vector<index>(64, 0), std::vector<index>(96, 0)}, {{}, std::vector<float>(96, 1)}, {64, 96}};
  std::fill(ages.birth[0].begin() + 40, ages.birth[0].end(), step - 2);
  std::fill(ages.birth[1].begin() + 30, ages.birth[1].end(), step);
  std::fill(ages.mask[1].begin() + 30, ages.mask[1].end(), 0.5F);
  msg::update(msg::adamw{}, {.lr = 0.01, .step = step}, {}, old.w, old.g, old.m, old.v);
  msg::update(msg::adamw{}, {.lr = 0.01, .step = step}, ages, grown.w, grown.g, grown.m, grown.v);
  bool same = true;
  for (index i = 0; i < 40; ++i) {
    for (index j = 0; j < 30; ++j) {
      const auto from = static_cast<std::size_t>(i * 30 + j);
      same = same && grown.w[at(i, j)] == old.w[from] && grown.m[at(i, j)] == old.m[from] &&
             grown.v[at(i, j)] == old.v[from];
    }
  }
  CHECK(same);
}

TEST_CASE("the number of threads changes no bit", "[optimizer]") {
  const shape extents{8, 65, 129};
  const parameter_ages ages = some_ages(extents, GENERATE(1U, 2U, 3U, 4U), 20);
  state<float> one{size_of(extents)};
  const double sum = msg::sum_of_squares(msg::host{1}, one.g);
  const state<float> before = one;
  msg::update(msg::host{1}, msg::adamw{}, {.lr = 0.01, .step = 20}, ages, one.w, one.g, one.m, one.v);
  for (const int threads : {2, 5}) {
    state<float> many = before;
    msg::update(msg::host{threads}, msg::adamw{}, {.lr = 0.01, .step = 20}, ages, many.w, many.g, many.m, many.v);
    CHECK(many == one);
    CHECK(msg::sum_of_squares(msg::host{threads}, many.g) == sum);
  }
}

TEST_CASE("a fresh entry without gradient stays as it is, and so do its moments", "[optimizer]") {
  const shape extents{4, 20};
  parameter_ages ages;
  ages.shape = extents;
  ages.birth = {{}, std::vector<index>(20, 0)};
  std::fill(ages.birth[1].begin() + 12, ages.birth[1].end(), 7);
  const state<float> before = [] {
    state<float> s{80};
    for (std::size_t i = 0; i < 80; ++i) {
      if (i % 20 >= 12) { s.g[i] = s.m[i] = s.v[i] = 0; }
    }
    return s;
  }();
  const auto check = [&](const state<float>& after) {
    for (std::size_t i = 0; i < 80; ++i) {
      if (i % 20 >= 12) { CHECK((after.w[i] == before.w[i] && after.m[i] == 0 && after.v[i] == 0)); }
    }
  };
  state<float> s = before;
  msg::update(msg::adamw{.weight_decay = 0}, {.lr = 0.1, .step = 7}, ages, s.w, s.g, s.m, s.v);
  check(s);
  s = before;
  msg::update(msg::sgd{}, {.lr = 0.1, .step = 7}, ages, s.w, s.g, s.m);
  check(s);
  s = before;
  msg::update(msg::lion{.weight_decay = 0}, {.lr = 0.1, .step = 7}, ages, s.w, s.g, s.m);
  check(s);
}

TEST_CASE("weight decay acts by the least mask, and not at all on the group without decay", "[optimizer]") {
  const bool decays = GENERATE(true, false);
  parameter_ages ages;
  ages.shape = {2, 3};
  ages.mask = {{1, 0.5F}, {1, 0.25F, 0}};
  const std::vector<double> expected{0.9, 0.975, 1, 0.95, 0.975, 1}; // 1 - lr * weight_decay * mask
  const msg::update_step now{.lr = 0.5, .step = 3, .decay = decays};
  const std::vector<double> none(6, 0);
  const auto check = [&](const auto& options, auto&... moments) {
    std::vector<double> w(6, 1);
    msg::update(options, now, ages, w, none, moments...);
    for (std::size_t i = 0; i < 6; ++i) { CHECK(std::abs(w[i] - (decays ? expected[i] : 1)) <= 4 * 2.3e-16); }
  };
  std::vector<double> m(6, 0);
  std::vector<double> v(6, 0);
  check(msg::adamw{.weight_decay = 0.2}, m, v);
  check(msg::sgd{.weight_decay = 0.2}, m);
  check(msg::lion{.weight_decay = 0.2}, m);
}

TEST_CASE("betas of 0 need no correction: adamw is then the sign of the gradient", "[optimizer]") {
  std::vector<double> w{0, 0, 0};
  std::vector<double> m(3, 7);
  std::vector<double> v(3, 7);
  msg::update(msg::adamw{.beta1 = 0, .beta2 = 0, .eps = 1e-20, .weight_decay = 0}, {.lr = 0.5, .step = 2}, {}, w,
              std::vector<double>{3, -4, 0}, m, v);
  CHECK(w == std::vector<double>{-0.5, 0.5, 0});
  CHECK(m == std::vector<double>{3, -4, 0});
}

TEST_CASE("a parameter without elements is updated by doing nothing", "[optimizer]") {
  std::vector<float> none;
  const auto pattern = GENERATE(0, 1);
  const parameter_ages ages =
      pattern == 0 ? parameter_ages{{{0, 5}, {}}, {}, {2, 0}} : parameter_ages{{{}, {0, 5}}, {}, {0, 2}};
  CHECK_NOTHROW(msg::update(msg::adamw{}, {.lr = 0.1, .step = 5}, ages, none, none, none, none));
  CHECK(msg::sum_of_squares(none) == 0);
}

TEST_CASE("updates take views of a slice and leave the rest alone", "[optimizer]") {
  state<float> whole{60};
  const state<float> before = whole;
  const auto middle = [](std::vector<float>& x) { return msg::view(x.data() + 20, 4, 5); };
  const parameter_ages ages{{std::vector<index>{0, 0, 0, 5}, {}}, {}, {}}; // the shape is that of the views
  msg::update(msg::adamw{}, {.lr = 0.1, .step = 5}, ages, middle(whole.w), middle(whole.g), middle(whole.m),
              middle(whole.v));
  for (std::size_t i = 0; i < 60; ++i) { CHECK((whole.w[i] != before.w[i]) == (i >= 20 && i < 40)); }
}

TEST_CASE("a sum of squares is right for every size", "[optimizer]") {
  const auto n = static_cast<std::size_t>(GENERATE(0, 1, 100, 4095, 4096, 4097, 20000));
  const auto x = numbers<float>(n, 3, -1, 1);
  long double expected = 0;
  for (const float e : x) { expected += static_cast<long double>(e) * e; }
  // a lane adds 256 exact squares, then 4 levels, then the stretches
  CHECK(std::abs(msg::sum_of_squares(x) - expected) <= (256 + 4 + 5) * 1.2e-16L * expected);
}

TEST_CASE("clipping scales to the limit and leaves small gradients alone", "[optimizer]") {
  CHECK(msg::clip_scale(4, 1) == 0.25);
  CHECK(msg::clip_scale(1, 1) == 1);
  CHECK(msg::clip_scale(0, 1) == 1);
  CHECK(msg::clip_scale(100, 0) == 1);
  CHECK(std::isnan(msg::clip_scale(std::nan(""), 1)));
}

TEST_CASE("bad options are all named at once, and nothing is written", "[optimizer]") {
  state<float> s{10};
  const state<float> before = s;
  const auto findings = testing::findings_of([&] {
    msg::update(msg::adamw{.beta1 = 1, .beta2 = -0.1, .eps = 0, .weight_decay = -1},
                {.lr = std::nan(""), .step = -1, .gradient_scale = std::nan("")}, {}, s.w, s.g, s.m, s.v);
  });
  std::vector<std::string> names;
  for (const auto& finding : findings) { names.push_back(finding.hint); }
  CHECK(names == std::vector<std::string>{"lr", "gradient_scale", "step", "weight_decay", "beta1", "beta2", "eps"});
  CHECK(s == before);
}

TEST_CASE("ages that don't fit their parameter are refused before anything is written", "[optimizer]") {
  state<float> s{12};
  const state<float> before = s;
  const auto codes = [&](const parameter_ages& ages) {
    return testing::codes_of(
        testing::findings_of([&] { msg::update(msg::adamw{}, {.lr = 0.1, .step = 5}, ages, s.w, s.g, s.m, s.v); }));
  };
  using list = std::vector<msg::errc>;
  const std::vector<index> three{0, 1, 2};
  CHECK(codes({{three, {}}, {}, {}}) == list{msg::errc::shape_mismatch});          // two dimensions, a flat tensor
  CHECK(codes({{three, {}}, {}, {3, 5}}) == list{msg::errc::shape_mismatch});      // 15 elements
  CHECK(codes({{three, {}}, {}, {4, 3}}) == list{msg::errc::shape_mismatch});      // four births wanted
  CHECK(codes({{}, {{1, 1}, {}, {}}, {4, 3}}) == list{msg::errc::shape_mismatch}); // three dimensions of masks
  CHECK(codes({{{0, 1, 6}, {}}, {}, {3, 4}}) == list{msg::errc::bad_argument});    // not born yet
  CHECK(codes({{{0, -1, 5}, {}}, {{}, {1, 1, 2, 1}}, {3, 4}}) ==
        list{msg::errc::bad_argument, msg::errc::bad_argument});
  CHECK(s == before);
}

TEST_CASE("tensors of different sizes or with gaps are refused before anything is written", "[optimizer]") {
  state<float> s{12};
  const state<float> before = s;
  std::vector<float> few(11, 0);
  const msg::update_step now{.lr = 0.1, .step = 5};
  const auto code = [](const auto& f) { return testing::codes_of(testing::findings_of(f)).front(); };
  CHECK(code([&] { msg::update(msg::sgd{}, now, {}, s.w, few, s.m); }) == msg::errc::shape_mismatch);
  CHECK(code([&] { msg::update(msg::sgd{}, now, {}, s.w, s.g, few); }) == msg::errc::shape_mismatch);
  const auto transposed = msg::strided(s.g.data(), {3, 4}, {1, 3});
  CHECK(code([&] { msg::update(msg::sgd{}, now, {}, s.w, transposed, s.m); }) == msg::errc::shape_mismatch);
  CHECK(s == before);
}
