// A training run with a growth in the middle: regression with y = w2 tanh(w1 x + b1), forward and backward by hand,
// AdamW by msg::update. At step 300 the 4 hidden units become 24; a mask lets the fresh ones in over 100 steps.
//
//   x (N, 3), the last one 1   w1 (F, 3)   h (N, F)   w2 (F)   y (N)      N = 128 samples, F = 4, later 24
#include <msg/grow.hpp>

#include <cmath>
#include <cstddef>
#include <cstdio>
#include <map>
#include <string>
#include <utility>
#include <vector>

namespace {

using msg::index;
using numbers = std::vector<double>;

constexpr index steps = 900, growth_step = 300, ramp_steps = 100;
constexpr std::size_t samples = 128, inputs = 3;

struct tensor {
  numbers value, gradient, m, v;
  explicit tensor(index size = 0) : value(static_cast<std::size_t>(size)), gradient(value), m(value), v(value) {}
};
using network = std::map<std::string, tensor, std::less<>>;

struct batch {
  numbers x, target; // (N, 3), (N)
};

/// sin(5 x0) cos(3 x1) on [-1, 1] x [-1, 1].
batch data() {
  batch result;
  const msg::random_stream points{.seed = 2024};
  for (std::size_t n = 0; n < samples; ++n) {
    const double x0 = 2 * msg::random_uniform(points, 2 * n) - 1, x1 = 2 * msg::random_uniform(points, 2 * n + 1) - 1;
    result.x.insert(result.x.end(), {x0, x1, 1.0});
    result.target.push_back(std::sin(5 * x0) * std::cos(3 * x1));
  }
  return result;
}

/// Mean squared error, and its gradients. `mask` scales h (N, F) on the way forward and dh on the way back; an empty
/// one is the plain network.
double train_step(network& model, const batch& data, const msg::mask_view& mask) {
  tensor &w1 = model["w1"], &w2 = model["w2"];
  const std::size_t units = w2.value.size();
  numbers h(samples * units), slope(samples * units), dh(samples * units);
  for (std::size_t i = 0; i < h.size(); ++i) {
    const std::size_t n = i / units, f = i % units;
    double sum = 0;
    for (std::size_t c = 0; c < inputs; ++c) { sum += w1.value[f * inputs + c] * data.x[n * inputs + c]; }
    h[i] = std::tanh(sum);
    slope[i] = 1 - h[i] * h[i];
  }
  msg::scale(mask, h);

  double loss = 0;
  w1.gradient.assign(w1.value.size(), 0);
  w2.gradient.assign(w2.value.size(), 0);
  for (std::size_t n = 0; n < samples; ++n) {
    double y = 0;
    for (std::size_t f = 0; f < units; ++f) { y += w2.value[f] * h[n * units + f]; }
    const double error = y - data.target[n];
    loss += error * error / samples;
    for (std::size_t f = 0; f < units; ++f) {
      w2.gradient[f] += 2 * error / samples * h[n * units + f];
      dh[n * units + f] = 2 * error / samples * w2.value[f];
    }
  }
  msg::scale(mask, dh);
  for (std::size_t i = 0; i < dh.size(); ++i) {
    const std::size_t n = i / units, f = i % units;
    for (std::size_t c = 0; c < inputs; ++c) {
      w1.gradient[f * inputs + c] += dh[i] * slope[i] * data.x[n * inputs + c];
    }
  }
  return loss;
}

/// Weights, moments and gradients in new storage, 24 units instead of 4.
void grow(network& model, const msg::plan& plan) {
  for (const msg::param_plan& entry : plan.parameters()) {
    tensor& old = model[entry.name];
    tensor grown(entry.size());
    msg::apply(entry, old.value, grown.value);
    msg::apply(entry, old.m, grown.m, msg::payload::moment1);
    msg::apply(entry, old.v, grown.v, msg::payload::moment2);
    old = std::move(grown);
  }
}

} // namespace

int main() {
  const msg::axis ffn{"ffn", 4};
  msg::schema schema;
  schema.weight("w1", out(ffn), in(msg::axis{"inputs", inputs})).weight("w2", in(ffn));
  network model;
  for (const msg::parameter& p : schema.parameters()) {
    tensor& t = model[p.name] = tensor(p.size());
    const msg::random_stream stream{.seed = 1, .stream = msg::stream_of(p.name)};
    for (std::size_t i = 0; i < t.value.size(); ++i) { t.value[i] = 0.5 * msg::random_normal(stream, i); }
  }

  const batch points = data();
  msg::growth_state growths; // which growth happened when: masks and ages follow from it at any step
  double before = 0, after = 0, last = 0;
  for (index step = 0; step < steps; ++step) {
    if (step == growth_step) {
      before = train_step(model, points, {}); // what the small network would have had
      const msg::plan plan{
          schema, {ffn.grow_to(24)}, msg::mask{.fresh = msg::fresh_values::all(msg::init::normal(0.3))}};
      grow(model, plan);
      growths.record(plan, step, msg::linear_ramp{.steps = ramp_steps});
      schema = plan.after();
    }
    double loss = 0;
    if (growths.ramping("ffn", step)) {
      const std::vector<float> values = growths.mask("ffn", step); // 1 on old units, c on fresh ones
      msg::axis_mask mask(static_cast<index>(values.size()));
      mask.set(values);
      loss = train_step(model, points, mask);
    } else {
      loss = train_step(model, points, {}); // before the growth and after the ramp no mask code runs
    }
    if (step == growth_step) { after = loss; }
    for (auto& [name, t] : model) { // fresh entries have their own age: Adam's bias correction is right for them
      msg::update(msg::adamw{.weight_decay = 0}, {.lr = 0.01, .step = step}, growths.ages(schema.at(name), step),
                  t.value, t.gradient, t.m, t.v);
    }
    last = loss;
    const bool near_growth = step >= growth_step - 2 && step <= growth_step + 2;
    if (step % 100 == 0 || near_growth || step + 1 == steps) {
      std::printf("step %4d  units %2zu  loss %.6f%s\n", static_cast<int>(step), model["w2"].value.size(), loss,
                  growths.ramping("ffn", step) ? "  ramping" : "");
    }
  }
  const bool kept = before == after, better = last < 0.5 * after;
  std::printf("loss of the same batch before and after the growth: %.17g and %.17g, %s\n", before, after,
              kept ? "the same bits" : "NOT THE SAME");
  std::printf("at the end %.6f: %s\n", last, better ? "the new units are at work" : "THE NEW UNITS DID NOTHING");
  return kept && better ? 0 : 1;
}
