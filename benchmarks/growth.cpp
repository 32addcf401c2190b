// What a growth costs: apply() of every operator beside memcpy of as many bytes, weights and moments, one thread.
//
// Each operator grows what it can of a GPT-2 at once: L4 C256 F1024 H4 to twice as much. The two are timed in turn, so
// that a disturbance meets both; the ratio is of the least times.
//
// usage: growth [--smoke] [Google Benchmark's options]
#include "ratios.hpp"

#include <msg/grow.hpp>
#include <msg/presets.hpp>
#include <msg/schemas/gpt2.hpp>

#include <benchmark/benchmark.h>

#include <cstring>
#include <string>
#include <utility>
#include <vector>

namespace {

using msg::index;

msg::schema model(bool smoke) {
  const index scale = smoke ? 4 : 1;
  return msg::gpt2({.vocab = 256,
                    .positions = 128,
                    .hidden = 256 / scale,
                    .ffn = 1024 / scale,
                    .heads = 4,
                    .head_dim = 64 / scale,
                    .layers = 4});
}

/// Everything the rule can double, in one plan; axes by their letters.
struct growth {
  std::string axes;
  std::vector<msg::request> requests;
};
growth doubled(const msg::schema& s, const msg::rule& rule) {
  growth result;
  const std::pair<char, const char*> axes[] = {{'C', "hidden"}, {'F', "ffn"}, {'H', "heads"}, {'L', "layers"}};
  for (const auto& [letter, name] : axes) {
    const msg::request one = s.axis_at(name).grow_to(2 * s.axis_at(name).size);
    if (!msg::diagnose(s, {one}, rule).empty()) { continue; }
    result.axes += letter;
    result.requests.push_back(one);
  }
  return result;
}

void measure(benchmark::State& state, const msg::plan& plan, const std::vector<msg::payload>& payloads) {
  const auto old_size = static_cast<std::size_t>(plan.before().size());
  const auto new_size = static_cast<std::size_t>(plan.after().size());
  const std::vector<float> old(old_size, 0.5F), source(new_size, 0.5F);
  std::vector<float> grown(new_size), copied(new_size);
  const std::size_t bytes = new_size * sizeof(float);
  study::time_in_turn(
      state, bytes * payloads.size(), "memcpy",
      [&] {
        for (std::size_t i = 0; i < payloads.size(); ++i) {
          std::memcpy(copied.data(), source.data(), bytes);
          benchmark::DoNotOptimize(copied.data());
          benchmark::ClobberMemory();
        }
      },
      [&] {
        for (const msg::payload what : payloads) {
          msg::apply(msg::host{1}, plan, old, grown, what);
          benchmark::DoNotOptimize(grown.data());
          benchmark::ClobberMemory();
        }
      });
}

} // namespace

int main(int argc, char** argv) {
  study::benchmark_arguments arguments(argc, argv);
  if (!arguments.valid) { return 2; }
  std::vector<std::pair<std::string, msg::rule>> operators{
      {"mask, copies", msg::mask{.width = msg::mask::start::copy}}}; // what mask costs without random numbers
  for (const msg::named_rule& one : msg::named_rules) { operators.emplace_back(one.name, one.make()); }
  const msg::schema before = model(arguments.smoke);
  for (const auto& [title, rule] : operators) {
    const growth asked = doubled(before, rule);
    if (asked.requests.empty()) { continue; }
    const msg::plan plan{before, asked.requests, rule};
    const std::string name = title + "/" + asked.axes;
    const auto add = [&](const char* what, const std::vector<msg::payload>& payloads) {
      benchmark::RegisterBenchmark((name + "/" + what).c_str(),
                                   [plan, payloads](benchmark::State& state) { measure(state, plan, payloads); })
          ->UseManualTime()
          ->Unit(benchmark::kMillisecond);
    };
    add("weights", {msg::payload::value});
    add("moments", {msg::payload::moment1, msg::payload::moment2});
  }
  return study::run_benchmarks(arguments, "Growth beside memcpy of the same bytes, one thread",
                               "time over memcpy's (blue: weights, red: both moments)", [](const std::string& name) {
                                 return name.find("moments") != std::string::npos ? 1 : 0;
                               });
}
