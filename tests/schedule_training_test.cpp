// Schedules that training itself decides, in the trainer: every trigger, trials, ramps by axis, rates of fresh entries;
// killed, resumed and repeated to the same bits.

#include "support/training.hpp"

#include "transformer/checkpoint.hpp"
#include "transformer/foreseen_steps.hpp"
#include "transformer/schedule_file.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <utility>
#include <vector>

namespace {

using namespace training;

/// A first growth by this trigger, with these further keys, and a second at step 18.
[[nodiscard]] std::string schedule_by(const std::string& at, const std::string& more = R"("grow": {"ffn": 24})") {
  return R"({"version": 1, "start": {"hidden": 8, "ffn": 16, "heads": 1, "layers": 1},
    "lr": {"policy": "cosine", "peak": 3e-3, "min": 3e-4, "warmup_steps": 2},
    "stages": [{"at": )" +
         at + ", " + more + R"(, "ramp": {"shape": "linear", "steps": 5}},
               {"at": {"step": 18}, "grow": {"hidden": 16, "ffn": 40, "heads": 2},
                "ramp": {"shape": "cosine", "steps": 3}}]})";
}

const char* const two_candidates = R"("candidates": [{"grow": {"ffn": 32}}, {"grow": {"layers": 2}}])";

struct kind {
  std::string name;
  std::string schedule;
};
/// Every trigger but seconds, whose step is another in every run.
[[nodiscard]] std::vector<kind> kinds() {
  return {{"step", schedule_by(R"({"step": 5})")},
          {"tokens", schedule_by(R"({"tokens": 400})")},
          {"fraction", schedule_by(R"({"fraction": 0.3})")},
          {"loss", schedule_by(R"({"loss": 5.3, "window": 3, "not_after": 17})")},
          {"slope", schedule_by(R"({"slope": 1.5, "window": 4, "not_before": 6, "not_after": 17})")},
          {"plateau", schedule_by(R"({"plateau": 0.02, "window": 6, "of": "training", "not_after": 17})")},
          {"probe", schedule_by(R"({"probe": 5, "window": 2, "every": 4, "not_after": 13})", two_candidates)}};
}
[[nodiscard]] kind kind_of(const std::string& name) {
  const std::vector<kind> all = kinds();
  return *std::find_if(all.begin(), all.end(), [&](const kind& k) { return k.name == name; });
}
/// The width of a head is told, for the schedule as it came about may end at other sizes than the one given.
[[nodiscard]] workplace place_of(const std::string& schedule) {
  return workplace{MSG_TRAIN_GPT, {"--head-dim", "8"}, schedule.c_str()};
}

[[nodiscard]] json state_of(const workplace& place, const std::string& run) {
  std::string name = read_bytes(place / (run + "/latest"));
  name.pop_back();
  return json::parse(read_bytes(place / (run + "/" + name + "/trainer_state.json")));
}
[[nodiscard]] double number(const json& record, const char* key) { return record.at(key).get<double>(); }

/// Mean training loss of the steps in (from, to].
[[nodiscard]] double mean_loss(const std::vector<json>& records, int from, int to) {
  double sum = 0;
  for (const json& r : of_event(records, "step")) {
    if (r.at("step") > from && r.at("step") <= to) { sum += number(r, "loss"); }
  }
  return sum / (to - from);
}

} // namespace

TEST_CASE("under every trigger a run repeats, and killed and resumed it ends with the same bits",
          "[trainer][schedule]") {
  const kind k = GENERATE(from_range(kinds()));
  CAPTURE(k.name);
  const workplace place = place_of(k.schedule);
  check_kills(place, 2, "5");
  const std::vector<json> records = place.metrics("whole");
  CHECK(timeless(records) == timeless(place.metrics("timed"))); // the same command once more
  CHECK(checkpoint_of(place, "timed") == checkpoint_of(place, "whole"));

  const std::vector<json> growths = of_event(records, "growth");
  REQUIRE(growths.size() >= 4);
  CHECK(growths.front().at("trigger") == k.name);
  CHECK(growths.back().at("trigger") == "step");
  const json decisions = state_of(place, "whole").at("decisions");
  CHECK(decisions.back().at("what") == "grow");
  CHECK(decisions.back().at("step") == growths.back().at("step"));

  // The run as it came about, told beforehand: the same model, without what the trials cost.
  const outcome again = place.train_new("resolved", {"--schedule", "whole/schedule-resolved.json"});
  INFO(again.error);
  REQUIRE(again.code == 0);
  CHECK(checkpoint_of(place, "resolved") == checkpoint_of(place, "whole"));
  double trials = 0;
  for (const char* event : {"probe", "curve"}) {
    for (const json& trial : of_event(records, event)) { trials += number(trial, "flops"); }
  }
  CHECK((trials > 0) == (k.name == "slope" || k.name == "probe"));
  const double whole = number(of_event(records, "end").at(0), "flops");
  const double resolved = number(of_event(place.metrics("resolved"), "end").at(0), "flops");
  CHECK(whole - trials == Approx(resolved).epsilon(1e-12)); // sums of some 60 doubles
}

TEST_CASE("a run resumed at every step, between trials too, ends with the same bits", "[trainer][schedule]") {
  const std::string name = GENERATE("slope", "probe");
  CAPTURE(name);
  check_resume_at_every_step(place_of(kind_of(name).schedule));
}

TEST_CASE("a growth at a loss happens once the mean of the window is there, and says so", "[trainer][schedule]") {
  const workplace place = place_of(schedule_by(R"({"loss": 5.3, "window": 3})"));
  const outcome done = place.train_new("run");
  REQUIRE(done.code == 0);
  const std::vector<json> records = place.metrics("run");
  const json growth = of_event(records, "growth").at(0);
  const int step = growth.at("step");
  CHECK(step > 3);
  CHECK(number(growth, "seen") == Approx(mean_loss(records, step - 3, step)).epsilon(1e-12));
  CHECK(number(growth, "seen") <= 5.3);
  CHECK(mean_loss(records, step - 4, step - 1) > 5.3); // not a step before
  CHECK(growth.at("limit") == 5.3);
  CHECK(growth.at("why") == "mean loss of the window");
  CHECK(done.out.find("because mean loss of the window: 5.2") != std::string::npos);
  CHECK(read_bytes(place / "run/report.html").find("mean loss of the window: 5.2") != std::string::npos);
}

TEST_CASE("a growth at a plateau happens once the loss falls too little", "[trainer][schedule]") {
  const workplace place = place_of(schedule_by(R"({"plateau": 0.02, "window": 6})"));
  REQUIRE(place.train_new("run").code == 0);
  const std::vector<json> records = place.metrics("run");
  const json growth = of_event(records, "growth").at(0);
  const int step = growth.at("step");
  const auto gain = [&](int at) {
    const double first = mean_loss(records, at - 6, at - 3);
    return (first - mean_loss(records, at - 3, at)) / first;
  };
  CHECK(number(growth, "seen") == Approx(gain(step)).epsilon(1e-9));
  CHECK(gain(step) < 0.02);
  for (int before = 6; before < step; ++before) { CHECK(gain(before) >= 0.02); }
}

TEST_CASE("a validation loss decides where it was taken", "[trainer][schedule]") {
  const workplace place = place_of(schedule_by(R"({"loss": 5.5, "of": "validation", "not_after": 17})"));
  REQUIRE(place.train_new("run", {"--eval-every", "4"}).code == 0);
  const std::vector<json> records = place.metrics("run");
  const json growth = of_event(records, "growth").at(0);
  CHECK(growth.at("step").get<int>() % 4 == 0);
  CHECK(growth.at("seen") == of_event(records, "step").at(growth.at("step").get<std::size_t>()).at("val_loss"));
  const outcome never = place.train_new("never", {"--eval-every", "0"});
  CHECK(never.code == 2);
  CHECK(never.error.find("stages[0].at: --eval-every expected at least 1") != std::string::npos);
  write_bytes(place / "grow.json", schedule_by(R"({"plateau": 0.1, "of": "validation", "window": 6})"));
  const outcome seldom = place.train_new("seldom", {"--eval-every", "4"});
  CHECK(seldom.code == 2);
  CHECK(one_line(seldom.error));
  CHECK(seldom.error.find("stages[0].at.window: expected at least 8, 2 evaluations") != std::string::npos);
  CHECK_FALSE(fs::exists(place / "seldom"));
}

TEST_CASE("a slope is measured against a short run of the grown model, which is told and counted",
          "[trainer][schedule]") {
  const workplace place = place_of(kind_of("slope").schedule);
  const outcome done = place.train_new("run");
  REQUIRE(done.code == 0);
  const std::vector<json> records = place.metrics("run");
  const std::vector<json> curves = of_event(records, "curve");
  REQUIRE(curves.size() == 1);
  CHECK(curves[0].at("step") == 0);
  CHECK(curves[0].at("steps") == 2 + 4); // warm-up and window
  CHECK(curves[0].at("grow") == json({{"ffn", 24}}));
  CHECK(number(curves[0], "loss_after") < number(curves[0], "loss_before"));
  CHECK(done.out.find("trial at step 0, stage 1: ffn 24 from scratch, loss 5.") != std::string::npos);
  const json growth = of_event(records, "growth").at(0);
  CHECK(growth.at("why") == "loss gained per FLOP");
  CHECK(number(growth, "seen") < number(growth, "limit"));
  const json seen = state_of(place, "run").at("seen");
  REQUIRE(seen.at("curves").size() == 1);
  CHECK(seen.at("curves")[0].at("loss").size() == 4); // behind the warm-up
  // The same numbers as a run of the grown model from the start.
  const outcome grown = place.train_new("grown", {"--schedule", "none", "--hidden", "8", "--ffn", "24", "--heads", "1",
                                                  "--layers", "1", "--lr", "3e-3", "--warmup", "2"});
  INFO(grown.error);
  REQUIRE(grown.code == 0);
  const std::vector<json> steps = of_event(place.metrics("grown"), "step");
  CHECK(curves[0].at("loss_before") == steps.at(1).at("loss"));
  CHECK(number(curves[0], "loss_after") == Approx(number(steps.at(6), "loss")).epsilon(1e-2)); // another decay
}

TEST_CASE("trials choose the candidate that gains most per FLOP, and going on as it is may win",
          "[trainer][schedule]") {
  const workplace place = place_of(kind_of("probe").schedule);
  const outcome done = place.train_new("run");
  REQUIRE(done.code == 0);
  const std::vector<json> records = place.metrics("run");
  const std::vector<json> trials = of_event(records, "probe");
  REQUIRE(trials.size() % 3 == 0);
  const json growth = of_event(records, "growth").at(0);
  for (std::size_t first = 0; first < trials.size(); first += 3) {
    const int step = trials[first].at("step");
    CAPTURE(step);
    CHECK((step - 5) % 4 == 0);
    std::size_t best = 0;
    std::vector<double> gains;
    for (std::size_t c = 0; c < 3; ++c) {
      const json& trial = trials[first + c];
      CHECK(trial.at("candidate") == static_cast<int>(c) - 1);
      CHECK(trial.at("steps") == 2);
      CHECK(trial.at("loss_before") == trials[first].at("loss_before")); // of the same windows
      gains.push_back((number(trial, "loss_before") - number(trial, "loss_after")) / number(trial, "flops"));
      if (c > 0 && gains[c] > gains[std::max<std::size_t>(best, 1)]) { best = c; }
      best = std::max<std::size_t>(best, c > 0 ? 1 : 0);
    }
    const bool last = first + 3 == trials.size();
    const bool forced = growth.at("step") == 13;
    if (last && growth.at("step") == step && !forced) {
      CHECK(gains[best] > gains[0]);
      CHECK(growth.at("axis") == (best == 1 ? "ffn" : "layers"));
      CHECK(number(growth, "seen") == Approx(gains[best]).epsilon(1e-12));
    } else if (!last) {
      CHECK(gains[best] <= gains[0]);
    }
  }
  CHECK(done.out.find("trial at step 5, stage 1: as it is, loss 5.") != std::string::npos);
  CHECK(done.out.find("trial at step 5, stage 1: layers 2, loss 5.") != std::string::npos);
  CHECK(read_bytes(place / "run/report.html").find("<h2>Trials</h2>") != std::string::npos);
}

TEST_CASE("a trial without an alternative is not run: one of the candidates grows", "[trainer][schedule]") {
  const workplace place = place_of(schedule_by(R"({"probe": 5, "window": 2})", two_candidates));
  REQUIRE(place.train_new("run").code == 0);
  const std::vector<json> trials = of_event(place.metrics("run"), "probe");
  REQUIRE(trials.size() == 2);
  CHECK(trials[0].at("candidate") == 0);
  CHECK(of_event(place.metrics("run"), "growth").at(0).at("step") == 5);
}

TEST_CASE("a trial comes to the loss that the run comes to if it goes on like that", "[trainer][schedule]") {
  const std::string every = GENERATE("", R"(, "every": 4, "not_after": 17)");
  const workplace place = place_of(schedule_by(R"({"probe": 5, "window": 3)" + every + "}", two_candidates));
  REQUIRE(place.train_new("run").code == 0);
  const std::vector<json> records = place.metrics("run");
  const json decisions = state_of(place, "run").at("decisions");
  REQUIRE(decisions.at(1).at("step") == 5);
  int found = 0;
  for (const json& trial : of_event(records, "probe")) {
    if (trial.at("step") != 5 || trial.at("candidate") != decisions[1].at("candidate")) { continue; }
    CHECK(trial.at("loss_after") == of_event(records, "step").at(8).at("val_loss")); // to the bit
    ++found;
  }
  CHECK(found == 1);
}

TEST_CASE("Ctrl-C in the middle of a trial ends it, and keeps the run as it was before", "[trainer][schedule]") {
  const std::string name = GENERATE("probe", "slope");
  CAPTURE(name);
  const bool probe = name == "probe"; // trials that would take an hour
  const workplace place = place_of(schedule_by(probe ? R"({"probe": 2, "window": 10000000})"
                                                     : R"({"slope": 1, "window": 10000000, "not_after": 5})"));
  const outcome stopped = place.train_new("run", {}, {.signal = SIGINT, .after = std::chrono::milliseconds(1500)});
  INFO(stopped.error);
  REQUIRE(stopped.signal == 0);
  REQUIRE(stopped.code == 0);
  CHECK(stopped.out.find("and saved; go on with --resume run") != std::string::npos);
  const json state = state_of(place, "run");
  CHECK(state.at("step") == (probe ? 2 : 0));
  CHECK(state.at("seen").at("trials").empty());
  CHECK(state.at("seen").at("curves").empty());
  const std::vector<json> records = place.metrics("run");
  CHECK(of_event(records, "probe").size() + of_event(records, "curve").size() == 0);
  CHECK(of_event(records, "step").size() == (probe ? 3U : 1U));
  // Gone on with, it tries again; the records before are not written twice.
  const outcome again = place.train({"--resume", "run"}, {.signal = SIGINT, .after = std::chrono::milliseconds(1500)});
  INFO(again.error);
  CHECK(again.signal == 0);
  CHECK(again.code == 0);
  CHECK(timeless(place.metrics("run")) == timeless(records));
  CHECK(state_of(place, "run").at("decisions") == state.at("decisions"));
}

TEST_CASE("a growth after so many seconds stays where it happened, killed and resumed", "[trainer][schedule]") {
  const workplace place = place_of(schedule_by(R"({"step": 5})"));
  REQUIRE(place.train_new("timed").code == 0);
  const double half = number(of_event(place.metrics("timed"), "end").at(0), "seconds") / 2;
  write_bytes(place / "grow.json",
              schedule_by(R"({"seconds": )" + json(half).dump() + R"(, "not_before": 2, "not_after": 15})"));
  REQUIRE(place.train_new("run", {"--max-seconds", "1e-9"}).code == 0);
  json grown; // the decision, as the first checkpoint after it has it
  for (int round = 0; round < 60 && read_bytes(place / "run/latest") != "step-00000024\n"; ++round) {
    const double limit = number(state_of(place, "run"), "seconds") + 1e-9;
    REQUIRE(place.train({"--resume", "run", "--max-seconds", json(limit).dump()}).code == 0);
    const json decisions = state_of(place, "run").at("decisions");
    if (grown.is_null() && !decisions.empty()) { grown = decisions[0]; }
    if (!grown.is_null()) { CHECK(decisions[0] == grown); } // whatever the clock says since
  }
  REQUIRE(!grown.is_null());
  const json growth = of_event(place.metrics("run"), "growth").at(0);
  CHECK(growth.at("step") == grown.at("step"));
  if (growth.at("why") == "seconds of training") { CHECK(number(growth, "seen") >= half); }
  REQUIRE(place.train_new("resolved", {"--schedule", "run/schedule-resolved.json"}).code == 0);
  CHECK(checkpoint_of(place, "resolved") == checkpoint_of(place, "run"));
}

TEST_CASE("a growth that training put into the decay of wsd is repeated there", "[trainer][schedule]") {
  json given = json::parse(schedule_by(R"({"seconds": 1e-9, "not_before": 20})"));
  given["stages"].erase(1);
  given["lr"] = {{"policy", "wsd"}, {"peak", 1e-2}, {"warmup_steps", 2}, {"decay_fraction", 0.5}};
  const workplace place = place_of(given.dump());
  REQUIRE(place.train_new("run").code == 0);
  CHECK(of_event(place.metrics("run"), "growth").at(0).at("step") == 20); // of 24: the decay began at 12
  REQUIRE(place.train_new("resolved", {"--schedule", "run/schedule-resolved.json"}).code == 0);
  CHECK(checkpoint_of(place, "resolved") == checkpoint_of(place, "run"));
  given["stages"][0]["at"] = {{"step", 20}}; // the control
  write_bytes(place / "known.json", given.dump());
  const outcome refused = place.train_new("known", {"--schedule", "known.json"});
  CHECK(refused.code == 2);
  CHECK(refused.error.find("a growth before the decay") != std::string::npos);
}

TEST_CASE("saved decisions that contradict the checkpoint are one line on stderr and exit code 2",
          "[trainer][schedule]") {
  const workplace place = place_of(schedule_by(R"({"probe": 5, "window": 2})", two_candidates));
  REQUIRE(place.train_new("run", {"--save-every", "8"}).code == 0);
  const fs::path file = place / "run/step-00000016/trainer_state.json";
  const std::string good = read_bytes(file);
  const std::string metrics = read_bytes(place / "run/metrics.jsonl");
  const json state = json::parse(good);
  REQUIRE(state.at("decisions").size() == 2);
  const auto refused = [&](const std::string& pointer, const json& value) {
    json changed = state;
    changed[json::json_pointer(pointer)] = value;
    write_bytes(file, changed.dump());
    const outcome result = place.train({"--resume", "run/step-00000016"});
    CHECK(result.code == 2);
    CHECK(one_line(result.error));
    CHECK(read_bytes(place / "run/metrics.jsonl") == metrics); // nothing is cut off
    return result.error;
  };
  const int won = state.at("decisions")[1].at("candidate");
  CHECK(refused("/decisions/1/candidate", 1 - won).find("the saved decision at step 5") != std::string::npos);
  CHECK(refused("/decisions/1/step", 6).find("the saved decision at step 6") != std::string::npos);
  CHECK(refused("/decisions/1/stage", 1).find("the saved decision at step 5") != std::string::npos);
  CHECK(refused("/decisions/1/what", "grown").find("decisions[1].what: expected wait, probe or grow") !=
        std::string::npos);
  CHECK(refused("/decisions", json::array()).find("the saved trials") != std::string::npos);
  CHECK(refused("/seen/trials/" + std::to_string(won) + "/loss_after", 50).find("the saved decision at step 5") !=
        std::string::npos);
  CHECK(refused("/seen/steps/flops/0", 1e30).find("trainer_state.json") != std::string::npos);
  CHECK(refused("/version", 1).find("version 1 is of a program without a log of decisions") != std::string::npos);

  write_bytes(place / "grow.json", schedule_by(R"({"step": 5})"));
  REQUIRE(place.train_new("told", {"--save-every", "8"}).code == 0);
  const fs::path other = place / "told/step-00000016/trainer_state.json";
  json moved = json::parse(read_bytes(other));
  moved["decisions"][0]["step"] = 6; // which no trigger contradicts: the length of a run may move a step
  write_bytes(other, moved.dump());
  const outcome result = place.train({"--resume", "told/step-00000016"});
  CHECK(result.code == 2);
  CHECK(result.error.find("expected a growth at step 6, found none in growth.json") != std::string::npos);
}

TEST_CASE("ramps of axes overlap each at its own pace, and a resume at every step keeps the bits",
          "[trainer][schedule]") {
  const workplace place = place_of(R"({"version": 1, "start": {"hidden": 8, "ffn": 16, "heads": 1, "layers": 1},
    "lr": {"policy": "constant", "peak": 3e-3},
    "stages": [{"at": {"step": 4}, "grow": {"ffn": 24, "heads": 2, "hidden": 16}, "ramp": {"steps": 3},
                "ramps": {"ffn": {"steps": 12}, "heads": {"shape": "step", "steps": 6}}},
               {"at": {"step": 8}, "grow": {"layers": 2}, "ramps": {"layers": {"steps": 10}}}]})");
  check_resume_at_every_step(place);
  const std::vector<json> steps = of_event(place.metrics("whole"), "step");
  struct ramp {
    const char* axis;
    int at, steps;
    bool jumps;
  };
  for (const ramp& r :
       {ramp{"ffn", 4, 12, false}, {"heads", 4, 6, true}, {"hidden", 4, 3, false}, {"layers", 8, 10, false}}) {
    CAPTURE(r.axis);
    for (int s = 0; s <= 24; ++s) { // the record of step s shows the masks that step s + 1 will use, growths aside
      CAPTURE(s);
      const json& masks = steps.at(static_cast<std::size_t>(s)).at("masks");
      const bool under_way = s > r.at && s <= r.at + r.steps;
      REQUIRE(masks.contains(r.axis) == under_way);
      if (!under_way) { continue; }
      const double part = r.jumps && s < r.at + r.steps ? 0 : static_cast<double>(s - r.at) / r.steps;
      CHECK(masks.at(r.axis).get<double>() == static_cast<double>(static_cast<float>(part)));
    }
  }
}

TEST_CASE("a rate of fresh entries changes their updates by its factor, and no others", "[trainer][schedule]") {
  // At the step of the growth fresh entries have no gradient; at the next the masks are 1/4, so the factor is
  // 0.2 + 0.8 / 4; only from the step after that on do other values differ.
  const auto growth_at = [](const char* lr) {
    return std::string{R"({"version": 1, "start": {"hidden": 8, "ffn": 16, "heads": 1, "layers": 1},
      "lr": {"policy": "constant", "peak": 3e-3},
      "stages": [{"at": {"step": 4}, "grow": {"ffn": 24}, "ramp": {"steps": 4}, "lr": )"} +
           lr + "}]}";
  };
  const workplace place = place_of(growth_at("{}"));
  const std::vector<std::string> short_run{"--steps", "6", "--save-every", "1", "--weight-decay", "0"};
  REQUIRE(place.train_new("plain", short_run).code == 0);
  write_bytes(place / "grow.json", growth_at(R"({"fresh": 0.2})"));
  REQUIRE(place.train_new("slow", short_run).code == 0);
  const auto model = [&](const std::string& run, const char* step) {
    return reference::safetensors_file(place / (run + "/" + step + "/model.safetensors"));
  };
  const auto before = model("plain", "step-00000005");
  CHECK(read_bytes(place / "plain/step-00000005/model.safetensors") ==
        read_bytes(place / "slow/step-00000005/model.safetensors"));
  const auto plain = model("plain", "step-00000006");
  const auto slow = model("slow", "step-00000006");
  msg::index fresh = 0;
  for (const reference::tensor_entry& entry : plain.tensors()) {
    CAPTURE(entry.name);
    const auto was = before.read<float>(entry.name);
    const auto fast = plain.read<float>(entry.name);
    const auto less = slow.read<float>(entry.name);
    for (std::size_t i = 0; i < fast.size(); ++i) {
      const auto at = static_cast<msg::index>(i);
      const bool of_fresh = (entry.name == "transformer.h.0.mlp.c_fc.weight" && at % 24 >= 16) || // (hidden, ffn)
                            (entry.name == "transformer.h.0.mlp.c_fc.bias" && at >= 16) ||
                            (entry.name == "transformer.h.0.mlp.c_proj.weight" && at / 8 >= 16); // (ffn, hidden)
      if (!of_fresh) {
        REQUIRE(fast[i] == less[i]);
        continue;
      }
      ++fresh;
      const double whole = static_cast<double>(fast[i]) - static_cast<double>(was[i]);
      const double part = static_cast<double>(less[i]) - static_cast<double>(was[i]);
      // each value rounds once, and the update itself three times
      const double rounding = std::numeric_limits<float>::epsilon() *
                              (std::abs(double{fast[i]}) + std::abs(double{was[i]}) + 4 * std::abs(whole));
      REQUIRE(std::abs(part - 0.4 * whole) <= rounding);
      CHECK(whole != 0);
    }
  }
  CHECK(fresh == 8 * 8 + 8 + 8 * 8);
}

TEST_CASE("stages of different axes may begin at one step, and an axis grows once at one", "[trainer][schedule]") {
  const workplace place = place_of(R"({"version": 1, "start": {"hidden": 8, "ffn": 16, "heads": 1, "layers": 1},
    "lr": {"policy": "constant", "peak": 3e-3},
    "stages": [{"at": {"seconds": 1e-9}, "grow": {"ffn": 24}, "ramp": {"steps": 3}},
               {"at": {"seconds": 1e-9}, "grow": {"layers": 2}, "ramp": {"steps": 5}},
               {"at": {"seconds": 1e-9}, "grow": {"ffn": 32}},
               {"at": {"step": 9}, "grow": {"hidden": 16}, "ramp": {"steps": 3}},
               {"at": {"step": 9}, "grow": {"heads": 2}, "ramp": {"steps": 2}}]})");
  REQUIRE(place.train_new("run").code == 0);
  std::vector<int> steps;
  for (const json& g : of_event(place.metrics("run"), "growth")) {
    steps.push_back(g.at("step"));
    CHECK(number(g, "loss_before") == Approx(number(g, "loss_after")).epsilon(g.at("group") == 2 ? 1e-2 : 1e-6));
  }
  CHECK(steps == std::vector<int>{1, 1, 2, 9, 9});
  REQUIRE(place.train_new("again", {"--schedule", "run/schedule-resolved.json"}).code == 0);
  CHECK(checkpoint_of(place, "again") == checkpoint_of(place, "run"));
}

TEST_CASE("BERT grows by its own losses and trials too", "[trainer][schedule]") {
  const std::string tries = schedule_by(R"({"probe": 5, "window": 2, "every": 6, "not_after": 11})", two_candidates);
  const workplace place{MSG_TRAIN_BERT, {"--seq", "32", "--head-dim", "8"}, tries.c_str()};
  check_resume_at_every_step(place);
  CHECK(of_event(place.metrics("whole"), "probe").size() >= 3);
}

TEST_CASE("what training will decide leaves the time left unknown, and the end of a run known beforehand",
          "[trainer][schedule]") {
  const msg::run_extent run{1000, 64};
  const auto steps = [&](const std::string& at) {
    return reference::foreseen_steps(
        reference::read_schedule(json::parse(schedule_by(at, two_candidates)), run, "s.json"), run);
  };
  CHECK(steps(R"({"probe": 5, "window": 2})") == std::vector<msg::index>{5, 18});
  CHECK(steps(R"({"probe": 5, "window": 2, "not_before": 9})") == std::vector<msg::index>{9, 18});
  CHECK(steps(R"({"probe": 5, "window": 2, "every": 4})").empty());
  CHECK(steps(R"({"probe": 5, "window": 2, "every": 4, "not_after": 30})") == std::vector<msg::index>{30, 30});
  const workplace place = place_of(schedule_by(R"({"plateau": 1e-9, "window": 24})")); // as good as never
  const outcome done = place.train_new("run");
  REQUIRE(done.code == 0);
  CHECK(done.out.find(" left") == std::string::npos);
  CHECK(done.out.find("2 of 2 stages did not begin; the next one waits: ") != std::string::npos);
  CHECK(place.train_new("told", {"--schedule", "run/schedule-resolved.json"}).out.find(" left") != std::string::npos);
}
