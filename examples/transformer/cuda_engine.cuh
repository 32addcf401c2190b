// Definition of cuda_engine, for one translation unit.
#pragma once

#include "transformer/cuda_backend.cuh"
#include "transformer/cuda_engine.hpp"
#include "transformer/errors.hpp"

#include <msg/cuda.cuh>

#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace reference {

std::optional<std::string> why_no_gpu() {
  int count = 0; // where there is no driver, the call leaves it alone
  const cudaError_t code = cudaGetDeviceCount(&count);
  if (code != cudaSuccess) {
    (void)cudaGetLastError();
    return std::string(cudaGetErrorName(code)) + ": " + cudaGetErrorString(code);
  }
  if (count == 0) { return "there is none"; }
  return std::nullopt;
}

std::string gpu_gemm_name() {
  cudaDeviceProp properties{};
  msg::cuda::check(cudaGetDeviceProperties(&properties, 0), "cudaGetDeviceProperties");
  return "cuBLAS " + std::to_string(CUBLAS_VER_MAJOR) + "." + std::to_string(CUBLAS_VER_MINOR) + ", " + properties.name;
}

struct cuda_engine::implementation {
  using set = cuda_backend::tensors<float>;

  implementation(model_state<float>& host, gemm_precision precision) : state(&host), on(precision) {
    upload(host.values, values);
    upload(host.moment1, moment1);
    upload(host.moment2, moment2);
    numbers.resize(2);
    on.wait();
  }

  void upload(const tensor_set<float>& from, set& to) const {
    for (const auto& t : from) {
      to.tensors.push_back({t.name, t.shape, {}});
      on.copy_in(std::span<const float>(t.data), to.tensors.back().data);
    }
  }
  void download(const set& from, tensor_set<float>& to) const {
    for (const auto& t : from) {
      auto here = make_tensor<float>(t.name, t.shape);
      on.read(t.data.data(), std::span<float>(here.data));
      to.tensors.push_back(std::move(here));
    }
  }

  std::span<const float> to_host(std::span<const float> from, std::vector<float>& to) const {
    to.resize(from.size());
    on.read(from.data(), std::span<float>(to));
    return to;
  }

  void begin_step() {
    if (gradients.tensors.empty()) {
      for (const auto& t : values) {
        gradients.tensors.push_back({t.name, t.shape, cuda_storage<float>(t.data.size())});
      }
    }
    for (auto& g : gradients) { on.fill_zero(g.data.data(), static_cast<index>(g.data.size())); }
    on.fill_zero(numbers.data(), 2);
    begun = true;
  }

  step_numbers update(const step_request& request, const std::vector<msg::parameter_ages>& at) {
    begun = false;
    const msg::cuda::on stream = on.stream();
    double* const squares = numbers.data() + 1;
    for (std::size_t p = 0; p < gradients.tensors.size(); ++p) {
      const auto& g = gradients.tensors[p];
      workspace.resize(static_cast<std::size_t>(msg::cuda::squares_workspace(static_cast<index>(g.data.size()))));
      msg::cuda::sum_of_squares(stream, msg::view(g.data.data(), static_cast<index>(g.data.size())),
                                msg::view(workspace.data(), static_cast<index>(workspace.size())), squares, p > 0);
    }
    if (!ages) {
      ages.emplace(at);
      const msg::schema schema = schema_of(state->sizes);
      decays.clear();
      for (const msg::parameter& p : schema.parameters()) { decays.push_back(msg::decays(p.what)); }
    }
    const msg::update_step now{.lr = request.lr, .step = request.step, .rates = request.rates};
    try {
      ages->set(stream, request.optimizer, now, at);
    } catch (const msg::error& failure) {
      if (failure.code() == msg::errc::cuda) { throw; }
      ages.emplace(at); // axes that grew together, and were alike until now, ramp each at its own pace: divided anew
      ages->set(stream, request.optimizer, now, at);
    }
    ages->clip(stream, squares, request.clip);
    for (std::size_t p = 0; p < values.tensors.size(); ++p) {
      msg::update(stream, *ages, static_cast<index>(p), decays[p], values.tensors[p],
                  std::as_const(gradients.tensors[p]), moment1.tensors[p], moment2.tensors[p]);
    }
    double found[2] = {};
    on.read(numbers.data(), std::span<double>(found));
    return {found[0], found[1]};
  }

  void grow(const msg::plan& plan, index step, const msg::ramp& ramp, const msg::named_ramps& ramps) {
    const config sizes = sizes_after(state->sizes, plan);
    std::vector<float> norm_splits = norm_splits_after(state->norm_splits, plan);
    state->growth.record(plan, step, ramp, ramps); // all three throw before anything is changed
    on.wait();
    model.reset(); // room for the tensors that grow
    gradients = {};
    ages.reset();
    if (begins_mixture(state->sizes, plan)) {
      const auto upload_router = [&](const tensor<float>& router) {
        set::value_type there{router.name, router.shape, {}};
        on.copy_in(std::span<const float>(router.data), there.data);
        return there;
      };
      become_mixture(state->sizes, values, [&](const msg::parameter& p) {
        return upload_router(router_values<float>(state->sizes, plan.seed(), p));
      });
      for (set* moment : {&moment1, &moment2}) {
        become_mixture(state->sizes, *moment,
                       [&](const msg::parameter& p) { return upload_router(router_moments<float>(p)); });
      }
      on.wait();
    }
    grow_set(values, plan, msg::payload::value);
    grow_set(moment1, plan, msg::payload::moment1);
    grow_set(moment2, plan, msg::payload::moment2);
    state->norm_splits = std::move(norm_splits);
    state->sizes = sizes;
    state->values = {}; // they are of the old sizes
    state->moment1 = {};
    state->moment2 = {};
  }
  void grow_set(set& tensors, const msg::plan& plan, msg::payload what) const {
    for (const msg::param_plan& p : plan.parameters()) {
      auto& old = tensors[p.name];
      set::value_type grown{p.name, p.new_shape(), {}};
      grown.data.resize(static_cast<std::size_t>(size_of(grown.shape)));
      const msg::cuda::device_param entry(p);
      msg::apply(on.stream(), entry, std::as_const(old), grown, what);
      on.wait(); // for the entry, and the old tensor, which goes now
      old = std::move(grown);
    }
  }

  model_state<float>* state;
  cuda_backend on;
  set values, moment1, moment2, gradients;
  cuda_storage<double> numbers;   // loss and squares of the step
  cuda_storage<double> workspace; // of sum_of_squares()
  std::unique_ptr<transformer<float, cuda_backend>> model;
  std::optional<msg::cuda::device_ages<msg::adamw>> ages;
  std::vector<bool> decays;                   // by parameter
  std::vector<float> logits, sentence_logits; // on the host
  bool begun = false;                         // a step has got its first batch
};

namespace detail {
/// A GPU's failure as the program's.
template <class Function>
auto on_gpu(const Function& f) {
  try {
    return f();
  } catch (const msg::error& failure) {
    if (failure.code() != msg::errc::cuda) { throw; }
    throw run_error(one_line(failure.what()));
  }
}
} // namespace detail

cuda_engine::cuda_engine(model_state<float>& state, gemm_precision precision)
    : all_(detail::on_gpu([&] { return std::make_unique<implementation>(state, precision); })) {}
cuda_engine::cuda_engine(cuda_engine&&) noexcept = default;
cuda_engine& cuda_engine::operator=(cuda_engine&&) noexcept = default;
cuda_engine::~cuda_engine() = default;

void cuda_engine::build(index batch, index tokens) {
  detail::on_gpu([&] {
    all_->on.wait();
    all_->model.reset(); // never two models' activations at once
    all_->model = std::make_unique<transformer<float, cuda_backend>>(all_->state->sizes, batch, tokens, all_->on);
  });
}

double cuda_engine::forward(const model_input& input, const masks& silence) {
  return detail::on_gpu([&] { return all_->model->forward(all_->values, input, silence); });
}
std::span<const float> cuda_engine::logits() const {
  return detail::on_gpu([&] { return all_->to_host(all_->model->logits(), all_->logits); });
}
std::span<const float> cuda_engine::sentence_logits() const {
  return detail::on_gpu([&] { return all_->to_host(all_->model->sentence_logits(), all_->sentence_logits); });
}

void cuda_engine::add_batch(const model_input& input, const masks& silence, double share) {
  detail::on_gpu([&] {
    if (!all_->begun) { all_->begin_step(); }
    all_->model->forward_into(share, all_->numbers.data(), all_->values, input, silence);
    all_->model->backward(all_->values, all_->gradients, share);
  });
}
step_numbers cuda_engine::update(const step_request& request, const std::vector<msg::parameter_ages>& ages) {
  return detail::on_gpu([&] { return all_->update(request, ages); });
}
void cuda_engine::grow(const msg::plan& plan, index step, const msg::ramp& ramp, const msg::named_ramps& ramps) {
  detail::on_gpu([&] { all_->grow(plan, step, ramp, ramps); });
}
void cuda_engine::fetch() {
  detail::on_gpu([&] {
    model_state<float>& state = *all_->state;
    state.values = {}; // its room first
    state.moment1 = {};
    state.moment2 = {};
    all_->download(all_->values, state.values);
    all_->download(all_->moment1, state.moment1);
    all_->download(all_->moment2, state.moment2);
  });
}

} // namespace reference
