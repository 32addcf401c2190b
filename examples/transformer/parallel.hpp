// How the reference Transformer uses threads: one number, and tasks that do not depend on each other.
#pragma once

#include <msg/config.hpp>

#include <exception>

#if defined(_OPENMP)
#include <omp.h>
#endif

namespace reference {

using msg::index;

/// Number of threads parallel_tasks takes when called from this thread; 0 means one per core. Returns the number in
/// use: 1 without OpenMP.
inline int set_threads(int count) noexcept {
#if defined(_OPENMP)
  omp_set_num_threads(count > 0 ? count : omp_get_num_procs());
  return omp_get_max_threads();
#else
  (void)count;
  return 1;
#endif
}

[[nodiscard]] inline int threads() noexcept {
#if defined(_OPENMP)
  return omp_get_max_threads();
#else
  return 1;
#endif
}

/// Runs task(i) for every i in [0, count), each on one thread, in no order. Tasks must write to different places; how
/// work is cut into tasks must not depend on threads() where a sum would feel it. Rethrows one of the exceptions that
/// tasks threw.
template <class Task>
void parallel_tasks(index count, const Task& task) {
#if defined(_OPENMP)
  if (count > 1 && omp_get_max_threads() > 1 && omp_in_parallel() == 0) {
    std::exception_ptr thrown; // none may leave the region
#pragma omp parallel for schedule(dynamic, 1)
    for (index i = 0; i < count; ++i) {
      try {
        task(i);
      } catch (...) {
#pragma omp critical(msg_parallel_tasks)
        thrown = std::current_exception();
      }
    }
    if (thrown) { std::rethrow_exception(thrown); }
    return;
  }
#endif
  for (index i = 0; i < count; ++i) { task(i); }
}

/// Keeps libraries called inside its scope from starting threads of their own.
class single_threaded {
public:
#if defined(_OPENMP)
  single_threaded() noexcept : before_(omp_in_parallel() != 0 ? 0 : omp_get_max_threads()) {
    if (before_ > 1) { omp_set_num_threads(1); }
  }
  ~single_threaded() {
    if (before_ > 1) { omp_set_num_threads(before_); }
  }
#else
  single_threaded() noexcept {}
  ~single_threaded() {}
#endif
  single_threaded(const single_threaded&) = delete;
  single_threaded& operator=(const single_threaded&) = delete;

private:
#if defined(_OPENMP)
  int before_; // 0 inside a parallel region, where one thread is all a library takes
#endif
};

} // namespace reference
