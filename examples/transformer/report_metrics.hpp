// The records in metrics.jsonl: what a trainer logs, to and from JSON, and what a whole run comes to.
#pragma once

#include "transformer/report_format.hpp"

#include <msg/config.hpp>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace reference {

inline constexpr double missing = std::numeric_limits<double>::quiet_NaN();

using named_sizes = std::vector<std::pair<std::string, index>>;   // axis and size, in the order to show
using named_values = std::vector<std::pair<std::string, double>>; // axis and mask value of its fresh units

/// How a loss, in nats per token, reads beside its number: bits per byte, say, or the perplexity of its part `part`.
struct loss_reading {
  std::string name = "bits per byte";
  double per_nat = 1.4426950408889634; // 1 / log 2
  std::string part = {};               // empty: the whole loss; else what it is the exponential of
};

/// {"event": "step"}: the state after optimizer step number `step`, counted from 1.
struct step_record {
  index step = 0;
  index tokens = 0;   // trained on so far
  double flops = 0;   // spent so far
  double seconds = 0; // of wall time so far
  double loss = missing;
  std::optional<double> val_loss = {}; // only where it was measured
  named_values val_parts = {};         // what it is the sum of, if it is one
  double lr = missing;
  double tokens_per_second = missing;
  index parameters = 0;
  named_sizes dims = {};
  named_values masks = {}; // only ramps that are under way
};

/// {"event": "growth"}: one axis of one growth; `group` is shared by the axes that grew together.
struct growth_record {
  index step = 0;
  index group = 0;
  std::string axis = {};
  index from = 0;
  index to = 0;
  std::string rule = {};
  double loss_before = missing;
  double loss_after = missing; // of the same batch
  double max_abs_logit_diff = missing;
  bool bits_equal = false;
  // Why it happened then: what the trigger looked at, and what it compared that with.
  std::string trigger = {};
  std::string why = {};
  double seen = missing;
  double limit = missing;
  std::string promised = {}; // of the function: what the rule says of it
};

/// {"event": "probe"}: a trial, from where the run stood; {"event": "curve"}: a model trained from scratch to measure
/// against. Their FLOPs and seconds are in the run's.
struct trial_record {
  index step = 0;
  index stage = 0;
  index candidate = 0; // -1: nothing grows
  bool from_scratch = false;
  named_sizes grows = {};
  index steps = 0;
  double loss_before = missing; // of held-out windows; curve: of the first batch and of the last
  double loss_after = missing;
  double flops = 0;
  double seconds = 0;
};

/// {"event": "end"}.
struct end_record {
  index step = 0;
  double val_loss = missing;
  double seconds = 0;
  double flops = 0;
  index tokens = 0;
  index parameters = 0;
  named_values val_parts = {};
};

/// All that metrics.jsonl says about a run.
struct run_records {
  std::vector<step_record> steps = {};
  std::vector<growth_record> growths = {};
  std::vector<trial_record> trials = {};
  std::optional<end_record> end = {};
};

namespace report_detail {
template <class Value>
[[nodiscard]] nlohmann::json object_of(const std::vector<std::pair<std::string, Value>>& list) {
  nlohmann::json object = nlohmann::json::object();
  for (const auto& [name, value] : list) { object[name] = value; }
  return object;
}
// Only where there are some.
inline void add_parts(nlohmann::json& record, const named_values& parts) {
  if (!parts.empty()) { record["val_parts"] = object_of(parts); }
}
} // namespace report_detail

/// One line of metrics.jsonl is to_json(record).dump(); a number that is not finite becomes null.
[[nodiscard]] inline nlohmann::json to_json(const step_record& r) {
  nlohmann::json record = {{"event", "step"},
                           {"step", r.step},
                           {"tokens", r.tokens},
                           {"flops", r.flops},
                           {"seconds", r.seconds},
                           {"loss", r.loss},
                           {"val_loss", r.val_loss ? nlohmann::json(*r.val_loss) : nlohmann::json()},
                           {"lr", r.lr},
                           {"tokens_per_second", r.tokens_per_second},
                           {"parameters", r.parameters},
                           {"dims", report_detail::object_of(r.dims)},
                           {"masks", report_detail::object_of(r.masks)}};
  report_detail::add_parts(record, r.val_parts);
  return record;
}

[[nodiscard]] inline nlohmann::json to_json(const growth_record& r) {
  return {{"event", "growth"},
          {"step", r.step},
          {"group", r.group},
          {"axis", r.axis},
          {"from", r.from},
          {"to", r.to},
          {"rule", r.rule},
          {"promised", r.promised},
          {"loss_before", r.loss_before},
          {"loss_after", r.loss_after},
          {"max_abs_logit_diff", r.max_abs_logit_diff},
          {"bits_equal", r.bits_equal},
          {"trigger", r.trigger},
          {"why", r.why},
          {"seen", std::isfinite(r.seen) ? nlohmann::json(r.seen) : nlohmann::json()},
          {"limit", std::isfinite(r.limit) ? nlohmann::json(r.limit) : nlohmann::json()}};
}

[[nodiscard]] inline nlohmann::json to_json(const trial_record& r) {
  nlohmann::json record = {{"event", r.from_scratch ? "curve" : "probe"},
                           {"step", r.step},
                           {"stage", r.stage},
                           {"steps", r.steps},
                           {"grow", report_detail::object_of(r.grows)},
                           {"loss_before", r.loss_before},
                           {"loss_after", r.loss_after},
                           {"flops", r.flops},
                           {"seconds", r.seconds}};
  if (!r.from_scratch) { record["candidate"] = r.candidate; }
  return record;
}

[[nodiscard]] inline nlohmann::json to_json(const end_record& r) {
  nlohmann::json record = {
      {"event", "end"},   {"step", r.step},     {"val_loss", r.val_loss},    {"seconds", r.seconds},
      {"flops", r.flops}, {"tokens", r.tokens}, {"parameters", r.parameters}};
  report_detail::add_parts(record, r.val_parts);
  return record;
}

namespace report_detail {

// Everything a record may lack, or hold in another type, reads as missing: a report of an odd file is better than none.
[[nodiscard]] inline double number(const nlohmann::json& object, const char* key) {
  const auto found = object.find(key);
  return found != object.end() && found->is_number() ? found->get<double>() : missing;
}

[[nodiscard]] inline index whole(const nlohmann::json& object, const char* key) {
  const double value = number(object, key);
  return std::abs(value) < 9e18 ? static_cast<index>(value) : 0;
}

[[nodiscard]] inline std::string text(const nlohmann::json& object, const char* key) {
  const auto found = object.find(key);
  return found != object.end() && found->is_string() ? found->get<std::string>() : std::string();
}

// The known axes from the outside in, others after them.
[[nodiscard]] inline int axis_rank(std::string_view axis) noexcept {
  constexpr std::string_view order[] = {"hidden", "ffn",     "heads", "kv_heads",
                                        "layers", "experts", "vocab", "positions"};
  return static_cast<int>(std::find(std::begin(order), std::end(order), axis) - std::begin(order));
}

template <class Value>
[[nodiscard]] std::vector<std::pair<std::string, Value>> named(const nlohmann::json& object, const char* key) {
  std::vector<std::pair<std::string, Value>> result;
  const auto found = object.find(key);
  if (found == object.end() || !found->is_object()) { return result; }
  for (const auto& [axis, value] : found->items()) {
    if (value.is_number() && std::isfinite(value.template get<double>())) {
      result.emplace_back(axis, value.template get<Value>());
    }
  }
  std::stable_sort(result.begin(), result.end(),
                   [](const auto& a, const auto& b) { return axis_rank(a.first) < axis_rank(b.first); });
  return result;
}

[[nodiscard]] inline step_record step_from(const nlohmann::json& object) {
  const double val_loss = number(object, "val_loss");
  return {.step = whole(object, "step"),
          .tokens = whole(object, "tokens"),
          .flops = number(object, "flops"),
          .seconds = number(object, "seconds"),
          .loss = number(object, "loss"),
          .val_loss = std::isfinite(val_loss) ? std::optional<double>(val_loss) : std::nullopt,
          .val_parts = named<double>(object, "val_parts"),
          .lr = number(object, "lr"),
          .tokens_per_second = number(object, "tokens_per_second"),
          .parameters = whole(object, "parameters"),
          .dims = named<index>(object, "dims"),
          .masks = named<double>(object, "masks")};
}

[[nodiscard]] inline growth_record growth_from(const nlohmann::json& object) {
  const auto equal = object.find("bits_equal");
  return {.step = whole(object, "step"),
          .group = whole(object, "group"),
          .axis = text(object, "axis"),
          .from = whole(object, "from"),
          .to = whole(object, "to"),
          .rule = text(object, "rule"),
          .loss_before = number(object, "loss_before"),
          .loss_after = number(object, "loss_after"),
          .max_abs_logit_diff = number(object, "max_abs_logit_diff"),
          .bits_equal = equal != object.end() && equal->is_boolean() && equal->get<bool>(),
          .trigger = text(object, "trigger"),
          .why = text(object, "why"),
          .seen = number(object, "seen"),
          .limit = number(object, "limit"),
          .promised = text(object, "promised")};
}

[[nodiscard]] inline trial_record trial_from(const nlohmann::json& object) {
  return {.step = whole(object, "step"),
          .stage = whole(object, "stage"),
          .candidate = whole(object, "candidate"),
          .from_scratch = text(object, "event") == "curve",
          .grows = named<index>(object, "grow"),
          .steps = whole(object, "steps"),
          .loss_before = number(object, "loss_before"),
          .loss_after = number(object, "loss_after"),
          .flops = number(object, "flops"),
          .seconds = number(object, "seconds")};
}

[[nodiscard]] inline end_record end_from(const nlohmann::json& object) {
  return {.step = whole(object, "step"),
          .val_loss = number(object, "val_loss"),
          .seconds = number(object, "seconds"),
          .flops = number(object, "flops"),
          .tokens = whole(object, "tokens"),
          .parameters = whole(object, "parameters"),
          .val_parts = named<double>(object, "val_parts")};
}

} // namespace report_detail

/// Records from the objects of a metrics file; objects of other events are passed over, and of several ends (a run
/// that was resumed with more steps) the last counts.
[[nodiscard]] inline run_records parse_records(const std::vector<nlohmann::json>& objects) {
  run_records run;
  for (const nlohmann::json& object : objects) {
    if (!object.is_object()) { continue; }
    const std::string event = report_detail::text(object, "event");
    if (event == "step") { run.steps.push_back(report_detail::step_from(object)); }
    if (event == "growth") { run.growths.push_back(report_detail::growth_from(object)); }
    if (event == "probe" || event == "curve") { run.trials.push_back(report_detail::trial_from(object)); }
    if (event == "end") { run.end = report_detail::end_from(object); }
  }
  return run;
}

/// What a run comes to, as told at its end. Losses are missing where none was measured.
struct run_summary {
  bool finished = false;
  double first_val_loss = missing;
  double last_val_loss = missing;
  named_values last_val_parts = {};
  index steps = 0;
  index tokens = 0;
  double flops = 0;
  double seconds = 0;
  index first_parameters = 0;
  index parameters = 0;
  index growths = 0;             // growths of several axes at once count as one
  double largest_difference = 0; // of the loss just before and just after a growth
  bool bits_equal = true;        // in all growths
};

[[nodiscard]] inline run_summary summarise(const run_records& run) {
  run_summary result;
  result.finished = run.end.has_value();
  for (const step_record& r : run.steps) {
    if (r.val_loss) {
      if (!std::isfinite(result.first_val_loss)) { result.first_val_loss = *r.val_loss; }
      result.last_val_loss = *r.val_loss;
      result.last_val_parts = r.val_parts;
    }
    if (result.first_parameters == 0) { result.first_parameters = r.parameters; }
  }
  const auto last = [&](index step, index tokens, double flops, double seconds, index parameters) {
    result.steps = std::max(step, result.steps);
    result.tokens = tokens;
    result.flops = flops;
    result.seconds = seconds;
    if (parameters > 0) { result.parameters = parameters; }
  };
  if (!run.steps.empty()) {
    const step_record& r = run.steps.back();
    last(r.step, r.tokens, r.flops, r.seconds, r.parameters);
  }
  if (run.end) {
    last(run.end->step, run.end->tokens, run.end->flops, run.end->seconds, run.end->parameters);
    if (std::isfinite(run.end->val_loss)) {
      result.last_val_loss = run.end->val_loss;
      result.last_val_parts = run.end->val_parts;
    }
  }
  for (std::size_t i = 0; i < run.growths.size(); ++i) {
    const growth_record& r = run.growths[i];
    result.growths += i == 0 || r.group != run.growths[i - 1].group || r.step != run.growths[i - 1].step ? 1 : 0;
    const double difference = std::abs(r.loss_after - r.loss_before);
    result.largest_difference = std::isfinite(difference) ? std::max(result.largest_difference, difference)
                                                          : std::numeric_limits<double>::infinity();
    result.bits_equal = result.bits_equal && r.bits_equal;
  }
  return result;
}

/// The last validation loss in another reading, or missing.
[[nodiscard]] inline double read_loss(const run_summary& s, const loss_reading& how) {
  if (how.part.empty()) { return s.last_val_loss * how.per_nat; }
  for (const auto& [name, value] : s.last_val_parts) {
    if (name == how.part) { return std::exp(value); }
  }
  return missing;
}

/// What the growths of a run did to the model, in words; only for a run that grew.
[[nodiscard]] inline std::string growth_verdict(const run_summary& s) {
  if (s.bits_equal) { return "loss and logits kept their bits each time"; }
  if (s.largest_difference == 0) { return "the loss never changed at a growth"; }
  if (!std::isfinite(s.largest_difference)) { return "the loss was not finite at a growth"; }
  return fmt::format("the largest change of the loss at a growth was {:.1e}", s.largest_difference);
}

} // namespace reference
