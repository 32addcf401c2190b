// Pre-trains a byte-level GPT that grows, on any text: examples/run.sh, or train_gpt --help.

#include "transformer/compare.hpp"
#include "transformer/options.hpp"
#include "transformer/report.hpp"
#include "transformer/run_setup.hpp"
#include "transformer/sample.hpp"
#include "transformer/trainer.hpp"

#include <fmt/format.h>

#include <cstdio>
#include <exception>
#include <filesystem>
#include <memory>
#include <new>
#include <string>

namespace {

using namespace reference;

constexpr const char* about = "Pre-trains a GPT that grows while it trains (Masked Structural Growth).\n"
                              "Without options: the default job, a growth in all four dimensions on the Eigen headers.";

std::unique_ptr<trainer> make_trainer(const run_request& request, const text_data& data, printer& terminal) {
  if (!request.checkpoint) { return std::make_unique<trainer>(request.setup, data, terminal); }
  return std::make_unique<trainer>(request.setup, data, terminal, *request.checkpoint, request.documents);
}

int train(int count, const char* const* arguments) {
  const parsed_options parsed = parse_options(count, arguments, about);
  if (parsed.help) {
    fmt::print("{}", parsed.text);
    return 0;
  }
  const run_request request = resolve_run(parsed);
  const run_setup& setup = request.setup;
  const options& o = setup.settings;
  if (o.plan_only) {
    fmt::print("{}", plan_text(setup));
    return 0;
  }
  const text_data data = load_text(o.data, o.seq, {.validation_tokens = 32768});
  check_data(request, data);
  open_run_directory(request);
  install_stop_signals();
  printer terminal(stdout, terminal_of(stdout, o.quiet));
  terminal.note(opening_text(setup, data));
  for (const std::string& warning : request.warnings) { terminal.note("note: " + warning); }

  const std::unique_ptr<trainer> run = make_trainer(request, data, terminal);
  const run_outcome outcome = run->run();
  const bool compared = o.compare && setup.grows && outcome != run_outcome::interrupted;
  if (compared) { (void)train_without_growth(setup, *run, data, terminal); }

  const std::string report = (setup.directory / "report.html").string();
  const report_input page = report_of(setup, compared);
  write_report(report, page);
  if (o.sample > 0 && outcome != run_outcome::interrupted) {
    fmt::print("{}\n\n", sample_text(run->state(), run->step(), o.seq, o.sample, o.seed));
  }
  summary_input summary;
  summary.heading = heading_of(outcome, *run, setup);
  summary.run = summarise(page.run);
  if (page.other) { summary.other = summarise(*page.other); }
  summary.checkpoint = run->checkpoint().string();
  summary.report = report;
  terminal.summary(summary);
  return 0;
}

int fail(int code, const std::string& what) {
  std::fflush(stdout);
  fmt::print(stderr, "train_gpt: {}\n", what);
  return code;
}

} // namespace

int main(int count, char** arguments) {
  try {
    return train(count, arguments);
  } catch (const reference::input_error& failure) {
    return fail(2, failure.what());
  } catch (const msg::error& failure) { return fail(2, one_line(failure.what())); } catch (const std::bad_alloc&) {
    return fail(1, "out of memory");
  } catch (const std::exception& failure) { return fail(1, failure.what()); }
}
