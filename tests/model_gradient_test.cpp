// The backward against finite differences of the forward, which model_test.cpp and model_torch_test.cpp compare with
// others.
#include "support/catch.hpp"
#include "support/tiny_transformer.hpp"
#include "transformer/cpu_backend.hpp"
#include "transformer/model.hpp"

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

namespace {

using reference::config;
using tiny::form;

const config before_growth{.vocab = 6, .positions = 5, .hidden = 4, .ffn = 6, .heads = 2, .head_dim = 3, .layers = 1};
const config all_grown{.vocab = 7, .positions = 5, .hidden = 6, .ffn = 9, .heads = 3, .head_dim = 3, .layers = 2};

/// Compares every parameter's gradient with the five-point difference
///   D(h) = (8 (f(x+h) - f(x-h)) - (f(x+2h) - f(x-2h))) / (12 h) = f' - h^4 f''''' / 30 + rounding of f / h,
/// and where that is too coarse, behind a norm of a few units, with (16 D(h/2) - D(h)) / 15, which is of sixth order.
void check_every_gradient(const config& c, const reference::masks& masks, const reference::dropout& drop = {}) {
  reference::set_threads(1); // tiny models gain nothing from more
  // with this seed no step of the differences makes a token choose another expert, where the loss jumps
  auto parameters = tiny::random_parameters<double>(c, c.experts > 0 ? 27 : 21);
  reference::transformer<double> model(c, 2, 5);
  tiny::batch data(c, 2, 5);
  if (masks.vocab) { // a token that the mask hides cannot be predicted
    for (auto& target : data.targets) { target = std::min(target, static_cast<std::int32_t>(before_growth.vocab - 1)); }
  }
  auto gradients = parameters.like();
  reference::model_input input = data.input();
  input.drop = drop;
  model.forward(parameters, input, masks);
  model.backward(parameters, gradients);
  constexpr double h = 1e-3;
  // rounding: a loss of 2 to about 20 eps, over h; h^4 / 30 = 3e-14 times a fifth derivative of up to 1e4
  constexpr double bound = 1e-9;
  for (auto& t : parameters) {
    double worst = 0;
    std::size_t where = 0;
    for (std::size_t i = 0; i < t.data.size(); ++i) {
      const double x = t.data[i];
      const auto loss_at = [&](double steps) {
        t.data[i] = x + steps * h;
        return model.forward(parameters, input, masks);
      };
      const auto difference = [&](double s) {
        return (8 * (loss_at(s) - loss_at(-s)) - (loss_at(2 * s) - loss_at(-2 * s))) / (12 * s * h);
      };
      const double exact = gradients[t.name].data[i];
      const double coarse = difference(1);
      double off = std::fabs(coarse - exact);
      if (off > bound) { off = std::fabs((16 * difference(0.5) - coarse) / 15 - exact); }
      t.data[i] = x;
      if (!(off <= worst)) {
        worst = off;
        where = i;
      }
    }
    CAPTURE(t.name, where, gradients[t.name].data[where]);
    CHECK(worst <= bound);
  }
}

} // namespace

TEST_CASE("without masks every gradient is the finite difference of the loss", "[model][gradient]") {
  const form f = GENERATE(from_range(tiny::forms));
  CAPTURE(tiny::name_of(f));
  check_every_gradient(tiny::as(f, all_grown), {});
}

TEST_CASE("with dropout every gradient is the finite difference of the loss, with and without masks",
          "[model][gradient][dropout]") {
  const form f = GENERATE(from_range(tiny::forms));
  const bool masked = GENERATE(false, true);
  const bool released = GENERATE(false, true);
  if (released && !masked) { return; }
  CAPTURE(tiny::name_of(f), masked, released);
  const config to = tiny::as(f, all_grown);
  config from = before_growth;
  from.experts = 2;
  tiny::growth_masks masks(tiny::as(f, from), to, 0.3F);
  masks.released = released;
  check_every_gradient(to, masked ? masks.view() : reference::masks{}, {.rate = 0.3, .seed = 17, .step = 4, .part = 1});
}

TEST_CASE("with each mask alone every gradient is the finite difference of the loss", "[model][gradient]") {
  const form f = GENERATE(from_range(tiny::forms));
  const float c = GENERATE(0.0F, 0.3F, 1.0F);
  const std::string axis = GENERATE("hidden", "ffn", "heads", "layers", "vocab", "experts");
  CAPTURE(tiny::name_of(f), axis, c);
  config from = all_grown;
  if (axis == "hidden") { from.hidden = before_growth.hidden; }
  if (axis == "ffn") { from.ffn = before_growth.ffn; }
  if (axis == "heads") { from.heads = before_growth.heads; }
  if (axis == "layers") { from.layers = before_growth.layers; }
  if (axis == "vocab") { from.vocab = before_growth.vocab; }
  if (axis == "experts") { from.experts = 2; }
  const config to = tiny::as(f, all_grown);
  const tiny::growth_masks masks(tiny::as(f, from), to, c);
  check_every_gradient(to, masks.view());
}

TEST_CASE("with all masks together every gradient is the finite difference of the loss", "[model][gradient]") {
  const form f = GENERATE(from_range(tiny::forms));
  const float c = GENERATE(0.0F, 0.3F, 1.0F);
  const bool released = GENERATE(false, true);
  CAPTURE(tiny::name_of(f), c, released);
  const config to = tiny::as(f, all_grown);
  config from = before_growth;
  from.experts = 2;
  tiny::growth_masks masks(tiny::as(f, from), to, c);
  masks.released = released;
  check_every_gradient(to, masks.view());
}

TEST_CASE("with masks at different ramp values every gradient is the finite difference of the loss",
          "[model][gradient]") {
  const form f = GENERATE(from_range(tiny::forms));
  CAPTURE(tiny::name_of(f));
  const config to = tiny::as(f, all_grown);
  const config from = tiny::as(f, before_growth);
  tiny::growth_masks masks(from, to, 0.7F);
  masks.hidden = tiny::mask(4, 6, 0.2F);
  masks.hidden.value[5] = 0; // a second growth on top of a ramp
  masks.hidden.sum -= static_cast<double>(0.2F);
  masks.heads = tiny::mask(from.heads, to.heads, 0.0F);
  check_every_gradient(to, masks.view());
}

TEST_CASE("slopes of fresh gradients are the product of the ramps on their path", "[model][gradient]") {
  // method.md, section 4: O(c) for one axis, O(c^2) fresh by fresh
  const config to = tiny::as(form::gpt2, all_grown);
  const auto parameters = tiny::random_parameters<double>(to, 22);
  const auto text = tiny::random_tokens(to, 10, 1);
  const auto fresh_gradient = [&](const config& from, double c, const char* name, auto is_fresh) {
    reference::transformer<double> model(to, 2, 5);
    const tiny::growth_masks masks(from, to, static_cast<float>(c));
    const auto gradients = tiny::run<double>(model, parameters, {text, text}, masks.view()).gradients;
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
