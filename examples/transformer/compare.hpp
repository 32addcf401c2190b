// What a run came to, and the same model trained without growth for the same wall time.
#pragma once

#include "transformer/metrics.hpp"
#include "transformer/progress.hpp"
#include "transformer/report.hpp"
#include "transformer/run_setup.hpp"
#include "transformer/trainer.hpp"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <optional>
#include <string>

namespace reference {

inline constexpr const char* compare_folder = "without-growth";

[[nodiscard]] inline run_records records_of(const std::filesystem::path& run) {
  return parse_records(read_metrics(run / "metrics.jsonl"));
}

/// Trains the sizes that the run has come to from scratch, same data, same options, its learning rate decaying over as
/// many steps as fit in the training time of the run that grew (at the step time that run measured at its final size).
inline run_outcome train_without_growth(const run_setup& grown, const trainer& run, const training_data& data,
                                        printer& terminal) {
  run_setup setup = grown;
  const msg::schedule resolved = run.resolved();
  setup.timeline.stages.clear();
  setup.timeline.start = msg::sizes_after(resolved, resolved.stages.size());
  setup.grows = false;
  setup.start = sizes_after_stages(grown.start, resolved, resolved.stages.size());
  setup.end = setup.start;
  setup.directory = grown.directory / compare_folder;
  setup.settings.schedule = "none";
  setup.settings.rule.clear();
  setup.settings.max_seconds = 0;
  const double steps = run.seconds_per_step() > 0 ? run.seconds() / run.seconds_per_step() : 1;
  setup.settings.steps = std::max(index{1}, static_cast<index>(std::llround(steps)));
  terminal.note(fmt::format("\nthe same model without growth, {} steps in the same time", setup.settings.steps));
  std::error_code ignored;
  std::filesystem::remove_all(setup.directory, ignored);
  prepare_run_directory(setup.directory);
  trainer rival(setup, data, terminal);
  return rival.run();
}

/// How the loss of this data reads: text per byte, whatever the tokenizer, so that runs compare.
[[nodiscard]] inline loss_reading reading_of(const training_data& data) {
  const double per_nat = 1 / std::log(2.0);
  if (data.masked()) { return {.name = "hidden perplexity", .part = hidden_part}; }
  if (data.bytes_per_token > 0) { return {.name = "bits per byte", .per_nat = per_nat / data.bytes_per_token}; }
  return {.name = "bits per token", .per_nat = per_nat};
}

/// The report of a run directory, with the rival's curve if there is one.
[[nodiscard]] inline report_input report_of(const run_setup& setup, const training_data& data, bool compared) {
  const options& o = setup.settings;
  report_input input;
  input.title = fmt::format("{} pre-training, {}", title_of(setup.start.arch), data.words.name);
  input.reading = reading_of(data);
  input.run = records_of(setup.directory);
  if (compared) { input.other = records_of(setup.directory / compare_folder); }
  input.settings = {
      {"data", o.data},
      {"tokens", fmt::format("{}, vocabulary {}", data.words.name, setup.start.vocab)},
      {"objective", data.pairs()    ? "hidden tokens, and whether the second segment follows the first"
                    : data.masked() ? "hidden tokens"
                                    : "next token"},
      {"schedule", !setup.grows          ? "none"
                   : !o.schedule.empty() ? o.schedule
                                         : detail::schedule_path("", o.arch).filename().string() + " (default)"},
      {"sizes", sizes_text(setup.start) + (setup.grows ? " → " + sizes_text(setup.end) : "")},
      {"head width", std::to_string(setup.end.head_dim)},
      {"first weights", fmt::format("normal, {}", setup.start.initializer_range)},
      {"sequence, batch, accumulation", fmt::format("{}, {}, {}", o.seq, o.batch, o.accumulate)},
      {"peak learning rate", fmt::format("{}", setup.timeline.lr.peak)},
      {"weight decay, clipping", fmt::format("{}, {}", o.weight_decay, o.clip)},
      {"seed", std::to_string(o.seed)},
      {"machine", fmt::format("{} threads, {}, {}", setup.threads, setup.isa, gemm_name_of(o.device, o.precision))},
      {"run", setup.directory.string()}};
  return input;
}

[[nodiscard]] inline std::string heading_of(run_outcome outcome, const trainer& run, const run_setup& setup) {
  switch (outcome) {
    case run_outcome::finished: return "done";
    case run_outcome::out_of_time: return fmt::format("stopped at the time limit, step {}", run.step());
    case run_outcome::interrupted: break;
  }
  return fmt::format("stopped at step {} and saved; go on with --resume {}", run.step(), setup.directory.string());
}

} // namespace reference
