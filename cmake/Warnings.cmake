# msg_warnings: the warnings our own code is free of. Never part of msg::msg: a user's flags are the user's.
add_library(msg_warnings INTERFACE)
target_compile_options(msg_warnings INTERFACE
  -Wall -Wextra -Wpedantic -Wshadow -Wconversion $<$<BOOL:${MSG_WARNINGS_AS_ERRORS}>:-Werror>)
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 13)
  # At -O2 g++ 12 sees an overlap in "literal" + std::string that is not there: gcc.gnu.org/PR105651, fixed in 13.
  target_compile_options(msg_warnings INTERFACE -Wno-restrict)
endif()
