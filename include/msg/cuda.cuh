// MSG on a GPU. Umbrella for .cu files: all of grow.hpp, and the executor of a CUDA stream with what it uploads.
#pragma once

#include <msg/cuda/mask.cuh>
#include <msg/cuda/memory.cuh>
#include <msg/cuda/optimizer.cuh>
#include <msg/cuda/plan.cuh>
#include <msg/cuda/squares.cuh>
#include <msg/exec/cuda.cuh>
#include <msg/grow.hpp>
