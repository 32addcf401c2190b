// Old model against new: what a trainer calls to be sure of a growth.
#pragma once

#include <msg/apply.hpp>
#include <msg/difference.hpp>
#include <msg/error.hpp>
#include <msg/plan.hpp>
#include <msg/tensor.hpp>
#include <msg/verification.hpp>

#include <algorithm>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

MSG_NAMESPACE_BEGIN

/// For models that are compared without their gradients.
struct no_gradients {};

/// What a model computed on one batch, in host memory. Any struct with members of these names serves as well.
///
/// outputs    logits, or whatever the loss is made of; any shape
/// gradients  of the loss: a packed buffer, or found by name: g(name), g[name] or g.at(name)
template <tensor_like Outputs, class Gradients = no_gradients>
struct evaluation {
  double loss = 0;
  Outputs outputs{};
  Gradients gradients{};
};
template <class Outputs>
evaluation(double, Outputs) -> evaluation<Outputs>;
template <class Outputs, class Gradients>
evaluation(double, Outputs, Gradients) -> evaluation<Outputs, Gradients>;

template <class T>
concept model_result = requires(const T& result) {
  { result.loss } -> std::convertible_to<double>;
  requires tensor_like<decltype(result.outputs)>;
};

namespace detail {

/// f(position, value) for every element, row-major.
template <class T, class Function>
void each_element(const tensor_view<T>& t, const Function& f) {
  index position = 0;
  for (index a = 0; a < t.extent[0]; ++a) {
    for (index b = 0; b < t.extent[1]; ++b) {
      for (index c = 0; c < t.extent[2]; ++c) {
        const T* const row = t.data + a * t.stride[0] + b * t.stride[1] + c * t.stride[2];
        for (index d = 0; d < t.extent[3]; ++d) { f(position++, row[d * t.stride[3]]); }
      }
    }
  }
}

/// f(view) on the gradient of a parameter, in whatever way the gradients are kept.
template <class Gradients, class Function>
void with_gradient(const Gradients& g, const schema& model, const parameter& p, const Function& f) {
  if constexpr (requires { view_of(g(p.name)); }) {
    f(view_of(g(p.name)));
  } else if constexpr (requires { view_of(g[p.name]); }) {
    f(view_of(g[p.name]));
  } else if constexpr (requires { view_of(g.at(p.name)); }) {
    f(view_of(g.at(p.name)));
  } else {
    static_assert(tensor_like<Gradients>, "gradients are a packed buffer, or found by name");
    f(view(shaped(view_of(g), {model.size()}, "packed buffer", "gradients").data + model.offset(p.name), p.size()));
  }
}

enum class cell_state : std::uint8_t {
  carried, // old, or a copy whose gradient the dual law gives
  free,    // newborn and awake: any gradient
  asleep,  // newborn under a mask: no gradient while the mask is 0
};

/// By position of one dimension; of a cell, the greatest of its dimensions'.
[[nodiscard]] inline std::vector<cell_state> states_of(const plan& growth, const dimension& grown) {
  std::vector<cell_state> states;
  for_each_position(grown.extent, [&](index, const product& term, const std::vector<index>& units) {
    cell_state state = cell_state::carried;
    for (std::size_t k = 0; k < units.size(); ++k) {
      for (const axis_plan& a : growth.axes()) {
        if (a.name != term.factors[k].axis || !a.growth.is_newborn(units[k])) { continue; }
        state = std::max(state, a.growth.contract.masked() ? cell_state::asleep : cell_state::free);
      }
    }
    states.push_back(state);
  });
  return states;
}

} // namespace detail

/// Keeps what the old model computed, so that it may be grown in place, and compares the new one with it. The three
/// lines of a trainer, around its growth:
///
///   const msg::verifier check{plan, old_model(batch)}; // {loss, logits} or {loss, logits, gradients}
///   ... plan and apply as ever, masks at 0 ...
///   msg::require(check.against(new_model(batch)));     // throws, naming the worst output or parameter
///
/// Outputs are compared one by one (where the plan grows the vocabulary, those of old tokens), gradients by the dual of
/// the law of growth: what apply() makes of the old gradient as a first moment, old entries and copies must have (but
/// where the plan calls moments approximate), and entries that a mask silences must have exactly 0.
/// Cost: a copy of the outputs and of the gradients, grown; one pass over each.
template <class T>
class verifier {
public:
  template <model_result Result>
  verifier(plan growth, const Result& old) : growth_(std::move(growth)), loss_(static_cast<double>(old.loss)) {
    detail::each_element(view_of(old.outputs), [&](index, const T& value) { outputs_.push_back(value); });
    if constexpr (has_gradients<Result>) {
      for (const param_plan& entry : growth_.parameters()) {
        const auto keep = [&](const auto& gradient) {
          apply(entry, gradient, gradients_.emplace_back(static_cast<std::size_t>(entry.size())), payload::moment1);
        };
        detail::with_gradient(old.gradients, growth_.before(), growth_.before().at(entry.name), keep);
      }
    }
  }

  /// Throws error{shape_mismatch}, naming the parameter, or "outputs".
  template <model_result Result>
  [[nodiscard]] verification against(const Result& grown) const {
    verification result{.promised = growth_.keeps(), .rounding = path_length(growth_.after()) * epsilon()};
    result.loss.add(0, loss_, static_cast<double>(grown.loss));
    compare_outputs(view_of(grown.outputs), result);
    if constexpr (has_gradients<Result>) {
      for (std::size_t p = 0; p < gradients_.size(); ++p) {
        const parameter& named = growth_.after().parameters()[p];
        detail::with_gradient(grown.gradients, growth_.after(), named, [&](const auto& gradient) {
          result.gradients.push_back(compare_gradient(named, gradient, gradients_[p]));
        });
      }
      for (const approximate_moment& a : growth_.approximate_moments()) {
        for (gradient_difference& g : result.gradients) {
          if (g.parameter == a.parameter) { g.approximate = a.reason; }
        }
      }
    }
    return result;
  }

private:
  template <class Result>
  static constexpr bool has_gradients = requires(const Result& r) {
    r.gradients;
    requires !std::same_as<std::remove_cvref_t<decltype(r.gradients)>, no_gradients>;
  };
  // Half formats have no numeric_limits everywhere: that of bfloat16, the coarsest.
  static constexpr double epsilon() noexcept {
    return sizeof(T) == 2 ? 0x1p-7 : static_cast<double>(std::numeric_limits<T>::epsilon());
  }

  template <class Element>
  void compare_outputs(const tensor_view<Element>& found, verification& result) const {
    std::vector<index> old_of{0}; // by position in a row of outputs; one long row where no logits grow
    index width = 1;
    for (const axis_plan& a : growth_.axes()) {
      if (growth_.before().has_logits(a.name) && !growth_.before().has_slices(a.name)) { // experts: a router's logits
        old_of = a.old_of;
        width = a.old_size;
      }
    }
    const index rows = static_cast<index>(outputs_.size()) / width;
    const auto new_width = static_cast<index>(old_of.size());
    if (found.size() != rows * new_width) {
      throw error(diagnostic{.code = errc::shape_mismatch,
                             .parameter = "outputs",
                             .expected = std::to_string(rows * new_width) + " elements",
                             .found = std::to_string(found.size())});
    }
    result.output_shape.assign(found.extent, found.extent + found.rank);
    detail::each_element(found, [&](index position, const T& value) {
      const index unit = old_of[static_cast<std::size_t>(position % new_width)];
      if (unit == fresh_unit) { return; }
      result.outputs.add(position, outputs_[static_cast<std::size_t>(position / new_width * width + unit)], value);
    });
  }

  template <class Element>
  [[nodiscard]] gradient_difference compare_gradient(const parameter& named, const tensor_view<Element>& given,
                                                     const std::vector<T>& expected) const {
    gradient_difference result{.parameter = named.name, .shape = named.shape()};
    const auto found = detail::shaped(given, result.shape, named.name, "gradient of the new model");
    std::vector<std::vector<detail::cell_state>> states(static_cast<std::size_t>(max_rank),
                                                        {detail::cell_state::carried});
    for (std::size_t d = 0; d < named.dims.size(); ++d) { states[d] = detail::states_of(growth_, named.dims[d]); }
    detail::each_element(found, [&](index position, const T& value) {
      index rest = position;
      auto state = detail::cell_state::carried;
      for (std::size_t d = named.dims.size(); d-- > 0;) {
        state = std::max(state, states[d][static_cast<std::size_t>(rest % result.shape[d])]);
        rest /= result.shape[d];
      }
      if (state == detail::cell_state::carried) {
        result.carried.add(position, expected[static_cast<std::size_t>(position)], value);
      } else if (state == detail::cell_state::asleep) {
        result.asleep.add(position, T(0), value);
      }
    });
    return result;
  }

  plan growth_;
  double loss_;
  std::vector<T> outputs_;
  std::vector<std::vector<T>> gradients_; // the old ones as the new model must have them; row-major
};
template <model_result Result>
verifier(plan, const Result&) -> verifier<element_t<decltype(std::declval<const Result&>().outputs)>>;

/// Puts the same batch through both models and says how far they are apart. `old_model` is called first, and what it
/// returned is kept by value.
///
/// old_model, new_model  (batch...) -> {loss, outputs} or {loss, outputs, gradients}, see evaluation
template <class Old, class New, class... Batch>
  requires model_result<std::invoke_result_t<Old&, const Batch&...>> &&
      model_result<std::invoke_result_t<New&, const Batch&...>>
[[nodiscard]] verification verify(const plan& growth, Old&& old_model, New&& new_model, const Batch&... batch) {
  const verifier before{growth, old_model(batch...)};
  return before.against(new_model(batch...));
}

MSG_NAMESPACE_END
