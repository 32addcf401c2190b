// Device memory with an owner, for what is uploaded once: plans, masks, ages.
#pragma once

#include <msg/config.hpp>
#include <msg/exec/cuda.cuh>

#include <cstddef>
#include <span>
#include <type_traits>
#include <utility>

MSG_NAMESPACE_BEGIN

namespace cuda {

/// Elements in device memory. Making one allocates, and copying from the host waits for the GPU: at plan time, not in a
/// training step.
template <class T>
class device_array {
  static_assert(std::is_trivially_copyable_v<T>);

public:
  device_array() = default;
  /// Throws error{cuda}, as do the others.
  explicit device_array(index size) : size_(size) {
    void* memory = nullptr;
    if (size > 0) { check(cudaMalloc(&memory, bytes()), "cudaMalloc"); }
    data_ = static_cast<T*>(memory);
  }
  explicit device_array(std::span<const T> values) : device_array(static_cast<index>(values.size())) { write(values); }

  device_array(device_array&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}
  device_array& operator=(device_array&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
    return *this;
  }
  device_array(const device_array&) = delete;
  device_array& operator=(const device_array&) = delete;
  ~device_array() { (void)cudaFree(data_); }

  [[nodiscard]] T* data() const noexcept { return data_; }
  [[nodiscard]] index size() const noexcept { return size_; }

  /// From the host, `values` being of this size.
  void write(std::span<const T> values) const {
    MSG_ASSERT(static_cast<index>(values.size()) == size_);
    if (size_ > 0) { check(cudaMemcpy(data_, values.data(), bytes(), cudaMemcpyHostToDevice), "cudaMemcpy"); }
  }
  /// To the host.
  void read(std::span<T> values) const {
    MSG_ASSERT(static_cast<index>(values.size()) == size_);
    if (size_ > 0) { check(cudaMemcpy(values.data(), data_, bytes(), cudaMemcpyDeviceToHost), "cudaMemcpy"); }
  }

private:
  [[nodiscard]] std::size_t bytes() const noexcept { return static_cast<std::size_t>(size_) * sizeof(T); }
  T* data_ = nullptr;
  index size_ = 0;
};

} // namespace cuda

MSG_NAMESPACE_END
