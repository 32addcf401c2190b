// What a run is expected to cost: FLOPs beside the trainer's, bytes beside sums by hand, time beside what was measured.
#include "support/catch.hpp"
#include "support/files_support.hpp"

#include "transformer/plan_text.hpp"

#include <cmath>
#include <limits>
#include <string>
#include <vector>

namespace {

using reference::architecture;
using reference::config;
using reference::machine_timing;

const std::vector<config>& models() {
  static const std::vector<config> all = [] {
    const config gpt{.positions = 32, .hidden = 24, .ffn = 40, .heads = 3, .head_dim = 5, .layers = 4};
    config parallel = gpt;
    parallel.parallel = true;
    config bert = gpt;
    bert.arch = architecture::bert;
    bert.vocab = 31;
    config llama = bert;
    llama.arch = architecture::llama;
    llama.heads = 4;
    llama.head_dim = 6;
    config untied = llama;
    untied.tied = false;
    config grouped = untied;
    grouped.kv_heads = 2;
    config mixture = untied;
    mixture.experts = 5;
    return std::vector<config>{gpt, bert, grouped, llama, mixture, parallel};
  }();
  return all;
}

// A growth of layers at step 20 of 50 with a ramp of 15, then one of FFN at 30 without.
constexpr const char* growth = R"({"version": 1, "start": {"hidden": 8, "ffn": 16, "heads": 1, "layers": 1},
  "stages": [{"at": {"fraction": 0.4}, "grow": {"layers": 2}, "ramp": {"steps": 15}},
             {"at": {"step": 30}, "grow": {"ffn": 32}, "rule": "duplicate"}]})";

const reference::program gpt{"train_gpt", "", {architecture::gpt2, architecture::llama}, "gpt"};
const reference::program bert{"train_bert", "", {architecture::bert}, "bert"};

reference::run_setup setup_of(const reference::program& what, std::vector<const char*> more,
                              const char* schedule = growth) {
  const files_test::temporary_folder folder;
  const std::string file = (folder / "grow.json").string();
  files_test::write_bytes(file, schedule);
  std::vector<const char*> words{"trainer", "--schedule", file.c_str(), "--steps", "50",        "--seq", "16",
                                 "--batch", "2",          "--out",      "nowhere", "--threads", "1"};
  words.insert(words.end(), more.begin(), more.end());
  return reference::resolve_run(what, reference::parse_options(what, static_cast<int>(words.size()), words.data()))
      .setup;
}

} // namespace

TEST_CASE("the library counts the FLOPs that the trainer counts, for every architecture", "[plan_text]") {
  for (const config& c : models()) {
    for (const msg::index tokens : {1, 8, 32}) {
      CAPTURE(name_of(c.arch), c.experts, c.kv_heads, c.tied, tokens);
      const double share = reference::predicted_share(c);
      const double counted = reference::cost_of(c, tokens).flops_per_token();
      // whole numbers but for BERT's shares: sums of a dozen terms in another order
      CHECK(std::abs(counted / reference::training_flops_per_token(c, tokens, share) - 1) <
            16 * std::numeric_limits<double>::epsilon());
      CHECK(reference::cost_of(c, tokens).parameters == reference::parameter_count(c));
    }
  }
}

TEST_CASE("the memory of a training step is what its model allocates", "[plan_text]") {
  const config& c = models()[0];
  const double M = 2 * 16, C = 24, F = 40, W = 3 * 5, H = 3, L = 4, V = 256;
  const double norm = M * C + 2 * M;
  const double layer = 2 * norm + 2 * M * C + 3 * M * W + M * W + M * H + 2 * M * F; // stream twice, qkv, heads, FFN
  const double head = norm + M * V + 2 * M;
  const double forward = L * layer + 2 * M * C + head; // and the embedding, and a branch
  const double widest = 3 * W;                         // of qkv, hidden and FFN; one chunk of rows in each of 8 sums
  const double backward = 5 * M * C + M * F + M * W + 3 * M * W + 8 * widest;
  // mean, rstd and the sums over chunks are wider than float
  const double wide = sizeof(msg::accumulate_t<float>) - sizeof(float);
  const double bytes = sizeof(float) * (forward + backward) + wide * ((2 * L + 1) * 2 * M + 8 * widest);
  CHECK(reference::activation_bytes(c, 2, 16) == bytes);
  const msg::memory_bytes all = reference::training_memory(c, 2, 16);
  CHECK(std::abs(all.activations - bytes) < 1e-6 * bytes);
  CHECK(all.parameters + all.gradients + all.moments == 16.0 * double(reference::parameter_count(c)));
}

TEST_CASE("a schedule is timed at its own sizes, and at others where those are few", "[plan_text]") {
  const reference::run_setup setup = setup_of(gpt, {});
  const auto wanted = reference::sizes_to_measure(setup);
  REQUIRE(wanted.size() == 4);
  CHECK(!wanted[0].stage);
  CHECK(wanted[0].sizes == msg::sizes_after(setup.timeline, 0));
  CHECK(wanted[1].stage == std::size_t{0});
  CHECK(wanted[2].stage == std::size_t{1});
  CHECK(!wanted[3].stage);
  CHECK(wanted[3].sizes != wanted[2].sizes);

  std::string many = R"({"version": 1, "start": {"hidden": 8, "ffn": 16, "heads": 1, "layers": 1}, "stages": [)";
  for (int s = 1; s <= 20; ++s) {
    many += (s > 1 ? ", " : "") + std::string{R"({"at": {"step": )"} + std::to_string(2 * s) +
            R"(}, "grow": {"ffn": )" + std::to_string(16 + s) + "}}";
  }
  const auto some = reference::sizes_to_measure(setup_of(gpt, {}, (many + "]}").c_str()));
  CHECK(some.size() == 8);
  CHECK(msg::size_of(some.front().sizes, "ffn") == 16);
  CHECK(msg::size_of(some.back().sizes, "ffn") == 36);
}

TEST_CASE("real steps are timed at every size asked for, in ramps too, for every architecture", "[plan_text]") {
  struct kind {
    reference::program what;
    std::vector<const char*> options;
  };
  for (const kind& k : {kind{gpt, {"--accumulate", "2"}}, kind{bert, {}}, kind{bert, {"--documents", "none"}},
                        kind{gpt, {"--arch", "llama", "--kv-heads", "1"}}}) {
    const reference::run_setup setup = setup_of(k.what, k.options);
    const auto wanted = reference::sizes_to_measure(setup);
    const machine_timing machine = reference::measure_machine(setup, wanted, 60, nullptr, 2);
    INFO(machine.why_not);
    REQUIRE(machine.measured());
    REQUIRE(machine.timings.size() == wanted.size());
    for (const auto& w : wanted) {
      const reference::sizes_timing* timing = machine.find(w.sizes);
      REQUIRE(timing != nullptr);
      CHECK(timing->milliseconds > 0);
      CHECK(timing->forward > 0);
      CHECK((timing->in_ramp > 0) == (w.stage == std::size_t{0})); // the second growth has no mask
    }
    CHECK(machine.fit.tokens_per_step == msg::index(setup.settings.batch * 16 * setup.settings.accumulate));
    CHECK(msg::milliseconds_of(machine.fit, reference::costs_of(setup)(wanted[0].sizes)) > 0);
  }
}

TEST_CASE("what would take too long is not timed, and the reason told", "[plan_text]") {
  const reference::run_setup setup = setup_of(gpt, {});
  CHECK(reference::measure_machine(setup, reference::sizes_to_measure(setup), 0).why_not == "--calibrate 0");
  const machine_timing none = reference::measure_machine(setup, reference::sizes_to_measure(setup), 1e-9);
  CHECK(none.why_not.find("a step of C8 F32 H1 L2 takes up to ") == 0);
  CHECK(none.why_not.find("too long to time within --calibrate 1e-09") != std::string::npos);
  CHECK(none.timings.empty());
  const std::string text = reference::plan_text(setup, none);
  CHECK(text.find("ms/step") == std::string::npos);
  CHECK(text.find("time      not measured: a step of") != std::string::npos);
}

TEST_CASE("expected time is steps by milliseconds, measured where they were, and ramps by their own", "[plan_text]") {
  const reference::run_setup setup = setup_of(gpt, {});
  machine_timing machine;
  machine.fit = {.tokens_per_step = 32, .coefficients = {{"fixed", 7}}, .error = 0.03};
  machine.timings = {{.sizes = msg::sizes_after(setup.timeline, 0), .milliseconds = 2},
                     {.sizes = msg::sizes_after(setup.timeline, 1), .milliseconds = 5, .in_ramp = 6}};
  const reference::run_outlook run = reference::outlook_of(setup, machine);
  REQUIRE(run.stages.size() == 3);
  CHECK(run.stages[0].cost.seconds == Approx(20 * 2e-3));
  CHECK(run.stages[1].cost.seconds == Approx(10 * 6e-3));                  // steps 20 to 30, all within the ramp
  CHECK(run.stages[2].cost.seconds == Approx(20 * 7e-3 + 5 * 7e-3 * 0.2)); // fitted; the ramp's last 5 steps
  CHECK(run.stages[1].timed);
  CHECK(!run.stages[2].timed);
  CHECK(run.seconds == Approx(run.stages[0].cost.seconds + run.stages[1].cost.seconds + run.stages[2].cost.seconds));
  CHECK(run.whole.cost.seconds == Approx(50 * 7e-3));
  double flops = 0;
  const msg::index steps[] = {20, 10, 20};
  for (std::size_t s = 0; s < 3; ++s) {
    const config c = reference::resized(setup.start, msg::sizes_after(setup.timeline, s));
    flops += reference::training_flops_per_token(c, 16) * 32 * double(steps[s]);
  }
  CHECK(run.flops == Approx(flops));
  const std::string text = reference::plan_text(setup, machine);
  for (const char* part : {"ms/step", "C8 F32 H1 L2", "alone: the final model for as many steps", "times the time",
                           "each is predicted from the others to 3 % or better"}) {
    CAPTURE(text, part);
    CHECK(text.find(part) != std::string::npos);
  }
}

TEST_CASE("stages that training decides are expected at the latest, or evenly spread", "[plan_text]") {
  msg::schedule timeline{.start = {{"ffn", 1}}};
  timeline.stages.resize(4);
  timeline.stages[0].at = {.kind = msg::trigger_kind::plateau, .value = 0.1};
  timeline.stages[1].at = {.kind = msg::trigger_kind::loss, .value = 1};
  timeline.stages[2].at = {.kind = msg::trigger_kind::loss, .value = 1, .not_after = 60};
  timeline.stages[3].at = {.kind = msg::trigger_kind::slope, .value = 1};
  CHECK(reference::expected_steps(timeline, {100, 1}) == std::vector<msg::index>{20, 40, 60, 80});
}
