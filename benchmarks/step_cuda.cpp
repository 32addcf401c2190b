// Time of a whole training step on a GPU (forward, backward, clipping, AdamW): tokens per second of GPT-2 sizes, with
// products of each precision, and how much longer a step takes while a growth of hidden and FFN width ramps. Where no
// GPU can be used it says so, and ends.
//
// usage: step_cuda [--csv FILE] [--repetitions 20]
#include "transformer/engine.hpp"
#include "transformer/gemm_precision.hpp"

#include <msg/grow.hpp>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <iterator>
#include <string>
#include <string_view>
#include <vector>

namespace {

using reference::index;

struct size {
  const char* name;
  index layers, heads, hidden, tokens, batch, vocab;
};
constexpr size sizes[] = {{"L6 H6 C384 T256 B32 V256", 6, 6, 384, 256, 32, 256},
                          {"L12 H12 C768 T1024 B8 V50257", 12, 12, 768, 1024, 8, 50257}};

#if defined(MSG_WITH_CUDA)

/// ms of a step, the least of all repetitions.
double least_step(reference::cuda_engine& engine, const reference::model_state<float>& state, index& step,
                  const std::vector<std::int32_t>& text, int repetitions) {
  double least = HUGE_VAL;
  const msg::schema schema = reference::schema_of(state.sizes);
  for (int r = 0; r < repetitions + 2; ++r, ++step) {
    const reference::live_masks masks = state.masks(step);
    std::vector<msg::parameter_ages> ages;
    for (const msg::parameter& p : schema.parameters()) { ages.push_back(state.ages(p, step)); }
    const auto begin = std::chrono::steady_clock::now();
    engine.add_batch({text, text}, masks.view(), 1);
    (void)engine.update({.optimizer = {}, .lr = 1e-4, .step = step, .clip = 1}, ages); // waits
    const std::chrono::duration<double, std::milli> took = std::chrono::steady_clock::now() - begin;
    if (r >= 2) { least = std::min(least, took.count()); }
  }
  return least;
}

void measure(const size& s, std::string_view name, reference::gemm_precision precision, int repetitions,
             std::FILE* csv) {
  const reference::config final_sizes{.vocab = s.vocab,
                                      .positions = s.tokens,
                                      .hidden = s.hidden,
                                      .ffn = 4 * s.hidden,
                                      .heads = s.heads,
                                      .head_dim = s.hidden / s.heads,
                                      .layers = s.layers};
  std::vector<std::int32_t> text(static_cast<std::size_t>(s.batch * s.tokens));
  for (std::size_t i = 0; i < text.size(); ++i) {
    text[i] = static_cast<std::int32_t>(msg::random_bits({2, 3}, i) % static_cast<std::uint64_t>(s.vocab));
  }
  const auto rows = static_cast<double>(text.size());
  const auto run = [&](bool grows) {
    reference::config start = final_sizes;
    if (grows) {
      start.hidden /= 2;
      start.ffn /= 2;
    }
    reference::model_state<float> state = reference::initial_state<float>(start, 1);
    reference::cuda_engine engine(state, precision);
    index step = 0;
    if (grows) {
      const msg::schema schema = reference::schema_of(start);
      const msg::plan plan{schema, {{"hidden", final_sizes.hidden, {}}, {"ffn", final_sizes.ffn, {}}}};
      engine.grow(plan, step, msg::linear_ramp{.steps = 1'000'000});
    }
    engine.build(s.batch, s.tokens);
    return least_step(engine, state, step, text, repetitions);
  };
  const double plain = run(false);
  const double masked = run(true);
  const double rate = rows / plain * 1e3;
  const double tflops = reference::training_flops_per_token(final_sizes, s.tokens) * rate / 1e12;
  const std::string how(name);
  std::printf("%-32s %5s %10.2f %10.2f %8.3f %12.0f %9.2f\n", s.name, how.c_str(), plain, masked, masked / plain, rate,
              tflops);
  if (csv != nullptr) {
    std::fprintf(csv, "%s,%s,%.3f,%.3f,%.4f,%.0f,%.2f\n", s.name, how.c_str(), plain, masked, masked / plain, rate,
                 tflops);
  }
}

int benchmark(int repetitions, std::FILE* csv) {
  if (const auto reason = reference::why_no_gpu()) {
    std::printf("skipped: no GPU can be used: %s\n", reason->c_str());
    return 0;
  }
  std::printf("%s\n%-32s %5s %10s %10s %8s %12s %9s\n", reference::gpu_gemm_name().c_str(), "ms, least of all steps",
              "", "plain", "masked", "ratio", "tokens/s", "TFLOP/s");
  if (csv != nullptr) {
    std::fputs("configuration,precision,plain_ms,masked_ms,ratio,tokens_per_second,tflops\n", csv);
  }
  for (const size& s : sizes) {
    for (const auto& [name, precision] : reference::gemm_precisions) { measure(s, name, precision, repetitions, csv); }
  }
  return 0;
}

#else

int benchmark(int, std::FILE*) {
  std::printf("skipped: built without CUDA (%zu configurations)\n", std::size(sizes));
  return 0;
}

#endif

} // namespace

int main(int argc, char** argv) {
  const auto option = [&](const char* name, const char* otherwise) {
    for (int i = 1; i + 1 < argc; i += 2) {
      if (std::strcmp(argv[i], name) == 0) { return argv[i + 1]; }
    }
    return const_cast<char*>(otherwise);
  };
  const int repetitions = std::max(1, std::atoi(option("--repetitions", "20")));
  const std::string csv_path = option("--csv", "");
  std::FILE* const csv = csv_path.empty() ? nullptr : std::fopen(csv_path.c_str(), "w");
  if (!csv_path.empty() && csv == nullptr) {
    std::fprintf(stderr, "cannot write %s\n", csv_path.c_str());
    return 1;
  }
  const int code = benchmark(repetitions, csv);
  if (csv != nullptr) { std::fclose(csv); }
  return code;
}
