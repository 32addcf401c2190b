# Reads the #include lines of every header below INCLUDE_DIR and requires that they flow one way:
#
#   config <- error <- {tensor, axis, random} <- parameter, fresh, contract <- schema <- request <- rules <- plan <- everything else <- grow
#
# kernels see config, tensor, random; exec and difference see config; a .hpp never sees CUDA; the library needs the
# standard library alone; and nothing includes itself by a detour.
cmake_minimum_required(VERSION 3.20)

# Who may include what, both without `msg/` and `.hpp`; the first line that fits decides.
set(base "config|error|tensor|axis|random|parameter|fresh|contract")
set(rules
  "config -> nothing"
  "error -> config"
  "tensor|axis|random|contract -> config|error"
  "parameter|fresh -> ${base}"
  "schema -> ${base}"
  "schemas/axes -> axis"
  "schemas/.* -> ${base}|schema|schemas/axes"
  "request -> ${base}|schema"
  "rules/.* -> ${base}|schema|request|rules/.*"
  "kernels/.* -> config|tensor|random|kernels/.*"
  "exec/.* -> config"
  "plan|detail/plan_.* -> ${base}|schema|request|rules/.*|detail/plan_.*|kernels/.*" # cells are in the kernel's terms
  "difference -> config"
  "verification -> ${base}|schema|request|difference"
  ".* -> .*")

set(problems)
file(GLOB_RECURSE headers RELATIVE ${INCLUDE_DIR}/msg ${INCLUDE_DIR}/msg/*.hpp)
list(LENGTH headers count)
if(count EQUAL 0)
  message(FATAL_ERROR "no header below ${INCLUDE_DIR}/msg")
endif()
foreach(header IN LISTS headers)
  string(REPLACE ".hpp" "" name ${header})
  foreach(rule IN LISTS rules)
    string(REPLACE " -> " ";" rule "${rule}")
    list(GET rule 0 who)
    if(name MATCHES "^(${who})$")
      list(GET rule 1 allowed)
      break()
    endif()
  endforeach()

  set(includes_of_${name})
  file(STRINGS ${INCLUDE_DIR}/msg/${header} lines REGEX "^[ \t]*#[ \t]*include")
  foreach(line IN LISTS lines)
    if(line MATCHES "<msg/(.*)\\.hpp>")
      set(included ${CMAKE_MATCH_1})
      list(APPEND includes_of_${name} ${included})
      if(NOT EXISTS ${INCLUDE_DIR}/msg/${included}.hpp)
        list(APPEND problems "${header}: ${line}: there is no such header")
      elseif(NOT included MATCHES "^(${allowed})$")
        list(APPEND problems "${header}: ${line}: against the direction, it may see ${allowed}")
      elseif(included STREQUAL "grow")
        list(APPEND problems "${header}: ${line}: the umbrella is for users")
      endif()
    elseif(NOT line MATCHES "<[a-z0-9_]+>")
      list(APPEND problems "${header}: ${line}: neither <msg/x.hpp> nor a header of the standard library")
    endif()
  endforeach()
endforeach()

# Takes away headers whose includes are all taken away; what stays is a circle, or hangs on one.
string(REPLACE ".hpp" "" left "${headers}")
set(progress ON)
while(progress)
  set(progress OFF)
  foreach(name IN LISTS left)
    set(waits OFF)
    foreach(included IN LISTS includes_of_${name})
      if(included IN_LIST left)
        set(waits ON)
      endif()
    endforeach()
    if(NOT waits)
      list(REMOVE_ITEM left ${name})
      set(progress ON)
    endif()
  endforeach()
endwhile()
if(left)
  list(JOIN left ", " left)
  list(APPEND problems "these include one another in a circle, or hang on one: ${left}")
endif()

if(problems)
  list(JOIN problems "\n  " text)
  message(FATAL_ERROR "  ${text}")
endif()
message(STATUS "${count} headers, one direction")
