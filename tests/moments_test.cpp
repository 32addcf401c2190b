// Optimizer state against true gradients. A growth is theta' = A theta, so the old gradient is g = A^T g'; and what
// apply() makes of Adam's moments is what the grown model would have gathered: g' and its square, except where the plan
// says that it is not. Gradients are exact derivatives of the plain loops of published_forward.hpp.
#include "support/catch.hpp"
#include "support/published_library.hpp"

#include <msg/presets.hpp>
#include <msg/random.hpp>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <map>
#include <set>
#include <string>
#include <vector>

using namespace published;
using msg::fresh_values;
using msg::init;
using msg::payload;
namespace presets = msg::presets;

namespace {

/// The library's moments beside the gradient of the grown model; one number for each parameter.
struct comparison {
  std::map<std::string, double> first{}, second{}; // largest error where the optimizer's state is carried over
  double newborn = 0;                              // largest gradient where it starts at 0
  double pulled_back = 0;                          // A^T g' - g, along one direction
  double bound = 0, direction_bound = 0;           // of rounding

  [[nodiscard]] bool kept(const std::string& name) const { return first.at(name) <= bound && second.at(name) <= bound; }
  [[nodiscard]] bool kept() const {
    return std::all_of(first.begin(), first.end(), [this](const auto& one) { return kept(one.first); });
  }
  /// Parameters whose moments are visibly not those of the grown model.
  [[nodiscard]] std::vector<std::string> others() const {
    std::vector<std::string> names;
    for (const auto& [name, error] : first) {
      if (error > 1e-6) { names.push_back(name); }
    }
    return names;
  }
};

comparison compare(const trial& t, const setting& before_growth = {}) {
  const setting how = keeping(t.plan, 0, before_growth);
  const model g{t.old.size, gradient(t.old, before_growth)}, found{t.now.size, gradient(t.now, how)};
  model squares = g, ones = g;
  for (auto& [name, numbers] : squares.numbers) {
    for (real& one : numbers) { one *= one; }
    std::fill(ones.numbers.at(name).begin(), ones.numbers.at(name).end(), 1);
  }
  const model first = applied(t.plan, g, payload::moment1), second = applied(t.plan, squares, payload::moment2);
  const model carried = applied(t.plan, ones, payload::moment1); // 0 where state starts at 0
  comparison c;
  for (const auto& [name, slopes] : found.numbers) {
    double& error = c.first[name];
    double& square_error = c.second[name];
    for (std::size_t i = 0; i < slopes.size(); ++i) {
      if (carried.numbers.at(name)[i] == 0) {
        CHECK(first.numbers.at(name)[i] == 0);
        CHECK(second.numbers.at(name)[i] == 0);
        c.newborn = std::max(c.newborn, static_cast<double>(std::abs(slopes[i])));
        continue;
      }
      error = std::max(error, static_cast<double>(std::abs(first.numbers.at(name)[i] - slopes[i])));
      square_error =
          std::max(square_error, static_cast<double>(std::abs(second.numbers.at(name)[i] - slopes[i] * slopes[i])));
    }
  }
  // a direction in the old parameters, grown: what is fresh does not depend on them
  const model direction = random_model(t.old.size, 43);
  model nothing = direction;
  for (auto& [name, numbers] : nothing.numbers) { std::fill(numbers.begin(), numbers.end(), 0); }
  const model ahead = applied(t.plan, direction), start = applied(t.plan, nothing);
  real before = 0, after = 0, largest = 1, moved = 0;
  for (const auto& [name, slopes] : g.numbers) {
    for (std::size_t i = 0; i < slopes.size(); ++i) { before += slopes[i] * direction.numbers.at(name)[i]; }
  }
  for (const auto& [name, slopes] : found.numbers) {
    for (std::size_t i = 0; i < slopes.size(); ++i) {
      after += slopes[i] * (ahead.numbers.at(name)[i] - start.numbers.at(name)[i]);
      largest = std::max(largest, std::abs(slopes[i]));
      moved += std::abs(ahead.numbers.at(name)[i] - start.numbers.at(name)[i]);
    }
  }
  c.pulled_back = static_cast<double>(std::abs(after - before));
  // A gradient is the forward pass and one like it backwards: twice the operations, on numbers up to the largest slope,
  // and its square doubles that once more. Along a direction the errors of all slopes add up.
  c.bound = 4 * t.apart(0, before_growth).bound * std::numeric_limits<double>::epsilon() * static_cast<double>(largest);
  c.direction_bound = c.bound * static_cast<double>(moved);
  return c;
}

targets all_widths(family kind, index factor) {
  const sizes s = small(kind);
  return {{"hidden", factor * 4}, {"ffn", factor * 6}, {"heads", factor * s.heads}, {"kv_heads", factor * 2}};
}
targets inner_widths(family kind) { return {{"ffn", 11}, {"heads", kind == family::llama ? 10 : 5}, {"kv_heads", 5}}; }

} // namespace

TEST_CASE("whole copies of every width carry moments that the grown model would have", "[moments][duplicate]") {
  const family kind = GENERATE(from_range(families));
  const bool tied = GENERATE(true, false);
  const auto by = GENERATE(as<msg::rule>{}, presets::net2net(), presets::bert2bert_fpi(), presets::hypercloning(),
                           presets::staged(), presets::compound_grow());
  CAPTURE(static_cast<int>(kind), tied, by.name());
  const comparison c = compare(trial(small(kind, tied), all_widths(kind, 2), by));
  CHECK(c.kept());
  CHECK(c.newborn == 0);
  CHECK(c.pulled_back <= c.direction_bound);
}

TEST_CASE("copies of ffn units and heads in any number and with any shares carry true moments",
          "[moments][duplicate]") {
  const family kind = GENERATE(from_range(families));
  const auto by = GENERATE(as<msg::rule>{}, presets::net2net(), presets::lemon(), presets::lemon(0.3));
  CAPTURE(static_cast<int>(kind), by.name());
  const comparison c = compare(trial(small(kind), inner_widths(kind), by));
  CHECK(c.kept());
  CHECK(c.pulled_back <= c.direction_bound);
}

TEST_CASE("masked growth at 0 carries true moments and fresh gradients are 0", "[moments][mask]") {
  const family kind = GENERATE(from_range(families));
  const bool tied = GENERATE(true, false);
  CAPTURE(static_cast<int>(kind), tied);
  const bool llama = kind == family::llama;
  const targets to{{"hidden", 7}, {"ffn", 8},   {"heads", llama ? 9 : 3}, {"kv_heads", 3},
                   {"layers", 3}, {"vocab", 7}, {"positions", 5}};
  const comparison c = compare(trial(small(kind, tied), to, presets::msg(fresh_values::all(init::normal(1)))));
  for (const auto& [name, error] : c.first) {
    CAPTURE(name);
    CHECK(error == 0); // the same operations in the same order
  }
  CHECK(c.kept());
  CHECK(c.newborn == 0);
  CHECK(c.pulled_back <= c.direction_bound);
}

TEST_CASE("zero blocks carry true moments of old numbers and wake at the first step", "[moments][zero_block]") {
  const family kind = GENERATE(from_range(families));
  const bool tied = GENERATE(true, false);
  CAPTURE(static_cast<int>(kind), tied);
  targets to = inner_widths(kind);
  if (kind == family::llama) { to["hidden"] = 7; }
  if (kind == family::bert) { to["key_dim"] = 3, to["value_dim"] = 5; }
  if (kind == family::gpt) { to["layers"] = 3; }
  const comparison c = compare(trial(small(kind, tied), to, presets::composable(fresh_values::all(init::normal(1)))));
  CHECK(c.kept()); // rescaled gains and keys included: m / s and v / s^2
  CHECK(c.newborn > 1e-3);
  CHECK(c.pulled_back <= c.direction_bound);
}

TEST_CASE("silent layers carry true moments of the old ones", "[moments][identity]") {
  const family kind = GENERATE(family::gpt, family::llama);
  const auto by =
      GENERATE(as<msg::rule>{}, presets::net2net(), presets::lemon(), presets::staged(), presets::llama_pro());
  CAPTURE(static_cast<int>(kind), by.name());
  const comparison c = compare(trial(small(kind), {{"layers", 4}}, by));
  CHECK(c.kept());
  CHECK(c.newborn > 1e-3); // what they write has a gradient already
  CHECK(c.pulled_back <= c.direction_bound);
}

TEST_CASE("copied experts carry true moments", "[moments][expert_copies]") {
  const index top = GENERATE(1, 2, 3);
  sizes s = small(family::llama);
  s.experts = 3;
  const trial t(s, {{"experts", 6}}, presets::upcycle());
  const comparison c = compare(t, {.top = top});
  CAPTURE(top, c.others());
  CHECK(c.kept());
  CHECK(c.pulled_back <= c.direction_bound);
}

TEST_CASE("copies in any number carry true moments where a norm weights its statistics", "[moments][duplicate]") {
  const family kind = GENERATE(from_range(families));
  const bool tied = GENERATE(true, false);
  CAPTURE(static_cast<int>(kind), tied);
  const trial t(small(kind, tied), {{"hidden", 7}, {"ffn", 8}}, presets::net2net());
  const comparison c = compare(t);
  CAPTURE(c.others());
  CHECK(c.kept());
  CHECK(t.plan.approximate_moments().empty());
  CHECK(c.pulled_back <= c.direction_bound);
}

TEST_CASE("where a plan says that moments are approximate they are and elsewhere they are not", "[moments]") {
  struct question {
    family kind;
    targets to;
    msg::rule by;
  };
  const msg::rule unequal = msg::duplicate{.split = msg::uneven{0.75}},
                  noisy = presets::hypercloning(init::normal(0.3));
  const bool tied = GENERATE(true, false);
  const std::vector<question> questions{
      {family::gpt, {{"hidden", 7}}, presets::lemon()}, // means under a LayerNorm
      {family::gpt, {{"ffn", 12}}, noisy},              // twins that are read differently
      {family::llama, {{"hidden", 8}}, noisy},          //
      {family::gpt, {{"hidden", 8}}, unequal},          // copies of equal weight in a norm, unequal outside it
      {family::bert, {{"hidden", 8}}, unequal},         //
      {family::llama, {{"hidden", 8}}, unequal},        //
  };
  for (const question& q : questions) {
    const trial t(small(q.kind, tied), q.to, q.by);
    const comparison c = compare(t);
    const std::string axis = q.to.begin()->first;
    CAPTURE(static_cast<int>(q.kind), tied, q.by.name(), axis, c.others());
    CHECK(c.pulled_back <= c.direction_bound); // whatever the moments, the function and its derivative are kept
    std::vector<std::string> named;            // by the plan, each with a reason
    for (const msg::approximate_moment& one : t.plan.approximate_moments()) {
      named.push_back(one.parameter);
      CHECK_FALSE(one.reason.empty());
    }
    std::sort(named.begin(), named.end());
    const std::vector<std::string> others = c.others();
    CHECK_FALSE(others.empty());
    CHECK(std::includes(named.begin(), named.end(), others.begin(), others.end()));
    // the plan cannot know that no norm follows a pooler, nor the last norm of an untied head
    if (q.kind != family::bert) { CHECK(named == others); }
  }
}

namespace {

/// Rows by columns.
struct rectangle {
  index rows = 0, columns = 0;
  std::vector<double> cells{};
};
/// The orthogonal factor of a matrix, all singular values 1 or 0, as Muon's step has it (there roughly): Newton's
/// iteration, to the end.
rectangle orthogonal(const rectangle& m) {
  double squares = 0;
  for (const double cell : m.cells) { squares += cell * cell; }
  rectangle x = m;
  for (double& cell : x.cells) { cell /= std::sqrt(squares); }
  for (int step = 0; step < 25; ++step) { // a singular value s becomes (3 s - s^3) / 2
    rectangle next = x;
    for (index i = 0; i < x.rows; ++i) {
      for (index j = 0; j < x.columns; ++j) {
        double cube = 0; // x x^T x
        for (index k = 0; k < x.columns; ++k) {
          double product = 0; // of columns k and j
          for (index l = 0; l < x.rows; ++l) {
            product += x.cells[static_cast<std::size_t>(l * x.columns + k)] *
                       x.cells[static_cast<std::size_t>(l * x.columns + j)];
          }
          cube += x.cells[static_cast<std::size_t>(i * x.columns + k)] * product;
        }
        double& cell = next.cells[static_cast<std::size_t>(i * x.columns + j)];
        cell = 1.5 * cell - 0.5 * cube;
      }
    }
    x = next;
  }
  return x;
}

} // namespace

TEST_CASE("a step of Muon on grown momentum is the grown step", "[moments][muon]") {
  const index rows = 3, columns = 4;
  const msg::axis a{"a", rows}, b{"b", columns};
  msg::schema s;
  s.weight("writer", out(b)).weight("w", out(a), in(b)).weight("reader", in(a)); // units inside a network
  std::vector<double> momentum;
  for (index i = 0; i < rows * columns; ++i) {
    momentum.push_back(msg::random_normal({3, 4}, static_cast<std::uint64_t>(i)));
  }
  const std::vector<double> step = orthogonal({rows, columns, momentum}).cells;
  const auto by = GENERATE(as<msg::rule>{}, presets::hypercloning(), presets::msg(fresh_values::all(init::zeros())));
  CAPTURE(by.name());
  const msg::plan plan{s, {a.grow_to(2 * rows), b.grow_to(2 * columns)}, by};
  std::vector<double> grown_momentum(4 * momentum.size()), grown_step(4 * momentum.size());
  msg::apply(plan["w"], momentum, grown_momentum, payload::momentum);
  msg::apply(plan["w"], step, grown_step); // as a change of the value
  const std::vector<double> found = orthogonal({2 * rows, 2 * columns, grown_momentum}).cells;
  for (std::size_t i = 0; i < found.size(); ++i) {
    // what rounding puts outside the matrix's own directions grows by 1.5 a step, what it puts inside shrinks
    CHECK(std::abs(found[i] - grown_step[i]) <= std::pow(1.5, 25) * std::numeric_limits<double>::epsilon());
  }
}

TEST_CASE("every rule that says nothing of its moments carries true ones", "[moments]") {
  const family kind = GENERATE(from_range(families));
  const index wide = GENERATE(8, 7);
  std::set<std::string> seen; // presets share rules
  for (const msg::named_rule& one : msg::named_rules) {
    for (const std::string axis :
         {"hidden", "ffn", "layers", "value_dim", "key_dim", "head_dim", "vocab", "positions"}) {
      const index size = axis == "layers" ? 4 : axis == "ffn" ? wide + 4 : wide;
      try {
        const trial t(small(kind), {{axis, size}}, one.make());
        if (t.plan.axes().empty() || t.plan.keeps() == msg::strictness::none) { continue; }
        const msg::axis_growth& chosen = t.plan.axes()[0].growth;
        std::string rule = axis + chosen.contract.rule.substr(chosen.contract.rule.find('/') + 1);
        for (std::size_t i = 0; i < chosen.source.size(); ++i) {
          rule += ' ' + std::to_string(chosen.source[i]) + '*' + std::to_string(chosen.split[i]);
        }
        if (!seen.insert(rule).second) { continue; }
        const comparison c = compare(t);
        CAPTURE(static_cast<int>(kind), one.name, rule, size, c.others());
        CHECK(c.kept() == t.plan.approximate_moments().empty());
        CHECK(c.pulled_back <= c.direction_bound);
      } catch (const msg::error& refused) { CHECK(refused.code() == msg::errc::unsupported); }
    }
  }
}
