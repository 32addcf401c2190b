// A run directory: its step folders, the file `latest`, and which checkpoint a resume takes.
#pragma once

#include "transformer/atomic_file.hpp"

#include <msg/config.hpp>

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <sys/file.h>

namespace reference {

inline constexpr std::array<std::string_view, 5> checkpoint_files{
    "config.json", "model.safetensors", "optimizer.safetensors", "growth.json", "trainer_state.json"};
inline constexpr std::size_t checkpoints_kept = 2;

/// "step-00001200"
[[nodiscard]] inline std::string step_folder_name(msg::index step) { return fmt::format("step-{:08d}", step); }

/// The step of a step folder's name, or nothing for any other name.
[[nodiscard]] inline std::optional<msg::index> step_of_folder(std::string_view name) {
  msg::index step = -1;
  if (!name.starts_with("step-")) { return {}; }
  const auto [end, failure] = std::from_chars(name.data() + 5, name.data() + name.size(), step);
  if (failure != std::errc{} || step < 0 || step_folder_name(step) != name) { return {}; }
  return step;
}

struct step_folder {
  msg::index step = 0;
  std::filesystem::path path{};
};

/// The step folders of a run, newest first, complete or not.
[[nodiscard]] inline std::vector<step_folder> step_folders(const std::filesystem::path& run) {
  std::vector<step_folder> folders;
  std::error_code failure;
  for (std::filesystem::directory_iterator entry(run, failure), end; !failure && entry != end;
       entry.increment(failure)) {
    if (const auto step = step_of_folder(entry->path().filename().string())) {
      folders.push_back({*step, entry->path()});
    }
  }
  if (failure) { throw input_error(system_message(run, "read", failure.value())); }
  std::sort(folders.begin(), folders.end(), [](const auto& a, const auto& b) { return a.step > b.step; });
  return folders;
}

/// The files of a checkpoint that a folder doesn't hold: "growth.json, config.json", or nothing if it is complete.
[[nodiscard]] inline std::string missing_files(const std::filesystem::path& folder) {
  std::string absent;
  for (const std::string_view name : checkpoint_files) {
    std::error_code ignored;
    if (std::filesystem::is_regular_file(folder / name, ignored)) { continue; }
    absent += (absent.empty() ? "" : ", ") + std::string{name};
  }
  return absent;
}
[[nodiscard]] inline bool complete_checkpoint(const std::filesystem::path& folder) {
  return missing_files(folder).empty();
}

/// Creates the directory if it isn't there, and removes what killed runs left half-written in it. Throws run_error if a
/// run that is alive writes there: its metrics_writer holds a lock on metrics.jsonl.
inline void prepare_run_directory(const std::filesystem::path& run) {
  std::error_code failure;
  std::filesystem::create_directories(run, failure);
  if (failure) { throw run_error(system_message(run, "create", failure.value())); }
  const descriptor metrics(::open((run / "metrics.jsonl").c_str(), O_RDONLY | O_CLOEXEC));
  if (metrics.get() >= 0 && ::flock(metrics.get(), LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK) {
    throw run_error(run.string() + ": another process is writing to this run");
  }
  remove_temporaries(run);
}

/// Makes the checkpoint of `step`, which must be in place, the latest, and removes all but the last two. Steps beyond
/// `step` are a future that this run has left by resuming before it: they are removed too.
inline void publish_checkpoint(const std::filesystem::path& run, msg::index step) {
  write_file_atomically(run / "latest", step_folder_name(step) + "\n");
  std::size_t kept = 0;
  for (const step_folder& folder : step_folders(run)) {
    if (folder.step <= step && kept++ < checkpoints_kept) { continue; }
    const std::filesystem::path doomed = temporary_of(folder.path); // never a step folder with half of its files
    remove_whole(doomed);
    detail::rename_path(folder.path, doomed);
    remove_whole(doomed);
  }
}

struct resolved_checkpoint {
  std::filesystem::path folder{};
  std::string warning{}; // not empty: `latest` was of no use, and why
};

/// The checkpoint that `--resume PATH` means: PATH itself if it is a checkpoint; else what PATH/latest names; else the
/// newest complete step folder of PATH, with a warning. Throws input_error if there is none.
[[nodiscard]] inline resolved_checkpoint resolve_latest(const std::filesystem::path& path) {
  std::error_code ignored;
  if (!std::filesystem::is_directory(path, ignored)) {
    throw input_error(path.string() + ": expected a run directory or a checkpoint folder, found " +
                      (std::filesystem::exists(path, ignored) ? "another kind of file" : "nothing"));
  }
  if (complete_checkpoint(path)) { return {path, ""}; }
  if (step_of_folder(path.filename().string())) {
    throw input_error(path.string() + ": expected a checkpoint, missing " + missing_files(path));
  }
  std::string problem = "no file 'latest'";
  if (std::filesystem::exists(path / "latest", ignored)) {
    const input_file latest(path / "latest");
    std::string name = latest.size_bytes() > 100 ? "" : latest.read_text(100);
    while (!name.empty() && (name.back() == '\n' || name.back() == '\r')) { name.pop_back(); }
    if (step_of_folder(name) && complete_checkpoint(path / name)) { return {path / name, ""}; }
    problem = "'latest' names '" + printable(name) + "', which is no complete checkpoint";
  }
  for (const step_folder& folder : step_folders(path)) {
    if (complete_checkpoint(folder.path)) {
      return {folder.path, path.string() + ": " + problem + "; taking " + folder.path.filename().string()};
    }
  }
  throw input_error(path.string() + ": expected a checkpoint to resume from, found no complete step folder (" +
                    problem + ")");
}

} // namespace reference
