// The schedule of a resumed run, as far as it has come: restored from a checkpoint and checked against it.
#pragma once

#include "transformer/checkpoint.hpp"
#include "transformer/errors.hpp"
#include "transformer/grow_model.hpp"
#include "transformer/run_setup.hpp"

#include <msg/schedule_state.hpp>

#include <fmt/format.h>

#include <algorithm>
#include <cstddef>
#include <filesystem>
#include <string>
#include <vector>

namespace reference {

/// Sizes after so many stages, with the constants of a model that is trained from scratch.
[[nodiscard]] inline config sizes_after_stages(const config& start, const msg::schedule& timeline, std::size_t stages) {
  config sizes = start;
  for (std::size_t s = 0; s < stages; ++s) { sizes = after_stage(sizes, timeline.stages[s]); }
  sizes.norm_eps = start.norm_eps;
  return sizes;
}

namespace detail {

/// What decisions say that the rest of the checkpoint doesn't; empty if they agree.
[[nodiscard]] inline std::string contradiction_of(const config& start, const msg::schedule_state& state,
                                                  const checkpoint_documents& documents) {
  const index now = documents.state.step;
  const std::vector<index> steps = state.steps();
  for (const msg::decision& d : state.log()) {
    if (d.step > now) { return fmt::format("decisions: expected none after step {}, found step {}", now, d.step); }
  }
  const std::vector<msg::growth_record>& log = documents.growths;
  for (const index step : steps) {
    if (std::none_of(log.begin(), log.end(), [&](const msg::growth_record& g) { return g.at_step == step; })) {
      return fmt::format("decisions: expected a growth at step {}, found none in growth.json", step);
    }
  }
  for (const msg::growth_record& g : log) {
    if (std::find(steps.begin(), steps.end(), g.at_step) == steps.end()) {
      return fmt::format("decisions: expected one that grew {} at step {}, found none", g.axis, g.at_step);
    }
  }
  const config expected = sizes_after_stages(start, state.resolved(), steps.size());
  for (const auto& [axis, member] : config_axes) {
    const index found = size_on(documents.config.sizes, axis);
    if (size_on(expected, axis) != found) {
      return fmt::format("decisions: expected {} {}, as they say, found {} in config.json", axis,
                         size_on(expected, axis), found);
    }
  }
  return {};
}

} // namespace detail

/// Throws input_error in one line for decisions that contradict what was seen, the growths of the checkpoint, or its
/// sizes.
[[nodiscard]] inline msg::schedule_state restored_schedule(const run_setup& setup, const std::filesystem::path& folder,
                                                           const checkpoint_documents& documents) {
  const std::string file = (folder / "trainer_state.json").string() + ": ";
  try {
    msg::schedule_state state(setup.timeline, detail::extent_of(setup.settings), documents.state.seen,
                              documents.state.log);
    const std::string wrong = detail::contradiction_of(setup.start, state, documents);
    if (!wrong.empty()) { throw input_error(file + wrong); }
    return state;
  } catch (const msg::error& failure) { throw input_error(file + one_line(failure.findings())); }
}

} // namespace reference
