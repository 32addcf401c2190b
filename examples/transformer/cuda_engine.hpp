// A model in training on a GPU, as a host program sees it: no CUDA header. Defined in cuda_engine.cuh, which
// cuda_engine.cu compiles.
#pragma once

#include "transformer/engine_types.hpp"
#include "transformer/gemm_precision.hpp"
#include "transformer/grow_model.hpp"
#include "transformer/model.hpp"

#include <msg/ages.hpp>
#include <msg/config.hpp>
#include <msg/growth.hpp>
#include <msg/plan.hpp>

#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace reference {

/// Why no GPU can be used, in a few words; nothing where one can.
[[nodiscard]] std::optional<std::string> why_no_gpu();
/// What multiplies: cuBLAS and the GPU's name.
[[nodiscard]] std::string gpu_gemm_name();

/// See cpu_engine, whose calls it has. Parameters, moments and gradients lie in the GPU's memory; those of the state
/// are current after fetch(). The host waits for the GPU once a step, for its numbers. Failures of the GPU are
/// run_error.
class cuda_engine {
public:
  /// The state must outlive the engine, at one place.
  explicit cuda_engine(model_state<float>& state, gemm_precision precision = gemm_precision::full);
  cuda_engine(cuda_engine&&) noexcept;
  cuda_engine& operator=(cuda_engine&&) noexcept;
  ~cuda_engine();

  void build(index batch, index tokens);
  double forward(const model_input& input, const masks& silence);
  [[nodiscard]] std::span<const float> logits() const;
  [[nodiscard]] std::span<const float> sentence_logits() const;
  void add_batch(const model_input& input, const masks& silence, double share);
  step_numbers update(const step_request& request, const std::vector<msg::parameter_ages>& ages);
  /// Tensor by tensor: never more than the old or the new model and one tensor.
  void grow(const msg::plan& plan, index step, const msg::ramp& ramp, const msg::named_ramps& ramps = {});
  void fetch();

private:
  struct implementation;
  std::unique_ptr<implementation> all_;
};

} // namespace reference
