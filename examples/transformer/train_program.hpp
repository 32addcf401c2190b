// What every trainer program does from its command line to its exit code.
#pragma once

#include "transformer/auto_schedule.hpp"
#include "transformer/compare.hpp"
#include "transformer/options.hpp"
#include "transformer/plan_text.hpp"
#include "transformer/report.hpp"
#include "transformer/run_setup.hpp"
#include "transformer/sample.hpp"
#include "transformer/step_timing.hpp"
#include "transformer/trainer.hpp"

#include <fmt/format.h>

#include <cstdio>
#include <exception>
#include <filesystem>
#include <memory>
#include <new>
#include <optional>
#include <string>

namespace reference {

namespace detail {

[[nodiscard]] inline std::unique_ptr<trainer> make_trainer(const run_request& request, const training_data& data,
                                                           printer& terminal) {
  if (!request.checkpoint) { return std::make_unique<trainer>(request.setup, data, terminal); }
  return std::make_unique<trainer>(request.setup, data, terminal, *request.checkpoint, request.documents);
}

inline int train(const program& what, int count, const char* const* arguments) {
  const parsed_options parsed = parse_options(what, count, arguments);
  if (parsed.help) {
    fmt::print("{}", parsed.text);
    return 0;
  }
  run_request request = resolve_run(what, parsed);
  run_setup& setup = request.setup;
  const options& o = setup.settings;
  const bool searches = automatic(o) && !request.checkpoint;
  if (o.plan_only && !searches) {
    fmt::print("{}", plan_text(setup, measure_machine(setup, sizes_to_measure(setup), o.calibrate)));
    return 0;
  }
  training_data data = load_run_data(setup);
  check_data(request, data);
  if (!o.plan_only) { check_run_directory(request); }
  install_stop_signals();
  printer terminal(stdout, terminal_of(stdout, o.quiet));
  std::optional<found_schedule> found;
  if (searches) {
    found = search_schedule(setup, parsed.given, data, terminal);
    if (!found || o.plan_only) {
      fmt::print("{}", found ? found->text : "stopped in the search, before any training: start again\n");
      return 0;
    }
    adopt(setup, *found);
  }
  open_run_directory(request);
  if (found) {
    const std::filesystem::path file = setup.directory / "schedule.json";
    write_file_atomically(file, schedule_json(setup.timeline).dump(1) + "\n");
    terminal.note(found->text + fmt::format("chosen    the first of them, written to {}", file.string()));
  }
  terminal.note(opening_text(setup, data));
  for (const std::string& warning : request.warnings) { terminal.note("note: " + warning); }

  const std::unique_ptr<trainer> run = make_trainer(request, data, terminal);
  const run_outcome outcome = run->run();
  const bool compared = o.compare && setup.grows && outcome != run_outcome::interrupted;
  if (compared) { (void)train_without_growth(setup, *run, data, terminal); }

  const std::string report = (setup.directory / "report.html").string();
  const report_input page = report_of(setup, data, compared);
  write_report(report, page);
  if (o.sample > 0 && outcome != run_outcome::interrupted) {
    const index window = std::min(o.seq, run->state().sizes.positions);
    fmt::print("{}\n\n", sample_text(run->state(), run->step(), data.words, window, o.sample, o.seed));
  }
  summary_input summary;
  summary.heading = heading_of(outcome, *run, setup);
  summary.run = summarise(page.run);
  if (page.other) { summary.other = summarise(*page.other); }
  summary.checkpoint = run->checkpoint().string();
  summary.report = report;
  summary.reading = page.reading;
  terminal.summary(summary);
  return 0;
}

inline int fail(const program& what, int code, const std::string& message) {
  std::fflush(stdout);
  fmt::print(stderr, "{}: {}\n", what.name, message);
  return code;
}

} // namespace detail

/// Exit codes: 0 done (stopped by Ctrl-C too, after saving), 1 failed, 2 usage or bad input; one line on stderr says
/// why.
inline int run_program(const program& what, int count, const char* const* arguments) {
  using detail::fail;
  try {
    take_stop_signals_apart();
    return detail::train(what, count, arguments);
  } catch (const input_error& failure) { return fail(what, 2, failure.what()); } catch (const msg::error& failure) {
    return fail(what, 2, one_line(failure.what()));
  } catch (const std::bad_alloc&) { return fail(what, 1, "out of memory"); } catch (const std::exception& failure) {
    return fail(what, 1, failure.what());
  }
}

} // namespace reference
