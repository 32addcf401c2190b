// Optimizer updates on the GPU: ages that are uploaded once after a growth, their factors set anew for every step in
// stream order, clipping without waiting for the GPU.
#pragma once

#include <msg/ages.hpp>
#include <msg/config.hpp>
#include <msg/cuda/memory.cuh>
#include <msg/detail/age_groups.hpp>
#include <msg/error.hpp>
#include <msg/exec/cuda.cuh>
#include <msg/kernels/optimizer.hpp>
#include <msg/optimizer.hpp>
#include <msg/tensor.hpp>

#include <algorithm>
#include <cmath>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

MSG_NAMESPACE_BEGIN

namespace cuda {

namespace detail {

template <class Rule, class Value, class Gradient, class Moment>
inline constexpr bool reads_host_arrays<update_row<Rule, Value, Gradient, Moment>> = true;

/// What all entries of a group are told of a step.
template <class Real>
struct group_now {
  age_factors<Real> age{};
  float mask = 1;
};

/// Row 0: what the next updates are to know.
template <class Rule, class Real>
struct set_ages {
  group_now<Real> groups[msg::detail::most_age_groups];
  update_now<Rule, Real> now;     // with weight decay
  update_now<Rule, Real> spared;  // without
  const std::uint8_t* group;      // (positions): of every position of every special dimension
  age_factors<Real>* age;         // (positions)
  float* mask;                    // (positions)
  const std::uint8_t* run_group;  // (runs)
  update_run<Real>* runs;         // (runs)
  update_now<Rule, Real>* now_to; // (2): now, spared
  index positions;
  index run_count;

  template <class Team>
  MSG_HOST_DEVICE void operator()(const Team& team, index) const {
    team.each(positions, [=, this](index i) {
      age[i] = groups[group[i]].age;
      mask[i] = groups[group[i]].mask;
    });
    team.each(run_count, [=, this](index i) {
      runs[i].age = groups[run_group[i]].age;
      runs[i].mask = groups[run_group[i]].mask;
    });
    if (team.rank() == 0) {
      now_to[0] = now;
      now_to[1] = spared;
    }
  }
};

/// Row 0: a gradient scale that clips to a norm.
template <class Rule, class Real>
struct set_clip {
  update_now<Rule, Real>* now_to;
  const double* squares;
  double limit;
  double gradient_scale;

  template <class Team>
  MSG_HOST_DEVICE void operator()(const Team& team, index) const {
    if (team.rank() != 0) { return; }
    const double factor = gradient_scale * clip_scale(gradient_scale * std::sqrt(*squares), limit);
    for (int i = 0; i < 2; ++i) { now_to[i].rule.gradient_scale = static_cast<Real>(factor); }
  }
};

} // namespace detail

/// Ages of parameters on the GPU, and what an optimizer's next step needs of them. Made after a growth; set() for every
/// step; then update() for every parameter, which a captured graph may hold.
///
/// Options  adamw, sgd or lion
/// Real     accumulate_t of the parameters' element
template <optimizer_options Options, std::floating_point Real = float>
class device_ages {
  using rule = std::remove_const_t<decltype(msg::detail::rule_from<Real>(Options{}, update_step{}))>;
  using now_type = update_now<rule, Real>;

public:
  /// Uploads how the parameters are divided.
  ///
  /// ages  of each parameter, with its shape, at the step of the growth or any later one
  /// Throws error{shape_mismatch, bad_argument, unsupported} (32 groups at most), error{cuda}.
  explicit device_ages(const std::vector<parameter_ages>& ages) : now_(2) {
    msg::detail::age_places<Real> places;
    divided_ = msg::detail::age_groups(ages, places);
    group_ = device_array<std::uint8_t>(places.group);
    age_ = device_array<age_factors<Real>>(group_.size());
    mask_ = device_array<float>(group_.size());
    run_group_ = device_array<std::uint8_t>(places.run_group);
    runs_ = device_array<update_run<Real>>(places.runs);
  }

  /// Factors and masks of a step, in stream order, without waiting. Not to be captured: the numbers would be those of
  /// now.
  ///
  /// now   now.decay counts for the parameters whose update() asks for decay
  /// ages  of each parameter at this step: births as they were, masks as they have become
  /// Throws error{bad_argument, shape_mismatch}, for instance after a growth of which this object does not know.
  void set(const on& stream, const Options& options, const update_step& now, const std::vector<parameter_ages>& ages) {
    std::vector<diagnostic> findings = msg::detail::option_findings(options, now);
    if (ages.size() != divided_.parameters().size()) {
      findings.push_back({.code = errc::shape_mismatch,
                          .expected = std::to_string(divided_.parameters().size()) + " parameters",
                          .found = std::to_string(ages.size())});
    }
    if (!findings.empty()) { throw error(std::move(findings)); }
    detail::set_ages<rule, Real> kernel{};
    const age_factors<Real> oldest = msg::detail::factors_at<Real>(options, now, 0);
    const std::vector<float> masks = divided_.masks_at(now.step, ages);
    for (std::size_t g = 0; g < masks.size(); ++g) {
      kernel.groups[g] = {msg::detail::factors_at<Real>(options, now, divided_.keys()[g].birth), masks[g]};
    }
    update_step spared = now;
    spared.decay = false;
    kernel.now = {msg::detail::rule_from<Real>(options, now), oldest};
    kernel.spared = {msg::detail::rule_from<Real>(options, spared), oldest};
    kernel.group = group_.data();
    kernel.age = age_.data();
    kernel.mask = mask_.data();
    kernel.run_group = run_group_.data();
    kernel.runs = runs_.data();
    kernel.now_to = now_.data();
    kernel.positions = group_.size();
    kernel.run_count = runs_.size();
    stream.run(1, std::max(group_.size(), runs_.size()), kernel);
  }

  /// Clips to a norm that the GPU has found itself: gradients are scaled by gradient_scale, and so that their norm, the
  /// root of *squares, is at most `limit` then (0 or less: no limit). After set(), before update(); may be captured.
  void clip(const on& stream, const double* squares, double limit, double gradient_scale = 1) const {
    stream.run(1, 1, detail::set_clip<rule, Real>{now_.data(), squares, limit, gradient_scale});
  }

  [[nodiscard]] index size() const noexcept { return static_cast<index>(divided_.parameters().size()); }

  /// The update of parameter `which`, for msg::update().
  template <class Value, class Gradient, class Moment>
  void run(const on& stream, index which, bool decay, index size, Value* value, const Gradient* gradient,
           Moment* moment1, Moment* moment2) const {
    const auto& p = divided_.parameters()[static_cast<std::size_t>(which)];
    update_row<rule, Value, Gradient, Moment> kernel;
    kernel.now = now_.data() + (decay ? 0 : 1);
    kernel.value = value;
    kernel.gradient = gradient;
    kernel.moment1 = moment1;
    kernel.moment2 = moment2;
    kernel.size = size;
    kernel.length = p.length;
    kernel.outer_rank = static_cast<index>(p.outer.size());
    for (std::size_t d = 0; d < p.outer.size(); ++d) { kernel.outer[d] = on_device(p.outer[d]); }
    kernel.runs = p.run_count == 0 ? nullptr : runs_.data() + p.first_run;
    kernel.run_count = p.run_count;
    kernel.inner = on_device(p.inner);
    stream.run(p.rows, p.length, detail::device_row<decltype(kernel)>{kernel});
  }

  /// Elements of parameter `which`.
  [[nodiscard]] index size_of(index which) const {
    if (which < 0 || which >= size()) {
      throw error(diagnostic{.code = errc::bad_argument,
                             .expected = "a parameter in [0, " + std::to_string(size()) + ")",
                             .found = std::to_string(which)});
    }
    return divided_.parameters()[static_cast<std::size_t>(which)].size;
  }

private:
  [[nodiscard]] update_dimension<Real> on_device(const msg::detail::age_groups::dimension& d) const {
    if (d.first < 0) { return {d.extent, nullptr, nullptr}; }
    return {d.extent, age_.data() + d.first, mask_.data() + d.first};
  }

  msg::detail::age_groups divided_;
  device_array<std::uint8_t> group_;
  device_array<age_factors<Real>> age_;
  device_array<float> mask_;
  device_array<std::uint8_t> run_group_;
  device_array<update_run<Real>> runs_;
  device_array<now_type> now_;
};

} // namespace cuda

/// One optimizer step of one parameter in device memory, in place: update() of optimizer.hpp, with the same bits, as
/// the last ages.set() said. May be captured: every launch reads anew what set() and clip() left.
///
/// which  the parameter's place in `ages`
/// decay  false: the group without weight decay
template <class Options, class Real, tensor_like Value, tensor_like Gradient, tensor_like... Moments>
  requires(sizeof...(Moments) == Options::moments)
void update(const cuda::on& stream, const cuda::device_ages<Options, Real>& ages, index which, bool decay,
            Value&& value, const Gradient& gradient, Moments&&... moments) {
  static_assert(std::is_same_v<accumulate_t<element_t<Value>>, Real>, "Real is accumulate_t of the values' element");
  const index size = ages.size_of(which);
  using moment = std::common_type_t<element_t<Moments>...>;
  moment* const data[] = {detail::flat(view_of(moments), size, "moments")...};
  ages.run(stream, which, decay, size, detail::flat(view_of(value), size, "value"),
           detail::flat(view_of(gradient), size, "gradient"), data[0], data[Options::moments - 1]);
}

MSG_NAMESPACE_END
