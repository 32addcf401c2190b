// The search behind propose(): sizes as a lattice, cells of a budget, and the path with the lowest loss.
#pragma once

#include <msg/config.hpp>
#include <msg/error.hpp>
#include <msg/loss_model.hpp>
#include <msg/schedule.hpp>
#include <msg/stage.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <string>
#include <utility>
#include <vector>

MSG_NAMESPACE_BEGIN

namespace detail {

using size_choices = std::vector<std::pair<std::string, std::vector<index>>>;

/// Combinations of sizes; the last one is the final sizes.
class size_lattice {
public:
  size_lattice(const named_sizes& full, const size_choices& choices) : full_(full) {
    for (const auto& [axis, size] : full) {
      const std::vector<index>* given = find_named(choices, axis);
      std::vector<index> rungs = given == nullptr ? std::vector<index>{} : *given;
      rungs.push_back(size);
      std::sort(rungs.begin(), rungs.end());
      rungs.erase(std::unique(rungs.begin(), rungs.end()), rungs.end());
      size_ *= rungs.size();
      rungs_.push_back(std::move(rungs));
    }
  }
  [[nodiscard]] std::size_t size() const noexcept { return size_; }
  [[nodiscard]] named_sizes at(std::size_t point) const {
    named_sizes sizes = full_;
    for (std::size_t a = sizes.size(); a-- > 0;) {
      sizes[a].second = rungs_[a][point % rungs_[a].size()];
      point /= rungs_[a].size();
    }
    return sizes;
  }
  /// Whether the second point can be grown from the first: no axis is smaller, and one is larger.
  [[nodiscard]] bool grows(std::size_t from, std::size_t to) const noexcept {
    if (from == to) { return false; }
    for (std::size_t a = rungs_.size(); a-- > 0;) {
      const std::size_t n = rungs_[a].size();
      if (from % n > to % n) { return false; }
      from /= n;
      to /= n;
    }
    return true;
  }

private:
  named_sizes full_;
  std::vector<std::vector<index>> rungs_; // by axis, rising
  std::size_t size_ = 1;
};

[[nodiscard]] inline std::vector<diagnostic> request_findings(const named_sizes& full, const size_choices& choices) {
  std::vector<diagnostic> findings;
  const auto add = [&](errc code, const std::string& axis, std::string expected, std::string found) {
    findings.push_back({code, {}, -1, axis, std::move(expected), std::move(found), "proposal_request"});
  };
  if (full.empty()) { add(errc::bad_size, {}, "final sizes", "none"); }
  double combinations = 1;
  for (const auto& [axis, size] : full) {
    if (size < 1) { add(errc::bad_size, axis, "at least 1", std::to_string(size)); }
    if (find_named(full, axis) != &size) { add(errc::duplicate_name, axis, "one entry", "several"); }
  }
  for (const auto& [axis, sizes] : choices) {
    const index last = size_of(full, axis);
    if (last == 0) { add(errc::unknown_axis, axis, "an axis with a final size", axis); }
    for (const index size : sizes) {
      if (size < 1 || (last > 0 && size > last)) {
        add(errc::bad_size, axis, "1 to " + std::to_string(last), std::to_string(size));
      }
    }
    combinations *= static_cast<double>(sizes.size() + 1);
  }
  constexpr double most = 1024;
  if (combinations > most) { add(errc::bad_argument, {}, "at most 1024 combinations of sizes", "more"); }
  return findings;
}

/// A point of the lattice, and what training there costs.
struct searched_sizes {
  named_sizes sizes{};
  double flops_per_step = 0;
  double seconds_per_step = 0;
  double steps_per_cell = 0;
  double parameters = 0;
  double limit = 0; // loss_model::limit
};

/// How the loss falls.
struct loss_steps {
  const loss_model& model;
  double tokens_per_step = 0;
  using by_axis = std::vector<std::pair<std::string, double>>;
  by_axis carried{}; // of proposal_request, as is, and so are the next
  double most_carried = std::numeric_limits<double>::infinity();
  by_axis pace{};

  /// Loss after so many cells at a point, from a loss; infinite: from nothing.
  [[nodiscard]] double after(const searched_sizes& at, double loss, double cells) const {
    const double seen = std::isfinite(loss) ? model.tokens_at(at.limit, loss) : 0;
    return model.loss(at.limit, seen + cells * at.steps_per_cell * tokens_per_step);
  }
  /// Loss from which a model goes on that grew from one point to another, at a loss: that of a model which has seen the
  /// tokens that count, or, where an axis says nothing of them, the one it had.
  [[nodiscard]] double grown(const searched_sizes& from, const searched_sizes& to, double loss) const {
    const double part = over_doublings(carried, from, to, std::numeric_limits<double>::quiet_NaN());
    if (std::isnan(part)) { return loss; }
    const double seen = std::min(model.tokens_at(from.limit, loss), most_carried * from.parameters);
    return model.loss(to.limit, part * seen);
  }
  /// Cells of a model trained from scratch that each cell counts at a point to which a run has grown.
  [[nodiscard]] double pace_at(const searched_sizes& start, const searched_sizes& at) const {
    return over_doublings(pace, start, at, 1);
  }
  /// Cells at a point from one loss to a lower one.
  [[nodiscard]] double cells_to(const searched_sizes& at, double from, double to) const {
    const double seen = std::isfinite(from) ? model.tokens_at(at.limit, from) : 0;
    return (model.tokens_at(at.limit, to) - seen) / (at.steps_per_cell * tokens_per_step);
  }

private:
  /// Product of what axes have for each time that they double; `otherwise`, of one that isn't named.
  [[nodiscard]] static double over_doublings(const by_axis& numbers, const searched_sizes& from,
                                             const searched_sizes& to, double otherwise) {
    double product = 1;
    for (std::size_t a = 0; a < to.sizes.size(); ++a) {
      if (from.sizes[a].second == to.sizes[a].second) { continue; }
      const double* each_time = find_named(numbers, to.sizes[a].first);
      const double factor = static_cast<double>(to.sizes[a].second) / static_cast<double>(from.sizes[a].second);
      product *= each_time == nullptr ? otherwise : std::pow(*each_time, std::log2(factor));
    }
    return product;
  }
};

/// Points in the order in which a run is at them, and the cells it spends at each.
struct search_path {
  double loss = std::numeric_limits<double>::infinity();
  double cells = 0;
  std::vector<std::pair<std::size_t, double>> stays{}; // whole cells, but for the last
};

/// For each number of growths from 0 to most_stages the best path from a start to the final sizes, where there is one:
/// the one with the lowest loss after all cells, or the one that is at the loss `target` first. At every point a run
/// spends one cell or more, up to the target; none grows after the part `latest` of all cells.
[[nodiscard]] inline std::vector<search_path> best_paths(const size_lattice& lattice,
                                                         const std::vector<searched_sizes>& points,
                                                         const loss_steps& falls, std::size_t start, int cells,
                                                         int most_stages, double target, double latest) {
  constexpr double infinite = std::numeric_limits<double>::infinity();
  struct state {
    double loss = infinite;
    std::size_t from = 0; // point of the cell before
  };
  const std::size_t count = lattice.size();
  const auto layers = static_cast<std::size_t>(most_stages) + 1;
  const auto last = static_cast<std::size_t>(cells);
  std::vector<std::size_t> reached;
  std::vector<double> pace(count);              // of a model that came there
  for (std::size_t p = start; p < count; ++p) { // a larger point has the larger number
    if (p != start && !lattice.grows(start, p)) { continue; }
    reached.push_back(p);
    pace[p] = falls.pace_at(points[start], points[p]);
  }
  std::vector<state> table((last + 1) * layers * count);
  const auto at = [&](std::size_t cell, std::size_t stages, std::size_t point) -> state& {
    return table[(cell * layers + stages) * count + point];
  };
  at(1, 0, start) = {falls.after(points[start], infinite, 1), start};
  for (std::size_t cell = 1; cell < last; ++cell) {
    for (std::size_t stages = 0; stages < layers; ++stages) {
      for (const std::size_t to : reached) {
        // The lower loss before the cell is the lower one after it: it is enough to compare those.
        state& next = at(cell + 1, stages, to);
        double before = at(cell, stages, to).loss;
        next.from = to;
        if (stages > 0 && static_cast<double>(cell) <= latest * cells) {
          for (const std::size_t from : reached) {
            if (from >= to) { break; }
            double loss = at(cell, stages - 1, from).loss;
            if (!(loss < infinite) || !lattice.grows(from, to)) { continue; }
            loss = falls.grown(points[from], points[to], loss);
            if (loss < before) {
              before = loss;
              next.from = from;
            }
          }
        }
        if (before < infinite) { next.loss = falls.after(points[to], before, pace[to]); }
      }
    }
  }
  std::vector<search_path> paths;
  for (std::size_t stages = 0; stages < layers; ++stages) {
    std::size_t point = count - 1;
    std::size_t end = target > 0 ? 1 : last;
    while (end < last && !(at(end, stages, point).loss <= target)) { ++end; }
    search_path path{.loss = at(end, stages, point).loss};
    if (!(path.loss < infinite) || (target > 0 && path.loss > target)) { continue; }
    std::size_t left = stages;
    path.stays.emplace_back(point, 1);
    for (std::size_t cell = end; cell > 1; --cell) {
      const std::size_t from = at(cell, left, point).from;
      if (from != point) {
        point = from;
        --left;
        path.stays.emplace_back(point, 0);
      }
      ++path.stays.back().second;
    }
    std::reverse(path.stays.begin(), path.stays.end());
    if (target > 0) { // of the last cell it needs a part, one step at least
      auto& [full, spent] = path.stays.back();
      spent -= 1;
      double before = infinite;
      const searched_sizes* smaller = nullptr;
      for (const auto& [at_point, cells_there] : path.stays) {
        if (smaller != nullptr) { before = falls.grown(*smaller, points[at_point], before); }
        smaller = &points[at_point];
        if (cells_there > 0) { before = falls.after(*smaller, before, cells_there * pace[at_point]); }
      }
      const double needed =
          std::max(falls.cells_to(points[full], before, target) / pace[full], 1 / points[full].steps_per_cell);
      path.loss = falls.after(points[full], before, needed * pace[full]);
      spent += needed;
    }
    for (const auto& [at_point, spent] : path.stays) { path.cells += spent; }
    paths.push_back(std::move(path));
  }
  return paths;
}

} // namespace detail

MSG_NAMESPACE_END
