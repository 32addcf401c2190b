// The trainer as a person and as other programs meet it: exit codes, messages, metrics, kill and resume.

#include "support/training.hpp"

#include <chrono>
#include <cmath>
#include <string>
#include <vector>

namespace {

using namespace training;

TEST_CASE("a run grows strictly, learns, and leaves metrics, a report and a checkpoint", "[trainer]") {
  const workplace place{MSG_TRAIN_GPT};
  const outcome done = place.train_new("run", {"--sample", "40"});
  INFO(done.error);
  REQUIRE(done.code == 0);
  CHECK(done.error.empty());
  CHECK(done.out.find("growth at step 7: hidden 8 → 16, heads 1 → 2 (mask)") != std::string::npos);
  CHECK(done.out.find("run/report.html") != std::string::npos);
  const std::vector<json> records = place.metrics("run");
  const std::vector<json> growths = of_event(records, "growth");
  REQUIRE(growths.size() == 5); // axes, three events
  CHECK(growths[1].at("group") == growths[2].at("group"));
  CHECK(growths[0].at("group") != growths[1].at("group"));
  for (const json& g : growths) {
    CHECK(std::abs(g.at("loss_before").get<double>() - g.at("loss_after").get<double>()) < 1e-5);
    CHECK(g.at("max_abs_logit_diff").get<double>() < 1e-4);
  }
  const std::vector<json> steps = of_event(records, "step");
  CHECK(steps.back().at("dims") == json({{"hidden", 16}, {"ffn", 32}, {"heads", 2}, {"layers", 3}}));
  const std::vector<json> ends = of_event(records, "end");
  REQUIRE(ends.size() == 1);
  CHECK(ends[0].at("val_loss").get<double>() < steps.front().at("val_loss").get<double>() - 0.3);
  CHECK(ends[0].at("tokens") == 24 * 4 * 16);
  CHECK(read_bytes(place / "run/latest") == "step-00000024\n");
  CHECK(read_bytes(place / "run/report.html").find("<svg") != std::string::npos);
}

TEST_CASE("masks ramp 0, 1/T, ..., 1 over the steps after a growth, whatever the accumulation", "[trainer]") {
  const workplace place{MSG_TRAIN_GPT};
  for (const char* accumulate : {"1", "4"}) {
    CAPTURE(accumulate);
    const std::string run = std::string{"run"} + accumulate;
    REQUIRE(place.train_new(run, {"--accumulate", accumulate}).code == 0);
    std::vector<double> ffn; // value used by step s is recorded before it, with s steps done
    const std::vector<json> records = place.metrics(run);
    for (const json& r : of_event(records, "step")) {
      const json& masks = r.at("masks");
      const auto found = masks.find("ffn");
      ffn.push_back(found == masks.end() ? -1 : found->get<double>());
    }
    REQUIRE(ffn.size() == 25); // before the first step, and after each of 24
    // The growth of step 4 happens between records 4 and 5; record s shows the mask that step s will use.
    const std::vector<double> first(ffn.begin() + 3, ffn.begin() + 11);
    REQUIRE(first.size() == 8);
    CHECK(first[0] == -1);
    CHECK(first[1] == -1);
    for (int i = 1; i <= 5; ++i) {
      CHECK(first[static_cast<std::size_t>(i + 1)] == static_cast<double>(static_cast<float>(i / 5.0)));
    }
    CHECK(first[7] == -1);
    CHECK(of_event(records, "growth").size() == 5); // once each, not once a micro-batch
  }
}

TEST_CASE("four micro-batches of 4 train like one batch of 16", "[trainer]") {
  const workplace place{MSG_TRAIN_GPT};
  REQUIRE(place.train_new("split", {"--accumulate", "4"}).code == 0);
  REQUIRE(place.train_new("whole", {"--batch", "16"}).code == 0);
  const double split = of_event(place.metrics("split"), "end")[0].at("val_loss");
  const double whole = of_event(place.metrics("whole"), "end")[0].at("val_loss");
  // The same numbers summed in another order; 24 AdamW steps let the roundings grow, the data order keeps them alike.
  CHECK(std::abs(split - whole) < 1e-2);
}

TEST_CASE("the same command gives the same bits", "[trainer]") {
  const workplace place{MSG_TRAIN_GPT};
  REQUIRE(place.train_new("a").code == 0);
  REQUIRE(place.train_new("b").code == 0);
  CHECK(timeless(place.metrics("a")) == timeless(place.metrics("b")));
  CHECK(checkpoint_of(place, "a") == checkpoint_of(place, "b"));
}

TEST_CASE("the option --schedule none trains the final sizes from the start", "[trainer]") {
  const workplace place{MSG_TRAIN_GPT};
  const outcome done =
      place.train_new("run", {"--schedule", "none", "--hidden", "16", "--ffn", "20", "--heads", "2", "--layers", "2"});
  INFO(done.error);
  REQUIRE(done.code == 0);
  const std::vector<json> records = place.metrics("run");
  CHECK(of_event(records, "growth").empty());
  CHECK(of_event(records, "step").front().at("dims") ==
        json({{"hidden", 16}, {"ffn", 20}, {"heads", 2}, {"layers", 2}}));
}

TEST_CASE("the stack rule changes the loss at a growth, and says so", "[trainer]") {
  const workplace place{MSG_TRAIN_GPT};
  write_bytes(place / "grow.json", R"({"version": 1, "start": {"hidden": 16, "ffn": 32, "heads": 2, "layers": 1},
    "lr": {"peak": 3e-3}, "stages": [{"at": {"fraction": 0.5}, "grow": {"layers": 3}, "rule": "stack"}]})");
  REQUIRE(place.train_new("run").code == 0);
  const std::vector<json> growths = of_event(place.metrics("run"), "growth");
  REQUIRE(growths.size() == 1);
  CHECK(growths[0].at("rule") == "stack");
  CHECK(growths[0].at("bits_equal") == false);
  CHECK(growths[0].at("loss_before") != growths[0].at("loss_after"));
}

TEST_CASE("a run killed at random moments resumes each time to the same bits as one left alone", "[trainer]") {
  check_kills(workplace{MSG_TRAIN_GPT}, 20);
}

TEST_CASE("a resume at every step of two ramps ends with the same bits", "[trainer]") {
  check_resume_at_every_step(workplace{MSG_TRAIN_GPT});
}

TEST_CASE("Ctrl-C saves and ends with 0, in mid-ramp too, and the run goes on from there", "[trainer]") {
  const workplace place{MSG_TRAIN_GPT};
  const outcome stopped = place.train_new("run", {"--steps", "100000", "--log-every", "1"},
                                          {.signal = SIGINT, .after = std::chrono::milliseconds(1500)});
  INFO(stopped.error);
  REQUIRE(stopped.signal == 0);
  REQUIRE(stopped.code == 0);
  CHECK(stopped.out.find("and saved; go on with --resume run") != std::string::npos);
  CHECK(of_event(place.metrics("run"), "end").empty());
  const json last = of_event(place.metrics("run"), "step").back();
  const outcome resumed = place.train({"--resume", "run", "--max-seconds", "1e-9", "--quiet"});
  INFO(resumed.error);
  CHECK(resumed.code == 0);
  CHECK(of_event(place.metrics("run"), "end").at(0).at("step") == last.at("step"));
}

TEST_CASE("Ctrl-C is taken by a thread that does not compute: a handler would write where oneDNN computes",
          "[trainer]") {
  const workplace place{MSG_TRAIN_GPT};
  const outcome stopped =
      place.train_new("run", {"--steps", "100000"}, {.signal = SIGINT, .after = std::chrono::milliseconds(1000)});
  REQUIRE(stopped.takers.size() == 1);
  CHECK(stopped.takers[0] != stopped.process); // the main thread, which computes
  CHECK(stopped.code == 0);
}

TEST_CASE("a full disk ends the run with 1, one line, and the last checkpoint usable", "[trainer]") {
  const workplace place{MSG_TRAIN_GPT};
  REQUIRE(place.train_new("run", {"--save-every", "3", "--max-seconds", "1e-9"}).code == 0);
  const std::vector<std::string> before = checkpoint_of(place, "run");
  const outcome full = place.train({"--resume", "run", "--max-seconds", "0", "--quiet"},
                                   {.most_file_bytes = 12000}); // the grown model's file is larger
  CHECK(full.code == 1);
  CHECK(one_line(full.error));
  CHECK(full.error.find("File too large") != std::string::npos);
  CHECK(full.error.find("safetensors") != std::string::npos);
  const outcome resumed = place.train({"--resume", "run", "--max-seconds", "0"});
  INFO(resumed.error);
  CHECK(resumed.code == 0);
  CHECK(of_event(place.metrics("run"), "end").size() >= 1);
}

TEST_CASE("a loss that is not finite ends the run with 1, and the last checkpoint is intact", "[trainer]") {
  const workplace place{MSG_TRAIN_GPT};
  const outcome diverged =
      place.train_new("run", {"--lr", "1e30", "--clip", "0", "--save-every", "1", "--warmup", "0"});
  CHECK(diverged.code == 1);
  CHECK(one_line(diverged.error));
  CHECK(diverged.error.find("not finite") != std::string::npos);
}

TEST_CASE("bad input is one line on stderr and exit code 2, and nothing is written", "[trainer]") {
  const workplace place{MSG_TRAIN_GPT};
  struct wrong {
    std::vector<std::string> arguments;
    std::string says;
  };
  write_bytes(place / "broken.json", "{\"version\": 1, \"start\": ");
  write_bytes(place / "unknown.json", R"({"version": 1, "start": {"hidden": 8, "ffn": 8, "heads": 1, "layers": 1},
                                          "stages": [{"at": {"step": 3}, "grows": {"ffn": 16}}]})");
  write_bytes(place / "shrinks.json", R"({"version": 1, "start": {"hidden": 8, "ffn": 8, "heads": 1, "layers": 1},
                                          "stages": [{"at": {"step": 3}, "grow": {"ffn": 4}}]})");
  const std::vector<wrong> all{{{"--no-such-option"}, "--no-such-option"},
                               {{"--steps", "many"}, "--steps"},
                               {{"--steps", "0"}, "--steps expected at least 1, found 0"},
                               {{"--schedule", "broken.json"}, "broken.json: not valid JSON"},
                               {{"--schedule", "unknown.json"}, "unknown key 'grows'"},
                               {{"--schedule", "shrinks.json"}, "ffn"},
                               {{"--schedule", "nowhere.json"}, "nowhere.json"},
                               {{"--data", "nowhere"}, "nowhere"},
                               {{"--hidden", "17"}, "--hidden expected 16, found 17"},
                               {{"--device", "tpu"}, "--device expected cpu or cuda, found tpu"},
                               {{"--arch", "mamba"}, "--arch expected gpt2 or llama, found mamba"},
                               {{"--resume", "nowhere"}, "nowhere: expected a run directory"}};
  for (const wrong& w : all) {
    CAPTURE(w.says);
    const outcome refused = place.train_new("run", w.arguments);
    CHECK(refused.code == 2);
    CHECK(refused.out.empty());
    CHECK(one_line(refused.error));
    CHECK(refused.error.find(w.says) != std::string::npos);
    CHECK_FALSE(fs::exists(place / "run"));
  }
}

TEST_CASE("a GPU that cannot be used is one line on stderr that says why, and exit code 2", "[trainer][cuda]") {
  const workplace place{MSG_TRAIN_GPT};
  const outcome result = place.train_new("run", {"--device", "cuda", "--plan-only"});
  if (result.code == 0) { return; } // there is one
  CHECK(result.code == 2);
  CHECK(result.out.empty());
  CHECK(one_line(result.error));
  const bool built = result.error.find("--device cuda: no GPU can be used: ") != std::string::npos;
  CHECK((built || result.error.find("--device cuda: this program was built without CUDA") != std::string::npos));
  CHECK_FALSE(fs::exists(place / "run"));
}

TEST_CASE("a second run is not written over the first", "[trainer]") {
  const workplace place{MSG_TRAIN_GPT};
  REQUIRE(place.train_new("run", {"--max-seconds", "1e-9"}).code == 0);
  const std::string metrics = read_bytes(place / "run/metrics.jsonl");
  const outcome refused = place.train_new("run");
  CHECK(refused.code == 2);
  CHECK(refused.error.find("already holds a run") != std::string::npos);
  CHECK(read_bytes(place / "run/metrics.jsonl") == metrics);
}

TEST_CASE("a resume refuses a corrupt checkpoint, other data, and options that make another model", "[trainer]") {
  const workplace place{MSG_TRAIN_GPT};
  REQUIRE(place.train_new("run", {"--save-every", "2"}).code == 0);
  const fs::path model = place / "run/step-00000024/model.safetensors";
  const std::string good = read_bytes(model);
  const auto resume = [&](std::vector<std::string> more = {}) {
    std::vector<std::string> arguments{"--resume", "run"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    outcome result = place.train(arguments);
    CHECK(result.code == 2);
    CHECK(one_line(result.error));
    return result.error;
  };
  write_bytes(model, good.substr(0, good.size() / 2));
  CHECK(resume().find("model.safetensors") != std::string::npos);
  write_bytes(model, good);
  CHECK(resume({"--batch", "8", "--seed", "2", "--log-every", "5"}).find("--batch expected 4, found 8; --seed") !=
        std::string::npos);
  write_bytes(place / "text/0.txt", "another text");
  CHECK(resume().find("is not what this run was trained on") != std::string::npos);
}

TEST_CASE("the option --plan-only prints stages and cost and writes nothing", "[trainer]") {
  const workplace place{MSG_TRAIN_GPT};
  const outcome plan = place.train_new("run", {"--plan-only"});
  CHECK(plan.code == 0);
  for (const char* part :
       {"C8 F16 H1 L1", "C16 F32 H2 L3", "ms/step", "memory", "steps of 4 sizes, measured here in "}) {
    CAPTURE(plan.out, part);
    CHECK(plan.out.find(part) != std::string::npos);
  }
  CHECK_FALSE(fs::exists(place / "run"));
  const outcome counted = place.train_new("run", {"--plan-only", "--calibrate", "0"});
  CHECK(counted.code == 0);
  CHECK(counted.out.find("C16 F32 H2 L3") != std::string::npos);
  CHECK(counted.out.find("time      not measured: --calibrate 0") != std::string::npos);
  CHECK(counted.out.find("ms/step") == std::string::npos);
}

TEST_CASE("the option --quiet prints only the summary and --help every option", "[trainer]") {
  const workplace place{MSG_TRAIN_GPT};
  const outcome quiet = place.train_new("run", {"--quiet"});
  CHECK(quiet.code == 0);
  CHECK(quiet.out.find("tok/s") == std::string::npos);
  CHECK(quiet.out.rfind("done", 0) == 0);
  const outcome help = place.train({"--help"});
  CHECK(help.code == 0);
  for (const char* option : {"--data", "--schedule", "--resume", "--accumulate", "--plan-only", "--sample"}) {
    CHECK(help.out.find(option) != std::string::npos);
  }
}

TEST_CASE("the option --compare trains the final model for the same time and puts both in the report", "[trainer]") {
  const workplace place{MSG_TRAIN_GPT};
  const outcome both = place.train_new("run", {"--compare"});
  INFO(both.error);
  REQUIRE(both.code == 0);
  CHECK(both.out.find("without growth") != std::string::npos);
  const std::vector<json> rival = of_event(place.metrics("run/without-growth"), "step");
  CHECK(rival.back().at("step") > 1);
  CHECK(rival.front().at("dims") == json({{"hidden", 16}, {"ffn", 32}, {"heads", 2}, {"layers", 3}}));
  // The same of a run that is over already.
  REQUIRE(place.train({"--resume", "run", "--compare"}).code == 0);
  CHECK(of_event(place.metrics("run/without-growth"), "step").back().at("step") > 1);
}

TEST_CASE("a schedule may name any rule, and a run that grew by it resumes to the same bits", "[trainer]") {
  // Uneven numbers of copies leave norms that weight their statistics; means leave another epsilon.
  const char* const copies = R"({"version": 1, "start": {"hidden": 8, "ffn": 16, "heads": 2, "layers": 2},
    "lr": {"policy": "constant", "peak": 3e-3},
    "stages": [{"at": {"step": 5}, "grow": {"hidden": 12, "ffn": 24, "layers": 3},
                "rule": {"hidden": "duplicate", "ffn": "lemon", "layers": "solar"}},
               {"at": {"step": 9}, "grow": {"hidden": 16}, "ramp": {"shape": "linear", "steps": 4}}]})";
  const char* const means = R"({"version": 1, "start": {"hidden": 8, "ffn": 16, "heads": 2, "layers": 2},
    "lr": {"policy": "constant", "peak": 3e-3},
    "stages": [{"at": {"step": 5}, "grow": {"hidden": 12, "ffn": 24, "heads": 4, "layers": 4}, "rule": "lemon"},
               {"at": {"step": 9}, "grow": {"hidden": 16}, "rule": "duplicate"}]})";
  const char* const growth = GENERATE_COPY(copies, means);
  CAPTURE(growth);
  const workplace place{MSG_TRAIN_GPT, {"--head-dim", "4"}, growth};
  training::check_resume_at_every_step(place);
  for (const json& grown : of_event(place.metrics("whole"), "growth")) {
    const double before = grown.at("loss_before");
    const double after = grown.at("loss_after");
    const bool kept = grown.at("group") != 0 || growth == means; // solar changes the function
    CAPTURE(grown.dump());
    CHECK((std::abs(after - before) < 1e-5) == kept);
  }
}

TEST_CASE("a rule that counts on plain norms is refused after uneven copies, before the first step", "[trainer]") {
  const workplace place{MSG_TRAIN_GPT, {"--head-dim", "4"}, R"({"version": 1,
    "start": {"hidden": 8, "ffn": 16, "heads": 2, "layers": 2}, "lr": {"policy": "constant", "peak": 3e-3},
    "stages": [{"at": {"step": 5}, "grow": {"hidden": 12}, "rule": "duplicate"},
               {"at": {"step": 9}, "grow": {"hidden": 16}, "rule": "lemon"}]})"};
  const outcome refused = place.train_new("run");
  CHECK(refused.code == 2);
  CHECK(one_line(refused.error));
  CHECK(refused.error.find("stages[1]") != std::string::npos);
  CHECK(refused.error.find("lemon/average") != std::string::npos);
  CHECK(refused.error.find("counts on plain ones") != std::string::npos);
}

} // namespace
