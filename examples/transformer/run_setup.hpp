// From options to a run: which checkpoint, which schedule, which sizes; all checked before anything is written.
#pragma once

#include "transformer/checkpoint.hpp"
#include "transformer/config.hpp"
#include "transformer/data.hpp"
#include "transformer/gemm_probe.hpp"
#include "transformer/grow_model.hpp"
#include "transformer/options.hpp"
#include "transformer/parallel.hpp"
#include "transformer/report_format.hpp"
#include "transformer/schedule_file.hpp"

#include <msg/cost.hpp>
#include <msg/schedule.hpp>

#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

namespace reference {

/// What a run is made of, decided before the first step.
struct run_setup {
  options settings;
  msg::schedule timeline; // no stages: trains the start sizes
  bool grows = true;      // a schedule was given
  config start;           // sizes at step 0
  config end;             // sizes after the last stage
  std::filesystem::path directory;
  std::string isa;
  int threads = 1;
};

/// A run as the command line asks for it.
struct run_request {
  run_setup setup;
  std::optional<std::filesystem::path> checkpoint; // to resume from
  checkpoint_documents documents;                  // of that checkpoint
  std::vector<std::string> warnings;
};

/// Vector instructions that GEMM back-ends choose their kernels by.
[[nodiscard]] inline std::string instruction_set() {
#if defined(__x86_64__) && (defined(__GNUC__) || defined(__clang__))
  if (__builtin_cpu_supports("avx512f") != 0) { return "avx512"; }
  if (__builtin_cpu_supports("avx2") != 0) { return "avx2"; }
  return "x86-64";
#else
  return "generic";
#endif
}

namespace detail {

#if !defined(MSG_SCHEDULES)
#define MSG_SCHEDULES "examples/schedules"
#endif
#if !defined(MSG_DEFAULT_DATA)
#define MSG_DEFAULT_DATA "/usr/include/eigen3"
#endif

/// A schedule by path, or by the name of a shipped one.
[[nodiscard]] inline std::filesystem::path schedule_path(const std::string& given) {
  const std::filesystem::path shipped{MSG_SCHEDULES};
  if (given.empty()) { return shipped / "gpt-all-dimensions.json"; }
  std::error_code ignored;
  if (!std::filesystem::exists(given, ignored) && given.find('/') == std::string::npos) {
    for (const std::string& name : {given, given + ".json"}) {
      if (std::filesystem::exists(shipped / name, ignored)) { return shipped / name; }
    }
  }
  return given;
}

[[nodiscard]] inline msg::run_extent extent_of(const options& o) { return {o.steps, o.batch * o.seq * o.accumulate}; }

/// The schedule of a new run. `none` keeps the default schedule's learning rate and final sizes, without its stages.
[[nodiscard]] inline msg::schedule new_timeline(const options& o) {
  const bool none = o.schedule == "none";
  const std::filesystem::path path = schedule_path(none ? "" : o.schedule);
  msg::schedule timeline = read_schedule(read_json(path), extent_of(o), path.string());
  if (none) {
    timeline.start = msg::sizes_after(timeline, timeline.stages.size());
    timeline.stages.clear();
  }
  return timeline;
}

/// The options' learning rate and rule in place of the schedule's.
inline void override_timeline(const options& o, msg::schedule& timeline) {
  if (o.lr > 0) {
    timeline.lr.min *= o.lr / timeline.lr.peak;
    timeline.lr.peak = o.lr;
  }
  if (o.warmup >= 0) { timeline.lr.warmup_steps = o.warmup; }
  for (msg::stage& stage : timeline.stages) {
    if (o.rule.empty()) { continue; }
    stage.rule = o.rule;
    stage.rules.clear();
  }
}

/// Start and final sizes: the schedule's, or without stages the options'; options that contradict it are refused.
inline void resolve_sizes(run_setup& setup, const std::string& source) {
  const options& o = setup.settings;
  const index given[] = {o.hidden, o.ffn, o.heads, o.layers};
  const msg::named_sizes last = msg::sizes_after(setup.timeline, setup.timeline.stages.size());
  std::string wrong;
  for (std::size_t a = 0; a < std::size(grown_axes); ++a) {
    const auto& [axis, size] = grown_axes[a];
    setup.start.*size = msg::size_of(setup.timeline.start, axis);
    setup.end.*size = msg::size_of(last, axis);
    if (given[a] == 0) { continue; }
    if (!setup.grows) { setup.start.*size = setup.end.*size = given[a]; }
    if (setup.end.*size != given[a]) {
      wrong += fmt::format("{}--{} expected {}, found {}", wrong.empty() ? "" : "; ", axis, setup.end.*size, given[a]);
    }
  }
  if (!wrong.empty()) { throw input_error(source + ": final sizes differ from the options: " + wrong); }
  if (setup.end.heads == 0) { return; } // a missing size is reported with the others
  index head_dim = o.head_dim;
  if (head_dim == 0) {
    if (setup.end.hidden % setup.end.heads != 0) {
      throw input_error(fmt::format("{}: final hidden {} is no multiple of heads {}: give --head-dim", source,
                                    setup.end.hidden, setup.end.heads));
    }
    head_dim = setup.end.hidden / setup.end.heads;
  }
  for (config* c : {&setup.start, &setup.end}) {
    c->head_dim = head_dim;
    c->positions = o.seq;
  }
  check(setup.start);
}

/// Builds the plan of every stage: a rule or a growth that cannot be is found before the first step.
inline void check_stages(const run_setup& setup, const std::string& source) {
  const std::vector<index> steps = msg::stage_steps(setup.timeline, extent_of(setup.settings));
  config sizes = setup.start;
  index before = 0;
  for (std::size_t s = 0; s < steps.size(); ++s) {
    const std::string where = fmt::format("{}: stages[{}]", source, s);
    if (steps[s] <= before) {
      throw input_error(fmt::format("{}: expected to begin after step {}, found step {}", where, before, steps[s]));
    }
    before = steps[s];
    try {
      sizes = sizes_after(sizes, plan_of_stage(sizes, setup.timeline.stages[s], 0));
    } catch (const msg::error& failure) { throw input_error(where + ": " + one_line(failure.what())); }
  }
}

[[nodiscard]] inline std::filesystem::path next_run_directory() {
  std::error_code ignored;
  for (int number = 1;; ++number) {
    std::filesystem::path path = fmt::format("runs/gpt-{:03d}", number);
    if (!std::filesystem::exists(path, ignored)) { return path; }
  }
}

[[nodiscard]] inline int resolve_threads(const options& o) {
  const int cores = set_threads(0);
  if (o.threads == 0) { return cores; }
  if (o.threads > 1024) { throw input_error(fmt::format("--threads expected at most 1024, found {}", o.threads)); }
  return set_threads(static_cast<int>(o.threads));
}

inline void warn_of_other_machine(run_request& request) {
  const trainer_state& saved = request.documents.state;
  const auto compare = [&](std::string_view what, const std::string& before, const std::string& now) {
    if (before != now) {
      request.warnings.push_back(
          fmt::format("{} was {} and is now {}: the run goes on, but not to the same bits", what, before, now));
    }
  };
  compare("the number of threads", std::to_string(saved.threads), std::to_string(request.setup.threads));
  compare("the GEMM back-end", saved.gemm, std::string{gemm_backend_name()});
  compare("the instruction set", saved.isa, request.setup.isa);
}

} // namespace detail

/// Everything about a run that can be decided without its data. Throws input_error in one line for anything that
/// cannot be; writes nothing.
[[nodiscard]] inline run_request resolve_run(const parsed_options& parsed) {
  run_request request;
  run_setup& setup = request.setup;
  options& o = setup.settings;
  o = parsed.values;
  std::string source;
  if (o.resume.empty()) {
    check_options(o);
    setup.timeline = detail::new_timeline(o);
    detail::override_timeline(o, setup.timeline);
    source = o.schedule == "none" ? "sizes" : detail::schedule_path(o.schedule).string();
  } else {
    resolved_checkpoint found = resolve_latest(o.resume);
    if (!found.warning.empty()) { request.warnings.push_back(found.warning); }
    request.checkpoint = found.folder;
    request.documents = read_checkpoint_documents(found.folder);
    source = (found.folder / "trainer_state.json").string();
    const trainer_state& saved = request.documents.state;
    options resumed;
    take_options(resumed, saved.options, source);
    json asked = options_json(resumed);
    for (const auto& [name, value] : parsed.given.items()) { asked[name] = value; }
    refuse_changed_options(saved.options, asked, fixed_options(), source);
    take_options(resumed, parsed.given, "command line");
    resumed.resume = o.resume;
    resumed.plan_only = o.plan_only;
    resumed.compare = o.compare;
    resumed.quiet = o.quiet;
    o = resumed;
    check_options(o);
    setup.timeline = read_schedule(saved.schedule, detail::extent_of(o), source);
    detail::override_timeline(o, setup.timeline);
  }
  setup.grows = o.schedule != "none";
  detail::resolve_sizes(setup, source);
  detail::check_stages(setup, source);
  if (o.data.empty()) { o.data = MSG_DEFAULT_DATA; }
  setup.isa = instruction_set();
  setup.threads = detail::resolve_threads(o);
  if (request.checkpoint) {
    setup.directory = request.checkpoint->parent_path();
    detail::warn_of_other_machine(request);
  } else {
    setup.directory = o.out.empty() ? detail::next_run_directory() : std::filesystem::path{o.out};
  }
  return request;
}

/// A resumed run must read the data that it was started on.
inline void check_data(const run_request& request, const text_data& data) {
  if (request.checkpoint && request.documents.state.files_hash != data.files_hash) {
    throw input_error(fmt::format("{}: the text at {} is not what this run was trained on (hash {}, found {})",
                                  request.checkpoint->string(), request.setup.settings.data,
                                  request.documents.state.files_hash, data.files_hash));
  }
}

/// Makes the run directory of a new run, which must not hold one already; cleans what killed runs left.
inline void open_run_directory(const run_request& request) {
  const std::filesystem::path& directory = request.setup.directory;
  std::error_code ignored;
  if (!request.checkpoint && std::filesystem::exists(directory / "metrics.jsonl", ignored)) {
    throw input_error(fmt::format("{} already holds a run: continue it with --resume {}, or give another --out",
                                  directory.string(), directory.string()));
  }
  prepare_run_directory(directory);
}

/// Sizes in a few characters: C96 F256 H2 L2.
[[nodiscard]] inline std::string sizes_text(const config& c) {
  return fmt::format("C{} F{} H{} L{}", c.hidden, c.ffn, c.heads, c.layers);
}

/// --plan-only: stages, sizes and cost in FLOPs, beside the final model trained for as many steps.
[[nodiscard]] inline std::string plan_text(const run_setup& setup) {
  const options& o = setup.settings;
  const auto sizes_at = [&](const msg::named_sizes& sizes) {
    config c = setup.start;
    for (const auto& [axis, size] : grown_axes) { c.*size = msg::size_of(sizes, axis); }
    return c;
  };
  const msg::run_extent extent = detail::extent_of(o);
  const auto cost = [&](const msg::named_sizes& sizes) { return training_flops_per_token(sizes_at(sizes), o.seq); };
  const std::vector<msg::stage_cost> costs = msg::stage_costs(setup.timeline, extent, cost);
  const double whole =
      training_flops_per_token(setup.end, o.seq) * static_cast<double>(extent.steps * extent.tokens_per_step);
  std::string text = fmt::format("{:>5}  {:>8} {:>8}  {:<22} {:>10} {:>9} {:>9}\n", "stage", "step", "steps", "sizes",
                                 "parameters", "rel. cost", "FLOPs");
  for (std::size_t s = 0; s < costs.size(); ++s) {
    const config sizes = sizes_at(msg::sizes_after(setup.timeline, s));
    text += fmt::format("{:>5}  {:>8} {:>8}  {:<22} {:>10} {:>9.3f} {:>9.3g}\n", s, costs[s].first_step, costs[s].steps,
                        sizes_text(sizes), format_grouped(parameter_count(sizes)),
                        costs[s].flops_per_token / training_flops_per_token(setup.end, o.seq), costs[s].flops);
  }
  const double total = msg::total_flops(costs);
  text += fmt::format("total {:.3g} FLOPs; the final model for as many steps {:.3g}: {:.2f} times as many\n", total,
                      whole, whole / total);
  return text;
}

/// What a person is told before the first step.
[[nodiscard]] inline std::string opening_text(const run_setup& setup, const text_data& data) {
  const options& o = setup.settings;
  const bits_promise bits = bits_probe();
  std::string text = fmt::format("data      {}\n", data.description);
  if (setup.timeline.stages.empty()) {
    text += fmt::format("model     {}, {} parameters, no growth\n", sizes_text(setup.start),
                        format_grouped(parameter_count(setup.start)));
  } else {
    text += fmt::format("model     {} → {}, {} → {} parameters in {} growth{}\n", sizes_text(setup.start),
                        sizes_text(setup.end), format_grouped(parameter_count(setup.start)),
                        format_grouped(parameter_count(setup.end)), setup.timeline.stages.size(),
                        setup.timeline.stages.size() == 1 ? "" : "s");
  }
  text += fmt::format("machine   {} thread{}, {}, {}; bits at a growth {}\n", setup.threads,
                      setup.threads == 1 ? "" : "s", setup.isa, gemm_backend_name(),
                      bits.promised ? "promised (the start-up probe passed)" : "not promised: " + bits.reason);
  text += fmt::format("run       {} ({} steps of {} tokens)\n", setup.directory.string(), o.steps,
                      format_grouped(o.batch * o.seq * o.accumulate));
  return text;
}

} // namespace reference
