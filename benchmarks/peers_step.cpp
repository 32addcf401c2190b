// Our side of `run.sh peers`: full training steps (forward, backward, AdamW) of configuration B, timed one by one.
// Protocol: prints "ready NAME", then for every number N read from stdin runs N steps and prints their milliseconds.

#include "transformer/cpu_backend.hpp"
#include "transformer/gemm_probe.hpp"
#include "transformer/model.hpp"

#include <msg/grow.hpp>

#include <fmt/format.h>

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <iostream>
#include <span>
#include <string>
#include <vector>

int main() {
  using reference::index;
  const reference::config sizes{
      .vocab = 256, .positions = 128, .hidden = 256, .ffn = 1024, .heads = 4, .head_dim = 64, .layers = 4};
  constexpr index batch = 16;
  constexpr index tokens = 128;
  const int threads = reference::set_threads(0);
  auto values = reference::initial_parameters<float>(sizes, 1);
  auto gradients = values.like();
  auto moment1 = values.like();
  auto moment2 = values.like();
  const msg::schema schema = reference::schema_of(sizes);
  reference::transformer<float> model(sizes, batch, tokens);
  std::vector<std::int32_t> text(batch * tokens + 1);
  for (std::size_t i = 0; i < text.size(); ++i) {
    text[i] = static_cast<std::int32_t>(msg::random_bits({1, 2}, i) % 256);
  }
  const std::span<const std::int32_t> all(text);
  index step = 0;
  const auto train_step = [&] {
    gradients.zero();
    (void)model.forward(values, {all.first(batch * tokens), all.last(batch * tokens)});
    model.backward(values, gradients);
    for (std::size_t p = 0; p < values.tensors.size(); ++p) {
      msg::update(msg::adamw{}, msg::update_step{.lr = 1e-3, .step = step}, msg::parameter_ages{}, values.tensors[p],
                  std::as_const(gradients.tensors[p]), moment1.tensors[p], moment2.tensors[p]);
    }
    ++step;
  };
  for (int i = 0; i < 3; ++i) { train_step(); }
  fmt::print("ready {} x {} threads\n", reference::gemm_backend_name(), threads);
  std::fflush(stdout);
  for (std::string line; std::getline(std::cin, line);) {
    std::string times;
    for (int i = std::stoi(line); i > 0; --i) {
      const auto begin = std::chrono::steady_clock::now();
      train_step();
      times += fmt::format("{:.3f} ",
                           std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - begin).count());
    }
    fmt::print("{}\n", times);
    std::fflush(stdout);
  }
  return 0;
}
