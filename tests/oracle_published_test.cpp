// The published operators by themselves, without the library: what each keeps, how well, and what breaks it. They are
// the measure for the library's presets, so they are measured first.
#include "support/catch.hpp"
#include "support/published_compare.hpp"
#include "support/published_growth.hpp"

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

using namespace published;

namespace {

std::vector<double> mask(index old, index size, double c) {
  std::vector<double> m(static_cast<std::size_t>(size), c);
  std::fill_n(m.begin(), old, 1.0);
  return m;
}

void multiply(model& m, const std::string& name, real factor) {
  for (real& one : m.numbers.at(name)) { one *= factor; }
}

/// Largest difference of the gradient of the grown model to what the law of duals says.
double dual_error(const model& old, const model& now, const growth& g, const setting& how = {}, real gain_factor = 1) {
  const model slopes{old.size, gradient(old)};
  const model expected = grown(slopes, g, gain_factor, number::moment1);
  double worst = 0;
  for (const auto& [name, found] : gradient(now, how)) {
    worst = std::max(worst, apart(found, expected.numbers.at(name)));
  }
  return worst;
}
// gradients run in double, through about twice as many operations of the same sizes as `between` counts
double gradient_bound(const distance& d) { return 4 * d.bound * std::numeric_limits<double>::epsilon(); }

} // namespace

TEST_CASE("the schema a user writes and the table of the papers' arrays agree", "[published]") {
  for (const family kind : families) {
    for (const bool tied : {true, false}) {
      for (const index experts : {0, 3}) {
        sizes s = small(kind, tied);
        s.experts = kind == family::llama ? experts : 0;
        const msg::schema written = schema_of(s);
        const std::vector<form> arrays = forms(s);
        REQUIRE(written.diagnose().empty());
        REQUIRE(written.parameters().size() == arrays.size());
        for (std::size_t i = 0; i < arrays.size(); ++i) {
          const msg::parameter& p = written.parameters()[i];
          CAPTURE(p.name);
          CHECK(p.name == arrays[i].name);
          CHECK(p.what == arrays[i].what);
          REQUIRE(p.dims.size() == arrays[i].sides.size());
          for (std::size_t d = 0; d < p.dims.size(); ++d) {
            const char does = p.dims[d].what == msg::role::in ? 'r' : p.dims[d].what == msg::role::out ? 'w' : 's';
            CHECK(does == arrays[i].sides[d].does);
            CHECK(p.dims[d].size() == extent_of(arrays[i].sides[d], s));
          }
        }
      }
    }
  }
}

TEST_CASE("whole copies of hidden heads and ffn keep every kind of model and split its gradient", "[published]") {
  const family kind = GENERATE(from_range(families));
  const bool tied = GENERATE(true, false);
  const index times = GENERATE(2, 3);
  CAPTURE(static_cast<int>(kind), tied, times);
  const sizes s = small(kind, tied);
  const model old = random_model(s, 11);
  const growth g{{"hidden", copies(s.hidden, tiled(s.hidden, times * s.hidden))},
                 {"heads", copies(s.heads, tiled(s.heads, times * s.heads))},
                 {"kv_heads", copies(s.kv_heads, tiled(s.kv_heads, times * s.kv_heads))},
                 {"ffn", copies(s.ffn, tiled(s.ffn, times * s.ffn))}};
  const model now = grown(old, g);
  const distance d = between(old, now);
  CHECK(d.rounding());
  if (times == 2) { CHECK(dual_error(old, now, g) <= gradient_bound(d)); }
}

TEST_CASE("a tied head over copied units needs its last norm divided or its logits scaled", "[published]") {
  const family kind = GENERATE(from_range(families));
  const sizes s = small(kind);
  const model old = random_model(s, 12);
  model now = grown(old, {{"hidden", copies(s.hidden, tiled(s.hidden, 3 * s.hidden))}});
  CHECK(between(old, now).rounding());
  multiply(now, "last.gain", 3); // as copies of a norm in front of a layer are: whole
  if (kind != family::llama) { multiply(now, "last.bias", 3); }
  CHECK(between(old, now).visible());
  CHECK(between(old, now, {.logit_scale = 1.0L / 3}).rounding());
}

TEST_CASE("copies in any number keep the function where no norm is on the axis", "[published][net2net]") {
  const family kind = GENERATE(from_range(families));
  const sizes s = small(kind);
  const model old = random_model(s, 13);
  growth g{{"ffn", copies(s.ffn, {0, 1, 2, 3, 4, 5, 3, 3, 0, 5, 3})}};
  if (kind != family::llama) {
    g["heads"] = copies(s.heads, {0, 1, 1, 0, 1});
  } else { // queries of a copied group are copied with it: 0 1 belong to the first
    g["heads"] = copies(4, {0, 1, 2, 3, 2, 3, 2, 3, 0, 1});
    g["kv_heads"] = copies(2, {0, 1, 1, 1, 0});
  }
  const model now = grown(old, g);
  const distance d = between(old, now);
  CHECK(d.rounding());
  CHECK(dual_error(old, now, g) <= gradient_bound(d));
  // a query head that is copied without its group meets other keys
  if (kind == family::llama) {
    g["heads"] = copies(4, {0, 1, 2, 3, 0, 1, 2, 3, 0, 1});
    CHECK(between(old, grown(old, g)).visible());
  }
}

TEST_CASE("unequal shares of copies keep the function and break their symmetry", "[published][lemon]") {
  const family kind = GENERATE(from_range(families));
  const sizes s = small(kind);
  const model old = random_model(s, 14);
  const growth g{{"ffn", copies(s.ffn, {0, 1, 2, 3, 4, 5, 0, 1, 0}, {0.5L, 0.25L, 1, 1, 1, 1, 0.75L, 0.75L, -0.25L})}};
  const model now = grown(old, g);
  const distance d = between(old, now);
  CHECK(d.rounding());
  CHECK(dual_error(old, now, g) <= gradient_bound(d));
}

TEST_CASE("unequal numbers of copies under a norm change the function unless its statistics are weighted",
          "[published][net2net]") {
  const family kind = GENERATE(from_range(families));
  const sizes s = small(kind);
  const model old = random_model(s, 15);
  const expansion e = copies(s.hidden, {0, 1, 2, 3, 2, 2, 0});
  const growth g{{"hidden", e}};
  const model now = grown(old, g);
  CHECK(between(old, now).visible()); // random replication under a LayerNorm, as it was released
  setting weighted;
  for (std::size_t i = 0; i < e.read.size(); ++i) {
    weighted.statistics.push_back(*std::max_element(e.read[i].begin(), e.read[i].end())); // its share
  }
  CHECK(between(old, now, weighted).rounding());
}

TEST_CASE("units that nobody reads leave every bit and their readers wake first", "[published][composable]") {
  const family kind = GENERATE(from_range(families));
  const sizes s = small(kind);
  const model old = random_model(s, 16);
  growth g{{"ffn", unread(s.ffn, 11)}, {"heads", unread(s.heads, kind == family::llama ? 10 : 5)}};
  if (kind == family::llama) { g["kv_heads"] = unread(2, 5); }
  if (kind == family::bert) { g["value_dim"] = unread(2, 5); }
  const model now = filled(grown(old, g), 17);
  CHECK(between(old, now).none());
  const auto slopes = gradient(now);
  // [W2 | 0]: the zero columns have a gradient, the rows that feed them none yet
  const auto count = [&](const std::string& name) {
    const auto& found = slopes.at(name);
    return std::count(found.begin(), found.end(), 0.0L);
  };
  CHECK(count("down") == 0);
  CHECK(count("join") == 0);
  CHECK(count("up") > 0);
}

TEST_CASE("wider keys need the root of the ratio on the old ones wider values nothing", "[published][composable]") {
  const sizes s = small(family::bert);
  const model old = random_model(s, 18);
  const index key = GENERATE(3, 4, 7);
  expansion e = appended(s.key_dim, key);
  const growth g{{"key_dim", e}};
  model now = grown(old, g);
  const auto rescale = [&](real factor) { // Wk' = [f Wk ; 0], its bias too; the new rows of Wq are free
    model result = now;
    for (const char* name : {"key", "key.bias"}) {
      for (real& one : result.numbers.at(name)) { one = std::isnan(one) ? 0 : factor * one; }
    }
    return filled(result, 19);
  };
  const real ratio = static_cast<real>(key) / static_cast<real>(s.key_dim);
  CHECK(between(old, rescale(std::sqrt(ratio))).rounding());
  CHECK(between(old, rescale(1)).visible());
  CHECK(between(old, rescale(static_cast<real>(key) / std::sqrt(static_cast<real>(s.key_dim)))).visible());
  CHECK(between(old, rescale(1), {.score_scale = std::sqrt(ratio)}).rounding()); // the old softmax scale kept
}

TEST_CASE("zero padding under an RMSNorm needs the root of h over H in the gain and h over H in eps",
          "[published][composable]") {
  const bool tied = GENERATE(true, false);
  const index H = GENERATE(5, 6, 8, 11);
  const sizes s = small(family::llama, tied);
  const model old = random_model(s, 20);
  const real ratio = static_cast<real>(s.hidden) / static_cast<real>(H);
  const growth g{{"hidden", unwritten(s.hidden, H)}};
  const setting contract{.eps = setting{}.eps * ratio};
  const model now = filled(grown(old, g, std::sqrt(ratio)), 21);
  CHECK(between(old, now, contract).rounding());
  CHECK(between(old, now).visible());                                 // eps as it was
  CHECK(between(old, filled(grown(old, g), 21), contract).visible()); // gains as they were
  for (const family kind : {family::gpt, family::bert}) {             // no factor mends a LayerNorm
    const model other = random_model(small(kind, tied), 20);
    CHECK(between(other, filled(grown(other, g, std::sqrt(ratio)), 21), contract).visible());
  }
}

TEST_CASE("means of the old units keep a LayerNorm in front at any size with gains and eps scaled",
          "[published][lemon]") {
  const bool tied = GENERATE(true, false);
  const index H = GENERATE(5, 6, 8, 11);
  const sizes s = small(family::gpt, tied);
  const model old = random_model(s, 22);
  const real ratio = static_cast<real>(s.hidden) / static_cast<real>(H);
  const growth g{{"hidden", averaged(s.hidden, H)}};
  const setting contract{.eps = setting{}.eps * ratio};
  const model now = filled(grown(old, g, std::sqrt(ratio)), 23);
  CHECK(between(old, now, contract).rounding());
  CHECK(between(old, now).visible());
  CHECK(between(old, filled(grown(old, g), 23), contract).visible());
  for (const family kind : {family::bert, family::llama}) { // post-norm output is read as it is; an RMSNorm has no mean
    const model other = random_model(small(kind, tied), 22);
    CHECK(between(other, filled(grown(other, g, std::sqrt(ratio)), 23), contract).visible());
  }
}

TEST_CASE("two models side by side under a halved last norm are one", "[published][staged]") {
  const family kind = GENERATE(from_range(families));
  const bool tied = GENERATE(true, false);
  const sizes s = small(kind, tied);
  const model old = random_model(s, 30);
  growth g;
  for (const char* axis : {"hidden", "ffn", "heads", "kv_heads"}) {
    g[axis] = copies(s.of(axis), tiled(s.of(axis), 2 * s.of(axis)));
  }
  const model halves = grown(old, g); // [W W ; W W] / 2; the published form is [W 0 ; 0 W]
  model now = halves;
  for (const form& array : forms(s)) {
    std::vector<std::vector<index>> half; // of every position of each dimension that doubled
    for (const side& one : array.sides) {
      half.emplace_back();
      for (const std::vector<std::string>& term : one.terms) {
        index inner = 1, units = 0;
        for (const std::string& axis : term) {
          if (g.count(axis) != 0) {
            units = s.of(axis), inner = 1;
          } else {
            inner *= s.of(axis);
          }
        }
        for (index i = 0; i < extent_of({'w', {term}}, now.size); ++i) {
          half.back().push_back(units == 0 ? -1 : i / inner % (2 * units) / units);
        }
      }
    }
    std::vector<real>& all = now.numbers.at(array.name);
    for (index i = 0; i < std::ssize(all); ++i) {
      std::vector<index> in_half;
      index rest = i;
      for (std::size_t d = half.size(); d-- > 0;) {
        const index which = half[d][static_cast<std::size_t>(rest % std::ssize(half[d]))];
        if (which >= 0) { in_half.push_back(which); }
        rest /= std::ssize(half[d]);
      }
      if (in_half.size() == 2) { all[static_cast<std::size_t>(i)] *= in_half[0] == in_half[1] ? 2 : 0; }
    }
  }
  CHECK(between(old, now).rounding());
  CHECK(between(old, halves).rounding());
}

TEST_CASE("noise in pairs on the columns of twins cancels", "[published][hypercloning]") {
  const family kind = GENERATE(from_range(families));
  const sizes s = small(kind, false);
  const model old = random_model(s, 31);
  model now = grown(old, {{"hidden", copies(4, tiled(4, 8))}});
  const model noise = random_model(now.size, 32);
  for (std::size_t i = 0; i < now.numbers.at("head").size(); ++i) { // (vocab, hidden): column j and its twin j + 4
    const std::size_t column = i % 8, twin = i - column + column % 4;
    now.numbers.at("head")[i] += (column < 4 ? 1 : -1) * noise.numbers.at("head")[twin];
  }
  CHECK(between(old, now).rounding());
  now.numbers.at("head")[1] += noise.numbers.at("head")[1];
  CHECK(between(old, now).visible());
}

TEST_CASE("layers that write nothing are exact in front of a norm and drift behind one", "[published][llama_pro]") {
  const family kind = GENERATE(from_range(families));
  const sizes s = small(kind);
  const model old = random_model(s, 24);
  expansion e = layers_from(2, {0, 0, 1, 1, 1}, {false, true, false, true, true});
  CHECK(between(old, grown(old, {{"layers", e}})).visible()); // plain copies are not identities
  e.silent = true;
  const distance d = between(old, grown(old, {{"layers", e}}));
  CHECK(d.none() == (kind != family::bert));
  CHECK(d.visible() == (kind == family::bert));
}

TEST_CASE("a mask of 0 leaves every bit of every kind of model whatever the new numbers", "[published][msg]") {
  const family kind = GENERATE(from_range(families));
  const bool tied = GENERATE(true, false);
  const sizes s = small(kind, tied);
  const model old = random_model(s, 25);
  growth g{{"hidden", appended(s.hidden, 7)}, {"ffn", appended(s.ffn, 8)}, {"vocab", appended(s.vocab, 7)}};
  g["heads"] = appended(s.heads, kind == family::llama ? 6 : 3);
  if (kind == family::llama) { g["kv_heads"] = appended(2, 3); }
  expansion layers = layers_from(2, {0, 1, 0}, {false, false, true});
  g["layers"] = layers;
  const model now = filled(grown(old, g), 26, 30), tame = filled(grown(old, g), 26, 1);
  const auto masked_at = [&](double c) {
    return setting{.hidden = mask(s.hidden, 7, c),
                   .ffn = mask(s.ffn, 8, c),
                   .heads = mask(s.heads, now.size.heads, c),
                   .layers = mask(2, 3, c)};
  };
  CHECK(between(old, now, masked_at(0)).none());
  CHECK(between(tame, tame, masked_at(1)).none()); // and dropping it at 1 changes nothing
  CHECK(between(old, tame, masked_at(0.5)).visible());
  setting plain_norm =
      masked_at(0); // statistics over all units: the released norm-site mask is what keeps the function
  plain_norm.statistics = std::vector<long double>(7, 1);
  CHECK(between(old, now, plain_norm).visible());
  if (kind == family::bert) { // a vocabulary bias that is not copied, as it was released
    model dropped = now;
    std::fill(dropped.numbers.at("head.bias").begin(), dropped.numbers.at("head.bias").end(), 0);
    CHECK(between(old, dropped, masked_at(0)).visible());
  }
}

TEST_CASE("a ramping mask can be folded into the numbers of a model with an RMSNorm", "[published][msg][fold]") {
  const bool tied = GENERATE(true, false);
  const double c = GENERATE(0.0, 0.25, 0.7, 1.0);
  const model now = random_model(
      {.kind = family::llama, .tied = tied, .hidden = 7, .ffn = 9, .heads = 6, .kv_heads = 3, .layers = 3}, 29);
  const setting masks{.hidden = mask(4, 7, c), .ffn = mask(6, 9, c), .heads = mask(4, 6, c), .layers = mask(2, 3, c)};
  const real C = c, root = std::sqrt(C), share = (4 + 3 * C) / 7;
  model folded = now;
  const auto fold = [&](const std::string& name, const auto& factor) {
    std::vector<real>& all = folded.numbers.at(name);
    for (std::size_t i = 0; i < all.size(); ++i) { all[i] *= factor(static_cast<index>(i)); }
  };
  const auto hidden = [&](index unit) { return unit < 4 ? real(1) : root; };
  fold("token", [&](index i) { return hidden(i % 7); });
  fold("join", [&](index i) { // (layer, hidden, head * 2)
    const index column = i % 12, row = i / 12 % 7, layer = i / 84;
    return hidden(row) * (column < 8 ? 1 : C) * (layer < 2 ? 1 : C);
  });
  fold("down", [&](index i) {
    const index column = i % 9, row = i / 9 % 7, layer = i / 63;
    return hidden(row) * (column < 6 ? 1 : C) * (layer < 2 ? 1 : C);
  });
  for (const char* name : {"first.gain", "second.gain", "last.gain"}) {
    const bool in_head = tied && name == std::string("last.gain"); // the tied matrix carries the root already
    fold(name, [&](index i) { return std::sqrt(share) * (in_head ? 1 : hidden(i % 7)); });
  }
  setting contract{.eps = setting{}.eps * share};
  CHECK(between(now, folded, contract, masks).rounding());
  CHECK(between(now, folded, {}, masks).visible() == (c < 1));
}

TEST_CASE("experts that are copies act as one where the gates sum to 1", "[published][upcycle]") {
  sizes s = small(family::llama);
  s.experts = 1;
  const model old = random_model(s, 27);
  const index experts = GENERATE(2, 3, 8);
  const index top = GENERATE(1, 2);
  growth g{{"experts", copies(1, std::vector<index>(static_cast<std::size_t>(experts), 0))}};
  model now = grown(old, g);
  for (real& one : now.numbers.at("router")) { one = anything; } // a router of its own
  now = filled(now, 28, 1);
  CHECK(between(old, now, {.top = top}).rounding());
  CHECK(between(old, now, {.top = top, .normalised = false}).visible() == (top < experts));
}
