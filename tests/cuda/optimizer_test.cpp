// Optimizer steps on the GPU's path, with the bits of the host: ages and masks through a ramp, several parameters at
// once, captured graphs, gradient norms and clipping.
#include "kernels/device.hpp"
#include "kernels/rows.hpp"
#include "support/bfloat16.hpp"
#include "support/catch.hpp"
#include "support/growth_model.hpp"
#include "support/on_simt.hpp"

#include <msg/cuda.cuh>

#include <cmath>
#include <cstddef>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

using testing::from_device;
using testing::held_stream;
using testing::on_device;

namespace {

template <class T>
[[nodiscard]] bool same_bits(const std::vector<T>& a, const std::vector<T>& b) {
  return a.size() == b.size() && (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0);
}

/// A model that grew twice and is in the ramp of the second growth, and its ages at a step.
struct grown_model {
  msg::schema now;
  msg::growth_state state;

  grown_model() : now(testing::growth_model()) {
    const msg::plan first{now, {testing::ffn.grow_to(6), testing::heads.grow_to(3)}};
    state.record(first, 10, {.steps = 5});
    now = first.after();
    const msg::plan second{now, testing::all_axes};
    state.record(second, 20, {.steps = 8});
    now = second.after();
  }
  [[nodiscard]] std::vector<msg::parameter_ages> ages(msg::index step) const {
    std::vector<msg::parameter_ages> result;
    for (const msg::parameter& p : now.parameters()) { result.push_back(state.ages(p, step)); }
    return result;
  }
};

/// Values, gradient and moments of one parameter, on the host and on the device.
template <class T>
struct parameter_state {
  std::vector<T> value, gradient, moment1, moment2;
  msg::cuda::device_array<T> on_gpu[4];

  parameter_state(msg::index size, std::uint64_t stream)
      : value(rows::normal<T>(size, stream)), gradient(rows::normal<T>(size, stream + 1)),
        moment1(rows::normal<T>(size, stream + 2)),
        moment2(rows::normal<T>(size, stream + 3, 4, 0.5)), on_gpu{on_device(value), on_device(gradient),
                                                                   on_device(moment1), on_device(moment2)} {}
  [[nodiscard]] msg::tensor_view<T> view(int which) const {
    return msg::view(on_gpu[which].data(), on_gpu[which].size());
  }
  [[nodiscard]] bool agree() const {
    return same_bits(value, from_device(on_gpu[0])) && same_bits(moment1, from_device(on_gpu[2])) &&
           same_bits(moment2, from_device(on_gpu[3]));
  }
};

template <class T, class Options>
void update_host(const Options& options, const msg::update_step& now, const msg::parameter_ages& ages,
                 parameter_state<T>& p) {
  if constexpr (Options::moments == 2) {
    msg::update(options, now, ages, p.value, p.gradient, p.moment1, p.moment2);
  } else {
    msg::update(options, now, ages, p.value, p.gradient, p.moment1);
  }
}
template <class T, class Options>
void update_device(const msg::cuda::on& on, const msg::cuda::device_ages<Options, T>& ages, msg::index which,
                   bool decay, const parameter_state<T>& p) {
  if constexpr (Options::moments == 2) {
    msg::update(on, ages, which, decay, p.view(0), p.view(1), p.view(2), p.view(3));
  } else {
    msg::update(on, ages, which, decay, p.view(0), p.view(1), p.view(2));
  }
}

template <class T, class Options>
[[nodiscard]] std::vector<parameter_state<T>> states_of(const grown_model& model) {
  std::vector<parameter_state<T>> result;
  for (const msg::parameter& p : model.now.parameters()) { result.emplace_back(p.size(), 10 * result.size()); }
  return result;
}

template <class T, class Options>
void steps_agree() {
  const grown_model model;
  const Options options{.weight_decay = 0.25};
  msg::cuda::device_ages<Options, T> ages{model.ages(20)};
  auto states = states_of<T, Options>(model);
  held_stream stream;
  // The updates are captured once; what changes from step to step is set before each replay.
  for (std::size_t p = 0; p < states.size(); ++p) {
    update_device<T>(stream.on(), ages, static_cast<msg::index>(p), p % 2 == 0, states[p]);
  }
  stream.capture();
  for (const msg::index step : {20, 21, 25, 28, 29, 60}) {
    CAPTURE(step);
    msg::update_step now{.lr = 0.01 + 0.001 * static_cast<double>(step), .step = step, .gradient_scale = 0.5};
    const auto ages_now = model.ages(step);
    ages.set(stream.on(), options, now, ages_now);
    stream.replay();
    for (std::size_t p = 0; p < states.size(); ++p) {
      now.decay = p % 2 == 0;
      update_host<T>(options, now, ages_now[p], states[p]);
      CAPTURE(model.now.parameters()[p].name);
      CHECK(states[p].agree());
    }
  }
}

} // namespace

TEST_CASE("a captured update follows ages, ramp and learning rate with the bits of the host", "[cuda][optimizer]") {
  SECTION("adamw") { steps_agree<float, msg::adamw>(); }
  SECTION("adamw in double") { steps_agree<double, msg::adamw>(); }
  SECTION("sgd") { steps_agree<float, msg::sgd>(); }
  SECTION("lion") { steps_agree<float, msg::lion>(); }
}

TEST_CASE("parameters without ages, and long and short runs of them, are updated alike", "[cuda][optimizer]") {
  const auto width = GENERATE(msg::index{1}, msg::index{40}, msg::index{127});
  const bool short_runs = GENERATE(false, true);
  msg::parameter_ages aged{.birth = {{}, {}}, .mask = {{}, {}}, .shape = {3, width}};
  for (msg::index j = 0; j < width; ++j) {
    const bool fresh = short_runs ? j % 3 == 1 : j >= width / 2;
    aged.birth[1].push_back(fresh ? 7 : 0);
    aged.mask[1].push_back(fresh ? 0.5F : 1.0F);
  }
  const msg::parameter_ages plain{.shape = {3, width}};
  msg::cuda::device_ages<msg::adamw> ages{{aged, plain}};
  const msg::update_step now{.lr = 0.1, .step = 9};
  const msg::adamw options;
  ages.set(msg::cuda::on(), options, now, {aged, plain});
  for (const msg::index which : {0, 1}) {
    parameter_state<float> state(3 * width, 50);
    update_device<float>(msg::cuda::on(), ages, which, true, state);
    update_host<float>(options, now, which == 0 ? aged : plain, state);
    CHECK(state.agree());
  }
}

TEST_CASE("ages that do not fit what was uploaded are refused, with nothing launched", "[cuda][optimizer]") {
  const grown_model model;
  msg::cuda::device_ages<msg::adamw> ages{model.ages(20)};
  const msg::update_step now{.lr = 0.1, .step = 30};
  const unsigned before = simt::launches();
  auto born_later = model.ages(30);
  born_later[0].birth[1][0] = 25;
  CHECK_THROWS_AS(ages.set(msg::cuda::on(), {}, now, born_later), msg::error);
  auto unequal = model.ages(22);
  unequal[0].mask[0].back() = 0.125F;
  CHECK_THROWS_AS(ages.set(msg::cuda::on(), {}, {.lr = 0.1, .step = 22}, unequal), msg::error);
  CHECK_THROWS_AS(ages.set(msg::cuda::on(), {}, now, {}), msg::error);
  CHECK_THROWS_AS(ages.set(msg::cuda::on(), {.beta1 = 2}, now, model.ages(30)), msg::error);
  const msg::cuda::device_array<float> wrong(3);
  const auto v = msg::view(wrong.data(), 3);
  CHECK_THROWS_AS(msg::update(msg::cuda::on(), ages, 0, true, v, v, v, v), msg::error);
  CHECK_THROWS_AS(msg::update(msg::cuda::on(), ages, 99, true, v, v, v, v), msg::error);
  CHECK(simt::launches() == before);
  msg::parameter_ages many{.birth = {{}}, .mask = {}, .shape = {40}};
  for (msg::index i = 0; i < 40; ++i) { many.birth[0].push_back(i); }
  CHECK_THROWS_AS(msg::cuda::device_ages<msg::adamw>{{many}}, msg::error);
}

TEST_CASE("gradient norms and clipping stay on the device", "[cuda][optimizer]") {
  const msg::index size = GENERATE(msg::index{0}, msg::index{1}, msg::index{127}, msg::index{4096}, msg::index{9000});
  const double limit = GENERATE(0.0, 0.5, 1e6);
  CAPTURE(size, limit);
  parameter_state<float> state(size, 70);
  parameter_state<float> spared(33, 80); // without weight decay
  const auto other = rows::normal<float>(33, 90);
  const auto other_on_gpu = on_device(other);
  const double squares = msg::sum_of_squares(state.gradient) + msg::sum_of_squares(other);
  const msg::cuda::device_array<double> workspace(msg::cuda::squares_workspace(9000));
  const msg::cuda::device_array<double> result(1);
  const auto space = msg::view(workspace.data(), workspace.size());
  msg::cuda::device_ages<msg::adamw> ages{{{.shape = {size}}, {.shape = {33}}}};
  const msg::update_step now{.lr = 0.1, .step = 3};
  held_stream stream;
  ages.set(stream.on(), {}, now, {{.shape = {size}}, {.shape = {33}}});
  msg::cuda::sum_of_squares(stream.on(), state.view(1), space, result.data());
  msg::cuda::sum_of_squares(stream.on(), msg::view(other_on_gpu.data(), 33), space, result.data(), true);
  ages.clip(stream.on(), result.data(), limit, 0.25);
  update_device<float>(stream.on(), ages, 0, true, state);
  update_device<float>(stream.on(), ages, 1, false, spared);
  stream.wait();
  CHECK(from_device(result)[0] == squares);
  msg::update_step clipped = now;
  clipped.gradient_scale = 0.25 * msg::clip_scale(0.25 * std::sqrt(squares), limit);
  update_host<float>(msg::adamw{}, clipped, {.shape = {size}}, state);
  CHECK(state.agree());
  clipped.decay = false;
  update_host<float>(msg::adamw{}, clipped, {.shape = {33}}, spared);
  CHECK(spared.agree());
}
