// What a person sees in the terminal: a line per log step, a line per growth, and a summary at the end.
#pragma once

#include "transformer/report_format.hpp"
#include "transformer/report_metrics.hpp"
#include "transformer/report_trials.hpp"

#include <msg/config.hpp>

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdio>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <sys/ioctl.h>
#include <unistd.h>

namespace reference {

inline constexpr int terminal_columns = 100;

/// Seconds a run still needs, from the compute it has left: a later, larger stage counts as much as it costs.
class pace {
public:
  /// The run has spent `flops` in `seconds`, both from its start.
  void update(double flops, double seconds) noexcept {
    const double time = seconds - seconds_;
    const double rate = (flops - flops_) / time;
    if (!(time > 0) || !(rate > 0) || !std::isfinite(rate)) { return; }
    rate_ = rate_ > 0 ? 0.7 * rate_ + 0.3 * rate : rate; // smoothed over about three log steps
    flops_ = flops;
    seconds_ = seconds;
  }
  /// Missing as long as nothing is known.
  [[nodiscard]] double seconds_left(double flops_total) const noexcept {
    return rate_ > 0 && std::isfinite(flops_total) ? std::max(0.0, flops_total - flops_) / rate_ : missing;
  }

private:
  double flops_ = 0;
  double seconds_ = 0;
  double rate_ = 0;
};

namespace progress_detail {

// The letter of an axis, or 0.
[[nodiscard]] inline char letter_of(std::string_view axis) noexcept {
  constexpr std::pair<std::string_view, char> letters[] = {{"hidden", 'C'},   {"ffn", 'F'},    {"heads", 'H'},
                                                           {"kv_heads", 'K'}, {"layers", 'L'}, {"experts", 'E'}};
  for (const auto& [name, letter] : letters) {
    if (axis == name) { return letter; }
  }
  return 0;
}

// "C96 F256 H2 L2": the axes that have a letter.
[[nodiscard]] inline std::string short_sizes(const named_sizes& dims) {
  std::string text;
  for (const auto& [axis, size] : dims) {
    if (const char letter = letter_of(axis)) { text += fmt::format("{}{}{}", text.empty() ? "" : " ", letter, size); }
  }
  return text;
}

// "ffn 0.40"; "masks 0.40" where several say the same, "masks F0.40 H0.10" where they differ.
[[nodiscard]] inline std::string short_masks(const named_values& masks) {
  if (masks.empty()) { return {}; }
  const std::string first = fmt::format("{:.2f}", masks.front().second);
  if (masks.size() == 1) { return fmt::format("{} {}", masks.front().first, first); }
  std::string text = "masks";
  bool same = true;
  for (const auto& [axis, value] : masks) {
    const char letter = letter_of(axis);
    text += letter != 0 ? fmt::format(" {}{:.2f}", letter, value) : fmt::format(" {} {:.2f}", axis, value);
    same = same && fmt::format("{:.2f}", value) == first;
  }
  return same ? fmt::format("masks {}", first) : text;
}

// 9.5e-4, 1.0e-3: the exponent without its zero.
[[nodiscard]] inline std::string short_rate(double lr) {
  std::string text = fmt::format("{:.1e}", lr);
  const std::size_t exponent = text.find('e');
  if (exponent != std::string::npos && exponent + 2 < text.size() && text[exponent + 2] == '0') {
    text.erase(exponent + 2, 1);
  }
  return text;
}

[[nodiscard]] inline std::string short_loss(double loss) {
  if (!std::isfinite(loss)) { return std::string(no_value); }
  return std::abs(loss) < 1000 ? fmt::format("{:.3f}", loss) : fmt::format("{:.2g}", loss);
}

} // namespace progress_detail

/// One line about a step.
///
///    300/1200  loss 2.346  val 2.401  lr 9.5e-4  31.2k tok/s  C96 F256 H2 L2  ffn 0.40  1:02, 2:10 left
///
/// total_steps   0 if the run has none
/// seconds_left  missing if unknown
/// columns       where the line would be longer, the learning rate, the speed and the elapsed time are left out, in
///               this order, and then what is too long is cut
[[nodiscard]] inline std::string progress_line(const step_record& r, index total_steps, double seconds_left,
                                               int columns = terminal_columns) {
  using namespace progress_detail;
  const std::string total = fmt::format("{}", total_steps);
  std::vector<std::string> fields;
  fields.push_back(total_steps > 0 ? fmt::format("{:>{}}/{}", r.step, total.size(), total) : fmt::format("{}", r.step));
  fields.push_back(fmt::format("loss {}", padded(short_loss(r.loss), 5)));
  fields.push_back(r.val_loss ? fmt::format("val {}", short_loss(*r.val_loss)) : "");
  const std::size_t rate = fields.size();
  fields.push_back(std::isfinite(r.lr) ? fmt::format("lr {}", short_rate(r.lr)) : "");
  const std::size_t speed = fields.size();
  fields.push_back(std::isfinite(r.tokens_per_second) ? fmt::format("{} tok/s", format_count(r.tokens_per_second))
                                                      : "");
  fields.push_back(short_sizes(r.dims));
  fields.push_back(short_masks(r.masks));
  const std::size_t time = fields.size();
  const std::string left = std::isfinite(seconds_left) ? format_duration(seconds_left) + " left" : "";
  fields.push_back(format_duration(r.seconds) + (left.empty() ? "" : ", " + left));
  const auto joined = [&] {
    std::string line;
    for (const std::string& field : fields) { line += field.empty() ? "" : (line.empty() ? "" : "  ") + field; }
    return line;
  };
  const auto limit = static_cast<std::size_t>(std::max(columns, 1));
  std::string line = joined();
  for (const std::size_t field : {rate, speed, time}) {
    if (characters(line) <= limit) { break; }
    fields[field] = field == time ? left : "";
    line = joined();
  }
  while (characters(line) > limit) { line.pop_back(); } // whole characters: those that count start one
  return line;
}

/// One line about a growth, all of its axes in it; broken before the losses if it would be too long. Another says why
/// it happened now, where training has decided that.
///
///   growth at step 300: ffn 256 → 512 (mask), loss 2.3456 before, 2.3456 after, difference 0 (same bits)
///     because mean loss of the window: 2.396, limit 2.4
[[nodiscard]] inline std::string growth_line(const std::vector<growth_record>& axes, int columns = terminal_columns) {
  if (axes.empty()) { return {}; }
  const growth_record& first = axes.front();
  const bool one_rule =
      std::all_of(axes.begin(), axes.end(), [&](const growth_record& g) { return g.rule == first.rule; });
  std::string what = fmt::format("growth at step {}:", first.step);
  for (const growth_record& g : axes) {
    what += fmt::format("{}{} {} → {}", &g == &first ? " " : ", ", g.axis, g.from, g.to);
    if (!one_rule || &g == &axes.back()) { what += fmt::format(" ({})", g.rule); }
  }
  const std::string logits = std::isfinite(first.max_abs_logit_diff)
                                 ? fmt::format("logits within {:.1e}", first.max_abs_logit_diff)
                                 : std::string("logits not finite");
  const std::string losses = fmt::format(
      "loss {} before, {} after, difference {} ({})", format_loss(first.loss_before), format_loss(first.loss_after),
      format_difference(first.loss_after - first.loss_before), first.bits_equal ? "same bits" : logits);
  const bool fits = characters(what) + 2 + characters(losses) <= static_cast<std::size_t>(std::max(columns, 1));
  const std::string reason = reason_of(first);
  return what + (fits ? ", " : ",\n  ") + losses + (reason.empty() ? "" : "\n  because " + reason);
}

/// What the end of a run tells; empty paths are left out.
struct summary_input {
  std::string heading = "done";
  run_summary run = {};
  std::optional<run_summary> other = {}; // the run to compare with
  std::string name = "with growth";      // of the columns if there are two
  std::string other_name = "without growth";
  std::string checkpoint = {};
  std::string report = {};
  loss_reading reading = {};
};

/// The block at the end, one fact a line, with two runs side by side; no newline after the last line.
[[nodiscard]] inline std::string summary_text(const summary_input& input) {
  using namespace progress_detail;
  const auto facts = [&](const run_summary& r) -> std::vector<std::string> {
    const std::string before = r.first_parameters > 0 && r.first_parameters != r.parameters
                                   ? format_count(static_cast<double>(r.first_parameters)) + " → "
                                   : "";
    return {fmt::format("{} → {}", format_loss(r.first_val_loss), format_loss(r.last_val_loss)),
            format_loss(read_loss(r, input.reading)),
            format_duration(r.seconds),
            fmt::format("{} in {} step{}", format_count(static_cast<double>(r.tokens)), format_grouped(r.steps),
                        r.steps == 1 ? "" : "s"),
            r.seconds > 0 ? format_count(static_cast<double>(r.tokens) / r.seconds) : std::string(no_value),
            format_flops(r.flops),
            before + (r.parameters > 0 ? format_count(static_cast<double>(r.parameters)) : std::string(no_value)),
            r.growths > 0 ? fmt::format("{}", r.growths) : "none"};
  };
  const std::string_view names[] = {"validation loss",   input.reading.name, "training time", "tokens",
                                    "tokens per second", "compute",          "parameters",    "growths"};
  const std::vector<std::string> left = facts(input.run);
  const std::vector<std::string> right = input.other ? facts(*input.other) : std::vector<std::string>();
  std::size_t width = characters(input.name);
  for (const std::string& fact : left) { width = std::max(width, characters(fact)); }
  std::string text = input.heading;
  if (input.other) {
    text += fmt::format("\n{}{}   {}", std::string(20, ' '), padded(input.name, width), input.other_name);
  }
  for (std::size_t i = 0; i < left.size(); ++i) {
    text += fmt::format("\n  {}{}", padded(names[i], 18),
                        input.other ? padded(left[i], width) + "   " + right[i] : left[i]);
  }
  if (input.run.growths > 0) { text += fmt::format("\n  {}{}", padded("strictness", 18), growth_verdict(input.run)); }
  const double gain = input.other ? input.other->last_val_loss - input.run.last_val_loss : missing;
  if (std::isfinite(gain)) {
    text += fmt::format("\n  {}{}", padded("comparison", 18),
                        gain == 0 ? fmt::format("{} and {} end alike", input.name, input.other_name)
                                  : fmt::format("{} ends {} {}", input.name, format_loss(std::abs(gain)),
                                                gain > 0 ? "lower" : "higher"));
  }
  if (!input.checkpoint.empty()) { text += fmt::format("\n  {}{}", padded("checkpoint", 18), input.checkpoint); }
  if (!input.report.empty()) { text += fmt::format("\n  {}{}", padded("report", 18), input.report); }
  return text;
}

/// How a stream is written to.
struct terminal_options {
  bool quiet = false;  // only the summary
  bool redraw = false; // a terminal: progress lines replace each other, those with an evaluation stay
  int columns = terminal_columns;
};

/// What a stream is: redraws on a terminal, at most as wide as it is.
[[nodiscard]] inline terminal_options terminal_of(std::FILE* stream, bool quiet) {
  terminal_options options{.quiet = quiet, .redraw = ::isatty(::fileno(stream)) == 1, .columns = terminal_columns};
  winsize size{};
  if (options.redraw && ::ioctl(::fileno(stream), TIOCGWINSZ, &size) == 0 && size.ws_col > 0) {
    options.columns = std::min<int>(size.ws_col, terminal_columns + 1) - 1; // a full last column would wrap
  }
  return options;
}

/// Prints a run as it goes. What the stream refuses is lost: a closed terminal stops no run.
class printer {
public:
  printer(std::FILE* stream, terminal_options options) noexcept : stream_(stream), options_(options) {}
  printer(const printer&) = delete;
  printer& operator=(const printer&) = delete;
  ~printer() {
    if (drawn_) { std::fputc('\n', stream_); }
  }

  /// Shows a log step; where it has no evaluation of its own, the last one.
  ///
  /// total_steps, total_flops  of the whole run
  /// max_seconds               the limit on record.seconds, 0 if there is none
  void step(step_record record, index total_steps, double total_flops, double max_seconds = 0) {
    if (record.step < last_step_) { // another run
      pace_ = {};
      val_loss_.reset();
    }
    last_step_ = record.step;
    const bool evaluated = record.val_loss.has_value();
    if (evaluated) { val_loss_ = record.val_loss; }
    record.val_loss = val_loss_;
    pace_.update(record.flops, record.seconds);
    double left = pace_.seconds_left(total_flops);
    if (max_seconds > 0) { left = std::fmin(left, std::max(0.0, max_seconds - record.seconds)); } // fmin: not missing
    write(progress_line(record, total_steps, left, options_.columns), options_.redraw && !evaluated);
  }
  /// Shows a growth: the records of all its axes.
  void growth(const std::vector<growth_record>& axes) { write(growth_line(axes, options_.columns), false); }
  void trial(const trial_record& trial) { write(trial_line(trial), false); }
  /// Shows a line of other news.
  void note(std::string_view text) { write(text, false); }
  /// The end, shown to the quiet as well.
  void summary(const summary_input& input) {
    options_.quiet = false;
    write(summary_text(input), false);
  }

private:
  void write(std::string_view text, bool replaceable) {
    if (options_.quiet) { return; }
    const std::string all = fmt::format("{}{}{}", drawn_ ? "\r\033[K" : "", text, replaceable ? "" : "\n");
    std::fwrite(all.data(), 1, all.size(), stream_);
    std::fflush(stream_);
    drawn_ = replaceable;
  }

  std::FILE* stream_;
  terminal_options options_;
  pace pace_;
  std::optional<double> val_loss_;
  index last_step_ = 0;
  bool drawn_ = false; // the cursor stands behind a line that the next one replaces
};

} // namespace reference
