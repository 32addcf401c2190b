// The model's kernels beside attention's and the loss's, against plain loops: logits' shift, embeddings, rotary
// positions, moves of rows, dropout, experts, sums of everything.
#include "kernels/rows.hpp"
#include "support/catch.hpp"
#include "transformer/dropout.hpp"
#include "transformer/experts.hpp"
#include "transformer/ops.hpp"
#include "transformer/scatter_rows.hpp"

#include <cmath>
#include <cstdint>
#include <vector>

using msg::index;
using rows::at;

namespace {

using real = long double;
using numbers = std::vector<std::int32_t>;

constexpr index row_count = 5;
constexpr index guard = 3; // elements behind an array that nobody may write
const std::vector<index> widths{1, 31, 32, 33, 63, 64, 65, 127};
const rows::device on;

/// How many of the elements behind `size` are not what they were: NaN.
template <class T>
[[nodiscard]] index written_behind(const std::vector<T>& values, index size) {
  index count = 0;
  for (std::size_t i = at(size); i < values.size(); ++i) { count += std::isnan(values[i]) ? 0 : 1; }
  return count;
}
template <class T>
[[nodiscard]] std::vector<T> unwritten(index size) {
  return std::vector<T>(at(size + guard), rows::nan<T>);
}

} // namespace

TEMPLATE_TEST_CASE("logits are shifted by bias and log of the mask, and hidden tokens are out, whatever they hold",
                   "[kernels][model]", float, double) {
  using T = TestType;
  const auto classes = GENERATE(from_range(widths));
  const bool biased = GENERATE(false, true);
  for (const rows::named_mask& m : rows::masks(classes)) {
    CAPTURE(classes, biased, m.name);
    auto bias = rows::normal<T>(classes, 1);
    auto logits = rows::normal<T>(row_count * classes, 2);
    for (index i = 0; i < row_count * classes; ++i) {
      if (m.mask(i % classes) == 0) { bias[at(i % classes)] = logits[at(i)] = rows::nan<T>; }
    }
    auto shift = unwritten<T>(classes);
    on.run(1, classes,
           reference::logit_shift_row<T>{biased ? bias.data() : nullptr, shift.data(), classes, m.mask.view()});
    auto shifted = logits;
    on.run(row_count, classes, reference::shift_logits<T>{shifted.data(), shift.data(), classes});
    index wrong = written_behind(shift, classes);
    rows::distance off;
    for (index i = 0; i < row_count * classes; ++i) {
      const index j = i % classes;
      if (m.mask(j) == 0) {
        wrong += shift[at(j)] == -rows::infinity<T> && shifted[at(i)] == -rows::infinity<T> ? 0 : 1;
      } else {
        const real log = std::log(m.mask(j));
        const real exact = log + (biased ? static_cast<real>(bias[at(j)]) : 0.0L);
        // a logarithm is within an ulp, and the sum is rounded
        off.add(shift[at(j)], exact, rows::epsilon<T> * (std::abs(log) + std::abs(exact)));
        wrong += shifted[at(i)] == logits[at(i)] + shift[at(j)] ? 0 : 1; // one addition: the same bits
      }
    }
    CHECK(wrong == 0);
    CHECK(off.worst() <= 1);
  }
}

TEMPLATE_TEST_CASE("an embedding is the sum of its word, its type and its place", "[kernels][model]", float, double) {
  using T = TestType;
  const auto width = GENERATE(from_range(widths));
  const int tables = GENERATE(1, 2, 3);
  CAPTURE(width, tables);
  const auto words = rows::normal<T>(7 * width, 1);
  const auto places = rows::normal<T>(row_count * width, 2);
  const auto types = rows::normal<T>(2 * width, 3);
  const numbers token{6, 0, 3, 6, 1}, type{0, 1, 1, 0, 1}, place{0, 1, 4, 0, 2};
  auto x = unwritten<T>(row_count * width);
  on.run(row_count, width,
         reference::embedding_forward<T>{words.data(), tables > 2 ? types.data() : nullptr,
                                         tables > 1 ? places.data() : nullptr, token.data(), type.data(), place.data(),
                                         x.data(), width});
  rows::distance off;
  for (index i = 0; i < row_count * width; ++i) {
    const auto entry = [&](const std::vector<T>& table, const numbers& which) {
      return static_cast<real>(table[at(which[at(i / width)] * width + i % width)]);
    };
    const real word = entry(words, token);
    const real by_place = tables > 1 ? entry(places, place) : 0.0L;
    const real by_type = tables > 2 ? entry(types, type) : 0.0L;
    // a copy is exact; two additions round twice
    const real size = std::abs(word) + std::abs(by_place) + std::abs(by_type);
    off.add(x[at(i)], word + by_type + by_place, tables == 1 ? 0.0L : rows::epsilon<T> * size);
  }
  CHECK(off.worst() <= 1);
  CHECK(written_behind(x, row_count * width) == 0);
}

TEMPLATE_TEST_CASE("rotary positions turn pairs of every head, and nothing else", "[kernels][model]", float, double) {
  using T = TestType;
  const auto half = GENERATE(from_range(widths));
  const int direction = GENERATE(1, -1);
  CAPTURE(half, direction);
  constexpr index heads = 3;
  const index stride = heads * 2 * half + 2;
  const numbers place{2, 0, 3, 1, 2};
  std::vector<T> cosines, sines;
  for (const T angle : rows::normal<T>(4 * half, 1, 0, 2)) {
    cosines.push_back(std::cos(angle));
    sines.push_back(std::sin(angle));
  }
  const auto before = rows::normal<T>(row_count * stride, 2);
  auto x = before;
  on.run(row_count, heads * half,
         reference::rotary_row<T>{x.data(), cosines.data(), sines.data(), place.data(), heads, 2 * half, stride,
                                  direction});
  rows::distance off;
  for (index i = 0; i < row_count * stride; ++i) {
    const index j = i % stride;
    if (j >= heads * 2 * half) { // columns of others
      off.add(x[at(i)], static_cast<real>(before[at(i)]), 0);
      continue;
    }
    const bool low = j % (2 * half) < half;
    const std::size_t angle = at(place[at(i / stride)] * half + j % half);
    const real kept = static_cast<real>(before[at(i)]) * static_cast<real>(cosines[angle]);
    const real other = static_cast<real>(before[at(low ? i + half : i - half)]) * static_cast<real>(sines[angle]);
    const real turned = direction * (low ? -other : other);
    // two products and a sum, half an epsilon each
    off.add(x[at(i)], kept + turned, rows::epsilon<T> * (std::abs(kept) + std::abs(turned)));
  }
  CHECK(off.worst() <= 1);
}

TEST_CASE("rows are gathered, zeros where there is none, and scattered by adding", "[kernels][model]") {
  const auto width = GENERATE(from_range(widths));
  CAPTURE(width);
  const auto from = rows::normal<float>(row_count * width, 1);
  const numbers which{4, -1, 0, 4, 2};
  auto to = unwritten<float>(row_count * width);
  on.run(row_count, width, reference::gather_row<float>{from.data(), which.data(), to.data(), width});
  auto copy = unwritten<float>(row_count * width);
  on.run(row_count, width, reference::gather_row<float>{from.data(), nullptr, copy.data(), width});
  const numbers places{6, 2, 0, 5, 3};
  const auto before = rows::normal<float>(7 * width, 2);
  auto sums = before;
  auto expected = before;
  on.run(row_count, width, reference::scatter_row<float>{from.data(), places.data(), sums.data(), width});
  index wrong = written_behind(to, row_count * width) + written_behind(copy, row_count * width);
  for (index i = 0; i < row_count * width; ++i) {
    const index row = which[at(i / width)];
    wrong += to[at(i)] == (row < 0 ? 0.0F : from[at(row * width + i % width)]) ? 0 : 1;
    wrong += copy[at(i)] == from[at(i)] ? 0 : 1;
    expected[at(places[at(i / width)] * width + i % width)] += from[at(i)]; // one addition: the same bits
  }
  CHECK(wrong == 0);
  CHECK(rows::differing(sums, expected) == 0);
}

TEMPLATE_TEST_CASE("dropout leaves out the units that its words say and scales the others", "[kernels][model]", float,
                   double) {
  using T = TestType;
  const auto width = GENERATE(from_range(widths));
  CAPTURE(width);
  const reference::dropped_units units({.rate = 0.3, .seed = 5, .step = 2}, reference::dropout_place::after_ffn, 1);
  const auto from = rows::normal<T>(row_count * width, 1);
  auto to = unwritten<T>(row_count * width);
  on.run(row_count, width, reference::drop_row<T>{units, from.data(), to.data(), width});
  auto same = from;
  on.run(row_count, width, reference::drop_row<T>{units, same.data(), same.data(), width});
  index wrong = written_behind(to, row_count * width);
  for (index i = 0; i < row_count * width; ++i) {
    const index j = i % width;
    const bool out = units.words(i / width, j / 4).word[j % 4] < units.below;
    const T expected = out ? T(0) : static_cast<T>(units.scale) * from[at(i)];
    wrong += to[at(i)] == expected ? 0 : 1;
    wrong += same[at(i)] == expected ? 0 : 1;
  }
  CHECK(wrong == 0);
}

TEMPLATE_TEST_CASE("a token goes to its experts of greatest masked logits, with the softmax over these",
                   "[kernels][experts]", float, double) {
  using T = TestType;
  const auto experts = GENERATE(index{1}, index{2}, index{8}, index{31}, index{32}, index{33}, index{65});
  const auto chosen = GENERATE(index{1}, index{2}, index{3});
  for (const rows::named_mask& m : rows::masks(experts)) {
    index alive = 0;
    for (index e = 0; e < experts; ++e) { alive += m.mask(e) == 0 ? 0 : 1; }
    if (alive < chosen) { continue; }
    CAPTURE(experts, chosen, m.name);
    auto logits = rows::normal<T>(row_count * experts, 1, 0, 2);
    for (index e = 0; e < experts; ++e) { // the last row: all alike
      logits[at((row_count - 1) * experts + e)] = T(0.5);
      for (index r = 0; m.mask(e) == 0 && r < row_count; ++r) { logits[at(r * experts + e)] = rows::nan<T>; }
    }
    numbers choice(at(row_count * chosen + guard), -7);
    auto gate = unwritten<T>(row_count * chosen);
    on.run(row_count, experts,
           reference::choose_experts<T>{logits.data(), choice.data(), gate.data(), experts, chosen, m.mask.view()});
    const auto dgate = rows::normal<T>(row_count * chosen, 2);
    auto dlogits = unwritten<T>(row_count * experts);
    on.run(row_count, experts,
           reference::choose_experts_backward<T>{choice.data(), gate.data(), dgate.data(), dlogits.data(), experts,
                                                 chosen});
    index wrong = written_behind(gate, row_count * chosen) + written_behind(dlogits, row_count * experts);
    for (index k = row_count * chosen; k < row_count * chosen + guard; ++k) { wrong += choice[at(k)] == -7 ? 0 : 1; }
    rows::distance gates, slopes;
    for (index r = 0; r < row_count; ++r) {
      const auto value = [&](index e) {
        return m.mask(e) == 0 ? -rows::infinity<real>
                              : static_cast<real>(logits[at(r * experts + e)]) + std::log(m.mask(e));
      };
      std::vector<index> best;
      real sum = 0, mean = 0, room = 0;
      for (index k = 0; k < chosen; ++k) {
        index found = -1;
        for (index e = 0; e < experts; ++e) {
          bool free = true;
          for (const index taken : best) { free = free && e != taken; }
          if (free && (found < 0 || value(e) > value(found))) { found = e; }
        }
        best.push_back(found);
        sum += std::exp(value(found) - value(best[0]));
      }
      std::vector<real> expected(at(experts), 0);
      std::vector<real> bound(at(experts), 0);
      // the difference of two values of at most 10, logarithms within an ulp; two exponentials, a sum, a division
      const real epsilon = static_cast<real>(rows::epsilon<T>);
      for (index k = 0; k < chosen; ++k) {
        const real p = std::exp(value(best[at(k)]) - value(best[0])) / sum;
        wrong += choice[at(r * chosen + k)] == best[at(k)] ? 0 : 1;
        gates.add(gate[at(r * chosen + k)], p, 50 * epsilon * p);
        mean += p * static_cast<real>(dgate[at(r * chosen + k)]);
        room += p * std::abs(static_cast<real>(dgate[at(r * chosen + k)]));
        expected[at(best[at(k)])] = p;
      }
      for (index k = 0; k < chosen; ++k) { // gates that are off by as much, and the roundings of a few more operations
        const real p = expected[at(best[at(k)])];
        const real slope = static_cast<real>(dgate[at(r * chosen + k)]);
        expected[at(best[at(k)])] = p * (slope - mean);
        bound[at(best[at(k)])] = 60 * epsilon * p * (std::abs(slope) + room);
      }
      for (index e = 0; e < experts; ++e) { slopes.add(dlogits[at(r * experts + e)], expected[at(e)], bound[at(e)]); }
    }
    CHECK(wrong == 0);
    CHECK(gates.worst() <= 1);
    CHECK(slopes.worst() <= 1);
  }
}

TEMPLATE_TEST_CASE("slots are summed by their gates, and their gradients are those of the sum", "[kernels][experts]",
                   float, double) {
  using T = TestType;
  const auto width = GENERATE(from_range(widths));
  const auto chosen = GENERATE(index{1}, index{3});
  CAPTURE(width, chosen);
  const index slots = row_count * chosen;
  numbers slot;
  for (index i = 0; i < slots; ++i) { slot.push_back(static_cast<std::int32_t>((7 * i + 3) % slots)); }
  const auto x = rows::normal<T>(slots * width, 1);
  const auto gate = rows::normal<T>(slots, 2);
  const auto before = rows::normal<T>(row_count * width, 3);
  for (const bool gated : {false, true}) {
    for (const bool accumulate : {false, true}) {
      CAPTURE(gated, accumulate);
      auto y = accumulate ? before : std::vector<T>(before.size(), rows::nan<T>);
      on.run(row_count, width,
             reference::sum_slots<T>{x.data(), slot.data(), gated ? gate.data() : nullptr, y.data(), chosen, width,
                                     accumulate});
      rows::distance off;
      for (index i = 0; i < row_count * width; ++i) {
        real sum = accumulate ? static_cast<real>(before[at(i)]) : 0.0L;
        real size = std::abs(sum);
        for (index k = i / width * chosen; k < (i / width + 1) * chosen; ++k) {
          const real term = (gated ? static_cast<real>(gate[at(k)]) : 1.0L) *
                            static_cast<real>(x[at(slot[at(k)] * width + i % width)]);
          sum += term;
          size += std::abs(term);
        }
        // a product and a sum for each slot, half an epsilon each
        off.add(y[at(i)], sum, chosen * static_cast<real>(rows::epsilon<T>) * size);
      }
      CHECK(off.worst() <= 1);
    }
  }
  auto dx = x;
  dx.resize(dx.size() + guard, rows::nan<T>);
  auto dgate = unwritten<T>(slots);
  on.run(row_count, width,
         reference::sum_slots_backward<T>{before.data(), dx.data(), slot.data(), gate.data(), dgate.data(), chosen,
                                          width});
  index wrong = written_behind(dx, slots * width) + written_behind(dgate, slots);
  rows::distance off;
  for (index k = 0; k < slots; ++k) {
    real sum = 0, size = 0;
    for (index j = 0; j < width; ++j) {
      const T slope = before[at(k / chosen * width + j)];
      const std::size_t own = at(slot[at(k)] * width + j);
      sum += static_cast<real>(slope) * static_cast<real>(x[own]);
      size += std::abs(static_cast<real>(slope) * static_cast<real>(x[own]));
      wrong += dx[own] == gate[at(k)] * slope ? 0 : 1; // one product: the same bits
    }
    // of 16 lanes: a product and a sum for each element, and four levels of joining
    off.add(dgate[at(k)], sum, static_cast<real>(width / 16 + 5) * static_cast<real>(rows::epsilon<T>) * size);
  }
  CHECK(wrong == 0);
  CHECK(off.worst() <= 1);
}

TEMPLATE_TEST_CASE("everything is summed in double, and added on request", "[kernels][model]", float, double) {
  const auto count = GENERATE(index{0}, index{1}, index{31}, index{32}, index{33}, index{65}, index{1000});
  const bool accumulate = GENERATE(false, true);
  CAPTURE(count, accumulate);
  const auto x = rows::normal<TestType>(count, 1, 3);
  double sum = accumulate ? 2 : rows::nan<double>;
  on.run(1, count, reference::sum_all<TestType>{x.data(), &sum, count, 0.25, accumulate});
  real exact = 0, size = 0;
  for (const TestType value : x) {
    exact += 0.25L * static_cast<real>(value);
    size += 0.25L * std::abs(static_cast<real>(value));
  }
  if (accumulate) { exact += 2; }
  rows::distance off; // count / 16 additions in a lane, four levels of joining, and one more
  off.add(sum, exact, static_cast<real>(count / 16 + 6) / 2 * rows::epsilon<double> * (size + 2));
  CHECK(off.worst() <= 1);
}
