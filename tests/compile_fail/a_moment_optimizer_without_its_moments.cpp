// expect: sizeof\.\.\. *\(Moments\)|sizeof\.\.\.\(Moments
// AdamW has two moments, and update() takes both.
#include <msg/optimizer.hpp>

#include <vector>

void step(std::vector<float>& w, const std::vector<float>& g, std::vector<float>& m, std::vector<float>& v) {
#ifdef MSG_VALID
  msg::update(msg::host{}, msg::adamw{}, {.lr = 0.1}, {}, w, g, m, v);
#else
  msg::update(msg::host{}, msg::adamw{}, {.lr = 0.1}, {}, w, g, m);
  (void)v;
#endif
}
