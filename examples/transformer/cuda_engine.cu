// The trainers' GPU code, all of it: the rest of them is compiled for the host alone.
#include "transformer/cuda_engine.cuh"
