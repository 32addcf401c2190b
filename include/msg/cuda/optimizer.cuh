// Optimizer updates on the GPU: ages that are uploaded once after a growth, their factors set anew for every step in
// stream order, clipping without waiting for the GPU.
#pragma once

#include <msg/ages.hpp>
#include <msg/config.hpp>
#include <msg/cuda/memory.cuh>
#include <msg/detail/update_layout.hpp>
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

inline constexpr std::size_t most_age_groups = 32;

/// Entries that came to be together and are equally awake are a group; all of a group changes together.
template <class Real>
struct age_group {
  age_factors<Real> age{};
  float mask = 1;
};

/// Row 0: what the next updates are to know.
template <class Rule, class Real>
struct set_ages {
  age_group<Real> groups[most_age_groups];
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
  explicit device_ages(std::vector<parameter_ages> ages) : now_(2) {
    std::vector<std::uint8_t> groups;
    std::vector<std::uint8_t> run_groups;
    std::vector<update_run<Real>> runs;
    for (parameter_ages& a : ages) { add(std::move(a), groups, runs, run_groups); }
    group_ = device_array<std::uint8_t>(groups);
    age_ = device_array<age_factors<Real>>(group_.size());
    mask_ = device_array<float>(group_.size());
    run_group_ = device_array<std::uint8_t>(run_groups);
    runs_ = device_array<update_run<Real>>(runs);
  }

  /// Factors and masks of a step, in stream order, without waiting. Not to be captured: the numbers would be those of
  /// now.
  ///
  /// now   now.decay counts for the parameters whose update() asks for decay
  /// ages  of each parameter at this step: births as they were, masks as they have become
  /// Throws error{bad_argument, shape_mismatch}, for instance after a growth of which this object does not know.
  void set(const on& stream, const Options& options, const update_step& now, const std::vector<parameter_ages>& ages) {
    std::vector<diagnostic> findings = msg::detail::option_findings(options, now);
    if (ages.size() != parameters_.size()) {
      findings.push_back({.code = errc::shape_mismatch,
                          .expected = std::to_string(parameters_.size()) + " parameters",
                          .found = std::to_string(ages.size())});
    }
    if (!findings.empty()) { throw error(std::move(findings)); }
    detail::set_ages<rule, Real> kernel{};
    const age_factors<Real> oldest = msg::detail::factors_at<Real>(options, now, 0);
    std::vector<key> found(keys_.size(), key{-1, 1});
    for (std::size_t p = 0; p < ages.size(); ++p) { compare(parameters_[p], ages[p], now.step, found); }
    for (std::size_t g = 0; g < keys_.size(); ++g) {
      kernel.groups[g] = {msg::detail::factors_at<Real>(options, now, keys_[g].birth), found[g].mask};
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

  [[nodiscard]] index size() const noexcept { return static_cast<index>(parameters_.size()); }

  /// The update of parameter `which`, for msg::update().
  template <class Value, class Gradient, class Moment>
  void run(const on& stream, index which, bool decay, index size, Value* value, const Gradient* gradient,
           Moment* moment1, Moment* moment2) const {
    const placed& p = parameters_[static_cast<std::size_t>(which)];
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
    return parameters_[static_cast<std::size_t>(which)].size;
  }

private:
  /// What tells groups apart.
  struct key {
    index birth = 0;
    float mask = 1;
    bool operator==(const key&) const = default;
  };
  struct placed_dimension {
    index extent = 1;
    index first = -1; // in group_; -1: nothing special
    index at = 0;     // which dimension of the parameter
  };
  struct placed {
    std::vector<index> shape{};
    index size = 1;
    index rows = 0;
    index length = 0;
    std::vector<placed_dimension> outer{};
    placed_dimension inner{};
    index first_run = 0;
    index run_count = 0;
    std::vector<std::vector<std::uint8_t>> group{}; // by dimension, of every position; empty: nothing special
  };

  [[nodiscard]] update_dimension<Real> on_device(const placed_dimension& d) const {
    if (d.first < 0) { return {d.extent, nullptr, nullptr}; }
    return {d.extent, age_.data() + d.first, mask_.data() + d.first};
  }
  static key key_at(const parameter_ages& a, std::size_t d, std::size_t position) {
    key result;
    if (d < a.birth.size() && !a.birth[d].empty()) { result.birth = a.birth[d][position]; }
    if (d < a.mask.size() && !a.mask[d].empty()) { result.mask = a.mask[d][position]; }
    return result;
  }

  void add(parameter_ages a, std::vector<std::uint8_t>& groups, std::vector<update_run<Real>>& runs,
           std::vector<std::uint8_t>& run_groups) {
    placed p;
    p.shape = a.shape;
    for (const index extent : p.shape) { p.size *= extent; }
    index latest = 0;
    for (const auto& births : a.birth) {
      for (const index birth : births) { latest = std::max(latest, birth); }
    }
    std::vector<diagnostic> findings = msg::detail::age_findings(a, p.shape, p.size, latest);
    if (!findings.empty()) { throw error(std::move(findings)); }
    // Every birth counts as different here, whatever its factors will be.
    const auto layout = msg::detail::layout_of<Real>(a, p.shape, p.size, [&](index birth) {
      const auto known = std::find(births_.begin(), births_.end(), birth);
      const auto code = static_cast<Real>(known - births_.begin());
      if (known == births_.end()) { births_.push_back(birth); }
      return age_factors<Real>{code, code};
    });
    p.rows = layout.rows;
    p.length = layout.length;
    p.group.resize(p.shape.size());
    const auto place = [&](std::size_t d, const update_dimension<Real>& special) {
      placed_dimension result{special.extent, -1, static_cast<index>(d)};
      if (special.age == nullptr && special.mask == nullptr) { return result; }
      result.first = static_cast<index>(groups.size());
      for (index i = 0; i < special.extent; ++i) {
        p.group[d].push_back(group_of(key_at(a, d, static_cast<std::size_t>(i))));
      }
      groups.insert(groups.end(), p.group[d].begin(), p.group[d].end());
      return result;
    };
    for (std::size_t d = 0; d < layout.outer.size(); ++d) { p.outer.push_back(place(d, layout.outer[d])); }
    const std::size_t last = p.shape.empty() ? 0 : p.shape.size() - 1;
    if (layout.inner.age != nullptr) { p.inner = place(last, layout.inner); }
    p.first_run = static_cast<index>(runs.size());
    p.run_count = static_cast<index>(layout.runs.size());
    for (const update_run<Real>& r : layout.runs) {
      const std::uint8_t group = group_of(key_at(a, last, static_cast<std::size_t>(r.begin)));
      runs.push_back(r);
      run_groups.push_back(group);
      p.group[last].insert(p.group[last].end(), static_cast<std::size_t>(r.length), group);
    }
    parameters_.push_back(std::move(p));
  }

  std::uint8_t group_of(const key& k) {
    const auto found = std::find(keys_.begin(), keys_.end(), k);
    if (found != keys_.end()) { return static_cast<std::uint8_t>(found - keys_.begin()); }
    if (keys_.size() == detail::most_age_groups) {
      throw error(diagnostic{.code = errc::unsupported,
                             .expected = "at most " + std::to_string(detail::most_age_groups) +
                                         " different pairs of birth and mask",
                             .found = "more",
                             .hint = "give old entries one birth: bias correction forgets births after some steps"});
    }
    keys_.push_back(k);
    return static_cast<std::uint8_t>(keys_.size() - 1);
  }

  // Births are as they were, groups are still groups; notes their masks.
  void compare(const placed& p, const parameter_ages& a, index step, std::vector<key>& found) const {
    std::vector<diagnostic> findings = msg::detail::age_findings(a, a.shape, p.size, step);
    if (findings.empty() && a.shape != p.shape) {
      findings.push_back({.code = errc::shape_mismatch, .expected = "the shape of before", .found = "another"});
    }
    for (std::size_t d = 0; d < p.shape.size() && findings.empty(); ++d) {
      const index extent = p.shape[d];
      for (index i = 0; i < extent && findings.empty(); ++i) {
        const key k = key_at(a, d, static_cast<std::size_t>(i));
        if (p.group[d].empty()) {
          if (k == key{}) { continue; }
        } else {
          const std::size_t group = p.group[d][static_cast<std::size_t>(i)];
          const bool first = found[group].birth < 0;
          if (first) { found[group] = k; }
          if (k.birth == keys_[group].birth && k.mask == found[group].mask) { continue; }
        }
        findings.push_back({.code = errc::bad_argument,
                            .dimension = static_cast<index>(d),
                            .expected = "births of before, and one mask for each group",
                            .found = "birth " + std::to_string(k.birth) + ", mask " + std::to_string(k.mask) +
                                     " at position " + std::to_string(i),
                            .hint = "after a growth make new device_ages"});
      }
    }
    if (!findings.empty()) { throw error(std::move(findings)); }
  }

  std::vector<placed> parameters_;
  std::vector<key> keys_;     // of the groups
  std::vector<index> births_; // seen so far
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
