// When a growth happens: told beforehand by the length of the run, or decided from what training shows.
#pragma once

#include <msg/config.hpp>
#include <msg/error.hpp>

#include <array>
#include <cstddef>
#include <string>
#include <string_view>

MSG_NAMESPACE_BEGIN

// The words of schedule.json, in the order of the enumerators.
enum class trigger_kind { step, tokens, fraction, seconds, loss, slope, plateau, probe };
inline constexpr std::array<std::string_view, 8> trigger_names{"step", "tokens", "fraction", "seconds",
                                                               "loss", "slope",  "plateau",  "probe"};
enum class loss_source { training, validation };
inline constexpr std::array<std::string_view, 2> loss_source_names{"training", "validation"};

/// When a stage begins. `value` is
///
///   step, tokens, fraction   an optimizer step, tokens consumed, a part of the run: known beforehand
///   seconds                  seconds of training
///   loss                     a loss: the stage begins once the mean of the window is at or below it
///   slope                    a factor: once the loss falls less per FLOP than factor times what the grown model does
///   plateau                  a relative improvement: once the second half of the window gains less over the first
///   probe                    a step: from then on candidates are tried, and the best begins (see decide())
///
/// The last five are decided by decide(), from observations that every rank has alike; they begin after the stage
/// before them, never before step not_before, and at step not_after in any case, if it isn't 0.
struct trigger {
  trigger_kind kind = trigger_kind::step;
  double value = 0;                       // steps and tokens are exact up to 2^53
  loss_source of = loss_source::training; // loss, slope, plateau
  index window = 0;                       // steps they look back; probe: steps of one trial
  index every = 0;                        // probe: steps until the next trials where staying as it is wins; 0: it can't
  index not_before = 0;
  index not_after = 0;
  bool fired = false; // step: another trigger fired there in a run that this one repeats
};

/// Whether the trigger is decided from what training shows.
[[nodiscard]] constexpr bool observed(const trigger& at) noexcept { return at.kind > trigger_kind::fraction; }

/// Length of a run in optimizer steps, and the tokens one step consumes; 0 where it is not known.
struct run_extent {
  index steps = 0;
  index tokens_per_step = 0;
};

namespace detail {
/// Whether a trigger's step can be told.
[[nodiscard]] constexpr bool resolvable(const trigger& at, const run_extent& run) noexcept {
  if (observed(at)) { return false; }
  return at.kind == trigger_kind::tokens ? run.tokens_per_step > 0 : at.kind == trigger_kind::step || run.steps > 0;
}
} // namespace detail

/// The step before whose forward a stage grows the model, optimizer steps counted from 0:
///
///   step       that step
///   tokens     the first step s that begins with s * tokens_per_step >= value tokens consumed
///   fraction   the first step s with s / steps >= value, compared in double (0.07 of 100 steps is step 7)
///
/// Throws error{bad_argument} if the trigger needs a length that `run` doesn't know, or training itself.
[[nodiscard]] inline index step_of(const trigger& at, const run_extent& run) {
  if (!detail::resolvable(at, run)) {
    throw error{diagnostic{.code = errc::bad_argument,
                           .expected = observed(at) ? "a trigger that is known beforehand" : "a run of known length",
                           .hint = std::string{trigger_names[static_cast<std::size_t>(at.kind)]} + " trigger"}};
  }
  if (at.kind == trigger_kind::step) { return static_cast<index>(at.value); }
  if (at.kind == trigger_kind::tokens) {
    const auto tokens = static_cast<index>(at.value);
    return tokens / run.tokens_per_step + (tokens % run.tokens_per_step != 0 ? 1 : 0);
  }
  const auto steps = static_cast<double>(run.steps);
  auto step = static_cast<index>(at.value * steps);
  while (static_cast<double>(step) / steps < at.value) { ++step; }
  return step;
}

MSG_NAMESPACE_END
