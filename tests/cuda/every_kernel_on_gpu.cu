// Every kernel of the library, for the element types that trainers use: what the static checks look at. Never run.
#include <msg/cuda.cuh>
#include <msg/kernels/activation.hpp>

#include <cuda_bf16.h>
#include <cuda_fp16.h>

namespace {

using msg::view;

/// What one element type is used for.
template <class T>
void norms_and_masks(const msg::cuda::on& on, T* p, msg::accumulate_t<T>* a, const msg::mask_view& mask,
                     const float* gate) {
  const auto x = view(p, 8, 8);
  const auto g = view(p, 8);
  const auto rows = view(a, 8);
  const auto workspace = view(a, 1000);
  msg::scale(on, mask, x);
  msg::residual(on, gate, x, x, x);
  msg::residual_gradient(on, gate, x, x);
  msg::blend(on, gate, x, x, x);
  msg::blend_gradient(on, gate, x, x, x);
  msg::layer_norm(on, mask, x, g, g, x, rows, rows);
  msg::layer_norm_gradient(on, mask, x, g, rows, rows, x, x);
  msg::layer_norm_parameter_gradient(on, mask, x, rows, rows, x, g, g, workspace);
  msg::rms_norm(on, mask, x, g, x, rows);
  msg::rms_norm_gradient(on, mask, x, g, rows, x, x);
  msg::rms_norm_parameter_gradient(on, mask, x, rows, x, g, workspace);
  on.run(8, 8, msg::column_sum_partial<T>{p, a, 8, 8, 8});
}

template <class T, class Activation>
void activations(const msg::cuda::on& on, T* p, const msg::mask_view& mask) {
  on.run(8, 8, msg::activation_forward<T, Activation>{p, p, p, 8, mask});
  on.run(8, 8, msg::activation_backward<T, Activation>{p, p, p, p, 8, mask});
}

template <class T>
void growth(const msg::cuda::on& on, const msg::cuda::device_plan& plan, T* p) {
  msg::apply(on, plan, view(p, plan.host().before().size()), view(p, plan.host().after().size()));
}

} // namespace

void every_kernel(const msg::cuda::on& on, const msg::mask_view& mask, const msg::cuda::device_plan& plan, float* f,
                  double* d, __nv_bfloat16* b, __half* h) {
  norms_and_masks(on, f, f, mask, f);
  norms_and_masks(on, b, f, mask, f);
  norms_and_masks(on, d, d, mask, f);
  msg::layer_norm(on, mask, view(h, 8, 8), view(h, 8), view(h, 8), view(h, 8, 8), view(f, 8), view(f, 8));
  msg::scale(on, mask, view(h, 8, 8));
  activations<float, msg::no_activation>(on, f, mask);
  activations<float, msg::silu>(on, f, mask);
  activations<float, msg::gelu_tanh>(on, f, mask);
  activations<float, msg::gelu_erf>(on, f, mask);
  activations<__nv_bfloat16, msg::gelu_tanh>(on, b, mask);
  activations<__half, msg::gelu_tanh>(on, h, mask);
  growth(on, plan, f);
  growth(on, plan, d);
  growth(on, plan, b);
  growth(on, plan, h);
  const msg::cuda::device_ages<msg::adamw> adamw{{}};
  const msg::cuda::device_ages<msg::sgd> sgd{{}};
  const msg::cuda::device_ages<msg::lion> lion{{}};
  msg::update(on, adamw, 0, true, view(f, 8), view(f, 8), view(f, 8), view(f, 8));
  msg::update(on, adamw, 0, true, view(f, 8), view(b, 8), view(f, 8), view(f, 8));
  msg::update(on, adamw, 0, true, view(b, 8), view(b, 8), view(f, 8), view(f, 8));
  msg::update(on, sgd, 0, true, view(f, 8), view(f, 8), view(f, 8));
  msg::update(on, lion, 0, true, view(f, 8), view(f, 8), view(f, 8));
  msg::cuda::sum_of_squares(on, view(f, 8), view(d, 8), d);
  msg::cuda::sum_of_squares(on, view(b, 8), view(d, 8), d);
  adamw.clip(on, d, 1);
  msg::cuda::device_ages<msg::adamw> ages{{}};
  ages.set(on, {}, {}, {});
}
