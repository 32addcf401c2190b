// A schedule under way: what was seen, which stages have begun and why. Plain data a checkpoint can hold.
#pragma once

#include <msg/config.hpp>
#include <msg/decision.hpp>
#include <msg/error.hpp>
#include <msg/schedule.hpp>
#include <msg/stage.hpp>
#include <msg/trigger.hpp>

#include <algorithm>
#include <cstddef>
#include <string>
#include <utility>
#include <vector>

MSG_NAMESPACE_BEGIN

/// Runs a schedule: told what training shows, it says before every step whether a stage begins. What a checkpoint must
/// hold is seen() and log(), beside the schedule; a state restored from them decides as this one does.
class schedule_state {
public:
  /// Throws error with every finding of validate(), growth in the decay of wsd allowed.
  explicit schedule_state(schedule timeline, run_extent run = {}) : given_(std::move(timeline)), run_(run) {
    std::vector<diagnostic> findings = validate(given_, run_, {.placements = {}}, {.growth_in_decay = true});
    if (!findings.empty()) { throw error(std::move(findings)); }
  }

  /// Restores saved data. Throws error{bad_state} with every contradiction: counters that fall, stages out of order or
  /// that there aren't, growths whose own history, as far as it is still there, says otherwise.
  schedule_state(schedule timeline, run_extent run, observations seen, std::vector<decision> log)
      : schedule_state(std::move(timeline), run) {
    seen_ = std::move(seen);
    log_ = std::move(log);
    std::vector<diagnostic> findings = contradictions();
    if (!findings.empty()) { throw error(std::move(findings)); }
  }

  [[nodiscard]] const schedule& timeline() const noexcept { return given_; }
  [[nodiscard]] const observations& seen() const noexcept { return seen_; }
  /// Everything decided but waiting: growths, trials, and trials that staying as it is has won.
  [[nodiscard]] const std::vector<decision>& log() const noexcept { return log_; }

  /// Notes what a step has shown; its number must be larger than the last one's, and no sum smaller. Forgets what no
  /// trigger to come looks back to. Throws error{bad_argument}, changing nothing.
  void observe(const observation& now) {
    if (!seen_.steps.empty()) {
      const observation& last = seen_.steps.back();
      if (now.step <= last.step || now.flops < last.flops || now.seconds < last.seconds) {
        throw error(diagnostic{.code = errc::bad_argument,
                               .expected = "a step after " + std::to_string(last.step) + ", with no sum smaller",
                               .found = "step " + std::to_string(now.step),
                               .hint = "observation"});
      }
    }
    seen_.steps.push_back(now);
    forget();
  }
  /// Notes a trial of the stage to come, as verdict::probe has asked for it. Throws error{bad_argument}.
  void observe(const probe_result& trial) {
    const bool asked = !log_.empty() && log_.back().what == verdict::probe && log_.back().stage == trial.stage &&
                       log_.back().step == trial.step;
    if (!asked || trial.candidate < probe_result::as_it_is || trial.candidate >= candidates(trial.stage)) {
      throw error(
          diagnostic{.code = errc::bad_argument,
                     .expected = asked ? "a candidate from -1 to " + std::to_string(candidates(trial.stage) - 1)
                                       : "a trial that was asked for",
                     .found = asked ? std::to_string(trial.candidate)
                                    : "stage " + std::to_string(trial.stage) + ", step " + std::to_string(trial.step),
                     .hint = "probe_result"});
    }
    seen_.probes.push_back(trial);
  }
  /// The curve of the model that a stage grows into, for its slope trigger; replaces an earlier one.
  void expect(index stage, std::vector<curve_point> points) {
    std::erase_if(seen_.expected, [&](const expected_curve& c) { return c.stage == stage; });
    seen_.expected.push_back({stage, std::move(points)});
  }

  /// What to do before the forward of step `step`, noted in the log. Call it until it says wait: several stages may
  /// begin at one step, but no axis grows twice at one. After verdict::probe run the trials, observe() them, ask again.
  decision next(index step) {
    const auto stage = static_cast<index>(begun());
    decision result{.stage = stage, .step = step, .why = "every stage has begun"};
    if (stage == static_cast<index>(given_.stages.size())) { return result; }
    const index since = last_growth();
    if (since == step && grew_at(step, stage)) {
      result.why = "an axis of it grew at this step";
      return result;
    }
    result = decide(given_, stage, seen_, step, run_, since);
    const bool judged = result.what == verdict::wait && !log_.empty() && log_.back().what == verdict::probe &&
                        log_.back().stage == stage && log_.back().step == step;
    if (result.what == verdict::probe && !log_.empty() && log_.back() == result) { return result; } // asked again
    if (result.what != verdict::wait || judged) { log_.push_back(result); }
    return result;
  }

  /// How many stages have begun, and at which steps: what rate_events(), fresh_rates() and stage_costs() take.
  [[nodiscard]] std::size_t begun() const noexcept {
    return static_cast<std::size_t>(
        std::count_if(log_.begin(), log_.end(), [](const decision& d) { return d.what == verdict::grow; }));
  }
  [[nodiscard]] std::vector<index> steps() const {
    std::vector<index> result;
    for (const decision& d : log_) {
      if (d.what == verdict::grow) { result.push_back(d.step); }
    }
    return result;
  }

  /// The schedule as it has come about: stages that have begun at their steps, as the candidate that won.
  [[nodiscard]] schedule resolved() const {
    schedule result = given_;
    std::size_t stage = 0;
    for (const decision& d : log_) {
      if (d.what != verdict::grow) { continue; }
      msg::stage& growth = result.stages[stage++];
      growth = with_candidate(std::move(growth), d.candidate);
      growth.at = {.value = static_cast<double>(d.step), .fired = observed(growth.at) || growth.at.fired};
    }
    return result;
  }

private:
  [[nodiscard]] index candidates(index stage) const {
    const bool known = stage >= 0 && stage < static_cast<index>(given_.stages.size());
    return known ? candidate_count(given_.stages[static_cast<std::size_t>(stage)]) : 0;
  }
  [[nodiscard]] index last_growth() const noexcept {
    index step = 0;
    for (const decision& d : log_) {
      if (d.what == verdict::grow) { step = d.step; }
    }
    return step;
  }
  /// Whether a stage that began at the step grew an axis that `stage`, or one of its candidates, grows.
  [[nodiscard]] bool grew_at(index step, index stage) const {
    const schedule now = resolved();
    const msg::stage& next = given_.stages[static_cast<std::size_t>(stage)];
    const auto grows = [&](const std::string& axis) {
      return detail::find_named(next.grow, axis) != nullptr ||
             std::any_of(next.candidates.begin(), next.candidates.end(),
                         [&](const growth_candidate& c) { return detail::find_named(c.grow, axis) != nullptr; });
    };
    for (const decision& d : log_) {
      if (d.what != verdict::grow || d.step != step) { continue; }
      for (const auto& [axis, size] : now.stages[static_cast<std::size_t>(d.stage)].grow) {
        if (grows(axis)) { return true; }
      }
    }
    return false;
  }

  void forget() {
    index window = 1;
    for (std::size_t i = begun(); i < given_.stages.size(); ++i) {
      const trigger& at = given_.stages[i].at;
      if (observed(at) && at.kind != trigger_kind::probe) { window = std::max(window, at.window); }
    }
    // Twice as many at most are kept, so that forgetting costs next to nothing.
    const index oldest = seen_.steps.back().step - window;
    if (seen_.steps.front().step > oldest - window) { return; }
    std::erase_if(seen_.steps, [&](const observation& o) { return o.step <= oldest; });
  }

  [[nodiscard]] std::vector<diagnostic> contradictions() const {
    std::vector<diagnostic> findings;
    const auto add = [&](const std::string& where, std::string expected, std::string found) {
      findings.push_back({.code = errc::bad_state,
                          .expected = std::move(expected),
                          .found = std::move(found),
                          .hint = "the saved " + where});
    };
    for (std::size_t i = 1; i < seen_.steps.size(); ++i) {
      const observation& a = seen_.steps[i - 1];
      const observation& b = seen_.steps[i];
      if (b.step <= a.step || b.flops < a.flops || b.seconds < a.seconds) {
        add("observations", "rising steps and sums after step " + std::to_string(a.step),
            "step " + std::to_string(b.step));
      }
    }
    for (const probe_result& p : seen_.probes) {
      if (p.candidate < probe_result::as_it_is || p.candidate >= candidates(p.stage)) {
        add("trials", "a candidate of stage " + std::to_string(p.stage), std::to_string(p.candidate));
      }
      if (std::none_of(log_.begin(), log_.end(), [&](const decision& d) {
            return d.what == verdict::probe && d.stage == p.stage && d.step == p.step;
          })) {
        add("trials", "trials that were asked for", "step " + std::to_string(p.step));
      }
    }
    index stage = 0;
    index last = 0; // step of the decision before
    index since = 0;
    for (const decision& d : log_) {
      const std::string where = "decision at step " + std::to_string(d.step);
      if (d.stage != stage || stage >= static_cast<index>(given_.stages.size())) {
        add(where,
            stage < static_cast<index>(given_.stages.size()) ? "stage " + std::to_string(stage) : "no stage left",
            "stage " + std::to_string(d.stage));
        break; // what follows is about stages that aren't there
      }
      if (d.step < last) { add(where, "a step from " + std::to_string(last), std::to_string(d.step)); }
      if (d.candidate < probe_result::as_it_is || d.candidate >= candidates(stage)) {
        add(where, "a candidate of its stage", std::to_string(d.candidate));
      }
      replay(d, since, where, findings);
      last = d.step;
      if (d.what == verdict::grow) {
        since = d.step;
        ++stage;
      }
    }
    return findings;
  }

  /// Decides again what training decided, where its history is still there. The steps of other triggers may have
  /// moved with the length of the run; the log has the truth.
  void replay(const decision& d, index since, const std::string& where, std::vector<diagnostic>& findings) const {
    const trigger& at = given_.stages[static_cast<std::size_t>(d.stage)].at;
    if (!observed(at) || d.what == verdict::probe) { return; }
    const index from = std::max(since, d.step - std::max<index>(at.window, 1)); // what it looked back to
    const bool probes = at.kind == trigger_kind::probe;
    if (!probes && (seen_.steps.empty() || seen_.steps.front().step > from + 1 || seen_.steps.back().step < d.step)) {
      return;
    }
    decision again;
    try {
      again = decide(given_, d.stage, seen_, d.step, run_, since);
    } catch (const error& failure) {
      for (const diagnostic& finding : failure.findings()) {
        findings.push_back(finding);
        findings.back().code = errc::bad_state;
      }
      return;
    }
    if (again.what != d.what || again.candidate != d.candidate) {
      findings.push_back({.code = errc::bad_state,
                          .expected = std::string{verdict_names[static_cast<std::size_t>(again.what)]} +
                                      ", candidate " + std::to_string(again.candidate) + " (" + again.why + ")",
                          .found = std::string{verdict_names[static_cast<std::size_t>(d.what)]} + ", candidate " +
                                   std::to_string(d.candidate) + " (" + d.why + ")",
                          .hint = "the saved " + where});
    }
  }

  schedule given_;
  run_extent run_;
  observations seen_;
  std::vector<decision> log_;
};

MSG_NAMESPACE_END
