// Text that was tokenised elsewhere: the token files of llm.c and the headerless ones of nanoGPT.
#pragma once

#include "transformer/data_files.hpp"
#include "transformer/file_io.hpp"
#include "transformer/token_store.hpp"

#include <fmt/format.h>

#include <bit>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

static_assert(std::endian::native == std::endian::little, "token files are little-endian, and read as they are");

namespace reference {

/// The ids of all token files, one file after another in the order of their relative paths.
struct token_files {
  token_store ids{};
  std::vector<text_files::file> files{}; // begin and size count ids
  std::string hash{};
  index vocab = 0; // of the tokenizer the files are made with, as far as the format tells; 0 if it does not
};

namespace data_detail {

// Source: karpathy/llm.c, dataloader.h and dev/data/data_common.py: 256 int32, then the ids.
struct token_format {
  std::int32_t magic;
  std::int32_t version;
  index bytes; // of one id
  index vocab;
  const char* name;
};
inline constexpr token_format token_formats[] = {{20240520, 1, 2, 50257, "llm.c's tokens of GPT-2"},
                                                 {20240801, 7, 4, 128256, "llm.c's tokens of Llama 3"}};
inline constexpr index token_header_bytes = 1024;

[[nodiscard]] inline const token_format* format_of(const input_file& file) {
  std::int32_t magic = 0;
  if (file.size_bytes() < sizeof magic) { return nullptr; }
  file.read_at(0, std::as_writable_bytes(std::span{&magic, 1}));
  for (const token_format& format : token_formats) {
    if (format.magic == magic) { return &format; }
  }
  return nullptr;
}

// Checks the sizes that the header promises; returns the number of ids.
inline index count_tokens(const input_file& file, const token_format* format) {
  const std::string path = file.path().string();
  const auto size = static_cast<index>(file.size_bytes());
  if (format == nullptr) {
    if (size % 2 != 0) {
      throw input_error(
          fmt::format("{}: expected uint16 token ids (no header), found an odd number of bytes, {}", path, size));
    }
    return size / 2;
  }
  if (size < token_header_bytes) {
    throw input_error(fmt::format("{}: expected a header of {} bytes ({}), found {} bytes", path, token_header_bytes,
                                  format->name, size));
  }
  std::int32_t header[3] = {};
  file.read_at(0, std::as_writable_bytes(std::span{header}));
  if (header[1] != format->version) {
    throw input_error(
        fmt::format("{}: expected version {} ({}), found {}", path, format->version, format->name, header[1]));
  }
  const index count = header[2];
  if (count < 0 || size != token_header_bytes + count * format->bytes) {
    throw input_error(fmt::format("{}: expected {} + {} * {} bytes, as the header says, found {}", path,
                                  token_header_bytes, format->bytes, count, size));
  }
  return count;
}

} // namespace data_detail

/// The token files at a path, sorted: the file itself if its name ends in .bin or it begins as one of llm.c's; of a
/// folder all files below whose names end in .bin. Nothing: the path holds text.
[[nodiscard]] inline std::vector<std::string> token_file_names(const std::string& path) {
  namespace fs = std::filesystem;
  std::error_code ignored;
  if (fs::is_regular_file(path, ignored)) {
    const bool named = fs::path(path).extension() == ".bin";
    return named || data_detail::format_of(input_file(path)) != nullptr ? std::vector<std::string>{std::string{}}
                                                                        : std::vector<std::string>{};
  }
  std::vector<std::string> names;
  if (!fs::is_directory(path, ignored)) { return names; }
  index unreadable = 0;
  names = data_detail::list_files(path, unreadable);
  std::erase_if(names, [](const std::string& name) { return !name.ends_with(".bin"); });
  return names;
}

/// Reads token files, all of one format. Throws input_error for a header that does not fit the file, for no tokens, and
/// for ids from `vocab` on (0: what the format says).
[[nodiscard]] inline token_files read_token_files(const std::string& path, const std::vector<std::string>& names,
                                                  index vocab) {
  token_files result;
  std::optional<const data_detail::token_format*> first;
  token_store::middle middle;
  token_store::wide wide;
  index total = 0;
  std::uint64_t all = data_detail::fnv_start;
  for (const std::string& name : names) {
    const input_file file(name.empty() ? std::filesystem::path(path) : std::filesystem::path(path) / name);
    const data_detail::token_format* format = data_detail::format_of(file);
    const index count = data_detail::count_tokens(file, format);
    if (first && *first != format) {
      throw input_error(fmt::format("{}: expected {}, as in the files before it, found {}", file.path().string(),
                                    *first == nullptr ? "uint16 ids without header" : (*first)->name,
                                    format == nullptr ? "no header" : format->name));
    }
    first = format;
    const bool four = format != nullptr && format->bytes == 4;
    const auto place = static_cast<std::size_t>(total);
    const auto more = static_cast<std::size_t>(count);
    const auto read = [&](auto& ids) {
      ids.resize(place + more);
      const auto bytes = std::as_writable_bytes(std::span{ids}.subspan(place));
      file.read_at(format == nullptr ? 0 : std::uint64_t{data_detail::token_header_bytes}, bytes);
      all = data_detail::mix(data_detail::fnv(name, all), data_detail::fnv(bytes.data(), bytes.size()));
    };
    if (four) {
      read(wide);
    } else {
      read(middle);
    }
    if (format != nullptr) { result.vocab = format->vocab; }
    if (count > 0) { result.files.push_back({name, total, count}); }
    total += count;
  }
  if (total == 0) { throw input_error(path + ": no tokens in it"); }
  result.ids = wide.empty() ? token_store(std::move(middle)) : token_store(std::move(wide));
  result.hash = fmt::format("{:016x}", all);
  const index limit = vocab > 0 ? vocab : result.vocab;
  if (const index bad = limit > 0 ? result.ids.first_outside(limit) : -1; bad >= 0) {
    const auto in =
        std::find_if(result.files.rbegin(), result.files.rend(), [&](const auto& f) { return f.begin <= bad; });
    throw input_error(fmt::format("{}{}{}: token {}: expected an id below {}, the vocabulary, found {}", path,
                                  in->name.empty() ? "" : "/", in->name, bad - in->begin, limit,
                                  static_cast<std::uint32_t>(result.ids[bad])));
  }
  if (result.vocab == 0) { result.vocab = result.ids.least_vocabulary(); }
  return result;
}

} // namespace reference
