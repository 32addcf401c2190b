// expect: satisfaction of .tensor_like|not satisfy .tensor_like
// apply() takes what tensor_traits can see; anything else is refused by the concept, not deep inside.
#include <msg/apply.hpp>

struct my_tensor {
  float* data;
  msg::index size;
};

#ifdef MSG_VALID
template <>
struct msg::tensor_traits<my_tensor> {
  static tensor_view<float> view(const my_tensor& t) { return msg::view(t.data, t.size); }
};
#endif

void grow(const msg::param_plan& entry, const my_tensor& before, my_tensor& after) { msg::apply(entry, before, after); }
