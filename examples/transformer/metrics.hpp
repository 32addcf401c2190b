// metrics.jsonl: one JSON object per line, appended while a run goes on, cut back where a resume begins.
#pragma once

#include "transformer/json_file.hpp"

#include <cerrno>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <sys/file.h>

namespace reference {

/// Appends records to a file; every line has left the process when write() returns.
class metrics_writer {
public:
  /// Opens a file, and creates it if it isn't there.
  ///
  /// keep_bytes   what to keep of it: 0 for a new run, the length noted in the checkpoint for a resume. A file that is
  ///              not there starts empty all the same; one that is shorter, or has no line end there, is an
  ///              input_error.
  /// Throws run_error if another process has it open to write, or if it cannot be written.
  explicit metrics_writer(std::filesystem::path path, msg::index keep_bytes = 0)
      : path_(std::move(path)), file_(::open(path_.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666)) {
    if (file_.get() < 0) { throw run_error(system_message(path_, "open", errno)); }
    if (::flock(file_.get(), LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK) {
      throw run_error(path_.string() + ": another process is writing to this run");
    }
    const input_file existing(path_);
    const auto size = static_cast<msg::index>(existing.size_bytes());
    if (size > 0 && keep_bytes > 0) {
      char last = '\0';
      if (size >= keep_bytes) {
        existing.read_at(static_cast<std::uint64_t>(keep_bytes - 1), std::as_writable_bytes(std::span{&last, 1}));
      }
      if (last != '\n') {
        throw input_error(path_.string() + ": expected a line that ends at byte " + std::to_string(keep_bytes) +
                          ", found " + (size < keep_bytes ? std::to_string(size) + " bytes" : "another text") +
                          " (without the file, the run resumes and loses its history)");
      }
      bytes_ = keep_bytes;
    }
    cut();
    if (::lseek(file_.get(), static_cast<off_t>(bytes_), SEEK_SET) < 0) {
      throw run_error(system_message(path_, "write", errno));
    }
  }

  /// Appends one record as one line; numbers that are not finite become null. Throws run_error and keeps the lines
  /// before it whole.
  ///
  /// record   json, or ordered_json to keep the order of its keys
  template <class Record = json>
    requires requires(const Record& r) { r.dump(); }
  void write(const Record& record) {
    const std::string line = record.dump(-1, ' ', false, Record::error_handler_t::replace) + "\n";
    try {
      write_all(file_.get(), std::as_bytes(std::span{line.data(), line.size()}), path_);
    } catch (const run_error&) {
      if (::ftruncate(file_.get(), static_cast<off_t>(bytes_)) == 0) { // best effort: readers tolerate a torn line
        (void)::lseek(file_.get(), static_cast<off_t>(bytes_), SEEK_SET);
      }
      throw;
    }
    bytes_ += static_cast<msg::index>(line.size());
  }
  /// Puts all lines on the disk: to be called before a checkpoint notes bytes().
  void sync() const { sync_file(file_.get(), path_); }
  /// Length of the file: what a checkpoint holds as metrics_bytes.
  [[nodiscard]] msg::index bytes() const noexcept { return bytes_; }

private:
  void cut() const {
    if (::ftruncate(file_.get(), static_cast<off_t>(bytes_)) != 0) {
      throw run_error(system_message(path_, "write", errno));
    }
  }

  std::filesystem::path path_;
  descriptor file_;
  msg::index bytes_ = 0;
};

/// All records of a file, for reports. A last line that a kill has torn is left out; any other line that is no JSON
/// object is an input_error with its number.
[[nodiscard]] inline std::vector<json> read_metrics(const std::filesystem::path& path) {
  const std::string text = input_file(path).read_text(std::uint64_t{1} << 32U);
  std::vector<json> records;
  std::string_view rest = text;
  for (msg::index number = 1; !rest.empty(); ++number) {
    const std::size_t end = rest.find('\n');
    if (end == std::string_view::npos) { break; } // torn: a whole line ends with a newline
    const std::string where = path.string() + ": line " + std::to_string(number);
    records.push_back(parse_json(rest.substr(0, end), where));
    if (!records.back().is_object()) {
      throw input_error(where + ": expected an object, found " + found_text(records.back()));
    }
    rest.remove_prefix(end + 1);
  }
  return records;
}

} // namespace reference
