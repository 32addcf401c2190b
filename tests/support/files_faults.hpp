// Faults on demand: the calls that make files durable, replaced in this executable so that the n-th of them fails or
// kills the process. Include it in one translation unit.
#pragma once

#include <cerrno>
#include <csignal>
#include <cstddef>
#include <cstdio>
#include <string>
#include <string_view>

#include <fcntl.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>

namespace files_faults {

enum class action { count, fail, kill };

struct state {
  bool armed = false;
  action what = action::count;
  long at = 0;            // which call, from 1
  int error = 0;          // errno of a failing call
  long calls = 0;         // since arm()
  std::string_view hit{}; // name of the call that failed
  std::string sequence{}; // names of all calls
};
inline state now{};

inline void arm(action what, long at = 0, int error = 0) { now = {true, what, at, error, 0, {}, {}}; }
inline void disarm() { now.armed = false; }

// Whether this call is the one; a killing one doesn't return.
inline bool strikes(std::string_view name) {
  if (!now.armed) { return false; }
  if (!now.sequence.empty()) { now.sequence += ' '; }
  now.sequence += name;
  if (++now.calls != now.at || now.what == action::count) { return false; }
  now.hit = name;
  if (now.what == action::kill) { ::raise(SIGKILL); }
  errno = now.error;
  return true;
}

} // namespace files_faults

extern "C" {
// A write that is struck leaves half of its bytes behind, unless it is only interrupted.
ssize_t write(int file, const void* data, size_t count) {
  using namespace files_faults;
  if (now.armed && now.what != action::count && now.calls + 1 == now.at && now.error != EINTR) {
    (void)::syscall(SYS_write, file, data, count / 2);
  }
  return strikes("write") ? -1 : ::syscall(SYS_write, file, data, count);
}
// Nothing waits for the disk here: what a killed process wrote survives it, and these tests save a thousand times.
int fsync(int) { return files_faults::strikes("fsync") ? -1 : 0; }
int close(int file) {
  const bool struck = files_faults::strikes("close");
  const int error = errno;
  const int result = static_cast<int>(::syscall(SYS_close, file));
  if (struck) { errno = error; }
  return struck ? -1 : result;
}
int rename(const char* from, const char* to) noexcept {
  return files_faults::strikes("rename") ? -1
                                         : static_cast<int>(::syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, 0U));
}
int renameat2(int from_folder, const char* from, int to_folder, const char* to, unsigned flags) noexcept {
  return files_faults::strikes("renameat2")
             ? -1
             : static_cast<int>(::syscall(SYS_renameat2, from_folder, from, to_folder, to, flags));
}
}
