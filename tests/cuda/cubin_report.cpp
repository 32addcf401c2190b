// Reads a cubin, where no disassembler is at hand: for each kernel its registers and stack, and how many global, local and
// generic memory accesses of each width its code has.
//
// usage: cubin_report FILE.cubin...      one line a kernel: name registers stack ldg16 ldg8 ldg4 ldg<4 stg16 ... local
//
// A cubin is an ELF file. The code of a kernel is the section .text.NAME: instructions of 16 bytes with the opcode in
// bits 0 to 11 and, for memory accesses, the size in bits 73 to 75. Registers and stack are in .nv.info.
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <exception>
#include <fstream>
#include <iterator>
#include <map>
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
  std::uint32_t type = 0;
  std::uint64_t offset = 0, size = 0, info = 0;
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
    section found{{},
                  at<std::uint32_t>(file, header + 4),
                  at<std::uint64_t>(file, header + 24),
                  at<std::uint64_t>(file, header + 32),
                  at<std::uint32_t>(file, header + 44)};
    for (std::uint64_t c = names + at<std::uint32_t>(file, header); at<char>(file, c) != 0; ++c) {
      found.name += at<char>(file, c);
    }
    result.push_back(std::move(found));
  }
  return result;
}

/// Accesses by width: 16 bytes and more, 8, 4, less.
struct accesses {
  int width[4] = {0, 0, 0, 0};
};
struct kernel {
  accesses load, store;
  int local = 0;
  unsigned registers = 0;
  unsigned instructions = 0;
};

kernel decode(const bytes& file, const section& text) {
  kernel result;
  for (std::uint64_t i = text.offset; i + 16 <= text.offset + text.size; i += 16) {
    const unsigned opcode = at<std::uint16_t>(file, i) & 0xFFFU;
    const unsigned size = at<std::uint32_t>(file, i + 8) >> 9 & 7U; // 0 to 3: bytes and halves, 4: 4, 5: 8, 6: 16
    const int width = size == 6 ? 0 : size == 5 ? 1 : size == 4 ? 2 : 3;
    ++result.instructions;
    switch (opcode) {
      case 0x381:
      case 0x981:
      case 0x980: ++result.load.width[width]; break; // LDG, LD
      case 0x386:
      case 0x986:
      case 0x385:
      case 0x985: ++result.store.width[width]; break; // STG, ST
      case 0x383:
      case 0x983:
      case 0x387:
      case 0x987: ++result.local; break; // LDL, STL
      default: break;
    }
  }
  result.registers = static_cast<unsigned>(text.info >> 24); // in the section's info word
  return result;
}

} // namespace

int main(int count, char** files) try {
  for (int f = 1; f < count; ++f) {
    std::ifstream in(files[f], std::ios::binary);
    const bytes file{std::istreambuf_iterator<char>(in), {}};
    for (const section& s : sections_of(file)) {
      if (s.name.rfind(".text.", 0) != 0) { continue; }
      const kernel k = decode(file, s);
      std::printf("%s registers %u instructions %u load", s.name.c_str() + 6, k.registers, k.instructions);
      for (const int n : k.load.width) { std::printf(" %d", n); }
      std::printf(" store");
      for (const int n : k.store.width) { std::printf(" %d", n); }
      std::printf(" local %d\n", k.local);
    }
  }
  return 0;
} catch (const std::exception& e) {
  std::fprintf(stderr, "cubin_report: %s\n", e.what());
  return 1;
}
