// What a comparison of the old model with the new one found: outputs, loss and gradients, in bits and in size.
#pragma once

#include <msg/difference.hpp>
#include <msg/error.hpp>
#include <msg/request.hpp>
#include <msg/schema.hpp>

#include <algorithm>
#include <cstddef>
#include <string>
#include <utility>
#include <vector>

MSG_NAMESPACE_BEGIN

/// One parameter's gradient in the new model.
struct gradient_difference {
  std::string parameter{};
  std::vector<index> shape{};
  difference carried{}; // old entries and their copies, against the old gradient by the dual law
  difference asleep{};  // entries that a mask silences, against 0
  std::string
      approximate{}; // not empty: why the dual law is not exact here, as the plan says; `carried` is for reading
};

/// What was found, beside what the plan promised.
struct verification {
  strictness promised{};
  std::vector<index> output_shape{};
  difference outputs{};
  difference loss{};
  std::vector<gradient_difference> gradients{}; // in the order of the plan; empty: none were given
  double rounding = 0; // relative error that rounding may leave in an output: path_length() x epsilon

  [[nodiscard]] bool same_bits() const {
    return outputs.same_bits() && loss.same_bits() &&
           std::all_of(gradients.begin(), gradients.end(),
                       [](const gradient_difference& g) { return g.carried.same_bits() && g.asleep.same_bits(); });
  }
  [[nodiscard]] double largest_gradient() const noexcept {
    double largest = 0;
    for (const gradient_difference& g : gradients) { largest = std::max(largest, g.carried.largest); }
    return largest;
  }

  // What rounding explains. The loss of a softmax is off by at most twice what its logits are. A gradient takes the
  // path there and back, and is a multiple of probabilities, which are off relatively by twice what logits are
  // absolutely.
  [[nodiscard]] double output_bound() const noexcept { return rounding * outputs.largest; }
  [[nodiscard]] double loss_bound() const noexcept { return 2 * output_bound() + rounding * loss.largest; }
  [[nodiscard]] double gradient_bound() const noexcept { return 2 * (rounding + output_bound()) * largest_gradient(); }
};

/// Additions on the longest path that a number takes through the model, at most: the extents of all dimensions of all
/// parameters, as often as there are layers.
[[nodiscard]] inline double path_length(const schema& model) {
  double length = 0;
  for (const parameter& p : model.parameters()) {
    double layers = 1;
    double extents = 0;
    for (const dimension& d : p.dims) {
      const auto size = static_cast<double>(d.size());
      (d.what == role::each ? layers *= size : extents += size);
    }
    length += layers * extents;
  }
  return length;
}

namespace detail {

/// (2, 17) for an element of a row-major tensor.
[[nodiscard]] inline std::string place_text(index element, const std::vector<index>& shape) {
  std::string text = ")";
  for (std::size_t d = shape.size(); d-- > 0;) {
    text.insert(0, (d == 0 ? "(" : ", ") + std::to_string(element % shape[d]));
    element /= shape[d];
  }
  return text;
}

} // namespace detail

/// Where the new model is not the old one, each thing at its worst place: outputs, loss, then parameters, the worst
/// first. `wanted` is strictness::exact for bits, strictness::rounding for no more than rounding explains.
[[nodiscard]] inline std::vector<diagnostic> findings(const verification& v, strictness wanted = strictness::rounding) {
  std::vector<std::pair<double, diagnostic>> found; // by how far it is beyond the bound
  const auto look = [&](const difference& d, double bound, const std::string& name, const std::string& place,
                        const char* what) {
    const double allowed = wanted == strictness::exact ? 0 : bound;
    if (d.same_bits() || d.max_abs <= allowed) { return; }
    found.push_back(
        {d.max_abs,
         {.code = errc::not_strict,
          .parameter = name,
          .expected = number_text(d.expected) + place,
          .found = number_text(d.found),
          .hint = std::to_string(d.unequal) + " of " + std::to_string(d.count) + " " + what + " differ, by at most " +
                  number_text(d.max_abs, 3) + "; rounding explains " + number_text(bound, 3)}});
  };
  const auto at = [](const difference& d, const std::vector<index>& shape) {
    return " at " + detail::place_text(d.worst, shape);
  };
  if (wanted == strictness::none) { return {}; }
  look(v.outputs, v.output_bound(), "outputs", at(v.outputs, v.output_shape), "outputs");
  look(v.loss, v.loss_bound(), "loss", "", "losses");
  const auto models = static_cast<std::ptrdiff_t>(found.size());
  for (const gradient_difference& g : v.gradients) {
    if (g.approximate.empty() || wanted == strictness::exact) {
      look(g.carried, v.gradient_bound(), g.parameter, at(g.carried, g.shape), "gradients of old entries and copies");
    }
    look(g.asleep, 0, g.parameter, at(g.asleep, g.shape), "gradients under a mask");
  }
  std::stable_sort(found.begin() + models, found.end(), [](const auto& a, const auto& b) { return a.first > b.first; });
  std::vector<diagnostic> result;
  result.reserve(found.size());
  for (auto& [size, finding] : found) { result.push_back(std::move(finding)); }
  return result;
}

/// How the function was kept, whatever the plan promised.
[[nodiscard]] inline strictness kept(const verification& v) {
  if (v.same_bits()) { return strictness::exact; }
  return findings(v).empty() ? strictness::rounding : strictness::none;
}

/// Throws error{not_strict} with findings(v, wanted), if there are any.
inline void require(const verification& v, strictness wanted = strictness::rounding) {
  if (std::vector<diagnostic> all = findings(v, wanted); !all.empty()) { throw error(std::move(all)); }
}

/// A few lines for people.
[[nodiscard]] inline std::string to_string(const verification& v) {
  std::string text = std::string{"function   promised "} + to_string(v.promised) + ", found " + to_string(kept(v)) +
                     "\noutputs    " + to_string(v.outputs) + "\nloss       " + to_string(v.loss);
  if (v.gradients.empty()) { return text; }
  difference carried;
  difference asleep;
  difference approximate;
  const gradient_difference* worst = nullptr;
  for (const gradient_difference& g : v.gradients) {
    (g.approximate.empty() ? carried : approximate).join(g.carried);
    asleep.join(g.asleep);
    if (!g.approximate.empty()) { continue; }
    if (worst == nullptr || g.carried.max_abs > worst->carried.max_abs) { worst = &g; }
  }
  text += "\ngradients  " + to_string(carried);
  if (!carried.same_bits()) {
    text += ", in '" + worst->parameter + "' at " + detail::place_text(worst->carried.worst, worst->shape);
  }
  if (asleep.count > 0) { text += "\n           silenced: " + to_string(asleep); }
  if (approximate.count > 0) { text += "\n           approximate, as the plan says: " + to_string(approximate); }
  return text;
}

MSG_NAMESPACE_END
