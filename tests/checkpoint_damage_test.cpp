// Checkpoints under damage: calls that fail, kills, full disks, truncated files and flipped bytes.
#include "support/catch.hpp"
#include "support/files_checkpoint.hpp"
#include "support/files_faults.hpp"
#include "support/files_processes.hpp"

#include <random>
#include <string>
#include <vector>

using namespace reference;
using namespace files_test;
using files_faults::action;

namespace {

/// Which of two checkpoints a resume of this run would take: 1 or 2, or 0 if what it loads is neither.
[[nodiscard]] int resumed(const fs::path& run, const tiny_checkpoint<float>& first,
                          const tiny_checkpoint<float>& second) {
  const tiny_checkpoint<float> found = loaded<float>(resolve_latest(run).folder);
  const auto is = [&](const tiny_checkpoint<float>& saved) {
    return found.same_tensors(saved) && found.documents.state.step == saved.documents.state.step &&
           found.documents.state.flops == saved.documents.state.flops;
  };
  return is(first) ? 1 : is(second) ? 2 : 0;
}

/// Damages each file of a checkpoint by `damage(bytes)`, and requires that loading gives a checkpoint or an input_error
/// of one line that names the file. Returns how many were refused.
template <class Damage>
[[nodiscard]] int refused_of(std::string_view name, int trials, const Damage& damage) {
  const temporary_folder run;
  const fs::path folder = tiny_checkpoint<float>(1).save(run.path());
  const std::string whole = read_bytes(folder / name);
  int refused = 0;
  for (int trial = 0; trial < trials; ++trial) {
    write_bytes(folder / name, damage(whole, trial));
    CAPTURE(name, trial);
    try {
      (void)loaded<float>(folder);
    } catch (const input_error& error) {
      const std::string message = error.what();
      CHECK(message.find('\n') == std::string::npos);
      CHECK(message == containing(folder.string()));
      ++refused;
    }
  }
  return refused;
}

} // namespace

TEST_CASE("whichever call of a save fails, an error names path and reason and a whole checkpoint is left",
          "[checkpoint][damage]") {
  tiny_checkpoint<float> first(1, 10);
  tiny_checkpoint<float> second(2, 20);
  long call = 1;
  for (;; ++call) {
    const temporary_folder run;
    first.save(run.path());
    files_faults::arm(action::fail, call, ENOSPC);
    const std::string message = run_message([&] { second.save(run.path()); });
    files_faults::disarm();
    if (files_faults::now.hit.empty()) { break; }
    CAPTURE(call, files_faults::now.hit, message);
    CHECK(names_in(run.path(), ".tmp-").empty());
    const int taken = resumed(run.path(), first, second);
    if (message == "no exception") {
      CHECK(files_faults::now.hit == "close"); // of a folder that was only synced
      CHECK(taken == 2);
    } else {
      CHECK(message.starts_with(run.path().string()));
      CHECK(message == containing(": No space left on device"));
      CHECK(taken != 0);
    }
    second.save(run.path()); // there is room again
    CHECK(resumed(run.path(), first, second) == 2);
  }
  CHECK(call > 30);
}

TEST_CASE("killed at any call of a save, a resume finds the old or the new checkpoint", "[checkpoint][damage]") {
  const msg::index next = GENERATE(20, 10); // another step, and the same step again
  tiny_checkpoint<float> first(1, 10);
  tiny_checkpoint<float> second(2, next);
  int taken[3] = {};
  for (long call = 1;; ++call) {
    const temporary_folder run;
    first.save(run.path());
    const bool killed = killed_at(call, [&] { second.save(run.path()); });
    CAPTURE(next, call);
    const int found = resumed(run.path(), first, second);
    ++taken[found];
    prepare_run_directory(run.path()); // as the next run does
    CHECK(names_in(run.path(), ".tmp-").empty());
    CHECK(resumed(run.path(), first, second) == found);
    second.save(run.path());
    CHECK(resumed(run.path(), first, second) == 2);
    if (!killed) { break; }
  }
  CHECK(taken[0] == 0);
  CHECK(taken[1] > 20);
  CHECK(taken[2] > 0);
}

TEST_CASE("killed at any call while old checkpoints are removed, the new one is found", "[checkpoint][damage]") {
  tiny_checkpoint<float> last(3, 40);
  tiny_checkpoint<float> before(2, 30);
  for (long call = 1;; ++call) {
    const temporary_folder run;
    tiny_checkpoint<float>(1, 20).save(run.path());
    before.save(run.path());
    const bool killed = killed_at(call, [&] { last.save(run.path()); });
    CAPTURE(call);
    CHECK(resumed(run.path(), before, last) != 0);
    for (const step_folder& folder : step_folders(run.path())) { CHECK(complete_checkpoint(folder.path)); }
    if (!killed) { break; }
  }
}

TEST_CASE("a disk with too little room for a checkpoint keeps the last one", "[checkpoint][damage]") {
  const temporary_folder run;
  tiny_checkpoint<float> first(1, 10);
  tiny_checkpoint<float> second(2, 20);
  first.save(run.path());
  const auto whole = fs::file_size(run / "step-00000010" / "optimizer.safetensors");
  std::string message;
  {
    const file_size_limit limit(whole - 100); // every file but this one fits
    message = run_message([&] { second.save(run.path()); });
  }
  CHECK(message == (run / ".tmp-step-00000020" / "optimizer.safetensors").string() + ": cannot write: File too large");
  CHECK(names_in(run.path()) == std::vector<std::string>{"latest", "step-00000010"});
  CHECK(resumed(run.path(), first, second) == 1);
}

TEST_CASE("a truncated file is refused wherever it ends", "[checkpoint][damage]") {
  for (const std::string_view name : checkpoint_files) {
    const temporary_folder run;
    const auto size = fs::file_size(tiny_checkpoint<float>(1).save(run.path()) / name);
    const int trials = static_cast<int>(size) - 1; // without its last byte, a newline, JSON is still whole
    const int refused = refused_of(name, trials, [](const std::string& bytes, int trial) {
      return bytes.substr(0, static_cast<std::size_t>(trial));
    });
    CAPTURE(name);
    CHECK(refused == trials);
  }
}

TEST_CASE("a flipped bit either leaves a checkpoint that can be read or is an input error", "[checkpoint][damage]") {
  for (const std::string_view name : checkpoint_files) {
    std::mt19937 random(20240611);
    const int refused = refused_of(name, 400, [&](std::string bytes, int) {
      const std::size_t at = random() % bytes.size();
      bytes[at] = static_cast<char>(bytes[at] ^ static_cast<char>(1U << (random() % 8)));
      return bytes;
    });
    CAPTURE(name);
    CHECK(refused > 80);
  }
}

TEST_CASE("garbage in a file either leaves a checkpoint that can be read or is an input error",
          "[checkpoint][damage]") {
  for (const std::string_view name : checkpoint_files) {
    std::mt19937 random(77);
    const int refused = refused_of(name, 300, [&](std::string bytes, int) {
      const std::size_t at = random() % bytes.size();
      const std::size_t count = std::min<std::size_t>(1 + random() % 16, bytes.size() - at);
      for (std::size_t i = 0; i < count; ++i) { bytes[at + i] = static_cast<char>(random() % 256); }
      if (random() % 4 == 0) { bytes.insert(at, "{[\"0,"); }
      return bytes;
    });
    CAPTURE(name);
    CHECK(refused > 150);
  }
}

TEST_CASE("a missing file of a checkpoint is named", "[checkpoint][damage]") {
  for (const std::string_view name : checkpoint_files) {
    const temporary_folder run;
    const fs::path folder = tiny_checkpoint<float>(1).save(run.path());
    fs::remove(folder / name);
    CHECK(input_message([&] { (void)loaded<float>(folder); }) ==
          (folder / name).string() + ": cannot open: No such file or directory");
  }
}
