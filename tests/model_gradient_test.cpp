// The backward against finite differences of the forward, which model_test.cpp compares with an oracle.
#include "support/catch.hpp"
#include "support/tiny_gpt.hpp"
#include "transformer/model.hpp"

#include <algorithm>
#include <cmath>
#include <string>

namespace {

using reference::config;

const config before_growth{.vocab = 7, .positions = 5, .hidden = 4, .ffn = 6, .heads = 2, .head_dim = 3, .layers = 1};
const config all_grown{.vocab = 7, .positions = 5, .hidden = 6, .ffn = 9, .heads = 3, .head_dim = 3, .layers = 2};

/// Compares every parameter's gradient with the five-point difference
///   (8 (f(x+h) - f(x-h)) - (f(x+2h) - f(x-2h))) / (12 h) = f' - h^4 f''''' / 30 + rounding of f / h.
void check_every_gradient(const config& c, const reference::masks& masks) {
  reference::set_threads(1); // tiny models gain nothing from more
  auto parameters = tiny::random_parameters<double>(c, 21);
  reference::transformer<double> model(c, 2, 5);
  const auto inputs = tiny::random_tokens(c, model.rows(), 1);
  auto targets = tiny::random_tokens(c, model.rows(), 2);
  targets[6] = -1;
  auto gradients = parameters.like();
  model.forward(parameters, {inputs, targets}, masks);
  model.backward(parameters, gradients);
  constexpr double h = 1e-3;
  for (auto& t : parameters) {
    double worst = 0;
    std::size_t where = 0;
    for (std::size_t i = 0; i < t.data.size(); ++i) {
      const double x = t.data[i];
      const auto loss_at = [&](double steps) {
        t.data[i] = x + steps * h;
        return model.forward(parameters, {inputs, targets}, masks);
      };
      const double numeric = (8 * (loss_at(1) - loss_at(-1)) - (loss_at(2) - loss_at(-2))) / (12 * h);
      t.data[i] = x;
      const double off = std::fabs(numeric - gradients[t.name].data[i]);
      if (off > worst) {
        worst = off;
        where = i;
      }
    }
    CAPTURE(t.name, where, gradients[t.name].data[where]);
    // rounding: a loss of 2 to about 20 eps, over h; h^4 / 30 = 3e-14 times a fifth derivative of up to 1e4
    CHECK(worst <= 1e-9);
  }
}

} // namespace

TEST_CASE("without masks every gradient is the finite difference of the loss", "[model][gradient]") {
  check_every_gradient(all_grown, {});
}

TEST_CASE("with each mask alone every gradient is the finite difference of the loss", "[model][gradient]") {
  const float c = GENERATE(0.0F, 0.3F, 1.0F);
  const std::string axis = GENERATE("hidden", "ffn", "heads", "layers");
  CAPTURE(axis, c);
  config from = all_grown;
  if (axis == "hidden") { from.hidden = before_growth.hidden; }
  if (axis == "ffn") { from.ffn = before_growth.ffn; }
  if (axis == "heads") { from.heads = before_growth.heads; }
  if (axis == "layers") { from.layers = before_growth.layers; }
  const tiny::growth_masks masks(from, all_grown, c);
  check_every_gradient(all_grown, masks.view());
}

TEST_CASE("with all masks together every gradient is the finite difference of the loss", "[model][gradient]") {
  const float c = GENERATE(0.0F, 0.3F, 1.0F);
  CAPTURE(c);
  const tiny::growth_masks masks(before_growth, all_grown, c);
  check_every_gradient(all_grown, masks.view());
}

TEST_CASE("with masks at different ramp values every gradient is the finite difference of the loss",
          "[model][gradient]") {
  tiny::growth_masks masks(before_growth, all_grown, 0.7F);
  masks.hidden = tiny::mask(4, 6, 0.2F);
  masks.hidden.value[5] = 0; // a second growth on top of a ramp
  masks.hidden.sum -= static_cast<double>(0.2F);
  masks.heads = tiny::mask(2, 3, 0.0F);
  check_every_gradient(all_grown, masks.view());
}

TEMPLATE_TEST_CASE("slopes of fresh gradients are the product of the ramps on their path", "[model][gradient]",
                   double) {
  // method.md, section 4: O(c) for one axis, O(c^2) fresh by fresh
  const auto parameters = tiny::random_parameters<double>(all_grown, 22);
  reference::transformer<double> model(all_grown, 2, 5);
  const auto text = tiny::random_tokens(all_grown, model.rows(), 1);
  const auto fresh_gradient = [&](const config& from, double c, const char* name, auto is_fresh) {
    const tiny::growth_masks masks(from, all_grown, static_cast<float>(c));
    auto gradients = parameters.like();
    model.forward(parameters, {text, text}, masks.view());
    model.backward(parameters, gradients);
    double sum = 0;
    for (std::size_t i = 0; i < gradients[name].data.size(); ++i) {
      if (is_fresh(static_cast<msg::index>(i))) { sum += std::fabs(gradients[name].data[i]); }
    }
    return sum;
  };
  const auto slope = [&](const config& from, const char* name, auto is_fresh) {
    return std::log10(fresh_gradient(from, 1e-2, name, is_fresh) / fresh_gradient(from, 1e-3, name, is_fresh));
  };
  config ffn_alone = all_grown;
  ffn_alone.ffn = before_growth.ffn;
  config both = ffn_alone;
  both.hidden = before_growth.hidden;
  const auto fresh_unit = [](msg::index i) { return i % all_grown.ffn >= before_growth.ffn; };
  const auto fresh_both = [&](msg::index i) {
    return fresh_unit(i) && i / all_grown.ffn % all_grown.hidden >= before_growth.hidden;
  };
  // the slope is 1 (2) up to the curvature over the decade, O(c) = 1e-2
  CHECK(std::fabs(slope(ffn_alone, "h.*.mlp.c_fc.weight", fresh_unit) - 1) < 0.05);
  CHECK(std::fabs(slope(both, "h.*.mlp.c_fc.weight", fresh_both) - 2) < 0.05);
}
