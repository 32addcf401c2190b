// How training goes on after a growth, operator by operator: does it matter that the function is kept?
//
// A byte-level GPT-2 is trained on real text, grown to L4 C64 F256 H4 (217 k parameters), and trained on: same data in
// the same order, constant learning rate, several seeds. It starts narrow (C32 F128 H2), shallow (L2), or both, and
// every operator that can make the growth makes it; those that make the same model share a row. The optimizer's moments
// and ages are carried; for growths in all dimensions there are also rows with fresh entries under the old step counter
// ("stale") and with an optimizer that starts anew ("reset"). Controls: the start model not grown, the final model from
// scratch on as many tokens. Losses are those of held-out text.
//
// usage: dynamics [--csv FILE] [--smoke] [--seeds 3] [--before 1000] [--after 1000] [--ramp 50] [--beta2 0.95] [--data
// PATH]
#include "figure.hpp"
#include "study.hpp"

#include "transformer/data.hpp"
#include "transformer/data_load.hpp"

#include <msg/grow.hpp>
#include <msg/presets.hpp>

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdint>
#include <exception>
#include <functional>
#include <limits>
#include <map>
#include <mutex>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <thread>
#include <tuple>
#include <utility>
#include <vector>

#include <time.h>

namespace {

using msg::index;
using msg::strictness;
using reference::config;
using study::optimizer_state;
using model = study::learner<float>;

constexpr index batch = 8;
constexpr index tokens = 64;
constexpr index windows = 64; // of held-out text
constexpr double peak_rate = 2e-3;
constexpr index warmup = 50;

constexpr config final_sizes{
    .vocab = 256, .positions = tokens, .hidden = 64, .ffn = 256, .heads = 4, .head_dim = 16, .layers = 4};

struct start {
  std::string name;
  std::vector<std::string> axes; // that are half of what they will be

  [[nodiscard]] config sizes() const {
    config c = final_sizes;
    for (const auto& [axis, size] : reference::grown_axes) {
      if (std::find(axes.begin(), axes.end(), axis) != axes.end()) { c.*size /= 2; }
    }
    return c;
  }
};
const std::vector<start> starts{
    {"narrow", {"hidden", "ffn", "heads"}}, {"shallow", {"layers"}}, {"both", {"hidden", "ffn", "heads", "layers"}}};

struct settings {
  index seeds, before, after, ramp;
  msg::adamw adamw; // its defaults, but for beta2 if it is given
};

/// A way to go on after `before` steps.
struct branch {
  std::string name;
  std::optional<msg::rule> rule{}; // none: not grown
  index ramp = 0;
  optimizer_state optimizer = optimizer_state::kept;
};

/// One run of one branch.
struct run {
  double before = 0;                              // loss just before the growth
  std::vector<std::pair<index, double>> losses{}; // by steps after it
  double seconds = 0;                             // of training, all of it
  strictness promised = strictness::exact;
  std::string broken{}; // what the verifier found where the plan promised to keep the function

  [[nodiscard]] double at(index step) const {
    const auto found = std::find_if(losses.begin(), losses.end(), [&](const auto& p) { return p.first == step; });
    return found == losses.end() ? std::numeric_limits<double>::quiet_NaN() : found->second;
  }
  [[nodiscard]] double highest() const {
    double most = losses.front().second;
    for (const auto& [step, loss] : losses) { most = std::max(most, loss); }
    return most;
  }
  /// Steps until the loss is again what it was (to rounding); -1: never.
  [[nodiscard]] index back() const {
    for (const auto& [step, loss] : losses) {
      if (loss <= before * (1 + 1e-6)) { return step; }
    }
    return -1;
  }
};

/// Time this thread has computed: each run has one, and what else the machine does is not counted.
double seconds_now() {
  timespec now{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

/// A model with its place in the data.
struct student {
  model net;
  reference::data_position place{};
  double seconds = 0;
};

class school {
public:
  school(const reference::training_data& data, const msg::adamw& adamw) : data_(data), adamw_(adamw) {}

  void train(student& s, index steps, std::uint64_t seed) const {
    reference::token_batch next = reference::make_batch(data_, batch);
    for (index i = 0; i < steps; ++i) {
      s.place = reference::train_batch(data_, seed, s.place, next);
      const double begin = seconds_now();
      const double rate = peak_rate * std::min(1.0, static_cast<double>(s.net.step + 1) / warmup);
      s.net.train({.tokens = next.tokens, .targets = next.targets}, rate, adamw_);
      s.seconds += seconds_now() - begin;
    }
  }
  /// Loss of held-out text.
  [[nodiscard]] double examine(student& s) const {
    reference::token_batch next = reference::make_batch(data_, batch);
    double sum = 0;
    for (index first = 0; first < data_.validation_windows; first += batch) {
      const index count = reference::validation_batch(data_, first, next);
      sum += static_cast<double>(count) * s.net.loss({.tokens = next.tokens, .targets = next.targets});
    }
    return sum / static_cast<double>(data_.validation_windows);
  }
  /// Grows, and has the library check what the plan promised on the next batch.
  void grow(student& s, const msg::plan& plan, const branch& how, std::uint64_t seed, run& result) const {
    reference::token_batch next = reference::make_batch(data_, batch);
    (void)reference::train_batch(data_, seed, s.place, next);
    const reference::model_input input{.tokens = next.tokens, .targets = next.targets};
    const msg::verifier check{plan, s.net.evaluated(input)};
    const double begin = seconds_now();
    s.net.grow(plan, msg::linear_ramp{how.ramp}, how.optimizer);
    s.seconds += seconds_now() - begin;
    result.promised = how.ramp == 0 && masked(plan) ? strictness::none : plan.keeps();
    const msg::verification found = check.against(s.net.evaluated(input));
    if (result.promised != strictness::none && kept(found) == strictness::none) { result.broken = to_string(found); }
  }
  [[nodiscard]] static bool masked(const msg::plan& plan) {
    const std::vector<msg::axis_contract> contracts = plan.contract();
    return std::any_of(contracts.begin(), contracts.end(), [](const auto& c) { return c.masked(); });
  }

private:
  const reference::training_data& data_;
  msg::adamw adamw_;
};

/// Runs task(i) for i in [0, count), one at a time on each core, each on one thread.
void in_parallel(std::size_t count, const std::function<void(std::size_t)>& task) {
  std::atomic<std::size_t> next{0};
  std::exception_ptr thrown;
  std::mutex guard;
  std::vector<std::thread> threads;
  for (unsigned t = 0; t < std::max(1U, std::thread::hardware_concurrency()); ++t) {
    threads.emplace_back([&] {
      reference::set_threads(1);
      try {
        for (std::size_t i = next++; i < count; i = next++) { task(i); }
      } catch (...) {
        const std::scoped_lock lock(guard);
        thrown = std::current_exception();
      }
    });
  }
  for (std::thread& thread : threads) { thread.join(); }
  if (thrown) { std::rethrow_exception(thrown); }
}

msg::plan plan_of(const start& from, const msg::rule& rule, std::uint64_t seed) {
  const msg::schema now = reference::schema_of(from.sizes());
  std::vector<msg::request> requests;
  for (const std::string& axis : from.axes) {
    requests.push_back(now.axis_at(axis).grow_to(2 * now.axis_at(axis).size));
  }
  return msg::plan{now, requests, rule, {.seed = seed}};
}

/// Two growths with the same fingerprint make the same model and train it the same way.
std::uint64_t fingerprint(const student& before, const msg::plan& plan) {
  student copy = before;
  copy.net.grow(plan, msg::linear_ramp{10});
  std::uint64_t hash = 0xCBF29CE484222325;
  const auto add = [&](double value) {
    hash = (hash ^ static_cast<std::uint64_t>(std::hash<double>{}(value))) * 0x100000001B3;
  };
  for (const auto* set : {&copy.net.state.values, &copy.net.state.moment1, &copy.net.state.moment2}) {
    for (const auto& t : *set) {
      for (const float value : t.data) { add(static_cast<double>(value)); }
    }
  }
  for (const auto& [axis, births] : copy.net.state.growth.births()) {
    for (const index birth : births) { add(static_cast<double>(birth)); }
    for (const float value : copy.net.state.growth.mask(axis, copy.net.step)) { add(static_cast<double>(value)); }
  }
  add(copy.net.state.sizes.norm_eps);
  return hash;
}

/// Every operator that can make the growth, those that do the same under one name; then the controls.
std::vector<branch> branches_of(const start& from, const student& before, const settings& s) {
  std::vector<branch> result;
  std::map<std::uint64_t, std::size_t> known;
  const msg::schema now = reference::schema_of(from.sizes());
  const auto add = [&](const std::string& name, const msg::rule& rule) {
    std::vector<msg::request> requests;
    for (const std::string& axis : from.axes) {
      requests.push_back(now.axis_at(axis).grow_to(2 * now.axis_at(axis).size));
    }
    if (!msg::diagnose(now, requests, rule).empty()) { return; }
    const auto [at, is_new] = known.emplace(fingerprint(before, plan_of(from, rule, 1)), result.size());
    if (is_new) {
      result.push_back({.name = name, .rule = rule, .ramp = s.ramp});
    } else {
      result[at->second].name += ", " + name;
    }
  };
  for (const msg::named_rule& one : msg::named_rules) { add(std::string{one.name}, one.make()); }
  add("mask of copies", msg::mask{.width = msg::mask::start::copy});
  if (from.axes.size() > 3) { // in all dimensions
    const std::vector<branch> kept = result;
    for (const branch& b : kept) {
      result.push_back({b.name, b.rule, b.ramp, optimizer_state::stale});
      result.push_back({b.name, b.rule, b.ramp, optimizer_state::reset});
    }
  }
  result.push_back({.name = "mask, no ramp", .rule = msg::mask{}, .ramp = 0});
  result.push_back({.name = "(not grown)"});
  return result;
}

const char* text_of(optimizer_state what) {
  return what == optimizer_state::kept ? "kept" : what == optimizer_state::stale ? "stale" : "reset";
}

/// Steps after the growth at which held-out text is looked at.
std::vector<index> looks(index after) {
  std::vector<index> steps;
  for (const index step : {0, 1, 2, 5, 10, 20, 35, 50, 75, 100, 150, 200, 250, 300}) {
    if (step < after) { steps.push_back(step); }
  }
  for (index step = 400; step < after; step += 100) { steps.push_back(step); }
  steps.push_back(after);
  return steps;
}

run follow(const school& teacher, student s, const branch& how, const start& from, const settings& o,
           std::uint64_t seed) {
  run result{.before = teacher.examine(s)};
  if (how.rule) { teacher.grow(s, plan_of(from, *how.rule, seed), how, seed, result); }
  index done = 0;
  for (const index step : looks(o.after)) {
    teacher.train(s, step - done, seed);
    done = step;
    result.losses.emplace_back(step, teacher.examine(s));
  }
  result.seconds = s.seconds;
  return result;
}

/// All seeds of one row of the table.
struct row {
  std::string start;
  branch how;
  std::vector<run> runs;

  template <class Value>
  [[nodiscard]] double mean(const Value& value) const {
    double sum = 0;
    for (const run& r : runs) { sum += static_cast<double>(value(r)); }
    return sum / static_cast<double>(runs.size());
  }
  /// Largest distance of a seed's final loss from their mean.
  [[nodiscard]] double spread(index after) const {
    const double middle = mean([&](const run& r) { return r.at(after); });
    double most = 0;
    for (const run& r : runs) { most = std::max(most, std::abs(r.at(after) - middle)); }
    return most;
  }
};

/// The losses that the table shows: now, after a hundredth, a tenth and all of the steps.
std::vector<index> marks(index after) {
  std::vector<index> steps{0, 10, 100};
  while (steps.back() >= after) { steps.pop_back(); }
  steps.push_back(after);
  return steps;
}

/// The best first, controls last.
void sort(std::vector<row>& rows, index after) {
  const auto order = [&](const row& r) {
    const auto from = std::find_if(starts.begin(), starts.end(), [&](const start& s) { return s.name == r.start; });
    const bool control = r.how.name.front() == '(';
    return std::tuple{from - starts.begin(), control, r.mean([&](const run& x) { return x.at(after); })};
  };
  std::stable_sort(rows.begin(), rows.end(), [&](const row& a, const row& b) { return order(a) < order(b); });
}

void print(const std::vector<row>& rows, const settings& o) {
  for (const start& from : starts) {
    fmt::print("from {}\n", from.name);
    std::vector<std::string> columns{"optimizer", "before"};
    for (const index step : marks(o.after)) { columns.push_back("+" + std::to_string(step)); }
    for (const char* name : {"+-seeds", "highest", "back after", "seconds", "operator"}) { columns.emplace_back(name); }
    study::table shown(columns);
    for (const row& r : rows) {
      if (r.start != from.name) { continue; }
      std::vector<std::string> cells{r.how.rule ? text_of(r.how.optimizer) : "",
                                     fmt::format("{:.4f}", r.mean([](const run& x) { return x.before; }))};
      for (const index step : marks(o.after)) {
        cells.push_back(fmt::format("{:.4f}", r.mean([&](const run& x) { return x.at(step); })));
      }
      cells.push_back(fmt::format("{:.4f}", r.spread(o.after)));
      cells.push_back(fmt::format("{:.4f}", r.mean([](const run& x) { return x.highest(); })));
      const auto never = std::count_if(r.runs.begin(), r.runs.end(), [](const run& x) { return x.back() < 0; });
      cells.push_back(never > 0 ? "never" : fmt::format("{:.0f}", r.mean([](const run& x) { return x.back(); })));
      cells.push_back(fmt::format("{:.1f}", r.mean([](const run& x) { return x.seconds; })));
      cells.push_back(r.how.name);
      shown.add(cells);
    }
    shown.print();
    fmt::print("\n");
  }
}

void write_csv(const std::vector<row>& rows, const settings& o, const std::string& path) {
  std::vector<std::string> columns{"start", "operator", "optimizer", "seed", "promised", "before"};
  for (const index step : looks(o.after)) { columns.push_back("loss_" + std::to_string(step)); }
  for (const char* name : {"highest", "back_after", "seconds"}) { columns.emplace_back(name); }
  study::table all(columns);
  for (const row& r : rows) {
    for (std::size_t seed = 0; seed < r.runs.size(); ++seed) {
      const run& x = r.runs[seed];
      std::vector<std::string> cells{r.start,
                                     r.how.name,
                                     text_of(r.how.optimizer),
                                     std::to_string(seed + 1),
                                     to_string(x.promised),
                                     fmt::format("{:.6f}", x.before)};
      for (const auto& [step, loss] : x.losses) { cells.push_back(fmt::format("{:.6f}", loss)); }
      cells.push_back(fmt::format("{:.6f}", x.highest()));
      cells.push_back(std::to_string(x.back()));
      cells.push_back(fmt::format("{:.2f}", x.seconds));
      all.add(cells);
    }
  }
  all.write_csv(path);
}

/// A panel per start: mean loss of the seeds by steps after the growth, and the range of the seeds.
void draw(const std::vector<row>& rows, const settings& o, const std::string& path) {
  constexpr double left = 70, width = 560, height = 300, key = 420;
  study::figure page(left + width + key, 60 + 3 * (height + 80),
                     "Loss of held-out text after a growth (mean of the seeds; shaded: their range)");
  for (std::size_t panel = 0; panel < starts.size(); ++panel) {
    const double top = 70 + static_cast<double>(panel) * (height + 80);
    std::vector<const row*> lines;
    double low = std::numeric_limits<double>::infinity();
    double high = 0;
    for (const row& r : rows) {
      if (r.start != starts[panel].name || r.how.optimizer != optimizer_state::kept) { continue; }
      lines.push_back(&r);
      for (const index step : looks(o.after)) {
        const double loss = r.mean([&](const run& x) { return x.at(step); });
        low = std::min(low, loss);
        high = std::max(high, loss);
      }
    }
    const double before = lines.front()->mean([](const run& x) { return x.before; });
    high = std::min(high, before + 2.5 * (before - low)); // what jumps higher leaves the page
    const study::number_line x{.low = 1,
                               .high = static_cast<double>(o.after),
                               .begin = left + 30,
                               .end = left + width,
                               .logarithmic = true,
                               .gap = 24};
    const double pad = 0.05 * (high - low);
    const study::number_line y{.low = low - pad, .high = high + pad, .begin = top + height, .end = top};
    page.y_axis(y, left, left + width, "from " + starts[panel].name + ": loss, nats per byte");
    page.x_axis(x, top, top + height, "steps after the growth");
    page.text(x.at(0), top + height + 16, "0", "text-anchor:middle");
    page.line(left, y.at(before), left + width, y.at(before), "stroke:#444;stroke-dasharray:4 3");
    for (std::size_t l = 0; l < lines.size(); ++l) {
      const std::string colour = fmt::format("stroke:{};stroke-width:1.6{}", study::palette[l % study::palette.size()],
                                             l < study::palette.size() ? "" : ";stroke-dasharray:5 3");
      std::vector<std::pair<double, double>> middle, range;
      for (const index step : looks(o.after)) {
        double least = std::numeric_limits<double>::infinity();
        double most = 0;
        for (const run& r : lines[l]->runs) {
          least = std::min(least, r.at(step));
          most = std::max(most, r.at(step));
        }
        const double at = x.at(static_cast<double>(step));
        middle.emplace_back(at, y.at(lines[l]->mean([&](const run& r) { return r.at(step); })));
        range.emplace_back(at, y.at(most));
        range.insert(range.begin(), {at, y.at(least)});
      }
      page.area(range, fmt::format("fill:{};fill-opacity:.1", study::palette[l % study::palette.size()]));
      page.curve(middle, colour);
      const double row_y = top + 12 + 18 * static_cast<double>(l);
      page.line(left + width + 14, row_y, left + width + 36, row_y, colour);
      std::string name = lines[l]->how.name;
      if (name.size() > 58) { name = name.substr(0, 56) + " ..."; }
      page.text(left + width + 42, row_y + 4, name, "font-size:11px");
    }
  }
  page.write(path);
}

int study_of(int argc, char** argv) {
  const study::arguments given(argc, argv, {"--csv", "--seeds", "--before", "--after", "--ramp", "--beta2", "--data"});
  const settings o{.seeds = given.number("--seeds", given.smoke ? 1 : 3),
                   .before = given.number("--before", given.smoke ? 12 : 1000),
                   .after = given.number("--after", given.smoke ? 12 : 1000),
                   .ramp = given.number("--ramp", given.smoke ? 4 : 50),
                   .adamw = {.beta2 = std::atof(given.text("--beta2", "0.95").c_str()), .weight_decay = 0.1}};
  const reference::training_data data =
      reference::load_data(given.text("--data", MSG_DEFAULT_DATA),
                           {.seq = tokens, .validation_tokens = (given.smoke ? 8 : windows) * tokens});
  const school teacher(data, o.adamw);
  fmt::print(
      "{}\n{} steps of {} tokens, then {} more; {} seeds; mask ramps of {} steps; AdamW beta2 {}\n"
      "+N: loss N steps after the growth, mean of the seeds; +-seeds: largest distance of a seed from the mean at the\n"
      "end; back after: steps until the loss is what it was before; seconds: of one core, training before and "
      "after\n\n",
      data.description, o.before, batch * tokens, o.after, o.seeds, o.ramp, o.adamw.beta2);

  // Every start and the final model, by seed, once.
  const std::size_t seeds = static_cast<std::size_t>(o.seeds);
  std::vector<std::optional<student>> trained((starts.size() + 1) * seeds);
  in_parallel(trained.size(), [&](std::size_t i) {
    const std::size_t which = i / seeds;
    const std::uint64_t seed = 1 + i % seeds;
    student s{.net = model(which < starts.size() ? starts[which].sizes() : final_sizes, batch, tokens, seed)};
    teacher.train(s, o.before, seed);
    trained[i].emplace(std::move(s));
  });
  std::vector<row> rows;
  for (std::size_t from = 0; from < starts.size(); ++from) {
    std::vector<branch> all = branches_of(starts[from], *trained[from * seeds], o);
    all.push_back({.name = "(final model from scratch)"});
    for (branch& how : all) { rows.push_back({starts[from].name, std::move(how), std::vector<run>(seeds)}); }
  }
  in_parallel(rows.size() * seeds, [&](std::size_t i) {
    row& r = rows[i / seeds];
    const std::size_t seed = i % seeds;
    const auto from = std::find_if(starts.begin(), starts.end(), [&](const start& s) { return s.name == r.start; });
    const bool scratch = r.how.name == "(final model from scratch)";
    const auto which = scratch ? starts.size() : static_cast<std::size_t>(from - starts.begin());
    r.runs[seed] = follow(teacher, *trained[which * seeds + seed], r.how, *from, o, 1 + seed);
  });

  sort(rows, o.after);
  print(rows, o);
  const std::string csv = given.text("--csv");
  write_csv(rows, o, csv);
  if (!csv.empty()) { draw(rows, o, study::figure_path(csv)); }
  std::size_t broken = 0;
  for (const row& r : rows) {
    for (const run& x : r.runs) {
      const bool finite =
          std::all_of(x.losses.begin(), x.losses.end(), [](const auto& p) { return std::isfinite(p.second); });
      if (x.broken.empty() && finite) { continue; }
      ++broken;
      fmt::print("NOT AS PROMISED: from {} by {}: {}\n", r.start, r.how.name,
                 finite ? x.broken : "a loss is not finite");
    }
  }
  return broken == 0 ? 0 : 1;
}

} // namespace

int main(int argc, char** argv) {
  return study::run("dynamics", [&] { return study_of(argc, argv); });
}
