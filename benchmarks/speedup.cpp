// How much sooner does a model that grows reach the loss at which its final sizes end when trained from scratch?
//
// The final model is trained from scratch at several learning rates, shapes of the rate and first weights; the best of
// them sets the loss to be reached, seed by seed. One seed chooses two of each, all seeds choose between the two.
// Controls: every smaller model alone for the same wall time; where one ends below the final model, the final model was
// not worth its cost and a ratio means nothing, which the table says. Then models that grow: published schedules for as
// many steps, and short ones of given total time by several operators. All share data, seeds, batches and the trainer.
// What the small model costs counts.
//
// Every run is kept, under the hash of its options: a study that was stopped (Ctrl-C, a kill) goes on where it was, and
// one that is asked for again only prints. Times are those of steps measured one after the other on one thread, in
// rounds over all sizes, times the steps that were run: what else the machine did while runs trained is not in them.
// FLOPs are counted.
//
// With --other, a text of another kind, every final model is also put before that: its loss there, and how many of the
// next bytes (GPT) or hidden bytes (BERT) it would have written.
//
// usage: speedup [--csv FILE] [--smoke] [--arch gpt|bert] [--dimensions] [--data PATH] [--other PATH] [--seeds 3]
//                [--steps N] [--runs DIR] [--only TEXT|TEXT] [--time-again] [--first-weights STD]
//
// --first-weights: their standard deviation in all runs, in place of the one that suits the width [0.2, BERT 0.1].
// --only: of the runs after the sweeps those alone whose names have one of the texts in them.
#include "figure.hpp"
#include "speedup_arms.hpp"
#include "study.hpp"

#include "transformer/compare.hpp"
#include "transformer/median.hpp"
#include "transformer/step_timing.hpp"
#include "transformer/train_program.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <limits>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace {

using msg::index;
using reference::json;
using study::arm;
using study::target;
namespace fs = std::filesystem;

constexpr double never = std::numeric_limits<double>::infinity();

struct settings {
  target goal;
  std::string data, other, only;
  index seeds = 3;
  fs::path runs;
  bool dimensions = false, time_again = false, smoke = false;
};

/// First weights that Hugging Face's models of these architectures have, of any width.
constexpr double usual_first_weights = reference::config{}.initializer_range;

/// The final sizes and everything shared, by architecture. Byte-level models so narrow that two minutes train a GPT
/// past the point where a shallower one would be the better buy, and eleven a BERT.
///
/// first_weights: their standard deviation; 0: what suits the width, found by the sweep
target target_of(const std::string& arch, bool smoke, double first_weights) {
  target t{.what = {.name = arch == "bert" ? "train_bert" : "train_gpt",
                    .about = {},
                    .architectures = {arch == "bert" ? reference::architecture::bert : reference::architecture::gpt2},
                    .run_prefix = arch},
           .sizes = {{"hidden", 16}, {"ffn", 64}, {"heads", 1}, {"layers", 12}},
           .head_dim = 16,
           .seq = 64,
           .batch = 16,
           .first_weights = 0.2,
           .others = {usual_first_weights, 0.1, 0.3},
           .beta2 = 0.95,
           .weight_decay = 0.1,
           .steps = 12000,
           .rates = {4e-3, 8e-3, 1.2e-2, 1.6e-2},
           .lr = {msg::rate_policy::wsd, 8e-3, 0, 100, 0.25},
           .ramp = 0.1,
           .parts = {0.9, 0.95, 0.8, 0.42},
           .shallow = {{6, 0.2}},
           .last_placement = "interleave"};
  if (arch == "bert") { // over long windows of so narrow a model it stays at the frequencies of bytes for too long
    t.sizes = {{"hidden", 16}, {"ffn", 64}, {"heads", 1}, {"layers", 6}};
    t.seq = 16;
    t.batch = 256;         // about 600 targets: with a quarter of them losses vary more than the arms differ
    t.beta2 = 0.999;       // as published, Devlin et al. 2019, sec. A.2
    t.weight_decay = 0.01; // the same; with 0.1 it ends higher
    t.ramp = 0.003;
    t.first_weights = 0.1;
    t.others = {usual_first_weights, 0.2};
    t.shallow = {{3, 0.2}};
    t.placement = "prepend"; // behind post-LN layers that learnt alone, little of the tokens is left to read
    t.steps = 31500;         // at a fifth of them three layers do as well
    t.rates = {4e-3, 8e-3, 1.2e-2, 1.6e-2};
  }
  if (first_weights > 0) {
    t.first_weights = first_weights;
    t.others.clear();
  }
  // From the usual ones deep models are slow to learn: more of the time can be left to few layers.
  if (first_weights == usual_first_weights && arch == "bert") {
    t.parts = {0.45, 0.46, 0.5, 0.42, 0.36};
    t.shallow = {{1, 0.01}, {2, 0.026}, {3, 0.515}};
  } else if (first_weights == usual_first_weights) {
    t.parts = {0.42, 0.45, 0.6, 0.75, 0.36, 0.3};
    t.shallow = {{1, 0.2}, {2, 0.1}, {5, 0.2}};
    t.last_placement = "append";
  }
  if (smoke) {
    t.sizes = {{"hidden", 16}, {"ffn", 32}, {"heads", 2}, {"layers", 4}};
    t.head_dim = 8;
    t.batch = 4;
    t.seq = 32;
    t.steps = 200;
    t.rates = {4e-3, 8e-3};
    t.shallow = {{1, 0.2}, {2, 0.3}};
    if (!t.others.empty()) { t.others = {usual_first_weights}; }
  }
  return t;
}

/// One finished run.
struct outcome {
  fs::path folder;
  reference::run_records records;

  [[nodiscard]] double final_loss() const { return records.end ? records.end->val_loss : never; }
};

/// What a trained model makes of text of another kind than it was trained on.
struct elsewhere {
  double loss = never; // nats per predicted byte
  double accuracy = 0; // share of the predicted bytes that it would have written
};

struct result {
  arm what;
  std::vector<outcome> seeds;
  std::vector<elsewhere> other{}; // by seed; empty: not asked for

  [[nodiscard]] std::vector<double> losses() const {
    std::vector<double> all;
    for (const outcome& o : seeds) { all.push_back(o.final_loss()); }
    return all;
  }
  [[nodiscard]] double middle_loss() const { return reference::median_of(losses()); }
};

std::string slug(std::string text) {
  for (char& c : text) {
    if (std::isalnum(static_cast<unsigned char>(c)) == 0 && c != '.') { c = '-'; }
  }
  return text;
}

class stopped : public std::runtime_error {
public:
  stopped() : std::runtime_error("stopped, and saved: the same command goes on") {}
};

class laboratory {
public:
  explicit laboratory(settings s) : s_(std::move(s)), terminal_(stdout, {.quiet = true}) {
    fs::create_directories(s_.runs);
  }

  /// Options of a run but where it is.
  [[nodiscard]] reference::options options_of(const arm& a, index seed) const {
    reference::options o;
    const target& t = s_.goal;
    o.arch = reference::name_of(t.what.architectures.front());
    o.data = s_.data;
    if (reference::masked(t.what)) { o.documents = "none"; }
    o.seq = t.seq;
    o.batch = t.batch;
    o.head_dim = t.head_dim;
    o.init_std = a.first_weights > 0 ? a.first_weights : t.first_weights;
    o.beta2 = t.beta2;
    o.weight_decay = t.weight_decay;
    o.steps = a.steps;
    o.seed = static_cast<std::uint64_t>(seed);
    o.threads = 1;
    o.eval_every = s_.smoke ? a.steps / 4 : 200;
    o.log_every = o.eval_every;
    o.save_every = s_.smoke ? 0 : 2000;
    return o;
  }
  /// A new run, or the rest of one that has a checkpoint.
  [[nodiscard]] reference::run_request request_of(reference::options o, const msg::schedule& timeline,
                                                  const fs::path& folder) const {
    reference::parsed_options parsed;
    if (fs::exists(folder / "latest")) {
      parsed.values.resume = folder.string();
    } else {
      o.out = folder.string();
      o.schedule = o.out + ".json";
      reference::detail::write_json(o.schedule, reference::schedule_json(timeline));
      parsed.values = std::move(o);
    }
    return reference::resolve_run(s_.goal.what, parsed);
  }

  /// Trains an arm from a seed, unless that was done already.
  outcome run(const arm& a, index seed) {
    const reference::options o = options_of(a, seed);
    json key = reference::options_json(o);
    const json usual = reference::options_json({});
    for (const auto& [name, value] : usual.items()) { // so that an option of later does not make all runs anew
      if (key[name] == value) { key.erase(name); }
    }
    const fs::path folder =
        folder_of(slug(a.name), fmt::format("-s{}-{:016x}", seed,
                                            msg::stream_of(reference::schedule_json(a.timeline).dump() + key.dump())));
    if (std::optional<outcome> known = finished(folder)) { return *std::move(known); }
    fmt::print("  {:<40} seed {}  {} steps ...", a.name, seed, a.steps);
    std::fflush(stdout);
    if (!fs::exists(folder / "latest")) { fs::remove_all(folder); } // killed before its first checkpoint
    const reference::run_request request = request_of(o, a.timeline, folder);
    reference::check_data(request, data_of(request.setup));
    reference::open_run_directory(request);
    const std::unique_ptr<reference::trainer> trainer =
        reference::detail::make_trainer(request, data_of(request.setup), terminal_);
    if (trainer->run() == reference::run_outcome::interrupted) {
      fmt::print("\n");
      throw stopped();
    }
    std::optional<outcome> now = finished(folder);
    if (!now) { throw std::runtime_error(folder.string() + " did not come to its end"); }
    fmt::print(" {:.4f}\n", now->final_loss());
    std::fflush(stdout);
    return *std::move(now);
  }

  /// With the first seed; without any if only others are wanted.
  result first(const arm& a) {
    result r{a, {}, {}};
    if (a.group != study::sweep_group && a.group != study::shape_group && !wanted(a.name)) { return r; }
    r.seeds.push_back(run(a, 1));
    return r;
  }

  /// Milliseconds of a step at each of the sizes: measured together, and kept. What was measured first decides for good
  /// how long runs of given time are, so that they need not be trained again; what was measured last is what is told.
  void time(const std::vector<msg::named_sizes>& wanted) {
    const fs::path first = s_.runs / (s_.goal.what.run_prefix + "-step-times.json");
    const fs::path again = s_.runs / (s_.goal.what.run_prefix + "-step-times-again.json");
    const auto complete = [&](const step_times& times) {
      return std::all_of(wanted.begin(), wanted.end(),
                         [&](const auto& sizes) { return find(times, sizes) != nullptr; });
    };
    planned_ = read_times(first);
    if (!complete(planned_)) {
      planned_ = measure(wanted);
      write_times(first, planned_);
    }
    if (s_.time_again) { write_times(again, measure(wanted)); }
    told_ = read_times(again);
    if (!complete(told_)) { told_ = planned_; }
  }
  [[nodiscard]] double planned_milliseconds(const msg::named_sizes& sizes) const { return of(planned_, sizes); }
  [[nodiscard]] double milliseconds(const msg::named_sizes& sizes) const { return of(told_, sizes); }
  /// Seconds of the first `step` steps of an arm.
  [[nodiscard]] double seconds(const arm& a, index step) const {
    const std::vector<index> begins = msg::stage_steps(a.timeline, {a.steps, 1});
    double sum = 0;
    index from = 0;
    for (std::size_t s = 0; s <= begins.size(); ++s) {
      const index to = std::min(step, s < begins.size() ? begins[s] : step);
      sum += static_cast<double>(std::max<index>(0, to - from)) * milliseconds(msg::sizes_after(a.timeline, s)) / 1000;
      from = std::max(from, to);
    }
    return sum;
  }
  /// A finished run's model on the held-out part of the other text.
  [[nodiscard]] elsewhere examine(const outcome& run) {
    const reference::run_request request = request_of({}, {}, run.folder);
    if (!other_) {
      reference::run_setup there = request.setup;
      there.settings.data = s_.other;
      other_ = reference::load_run_data(there);
    }
    const std::unique_ptr<reference::trainer> trained =
        reference::detail::make_trainer(request, data_of(request.setup), terminal_);
    const reference::model_state<float>& state = trained->state();
    const target& t = s_.goal;
    reference::transformer<float> model(state.sizes, t.batch, t.seq);
    const reference::live_masks masks = state.masks(trained->step());
    reference::token_batch batch = reference::make_batch(*other_, t.batch);
    double sum = 0;
    index predicted = 0;
    index right = 0;
    for (index windows = 0; windows < other_->validation_windows;) {
      windows += reference::validation_batch(*other_, windows, batch);
      const double loss = model.forward(
          state.values, {batch.tokens, batch.targets, batch.types, batch.lengths, batch.next_sentence}, masks.view());
      const float* row = model.logits().data();
      const bool hidden_alone = other_->masked(); // then there are logits of what is predicted alone
      index here = 0;
      for (const std::int32_t wanted : batch.targets) {
        if (wanted >= 0) {
          right += std::max_element(row, row + state.sizes.vocab) - row == wanted ? 1 : 0;
          ++here;
        }
        if (wanted >= 0 || !hidden_alone) { row += state.sizes.vocab; }
      }
      sum += loss * static_cast<double>(here);
      predicted += here;
    }
    return {sum / static_cast<double>(predicted), static_cast<double>(right) / static_cast<double>(predicted)};
  }
  [[nodiscard]] const settings& given() const noexcept { return s_; }

private:
  /// The same run may be part of two groups under two names: once is enough.
  [[nodiscard]] fs::path folder_of(const std::string& name, const std::string& hash) const {
    for (const fs::directory_entry& entry : fs::directory_iterator(s_.runs)) {
      if (entry.is_directory() && entry.path().string().ends_with(hash)) { return entry.path(); }
    }
    return s_.runs / (s_.goal.what.run_prefix + '-' + name + hash);
  }

  const reference::training_data& data_of(const reference::run_setup& setup) {
    if (!data_) { data_ = reference::load_run_data(setup); }
    return *data_;
  }

  [[nodiscard]] bool wanted(std::string_view name) const {
    for (std::string_view rest = s_.only;;) {
      const std::size_t bar = rest.find('|');
      if (name.find(rest.substr(0, bar)) != std::string_view::npos) { return true; }
      if (bar == std::string_view::npos) { return false; }
      rest.remove_prefix(bar + 1);
    }
  }

  using step_times = std::vector<std::pair<msg::named_sizes, double>>;

  [[nodiscard]] static const double* find(const step_times& times, const msg::named_sizes& sizes) {
    const auto found = std::find_if(times.begin(), times.end(), [&](const auto& t) { return t.first == sizes; });
    return found == times.end() ? nullptr : &found->second;
  }
  [[nodiscard]] static double of(const step_times& times, const msg::named_sizes& sizes) {
    const double* found = find(times, sizes);
    if (found == nullptr) { throw std::logic_error("sizes that were not timed"); }
    return *found;
  }
  [[nodiscard]] step_times read_times(const fs::path& file) const {
    step_times times;
    if (!fs::exists(file)) { return times; }
    for (const json& entry : reference::read_json(file)) {
      msg::named_sizes sizes;
      for (const auto& [axis, unused] : s_.goal.sizes) { sizes.emplace_back(axis, entry.at("sizes").at(axis)); }
      times.emplace_back(sizes, entry.at("milliseconds").get<double>());
    }
    return times;
  }
  static void write_times(const fs::path& file, const step_times& times) {
    json all = json::array();
    for (const auto& [sizes, milliseconds] : times) {
      json named = json::object();
      for (const auto& [axis, size] : sizes) { named[axis] = size; }
      all.push_back({{"sizes", named}, {"milliseconds", milliseconds}});
    }
    reference::detail::write_json(file, all);
  }
  [[nodiscard]] step_times measure(const std::vector<msg::named_sizes>& wanted) const {
    fmt::print("  timing steps at {} sizes ...", wanted.size());
    std::fflush(stdout);
    const arm scratch{"timing", study::sweep_group, {s_.goal.sizes, s_.goal.lr, {}}, s_.goal.steps};
    const reference::run_request request = request_of(options_of(scratch, 1), scratch.timeline, s_.runs / "timing");
    std::vector<reference::sizes_to_time> sizes;
    for (const msg::named_sizes& one : wanted) { sizes.push_back({one, std::nullopt}); }
    const reference::machine_timing machine =
        reference::measure_machine(request.setup, sizes, s_.smoke ? 10 : 300, nullptr, s_.smoke ? 5 : 100);
    if (!machine.measured()) { throw std::runtime_error("steps were not timed: " + machine.why_not); }
    step_times times;
    for (const reference::sizes_timing& t : machine.timings) { times.emplace_back(t.sizes, t.milliseconds); }
    fmt::print(" {:.0f} s\n", machine.seconds);
    return times;
  }
  [[nodiscard]] static std::optional<outcome> finished(const fs::path& folder) {
    std::error_code ignored;
    if (!fs::exists(folder / "metrics.jsonl", ignored)) { return std::nullopt; }
    outcome found{folder, reference::records_of(folder)};
    return found.records.end ? std::optional{std::move(found)} : std::nullopt;
  }

  settings s_;
  reference::printer terminal_;
  std::optional<reference::training_data> data_;
  std::optional<reference::training_data> other_;
  step_times planned_, told_;
};

/// Where a run first was at a loss.
struct reached {
  index step = -1; // never
  double flops = never;
  double seconds = never;
};

reached first_at(const laboratory& lab, const arm& a, const outcome& run, double loss) {
  for (const reference::step_record& r : run.records.steps) {
    if (r.val_loss && *r.val_loss <= loss) { return {r.step, r.flops, lab.seconds(a, r.step)}; }
  }
  return {};
}

std::string range(const std::vector<double>& values, int digits, const char* otherwise) {
  const auto text = [&](double v) {
    return std::isfinite(v) ? fmt::format("{:.{}f}", v, digits) : std::string{otherwise};
  };
  const double middle = reference::median_of(values);
  if (values.size() == 1 || !std::isfinite(middle)) { return text(middle); }
  return fmt::format("{} ({} to {})", text(middle), text(*std::min_element(values.begin(), values.end())),
                     text(*std::max_element(values.begin(), values.end())));
}

/// Everything that the study has found.
struct findings {
  std::vector<result> all;
  std::size_t baseline = 0;            // in all
  std::vector<double> targets;         // by seed
  std::vector<std::string> too_good{}; // smaller models that end below the baseline

  [[nodiscard]] const result& from_scratch() const { return all[baseline]; }
};

/// Speed-ups of an arm over the baseline, by seed; 0: it doesn't get there.
std::pair<std::vector<double>, std::vector<double>> ratios(const laboratory& lab, const findings& f, const result& r) {
  std::vector<double> time, flops;
  for (std::size_t seed = 0; seed < r.seeds.size(); ++seed) {
    const reached at = first_at(lab, r.what, r.seeds[seed], f.targets[seed]);
    const arm& base = f.from_scratch().what;
    time.push_back(lab.seconds(base, base.steps) / at.seconds);
    flops.push_back(f.from_scratch().seeds[seed].records.end->flops / at.flops);
  }
  return {time, flops};
}

void print(const laboratory& lab, const findings& f) {
  const bool elsewhere = !lab.given().other.empty();
  std::vector<std::string> columns{"seconds", "tokens M", "TFLOPs", "final loss", "time ratio", "FLOPs ratio"};
  if (elsewhere) { columns.insert(columns.end(), {"other text: loss", "accuracy %"}); }
  columns.emplace_back("run");
  study::table shown(columns);
  std::string group;
  for (const result& r : f.all) {
    if (r.seeds.empty()) { continue; }
    if (r.what.group != group) {
      group = r.what.group;
      std::vector<std::string> heading(columns.size() - 1);
      heading.push_back(group);
      shown.add(heading);
    }
    const auto [time, flops] = ratios(lab, f, r);
    const bool itself = &r == &f.from_scratch();
    const auto ratio = [&](const std::vector<double>& v) {
      return itself ? std::string{"1"} : reference::median_of(v) > 0 ? range(v, 2, "never") : std::string{"never"};
    };
    std::vector<std::string> cells{
        fmt::format("{:.0f}", lab.seconds(r.what, r.what.steps)),
        fmt::format("{:.1f}", static_cast<double>(r.seeds.front().records.end->tokens) / 1e6),
        fmt::format("{:.2f}", r.seeds.front().records.end->flops / 1e12),
        range(r.losses(), 4, "none"),
        ratio(time),
        ratio(flops)};
    if (elsewhere) {
      std::vector<double> loss, accuracy;
      for (const auto& e : r.other) {
        loss.push_back(e.loss);
        accuracy.push_back(100 * e.accuracy);
      }
      cells.push_back(range(loss, 4, "none"));
      cells.push_back(range(accuracy, 2, "none"));
    }
    cells.push_back("  " + r.what.name + (itself ? "  <- the best from scratch: the loss to reach" : ""));
    shown.add(cells);
  }
  shown.print();
  fmt::print("\n");
  for (const std::string& name : f.too_good) {
    fmt::print("'{}' alone ends below the final model for the same time: ratios mean nothing at these sizes\n", name);
  }
}

void write_csv(const laboratory& lab, const findings& f, const std::string& path) {
  study::table rows({"group", "run", "seed", "steps", "peak_rate", "tokens", "flops", "seconds", "seconds_as_run",
                     "final_loss", "target", "step_at_target", "time_ratio", "flops_ratio", "other_loss",
                     "other_accuracy"});
  for (const result& r : f.all) {
    const auto [time, flops] = ratios(lab, f, r);
    for (std::size_t seed = 0; seed < r.seeds.size(); ++seed) {
      const reference::end_record& end = *r.seeds[seed].records.end;
      const reached at = first_at(lab, r.what, r.seeds[seed], f.targets[seed]);
      rows.add({r.what.group, r.what.name, std::to_string(seed + 1), std::to_string(r.what.steps),
                study::rate_text(r.what.timeline.lr.peak), std::to_string(end.tokens), fmt::format("{:.6g}", end.flops),
                fmt::format("{:.3f}", lab.seconds(r.what, r.what.steps)), fmt::format("{:.3f}", end.seconds),
                fmt::format("{:.6f}", end.val_loss), fmt::format("{:.6f}", f.targets[seed]), std::to_string(at.step),
                fmt::format("{:.4f}", time[seed]), fmt::format("{:.4f}", flops[seed]),
                r.other.empty() ? "" : fmt::format("{:.6f}", r.other[seed].loss),
                r.other.empty() ? "" : fmt::format("{:.6f}", r.other[seed].accuracy)});
    }
  }
  rows.write_csv(path);
}

/// Held-out loss against time: the baseline, the controls, and what grew; one line per seed.
void draw(const laboratory& lab, const findings& f, const std::string& path) {
  std::vector<const result*> lines;
  for (const result& r : f.all) {
    const bool rival = &r == &f.from_scratch() || r.what.group == study::control_group;
    const bool search = r.what.group == study::sweep_group || r.what.group == study::shape_group ||
                        r.what.group == study::short_sweep_group;
    if (!r.seeds.empty() && (rival || !search)) { lines.push_back(&r); }
  }
  double longest = 0;
  double low = never;
  for (const result* r : lines) {
    longest = std::max(longest, lab.seconds(r->what, r->what.steps));
    for (const outcome& o : r->seeds) { low = std::min(low, o.final_loss()); }
  }
  const double goal = reference::median_of(f.targets);
  constexpr double left = 70, width = 640, top = 60, height = 420, key = 330;
  study::figure page(left + width + key, top + height + 60,
                     fmt::format("{}: held-out loss against training time",
                                 reference::title_of(lab.given().goal.what.architectures.front())));
  const study::number_line x{.low = 0, .high = longest, .begin = left, .end = left + width};
  const study::number_line y{
      .low = goal - 1.5 * (goal - low) - 0.02 * goal, .high = goal * 1.35, .begin = top + height, .end = top};
  page.y_axis(y, left, left + width, "loss, nats per predicted byte");
  page.x_axis(x, top, top + height, "seconds of one core");
  page.line(left, y.at(goal), left + width, y.at(goal), "stroke:#444;stroke-dasharray:4 3");
  for (std::size_t l = 0; l < lines.size(); ++l) {
    const result& r = *lines[l];
    const bool base = &r == &f.from_scratch();
    const std::string style = fmt::format(
        "stroke:{};stroke-width:{}{}", base ? "#000" : study::palette[l % study::palette.size()], base ? "2.4" : "1.3",
        r.what.group == study::control_group ? ";stroke-dasharray:2 3"
        : l < study::palette.size()          ? ""
                                             : ";stroke-dasharray:6 3");
    for (const outcome& o : r.seeds) {
      std::vector<std::pair<double, double>> points;
      for (const reference::step_record& record : o.records.steps) {
        if (!record.val_loss || *record.val_loss > y.high) { continue; }
        points.emplace_back(x.at(lab.seconds(r.what, record.step)), y.at(*record.val_loss));
      }
      page.curve(points, style);
    }
    const double row = top + 10 + 18 * static_cast<double>(l);
    page.line(left + width + 14, row, left + width + 36, row, style);
    page.text(left + width + 42, row + 4, (base ? "from scratch, " : "") + r.what.name, "font-size:11px");
  }
  page.write(path);
}

/// The trainer's own report of each growing run, with the from-scratch run of its seed beside it.
void write_reports(const findings& f, const settings& s) {
  for (const result& r : f.all) {
    for (std::size_t seed = 0; seed < r.seeds.size(); ++seed) {
      if (&r == &f.from_scratch() || seed >= f.from_scratch().seeds.size()) { continue; }
      reference::report_input page;
      page.title = fmt::format("{}, {}", reference::title_of(s.goal.what.architectures.front()), r.what.name);
      page.run = r.seeds[seed].records;
      page.other = f.from_scratch().seeds[seed].records;
      page.settings = {{"data", s.data}, {"seed", std::to_string(seed + 1)}, {"run", r.seeds[seed].folder.string()}};
      reference::write_report(r.seeds[seed].folder / "report.html", page);
    }
  }
}

void note(const msg::named_sizes& one, std::vector<msg::named_sizes>& all) {
  if (std::find(all.begin(), all.end(), one) == all.end()) { all.push_back(one); }
}

/// Sizes that runs of the arms have.
void note_sizes(const std::vector<arm>& arms, std::vector<msg::named_sizes>& all) {
  for (const arm& a : arms) {
    for (std::size_t s = 0; s <= a.timeline.stages.size(); ++s) { note(msg::sizes_after(a.timeline, s), all); }
  }
}

/// The final model with so many layers.
msg::named_sizes with_layers(const target& t, index layers) { return msg::sizes_with(t.sizes, {{"layers", layers}}); }

/// Layers after layers, of so much of a run's time each, and all of them in the rest.
std::vector<study::stretch> deeper(const target& t, const study::shares& layers) {
  std::vector<study::stretch> result;
  double rest = 1;
  for (const auto& [number, share] : layers) {
    result.push_back({with_layers(t, number), share, t.placement});
    rest -= share;
  }
  result.push_back({t.sizes, rest, t.last_placement});
  return result;
}

/// Half as wide.
msg::named_sizes narrowed(const target& t) {
  const auto half = [&](const char* axis) { return std::max<index>(1, msg::size_of(t.sizes, axis) / 2); };
  return msg::sizes_with(t.sizes, {{"hidden", half("hidden")}, {"ffn", half("ffn")}, {"heads", half("heads")}});
}

/// A run of a part of the final model's time.
struct short_run {
  std::string name;
  std::string rule;
  double part;
  std::vector<study::stretch> stretches;
};

std::vector<short_run> short_runs_of(const target& t) {
  const auto two = deeper(t, {{1, 0.4}});
  const auto three = deeper(t, {{1, 0.3}, {3, 0.2}});
  const auto best = deeper(t, t.shallow);
  auto narrow = best; // at first, too
  narrow.front().sizes = msg::sizes_with(narrowed(t), {{"layers", 1}});
  std::vector<short_run> runs;
  const auto add = [&](const char* how, const char* rule, double part, const std::vector<study::stretch>& stretches) {
    std::string name;
    for (const study::stretch& s : stretches) {
      name += fmt::format("{}{}", name.empty() ? "" : ", ", msg::size_of(s.sizes, "layers"));
    }
    runs.push_back({fmt::format("{} layers {}, {:g} of the time", name, how, part), rule, part, stretches});
  };
  // The rates are swept for the first of them.
  for (const double part : t.parts) { add("masked", "mask", part, best); }
  const double part = t.parts.front();
  for (const auto& stretches : {three, two}) { add("masked", "mask", part, stretches); }
  add("stacked", "stack", part, best);
  add("identity", "identity", part, best);
  add("zero blocks", "zero_block", part, best);
  add("masked from half the width", "mask", part, narrow);
  add("by Net2Net from half the width", "net2net", part, narrow);
  return runs;
}

index seeds_of(const result& r) { return static_cast<index>(r.seeds.size()); }

/// The first seed of every arm tells most; then the others, one after the other.
void more_seeds(laboratory& lab, findings& f) {
  for (index seed = 2; seed <= lab.given().seeds; ++seed) {
    fmt::print("seed {}\n", seed);
    for (result& r : f.all) {
      if (!r.what.one_seed && !r.seeds.empty() && seeds_of(r) < seed) { r.seeds.push_back(lab.run(r.what, seed)); }
    }
  }
}

/// The best of arms that were trained from one seed, or of those of one rate. One seed tells little of arms that are
/// close: the two that are ahead are trained from all, and the median decides.
result& winner_of(laboratory& lab, std::vector<result>& all, std::optional<double> rate = std::nullopt) {
  std::vector<result*> ahead;
  for (result& r : all) {
    if (!rate || r.what.timeline.lr.peak == *rate) { ahead.push_back(&r); }
  }
  const auto by = [](auto loss) { return [=](const result* a, const result* b) { return loss(*a) < loss(*b); }; };
  std::sort(ahead.begin(), ahead.end(), by([](const result& r) { return r.seeds.front().final_loss(); }));
  if (ahead.size() > 2) { ahead.resize(2); }
  for (result* const r : ahead) {
    while (seeds_of(*r) < lab.given().seeds) { r->seeds.push_back(lab.run(r->what, seeds_of(*r) + 1)); }
  }
  return **std::min_element(ahead.begin(), ahead.end(), by([](const result& r) { return r.middle_loss(); }));
}

findings research(laboratory& lab) {
  const settings& s = lab.given();
  const target& t = s.goal;
  findings f;
  const auto add = [&](const std::vector<arm>& arms) {
    for (const arm& a : arms) { f.all.push_back(lab.first(a)); }
  };

  // Sizes and what they cost, before anything is trained.
  std::vector<msg::named_sizes> sizes{t.sizes};
  const double any = t.rates.front();
  note_sizes(study::published_of(t, any), sizes);
  if (s.dimensions) { note_sizes(study::dimensions_of(t, any), sizes); }
  std::vector<msg::named_sizes> smaller{with_layers(t, std::max<index>(1, msg::size_of(t.sizes, "layers") / 2)),
                                        narrowed(t)}; // of the controls
  for (const short_run& r : short_runs_of(t)) {
    for (const study::stretch& part : r.stretches) {
      if (part.sizes != t.sizes) { note(part.sizes, smaller); }
    }
  }
  for (const msg::named_sizes& one : smaller) { note(one, sizes); }
  lab.time(sizes);
  const study::step_cost cost = [&](const msg::named_sizes& of) { return lab.planned_milliseconds(of); };

  fmt::print("from scratch\n");
  add(study::sweep_of(t));
  const double rate = winner_of(lab, f.all).what.timeline.lr.peak;
  add(study::shapes_of(t, rate));
  f.baseline = static_cast<std::size_t>(&winner_of(lab, f.all, rate) - f.all.data());
  f.targets = f.from_scratch().losses();

  if (s.dimensions) {
    fmt::print("one dimension at a time\n");
    add(study::dimensions_of(t, rate));
    more_seeds(lab, f);
    return f;
  }
  fmt::print("short schedules, rates\n");
  const double whole = cost(t.sizes) * static_cast<double>(t.steps);
  const auto short_arm = [&](const short_run& r, double peak) {
    return study::timed_arm(t, peak, r.name, r.rule, r.part * whole, r.stretches, cost);
  };
  std::vector<result> swept; // what grows has its own best rate, as what doesn't has
  for (const double peak : t.rates) {
    arm a = short_arm(short_runs_of(t).front(), peak);
    a.name += ", rate " + study::rate_text(peak);
    a.group = study::short_sweep_group;
    a.one_seed = true;
    swept.push_back({a, {lab.run(a, 1)}, {}});
  }
  const double best_rate = winner_of(lab, swept).what.timeline.lr.peak;
  f.all.insert(f.all.end(), swept.begin(), swept.end());
  fmt::print("smaller models alone\n");
  std::vector<double> control_rates{rate};
  if (best_rate != rate) { control_rates.push_back(best_rate); }
  for (const double peak : control_rates) {
    for (const arm& a : study::controls_of(t, peak, smaller, cost)) {
      f.all.push_back(lab.first(a));
      const result& r = f.all.back();
      if (!r.seeds.empty() && r.seeds.front().final_loss() < f.targets.front()) { f.too_good.push_back(a.name); }
    }
  }
  fmt::print("published schedules\n");
  add(study::published_of(t, rate));
  fmt::print("short schedules\n");
  for (const short_run& r : short_runs_of(t)) { add({short_arm(r, best_rate)}); }
  more_seeds(lab, f);
  return f;
}

int study_of(int argc, char** argv) {
  const study::arguments given(
      argc, argv, {"--csv", "--arch", "--data", "--other", "--seeds", "--steps", "--runs", "--only", "--first-weights"},
      {"--dimensions", "--time-again"});
  const std::string arch = given.text("--arch", "gpt");
  if (arch != "gpt" && arch != "bert") { throw std::invalid_argument("--arch takes gpt or bert"); }
  const std::string csv = given.text("--csv");
  const std::string deviation = given.text("--first-weights");
  const double first_weights = std::strtod(deviation.c_str(), nullptr);
  if (!deviation.empty() && !(first_weights > 0)) {
    throw std::invalid_argument("--first-weights takes a number above 0");
  }
  settings s{.goal = target_of(arch, given.smoke, first_weights),
             .data = given.text("--data", MSG_DEFAULT_DATA),
             .other = given.text("--other"),
             .only = given.text("--only"),
             .seeds = given.number("--seeds", given.smoke ? 1 : 3),
             .runs = given.text("--runs", csv.empty() ? "runs/speedup" : csv.substr(0, csv.rfind('.')) + "-runs"),
             .dimensions = given.flag("--dimensions"),
             .time_again = given.flag("--time-again"),
             .smoke = given.smoke};
  s.goal.steps = given.number("--steps", s.goal.steps);
  reference::take_stop_signals_apart();
  reference::install_stop_signals();
  laboratory lab(s);
  findings f;
  try {
    f = research(lab);
  } catch (const stopped& stop) {
    fmt::print("{}\n", stop.what());
    return 0;
  }
  for (result& r : f.all) {
    for (const outcome& o : r.seeds) {
      if (!s.other.empty()) { r.other.push_back(lab.examine(o)); }
    }
  }
  fmt::print("\n");
  print(lab, f);
  write_csv(lab, f, csv);
  if (!csv.empty()) { draw(lab, f, study::figure_path(csv)); }
  write_reports(f, s);
  return 0;
}

} // namespace

int main(int argc, char** argv) {
  return study::run("speedup", [&] { return study_of(argc, argv); });
}
