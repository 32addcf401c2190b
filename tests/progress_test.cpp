// What the terminal shows: lines that fit, the right numbers in them, and nothing but the summary for the quiet.
#include "support/catch.hpp"

#include "transformer/progress.hpp"

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <memory>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include <fcntl.h>
#include <sys/ioctl.h>
#include <unistd.h>

using namespace reference;

namespace {

[[nodiscard]] step_record example() {
  return {.step = 300,
          .tokens = 614400,
          .flops = 2e12,
          .seconds = 62,
          .loss = 2.34561,
          .val_loss = 2.40119,
          .lr = 9.5e-4,
          .tokens_per_second = 31234,
          .parameters = 163840,
          .dims = {{"hidden", 96}, {"ffn", 256}, {"heads", 2}, {"head_dim", 32}, {"layers", 2}},
          .masks = {{"ffn", 0.4}}};
}

[[nodiscard]] growth_record example_growth() {
  return {.step = 300,
          .group = 0,
          .axis = "ffn",
          .from = 256,
          .to = 512,
          .rule = "mask",
          .loss_before = 2.34561,
          .loss_after = 2.34561,
          .max_abs_logit_diff = 0,
          .bits_equal = true};
}

// What a printer writes.
[[nodiscard]] std::string printed(const terminal_options& options, const std::function<void(printer&)>& use) {
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(std::tmpfile(), &std::fclose);
  REQUIRE(file);
  {
    printer p(file.get(), options);
    use(p);
  }
  std::string text(static_cast<std::size_t>(std::ftell(file.get())), '\0');
  std::rewind(file.get());
  REQUIRE(std::fread(text.data(), 1, text.size(), file.get()) == text.size());
  return text;
}

[[nodiscard]] run_summary example_summary() {
  return {.finished = true,
          .first_val_loss = 5.55,
          .last_val_loss = 1.4238,
          .steps = 1200,
          .tokens = 2460000,
          .flops = 6.4e12,
          .seconds = 182,
          .first_parameters = 81920,
          .parameters = 819200,
          .growths = 3,
          .largest_difference = 0,
          .bits_equal = true};
}

[[nodiscard]] bool has(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

} // namespace

TEST_CASE("a progress line says step, losses, rate, speed, sizes, mask and time", "[progress]") {
  CHECK(progress_line(example(), 1200, 130) ==
        " 300/1200  loss 2.346  val 2.401  lr 9.5e-4  31.2k tok/s  C96 F256 H2 L2  ffn 0.40  1:02, 2:10 left");
  CHECK(characters(progress_line(example(), 1200, 130)) <= 100);
}

TEST_CASE("a progress line leaves out what is not known", "[progress]") {
  step_record r{.step = 0, .loss = missing};
  CHECK(progress_line(r, 10, missing) == " 0/10  loss –      0:00");
  r.step = 7;
  CHECK(progress_line(r, 0, missing) == "7  loss –      0:00");
}

TEST_CASE("masks of one value are told once, of several by the letters of their axes", "[progress]") {
  using progress_detail::short_masks;
  CHECK(short_masks({}) == "");
  CHECK(short_masks({{"layers", 1}}) == "layers 1.00");
  CHECK(short_masks({{"hidden", 0.4}, {"ffn", 0.401}}) == "masks 0.40");
  CHECK(short_masks({{"hidden", 0.4}, {"ffn", 0.41}, {"heads", 0}}) == "masks C0.40 F0.41 H0.00");
  CHECK(short_masks({{"hidden", 0.4}, {"width", 0.41}}) == "masks C0.40 width 0.41");
}

TEST_CASE("a progress line that is too long loses rate, speed and elapsed time in this order, never the time left",
          "[progress]") {
  step_record r = example();
  const std::string full = progress_line(r, 1200, 130, 200);
  const auto length = static_cast<int>(characters(full));
  CHECK(progress_line(r, 1200, 130, length) == full);
  const std::string no_rate = progress_line(r, 1200, 130, length - 1);
  CHECK_FALSE(has(no_rate, "lr"));
  CHECK(has(no_rate, "tok/s"));
  const std::string no_speed = progress_line(r, 1200, 130, static_cast<int>(characters(no_rate)) - 1);
  CHECK_FALSE(has(no_speed, "tok/s"));
  CHECK(has(no_speed, "1:02, 2:10 left"));
  const std::string no_elapsed = progress_line(r, 1200, 130, static_cast<int>(characters(no_speed)) - 1);
  CHECK(has(no_elapsed, "ffn 0.40  2:10 left"));
  CHECK_FALSE(has(no_elapsed, "1:02"));
}

TEST_CASE("no line is wider than asked, however large its numbers", "[progress]") {
  step_record r = example();
  r.step = 12345678;
  r.loss = 123456;
  r.tokens_per_second = 1e9;
  r.seconds = 1e6;
  r.dims = {{"hidden", 12288}, {"ffn", 49152}, {"heads", 96}, {"kv_heads", 8}, {"layers", 128}};
  r.masks = {{"hidden", 0.1}, {"ffn", 0.2}, {"heads", 0.3}, {"layers", 0.4}};
  for (const int columns : {1, 5, 20, 40, 79, 100}) {
    const std::string line = progress_line(r, 99999999, 1e7, columns);
    CHECK(characters(line) <= static_cast<std::size_t>(columns));
    CHECK(line.find('\n') == std::string::npos);
  }
  r.loss = missing; // the dash is three bytes: a cut leaves it whole or takes all of it
  for (int columns = 1; columns < 60; ++columns) {
    const std::string line = progress_line(r, 99999999, 1e7, columns);
    CHECK((line.empty() || (static_cast<unsigned char>(line.back()) & 0xC0U) != 0xC0U));
  }
}

TEST_CASE("a growth is one line that says what grew and what became of the loss", "[progress]") {
  CHECK(growth_line({example_growth()}) ==
        "growth at step 300: ffn 256 → 512 (mask), loss 2.3456 before, 2.3456 after, difference 0 (same bits)");
  growth_record g = example_growth();
  g.loss_after = g.loss_before + 0x1p-22;
  g.max_abs_logit_diff = 1.5e-6;
  g.bits_equal = false;
  CHECK(has(growth_line({g}), "difference +2.4e-07 (logits within 1.5e-06)"));
  g.loss_after = missing;
  g.max_abs_logit_diff = missing;
  CHECK(has(growth_line({g}), "2.3456 before, – after, difference – (logits not finite)"));
  CHECK(growth_line({}) == "");
}

TEST_CASE("a growth that training decided says why, one at a given step doesn't", "[progress]") {
  growth_record g = example_growth();
  g.trigger = "step";
  g.why = "the step of its trigger";
  g.seen = g.limit = 300;
  CHECK(growth_line({g}) == growth_line({example_growth()}));
  g.trigger = "loss";
  g.why = "mean loss of the window";
  g.seen = 2.39612;
  g.limit = 2.4;
  CHECK(growth_line({g}) == growth_line({example_growth()}) + "\n  because mean loss of the window: 2.396, limit 2.4");
}

TEST_CASE("a trial is one line that says what was tried, what came of it and what it cost", "[progress]") {
  trial_record t{.step = 300,
                 .stage = 1,
                 .candidate = 0,
                 .grows = {{"ffn", 512}, {"layers", 4}},
                 .steps = 30,
                 .loss_before = 3.21,
                 .loss_after = 3.18,
                 .flops = 2.1e12,
                 .seconds = 3};
  CHECK(trial_line(t) == "trial at step 300, stage 2: ffn 512, layers 4, loss 3.2100 → 3.1800 in 30 steps, " +
                             format_flops(2.1e12) + ", " + format_duration(3));
  t.grows.clear();
  t.candidate = -1;
  t.steps = 1;
  t.loss_after = missing;
  CHECK(has(trial_line(t), "stage 2: as it is, loss 3.2100 → – in 1 step, "));
  t.grows = {{"ffn", 512}};
  t.from_scratch = true;
  CHECK(has(trial_line(t), "ffn 512 from scratch, loss"));
  CHECK(to_json(t)["event"] == "curve");
  CHECK_FALSE(to_json(t).contains("candidate"));
}

TEST_CASE("a growth of several axes names them all, and the rule once if it is one", "[progress]") {
  growth_record layers = example_growth();
  layers.axis = "layers";
  layers.from = 2;
  layers.to = 4;
  CHECK(growth_line({example_growth(), layers}) == "growth at step 300: ffn 256 → 512, layers 2 → 4 (mask),\n"
                                                   "  loss 2.3456 before, 2.3456 after, difference 0 (same bits)");
  layers.rule = "stack";
  CHECK(has(growth_line({example_growth(), layers}), "ffn 256 → 512 (mask), layers 2 → 4 (stack)"));
}

TEST_CASE("every part of a growth line fits the width", "[progress]") {
  std::vector<growth_record> axes(4, example_growth());
  axes[0].axis = "hidden";
  axes[2].axis = "heads";
  axes[3].axis = "layers";
  std::istringstream lines(growth_line(axes));
  for (std::string line; std::getline(lines, line);) { CHECK(characters(line) <= 100); }
}

TEST_CASE("the time left follows the compute that is left, not the steps", "[progress]") {
  pace p;
  CHECK(std::isnan(p.seconds_left(100)));
  p.update(0, 0);
  CHECK(std::isnan(p.seconds_left(100)));
  p.update(10, 2); // 5 per second
  CHECK(p.seconds_left(100) == Approx(18));
  CHECK(p.seconds_left(10) == 0);
  CHECK(p.seconds_left(3) == 0); // more was done than planned
  p.update(10, 4);               // nothing done, as while saving
  CHECK(p.seconds_left(100) == Approx(18));
  for (int i = 0; i < 40; ++i) { p.update(10 + 10.0 * i, 4 + i); }
  CHECK(p.seconds_left(500) == Approx((500 - 400) / 10.0).epsilon(0.01)); // the new speed is learnt
}

TEST_CASE("a resumed run takes its speed from all that was done before", "[progress]") {
  pace p;
  p.update(6e12, 120);
  CHECK(p.seconds_left(9e12) == Approx(60));
}

TEST_CASE("log files get one line per log step, with the last validation loss on each", "[progress]") {
  const std::string text = printed({}, [](printer& p) {
    step_record r = example();
    p.step(r, 1200, 1e13);
    r.step = 310;
    r.val_loss.reset();
    p.step(r, 1200, 1e13);
    p.growth({example_growth()});
    p.note("saved");
  });
  std::istringstream lines(text);
  std::vector<std::string> all;
  for (std::string line; std::getline(lines, line);) { all.push_back(line); }
  REQUIRE(all.size() == 4);
  CHECK(has(all[0], " 300/1200  loss 2.346  val 2.401"));
  CHECK(has(all[1], " 310/1200  loss 2.346  val 2.401"));
  CHECK(has(all[2], "growth at step 300"));
  CHECK(all[3] == "saved");
  CHECK_FALSE(has(text, "\033"));
  CHECK_FALSE(has(text, "\r"));
}

TEST_CASE("on a terminal a line is replaced by the next, and stays if it was an evaluation", "[progress]") {
  const terminal_options terminal{.quiet = false, .redraw = true, .columns = 100};
  const std::string text = printed(terminal, [](printer& p) {
    step_record r = example();
    r.val_loss.reset();
    p.step(r, 1200, 1e13);
    r.step = 310;
    r.val_loss = 2.3;
    p.step(r, 1200, 1e13);
    r.step = 320;
    r.val_loss.reset();
    p.step(r, 1200, 1e13);
    p.growth({example_growth()});
  });
  CHECK(text.find(" 300/1200") == 0);
  CHECK(has(text, "left\r\033[K 310/1200"));
  CHECK(has(text, "left\n 320/1200"));
  CHECK(has(text, "left\r\033[Kgrowth at step 300"));
  CHECK(text.back() == '\n');
}

TEST_CASE("a printer that goes away behind an unfinished line ends it, so that an error starts on its own",
          "[progress]") {
  const terminal_options terminal{.quiet = false, .redraw = true, .columns = 100};
  const std::string text = printed(terminal, [](printer& p) {
    step_record r = example();
    r.val_loss.reset();
    p.step(r, 1200, 1e13);
  });
  CHECK(text.back() == '\n');
}

TEST_CASE("the quiet see the summary alone", "[progress]") {
  const std::string text = printed({.quiet = true, .redraw = true}, [](printer& p) {
    p.step(example(), 1200, 1e13);
    p.growth({example_growth()});
    p.note("saved");
    p.summary({.run = example_summary()});
  });
  CHECK(text == summary_text({.run = example_summary()}) + "\n");
}

TEST_CASE("a second run through the same printer takes neither speed nor losses from the first", "[progress]") {
  const std::string text = printed({}, [](printer& p) {
    step_record r = example();
    p.step(r, 1200, 1e13);
    r.step = 0;
    r.flops = r.seconds = 0;
    r.val_loss.reset();
    p.step(r, 600, 1e13);
    r.step = 10;
    r.flops = 1e12;
    r.seconds = 10;
    p.step(r, 600, 1e13);
  });
  CHECK(has(text, "  0/600  loss 2.346  lr"));
  CHECK(has(text, " 10/600  loss 2.346  lr"));
  CHECK(has(text, "0:10, 1:30 left"));
}

TEST_CASE("the time left respects a limit on time", "[progress]") {
  const std::string text = printed({}, [](printer& p) {
    p.step(example(), 1200, 1e15, 100);
    step_record r = example();
    r.seconds = 120;
    p.step(r, 1200, 1e15, 100);
  });
  CHECK(has(text, "1:02, 0:38 left"));
  CHECK(has(text, "2:00, 0:00 left"));
}

TEST_CASE("the summary tells losses, time, tokens, parameters, growths and paths", "[progress]") {
  CHECK(
      summary_text({.run = example_summary(), .checkpoint = "runs/a/step-00001200", .report = "runs/a/report.html"}) ==
      "done\n"
      "  validation loss   5.5500 → 1.4238\n"
      "  bits per byte     2.0541\n"
      "  training time     3:02\n"
      "  tokens            2.46M in 1,200 steps\n"
      "  tokens per second 13.5k\n"
      "  compute           6.40 TFLOP\n"
      "  parameters        81.9k → 819k\n"
      "  growths           3\n"
      "  strictness        loss and logits kept their bits each time\n"
      "  checkpoint        runs/a/step-00001200\n"
      "  report            runs/a/report.html");
}

TEST_CASE("two runs are summed up side by side, with what growth was worth", "[progress]") {
  run_summary other = example_summary();
  other.last_val_loss = 1.4602;
  other.growths = 0;
  other.first_parameters = other.parameters;
  const std::string text = summary_text({.run = example_summary(), .other = other});
  CHECK(has(text, "\n                    with growth            without growth\n"
                  "  validation loss   5.5500 → 1.4238        5.5500 → 1.4602\n"));
  CHECK(has(text, "  parameters        81.9k → 819k           819k\n"));
  CHECK(has(text, "  growths           3                      none\n"));
  CHECK(has(text, "  comparison        with growth ends 0.0364 lower"));
  other.last_val_loss = 1.4;
  CHECK(has(summary_text({.run = example_summary(), .other = other}), "with growth ends 0.0238 higher"));
  other.last_val_loss = 1.4238;
  CHECK(has(summary_text({.run = example_summary(), .other = other}), "with growth and without growth end alike"));
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) { CHECK(characters(line) <= 100); }
}

TEST_CASE("a run that measured nothing is summed up without numbers that are none", "[progress]") {
  const std::string text = summary_text({.run = {}});
  CHECK(has(text, "validation loss   – → –"));
  CHECK_FALSE(has(text, "nan"));
  CHECK_FALSE(has(text, "strictness"));
  CHECK(has(text, "growths           none"));
}

TEST_CASE("a file is no terminal: nothing is redrawn in it", "[progress]") {
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(std::tmpfile(), &std::fclose);
  REQUIRE(file);
  const terminal_options options = terminal_of(file.get(), true);
  CHECK_FALSE(options.redraw);
  CHECK(options.quiet);
  CHECK(options.columns == 100);
}

TEST_CASE("on a terminal lines are redrawn, and end one column before its edge", "[progress]") {
  const int master = ::posix_openpt(O_RDWR | O_NOCTTY);
  REQUIRE(master >= 0);
  REQUIRE(::grantpt(master) == 0);
  REQUIRE(::unlockpt(master) == 0);
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> terminal(std::fopen(::ptsname(master), "w"), &std::fclose);
  REQUIRE(terminal);
  for (const auto& [width, columns] : std::vector<std::pair<int, int>>{{80, 79}, {100, 99}, {101, 100}, {300, 100}}) {
    winsize size{};
    size.ws_col = static_cast<unsigned short>(width);
    REQUIRE(::ioctl(master, TIOCSWINSZ, &size) == 0);
    const terminal_options options = terminal_of(terminal.get(), false);
    CHECK(options.redraw);
    CHECK(options.columns == columns);
  }
  ::close(master);
}
