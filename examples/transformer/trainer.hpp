// The training loop: steps, growths, evaluations, checkpoints; the same for a new run and for a resumed one.
#pragma once

#include "transformer/checkpoint.hpp"
#include "transformer/data.hpp"
#include "transformer/engine.hpp"
#include "transformer/grow_model.hpp"
#include "transformer/metrics.hpp"
#include "transformer/model.hpp"
#include "transformer/progress.hpp"
#include "transformer/run_setup.hpp"
#include "transformer/schedule_file.hpp"
#include "transformer/stop_signal.hpp"

#include <msg/grow.hpp>

#include <chrono>
#include <cmath>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace reference {

// What the loss of hidden tokens in pairs is the sum of.
inline constexpr const char* hidden_part = "hidden_tokens";
inline constexpr const char* pair_part = "next_segment";

enum class run_outcome { finished, interrupted, out_of_time };

/// One run of a model, from where its state stands.
class trainer {
public:
  /// The data must outlive the trainer.
  trainer(run_setup setup, const training_data& data, printer& terminal)
      : setup_(std::move(setup)), data_(data), terminal_(terminal),
        state_(initial_state<float>(setup_.start, setup_.settings.seed)), metrics_(setup_.directory / "metrics.jsonl") {
    prepare();
  }
  /// Continues from a checkpoint folder.
  trainer(run_setup setup, const training_data& data, printer& terminal, const std::filesystem::path& checkpoint,
          const checkpoint_documents& documents)
      : setup_(std::move(setup)), data_(data), terminal_(terminal), state_(load(checkpoint, documents)),
        metrics_(setup_.directory / "metrics.jsonl", documents.state.metrics_bytes), step_(documents.state.step),
        tokens_(documents.state.tokens), flops_(documents.state.flops), seconds_(documents.state.seconds),
        next_stage_(static_cast<std::size_t>(documents.state.next_stage)), position_{documents.state.epoch,
                                                                                     documents.state.position} {
    checkpoint_ = checkpoint;
    prepare();
  }

  /// Trains to the end, a time limit, or a signal; saves in each case. Throws run_error for a loss that is not finite
  /// and for anything that cannot be written; checkpoints written before stay usable.
  run_outcome run() {
    const options& o = setup_.settings;
    if (step_ >= o.steps) { return run_outcome::finished; } // resumed at its end: all is written already
    if (step_ == 0) {
      evaluate();
      record_step(std::nullopt, true);
    }
    while (step_ < o.steps) {
      if (stop_requested()) { return leave(run_outcome::interrupted); }
      if (o.max_seconds > 0 && seconds_ >= o.max_seconds) { return leave(run_outcome::out_of_time); }
      while (next_stage_ < stage_steps_.size() && stage_steps_[next_stage_] <= step_) { grow_now(); }
      const double loss = train_step();
      const bool last = step_ == o.steps;
      const bool evaluates = last || (o.eval_every > 0 && step_ % o.eval_every == 0);
      if (evaluates || step_ % o.log_every == 0) {
        if (evaluates) { evaluate(); }
        record_step(loss, evaluates);
      }
      if (!last && o.save_every > 0 && step_ % o.save_every == 0) { save(); }
    }
    return leave(run_outcome::finished);
  }

  [[nodiscard]] double seconds() const noexcept { return seconds_; }
  /// Training time of a step at the present sizes: the average since the last growth; where none was run since (a
  /// finished run that was resumed), by compute, from the run as a whole.
  [[nodiscard]] double seconds_per_step() const noexcept {
    if (step_ > stage_.step) { return (seconds_ - stage_.seconds) / static_cast<double>(step_ - stage_.step); }
    const double flops = flops_per_step(state_.sizes);
    return flops_ > 0 ? seconds_ * flops / flops_ : 0;
  }
  [[nodiscard]] index step() const noexcept { return step_; }
  [[nodiscard]] const model_state<float>& state() const noexcept { return state_; }
  [[nodiscard]] const std::filesystem::path& checkpoint() const noexcept { return checkpoint_; }

private:
  void prepare() {
    const options& o = setup_.settings;
    stage_steps_ = msg::stage_steps(setup_.timeline, {o.steps, tokens_per_step()});
    if (state_.sizes.experts == 0) { state_.sizes.chosen = setup_.start.chosen; } // no config.json of an FFN says it
    rebuild_model();
    batch_ = make_batch(data_, o.batch);
    window_ = {clock::now(), tokens_};
    flops_total_ = planned_flops();
  }

  using clock = std::chrono::steady_clock;
  [[nodiscard]] static double since(clock::time_point begin) {
    return std::chrono::duration<double>(clock::now() - begin).count();
  }
  [[nodiscard]] index tokens_per_step() const {
    return setup_.settings.batch * setup_.settings.seq * setup_.settings.accumulate;
  }

  /// Length of the sequences that a model of these sizes sees: --seq, or fewer while there are fewer positions; those
  /// of the data are then several in a row.
  [[nodiscard]] index sequence_of(const config& sizes) const { return std::min(setup_.settings.seq, sizes.positions); }
  [[nodiscard]] double flops_per_step(const config& sizes) const {
    return training_flops_per_token(sizes, sequence_of(sizes), predicted_share(sizes)) *
           static_cast<double>(tokens_per_step());
  }

  /// FLOPs from now to the end, each stage at its own size.
  [[nodiscard]] double planned_flops() const {
    const options& o = setup_.settings;
    config sizes = state_.sizes;
    double total = flops_;
    index from = step_;
    for (std::size_t stage = next_stage_; stage <= stage_steps_.size(); ++stage) {
      const index to = stage < stage_steps_.size() ? std::clamp(stage_steps_[stage], from, o.steps) : o.steps;
      total += flops_per_step(sizes) * static_cast<double>(to - from);
      from = to;
      if (stage < stage_steps_.size()) { sizes = after_stage(sizes, setup_.timeline.stages[stage]); }
    }
    return total;
  }

  void build_model(index sequence) {
    const options& o = setup_.settings;
    engine_.build(o.batch * o.seq / sequence, sequence);
  }
  void rebuild_model() {
    build_model(sequence_of(state_.sizes));
    ages_.clear();
    stage_ = {step_, seconds_};
  }

  /// How old each entry is; the same from step to step while no ramp moves.
  void refresh_ages() {
    const bool ramping = state_.growth.ramping(step_);
    if (!ages_.empty() && !ramping && !ages_moving_) { return; }
    ages_.clear();
    const msg::schema schema = schema_of(state_.sizes);
    for (const msg::parameter& p : schema.parameters()) { ages_.push_back(state_.ages(p, step_)); }
    ages_moving_ = ramping;
  }

  [[nodiscard]] double learning_rate() const {
    const std::vector<msg::rate_event> events =
        msg::rate_events(setup_.timeline, std::span<const index>(stage_steps_).first(next_stage_));
    return msg::learning_rate_at(setup_.timeline.lr, step_, setup_.settings.steps, events);
  }

  /// One optimizer step: forward and backward of every micro-batch, clipping, update. Returns the mean loss.
  double train_step() {
    const auto begin = clock::now();
    const options& o = setup_.settings;
    const live_masks masks = state_.masks(step_);
    for (index micro = 0; micro < o.accumulate; ++micro) {
      position_ = train_batch(data_, o.seed, position_, batch_);
      model_input part = input();
      part.drop = {o.dropout, o.seed, step_, micro};
      engine_.add_batch(part, masks.view(), 1 / static_cast<double>(o.accumulate));
    }
    lr_ = learning_rate();
    refresh_ages();
    const msg::adamw adamw{.beta1 = o.beta1, .beta2 = o.beta2, .weight_decay = o.weight_decay};
    const auto [loss, squares] = engine_.update({adamw, lr_, step_, o.clip}, ages_);
    if (!std::isfinite(loss) || !std::isfinite(squares)) {
      throw run_error("the " + std::string{std::isfinite(loss) ? "gradient" : "loss"} + " is not finite at step " +
                      std::to_string(step_) + "; " +
                      (checkpoint_.empty() ? "no checkpoint had been saved"
                                           : "the last checkpoint is intact: " + checkpoint_.string()) +
                      " (a lower --lr may help)");
    }
    tokens_ += tokens_per_step();
    flops_ += flops_per_step(state_.sizes);
    ++step_;
    seconds_ += since(begin);
    return loss;
  }

  [[nodiscard]] model_input input() const noexcept {
    return {batch_.tokens, batch_.targets, batch_.types, batch_.lengths, batch_.next_sentence};
  }
  /// Loss of the batch.
  double forward(const live_masks& masks) { return engine_.forward(input(), masks.view()); }

  /// Mean loss over the held-out windows, masks as they are at this step: over all targets, and over all pairs.
  void evaluate() {
    const live_masks masks = state_.masks(step_);
    double sum = 0;
    double pair_sum = 0;
    index targets = 0;
    index pairs = 0;
    const auto count = [](const std::vector<std::int32_t>& list) {
      return static_cast<index>(std::count_if(list.begin(), list.end(), [](std::int32_t id) { return id >= 0; }));
    };
    for (index windows = 0; windows < data_.validation_windows;) {
      windows += validation_batch(data_, windows, batch_);
      const index new_targets = count(batch_.targets);
      const index new_pairs = count(batch_.next_sentence);
      double loss = forward(masks);
      if (new_pairs > 0) {
        const double of_pairs = pair_loss();
        pair_sum += static_cast<double>(new_pairs) * of_pairs;
        loss -= of_pairs;
      }
      sum += static_cast<double>(new_targets) * loss;
      targets += new_targets;
      pairs += new_pairs;
    }
    val_loss_ = sum / static_cast<double>(targets);
    val_parts_.clear();
    if (pairs > 0) {
      const double of_pairs = pair_sum / static_cast<double>(pairs);
      val_parts_ = {{hidden_part, val_loss_}, {pair_part, of_pairs}};
      val_loss_ += of_pairs;
    } else if (data_.masked()) {
      val_parts_ = {{hidden_part, val_loss_}};
    }
    evaluated_at_ = step_;
    window_ = {clock::now(), tokens_}; // evaluation is no training time
  }

  /// The part of the last forward's loss that pairs have, from their logits.
  [[nodiscard]] double pair_loss() const {
    const std::span<const float> logits = engine_.sentence_logits();
    double sum = 0;
    index count = 0;
    for (std::size_t b = 0; b < batch_.next_sentence.size(); ++b) {
      const std::int32_t target = batch_.next_sentence[b];
      if (target < 0) { continue; }
      const auto of = [&](std::size_t k) { return static_cast<double>(logits[2 * b + k]); };
      const double greatest = std::max(of(0), of(1));
      sum += greatest + std::log(std::exp(of(0) - greatest) + std::exp(of(1) - greatest)) -
             of(static_cast<std::size_t>(target));
      ++count;
    }
    return sum / static_cast<double>(count);
  }

  /// The next stage happens now, before the forward of step_; the same batch is put through the old and the new model.
  void grow_now() {
    const options& o = setup_.settings;
    const msg::stage& stage = setup_.timeline.stages[next_stage_];
    const auto group = static_cast<index>(next_stage_++);
    const msg::random_stream seeds{o.seed, msg::stream_of("growth")};
    const msg::plan plan =
        plan_of_stage(state_.sizes, stage, msg::random_bits(seeds, static_cast<std::uint64_t>(group)));
    (void)train_batch(data_, o.seed, position_, batch_);
    const double before = forward(state_.masks(step_));
    const msg::verifier check{plan, msg::evaluation{before, engine_.logits()}};
    const index sequence = sequence_of(state_.sizes);
    const auto begin = clock::now();
    engine_.grow(plan, step_, stage.ramp);
    seconds_ += since(begin);
    build_model(sequence); // the same sequences, even if there are positions for longer ones now
    const double after = forward(state_.masks(step_));
    const msg::verification found = check.against(msg::evaluation{after, engine_.logits()});
    rebuild_model();
    std::vector<growth_record> records;
    for (const msg::axis_plan& a : plan.axes()) {
      records.push_back({.step = step_,
                         .group = group,
                         .axis = a.name,
                         .from = a.old_size,
                         .to = a.new_size,
                         .rule = a.growth.contract.rule,
                         .loss_before = before,
                         .loss_after = after,
                         .max_abs_logit_diff = found.outputs.max_abs,
                         .bits_equal = found.same_bits(),
                         .promised = msg::to_string(a.growth.contract.keeps)});
      metrics_.write(to_json(records.back()));
    }
    terminal_.growth(records);
    window_ = {clock::now(), tokens_};
  }

  /// Sizes of the axes that every model has, and of those that this one has or grows, in the order to show.
  [[nodiscard]] named_sizes dims() const {
    named_sizes sizes;
    for (const auto& [axis, member] : config_axes) {
      const bool always =
          std::any_of(grown_axes.begin(), grown_axes.end(), [name = axis](const auto& a) { return a.first == name; });
      const bool groups = axis == "kv_heads" && state_.sizes.arch == architecture::llama;
      if (always || groups || msg::size_of(setup_.timeline.start, axis) > 0) {
        sizes.emplace_back(axis, size_on(state_.sizes, axis));
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
      const std::vector<float> mask = state_.growth.mask(axis, step_);
      if (!mask.empty()) { values.emplace_back(axis, *std::min_element(mask.begin(), mask.end())); }
    }
    return values;
  }

  void record_step(std::optional<double> loss, bool evaluated) {
    const double elapsed = since(window_.begin);
    const double rate = elapsed > 0 ? static_cast<double>(tokens_ - window_.tokens) / elapsed : 0;
    if (tokens_ > window_.tokens && elapsed > 0) { tokens_per_second_ = rate; }
    const step_record record{.step = step_,
                             .tokens = tokens_,
                             .flops = flops_,
                             .seconds = seconds_,
                             .loss = loss ? *loss : missing,
                             .val_loss = evaluated ? std::optional{val_loss_} : std::nullopt,
                             .val_parts = evaluated ? val_parts_ : named_values{},
                             .lr = step_ == 0 ? learning_rate() : lr_,
                             .tokens_per_second = tokens_per_second_,
                             .parameters = parameter_count(state_.sizes),
                             .dims = dims(),
                             .masks = mask_values()};
    metrics_.write(to_json(record));
    terminal_.step(record, setup_.settings.steps, flops_total_, setup_.settings.max_seconds);
    window_ = {clock::now(), tokens_};
  }

  run_outcome leave(run_outcome how) {
    if (how != run_outcome::interrupted) {
      if (evaluated_at_ != step_) { evaluate(); }
      metrics_.write(to_json(end_record{.step = step_,
                                        .val_loss = val_loss_,
                                        .seconds = seconds_,
                                        .flops = flops_,
                                        .tokens = tokens_,
                                        .parameters = parameter_count(state_.sizes),
                                        .val_parts = val_parts_}));
    }
    save();
    return how;
  }

  [[nodiscard]] std::vector<stored_parameter<float>> stored() { return stored_parameters(state_); }
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
    engine_.fetch();
    checkpoint_documents documents;
    documents.config = {state_.sizes, why_not_plain(state_.sizes, mask_values(), !state_.norm_splits.empty()),
                        data_.words.special.pad, state_.norm_splits, o.dropout};
    documents.growths = state_.growth.log();
    documents.state = {.step = step_,
                       .tokens = tokens_,
                       .flops = flops_,
                       .seconds = seconds_,
                       .next_stage = static_cast<index>(next_stage_),
                       .schedule = schedule_json(setup_.timeline),
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
    const std::vector<stored_parameter<float>> parameters = stored();
    checkpoint_ = save_checkpoint<float>(setup_.directory, parameters, state_.growth.births(), documents);
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
    clock::time_point begin;
    index tokens = 0;
  };

  run_setup setup_;
  const training_data& data_;
  printer& terminal_;
  model_state<float> state_; // its numbers are current after engine_.fetch()
  engine engine_{state_, setup_.settings.device, setup_.settings.precision};
  metrics_writer metrics_;
  index step_ = 0; // steps done, and number of the next
  index tokens_ = 0;
  double flops_ = 0;
  double seconds_ = 0; // of training: forward, backward, update and growth; not evaluation, not checkpoints
  std::size_t next_stage_ = 0;
  data_position position_;
  std::vector<index> stage_steps_;
  std::vector<msg::parameter_ages> ages_;
  bool ages_moving_ = false;
  token_batch batch_;
  std::filesystem::path checkpoint_;
  double lr_ = 0;
  double val_loss_ = missing;
  named_values val_parts_;
  index evaluated_at_ = -1; // step of val_loss_
  double tokens_per_second_ = missing;
  double flops_total_ = 0;
  rate_window window_{};
  stage_begin stage_{}; // of the present sizes
};

} // namespace reference
