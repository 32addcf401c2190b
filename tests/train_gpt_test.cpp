// The trainer as a person and as other programs meet it: exit codes, messages, metrics, kill and resume.

#include "support/catch.hpp"
#include "support/files_support.hpp"
#include "support/program.hpp"

#include "transformer/metrics.hpp"

#include <msg/random.hpp>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

namespace {

namespace fs = std::filesystem;
using files_test::read_bytes;
using files_test::temporary_folder;
using files_test::write_bytes;
using reference::json;
using support::outcome;

// A growth in every dimension within 24 steps, ramps overlapping.
constexpr const char* schedule = R"({"version": 1,
  "start": {"hidden": 8, "ffn": 16, "heads": 1, "layers": 1},
  "lr": {"policy": "cosine", "peak": 3e-3, "min": 3e-4, "warmup_steps": 2},
  "stages": [
    {"at": {"step": 4}, "grow": {"ffn": 24}, "ramp": {"shape": "linear", "steps": 5}},
    {"at": {"step": 7}, "grow": {"hidden": 16, "heads": 2}, "ramp": {"shape": "cosine", "steps": 6}},
    {"at": {"step": 15}, "grow": {"ffn": 32, "layers": 3}, "ramp": {"shape": "linear", "steps": 4}}]})";

/// A folder with text to train on and the schedule; runs the trainer in it.
class workplace {
public:
  workplace() {
    fs::create_directory(folder_ / "text");
    for (int file = 0; file < 30; ++file) {
      std::string text;
      while (text.size() < 2000) {
        text += "line " + std::to_string(text.size() * static_cast<std::size_t>(file + 3) % 977) + " of some text\n";
      }
      write_bytes(folder_ / ("text/" + std::to_string(file) + ".txt"), text);
    }
    write_bytes(folder_ / "grow.json", schedule);
  }
  [[nodiscard]] outcome train(std::vector<std::string> arguments, const support::conditions& during = {}) const {
    std::vector<std::string> words{MSG_TRAIN_GPT};
    words.insert(words.end(), arguments.begin(), arguments.end());
    return support::run_program(words, folder_.path(), during);
  }
  /// A new run of 24 small steps into RUN.
  [[nodiscard]] outcome train_new(const std::string& run, std::vector<std::string> more = {},
                                  const support::conditions& during = {}) const {
    std::vector<std::string> arguments{"--data",    "text", "--schedule",  "grow.json", "--steps",      "24",
                                       "--seq",     "16",   "--batch",     "4",         "--out",        run,
                                       "--threads", "2",    "--log-every", "1",         "--eval-every", "8"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return train(arguments, during);
  }
  [[nodiscard]] fs::path operator/(const std::string& name) const { return folder_ / name; }
  [[nodiscard]] std::vector<json> metrics(const std::string& run) const {
    return reference::read_metrics(folder_ / (run + "/metrics.jsonl"));
  }

private:
  temporary_folder folder_;
};

std::vector<json> of_event(const std::vector<json>& records, const std::string& event) {
  std::vector<json> result;
  std::copy_if(records.begin(), records.end(), std::back_inserter(result),
               [&](const json& r) { return r.at("event") == event; });
  return result;
}

/// Metrics without what differs from run to run: times.
std::vector<json> timeless(std::vector<json> records) {
  for (json& r : records) {
    r.erase("seconds");
    r.erase("tokens_per_second");
  }
  return records;
}

/// The last checkpoint of a run, without the training time in it: its name, and for each file a hash of its bytes.
std::vector<std::string> checkpoint_of(const workplace& place, const std::string& run) {
  std::string name = read_bytes(place / (run + "/latest"));
  name.pop_back();
  std::vector<std::string> files{name};
  for (const char* file : {"config.json", "model.safetensors", "optimizer.safetensors", "growth.json"}) {
    const std::uint64_t hash = msg::stream_of(read_bytes(place / (run + "/" + name + "/" + file)));
    files.push_back(std::string{file} + " " + std::to_string(hash));
  }
  return files;
}

bool one_line(const std::string& text) { return std::count(text.begin(), text.end(), '\n') == 1; }

TEST_CASE("a run grows strictly, learns, and leaves metrics, a report and a checkpoint", "[trainer]") {
  const workplace place;
  const outcome done = place.train_new("run", {"--sample", "40"});
  INFO(done.error);
  REQUIRE(done.code == 0);
  CHECK(done.error.empty());
  CHECK(done.out.find("growth at step 7: hidden 8 → 16, heads 1 → 2 (mask)") != std::string::npos);
  CHECK(done.out.find("run/report.html") != std::string::npos);
  const std::vector<json> records = place.metrics("run");
  const std::vector<json> growths = of_event(records, "growth");
  REQUIRE(growths.size() == 5); // axes, three events
  CHECK(growths[1].at("group") == growths[2].at("group"));
  CHECK(growths[0].at("group") != growths[1].at("group"));
  for (const json& g : growths) {
    CHECK(std::abs(g.at("loss_before").get<double>() - g.at("loss_after").get<double>()) < 1e-5);
    CHECK(g.at("max_abs_logit_diff").get<double>() < 1e-4);
  }
  const std::vector<json> steps = of_event(records, "step");
  CHECK(steps.back().at("dims") == json({{"hidden", 16}, {"ffn", 32}, {"heads", 2}, {"layers", 3}}));
  const std::vector<json> ends = of_event(records, "end");
  REQUIRE(ends.size() == 1);
  CHECK(ends[0].at("val_loss").get<double>() < steps.front().at("val_loss").get<double>() - 0.3);
  CHECK(ends[0].at("tokens") == 24 * 4 * 16);
  CHECK(read_bytes(place / "run/latest") == "step-00000024\n");
  CHECK(read_bytes(place / "run/report.html").find("<svg") != std::string::npos);
}

TEST_CASE("masks ramp 0, 1/T, ..., 1 over the steps after a growth, whatever the accumulation", "[trainer]") {
  const workplace place;
  for (const char* accumulate : {"1", "4"}) {
    CAPTURE(accumulate);
    const std::string run = std::string{"run"} + accumulate;
    REQUIRE(place.train_new(run, {"--accumulate", accumulate}).code == 0);
    std::vector<double> ffn; // value used by step s is recorded before it, with s steps done
    const std::vector<json> records = place.metrics(run);
    for (const json& r : of_event(records, "step")) {
      const json& masks = r.at("masks");
      const auto found = masks.find("ffn");
      ffn.push_back(found == masks.end() ? -1 : found->get<double>());
    }
    REQUIRE(ffn.size() == 25); // before the first step, and after each of 24
    // The growth of step 4 happens between records 4 and 5; record s shows the mask that step s will use.
    const std::vector<double> first(ffn.begin() + 3, ffn.begin() + 11);
    REQUIRE(first.size() == 8);
    CHECK(first[0] == -1);
    CHECK(first[1] == -1);
    for (int i = 1; i <= 5; ++i) {
      CHECK(first[static_cast<std::size_t>(i + 1)] == static_cast<double>(static_cast<float>(i / 5.0)));
    }
    CHECK(first[7] == -1);
    CHECK(of_event(records, "growth").size() == 5); // once each, not once a micro-batch
  }
}

TEST_CASE("four micro-batches of 4 train like one batch of 16", "[trainer]") {
  const workplace place;
  REQUIRE(place.train_new("split", {"--accumulate", "4"}).code == 0);
  REQUIRE(place.train_new("whole", {"--batch", "16"}).code == 0);
  const double split = of_event(place.metrics("split"), "end")[0].at("val_loss");
  const double whole = of_event(place.metrics("whole"), "end")[0].at("val_loss");
  // The same numbers summed in another order; 24 AdamW steps let the roundings grow, the data order keeps them alike.
  CHECK(std::abs(split - whole) < 1e-2);
}

TEST_CASE("the same command gives the same bits", "[trainer]") {
  const workplace place;
  REQUIRE(place.train_new("a").code == 0);
  REQUIRE(place.train_new("b").code == 0);
  CHECK(timeless(place.metrics("a")) == timeless(place.metrics("b")));
  CHECK(checkpoint_of(place, "a") == checkpoint_of(place, "b"));
}

TEST_CASE("the option --schedule none trains the final sizes from the start", "[trainer]") {
  const workplace place;
  const outcome done =
      place.train_new("run", {"--schedule", "none", "--hidden", "16", "--ffn", "20", "--heads", "2", "--layers", "2"});
  INFO(done.error);
  REQUIRE(done.code == 0);
  const std::vector<json> records = place.metrics("run");
  CHECK(of_event(records, "growth").empty());
  CHECK(of_event(records, "step").front().at("dims") ==
        json({{"hidden", 16}, {"ffn", 20}, {"heads", 2}, {"layers", 2}}));
}

TEST_CASE("the stack rule changes the loss at a growth, and says so", "[trainer]") {
  const workplace place;
  write_bytes(place / "grow.json", R"({"version": 1, "start": {"hidden": 16, "ffn": 32, "heads": 2, "layers": 1},
    "lr": {"peak": 3e-3}, "stages": [{"at": {"fraction": 0.5}, "grow": {"layers": 3}, "rule": "stack"}]})");
  REQUIRE(place.train_new("run").code == 0);
  const std::vector<json> growths = of_event(place.metrics("run"), "growth");
  REQUIRE(growths.size() == 1);
  CHECK(growths[0].at("rule") == "stack");
  CHECK(growths[0].at("bits_equal") == false);
  CHECK(growths[0].at("loss_before") != growths[0].at("loss_after"));
}

TEST_CASE("a run killed at random moments resumes each time to the same bits as one left alone", "[trainer]") {
  const workplace place;
  REQUIRE(place.train_new("whole", {"--save-every", "1"}).code == 0);
  const auto begin = std::chrono::steady_clock::now();
  REQUIRE(place.train_new("timed", {"--save-every", "1"}).code == 0);
  const double whole_ms = std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - begin).count();
  int kills = 0;
  for (std::uint64_t round = 0; kills < 20; ++round) {
    REQUIRE(round < 100); // on a busy machine kills come late, after the end
    const std::string run = "killed" + std::to_string(round);
    outcome last{};
    for (std::uint64_t attempt = 0; attempt < 30; ++attempt) {
      const double part = msg::random_uniform({round, 7}, attempt);
      const support::conditions kill{.signal = attempt < 8 ? SIGKILL : 0,
                                     .after = std::chrono::milliseconds(static_cast<long>(part * whole_ms))};
      const bool started = fs::exists(place / (run + "/latest"));
      if (started) {
        last = place.train({"--resume", run}, kill);
      } else {
        fs::remove_all(place / run); // killed before its first checkpoint: there is nothing to resume
        last = place.train_new(run, {"--save-every", "1"}, kill);
      }
      if (last.signal == 0) { break; }
      ++kills;
    }
    INFO(last.error);
    REQUIRE(last.code == 0);
    CHECK(checkpoint_of(place, run) == checkpoint_of(place, "whole"));
    CHECK(timeless(place.metrics(run)) == timeless(place.metrics("whole")));
  }
}

TEST_CASE("a resume at every step of two ramps ends with the same bits", "[trainer]") {
  const workplace place;
  REQUIRE(place.train_new("whole", {"--save-every", "1"}).code == 0);
  REQUIRE(place.train_new("steps", {"--save-every", "1", "--max-seconds", "1e-9"}).code == 0); // saves, and stops
  // Each resume is allowed one more step: a time limit that the first step of the resumed run passes.
  for (int step = 0; step < 24; ++step) {
    const json state = json::parse(
        read_bytes(place / ("steps/" + read_bytes(place / "steps/latest").substr(0, 13) + "/trainer_state.json")));
    const double limit = state.at("seconds").get<double>() + 1e-9;
    const outcome next = place.train({"--resume", "steps", "--max-seconds", json(limit).dump()});
    INFO(next.error);
    REQUIRE(next.code == 0);
  }
  CHECK(checkpoint_of(place, "steps") == checkpoint_of(place, "whole"));
}

TEST_CASE("Ctrl-C saves and ends with 0, in mid-ramp too, and the run goes on from there", "[trainer]") {
  const workplace place;
  const outcome stopped = place.train_new("run", {"--steps", "100000", "--log-every", "1"},
                                          {.signal = SIGINT, .after = std::chrono::milliseconds(1500)});
  INFO(stopped.error);
  REQUIRE(stopped.signal == 0);
  REQUIRE(stopped.code == 0);
  CHECK(stopped.out.find("and saved; go on with --resume run") != std::string::npos);
  CHECK(of_event(place.metrics("run"), "end").empty());
  const json last = of_event(place.metrics("run"), "step").back();
  const outcome resumed = place.train({"--resume", "run", "--max-seconds", "1e-9", "--quiet"});
  INFO(resumed.error);
  CHECK(resumed.code == 0);
  CHECK(of_event(place.metrics("run"), "end").at(0).at("step") == last.at("step"));
}

TEST_CASE("a full disk ends the run with 1, one line, and the last checkpoint usable", "[trainer]") {
  const workplace place;
  REQUIRE(place.train_new("run", {"--save-every", "3", "--max-seconds", "1e-9"}).code == 0);
  const std::vector<std::string> before = checkpoint_of(place, "run");
  const outcome full = place.train({"--resume", "run", "--max-seconds", "0", "--quiet"},
                                   {.most_file_bytes = 12000}); // the grown model's file is larger
  CHECK(full.code == 1);
  CHECK(one_line(full.error));
  CHECK(full.error.find("File too large") != std::string::npos);
  CHECK(full.error.find("safetensors") != std::string::npos);
  const outcome resumed = place.train({"--resume", "run", "--max-seconds", "0"});
  INFO(resumed.error);
  CHECK(resumed.code == 0);
  CHECK(of_event(place.metrics("run"), "end").size() >= 1);
}

TEST_CASE("a loss that is not finite ends the run with 1, and the last checkpoint is intact", "[trainer]") {
  const workplace place;
  const outcome diverged =
      place.train_new("run", {"--lr", "1e30", "--clip", "0", "--save-every", "1", "--warmup", "0"});
  CHECK(diverged.code == 1);
  CHECK(one_line(diverged.error));
  CHECK(diverged.error.find("not finite") != std::string::npos);
}

TEST_CASE("bad input is one line on stderr and exit code 2, and nothing is written", "[trainer]") {
  const workplace place;
  struct wrong {
    std::vector<std::string> arguments;
    std::string says;
  };
  write_bytes(place / "broken.json", "{\"version\": 1, \"start\": ");
  write_bytes(place / "unknown.json", R"({"version": 1, "start": {"hidden": 8, "ffn": 8, "heads": 1, "layers": 1},
                                          "stages": [{"at": {"step": 3}, "grows": {"ffn": 16}}]})");
  write_bytes(place / "shrinks.json", R"({"version": 1, "start": {"hidden": 8, "ffn": 8, "heads": 1, "layers": 1},
                                          "stages": [{"at": {"step": 3}, "grow": {"ffn": 4}}]})");
  const std::vector<wrong> all{{{"--no-such-option"}, "--no-such-option"},
                               {{"--steps", "many"}, "--steps"},
                               {{"--steps", "0"}, "--steps expected at least 1, found 0"},
                               {{"--schedule", "broken.json"}, "broken.json: not valid JSON"},
                               {{"--schedule", "unknown.json"}, "unknown key 'grows'"},
                               {{"--schedule", "shrinks.json"}, "ffn"},
                               {{"--schedule", "nowhere.json"}, "nowhere.json"},
                               {{"--data", "nowhere"}, "nowhere"},
                               {{"--hidden", "17"}, "--hidden expected 16, found 17"},
                               {{"--device", "cuda"}, "--device expected cpu"},
                               {{"--arch", "mamba"}, "--arch expected gpt2"},
                               {{"--resume", "nowhere"}, "nowhere: expected a run directory"}};
  for (const wrong& w : all) {
    CAPTURE(w.says);
    const outcome refused = place.train_new("run", w.arguments);
    CHECK(refused.code == 2);
    CHECK(refused.out.empty());
    CHECK(one_line(refused.error));
    CHECK(refused.error.find(w.says) != std::string::npos);
    CHECK_FALSE(fs::exists(place / "run"));
  }
}

TEST_CASE("a second run is not written over the first", "[trainer]") {
  const workplace place;
  REQUIRE(place.train_new("run", {"--max-seconds", "1e-9"}).code == 0);
  const std::string metrics = read_bytes(place / "run/metrics.jsonl");
  const outcome refused = place.train_new("run");
  CHECK(refused.code == 2);
  CHECK(refused.error.find("already holds a run") != std::string::npos);
  CHECK(read_bytes(place / "run/metrics.jsonl") == metrics);
}

TEST_CASE("a resume refuses a corrupt checkpoint, other data, and options that make another model", "[trainer]") {
  const workplace place;
  REQUIRE(place.train_new("run", {"--save-every", "2"}).code == 0);
  const fs::path model = place / "run/step-00000024/model.safetensors";
  const std::string good = read_bytes(model);
  const auto resume = [&](std::vector<std::string> more = {}) {
    std::vector<std::string> arguments{"--resume", "run"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    outcome result = place.train(arguments);
    CHECK(result.code == 2);
    CHECK(one_line(result.error));
    return result.error;
  };
  write_bytes(model, good.substr(0, good.size() / 2));
  CHECK(resume().find("model.safetensors") != std::string::npos);
  write_bytes(model, good);
  CHECK(resume({"--batch", "8", "--seed", "2", "--log-every", "5"}).find("--batch expected 4, found 8; --seed") !=
        std::string::npos);
  write_bytes(place / "text/0.txt", "another text");
  CHECK(resume().find("is not what this run was trained on") != std::string::npos);
}

TEST_CASE("the option --plan-only prints stages and cost and writes nothing", "[trainer]") {
  const workplace place;
  const outcome plan = place.train_new("run", {"--plan-only"});
  CHECK(plan.code == 0);
  CHECK(plan.out.find("C8 F16 H1 L1") != std::string::npos);
  CHECK(plan.out.find("C16 F32 H2 L3") != std::string::npos);
  CHECK_FALSE(fs::exists(place / "run"));
}

TEST_CASE("the option --quiet prints only the summary and --help every option", "[trainer]") {
  const workplace place;
  const outcome quiet = place.train_new("run", {"--quiet"});
  CHECK(quiet.code == 0);
  CHECK(quiet.out.find("tok/s") == std::string::npos);
  CHECK(quiet.out.rfind("done", 0) == 0);
  const outcome help = place.train({"--help"});
  CHECK(help.code == 0);
  for (const char* option : {"--data", "--schedule", "--resume", "--accumulate", "--plan-only", "--sample"}) {
    CHECK(help.out.find(option) != std::string::npos);
  }
}

TEST_CASE("the option --compare trains the final model for the same time and puts both in the report", "[trainer]") {
  const workplace place;
  const outcome both = place.train_new("run", {"--compare"});
  INFO(both.error);
  REQUIRE(both.code == 0);
  CHECK(both.out.find("without growth") != std::string::npos);
  const std::vector<json> rival = of_event(place.metrics("run/without-growth"), "step");
  CHECK(rival.back().at("step") > 1);
  CHECK(rival.front().at("dims") == json({{"hidden", 16}, {"ffn", 32}, {"heads", 2}, {"layers", 3}}));
  // The same of a run that is over already.
  REQUIRE(place.train({"--resume", "run", "--compare"}).code == 0);
  CHECK(of_event(place.metrics("run/without-growth"), "step").back().at("step") > 1);
}

} // namespace
