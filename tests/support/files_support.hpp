// What the tests of files share: a folder that goes away, bytes of files, and the message of an expected error.
#pragma once

#include "transformer/errors.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <ostream>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <unistd.h>

namespace files_test {

namespace fs = std::filesystem;

/// A fresh folder, removed with all it holds at the end of the test.
class temporary_folder {
public:
  temporary_folder() : path_((fs::temp_directory_path() / "msg-files-XXXXXX").string()) {
    if (::mkdtemp(path_.data()) == nullptr) { throw std::runtime_error("mkdtemp failed for " + path_); }
  }
  temporary_folder(const temporary_folder&) = delete;
  temporary_folder& operator=(const temporary_folder&) = delete;
  ~temporary_folder() {
    std::error_code ignored;
    fs::remove_all(path_, ignored);
  }
  [[nodiscard]] fs::path path() const { return path_; }
  [[nodiscard]] fs::path operator/(std::string_view name) const { return fs::path{path_} / name; }

private:
  std::string path_;
};

[[nodiscard]] inline std::string read_bytes(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}
inline void write_bytes(const fs::path& path, std::string_view bytes) {
  fs::remove(path); // a file that is truncated and rewritten would wait for the disk (ext4)
  std::ofstream out(path, std::ios::binary | std::ios::trunc);
  out.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  if (!out.flush()) { throw std::runtime_error("cannot write " + path.string()); }
}

/// Equal to any text that contains this one.
struct containing {
  std::string part;
  explicit containing(std::string text) : part(std::move(text)) {}
  friend bool operator==(const std::string& text, const containing& wanted) {
    return text.find(wanted.part) != std::string::npos;
  }
  friend std::ostream& operator<<(std::ostream& out, const containing& wanted) {
    return out << "text with \"" << wanted.part << '"';
  }
};

/// what() of the Error that f() throws; anything else is said in the result.
template <class Error, class Function>
[[nodiscard]] std::string message_of(const Function& f) {
  try {
    f();
  } catch (const Error& error) {
    const std::string message = error.what();
    return message.find('\n') == std::string::npos ? message : "more than one line: " + message;
  } catch (const std::exception& error) { return std::string{"another exception: "} + error.what(); }
  return "no exception";
}
template <class Function>
[[nodiscard]] std::string input_message(const Function& f) {
  return message_of<reference::input_error>(f);
}
template <class Function>
[[nodiscard]] std::string run_message(const Function& f) {
  return message_of<reference::run_error>(f);
}

/// Names of a folder's entries that begin so.
[[nodiscard]] inline std::vector<std::string> names_in(const fs::path& folder, std::string_view prefix = "") {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(folder)) {
    const std::string name = entry.path().filename().string();
    if (name.starts_with(prefix)) { names.push_back(name); }
  }
  std::sort(names.begin(), names.end());
  return names;
}

} // namespace files_test
