// Every macro of the library: version, ABI namespace, host/device markers, assertions; and the index type.
#pragma once

#include <cassert>
#include <cstdint>

#define MSG_VERSION_MAJOR 0
#define MSG_VERSION_MINOR 1
#define MSG_VERSION_PATCH 0

// Everything lives in msg, in an inline namespace named after the ABI, so that two versions can meet in one program.
#define MSG_NAMESPACE_BEGIN                                                                                            \
  namespace msg {                                                                                                      \
  inline namespace v0 {
#define MSG_NAMESPACE_END                                                                                              \
  }                                                                                                                    \
  }

#if defined(__CUDACC__)
#define MSG_HOST_DEVICE __host__ __device__
#else
#define MSG_HOST_DEVICE
#endif

// The body of a MSG_HOST_DEVICE function is being compiled for a GPU; or by a plain C++ compiler, for which the tests
// provide threads in a GPU's stead. Only bodies may differ by it, never a declaration.
#if !defined(__CUDACC__) || defined(__CUDA_ARCH__)
#define MSG_DEVICE_BODY 1
#else
#define MSG_DEVICE_BODY 0
#endif

// Before a kernel's operator(): all that it calls becomes part of it, or its loops are not vectorised. Compilers do so
// unasked until a translation unit has grown too much, and then the same kernel is 30 times slower.
#if defined(__GNUC__) && !defined(__CUDACC__)
#define MSG_FLATTEN __attribute__((flatten))
#else
#define MSG_FLATTEN
#endif

// For our own bugs only; bad input throws msg::error.
#ifndef MSG_ASSERT
#define MSG_ASSERT(condition) assert(condition)
#endif

MSG_NAMESPACE_BEGIN

/// Sizes, positions and counts, in elements.
using index = std::int64_t;

MSG_NAMESPACE_END
