// What the speed-up study trains: from scratch at several rates and shapes, smaller models alone, and models that grow.
#pragma once

#include "transformer/options.hpp"

#include <msg/schedule.hpp>
#include <msg/schedule_presets.hpp>

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <string>
#include <utility>
#include <vector>

namespace study {

using msg::index;

/// One way to train to the final sizes, or to smaller ones.
struct arm {
  std::string name;
  std::string group;
  msg::schedule timeline;
  index steps = 0;
  bool one_seed = false;      // of a sweep: the first alone
  double first_weights = 0.0; // standard deviation, where it is not the target's
};

/// Layers, and the share of a run's time that they have.
using shares = std::vector<std::pair<index, double>>;

/// What all arms share.
struct target {
  reference::program what;
  msg::named_sizes sizes; // at the end
  index head_dim = 0;
  index seq = 0, batch = 0;
  double first_weights = 0;           // standard deviation
  std::vector<double> others;         // of first weights from scratch
  double beta2 = 0, weight_decay = 0; // of AdamW
  index steps = 0;                    // of the final model from scratch
  std::vector<double> rates;          // of the sweep
  msg::learning_rate lr;              // shape of every run; the peak is swept
  double ramp = 0;                    // share of a run's steps
  std::vector<double> parts;          // of the final model's time, of short schedules; operators have the first
  shares shallow;                     // of short schedules, before the final model
  std::string placement = "append";   // of what is fresh in short schedules, up to the last growth
  std::string last_placement = "append";
};

/// Milliseconds of a step at some sizes.
using step_cost = std::function<double(const msg::named_sizes&)>;

inline constexpr const char* sweep_group = "from scratch, rates";
inline constexpr const char* shape_group = "from scratch, shapes and first weights";
inline constexpr const char* control_group = "smaller model alone";
inline constexpr const char* published_group = "published schedule";
inline constexpr const char* short_sweep_group = "short schedule, rates";
inline constexpr const char* short_group = "short schedule";
inline constexpr const char* dimension_group = "one dimension";

/// Whole hundreds, at least one.
[[nodiscard]] inline index rounded(double steps) {
  return std::max<index>(100, static_cast<index>(std::llround(steps / 100)) * 100);
}

[[nodiscard]] inline std::string rate_text(double rate) { return fmt::format("{:g}", rate); }

[[nodiscard]] inline msg::learning_rate with_peak(msg::learning_rate lr, double peak) {
  lr.peak = peak;
  return lr;
}

/// The final model from scratch, at every rate.
[[nodiscard]] inline std::vector<arm> sweep_of(const target& t) {
  std::vector<arm> arms;
  for (const double rate : t.rates) {
    arms.push_back({"rate " + rate_text(rate), sweep_group, {t.sizes, with_peak(t.lr, rate), {}}, t.steps, true});
  }
  return arms;
}

/// The best rate in other shapes, and from other first weights. Growing runs have the shape of the sweep, with no
/// warm-up at a growth, so that nothing of what they gain is the learning rate's.
[[nodiscard]] inline std::vector<arm> shapes_of(const target& t, double rate) {
  const msg::learning_rate lr = with_peak(t.lr, rate);
  msg::learning_rate cosine = lr;
  cosine.policy = msg::rate_policy::cosine;
  cosine.min = rate / 10;
  msg::learning_rate longer = lr;
  longer.decay_fraction = 0.5;
  msg::learning_rate linear = lr;
  linear.policy = msg::rate_policy::linear;
  std::vector<arm> arms{{"cosine", shape_group, {t.sizes, cosine, {}}, t.steps, true},
                        {"decay over half", shape_group, {t.sizes, longer, {}}, t.steps, true},
                        {"linear", shape_group, {t.sizes, linear, {}}, t.steps, true}};
  for (const double deviation : t.others) {
    arms.push_back({fmt::format("first weights N(0, {:g}^2)", deviation),
                    shape_group,
                    {t.sizes, lr, {}},
                    t.steps,
                    true,
                    deviation});
  }
  return arms;
}

/// Every smaller size that a growing run passes through, alone, for the wall time of the final model.
[[nodiscard]] inline std::vector<arm> controls_of(const target& t, double rate, const std::vector<msg::named_sizes>& of,
                                                  const step_cost& cost) {
  std::vector<arm> arms;
  const double time = cost(t.sizes) * static_cast<double>(t.steps);
  for (const msg::named_sizes& sizes : of) {
    std::string name;
    for (const auto& [axis, size] : sizes) {
      if (size != msg::size_of(t.sizes, axis)) { name += fmt::format("{}{} {}", name.empty() ? "" : ", ", axis, size); }
    }
    name += ", rate " + rate_text(rate);
    arms.push_back({name, control_group, {sizes, with_peak(t.lr, rate), {}}, rounded(time / cost(sizes)), true});
  }
  return arms;
}

/// Rule, ramp and learning rate of every growth of an arm of so many steps.
[[nodiscard]] inline msg::stage growth_by(const target& t, const std::string& rule, index steps) {
  msg::stage each;
  each.rule = rule;
  if (rule == "mask") {
    each.ramp = {msg::ramp_shape::linear, static_cast<index>(std::llround(t.ramp * static_cast<double>(steps)))};
  }
  return each;
}

/// Published schedules as they are: for as many steps as the final model from scratch.
[[nodiscard]] inline std::vector<arm> published_of(const target& t, double rate) {
  const msg::preset_options masked{.lr = with_peak(t.lr, rate), .each = growth_by(t, "mask", t.steps)};
  const msg::preset_options stacked{.lr = with_peak(t.lr, rate), .each = growth_by(t, "stack", t.steps)};
  msg::preset_options linear = masked; // as released: its last growth is late, in what would be wsd's decay
  linear.lr.policy = msg::rate_policy::linear;
  return {{"even-split", published_group, msg::even_split(t.sizes, linear, 0.5), t.steps},
          {"compound", published_group, msg::compound(t.sizes, 2, 0.5, masked), t.steps},
          {"depth-stack", published_group, msg::depth_stack(t.sizes, 0.25, 3, stacked), t.steps},
          {"one-layer, mask", published_group, msg::one_layer(t.sizes, 0.7, masked), t.steps},
          {"one-layer, stack", published_group, msg::one_layer(t.sizes, 0.7, stacked), t.steps}};
}

/// A part of a run's time at some sizes.
struct stretch {
  msg::named_sizes sizes;
  double share;
  std::string placement = "append"; // of what is fresh in it
};

/// Share of the steps of a run in which the rate decays, at most: that of the longest shape from scratch.
inline constexpr double most_decay = 0.5;

/// A run of given total time, as stretches of constant sizes. The rate decays over the last of them, or its end: growth
/// belongs in the stable phase (Bu 2025, Deep Progressive Training).
[[nodiscard]] inline arm timed_arm(const target& t, double rate, std::string name, const std::string& rule,
                                   double milliseconds, const std::vector<stretch>& stretches, const step_cost& cost) {
  arm result{std::move(name), short_group, {stretches.front().sizes, with_peak(t.lr, rate), {}}, 0};
  const auto steps_of = [&](const stretch& s) { return rounded(milliseconds * s.share / cost(s.sizes)); };
  for (const stretch& s : stretches) { result.steps += steps_of(s); }
  index at = 0;
  for (std::size_t s = 1; s < stretches.size(); ++s) {
    at += steps_of(stretches[s - 1]);
    msg::stage growth = growth_by(t, rule, result.steps);
    growth.at = {msg::trigger_kind::step, static_cast<double>(at)};
    growth.placement = stretches[s].placement;
    for (const auto& [axis, size] : stretches[s].sizes) {
      if (size != msg::size_of(stretches[s - 1].sizes, axis)) { growth.grow.emplace_back(axis, size); }
    }
    result.timeline.stages.push_back(growth);
  }
  result.timeline.lr.decay_fraction =
      std::min(most_decay, static_cast<double>(result.steps - at - 1) / static_cast<double>(result.steps));
  return result;
}

/// Each dimension alone, from a quarter, a half and three quarters of its final size, grown halfway: Yao et al. 2024,
/// Masked Structural Growth, sec. 4 (how schedules are chosen).
[[nodiscard]] inline std::vector<arm> dimensions_of(const target& t, double rate) {
  std::vector<arm> arms;
  for (const auto& [axis, full] : t.sizes) {
    index before = 0;
    for (const double part : {0.25, 0.5, 0.75}) {
      const index size = msg::detail::part_of(full, part);
      if (size == full || size == before) { continue; }
      before = size;
      msg::schedule timeline{msg::sizes_with(t.sizes, {{axis, size}}), with_peak(t.lr, rate), {}};
      msg::stage growth = growth_by(t, "mask", t.steps);
      growth.at = {msg::trigger_kind::fraction, 0.5};
      growth.grow = {{axis, full}};
      timeline.stages.push_back(growth);
      arms.push_back({fmt::format("{} from {}", axis, size), dimension_group, timeline, t.steps});
    }
  }
  return arms;
}

} // namespace study
