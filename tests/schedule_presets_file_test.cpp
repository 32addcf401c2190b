// Shipped schedule files that a preset describes are what the preset says.
#include "support/catch.hpp"

#include "transformer/schedule_file.hpp"

#include <msg/schedule_presets.hpp>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <string>

namespace {

msg::schedule shipped(const std::string& name) {
  return reference::read_schedule(std::filesystem::path{MSG_SOURCE_DIR} / ("examples/schedules/" + name + ".json"));
}
msg::named_sizes sorted(msg::named_sizes sizes) {
  std::sort(sizes.begin(), sizes.end());
  return sizes;
}

// What a preset is told of a file: the final sizes, the learning rate, and what a growth is like.
struct told {
  msg::schedule file;
  msg::named_sizes full = msg::sizes_after(file, file.stages.size());
  msg::preset_options options{.lr = file.lr, .each = file.stages.front()};
};

void check_same(const msg::schedule& file, const msg::schedule& preset) {
  CHECK(sorted(preset.start) == sorted(file.start));
  CHECK(preset.lr.policy == file.lr.policy);
  REQUIRE(preset.stages.size() == file.stages.size());
  for (std::size_t i = 0; i < file.stages.size(); ++i) {
    CAPTURE(i);
    const msg::stage& a = file.stages[i];
    const msg::stage& b = preset.stages[i];
    CHECK(sorted(b.grow) == sorted(a.grow));
    CHECK(b.at.kind == a.at.kind);
    CHECK(std::abs(b.at.value - a.at.value) <= 5e-6); // written to five digits
    CHECK(b.rule == a.rule);
    CHECK(b.layers == a.layers);
    CHECK(b.ramp.steps == a.ramp.steps);
    CHECK(b.lr.change == a.lr.change);
    CHECK(b.lr.steps == a.lr.steps);
  }
}

} // namespace

TEST_CASE("even-split.json is the even split of its final sizes", "[presets][schedule_file]") {
  const told given{shipped("even-split")};
  check_same(given.file, msg::even_split(given.full, given.options));
}

TEST_CASE("depth-stack.json stacks a quarter of the layers after a tenth of the run", "[presets][schedule_file]") {
  const told given{shipped("depth-stack")};
  check_same(given.file, msg::depth_stack(given.full, 0.1, 4, given.options));
  CHECK(given.file.stages[0].rule == "stack");
}

TEST_CASE("one-layer.json grows one layer into all before the decay of its wsd", "[presets][schedule_file]") {
  const told given{shipped("one-layer")};
  check_same(given.file, msg::one_layer(given.full, 0.75, given.options));
  CHECK(msg::size_of(given.file.start, "layers") == 1);
  CHECK(given.file.lr.policy == msg::rate_policy::wsd);
  CHECK(msg::growths_in_decay(given.file, {1500, 2048}).empty());
}

TEST_CASE("compound.json grows every dimension twice by equal factors", "[presets][schedule_file]") {
  const told given{shipped("compound")};
  check_same(given.file, msg::compound(given.full, 2, 0.5, given.options));
}

TEST_CASE("the presets end at the sizes of the default jobs", "[presets][schedule_file]") {
  const msg::named_sizes job = told{shipped("gpt-all-dimensions")}.full;
  CHECK(told{shipped("bert-all-dimensions")}.full == job);
  for (const char* name : {"even-split", "depth-stack", "one-layer", "compound"}) {
    CAPTURE(name);
    CHECK(told{shipped(name)}.full == job);
  }
}
