// Looks at compiled device code where no disassembler is at hand: no kernel may spill, none may use more registers or
// local memory than a committed list says, and kernels that move packs have loads and stores of 16 bytes.
//
// usage: cubin_check CUBIN LOG LIST      LOG is what ptxas -v said; LIST has lines `REGISTERS STACK packs|- KERNEL`
//        cubin_check --list (CUBIN LOG)...     prints such a list: the most of any, rounded up to what hardware allots
//
// A cubin is an ELF file. The code of a kernel is the section .text.NAME: instructions of 16 bytes with the opcode in
// bits 0 to 11 and, for memory accesses, the size in bits 73 to 75.
#include <cxxabi.h>

#include <algorithm>
#include <cctype>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <fstream>
#include <iterator>
#include <map>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

namespace {

using bytes = std::vector<unsigned char>;

template <class T>
T at(const bytes& file, std::uint64_t offset) {
  if (offset + sizeof(T) > file.size()) { throw std::runtime_error("truncated"); }
  T value;
  std::memcpy(&value, file.data() + offset, sizeof(T));
  return value;
}

struct section {
  std::string name;
  std::uint64_t offset = 0, size = 0;
};

std::vector<section> sections_of(const bytes& file) {
  if (file.size() < 64 || std::memcmp(file.data(), "\177ELF\2\1", 6) != 0) {
    throw std::runtime_error("no 64-bit ELF file");
  }
  const auto table = at<std::uint64_t>(file, 40);
  const auto entry = at<std::uint16_t>(file, 58);
  const auto count = at<std::uint16_t>(file, 60);
  const auto names = at<std::uint64_t>(file, table + std::uint64_t{at<std::uint16_t>(file, 62)} * entry + 24);
  std::vector<section> result;
  for (std::uint64_t s = 0; s < count; ++s) {
    const std::uint64_t header = table + s * entry;
    section found{{}, at<std::uint64_t>(file, header + 24), at<std::uint64_t>(file, header + 32)};
    for (std::uint64_t c = names + at<std::uint32_t>(file, header); at<char>(file, c) != 0; ++c) {
      found.name += at<char>(file, c);
    }
    result.push_back(std::move(found));
  }
  return result;
}

struct kernel {
  int wide_loads = 0, wide_stores = 0; // of 16 bytes, global or generic
  int local = 0;                       // accesses of local memory
  int registers = 0;
  int stack = -1; // bytes; -1: the log does not say
  int spills = 0; // bytes
};

kernel decode(const bytes& file, const section& text) {
  kernel result;
  for (std::uint64_t i = text.offset; i + 16 <= text.offset + text.size; i += 16) {
    const unsigned opcode = at<std::uint16_t>(file, i) & 0xFFFU;
    const bool wide = (at<std::uint32_t>(file, i + 8) >> 9 & 7U) >= 6; // 0 to 3: bytes and halves, 4: 4, 5: 8, 6: 16
    switch (opcode) {
      case 0x381: // LDG
      case 0x981:
      case 0x980: result.wide_loads += wide ? 1 : 0; break; // LD
      case 0x386:                                           // STG
      case 0x986:
      case 0x385: // ST
      case 0x985: result.wide_stores += wide ? 1 : 0; break;
      case 0x383: // LDL
      case 0x983:
      case 0x387: // STL
      case 0x987: ++result.local; break;
      default: break;
    }
  }
  return result;
}

/// What a kernel is called in the list: the functor that rows_kernel runs.
std::string name_of(const std::string& symbol) {
  int status = 0;
  char* const text = abi::__cxa_demangle(symbol.c_str(), nullptr, nullptr, &status);
  std::string name = status == 0 ? text : symbol;
  std::free(text);
  const std::size_t begin = name.find("rows_kernel<");
  const std::size_t end = name.find(", std::integer_sequence");
  if (begin != std::string::npos && end != std::string::npos) { name = name.substr(begin + 12, end - begin - 12); }
  for (const std::string prefix : {"msg::v0::", "cuda::detail::"}) {
    for (std::size_t i = name.find(prefix); i != std::string::npos; i = name.find(prefix)) {
      name.erase(i, prefix.size());
    }
  }
  return name;
}

/// Number before `word` in a line, -1 if there is none.
int number_before(const std::string& line, const std::string& word) {
  std::size_t end = line.find(" " + word);
  if (end == std::string::npos) { return -1; }
  std::size_t begin = end;
  while (begin > 0 && std::isdigit(static_cast<unsigned char>(line[begin - 1])) != 0) { --begin; }
  return begin == end ? -1 : std::stoi(line.substr(begin, end - begin));
}

std::map<std::string, kernel> kernels_of(const char* cubin, const char* log) {
  std::ifstream in(cubin, std::ios::binary);
  const bytes file{std::istreambuf_iterator<char>(in), {}};
  std::map<std::string, kernel> result;
  for (const section& s : sections_of(file)) {
    if (s.name.rfind(".text.", 0) == 0) { result[name_of(s.name.substr(6))] = decode(file, s); }
  }
  std::ifstream text(log);
  kernel* current = nullptr;
  for (std::string line; std::getline(text, line);) {
    const std::size_t quote = line.find('\'');
    if (line.find("Compiling entry function") != std::string::npos && quote != std::string::npos) {
      const auto found = result.find(name_of(line.substr(quote + 1, line.find('\'', quote + 1) - quote - 1)));
      current = found == result.end() ? nullptr : &found->second;
    }
    if (current == nullptr) { continue; }
    if (const int bytes_of_stack = number_before(line, "bytes stack frame"); bytes_of_stack >= 0) {
      current->stack = bytes_of_stack;
      current->spills = number_before(line, "bytes spill stores") + number_before(line, "bytes spill loads");
    }
    if (const int registers = number_before(line, "registers"); registers >= 0) { current->registers = registers; }
  }
  if (result.empty()) { throw std::runtime_error(std::string("no kernel in ") + cubin); }
  return result;
}

struct limit {
  int registers = 0;
  int stack = 0; // bytes
  bool packs = false;
};

int print_list(int count, char** files) {
  std::map<std::string, limit> all;
  for (int f = 2; f + 1 < count; f += 2) {
    for (const auto& [name, k] : kernels_of(files[f], files[f + 1])) {
      const auto entry = all.try_emplace(name, limit{0, 0, true}).first;
      entry->second.registers = std::max(entry->second.registers, (k.registers + 7) / 8 * 8);
      entry->second.stack = std::max(entry->second.stack, k.stack);
      entry->second.packs = entry->second.packs && k.wide_loads > 0 && k.wide_stores > 0;
    }
  }
  for (const auto& [name, l] : all) {
    std::printf("%3d %3d %-5s %s\n", l.registers, l.stack, l.packs ? "packs" : "-", name.c_str());
  }
  return 0;
}

int check(const char* cubin, const char* log, const char* list) {
  std::map<std::string, limit> limits;
  std::ifstream in(list);
  for (std::string line; std::getline(in, line);) {
    if (line.empty() || line[0] == '#') { continue; }
    std::istringstream words(line);
    limit l;
    std::string packs, name;
    words >> l.registers >> l.stack >> packs >> std::ws;
    std::getline(words, name);
    l.packs = packs == "packs";
    limits[name] = l;
  }
  int faults = 0;
  const auto fault = [&](const std::string& name, const std::string& text) {
    std::printf("%s: %s\n", name.c_str(), text.c_str());
    ++faults;
  };
  const auto kernels = kernels_of(cubin, log);
  for (const auto& [name, k] : kernels) {
    const auto found = limits.find(name);
    if (found == limits.end()) {
      fault(name, "not in the list");
      continue;
    }
    if (k.stack < 0 || k.stack > found->second.stack || (k.local != 0 && found->second.stack == 0)) {
      fault(name, std::to_string(k.stack) + " bytes of stack, at most " + std::to_string(found->second.stack) + "; " +
                      std::to_string(k.local) + " accesses of local memory");
    }
    if (k.spills != 0) { fault(name, std::to_string(k.spills) + " bytes of registers are spilled"); }
    if (k.registers == 0 || k.registers > found->second.registers) {
      fault(name, std::to_string(k.registers) + " registers, at most " + std::to_string(found->second.registers));
    }
    if (found->second.packs && (k.wide_loads == 0 || k.wide_stores == 0)) {
      fault(name, std::to_string(k.wide_loads) + " loads and " + std::to_string(k.wide_stores) + " stores of 16 bytes");
    }
  }
  for (const auto& [name, l] : limits) {
    if (kernels.count(name) == 0) { fault(name, "in the list, but not in the code"); }
  }
  std::printf("%zu kernels, %d faults\n", kernels.size(), faults);
  return faults == 0 ? 0 : 1;
}

} // namespace

int main(int count, char** arguments) try {
  if (count > 3 && std::string(arguments[1]) == "--list") { return print_list(count, arguments); }
  if (count == 4) { return check(arguments[1], arguments[2], arguments[3]); }
  std::fprintf(stderr, "usage: cubin_check CUBIN LOG LIST, or --list (CUBIN LOG)...\n");
  return 2;
} catch (const std::exception& e) {
  std::fprintf(stderr, "cubin_check: %s\n", e.what());
  return 1;
}
