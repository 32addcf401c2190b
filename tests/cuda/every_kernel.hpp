// Arrays between guard bands, and every kernel of the library over them.
#pragma once

#include "kernels/device.hpp"
#include "kernels/rows.hpp"

#include <msg/kernels/activation.hpp>
#include <msg/kernels/blend.hpp>
#include <msg/kernels/column_sum.hpp>
#include <msg/kernels/norm.hpp>
#include <msg/kernels/optimizer.hpp>
#include <msg/kernels/scale.hpp>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

namespace testing {

using rows::at;

/// Random numbers between guard bands, `shift` elements away from alignment to 16 bytes.
template <class T>
struct guarded {
  static constexpr msg::index band = 16; // whole packs of every element type
  std::vector<T> storage;                // operator new aligns to 16 bytes
  msg::index size;
  msg::index first;

  guarded(msg::index count, std::uint64_t stream, msg::index shift, double mean = 0.5)
      : storage(at(count + 2 * band + shift), T(77.0F)), size(count), first(band + shift) {
    for (msg::index i = 0; i < count; ++i) {
      storage[at(first + i)] =
          static_cast<T>(mean + 0.5 * msg::random_normal({.seed = 3, .stream = stream}, static_cast<std::uint64_t>(i)));
    }
  }
  [[nodiscard]] T* data() { return storage.data() + first; }
  [[nodiscard]] bool operator==(const guarded& other) const { // bits, guard bands too
    return std::memcmp(storage.data(), other.storage.data(), storage.size() * sizeof(T)) == 0;
  }
};

/// Everything kernels read and write.
template <class T>
struct arrays {
  using A = msg::accumulate_t<T>;
  msg::index row_count, width;
  guarded<T> x, y, dy, dx, z;
  guarded<T> gain, bias;
  guarded<A> mean, rstd, partial, more;
  guarded<A> moment1, moment2;

  arrays(msg::index number, msg::index columns, msg::index shift)
      : row_count(number), width(columns), x(number * columns, 1, shift), y(number * columns, 2, shift),
        dy(number * columns, 3, shift), dx(number * columns, 4, shift), z(number * columns, 5, shift),
        gain(columns, 6, shift), bias(columns, 7, shift), mean(number, 8, shift, 0), rstd(number, 9, shift, 2),
        partial(msg::chunk_count(number) * columns, 10, shift), more(msg::chunk_count(number) * columns, 11, shift),
        moment1(number * columns, 12, shift, 0), moment2(number * columns, 13, shift, 4) {}
  bool operator==(const arrays&) const = default;
};

/// Calls f(name, rows, kernel) for every kernel.
template <class T, class Function>
void every_kernel(arrays<T>& a, const msg::mask_view& mask, const Function& f) {
  using A = msg::accumulate_t<T>;
  static const float gates[] = {0, 0.3F, 1};
  const msg::index n = a.row_count;
  const msg::index w = a.width;
  f("scale", n, msg::scale_row<T>{a.x.data(), a.y.data(), w, mask});
  f("activation", n, msg::activation_forward<T, msg::silu>{a.x.data(), a.bias.data(), a.y.data(), w, mask});
  f("activation without bias", n, msg::activation_forward<T>{a.x.data(), nullptr, a.y.data(), w, mask});
  f("activation's gradient", n,
    msg::activation_backward<T, msg::gelu_erf>{a.x.data(), a.bias.data(), a.dy.data(), a.dx.data(), w, mask});
  f("activation's gradient in place", n,
    msg::activation_backward<T>{a.x.data(), nullptr, a.dy.data(), a.dy.data(), w, mask});
  for (const float& gate : gates) {
    f("residual", n, msg::residual_forward<T>{a.x.data(), a.z.data(), a.bias.data(), a.y.data(), w, &gate});
    f("residual in place", n, msg::residual_forward<T>{a.x.data(), a.z.data(), nullptr, a.x.data(), w, &gate});
    f("residual's gradient", n, msg::residual_backward<T>{a.dy.data(), a.dx.data(), w, &gate});
    f("blend", n, msg::blend_forward<T>{a.x.data(), a.z.data(), a.y.data(), w, &gate});
    f("blend's gradient", n, msg::blend_backward<T>{a.dy.data(), a.dx.data(), a.z.data(), w, &gate});
  }
  f("layer norm", n,
    msg::layer_norm_forward<T>{a.x.data(), a.gain.data(), a.bias.data(), a.y.data(), a.mean.data(), a.rstd.data(), w,
                               1e-5, mask, mask});
  f("layer norm in place", n,
    msg::layer_norm_forward<T>{a.z.data(), a.gain.data(), a.bias.data(), a.z.data(), nullptr, nullptr, w, 1e-5, mask,
                               mask});
  f("rms norm", n, msg::rms_norm_forward<T>{a.x.data(), a.gain.data(), a.y.data(), a.rstd.data(), w, 1e-5, mask, mask});
  for (const bool accumulate : {false, true}) {
    f("layer norm's gradient", n,
      msg::layer_norm_backward<T>{a.x.data(), a.gain.data(), a.mean.data(), a.rstd.data(), a.dy.data(), a.dx.data(), w,
                                  accumulate, mask, mask});
    f("rms norm's gradient in place", n,
      msg::rms_norm_backward<T>{a.x.data(), a.gain.data(), a.rstd.data(), a.dy.data(), a.dy.data(), w, accumulate, mask,
                                mask});
  }
  const msg::index chunks = msg::chunk_count(n);
  f("column sums", chunks, msg::column_sum_partial<T>{a.dy.data(), a.partial.data(), n, w, w});
  f("layer norm's gain", chunks,
    msg::norm_gain_partial<T>{a.x.data(), a.dy.data(), a.mean.data(), a.rstd.data(), a.partial.data(), a.more.data(), n,
                              w, mask});
  f("rms norm's gain", chunks,
    msg::norm_gain_partial<T>{a.x.data(), a.dy.data(), nullptr, a.rstd.data(), a.more.data(), nullptr, n, w, mask});
  f("join", msg::join_count(w), msg::column_join<T>{a.partial.data(), a.gain.data(), chunks, w});
  msg::update_row<msg::adamw_rule<A>, T, T, A> update;
  update.rule = {A(0.01), A(0.5), A(0.75), A(0.25), A(0.875), A(0.125), A(1e-6)};
  update.value = a.z.data();
  update.gradient = a.dy.data();
  update.moment1 = a.moment1.data();
  update.moment2 = a.moment2.data();
  update.size = n * w;
  update.length = w;
  update.oldest = {A(0.125), A(1.5)};
  f("adamw", w == 0 ? 0 : n, update);
}

} // namespace testing
