// A program under test: its exit code and what it printed; killed, interrupted or limited on the way if asked.
#pragma once

#include "support/catch.hpp"

#include <chrono>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <optional>
#include <string>
#include <system_error>
#include <vector>

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

namespace support {

/// What happens to the program while it runs.
struct conditions {
  long most_file_bytes = 0; // files cannot grow beyond (a full disk); 0: no limit
  int signal = 0;           // sent once, `after` the start, or after the program has its handler (all but SIGKILL)
  std::chrono::milliseconds after{0};
};

struct outcome {
  int code = -1;  // exit code, or -1 if a signal ended it
  int signal = 0; // the signal that did
  pid_t process = 0;
  std::vector<pid_t> takers; // threads that would take the signal sent, just before it is
  std::string out;
  std::string error;
};

/// Whether a signal is in a set of /proc/PID/status, SigCgt (handled) or SigBlk (blocked); nothing if the thread is
/// gone.
inline std::optional<bool> has_signal(const std::filesystem::path& status, const std::string& set, int signal) {
  std::ifstream file(status);
  for (std::string line; std::getline(file, line);) {
    if (line.rfind(set + ":", 0) == 0) {
      return (std::stoull(line.substr(set.size() + 1), nullptr, 16) >> (signal - 1) & 1) != 0;
    }
  }
  return {};
}

/// Waits until a child has become another program and handles a signal, or has ended; on a busy machine that takes a
/// while.
inline void wait_for_handler(pid_t child, int signal) {
  const std::filesystem::path process = "/proc/" + std::to_string(child);
  const std::filesystem::path test = std::filesystem::read_symlink("/proc/self/exe");
  const auto handles = [&] {
    std::error_code ignored;
    if (std::filesystem::read_symlink(process / "exe", ignored) == test) { return false; } // what fork() left
    return has_signal(process / "status", "SigCgt", signal).value_or(false);
  };
  siginfo_t ended{};
  while (!handles() && ::waitid(P_PID, static_cast<id_t>(child), &ended, WEXITED | WNOHANG | WNOWAIT) == 0 &&
         ended.si_pid == 0) {
    ::usleep(10000);
  }
}

/// The threads of a process that don't block a signal.
inline std::vector<pid_t> threads_taking(int signal, pid_t process) {
  std::vector<pid_t> result;
  std::error_code ended;
  const std::filesystem::path threads = "/proc/" + std::to_string(process) + "/task";
  for (const auto& thread : std::filesystem::directory_iterator(threads, ended)) {
    if (!has_signal(thread.path() / "status", "SigBlk", signal).value_or(true)) {
      result.push_back(static_cast<pid_t>(std::stol(thread.path().filename())));
    }
  }
  return result;
}

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
  outcome result{.process = child, .takers = {}, .out = {}, .error = {}};
  if (during.signal != 0) {
    if (during.signal != SIGKILL) { wait_for_handler(child, during.signal); }
    ::usleep(static_cast<useconds_t>(during.after.count() * 1000));
    result.takers = threads_taking(during.signal, child);
    ::kill(child, during.signal);
  }
  REQUIRE(::waitpid(child, &status, 0) == child);
  const auto text = [](const std::filesystem::path& path) {
    std::ifstream in(path, std::ios::binary);
    return std::string{std::istreambuf_iterator<char>(in), {}};
  };
  if (WIFEXITED(status)) { result.code = WEXITSTATUS(status); }
  if (WIFSIGNALED(status)) { result.signal = WTERMSIG(status); }
  result.out = text(out);
  result.error = text(error);
  return result;
}

} // namespace support
