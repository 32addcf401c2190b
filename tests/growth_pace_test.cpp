// The pace at which a grown model learns: told from curves whose pace is known.
#include "support/catch.hpp"
#include "support/thrown.hpp"

#include <msg/growth_pace.hpp>

#include <cmath>
#include <cstddef>
#include <optional>
#include <vector>

namespace {

using curve = std::vector<msg::loss_point>;

double law(double tokens) { return 1.5 + 40 * std::pow(tokens, -0.3); }

// Losses at equal distances of tokens, of a model that learns at a pace as from scratch, from what counts as `seen`.
curve losses(double from, double to, int count, double seen, double pace) {
  curve points;
  for (int i = 0; i < count; ++i) {
    const double tokens = from + (to - from) * i / (count - 1);
    points.push_back({{}, tokens, law(seen + pace * (tokens - from))});
  }
  return points;
}

} // namespace

TEST_CASE("the pace is what a token counts for, whatever growth has carried", "[growth_pace]") {
  const curve alone = losses(1e4, 1e6, 400, 1e4, 1);
  const double pace = GENERATE(0.3, 0.8, 1.0, 1.4);
  const double seen = GENERATE(1e5, 2e5);
  CAPTURE(pace, seen);
  const std::optional<double> found = msg::growth_pace(alone, losses(7e5, 1.2e6, 7, seen, pace));
  REQUIRE(found);
  CHECK(std::abs(*found - pace) < 0.01); // the curve is interpolated linearly
}

TEST_CASE("spikes of the model from scratch do not count: what it has reached it has", "[growth_pace]") {
  curve alone = losses(1e4, 1e6, 400, 1e4, 1);
  for (std::size_t i = 10; i < alone.size(); i += 7) { alone[i].loss += 0.3; }
  CHECK(std::abs(*msg::growth_pace(alone, losses(0, 5e5, 7, 1e5, 0.7)) - 0.7) < 0.02);
}

TEST_CASE("losses that the model from scratch never had say nothing", "[growth_pace]") {
  const curve alone = losses(1e5, 1e6, 100, 1e5, 1);
  CHECK_FALSE(msg::growth_pace(alone, losses(0, 5e5, 7, 2e6, 1))); // below them all
  CHECK_FALSE(msg::growth_pace(alone, losses(0, 1e4, 7, 1e4, 1))); // above them all
  CHECK_FALSE(msg::growth_pace(alone, curve{{{}, 0, law(2e5)}}));  // one point
  CHECK_FALSE(msg::growth_pace({}, losses(0, 5e5, 7, 2e5, 1)));
  // of a curve that leaves them the rest does
  CHECK(std::abs(*msg::growth_pace(alone, losses(0, 4e5, 9, 8e5, 0.9)) - 0.9) < 0.02);
}

TEST_CASE("points must be in the order of their tokens", "[growth_pace]") {
  const curve alone = losses(1e5, 1e6, 100, 1e5, 1);
  const curve back{{{}, 2e5, 2}, {{}, 1e5, 1.9}};
  CHECK(testing::findings_of([&] { (void)msg::growth_pace(alone, back); })[0].hint == "growth_pace");
  CHECK(testing::findings_of([&] { (void)msg::growth_pace(back, alone); })[0].hint == "growth_pace");
}
