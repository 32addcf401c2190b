// The smallest use of the library on a GPU.
#include <msg/cuda.cuh>

void silence(cudaStream_t stream, const msg::cuda::device_mask& mask, float* h, msg::index rows, msg::index width) {
  msg::scale(msg::cuda::on(stream), mask, msg::view(h, rows, width));
}

int main() {}
