# The trainers' GPU code, compiled once for all of them: examples/transformer/cuda_engine.cu, needing nvcc and cuBLAS.
# Where either is missing the trainers say so when they are asked for --device cuda.
if(NOT MSG_NVCC)
  return()
endif()
if(NOT MSG_CUBLAS OR NOT MSG_CUDART)
  message(STATUS "MSG: cuBLAS not found, the trainers are built without --device cuda")
  return()
endif()

# Compiled as the rest of a trainer is: inline functions of both are one to the linker, which takes the first it meets,
# that of the trainer's own object.
set(command ${msg_nvcc})
if(NOT MSG_NATIVE)
  list(TRANSFORM command REPLACE "-march=native," "")
endif()
set(object ${CMAKE_CURRENT_BINARY_DIR}/cuda_engine.o)
set(source ${PROJECT_SOURCE_DIR}/examples/transformer/cuda_engine.cu)
add_custom_command(OUTPUT ${object}
  COMMAND ${command} -I ${PROJECT_SOURCE_DIR}/examples -gencode arch=compute_80,code=sm_80
          -gencode arch=compute_90,code=sm_90 -gencode arch=compute_100,code=[sm_100,compute_100]
          -MD -MF ${object}.d -MT ${object} -c -o ${object} ${source}
  DEPENDS ${source} DEPFILE ${object}.d COMMENT "Building the trainers' CUDA code" VERBATIM)
set_source_files_properties(${object} PROPERTIES EXTERNAL_OBJECT ON GENERATED ON)
add_library(msg_cuda_engine STATIC EXCLUDE_FROM_ALL ${object})
set_target_properties(msg_cuda_engine PROPERTIES LINKER_LANGUAGE CXX)
find_package(Threads REQUIRED)
target_link_libraries(msg_cuda_engine INTERFACE ${MSG_CUBLAS} ${MSG_CUDART} Threads::Threads ${CMAKE_DL_LIBS} rt)
target_compile_definitions(msg_cuda_engine INTERFACE MSG_WITH_CUDA)
