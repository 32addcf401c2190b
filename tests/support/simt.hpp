// CUDA threads on a CPU: what device code asks of the machine (threadIdx, __syncthreads, __shfl_xor_sync, ...), so that
// g++ compiles the library's own device code and tests run it. A thread is a fiber; under ThreadSanitizer, or when
// asked, a thread of the operating system. What it reports, as an exception from launch():
//   a barrier or shuffle that some thread never reaches, or reaches with another mask; a thread outside its own mask;
//   shared memory written behind its end; a failed MSG_ASSERT.
// Include it before any header of the library.
#pragma once

#include <ucontext.h>

#include <algorithm>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <random>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#if defined(__SANITIZE_THREAD__)
#define SIMT_THREADS 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define SIMT_THREADS 1
#endif
#endif

namespace simt {

enum class order { forward, reverse, random };

struct options {
  simt::order order = simt::order::forward; // in which threads run between barriers
  unsigned seed = 1;
#if defined(SIMT_THREADS)
  bool threads = true;
#else
  bool threads = false;
#endif
};
inline options& current_options() {
  static options current;
  return current;
}

struct failure : std::runtime_error {
  using std::runtime_error::runtime_error;
};

struct uint3 {
  unsigned x = 0, y = 0, z = 0;
};

inline constexpr std::size_t most_shared_bytes = 48 * 1024;
inline constexpr std::size_t guard_bytes = 256;
inline constexpr unsigned warp = 32;

class block_run;

/// Where a thread waits, and what it brought to a shuffle.
struct wait_state {
  enum class kind { none, block, warp_sync, shuffle } at = kind::none;
  unsigned mask = 0;
  unsigned partner = 0; // lane whose value is wanted
  std::uint64_t value = 0;
  std::uint64_t received = 0;
};

struct cuda_thread {
  uint3 thread_index{}, block_index{}, block_size{}, grid_size{};
  wait_state wait{};
  bool ended = false;
  block_run* run = nullptr;
  ucontext_t context{};
};
inline thread_local cuda_thread* self_pointer = nullptr;
inline cuda_thread& self() { return *self_pointer; }

/// One block: its threads, and the barriers between them.
class block_run {
public:
  template <class Body>
  static void launch(unsigned grid, unsigned block, unsigned char* shared, std::size_t shared_bytes, const Body& body) {
    for (unsigned b = 0; b < grid; ++b) {
      __builtin_memset(shared, 0xA5, shared_bytes + guard_bytes);
      block_run run;
      run.threads_.resize(block);
      for (unsigned t = 0; t < block; ++t) { run.threads_[t] = {{t}, {b}, {block}, {grid}, {}, false, &run, {}}; }
      run.call_ = [](const void* f) { (*static_cast<const Body*>(f))(); };
      run.body_ = &body;
      current_options().threads ? run.run_threads() : run.run_fibers();
      for (std::size_t i = 0; i < guard_bytes && run.problem_.empty(); ++i) {
        if (shared[shared_bytes + i] != 0xA5) { run.problem_ = "shared memory was written behind its end"; }
      }
      if (!run.problem_.empty()) { throw failure(run.problem_); }
    }
  }

  /// Waits until everybody concerned waits at the same thing.
  void arrive(const wait_state& what) {
    cuda_thread& me = self();
    const std::unique_lock<std::mutex> lock = locked();
    if (what.at != wait_state::kind::block && (what.mask >> lane_of(me) & 1U) == 0) {
      note("a thread is not in the mask it synchronises with");
    }
    me.wait = what;
    release_groups(me);
    while (me.wait.at != wait_state::kind::none && problem_.empty()) { pause(me); }
    if (!problem_.empty()) { throw failure(problem_); }
  }

  void fail(const std::string& text) {
    {
      const std::unique_lock<std::mutex> lock = locked();
      note(text);
      changed_.notify_all();
    }
    throw failure(text);
  }

private:
  using kind = wait_state::kind;
  static unsigned lane_of(const cuda_thread& t) { return t.thread_index.x % warp; }

  void note(const std::string& problem) { // the first one counts: others follow from it
    if (problem_.empty()) { problem_ = problem; }
  }
  std::unique_lock<std::mutex> locked() {
    return current_options().threads ? std::unique_lock<std::mutex>(mutex_) : std::unique_lock<std::mutex>();
  }
  void pause(cuda_thread& me) {
    if (current_options().threads) {
      std::unique_lock<std::mutex> held(mutex_, std::adopt_lock);
      changed_.wait(held);
      held.release();
    } else {
      swapcontext(&me.context, &scheduler_);
      self_pointer = &me;
    }
  }

  // Lets those go on who wait for one another and are complete; `me` has just come to wait, or has ended.
  void release_groups(const cuda_thread& me) {
    if (me.ended) {
      ++ended_;
    } else if (me.wait.at == kind::block) {
      ++at_block_;
    }
    if (at_block_ > 0 && ended_ > 0) {
      note("some threads wait at __syncthreads, " + std::to_string(ended_) + " have ended: a divergent barrier");
    } else if (at_block_ == threads_.size()) {
      at_block_ = 0;
      for (cuda_thread& t : threads_) { t.wait.at = kind::none; }
      changed_.notify_all();
    }
    const std::size_t first = me.thread_index.x / warp * warp;
    const std::size_t last = std::min(first + warp, threads_.size());
    for (std::size_t t = first; me.ended && t < last; ++t) { check_all_there(threads_[t].wait, first); }
    const bool in_warp = !me.ended && (me.wait.at == kind::warp_sync || me.wait.at == kind::shuffle);
    if (in_warp) {
      check_all_there(me.wait, first);
      if (problem_.empty()) { release_warp(me.wait, first, last); }
    }
    if (!problem_.empty()) { changed_.notify_all(); }
  }
  void check_all_there(const wait_state& w, std::size_t first) {
    if (w.at != kind::warp_sync && w.at != kind::shuffle) { return; }
    for (std::size_t t = first; t < first + warp; ++t) {
      if ((w.mask >> (t - first) & 1U) != 0 && (t >= threads_.size() || threads_[t].ended)) {
        note("a warp waits for thread " + std::to_string(t) + ", which has ended or never was: a divergent barrier");
      }
    }
  }
  void release_warp(const wait_state& w, std::size_t first, std::size_t last) {
    for (std::size_t t = first; t < last; ++t) {
      const wait_state& other = threads_[t].wait;
      if ((w.mask >> (t - first) & 1U) != 0 && (other.at != w.at || other.mask != w.mask)) { return; }
    }
    const kind at = w.at;
    const unsigned mask = w.mask;
    for (std::size_t t = first; t < last; ++t) {
      wait_state& other = threads_[t].wait;
      if ((mask >> (t - first) & 1U) == 0 || at != kind::shuffle) { continue; }
      if ((mask >> other.partner & 1U) == 0) { note("a shuffle reads a thread outside its mask"); }
      other.received = threads_[std::min(first + other.partner, last - 1)].wait.value;
    }
    for (std::size_t t = first; t < last; ++t) {
      if ((mask >> (t - first) & 1U) != 0) { threads_[t].wait.at = kind::none; }
    }
    changed_.notify_all();
  }

  void run_one(cuda_thread& t) noexcept {
    try {
      call_(body_);
    } catch (const std::exception& e) {
      const std::unique_lock<std::mutex> lock = locked();
      note(e.what());
    }
    const std::unique_lock<std::mutex> lock = locked();
    t.ended = true;
    release_groups(t);
    changed_.notify_all();
  }

  void run_threads() {
    std::vector<std::thread> running;
    for (cuda_thread& t : threads_) {
      running.emplace_back([this, &t] {
        self_pointer = &t;
        run_one(t);
      });
    }
    for (std::thread& t : running) { t.join(); }
  }

  static void fiber_start(unsigned high, unsigned low) {
    auto* const t = reinterpret_cast<cuda_thread*>((std::uintptr_t{high} << 32) | low);
    self_pointer = t;
    t->run->run_one(*t);
    swapcontext(&t->context, &t->run->scheduler_); // never resumed
  }
  void run_fibers() {
    constexpr std::size_t stack_bytes = 128 * 1024;
    static std::vector<std::unique_ptr<char[]>> stacks;
    while (stacks.size() < threads_.size()) { stacks.emplace_back(new char[stack_bytes]); }
    for (std::size_t t = 0; t < threads_.size(); ++t) {
      cuda_thread& thread = threads_[t];
      getcontext(&thread.context);
      thread.context.uc_stack.ss_sp = stacks[t].get();
      thread.context.uc_stack.ss_size = stack_bytes;
      thread.context.uc_link = nullptr;
      const auto address = reinterpret_cast<std::uintptr_t>(&thread);
      makecontext(&thread.context, reinterpret_cast<void (*)()>(&fiber_start), 2, static_cast<unsigned>(address >> 32),
                  static_cast<unsigned>(address));
    }
    std::vector<std::size_t> turn(threads_.size());
    for (std::size_t t = 0; t < turn.size(); ++t) { turn[t] = t; }
    if (current_options().order == order::reverse) { std::reverse(turn.begin(), turn.end()); }
    std::mt19937 shuffle(current_options().seed);
    if (current_options().order == order::random) { std::shuffle(turn.begin(), turn.end(), shuffle); }
    // The first in turn that can run does: those behind it lag as far as barriers let them.
    const auto can_run = [this](std::size_t t) {
      return !threads_[t].ended && (threads_[t].wait.at == kind::none || !problem_.empty());
    };
    for (auto next = turn.begin(); next != turn.end(); next = std::find_if(turn.begin(), turn.end(), can_run)) {
      if (can_run(*next)) { swapcontext(&scheduler_, &threads_[*next].context); }
    }
    const bool left = std::any_of(threads_.begin(), threads_.end(), [](const cuda_thread& t) { return !t.ended; });
    if (left && problem_.empty()) {
      note("threads wait at different barriers, or with different masks, for ever");
      // let them unwind, or their destructors never run
      for (const std::size_t t : turn) {
        if (!threads_[t].ended) { swapcontext(&scheduler_, &threads_[t].context); }
      }
    }
  }

  std::vector<cuda_thread> threads_;
  ucontext_t scheduler_{};
  std::mutex mutex_;
  std::condition_variable changed_;
  std::string problem_;
  std::size_t ended_ = 0;    // threads
  std::size_t at_block_ = 0; // threads that wait there
  void (*call_)(const void*) = nullptr;
  const void* body_ = nullptr;
};

inline void require(bool good, const char* what) {
  if (good) { return; }
  if (self_pointer == nullptr) { throw failure(what); }
  self().run->fail(std::string("failed: ") + what);
}

} // namespace simt

// --- What CUDA C++ provides, as far as the library uses it -----------------------------------------------------------

#define MSG_ASSERT(condition) simt::require(static_cast<bool>(condition), #condition)
#define __global__
#define __shared__
#define __launch_bounds__(...)
#define __grid_constant__
#define threadIdx (simt::self().thread_index)
#define blockIdx (simt::self().block_index)
#define blockDim (simt::self().block_size)
#define gridDim (simt::self().grid_size)

struct alignas(16) double2 {
  double x, y;
};

inline void __syncthreads() { simt::self().run->arrive({.at = simt::wait_state::kind::block}); }
inline void __syncwarp(unsigned mask) {
  simt::self().run->arrive({.at = simt::wait_state::kind::warp_sync, .mask = mask});
}
template <class T>
T __shfl_xor_sync(unsigned mask, T value, int distance) {
  static_assert(sizeof(T) <= sizeof(std::uint64_t));
  simt::wait_state w{.at = simt::wait_state::kind::shuffle,
                     .mask = mask,
                     .partner = simt::self().thread_index.x % simt::warp ^ static_cast<unsigned>(distance)};
  __builtin_memcpy(&w.value, &value, sizeof(T));
  simt::self().run->arrive(w);
  __builtin_memcpy(&value, &simt::self().wait.received, sizeof(T));
  return value;
}
