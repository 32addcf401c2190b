// Safetensors files made by hand, sound or not, for the tests of the reader and the writer.
#pragma once

#include "support/files_support.hpp"

#include "transformer/safetensors.hpp"

#include <cstring>
#include <map>
#include <string>
#include <utility>
#include <vector>

namespace files_test {

[[nodiscard]] inline std::string prefixed(std::uint64_t length, const std::string& rest) {
  std::string bytes(8, '\0');
  std::memcpy(bytes.data(), &length, 8);
  return bytes + rest;
}
[[nodiscard]] inline std::string file_of(const std::string& header, std::size_t data_bytes = 0) {
  return prefixed(header.size(), header + std::string(data_bytes, '\0'));
}
/// What a user sees when a file of these bytes is opened, without the path.
[[nodiscard]] inline std::string refusal(const std::string& bytes) {
  const temporary_folder folder;
  const auto path = folder / "t.safetensors";
  write_bytes(path, bytes);
  const std::string message = input_message([&] { reference::safetensors_file{path}; });
  const std::string start = path.string() + ": ";
  return message.starts_with(start) ? message.substr(start.size()) : "without the path: " + message;
}
/// The same for a bad header.
[[nodiscard]] inline std::string header_refusal(const std::string& header, std::size_t data_bytes = 0) {
  const std::string message = refusal(file_of(header, data_bytes));
  const std::string start = "not a valid safetensors header: ";
  return message.starts_with(start) ? message.substr(start.size()) : "another message: " + message;
}
/// A header of one tensor `t`.
[[nodiscard]] inline std::string tensor(const std::string& type, const std::string& shape, const std::string& offsets) {
  return R"({"t":{"dtype":")" + type + R"(","shape":)" + shape + R"(,"data_offsets":)" + offsets + "}}";
}
[[nodiscard]] inline reference::safetensors_file opened(const temporary_folder& folder, const std::string& bytes) {
  write_bytes(folder / "t.safetensors", bytes);
  return reference::safetensors_file{folder / "t.safetensors"};
}
[[nodiscard]] inline std::string written(std::vector<reference::tensor_source> tensors,
                                         const std::map<std::string, std::string>& metadata) {
  const temporary_folder folder;
  reference::output_file out(folder / "t.safetensors");
  reference::write_safetensors(out, std::move(tensors), metadata);
  out.finish();
  return read_bytes(folder / "t.safetensors");
}
[[nodiscard]] inline std::string repeated(const std::string& text, int times) {
  std::string all;
  for (int i = 0; i < times; ++i) { all += text; }
  return all;
}

} // namespace files_test
