// Files and folders that appear whole or not at all: on a full disk, with failing calls, and killed at every call.
#include "support/catch.hpp"
#include "support/files_faults.hpp"
#include "support/files_processes.hpp"
#include "support/files_support.hpp"

#include "transformer/atomic_file.hpp"
#include "transformer/run_directory.hpp"

#include <string>
#include <vector>

using namespace reference;
using namespace files_test;
using files_faults::action;

namespace {

void write_folder(const fs::path& folder, const std::string& text) {
  write_folder_atomically(folder, [&](const fs::path& temporary) {
    for (const std::string name : {"one", "two"}) {
      output_file out(temporary / name);
      out.write(text);
      out.finish();
    }
  });
}
[[nodiscard]] std::string folder_text(const fs::path& folder) {
  const std::string one = read_bytes(folder / "one");
  return one == read_bytes(folder / "two") ? one : "torn";
}

} // namespace

TEST_CASE("a file is replaced as a whole and leaves no temporary", "[atomic_file]") {
  const temporary_folder folder;
  write_file_atomically(folder / "latest", "old");
  write_file_atomically(folder / "latest", "new and longer");
  CHECK(read_bytes(folder / "latest") == "new and longer");
  CHECK(names_in(folder.path()) == std::vector<std::string>{"latest"});
}

TEST_CASE("a relative path without a folder is written in the current one", "[atomic_file]") {
  const temporary_folder folder;
  const fs::path before = fs::current_path();
  fs::current_path(folder.path());
  write_file_atomically("alone", "text");
  fs::current_path(before);
  CHECK(read_bytes(folder / "alone") == "text");
}

TEST_CASE("a folder is replaced as a whole, whether or not one was there", "[atomic_file]") {
  const temporary_folder folder;
  write_folder(folder / "f", "old");
  CHECK(folder_text(folder / "f") == "old");
  write_folder(folder / "f", "new");
  CHECK(folder_text(folder / "f") == "new");
  CHECK(names_in(folder.path()) == std::vector<std::string>{"f"});
}

TEST_CASE("a folder is replaced where names cannot be exchanged", "[atomic_file]") {
  const temporary_folder folder;
  bool refused = false;
  for (long call = 1; !refused; ++call) {
    write_folder(folder / "f", "old");
    files_faults::arm(action::fail, call, EINVAL);
    const std::string message = run_message([&] { write_folder(folder / "f", "new"); });
    files_faults::disarm();
    REQUIRE_FALSE(files_faults::now.hit.empty());
    refused = files_faults::now.hit == "renameat2";
    if (refused) { CHECK(message == "no exception"); }
  }
  CHECK(folder_text(folder / "f") == "new");
  CHECK(names_in(folder.path()) == std::vector<std::string>{"f"});
}

TEST_CASE("a full disk is reported with path and reason", "[atomic_file]") {
  output_file out("/dev/full");
  CHECK(run_message([&] { out.write("text"); }) == "/dev/full: cannot write: No space left on device");
}

TEST_CASE("a file that cannot be created is reported with path and reason", "[atomic_file]") {
  const temporary_folder folder;
  CHECK(run_message([&] { output_file{folder / "no" / "file"}; }) ==
        (folder / "no" / "file").string() + ": cannot create: No such file or directory");
  CHECK(run_message([&] { write_folder(folder / "no" / "f", "x"); }) ==
        (folder / "no" / ".tmp-f").string() + ": cannot create: No such file or directory");
}

TEST_CASE("a write that stops at a limit keeps the old file and leaves nothing else", "[atomic_file]") {
  const temporary_folder folder;
  write_file_atomically(folder / "file", "old");
  write_folder(folder / "f", "old");
  const std::string large(10'000, 'x');
  std::string file_message;
  std::string folder_message;
  {
    const file_size_limit limit(4096);
    file_message = run_message([&] { write_file_atomically(folder / "file", large); });
    folder_message = run_message([&] { write_folder(folder / "f", large); });
  }
  CHECK(file_message == (folder / ".tmp-file").string() + ": cannot write: File too large");
  CHECK(folder_message == (folder / ".tmp-f" / "one").string() + ": cannot write: File too large");
  CHECK(read_bytes(folder / "file") == "old");
  CHECK(folder_text(folder / "f") == "old");
  CHECK(names_in(folder.path()) == std::vector<std::string>{"f", "file"});
}

TEST_CASE("whichever call fails, a replaced file is old or new and the error says why", "[atomic_file]") {
  const auto [error, reason] = GENERATE(table<int, std::string>(
      {{ENOSPC, "No space left on device"}, {EIO, "Input/output error"}, {EDQUOT, "Disk quota exceeded"}}));
  const temporary_folder folder;
  std::vector<std::string> failed;
  for (long call = 1;; ++call) {
    write_file_atomically(folder / "file", "old");
    files_faults::arm(action::fail, call, error);
    const std::string message = run_message([&] { write_file_atomically(folder / "file", "new"); });
    files_faults::disarm();
    if (files_faults::now.hit.empty()) { break; }
    CAPTURE(call, files_faults::now.hit);
    const std::string text = read_bytes(folder / "file");
    CHECK((text == "old" || text == "new"));
    CHECK(names_in(folder.path()) == std::vector<std::string>{"file"});
    if (message == "no exception") {
      CHECK(text == "new");
    } else {
      failed.emplace_back(files_faults::now.hit);
      CHECK(message == containing(reason));
      CHECK(message == containing(folder.path().string()));
    }
  }
  // The write, its fsync, the close and the rename of the file, and the fsync of the folder; nothing rests on the close
  // of the folder.
  CHECK(failed == std::vector<std::string>{"write", "fsync", "close", "rename", "fsync"});
}

TEST_CASE("an interrupted call is taken up again", "[atomic_file]") {
  const temporary_folder folder;
  for (long call = 1;; ++call) {
    files_faults::arm(action::fail, call, EINTR);
    const std::string message = run_message([&] { write_file_atomically(folder / "file", "new"); });
    files_faults::disarm();
    if (files_faults::now.hit.empty()) { break; }
    CAPTURE(call, files_faults::now.hit);
    if (files_faults::now.hit == "rename") { continue; } // which never is interrupted
    CHECK(message == "no exception");
    CHECK(read_bytes(folder / "file") == "new");
  }
}

TEST_CASE("killed at any call, a file is old or new", "[atomic_file]") {
  const temporary_folder folder;
  long call = 1;
  for (;; ++call) {
    write_file_atomically(folder / "file", "old");
    const bool killed = killed_at(call, [&] { write_file_atomically(folder / "file", "new"); });
    const std::string text = read_bytes(folder / "file");
    CAPTURE(call);
    CHECK((text == "old" || text == "new"));
    remove_temporaries(folder.path());
    CHECK(names_in(folder.path()) == std::vector<std::string>{"file"});
    if (!killed) { break; }
  }
  CHECK(call > 5);
}

TEST_CASE("killed at any call, a folder is old or new", "[atomic_file]") {
  const temporary_folder folder;
  long call = 1;
  for (;; ++call) {
    write_folder(folder / "f", "old");
    const bool killed = killed_at(call, [&] { write_folder(folder / "f", "new"); });
    const std::string text = folder_text(folder / "f");
    CAPTURE(call);
    CHECK((text == "old" || text == "new"));
    remove_temporaries(folder.path());
    CHECK(names_in(folder.path()) == std::vector<std::string>{"f"});
    if (!killed) { break; }
  }
  CHECK(call > 9);
}

TEST_CASE("data is on the disk before the name that stands for it", "[atomic_file]") {
  const temporary_folder folder;
  const auto calls_of = [](const auto& act) {
    files_faults::arm(action::count);
    act();
    files_faults::disarm();
    return files_faults::now.sequence;
  };
  CHECK(calls_of([&] { write_file_atomically(folder / "file", "text"); }) == "write fsync close rename fsync close");
  CHECK(calls_of([&] { write_folder(folder / "f", "text"); }) == // two files, their folder, its name, the parent
        "write fsync close write fsync close fsync close rename fsync close");
}

TEST_CASE("leftovers of killed runs are removed and nothing else", "[atomic_file]") {
  const temporary_folder folder;
  fs::create_directories(folder / ".tmp-step-00000010" / "deep");
  write_bytes(folder / ".tmp-latest", "x");
  write_bytes(folder / ".hidden", "x");
  write_bytes(folder / "tmp-file", "x");
  prepare_run_directory(folder.path());
  CHECK(names_in(folder.path()) == std::vector<std::string>{".hidden", "tmp-file"});
}

TEST_CASE("a run directory is created with its parents, and a file in its place is an error", "[atomic_file]") {
  const temporary_folder folder;
  prepare_run_directory(folder / "a" / "b");
  CHECK(fs::is_directory(folder / "a" / "b"));
  write_bytes(folder / "file", "x");
  CHECK(run_message([&] { prepare_run_directory(folder / "file"); }) ==
        (folder / "file").string() + ": cannot create: Not a directory");
}
