// A program for GPUs starts where there is none, and says so in one line: exit status 2.
#include <msg/cuda.cuh>

#if defined(MSG_TEST_CUBLAS)
#include <cublas_v2.h>
#endif

#include <cstdio>

int main() try {
  msg::cuda::require_device();
#if defined(MSG_TEST_CUBLAS)
  cublasHandle_t handle{};
  if (cublasCreate(&handle) != CUBLAS_STATUS_SUCCESS) { return 1; }
  cublasDestroy(handle);
#endif
  std::puts("a GPU is there");
  return 0;
} catch (const msg::error& e) {
  std::fprintf(stderr, "no_driver: %s\n", e.what());
  return 2;
}
