// expect: sizeof *\.\.\. *\(Extents( \.\.\.)?\) <= 4
// A view has at most four dimensions.
#include <msg/tensor.hpp>

#ifdef MSG_VALID
msg::tensor_view<float> seen(float* data) { return msg::view(data, 2, 2, 2, 2); }
#else
msg::tensor_view<float> seen(float* data) { return msg::view(data, 2, 2, 2, 2, 2); }
#endif
