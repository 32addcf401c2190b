// A growth rule of one's own is a function from what the axis is to a map of its units: no base class, nothing to
// register. This one grows an FFN where it works hardest: fresh units are copies of the most important old ones, and
// each copy takes half of what reads them. The plan checks the answer, and carries it to every parameter and moment.
//
//   w1 (F, C)   b1 (F)   w2 (C, F)      C = 3 hidden, F = 4 ffn, row-major;  y = w2 relu(w1 x + b1)
#include <msg/grow.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdio>
#include <limits>
#include <utility>
#include <vector>

namespace {

using numbers = std::vector<double>;

/// Splits the most important units in two. Each unit is split once at most.
struct split_best {
  static constexpr const char* name = "split_best"; // what logs and errors call it
  numbers importance;                               // (old units), whatever the trainer measures

  [[nodiscard]] msg::axis_growth operator()(const msg::rule_request& asked) const {
    msg::axis_growth answer;
    const msg::index count = asked.new_size - asked.old_size;
    if (count > asked.old_size || asked.as_each) { // say no in words: the plan throws them
      answer.refused = "splits each unit of a width once, so an axis can double at most";
      return answer;
    }
    if (asked.norm != msg::norm_kind::none) { // some units would count twice in its statistics, others once
      answer.refused = "a norm runs over the axis";
      return answer;
    }
    std::vector<msg::index> best; // old units, most important first
    for (msg::index unit = 0; unit < asked.old_size; ++unit) { best.push_back(unit); }
    std::stable_sort(best.begin(), best.end(), [this](msg::index a, msg::index b) {
      return importance[static_cast<std::size_t>(a)] > importance[static_cast<std::size_t>(b)];
    });

    answer.source = asked.old_of;                   // old units stay where the placement puts them
    answer.split.assign(answer.source.size(), 1.0); // what reads a unit is multiplied by this
    answer.newborn.assign(answer.source.size(), 0); // copies go on with Adam's moments
    std::vector<bool> halved(best.size(), false);
    std::size_t next = 0;
    for (std::size_t j = 0; j < answer.source.size(); ++j) {
      if (answer.source[j] != msg::fresh_unit) { continue; }
      const msg::index unit = best[next++];
      answer.source[j] = unit;
      answer.split[j] = 0.5;
      halved[static_cast<std::size_t>(unit)] = true;
    }
    for (std::size_t j = 0; j < answer.source.size(); ++j) { // the halves of each unit sum to 1
      if (halved[static_cast<std::size_t>(answer.source[j])]) { answer.split[j] = 0.5; }
    }
    answer.contract.keeps = msg::strictness::rounding; // and nothing to do in the forward pass
    return answer;
  }
};

/// y (C) = w2 relu(w1 x + b1), x is (C)
numbers forward(const numbers& w1, const numbers& b1, const numbers& w2, const numbers& x) {
  numbers y(x.size(), 0.0);
  for (std::size_t u = 0; u < b1.size(); ++u) {
    double h = b1[u];
    for (std::size_t j = 0; j < x.size(); ++j) { h += w1[u * x.size() + j] * x[j]; }
    for (std::size_t i = 0; i < y.size(); ++i) { y[i] += w2[i * b1.size() + u] * std::max(h, 0.0); }
  }
  return y;
}

} // namespace

int main() {
  const numbers w1{1, -2, 0.5, 0.25, 1, 1, -1, 0.5, 2, 3, 1, -0.5}, b1{0.1, -0.2, 0.3, 0.4};
  const numbers w2{1, 2, -1, 0.5, -0.5, 1, 2, 1, 0.25, -1, 1, 3}, x{0.5, -1, 2};

  const msg::axis hidden{"hidden", 3}, ffn{"ffn", 4};
  msg::schema mlp;
  mlp.weight("w1", out(ffn), in(hidden)).bias("b1", out(ffn)).weight("w2", out(hidden), in(ffn));

  const msg::plan plan{mlp, {ffn.grow_to(6)}, split_best{.importance = {0.1, 0.9, 0.3, 0.7}}};
  plan.require_strict(); // throws, with the reason, where a rule changes the function
  const msg::axis_growth& decided = plan.axis("ffn").growth;
  for (std::size_t j = 0; j < decided.source.size(); ++j) {
    std::printf("new unit %zu is old unit %d, read with %.1f\n", j, static_cast<int>(decided.source[j]),
                decided.split[j]);
  }

  const auto grown = [&plan](const char* name, const numbers& old) {
    numbers result(static_cast<std::size_t>(plan[name].size()));
    msg::apply(plan[name], old, result);
    return result;
  };
  const numbers before = forward(w1, b1, w2, x);
  const numbers after = forward(grown("w1", w1), grown("b1", b1), grown("w2", w2), x);
  double off = 0;
  for (std::size_t i = 0; i < before.size(); ++i) { off = std::max(off, std::abs(after[i] - before[i])); }
  std::printf("outputs differ by %g\n", off);

  // A rule that breaks the law is caught before a byte moves.
  const msg::rule careless{"careless", [](const msg::rule_request& asked) {
                             msg::axis_growth answer{.source = asked.old_of};
                             answer.source.back() = 0; // a copy of unit 0 that is read in full, beside unit 0
                             answer.newborn.assign(answer.source.size(), 0);
                             return answer;
                           }};
  const std::vector<msg::diagnostic> found = msg::diagnose(mlp, {ffn.grow_to(5)}, careless);
  for (const msg::diagnostic& finding : found) { std::printf("%s\n", to_string(finding).c_str()); }

  // seven numbers below 10 are summed for each output, in another order
  return off <= 70 * std::numeric_limits<double>::epsilon() && found.size() == 1 ? 0 : 1;
}
