// From options to a run: which checkpoint, which schedule, which sizes; all checked before anything is written.
#pragma once

#include "transformer/checkpoint.hpp"
#include "transformer/config.hpp"
#include "transformer/data_load.hpp"
#include "transformer/engine.hpp"
#include "transformer/grow_model.hpp"
#include "transformer/model_costs.hpp"
#include "transformer/options.hpp"
#include "transformer/parallel.hpp"
#include "transformer/report_format.hpp"
#include "transformer/schedule_file.hpp"
#include "transformer/tokenizer_files.hpp"

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
  program what;
  options settings;
  tokenizer words;
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

/// A schedule by path, or by the name of a shipped one; by default the one that grows all that the architecture has.
[[nodiscard]] inline std::filesystem::path schedule_path(const std::string& given, const std::string& arch) {
  const std::filesystem::path shipped{MSG_SCHEDULES};
  if (given.empty()) { return shipped / ((arch == "gpt2" ? "gpt" : arch) + "-all-dimensions.json"); }
  std::error_code ignored;
  if (!std::filesystem::exists(given, ignored) && given.find('/') == std::string::npos) {
    for (const std::string& name : {given, given + ".json"}) {
      if (std::filesystem::exists(shipped / name, ignored)) { return shipped / name; }
    }
  }
  return given;
}

[[nodiscard]] inline msg::run_extent extent_of(const options& o) { return {o.steps, o.batch * o.seq * o.accumulate}; }

/// Whether a run has the options' sizes from the start, or until a search finds a schedule that ends at them.
[[nodiscard]] inline bool sizes_alone(const options& o) { return o.schedule == "none" || automatic(o); }

/// The schedule of a new run. `none` and `auto` keep the default schedule's learning rate and final sizes, without its
/// stages.
[[nodiscard]] inline msg::schedule new_timeline(const options& o) {
  const bool none = sizes_alone(o);
  const std::filesystem::path path = schedule_path(none ? "" : o.schedule, o.arch);
  msg::schedule timeline = read_schedule(read_json(path), none ? msg::run_extent{} : extent_of(o), path.string());
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
  if (o.rule.empty()) { return; }
  for (msg::stage& stage : timeline.stages) {
    stage.rule = o.rule;
    stage.rules.clear();
    for (msg::growth_candidate& candidate : stage.candidates) {
      candidate.rule = o.rule;
      candidate.rules.clear();
    }
  }
}

/// What the options ask an axis to end at, in the order of config_axes; 0: whatever the schedule says.
[[nodiscard]] inline msg::named_sizes asked_sizes(const options& o) {
  return {{"hidden", o.hidden},     {"ffn", o.ffn},     {"heads", o.heads},    {"layers", o.layers},
          {"kv_heads", o.kv_heads}, {"vocab", o.vocab}, {"experts", o.experts}};
}

/// Without a schedule the options are the sizes, from the start.
inline void take_sizes(const options& o, msg::schedule& timeline) {
  for (const auto& [axis, size] : asked_sizes(o)) {
    for (auto& [name, now] : timeline.start) {
      if (name == axis && size > 0) { now = size; }
    }
  }
  if (o.experts > 0 && msg::size_of(timeline.start, "experts") == 0) {
    timeline.start.emplace_back("experts", o.experts);
  }
}

/// The number of key-value heads at the start where only the one at the end is given: groups of queries keep their
/// size.
inline void start_groups(run_setup& setup, const std::string& source) {
  const options& o = setup.settings;
  if (o.kv_heads == 0 || msg::size_of(setup.timeline.start, "kv_heads") > 0 || setup.start.heads == 0) { return; }
  const index heads = msg::size_of(msg::sizes_after(setup.timeline, setup.timeline.stages.size()), "heads");
  if (heads == 0 || setup.start.heads * o.kv_heads % heads != 0) {
    throw input_error(fmt::format("{}: {} heads at the start cannot have groups of the size that {} heads with "
                                  "--kv-heads {} have: give kv_heads in the schedule",
                                  source, setup.start.heads, heads, o.kv_heads));
  }
  setup.start.kv_heads = setup.start.heads * o.kv_heads / heads;
  if (setup.start.kv_heads == setup.start.heads) { setup.start.kv_heads = 0; }
}

/// Start and final sizes: the schedule's; options that contradict it are refused.
inline void resolve_sizes(run_setup& setup, const std::string& source) {
  const options& o = setup.settings;
  const auto arch = std::find(architecture_names.begin(), architecture_names.end(), o.arch);
  config base = defaults_of(static_cast<architecture>(arch - architecture_names.begin()));
  base.tied = base.tied || o.tied;
  base.vocab = data_vocabulary(o.data, setup.words, o.vocab);
  base.positions = o.seq;
  base.chosen = o.experts_per_token;
  base.initializer_range = o.init_std;
  setup.start = resized(base, setup.timeline.start);
  start_groups(setup, source);
  setup.end = resized(setup.start, msg::sizes_after(setup.timeline, setup.timeline.stages.size()));
  std::string wrong;
  for (const auto& [axis, size] : asked_sizes(o)) {
    const index found = size_on(setup.end, axis);
    if (size == 0 || size == found) { continue; }
    std::string option = axis;
    std::replace(option.begin(), option.end(), '_', '-');
    wrong += fmt::format("{}--{} expected {}, found {}", wrong.empty() ? "" : "; ", option, found, size);
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
  for (config* c : {&setup.start, &setup.end}) { c->head_dim = head_dim; }
  check(setup.start);
}

/// Sequences are as long as there are positions: while there are fewer than --seq, a sequence of the data is several
/// shorter ones.
inline void check_positions(const run_setup& setup, const config& sizes, const std::string& where) {
  const index seq = setup.settings.seq;
  if (sizes.positions >= seq) { return; }
  if (masked(setup.what) || seq % sizes.positions != 0) {
    throw input_error(fmt::format("{}: positions expected at least --seq {}{}, found {}", where, seq,
                                  masked(setup.what) ? "" : ", or a divisor of it", sizes.positions));
  }
}

/// A trigger that looks at the validation loss needs evaluations within its window.
inline void check_evaluations(const options& o, const msg::trigger& at, const std::string& where) {
  if (!looks_at_loss(at.kind) || at.of != msg::loss_source::validation) { return; }
  if (o.eval_every == 0) {
    throw input_error(where + ": --eval-every expected at least 1 for a trigger of the validation loss, found 0");
  }
  // A slope is fitted through four points; a plateau has one in each half.
  const index points = at.kind == msg::trigger_kind::slope ? 4 : at.kind == msg::trigger_kind::plateau ? 2 : 0;
  if (at.window < points * o.eval_every) {
    throw input_error(fmt::format("{}.window: expected at least {}, {} evaluations with --eval-every {}, found {}",
                                  where, points * o.eval_every, points, o.eval_every, at.window));
  }
}

/// A model that stages may have led to.
struct stage_way {
  config sizes;
  std::vector<float> norm_splits;

  friend bool operator==(const stage_way&, const stage_way&) = default;
};
inline constexpr std::size_t most_stage_ways = 1024;

/// Builds the plan of every stage as each of its candidates has it, for every model that the stages before may have led
/// to: a rule or a growth that cannot be is found before the first step. Copies of experts are chosen together, so how
/// many a token chooses at the end is known only now.
inline void check_stages(run_setup& setup, const std::string& source) {
  std::vector<stage_way> ways{{setup.start, {}}};
  check_positions(setup, setup.start, source + ": start");
  const std::vector<msg::stage>& stages = setup.timeline.stages;
  for (std::size_t s = 0; s < stages.size(); ++s) {
    const std::string where = fmt::format("{}: stages[{}]", source, s);
    check_evaluations(setup.settings, stages[s].at, where + ".at");
    std::vector<stage_way> next;
    for (const stage_way& way : ways) {
      for (index c = 0; c < msg::candidate_count(stages[s]); ++c) {
        const std::string place = where + (stages[s].candidates.empty() ? "" : fmt::format(".candidates[{}]", c));
        stage_way after;
        try {
          const msg::plan plan = plan_of_stage(way.sizes, msg::with_candidate(stages[s], c), 0);
          after = {sizes_after(way.sizes, plan), norm_splits_after(way.norm_splits, plan)};
          check(after.sizes);
        } catch (const msg::error& failure) { throw input_error(place + ": " + one_line(failure.what())); }
        check_positions(setup, after.sizes, place);
        if (std::find(next.begin(), next.end(), after) == next.end()) { next.push_back(std::move(after)); }
      }
    }
    if (next.size() > most_stage_ways) {
      throw input_error(fmt::format("{}: expected at most {} models that candidates lead to, found {}", where,
                                    most_stage_ways, next.size()));
    }
    ways = std::move(next);
  }
  setup.end.chosen = ways.front().sizes.chosen;
}

[[nodiscard]] inline std::filesystem::path next_run_directory(const program& what) {
  std::error_code ignored;
  for (int number = 1;; ++number) {
    std::filesystem::path path = fmt::format("runs/{}-{:03d}", what.run_prefix, number);
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
  const options& o = request.setup.settings;
  compare("the GEMM back-end", saved.gemm, gemm_name_of(o.device, o.precision));
  compare("the instruction set", saved.isa, request.setup.isa);
}

} // namespace detail

/// Everything about a run that can be decided without its data. Throws input_error in one line for anything that
/// cannot be; writes nothing.
[[nodiscard]] inline run_request resolve_run(const program& what, const parsed_options& parsed) {
  run_request request;
  run_setup& setup = request.setup;
  options& o = setup.settings;
  o = parsed.values;
  setup.what = what;
  std::string source;
  if (o.resume.empty()) {
    check_options(what, o);
    setup.timeline = detail::new_timeline(o);
    detail::override_timeline(o, setup.timeline);
    if (automatic(o) && parsed.given.contains("steps")) {
      throw input_error("--steps expected without --schedule auto, which takes their number from --budget");
    }
    source = detail::sizes_alone(o) ? "sizes" : detail::schedule_path(o.schedule, o.arch).string();
  } else {
    resolved_checkpoint found = resolve_latest(o.resume);
    if (!found.warning.empty()) { request.warnings.push_back(found.warning); }
    request.checkpoint = found.folder;
    request.documents = read_checkpoint_documents(found.folder);
    source = (found.folder / "trainer_state.json").string();
    const trainer_state& saved = request.documents.state;
    options resumed;
    take_options(resumed, saved.options, source);
    if (resumed.arch.empty()) { resumed.arch = name_of(what.architectures.front()); }
    const json before = options_json(resumed);
    json asked = before;
    for (const auto& [name, value] : parsed.given.items()) { asked[name] = value; }
    refuse_changed_options(before, asked, fixed_options(), source);
    take_options(resumed, parsed.given, "command line");
    resumed.resume = o.resume;
    resumed.plan_only = o.plan_only;
    resumed.compare = o.compare;
    resumed.quiet = o.quiet;
    o = resumed;
    check_options(what, o);
    setup.timeline = read_schedule(saved.schedule, detail::extent_of(o), source);
    detail::override_timeline(o, setup.timeline);
  }
  setup.grows = automatic(o) ? !setup.timeline.stages.empty() : o.schedule != "none";
  if (o.data.empty()) { o.data = MSG_DEFAULT_DATA; }
  setup.words = load_tokenizer(o.tokenizer, masked(what));
  if (!request.checkpoint && detail::sizes_alone(o)) { detail::take_sizes(o, setup.timeline); }
  detail::resolve_sizes(setup, source);
  detail::check_stages(setup, source);
  require_device(o.device);
  setup.isa = instruction_set();
  setup.threads = detail::resolve_threads(o);
  if (request.checkpoint) {
    setup.directory = request.checkpoint->parent_path();
    detail::warn_of_other_machine(request);
  } else {
    setup.directory = o.out.empty() ? detail::next_run_directory(what) : std::filesystem::path{o.out};
  }
  return request;
}

/// A resumed run must read the data that it was started on.
inline void check_data(const run_request& request, const training_data& data) {
  const config& start = request.setup.start;
  const config& end = request.setup.end;
  index needed = data.tokens.least_vocabulary();
  for (const std::int32_t id : data.masked() ? data.words.specials : std::vector<std::int32_t>{}) {
    needed = std::max(needed, index{id} + 1);
  }
  if (needed > start.vocab) {
    throw input_error(fmt::format(
        "{}: the data holds token {}, but the vocabulary {} {}{}", request.setup.settings.data, needed - 1,
        end.vocab > start.vocab ? "begins with" : "is", start.vocab,
        end.vocab > start.vocab ? ": a fresh token as a target has infinite loss while its mask is 0" : ""));
  }
  if (request.checkpoint && request.documents.state.files_hash != data.files_hash) {
    throw input_error(fmt::format("{}: the text at {} is not what this run was trained on (hash {}, found {})",
                                  request.checkpoint->string(), request.setup.settings.data,
                                  request.documents.state.files_hash, data.files_hash));
  }
}

/// The directory of a new run must not hold one already.
inline void check_run_directory(const run_request& request) {
  const std::filesystem::path& directory = request.setup.directory;
  std::error_code ignored;
  if (!request.checkpoint && std::filesystem::exists(directory / "metrics.jsonl", ignored)) {
    throw input_error(fmt::format("{} already holds a run: continue it with --resume {}, or give another --out",
                                  directory.string(), directory.string()));
  }
}
/// Makes it, and cleans what killed runs left.
inline void open_run_directory(const run_request& request) {
  check_run_directory(request);
  prepare_run_directory(request.setup.directory);
}

/// The data of a run.
[[nodiscard]] inline training_data load_run_data(const run_setup& setup) {
  const options& o = setup.settings;
  const auto rule = std::find(document_rule_names.begin(), document_rule_names.end(), o.documents);
  training_data data = load_data(o.data,
                                 {.seq = o.seq,
                                  .validation_tokens = 32768,
                                  .masked = masked(setup.what),
                                  .documents = static_cast<document_rule>(rule - document_rule_names.begin()),
                                  .vocab = o.vocab},
                                 setup.words);
  data.hiding.vocab = std::min(data.hiding.vocab, setup.start.vocab); // what is drawn must be there from the start
  return data;
}

[[nodiscard]] constexpr std::string_view title_of(architecture a) noexcept {
  constexpr std::string_view titles[] = {"GPT-2", "BERT", "Llama"};
  return titles[static_cast<std::size_t>(a)];
}

/// Sizes in a few characters: C96 F256 H2 L2; K where keys and values have heads of their own, E where there are
/// experts.
[[nodiscard]] inline std::string sizes_text(const config& c) {
  const std::string groups = c.arch == architecture::llama ? fmt::format(" K{}", kv_heads_of(c)) : "";
  const std::string experts = c.experts > 0 ? fmt::format(" E{}", c.experts) : "";
  return fmt::format("C{} F{} H{}{} L{}{}", c.hidden, c.ffn, c.heads, groups, c.layers, experts);
}

/// What a person is told before the first step.
[[nodiscard]] inline std::string opening_text(const run_setup& setup, const training_data& data) {
  const options& o = setup.settings;
  const bits_promise bits = bits_promise_of(o.device);
  std::string text = fmt::format("data      {}\n", data.description);
  if (setup.timeline.stages.empty()) {
    text += fmt::format("model     {} {}, {} parameters, no growth\n", title_of(setup.start.arch),
                        sizes_text(setup.start), format_grouped(parameter_count(setup.start)));
  } else {
    text += fmt::format("model     {} {} → {}, {} → {} parameters in {} growth{}\n", title_of(setup.start.arch),
                        sizes_text(setup.start), sizes_text(setup.end), format_grouped(parameter_count(setup.start)),
                        format_grouped(parameter_count(setup.end)), setup.timeline.stages.size(),
                        setup.timeline.stages.size() == 1 ? "" : "s");
  }
  text += fmt::format("machine   {} thread{}, {}, {}; bits at a growth {}\n", setup.threads,
                      setup.threads == 1 ? "" : "s", setup.isa, gemm_name_of(o.device, o.precision),
                      bits.promised ? "promised (the start-up probe passed)" : "not promised: " + bits.reason);
  text += fmt::format("run       {} ({} steps of {} tokens)\n", setup.directory.string(), o.steps,
                      format_grouped(o.batch * o.seq * o.accumulate));
  return text;
}

} // namespace reference
