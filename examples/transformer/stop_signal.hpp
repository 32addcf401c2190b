// Ctrl-C and SIGTERM: the first asks the run to save and stop, the second ends the process at once.
#pragma once

#include <atomic>
#include <csignal>

namespace reference {

namespace detail {
inline volatile std::sig_atomic_t stop_signal = 0;
extern "C" inline void note_stop_signal(int signal) {
  stop_signal = signal;
  std::signal(signal, SIG_DFL); // the second one kills
}
} // namespace detail

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
