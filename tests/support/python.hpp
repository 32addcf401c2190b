// Tests that compare with a Python package: which interpreter has it, and what is said where none has.
#pragma once

#include "support/files_support.hpp"
#include "support/program.hpp"

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <string>

namespace support {

/// Runs the interpreter that $MSG_TEST_PYTHON names, or the system's.
inline outcome run_python(const std::string& arguments, const std::filesystem::path& folder) {
  const std::string command = R"(PATH=/usr/bin:$PATH; exec "${MSG_TEST_PYTHON:-python3}" )" + arguments;
  return run_program({"/bin/sh", "-c", command}, folder);
}

/// Ends the program, as skipped (exit code 77), where the interpreter does not have the modules.
///
/// modules  "torch, numpy"
/// missing  what the message says: which package that is, and where it comes from
inline void need_python(const std::string& modules, const std::string& missing) {
  const auto found = [&] {
    const files_test::temporary_folder folder;
    return run_python("-c 'import " + modules + "'", folder.path()).code == 0;
  };
  if (found()) { return; }
  std::puts(("skipped: no " + missing).c_str());
  std::fflush(stdout);
  std::_Exit(77);
}

} // namespace support
