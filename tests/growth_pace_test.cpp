// What a token of a run that grew is worth: told from curves of which it is known.
#include "support/catch.hpp"
#include "support/thrown.hpp"

#include <msg/growth_pace.hpp>

#include <cmath>
#include <cstddef>
#include <vector>

namespace {

using curve = std::vector<msg::loss_point>;

// Losses of a model each of whose tokens counts as `worth` from scratch.
curve losses(double from, double to, int count, double worth) {
  curve points;
  for (int i = 0; i < count; ++i) {
    const double tokens = from + (to - from) * i / (count - 1);
    points.push_back({{}, tokens, 1.5 + 40 * std::pow(worth * tokens, -0.3)});
  }
  return points;
}

} // namespace

TEST_CASE("a token is worth the tokens from scratch to the same loss", "[growth_pace]") {
  const curve alone = losses(1e4, 1e6, 400, 1);
  const double worth = GENERATE(0.3, 0.8, 1.0, 1.4);
  CAPTURE(worth);
  CHECK(std::abs(msg::growth_pace(alone, losses(1e5, 7e5, 7, worth)) / worth - 1) < 1e-3); // interpolated linearly
}

TEST_CASE("the mean counts", "[growth_pace]") {
  const curve alone = losses(1e4, 1e6, 400, 1);
  const curve grown{losses(1e5, 5e5, 9, 0.8)[6], losses(1e5, 5e5, 9, 0.7)[7], losses(1e5, 5e5, 9, 0.9)[8]};
  CHECK(std::abs(msg::growth_pace(alone, grown) - 0.8) < 1e-3);
}

TEST_CASE("spikes of the model from scratch do not count: what it has reached it has", "[growth_pace]") {
  curve alone = losses(1e4, 1e6, 400, 1);
  for (std::size_t i = 10; i < alone.size(); i += 7) { alone[i].loss += 0.3; }
  CHECK(std::abs(msg::growth_pace(alone, losses(1e5, 7e5, 7, 0.7)) - 0.7) < 0.01);
}

TEST_CASE("beyond what the model from scratch has seen its first and last tokens count", "[growth_pace]") {
  const curve alone = losses(1e5, 1e6, 100, 1);
  CHECK(msg::growth_pace(alone, curve{{{}, 5e5, 1.5}}) == 2);
  CHECK(msg::growth_pace(alone, curve{{{}, 5e5, 9}}) == 0.2);
}

TEST_CASE("there must be points, in the order of their tokens", "[growth_pace]") {
  const curve alone = losses(1e5, 1e6, 100, 1);
  const curve back{{{}, 2e5, 2}, {{}, 1e5, 1.9}};
  CHECK(testing::findings_of([&] { (void)msg::growth_pace(alone, back); }).size() == 1);
  CHECK(testing::findings_of([&] { (void)msg::growth_pace(back, {}); }).size() == 2);
}
