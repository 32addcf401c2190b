// Learning-rate policies of a run that grows: a pure function of the step and of the growths so far.
#pragma once

#include <msg/config.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <numbers>
#include <span>
#include <string_view>

MSG_NAMESPACE_BEGIN

// The words of schedule.json, in the order of the enumerators.
enum class rate_policy { cosine, linear, wsd, constant };
inline constexpr std::array<std::string_view, 4> rate_policy_names{"cosine", "linear", "wsd", "constant"};
enum class rate_change { none, rewind, rewarm };
inline constexpr std::array<std::string_view, 3> rate_change_names{"none", "rewind", "rewarm"};

struct learning_rate {
  rate_policy policy = rate_policy::cosine;
  double peak = 1e-3;
  double min = 1e-4;
  index warmup_steps = 0;
  double decay_fraction = 0.2; // wsd: the last part of the run, in which the rate decays
};

/// What a growth does to the learning rate.
struct rate_at_growth {
  rate_change change = rate_change::none;
  index steps = 0;  // length of the warm-up that follows
  double fresh = 1; // factor of fresh entries at the growth; fades to 1 as the ramp does (see fresh_rates())
};

/// A growth as the learning rate sees it; at_step is the step before whose forward it happened.
struct rate_event {
  index at_step = 0;
  rate_at_growth lr{};
};

/// The first step of wsd's decay, (1 - decay_fraction) * total, as long as no rewind puts it off.
[[nodiscard]] inline double decay_begin(const learning_rate& lr, index total) noexcept {
  return (1 - lr.decay_fraction) * static_cast<double>(total);
}

/// Learning rate of the update of one step. Nothing of it needs to be stored, and a growth step runs at its new rate.
///
///   rate    = warm-up * (min + (peak - min) * shape(p)),   p = (step - start) / (total - start), within [0, 1]
///   shape   = cosine: (1 + cos(pi p)) / 2     linear, wsd: 1 - p     constant: 1
///   start   = the latest of: end of the first warm-up, the last `rewind`, wsd: (1 - decay_fraction) * total
///   warm-up = the least of (step + 1) / warmup_steps, (step - at_step + 1) / its steps, and 1
///
/// A growth with `none` changes nothing; `rewind` starts the decay anew at the peak, to end with the run; `rewarm`
/// keeps the policy's rate. The last two are followed by a linear warm-up of `steps` steps (0: at once).
/// total    steps of the run; step `total`, the first that isn't run, would have the rate `min`
/// events   growths of the run in any order; those after `step` count for nothing
/// Source: method.md 6; Yao et al. 2024 (rewind); Li et al. 2023, FLM-101B (rewarm); Hu et al. 2024, MiniCPM (wsd).
[[nodiscard]] inline double learning_rate_at(const learning_rate& lr, index step, index total,
                                             std::span<const rate_event> events = {}) {
  const auto part = [](index done, index steps) {
    return done >= steps ? 1.0 : static_cast<double>(done) / static_cast<double>(steps);
  };
  double warm_up = part(step + 1, lr.warmup_steps);
  auto start = static_cast<double>(lr.warmup_steps);
  for (const rate_event& event : events) {
    if (event.at_step > step || event.lr.change == rate_change::none) { continue; }
    warm_up = std::min(warm_up, part(step - event.at_step + 1, event.lr.steps));
    if (event.lr.change == rate_change::rewind) { start = std::max(start, static_cast<double>(event.at_step)); }
  }
  const auto end = static_cast<double>(total);
  if (lr.policy == rate_policy::wsd) { start = std::max(start, decay_begin(lr, total)); }
  const auto now = static_cast<double>(step);
  const double p = now <= start ? 0 : now >= end ? 1 : (now - start) / (end - start);
  double shape = 1;
  if (lr.policy == rate_policy::cosine) { shape = (1 + std::cos(std::numbers::pi * p)) / 2; }
  if (lr.policy == rate_policy::linear || lr.policy == rate_policy::wsd) { shape = 1 - p; }
  return warm_up * (lr.min + (lr.peak - lr.min) * shape);
}

MSG_NAMESPACE_END
