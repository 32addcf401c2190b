# Programs for GPUs, compiled by calling nvcc: no CUDA language of CMake's, which wants a whole toolkit installed. What
# .ci/run gets from PyPI is enough. Where there is no nvcc all of it is left out, and a message says so.
find_program(MSG_NVCC nvcc HINTS ENV CUDA_HOME PATHS /usr/local/cuda ${PROJECT_SOURCE_DIR}/build/cuda PATH_SUFFIXES bin)
mark_as_advanced(MSG_NVCC)
if(NOT MSG_NVCC)
  message(STATUS "MSG: nvcc not found, the CUDA programs are left out; their device code is tested on the CPU all the same")
  return()
endif()
get_filename_component(cuda_root ${MSG_NVCC} REALPATH)
get_filename_component(cuda_root ${cuda_root}/../.. ABSOLUTE)
# PyPI has no libcublas.so
find_library(MSG_CUBLAS NAMES cublas libcublas.so.13 NAMES_PER_DIR HINTS ${cuda_root} PATH_SUFFIXES lib lib64)
find_library(MSG_CUDART cudart_static HINTS ${cuda_root} PATH_SUFFIXES lib lib64)
mark_as_advanced(MSG_CUBLAS MSG_CUDART)

# -O1 is for the host's part of a program, the GPU's is optimised in any case. The host's part has fma where the machine
# has it, without which its sums would not have the GPU's bits.
set(msg_nvcc ${MSG_NVCC} -std=c++20 -O1 -DNDEBUG -ccbin ${CMAKE_CXX_COMPILER} -I ${PROJECT_SOURCE_DIR}/include
    -Werror all-warnings -Xcompiler -march=native,-ffp-contract=off)

# msg_cuda_program(NAME SOURCE [FLAGS...]): an executable, for compute capability 8.0 and everything after it.
function(msg_cuda_program name source)
  get_filename_component(source ${source} ABSOLUTE)
  set(program ${CMAKE_CURRENT_BINARY_DIR}/${name})
  add_custom_command(OUTPUT ${program}
    COMMAND ${msg_nvcc} -gencode arch=compute_80,code=[sm_80,compute_80] -MD -MF ${program}.d -MT ${program}
            -o ${program} ${source} ${ARGN}
    DEPENDS ${source} DEPFILE ${program}.d COMMENT "Building CUDA program ${name}" VERBATIM)
  add_custom_target(${name} ALL DEPENDS ${program})
endfunction()

# msg_cubin(TARGET SOURCE ARCH): code for one architecture alone, and what ptxas says of it in TARGET.log.
function(msg_cubin target source arch)
  get_filename_component(source ${source} ABSOLUTE)
  set(cubin ${CMAKE_CURRENT_BINARY_DIR}/${target}.cubin)
  set(log ${CMAKE_CURRENT_BINARY_DIR}/${target}.log)
  add_custom_command(OUTPUT ${cubin}
    COMMAND sh -c "\"$@\" >${log} 2>&1 || { cat ${log}; exit 1; }" sh
            ${msg_nvcc} -cubin -arch=${arch} -Xptxas -v
            -MD -MF ${cubin}.d -MT ${cubin} -o ${cubin} ${source}
    DEPENDS ${source} DEPFILE ${cubin}.d COMMENT "Building CUDA code ${target}" VERBATIM)
  add_custom_target(${target} ALL DEPENDS ${cubin})
endfunction()
