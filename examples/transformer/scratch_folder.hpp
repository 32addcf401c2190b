// A folder for what nobody keeps.
#pragma once

#include "transformer/errors.hpp"

#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <string>
#include <system_error>

namespace reference {

/// A new folder below the system's temporary one, removed with all it holds at the end of its scope.
class scratch_folder {
public:
  scratch_folder() : path_((std::filesystem::temp_directory_path() / "msg-XXXXXX").string()) {
    if (::mkdtemp(path_.data()) == nullptr) { throw run_error(system_message(path_, "create", errno)); }
  }
  scratch_folder(const scratch_folder&) = delete;
  scratch_folder& operator=(const scratch_folder&) = delete;
  ~scratch_folder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  [[nodiscard]] std::filesystem::path path() const { return path_; }

private:
  std::string path_;
};

} // namespace reference
