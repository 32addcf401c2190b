// Faults found in released growth code, each shown to be absent here: axes found by their size, layers found by a part
// of a name, copies called an identity, norms that ignore their divisor or eps, random replication under a norm, an
// optimizer dropped or blind to later layers.
#include "support/catch.hpp"
#include "support/published_library.hpp"

#include <msg/growth.hpp>
#include <msg/optimizer.hpp>
#include <msg/presets.hpp>

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

using namespace published;
using msg::fresh_values;
using msg::init;
using msg::payload;
namespace presets = msg::presets;

namespace {

/// Every size is 4: nothing can be told apart by it.
sizes all_equal(family kind) {
  sizes s{.kind = kind, .vocab = 4, .positions = 4, .hidden = 4, .ffn = 4, .heads = 4, .kv_heads = 4, .head_dim = 4};
  s.layers = s.key_dim = s.value_dim = 4;
  return s;
}

} // namespace

TEST_CASE("an axis is found by its name where all sizes are equal", "[faults]") {
  const family kind = GENERATE(from_range(families));
  const std::string axis = GENERATE("hidden", "ffn", "heads", "layers", "vocab", "positions");
  const sizes s = all_equal(kind);
  if (s.kind == family::llama && axis == "positions") { return; } // it has none
  CAPTURE(static_cast<int>(kind), axis);
  targets to{{axis, 7}};
  growth g{{axis, appended(4, 7)}};
  if (axis == "layers") {
    g["layers"] = layers_from(4, {0, 1, 2, 3, 0, 1, 2}, {false, false, false, false, true, true, true});
  }
  if (axis == "heads") {
    to["kv_heads"] = 7;
    g["kv_heads"] = appended(4, 7);
  }
  const trial t(s, to, presets::msg(fresh_values::all(init::normal(30))));
  CHECK(difference(grown(t.old, g), t.now) == "");
  CHECK(t.apart().none());
}

TEST_CASE("copies of one axis leave axes of the same size alone", "[faults]") {
  const family kind = GENERATE(from_range(families));
  const std::string axis = GENERATE("hidden", "ffn", "heads");
  CAPTURE(static_cast<int>(kind), axis);
  targets to{{axis, 8}};
  growth g{{axis, copies(4, tiled(4, 8))}};
  if (axis == "heads") {
    to["kv_heads"] = 8;
    g["kv_heads"] = copies(4, tiled(4, 8));
  }
  const trial t(all_equal(kind), to, presets::hypercloning());
  CHECK(difference(grown(t.old, g), t.now) == "");
  CHECK(t.apart().rounding());
}

TEST_CASE("names that are parts of other names mean nothing", "[faults]") {
  const msg::axis layers{"layer", 2}, more{"layers", 3}, unit{"head", 2}, units{"heads", 3}, width{"head_dim", 4};
  msg::schema s;
  s.weight("layer.1.weight", each(layers), out(unit)).weight("layer.10.weight", each(more), out(units));
  s.weight("layer", out(units * width)).weight("player.1.weight", out(width)).weight("layer.1", out(more), in(unit));
  const msg::plan plan{s, {layers.grow_to(4), unit.grow_to(5)}, presets::msg()};
  CHECK(plan["layer.1.weight"].new_shape() == std::vector<index>{4, 5});
  CHECK(plan["layer.10.weight"].new_shape() == std::vector<index>{3, 3});
  CHECK(plan["layer"].new_shape() == std::vector<index>{12});
  CHECK(plan["player.1.weight"].new_shape() == std::vector<index>{4});
  CHECK(plan["layer.1"].new_shape() == std::vector<index>{3, 5});
}

TEST_CASE("an identity layer is no plain copy", "[faults]") {
  const family kind = GENERATE(family::gpt, family::llama);
  const auto by = GENERATE(as<msg::rule>{}, presets::net2net(), presets::lemon(), presets::staged(),
                           presets::llama_pro(), presets::composable());
  CAPTURE(static_cast<int>(kind), by.name());
  const trial silent(small(kind), {{"layers", 4}}, by), copied(small(kind), {{"layers", 4}}, presets::stackbert());
  CHECK(between(silent.old, silent.now).none());
  CHECK(between(copied.old, copied.now).visible());
  CHECK(copied.plan.keeps() == msg::strictness::none); // and does not claim to be one
}

TEST_CASE("zero padding under a norm asks for the divisor and the eps it changes", "[faults]") {
  const trial t(small(family::llama), {{"hidden", 9}}, presets::composable());
  const msg::axis_contract asked = t.plan.contract()[0];
  CHECK(asked.gain_factor == Approx(std::sqrt(4.0 / 9)).epsilon(1e-15));
  CHECK(asked.eps_factor == Approx(4.0 / 9).epsilon(1e-15));
  CHECK(t.apart().rounding());
  model unscaled = t.now; // the divisor forgotten
  for (auto& [name, numbers] : unscaled.numbers) {
    if (says(name, "gain")) {
      for (real& one : numbers) { one *= 1.5L; }
    }
  }
  CHECK(between(t.old, unscaled, keeping(t.plan)).visible());
  CHECK(between(t.old, t.now).visible()); // eps forgotten
}

TEST_CASE("random copies under a norm ask for weighted statistics", "[faults]") {
  const family kind = GENERATE(from_range(families));
  const trial t(small(kind), {{"hidden", 7}}, msg::duplicate{.from = msg::duplicate::sources::random, .seed = 3});
  CAPTURE(static_cast<int>(kind), t.from("hidden"));
  CHECK(t.plan.contract()[0].weight_norm_statistics);
  CHECK(t.apart().rounding());
  CHECK(between(t.old, t.now).visible());
}

TEST_CASE("the optimizer's state survives every growth", "[faults]") {
  const family kind = GENERATE(from_range(families));
  const auto by = GENERATE(as<msg::rule>{}, presets::msg(), presets::net2net(), presets::lemon(), presets::stackbert(),
                           presets::llama_pro(), presets::midas());
  CAPTURE(static_cast<int>(kind), by.name());
  const bool deep = says(by.name(), "stack") || says(by.name(), "llama") || says(by.name(), "midas");
  const trial t(small(kind), {{deep ? "layers" : "ffn", deep ? 3 : 9}}, by);
  for (const payload what : {payload::moment1, payload::moment2}) {
    const model state = applied(t.plan, t.old, what);
    for (const auto& [name, before] : t.old.numbers) { // every old number is somewhere, whole or in parts
      const std::vector<real>& now = state.numbers.at(name);
      CAPTURE(name);
      CHECK(std::count_if(now.begin(), now.end(), [](real one) { return one != 0; }) >= std::ssize(before));
    }
  }
}

TEST_CASE("the optimizer moves later layers and old ones alike", "[faults]") {
  const family kind = GENERATE(from_range(families));
  const auto by = GENERATE(as<msg::rule>{}, presets::stackbert(), presets::msg());
  CAPTURE(static_cast<int>(kind), by.name());
  const trial t(small(kind), {{"layers", 4}}, by);
  msg::growth_state state;
  state.record(t.plan, 100, {});
  const setting awake = keeping(t.plan, 0.5);
  const values<long double> slopes = gradient(t.now, awake);
  const msg::adamw options{.beta1 = 0.9, .beta2 = 0.99, .eps = 1e-12, .weight_decay = 0};
  for (const msg::parameter& p : t.plan.after().parameters()) {
    const std::vector<real>&start = t.now.numbers.at(p.name), &slope = slopes.at(p.name);
    std::vector<double> value(start.begin(), start.end()), g(slope.begin(), slope.end());
    std::vector<double> first(value.size(), 0), second(value.size(), 0);
    msg::update(options, {.lr = 0.01, .step = 100}, state.ages(p, 100), value, g, first, second);
    CAPTURE(p.name);
    const bool layered = p.dims.front().what == msg::role::each;
    const std::size_t slice = value.size() / 4;
    for (std::size_t i = 0; i < value.size(); ++i) {
      if (std::abs(g[i]) < 1e-6) { continue; } // nothing to learn there: an unused token
      CHECK(value[i] != static_cast<double>(start[i]));
      // from moments of 0 a newborn entry moves by lr: its bias correction counts from its birth
      if (layered && i >= 2 * slice) { CHECK(std::abs(value[i] - static_cast<double>(start[i])) == Approx(0.01)); }
    }
  }
}
