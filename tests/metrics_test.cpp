// metrics.jsonl: appended, cut back by a resume, read although a kill tore its last line.
#include "support/catch.hpp"
#include "support/files_faults.hpp"
#include "support/files_support.hpp"

#include "transformer/metrics.hpp"

#include <limits>
#include <string>
#include <vector>

using namespace reference;
using namespace files_test;

namespace {
[[nodiscard]] json step(int number) { return {{"event", "step"}, {"step", number}, {"loss", 0.1 * number}}; }
} // namespace

TEST_CASE("records come back as they were written, and bytes() is the length of the file", "[metrics]") {
  const temporary_folder folder;
  const std::vector<json> records{step(1),
                                  {{"event", "growth"}, {"axis", "ffn"}, {"bits_equal", true}},
                                  {{"event", "end"}, {"text", "two\nlines \"quoted\" \xc3\xa9"}}};
  metrics_writer writer(folder / "metrics.jsonl");
  for (const json& record : records) {
    writer.write(record);
    CHECK(static_cast<std::uintmax_t>(writer.bytes()) ==
          fs::file_size(folder / "metrics.jsonl")); // nothing is held back
  }
  writer.sync();
  CHECK(read_metrics(folder / "metrics.jsonl") == records);
}

TEST_CASE("a number that is not finite becomes null, so that every reader can parse the line", "[metrics]") {
  const temporary_folder folder;
  metrics_writer writer(folder / "m");
  writer.write({{"loss", std::numeric_limits<double>::quiet_NaN()}, {"seconds", 1.0}});
  CHECK(read_bytes(folder / "m") == "{\"loss\":null,\"seconds\":1.0}\n");
}

TEST_CASE("text that is not UTF-8 doesn't stop a run", "[metrics]") {
  const temporary_folder folder;
  metrics_writer writer(folder / "m");
  writer.write({{"path", "a\xff"}});
  CHECK(read_metrics(folder / "m").at(0).at("path") == "a\xef\xbf\xbd");
}

TEST_CASE("a new run starts with an empty file", "[metrics]") {
  const temporary_folder folder;
  write_bytes(folder / "m", "{\"old\":1}\n");
  const metrics_writer writer(folder / "m");
  CHECK(writer.bytes() == 0);
  CHECK(fs::file_size(folder / "m") == 0);
}

TEST_CASE("a resume cuts off what came after its checkpoint and appends there", "[metrics]") {
  const temporary_folder folder;
  msg::index kept = 0;
  {
    metrics_writer writer(folder / "m");
    writer.write(step(1));
    kept = writer.bytes();
    writer.write(step(2));
  }
  write_bytes(folder / "m", read_bytes(folder / "m") + "{\"event\":\"st"); // torn by a kill
  metrics_writer writer(folder / "m", kept);
  CHECK(writer.bytes() == kept);
  writer.write(step(3));
  CHECK(read_metrics(folder / "m") == std::vector<json>{step(1), step(3)});
}

TEST_CASE("a resume without the old metrics starts a new file", "[metrics]") {
  const temporary_folder folder;
  metrics_writer writer(folder / "m", 1000);
  writer.write(step(3));
  CHECK(read_metrics(folder / "m") == std::vector<json>{step(3)});
}

TEST_CASE("a resume refuses metrics that are not those of the checkpoint", "[metrics]") {
  const temporary_folder folder;
  const std::string text = "{\"step\":1}\n{\"step\":2}\n";
  write_bytes(folder / "m", text);
  const std::string path = (folder / "m").string();
  CHECK(input_message([&] { metrics_writer(folder / "m", 100); }) ==
        path + ": expected a line that ends at byte 100, found 22 bytes (without the file, the run resumes and loses "
               "its history)");
  CHECK(input_message([&] { metrics_writer(folder / "m", 5); }) ==
        path + ": expected a line that ends at byte 5, found another text (without the file, the run resumes and loses "
               "its history)");
  CHECK(read_bytes(folder / "m") == text);
}

TEST_CASE("a second writer of the same run is refused before it changes anything", "[metrics]") {
  const temporary_folder folder;
  metrics_writer writer(folder / "m");
  writer.write(step(1));
  CHECK(run_message([&] { metrics_writer(folder / "m"); }) ==
        (folder / "m").string() + ": another process is writing to this run");
  CHECK(read_metrics(folder / "m").size() == 1);
}

TEST_CASE("a full disk is reported, and the lines before it stay whole", "[metrics]") {
  const temporary_folder folder;
  metrics_writer writer(folder / "m");
  writer.write(step(1));
  files_faults::arm(files_faults::action::fail, 1, ENOSPC);
  const std::string message = run_message([&] { writer.write(step(2)); });
  files_faults::disarm();
  CHECK(message == (folder / "m").string() + ": cannot write: No space left on device");
  CHECK(static_cast<std::uintmax_t>(writer.bytes()) == fs::file_size(folder / "m"));
  writer.write(step(3)); // there is room again
  CHECK(read_metrics(folder / "m") == std::vector<json>{step(1), step(3)});
}

TEST_CASE("a failing sync is reported", "[metrics]") {
  const temporary_folder folder;
  const metrics_writer writer(folder / "m");
  files_faults::arm(files_faults::action::fail, 1, EIO);
  const std::string message = run_message([&] { writer.sync(); });
  files_faults::disarm();
  CHECK(message == (folder / "m").string() + ": cannot write: Input/output error");
}

TEST_CASE("metrics that cannot be opened are a failure of the run", "[metrics]") {
  const temporary_folder folder;
  CHECK(run_message([&] { metrics_writer(folder / "no" / "m"); }) ==
        (folder / "no" / "m").string() + ": cannot open: No such file or directory");
}

TEST_CASE("reading leaves out a torn last line, wherever it was torn", "[metrics]") {
  const temporary_folder folder;
  const std::string first = step(1).dump() + "\n";
  const std::string second = step(2).dump() + "\n";
  for (std::size_t length = 0; length <= second.size(); ++length) {
    write_bytes(folder / "m", first + second.substr(0, length));
    CAPTURE(length);
    CHECK(read_metrics(folder / "m").size() == (length == second.size() ? 2U : 1U));
  }
  write_bytes(folder / "m", "");
  CHECK(read_metrics(folder / "m").empty());
}

TEST_CASE("reading names the line that is no JSON object", "[metrics]") {
  const temporary_folder folder;
  const std::string path = (folder / "m").string();
  write_bytes(folder / "m", "{}\n{\"a\":}\n{}\n");
  CHECK(input_message([&] { (void)read_metrics(folder / "m"); }) ==
        containing(path + ": line 2: not valid JSON: parse error at line 1, column 6"));
  write_bytes(folder / "m", "{}\n7\n");
  CHECK(input_message([&] { (void)read_metrics(folder / "m"); }) == path + ": line 2: expected an object, found 7");
  CHECK(input_message([&] { (void)read_metrics(folder / "no"); }) ==
        (folder / "no").string() + ": cannot open: No such file or directory");
}
