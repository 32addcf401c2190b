// Command-line options of the trainers: one table that serves --help, the checkpoint and the check on resume.
#pragma once

#include "transformer/checkpoint_json.hpp"
#include "transformer/config.hpp"
#include "transformer/data_pairs.hpp"
#include "transformer/errors.hpp"
#include "transformer/gemm_precision.hpp"

#include <msg/config.hpp>
#include <msg/presets.hpp>

#include <CLI/CLI.hpp>
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

namespace reference {

using msg::index;

/// A trainer program: what it pre-trains. Everything else is the same for all.
struct program {
  std::string name;                        // train_gpt
  std::string about;                       // the first lines of --help
  std::vector<architecture> architectures; // the first is the default
  std::string run_prefix;                  // of run directories: runs/gpt-001
};

/// Whether a program's models predict hidden tokens.
[[nodiscard]] inline bool masked(const program& p) { return features_of(p.architectures.front()).masked_language; }

/// "gpt2 or llama"
[[nodiscard]] inline std::string architectures_text(const program& p) {
  std::string text;
  for (const architecture a : p.architectures) { text += (text.empty() ? "" : " or ") + std::string{name_of(a)}; }
  return text;
}

// By document_rule.
inline constexpr std::array<std::string_view, 4> document_rule_names{"auto", "files", "blank-lines", "none"};

/// What a run can be told. Sizes of 0 are taken from the schedule.
struct options {
  std::string data;
  std::string tokenizer;
  std::string documents = "auto";
  index vocab = 0;
  std::string arch;
  bool tied = false;
  index hidden = 0, ffn = 0, heads = 0, kv_heads = 0, layers = 0, head_dim = 0, experts = 0; // final sizes
  index experts_per_token = 2;
  double init_std = 0.02;
  index seq = 128;
  index batch = 16;
  index accumulate = 1;
  index steps = 1500;
  double max_seconds = 0;
  double lr = 0;
  index warmup = -1;
  double weight_decay = 0.1;
  double beta1 = 0.9, beta2 = 0.95;
  double clip = 1.0;
  double dropout = 0;
  index eval_every = 100;
  index save_every = 250;
  index log_every = 10;
  std::uint64_t seed = 1;
  std::string schedule;
  std::string budget;
  std::string rule;
  std::string out;
  std::string resume;
  index threads = 0;
  std::string device = "cpu";
  std::string precision = "fp32";
  bool compare = false;
  bool plan_only = false;
  double calibrate = 20;
  bool quiet = false;
  index sample = 0;
};

/// The options that a program doesn't have.
[[nodiscard]] inline std::vector<std::string_view> absent_options(const program& p) {
  if (masked(p)) { // BERT fills gaps, it does not continue a text
    return {"arch", "kv-heads", "tied", "experts", "experts-per-token", "sample"};
  }
  return {"documents"};
}

/// Devices that --device knows.
inline constexpr std::array<std::string_view, 2> device_names{"cpu", "cuda"};

enum class option_group { data, model, training, growth, run };
inline constexpr std::string_view option_group_names[] = {"Data", "Model (final sizes; must match the schedule)",
                                                          "Training", "Growth", "Run"};

/// Whether a resumed run may be given another value than it was started with.
enum class on_resume { fixed, free };

/// Calls visit(group, name, variable, on_resume, help) for every option, in the order of --help.
template <class Visit>
void visit_options(options& o, const Visit& visit) {
  using enum option_group;
  constexpr auto fixed = on_resume::fixed;
  constexpr auto free = on_resume::free;
  visit(data, "data", o.data, fixed, "Text, or token files of llm.c or nanoGPT: file or folder [the Eigen headers]");
  visit(data, "tokenizer", o.tokenizer, fixed,
        "File or folder: tokenizer.json, vocab.json with merges.txt, vocab.txt [bytes]");
  visit(data, "vocab", o.vocab, fixed, "Vocabulary; 0: the tokenizer's, or what token files need");
  visit(
      data, "documents", o.documents, fixed,
      "Pairs of segments for next-sentence prediction, of which documents: files, blank-lines, or none (hidden tokens "
      "alone) [auto: files of a folder of at least 40, else blank-lines]");
  visit(data, "seq", o.seq, fixed, "Sequence length in tokens");
  visit(data, "batch", o.batch, fixed, "Sequences per micro-batch");
  visit(data, "accumulate", o.accumulate, fixed, "Micro-batches per optimizer step");
  visit(data, "seed", o.seed, fixed, "Seed of weights, fresh weights and the order of the data");
  visit(model, "arch", o.arch, fixed, "Architecture: gpt2, llama [gpt2]");
  visit(model, "hidden", o.hidden, fixed, "Hidden width");
  visit(model, "ffn", o.ffn, fixed, "FFN width");
  visit(model, "heads", o.heads, fixed, "Attention heads");
  visit(model, "kv-heads", o.kv_heads, fixed, "Key-value heads, a divisor of heads (Llama) [as many as heads]");
  visit(model, "tied", o.tied, fixed, "The head reads the token embedding (Llama; the others always do)");
  visit(model, "layers", o.layers, fixed, "Layers");
  visit(model, "experts", o.experts, fixed,
        "Experts of a layer, which a router chooses from (Llama, as Mixtral) [1: FFN]");
  visit(model, "experts-per-token", o.experts_per_token, fixed,
        "Experts that work on a token, until a growth copies experts: copies are chosen together");
  visit(model, "head-dim", o.head_dim, fixed, "Width of one head, constant [final hidden / final heads]");
  visit(
      model, "init-std", o.init_std, fixed,
      "Standard deviation of first weights; about 0.6 / sqrt(hidden) suits narrow models (fresh ones: see --schedule)");
  visit(training, "steps", o.steps, free, "Optimizer steps of the whole run");
  visit(training, "max-seconds", o.max_seconds, free, "Stop after this training time; 0: no limit");
  visit(training, "lr", o.lr, free, "Peak learning rate; 0: the schedule's");
  visit(training, "warmup", o.warmup, free, "Warm-up steps; -1: the schedule's");
  visit(training, "weight-decay", o.weight_decay, free, "Decoupled weight decay of matrices");
  visit(training, "beta1", o.beta1, free, "AdamW's beta1");
  visit(training, "beta2", o.beta2, free, "AdamW's beta2");
  visit(training, "clip", o.clip, free, "Largest norm of the gradient; 0: no clipping");
  visit(training, "dropout", o.dropout, free,
        "Share of activations and attention weights left out in training, where the published model does; below 1");
  visit(growth, "schedule", o.schedule, fixed,
        "Growth schedule (JSON); none; or auto: the best one that a search finds [all dimensions]");
  visit(growth, "budget", o.budget, fixed,
        "Time that --schedule auto may take in all, search and training: 90s, 10m, 2h; it decides the steps");
  visit(growth, "rule", o.rule, fixed,
        "Rule for every growth in place of the schedule's: mask, stack, lemon, ... (the README lists them)");
  visit(growth, "plan-only", o.plan_only, free, "Print stages, sizes, and cost in FLOPs, time and memory, and stop");
  visit(growth, "calibrate", o.calibrate, free,
        "Seconds that training steps may be timed for, to tell what a run takes; 0: FLOPs alone [20]");
  visit(growth, "compare", o.compare, free, "Then train the final model without growth for the same wall time");
  visit(run, "out", o.out, free, "Run directory [a new one below runs/]");
  visit(run, "resume", o.resume, free, "Continue the run in this directory (or this checkpoint of it)");
  visit(run, "eval-every", o.eval_every, free, "Steps between evaluations; 0: only at the end");
  visit(run, "save-every", o.save_every, free, "Steps between checkpoints; 0: only at the end");
  visit(run, "log-every", o.log_every, free, "Steps between progress lines");
  visit(run, "threads", o.threads, free, "Threads; 0: one per core");
  visit(run, "device", o.device, free, "Device: cpu, cuda");
  visit(run, "precision", o.precision, free,
        "How matrices are multiplied: fp32, or on a GPU tf32 or bf16 (weights stay fp32)");
  visit(run, "sample", o.sample, free, "Print so many tokens of text from the model at the end");
  visit(run, "quiet", o.quiet, free, "Print only the last summary");
}

/// The options as the checkpoint keeps them.
[[nodiscard]] inline json options_json(options o) {
  json result = json::object();
  visit_options(
      o, [&](option_group, const char* name, const auto& value, on_resume, const char*) { result[name] = value; });
  return result;
}

/// Options by name whose value decides what the model computes and reads.
[[nodiscard]] inline std::vector<std::string> fixed_options() {
  std::vector<std::string> names;
  options any;
  visit_options(any, [&](option_group, const char* name, const auto&, on_resume rule, const char*) {
    if (rule == on_resume::fixed) { names.emplace_back(name); }
  });
  return names;
}

/// Takes the options of a checkpoint; keys that it doesn't hold keep their value. Throws input_error for a wrong type.
inline void take_options(options& o, const json& saved, const std::string& file) {
  findings found(file);
  visit_options(o, [&](option_group, const char* name, auto& value, on_resume, const char*) {
    const auto entry = saved.find(name);
    if (entry == saved.end()) { return; }
    using type = std::remove_reference_t<decltype(value)>;
    const bool fits = std::is_same_v<type, bool>          ? entry->is_boolean()
                      : std::is_same_v<type, std::string> ? entry->is_string()
                      : std::is_same_v<type, double>      ? entry->is_number()
                                                          : entry->is_number_integer();
    if (fits) {
      value = entry->template get<type>();
    } else {
      found.add(std::string{"options."} + name, "expected another type, found " + found_text(*entry));
    }
  });
  found.throw_if_any();
}

/// Seconds of "90s", "10m", "1h30m", "2d", or of a plain number; nothing for anything else.
[[nodiscard]] inline std::optional<double> duration_of(std::string_view text) {
  double seconds = 0;
  if (text.empty()) { return {}; }
  while (!text.empty()) {
    double value = 0;
    const auto [end, failure] =
        std::from_chars(text.data(), text.data() + text.size(), value, std::chars_format::fixed);
    if (failure != std::errc{} || !(value >= 0)) { return {}; }
    const bool plain = text.size() == static_cast<std::size_t>(end - text.data());
    if (plain && seconds > 0) { return {}; } // 1h30: of what?
    const double unit = plain ? 1 : *end == 's' ? 1 : *end == 'm' ? 60 : *end == 'h' ? 3600 : *end == 'd' ? 86400 : 0;
    if (unit == 0) { return {}; }
    seconds += value * unit;
    text.remove_prefix(static_cast<std::size_t>(end - text.data()) + (plain ? 0 : 1));
  }
  return seconds > 0 && std::isfinite(seconds) ? std::optional{seconds} : std::nullopt;
}

/// Whether the schedule is to be searched.
[[nodiscard]] inline bool automatic(const options& o) { return o.schedule == "auto"; }

/// Refuses values that no run can have: one line that lists them all.
inline void check_options(const program& p, const options& o) {
  std::string wrong;
  const auto require = [&](bool good, std::string_view name, const auto& found, std::string_view expected) {
    if (!good) {
      wrong += fmt::format("{}--{} expected {}, found {}", wrong.empty() ? "" : "; ", name, expected, found);
    }
  };
  const auto positive = [&](std::string_view name, index value) { require(value >= 1, name, value, "at least 1"); };
  const auto natural = [&](std::string_view name, index value) { require(value >= 0, name, value, "at least 0"); };
  const auto finite = [&](std::string_view name, double value) {
    require(std::isfinite(value) && value >= 0, name, value, "a number from 0");
  };
  positive("seq", o.seq);
  positive("batch", o.batch);
  positive("accumulate", o.accumulate);
  positive("steps", o.steps);
  positive("log-every", o.log_every);
  natural("hidden", o.hidden);
  natural("ffn", o.ffn);
  natural("heads", o.heads);
  natural("kv-heads", o.kv_heads);
  natural("vocab", o.vocab);
  natural("layers", o.layers);
  natural("head-dim", o.head_dim);
  natural("experts", o.experts);
  positive("experts-per-token", o.experts_per_token);
  natural("eval-every", o.eval_every);
  natural("save-every", o.save_every);
  natural("threads", o.threads);
  natural("sample", o.sample);
  require(std::isfinite(o.init_std) && o.init_std > 0, "init-std", o.init_std, "a number above 0");
  finite("max-seconds", o.max_seconds);
  finite("lr", o.lr);
  finite("calibrate", o.calibrate);
  finite("weight-decay", o.weight_decay);
  finite("clip", o.clip);
  require(o.budget.empty() || duration_of(o.budget), "budget", o.budget, "a time: 90s, 10m or 2h, for instance");
  require(o.budget.empty() || automatic(o), "budget", "it alone", "--schedule auto beside it");
  require(!automatic(o) || o.calibrate > 0, "calibrate", o.calibrate, "more than 0 with --schedule auto");
  require(!automatic(o) || !o.budget.empty(), "schedule", "auto alone", "--budget beside auto: 10m, for instance");
  require(o.warmup >= -1, "warmup", o.warmup, "at least 0, or -1");
  require(o.beta1 >= 0 && o.beta1 < 1, "beta1", o.beta1, "from 0 to below 1");
  require(o.beta2 >= 0 && o.beta2 < 1, "beta2", o.beta2, "from 0 to below 1");
  require(o.dropout >= 0 && o.dropout < 1, "dropout", o.dropout, "from 0 to below 1");
  const auto named = [&](architecture a) { return o.arch == name_of(a); };
  require(std::any_of(p.architectures.begin(), p.architectures.end(), named), "arch", o.arch, architectures_text(p));
  require(o.kv_heads == 0 || o.kv_heads == o.heads || o.arch == "llama", "kv-heads", o.kv_heads,
          "as many as --heads, or --arch llama");
  require(o.experts <= 1 || o.arch == "llama", "experts", o.experts, "1, or --arch llama: the others have one FFN");
  require(!o.tied || o.arch == "llama", "tied", "it", "--arch llama: the others are always tied");
  require(std::find(document_rule_names.begin(), document_rule_names.end(), o.documents) != document_rule_names.end(),
          "documents", o.documents, "auto, files, blank-lines or none");
  require(std::find(device_names.begin(), device_names.end(), o.device) != device_names.end(), "device", o.device,
          "cpu or cuda");
  const std::optional<gemm_precision> precision = gemm_precision_of(o.precision);
  require(precision && (*precision == gemm_precision::full || o.device == "cuda"), "precision", o.precision,
          "fp32, or tf32 or bf16 with --device cuda");
  std::string rules;
  bool known_rule = o.rule.empty();
  for (const msg::named_rule& rule : msg::named_rules) {
    known_rule = known_rule || rule.name == o.rule;
    rules += (rules.empty() ? "one of " : ", ") + std::string(rule.name);
  }
  require(known_rule, "rule", o.rule, rules);
  if (!wrong.empty()) { throw input_error(wrong); }
}

/// Options as given on a command line, and which of them were given.
struct parsed_options {
  options values;
  json given = json::object(); // name -> value
  bool help = false;           // --help was asked for and `text` holds it
  std::string text;
};

/// Throws input_error for anything that is no option, or has no or a malformed value.
[[nodiscard]] inline parsed_options parse_options(const program& p, int count, const char* const* arguments) {
  parsed_options result;
  options& o = result.values;
  o.arch = name_of(p.architectures.front());
  const std::vector<std::string_view> absent = absent_options(p);
  CLI::App app{p.about};
  app.option_defaults()->always_capture_default(false);
  std::map<std::string, CLI::Option*> by_name;
  visit_options(o, [&](option_group group, const char* name, auto& value, on_resume, const char* help) {
    if (std::find(absent.begin(), absent.end(), name) != absent.end()) { return; }
    CLI::Option* added = nullptr;
    if constexpr (std::is_same_v<std::remove_reference_t<decltype(value)>, bool>) {
      added = app.add_flag("--" + std::string{name}, value, help);
    } else {
      const std::string start = fmt::format("{}", value);
      const bool told = start.empty() || std::string_view{help}.find_first_of("[;") != std::string_view::npos;
      added = app.add_option("--" + std::string{name}, value, told ? help : fmt::format("{} [{}]", help, start));
      added->multi_option_policy(CLI::MultiOptionPolicy::TakeLast); // scripts give defaults before what a user adds
      added->type_name(std::is_same_v<std::remove_reference_t<decltype(value)>, std::string> ? "NAME"
                       : std::is_same_v<std::remove_reference_t<decltype(value)>, double>    ? "X"
                                                                                             : "N");
    }
    added->group(std::string{option_group_names[static_cast<std::size_t>(group)]});
    by_name[name] = added;
  });
  try {
    app.parse(count, arguments);
  } catch (const CLI::CallForHelp&) {
    result.help = true;
    result.text = app.help();
    return result;
  } catch (const CLI::ParseError& failure) {
    throw input_error(std::string{failure.what()} + " (--help lists the options)");
  }
  const json all = options_json(o);
  for (const auto& [name, option] : by_name) {
    if (option->count() > 0) { result.given[name] = all[name]; }
  }
  return result;
}

} // namespace reference
