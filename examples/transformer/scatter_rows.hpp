// table[which[r]] += dx[r] on a device, without atomics: sums within chunks of rows, then across chunks, both in
// ascending order, so that every run has the same bits; see cuda_backend.cuh.
#pragma once

#include <msg/config.hpp>
#include <msg/tensor.hpp>

#include <cstdint>

namespace reference {

using msg::index;

inline constexpr index scatter_chunk = 128;

/// A row that is the first of its chunk for its place in the table takes the sum of the chunk's rows for that place.
///
/// which   (rows), at least 0
/// dx      (rows, width)
/// sum     (rows, width), written where `place` is
/// place   (rows): which, or -1 where an earlier row of the chunk has the same
template <class T>
struct scatter_within_chunk {
  const std::int32_t* which;
  const T* dx;
  msg::accumulate_t<T>* sum;
  std::int32_t* place;
  index rows;
  index width;

  template <class Team>
  MSG_HOST_DEVICE void operator()(const Team& team, index row) const {
    using A = msg::accumulate_t<T>;
    const index begin = row / scatter_chunk * scatter_chunk;
    const index end = begin + scatter_chunk < rows ? begin + scatter_chunk : rows;
    const std::int32_t* const all = which;
    const std::int32_t mine = which[row];
    const int before = team.sum(row - begin, [=](index r) { return all[begin + r] == mine ? 1 : 0; });
    if (team.rank() == 0) { place[row] = before == 0 ? mine : -1; }
    if (before != 0) { return; }
    const T* const from = dx;
    A* const to = sum + row * width;
    const index step = width;
    team.each(width, [=](index j) {
      A total = A(from[row * step + j]);
      for (index r = row + 1; r < end; ++r) {
        if (all[r] == mine) { total += A(from[r * step + j]); }
      }
      to[j] = total;
    });
  }
};

/// The first row for its place in the table adds up the chunks' sums for that place: table[place[r]] += sum[r].
///
/// table  (any number of rows, width)
template <class T>
struct scatter_across_chunks {
  const std::int32_t* place;
  const msg::accumulate_t<T>* sum;
  T* table;
  index rows;
  index width;

  template <class Team>
  MSG_HOST_DEVICE void operator()(const Team& team, index row) const {
    using A = msg::accumulate_t<T>;
    const std::int32_t mine = place[row];
    if (mine < 0) { return; }
    const std::int32_t* const all = place;
    if (team.sum(row, [=](index r) { return all[r] == mine ? 1 : 0; }) != 0) { return; }
    T* const to = table + static_cast<index>(mine) * width;
    for (index begin = row / scatter_chunk * scatter_chunk; begin < rows; begin += scatter_chunk) {
      const index count = begin + scatter_chunk < rows ? scatter_chunk : rows - begin;
      const index found = team.sum(count, [=](index r) { return all[begin + r] == mine ? begin + r + 1 : index{0}; });
      if (found == 0) { continue; } // one row at most of a chunk is left for a place
      const A* const from = sum + (found - 1) * width;
      team.each(width, [=](index j) { to[j] = T(A(to[j]) + from[j]); });
    }
  }
};

/// Row 0: *to = factor * sum of x, or that added to it.
///
/// x  (count)
template <class T>
struct sum_all {
  const T* x;
  double* to;
  index count;
  double factor;
  bool accumulate;

  template <class Team>
  MSG_HOST_DEVICE void operator()(const Team& team, index) const {
    const T* const from = x;
    const double total = team.sum(count, [=](index i) { return static_cast<double>(from[i]); });
    if (team.rank() == 0) { *to = (accumulate ? *to : 0.0) + factor * total; }
  }
};

} // namespace reference
