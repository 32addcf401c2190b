// Google Benchmark for ratios: two pieces of code timed in turn, a table of their rates, and a figure of the ratios.
#pragma once

#include "figure.hpp"

#include <benchmark/benchmark.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <limits>
#include <string>
#include <string_view>
#include <vector>

namespace study {

/// The command line: ours (--smoke: everything once, for a test), and Google Benchmark's.
struct benchmark_arguments {
  bool smoke = false;
  bool valid = true;
  std::string csv; // where the results go, if anywhere

  benchmark_arguments(int argc, char** argv) {
    static std::string once = "--benchmark_min_time=0.0001";
    std::vector<char*> rest;
    for (int i = 0; i < argc; ++i) {
      const std::string_view argument{argv[i]};
      if (argument == "--smoke") {
        smoke = true;
        rest.push_back(once.data());
        continue;
      }
      if (argument.rfind("--benchmark_out=", 0) == 0) { csv = argument.substr(16); }
      rest.push_back(argv[i]);
    }
    int count = static_cast<int>(rest.size());
    benchmark::Initialize(&count, rest.data());
    valid = !benchmark::ReportUnrecognizedArguments(count, rest.data());
  }
};

/// Times `theirs` and `ours` in turn, so that a disturbance meets both; the ratio is of the least times. The time
/// reported is ours.
///
/// bytes  that each of them writes
/// name   of theirs, for the column of its rate
template <class Theirs, class Ours>
void time_in_turn(benchmark::State& state, std::size_t bytes, const std::string& name, const Theirs& theirs,
                  const Ours& ours) {
  const auto seconds = [] {
    return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
  };
  double least_theirs = std::numeric_limits<double>::infinity();
  double least_ours = least_theirs;
  for (auto _ : state) {
    const double begin = seconds();
    theirs();
    const double turn = seconds();
    ours();
    const double end = seconds();
    least_theirs = std::min(least_theirs, turn - begin);
    least_ours = std::min(least_ours, end - turn);
    state.SetIterationTime(end - turn);
  }
  state.SetBytesProcessed(state.iterations() * static_cast<std::int64_t>(bytes));
  const auto total = static_cast<double>(bytes);
  state.counters["GB/s"] = total / least_ours / 1e9;
  state.counters[name + "_GB/s"] = total / least_theirs / 1e9;
  state.counters["ratio"] = least_ours / least_theirs;
}

namespace detail {
/// Prints as ever, and keeps the ratios for the figure.
class reporter : public benchmark::ConsoleReporter {
public:
  reporter() : ConsoleReporter(OO_Tabular) {}
  void ReportRuns(const std::vector<Run>& runs) override {
    for (const Run& run : runs) {
      const auto ratio = run.counters.find("ratio");
      if (ratio != run.counters.end()) { bars.push_back({run.run_name.function_name, ratio->second.value}); }
    }
    ConsoleReporter::ReportRuns(runs);
  }
  std::vector<bar> bars;
};
} // namespace detail

/// Runs what is registered, prints it, and draws the ratios beside the CSV; returns the exit status.
///
/// colour_of  the colour of a bar, by the benchmark's name
template <class Colour>
int run_benchmarks(const benchmark_arguments& arguments, std::string_view title, std::string_view unit,
                   const Colour& colour_of) {
  detail::reporter shown;
  benchmark::RunSpecifiedBenchmarks(&shown);
  for (bar& b : shown.bars) { b.colour = static_cast<std::size_t>(colour_of(b.label)); }
  if (!arguments.csv.empty()) { write_bars(figure_path(arguments.csv), title, unit, shown.bars, 1); }
  return shown.bars.empty() ? 1 : 0;
}

} // namespace study
