// A CUDA runtime for tests without a GPU: launches run on the SIMT layer. Streams that were created hold their work
// back until they are waited for, as a GPU may, so that a temporary of the host's that a launch still needs is missed;
// the default stream works at once. Device memory cannot be touched from outside of a launch or a copy.
#pragma once

#include "support/simt.hpp"

#include <sys/mman.h>

#include <cstdlib>
#include <functional>
#include <map>
#include <tuple>

enum cudaError_t : int {
  cudaSuccess = 0,
  cudaErrorInvalidValue = 1,
  cudaErrorMemoryAllocation = 2,
  cudaErrorInvalidConfiguration = 9,
  cudaErrorInsufficientDriver = 35,
  cudaErrorNoDevice = 100
};
inline const char* cudaGetErrorName(cudaError_t code) {
  switch (code) {
    case cudaSuccess: return "cudaSuccess";
    case cudaErrorInvalidValue: return "cudaErrorInvalidValue";
    case cudaErrorMemoryAllocation: return "cudaErrorMemoryAllocation";
    case cudaErrorInvalidConfiguration: return "cudaErrorInvalidConfiguration";
    case cudaErrorInsufficientDriver: return "cudaErrorInsufficientDriver";
    case cudaErrorNoDevice: return "cudaErrorNoDevice";
  }
  return "?";
}
inline const char* cudaGetErrorString(cudaError_t) { return "described here"; }

namespace simt {

/// The next call fails with this, once.
inline cudaError_t& next_error() {
  static cudaError_t code = cudaSuccess;
  return code;
}
inline cudaError_t taken_error() { return std::exchange(next_error(), cudaSuccess); }

/// Device memory: pages of its own, closed but while a launch or a copy runs.
class device_memory {
public:
  static device_memory& get() {
    static device_memory one;
    return one;
  }
  void* allocate(std::size_t bytes) {
    const std::size_t whole = (bytes + guard_bytes + page - 1) / page * page;
    void* const p = mmap(nullptr, whole, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    __builtin_memset(p, 0xA5, whole); // NaN-like poison, and the guard behind
    blocks_[static_cast<unsigned char*>(p)] = {bytes, whole};
    protect(p, whole, open_ > 0);
    return p;
  }
  void release(void* p) {
    const auto found = blocks_.find(static_cast<unsigned char*>(p));
    if (found == blocks_.end()) { throw failure("cudaFree of what cudaMalloc did not give"); }
    open();
    const bool intact = guard_intact(*found);
    close();
    munmap(p, found->second.whole);
    blocks_.erase(found);
    if (!intact) { throw failure("device memory was written behind its end"); }
  }
  void open() {
    if (open_++ == 0) {
      for (auto& [p, size] : blocks_) { protect(p, size.whole, true); }
    }
  }
  void close() {
    bool intact = true;
    for (const auto& block : blocks_) { intact = intact && guard_intact(block); }
    if (--open_ == 0) {
      for (auto& [p, size] : blocks_) { protect(p, size.whole, false); }
    }
    if (!intact) { throw failure("device memory was written behind its end"); }
  }
  [[nodiscard]] std::size_t count() const { return blocks_.size(); }

private:
  static constexpr std::size_t page = 4096;
  struct extent {
    std::size_t bytes, whole;
  };
  static void protect(void* p, std::size_t whole, bool open) {
    mprotect(p, whole, open ? PROT_READ | PROT_WRITE : PROT_NONE);
  }
  static bool guard_intact(const std::pair<unsigned char* const, extent>& block) {
    for (std::size_t i = block.second.bytes; i < block.second.whole; ++i) {
      if (block.first[i] != 0xA5) { return false; }
    }
    return true;
  }
  std::map<unsigned char*, extent> blocks_;
  int open_ = 0;
};

/// Work in order. A captured stream gives its work to a graph.
struct stream {
  std::vector<std::function<void()>> work;
  std::vector<std::function<void()>> outside; // what was there before a capture began
};

inline unsigned& launches() { // counted, so that tests see that something was launched
  static unsigned count = 0;
  return count;
}

} // namespace simt

using cudaStream_t = simt::stream*;

namespace simt {

inline void enqueue(cudaStream_t s, std::function<void()> what) {
  if (s != nullptr) {
    s->work.push_back(std::move(what));
  } else {
    device_memory::get().open();
    what();
    device_memory::get().close();
  }
}

} // namespace simt

struct dim3 {
  unsigned x = 1, y = 1, z = 1;
  explicit dim3(unsigned n) : x(n) {}
};

// The block's shared memory, which msg/exec/cuda_team.cuh declares.
namespace msg {
inline namespace v0 {
namespace cuda::detail {
inline double2 shared_memory[(simt::most_shared_bytes + simt::guard_bytes) / sizeof(double2)];
}
} // namespace v0
} // namespace msg

inline cudaError_t cudaGetDeviceCount(int* count) {
  if (const cudaError_t code = simt::taken_error(); code != cudaSuccess) { return code; }
  *count = 1;
  return cudaSuccess;
}
inline cudaError_t cudaGetLastError() { return cudaSuccess; }
inline cudaError_t cudaMalloc(void** p, std::size_t bytes) {
  if (const cudaError_t code = simt::taken_error(); code != cudaSuccess) { return code; }
  *p = simt::device_memory::get().allocate(bytes);
  return cudaSuccess;
}
inline cudaError_t cudaFree(void* p) {
  if (p != nullptr) { simt::device_memory::get().release(p); }
  return cudaSuccess;
}

enum cudaMemcpyKind { cudaMemcpyHostToDevice, cudaMemcpyDeviceToHost, cudaMemcpyDeviceToDevice };
inline cudaError_t cudaMemcpy(void* to, const void* from, std::size_t bytes, cudaMemcpyKind) {
  if (const cudaError_t code = simt::taken_error(); code != cudaSuccess) { return code; }
  simt::enqueue(nullptr, [=] { __builtin_memcpy(to, from, bytes); });
  return cudaSuccess;
}

inline cudaError_t cudaStreamCreate(cudaStream_t* s) {
  *s = new simt::stream;
  return cudaSuccess;
}
inline cudaError_t cudaStreamDestroy(cudaStream_t s) {
  delete s;
  return cudaSuccess;
}
inline cudaError_t cudaStreamSynchronize(cudaStream_t s) {
  if (s == nullptr) { return cudaSuccess; }
  simt::device_memory::get().open();
  for (const auto& f : std::exchange(s->work, {})) { f(); }
  simt::device_memory::get().close();
  return cudaSuccess;
}

// Graphs hold the work of a stream that has been captured.
using cudaGraph_t = std::vector<std::function<void()>>*;
using cudaGraphExec_t = cudaGraph_t;
enum cudaStreamCaptureMode { cudaStreamCaptureModeThreadLocal };
inline cudaError_t cudaStreamBeginCapture(cudaStream_t s, cudaStreamCaptureMode) {
  s->outside = std::exchange(s->work, {});
  return cudaSuccess;
}
inline cudaError_t cudaStreamEndCapture(cudaStream_t s, cudaGraph_t* graph) {
  *graph = new std::vector<std::function<void()>>(std::exchange(s->work, std::exchange(s->outside, {})));
  return cudaSuccess;
}
inline cudaError_t cudaGraphInstantiate(cudaGraphExec_t* executable, cudaGraph_t graph, unsigned long long) {
  *executable = new std::vector<std::function<void()>>(*graph);
  return cudaSuccess;
}
inline cudaError_t cudaGraphLaunch(cudaGraphExec_t executable, cudaStream_t s) {
  s->work.insert(s->work.end(), executable->begin(), executable->end());
  return cudaSuccess;
}
inline cudaError_t cudaGraphExecDestroy(cudaGraphExec_t executable) {
  delete executable;
  return cudaSuccess;
}
inline cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  delete graph;
  return cudaSuccess;
}

template <class... Parameters>
cudaError_t cudaLaunchKernel(void (*kernel)(Parameters...), dim3 grid, dim3 block, void** arguments,
                             std::size_t shared_bytes, cudaStream_t s) {
  if (const cudaError_t code = simt::taken_error(); code != cudaSuccess) { return code; }
  if (grid.x == 0 || block.x == 0 || block.x > 1024 || shared_bytes > simt::most_shared_bytes) {
    return cudaErrorInvalidConfiguration;
  }
  ++simt::launches();
  const auto copies = [&]<std::size_t... i>(std::index_sequence<i...>) {
    return std::tuple<Parameters...>(*static_cast<Parameters*>(arguments[i])...);
  }(std::index_sequence_for<Parameters...>{});
  auto* const shared = reinterpret_cast<unsigned char*>(msg::cuda::detail::shared_memory);
  simt::enqueue(s, [=] {
    simt::block_run::launch(grid.x, block.x, shared, shared_bytes, [&] { std::apply(kernel, copies); });
  });
  return cudaSuccess;
}
