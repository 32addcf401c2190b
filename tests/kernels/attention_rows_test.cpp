// The kernels between attention's batched products, and those of losses and scattered sums, against plain loops.
#include "kernels/rows.hpp"
#include "support/catch.hpp"
#include "transformer/attention_rows.hpp"
#include "transformer/ops.hpp"
#include "transformer/scatter_rows.hpp"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

using msg::index;
using reference::attention_shape;
using reference::head_batch;
using rows::at;

namespace {

struct attention_case {
  attention_shape shape;
  std::vector<std::int32_t> lengths;
  std::vector<float> heads;
  index first, rows; // queries
};

/// Groups, a causal order or padding, heads on, half on and off; queries from the middle on; weights left out.
std::vector<attention_case> cases() {
  const reference::dropped_units drop({.rate = 0.3, .seed = 5, .step = 2}, reference::dropout_place::attention, 1);
  return {{{2, 5, 4, 2, 3}, {}, {}, 0, 5},
          {{2, 37, 2, 2, 3}, {}, {1, 0.5F}, 16, 17},
          {{2, 37, 4, 2, 3}, {3, 37}, {0, 1, 0.25F, 0}, 20, 17},
          {{3, 33, 3, 1, 2, false}, {33, 1, 0}, {}, 0, 33},
          {{1, 70, 2, 2, 2, false}, {64}, {1, 1}, 60, 10},
          {{2, 70, 4, 2, 3, true, nullptr, drop}, {}, {1, 0, 0.5F, 1}, 31, 35},
          {{2, 33, 2, 1, 2, false, nullptr, drop}, {33, 18}, {}, 0, 33}};
}

/// Keys that a query sees; 0 where it is padding, or its head off.
index seen_by(const attention_case& c, index sequence, index head, index query) {
  const index length = c.lengths.empty() ? c.shape.tokens : c.lengths[at(sequence)];
  if (query >= length || (!c.heads.empty() && c.heads[at(head)] == 0.0F)) { return 0; }
  return c.shape.causal ? query + 1 : length;
}
template <class T>
long double scale_of(const attention_case& c) {
  return static_cast<T>(1 / std::sqrt(static_cast<double>(c.shape.head_dim)));
}

/// What dropout makes of a weight of 1.
long double left_of(const attention_shape& s, index sequence, index head, index query, index key) {
  if (!s.drop) { return 1; }
  const bool out = s.drop.words(s.weights_row(sequence, head, query), key / 4).word[key % 4] < s.drop.below;
  return out ? 0.0L : static_cast<long double>(s.drop.scale);
}

/// Calls f(row of scores, sequence, head, query) as head_batch numbers them: by member, sequence, head of keys.
template <class Function>
void for_each_row(const attention_case& c, const Function& f) {
  index row = 0;
  for (index member = 0; member < c.shape.group(); ++member) {
    for (index sequence = 0; sequence < c.shape.batch; ++sequence) {
      for (index kv = 0; kv < c.shape.kv_heads; ++kv) {
        for (index r = 0; r < c.rows; ++r) { f(row++, sequence, kv * c.shape.group() + member, c.first + r); }
      }
    }
  }
}

/// The largest number of each row, as the last member of a team knows it.
struct find_largest {
  const double* x;
  double* largest;
  index width;
  template <class Team>
  void operator()(const Team& team, index row) const {
    const double found = reference::row_maximum(team, x + row * width, width);
    if (team.rank() == team.size() - 1) { largest[row] = found; }
  }
};

} // namespace

TEMPLATE_TEST_CASE("attention's weights and gradients are those of a softmax", "[kernels][attention]", float, double) {
  using T = TestType;
  for (const attention_case& c : cases()) {
    attention_shape s = c.shape;
    s.lengths = c.lengths.empty() ? nullptr : c.lengths.data();
    const head_batch b{s, 0, s.batch, c.first, c.rows};
    const index keys = b.keys();
    const index count = b.items() * c.rows;
    const rows::unit_mask heads = c.heads.empty() ? rows::unit_mask() : rows::unit_mask(c.heads);
    auto scores = rows::normal<T>(count * keys, 1, 0, 3);
    auto slopes = rows::normal<T>(count * keys, 2);
    const auto out = rows::normal<T>(s.batch * s.tokens * s.width(), 3);
    const auto dout = rows::normal<T>(s.batch * s.tokens * s.width(), 4);
    for_each_row(c, [&](index row, index sequence, index head, index query) { // what nobody sees may be anything
      for (index j = seen_by(c, sequence, head, query); j < keys; ++j) {
        scores[at(row * keys + j)] = rows::nan<T>;
        slopes[at(row * keys + j)] = rows::nan<T>;
      }
    });
    std::vector<T> log_sum(at(s.batch * s.heads * s.tokens), rows::nan<T>);
    std::vector<T> weights = scores;
    std::vector<T> again = scores;
    std::vector<T> gradients = slopes;
    rows::device{}.run(count, keys, reference::attention_weights<T>{b, heads.view(), weights.data(), log_sum.data()});
    rows::device{}.run(count, keys,
                       reference::attention_gradients<T>{b, heads.view(), again.data(), gradients.data(), out.data(),
                                                         dout.data(), log_sum.data()});
    rows::distance off;
    for_each_row(c, [&](index row, index sequence, index head, index query) {
      const index seen = seen_by(c, sequence, head, query);
      const long double gate = c.heads.empty() ? 1.0L : static_cast<long double>(c.heads[at(head)]);
      const long double scale = scale_of<T>(c);
      const auto score = [&](index j) { return scale * static_cast<long double>(scores[at(row * keys + j)]); };
      long double most = -rows::infinity<long double>;
      for (index j = 0; j < seen; ++j) { most = std::max(most, score(j)); }
      long double sum = 0;
      for (index j = 0; j < seen; ++j) { sum += std::exp(score(j) - most); }
      long double mean = 0;
      const index corner = (sequence * s.tokens + query) * s.width() + head * s.head_dim;
      for (index d = 0; d < s.head_dim; ++d) {
        mean += static_cast<long double>(out[at(corner + d)]) * static_cast<long double>(dout[at(corner + d)]);
      }
      // an exponent of up to 20 carries 20 rounding errors into exp; the sum, of `seen` of them, as many more
      const long double relative =
          (60.0L + static_cast<long double>(seen)) * static_cast<long double>(rows::epsilon<T>);
      for (index j = 0; j < keys; ++j) {
        const std::size_t i = at(row * keys + j);
        const long double p = j < seen ? std::exp(score(j) - most) / sum : 0.0L;
        const long double awake = gate * left_of(s, sequence, head, query, j);
        const long double slope = j < seen ? awake * static_cast<long double>(slopes[i]) - mean : 0.0L;
        const long double room =
            j < seen ? std::abs(awake * static_cast<long double>(slopes[i])) + s.head_dim * 10.0L : 0.0L;
        off.add(weights[i], awake * p, relative * awake * p);
        off.add(again[i], awake * p, relative * awake * p);
        off.add(gradients[i], scale * p * slope, relative * scale * p * room);
      }
      if (seen > 0) {
        off.add(log_sum[at((sequence * s.heads + head) * s.tokens + query)], most + std::log(sum),
                relative * (1 + std::abs(most)));
      }
    });
    CAPTURE(s.tokens, s.heads, s.kv_heads, s.causal, s.drop.below);
    CHECK(off.worst() <= 1);
  }
}

TEST_CASE("tables hold where each head of each sequence begins", "[kernels][attention]") {
  const attention_shape s{3, 4, 6, 2, 5};
  const head_batch b{s, 1, 2, 0, 4}; // the last two sequences
  const rows::unit_mask heads({1, 1, 0.5F, 1, 0, 1});
  const std::vector<double> zeros(1);
  const std::vector<double> memory(1);
  const double* const start = memory.data();
  std::vector<const double*> by_query(at(b.items())), by_key(at(b.items())), by_item(at(b.items()));
  rows::device{}.run(3, b.items(),
                     reference::head_tables<double, 3>{b,
                                                       heads.view(),
                                                       zeros.data(),
                                                       {{by_query.data(), start, 1000, 10, 0, false, true},
                                                        {by_key.data(), start, 1000, 10, 0, true},
                                                        {by_item.data(), start, 0, 0, 7, false}}});
  index item = 0;
  for (index member = 0; member < 3; ++member) {
    for (index sequence = 1; sequence < 3; ++sequence) {
      for (index kv = 0; kv < 2; ++kv, ++item) {
        const index head = kv * 3 + member;
        if (head == 4) { // off
          CHECK(by_query[at(item)] == zeros.data());
        } else {
          CHECK(by_query[at(item)] - start == 1000 * sequence + 10 * head);
        }
        CHECK(by_key[at(item)] - start == 1000 * sequence + 10 * kv);
        CHECK(by_item[at(item)] - start == 7 * item);
      }
    }
  }
}

TEMPLATE_TEST_CASE("losses and their gradients are those of a softmax over the classes", "[kernels][loss]", float,
                   double) {
  using T = TestType;
  const index classes = GENERATE(1, 2, 15, 17, 33, 300);
  CAPTURE(classes);
  constexpr index count = 3;
  const auto logits = rows::normal<T>(count * classes, 5, 0, 3);
  const std::vector<std::int32_t> target{0, -1, static_cast<std::int32_t>(classes - 1)};
  std::vector<T> loss(count, rows::nan<T>), log_sum(count, rows::nan<T>);
  auto slopes = logits;
  rows::device{}.run(
      count, classes,
      reference::cross_entropy_forward<T>{logits.data(), target.data(), loss.data(), log_sum.data(), classes});
  rows::device{}.run(
      count, classes,
      reference::cross_entropy_backward<T>{slopes.data(), target.data(), log_sum.data(), T(0.5), classes});
  rows::distance off;
  for (index r = 0; r < count; ++r) {
    const auto logit = [&](index j) { return static_cast<long double>(logits[at(r * classes + j)]); };
    long double sum = 0;
    for (index j = 0; j < classes; ++j) { sum += std::exp(logit(j)); }
    // exponents up to 20, and `classes` terms in a sum
    const long double relative =
        (60.0L + static_cast<long double>(classes)) * static_cast<long double>(rows::epsilon<T>);
    const bool counts = target[at(r)] >= 0;
    off.add(log_sum[at(r)], std::log(sum), relative * (10 + std::abs(std::log(sum))));
    off.add(loss[at(r)], counts ? std::log(sum) - logit(target[at(r)]) : 0.0L, counts ? relative * 30 : 0.0L);
    for (index j = 0; j < classes; ++j) {
      const long double p = std::exp(logit(j)) / sum;
      const long double exact = counts ? 0.5L * (p - (j == target[at(r)] ? 1.0L : 0.0L)) : 0.0L;
      off.add(slopes[at(r * classes + j)], exact, counts ? relative * (p + (j == target[at(r)] ? 1.0L : 0.0L)) : 0.0L);
    }
  }
  CHECK(off.worst() <= 1);
}

TEST_CASE("the largest number of a row is found wherever it stands", "[kernels][loss]") {
  for (const index width : {0, 1, 15, 16, 17, 40}) {
    std::vector<double> x(at((width + 1) * width), -3.0);
    for (index i = 0; i < width; ++i) { x[at(i * width + i)] = -1.0; } // in row i at i
    std::vector<double> largest(at(width + 1));
    rows::device{}.run(width + 1, width, find_largest{x.data(), largest.data(), width});
    for (index r = 0; r <= width; ++r) {
      CAPTURE(width, r);
      CHECK(largest[at(r)] == (r < width ? -1.0 : width == 0 ? -rows::infinity<double> : -3.0));
    }
  }
}

TEST_CASE("sums scattered over two launches are those of a loop", "[kernels][scatter]") {
  const index count = GENERATE(0, 1, 129, 257);
  constexpr index width = 17;
  constexpr std::int32_t places = 7;
  std::vector<std::int32_t> which(at(count));
  for (index r = 0; r < count; ++r) { which[at(r)] = static_cast<std::int32_t>(r * r % places); }
  const auto dx = rows::normal<double>(count * width, 6);
  std::vector<double> table(at(places * width), 1.0);
  std::vector<double> expected = table;
  for (index i = 0; i < count * width; ++i) { expected[at(which[at(i / width)] * width + i % width)] += dx[at(i)]; }
  std::vector<double> sums(at(count * width), rows::nan<double>);
  std::vector<std::int32_t> place(at(count), -7);
  rows::device{}.run(
      count, width,
      reference::scatter_within_chunk<double>{which.data(), dx.data(), sums.data(), place.data(), count, width});
  rows::device{}.run(count, width,
                     reference::scatter_across_chunks<double>{place.data(), sums.data(), table.data(), count, width});
  rows::distance off;
  for (std::size_t i = 0; i < table.size(); ++i) { // 257 terms below 5
    off.add(table[i], static_cast<long double>(expected[i]), 257 * 5 * rows::epsilon<double>);
  }
  CHECK(off.worst() <= 1);
}
