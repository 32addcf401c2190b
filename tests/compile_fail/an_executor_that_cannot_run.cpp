// expect: satisfaction of .executor|not satisfy .executor
// Where a growth runs is said by an executor, an object with run(rows, cost, kernel).
#include <msg/apply.hpp>

#include <vector>

struct my_queue {
#ifdef MSG_VALID
  template <class Kernel>
  void run(msg::index rows, msg::index, const Kernel& kernel) const {
    for (msg::index row = 0; row < rows; ++row) { kernel(msg::serial_team{}, row); }
  }
#endif
};

void grow(const my_queue& queue, const msg::param_plan& entry, const std::vector<float>& before,
          std::vector<float>& after) {
  msg::apply(queue, entry, before, after);
}
