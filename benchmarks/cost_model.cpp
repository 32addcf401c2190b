// How well the time of a training step is predicted at sizes that were not measured: the reference GPT at the sizes a
// calibration would measure, and at others.
//
// usage: cost_model [--csv FILE] [--rounds 15] [--threads 0] [--clock wall]
//
// 0 threads: all cores. --clock cpu counts the processor's time, which other programs disturb less: with one thread, on
// a machine that isn't idle.
#include "transformer/cpu_backend.hpp"
#include "transformer/gemm_probe.hpp"
#include "transformer/median.hpp"
#include "transformer/model.hpp"
#include "transformer/parallel.hpp"

#include <msg/model_cost.hpp>
#include <msg/optimizer.hpp>
#include <msg/step_time.hpp>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace {

using reference::index;

constexpr index batch = 8;
constexpr index tokens = 128;

bool processor_time = false;

double milliseconds() {
  if (processor_time) { return 1e3 * static_cast<double>(std::clock()) / CLOCKS_PER_SEC; }
  const auto now = std::chrono::steady_clock::now().time_since_epoch();
  return std::chrono::duration<double, std::milli>(now).count();
}

/// A model in training: what a trainer does in a step but for reading text.
class trained {
public:
  explicit trained(const reference::config& sizes)
      : values_(reference::initial_parameters<float>(sizes, 1)), gradients_(values_.like()), moment1_(values_.like()),
        moment2_(values_.like()), model_(sizes, batch, tokens), text_(static_cast<std::size_t>(batch * tokens)) {
    for (std::size_t i = 0; i < text_.size(); ++i) {
      text_[i] = static_cast<std::int32_t>(msg::random_bits({2, 3}, i) % static_cast<std::uint32_t>(sizes.vocab));
    }
  }
  /// Milliseconds of one step.
  double step() {
    const double begin = milliseconds();
    gradients_.zero();
    (void)model_.forward(values_, {.tokens = text_, .targets = text_});
    model_.backward(values_, gradients_);
    double squares = 0;
    for (const auto& g : gradients_) { squares += msg::sum_of_squares(g.data); }
    const msg::update_step now{.lr = 1e-3, .step = step_++, .gradient_scale = msg::clip_scale(std::sqrt(squares), 1)};
    for (std::size_t p = 0; p < values_.tensors.size(); ++p) {
      msg::update(msg::adamw{}, now, {}, values_.tensors[p], std::as_const(gradients_.tensors[p]), moment1_.tensors[p],
                  moment2_.tensors[p]);
    }
    return milliseconds() - begin;
  }

private:
  reference::tensor_set<float> values_, gradients_, moment1_, moment2_;
  reference::transformer<float> model_;
  std::vector<std::int32_t> text_;
  index step_ = 0;
};

struct sizes {
  index hidden, ffn, heads, layers;
  [[nodiscard]] msg::named_sizes named() const {
    return {{"hidden", hidden}, {"ffn", ffn}, {"heads", heads}, {"layers", layers}};
  }
  [[nodiscard]] reference::config config() const {
    return {.positions = tokens, .hidden = hidden, .ffn = ffn, .heads = heads, .head_dim = 32, .layers = layers};
  }
};
// The first and the last sizes of a run and some of its stages, as a trainer would calibrate; and others.
constexpr sizes measured[] = {{64, 96, 2, 1},   {128, 192, 4, 2}, {128, 768, 4, 2},
                              {192, 768, 4, 3}, {192, 768, 6, 6}, {256, 512, 8, 4}};
constexpr sizes unseen[] = {{96, 256, 3, 2},  {128, 512, 4, 4}, {128, 768, 4, 3}, {192, 768, 4, 4},
                            {192, 384, 6, 2}, {192, 768, 6, 3}, {256, 768, 6, 3}, {160, 640, 5, 5}};

} // namespace

int main(int count, char** arguments) {
  const char* path = nullptr;
  int rounds = 15;
  int threads = 0;
  for (int i = 1; i + 1 < count; i += 2) {
    const std::string name = arguments[i];
    if (name == "--csv") { path = arguments[i + 1]; }
    if (name == "--rounds") { rounds = std::max(1, std::atoi(arguments[i + 1])); }
    if (name == "--clock") { processor_time = std::strcmp(arguments[i + 1], "cpu") == 0; }
    if (name == "--threads") { threads = std::atoi(arguments[i + 1]); }
  }
  (void)reference::set_threads(threads);
  std::vector<sizes> all(std::begin(measured), std::end(measured));
  all.insert(all.end(), std::begin(unseen), std::end(unseen));
  std::vector<std::unique_ptr<trained>> models;
  for (const sizes& s : all) { models.push_back(std::make_unique<trained>(s.config())); }
  std::vector<std::vector<double>> times(all.size());
  for (int round = -2; round < rounds; ++round) { // all sizes in turn, so that a disturbance meets them alike
    for (std::size_t i = 0; i < all.size(); ++i) {
      const double time = models[i]->step();
      if (round >= 0) { times[i].push_back(time); } // the first two warm up
    }
  }
  const msg::schema_cost cost(reference::schema_of(all[0].config()), {.tokens = tokens});
  std::vector<msg::step_timing> timings;
  for (std::size_t i = 0; i < std::size(measured); ++i) {
    timings.push_back({all[i].named(), reference::median_of(times[i])});
  }
  const msg::step_time machine = msg::calibrate(cost, timings, batch * tokens);

  std::FILE* csv = path == nullptr ? nullptr : std::fopen(path, "w");
  if (csv != nullptr) { std::fprintf(csv, "hidden,ffn,heads,layers,calibrated,measured_ms,predicted_ms,error\n"); }
  std::printf("%-24s %-10s %12s %12s %8s\n", "sizes", "", "measured ms", "predicted ms", "error");
  double worst = 0;
  for (std::size_t i = 0; i < all.size(); ++i) {
    const sizes& s = all[i];
    const bool calibrated = i < std::size(measured);
    const double truth = reference::median_of(times[i]);
    const double predicted = msg::milliseconds_of(machine, cost(s.named()));
    const double error = predicted / truth - 1;
    if (!calibrated) { worst = std::max(worst, std::abs(error)); }
    const std::string name = "C" + std::to_string(s.hidden) + " F" + std::to_string(s.ffn) + " H" +
                             std::to_string(s.heads) + " L" + std::to_string(s.layers);
    std::printf("%-24s %-10s %12.2f %12.2f %7.1f%%\n", name.c_str(), calibrated ? "calibrated" : "unseen", truth,
                predicted, 100 * error);
    if (csv != nullptr) {
      std::fprintf(csv, "%lld,%lld,%lld,%lld,%d,%.4f,%.4f,%.4f\n", static_cast<long long>(s.hidden),
                   static_cast<long long>(s.ffn), static_cast<long long>(s.heads), static_cast<long long>(s.layers),
                   calibrated ? 1 : 0, truth, predicted, error);
    }
  }
  if (csv != nullptr) { std::fclose(csv); }
  std::printf("largest error at unseen sizes %.1f %%; the calibration's own estimate %.1f %%; terms:", 100 * worst,
              100 * machine.error);
  for (const auto& [name, coefficient] : machine.coefficients) { std::printf(" %s %.3g", name.c_str(), coefficient); }
  std::printf("\n");
  return 0;
}
