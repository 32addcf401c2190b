// What runs by the shipped schedules take, beside what was predicted before they began: the training time that a
// trainer counts (forward, backward, update and growth), against steps that were timed at the sizes of each schedule.
//
// usage: forecast [--csv FILE] [--steps 400] [--calibrate 20] [--threads 0] [--data PATH] [--schedule NAME]
//                 [--batch 16] [--seq 128] [--smoke]
//
// 0 threads: all cores. A ratio beyond 0.85 to 1.15 is marked. The machine must be idle: what else runs on it runs in
// one of the two and not in the other.
#include "figure.hpp"
#include "study.hpp"

#include "transformer/plan_text.hpp"
#include "transformer/scratch_folder.hpp"
#include "transformer/step_timing.hpp"
#include "transformer/trainer.hpp"

#include <fmt/format.h>

#include <cmath>
#include <cstdio>
#include <exception>
#include <string>
#include <vector>

namespace {

using reference::architecture;
using reference::index;

const reference::program gpt{"train_gpt", "", {architecture::gpt2, architecture::llama}, "gpt"};
const reference::program bert{"train_bert", "", {architecture::bert}, "bert"};

/// A schedule, and who trains by it.
struct job {
  const reference::program& what;
  const char* arch; // null: the program's own
  const char* schedule;
};
const job jobs[] = {
    {gpt, nullptr, "gpt-all-dimensions"},  {gpt, nullptr, "even-split"}, {gpt, nullptr, "depth-stack"},
    {gpt, nullptr, "one-layer"},           {gpt, nullptr, "compound"},   {bert, nullptr, "bert-all-dimensions"},
    {gpt, "llama", "llama-all-dimensions"}};

reference::run_setup setup_of(const job& j, const study::arguments& given, const std::string& folder) {
  std::vector<std::string> words{"forecast", "--schedule",   j.schedule, "--out",        folder + "/" + j.schedule,
                                 "--quiet",  "--eval-every", "0",        "--save-every", "0"};
  if (j.arch != nullptr) { words.insert(words.end(), {"--arch", j.arch}); }
  const auto pass = [&](const std::string& option, const std::string& otherwise, const std::string& smoke) {
    words.insert(words.end(), {option, given.text(option, given.smoke ? smoke : otherwise)});
  };
  pass("--steps", "400", "24");
  pass("--batch", "16", "2");
  pass("--seq", "128", "32");
  pass("--threads", "0", "1");
  pass("--calibrate", "20", "60");
  pass("--data", "", "");
  std::vector<const char*> pointers;
  for (const std::string& word : words) { pointers.push_back(word.c_str()); }
  return reference::resolve_run(j.what,
                                reference::parse_options(j.what, static_cast<int>(pointers.size()), pointers.data()))
      .setup;
}

int run(const study::arguments& given) {
  const reference::scratch_folder folder;
  study::table table({"schedule", "model", "steps", "predicted_s", "of_it_ramps_s", "actual_s", "ratio",
                      "calibration_s", "calibration_error", "within_15_percent"});
  std::vector<study::bar> bars;
  const std::string only = given.text("--schedule");
  for (const job& j : jobs) {
    if (!only.empty() && only != j.schedule) { continue; }
    const reference::run_setup setup = setup_of(j, given, folder.path().string());
    const reference::training_data data = reference::load_run_data(setup);
    const reference::machine_timing machine = reference::measure_machine(
        setup, reference::sizes_to_measure(setup), setup.settings.calibrate, &data, given.smoke ? 1 : 10);
    if (!machine.measured()) { throw std::runtime_error(std::string{j.schedule} + ": " + machine.why_not); }
    const reference::run_outlook told = reference::outlook_of(setup, machine);
    double ramps = 0;
    for (const auto& stage : told.stages) { ramps += stage.ramp_seconds; }
    reference::prepare_run_directory(setup.directory);
    reference::printer quiet(stdout, {.quiet = true});
    reference::trainer training(setup, data, quiet);
    if (training.run() != reference::run_outcome::finished) { throw std::runtime_error("the run was stopped"); }
    const double ratio = training.seconds() / told.seconds;
    table.add({j.schedule, std::string{name_of(setup.start.arch)}, std::to_string(setup.settings.steps),
               fmt::format("{:.2f}", told.seconds), fmt::format("{:.2f}", ramps),
               fmt::format("{:.2f}", training.seconds()), fmt::format("{:.3f}", ratio),
               fmt::format("{:.1f}", machine.seconds), fmt::format("{:.3f}", machine.fit.error),
               std::abs(ratio - 1) <= 0.15 ? "yes" : "not"});
    bars.push_back({fmt::format("{}, {}", j.schedule, name_of(setup.start.arch)), ratio, 0});
    fmt::print("{:<22} predicted {:7.2f} s, took {:7.2f} s: {:.3f} times as long\n", j.schedule, told.seconds,
               training.seconds(), ratio);
    std::fflush(stdout);
  }
  if (bars.empty()) { throw std::invalid_argument("--schedule names none of those that are run: " + only); }
  fmt::print("\n");
  table.print();
  const std::string csv = given.text("--csv");
  table.write_csv(csv);
  if (!csv.empty()) {
    study::write_bars(study::figure_path(csv), "Training time of runs that grow, over what was predicted",
                      "times the prediction", bars, 1);
  }
  return 0;
}

} // namespace

int main(int argc, char** argv) {
  return study::run("forecast", [&] {
    return run(
        {argc, argv, {"--csv", "--steps", "--calibrate", "--threads", "--data", "--schedule", "--batch", "--seq"}});
  });
}
