// Reads the text files below a path and hashes them; what is skipped is counted. data.hpp makes batches of it.
#pragma once

#include "transformer/errors.hpp"

#include <msg/config.hpp>

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <fcntl.h>
#include <filesystem>
#include <string>
#include <string_view>
#include <sys/types.h>
#include <system_error>
#include <unistd.h>
#include <unordered_set>
#include <utility>
#include <vector>

namespace reference {

using msg::index;

/// The bytes of all files that were kept, one after another in the order of their relative paths.
struct text_files {
  struct file {
    std::string name; // relative path with '/'; empty if the path is one file
    index begin = 0;
    index size = 0;
  };
  std::vector<std::uint8_t> bytes;
  std::vector<file> files;
  index empty = 0;      // files skipped because they are empty,
  index binary = 0;     //   contain a NUL byte,
  index unreadable = 0; //   cannot be read,
  index repeated = 0;   //   or have the bytes of an earlier file: held out, it would leak
  std::string hash;     // 16 hex digits over relative paths, sizes and contents of the kept files
};

namespace data_detail {

// FNV-1a, 64 bit: the same on every machine, and as fast as the disk for our sizes.
inline constexpr std::uint64_t fnv_start = 0xcbf29ce484222325u;

[[nodiscard]] inline std::uint64_t fnv(const void* data, std::size_t size, std::uint64_t state = fnv_start) noexcept {
  const auto* byte = static_cast<const unsigned char*>(data);
  for (std::size_t i = 0; i < size; ++i) { state = (state ^ byte[i]) * 0x100000001b3u; }
  return state;
}

[[nodiscard]] inline std::uint64_t fnv(std::string_view text, std::uint64_t state = fnv_start) noexcept {
  return fnv(text.data(), text.size(), state);
}

// Finaliser of splitmix64 (Steele, Lea, Flood 2014): every input bit reaches every output bit.
[[nodiscard]] inline std::uint64_t mix(std::uint64_t x) noexcept {
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return x ^ (x >> 31);
}

[[nodiscard]] inline std::uint64_t mix(std::uint64_t a, std::uint64_t b) noexcept {
  return mix(mix(a + 0x9e3779b97f4a7c15u) ^ b);
}

// Appends the file to bytes; false if it cannot be read. Reading ends at the first piece with a NUL byte: the file is
// binary whatever follows. Only called for regular files, so open does not block.
[[nodiscard]] inline bool append_file(const std::filesystem::path& path, std::vector<std::uint8_t>& bytes) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) { return false; }
  const std::size_t start = bytes.size();
  std::size_t end = start;
  ssize_t got = 0;
  bool binary = false;
  for (std::size_t piece = 16384; !binary; piece = std::min(piece * 4, std::size_t{1} << 24U)) {
    bytes.resize(end + piece);
    do { got = ::read(fd, bytes.data() + end, piece); } while (got < 0 && errno == EINTR);
    if (got <= 0) { break; }
    binary = std::memchr(bytes.data() + end, 0, static_cast<std::size_t>(got)) != nullptr;
    end += static_cast<std::size_t>(got);
  }
  ::close(fd);
  bytes.resize(got < 0 ? start : end);
  return got >= 0;
}

// Relative paths of the regular files below root, sorted. Hidden names are passed over, links to folders are not
// followed (so there is no loop), links to files are; what turns out to be a broken link counts as unreadable.
[[nodiscard]] inline std::vector<std::string> list_files(const std::filesystem::path& root, index& unreadable) {
  namespace fs = std::filesystem;
  std::vector<std::string> names;
  std::error_code failed;
  fs::recursive_directory_iterator entry(root, fs::directory_options::skip_permission_denied, failed);
  if (failed) { throw input_error(system_message(root, "read the folder", failed.value())); }
  while (entry != fs::recursive_directory_iterator{}) {
    std::error_code unknown;
    const bool hidden = entry->path().filename().native().front() == '.';
    if (hidden) {
      entry.disable_recursion_pending();
    } else if (entry->is_regular_file(unknown)) {
      names.push_back(entry->path().lexically_relative(root).generic_string());
    } else if (unknown || entry->is_symlink(unknown)) {
      unreadable += fs::is_directory(entry->path(), unknown) ? 0 : 1;
    }
    entry.increment(failed);
    if (failed) { throw input_error(system_message(root, "read the folder", failed.value())); }
  }
  std::sort(names.begin(), names.end());
  return names;
}

} // namespace data_detail

/// "skipped: 2 empty, 1 binary", or nothing.
[[nodiscard]] inline std::string skipped(const text_files& text) {
  std::string list;
  const auto add = [&](index count, std::string_view what) {
    if (count > 0) { list += fmt::format("{}{} {}", list.empty() ? "skipped: " : ", ", count, what); }
  };
  add(text.empty, "empty");
  add(text.binary, "binary");
  add(text.unreadable, "unreadable");
  add(text.repeated, "repeated");
  return list;
}

/// Reads a text file, or every text file below a folder.
///
/// Names that start with a dot are passed over, links to folders are not followed (so there is no loop), links to files
/// are. Empty, binary, unreadable and repeated files are left out and counted.
/// Throws input_error if the path is neither file nor folder, or if nothing is left.
[[nodiscard]] inline text_files read_text_files(const std::string& path) {
  namespace fs = std::filesystem;
  std::error_code failed;
  const fs::file_status status = fs::status(path, failed);
  if (!fs::exists(status)) { throw input_error(system_message(path, "read the text", failed.value())); }
  if (!fs::is_directory(status) && !fs::is_regular_file(status)) {
    throw input_error(path + ": cannot read the text: neither a file nor a folder");
  }
  text_files text;
  std::vector<std::string> names{std::string{}};
  if (fs::is_directory(status)) { names = data_detail::list_files(path, text.unreadable); }
  std::unordered_set<std::uint64_t> seen;
  std::uint64_t all = data_detail::fnv_start;
  for (std::string& name : names) {
    const std::size_t begin = text.bytes.size();
    if (!data_detail::append_file(name.empty() ? fs::path(path) : fs::path(path) / name, text.bytes)) {
      ++text.unreadable;
      continue;
    }
    const std::size_t size = text.bytes.size() - begin;
    const std::uint8_t* start = text.bytes.data() + begin;
    const bool binary = size > 0 && std::memchr(start, 0, size) != nullptr;
    const std::uint64_t content = data_detail::fnv(start, size);
    if (size == 0 || binary || !seen.insert(content).second) {
      ++(size == 0 ? text.empty : binary ? text.binary : text.repeated);
      text.bytes.resize(begin);
      continue;
    }
    all = data_detail::mix(data_detail::mix(data_detail::fnv(name, all), size), content);
    text.files.push_back({std::move(name), static_cast<index>(begin), static_cast<index>(size)});
  }
  text.hash = fmt::format("{:016x}", all);
  if (text.files.empty()) {
    const std::string why = skipped(text);
    throw input_error(fmt::format("{}: no text in it{}", path, why.empty() ? "" : fmt::format(" ({})", why)));
  }
  return text;
}

} // namespace reference
