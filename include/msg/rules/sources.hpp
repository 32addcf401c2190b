// Which old unit a new unit copies, and how the copies of one unit share what reads it: what the rules have in common.
#pragma once

#include <msg/random.hpp>
#include <msg/request.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

MSG_NAMESPACE_BEGIN

/// Old unit that a new unit is a copy of: with interleaved placement the one before it, else the old units in turn
/// (layers: 0..L-1 stacked again on top). Old units stand for themselves. Query heads are copied from the group whose
/// key-value head their group has, and a fresh group copies every head of it; where the key-value head is fresh, from
/// any head.
///
/// draw   where the numbers of random sources come from; null: in turn
[[nodiscard]] inline std::vector<index> copied_from(const rule_request& asked, const random_stream* draw = nullptr) {
  std::vector<index> source = asked.old_of;
  const head_grouping& groups = asked.groups;
  index before = 0;
  index turn = 0;
  index first_in_turn = 0; // fresh heads of a group that go in turn in any case
  const auto next = [&](std::size_t position, index count) {
    if (draw == nullptr || turn < first_in_turn) { return turn++ % count; }
    return static_cast<index>(random_bits(*draw, position)) % count;
  };
  for (std::size_t j = 0; j < source.size(); ++j) {
    const auto unit = static_cast<index>(j);
    const bool grouped = groups.old_size != 0;
    const index group = grouped ? groups.source[j / static_cast<std::size_t>(groups.new_size)] : fresh_unit;
    if (group >= 0 && unit % groups.new_size == 0) {
      const auto first = asked.old_of.begin() + unit;
      const bool has_old = std::any_of(first, first + groups.new_size, [](index u) { return u != fresh_unit; });
      turn = 0;
      first_in_turn = has_old ? 0 : groups.old_size;
    }
    if (source[j] != fresh_unit) {
      before = source[j];
    } else if (group >= 0) {
      const index within =
          asked.interleaved ? unit % groups.new_size * groups.old_size / groups.new_size : next(j, groups.old_size);
      source[j] = group * groups.old_size + within;
    } else {
      source[j] = asked.interleaved ? before : next(j, asked.old_size);
    }
  }
  return source;
}

/// 1 where a position holds no old unit.
[[nodiscard]] inline std::vector<std::uint8_t> new_positions(const std::vector<index>& old_of) {
  std::vector<std::uint8_t> flags;
  flags.reserve(old_of.size());
  for (const index unit : old_of) { flags.push_back(unit == fresh_unit ? 1 : 0); }
  return flags;
}

/// How the copies of a unit share its outgoing weight.
struct even {};
/// The first copy gets `first` of it, in (0, 1); the others share the rest evenly. Equal copies drift apart this way.
struct uneven {
  double first = 0.75;
};
struct copy_split {
  double first = 0; // 0: evenly
  constexpr copy_split() = default;
  constexpr copy_split(even) {}                      // NOLINT(google-explicit-constructor)
  constexpr copy_split(uneven u) : first(u.first) {} // NOLINT(google-explicit-constructor)
};

/// Copies of each old unit; one entry per old unit.
[[nodiscard]] inline std::vector<index> copy_counts(const std::vector<index>& source, index old_size) {
  std::vector<index> count(static_cast<std::size_t>(old_size), 0);
  for (const index unit : source) { ++count[static_cast<std::size_t>(unit)]; }
  return count;
}
[[nodiscard]] inline bool all_equal(const std::vector<index>& counts) {
  return std::adjacent_find(counts.begin(), counts.end(), [](index a, index b) { return a != b; }) == counts.end();
}

/// Splits of copies, 1 in sum over the copies of each unit. Query heads: the split of their key-value head, shared by
/// the copies of one head within its group, so that the gradient of a key-value head splits as its heads do.
[[nodiscard]] inline std::vector<double> splits_of(const std::vector<index>& source, const rule_request& asked,
                                                   copy_split how) {
  const auto size = static_cast<index>(source.size());
  const index span = asked.groups.old_size == 0 ? size : asked.groups.new_size;
  std::vector<double> split(source.size(), 1);
  for (index begin = 0; begin < size; begin += span) {
    const auto first = static_cast<std::size_t>(begin);
    const std::vector<index> here(source.begin() + begin, source.begin() + begin + span);
    const double share = asked.groups.old_size == 0 ? 1 : asked.groups.split[first / static_cast<std::size_t>(span)];
    const std::vector<index> count = copy_counts(here, asked.old_size);
    std::vector<bool> seen(count.size(), false);
    for (std::size_t k = 0; k < here.size(); ++k) {
      const auto u = static_cast<std::size_t>(here[k]);
      const auto n = static_cast<double>(count[u]);
      const double part = how.first == 0 || count[u] == 1 ? 1 / n : seen[u] ? (1 - how.first) / (n - 1) : how.first;
      split[first + k] = share * part;
      seen[u] = true;
    }
  }
  return split;
}

/// Copies of one unit in pairs: first and second, third and fourth, ...; fresh_unit for one without a partner.
[[nodiscard]] inline std::vector<index> partners_of(const std::vector<index>& source, index old_size) {
  std::vector<index> partner(source.size(), fresh_unit);
  std::vector<index> waiting(static_cast<std::size_t>(old_size), fresh_unit);
  for (std::size_t j = 0; j < source.size(); ++j) {
    index& other = waiting[static_cast<std::size_t>(source[j])];
    if (other == fresh_unit) {
      other = static_cast<index>(j);
    } else {
      partner[j] = other;
      partner[static_cast<std::size_t>(other)] = static_cast<index>(j);
      other = fresh_unit;
    }
  }
  return partner;
}

MSG_NAMESPACE_END
