// The best schedule for a budget: searched, not guessed, among every path from small sizes to the final ones.
#pragma once

#include <msg/config.hpp>
#include <msg/cost.hpp>
#include <msg/detail/schedule_search.hpp>
#include <msg/error.hpp>
#include <msg/loss_model.hpp>
#include <msg/model_cost.hpp>
#include <msg/schedule.hpp>
#include <msg/stage.hpp>
#include <msg/step_time.hpp>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <concepts>
#include <cstddef>
#include <limits>
#include <string>
#include <utility>
#include <vector>

MSG_NAMESPACE_BEGIN

enum class search_goal { lowest_loss, loss_of_whole };

/// What a search may spend and choose from.
struct proposal_request {
  named_sizes sizes{}; // at the end
  /// By axis, the smaller sizes it may have, in any order; an axis that isn't named keeps its final size. The search
  /// goes over all combinations: a handful of sizes for a handful of axes.
  std::vector<std::pair<std::string, std::vector<index>>> choices{};
  double seconds = 0; // budget; exactly one of seconds and FLOPs
  double flops = 0;
  /// What is sought: the lowest loss for the budget; or the cheapest way to the loss at which the final model alone
  /// ends, with what that takes of the budget.
  search_goal goal = search_goal::lowest_loss;
  index tokens_per_step = 0;
  int most_stages = 5;
  int cells = 24;    // growths happen after multiples of budget / cells
  double latest = 1; // and after this part of the budget at the latest
  /// By axis, the part of the tokens that a model was trained on which count for one that is twice as large along that
  /// axis and grows out of it, as if that had been trained on them itself: 0 to 1. For other factors that part to the
  /// power of log2(factor); where several axes grow, the product. Where one of them isn't named the loss alone counts.
  std::vector<std::pair<std::string, double>> carried{};
  /// Of the tokens that a model was trained on at most so many for each of its parameters are carried: it has no room
  /// for more.
  double most_carried = std::numeric_limits<double>::infinity();
  /// By axis, the tokens of a model trained from scratch that each token counts once a model has grown to twice its
  /// size along that axis, from then on: more than 0; growth_pace() measures it. For other factors that number to the
  /// power of log2(factor), of all growths the product. 1 for an axis that isn't named.
  std::vector<std::pair<std::string, double>> pace{};
  std::size_t count = 8; // proposals wanted
  schedule base{};       // learning rate of the proposals; its first stage, if any, is what each growth is like
};

/// A schedule for the budget, and what it is expected to come to.
struct proposal {
  schedule timeline{};
  run_extent run{};
  double loss = 0;    // at the end of the budget
  double seconds = 0; // of the run; 0 without a machine
  double flops = 0;
  double cost_to_whole = 0; // part of the budget that it needs to the loss at which the final model alone ends; above
                            // 1: it doesn't get there
  std::string why{};
};

namespace detail {

[[nodiscard]] inline std::string short_text(double value, int digits = 4) {
  char text[40] = {};
  return {text, std::to_chars(text, text + sizeof text, value, std::chars_format::general, digits).ptr};
}

/// The schedule of a path: stages at fractions of its steps.
[[nodiscard]] inline proposal make_proposal(const schedule& base, const std::vector<searched_sizes>& points,
                                            const search_path& path, const loss_steps& falls, double whole, int cells,
                                            index tokens_per_step) {
  proposal result;
  result.loss = path.loss;
  result.timeline.lr = base.lr;
  result.timeline.start = points[path.stays.front().first].sizes;
  std::vector<index> bounds{0}; // steps at which a stretch ends
  double exact = 0;
  for (const auto& [point, spent] : path.stays) {
    exact += spent * points[point].steps_per_cell;
    bounds.push_back(static_cast<index>(std::llround(exact)));
    const auto steps = static_cast<double>(bounds.back() - bounds[bounds.size() - 2]);
    result.flops += steps * points[point].flops_per_step;
    result.seconds += steps * points[point].seconds_per_step;
  }
  result.run = {bounds.back(), tokens_per_step};
  double loss = std::numeric_limits<double>::infinity();
  double spent = 0;
  const searched_sizes& full = points.back();
  for (std::size_t i = 0; i < path.stays.size(); ++i) {
    const searched_sizes& now = points[path.stays[i].first];
    if (i > 0) {
      const searched_sizes& before = points[path.stays[i - 1].first];
      stage growth = base.stages.empty() ? stage{} : base.stages.front();
      growth.at = {trigger_kind::fraction, static_cast<double>(bounds[i]) / static_cast<double>(bounds.back())};
      growth.grow.clear();
      growth.candidates.clear();
      result.why += (result.why.empty() ? "" : ", then ");
      for (std::size_t a = 0; a < now.sizes.size(); ++a) {
        if (now.sizes[a].second == before.sizes[a].second) { continue; }
        growth.grow.push_back(now.sizes[a]);
        result.why += now.sizes[a].first + " " + std::to_string(before.sizes[a].second) + " to " +
                      std::to_string(now.sizes[a].second) + " ";
      }
      std::erase_if(growth.rules, [&](const auto& r) { return find_named(growth.grow, r.first) == nullptr; });
      std::erase_if(growth.ramps, [&](const auto& r) { return find_named(growth.grow, r.first) == nullptr; });
      result.why += "after " + short_text(100 * spent / cells, 3) + " % of the budget, at " +
                    short_text(before.flops_per_step / full.flops_per_step, 2) +
                    " of the final FLOPs a step until then";
      result.timeline.stages.push_back(std::move(growth));
    }
    const double pace = falls.pace_at(points[path.stays.front().first], now);
    if (i > 0) { loss = falls.grown(points[path.stays[i - 1].first], now, loss); }
    if (i + 1 == path.stays.size()) {
      result.cost_to_whole = (spent + std::max(0.0, falls.cells_to(now, loss, whole) / pace)) / cells;
    }
    loss = falls.after(now, loss, path.stays[i].second * pace);
    spent += path.stays[i].second;
  }
  if (result.why.empty()) { result.why = "the final model from the start"; }
  result.why += "; loss " + short_text(result.loss) + ", the final model alone " + short_text(whole) +
                ", which it is at after " + short_text(100 * result.cost_to_whole, 3) + " % of the budget";
  return result;
}

} // namespace detail

/// The best schedules for a budget, the best first; the final model alone is among those compared, and is proposed
/// where growth doesn't pay. One proposal for each start and each number of stages from 0 to most_stages, the `count`
/// best.
///
/// The search is exact on its grid: a run is at some sizes, has spent some cells of the budget, and has some loss; what
/// it can still reach depends on these alone, and the lower loss is never worse. So of all ways to the same sizes, cost
/// and number of stages the one with the lowest loss is kept (dynamic programming).
///
/// A growth keeps the loss, and the grown model goes on as one trained from scratch does from that loss: with D' tokens
/// where loss_model says that it takes D' to get there. Or, where `carried` has the axes that grow, with the part of
/// the smaller model's tokens that it says, whatever the loss: deeper models soon do better than the loss promises,
/// wider ones worse. Where `pace` has the axes, what comes after counts for as much as it says. Cost counts all stages,
/// in seconds or FLOPs as the budget is.
///
/// cost        sizes to model_cost
/// parameters  as in fit_loss_model()
/// machine     calibrate(); needed for a budget in seconds
/// Throws error{bad_argument} with every fault of the request.
/// Sources: Shen et al. 2022, Staged Training, sec. 3 and 4 (loss and its fall are kept by growth); Bu 2025, Deep
/// Progressive Training (tokens of the shallow model count for the deep one); Hoffmann et al. 2022 (the loss); Yao et
/// al. 2024, Masked Structural Growth, sec. 4 (choosing the schedule by dimension).
template <std::invocable<const named_sizes&> Cost, std::invocable<const named_sizes&> Parameters>
[[nodiscard]] std::vector<proposal> propose(const proposal_request& wanted, const Cost& cost,
                                            const Parameters& parameters, const loss_model& model,
                                            const step_time* machine = nullptr) {
  std::vector<diagnostic> findings = detail::request_findings(wanted.sizes, wanted.choices);
  const auto need = [&](bool good, std::string expected, const std::string& found, std::string hint) {
    if (!good) { findings.push_back({errc::bad_argument, {}, -1, {}, std::move(expected), found, std::move(hint)}); }
  };
  need((wanted.seconds > 0) != (wanted.flops > 0), "a budget in seconds or in FLOPs", "both or none", "budget");
  need(!(wanted.seconds > 0) || machine != nullptr, "a calibrated machine for a budget in seconds", "none", "machine");
  need(machine == nullptr || machine->tokens_per_step == wanted.tokens_per_step, "the machine's tokens per step",
       std::to_string(wanted.tokens_per_step), "tokens_per_step");
  need(wanted.tokens_per_step > 0, "at least 1", std::to_string(wanted.tokens_per_step), "tokens_per_step");
  need(wanted.most_stages >= 0 && wanted.most_stages <= 8, "0 to 8 stages", std::to_string(wanted.most_stages),
       "most_stages");
  need(wanted.cells >= 2 && wanted.cells <= 1000, "2 to 1000 cells", std::to_string(wanted.cells), "cells");
  need(wanted.latest >= 0 && wanted.latest <= 1, "0 to 1", detail::short_text(wanted.latest), "latest");
  need(wanted.most_carried > 0, "more than 0", detail::short_text(wanted.most_carried), "most_carried");
  for (const auto& [axis, part] : wanted.carried) {
    need(size_of(wanted.sizes, axis) > 0, "an axis with a final size", axis, "carried");
    need(part >= 0 && part <= 1, "0 to 1", detail::short_text(part), "carried");
  }
  for (const auto& [axis, each] : wanted.pace) {
    need(size_of(wanted.sizes, axis) > 0, "an axis with a final size", axis, "pace");
    need(each > 0 && std::isfinite(each), "more than 0", detail::short_text(each), "pace");
  }
  need(model.token_scale > 0 && model.token_exponent > 0, "a loss that falls with tokens", "none", "loss_model");
  if (!findings.empty()) { throw error(std::move(findings)); }

  const bool timed = wanted.seconds > 0;
  const double budget = timed ? wanted.seconds : wanted.flops;
  const auto tokens_per_step = static_cast<double>(wanted.tokens_per_step);
  const detail::size_lattice lattice(wanted.sizes, wanted.choices);
  std::vector<detail::searched_sizes> points;
  for (std::size_t p = 0; p < lattice.size(); ++p) {
    detail::searched_sizes point{.sizes = lattice.at(p)};
    const model_cost costs = cost(point.sizes);
    point.flops_per_step = costs.flops_per_token() * tokens_per_step;
    point.seconds_per_step = machine == nullptr ? 0 : milliseconds_of(*machine, costs) / 1000;
    point.steps_per_cell = budget / wanted.cells / (timed ? point.seconds_per_step : point.flops_per_step);
    point.parameters = static_cast<double>(parameters(point.sizes));
    point.limit = model.limit(point.sizes, point.parameters);
    points.push_back(std::move(point));
  }
  if (!(points.back().steps_per_cell >= 1)) {
    throw error(diagnostic{.code = errc::bad_argument,
                           .expected = "a budget of " + std::to_string(wanted.cells) + " steps of the final model",
                           .found = detail::short_text(points.back().steps_per_cell * wanted.cells),
                           .hint = "budget"});
  }
  const detail::loss_steps falls{model, tokens_per_step, wanted.carried, wanted.most_carried, wanted.pace};
  const std::size_t top = lattice.size() - 1;
  const double whole = falls.after(points[top], std::numeric_limits<double>::infinity(), wanted.cells);

  const double target = wanted.goal == search_goal::loss_of_whole ? whole : 0;
  std::vector<proposal> proposals;
  for (std::size_t start = 0; start < lattice.size(); ++start) {
    for (const detail::search_path& path :
         detail::best_paths(lattice, points, falls, start, wanted.cells, wanted.most_stages, target, wanted.latest)) {
      proposals.push_back(
          detail::make_proposal(wanted.base, points, path, falls, whole, wanted.cells, wanted.tokens_per_step));
    }
  }
  std::stable_sort(proposals.begin(), proposals.end(), [target](const proposal& a, const proposal& b) {
    const double first = target > 0 ? a.cost_to_whole : a.loss;
    const double second = target > 0 ? b.cost_to_whole : b.loss;
    return first != second ? first < second : a.timeline.stages.size() < b.timeline.stages.size();
  });
  if (proposals.size() > wanted.count) { proposals.resize(wanted.count); }
  return proposals;
}

MSG_NAMESPACE_END
