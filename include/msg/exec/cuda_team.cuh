// The GPU's team: sixteen threads of a warp, or a whole block; and how the threads of a launch share the rows of a
// kernel. Reaches no CUDA header: nvcc knows these names by itself, and the tests provide them for g++.
#pragma once

#include <msg/config.hpp>
#include <msg/exec/serial.hpp>

#include <type_traits>

MSG_NAMESPACE_BEGIN

namespace cuda {

namespace detail {

// Outside of device code these are compiled, since kernels are for the host as well, and never called.

struct thread_place {
  unsigned thread = 0;
  unsigned block_size = 0;
  unsigned block = 0;
  unsigned grid_size = 0;
};
[[nodiscard]] MSG_HOST_DEVICE inline thread_place here() {
#if MSG_DEVICE_BODY
  return {threadIdx.x, blockDim.x, blockIdx.x, gridDim.x};
#else
  return {};
#endif
}
/// The shared memory of the block, as large as the launch asked for.
[[nodiscard]] MSG_HOST_DEVICE inline unsigned char* block_memory() {
#if MSG_DEVICE_BODY
  extern __shared__ double2 shared_memory[]; // double2: aligned to 16 bytes
  return reinterpret_cast<unsigned char*>(shared_memory);
#else
  return nullptr;
#endif
}
MSG_HOST_DEVICE inline void sync_block() {
#if MSG_DEVICE_BODY
  __syncthreads();
#endif
}
MSG_HOST_DEVICE inline void sync_threads_of([[maybe_unused]] unsigned mask) {
#if MSG_DEVICE_BODY
  __syncwarp(mask);
#endif
}
/// The value of the thread whose place in the warp differs by `distance` in its bits.
template <class Value>
[[nodiscard]] MSG_HOST_DEVICE Value value_across([[maybe_unused]] unsigned mask, Value value,
                                                 [[maybe_unused]] int distance) {
#if MSG_DEVICE_BODY
  if constexpr (std::is_arithmetic_v<Value>) {
    return __shfl_xor_sync(mask, value, distance);
  } else { // word by word
    static_assert(std::is_trivially_copyable_v<Value> && sizeof(Value) % sizeof(unsigned) == 0);
    unsigned words[sizeof(Value) / sizeof(unsigned)];
    __builtin_memcpy(words, &value, sizeof(Value));
    for (unsigned& word : words) { word = __shfl_xor_sync(mask, word, distance); }
    __builtin_memcpy(&value, words, sizeof(Value));
    return value;
  }
#else
  return value;
#endif
}

} // namespace detail

/// Threads that work on one row: half a warp, or a whole block. What they compute does not depend on which: sums run by
/// the lane rule of serial_team, thread l of the first sixteen being lane l, so that they have the bits of the CPU's,
/// and appended terms that are exact zeros change none.
class team {
public:
  static constexpr index lanes = serial_team::lanes; // threads of the smaller team
  static constexpr bool moves_packs = true;          // each_element() moves 16 bytes at a time
  static constexpr index reserved_bytes = 16;        // of shared memory, for the sum of a whole block

  /// The team of the calling thread.
  ///
  /// whole_block   else half a warp
  /// scratch_bytes of shared memory for each team, a multiple of 16, behind reserved_bytes for the block
  MSG_HOST_DEVICE team(bool whole_block, index scratch_bytes)
      : size_(whole_block ? static_cast<index>(detail::here().block_size) : lanes), scratch_bytes_(scratch_bytes) {
    const index thread = static_cast<index>(detail::here().thread);
    rank_ = whole_block ? thread : thread % lanes;
    mask_ = 0xFFFFU << (whole_block ? 0 : thread / lanes % 2 * lanes);
    scratch_ = detail::block_memory() + reserved_bytes + (whole_block ? 0 : thread / lanes * scratch_bytes);
  }

  [[nodiscard]] MSG_HOST_DEVICE index rank() const noexcept { return rank_; }
  [[nodiscard]] MSG_HOST_DEVICE index size() const noexcept { return size_; }

  /// Waits for all members; what they wrote before can be read after. Every member has to call it.
  MSG_HOST_DEVICE void sync() const {
    if (size_ > lanes) {
      detail::sync_block();
    } else {
      detail::sync_threads_of(mask_);
    }
  }

  /// f(i) for i in [0, n), each by one member.
  template <class Function>
  MSG_HOST_DEVICE void each(index n, const Function& f) const {
    for (index i = rank_; i < n; i += size_) { f(i); }
  }

  /// Sum over i in [0, n), known to every member; see serial_team::fold. Every member has to call it.
  template <class Value, class Function>
  [[nodiscard]] MSG_HOST_DEVICE Value fold(index n, const Function& step) const {
    static_assert(sizeof(Value) <= reserved_bytes);
    Value lane{};
    if (rank_ < lanes) {
#if defined(__CUDACC__)
#pragma unroll 4
#endif
      for (index i = rank_; i < n; i += lanes) { lane = step(lane, i); }
      for (int distance = lanes / 2; distance > 0; distance /= 2) {
        lane = lane + detail::value_across(mask_, lane, distance);
      }
    }
    if (size_ > lanes) {
      auto* const known = reinterpret_cast<Value*>(detail::block_memory());
      if (rank_ == 0) { *known = lane; }
      sync();
      lane = *known;
      sync(); // the next fold writes there
    }
    return lane;
  }

  /// Sum of f(i) over i in [0, n): fold() with lane + f(i).
  template <class Function>
  [[nodiscard]] MSG_HOST_DEVICE auto sum(index n, const Function& f) const {
    using value = decltype(f(index{0}));
    return fold<value>(n, [&f](value lane, index i) { return lane + f(i); });
  }

  /// The first n elements of memory that the members of this team share, which a kernel asks for with a member
  /// `index shared_bytes() const`. It holds anything at first, and keeps nothing from row to row.
  template <class T>
  [[nodiscard]] MSG_HOST_DEVICE T* shared([[maybe_unused]] index n) const {
    MSG_ASSERT(n >= 0 && n * static_cast<index>(sizeof(T)) <= scratch_bytes_);
    return reinterpret_cast<T*>(scratch_);
  }

private:
  index rank_ = 0;
  index size_ = 1;
  index scratch_bytes_ = 0;
  unsigned mask_ = 0;
  unsigned char* scratch_ = nullptr;
};

namespace detail {

template <class Kernel>
concept wants_shared_memory = requires(const Kernel& kernel) {
  kernel.shared_bytes();
};

/// What one thread of a launch does: rows of its team, one after another, the launch's teams side by side.
template <class Kernel>
MSG_HOST_DEVICE void run_rows(const Kernel& kernel, index rows, bool whole_block, index scratch_bytes) {
  const thread_place at = here();
  const team members(whole_block, scratch_bytes);
  const index teams = static_cast<index>(at.block_size) / members.size(); // of a block
  const index first = static_cast<index>(at.block) * teams + static_cast<index>(at.thread) / members.size();
  for (index row = first; row < rows; row += static_cast<index>(at.grid_size) * teams) {
    kernel(members, row);
    if constexpr (wants_shared_memory<Kernel>) { members.sync(); } // the next row writes there
  }
}

} // namespace detail

} // namespace cuda

MSG_NAMESPACE_END
