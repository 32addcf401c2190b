// What a search for a schedule chooses from, what it probes, and how a proposal becomes a schedule.
#pragma once

#include "transformer/loss_probes.hpp"
#include "transformer/run_setup.hpp"

#include <msg/growth_pace.hpp>
#include <msg/propose.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <initializer_list>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace reference {

inline constexpr index curve_points = 12; // losses of the final sizes, with which those after a growth are compared
inline constexpr index least_growth_steps = 90; // before a growth that tells something: at first all models learn alike

namespace detail {

/// A part of a size as a size: to whole multiples of a number that suits it.
[[nodiscard]] inline index rounded_part(index size, double part, index multiple) {
  const auto times = static_cast<index>(std::llround(static_cast<double>(size) * part / static_cast<double>(multiple)));
  return std::max(index{1}, times) * multiple;
}

/// Sizes of the final model, without those that follow from others.
[[nodiscard]] inline msg::named_sizes searched_sizes_of(const run_setup& setup) {
  msg::named_sizes sizes;
  for (const auto& [axis, size] : setup.timeline.start) {
    if (axis != "kv_heads") { sizes.emplace_back(axis, size); }
  }
  return sizes;
}

/// Whether fresh layers are blended with what passes them by. There copies belong beside their sources, and ramps are
/// short: layers appended to what has learnt alone read streams in which its norms left little of the tokens, and under
/// a long ramp the others come to lean on what passes by (BERT, L6 C16: 1.94 nats by these, 2.02 by the usual).
[[nodiscard]] constexpr bool post_norm(const config& c) noexcept {
  return features_of(c.arch).position == msg::norm_position::post;
}

/// The sizes a run may have on its way: two smaller ones of each width, those of MSG's and compound schedules; and one
/// layer, a third and a half of them. Post-norm layers that learnt alone for some time leave those grown beside them
/// little to read: half of them is the least (BERT, L6 C16, 400 s: 1, 2, 3, 6 layers 1.964 nats, in 245 s, 3, 6 1.788
/// in 292 s).
[[nodiscard]] inline msg::detail::size_choices smaller_sizes(const config& full) {
  msg::detail::size_choices choices;
  const auto add = [&](const char* axis, index size, index multiple, std::initializer_list<double> parts) {
    std::vector<index> some;
    for (const double part : parts) {
      const index smaller = rounded_part(size, part, multiple);
      if (smaller < size && (some.empty() || smaller > some.back())) { some.push_back(smaller); }
    }
    if (!some.empty()) { choices.emplace_back(axis, std::move(some)); }
  };
  const auto round = [](index size) { return size >= 128 ? index{32} : size >= 32 ? index{8} : index{1}; };
  add("hidden", full.hidden, round(full.hidden), {0.5, 2.0 / 3});
  add("ffn", full.ffn, round(full.ffn), {0.25, 0.5});
  add("heads", full.heads, full.heads / kv_heads_of(full), {1.0 / 3, 2.0 / 3}); // groups of queries stay whole
  if (post_norm(full)) {
    add("layers", full.layers, 1, {0.5});
  } else {
    add("layers", full.layers, 1, {0, 1.0 / 3, 0.5});
  }
  return choices;
}

/// What of a smaller model's tokens counts for one twice as large: nearly all of a shallower one's (Bu 2025, Deep
/// Progressive Training), little of a narrower one's, as benchmarks/run.sh dynamics has it, too: growing depth after
/// half of the tokens loses nothing to the final model from the start, growing width does.
[[nodiscard]] inline std::vector<std::pair<std::string, double>> carried_tokens(const run_setup& setup) {
  std::vector<std::pair<std::string, double>> carried;
  for (const auto& [axis, size] : searched_sizes_of(setup)) {
    carried.emplace_back(axis, axis == "layers" ? 0.9 : 0.3);
  }
  return carried;
}

/// Sizes that are timed and probed: the smallest, the middle, the final ones, and those that are only deep or only
/// wide. The final ones come last.
[[nodiscard]] inline std::vector<msg::named_sizes> sizes_to_probe(const msg::named_sizes& full,
                                                                  const msg::detail::size_choices& choices) {
  const auto at = [&](bool middle, bool deep, bool wide) {
    msg::named_sizes sizes = full;
    for (auto& [axis, size] : sizes) {
      const auto* some = msg::detail::find_named(choices, axis);
      if (some == nullptr || (axis == "layers" ? deep : wide)) { continue; }
      size = middle ? some->back() : some->front();
    }
    return sizes;
  };
  std::vector<msg::named_sizes> all;
  for (msg::named_sizes sizes :
       {at(false, false, false), at(true, false, false), at(false, true, false), at(false, false, true), full}) {
    if (std::find(all.begin(), all.end(), sizes) == all.end()) { all.push_back(std::move(sizes)); }
  }
  return all;
}

/// What growths of proposals and their learning rate are like: those of the default schedule, the rate constant up to a
/// decay to nothing at the end, so that growths happen while it is high.
[[nodiscard]] inline msg::schedule proposal_base(const run_setup& setup) {
  msg::schedule base;
  base.lr = setup.timeline.lr;
  base.lr.policy = msg::rate_policy::wsd;
  base.lr.min = 0;
  msg::stage growth;
  if (!setup.settings.rule.empty()) { growth.rule = setup.settings.rule; }
  growth.layers = post_norm(setup.end) ? msg::layer_source::interleave : msg::layer_source::stack;
  growth.lr = {.change = msg::rate_change::rewarm, .steps = 30};
  base.stages = {growth};
  return base;
}

/// A proposal as a run has it. By its length: warm-up and rewarming take at most 5 % of the steps each, ramps 10 % (2 %
/// under post-norm), no ramp more than half of the stretch it begins; the rate decays over all that comes after the
/// last growth. Key-value heads follow the heads.
[[nodiscard]] inline msg::schedule finished(msg::schedule timeline, const msg::run_extent& run, const config& full) {
  const std::vector<index> steps = msg::stage_steps(timeline, run);
  const index part = std::max(index{1}, run.steps / 20);
  timeline.lr.warmup_steps = std::min(timeline.lr.warmup_steps, part);
  const bool groups = kv_heads_of(full) != full.heads;
  const auto follow = [&](msg::named_sizes& sizes) {
    const index heads = msg::size_of(sizes, "heads");
    if (groups && heads > 0) { sizes.emplace_back("kv_heads", heads * kv_heads_of(full) / full.heads); }
  };
  follow(timeline.start);
  for (std::size_t s = 0; s < steps.size(); ++s) {
    msg::stage& stage = timeline.stages[s];
    const index end = s + 1 < steps.size() ? steps[s + 1] : run.steps;
    const index ramp = run.steps / (post_norm(full) ? 50 : 10);
    stage.ramp.steps = std::min(std::max(index{1}, ramp), (end - steps[s]) / 2);
    stage.lr.steps = std::max(index{1}, std::min(stage.lr.steps, part));
    follow(stage.grow);
  }
  timeline.lr.decay_fraction = 0.5;
  if (!steps.empty()) {
    timeline.lr.decay_fraction = static_cast<double>(run.steps - steps.back() - 1) / static_cast<double>(run.steps);
  }
  return timeline;
}

/// 0: there are none to choose from.
[[nodiscard]] inline index fewest_layers(const msg::detail::size_choices& choices) {
  const auto* layers = msg::detail::find_named(choices, "layers");
  return layers == nullptr ? 0 : layers->front();
}

/// Whether a probe tells what growing layers costs: of more than a doubling. One costs less than probes differ by
/// chance: BERT leaves its first plateau now earlier, now later, and 3 to 6 layers told 0.67 where growing was worth
/// it, nothing where it was not.
[[nodiscard]] inline bool probes_growth(const msg::detail::size_choices& choices, const config& full) {
  const index fewest = fewest_layers(choices);
  return fewest > 0 && 2 * fewest < full.layers;
}

/// A probe that grows from the fewest layers to all: after a quarter of the steps that a probe of the final sizes has,
/// and for three quarters. Nothing where probes_growth() says no, or of too few steps.
[[nodiscard]] inline std::optional<loss_probe> growth_probe(const msg::proposal_request& wanted, const config& full,
                                                            index final_steps) {
  const index part = final_steps / curve_points;
  const index before = part * curve_points / 4;
  if (!probes_growth(wanted.choices, full) || before < least_growth_steps) { return std::nullopt; }
  const msg::run_extent run{part * curve_points, wanted.tokens_per_step};
  msg::schedule timeline = wanted.base;
  timeline.start = msg::sizes_with(wanted.sizes, {{"layers", fewest_layers(wanted.choices)}});
  msg::stage& growth = timeline.stages.front();
  growth.at = {msg::trigger_kind::step, static_cast<double>(before)};
  growth.grow = {{"layers", msg::size_of(wanted.sizes, "layers")}};
  timeline = finished(std::move(timeline), run, full);
  return loss_probe{.sizes = std::move(timeline.start),
                    .steps = run.steps,
                    .points = curve_points,
                    .stages = std::move(timeline.stages)};
}

/// What a token counts for after the layers have doubled, as far as the first weights tell: all of it where they are
/// small for the width, which a deep model is slow to leave; less where they suit it, and a deep model learns from the
/// first step. GPT, L12 C16 from N(0, 0.2^2): 0.9 after 6 to 12 layers. BERT, L6 C16, two fifths of the final model's
/// time: 3 to 6 layers are level with it from N(0, 0.1^2), ahead of it from N(0, 0.02^2).
[[nodiscard]] inline double usual_pace(const config& full) {
  constexpr double small = 0.3, price = 0.1; // half of what suits the width, by --init-std
  return full.initializer_range * std::sqrt(static_cast<double>(full.hidden)) < small ? 1 : 1 - price;
}

/// What a probed growth says of the pace after growths, by each doubling of the layers: for what a short curve shows of
/// all doublings together, long ones show of each. GPT, L12 C16 from N(0, 0.2^2), 1 to 12 layers: 0.73 to 0.91, and
/// once in 16 seeds 0.98, in probes of 400 and 520 steps; in runs of 12,000 a token after the growth counts for 0.4
/// (from 3 layers) and 0.9 (from 6). A price as small as that of runs that gain by growth in the end (from N(0,
/// 0.02^2): 0.92 to 1.16) is none, and so is one told by a model that doesn't learn yet.
[[nodiscard]] inline double pace_of_doubling(std::span<const msg::loss_point> alone,
                                             std::span<const msg::loss_point> grown) {
  constexpr double least_learnt = 0.01, lost_by_chance = 0.09, least = 0.25;
  if (!(alone.back().loss < (1 - least_learnt) * alone[alone.size() / 2].loss)) { return 1; }
  const double pace = msg::growth_pace(alone, grown.last(std::min<std::size_t>(curve_points / 3, grown.size())));
  return pace > 1 - lost_by_chance ? 1 : std::max(least, pace);
}

/// The final model from the start becomes the first proposal where growth has a price and promises no more than the
/// fit may be off by: then that price is all that was measured. Proposals are in their order, and it is among them.
/// Returns a line about it, if there is something to tell.
[[nodiscard]] inline std::string weigh_alone(std::vector<msg::proposal>& proposals, double error, bool growth_costs) {
  const auto alone = std::find_if(proposals.begin(), proposals.end(),
                                  [](const msg::proposal& p) { return p.timeline.stages.empty(); });
  if (alone == proposals.begin() || alone->loss - proposals.front().loss >= error * proposals.front().loss) {
    return {};
  }
  if (!growth_costs) { return "          the final model from the start is no worse within the fit's error\n"; }
  std::rotate(proposals.begin(), alone, alone + 1);
  return "          growth costs, and promises less than the fit's error: the final model from the start comes first\n";
}

} // namespace detail

} // namespace reference
