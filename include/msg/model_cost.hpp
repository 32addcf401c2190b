// What a model costs at given sizes, counted from its schema: parameters, FLOPs, activations, bytes.
#pragma once

#include <msg/config.hpp>
#include <msg/detail/one_hot.hpp>
#include <msg/error.hpp>
#include <msg/schema.hpp>
#include <msg/stage.hpp>

#include <algorithm>
#include <cstddef>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

MSG_NAMESPACE_BEGIN

/// FLOPs of the products over one set of axes: "hidden*ffn".
struct gemm_cost {
  std::string axes{};
  double flops_per_token = 0;
};

/// What one training step of a model costs, forward and backward, per token where it says so.
struct model_cost {
  index parameters = 0;
  std::vector<gemm_cost> gemm{}; // by the axes of the weights
  double attention = 0;          // FLOPs per token of scores and of their products with values
  double written = 0;            // elements per token that products and norms write: what element-wise work goes over

  [[nodiscard]] double flops_per_token() const noexcept {
    double sum = attention;
    for (const gemm_cost& part : gemm) { sum += part.flops_per_token; }
    return sum;
  }
};

/// Numbers by name.
using named_values = std::vector<std::pair<std::string, double>>;

/// How the weights of a schema are used, where the schema alone doesn't tell.
struct weight_uses {
  index tokens = 0;                        // T: length of a sequence, for attention
  std::vector<std::string> dense_inputs{}; // axes that no weight writes and that still carry dense activations (pixels)
  named_sizes active{};                    // of an `each` axis only so many units work on a token: {"experts", 2}
  named_values per_token{}; // of a parameter, how often a token meets it: {"pooler", 1 / T}; 1 if not named
};

/// Cost of the models of a schema. What a caller writes himself in its place is any function of named sizes.
///
///   gemm        6 * size of every weight: 2 operations forward, 4 backward, for each token it meets
///   lookup      a weight that reads a one-hot axis is a table, and costs nothing. One-hot are axes with logits, and
///   those
///               that no weight writes. A table over an axis with logits that no weight writes is the tied head as
///               well, a product over it
///   attention   12 * T * (width of each head's output, over all heads and layers): weights that read units whose
///               scores are scaled (schema::scored) stand behind an attention. Counted in full, causal or not
///   each        a weight counts for every unit of its independent axes that is active
///
/// Sources: Kaplan et al. 2020, Scaling Laws, sec. 2.1; Hoffmann et al. 2022, Chinchilla, appendix F.
class schema_cost {
public:
  /// Throws error{bad_argument} for a schema with attention whose sequence length isn't told.
  explicit schema_cost(schema model, weight_uses uses = {}) : model_(std::move(model)), uses_(std::move(uses)) {
    for (const parameter& p : model_.parameters()) {
      if (reads_scored(p) && uses_.tokens < 1) {
        throw error(diagnostic{.code = errc::bad_argument,
                               .parameter = p.name,
                               .expected = "tokens of a sequence, at least 1",
                               .found = std::to_string(uses_.tokens),
                               .hint = "weight_uses, for attention"});
      }
    }
  }

  /// Axes that aren't named keep the schema's size; names the schema doesn't know count for nothing.
  [[nodiscard]] model_cost operator()(const named_sizes& sizes = {}) const {
    std::map<std::string, index, std::less<>> all;
    for (const auto& [axis, size] : sizes) { all[axis] = size; }
    const schema model = model_.resized(all);
    model_cost cost;
    cost.parameters = model.size();
    for (const parameter& p : model.parameters()) { add(p, cost); }
    return cost;
  }

  [[nodiscard]] const schema& model() const noexcept { return model_; }

private:
  [[nodiscard]] bool looked_up(const std::string& axis_name) const {
    const auto& dense = uses_.dense_inputs;
    return detail::one_hot(model_, axis_name) && std::find(dense.begin(), dense.end(), axis_name) == dense.end();
  }
  [[nodiscard]] bool reads_scored(const parameter& p) const {
    return p.what == kind::weight && std::any_of(p.dims.begin(), p.dims.end(), [&](const dimension& d) {
             return d.what == role::in &&
                    detail::any_axis(d, [&](const std::string& a) { return model_.is_scored(a); });
           });
  }

  [[nodiscard]] double active(const dimension& d) const {
    double sum = 0;
    for (const product& t : d.extent.terms) {
      double product = 1;
      for (const factor& f : t.factors) {
        const index* used = detail::find_named(uses_.active, f.axis);
        product *= static_cast<double>(used == nullptr ? f.size : std::min(*used, f.size));
      }
      sum += product;
    }
    return sum;
  }

  void add(const parameter& p, model_cost& cost) const {
    double size = 1;
    double reads = 1;
    double writes = 1;
    bool table = false;
    bool tied = false;
    for (const dimension& d : p.dims) {
      const double units = active(d);
      size *= units;
      if (d.what == role::in) {
        reads *= units;
        table = table || detail::any_axis(d, [&](const std::string& a) { return looked_up(a); });
        tied = tied || detail::any_axis(d, [&](const std::string& a) {
                 return model_.has_logits(a) && !detail::is_written(model_, a);
               });
      } else {
        writes *= units;
      }
    }
    const double* often = detail::find_named(uses_.per_token, p.name);
    const double per_token = often == nullptr ? 1 : *often;
    if (p.what != kind::weight) { // norms go over what they scale; biases over what their weight has written
      if (p.what == kind::norm_gain) { cost.written += per_token * size; }
      return;
    }
    cost.written += per_token * (table && tied ? writes + reads : writes);
    if (table && !tied) { return; }
    part(cost, axes_of(p)) += 6 * per_token * size;
    if (reads_scored(p)) {
      double width = 1; // of what is read, over the independent axes
      for (const dimension& d : p.dims) { width *= d.what == role::out ? 1 : active(d); }
      cost.attention += 12 * per_token * static_cast<double>(uses_.tokens) * width;
    }
  }

  // Names of the axes that a product runs over, in the order of the alphabet: one part for both layouts of a weight.
  [[nodiscard]] static std::string axes_of(const parameter& p) {
    std::vector<std::string> names;
    for (const dimension& d : p.dims) {
      if (d.what == role::each) { continue; }
      for (const product& t : d.extent.terms) {
        for (const factor& f : t.factors) {
          if (!f.axis.empty() && std::find(names.begin(), names.end(), f.axis) == names.end()) {
            names.push_back(f.axis);
          }
        }
      }
    }
    std::sort(names.begin(), names.end());
    std::string text;
    for (const std::string& name : names) { text += (text.empty() ? "" : "*") + name; }
    return text;
  }
  static double& part(model_cost& cost, const std::string& axes) {
    for (gemm_cost& known : cost.gemm) {
      if (known.axes == axes) { return known.flops_per_token; }
    }
    cost.gemm.push_back({axes, 0});
    return cost.gemm.back().flops_per_token;
  }

  schema model_;
  weight_uses uses_;
};

/// How training stores a model.
struct memory_layout {
  index value_bytes = 4; // of one parameter
  index gradient_bytes = 4;
  index moments = 2; // of the optimizer
  index moment_bytes = 4;
  double activation_bytes_per_token = 0; // what the backward pass needs of the forward's, as the trainer knows it
  index tokens_at_once = 0;              // of one micro-batch
};

struct memory_bytes {
  double parameters = 0, gradients = 0, moments = 0, activations = 0;
  [[nodiscard]] double total() const noexcept { return parameters + gradients + moments + activations; }
};

[[nodiscard]] inline memory_bytes memory_of(const model_cost& cost, const memory_layout& layout) noexcept {
  const auto count = static_cast<double>(cost.parameters);
  return {count * static_cast<double>(layout.value_bytes), count * static_cast<double>(layout.gradient_bytes),
          count * static_cast<double>(layout.moments * layout.moment_bytes),
          layout.activation_bytes_per_token * static_cast<double>(layout.tokens_at_once)};
}

MSG_NAMESPACE_END
