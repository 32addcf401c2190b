// Children that are killed in the middle of writing, and a limit on the size of files; needs files_faults.hpp.
#pragma once

#include "support/catch.hpp"
#include "support/files_faults.hpp"

#include <csignal>

#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

namespace files_test {

/// Runs f in a child that is killed at its n-th call; true if it was, false if it ended before.
template <class Function>
[[nodiscard]] bool killed_at(long call, const Function& f) {
  const pid_t child = ::fork();
  if (child == 0) {
    files_faults::arm(files_faults::action::kill, call);
    try {
      f();
    } catch (...) { ::_exit(1); }
    ::_exit(0);
  }
  int status = 0;
  REQUIRE(::waitpid(child, &status, 0) == child);
  REQUIRE((WIFSIGNALED(status) ? WTERMSIG(status) == SIGKILL : WEXITSTATUS(status) == 0));
  return WIFSIGNALED(status);
}

/// Files cannot grow beyond so many bytes while this lives.
class file_size_limit {
public:
  explicit file_size_limit(rlim_t bytes) : handler_(std::signal(SIGXFSZ, SIG_IGN)) {
    ::getrlimit(RLIMIT_FSIZE, &before_);
    const struct rlimit limit = {bytes, before_.rlim_max};
    ::setrlimit(RLIMIT_FSIZE, &limit);
  }
  file_size_limit(const file_size_limit&) = delete;
  file_size_limit& operator=(const file_size_limit&) = delete;
  ~file_size_limit() {
    ::setrlimit(RLIMIT_FSIZE, &before_);
    std::signal(SIGXFSZ, handler_);
  }

private:
  struct rlimit before_ = {};
  void (*handler_)(int);
};

} // namespace files_test
