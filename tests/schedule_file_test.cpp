// schedule.json: what is read, what is refused and how that is said, and the schedules that are shipped.
#include "support/catch.hpp"
#include "support/files_support.hpp"

#include "transformer/schedule_file.hpp"

#include <cmath>
#include <string>
#include <vector>

using namespace reference;
using namespace files_test;

namespace {

const std::string sound = R"({"version": 1, "start": {"hidden": 64, "ffn": 128, "heads": 2, "layers": 2},
 "lr": {"policy": "wsd", "peak": 1e-3, "min": 1e-4, "warmup_steps": 100, "decay_fraction": 0.25},
 "stages": [{"at": {"fraction": 0.2}, "grow": {"ffn": 512, "layers": 4},
   "rule": {"ffn": "mask", "layers": "stack"}, "placement": "prepend",
   "layers": "interleave", "fresh": {"init": "matched", "std": 0.03},
   "ramp": {"shape": "cosine", "steps": 200}, "ramps": {"ffn": {"shape": "linear", "steps": 30}},
   "lr": {"at_growth": "rewarm", "steps": 50, "fresh": 0.25}},
  {"at": {"fraction": 0.4}, "grow": {"hidden": 96, "heads": 3}, "rule": "mask"}]})";

/// What a user sees who gives this schedule to a run of 1000 steps of 2048 tokens.
[[nodiscard]] std::string refusal(const json& document) {
  const std::string message = input_message([&] { (void)read_schedule(document, {1000, 2048}, "s.json"); });
  return message.starts_with("s.json: ") ? message.substr(8) : message;
}
/// The sound schedule with one place replaced (an empty value removes it).
[[nodiscard]] json changed(const std::string& pointer, const json& value) {
  json document = json::parse(sound);
  document[json::json_pointer(pointer)] = value;
  return document;
}
[[nodiscard]] json without(const std::string& pointer, const std::string& key) {
  json document = json::parse(sound);
  document[json::json_pointer(pointer)].erase(key);
  return document;
}
/// The trigger of the first stage, read and written again.
[[nodiscard]] msg::trigger trigger_of(const json& at) {
  json document = changed("/stages/0/at", at);
  document["stages"].erase(1);
  const msg::schedule timeline = read_schedule(document, {1000, 2048}, "s.json");
  const json written = schedule_json(timeline);
  CHECK(schedule_json(read_schedule(written, {1000, 2048}, "written")) == written);
  for (const auto& [key, value] : at.items()) { CHECK(written["stages"][0]["at"][key] == value); }
  return timeline.stages[0].at;
}
[[nodiscard]] fs::path shipped_folder() {
  return fs::absolute(fs::path{__FILE__}).parent_path().parent_path() / "examples" / "schedules";
}

} // namespace

TEST_CASE("every key of a schedule is read", "[schedule_file]") {
  const temporary_folder folder;
  write_bytes(folder / "s.json", sound);
  const msg::schedule timeline = read_schedule(folder / "s.json");
  CHECK(timeline.start == msg::named_sizes{{"hidden", 64}, {"ffn", 128}, {"heads", 2}, {"layers", 2}});
  CHECK(timeline.lr.policy == msg::rate_policy::wsd);
  CHECK(timeline.lr.peak == 1e-3);
  CHECK(timeline.lr.min == 1e-4);
  CHECK(timeline.lr.warmup_steps == 100);
  CHECK(timeline.lr.decay_fraction == 0.25);
  REQUIRE(timeline.stages.size() == 2);
  const msg::stage& first = timeline.stages[0];
  CHECK(first.at.kind == msg::trigger_kind::fraction);
  CHECK(first.at.value == 0.2);
  CHECK(first.grow == msg::named_sizes{{"ffn", 512}, {"layers", 4}});
  CHECK(msg::rule_of(first, "ffn") == "mask");
  CHECK(msg::rule_of(first, "layers") == "stack");
  CHECK(first.placement == "prepend");
  CHECK(first.layers == msg::layer_source::interleave);
  CHECK(first.fresh.kind == msg::fresh_kind::matched);
  CHECK(first.fresh.std == 0.03);
  CHECK(first.ramp.shape == msg::ramp_shape::cosine);
  CHECK(first.ramp.steps == 200);
  CHECK(first.lr.change == msg::rate_change::rewarm);
  CHECK(first.lr.steps == 50);
  CHECK(first.lr.fresh == 0.25);
  REQUIRE(first.ramps.size() == 1);
  CHECK(msg::ramp_of(first.ramps, "ffn", first.ramp).steps == 30);
  CHECK(msg::ramp_of(first.ramps, "layers", first.ramp).steps == 200);
  CHECK(timeline.stages[1].rule == "mask");
  CHECK(timeline.stages[1].rules.empty());
}

TEST_CASE("a schedule of nothing but sizes trains them without growth", "[schedule_file]") {
  const msg::schedule timeline = read_schedule(
      json::parse(R"({"version": 1, "start": {"layers": 1, "heads": 1, "ffn": 8, "hidden": 8}})"), {}, "s.json");
  CHECK(timeline.stages.empty());
  CHECK(timeline.lr.peak == msg::learning_rate{}.peak);
}

TEST_CASE("steps and tokens are triggers too", "[schedule_file]") {
  CHECK(read_schedule(changed("/stages/0/at", {{"step", 200}}), {1000, 2048}, "s.json").stages[0].at.kind ==
        msg::trigger_kind::step);
  const msg::trigger at =
      read_schedule(changed("/stages/0/at", {{"tokens", 409600}}), {1000, 2048}, "s.json").stages[0].at;
  CHECK(at.kind == msg::trigger_kind::tokens);
  CHECK(at.value == 409600);
}

TEST_CASE("triggers that training decides are read with the fields they have, and written with them",
          "[schedule_file]") {
  const msg::trigger loss = trigger_of({{"loss", 2.5}, {"of", "validation"}, {"window", 20}, {"not_before", 5}});
  CHECK(loss.kind == msg::trigger_kind::loss);
  CHECK(loss.value == 2.5);
  CHECK(loss.of == msg::loss_source::validation);
  CHECK(loss.window == 20);
  CHECK(loss.not_before == 5);
  CHECK(loss.not_after == 0);
  const msg::trigger slope = trigger_of({{"slope", 0.8}, {"window", 40}, {"not_after", 500}});
  CHECK(slope.kind == msg::trigger_kind::slope);
  CHECK(slope.of == msg::loss_source::training);
  CHECK(slope.not_after == 500);
  CHECK(trigger_of({{"plateau", 0.01}, {"window", 40}}).kind == msg::trigger_kind::plateau);
  const msg::trigger seconds = trigger_of({{"seconds", 1.5}, {"not_before", 3}, {"not_after", 700}});
  CHECK(seconds.kind == msg::trigger_kind::seconds);
  CHECK(seconds.value == 1.5);
  const msg::trigger probe = trigger_of({{"probe", 100}, {"window", 10}, {"every", 50}});
  CHECK(probe.kind == msg::trigger_kind::probe);
  CHECK(probe.value == 100);
  CHECK(probe.every == 50);
  CHECK(trigger_of({{"step", 700}, {"fired", true}}).fired);
  CHECK(!trigger_of({{"step", 700}}).fired);
}

TEST_CASE("a trigger has the fields of its word and no other", "[schedule_file]") {
  const std::string words = "step, tokens, fraction, seconds, loss, slope, plateau, probe";
  const auto refused = [](const json& at) { return refusal(changed("/stages/0/at", at)); };
  CHECK(refused({{"step", 100}, {"window", 3}}) == "stages[0].at: unknown key 'window' (known: " + words + ", fired)");
  CHECK(refused({{"tokens", 100}, {"fired", true}}) == containing("unknown key 'fired'"));
  CHECK(refused({{"seconds", 9}, {"of", "training"}}) ==
        "stages[0].at: unknown key 'of' (known: " + words + ", not_before, not_after)");
  CHECK(refused({{"loss", 2}, {"every", 3}}) ==
        "stages[0].at: unknown key 'every' (known: " + words + ", of, window, not_before, not_after)");
  CHECK(refused({{"probe", 100}, {"window", 3}, {"of", "training"}}) ==
        "stages[0].at: unknown key 'of' (known: " + words + ", window, every, not_before, not_after)");
  CHECK(refused({{"loss", 2}, {"of", "test"}}) == "stages[0].at.of: expected training or validation, found \"test\"");
  CHECK(refused({{"loss", 2}, {"plateau", 0.1}, {"window", 3}}) ==
        "stages[0].at: expected exactly one of step, tokens, fraction, seconds, loss, slope, plateau and probe, "
        "found 2");
  CHECK(refused({{"window", 3}}) == containing("plateau and probe, found 0"));
  CHECK(refused({{"loss", "2"}}) == "stages[0].at.loss: expected a number from 0.0, found \"2\"");
  CHECK(refused({{"probe", 1.5}}) == containing("stages[0].at.probe: expected an integer from 0"));
  CHECK(refused({{"plateau", 0.1}, {"window", 3}}) == containing("stages[0].at.window"));
  CHECK(refused({{"loss", 2}, {"not_before", 9}, {"not_after", 5}}) == containing("stages[0].at.not_after"));
}

TEST_CASE("a probe names its candidates, and a plan expects the first of them", "[schedule_file]") {
  json document = json::parse(sound);
  json& stage = document["stages"][0];
  stage.erase("grow");
  stage.erase("ramps");
  stage["at"] = {{"probe", 100}, {"window", 10}};
  stage["candidates"] = json::parse(R"([{"grow": {"layers": 4}}, {"grow": {"ffn": 256, "hidden": 96}, "rule": "stack"},
                                        {"grow": {"ffn": 256}, "rule": {"ffn": "zero_block"}}])");
  const msg::schedule timeline = read_schedule(document, {1000, 2048}, "s.json");
  const msg::stage& read = timeline.stages[0];
  REQUIRE(read.candidates.size() == 3);
  CHECK(read.candidates[0].grow == msg::named_sizes{{"layers", 4}});
  CHECK(read.candidates[0].rules == msg::named_words{{"layers", "stack"}}); // the stage's
  CHECK(read.candidates[1].grow == msg::named_sizes{{"hidden", 96}, {"ffn", 256}});
  CHECK(read.candidates[1].rule == "stack");
  CHECK(read.candidates[2].rules == msg::named_words{{"ffn", "zero_block"}});
  CHECK(read.grow == read.candidates[0].grow);
  CHECK(msg::rule_of(read, "layers") == "stack");
  const json written = schedule_json(timeline);
  CHECK(written["stages"][0]["candidates"][1] == stage["candidates"][1]);
  CHECK(schedule_json(read_schedule(written, {1000, 2048}, "written")) == written);

  stage["grow"] = {{"ffn", 256}}; // said outright
  stage["rule"] = "mask";
  CHECK(read_schedule(document, {1000, 2048}, "s.json").stages[0].grow == msg::named_sizes{{"ffn", 256}});
  stage["candidates"][1]["grow"]["ffn"] = 64;
  CHECK(refusal(document) == containing("stages[0].candidates[1].grow"));
  stage["candidates"][1] = {{"rule", "mask"}, {"ramp", 1}};
  CHECK(refusal(document) == "stages[0].candidates[1]: missing key 'grow'; "
                             "stages[0].candidates[1]: unknown key 'ramp' (known: grow, rule)");
  stage["candidates"] = 3;
  CHECK(refusal(document) == "stages[0].candidates: expected an array, found 3");
  stage["candidates"] = json::parse(R"([{"grow": {"ffn": 256}}])");
  stage["at"] = {{"step", 100}};
  CHECK(refusal(document) == containing("stages[0].candidates"));
}

TEST_CASE("ramps are an axis's own where they are named, and keys left out are the stage's", "[schedule_file]") {
  json document = changed("/stages/0/ramps", {{"layers", {{"steps", 7}}}});
  const msg::stage stage = read_schedule(document, {1000, 2048}, "s.json").stages[0];
  const msg::ramp own = msg::ramp_of(stage.ramps, "layers", stage.ramp);
  CHECK(own.shape == msg::ramp_shape::cosine);
  CHECK(own.steps == 7);
  CHECK(refusal(changed("/stages/0/ramps/hidden", {{"steps", 7}})) == containing("stages[0].ramps"));
  CHECK(refusal(changed("/stages/0/ramps/ffn/steps", -1)) == containing("stages[0].ramps.ffn.steps: expected"));
  CHECK(refusal(changed("/stages/0/ramps/ffn/step", 1)) ==
        "stages[0].ramps.ffn: unknown key 'step' (known: shape, steps)");
  CHECK(refusal(changed("/stages/0/lr/fresh", -1)) == "stages[0].lr.fresh: expected a number from 0.0, found -1");
}

TEST_CASE("a schedule survives being written and read again", "[schedule_file]") {
  const msg::schedule timeline = read_schedule(json::parse(sound), {}, "s.json");
  const json once = schedule_json(timeline);
  const json twice = schedule_json(read_schedule(once, {}, "embedded"));
  CHECK(once == twice);
  const json document = json::parse(sound);
  CHECK(once["start"] == document["start"]);
  CHECK(once["lr"] == document["lr"]);
  CHECK(once["stages"][0] == document["stages"][0]);
  CHECK(once["stages"][1]["grow"] == document["stages"][1]["grow"]);
  CHECK(schedule_json(read_schedule(changed("/stages/0/at", {{"step", 7}}), {1000, 2048}, "s.json"))["stages"][0]["at"]
            .dump() == "{\"step\":7}");
}

TEST_CASE("an unknown key is an error at every level", "[schedule_file]") {
  CHECK(refusal(changed("/stage", 1)) == "unknown key 'stage' (known: version, start, lr, stages)");
  CHECK(refusal(changed("/start/width", 1)) ==
        "start: unknown key 'width' (known: hidden, ffn, heads, layers, kv_heads, vocab, positions, experts)");
  CHECK(refusal(changed("/lr/peek", 1)) ==
        "lr: unknown key 'peek' (known: policy, peak, min, warmup_steps, decay_fraction)");
  CHECK(refusal(changed("/stages/1/rules", 1)) ==
        "stages[1]: unknown key 'rules' (known: at, candidates, grow, rule, placement, layers, fresh, ramp, ramps, "
        "lr)");
  CHECK(refusal(changed("/stages/0/at/epoch", 1)) ==
        "stages[0].at: unknown key 'epoch' (known: step, tokens, fraction, seconds, loss, slope, plateau, probe)");
  CHECK(refusal(changed("/stages/0/grow/width", 1)) ==
        "stages[0].grow: unknown key 'width' (known: hidden, ffn, heads, layers, kv_heads, vocab, positions, experts)");
  CHECK(refusal(changed("/stages/0/rule/width", "mask")) ==
        "stages[0].rule: unknown key 'width' (known: hidden, ffn, heads, layers, kv_heads, vocab, positions, experts)");
  CHECK(refusal(changed("/stages/0/fresh/mean", 1)) == "stages[0].fresh: unknown key 'mean' (known: init, std)");
  CHECK(refusal(changed("/stages/0/ramp/step", 1)) == "stages[0].ramp: unknown key 'step' (known: shape, steps)");
  CHECK(refusal(changed("/stages/0/lr/peak", 1)) ==
        "stages[0].lr: unknown key 'peak' (known: at_growth, steps, fresh)");
}

TEST_CASE("missing keys, wrong types and unknown words are named with what was expected", "[schedule_file]") {
  CHECK(refusal(without("", "version")) == "missing key 'version'");
  CHECK(refusal(changed("/version", 2)) == "version: expected an integer from 1 to 1, found 2");
  CHECK(refusal(without("", "start")) == "missing key 'start'");
  CHECK(refusal(without("/start", "heads")) == "start: missing key 'heads'");
  CHECK(refusal(changed("/start/heads", 0)) ==
        containing("start.heads: expected an integer from 1 to 2147483647, found 0"));
  CHECK(refusal(without("/stages/0", "at")) == "stages[0]: missing key 'at'");
  CHECK(refusal(without("/stages/0", "grow")) == "stages[0]: missing key 'grow'");
  CHECK(refusal(changed("/stages", 3)) == "stages: expected an array, found 3");
  CHECK(refusal(changed("/stages/0", 3)) == "stages[0]: expected an object, found 3");
  CHECK(refusal(changed("/stages/0/rule", 3)) ==
        "stages[0].rule: expected a string, or an object of one per axis, found 3");
  CHECK(refusal(changed("/lr/policy", "step")) ==
        "lr.policy: expected cosine, linear, wsd or constant, found \"step\"");
  CHECK(refusal(changed("/lr/peak", "1e-3")) == "lr.peak: expected a number from 0.0, found \"1e-3\"");
  CHECK(refusal(changed("/stages/0/layers", "copy")) ==
        "stages[0].layers: expected stack, interleave or fresh, found \"copy\"");
  CHECK(refusal(changed("/stages/0/fresh/init", "ones")) ==
        "stages[0].fresh.init: expected normal, matched, copy or zeros, found \"ones\"");
  CHECK(refusal(changed("/stages/0/ramp/shape", "lineer")) ==
        "stages[0].ramp.shape: expected linear, cosine or step, found \"lineer\"");
  CHECK(refusal(changed("/stages/0/ramp/steps", 1.5)) ==
        "stages[0].ramp.steps: expected an integer from 0 to 9007199254740992, found 1.5");
  CHECK(refusal(changed("/stages/0/lr/at_growth", "reset")) ==
        "stages[0].lr.at_growth: expected none, rewind or rewarm, found \"reset\"");
}

TEST_CASE("a stage has exactly one trigger", "[schedule_file]") {
  CHECK(
      refusal(changed("/stages/0/at", json::object())) ==
      "stages[0].at: expected exactly one of step, tokens, fraction, seconds, loss, slope, plateau and probe, found 0");
  CHECK(
      refusal(changed("/stages/0/at", {{"step", 1}, {"fraction", 0.5}})) ==
      "stages[0].at: expected exactly one of step, tokens, fraction, seconds, loss, slope, plateau and probe, found 2");
  CHECK(refusal(changed("/stages/0/at", {{"fraction", 20}})) ==
        "stages[0].at.fraction: expected a number from 0.0 to 1.0, found 20");
  CHECK(refusal(changed("/stages/0/at", {{"step", 0.2}})) ==
        containing("stages[0].at.step: expected an integer from 0"));
}

TEST_CASE("every finding of a schedule is reported in one line", "[schedule_file]") {
  json document = changed("/lr/peek", 1);
  document["stages"][0]["at"] = json::object();
  document["stages"][1]["grow"]["hidden"] = "96";
  CHECK(
      refusal(document) ==
      "lr: unknown key 'peek' (known: policy, peak, min, warmup_steps, decay_fraction); "
      "stages[0].at: expected exactly one of step, tokens, fraction, seconds, loss, slope, plateau and probe, found 0; "
      "stages[1].grow.hidden: expected an integer from 1 to 2147483647, found \"96\"");
}

TEST_CASE("faults of meaning are reported in one line, with stage and axis", "[schedule_file]") {
  json document = changed("/stages/1/at", {{"fraction", 0.1}});
  document["stages"][1]["grow"]["hidden"] = 32;
  document["stages"][0]["rule"]["ffn"] = "magic";
  const std::string shown = refusal(document);
  CHECK(shown == containing("stages[1].at"));
  CHECK(shown == containing("shrink: axis 'hidden', expected at least 64, found 32"));
  CHECK(shown == containing("axis 'ffn', expected one of mask, "));
  CHECK(refusal(changed("/stages/1/at", {{"step", 1000}})) == containing("stages[1].at")); // the run has ended
}

TEST_CASE("a file that is no schedule is refused by name", "[schedule_file]") {
  const temporary_folder folder;
  const std::string path = (folder / "s.json").string();
  CHECK(input_message([&] { (void)read_schedule(folder / "s.json"); }) ==
        path + ": cannot open: No such file or directory");
  write_bytes(folder / "s.json", sound.substr(0, 200));
  CHECK(input_message([&] { (void)read_schedule(folder / "s.json"); }) ==
        containing(path + ": not valid JSON: parse error"));
  write_bytes(folder / "s.json", "[]");
  CHECK(input_message([&] { (void)read_schedule(folder / "s.json"); }) ==
        path + ": expected an object, found an array");
  write_bytes(folder / "s.json", R"({"version": 1, "version": 1})");
  CHECK(input_message([&] { (void)read_schedule(folder / "s.json"); }) ==
        path + ": key 'version' occurs twice in one object");
}

TEST_CASE("every truncation of a schedule is an input error", "[schedule_file]") {
  const temporary_folder folder;
  for (std::size_t length = 0; length < sound.size(); length += 7) {
    write_bytes(folder / "s.json", sound.substr(0, length));
    CAPTURE(length);
    CHECK(input_message([&] { (void)read_schedule(folder / "s.json"); }) == containing("not valid JSON"));
  }
}

TEST_CASE("every shipped schedule is sound, and those of one model end at the same sizes", "[schedule_file]") {
  CHECK(names_in(shipped_folder()) ==
        std::vector<std::string>{"bert-all-dimensions.json", "compound.json", "depth-stack.json", "even-split.json",
                                 "ffn.json", "gpt-all-dimensions.json", "gpt-plateau.json", "gpt-probe.json",
                                 "gpt-slope.json", "heads.json", "hidden.json", "layers-mask.json", "layers-stack.json",
                                 "llama-all-dimensions.json", "llama-upcycle.json", "msg-bert-base.json",
                                 "msg-bert-large.json", "one-layer.json"});
  const msg::named_sizes gpt{{"hidden", 192}, {"ffn", 768}, {"heads", 6}, {"layers", 6}};
  const msg::named_sizes llama{{"hidden", 192}, {"ffn", 512}, {"heads", 6}, {"layers", 6}, {"kv_heads", 3}};
  for (const std::string& name : names_in(shipped_folder())) {
    CAPTURE(name);
    const msg::schedule timeline = read_schedule(shipped_folder() / name, {1500, 2048});
    const msg::named_sizes last = msg::sizes_after(timeline, timeline.stages.size());
    if (name.starts_with("msg-") || name == "llama-upcycle.json") { continue; }
    CHECK(last == (name.starts_with("llama") ? llama : gpt));
  }
}

TEST_CASE("the schedules of MSG's BERT are those of the released configs", "[schedule_file]") {
  // method.md, section 7: layers, hidden, ffn, heads of each stage
  struct row {
    const char* name;
    std::vector<std::vector<msg::index>> stages;
  };
  const row all[] = {{"msg-bert-base.json",
                      {{3, 512, 768, 8},
                       {3, 512, 3072, 8},
                       {6, 512, 3072, 8},
                       {6, 768, 3072, 8},
                       {6, 768, 3072, 12},
                       {12, 768, 3072, 12}}},
                     {"msg-bert-large.json",
                      {{6, 512, 1024, 8},
                       {6, 512, 4096, 8},
                       {12, 512, 4096, 8},
                       {12, 1024, 4096, 8},
                       {12, 1024, 4096, 16},
                       {24, 1024, 4096, 16}}}};
  for (const row& expected : all) {
    CAPTURE(expected.name);
    const msg::schedule timeline = read_schedule(shipped_folder() / expected.name, {1000000, 131072});
    REQUIRE(timeline.stages.size() == 5);
    for (std::size_t s = 0; s < expected.stages.size(); ++s) {
      const msg::named_sizes sizes = msg::sizes_after(timeline, s);
      const auto of = [&](const char* axis) { return msg::size_of(sizes, axis); };
      CHECK(std::vector<msg::index>{of("layers"), of("hidden"), of("ffn"), of("heads")} == expected.stages[s]);
    }
    const std::vector<msg::index> steps = msg::stage_steps(timeline, {1000000, 131072});
    for (std::size_t s = 0; s < steps.size(); ++s) { // an even split, the fractions rounded to 5 digits
      CHECK(std::abs(static_cast<double>(steps[s]) - 1e6 * static_cast<double>(s + 1) / 6) <= 10);
    }
  }
}

TEST_CASE("the default schedule grows all four dimensions, all of them in the first 60 percent", "[schedule_file]") {
  const msg::schedule timeline = read_schedule(shipped_folder() / "gpt-all-dimensions.json", {1500, 2048});
  for (const auto& [axis, size] : timeline.start) {
    CAPTURE(axis);
    CHECK(msg::size_of(msg::sizes_after(timeline, timeline.stages.size()), axis) > size);
  }
  for (const msg::index step : msg::stage_steps(timeline, {1500, 2048})) { CHECK(step <= 900); }
}
