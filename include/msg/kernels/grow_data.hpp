// What the growth kernel reads of a plan: flags, dimensions and runs, as plain pointers and numbers.
#pragma once

#include <msg/config.hpp>
#include <msg/tensor.hpp>

#include <cstdint>

MSG_NAMESPACE_BEGIN

namespace detail {

// What is known of one position of one dimension; a cell has the union over its dimensions.
enum cell_flag : std::uint16_t {
  fresh_out = 1,    // a fresh unit on an `out` dimension
  fresh_in = 2,     // on an `in` dimension
  fresh_each = 4,   // on an `each` dimension
  newborn = 8,      // moments start at zero
  zero_alone = 16,  // fresh cell is 0 if only one side of it is fresh
  zero_both = 32,   // fresh cell is 0 if both sides are
  zero_always = 64, // the cell is 0 (writers of an identity layer, keys of fresh channels)
  averaged = 128,   // the mean of the old units of this dimension
  donated = 256,    // taken from the next layer
  noise_minus = 512 // noise is subtracted; two of them cancel
};
inline constexpr std::uint16_t fresh_any = fresh_out | fresh_in | fresh_each;

[[nodiscard]] MSG_HOST_DEVICE constexpr std::uint16_t joined_flags(std::uint16_t a, std::uint16_t b) noexcept {
  return static_cast<std::uint16_t>(((a | b) & ~noise_minus) | ((a ^ b) & noise_minus));
}
[[nodiscard]] MSG_HOST_DEVICE constexpr bool is_zero_cell(std::uint16_t flags) noexcept {
  if ((flags & zero_always) != 0) { return true; }
  if ((flags & fresh_any) == 0) { return false; }
  const bool both = (flags & fresh_out) != 0 && (flags & fresh_in) != 0;
  return (flags & (both ? zero_both : zero_alone)) != 0;
}

} // namespace detail

/// A stretch of the inner dimension with consecutive sources and one factor.
struct grow_run {
  index begin = 0; // first new position
  index length = 0;
  index source = -1; // old position of the first; -1: fresh, or a group's
  double split = 1;  // factor of values
  double dual = 1;   // factor of moments
  std::uint16_t flags = 0;
  std::uint8_t filler = 0; // which initialisation fresh cells take, or whose noise
  index donor = -1;        // as source, for donated cells
  index twin = -1;         // position whose noise the first takes; -1: none
  index group = -1;        // whose old units are averaged; -1: none
};

/// Positions of one dimension that average over the same old positions. Group g has member[member_begin[g]...] and is
/// target[target_begin[g]...].
struct grow_groups {
  const index* of = nullptr; // (new positions): group, or -1; null: no groups
  const index* member_begin = nullptr;
  const index* member = nullptr;
  const index* target_begin = nullptr;
  const index* target = nullptr;
  index count = 0, members = 0, targets = 0; // groups, and entries of all of them
};

/// One outer dimension, position by position (arrays of its new size).
struct grow_dimension {
  const index* source = nullptr; // old position, or -1
  const double* split = nullptr; // factor of the payload
  const std::uint16_t* flags = nullptr;
  const std::uint8_t* filler = nullptr;
  const index* donor = nullptr; // old position for donated cells; null: source
  const index* twin = nullptr;  // position whose noise this one takes, or -1; null: none
  grow_groups groups{};
};

namespace detail {

/// Old rows that a run averages over, or new rows that take the result: every combination of one entry for each outer
/// dimension that has a group there.
struct row_combinations {
  const index* first[max_rank - 1] = {}; // entries of a dimension; null: it has no group
  index count[max_rank - 1] = {1, 1, 1};
  index step[max_rank - 1] = {};    // stride of the dimension, in src or dst
  index element[max_rank - 1] = {}; // and in elements of the new tensor
  index start = 0, start_element = 0;

  [[nodiscard]] MSG_HOST_DEVICE index size() const noexcept { return count[0] * count[1] * count[2]; }
  /// Where combination `which` begins, in storage and in elements.
  MSG_HOST_DEVICE void decode(index which, index& offset, index& position) const noexcept {
    offset = start;
    position = start_element;
    for (int d = max_rank - 2; d >= 0; --d) {
      if (first[d] == nullptr) { continue; }
      const bool last = which < count[d]; // saves the division where one dimension alone has a group
      const index entry = first[d][last ? which : which % count[d]];
      which = last ? 0 : which / count[d];
      offset += entry * step[d];
      position += entry * element[d];
    }
  }
};

} // namespace detail

/// A fresh cell's number: constant, or mean + deviation * normal(stream, element); like_units: with the mean of the old
/// units in its place, and `deviation` times theirs.
struct grow_filler {
  double constant = 0;
  double deviation = 0;
  bool like_units = false;
};

inline constexpr int max_fillers = 8;

/// Calls f(pointer, entries) for every array of a plan that a grow_row reads (null ones too), so that an executor can
/// point it at copies elsewhere.
template <class Kernel, class Function>
void each_array(Kernel& kernel, const Function& f) {
  const auto groups = [&f](grow_groups& g, index positions) {
    const bool none = g.count == 0;
    f(g.of, none ? 0 : positions);
    f(g.member_begin, none ? 0 : g.count + 1);
    f(g.member, g.members);
    f(g.target_begin, none ? 0 : g.count + 1);
    f(g.target, g.targets);
  };
  const index inner = kernel.dst.rank - 1;
  for (index d = 0; d < inner; ++d) {
    grow_dimension& dim = kernel.outer[d];
    const index positions = kernel.dst.extent[d];
    f(dim.source, positions);
    f(dim.split, positions);
    f(dim.flags, positions);
    f(dim.filler, positions);
    f(dim.donor, dim.donor == nullptr ? 0 : positions);
    f(dim.twin, dim.twin == nullptr ? 0 : positions);
    groups(dim.groups, positions);
  }
  f(kernel.runs, kernel.run_count);
  groups(kernel.inner_groups, kernel.dst.extent[inner]);
}

MSG_NAMESPACE_END
