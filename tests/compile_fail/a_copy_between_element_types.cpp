// expect: source and destination have one element type
// Growth never converts numbers behind the caller's back.
#include <msg/apply.hpp>

#include <vector>

#ifdef MSG_VALID
using element = float;
#else
using element = double;
#endif

void grow(const msg::param_plan& entry, const std::vector<float>& before, std::vector<element>& after) {
  msg::apply(entry, before, after);
}
