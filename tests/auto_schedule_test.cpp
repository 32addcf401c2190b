// What a search for a schedule chooses from, what it fits, and what becomes of a proposal.
#include "support/catch.hpp"

#include "transformer/auto_proposals.hpp"

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

namespace {

using reference::config;

const config llama{.arch = reference::architecture::llama,
                   .positions = 128,
                   .hidden = 192,
                   .ffn = 768,
                   .heads = 6,
                   .kv_heads = 3,
                   .head_dim = 32,
                   .layers = 6};
const msg::named_sizes full{{"hidden", 192}, {"ffn", 768}, {"heads", 6}, {"layers", 6}};

double product(const msg::named_sizes& sizes) {
  double result = 1;
  for (const auto& [axis, size] : sizes) { result *= double(size); }
  return result;
}

// Losses of a law at sizes and tokens, every probe with three lengths.
template <class Law>
std::vector<msg::loss_point> points_of(const Law& law) {
  std::vector<msg::loss_point> points;
  for (const msg::named_sizes& sizes :
       reference::detail::sizes_to_probe(full, reference::detail::smaller_sizes(llama))) {
    for (const double tokens : {1e5, 3e5, 1e6}) { points.push_back({sizes, tokens, law(sizes, tokens)}); }
  }
  return points;
}

} // namespace

TEST_CASE("a time is read as people write it, and nothing else is", "[auto_schedule]") {
  CHECK(reference::duration_of("90s") == 90.0);
  CHECK(reference::duration_of("10m") == 600.0);
  CHECK(reference::duration_of("2h") == 7200.0);
  CHECK(reference::duration_of("1d") == 86400.0);
  CHECK(reference::duration_of("1h30m") == 5400.0);
  CHECK(reference::duration_of("0.5h") == 1800.0);
  CHECK(reference::duration_of("45") == 45.0);
  for (const char* wrong : {"", "m", "ten", "10x", "-5m", "0s", "1h30", "5 m", "nan", "inf", "1e999m"}) {
    CAPTURE(wrong);
    CHECK(!reference::duration_of(wrong));
  }
}

TEST_CASE("a search chooses from smaller sizes of each dimension, query groups whole", "[auto_schedule]") {
  const auto choices = reference::detail::smaller_sizes(llama);
  using sizes = std::vector<msg::index>;
  CHECK(choices ==
        msg::detail::size_choices{
            {"hidden", sizes{96, 128}}, {"ffn", sizes{192, 384}}, {"heads", sizes{2, 4}}, {"layers", sizes{1, 2, 3}}});
  const auto blended = reference::detail::smaller_sizes({.arch = reference::architecture::bert, .layers = 6});
  CHECK(*msg::detail::find_named(blended, "layers") == sizes{3});
  for (msg::index size = 1; size < 40; ++size) { // whatever the sizes, smaller ones only, rising
    for (const msg::index group : {1, 2}) {
      const config c{
          .arch = llama.arch, .hidden = size, .ffn = size, .heads = size * group, .kv_heads = size, .layers = size};
      for (const auto& [axis, some] : reference::detail::smaller_sizes(c)) {
        CAPTURE(size, group, axis);
        CHECK(std::is_sorted(some.begin(), some.end(), std::less_equal<>{}));
        CHECK(some.front() >= 1);
        CHECK(some.back() < (axis == "heads" ? size * group : size));
        if (axis == "heads") { CHECK(some.front() % group == 0); }
      }
    }
  }
}

TEST_CASE("probes are the corners and the middle of the lattice, the final sizes the last", "[auto_schedule]") {
  const auto corners = reference::detail::sizes_to_probe(full, reference::detail::smaller_sizes(llama));
  REQUIRE(corners.size() == 5);
  CHECK(corners[0] == msg::named_sizes{{"hidden", 96}, {"ffn", 192}, {"heads", 2}, {"layers", 1}});
  CHECK(corners[1] == msg::named_sizes{{"hidden", 128}, {"ffn", 384}, {"heads", 4}, {"layers", 3}});
  CHECK(corners[2] == msg::named_sizes{{"hidden", 96}, {"ffn", 192}, {"heads", 2}, {"layers", 6}});
  CHECK(corners[3] == msg::named_sizes{{"hidden", 192}, {"ffn", 768}, {"heads", 6}, {"layers", 1}});
  CHECK(corners[4] == full);
  CHECK(reference::detail::sizes_to_probe({{"hidden", 1}}, {}).size() == 1); // nothing to choose from
}

TEST_CASE("a loss that depends on one dimension alone is fitted by it, another by parameters", "[auto_schedule]") {
  const auto by_layers = points_of([](const msg::named_sizes& sizes, double tokens) {
    return 1 + 2 / std::sqrt(double(msg::size_of(sizes, "layers"))) + 30 * std::pow(tokens, -0.4);
  });
  const msg::loss_model deep = reference::fit_probes(by_layers, product, {"hidden", "layers"});
  REQUIRE(deep.axis_scales.size() == 2);
  CHECK(deep.axis_scales[1].second > 10 * deep.axis_scales[0].second);
  CHECK(deep.error < 0.01);
  const auto by_parameters = points_of([](const msg::named_sizes& sizes, double tokens) {
    return 1 + 50 * std::pow(product(sizes), -0.3) + 30 * std::pow(tokens, -0.4);
  });
  const msg::loss_model counted = reference::fit_probes(by_parameters, product, {"hidden", "layers"});
  CHECK(counted.error < 0.01);
  for (const msg::loss_point& p : by_parameters) {
    CHECK(std::abs(counted.loss(counted.limit(p.sizes, product(p.sizes)), p.tokens) / p.loss - 1) < 0.02);
  }
}

TEST_CASE("a proposal becomes a schedule whose ramps fit and whose rate decays after the last growth",
          "[auto_schedule]") {
  const msg::run_extent run{400, 2048};
  for (const double last : {0.5, 0.9, 0.99}) {
    CAPTURE(last);
    msg::schedule timeline{.start = {{"hidden", 96}, {"ffn", 192}, {"heads", 2}, {"layers", 2}},
                           .lr = {.policy = msg::rate_policy::wsd, .warmup_steps = 50}};
    msg::stage growth;
    growth.lr = {.change = msg::rate_change::rewarm, .steps = 30};
    growth.at = {msg::trigger_kind::fraction, 0.4};
    growth.grow = {{"heads", 4}, {"ffn", 768}};
    timeline.stages.push_back(growth);
    growth.at = {msg::trigger_kind::fraction, last};
    growth.grow = {{"hidden", 192}, {"heads", 6}, {"layers", 6}};
    timeline.stages.push_back(growth);
    const msg::schedule done = reference::detail::finished(timeline, run, llama);
    CHECK(msg::validate(done, run, reference::schedule_names()).empty()); // growths in the decay are a finding
    CHECK(done.lr.warmup_steps == 20);
    CHECK(done.stages[0].ramp.steps == (last == 0.5 ? 20 : 40)); // half of the stretch; a tenth of the run
    const msg::index left = run.steps - msg::step_of(done.stages[1].at, run);
    CHECK(done.stages[1].ramp.steps <= left / 2);
    CHECK(done.lr.decay_fraction * double(run.steps) < double(left));
    CHECK(done.lr.decay_fraction * double(run.steps) > double(left) - 2);
    CHECK(msg::size_of(done.start, "kv_heads") == 1);
    CHECK(msg::size_of(done.stages[0].grow, "kv_heads") == 2);
    CHECK(msg::size_of(done.stages[1].grow, "kv_heads") == 3);
  }
}

TEST_CASE("where layers are blended copies lie beside their sources, and ramps are shorter", "[auto_schedule]") {
  reference::run_setup setup;
  const auto proposed = [&](reference::architecture arch) {
    setup.end = reference::defaults_of(arch);
    msg::schedule timeline = reference::detail::proposal_base(setup);
    timeline.stages.front().at = {msg::trigger_kind::step, 1000};
    return reference::detail::finished(timeline, {.steps = 2000, .tokens_per_step = 1}, setup.end).stages.front();
  };
  const msg::stage pre = proposed(reference::architecture::gpt2);
  CHECK(pre.layers == msg::layer_source::stack);
  CHECK(pre.ramp.steps == 200);
  const msg::stage post = proposed(reference::architecture::bert);
  CHECK(post.layers == msg::layer_source::interleave);
  CHECK(post.ramp.steps == 40);
}

TEST_CASE("what a growth costs is probed from the fewest layers to all", "[auto_schedule]") {
  reference::run_setup setup;
  setup.end = llama;
  msg::proposal_request wanted{.sizes = full,
                               .choices = reference::detail::smaller_sizes(llama),
                               .tokens_per_step = 512,
                               .base = reference::detail::proposal_base(setup)};
  const auto probe = reference::detail::growth_probe(wanted, llama, 370); // twelfths of 30 steps
  REQUIRE(probe);
  CHECK(msg::size_of(probe->sizes, "layers") == 1);
  CHECK(msg::size_of(probe->sizes, "hidden") == 192);
  CHECK(msg::size_of(probe->sizes, "kv_heads") == 3);
  CHECK(probe->steps == 360);
  CHECK(probe->points == 12);
  REQUIRE(probe->stages.size() == 1);
  CHECK(probe->stages[0].at.value == 90);
  CHECK(probe->stages[0].grow == msg::named_sizes{{"layers", 6}});
  CHECK(probe->stages[0].ramp.steps == 36);
  CHECK(!reference::detail::growth_probe(wanted, llama, 359)); // too short to tell something
  config bert = llama; // starts from half of the layers: one doubling costs less than probes differ
  bert.arch = reference::architecture::bert;
  wanted.choices = reference::detail::smaller_sizes(bert);
  CHECK(!reference::detail::probes_growth(wanted.choices, bert));
  CHECK(!reference::detail::growth_probe(wanted, bert, 3700));
  wanted.choices = reference::detail::smaller_sizes(llama);
  CHECK(reference::detail::probes_growth(wanted.choices, llama));
  std::erase_if(wanted.choices, [](const auto& c) { return c.first == "layers"; });
  CHECK(!reference::detail::growth_probe(wanted, llama, 370));
}

TEST_CASE("a growth that loses no more than seeds differ has no price", "[auto_schedule]") {
  const auto curve = [](double worth, double falls) { // a loss that falls by so much with each token
    std::vector<msg::loss_point> points;
    for (int i = 1; i <= 12; ++i) { points.push_back({{}, double(i), 10 - falls * worth * i}); }
    return points;
  };
  const std::vector<msg::loss_point> alone = curve(1, 0.5);
  const auto pace_of = [&](double worth) { return reference::detail::pace_of_doubling(alone, curve(worth, 0.5)); };
  CHECK(pace_of(1.2) == 1);
  CHECK(pace_of(0.95) == 1);
  CHECK(std::abs(pace_of(0.7) - 0.7) < 1e-9);
  CHECK(pace_of(0.1) == 0.25);
  CHECK(reference::detail::pace_of_doubling(curve(1, 0.01), curve(0.5, 0.01)) == 1); // it doesn't learn yet
}

TEST_CASE("growth has a price where the first weights suit the width", "[auto_schedule]") {
  config c{.hidden = 16};
  for (const auto& [deviation, pace] : {std::pair{0.02, 1.0}, {0.07, 1.0}, {0.1, 0.9}, {0.2, 0.9}}) {
    c.initializer_range = deviation;
    CHECK(reference::detail::usual_pace(c) == pace);
  }
  c.initializer_range = 0.02; // of every width in Hugging Face's models: it suits theirs
  c.hidden = 768;
  CHECK(reference::detail::usual_pace(c) == 0.9);
}

TEST_CASE("where growth has a price it must promise more than the fit may be off by", "[auto_schedule]") {
  const auto proposals = [](double grown) {
    std::vector<msg::proposal> all(3);
    all[0].loss = grown;
    all[1].loss = 2.99;
    all[2].loss = 3;
    all[0].timeline.stages.resize(2);
    all[1].timeline.stages.resize(1);
    return all;
  };
  using reference::detail::weigh_alone;
  auto all = proposals(2.98);
  CHECK(weigh_alone(all, 0.01, true).find("the final model from the start comes first") != std::string::npos);
  CHECK(all[0].timeline.stages.empty());
  CHECK(all[1].loss == 2.98);
  CHECK(all[2].loss == 2.99);
  CHECK(weigh_alone(all, 0.01, true).empty()); // it is first already
  all = proposals(2.98);
  CHECK(weigh_alone(all, 0.01, false).find("is no worse within the fit's error") != std::string::npos);
  CHECK(all[0].loss == 2.98);
  all = proposals(2.8);
  for (const bool costs : {false, true}) {
    CHECK(weigh_alone(all, 0.01, costs).empty());
    CHECK(all[0].loss == 2.8);
  }
}
