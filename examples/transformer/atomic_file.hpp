// Files and folders that appear whole or not at all, whatever kills the process or fills the disk in between.
#pragma once

#include "transformer/file_io.hpp"

#include <concepts>
#include <cstdio>
#include <filesystem>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

namespace reference {

// What is being written is called so; whoever starts next may remove it.
inline constexpr std::string_view temporary_prefix = ".tmp-";

/// Makes the entries of a folder durable: names that were created, renamed or removed in it.
inline void sync_folder(const std::filesystem::path& folder) {
  const descriptor handle(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (handle.get() < 0) { throw run_error(system_message(folder, "open", errno)); }
  while (::fsync(handle.get()) != 0) {
    if (errno == EINVAL) { return; } // a file system that cannot sync folders
    if (errno != EINTR) { throw run_error(system_message(folder, "write", errno)); }
  }
}

/// The sibling under whose name `path` is written before it is renamed.
[[nodiscard]] inline std::filesystem::path temporary_of(const std::filesystem::path& path) {
  return path.parent_path() / (std::string{temporary_prefix} + path.filename().string());
}
[[nodiscard]] inline std::filesystem::path folder_of(const std::filesystem::path& path) {
  return path.has_parent_path() ? path.parent_path() : std::filesystem::path{"."};
}

/// Removes a file or folder with all it holds, or throws run_error.
inline void remove_whole(const std::filesystem::path& path) {
  std::error_code failure;
  std::filesystem::remove_all(path, failure);
  if (failure) { throw run_error(system_message(path, "remove", failure.value())); }
}

/// Removes what killed runs left half-written in a folder.
inline void remove_temporaries(const std::filesystem::path& folder) {
  std::vector<std::filesystem::path> leftovers; // collected first: removing while listing is unspecified
  std::error_code failure;
  for (std::filesystem::directory_iterator entry(folder, failure), end; !failure && entry != end;
       entry.increment(failure)) {
    if (entry->path().filename().string().starts_with(temporary_prefix)) { leftovers.push_back(entry->path()); }
  }
  if (failure) { throw run_error(system_message(folder, "read", failure.value())); }
  for (const std::filesystem::path& leftover : leftovers) { remove_whole(leftover); }
}

namespace detail {

// Removes what was half-written unless told that it is in place.
class temporary_guard {
public:
  explicit temporary_guard(std::filesystem::path path) : path_(std::move(path)) {}
  temporary_guard(const temporary_guard&) = delete;
  temporary_guard& operator=(const temporary_guard&) = delete;
  ~temporary_guard() {
    std::error_code ignored; // an error is on its way already
    if (!path_.empty()) { std::filesystem::remove_all(path_, ignored); }
  }
  void dismiss() noexcept { path_.clear(); }

private:
  std::filesystem::path path_;
};

inline void rename_path(const std::filesystem::path& from, const std::filesystem::path& to) {
  if (std::rename(from.c_str(), to.c_str()) != 0) { throw run_error(system_message(to, "rename to", errno)); }
}

// For file systems that cannot exchange two names: between the two renames the folder is missing.
inline void replace_folder_in_two_steps(const std::filesystem::path& fresh, const std::filesystem::path& folder) {
  const std::filesystem::path aside =
      folder_of(folder) / (std::string{temporary_prefix} + "replaced-" + folder.filename().string());
  remove_whole(aside);
  rename_path(folder, aside);
  rename_path(fresh, folder);
  sync_folder(folder_of(folder));
  remove_whole(aside);
}

} // namespace detail

/// Puts a finished folder in the place of `folder`, which may exist; then at every moment one of the two is there.
inline void replace_folder(const std::filesystem::path& fresh, const std::filesystem::path& folder) {
  if (std::rename(fresh.c_str(), folder.c_str()) == 0) { // nothing there, or an empty folder
    sync_folder(folder_of(folder));
    return;
  }
  if (errno != ENOTEMPTY && errno != EEXIST) { throw run_error(system_message(folder, "rename to", errno)); }
#if defined(RENAME_EXCHANGE)
  if (::renameat2(AT_FDCWD, fresh.c_str(), AT_FDCWD, folder.c_str(), RENAME_EXCHANGE) == 0) {
    sync_folder(folder_of(folder));
    remove_whole(fresh);
    return;
  }
  if (errno != EINVAL && errno != ENOSYS) { throw run_error(system_message(folder, "replace", errno)); }
#endif
  detail::replace_folder_in_two_steps(fresh, folder);
}

/// Writes a file that is replaced as a whole: temporary sibling, fsync, rename, fsync of the folder.
///
/// fill   called with the output_file to write to
/// Throws run_error naming path and reason; the temporary is removed, what was at `path` stays.
template <std::invocable<output_file&> Fill>
void write_file_atomically(const std::filesystem::path& path, const Fill& fill) {
  const std::filesystem::path temporary = temporary_of(path);
  detail::temporary_guard guard(temporary);
  output_file out(temporary);
  fill(out);
  out.finish();
  detail::rename_path(temporary, path);
  guard.dismiss();
  sync_folder(folder_of(path));
}
inline void write_file_atomically(const std::filesystem::path& path, std::string_view text) {
  write_file_atomically(path, [&](output_file& out) { out.write(text); });
}

/// Writes a folder that appears as a whole.
///
/// fill   called with the path of the temporary folder; every file it writes there must be finish()ed
/// Throws run_error naming path and reason; the temporary is removed, what was at `folder` stays.
template <std::invocable<const std::filesystem::path&> Fill>
void write_folder_atomically(const std::filesystem::path& folder, const Fill& fill) {
  const std::filesystem::path temporary = temporary_of(folder);
  remove_whole(temporary);
  detail::temporary_guard guard(temporary);
  std::error_code failure;
  std::filesystem::create_directory(temporary, failure);
  if (failure) { throw run_error(system_message(temporary, "create", failure.value())); }
  fill(temporary);
  sync_folder(temporary);
  replace_folder(temporary, folder);
  guard.dismiss();
}

} // namespace reference
