// Which part of the data is held out: whole files, or blocks of them where there are too few.
#pragma once

#include "transformer/data_files.hpp"

#include <algorithm>
#include <cstdint>
#include <vector>

namespace reference::data_detail {

// A file, or a block of one: what the split holds out or not.
struct unit {
  std::size_t file = 0;
  index begin = 0;
  index size = 0;
  std::uint64_t hash = 0;
  bool held_out = false;
};

// Marks units in the order of their hash until 5 % of the bytes are held out, passing over those that would make it
// more than 10 %, and never more than half of the units. Returns the bytes held out.
inline index hold_out(std::vector<unit>& units, index total) {
  std::vector<std::size_t> order(units.size());
  for (std::size_t i = 0; i < order.size(); ++i) { order[i] = i; }
  std::sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
    return units[a].hash != units[b].hash ? units[a].hash < units[b].hash : a < b;
  });
  index held = 0;
  std::size_t count = 0;
  for (const std::size_t i : order) {
    if (held * 20 >= total || (count + 1) * 2 > units.size()) { break; }
    if ((held + units[i].size) * 10 > total) { continue; }
    units[i].held_out = true;
    held += units[i].size;
    ++count;
  }
  return held;
}

// For text of so few blocks that each is more than a tenth: the first by hash, if another is left to train on.
inline void hold_out_one(std::vector<unit>& units) {
  const auto first =
      std::min_element(units.begin(), units.end(), [](const unit& a, const unit& b) { return a.hash < b.hash; });
  first->held_out = units.size() > 1;
}

[[nodiscard]] inline std::vector<unit> file_units(const std::vector<text_files::file>& files) {
  std::vector<unit> units;
  for (std::size_t f = 0; f < files.size(); ++f) {
    units.push_back({f, files[f].begin, files[f].size, mix(fnv(files[f].name))});
  }
  return units;
}

[[nodiscard]] inline std::vector<unit> block_units(const std::vector<text_files::file>& files, index total, index seq) {
  const index block = std::max(std::min(total / 32, index{65536}), seq + 1);
  std::vector<unit> units;
  for (std::size_t f = 0; f < files.size(); ++f) {
    for (index at = 0; at < files[f].size; at += block) {
      const std::uint64_t hash = mix(fnv(files[f].name), static_cast<std::uint64_t>(at / block));
      units.push_back({f, files[f].begin + at, std::min(block, files[f].size - at), hash});
    }
  }
  return units;
}

// How the data is divided: units in the order of the files.
struct division {
  std::vector<unit> units;
  bool by_file = true; // whole files are held out; else blocks of files
};

// total, seq  in the units of the files' sizes: bytes of text, ids of token files
[[nodiscard]] inline division divide(const std::vector<text_files::file>& files, index total, index seq) {
  division result{file_units(files)};
  result.by_file = hold_out(result.units, total) * 50 >= total;
  if (!result.by_file) {
    result.units = block_units(files, total, seq);
    if (hold_out(result.units, total) == 0) { hold_out_one(result.units); }
  }
  return result;
}

// Token files are often divided already, and say so in their names: those with "val" are held out, if others are left.
inline void hold_out_named(division& result, const std::vector<text_files::file>& files) {
  const auto named = [](const text_files::file& f) { return f.name.find("val") != std::string::npos; };
  const auto count = std::count_if(files.begin(), files.end(), named);
  if (count == 0 || count == static_cast<std::ptrdiff_t>(files.size())) { return; }
  result = {file_units(files)};
  for (unit& u : result.units) { u.held_out = named(files[u.file]); }
}

// Calls visit(begin, size, units, file) for the stretches of one side: neighbouring units of one file are one stretch.
template <class Visit>
void each_stretch(const std::vector<unit>& units, bool held_out, const Visit& visit) {
  for (std::size_t i = 0; i < units.size();) {
    std::size_t last = i + 1;
    index size = units[i].size;
    while (last < units.size() && units[last].file == units[i].file && units[last].held_out == units[i].held_out) {
      size += units[last++].size;
    }
    if (units[i].held_out == held_out) { visit(units[i].begin, size, static_cast<index>(last - i), units[i].file); }
    i = last;
  }
}

} // namespace reference::data_detail
