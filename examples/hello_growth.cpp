// Growth in a trainer of one's own: an MLP y = w2 gelu(w1 x + b1) gets 16 hidden units instead of 8, in the middle of
// its training, and goes on computing what it computed. Standard library only.
//
//   w1 (F, C)   b1 (F)   w2 (C, F)      C = 4 hidden, F = 8 ffn, row-major
#include <msg/grow.hpp>

#include <cmath>
#include <cstddef>
#include <cstdio>
#include <map>
#include <string>
#include <utility>
#include <vector>

namespace {

/// The trainer's own storage: a weight and Adam's two moments.
struct tensor {
  explicit tensor(msg::index size = 0) : value(static_cast<std::size_t>(size)), m(value), v(value) {}
  std::vector<float> value, m, v;
};
using network = std::map<std::string, tensor, std::less<>>;

/// y (rows) = w (rows, x.size()) x
std::vector<float> product(const std::vector<float>& w, const std::vector<float>& x) {
  std::vector<float> y(w.size() / x.size(), 0.0F);
  for (std::size_t i = 0; i < w.size(); ++i) { y[i / x.size()] += w[i] * x[i % x.size()]; }
  return y;
}

/// The first half of the forward pass: h (F) = gelu(w1 x + b1), x is (C).
std::vector<float> units_of(const network& model, const std::vector<float>& x) {
  std::vector<float> h = product(model.at("w1").value, x);
  for (std::size_t i = 0; i < h.size(); ++i) {
    const float a = h[i] + model.at("b1").value[i];
    h[i] = a * (1 + std::erf(a * 0.70710678F)) / 2;
  }
  return h;
}

/// Some numbers, as if the network had been trained for a while; v is a square, so not negative.
network trained() {
  network model{{"w1", tensor(8 * 4)}, {"b1", tensor(8)}, {"w2", tensor(4 * 8)}};
  for (auto& [name, t] : model) {
    const msg::random_stream numbers{.seed = 1, .stream = msg::stream_of(name)};
    for (std::size_t i = 0; i < t.value.size(); ++i) {
      t.value[i] = static_cast<float>(msg::random_normal(numbers, 2 * i));
      t.m[i] = static_cast<float>(msg::random_normal(numbers, 2 * i + 1));
      t.v[i] = t.m[i] * t.m[i];
    }
  }
  return model;
}

/// Half the squared distance from a target of zeros.
double loss_of(const std::vector<float>& y) {
  double sum = 0;
  for (const float number : y) { sum += static_cast<double>(number) * static_cast<double>(number); }
  return sum / 2;
}

void print(const char* when, const std::vector<float>& y) {
  std::printf("%-28s", when);
  for (const float number : y) { std::printf(" % .6f", static_cast<double>(number)); }
  std::printf("\n");
}

} // namespace

int main() {
  const std::vector<float> x{0.5F, -1.0F, 2.0F, 0.25F};
  network model = trained();
  const std::vector<float> before = product(model["w2"].value, units_of(model, x));

  // [readme:hello]
  const msg::axis hidden{"hidden", 4}, ffn{"ffn", 8}; // activations live on named axes
  msg::schema mlp;                                    // what each dimension of each parameter means
  mlp.weight("w1", out(ffn), in(hidden));             // h = gelu(w1 x + b1)
  mlp.bias("b1", out(ffn));
  mlp.weight("w2", out(hidden), in(ffn)); // y = w2 h

  const msg::plan plan{mlp, {ffn.grow_to(16)}}; // everything is decided and checked here
  for (const msg::param_plan& entry : plan.parameters()) {
    tensor& mine = model[entry.name]; // your own tensor, in your own storage
    tensor grown(entry.size());
    msg::apply(entry, mine.value, grown.value);                // w1: 8 rows become 16
    msg::apply(entry, mine.m, grown.m, msg::payload::moment1); // Adam's moments ride along
    msg::apply(entry, mine.v, grown.v, msg::payload::moment2);
    mine = std::move(grown);
  }

  msg::axis_mask mask{plan, "ffn"}; // 1 on old units, c on fresh ones
  const auto forward = [&](msg::index steps_since_growth) {
    mask.set(msg::linear_ramp{.steps = 100}(steps_since_growth)); // c goes from 0 to 1
    std::vector<float> h = units_of(model, x);                    // as ever, and then one line more:
    msg::scale(mask, h);                                          // the same call on dh in the backward
    return product(model["w2"].value, h);
  };
  const bool kept = forward(0) == before; // every bit of the function, whatever the fresh weights are
  // [/readme:hello]

  // [readme:verify]
  const auto evaluated = [](const auto& y) { return msg::evaluation{loss_of(y), y}; };
  const msg::verifier check{plan, evaluated(before)};
  msg::require(check.against(evaluated(forward(0))), msg::strictness::exact); // throws, naming the worst output
  // [/readme:verify]

  print("before the growth, 8 units:", before);
  print("after it, 16 units, c = 0:", forward(0));
  print("50 steps later, c = 0.5:", forward(50));
  print("100 steps later, c = 1:", forward(100));

  // Old rows kept their bits, and the moments of fresh rows start at zero.
  const tensor& w1 = model["w1"];
  const tensor old = trained()["w1"];
  bool moved = true;
  for (std::size_t i = 0; i < w1.value.size(); ++i) {
    const bool is_old = i < old.value.size(); // rows 0..7, appended to
    moved = moved && w1.m[i] == (is_old ? old.m[i] : 0) && w1.v[i] == (is_old ? old.v[i] : 0);
    moved = moved && (is_old ? w1.value[i] == old.value[i] : w1.value[i] != 0);
  }
  std::printf("the function is %s, old weights and moments are %s\n", kept ? "kept, bit for bit" : "CHANGED",
              moved ? "in place" : "LOST");
  return kept && moved ? 0 : 1;
}
