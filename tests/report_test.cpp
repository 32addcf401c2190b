// report.html and the records it is made of: every number and label there, nothing foreign, whatever the records lack.
#include "support/catch.hpp"
#include "support/files_support.hpp"

#include "transformer/metrics.hpp"
#include "transformer/report.hpp"

#include <algorithm>
#include <cctype>
#include <cmath>
#include <limits>
#include <string>
#include <string_view>
#include <vector>

using namespace reference;
using namespace files_test;

namespace {

constexpr double infinity = std::numeric_limits<double>::infinity();

// A run of `steps` log steps that grows ffn at step 40 and heads and layers at step 70.
[[nodiscard]] run_records make_run(int steps, bool grows = true, bool ends = true) {
  run_records run;
  for (int i = 0; i <= steps; ++i) {
    const bool first = grows && i > 40;
    const bool second = grows && i > 70;
    step_record r{.step = i, .tokens = 1000 * i, .flops = 1e9 * i, .seconds = 0.5 * i, .loss = 5.0 / (1 + 0.01 * i)};
    if (i % 10 == 0) { r.val_loss = r.loss + 0.125; }
    r.lr = 1e-3;
    r.tokens_per_second = 2000;
    r.parameters = first ? 90000 : 70000;
    r.dims = {{"hidden", 64},
              {"ffn", first ? 512 : 128},
              {"heads", second ? 4 : 2},
              {"head_dim", 32},
              {"layers", second ? 6 : 3}};
    if (first && i <= 50) { r.masks = {{"ffn", (i - 40) / 10.0}}; }
    run.steps.push_back(r);
  }
  if (grows) {
    run.growths = {{40, 0, "ffn", 128, 512, "mask", 3.5714, 3.5714, 0, true},
                   {70, 1, "heads", 2, 4, "mask", 2.9411, 2.9412, 1.5e-6, false},
                   {70, 1, "layers", 3, 6, "stack", 2.9411, 2.9412, 1.5e-6, false}};
  }
  if (ends) { run.end = end_record{steps, 1.6543, 0.5 * steps + 1, 1e9 * steps, 1000 * steps, 90000}; }
  return run;
}

[[nodiscard]] std::size_t count_of(std::string_view text, std::string_view part) {
  std::size_t count = 0;
  for (std::size_t at = text.find(part); at != std::string_view::npos; at = text.find(part, at + part.size())) {
    ++count;
  }
  return count;
}
[[nodiscard]] bool has(std::string_view text, std::string_view part) { return count_of(text, part) > 0; }

// The first tag that closes no open element, or an element left open; nothing for well-formed HTML. Scripts and style
// sheets are text up to their end tag.
[[nodiscard]] std::string unbalanced(const std::string& page) {
  std::vector<std::string> open;
  for (std::size_t at = page.find('<'); at != std::string::npos; at = page.find('<', at + 1)) {
    const bool closes = page[at + 1] == '/';
    std::size_t end = at + 1 + (closes ? 1 : 0);
    std::string name;
    while (std::isalnum(static_cast<unsigned char>(page[end])) != 0) { name += page[end++]; }
    if (name.empty()) {
      if (page.compare(at, 9, "<!DOCTYPE") != 0) { return "a bare < at: " + page.substr(at, 40); }
      continue;
    }
    const std::size_t close = page.find('>', end);
    if (name == "meta" || name == "input" || name == "br" || page[close - 1] == '/') { continue; }
    if (closes) {
      if (open.empty() || open.back() != name) { return "unexpected </" + name + ">"; }
      open.pop_back();
    } else {
      open.push_back(name);
      if (name == "script" || name == "style") { at = page.find("</" + name, close) - 1; }
    }
  }
  return open.empty() ? "" : "left open: " + open.back();
}

// A number that is none, as a word of the page.
[[nodiscard]] bool shows_no_number(const std::string& page) {
  std::string word;
  for (const char c : page) {
    if (std::isalpha(static_cast<unsigned char>(c)) != 0) {
      word += static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
      continue;
    }
    if (word == "nan" || word == "inf" || word == "infinity") { return true; }
    word.clear();
  }
  return false;
}
[[nodiscard]] std::string page_of(const run_records& run) { return report_page({.title = "t", .run = run}); }

} // namespace

TEST_CASE("records survive the way through a metrics file", "[report]") {
  const temporary_folder folder;
  const run_records run = make_run(80);
  {
    metrics_writer writer(folder / "metrics.jsonl");
    for (const step_record& r : run.steps) { writer.write(to_json(r)); }
    for (const growth_record& r : run.growths) { writer.write(to_json(r)); }
    writer.write(to_json(*run.end));
  }
  const run_records read = parse_records(read_metrics(folder / "metrics.jsonl"));
  REQUIRE(read.steps.size() == run.steps.size());
  for (std::size_t i = 0; i < run.steps.size(); ++i) {
    const step_record& a = run.steps[i];
    const step_record& b = read.steps[i];
    CHECK(a.step == b.step);
    CHECK(a.tokens == b.tokens);
    CHECK(a.flops == b.flops);
    CHECK(a.seconds == b.seconds);
    CHECK(a.loss == b.loss);
    CHECK(a.val_loss == b.val_loss);
    CHECK(a.lr == b.lr);
    CHECK(a.tokens_per_second == b.tokens_per_second);
    CHECK(a.parameters == b.parameters);
    CHECK(b.dims.front().first == "hidden"); // the order to show, whatever the order in the file
    CHECK(b.masks == a.masks);
  }
  REQUIRE(read.growths.size() == 3);
  for (std::size_t i = 0; i < 3; ++i) { CHECK(to_json(read.growths[i]) == to_json(run.growths[i])); }
  REQUIRE(read.end);
  CHECK(to_json(*read.end) == to_json(*run.end));
}

TEST_CASE("the keys of the metrics are those that other programs rely on", "[report]") {
  const auto keys = [](const nlohmann::json& object) {
    std::vector<std::string> names;
    for (const auto& [name, value] : object.items()) { names.push_back(name); }
    return names;
  };
  CHECK(keys(to_json(step_record{})) == std::vector<std::string>{"dims", "event", "flops", "loss", "lr", "masks",
                                                                 "parameters", "seconds", "step", "tokens",
                                                                 "tokens_per_second", "val_loss"});
  CHECK(keys(to_json(growth_record{})) ==
        std::vector<std::string>{"axis", "bits_equal", "event", "from", "group", "limit", "loss_after", "loss_before",
                                 "max_abs_logit_diff", "promised", "rule", "seen", "step", "to", "trigger", "why"});
  CHECK(keys(to_json(end_record{})) ==
        std::vector<std::string>{"event", "flops", "parameters", "seconds", "step", "tokens", "val_loss"});
  CHECK(to_json(step_record{})["event"] == "step");
  CHECK(to_json(growth_record{})["event"] == "growth");
  CHECK(to_json(end_record{})["event"] == "end");
  CHECK(to_json(step_record{})["val_loss"].is_null());
  CHECK(to_json(step_record{}).dump().find("\"loss\":null") != std::string::npos);
}

TEST_CASE("records that lack fields, or hold other types in them, still make a page", "[report]") {
  const std::vector<nlohmann::json> odd{
      nullptr,
      3,
      "text",
      nlohmann::json::array({1}),
      nlohmann::json::object(),
      {{"event", 7}},
      {{"event", "later"}},
      {{"event", "step"}},
      {{"event", "step"}, {"step", "7"}, {"loss", nullptr}, {"dims", {1, 2}}, {"masks", 1}, {"seconds", "x"}},
      {{"event", "step"},
       {"step", 8},
       {"loss", 2.5},
       {"dims", {{"ffn", "wide"}, {"new_axis", 3}}},
       {"masks", {{"ffn", nullptr}}}},
      {{"event", "step"}, {"step", 1e300}, {"tokens", -1e300}},
      {{"event", "growth"}},
      {{"event", "growth"}, {"step", 3}, {"axis", 4}, {"bits_equal", "yes"}},
      {{"event", "end"}}};
  const run_records run = parse_records(odd);
  CHECK(run.steps.size() == 4);
  CHECK(run.growths.size() == 2);
  CHECK_FALSE(run.growths[1].bits_equal);
  CHECK(run.steps[2].dims == named_sizes{{"new_axis", 3}});
  const std::string page = page_of(run);
  CHECK(unbalanced(page) == "");
  CHECK_FALSE(shows_no_number(page));
}

TEST_CASE("what a run comes to is told from its records, and from its end if there is one", "[report]") {
  const run_summary whole = summarise(make_run(100));
  CHECK(whole.finished);
  CHECK(whole.first_val_loss == 5.125);
  CHECK(whole.last_val_loss == 1.6543);
  CHECK(whole.steps == 100);
  CHECK(whole.tokens == 100000);
  CHECK(whole.seconds == 51);
  CHECK(whole.first_parameters == 70000);
  CHECK(whole.parameters == 90000);
  CHECK(whole.growths == 2); // heads and layers grew together
  CHECK(whole.largest_difference == Approx(1e-4).epsilon(1e-9));
  CHECK_FALSE(whole.bits_equal);
  const run_summary broken_off = summarise(make_run(95, true, false));
  CHECK_FALSE(broken_off.finished);
  CHECK(broken_off.last_val_loss == 5.0 / 1.9 + 0.125); // of step 90
  CHECK(broken_off.seconds == 47.5);
  const run_summary none = summarise({});
  CHECK(std::isnan(none.last_val_loss));
  CHECK(none.growths == 0);
}

TEST_CASE("a growth whose losses are missing is not taken for one that kept the loss", "[report]") {
  run_records run = make_run(100);
  CHECK(growth_verdict(summarise(run)) == "the largest change of the loss at a growth was 1.0e-04");
  run.growths[1].loss_after = missing;
  CHECK(growth_verdict(summarise(run)) == "the loss was not finite at a growth");
  for (growth_record& g : run.growths) { g.loss_after = g.loss_before; }
  CHECK(growth_verdict(summarise(run)) == "the loss never changed at a growth");
  for (growth_record& g : run.growths) { g.bits_equal = true; }
  CHECK(growth_verdict(summarise(run)) == "loss and logits kept their bits each time");
}

TEST_CASE("growths at one step in two groups are two growths", "[report]") {
  std::vector<growth_record> growths = make_run(100).growths;
  growths[2].group = 2;
  CHECK(growth_events(growths).size() == 3);
  run_records run;
  run.growths = growths;
  CHECK(summarise(run).growths == 3);
}

TEST_CASE("a stage begins at the step of its growth, not at the next log step", "[report]") {
  run_records run = make_run(100);
  // Logged every 30 steps only: 0, 30, 60, 90.
  std::vector<step_record> few;
  for (const step_record& r : run.steps) {
    if (r.step % 30 == 0) { few.push_back(r); }
  }
  run.steps = few;
  const std::vector<run_stage> stages = stages_of(run);
  REQUIRE(stages.size() == 3);
  CHECK(stages[0].first_step == 0);
  CHECK(stages[0].last_step == 40);
  CHECK(stages[1].first_step == 40);
  CHECK(stages[1].last_step == 70);
  CHECK(stages[2].first_step == 70);
  CHECK(stages[2].last_step == 90);
  CHECK(stages[2].tokens_per_second == 2000);
}

TEST_CASE("the page has the numbers of the run, its growths and its stages", "[report]") {
  const std::string page =
      report_page({.title = "A run", .run = make_run(100), .settings = {{"data", "some text"}, {"seed", "1"}}});
  CHECK(has(page, "<title>A run</title>"));
  CHECK(has(page, "from 5.1250 to <b>1.6543</b> in 0:51"));
  CHECK(has(page, fmt::format("{:.3f} bits per byte", 1.6543 / std::log(2.0))));
  CHECK(has(page, ">100k<"));    // tokens
  CHECK(has(page, "100 GFLOP")); // compute
  CHECK(has(page, "from 70.0k"));
  CHECK(has(page, "the largest change of the loss at a growth was 1.0e-04"));
  CHECK(has(page, "ffn 128 → 512"));
  CHECK(has(page, "heads 2 → 4<br>layers 3 → 6"));
  CHECK(has(page, "<td>3.5714</td><td>3.5714</td><td>0</td><td>0</td><td class=\"same\">✓ yes</td>"));
  CHECK(has(page, "<td>2.9411</td><td>2.9412</td><td>+1.0e-04</td><td>1.5e-06</td><td>no</td>"));
  CHECK(
      has(page, "<td class=\"l\">40–70</td><td>64</td><td class=\"new\">512</td><td>2</td><td>3</td><td>90,000</td>"));
  CHECK(has(page, "<dt>data</dt><dd>some text</dd>"));
  CHECK_FALSE(has(page, "head_dim")); // never changes
  CHECK(unbalanced(page) == "");
}

TEST_CASE("losses are drawn against time, compute and tokens, whole and zoomed, each with its own control",
          "[report]") {
  const std::string page = page_of(make_run(100));
  for (const std::string_view unit : {"seconds", "flops", "tokens"}) {
    CHECK(has(page, fmt::format("for=\"x-{}\"", unit)));
    CHECK(has(page, fmt::format("id=\"x-{}\"", unit)));
    CHECK(has(page, fmt::format("data-x=\"{}\"", unit)));
    for (const std::string_view range : {"whole", "end"}) {
      CHECK(has(page, fmt::format("<div class=\"panel {}-{}\">", unit, range)));
      CHECK(has(report_style, fmt::format("#x-{}:checked~#y-{}:checked~.{}-{}", unit, range, unit, range)));
    }
  }
  CHECK(count_of(page, " checked") == 2); // one axis and one range are shown without any script
  CHECK(has(page, "wall time of training"));
  CHECK(has(page, "compute (GFLOP)"));
  CHECK(has(page, "thousand training tokens"));
}

TEST_CASE("a second run is drawn and told beside the first", "[report]") {
  run_records other = make_run(60, false);
  other.end->val_loss = 1.75;
  const std::string page = report_page({.title = "t", .run = make_run(100), .other = other});
  CHECK(has(page, "with growth: validation"));
  CHECK(has(page, "without growth: validation"));
  CHECK(has(page, "(without growth) reached <b>1.7500</b> in 0:31, 0.0957 higher"));
  CHECK(count_of(page, "class=\"line val other\"") == 6);
  CHECK(has(page, "\"name\":\"without growth\""));
  CHECK_FALSE(has(page_of(make_run(100)), "without growth"));
  CHECK(unbalanced(page) == "");
}

TEST_CASE("a run without growth says so and has no table of growths", "[report]") {
  const std::string page = page_of(make_run(30, false));
  CHECK(has(page, "the model kept its size"));
  CHECK_FALSE(has(page, "<h2>Growths</h2>"));
  CHECK_FALSE(has(page, "class=\"badge\""));
}

TEST_CASE("what training decided, and the trials it took, have their places on the page", "[report]") {
  run_records run = make_run(100);
  CHECK_FALSE(has(page_of(run), "why then"));
  CHECK_FALSE(has(page_of(run), "<h2>Trials</h2>"));
  run.growths[0].trigger = "plateau";
  run.growths[0].why = "gain <of> the window";
  run.growths[0].seen = 0.004;
  run.growths[0].limit = 0.01;
  const trial_record stay{.step = 40, .stage = 0, .candidate = -1, .steps = 5, .loss_before = 3.5, .loss_after = 3.25};
  trial_record grown = stay;
  grown.candidate = 0;
  grown.grows = {{"ffn", 512}};
  grown.flops = 2e9;
  run.trials = {stay, grown};
  const std::string page = page_of(run);
  CHECK(count_of(page, "why then") == 1);
  CHECK(has(page, "gain &lt;of&gt; the window: 0.004, limit 0.01"));
  CHECK(has(page, "<h2>Trials</h2>"));
  CHECK(has(page, "as it is"));
  CHECK(has(page, ">ffn 512</td><td>5</td><td>3.5000</td><td>3.2500</td><td>1.25e-10</td>"));
  CHECK(unbalanced(page) == "");
  std::vector<json> lines;
  for (const trial_record& t : run.trials) { lines.push_back(to_json(t)); }
  for (const growth_record& g : run.growths) { lines.push_back(to_json(g)); }
  const run_records read = parse_records(lines);
  REQUIRE(read.trials.size() == 2);
  CHECK(to_json(read.trials[1]) == to_json(grown));
  CHECK(to_json(read.growths[0]) == to_json(run.growths[0]));
}

TEST_CASE("a run that was broken off says so", "[report]") {
  CHECK(has(page_of(make_run(30, true, false)), "30 steps, not finished"));
  CHECK_FALSE(has(page_of(make_run(30, true, true)), "not finished"));
}

TEST_CASE("text from outside can neither add elements nor end the script", "[report]") {
  const std::string evil = "</script><img src=x onerror=alert(1)>\"'&\x01";
  run_records run = make_run(50);
  for (growth_record& g : run.growths) { g.axis = g.rule = evil; }
  for (step_record& r : run.steps) {
    r.dims.emplace_back(evil, r.step);
    r.masks.emplace_back(evil, 0.5);
  }
  const std::string page = report_page(
      {.title = evil, .run = run, .name = evil, .other = make_run(20), .other_name = evil, .settings = {{evil, evil}}});
  CHECK_FALSE(has(page, "<img"));
  CHECK(count_of(page, "</script>") == 2);
  CHECK(has(page, "&lt;/script&gt;&lt;img src=x onerror=alert(1)&gt;&quot;&#39;&amp;"));
  CHECK(std::none_of(page.begin(), page.end(), [](char c) { return c == '\x01'; }));
  CHECK(unbalanced(page) == "");
}

TEST_CASE("bytes that are not UTF-8 do not stop the page", "[report]") {
  const std::string page = report_page({.title = "\xff\xfe", .run = make_run(5), .name = "\xc3", .other = make_run(5)});
  CHECK(unbalanced(page) == "");
}

TEST_CASE("the page loads nothing from anywhere", "[report]") {
  const std::string page =
      report_page({.title = "t", .run = make_run(100), .other = make_run(50, false), .settings = {{"seed", "1"}}});
  for (const std::string_view foreign : {"http:", "https:", "//", " src=", " href=", "@import", "url(", "<link",
                                         "fetch(", "XMLHttpRequest", "import("}) {
    CAPTURE(foreign);
    CHECK_FALSE(has(page, foreign));
  }
}

TEST_CASE("runs of no step and of one step make a page without numbers that are none", "[report]") {
  run_records one = make_run(0, false, false);
  run_records bare;
  bare.steps.push_back({.step = 1});
  run_records at_zero = make_run(3, false, false);
  for (step_record& r : at_zero.steps) { r.seconds = r.flops = 0; }
  for (const run_records& run : {run_records{}, one, bare, at_zero}) {
    const std::string page = page_of(run);
    CHECK(unbalanced(page) == "");
    CHECK_FALSE(shows_no_number(page));
  }
  CHECK(has(page_of({}), "not measured"));
}

TEST_CASE("losses that are not finite, zero or negative leave a page without numbers that are none", "[report]") {
  run_records run = make_run(40);
  run.steps[3].loss = infinity;
  run.steps[5].val_loss = missing;
  run.steps[7].seconds = missing;
  run.steps[9].flops = infinity;
  run.growths[0].loss_after = infinity;
  run.growths[0].max_abs_logit_diff = missing;
  const auto lowest = GENERATE(0.0, -3.0, 1e-300, 1e300);
  run.steps[11].loss = lowest;
  run.end->val_loss = missing;
  const std::string page = page_of(run);
  CHECK(unbalanced(page) == "");
  CHECK_FALSE(shows_no_number(page));
}

TEST_CASE("a hundred thousand steps make a page of less than a megabyte that keeps the spikes", "[report]") {
  run_records run = make_run(100000);
  run.steps[54321].loss = 400;
  const std::string page = page_of(run);
  CHECK(page.size() < 1000000);
  // The spike is the top of the loss axis: log ticks reach beyond 100.
  CHECK(has(page, ">100</span>"));
}

TEST_CASE("downsampling keeps the order, the ends of the range, and at most as many points as asked", "[report]") {
  std::vector<chart_point> points;
  for (int i = 0; i < 10007; ++i) { points.push_back({static_cast<double>(i), std::sin(i * 0.37)}); }
  points[4567].y = 50;
  points[8910].y = -50;
  const std::vector<chart_point> few = report_detail::downsample(points, 600);
  CHECK(few.size() <= 600);
  CHECK(few.size() > 500);
  CHECK(std::is_sorted(few.begin(), few.end(), [](auto a, auto b) { return a.x < b.x; }));
  CHECK(std::any_of(few.begin(), few.end(), [](auto p) { return p.x == 4567 && p.y == 50; }));
  CHECK(std::any_of(few.begin(), few.end(), [](auto p) { return p.x == 8910 && p.y == -50; }));
  CHECK(report_detail::downsample(points, 20000).size() == points.size());
  CHECK(report_detail::downsample({}, 10).empty());
}

TEST_CASE("ticks are round, within the axis, and neither too few nor too many", "[report]") {
  using namespace report_detail;
  CHECK(even_ticks(0, 10, 5) == std::vector<double>{0, 2, 4, 6, 8, 10});
  CHECK(even_ticks(0, 1200, 6) == std::vector<double>{0, 200, 400, 600, 800, 1000, 1200});
  CHECK(even_ticks(3, 3, 5) == std::vector<double>{3});
  CHECK(time_ticks(0, 185, 7) == std::vector<double>{0, 30, 60, 90, 120, 150, 180});
  CHECK(time_ticks(61, 185, 7) == std::vector<double>{90, 120, 150, 180});
  CHECK(log_ticks(1.3, 5.6) == std::vector<double>{1.5, 2, 3, 4, 5});
  CHECK(log_ticks(0.009, 20) == std::vector<double>{0.01, 0.1, 1, 10});
  for (const double high : {0.003, 0.7, 5.0, 61.0, 3599.0, 3601.0, 90000.0, 4e6, 1e9}) {
    CAPTURE(high);
    for (const std::vector<double>& ticks :
         {even_ticks(0, high, 6), time_ticks(0, high, 7), log_ticks(high / 3, high)}) {
      CHECK(ticks.size() >= 2);
      CHECK(ticks.size() <= 13);
      CHECK(ticks.back() <= high * (1 + 1e-9));
    }
  }
}

TEST_CASE("a growth is marked where its step lies between the log steps around it", "[report]") {
  run_records run;
  for (const double s : {10.0, 20.0, 40.0}) {
    run.steps.push_back({.step = static_cast<msg::index>(s),
                         .tokens = static_cast<msg::index>(100 * s),
                         .flops = s * s,
                         .seconds = s / 2});
  }
  using report_detail::x_of_step;
  CHECK(x_of_step(run, 20, chart_unit::seconds) == 10);
  CHECK(x_of_step(run, 30, chart_unit::seconds) == 15);
  CHECK(x_of_step(run, 5, chart_unit::seconds) == 2.5); // from the origin
  CHECK(x_of_step(run, 30, chart_unit::flops) == 1000);
  CHECK(x_of_step(run, 30, chart_unit::tokens) == 3000);
  CHECK(x_of_step(run, 99, chart_unit::seconds) == 20); // not beyond what is known
  CHECK(x_of_step({}, 5, chart_unit::seconds) == 0);
}

TEST_CASE("badges of growths close together do not hide each other", "[report]") {
  chart c{.unit = chart_unit::steps, .x = {0, 1000}, .y = {0, 1}};
  for (const double x : {100.0, 110.0, 120.0, 130.0, 500.0, 600.0}) { c.marks.push_back({.x = x, .number = "n"}); }
  c.marks.push_back({.x = 2000, .number = "beyond"});
  const std::string html = draw_chart(c);
  for (const std::string_view place : {"left:10.00%;top:2px", "left:11.00%;top:22px", "left:12.00%;top:42px",
                                       "left:13.00%;top:2px", "left:50.00%;top:2px", "left:60.00%;top:2px"}) {
    CHECK(has(html, place));
  }
  CHECK_FALSE(has(html, "beyond"));
}

TEST_CASE("a label that would run into the one before is left out, one at the right edge stands left of its line",
          "[report]") {
  chart c{.unit = chart_unit::steps, .x = {0, 1000}, .y = {0, 1}};
  c.marks = {{100, "1", {"ffn 1 → 2"}}, {110, "2", {"hidden 1 → 2"}}, {990, "3", {"heads 1 → 2", "layers 1 → 2"}}};
  const std::string html = draw_chart(c);
  CHECK(has(html, "ffn 1 → 2"));
  CHECK_FALSE(has(html, "hidden 1 → 2"));
  CHECK(has(html, "<div class=\"label left\" style=\"left:99.00%\">heads 1 → 2<br>layers 1 → 2<br>"));
}

TEST_CASE("a mask line breaks where no ramp is under way", "[report]") {
  run_records run;
  for (msg::index s = 0; s < 30; ++s) {
    step_record r{.step = s};
    if ((s >= 5 && s < 10) || (s >= 20 && s < 25)) { r.masks = {{"ffn", 0.5}}; }
    run.steps.push_back(r);
  }
  std::vector<std::string> axes;
  const std::vector<chart_line> lines = report_detail::mask_lines(run, axes);
  REQUIRE(lines.size() == 1);
  const chart c{.unit = chart_unit::steps, .x = {0, 30}, .y = {0, 1}};
  const std::string svg = report_detail::draw_line(lines.front(), report_detail::scale{c});
  CHECK(count_of(svg, "M") == 2);
  CHECK(count_of(svg, "L") == 8);
}

TEST_CASE("the page is written whole or not at all", "[report]") {
  const temporary_folder folder;
  const fs::path path = folder / "report.html";
  write_report(path, {.title = "first", .run = make_run(10)});
  const std::string first = read_bytes(path);
  CHECK(has(first, "<title>first</title>"));
  CHECK(first.substr(first.size() - 8) == "</html>\n");
  write_report(path, {.title = "second", .run = make_run(10)});
  CHECK(has(read_bytes(path), "<title>second</title>"));
  CHECK(std::distance(fs::directory_iterator(folder.path()), fs::directory_iterator()) == 1);
  CHECK(message_of<run_error>([&] { write_report(folder / "no/such/report.html", {}); }) == containing{"report.html"});
}

TEST_CASE("durations are minutes and seconds, then hours, then days", "[report]") {
  CHECK(format_duration(0) == "0:00");
  CHECK(format_duration(-3) == "0:00");
  CHECK(format_duration(59.4) == "0:59");
  CHECK(format_duration(59.6) == "1:00");
  CHECK(format_duration(192) == "3:12");
  CHECK(format_duration(3599.7) == "1:00:00");
  CHECK(format_duration(3723) == "1:02:03");
  CHECK(format_duration(86399) == "23:59:59");
  CHECK(format_duration(86400) == "1d 00:00:00");
  CHECK(format_duration(273845) == "3d 04:04:05");
  CHECK(format_duration(missing) == "–");
  CHECK(format_duration(infinity) == "–");
}

TEST_CASE("counts have three digits and the right prefix at every boundary", "[report]") {
  CHECK(format_count(0) == "0");
  CHECK(format_count(7) == "7");
  CHECK(format_count(999) == "999");
  CHECK(format_count(999.6) == "1.00k");
  CHECK(format_count(1000) == "1.00k");
  CHECK(format_count(9994) == "9.99k");
  CHECK(format_count(9996) == "10.0k");
  CHECK(format_count(31234) == "31.2k");
  CHECK(format_count(99960) == "100k");
  CHECK(format_count(999499) == "999k");
  CHECK(format_count(999500) == "1.00M");
  CHECK(format_count(7e9) == "7.00B");
  CHECK(format_count(2e12) == "2.00T");
  CHECK(format_count(5e15) == "5000T");
  CHECK(format_count(0.25) == "0.25");
  CHECK(format_count(missing) == "–");
  CHECK(format_flops(33.6e12) == "33.6 TFLOP");
  CHECK(format_flops(0) == "0 FLOP");
  CHECK(format_grouped(0) == "0");
  CHECK(format_grouped(999) == "999");
  CHECK(format_grouped(1000) == "1,000");
  CHECK(format_grouped(1234567) == "1,234,567");
  CHECK(format_grouped(-123456) == "-123,456");
}

TEST_CASE("a difference is 0 only if it is exactly that", "[report]") {
  CHECK(format_difference(0.0) == "0");
  CHECK(format_difference(-0.0) == "0");
  CHECK(format_difference(1e-17) == "+1.0e-17");
  CHECK(format_difference(-2.5e-7) == "-2.5e-07");
  CHECK(format_difference(missing) == "–");
  CHECK(format_loss(2.34564) == "2.3456");
  CHECK(format_loss(123456) == "1.23e+05");
  CHECK(format_loss(infinity) == "–");
}
