// Growths in flight: what happened when, how far each ramp is, how old each unit is. Plain data a checkpoint can hold.
#pragma once

#include <msg/ages.hpp>
#include <msg/mask.hpp>
#include <msg/plan.hpp>
#include <msg/schema.hpp>

#include <algorithm>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

MSG_NAMESPACE_BEGIN

/// One growth of one axis, as the log keeps it. The ramp's value is recomputed from the step, never stored.
struct growth_record {
  index id = 0;
  std::string axis{};
  index from = 0;
  index to = 0;
  std::string rule{};
  msg::placement::order placement{};
  bool masked = false; // the fresh units have a mask that ramps
  index at_step = 0;   // happened before the forward of this optimizer step
  msg::ramp ramp{};
  std::uint64_t seed = 0;

  /// Mask of the fresh units at a step: 0 at at_step, 1 from at_step + ramp.steps on.
  [[nodiscard]] double value(index step) const { return masked ? ramp(step - at_step) : 1; }
  /// The ramp is over and the plain path runs.
  [[nodiscard]] bool done(index step) const { return !masked || step > at_step + ramp.steps; }
};

/// Everything about past growths that training needs, and a resume must restore: the log, and the step at which every
/// unit was born (0: there from the start). Steps are optimizer steps, whatever the gradient accumulation.
class growth_state {
public:
  growth_state() = default;

  /// Restores saved data. Throws error{bad_state} with every contradiction between log, births and schema.
  growth_state(std::vector<growth_record> log, std::map<std::string, std::vector<index>, std::less<>> births,
               const schema& model)
      : log_(std::move(log)), births_(std::move(births)) {
    std::vector<diagnostic> findings = contradictions(model);
    if (!findings.empty()) { throw error(std::move(findings)); }
  }

  [[nodiscard]] const std::vector<growth_record>& log() const noexcept { return log_; }
  /// By axis, one birth step per unit; axes that never grew are absent.
  [[nodiscard]] const std::map<std::string, std::vector<index>, std::less<>>& births() const noexcept {
    return births_;
  }

  /// Notes a growth that plan.apply has made before the forward of step `at_step`: one record per axis that grew.
  ///
  /// at_step  at least 1 and later than the last growth of the same axis
  /// shape    the ramp of the masked axes that `shapes` doesn't name
  /// shapes   ramps by axis; one that the plan doesn't grow counts for nothing
  /// Throws error{bad_argument}, changing nothing.
  void record(const plan& growth, index at_step, const ramp& shape, const named_ramps& shapes = {}) {
    for (const axis_plan& a : growth.axes()) { check_step(a, at_step); }
    for (const axis_plan& a : growth.axes()) {
      if (a.new_size == a.old_size) { continue; }
      const axis_contract& c = a.growth.contract;
      log_.push_back({log_.empty() ? 0 : log_.back().id + 1, a.name, a.old_size, a.new_size, c.rule, a.placement,
                      c.masked(), at_step, ramp_of(shapes, a.name, shape), growth.seed()});
      auto& births = births_[a.name];
      births.resize(static_cast<std::size_t>(a.old_size), 0);
      std::vector<index> grown;
      for (index j = 0; j < a.new_size; ++j) {
        const index source = a.growth.source[static_cast<std::size_t>(j)];
        grown.push_back(a.growth.is_newborn(j) ? at_step : births[static_cast<std::size_t>(source)]);
      }
      births = std::move(grown);
    }
  }

  /// Forgets the growths that plan::undone() takes back, before the forward of `step`.
  ///
  /// undo  growth.undone(), of the last growth of each of its axes
  /// Throws error{bad_argument}, changing nothing, unless those growths' masks are 0 at the step.
  void take_back(const plan& undo, index step) {
    for (const axis_plan& a : undo.axes()) { check_undo(a, step); }
    for (const axis_plan& a : undo.axes()) {
      if (a.new_size == a.old_size) { continue; }
      log_.erase(last_of(a.name));
      std::vector<index> kept;
      for (const index unit : a.growth.source) { kept.push_back(births_[a.name][static_cast<std::size_t>(unit)]); }
      births_[a.name] = std::move(kept);
      if (last_of(a.name) == log_.end()) { births_.erase(a.name); }
    }
  }

  /// Some mask of this axis, or of any axis, is in use at the step; otherwise the plain path runs.
  [[nodiscard]] bool ramping(std::string_view axis_name, index step) const {
    return std::any_of(log_.begin(), log_.end(), [&](const growth_record& g) {
      return g.axis == axis_name && g.masked && step >= g.at_step && !g.done(step);
    });
  }
  [[nodiscard]] bool ramping(index step) const {
    return std::any_of(log_.begin(), log_.end(), [&](const growth_record& g) { return ramping(g.axis, step); });
  }

  /// One mask value per unit of the axis at the step; empty: no mask, run the plain path.
  [[nodiscard]] std::vector<float> mask(std::string_view axis_name, index step) const {
    std::vector<float> values;
    if (!ramping(axis_name, step)) { return values; }
    for (const index birth : births_.find(axis_name)->second) {
      values.push_back(static_cast<float>(value(axis_name, birth, step)));
    }
    return values;
  }

  /// How old and how awake every index of every dimension of a parameter is: what msg::update() wants.
  /// Throws error{shape_mismatch} unless p has the sizes of now, after every growth: plan.after().at(name).
  [[nodiscard]] parameter_ages ages(const parameter& p, index step) const {
    check_sizes(p);
    parameter_ages result{.shape = p.shape()};
    for (const dimension& d : p.dims) {
      std::vector<index> birth;
      std::vector<float> awake;
      if (grew(d)) {
        for_each_position(d.extent, [&](index, const product& term, const std::vector<index>& units) {
          index latest = 0;
          double least = 1;
          for (std::size_t k = 0; k < units.size(); ++k) {
            const auto found = births_.find(term.factors[k].axis);
            if (found == births_.end()) { continue; }
            const index born = found->second[static_cast<std::size_t>(units[k])];
            latest = std::max(latest, born);
            least = std::min(least, value(term.factors[k].axis, born, step));
          }
          birth.push_back(latest);
          awake.push_back(static_cast<float>(least));
        });
      }
      result.birth.push_back(std::move(birth));
      result.mask.push_back(std::move(awake));
    }
    return result;
  }

private:
  // Mask of a unit: the ramp of the growth that brought it.
  [[nodiscard]] double value(std::string_view axis_name, index birth, index step) const {
    for (const growth_record& g : log_) {
      if (g.axis == axis_name && g.at_step == birth) { return g.value(step); }
    }
    return 1;
  }
  [[nodiscard]] bool grew(const dimension& d) const {
    for (const product& term : d.extent.terms) {
      for (const factor& f : term.factors) {
        if (births_.find(f.axis) != births_.end()) { return true; }
      }
    }
    return false;
  }

  void check_sizes(const parameter& p) const {
    for (std::size_t d = 0; d < p.dims.size(); ++d) {
      for (const product& term : p.dims[d].extent.terms) {
        for (const factor& f : term.factors) {
          const auto found = births_.find(f.axis);
          if (found == births_.end() || static_cast<index>(found->second.size()) == f.size) { continue; }
          throw error(diagnostic{.code = errc::shape_mismatch,
                                 .parameter = p.name,
                                 .dimension = static_cast<index>(d),
                                 .axis = f.axis,
                                 .expected = std::to_string(found->second.size()),
                                 .found = std::to_string(f.size),
                                 .hint = "the parameter of the schema after the growth"});
        }
      }
    }
  }
  [[nodiscard]] std::vector<growth_record>::const_iterator last_of(std::string_view axis_name) const {
    auto last = log_.end();
    for (auto g = log_.begin(); g != log_.end(); ++g) { last = g->axis == axis_name ? g : last; }
    return last;
  }
  void check_undo(const axis_plan& a, index step) const {
    if (a.new_size == a.old_size) { return; }
    const auto g = last_of(a.name);
    const bool fits = g != log_.end() && g->from == a.new_size && g->to == a.old_size;
    if (fits && (!g->masked || (step >= g->at_step && g->value(step) == 0))) { return; }
    throw error(diagnostic{.code = errc::bad_argument,
                           .axis = a.name,
                           .expected = fits ? "a mask of 0" : "the way back from its last growth",
                           .found = fits ? std::to_string(g->value(step))
                                         : std::to_string(a.old_size) + " to " + std::to_string(a.new_size)});
  }
  void check_step(const axis_plan& a, index at_step) const {
    if (a.new_size < a.old_size) {
      throw error(diagnostic{.code = errc::bad_argument,
                             .axis = a.name,
                             .expected = "a growth",
                             .found = std::to_string(a.old_size) + " to " + std::to_string(a.new_size),
                             .hint = "take_back() notes an undone one"});
    }
    index after = 0;
    for (const growth_record& g : log_) {
      if (g.axis == a.name) { after = std::max(after, g.at_step); }
    }
    const auto births = births_.find(a.name);
    const bool fits = births == births_.end() || static_cast<index>(births->second.size()) == a.old_size;
    if (at_step <= after || !fits) {
      throw error(diagnostic{.code = errc::bad_argument,
                             .axis = a.name,
                             .expected = fits ? "a step after " + std::to_string(after)
                                              : "a plan from " + std::to_string(births->second.size()) + " units",
                             .found = fits ? std::to_string(at_step) : std::to_string(a.old_size)});
    }
  }

  [[nodiscard]] std::vector<diagnostic> contradictions(const schema& model) const {
    std::vector<diagnostic> findings;
    const auto add = [&](const std::string& axis_name, std::string expected, std::string found) {
      findings.push_back(
          {.code = errc::bad_state, .axis = axis_name, .expected = std::move(expected), .found = std::move(found)});
    };
    std::map<std::string, const growth_record*, std::less<>> last;
    for (const growth_record& g : log_) {
      const growth_record*& before = last[g.axis];
      if (before != nullptr && before->to != g.from) {
        add(g.axis, "growth " + std::to_string(g.id) + " from " + std::to_string(before->to), std::to_string(g.from));
      }
      if (g.at_step <= (before == nullptr ? 0 : before->at_step)) {
        add(g.axis, "growths at rising steps from 1", std::to_string(g.at_step));
      }
      if (g.to <= g.from || g.from < 1) {
        add(g.axis, "a growth", std::to_string(g.from) + " to " + std::to_string(g.to));
      }
      if (g.ramp.steps < 0) { add(g.axis, "a ramp of 0 steps or more", std::to_string(g.ramp.steps)); }
      before = &g;
    }
    for (const auto& [name, g] : last) {
      const axis* known = model.find_axis(name);
      if (known == nullptr || known->size != g->to) {
        add(name, known == nullptr ? model.axis_names() : std::to_string(known->size), std::to_string(g->to));
      }
      if (births_.find(name) == births_.end()) { add(name, "births of its units", "none"); }
    }
    for (const auto& [name, births] : births_) {
      const axis* known = model.find_axis(name);
      if (known == nullptr || static_cast<index>(births.size()) != known->size) {
        add(name, known == nullptr ? model.axis_names() : std::to_string(known->size) + " births",
            std::to_string(births.size()));
      }
      for (const growth_record& g : log_) {
        const auto born = std::count(births.begin(), births.end(), g.at_step);
        if (g.axis == name && g.masked && born != g.to - g.from) {
          add(name, std::to_string(g.to - g.from) + " births at step " + std::to_string(g.at_step),
              std::to_string(born));
        }
      }
      for (const index born : births) {
        const bool told = born == 0 || std::any_of(log_.begin(), log_.end(),
                                                   [&, axis_name = std::string_view(name)](const growth_record& g) {
                                                     return g.axis == axis_name && g.at_step == born;
                                                   });
        if (!told) {
          add(name, "births at steps of its growths", std::to_string(born));
          break;
        }
      }
    }
    return findings;
  }

  std::vector<growth_record> log_;
  std::map<std::string, std::vector<index>, std::less<>> births_;
};

MSG_NAMESPACE_END
