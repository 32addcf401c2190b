// Published schedules as data, for any final sizes.
#pragma once

#include <msg/config.hpp>
#include <msg/error.hpp>
#include <msg/schedule.hpp>
#include <msg/stage.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

MSG_NAMESPACE_BEGIN

/// Names of the axes that presets grow; an axis the final sizes don't have is left out.
struct preset_axes {
  std::string ffn = "ffn", layers = "layers", hidden = "hidden", heads = "heads";
};

/// What presets share: the learning rate, and what each growth is like. Rules, ramp and rate at the growth of `each`
/// are those of every stage.
struct preset_options {
  learning_rate lr{};
  stage each{};
  preset_axes axes{};
};

namespace detail {

/// At least 1, rounded half up.
[[nodiscard]] inline index part_of(index size, double part) {
  return std::max<index>(1, static_cast<index>(std::floor(static_cast<double>(size) * part + 0.5)));
}

/// Builds a schedule: axes at sizes, in the order of their growths.
struct preset_builder {
  schedule result{};
  preset_options options{};

  preset_builder(const named_sizes& full, const preset_options& given) : options(given) {
    if (full.empty()) {
      throw error(diagnostic{.code = errc::bad_size, .expected = "final sizes", .found = "none", .hint = "a preset"});
    }
    result.start = full;
    result.lr = given.lr;
  }
  void start_at(std::string_view axis, index size) {
    for (auto& [name, start] : result.start) {
      if (name == axis) { start = size; }
    }
  }
  /// A growth of the axes that become larger by it; none of them: no stage.
  void grow(const named_sizes& sizes) {
    const named_sizes now = sizes_after(result, result.stages.size());
    stage growth = options.each;
    growth.grow.clear();
    for (const auto& [axis, size] : sizes) {
      if (size > size_of(now, axis) && size_of(now, axis) > 0) { growth.grow.emplace_back(axis, size); }
    }
    std::erase_if(growth.rules, [&](const auto& r) { return find_named(growth.grow, r.first) == nullptr; });
    std::erase_if(growth.ramps, [&](const auto& r) { return find_named(growth.grow, r.first) == nullptr; });
    if (!growth.grow.empty()) { result.stages.push_back(std::move(growth)); }
  }
  /// Stretches of equal length.
  [[nodiscard]] schedule evenly() && {
    const auto stretches = static_cast<double>(result.stages.size() + 1);
    for (std::size_t i = 0; i < result.stages.size(); ++i) {
      result.stages[i].at = {trigger_kind::fraction, static_cast<double>(i + 1) / stretches};
    }
    return std::move(result);
  }
};

} // namespace detail

/// MSG's order, FFN, layers, hidden, heads, layers, in stretches of equal length.
///
///   start   FFN and layers at a quarter, hidden and heads at `width` of their final sizes, rounded, at least 1
///   then    FFN, layers to a half, hidden, heads, layers
///
/// width = 2/3 is BERT-base's, 1/2 BERT-large's. Axes whose sizes would not change have no stage.
/// Source: Yao et al. 2024, Masked Structural Growth, released configs (method.md 7).
[[nodiscard]] inline schedule even_split(const named_sizes& full, const preset_options& options = {},
                                         double width = 2.0 / 3) {
  detail::preset_builder build(full, options);
  const auto& [ffn, layers, hidden, heads] = options.axes;
  const auto part = [&](const std::string& axis, double of) { return detail::part_of(size_of(full, axis), of); };
  build.start_at(ffn, part(ffn, 0.25));
  build.start_at(layers, part(layers, 0.25));
  build.start_at(hidden, part(hidden, width));
  build.start_at(heads, part(heads, width));
  build.grow({{ffn, size_of(full, ffn)}});
  build.grow({{layers, part(layers, 0.5)}});
  build.grow({{hidden, size_of(full, hidden)}});
  build.grow({{heads, size_of(full, heads)}});
  build.grow({{layers, size_of(full, layers)}});
  return std::move(build).evenly();
}

/// Depth alone: a model of 1 / factor of the layers, stacked to all of them at one step.
///
/// at   fraction of the run
/// Source: Du et al. 2024, Stacking Your Transformers (G_stack): factor 4.
[[nodiscard]] inline schedule depth_stack(const named_sizes& full, double at = 0.1, index factor = 4,
                                          const preset_options& options = {}) {
  detail::preset_builder build(full, options);
  const std::string& layers = options.axes.layers;
  build.options.each.rule = "stack";
  build.options.each.rules.clear();
  build.options.each.layers = layer_source::stack;
  build.start_at(layers, detail::part_of(size_of(full, layers), 1 / static_cast<double>(factor)));
  build.grow({{layers, size_of(full, layers)}});
  schedule result = std::move(build).evenly();
  for (stage& growth : result.stages) { growth.at.value = at; }
  return result;
}

/// One layer for most of the run, then all of them at once, in the stable phase of wsd.
///
/// at   fraction of the run; before the decay, which begins at 1 - lr.decay_fraction
/// Source: Bu 2025, Deep Progressive Training (arXiv 2511.04981): a single growth late in the stable phase, wsd.
[[nodiscard]] inline schedule one_layer(const named_sizes& full, double at = 0.75, preset_options options = {}) {
  options.lr.policy = rate_policy::wsd;
  detail::preset_builder build(full, options);
  const std::string& layers = options.axes.layers;
  build.start_at(layers, 1);
  build.grow({{layers, size_of(full, layers)}});
  schedule result = std::move(build).evenly();
  for (stage& growth : result.stages) { growth.at.value = at; }
  return result;
}

/// Every dimension at each of `stages` growths, in stretches of equal length; between the start, `part` of the final
/// sizes, and these the sizes grow by equal factors.
/// Source: Gu et al. 2021, On the Transformer Growth for Progressive BERT Training (CompoundGrow).
[[nodiscard]] inline schedule compound(const named_sizes& full, int stages = 2, double part = 0.5,
                                       const preset_options& options = {}) {
  detail::preset_builder build(full, options);
  const auto& [ffn, layers, hidden, heads] = options.axes;
  const std::string* axes[] = {&hidden, &ffn, &heads, &layers};
  for (int i = 0; i <= stages; ++i) {
    named_sizes sizes;
    for (const std::string* axis : axes) {
      const double now = std::pow(part, static_cast<double>(stages - i) / stages);
      sizes.emplace_back(*axis, detail::part_of(size_of(full, *axis), now));
    }
    if (i > 0) {
      build.grow(sizes);
      continue;
    }
    for (const auto& [axis, size] : sizes) { build.start_at(axis, size); }
  }
  return std::move(build).evenly();
}

namespace detail {
[[nodiscard]] inline schedule msg_bert(const named_sizes& start, const std::vector<named_sizes>& growths,
                                       const preset_options& options) {
  preset_builder build(start, options);
  for (const named_sizes& sizes : growths) { build.grow(sizes); }
  schedule result = std::move(build).evenly();
  for (std::size_t i = 0; i < result.stages.size() && i < 2; ++i) { result.stages[i].lr.change = rate_change::rewind; }
  return result;
}
/// What MSG's released configs share.
[[nodiscard]] inline preset_options msg_bert_options() {
  preset_options options;
  options.lr = {.policy = rate_policy::linear, .peak = 1e-4, .min = 0, .warmup_steps = 10000};
  options.each.ramp.steps = 5000;
  return options;
}
} // namespace detail

/// The published schedules of BERT-base and BERT-large: sizes, order, ramps, and a rate that rewinds to the peak at the
/// first two growths. Step numbers aren't public; the stretches are of equal length, which predicts the published
/// savings (2.00 and 2.42 times fewer FLOPs for 1.8 and 2.2 times in time). Peak and warm-up are BERT's own.
/// Sources: Yao et al. 2024, released configs (method.md 6 and 7); Devlin et al. 2019, BERT, appendix A.2.
[[nodiscard]] inline schedule msg_bert_base(const preset_options& options = detail::msg_bert_options()) {
  const auto& [ffn, layers, hidden, heads] = options.axes;
  return detail::msg_bert({{hidden, 512}, {ffn, 768}, {heads, 8}, {layers, 3}},
                          {{{ffn, 3072}}, {{layers, 6}}, {{hidden, 768}}, {{heads, 12}}, {{layers, 12}}}, options);
}
[[nodiscard]] inline schedule msg_bert_large(const preset_options& options = detail::msg_bert_options()) {
  const auto& [ffn, layers, hidden, heads] = options.axes;
  return detail::msg_bert({{hidden, 512}, {ffn, 1024}, {heads, 8}, {layers, 6}},
                          {{{ffn, 4096}}, {{layers, 12}}, {{hidden, 1024}}, {{heads, 16}}, {{layers, 24}}}, options);
}

MSG_NAMESPACE_END
