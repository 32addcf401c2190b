// Run directories: which step folders stay, and which checkpoint a resume takes.
#include "support/catch.hpp"
#include "support/files_checkpoint.hpp"

#include "transformer/metrics.hpp"

#include <string>
#include <vector>

using namespace reference;
using namespace files_test;

namespace {
void save_steps(const fs::path& run, const std::vector<msg::index>& steps) {
  for (const msg::index step : steps) { tiny_checkpoint<float>(1, step).save(run); }
}
} // namespace

TEST_CASE("names of step folders and nothing else are steps", "[run_directory]") {
  CHECK(step_folder_name(1200) == "step-00001200");
  CHECK(step_of_folder("step-00001200") == 1200);
  CHECK(step_of_folder(step_folder_name(123'456'789'012)) == 123'456'789'012);
  for (const std::string name :
       {"step-1200", "step-000001200", "step-0000120x", "step--0000012", "step-", "step-+0000001", ".tmp-step-00001200",
        "latest", "step-99999999999999999999", "step-00000012/.."}) {
    CAPTURE(name);
    CHECK_FALSE(step_of_folder(name).has_value());
  }
}

TEST_CASE("the last two checkpoints are kept", "[run_directory]") {
  const temporary_folder run;
  save_steps(run.path(), {10, 20, 30, 100});
  CHECK(names_in(run.path()) == std::vector<std::string>{"latest", "step-00000030", "step-00000100"});
  CHECK(resolve_latest(run.path()).folder == run / "step-00000100");
  CHECK(resolve_latest(run.path()).warning.empty());
}

TEST_CASE("a run that was resumed from an earlier step drops the future it left, once it has saved",
          "[run_directory]") {
  const temporary_folder run;
  save_steps(run.path(), {10, 20, 15});
  CHECK(names_in(run.path()) == std::vector<std::string>{"latest", "step-00000010", "step-00000015"});
  CHECK(resolve_latest(run.path()).folder == run / "step-00000015");
}

TEST_CASE("other files of a run directory are left alone", "[run_directory]") {
  const temporary_folder run;
  write_bytes(run / "metrics.jsonl", "x");
  fs::create_directory(run / "step-notes");
  save_steps(run.path(), {10, 20, 30});
  CHECK(names_in(run.path()) ==
        std::vector<std::string>{"latest", "metrics.jsonl", "step-00000020", "step-00000030", "step-notes"});
}

TEST_CASE("a checkpoint folder itself can be resumed from", "[run_directory]") {
  const temporary_folder run;
  save_steps(run.path(), {10, 20});
  CHECK(resolve_latest(run / "step-00000010").folder == run / "step-00000010");
  fs::remove(run / "step-00000010" / "growth.json");
  fs::remove(run / "step-00000010" / "config.json");
  CHECK(input_message([&] { (void)resolve_latest(run / "step-00000010"); }) ==
        (run / "step-00000010").string() + ": expected a checkpoint, missing config.json, growth.json");
}

TEST_CASE("a directory in which a run is alive is left alone, a dead run's is not", "[run_directory]") {
  const temporary_folder run;
  write_bytes(run / ".tmp-latest", "x");
  {
    const metrics_writer alive(run / "metrics.jsonl");
    CHECK(run_message([&] { prepare_run_directory(run.path()); }) ==
          run.path().string() + ": another process is writing to this run");
    CHECK(fs::exists(run / ".tmp-latest"));
  }
  prepare_run_directory(run.path());
  CHECK_FALSE(fs::exists(run / ".tmp-latest"));
  const metrics_writer next(run / "metrics.jsonl"); // no lock is left behind
}

TEST_CASE("without a usable latest the newest complete folder is taken, with a warning", "[run_directory]") {
  const temporary_folder run;
  save_steps(run.path(), {10, 20});
  const std::string start = run.path().string() + ": ";
  SECTION("latest is missing") {
    fs::remove(run / "latest");
    CHECK(resolve_latest(run.path()).folder == run / "step-00000020");
    CHECK(resolve_latest(run.path()).warning == start + "no file 'latest'; taking step-00000020");
  }
  SECTION("latest names a folder that is not there") {
    write_bytes(run / "latest", "step-00000030\n");
    CHECK(resolve_latest(run.path()).folder == run / "step-00000020");
    CHECK(resolve_latest(run.path()).warning ==
          start + "'latest' names 'step-00000030', which is no complete checkpoint; taking step-00000020");
  }
  SECTION("latest names an incomplete folder") {
    fs::remove(run / "step-00000020" / "model.safetensors");
    CHECK(resolve_latest(run.path()).folder == run / "step-00000010");
    CHECK(resolve_latest(run.path()).warning ==
          start + "'latest' names 'step-00000020', which is no complete checkpoint; taking step-00000010");
  }
  SECTION("latest holds a path out of the run directory, garbage, or too much") {
    const std::vector<std::string> texts{"../elsewhere", std::string("\0\xff\n", 3), std::string(10'000, 'x'), ""};
    for (const std::string& text : texts) {
      write_bytes(run / "latest", text);
      CHECK(resolve_latest(run.path()).folder == run / "step-00000020");
      CHECK(resolve_latest(run.path()).warning.find('\n') == std::string::npos);
    }
  }
}

TEST_CASE("latest is believed even where a newer folder exists", "[run_directory]") {
  const temporary_folder run;
  save_steps(run.path(), {10, 20});
  write_bytes(run / "latest", "step-00000010\n"); // a kill between the rename of the folder and that of latest
  CHECK(resolve_latest(run.path()).folder == run / "step-00000010");
}

TEST_CASE("a directory without any checkpoint is a clear error", "[run_directory]") {
  const temporary_folder run;
  CHECK(input_message([&] { (void)resolve_latest(run.path()); }) ==
        run.path().string() +
            ": expected a checkpoint to resume from, found no complete step folder (no file 'latest')");
  CHECK(input_message([&] { (void)resolve_latest(run / "no"); }) ==
        (run / "no").string() + ": expected a run directory or a checkpoint folder, found nothing");
  write_bytes(run / "file", "x");
  CHECK(input_message([&] { (void)resolve_latest(run / "file"); }) ==
        (run / "file").string() + ": expected a run directory or a checkpoint folder, found another kind of file");
}
