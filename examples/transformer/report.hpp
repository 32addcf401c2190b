// report.html: one self-contained page about a run, made from its metrics records. It loads nothing from anywhere.
#pragma once

#include "transformer/atomic_file.hpp"
#include "transformer/report_format.hpp"
#include "transformer/report_losses.hpp"
#include "transformer/report_metrics.hpp"
#include "transformer/report_page.hpp"
#include "transformer/report_stages.hpp"
#include "transformer/report_trials.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace reference {

/// What a report shows. Names may hold any text; they are escaped.
struct report_input {
  std::string title = "Pre-training";
  run_records run = {};
  std::string name = {};                 // of the run; by default whether it grew
  std::optional<run_records> other = {}; // a second run to compare with
  std::string other_name = "without growth";
  loss_reading reading = {};
  std::vector<std::pair<std::string, std::string>> settings = {}; // shown as a list, in this order
};

namespace report_detail {

[[nodiscard]] inline std::string tile(std::string_view css, std::string_view key, std::string_view value,
                                      std::string_view below) {
  return fmt::format(R"(<div class="tile {}"><div class="k">{}</div><div class="v">{}</div><div class="s">{}</div>)"
                     "</div>\n",
                     css, escape_html(key), escape_html(value), escape_html(below));
}

[[nodiscard]] inline std::string draw_tiles(const std::vector<drawn_run>& runs, const loss_reading& reading) {
  const run_summary& s = runs.front().summary;
  std::string html = "<div class=\"tiles\">\n";
  for (const drawn_run& run : runs) {
    const run_summary& r = run.summary;
    html += tile(
        run.css, runs.size() > 1 ? "validation loss, " + run.name : "validation loss", format_loss(r.last_val_loss),
        !std::isfinite(r.last_val_loss) ? "not measured"
        : reading.part.empty()
            ? fmt::format("from {}; {:.3f} {}", format_loss(r.first_val_loss), read_loss(r, reading), reading.name)
            : fmt::format("from {}; {} {:.3f}", format_loss(r.first_val_loss), reading.name, read_loss(r, reading)));
  }
  html += tile(
      "", "training time", format_duration(s.seconds),
      fmt::format("{} step{}{}", format_grouped(s.steps), s.steps == 1 ? "" : "s", s.finished ? "" : ", not finished"));
  html += tile("", "training tokens", format_count(static_cast<double>(s.tokens)),
               s.seconds > 0 ? fmt::format("{} per second, {}", format_count(static_cast<double>(s.tokens) / s.seconds),
                                           format_flops(s.flops))
                             : format_flops(s.flops));
  html +=
      tile("", "parameters", s.parameters > 0 ? format_count(static_cast<double>(s.parameters)) : std::string(no_value),
           s.parameters == 0                    ? "not recorded"
           : s.first_parameters != s.parameters ? "from " + format_count(static_cast<double>(s.first_parameters))
                                                : "from start to end");
  html +=
      tile("", "growths", fmt::format("{}", s.growths), s.growths > 0 ? growth_verdict(s) : "the model kept its size");
  return html + "</div>\n";
}

// The run in a sentence or three.
[[nodiscard]] inline std::string verdict(const std::vector<drawn_run>& runs) {
  const run_summary& s = runs.front().summary;
  const bool measured = std::isfinite(s.last_val_loss);
  std::string text =
      measured ? fmt::format("The validation loss went from {} to <b>{}</b> in {}.", format_loss(s.first_val_loss),
                             format_loss(s.last_val_loss), format_duration(s.seconds))
               : fmt::format("{} steps in {}.", format_grouped(s.steps), format_duration(s.seconds));
  if (s.growths > 0) {
    text += fmt::format(" The model grew {} on the way; {}.",
                        s.growths == 1 ? "once" : fmt::format("{} times", s.growths), growth_verdict(s));
  }
  if (runs.size() > 1 && measured && std::isfinite(runs[1].summary.last_val_loss)) {
    const run_summary& o = runs[1].summary;
    const double gain = o.last_val_loss - s.last_val_loss;
    text += fmt::format(" The run beside it ({}) reached <b>{}</b> in {}, {}.", escape_html(runs[1].name),
                        format_loss(o.last_val_loss), format_duration(o.seconds),
                        gain == 0 ? "the same"
                                  : fmt::format("{} {}", format_loss(std::abs(gain)), gain > 0 ? "higher" : "lower"));
  }
  return text;
}

} // namespace report_detail

/// The page as text.
[[nodiscard]] inline std::string report_page(const report_input& input) {
  using namespace report_detail;
  const bool grew = !input.run.growths.empty();
  std::vector<drawn_run> runs;
  runs.push_back({&input.run,
                  !input.name.empty() ? input.name
                  : grew              ? "with growth"
                                      : "this run",
                  "run", summarise(input.run)});
  if (input.other) { runs.push_back({&*input.other, input.other_name, "other", summarise(*input.other)}); }
  const std::string title = escape_html(input.title);
  std::string html = fmt::format("<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n<meta "
                                 R"(name="viewport" content="width=device-width,)"
                                 "initial-scale=1\">\n<title>{}</title>\n<style>{}</style></"
                                 "head>\n<body><main>\n<h1>{}</h1>\n<p class=\"lead\">{}</p>\n",
                                 title, report_style, title, verdict(runs));
  html += draw_tiles(runs, input.reading);
  html += draw_loss_card(runs);
  const std::vector<run_stage> stages = stages_of(input.run);
  if (!stages.empty()) {
    const double steps = std::max<double>(1, static_cast<double>(runs.front().summary.steps));
    html +=
        fmt::format(R"(<section class="card"><h2>{}</h2><p class="note">Each block is a stage, as wide as its steps; )"
                    "its height is the size.</p>\n",
                    grew ? "How the model grew" : "Model and learning rate");
    for (const std::string& axis : axes_of(stages)) { html += draw_strip(stages, axis, steps); }
    html += draw_strip(stages, "parameters", steps) + draw_growth_charts(input.run, steps) + "</section>\n";
    html += R"(<section class="card"><h2>Stages</h2>)" + draw_stage_table(stages) + "</section>\n";
  }
  if (grew) {
    html += R"(<section class="card"><h2>Growths</h2><p class="note">The same batch, just before and just after.</p>)" +
            draw_growth_table(growth_events(input.run.growths)) + "</section>\n";
  }
  if (!input.run.trials.empty()) {
    html += R"(<section class="card"><h2>Trials</h2><p class="note">What was tried to decide when to grow, and how. )"
            "Their compute and time are part of the run's.</p>" +
            draw_trial_table(input.run.trials) + "</section>\n";
  }
  if (!input.settings.empty()) {
    html += R"(<section class="card"><details open><summary>Settings</summary><dl>)";
    for (const auto& [key, value] : input.settings) {
      html += fmt::format("<dt>{}</dt><dd>{}</dd>", escape_html(key), escape_html(value));
    }
    html += "</dl></details></section>\n";
  }
  html += "<footer>All numbers are in metrics.jsonl beside this page.</footer>\n";
  html += fmt::format(
      "<script type=\"application/json\" id=\"data\">{}</script>\n<script>{}</script>\n</main></body></html>\n",
      pointer_data(runs), report_script);
  return html;
}

/// Writes the page, whole or not at all. Throws run_error.
inline void write_report(const std::filesystem::path& path, const report_input& input) {
  const std::string page = report_page(input);
  write_file_atomically(path, std::string_view(page));
}

} // namespace reference
