// The training loop: steps, growths, evaluations, checkpoints; the same for a new run and for a resumed one.
#pragma once

#include "transformer/checkpoint.hpp"
#include "transformer/data.hpp"
#include "transformer/foreseen_steps.hpp"
#include "transformer/grow_model.hpp"
#include "transformer/metrics.hpp"
#include "transformer/progress.hpp"
#include "transformer/report_trials.hpp"
#include "transformer/run_setup.hpp"
#include "transformer/schedule_file.hpp"
#include "transformer/schedule_resume.hpp"
#include "transformer/stop_signal.hpp"
#include "transformer/trained_model.hpp"
#include "transformer/trials.hpp"

#include <msg/grow.hpp>
#include <msg/schedule_state.hpp>

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace reference {

enum class run_outcome { finished, interrupted, out_of_time };

/// A schedule as it has come about, in a run directory that has ended: trained by it, the run repeats itself.
inline constexpr const char* resolved_schedule_name = "schedule-resolved.json";

/// One run of a model, from where its state stands.
class trainer {
public:
  /// The data must outlive the trainer.
  trainer(run_setup setup, const training_data& data, printer& terminal)
      : setup_(std::move(setup)), data_(data), terminal_(terminal),
        schedule_(setup_.timeline, detail::extent_of(setup_.settings)),
        model_(setup_.settings, data_, initial_state<float>(setup_.start, setup_.settings.seed)),
        metrics_(setup_.directory / "metrics.jsonl") {
    follow_schedule();
  }
  /// Continues from a checkpoint folder.
  trainer(run_setup setup, const training_data& data, printer& terminal, const std::filesystem::path& checkpoint,
          const checkpoint_documents& documents)
      : setup_(std::move(setup)), data_(data), terminal_(terminal),
        schedule_(restored_schedule(setup_, checkpoint, documents)),
        model_(setup_.settings, data_, load(checkpoint, documents)),
        metrics_(setup_.directory / "metrics.jsonl", documents.state.metrics_bytes), step_(documents.state.step),
        tokens_(documents.state.tokens), flops_(documents.state.flops),
        seconds_(documents.state.seconds), position_{documents.state.epoch, documents.state.position} {
    checkpoint_ = checkpoint;
    stage_ = {step_, seconds_};
    window_ = {{}, tokens_};
    follow_schedule();
  }
  trainer(const trainer&) = delete; // the model views the settings
  trainer& operator=(const trainer&) = delete;

  /// Trains to the end, a time limit, or a signal; saves in each case. Throws run_error for a loss that is not finite
  /// and for anything that cannot be written; checkpoints written before stay usable.
  run_outcome run() {
    const options& o = setup_.settings;
    if (step_ >= o.steps) { return run_outcome::finished; } // resumed at its end: all is written already
    if (step_ == 0 && metrics_.bytes() == 0) {
      evaluate();
      record_step(std::nullopt, true);
    }
    while (step_ < o.steps) {
      if (const std::optional<run_outcome> why = ended_early()) { return leave(*why); }
      if (const std::optional<run_outcome> why = begin_stages()) { return leave(*why); }
      const double loss = train_step();
      const bool last = step_ == o.steps;
      const bool evaluates = last || (o.eval_every > 0 && step_ % o.eval_every == 0);
      if (evaluates) { evaluate(); }
      schedule_.observe(msg::observation{.step = step_,
                                         .flops = flops_,
                                         .seconds = seconds_,
                                         .loss = loss,
                                         .validation_loss = evaluates ? held_out_.loss : missing});
      if (evaluates || step_ % o.log_every == 0) { record_step(loss, evaluates); }
      if (!last && o.save_every > 0 && step_ % o.save_every == 0) { save(); }
    }
    note_waiting_stage();
    return leave(run_outcome::finished);
  }

  [[nodiscard]] double seconds() const noexcept { return seconds_; }
  /// Training time of a step at the present sizes: the average since the last growth; where none was run since (a
  /// finished run that was resumed), by compute, from the run as a whole.
  [[nodiscard]] double seconds_per_step() const {
    if (step_ > stage_.step) { return (seconds_ - stage_.seconds) / static_cast<double>(step_ - stage_.step); }
    const double flops = model_.flops_per_step(model_.sizes());
    return flops_ > 0 ? seconds_ * flops / flops_ : 0;
  }
  [[nodiscard]] index step() const noexcept { return step_; }
  [[nodiscard]] const model_state<float>& state() const noexcept { return model_.state(); }
  [[nodiscard]] const std::filesystem::path& checkpoint() const noexcept { return checkpoint_; }
  /// Stages that have begun at their steps, as the candidate that won; none of those that haven't.
  [[nodiscard]] msg::schedule resolved() const {
    msg::schedule timeline = course_.timeline;
    timeline.stages.resize(course_.steps.size());
    return timeline;
  }

private:
  /// What follows from the stages that have begun.
  void follow_schedule() {
    config& sizes = model_.state().sizes;
    if (sizes.experts == 0) { sizes.chosen = setup_.start.chosen; } // no config.json of an FFN says it
    course_ = {schedule_.resolved(), schedule_.steps(), setup_.settings.steps};
    flops_total_ = planned_flops();
  }
  [[nodiscard]] index tokens_per_step() const { return detail::extent_of(setup_.settings).tokens_per_step; }

  [[nodiscard]] std::optional<run_outcome> ended_early() const {
    if (stop_requested()) { return run_outcome::interrupted; }
    const double limit = setup_.settings.max_seconds;
    return limit > 0 && seconds_ >= limit ? std::optional{run_outcome::out_of_time} : std::nullopt;
  }

  /// FLOPs to the end, each stage at its own size, trials to come included; missing where a stage waits for what
  /// training will show.
  [[nodiscard]] double planned_flops() const {
    const msg::run_extent extent = detail::extent_of(setup_.settings);
    const std::vector<msg::stage>& stages = course_.timeline.stages;
    const std::vector<index> steps = foreseen_steps(course_.timeline, extent, course_.steps, step_);
    if (steps.size() < stages.size()) { return missing; }
    config sizes = model_.sizes();
    double total = flops_;
    index from = step_;
    for (std::size_t s = course_.steps.size(); s <= stages.size(); ++s) {
      const index to = s < stages.size() ? std::clamp(steps[s], from, extent.steps) : extent.steps;
      total += model_.flops_per_step(sizes) * static_cast<double>(to - from);
      from = to;
      if (s == stages.size() || to == extent.steps) { continue; }
      total += trial_flops(sizes, s);
      sizes = after_stage(sizes, stages[s]);
    }
    return total;
  }
  /// FLOPs of the trials that decide on a stage, at the sizes before it.
  [[nodiscard]] double trial_flops(const config& sizes, std::size_t which) const {
    const msg::stage& stage = setup_.timeline.stages[which];
    const auto of = [&](const msg::stage& growth) { return model_.flops_per_step(after_stage(sizes, growth)); };
    if (lacks_curve(which)) { return of(stage) * static_cast<double>(curve_steps(setup_.timeline, stage.at)); }
    double all = 0;
    if (stage.at.kind != msg::trigger_kind::probe) { return all; }
    for (index c = first_candidate(stage); c < msg::candidate_count(stage); ++c) {
      all += c < 0 ? model_.flops_per_step(sizes) : of(msg::with_candidate(stage, c));
    }
    return all * static_cast<double>(stage.at.window);
  }

  /// One optimizer step. Returns the mean loss.
  double train_step() {
    const stopwatch watch;
    lr_ = course_.rate(step_);
    const std::vector<msg::birth_rate> rates = course_.fresh_rates(step_);
    const auto [loss, squares] = model_.train(step_, lr_, rates, position_);
    if (!std::isfinite(loss) || !std::isfinite(squares)) {
      throw run_error("the " + std::string{std::isfinite(loss) ? "gradient" : "loss"} + " is not finite at step " +
                      std::to_string(step_) + "; " +
                      (checkpoint_.empty() ? "no checkpoint had been saved"
                                           : "the last checkpoint is intact: " + checkpoint_.string()) +
                      " (a lower --lr may help)");
    }
    tokens_ += tokens_per_step();
    flops_ += model_.flops_per_step(model_.sizes());
    ++step_;
    seconds_ += watch.seconds();
    return loss;
  }

  void evaluate() {
    held_out_ = model_.evaluate(step_);
    evaluated_at_ = step_;
    window_ = {{}, tokens_}; // evaluation is no training time
  }

  /// Whatever is due before the forward of step_: trials, growths. Returns why the run must be left, if it must.
  std::optional<run_outcome> begin_stages() {
    if (const std::optional<run_outcome> why = finish_trials()) { return why; } // those that a stop had cut short
    while (true) {
      if (const std::optional<run_outcome> why = know_what_to_expect()) { return why; }
      const std::size_t known = schedule_.log().size();
      const msg::decision next = schedule_.next(step_);
      if (next.what == msg::verdict::wait) {
        if (schedule_.log().size() > known) { decline(next); }
        return std::nullopt;
      }
      if (next.what == msg::verdict::probe) {
        if (const std::optional<run_outcome> why = finish_trials()) { return why; }
      } else {
        grow_now(next);
      }
    }
  }

  /// Sets the run aside while trials borrow its model, and brings it back, to the bit.
  ///
  /// trials   called with the model as it is
  template <class Trials>
  auto aside(const Trials& trials) {
    model_.fetch();
    model_state<float> run = model_.state();
    const auto result = trials(std::as_const(run));
    model_.become(std::move(run));
    window_ = {{}, tokens_};
    return result;
  }

  /// The first candidate of a stage's trials: going on as it is where that may win.
  [[nodiscard]] static index first_candidate(const msg::stage& stage) noexcept {
    return stage.at.every > 0 ? msg::probe_result::as_it_is : 0;
  }

  /// Runs the trials that were asked for before the forward of step_, and that have no result yet.
  std::optional<run_outcome> finish_trials() {
    if (schedule_.log().empty()) { return std::nullopt; }
    const msg::decision asked = schedule_.log().back();
    if (asked.what != msg::verdict::probe || asked.step != step_) { return std::nullopt; }
    const msg::stage& stage = setup_.timeline.stages[static_cast<std::size_t>(asked.stage)];
    const auto tried = [&](index candidate) {
      const std::vector<msg::probe_result>& done = schedule_.seen().probes;
      return std::any_of(done.begin(), done.end(), [&](const msg::probe_result& p) {
        return p.stage == asked.stage && p.step == step_ && p.candidate == candidate;
      });
    };
    index c = first_candidate(stage);
    while (c < msg::candidate_count(stage) && tried(c)) { ++c; }
    if (c == msg::candidate_count(stage)) { return std::nullopt; }
    const double before = evaluated_at_ == step_ ? held_out_.loss : model_.evaluate(step_).loss;
    return aside([&](const model_state<float>& run) -> std::optional<run_outcome> {
      for (; c < msg::candidate_count(stage); ++c) {
        if (const std::optional<run_outcome> why = ended_early()) { return why; }
        const std::optional<trial_record> trial =
            try_candidate(model_, run, setup_.settings, course_, stage, c, step_, position_, before);
        if (!trial) { return run_outcome::interrupted; }
        note(*trial);
        schedule_.observe(
            msg::probe_result{asked.stage, step_, c, trial->flops, trial->loss_before, trial->loss_after});
      }
      return std::nullopt;
    });
  }

  [[nodiscard]] bool lacks_curve(std::size_t stage) const {
    const std::vector<msg::expected_curve>& known = schedule_.seen().expected;
    return setup_.timeline.stages[stage].at.kind == msg::trigger_kind::slope &&
           std::none_of(known.begin(), known.end(),
                        [&](const msg::expected_curve& c) { return c.stage == static_cast<index>(stage); });
  }
  /// Trains the curve that the next stage is measured against, if it needs one.
  std::optional<run_outcome> know_what_to_expect() {
    const std::size_t stage = schedule_.begun();
    if (stage == setup_.timeline.stages.size() || !lacks_curve(stage)) { return std::nullopt; }
    const config sizes = sizes_after_stages(setup_.start, course_.timeline, stage + 1);
    const std::optional<expected_trial> trial = aside(
        [&](const model_state<float>&) { return train_expected(model_, sizes, setup_.settings, course_, step_); });
    if (!trial) { return run_outcome::interrupted; }
    note(trial->record);
    schedule_.expect(static_cast<index>(stage), trial->points);
    flops_total_ = planned_flops();
    return std::nullopt;
  }

  /// A trial's cost is the run's; its tokens aren't: the run will train on them itself.
  void note(const trial_record& trial) {
    flops_ += trial.flops;
    seconds_ += trial.seconds;
    stage_.seconds += trial.seconds; // which are no steps of the run
    metrics_.write(to_json(trial));
    terminal_.trial(trial);
  }
  /// Trials were won by going on as it is.
  void decline(const msg::decision& by) {
    flops_total_ = planned_flops();
    metrics_.write(json{{"event", "decision"},
                        {"step", by.step},
                        {"stage", by.stage},
                        {"what", msg::verdict_names[static_cast<std::size_t>(by.what)]},
                        {"why", by.why},
                        {"seen", by.seen},
                        {"limit", by.limit}});
    terminal_.note(fmt::format("no growth at step {}: {}", by.step, reason_text(by.why, by.seen, by.limit)));
  }

  /// At the end: what the next stage was still waiting for, if there is one.
  void note_waiting_stage() {
    const std::size_t begun = course_.steps.size();
    if (begun == setup_.timeline.stages.size()) { return; }
    const index since = begun == 0 ? 0 : course_.steps.back();
    const msg::decision last = msg::decide(setup_.timeline, static_cast<index>(begun), schedule_.seen(), step_,
                                           detail::extent_of(setup_.settings), since);
    terminal_.note(fmt::format("{} of {} stages did not begin; the next one waits: {}",
                               setup_.timeline.stages.size() - begun, setup_.timeline.stages.size(),
                               reason_text(last.why, last.seen, last.limit)));
  }

  /// A stage begins, before the forward of step_; the same batch is put through the old and the new model.
  void grow_now(const msg::decision& by) {
    course_ = {schedule_.resolved(), schedule_.steps(), setup_.settings.steps};
    const msg::stage& stage = course_.timeline.stages[static_cast<std::size_t>(by.stage)];
    const msg::stage& given = setup_.timeline.stages[static_cast<std::size_t>(by.stage)];
    const msg::plan plan = plan_of_stage(model_.sizes(), stage, growth_seed(setup_.settings, by.stage));
    const growth_effect effect = model_.grow_watched(plan, step_, stage, position_);
    seconds_ += effect.seconds;
    stage_ = {step_, seconds_};
    flops_total_ = planned_flops();
    std::vector<growth_record> records;
    for (const msg::axis_plan& a : plan.axes()) {
      records.push_back({.step = step_,
                         .group = by.stage,
                         .axis = a.name,
                         .from = a.old_size,
                         .to = a.new_size,
                         .rule = a.growth.contract.rule,
                         .loss_before = effect.loss_before,
                         .loss_after = effect.loss_after,
                         .max_abs_logit_diff = effect.found.outputs.max_abs,
                         .bits_equal = effect.found.same_bits(),
                         .trigger = std::string{msg::trigger_names[static_cast<std::size_t>(given.at.kind)]},
                         .why = by.why,
                         .seen = by.seen,
                         .limit = by.limit,
                         .promised = msg::to_string(a.growth.contract.keeps)});
      metrics_.write(to_json(records.back()));
    }
    terminal_.growth(records);
    window_ = {{}, tokens_};
  }

  /// Sizes of the axes that every model has, and of those that this one has or grows, in the order to show.
  [[nodiscard]] named_sizes dims() const {
    named_sizes sizes;
    for (const auto& [axis, member] : config_axes) {
      const bool always =
          std::any_of(grown_axes.begin(), grown_axes.end(), [name = axis](const auto& a) { return a.first == name; });
      const bool groups = axis == "kv_heads" && model_.sizes().arch == architecture::llama;
      if (always || groups || msg::size_of(setup_.timeline.start, axis) > 0) {
        sizes.emplace_back(axis, size_on(model_.sizes(), axis));
      }
    }
    std::stable_sort(sizes.begin(), sizes.end(), [](const auto& a, const auto& b) {
      return report_detail::axis_rank(a.first) < report_detail::axis_rank(b.first);
    });
    return sizes;
  }
  /// Ramps under way: by axis, the lowest value of its mask.
  [[nodiscard]] named_values mask_values() const {
    named_values values;
    for (const auto& [axis, member] : config_axes) {
      const std::vector<float> mask = model_.state().growth.mask(axis, step_);
      if (!mask.empty()) { values.emplace_back(axis, *std::min_element(mask.begin(), mask.end())); }
    }
    return values;
  }

  void record_step(std::optional<double> loss, bool evaluated) {
    const double elapsed = window_.watch.seconds();
    const double rate = elapsed > 0 ? static_cast<double>(tokens_ - window_.tokens) / elapsed : 0;
    if (tokens_ > window_.tokens && elapsed > 0) { tokens_per_second_ = rate; }
    const step_record record{.step = step_,
                             .tokens = tokens_,
                             .flops = flops_,
                             .seconds = seconds_,
                             .loss = loss ? *loss : missing,
                             .val_loss = evaluated ? std::optional{held_out_.loss} : std::nullopt,
                             .val_parts = evaluated ? held_out_.parts : named_values{},
                             .lr = step_ == 0 ? course_.rate(0) : lr_,
                             .tokens_per_second = tokens_per_second_,
                             .parameters = parameter_count(model_.sizes()),
                             .dims = dims(),
                             .masks = mask_values()};
    metrics_.write(to_json(record));
    terminal_.step(record, setup_.settings.steps, flops_total_, setup_.settings.max_seconds);
    window_ = {{}, tokens_};
  }

  run_outcome leave(run_outcome how) {
    if (how != run_outcome::interrupted) {
      if (evaluated_at_ != step_) { evaluate(); }
      metrics_.write(to_json(end_record{.step = step_,
                                        .val_loss = held_out_.loss,
                                        .seconds = seconds_,
                                        .flops = flops_,
                                        .tokens = tokens_,
                                        .parameters = parameter_count(model_.sizes()),
                                        .val_parts = held_out_.parts}));
      const std::string text = schedule_json(resolved()).dump(1) + "\n";
      write_file_atomically(setup_.directory / resolved_schedule_name, std::string_view(text));
    }
    save();
    return how;
  }

  static std::vector<stored_parameter<float>> stored_parameters(model_state<float>& state) {
    std::vector<stored_parameter<float>> parameters;
    for (std::size_t p = 0; p < state.values.tensors.size(); ++p) {
      tensor<float>& value = state.values.tensors[p];
      parameters.push_back({stored_name(state.sizes.arch, value.name), value.shape, std::span(value.data),
                            std::span(state.moment1.tensors[p].data), std::span(state.moment2.tensors[p].data)});
    }
    return parameters;
  }

  void save() {
    const options& o = setup_.settings;
    metrics_.sync();
    model_.fetch();
    model_state<float>& state = model_.state();
    checkpoint_documents documents;
    documents.config = {state.sizes, why_not_plain(state.sizes, mask_values(), !state.norm_splits.empty()),
                        data_.words.special.pad, state.norm_splits, o.dropout};
    documents.growths = state.growth.log();
    documents.state = {.step = step_,
                       .tokens = tokens_,
                       .flops = flops_,
                       .seconds = seconds_,
                       .schedule = schedule_json(setup_.timeline),
                       .log = schedule_.log(),
                       .seen = schedule_.seen(),
                       .options = options_json(o),
                       .seed = o.seed,
                       .counters = {},
                       .files_hash = data_.files_hash,
                       .epoch = position_.epoch,
                       .position = position_.position,
                       .threads = setup_.threads,
                       .gemm = gemm_name_of(o.device, o.precision),
                       .isa = setup_.isa,
                       .metrics_bytes = metrics_.bytes()};
    const std::vector<stored_parameter<float>> parameters = stored_parameters(state);
    checkpoint_ = save_checkpoint<float>(setup_.directory, parameters, state.growth.births(), documents);
  }

  static model_state<float> load(const std::filesystem::path& folder, const checkpoint_documents& documents) {
    model_state<float> state;
    state.sizes = documents.config.sizes;
    state.norm_splits = documents.config.norm_splits;
    state.values = make_parameters<float>(state.sizes);
    state.moment1 = state.values.like();
    state.moment2 = state.values.like();
    const std::vector<stored_parameter<float>> parameters = stored_parameters(state);
    axis_births births = load_checkpoint<float>(folder, parameters, documents.state.step);
    state.growth = msg::growth_state(documents.growths, std::move(births), schema_of(state.sizes));
    return state;
  }

  struct stage_begin {
    index step = 0;
    double seconds = 0;
  };
  struct rate_window {
    stopwatch watch;
    index tokens = 0;
  };

  run_setup setup_;
  const training_data& data_;
  printer& terminal_;
  msg::schedule_state schedule_;
  trained_model model_;
  metrics_writer metrics_;
  growth_course course_;
  index step_ = 0; // steps done, and number of the next
  index tokens_ = 0;
  double flops_ = 0;
  double seconds_ = 0; // of training: forward, backward, update and growth, trials too; not evaluation, not checkpoints
  data_position position_;
  std::filesystem::path checkpoint_;
  double lr_ = 0;
  held_out_loss held_out_;
  index evaluated_at_ = -1; // step of held_out_
  double tokens_per_second_ = missing;
  double flops_total_ = 0; // of the whole run; missing while it cannot be told
  rate_window window_{};
  stage_begin stage_{}; // of the present sizes
};

} // namespace reference
