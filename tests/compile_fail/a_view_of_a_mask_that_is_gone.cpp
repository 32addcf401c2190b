// expect: deleted function|deleted member function
// A mask_view points into its axis_mask, which has to outlive it.
#include <msg/mask.hpp>

#ifdef MSG_VALID
msg::mask_view seen(const msg::axis_mask& mask) { return mask.view(); }
#else
msg::mask_view seen(const msg::axis_mask&) { return msg::axis_mask(4).view(); }
#endif
