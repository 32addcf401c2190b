// How a mask goes from 0 to 1 after a growth.
#pragma once

#include <msg/config.hpp>
#include <msg/random.hpp>

#include <array>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

MSG_NAMESPACE_BEGIN

enum class ramp_shape { linear, cosine, step };
inline constexpr std::array<std::string_view, 3> ramp_shape_names{"linear", "cosine", "step"}; // of schedule.json

/// The value c of fresh units, from the number of optimizer steps since the growth (not micro-batches; recomputed,
/// never accumulated): 0 at the growth, 1 from `steps` on, and in between, with t = elapsed / steps,
///
///   linear  t          cosine  (1 - cos(pi t)) / 2, the same bits on every machine          step  0
///
/// steps = 0 is 1 at once.
struct ramp {
  ramp_shape shape = ramp_shape::linear;
  index steps = 0;

  [[nodiscard]] double operator()(index elapsed) const noexcept {
    if (elapsed < 0) { return 0; }
    if (elapsed >= steps) { return 1; }
    const double t = static_cast<double>(elapsed) / static_cast<double>(steps);
    switch (shape) {
      case ramp_shape::linear: return t;
      case ramp_shape::cosine: {
        const double sine = detail::sine_of_quarter(t); // (1 - cos(pi t)) / 2 = sin(pi t / 2)^2
        return sine * sine;
      }
      case ramp_shape::step: break;
    }
    return 0;
  }
};

/// Ramps by axis name: the dimensions of one growth may ramp at their own pace, and overlap those of other growths.
using named_ramps = std::vector<std::pair<std::string, ramp>>;

/// The ramp of an axis: its own, or the one of all others.
[[nodiscard]] inline ramp ramp_of(const named_ramps& ramps, std::string_view axis, const ramp& otherwise) {
  for (const auto& [name, own] : ramps) {
    if (name == axis) { return own; }
  }
  return otherwise;
}

// The shapes by name: msg::linear_ramp{.steps = 1000}(step - grown_at), or wherever a ramp is wanted.
struct linear_ramp {
  index steps = 0;
  [[nodiscard]] operator ramp() const noexcept { return {ramp_shape::linear, steps}; }
  [[nodiscard]] double operator()(index elapsed) const noexcept { return ramp(*this)(elapsed); }
};
struct cosine_ramp {
  index steps = 0;
  [[nodiscard]] operator ramp() const noexcept { return {ramp_shape::cosine, steps}; }
  [[nodiscard]] double operator()(index elapsed) const noexcept { return ramp(*this)(elapsed); }
};
struct step_ramp {
  index steps = 0;
  [[nodiscard]] operator ramp() const noexcept { return {ramp_shape::step, steps}; }
  [[nodiscard]] double operator()(index elapsed) const noexcept { return ramp(*this)(elapsed); }
};

MSG_NAMESPACE_END
