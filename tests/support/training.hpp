// What the tests of trainer programs share: a folder with text and a schedule, runs in it, and what they leave behind.
#pragma once

#include "support/catch.hpp"
#include "support/files_support.hpp"
#include "support/program.hpp"

#include "transformer/metrics.hpp"

#include <msg/random.hpp>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <filesystem>
#include <iterator>
#include <string>
#include <utility>
#include <vector>

namespace training {

namespace fs = std::filesystem;
using files_test::read_bytes;
using files_test::temporary_folder;
using files_test::write_bytes;
using reference::json;
using support::outcome;

// A growth in every dimension within 24 steps, ramps overlapping.
inline constexpr const char* schedule = R"({"version": 1,
  "start": {"hidden": 8, "ffn": 16, "heads": 1, "layers": 1},
  "lr": {"policy": "cosine", "peak": 3e-3, "min": 3e-4, "warmup_steps": 2},
  "stages": [
    {"at": {"step": 4}, "grow": {"ffn": 24}, "ramp": {"shape": "linear", "steps": 5}},
    {"at": {"step": 7}, "grow": {"hidden": 16, "heads": 2}, "ramp": {"shape": "cosine", "steps": 6}},
    {"at": {"step": 15}, "grow": {"ffn": 32, "layers": 3}, "ramp": {"shape": "linear", "steps": 4}}]})";

/// A folder with text to train on and the schedule; runs a trainer in it.
class workplace {
public:
  /// always: options of every new run
  explicit workplace(std::string program, std::vector<std::string> always = {}, const char* growth = schedule)
      : program_(std::move(program)), always_(std::move(always)) {
    fs::create_directory(folder_ / "text");
    for (int file = 0; file < 30; ++file) {
      std::string text;
      while (text.size() < 2000) {
        text += "line " + std::to_string(text.size() * static_cast<std::size_t>(file + 3) % 977) + " of some text\n";
      }
      write_bytes(folder_ / ("text/" + std::to_string(file) + ".txt"), text);
    }
    write_bytes(folder_ / "grow.json", growth);
  }
  [[nodiscard]] outcome train(std::vector<std::string> arguments, const support::conditions& during = {}) const {
    std::vector<std::string> words{program_};
    words.insert(words.end(), arguments.begin(), arguments.end());
    return support::run_program(words, folder_.path(), during);
  }
  /// A new run of 24 small steps into RUN.
  [[nodiscard]] outcome train_new(const std::string& run, std::vector<std::string> more = {},
                                  const support::conditions& during = {}) const {
    std::vector<std::string> arguments{"--data",    "text", "--schedule",  "grow.json", "--steps",      "24",
                                       "--seq",     "16",   "--batch",     "4",         "--out",        run,
                                       "--threads", "2",    "--log-every", "1",         "--eval-every", "8"};
    arguments.insert(arguments.end(), always_.begin(), always_.end());
    arguments.insert(arguments.end(), more.begin(), more.end());
    return train(arguments, during);
  }
  [[nodiscard]] fs::path operator/(const std::string& name) const { return folder_ / name; }
  [[nodiscard]] std::vector<json> metrics(const std::string& run) const {
    return reference::read_metrics(folder_ / (run + "/metrics.jsonl"));
  }

private:
  std::string program_;
  std::vector<std::string> always_;
  temporary_folder folder_;
};

inline std::vector<json> of_event(const std::vector<json>& records, const std::string& event) {
  std::vector<json> result;
  std::copy_if(records.begin(), records.end(), std::back_inserter(result),
               [&](const json& r) { return r.at("event") == event; });
  return result;
}

/// Metrics without what differs from run to run: times.
inline std::vector<json> timeless(std::vector<json> records) {
  for (json& r : records) {
    r.erase("seconds");
    r.erase("tokens_per_second");
  }
  return records;
}

/// The last checkpoint of a run, without the training time in it: its name, and for each file a hash of its bytes.
inline std::vector<std::string> checkpoint_of(const workplace& place, const std::string& run) {
  std::string name = read_bytes(place / (run + "/latest"));
  name.pop_back();
  std::vector<std::string> files{name};
  for (const char* file : {"config.json", "model.safetensors", "optimizer.safetensors", "growth.json"}) {
    const std::uint64_t hash = msg::stream_of(read_bytes(place / (run + "/" + name + "/" + file)));
    files.push_back(std::string{file} + " " + std::to_string(hash));
  }
  return files;
}

inline bool one_line(const std::string& text) { return std::count(text.begin(), text.end(), '\n') == 1; }

/// Kills a run at random moments, resumes it each time, and requires the bits of one left alone.
inline void check_kills(const workplace& place, int most_kills, const std::string& save_every = "1") {
  REQUIRE(place.train_new("whole", {"--save-every", save_every}).code == 0);
  const auto begin = std::chrono::steady_clock::now();
  REQUIRE(place.train_new("timed", {"--save-every", save_every}).code == 0);
  const double whole_ms = std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - begin).count();
  int kills = 0;
  for (std::uint64_t round = 0; kills < most_kills; ++round) {
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
        last = place.train_new(run, {"--save-every", save_every}, kill);
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

/// Resumes a run before each of its steps, ramps under way or not, and requires the bits of one left alone.
inline void check_resume_at_every_step(const workplace& place) {
  REQUIRE(place.train_new("whole", {"--save-every", "1"}).code == 0);
  REQUIRE(place.train_new("steps", {"--save-every", "1", "--max-seconds", "1e-9"}).code == 0); // saves, and stops
  // Each resume is allowed one more step, or trial: a time limit that the first of the resumed run passes.
  for (int round = 0; read_bytes(place / "steps/latest") != read_bytes(place / "whole/latest"); ++round) {
    REQUIRE(round < 60);
    const json state = json::parse(
        read_bytes(place / ("steps/" + read_bytes(place / "steps/latest").substr(0, 13) + "/trainer_state.json")));
    const double limit = state.at("seconds").get<double>() + 1e-9;
    const outcome next = place.train({"--resume", "steps", "--max-seconds", json(limit).dump()});
    INFO(next.error);
    REQUIRE(next.code == 0);
  }
  CHECK(checkpoint_of(place, "steps") == checkpoint_of(place, "whole"));
}

} // namespace training
