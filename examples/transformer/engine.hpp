// Where a trainer's model computes: the host's cores, or a GPU where the program was built for one.
#pragma once

#include "transformer/cpu_backend.hpp"
#include "transformer/cuda_engine.hpp"
#include "transformer/engine_types.hpp"
#include "transformer/errors.hpp"
#include "transformer/gemm_precision.hpp"
#include "transformer/gemm_probe.hpp"
#include "transformer/grow_model.hpp"
#include "transformer/model.hpp"

#include <msg/ages.hpp>
#include <msg/growth.hpp>
#include <msg/optimizer.hpp>
#include <msg/plan.hpp>
#include <msg/schema.hpp>

#include <cmath>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace reference {

/// A model in training on the host's cores. What a trainer asks of an engine:
///
///   build(batch, tokens)               the model for batches of this shape, of the state's sizes
///   forward(input, masks)              its loss
///   logits(), sentence_logits()        of the last forward(), on the host
///   add_batch(input, masks, share)     forward and backward of a part of a step's batch, share of its weight
///   update(request, ages)              the optimizer step that those parts make
///   grow(plan, step, ramp, ramps)      state and model-to-be; build() comes after
///   fetch()                            makes the numbers of the state current
class cpu_engine {
public:
  /// The state must outlive the engine, at one place.
  explicit cpu_engine(model_state<float>& state) : state_(&state) {}

  void build(index batch, index tokens) {
    model_.reset(); // never two models' activations at once
    model_ = std::make_unique<transformer<float>>(state_->sizes, batch, tokens);
  }
  double forward(const model_input& input, const masks& silence) {
    return model_->forward(state_->values, input, silence);
  }
  [[nodiscard]] std::span<const float> logits() const { return model_->logits(); }
  [[nodiscard]] std::span<const float> sentence_logits() const { return model_->sentence_logits(); }

  void add_batch(const model_input& input, const masks& silence, double share) {
    if (!begun_) {
      if (gradients_.tensors.empty()) {
        gradients_ = state_->values.like();
      } else {
        gradients_.zero();
      }
      loss_ = 0;
      begun_ = true;
    }
    loss_ += model_->forward(state_->values, input, silence) * share;
    model_->backward(state_->values, gradients_, share);
  }
  /// Leaves everything as it is where a number is not finite.
  step_numbers update(const step_request& request, const std::vector<msg::parameter_ages>& ages) {
    begun_ = false;
    step_numbers numbers{loss_, 0};
    for (const auto& g : gradients_) { numbers.squares += msg::sum_of_squares(g.data); }
    if (!std::isfinite(numbers.loss) || !std::isfinite(numbers.squares)) { return numbers; }
    const double scale = msg::clip_scale(std::sqrt(numbers.squares), request.clip);
    const msg::schema schema = schema_of(state_->sizes);
    for (std::size_t p = 0; p < ages.size(); ++p) {
      msg::update(request.optimizer,
                  msg::update_step{.lr = request.lr,
                                   .step = request.step,
                                   .gradient_scale = scale,
                                   .decay = msg::decays(schema.parameters()[p].what),
                                   .rates = request.rates},
                  ages[p], state_->values.tensors[p], std::as_const(gradients_.tensors[p]), state_->moment1.tensors[p],
                  state_->moment2.tensors[p]);
    }
    return numbers;
  }
  void grow(const msg::plan& plan, index step, const msg::ramp& ramp, const msg::named_ramps& ramps = {}) {
    gradients_ = {};
    reference::grow(*state_, plan, step, ramp, ramps);
  }
  void fetch() const noexcept {}

private:
  model_state<float>* state_;
  std::unique_ptr<transformer<float>> model_;
  tensor_set<float> gradients_;
  double loss_ = 0;
  bool begun_ = false;
};

/// Throws input_error with the reason, unless the device can be used.
inline void require_device(const std::string& device) {
  if (device == "cpu") { return; }
#if defined(MSG_WITH_CUDA)
  if (const std::optional<std::string> reason = why_no_gpu()) {
    throw input_error("--device cuda: no GPU can be used: " + *reason);
  }
#else
  throw input_error("--device cuda: this program was built without CUDA: nvcc or cuBLAS was not found");
#endif
}

/// What multiplies on a device, and whether a growth may promise bits there.
[[nodiscard]] inline std::string gemm_name_of(const std::string& device, const std::string& precision) {
#if defined(MSG_WITH_CUDA)
  if (device == "cuda") { return gpu_gemm_name() + ", " + precision; }
#endif
  (void)device;
  (void)precision;
  return std::string{gemm_backend_name()};
}
[[nodiscard]] inline bits_promise bits_promise_of(const std::string& device) {
  if (device == "cuda") { return {false, "cuBLAS sums in an order that depends on all sizes"}; }
  return bits_probe();
}

/// The engine of a device.
class engine {
#if defined(MSG_WITH_CUDA)
  using any = std::variant<cpu_engine, cuda_engine>;
#else
  using any = std::variant<cpu_engine>;
#endif

public:
  /// The state must outlive the engine, at one place. Throws input_error where there is no such device.
  engine(model_state<float>& state, const std::string& device, const std::string& precision)
      : one_(make(state, device, precision)) {}

  void build(index batch, index tokens) {
    std::visit([&](auto& e) { e.build(batch, tokens); }, one_);
  }
  double forward(const model_input& input, const masks& silence) {
    return std::visit([&](auto& e) { return e.forward(input, silence); }, one_);
  }
  [[nodiscard]] std::span<const float> logits() const {
    return std::visit([](const auto& e) { return e.logits(); }, one_);
  }
  [[nodiscard]] std::span<const float> sentence_logits() const {
    return std::visit([](const auto& e) { return e.sentence_logits(); }, one_);
  }
  void add_batch(const model_input& input, const masks& silence, double share) {
    std::visit([&](auto& e) { e.add_batch(input, silence, share); }, one_);
  }
  step_numbers update(const step_request& request, const std::vector<msg::parameter_ages>& ages) {
    return std::visit([&](auto& e) { return e.update(request, ages); }, one_);
  }
  void grow(const msg::plan& plan, index step, const msg::ramp& ramp, const msg::named_ramps& ramps = {}) {
    std::visit([&](auto& e) { e.grow(plan, step, ramp, ramps); }, one_);
  }
  void fetch() {
    std::visit([](auto& e) { e.fetch(); }, one_);
  }

private:
  static any make(model_state<float>& state, const std::string& device, [[maybe_unused]] const std::string& precision) {
    require_device(device);
#if defined(MSG_WITH_CUDA)
    if (device == "cuda") { return cuda_engine(state, gemm_precision_of(precision).value()); }
#endif
    return cpu_engine(state);
  }
  any one_;
};

} // namespace reference
