// How long training steps take on this machine: real steps of the real engine, at sizes that span those of a run.
#pragma once

#include "transformer/data.hpp"
#include "transformer/median.hpp"
#include "transformer/model_costs.hpp"
#include "transformer/run_setup.hpp"
#include "transformer/trained_model.hpp"

#include <msg/step_time.hpp>

#include <fmt/format.h>

#include <algorithm>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <unistd.h>

namespace reference {

/// What the data of a run would be like, without any text.
[[nodiscard]] inline training_data shape_of_data(const run_setup& setup) {
  const options& o = setup.settings;
  training_data shape;
  shape.seq = o.seq;
  shape.task = !masked(setup.what)     ? objective::next_token
               : o.documents == "none" ? objective::hidden_tokens
                                       : objective::hidden_tokens_in_pairs;
  return shape;
}

/// A batch like those of a run, without its data: random tokens, all of which count.
[[nodiscard]] inline token_batch synthetic_batch(const run_setup& setup) {
  const options& o = setup.settings;
  token_batch batch = make_batch(shape_of_data(setup), o.batch);
  const auto vocab = static_cast<std::uint32_t>(setup.start.vocab);
  const double share = predicted_share(setup.start);
  for (std::size_t i = 0; i < batch.tokens.size(); ++i) {
    batch.tokens[i] = static_cast<std::int32_t>(msg::random_bits({1, 1}, i) % vocab);
    if (msg::random_uniform({1, 2}, i) < share) { batch.targets[i] = batch.tokens[i]; }
  }
  batch.targets.front() = batch.tokens.front(); // one at least
  std::fill(batch.lengths.begin(), batch.lengths.end(), static_cast<std::int32_t>(o.seq));
  std::fill(batch.next_sentence.begin(), batch.next_sentence.end(), 0);
  return batch;
}

/// A model in training whose steps are timed.
class timed_model {
public:
  /// growth  by which the model came to its sizes, from `before`; null: it began as it is
  /// data    to read batches from; null: synthetic ones
  timed_model(const run_setup& setup, const config& before, const msg::stage* growth, const training_data* data)
      : settings_(setup.settings), data_(data), shape_(shape_of_data(setup)),
        model_(settings_, data == nullptr ? shape_ : *data, initial_state<float>(before, settings_.seed)) {
    if (data == nullptr) { synthetic_ = synthetic_batch(setup); }
    if (growth == nullptr) { return; }
    msg::stage slow = *growth;
    const auto stretch = [](msg::ramp& ramp) { ramp.steps = ramp.steps > 0 ? ramp_steps : 0; };
    stretch(slow.ramp);
    for (auto& [axis, ramp] : slow.ramps) { stretch(ramp); }
    model_.grow(plan_of_stage(before, slow, settings_.seed), 1, slow);
  }

  /// Whether its growth left masks that ramp.
  [[nodiscard]] bool ramps() const { return model_.state().growth.ramping(ramp_steps / 2); }

  /// Milliseconds of one step: while masks ramp, or once they have.
  double step(bool in_ramp = false) {
    const stopwatch watch;
    (void)model_.train_on((in_ramp ? ramp_steps / 2 : ramp_steps + 1) + steps_++, 1e-5, {}, [&](token_batch& batch) {
      if (data_ == nullptr) {
        batch = synthetic_;
      } else {
        position_ = train_batch(*data_, settings_.seed, position_, batch);
      }
    });
    return 1000 * watch.seconds();
  }
  /// Milliseconds of an evaluation of one micro-batch, after a step.
  double forward() {
    const stopwatch watch;
    (void)model_.forward_again(ramp_steps + 1);
    return 1000 * watch.seconds();
  }

private:
  static constexpr index ramp_steps = index{1} << 20U; // no timing comes to its end

  options settings_;
  const training_data* data_;
  training_data shape_; // what the model knows of data where there are none
  trained_model model_;
  token_batch synthetic_;
  data_position position_;
  index steps_ = 0;
};

/// Sizes whose steps are to be timed.
struct sizes_to_time {
  msg::named_sizes sizes{};
  std::optional<std::size_t> stage{}; // whose growth leads to them: they are timed as that leaves them
};

/// Steps at some sizes: medians.
struct sizes_timing {
  msg::named_sizes sizes{};
  double milliseconds = 0;
  double in_ramp = 0; // milliseconds while masks ramp; 0: none do
  double forward = 0; // milliseconds of an evaluation of one micro-batch
};

/// What was measured, or why nothing was.
struct machine_timing {
  std::vector<sizes_timing> timings{};
  msg::step_time fit{};
  double seconds = 0; // that it took
  std::string why_not{};

  [[nodiscard]] bool measured() const noexcept { return why_not.empty(); }
  [[nodiscard]] const sizes_timing* find(const msg::named_sizes& sizes) const {
    const auto found = std::find_if(timings.begin(), timings.end(), [&](const auto& t) { return t.sizes == sizes; });
    return found == timings.end() ? nullptr : &*found;
  }
};

[[nodiscard]] inline cost_by_sizes costs_of(const run_setup& setup) { return {setup.end, setup.settings.seq}; }

/// Sizes to measure for a schedule: its own, at most 8 of them from the smallest to the largest; where those are fewer
/// than 4, shallower and narrower models than the last one too.
[[nodiscard]] inline std::vector<sizes_to_time> sizes_to_measure(const run_setup& setup) {
  constexpr std::size_t least = 4;
  constexpr std::size_t most = 8;
  std::vector<sizes_to_time> all;
  const auto add = [&](msg::named_sizes sizes, std::optional<std::size_t> stage) {
    const bool known = std::any_of(all.begin(), all.end(), [&](const auto& t) { return t.sizes == sizes; });
    if (!known) { all.push_back({std::move(sizes), stage}); }
  };
  const std::size_t stages = setup.timeline.stages.size();
  for (std::size_t s = 0; s <= stages; ++s) {
    add(msg::sizes_after(setup.timeline, s), s == 0 ? std::nullopt : std::optional{s - 1});
  }
  if (all.size() > most) {
    std::vector<sizes_to_time> some;
    for (std::size_t i = 0; i < most; ++i) { some.push_back(all[i * (all.size() - 1) / (most - 1)]); }
    all = std::move(some);
  }
  const msg::named_sizes last = msg::sizes_after(setup.timeline, stages);
  for (const index divisor : {2, 4, 8}) {
    for (const auto& axes : std::vector<std::vector<std::string>>{{"layers"}, {"ffn"}, {"layers", "ffn"}}) {
      msg::named_sizes smaller = last;
      for (auto& [axis, size] : smaller) {
        const bool shrinks = std::find(axes.begin(), axes.end(), axis) != axes.end();
        if (shrinks) { size = std::max(index{1}, size / divisor); }
      }
      if (all.size() < least) { add(std::move(smaller), std::nullopt); }
    }
  }
  return all;
}

namespace detail {

[[nodiscard]] inline double host_memory() {
  return static_cast<double>(::sysconf(_SC_PHYS_PAGES)) * static_cast<double>(::sysconf(_SC_PAGE_SIZE));
}

/// A model that any machine takes a step of in no time, to tell from whether larger ones can be tried.
[[nodiscard]] inline config tiny_version(config c) {
  c.hidden = std::min(c.hidden, index{64});
  c.ffn = std::min(c.ffn, index{128});
  c.head_dim = std::min(c.head_dim, index{32});
  c.heads = 1;
  c.kv_heads = 0;
  c.layers = 1;
  return c;
}

} // namespace detail

/// Times steps at the sizes, one step of each in turn, after two that warm up, and fits a machine to the medians.
///
/// seconds  that may be spent. From the smallest size on the time of the next is estimated from the one before; where
///          they cannot all be tried within the limit, or are more than half of the host's memory, nothing is measured
/// rounds   of steps, fewer where time is short
/// data     to read batches from; null: synthetic ones
[[nodiscard]] inline machine_timing measure_machine(const run_setup& setup, std::vector<sizes_to_time> wanted,
                                                    double seconds, const training_data* data = nullptr,
                                                    std::size_t rounds = 10) {
  machine_timing result;
  const options& o = setup.settings;
  const stopwatch watch;
  const auto elapsed = [&] { return watch.seconds(); };
  const auto refuse = [&](std::string why) {
    result.why_not = std::move(why);
    result.seconds = elapsed();
    return result;
  };
  if (!(seconds > 0)) { return refuse("--calibrate 0"); }
  const cost_by_sizes cost = costs_of(setup);
  const auto tokens_per_step = static_cast<double>(detail::extent_of(o).tokens_per_step);
  const auto flops = [&](const msg::named_sizes& sizes) { return cost(sizes).flops_per_token() * tokens_per_step; };
  std::stable_sort(wanted.begin(), wanted.end(),
                   [&](const auto& a, const auto& b) { return flops(a.sizes) < flops(b.sizes); });
  double bytes = 0;
  for (const sizes_to_time& t : wanted) {
    bytes += training_memory(resized(setup.end, t.sizes), o.batch, o.seq).total();
  }
  if (o.device == "cpu" && bytes > detail::host_memory() / 2) {
    return refuse(fmt::format("the models to time take {:.0f} GB together, more than half of this machine's memory",
                              bytes / 1e9));
  }

  double milliseconds_per_flop = 0; // the least seen: what else runs here must not turn sizes down
  {
    const config tiny = detail::tiny_version(setup.end);
    timed_model probe(setup, tiny, nullptr, data);
    (void)probe.step();
    milliseconds_per_flop = std::min(probe.step(), probe.step()) /
                            (cost_of(tiny, sequence_of(tiny, o.seq)).flops_per_token() * tokens_per_step);
  }
  struct timed {
    msg::named_sizes sizes;
    std::unique_ptr<timed_model> model;
    std::vector<double> plain{}, in_ramp{}, forward{};
  };
  std::vector<timed> all;
  for (const sizes_to_time& t : wanted) {
    const double work = flops(t.sizes);
    if (elapsed() + 4 * milliseconds_per_flop * work / 1000 > seconds / 2) {
      const msg::named_sizes& last = wanted.back().sizes;
      return refuse(fmt::format("a step of {} takes {} {:.2g} s here, too long to time within --calibrate {:g}",
                                sizes_text(resized(setup.end, last)), all.empty() ? "up to" : "about",
                                milliseconds_per_flop * flops(last) / 1000, seconds));
    }
    const msg::stage* growth = t.stage ? &setup.timeline.stages[*t.stage] : nullptr;
    const config before = resized(setup.end, t.stage ? msg::sizes_after(setup.timeline, *t.stage) : t.sizes);
    all.push_back({t.sizes, std::make_unique<timed_model>(setup, before, growth, data)});
    timed_model& model = *all.back().model;
    const double first = model.step();
    if (model.ramps()) { (void)model.step(true); }
    milliseconds_per_flop = std::min(first, model.step()) / work;
  }
  const double warm = elapsed();
  for (std::size_t round = 1; round <= rounds; ++round) {
    for (timed& t : all) {
      t.plain.push_back(t.model->step());
      if (t.model->ramps()) { t.in_ramp.push_back(t.model->step(true)); }
      if (round <= 3) { t.forward.push_back(t.model->forward()); }
    }
    const double one = (elapsed() - warm) / static_cast<double>(round);
    if (elapsed() + one > seconds) { break; }
  }
  std::vector<msg::step_timing> timings;
  for (timed& t : all) {
    result.timings.push_back({.sizes = t.sizes,
                              .milliseconds = median_of(std::move(t.plain)),
                              .in_ramp = t.in_ramp.empty() ? 0 : median_of(std::move(t.in_ramp)),
                              .forward = median_of(std::move(t.forward))});
    timings.push_back({result.timings.back().sizes, result.timings.back().milliseconds});
  }
  result.fit = msg::calibrate(cost, timings, detail::extent_of(o).tokens_per_step);
  result.seconds = elapsed();
  return result;
}

} // namespace reference
