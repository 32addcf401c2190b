// Device memory and streams of the stand-in runtime, for tests.
#pragma once

#include "kernels/device.hpp"

#include <msg/cuda/memory.cuh>

#include <cstddef>
#include <functional>
#include <vector>

namespace testing {

template <class T>
[[nodiscard]] msg::cuda::device_array<T> on_device(const std::vector<T>& values) {
  return msg::cuda::device_array<T>(std::span<const T>(values));
}
template <class T>
[[nodiscard]] std::vector<T> from_device(const msg::cuda::device_array<T>& array) {
  std::vector<T> values(static_cast<std::size_t>(array.size()));
  array.read(values);
  return values;
}

/// A stream that holds its work back until wait().
class held_stream {
public:
  held_stream() { cudaStreamCreate(&stream_); }
  held_stream(const held_stream&) = delete;
  held_stream& operator=(const held_stream&) = delete;
  ~held_stream() { cudaStreamDestroy(stream_); }
  [[nodiscard]] msg::cuda::on on() const { return msg::cuda::on(stream_); }
  void wait() { cudaStreamSynchronize(stream_); }
  /// What was enqueued since the last wait(), as a captured graph would hold it: replay() runs it again.
  void capture() { graph_ = std::exchange(stream_->work, {}); }
  void replay() {
    stream_->work.insert(stream_->work.end(), graph_.begin(), graph_.end());
    wait();
  }

private:
  cudaStream_t stream_ = nullptr;
  std::vector<std::function<void()>> graph_;
};

} // namespace testing
