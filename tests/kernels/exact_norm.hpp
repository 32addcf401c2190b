// LayerNorm and RMSNorm of one row, forward and backward, as plain loops in long double; and how far a kernel in a
// shorter type may be from them.
#pragma once

#include "kernels/rows.hpp"

#include <msg/kernels/column_sum.hpp>
#include <msg/kernels/norm.hpp>

#include <cmath>
#include <cstddef>
#include <string>
#include <vector>

namespace rows {

using real = long double;

enum class norm_kind { layer, rms };

/// The two masks of a norm.
struct norm_masks {
  std::string name;
  unit_mask weight;
  unit_mask output;
};

/// MSG's mask as both, the split weights of an uneven duplicate, and an output mask alone.
[[nodiscard]] inline std::vector<norm_masks> norm_mask_cases(index width) {
  std::vector<norm_masks> result;
  for (const named_mask& m : masks(width)) { result.push_back({m.name, m.mask, m.mask}); }
  std::vector<float> split(at(width), 1.0F);
  for (index i = 0; i + 1 < width; i += 2) {
    split[at(i)] = 0.75F;
    split[at(i + 1)] = 0.25F;
  }
  result.push_back({"weight alone", unit_mask{split}, {}});
  result.push_back({"output alone", {}, mixed(width)});
  return result;
}

/// One row of a norm and of its gradients in long double.
template <norm_kind kind>
struct exact_norm {
  std::vector<real> x, gain, bias, dy;
  unit_mask weight, output;
  real eps = 0;

  real share = 1, mean = 0, rstd = 0;
  std::vector<real> y, dx;
  std::vector<real> dgain, dbias; // of this row

  [[nodiscard]] index width() const { return static_cast<index>(x.size()); }

  void forward() {
    const real total = weight.total(width());
    share = total == 0 ? 1 : total;
    mean = 0;
    if constexpr (kind == norm_kind::layer) {
      for (index i = 0; i < width(); ++i) { mean += weighted(i, x[at(i)]); }
      mean /= share;
    }
    real square = 0;
    for (index i = 0; i < width(); ++i) { square += weighted(i, (x[at(i)] - mean) * (x[at(i)] - mean)); }
    rstd = 1 / std::sqrt(square / share + eps);
    y.assign(x.size(), 0);
    for (index i = 0; i < width(); ++i) {
      if (output(i) != 0) { y[at(i)] = output(i) * (gain[at(i)] * normed(i) + bias[at(i)]); }
    }
  }

  void backward() {
    real a = 0;
    real b = 0;
    dgain.assign(x.size(), 0);
    dbias.assign(x.size(), 0);
    for (index i = 0; i < width(); ++i) {
      if (output(i) == 0) { continue; }
      a += gain[at(i)] * slope(i);
      b += gain[at(i)] * slope(i) * normed(i);
      dgain[at(i)] = slope(i) * normed(i);
      dbias[at(i)] = slope(i);
    }
    if constexpr (kind == norm_kind::rms) { a = 0; }
    dx.assign(x.size(), 0);
    for (index i = 0; i < width(); ++i) {
      const real direct = output(i) == 0 ? 0 : gain[at(i)] * slope(i);
      const real shared = weight(i) == 0 ? 0 : weight(i) * (a + normed(i) * b) / share;
      dx[at(i)] = rstd * (direct - shared);
    }
  }

  [[nodiscard]] real slope(index i) const { return output(i) == 0 ? 0 : output(i) * dy[at(i)]; }
  [[nodiscard]] real normed(index i) const { return (x[at(i)] - mean) * rstd; }

private:
  [[nodiscard]] real weighted(index i, real value) const { return weight(i) == 0 ? 0 : weight(i) * value; }
};

/// First-order bounds on the errors of a kernel in a type of the given epsilon. `terms` counts the roundings on the way
/// of one term into a sum of n: n/16 additions in its lane, 4 in the tree, and 4 around.
struct norm_bounds {
  real epsilon = 0;
  real terms = 0;
  real centre = 0; // of the mean, in units of 1/rstd
  real scale = 0;  // of rstd, relative

  template <norm_kind kind>
  norm_bounds(const exact_norm<kind>& row, real unit) : epsilon(unit) {
    terms = static_cast<real>(row.width()) / 16 + 8;
    if constexpr (kind == norm_kind::layer) {
      real size = 0;
      for (index i = 0; i < row.width(); ++i) { size += row.weight(i) * std::abs(row.x[at(i)]); }
      centre = terms * epsilon * size / row.share * row.rstd;
    }
    // the variance: its own sum, and (x - mean)^2 moved by the mean's error; rstd halves it
    scale = (terms * epsilon + 2 * centre) / 2 + 2 * epsilon;
  }
  template <norm_kind kind>
  [[nodiscard]] real normed(const exact_norm<kind>& row, index i) const {
    return centre + std::abs(row.normed(i)) * (scale + 2 * epsilon);
  }
  template <norm_kind kind>
  [[nodiscard]] real y(const exact_norm<kind>& row, index i) const {
    const real moved = std::abs(row.gain[at(i)]) * normed(row, i);
    const real rounded = epsilon * (std::abs(row.gain[at(i)] * row.normed(i)) + std::abs(row.bias[at(i)]));
    return row.output(i) * (moved + 2 * rounded);
  }
  template <norm_kind kind>
  [[nodiscard]] std::vector<real> dx(const exact_norm<kind>& row) const {
    real a_size = 0;
    real b_size = 0;
    real b_moved = 0;
    for (index i = 0; i < row.width(); ++i) {
      if (row.output(i) == 0) { continue; }
      const real direct = std::abs(row.gain[at(i)] * row.slope(i));
      a_size += direct;
      b_size += direct * std::abs(row.normed(i));
      b_moved += direct * normed(row, i);
    }
    if constexpr (kind == norm_kind::rms) { a_size = 0; }
    std::vector<real> bound(row.x.size());
    for (index i = 0; i < row.width(); ++i) {
      const real direct = std::abs(row.gain[at(i)] * row.slope(i));
      const real n = row.weight(i) == 0 ? 0 : std::abs(row.normed(i));
      const real n_moved = row.weight(i) == 0 ? 0 : normed(row, i);
      const real sums = (terms + 4) * epsilon * (a_size + n * b_size) + n * b_moved + n_moved * b_size;
      bound[at(i)] = row.rstd * (direct * (scale + 4 * epsilon) +
                                 row.weight(i) / row.share * (sums + scale * (a_size + n * b_size)));
    }
    return bound;
  }
};

/// Rows of a norm with everything its kernels read and write.
template <class T, norm_kind kind>
struct norm_run {
  index row_count = 0;
  index width = 0;
  unit_mask weight, output;
  std::vector<T> x, gain, bias, dy;
  std::vector<T> y, mean, rstd, dx;
  std::vector<T> dgain, dbias; // added to

  norm_run(index number, index size, unit_mask statistics, unit_mask result)
      : row_count(number), width(size), weight(std::move(statistics)), output(std::move(result)),
        x(normal<T>(number * size, 1, 0.5)), gain(normal<T>(size, 2, 1, 0.3)), bias(normal<T>(size, 3)),
        dy(normal<T>(number * size, 4)), y(x.size(), nan<T>), mean(at(number), nan<T>), rstd(at(number), nan<T>),
        dx(x.size(), nan<T>), dgain(at(size), T(0)), dbias(at(size), T(0)) {
    if constexpr (kind == norm_kind::rms) { bias.assign(bias.size(), T(0)); }
  }

  /// The first `size` columns of another run's input.
  void take_columns(const norm_run& other) {
    for (index i = 0; i < width; ++i) {
      gain[at(i)] = other.gain[at(i)];
      bias[at(i)] = other.bias[at(i)];
      for (index row = 0; row < row_count; ++row) {
        x[at(row * width + i)] = other.x[at(row * other.width + i)];
        dy[at(row * width + i)] = other.dy[at(row * other.width + i)];
      }
    }
  }

  void forward(const rows::device& on = {}) {
    if constexpr (kind == norm_kind::layer) {
      on.run(row_count, width,
             msg::layer_norm_forward<T>{x.data(), gain.data(), bias.data(), y.data(), mean.data(), rstd.data(), width,
                                        1e-5, weight.view(), output.view()});
    } else {
      on.run(row_count, width,
             msg::rms_norm_forward<T>{x.data(), gain.data(), y.data(), rstd.data(), width, 1e-5, weight.view(),
                                      output.view()});
    }
  }
  void backward(const rows::device& on = {}, bool accumulate = false) {
    if constexpr (kind == norm_kind::layer) {
      on.run(row_count, width,
             msg::layer_norm_backward<T>{x.data(), gain.data(), mean.data(), rstd.data(), dy.data(), dx.data(), width,
                                         accumulate, weight.view(), output.view()});
    } else {
      on.run(row_count, width,
             msg::rms_norm_backward<T>{x.data(), gain.data(), rstd.data(), dy.data(), dx.data(), width, accumulate,
                                       weight.view(), output.view()});
    }
  }
  void parameter_gradients(const rows::device& on = {}) {
    const index chunks = msg::chunk_count(row_count);
    std::vector<T> gain_partial(at(chunks * width), nan<T>);
    std::vector<T> bias_partial(at(chunks * width), nan<T>);
    constexpr bool layer = kind == norm_kind::layer;
    on.run(chunks, msg::chunk_rows * width,
           msg::norm_gain_partial<T>{x.data(), dy.data(), layer ? mean.data() : nullptr, rstd.data(),
                                     gain_partial.data(), layer ? bias_partial.data() : nullptr, row_count, width,
                                     output.view()});
    on.run(msg::join_count(width), chunks * msg::join_columns,
           msg::column_join<T>{gain_partial.data(), dgain.data(), chunks, width});
    if (layer) {
      on.run(msg::join_count(width), chunks * msg::join_columns,
             msg::column_join<T>{bias_partial.data(), dbias.data(), chunks, width});
    }
  }

  [[nodiscard]] exact_norm<kind> exact(index row) const {
    exact_norm<kind> result;
    result.weight = weight;
    result.output = output;
    result.eps = static_cast<real>(static_cast<T>(1e-5)); // as the kernel sees it
    for (index i = 0; i < width; ++i) {
      result.x.push_back(static_cast<real>(x[at(row * width + i)]));
      result.dy.push_back(static_cast<real>(dy[at(row * width + i)]));
      result.gain.push_back(static_cast<real>(gain[at(i)]));
      result.bias.push_back(static_cast<real>(bias[at(i)]));
    }
    result.forward();
    result.backward();
    return result;
  }
};

} // namespace rows
