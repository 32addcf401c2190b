// Shipped schedule files that a preset describes are what the preset says.
#include "support/catch.hpp"

#include "transformer/schedule_file.hpp"

#include <msg/schedule_presets.hpp>

#include <cmath>
#include <filesystem>

TEST_CASE("even-split.json is the even split of its final sizes", "[presets][schedule_file]") {
  const msg::schedule file =
      reference::read_schedule(std::filesystem::path{MSG_SOURCE_DIR} / "examples/schedules/even-split.json");
  const msg::schedule preset =
      msg::even_split(msg::sizes_after(file, file.stages.size()), {.lr = file.lr, .each = file.stages.front()});
  CHECK(preset.start == file.start);
  REQUIRE(preset.stages.size() == file.stages.size());
  for (std::size_t i = 0; i < file.stages.size(); ++i) {
    CAPTURE(i);
    CHECK(preset.stages[i].grow == file.stages[i].grow);
    CHECK(std::abs(preset.stages[i].at.value - file.stages[i].at.value) <= 5e-6); // written to five digits
    CHECK(preset.stages[i].ramp.steps == file.stages[i].ramp.steps);
    CHECK(preset.stages[i].lr.change == file.stages[i].lr.change);
    CHECK(preset.stages[i].lr.steps == file.stages[i].lr.steps);
  }
}
