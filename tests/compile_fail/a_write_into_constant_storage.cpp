// expect: tensor_view<const float>
// The grown tensor is written, so it cannot be constant.
#include <msg/apply.hpp>

#include <vector>

#ifdef MSG_VALID
using destination = std::vector<float>;
#else
using destination = const std::vector<float>;
#endif

void grow(const msg::param_plan& entry, const std::vector<float>& before, destination& after) {
  msg::apply(entry, before, after);
}
