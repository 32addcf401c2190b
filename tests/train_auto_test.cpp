// A trainer that is given a budget of time and finds its schedule itself.
#include "support/training.hpp"

#include "transformer/schedule_file.hpp"

#include <string>
#include <vector>

namespace {

using namespace training;

std::vector<std::string> automatic(const std::string& run, std::vector<std::string> more) {
  std::vector<std::string> words{"--data",  "text", "--schedule", "auto", "--hidden",   "16", "--ffn",       "32",
                                 "--heads", "2",    "--layers",   "4",    "--head-dim", "8",  "--seq",       "16",
                                 "--batch", "4",    "--out",      run,    "--threads",  "1",  "--log-every", "50"};
  words.insert(words.end(), more.begin(), more.end());
  return words;
}
/// A budget in which a search has the time that it needs; sanitizers make it many times slower.
std::string enough(int seconds) {
#ifdef __has_feature // clang, with which sanitizers are run
  constexpr int slower = __has_feature(address_sanitizer) ? 8 : 1;
#else
  constexpr int slower = 1;
#endif
  return std::to_string(slower * seconds) + "s";
}
json saved_state(const workplace& place, const std::string& run) {
  std::string name = read_bytes(place / (run + "/latest"));
  name.pop_back();
  return json::parse(read_bytes(place / (run + "/" + name + "/trainer_state.json")));
}

} // namespace

TEST_CASE("a budget alone makes a run that times, probes, proposes and trains, and that can be resumed",
          "[trainer][auto]") {
  const workplace place{MSG_TRAIN_GPT};
  const outcome begun = place.train(automatic("run", {"--budget", enough(30), "--max-seconds", "1e-9"}));
  INFO(begun.out);
  INFO(begun.error);
  REQUIRE(begun.code == 0);
  for (const char* part :
       {"time      steps of 5 sizes", "probe     C16 F32 H2 L4", "probe     C16 F32 H2 L1 to L4", "growth    ",
        "search    took", "1. loss", "the final model from the start",
        "chosen    the first of them, written to run/schedule.json", "stopped at the time limit, step 1"}) {
    CAPTURE(part);
    CHECK(begun.out.find(part) != std::string::npos);
  }
  const json written = json::parse(read_bytes(place / "run/schedule.json"));
  CHECK(reference::schedule_json(reference::read_schedule(place / "run/schedule.json")) == written);
  const json saved = saved_state(place, "run");
  CHECK(saved.at("schedule") == written);
  const outcome resumed = place.train({"--resume", "run", "--quiet", "--max-seconds", "0.5"});
  INFO(resumed.error);
  REQUIRE(resumed.code == 0);
  CHECK(resumed.out.find("probe") == std::string::npos); // it goes on, and searches no more
  const json later = saved_state(place, "run");
  CHECK(later.at("step") > saved.at("step"));
  CHECK(later.at("schedule") == written);
  CHECK(later.at("options").at("steps") == saved.at("options").at("steps"));
}

TEST_CASE("BERT and Llama find their schedules too, and grouped queries keep their groups", "[trainer][auto]") {
  const workplace bert{MSG_TRAIN_BERT};
  const outcome done = bert.train(automatic("run", {"--budget", enough(10), "--documents", "none"}));
  INFO(done.error);
  REQUIRE(done.code == 0);
  CHECK(saved_state(bert, "run").at("schedule") == json::parse(read_bytes(bert / "run/schedule.json")));
  CHECK(of_event(bert.metrics("run"), "end").size() == 1);
  const workplace gpt{MSG_TRAIN_GPT};
  const outcome llama = gpt.train(automatic("run", {"--budget", enough(15), "--max-seconds", "0.5", "--arch", "llama",
                                                    "--heads", "4", "--kv-heads", "2", "--quiet"}));
  INFO(llama.error);
  REQUIRE(llama.code == 0);
  const json found = json::parse(read_bytes(gpt / "run/schedule.json"));
  CHECK(found.at("start").at("heads") == 2 * found.at("start").at("kv_heads").get<int>());
  const json first = of_event(gpt.metrics("run"), "step").front().at("dims");
  CHECK(first.at("heads") == 2 * first.at("kv_heads").get<int>());
}

TEST_CASE("a plan with a budget prints proposals and writes nothing", "[trainer][auto]") {
  const workplace place{MSG_TRAIN_GPT};
  const outcome plan = place.train(automatic("run", {"--budget", enough(15), "--plan-only", "--quiet"}));
  INFO(plan.error);
  REQUIRE(plan.code == 0);
  CHECK(plan.out.find("1. loss") != std::string::npos);
  CHECK(plan.out.find("the final model from the start") != std::string::npos);
  CHECK_FALSE(fs::exists(place / "run"));
}

TEST_CASE("a budget that makes no sense is one line and exit code 2", "[trainer][auto]") {
  const workplace place{MSG_TRAIN_GPT};
  struct wrong {
    std::vector<std::string> arguments;
    std::string says;
  };
  const std::vector<wrong> all{
      {automatic("run", {}), "--schedule expected --budget beside auto: 10m, for instance, found auto alone"},
      {automatic("run", {"--budget", "soon"}), "--budget expected a time: 90s, 10m or 2h, for instance, found soon"},
      {automatic("run", {"--budget", "1s", "--schedule", "none"}), "--budget expected --schedule auto beside it"},
      {automatic("run", {"--budget", "1m", "--steps", "9"}), "--steps expected without --schedule auto"},
      {automatic("run", {"--budget", "0.01s"}), "--budget 0.01s: too small: "}};
  for (const wrong& w : all) {
    CAPTURE(w.says);
    const outcome refused = place.train(w.arguments);
    INFO(refused.error);
    CHECK(refused.code == 2);
    CHECK(one_line(refused.error));
    CHECK(refused.error.find(w.says) != std::string::npos);
    CHECK_FALSE(fs::exists(place / "run"));
  }
}
