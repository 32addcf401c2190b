// expect: operator\*|no match for
// A fixed multiplicity is a count; 2.5 * heads would be cut to 2 in silence.
#include <msg/axis.hpp>

#ifdef MSG_VALID
constexpr int multiplicity = 3;
#else
constexpr double multiplicity = 2.5;
#endif

msg::dimension fused(const msg::axis& heads) { return out(multiplicity * heads); }
