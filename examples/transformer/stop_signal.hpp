// Ctrl-C and SIGTERM: the first asks the run to save and stop, the second ends the process at once.
#pragma once

#include <atomic>
#include <csignal>
#include <thread>

#include <unistd.h>

namespace reference {

namespace detail {
inline std::atomic<int> stop_signal{0};
static_assert(std::atomic<int>::is_always_lock_free); // what a handler may write
extern "C" inline void note_stop_signal(int signal) {
  stop_signal = signal;
  std::signal(signal, SIG_DFL); // the second one kills
}
} // namespace detail

/// Has a thread of its own take Ctrl-C and SIGTERM from now on, whatever they do; to be called before there are others.
///
/// Kernels of oneDNN before 3.11.2 keep their stack pointer in the heap, so that a handler on a thread that multiplies
/// overwrites what lies there (oneDNN issue 4845).
inline void take_stop_signals_apart() {
  std::thread([] {
    for (;;) { ::pause(); }
  }).detach();
  sigset_t taken;
  sigemptyset(&taken);
  sigaddset(&taken, SIGINT);
  sigaddset(&taken, SIGTERM);
  ::pthread_sigmask(SIG_BLOCK, &taken, nullptr); // of this thread and all that it starts
}

inline void install_stop_signals() noexcept {
  std::signal(SIGINT, detail::note_stop_signal);
  std::signal(SIGTERM, detail::note_stop_signal);
#if defined(SIGXFSZ)
  std::signal(SIGXFSZ, SIG_IGN); // a file size limit is a failed write, which is reported
#endif
}

/// Someone has asked the run to stop.
[[nodiscard]] inline bool stop_requested() noexcept { return detail::stop_signal != 0; }

} // namespace reference
