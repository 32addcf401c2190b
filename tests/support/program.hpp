// A program under test: its exit code and what it printed; killed, interrupted or limited on the way if asked.
#pragma once

#include "support/catch.hpp"

#include <chrono>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

namespace support {

/// What happens to the program while it runs.
struct conditions {
  long most_file_bytes = 0; // files cannot grow beyond (a full disk); 0: no limit
  int signal = 0;           // sent once, `after` the start
  std::chrono::milliseconds after{0};
};

struct outcome {
  int code = -1;  // exit code, or -1 if a signal ended it
  int signal = 0; // the signal that did
  std::string out;
  std::string error;
};

/// Runs `words` (a program and its arguments) in `folder`, with two threads that don't spin.
inline outcome run_program(const std::vector<std::string>& words, const std::filesystem::path& folder,
                           const conditions& during = {}) {
  const std::filesystem::path out = folder / ".stdout";
  const std::filesystem::path error = folder / ".stderr";
  const pid_t child = ::fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    const auto redirect = [](const std::filesystem::path& to, int which) {
      const int file = ::open(to.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0644);
      if (file < 0 || ::dup2(file, which) < 0) { ::_exit(126); }
    };
    redirect(out, STDOUT_FILENO);
    redirect(error, STDERR_FILENO);
    if (during.most_file_bytes > 0) {
      const struct rlimit limit = {static_cast<rlim_t>(during.most_file_bytes),
                                   static_cast<rlim_t>(during.most_file_bytes)};
      ::setrlimit(RLIMIT_FSIZE, &limit);
    }
    ::setenv("OMP_WAIT_POLICY", "passive", 1);
    if (::chdir(folder.c_str()) != 0) { ::_exit(126); }
    std::vector<char*> arguments;
    for (const std::string& word : words) { arguments.push_back(const_cast<char*>(word.c_str())); }
    arguments.push_back(nullptr);
    ::execv(arguments[0], arguments.data());
    ::_exit(127);
  }
  int status = 0;
  if (during.signal != 0) {
    ::usleep(static_cast<useconds_t>(during.after.count() * 1000));
    ::kill(child, during.signal);
  }
  REQUIRE(::waitpid(child, &status, 0) == child);
  const auto text = [](const std::filesystem::path& path) {
    std::ifstream in(path, std::ios::binary);
    return std::string{std::istreambuf_iterator<char>(in), {}};
  };
  return {WIFEXITED(status) ? WEXITSTATUS(status) : -1, WIFSIGNALED(status) ? WTERMSIG(status) : 0, text(out),
          text(error)};
}

} // namespace support
