// A model in training on a run's data: optimizer steps, evaluations, growths. It knows nothing of schedules and counts
// nothing, so that a trial can borrow it.
#pragma once

#include "transformer/data.hpp"
#include "transformer/engine.hpp"
#include "transformer/grow_model.hpp"
#include "transformer/live_masks.hpp"
#include "transformer/model.hpp"
#include "transformer/model_costs.hpp"
#include "transformer/options.hpp"
#include "transformer/report_metrics.hpp"
#include "transformer/run_setup.hpp"

#include <msg/grow.hpp>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <concepts>
#include <cstdint>
#include <optional>
#include <span>
#include <type_traits>
#include <utility>
#include <vector>

namespace reference {

// What the loss of hidden tokens in pairs is the sum of.
inline constexpr const char* hidden_part = "hidden_tokens";
inline constexpr const char* pair_part = "next_segment";

/// Counts seconds from where it is made.
class stopwatch {
public:
  [[nodiscard]] double seconds() const {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin_).count();
  }

private:
  std::chrono::steady_clock::time_point begin_ = std::chrono::steady_clock::now();
};

/// A loss over all held-out windows, and what it is the sum of, if it is one.
struct held_out_loss {
  double loss = missing;
  named_values parts = {};
};

/// What a growth did to the loss and the logits of one batch, in evaluation mode.
struct growth_effect {
  double loss_before = missing;
  double loss_after = missing;
  msg::verification found;
  double seconds = 0; // of the growth itself
};

class trained_model {
public:
  /// settings and data must outlive it.
  trained_model(const options& settings, const training_data& data, model_state<float> state)
      : settings_(settings), data_(data), state_(std::move(state)), batch_(make_batch(data, settings.batch)) {
    engine_.emplace(state_, settings_.device, settings_.precision);
    rebuild();
  }
  trained_model(const trained_model&) = delete; // the engine views the state
  trained_model& operator=(const trained_model&) = delete;

  /// Its numbers are current after fetch().
  [[nodiscard]] const model_state<float>& state() const noexcept { return state_; }
  [[nodiscard]] model_state<float>& state() noexcept { return state_; }
  [[nodiscard]] const config& sizes() const noexcept { return state_.sizes; }
  void fetch() { engine_->fetch(); }
  /// Another model takes its place: a copy of what state() was brings it back to the same bits.
  template <class State>
    requires std::same_as<std::remove_cvref_t<State>, model_state<float>>
  void become(State&& other) {
    engine_.reset(); // never two models' numbers on a device
    state_ = {};     // nor its own and another's beside the one that is copied
    state_ = std::forward<State>(other);
    engine_.emplace(state_, settings_.device, settings_.precision);
    rebuild();
  }

  /// FLOPs of one optimizer step at these sizes.
  [[nodiscard]] double flops_per_step(const config& sizes) const {
    return training_flops_per_token(sizes, sequence_of(sizes, settings_.seq), predicted_share(sizes)) *
           static_cast<double>(settings_.batch * settings_.seq * settings_.accumulate);
  }

  /// One optimizer step: forward and backward of every micro-batch, clipping, update. Where a number is not finite the
  /// model stays as it was.
  ///
  /// rates   see msg::update_step
  /// fill    fill(batch) makes the next micro-batch
  template <std::invocable<token_batch&> Fill>
  step_numbers train_on(index step, double lr, std::span<const msg::birth_rate> rates, const Fill& fill) {
    const live_masks masks = state_.masks(step);
    for (index micro = 0; micro < settings_.accumulate; ++micro) {
      fill(batch_);
      model_input part = input();
      part.drop = {settings_.dropout, settings_.seed, step, micro};
      engine_->add_batch(part, masks.view(), 1 / static_cast<double>(settings_.accumulate));
    }
    refresh_ages(step);
    const msg::adamw adamw{.beta1 = settings_.beta1, .beta2 = settings_.beta2, .weight_decay = settings_.weight_decay};
    return engine_->update({adamw, lr, step, settings_.clip, rates}, ages_);
  }
  /// The same on the batches at a position in the data, which moves on.
  step_numbers train(index step, double lr, std::span<const msg::birth_rate> rates, data_position& position) {
    return train_on(step, lr, rates,
                    [&](token_batch& batch) { position = train_batch(data_, settings_.seed, position, batch); });
  }

  /// Loss of the batch that it saw last, masks as they are at a step.
  double forward_again(index step) { return forward(state_.masks(step)); }

  /// Mean loss over the held-out windows, masks as they are at this step: over all targets, and over all pairs.
  [[nodiscard]] held_out_loss evaluate(index step) {
    const live_masks masks = state_.masks(step);
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
    held_out_loss result{sum / static_cast<double>(targets), {}};
    if (pairs > 0) {
      const double of_pairs = pair_sum / static_cast<double>(pairs);
      result.parts = {{hidden_part, result.loss}, {pair_part, of_pairs}};
      result.loss += of_pairs;
    } else if (data_.masked()) {
      result.parts = {{hidden_part, result.loss}};
    }
    return result;
  }

  /// Grows before the forward of a step.
  void grow(const msg::plan& plan, index step, const msg::stage& stage) {
    engine_->grow(plan, step, stage.ramp, ramps_of_stage(stage));
    rebuild();
  }
  /// The same; the batch at a position of the data is put through the old and the new model.
  growth_effect grow_watched(const msg::plan& plan, index step, const msg::stage& stage, data_position position) {
    (void)train_batch(data_, settings_.seed, position, batch_);
    growth_effect effect;
    effect.loss_before = forward(state_.masks(step));
    const msg::verifier check{plan, msg::evaluation{effect.loss_before, engine_->logits()}};
    const index sequence = sequence_of(state_.sizes, settings_.seq);
    const stopwatch watch;
    engine_->grow(plan, step, stage.ramp, ramps_of_stage(stage));
    effect.seconds = watch.seconds();
    build(sequence); // the same sequences, even if there are positions for longer ones now
    effect.loss_after = forward(state_.masks(step));
    effect.found = check.against(msg::evaluation{effect.loss_after, engine_->logits()});
    rebuild();
    return effect;
  }

private:
  void build(index sequence) { engine_->build(settings_.batch * settings_.seq / sequence, sequence); }
  void rebuild() {
    build(sequence_of(state_.sizes, settings_.seq));
    ages_.clear();
  }

  /// How old each entry is; the same from step to step while no ramp moves.
  void refresh_ages(index step) {
    const bool ramping = state_.growth.ramping(step);
    if (!ages_.empty() && !ramping && !ages_moving_) { return; }
    ages_.clear();
    const msg::schema schema = schema_of(state_.sizes);
    for (const msg::parameter& p : schema.parameters()) { ages_.push_back(state_.ages(p, step)); }
    ages_moving_ = ramping;
  }

  [[nodiscard]] model_input input() const noexcept {
    return {batch_.tokens, batch_.targets, batch_.types, batch_.lengths, batch_.next_sentence};
  }
  /// Loss of the batch.
  double forward(const live_masks& masks) { return engine_->forward(input(), masks.view()); }

  /// The part of the last forward's loss that pairs have, from their logits.
  [[nodiscard]] double pair_loss() const {
    const std::span<const float> logits = engine_->sentence_logits();
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

  const options& settings_;
  const training_data& data_;
  model_state<float> state_;
  std::optional<engine> engine_;
  std::vector<msg::parameter_ages> ages_;
  bool ages_moving_ = false;
  token_batch batch_;
};

} // namespace reference
