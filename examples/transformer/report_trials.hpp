// Why a run grew when it did, and the trials it ran to know: in a line for the terminal, in tables for the report.
#pragma once

#include "transformer/report_format.hpp"
#include "transformer/report_metrics.hpp"

#include <msg/trigger.hpp>

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <string_view>
#include <vector>

namespace reference {

/// "mean loss of the window: 2.312, limit 2.4"
[[nodiscard]] inline std::string reason_text(std::string_view why, double seen, double limit) {
  std::string text{why};
  if (std::isfinite(seen)) { text += fmt::format(": {:.4g}", seen); }
  if (std::isfinite(limit)) { text += fmt::format(", limit {:.4g}", limit); }
  return text;
}

/// Why a growth happened when it did; empty where the schedule named the step.
[[nodiscard]] inline std::string reason_of(const growth_record& growth) {
  const auto* const word = std::find(msg::trigger_names.begin(), msg::trigger_names.end(), growth.trigger);
  const auto kind = static_cast<msg::trigger_kind>(word - msg::trigger_names.begin());
  if (word == msg::trigger_names.end() || !msg::observed({.kind = kind})) { return {}; }
  return reason_text(growth.why, growth.seen, growth.limit);
}

/// "ffn 512, layers 4", or "as it is"
[[nodiscard]] inline std::string grown_text(const trial_record& trial) {
  std::string text;
  for (const auto& [axis, size] : trial.grows) { text += fmt::format("{}{} {}", text.empty() ? "" : ", ", axis, size); }
  return text.empty() ? "as it is" : text;
}

/// One line about a trial.
///
///   trial at step 300, stage 2: ffn 512, loss 3.2101 → 3.1800 in 30 steps, 2.1e12 FLOPs, 0:03
///   trial at step 300, stage 2: ffn 512 from scratch, loss 5.6101 → 4.1800 in 60 steps, 3.1e12 FLOPs, 0:05
[[nodiscard]] inline std::string trial_line(const trial_record& t) {
  return fmt::format("trial at step {}, stage {}: {}{}, loss {} → {} in {} step{}, {}, {}", t.step, t.stage + 1,
                     grown_text(t), t.from_scratch ? " from scratch" : "", format_loss(t.loss_before),
                     format_loss(t.loss_after), t.steps, t.steps == 1 ? "" : "s", format_flops(t.flops),
                     format_duration(t.seconds));
}

namespace report_detail {

[[nodiscard]] inline std::string draw_trial_table(const std::vector<trial_record>& trials) {
  std::string html = R"(<div class="wide"><table><thead><tr><th class="l">step</th><th class="l">stage</th>)"
                     R"(<th class="l">tried</th><th>steps</th><th>loss before</th><th>loss after</th>)"
                     "<th>gain per FLOP</th><th>compute</th><th>time</th></tr></thead><tbody>\n";
  for (const trial_record& t : trials) {
    const double gain = (t.loss_before - t.loss_after) / t.flops;
    html += fmt::format(R"(<tr><td class="l">{}</td><td class="l">{}</td><td class="l">{}{}</td><td>{}</td><td>{}</td>)"
                        "<td>{}</td><td>{}</td><td>{}</td><td>{}</td></tr>\n",
                        t.step, t.stage + 1, escape_html(grown_text(t)), t.from_scratch ? ", from scratch" : "",
                        t.steps, format_loss(t.loss_before), format_loss(t.loss_after),
                        std::isfinite(gain) ? fmt::format("{:.2e}", gain) : std::string(no_value),
                        format_flops(t.flops), format_duration(t.seconds));
  }
  return html + "</tbody></table></div>\n";
}

} // namespace report_detail
} // namespace reference
