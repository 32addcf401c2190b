// Device memory that grows, a stream with its owner, and the way from the host's memory to the device's.
#pragma once

#include <msg/config.hpp>
#include <msg/cuda/memory.cuh>
#include <msg/exec/cuda.cuh>

#include <cuda_runtime.h>

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <utility>

namespace reference {

using msg::index;

/// Numbers in device memory; keeps its room when it shrinks. What takes more room, or goes, waits for the GPU first,
/// which may still be using it.
template <class T>
class cuda_storage {
public:
  cuda_storage() = default;
  explicit cuda_storage(std::size_t count) { resize(count); }
  cuda_storage(cuda_storage&& other) noexcept
      : memory_(std::move(other.memory_)), size_(std::exchange(other.size_, 0)) {}
  cuda_storage& operator=(cuda_storage&& other) noexcept {
    std::swap(memory_, other.memory_);
    std::swap(size_, other.size_);
    return *this;
  }
  cuda_storage(const cuda_storage&) = delete;
  cuda_storage& operator=(const cuda_storage&) = delete;
  ~cuda_storage() { finish(); }

  /// Any contents. Throws msg::error{cuda}.
  void resize(std::size_t count) {
    if (static_cast<index>(count) > memory_.size()) {
      finish();
      size_ = 0;
      memory_ = msg::cuda::device_array<T>(); // gone before more is asked for
      memory_ = msg::cuda::device_array<T>(static_cast<index>(count));
    }
    size_ = count;
  }
  [[nodiscard]] T* data() const noexcept { return memory_.data(); }
  [[nodiscard]] std::size_t size() const noexcept { return size_; }

private:
  void finish() const noexcept {
    if (memory_.size() > 0) { (void)cudaDeviceSynchronize(); }
  }
  msg::cuda::device_array<T> memory_;
  std::size_t size_ = 0;
};

class cuda_stream {
public:
  cuda_stream() { msg::cuda::check(cudaStreamCreate(&stream_), "cudaStreamCreate"); }
  cuda_stream(const cuda_stream&) = delete;
  cuda_stream& operator=(const cuda_stream&) = delete;
  ~cuda_stream() {
    (void)cudaStreamSynchronize(stream_);
    (void)cudaStreamDestroy(stream_);
  }
  [[nodiscard]] cudaStream_t get() const noexcept { return stream_; }

private:
  cudaStream_t stream_ = nullptr;
};

/// Pinned memory from which copies to the device start, so that neither the caller's memory nor the host has to wait
/// for them. It is used up until somebody waits for the stream.
class staging_area {
public:
  staging_area() = default;
  staging_area(const staging_area&) = delete;
  staging_area& operator=(const staging_area&) = delete;
  ~staging_area() { (void)cudaFreeHost(memory_); }

  /// In the stream's order. `from` may change as soon as this returns.
  void copy(cudaStream_t stream, void* to, const void* from, std::size_t bytes) {
    for (std::size_t done = 0; done < bytes;) {
      if (memory_ == nullptr) { msg::cuda::check(cudaMallocHost(&memory_, room), "cudaMallocHost"); }
      if (used_ == room) { wait(stream); }
      const std::size_t now = std::min(bytes - done, room - used_);
      unsigned char* const place = static_cast<unsigned char*>(memory_) + used_;
      std::memcpy(place, static_cast<const unsigned char*>(from) + done, now);
      msg::cuda::check(
          cudaMemcpyAsync(static_cast<unsigned char*>(to) + done, place, now, cudaMemcpyHostToDevice, stream),
          "cudaMemcpyAsync");
      done += now;
      used_ = std::min(room, (used_ + now + 15) / 16 * 16);
    }
  }
  void wait(cudaStream_t stream) {
    msg::cuda::check(cudaStreamSynchronize(stream), "cudaStreamSynchronize");
    used_ = 0;
  }

private:
  static constexpr std::size_t room = std::size_t{4} << 20;
  void* memory_ = nullptr;
  std::size_t used_ = 0;
};

} // namespace reference
