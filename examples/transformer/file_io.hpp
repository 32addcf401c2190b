// Files through POSIX calls, every one of them checked: what could not be written is an error, never a surprise.
#pragma once

#include "transformer/errors.hpp"

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

namespace reference {

/// A descriptor that closes itself.
class descriptor {
public:
  explicit descriptor(int number) noexcept : number_(number) {}
  descriptor(descriptor&& other) noexcept : number_(std::exchange(other.number_, -1)) {}
  descriptor& operator=(descriptor&& other) noexcept {
    std::swap(number_, other.number_);
    return *this;
  }
  descriptor(const descriptor&) = delete;
  descriptor& operator=(const descriptor&) = delete;
  ~descriptor() {
    if (number_ >= 0) { ::close(number_); }
  }
  [[nodiscard]] int get() const noexcept { return number_; }
  [[nodiscard]] int release() noexcept { return std::exchange(number_, -1); }

private:
  int number_;
};

// Linux moves at most 2^31 - 4096 bytes in one call.
inline constexpr std::size_t largest_transfer_bytes = std::size_t{1} << 30U;

/// Writes all of `bytes`, or throws run_error naming `path`. What part of them was written then is unknown.
inline void write_all(int file, std::span<const std::byte> bytes, const std::filesystem::path& path) {
  while (!bytes.empty()) {
    const ssize_t written = ::write(file, bytes.data(), std::min(bytes.size(), largest_transfer_bytes));
    if (written < 0 && errno == EINTR) { continue; }
    if (written <= 0) { throw run_error(system_message(path, "write", written < 0 ? errno : EIO)); }
    bytes = bytes.subspan(static_cast<std::size_t>(written));
  }
}

/// Waits until the data of an open file is on the disk.
inline void sync_file(int file, const std::filesystem::path& path) {
  while (::fsync(file) != 0) {
    if (errno != EINTR) { throw run_error(system_message(path, "write", errno)); }
  }
}

/// A file being written, created or truncated. finish() makes it durable; a file destroyed before is left as it is.
/// Every failure is a run_error that names the path and the reason.
class output_file {
public:
  explicit output_file(std::filesystem::path path)
      : path_(std::move(path)), file_(::open(path_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666)) {
    if (file_.get() < 0) { throw run_error(system_message(path_, "create", errno)); }
  }
  void write(std::span<const std::byte> bytes) { write_all(file_.get(), bytes, path_); }
  void write(std::string_view text) { write(std::as_bytes(std::span{text.data(), text.size()})); }
  /// fsync and close. A failing close of synced data has lost nothing only if it was interrupted.
  void finish() {
    sync_file(file_.get(), path_);
    if (::close(file_.release()) != 0 && errno != EINTR) { throw run_error(system_message(path_, "close", errno)); }
  }
  [[nodiscard]] const std::filesystem::path& path() const noexcept { return path_; }

private:
  std::filesystem::path path_;
  descriptor file_;
};

/// A regular file being read, by position. What isn't there or isn't a file is an input_error, a failing disk a
/// run_error. Plain reads, no mapping: a file that shrinks meanwhile is an error instead of a SIGBUS.
class input_file {
public:
  explicit input_file(std::filesystem::path path)
      : path_(std::move(path)), file_(::open(path_.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK)) {
    if (file_.get() < 0) { throw input_error(system_message(path_, "open", errno)); }
    struct stat status = {};
    if (::fstat(file_.get(), &status) != 0) { throw run_error(system_message(path_, "read", errno)); }
    if (!S_ISREG(status.st_mode)) { throw input_error(path_.string() + ": expected a regular file"); }
    size_bytes_ = static_cast<std::uint64_t>(status.st_size);
  }
  /// Fills `bytes` from `position`.
  void read_at(std::uint64_t position, std::span<std::byte> bytes) const {
    while (!bytes.empty()) {
      const ssize_t count = ::pread(file_.get(), bytes.data(), std::min(bytes.size(), largest_transfer_bytes),
                                    static_cast<off_t>(position));
      if (count < 0 && errno == EINTR) { continue; }
      if (count < 0) { throw run_error(system_message(path_, "read", errno)); }
      if (count == 0) {
        throw input_error(path_.string() + ": expected " + std::to_string(size_bytes_) + " bytes, found only " +
                          std::to_string(position) + " (the file became shorter while it was read)");
      }
      bytes = bytes.subspan(static_cast<std::size_t>(count));
      position += static_cast<std::uint64_t>(count);
    }
  }
  /// All of it as text; a file above `most_bytes` is refused before anything is allocated.
  [[nodiscard]] std::string read_text(std::uint64_t most_bytes) const {
    if (size_bytes_ > most_bytes) {
      throw input_error(path_.string() + ": expected at most " + std::to_string(most_bytes) + " bytes, found " +
                        std::to_string(size_bytes_));
    }
    std::string text(static_cast<std::size_t>(size_bytes_), '\0');
    read_at(0, std::as_writable_bytes(std::span{text.data(), text.size()}));
    return text;
  }
  [[nodiscard]] std::uint64_t size_bytes() const noexcept { return size_bytes_; }
  [[nodiscard]] const std::filesystem::path& path() const noexcept { return path_; }

private:
  std::filesystem::path path_;
  descriptor file_;
  std::uint64_t size_bytes_ = 0;
};

} // namespace reference
