// Time of one training step's forward and backward, beside its matrix products alone: how close to the limit of the
// GEMM back-end the reference Transformer comes. The configurations A, B and D are those of cpu-speed.md, section 5; L
// and E are a Llama and a BERT of B's sizes, the BERT with 15 % of its tokens predicted.
//
// usage: step_bench [--csv FILE] [--repetitions 10] [--threads 0] [--configurations ABDLE]      0 threads: all cores
#include "transformer/cpu_backend.hpp"
#include "transformer/gemm_probe.hpp"
#include "transformer/model.hpp"

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

namespace {

using reference::index;

double milliseconds() {
  const auto now = std::chrono::steady_clock::now().time_since_epoch();
  return std::chrono::duration<double, std::milli>(now).count();
}

/// The linear layers and full attention of a step, forward and backward, as bare products: the same blocks and threads,
/// no biases, norms, activations, softmax.
class products_alone {
public:
  products_alone(const reference::config& c, index batch, index tokens)
      : c_(c), batch_(batch), tokens_(tokens), rows_(batch * tokens) {
    const index widest = std::max({2 * c.ffn, 3 * c.heads * c.head_dim, c.hidden, c.vocab});
    x_.resize(static_cast<std::size_t>(rows_ * widest), 0.5F);
    y_.resize(static_cast<std::size_t>(rows_ * widest), 0.5F);
    dx_.resize(static_cast<std::size_t>(rows_ * widest));
    w_.resize(static_cast<std::size_t>(widest * widest), 0.5F);
    dw_.resize(static_cast<std::size_t>(widest * widest));
    scores_.resize(static_cast<std::size_t>(batch * c.heads * tokens * tokens), 0.5F);
  }
  void run() {
    const index width = c_.heads * c_.head_dim;
    for (index l = 0; l < c_.layers; ++l) {
      linear(c_.hidden, 3 * width);
      linear(width, c_.hidden);
      linear(c_.hidden, reference::workspace<float, reference::cpu_backend>::before_width(c_));
      linear(c_.ffn, c_.hidden);
      attention();
    }
    if (!reference::features_of(c_.arch).masked_language) { return linear(c_.hidden, c_.vocab); }
    rows_ = rows_ * 3 / 20; // predicted
    linear(c_.hidden, c_.hidden);
    linear(c_.hidden, c_.vocab);
    rows_ = batch_ * tokens_;
  }

private:
  void linear(index in, index out) {
    reference::projection<const float> w{.in = in, .in_out = true};
    w.add({.weight = w_.data(), .out = out});
    on_.blocks(rows_,
               [&](reference::row_range block) { reference::linear_forward(on_, block, w, x_.data(), y_.data()); });
    on_.blocks(rows_,
               [&](reference::row_range block) { reference::linear_backward(on_, block, w, y_.data(), dx_.data()); });
    reference::cpu_backend::gradient_tasks<float> tasks(on_);
    tasks.add_product(rows_, in, out, x_.data(), in, y_.data(), out, dw_.data());
    tasks.run();
  }
  void attention() {
    const index width = c_.heads * c_.head_dim;
    const index step = 3 * width;
    reference::parallel_tasks(batch_ * c_.heads, [&](index task) {
      float* const q = x_.data() + task / c_.heads * tokens_ * step + task % c_.heads * c_.head_dim;
      float* const o = dx_.data() + task / c_.heads * tokens_ * width + task % c_.heads * c_.head_dim;
      float* const s = scores_.data() + task * tokens_ * tokens_;
      for (int pass = 0; pass < 3; ++pass) { // forward, and twice as much backward
        reference::gemm<float>(false, true, tokens_, tokens_, c_.head_dim, 1, q, step, q + width, step, 0, s, tokens_);
        reference::gemm<float>(pass == 2, false, tokens_, c_.head_dim, tokens_, 1, s, tokens_, q + 2 * width, step, 0,
                               o, width);
      }
    });
  }
  reference::cpu_backend on_;
  reference::config c_;
  index batch_, tokens_, rows_;
  reference::storage<float> x_, y_, dx_, w_, dw_, scores_;
};

struct configuration {
  char letter;
  reference::architecture arch;
  index layers, heads, hidden, tokens, batch, vocab;
};
using reference::architecture;
constexpr configuration configurations[] = {{'A', architecture::gpt2, 6, 6, 384, 256, 8, 256},
                                            {'B', architecture::gpt2, 4, 4, 256, 128, 16, 256},
                                            {'D', architecture::gpt2, 8, 4, 256, 128, 16, 256},
                                            {'L', architecture::llama, 4, 4, 256, 128, 16, 256},
                                            {'E', architecture::bert, 4, 4, 256, 128, 16, 256}};

struct timing {
  double forward, backward, products; // ms, least of all repetitions
  double tokens_per_second, gflops;   // of forward and backward
};

timing measure(const configuration& k, int repetitions) {
  reference::config c = reference::defaults_of(k.arch);
  c.vocab = k.vocab;
  c.positions = k.tokens;
  c.hidden = k.hidden;
  c.ffn = k.arch == architecture::llama ? 8 * k.hidden / 3 / 16 * 16 : 4 * k.hidden;
  c.heads = k.heads;
  c.head_dim = k.hidden / k.heads;
  c.layers = k.layers;
  const index rows = k.batch * k.tokens;
  const auto parameters = reference::initial_parameters<float>(c, 1);
  auto gradients = parameters.like();
  std::vector<std::int32_t> text(static_cast<std::size_t>(rows));
  for (std::size_t i = 0; i < text.size(); ++i) {
    text[i] = static_cast<std::int32_t>(msg::random_bits({2, 3}, i) % static_cast<std::uint32_t>(k.vocab));
  }
  std::vector<std::int32_t> targets = text;
  const bool predicts_some = reference::features_of(c.arch).masked_language;
  for (std::size_t i = 0; i < targets.size() && predicts_some; ++i) { targets[i] = i % 20 < 3 ? targets[i] : -1; }
  reference::transformer<float> model(c, k.batch, k.tokens);
  products_alone products(c, k.batch, k.tokens);
  std::vector<double> forward, backward, bare;
  for (int r = 0; r < repetitions; ++r) { // interleaved, so that a disturbance meets both
    const double start = milliseconds();
    model.forward(parameters, {text, targets});
    const double turn = milliseconds();
    model.backward(parameters, gradients);
    const double end = milliseconds();
    products.run();
    forward.push_back(turn - start);
    backward.push_back(end - turn);
    bare.push_back(milliseconds() - end);
  }
  const auto least = [](const std::vector<double>& times) { return *std::min_element(times.begin(), times.end()); };
  const double step = least(forward) + least(backward);
  const double operations =
      reference::training_flops_per_token(c, k.tokens, predicts_some ? 0.15 : 1) * static_cast<double>(rows);
  return {least(forward), least(backward), least(bare), static_cast<double>(rows) / step * 1e3,
          operations / step / 1e6};
}

void print(const configuration& k, const timing& t, std::FILE* csv) {
  const std::string name = std::string(1, k.letter) + " L" + std::to_string(k.layers) + " H" + std::to_string(k.heads) +
                           " C" + std::to_string(k.hidden) + " T" + std::to_string(k.tokens) + " B" +
                           std::to_string(k.batch) + " V" + std::to_string(k.vocab) + " " +
                           std::string(reference::name_of(k.arch));
  const double step = t.forward + t.backward;
  std::printf("%-32s %8.2f %8.2f %8.2f %9.2f %7.3f %10.0f %9.1f\n", name.c_str(), t.forward, t.backward, step,
              t.products, step / t.products, t.tokens_per_second, t.gflops);
  if (csv != nullptr) {
    std::fprintf(csv, "%s,%.3f,%.3f,%.3f,%.3f,%.4f,%.0f,%.1f\n", name.c_str(), t.forward, t.backward, step, t.products,
                 step / t.products, t.tokens_per_second, t.gflops);
  }
}

} // namespace

int main(int argc, char** argv) {
  const auto option = [&](const char* name, const char* otherwise) {
    for (int i = 1; i + 1 < argc; i += 2) {
      if (std::strcmp(argv[i], name) == 0) { return argv[i + 1]; }
    }
    return const_cast<char*>(otherwise);
  };
  const int repetitions = std::max(1, std::atoi(option("--repetitions", "10")));
  const int threads = reference::set_threads(std::atoi(option("--threads", "0")));
  const std::string letters = option("--configurations", "ABDLE");
  const std::string csv_path = option("--csv", "");
  std::FILE* const csv = csv_path.empty() ? nullptr : std::fopen(csv_path.c_str(), "w");
  if (!csv_path.empty() && csv == nullptr) {
    std::fprintf(stderr, "cannot write %s\n", csv_path.c_str());
    return 1;
  }
  const reference::bits_promise bits = reference::bits_probe();
  std::printf("GEMM: %s, %d thread(s); bits %s: %s\n", std::string(reference::gemm_backend_name()).c_str(), threads,
              bits.promised ? "promised" : "not promised", bits.reason.c_str());
  std::printf("ms, least of %-19d %8s %8s %8s %9s %7s %10s %9s\n", repetitions, "forward", "backward", "both",
              "products", "ratio", "tokens/s", "GFLOP/s");
  if (csv != nullptr) {
    std::fputs("configuration,forward,backward,both,products,ratio,tokens_per_second,gflops\n", csv);
  }
  for (const configuration& k : configurations) {
    if (letters.find(k.letter) != std::string::npos) { print(k, measure(k, repetitions), csv); }
  }
  if (csv != nullptr) { std::fclose(csv); }
  return 0;
}
