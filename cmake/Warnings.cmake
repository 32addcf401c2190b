# msg_warnings: the warnings our own code is free of. Never part of msg::msg: a user's flags are the user's.
add_library(msg_warnings INTERFACE)
target_compile_options(msg_warnings INTERFACE
  -Wall -Wextra -Wpedantic -Wshadow -Wconversion $<$<BOOL:${MSG_WARNINGS_AS_ERRORS}>:-Werror>)
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 13)
  # Inlined "literal" + std::string makes g++ 12 see overlaps and overflows that are not there: gcc.gnu.org/PR105651 and
  # PR105329, fixed in 13.
  target_compile_options(msg_warnings INTERFACE -Wno-restrict -Wno-stringop-overflow)
endif()
