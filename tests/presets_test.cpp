// Every preset against the operator its paper states, cell by cell and as a function: the library's growth of three
// small Transformers beside the loops of published_growth.hpp.
#include "support/catch.hpp"
#include "support/published_library.hpp"

#include <msg/presets.hpp>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <string>
#include <vector>

using namespace published;
using msg::fresh_values;
using msg::init;
using msg::payload;
namespace presets = msg::presets;

namespace {

/// 0 1 .. old-1, then old units again: what every copying operator chooses from.
bool copies_units(const std::vector<index>& from, index old) {
  for (index i = 0; i < std::ssize(from); ++i) {
    const index unit = from[static_cast<std::size_t>(i)];
    if (unit < 0 || unit >= old || (i < old && unit != i)) { return false; }
  }
  return true;
}

std::vector<bool> flags(const std::vector<index>& old_of) {
  std::vector<bool> added;
  for (const index unit : old_of) { added.push_back(unit < 0); }
  return added;
}

} // namespace

// -- Masked Structural Growth ----------------------------------------------------------------------------------------

TEST_CASE("msg keeps every old number in its place and every bit of the function whatever is new", "[presets][msg]") {
  const family kind = GENERATE(from_range(families));
  const bool tied = GENERATE(true, false);
  CAPTURE(static_cast<int>(kind), tied);
  const sizes s = small(kind, tied);
  const bool llama = kind == family::llama;
  const targets to{{"hidden", 7}, {"ffn", 8},   {"heads", llama ? 9 : 3}, {"kv_heads", 3},
                   {"layers", 3}, {"vocab", 7}, {"positions", 5}};
  growth g{{"hidden", appended(4, 7)},
           {"ffn", appended(6, 8)},
           {"heads", llama ? placed(4, in_groups(2, 2, 3, 3)) : appended(2, 3)},
           {"kv_heads", appended(2, 3)},
           {"layers", layers_from(2, {0, 1, 0}, {false, false, true})},
           {"vocab", appended(5, 7)},
           {"positions", appended(3, 5)}};
  const trial wild(s, to, presets::msg(fresh_values::all(init::normal(30))));
  CHECK(difference(grown(wild.old, g), wild.now) == "");
  CHECK(wild.moments_differ(g) == "");
  CHECK(wild.plan.keeps() == msg::strictness::exact);
  CHECK(wild.apart().none());
  const trial tame(s, to, presets::msg(fresh_values::all(init::normal(0.5))));
  CHECK(tame.apart(0.5).visible()); // new units do something
}

TEST_CASE("msg keeps the function for new heads inside groups and for new groups", "[presets][msg]") {
  const bool groups = GENERATE(false, true);
  const sizes s = small(family::llama);
  const trial t(s, groups ? targets{{"heads", 6}, {"kv_heads", 3}} : targets{{"heads", 6}},
                presets::msg(fresh_values::all(init::normal(30))));
  const growth g{{"heads", placed(4, groups ? in_groups(2, 2, 3, 2) : in_groups(2, 2, 2, 3))},
                 {"kv_heads", appended(2, groups ? 3 : 2)}};
  CHECK(difference(grown(t.old, g), t.now) == "");
  CHECK(t.apart().none());
}

TEST_CASE("new units may stand anywhere among the old ones", "[presets]") {
  const family kind = GENERATE(from_range(families));
  const auto order = GENERATE(msg::placement::order::prepend, msg::placement::order::interleave);
  const auto by = GENERATE(as<msg::rule>{}, presets::msg(fresh_values::all(init::normal(30))), presets::net2net(),
                           presets::lemon(), presets::composable(fresh_values::all(init::normal(30))));
  CAPTURE(static_cast<int>(kind), static_cast<int>(order), by.name());
  const bool llama = kind == family::llama;
  const trial t(small(kind), {{"ffn", 8}, {"heads", llama ? 9 : 3}, {"kv_heads", 3}}, by, {order, {}});
  growth g;
  for (const char* axis : {"ffn", "heads", "kv_heads"}) {
    if (t.plan.before().find_axis(axis) == nullptr) { continue; }
    const msg::axis_plan& a = t.plan.axis(axis);
    CHECK(a.old_of.front() == (order == msg::placement::order::prepend ? -1 : 0));
    if (by.name() == "net2net" || by.name() == "lemon") {
      g[axis] = copies(a.old_size, a.growth.source, {a.growth.split.begin(), a.growth.split.end()});
      for (index j = 0; j < a.new_size; ++j) { // an old unit stands for itself
        const index unit = a.old_of[static_cast<std::size_t>(j)];
        if (unit >= 0) { CHECK(a.growth.source[static_cast<std::size_t>(j)] == unit); }
      }
    } else {
      g[axis] = placed(a.old_size, a.old_of);
      if (by.name() == "composable" && axis != std::string("kv_heads")) { g[axis].readers = 0; }
    }
  }
  CHECK(difference(grown(t.old, g), t.now, 2) == "");
  CHECK(t.moments_differ(g, 1, 2) == "");
  const bool exact = t.plan.keeps() == msg::strictness::exact;
  CHECK(exact == (by.name() == "msg" || by.name() == "composable"));
  CHECK((exact ? t.apart().none() : t.apart().rounding()));
}

TEST_CASE("tokens and positions are masked whatever grows the widths", "[presets]") {
  const family kind = GENERATE(from_range(families));
  const bool tied = GENERATE(true, false);
  const auto by = GENERATE(as<msg::rule>{}, presets::msg(), presets::net2net(), presets::lemon(), presets::composable(),
                           presets::hypercloning(), presets::staged(), presets::bert2bert_fpi());
  CAPTURE(static_cast<int>(kind), tied, by.name());
  const trial t(small(kind, tied), {{"vocab", 8}, {"positions", 5}}, by);
  CHECK(difference(grown(t.old, {{"vocab", appended(5, 8)}, {"positions", appended(3, 5)}}), t.now) == "");
  CHECK(t.plan.keeps() == msg::strictness::exact);
  CHECK(t.apart().none());
  const setting how = keeping(t.plan);
  CHECK(std::accumulate(how.vocab.begin(), how.vocab.end(), 0.0) == 5); // the new ones are out of the softmax
  CHECK(loss(t.now, how) == loss(t.old));
}

TEST_CASE("a preset's initialisation is that of every axis it masks", "[presets][msg]") {
  const family kind = GENERATE(from_range(families));
  sizes s = small(kind, false);
  s.experts = kind == family::llama ? 2 : 0;
  for (const std::string axis : {"hidden", "ffn", "layers", "vocab", "positions", "experts"}) {
    const fresh_values seven = fresh_values::all(init::constant(7));
    const msg::rule by = axis == "layers" || axis == "experts"
                             ? msg::rule(msg::mask{.fresh = seven, .layers = msg::mask::start::fresh})
                             : msg::rule(presets::msg(seven));
    const trial t(s, {{axis, s.of(axis) + 1}}, by);
    CAPTURE(static_cast<int>(kind), axis);
    const model expected = grown(t.old, {{axis, appended(s.of(axis), s.of(axis) + 1)}});
    for (const auto& [name, numbers] : expected.numbers) {
      for (std::size_t i = 0; i < numbers.size(); ++i) {
        if (std::isnan(numbers[i])) { CHECK(t.now.numbers.at(name)[i] == 7); }
      }
    }
  }
}

// -- copies ----------------------------------------------------------------------------------------------------------

namespace {

/// The growth of copied axes with the sources that the library chose, which must be copies, and equal shares.
growth even_copies(const trial& t, const std::vector<const char*>& axes) {
  growth g;
  for (const char* axis : axes) {
    if (t.plan.before().find_axis(axis) == nullptr) { continue; }
    const index old = t.old.size.of(axis);
    const std::vector<index> from = t.from(axis);
    CAPTURE(axis, from);
    if (axis != std::string("heads") || t.old.size.kind != family::llama) { CHECK(copies_units(from, old)); }
    g[axis] = copies(old, from);
    g[axis].added = flags(t.plan.axis(axis).old_of);
  }
  return g;
}

/// Queries that are copied read copies of their own keys and values.
bool keeps_groups(const trial& t) {
  if (t.old.size.kind != family::llama) { return true; }
  const std::vector<index> heads = t.from("heads"), kv = t.from("kv_heads");
  const index each = t.old.size.heads / t.old.size.kv_heads, now = std::ssize(heads) / std::ssize(kv);
  for (index j = 0; j < std::ssize(heads); ++j) {
    if (heads[static_cast<std::size_t>(j)] / each != kv[static_cast<std::size_t>(j / now)]) { return false; }
  }
  return true;
}

} // namespace

TEST_CASE("even copies of ffn units and heads keep the function at any size",
          "[presets][net2net][bert2bert][compound]") {
  const family kind = GENERATE(from_range(families));
  const bool doubled = GENERATE(true, false);
  const bool llama = kind == family::llama;
  const auto by = GENERATE(as<msg::rule>{}, presets::net2net(), presets::bert2bert_fpi(), presets::compound_grow());
  CAPTURE(static_cast<int>(kind), doubled, by.name());
  const sizes s = small(kind);
  const trial t(
      s, {{"ffn", doubled ? 12 : 11}, {"heads", (doubled ? 4 : 5) * (llama ? 2 : 1)}, {"kv_heads", doubled ? 4 : 5}},
      by);
  const growth g = even_copies(t, {"ffn", "heads", "kv_heads"});
  CHECK(keeps_groups(t));
  const int roundings = doubled ? 0 : 3; // halves are exact; a share is rounded, and each product with one
  CHECK(difference(grown(t.old, g), t.now, roundings) == "");
  CHECK(t.moments_differ(g, 1, roundings) == "");
  CHECK(t.plan.keeps() == msg::strictness::rounding);
  CHECK(t.apart().rounding());
}

TEST_CASE("even copies of hidden units keep the function where all are copied as often or norms weight them",
          "[presets][net2net][bert2bert]") {
  const family kind = GENERATE(from_range(families));
  const bool tied = GENERATE(true, false);
  const index H = GENERATE(8, 12, 7, 5);
  const auto by = GENERATE(as<msg::rule>{}, presets::net2net(), presets::bert2bert_fpi(), presets::compound_grow());
  CAPTURE(static_cast<int>(kind), tied, H, by.name());
  const trial t(small(kind, tied), {{"hidden", H}}, by);
  const growth g = even_copies(t, {"hidden"});
  CHECK(difference(grown(t.old, g), t.now, H == 8 ? 0 : 3) == "");
  CHECK(t.plan.keeps() == msg::strictness::rounding);
  CHECK(t.apart().rounding());
  const bool whole = H % 4 == 0;
  CHECK(t.plan.contract()[0].weight_norm_statistics == !whole);
  // random or uneven replication under a plain norm, as it was released, is no preservation
  CHECK(between(t.old, t.now).visible() == !whole);
}

TEST_CASE("hypercloning and staged growth tile whole copies or refuse", "[presets][hypercloning][staged]") {
  const family kind = GENERATE(from_range(families));
  const bool tied = GENERATE(true, false);
  const index times = GENERATE(2, 3);
  const auto by = GENERATE(as<msg::rule>{}, presets::hypercloning(), presets::staged());
  CAPTURE(static_cast<int>(kind), tied, times, by.name());
  const sizes s = small(kind, tied);
  targets to;
  growth g;
  for (const char* axis : {"hidden", "ffn", "heads", "kv_heads"}) {
    to[axis] = times * s.of(axis);
    g[axis] = copies(s.of(axis), tiled(s.of(axis), times * s.of(axis)));
  }
  const trial t(s, to, by);
  for (const char* axis : {"hidden", "ffn", "heads", "kv_heads"}) {
    if (t.plan.before().find_axis(axis) != nullptr) { CHECK(t.from(axis) == tiled(s.of(axis), times * s.of(axis))); }
  }
  const int roundings = times == 2 ? 0 : 5; // two shares of a third in one cell
  CHECK(difference(grown(t.old, g), t.now, roundings) == "");
  CHECK(t.moments_differ(g, 1, roundings) == "");
  CHECK(t.plan.keeps() == msg::strictness::rounding);
  CHECK(t.apart().rounding());
  CHECK(says(refusal(s, {{"ffn", 11}}, by), "multiple"));
  CHECK(says(refusal(s, {{"hidden", 7}}, by), "multiple"));
}

TEST_CASE("a tied head over copies is divided by its norm or by a scale of the logits", "[presets][hypercloning]") {
  const family kind = GENERATE(from_range(families));
  sizes s = small(kind);
  s.last_reads = false; // the last norm is declared like those in front of layers
  const trial t(s, {{"hidden", 12}}, presets::hypercloning());
  CHECK(t.plan.contract()[0].logit_scale == Approx(1.0 / 3));
  CHECK(t.plan.keeps() == msg::strictness::rounding);
  CHECK(t.apart().rounding());
  CHECK(between(t.old, t.now).visible());
}

TEST_CASE("unequal copies that a tied head reads undivided are not said to keep the function", "[presets][net2net]") {
  const family kind = GENERATE(family::gpt, family::llama);
  sizes s = small(kind);
  s.last_reads = false;
  const trial t(s, {{"hidden", 7}}, presets::net2net());
  CHECK(t.plan.keeps() == msg::strictness::none);
  CHECK(t.apart().visible());
}

TEST_CASE("models with experts grow in width as others do", "[presets]") {
  sizes s = small(family::llama);
  s.experts = 2;
  const index top = GENERATE(0, 1);
  const setting before{.top = top};
  const trial tiles(s, {{"hidden", 8}, {"ffn", 12}}, presets::hypercloning());
  const growth g{{"hidden", copies(4, tiled(4, 8))}, {"ffn", copies(6, tiled(6, 12))}};
  CHECK(difference(grown(tiles.old, g), tiles.now) == "");
  CHECK(tiles.moments_differ(g) == "");
  CHECK(tiles.apart(0, before).rounding());
  const trial masked(s, {{"hidden", 7}, {"ffn", 8}, {"experts", 3}}, presets::msg(fresh_values::all(init::normal(30))));
  CHECK(masked.apart(0, before).none());
  const trial zeros(s, {{"hidden", 7}, {"ffn", 8}}, presets::composable(fresh_values::all(init::normal(3))));
  CHECK(zeros.apart(0, before).rounding());
  const trial means(s, {{"hidden", 7}, {"ffn", 8}, {"layers", 3}}, presets::lemon());
  CHECK(means.apart(0, before).rounding());
}

TEST_CASE("noise of hypercloning cancels in pairs and breaks the twins' symmetry", "[presets][hypercloning]") {
  const family kind = GENERATE(from_range(families));
  const sizes s = small(kind);
  for (const index times : {3, 2}) {
    const trial loud(s,
                     {{"hidden", 4 * times}, {"ffn", 6 * times}, {"heads", times * s.heads}, {"kv_heads", times * 2}},
                     presets::hypercloning(init::normal(0.3)));
    CHECK(loud.apart().rounding());
  }
  const trial quiet(s, {{"hidden", 8}, {"ffn", 12}}, presets::hypercloning());
  const trial noisy(s, {{"hidden", 8}, {"ffn", 12}}, presets::hypercloning(init::normal(0.3)));
  // +N and -N: columns that read unit j and its twin add up to what they were
  const std::vector<real>&a = quiet.now.numbers.at("down"), &b = noisy.now.numbers.at("down");
  const bool stored_in_out = kind == family::gpt;
  real largest = 0, sum_differs = 0;
  for (index i = 0; i < std::ssize(a); ++i) { // (layer, hidden, ffn), of a gpt (layer, ffn, hidden)
    const index unit = stored_in_out ? i / 8 % 12 : i % 12;
    if (unit >= 6) { continue; }
    const auto one = static_cast<std::size_t>(i), twin = static_cast<std::size_t>(i + (stored_in_out ? 48 : 6));
    largest = std::max(largest, std::abs(b[one] - a[one]));
    sum_differs = std::max(sum_differs, std::abs(b[one] + b[twin] - a[one] - a[twin]));
  }
  CHECK(largest > 0.01L);
  CHECK(sum_differs <= 4 * std::numeric_limits<double>::epsilon());
}

TEST_CASE("lemon splits copies unevenly at any size", "[presets][lemon]") {
  const family kind = GENERATE(from_range(families));
  const bool llama = kind == family::llama;
  const sizes s = small(kind);
  const trial t(s, {{"ffn", 11}, {"heads", llama ? 10 : 5}, {"kv_heads", 5}}, presets::lemon());
  growth g;
  for (const char* axis : {"ffn", "heads", "kv_heads"}) {
    if (t.plan.before().find_axis(axis) == nullptr) { continue; }
    const msg::axis_growth& chosen = t.plan.axis(axis).growth;
    const index old = s.of(axis);
    std::vector<real> sums(static_cast<std::size_t>(old), 0);
    std::vector<std::vector<double>> shares(static_cast<std::size_t>(old));
    for (std::size_t i = 0; i < chosen.source.size(); ++i) {
      sums[static_cast<std::size_t>(chosen.source[i])] += static_cast<real>(chosen.split[i]);
      shares[static_cast<std::size_t>(chosen.source[i])].push_back(chosen.split[i]);
    }
    CAPTURE(axis, chosen.source, chosen.split);
    for (const real sum : sums) { CHECK(std::abs(sum - 1) <= 4 * std::numeric_limits<double>::epsilon()); }
    for (std::vector<double>& mine : shares) { // the first copy differs from the others
      CHECK(mine[0] == (mine.size() == 1 ? 1 : 0.75));
    }
    g[axis] = copies(old, chosen.source, {chosen.split.begin(), chosen.split.end()});
  }
  CHECK(keeps_groups(t));
  CHECK(difference(grown(t.old, g), t.now, 2) == "");
  CHECK(t.moments_differ(g, 1, 2) == "");
  CHECK(t.plan.keeps() == msg::strictness::rounding);
  CHECK(t.apart().rounding());
}

TEST_CASE("lemon averages under a LayerNorm in front at any size and refuses one behind", "[presets][lemon]") {
  const bool tied = GENERATE(true, false);
  const index H = GENERATE(5, 7, 8);
  const sizes s = small(family::gpt, tied);
  const trial t(s, {{"hidden", H}}, presets::lemon());
  const real ratio = 4 / static_cast<real>(H);
  const growth g{{"hidden", averaged(4, H)}};
  // a mean adds up four numbers below 1, each sum rounded, and is divided
  CHECK(difference(grown(t.old, g, std::sqrt(ratio)), t.now, 8, 1) == "");
  CHECK(t.plan.contract()[0].eps_factor == Approx(static_cast<double>(ratio)).epsilon(1e-15));
  CHECK(t.plan.keeps() == msg::strictness::rounding);
  CHECK(t.apart().rounding());
  CHECK(between(t.old, t.now).visible()); // eps as it was
  CHECK(says(refusal(small(family::bert, tied), {{"hidden", H}}, presets::lemon()), "hidden"));
}

TEST_CASE("zero blocks under an RMSNorm carry the root of h over H and eps", "[presets][lemon][composable]") {
  const bool tied = GENERATE(true, false);
  const index H = GENERATE(5, 7, 8);
  const auto by = GENERATE(as<msg::rule>{}, presets::composable(), presets::lemon());
  CAPTURE(tied, H, by.name());
  const trial t(small(family::llama, tied), {{"hidden", H}}, by);
  const real ratio = 4 / static_cast<real>(H);
  const growth g{{"hidden", unwritten(4, H)}};
  CHECK(difference(grown(t.old, g, std::sqrt(ratio)), t.now, 3) == "");
  CHECK(t.moments_differ(g, std::sqrt(ratio), 4) == "");
  CHECK(t.plan.contract()[0].eps_factor == Approx(static_cast<double>(ratio)).epsilon(1e-15));
  CHECK(t.plan.keeps() == msg::strictness::rounding);
  CHECK(t.apart().rounding());
  CHECK(between(t.old, t.now).visible());
}

TEST_CASE("means and zeros under a norm hold for any free numbers and any order", "[presets][lemon][composable]") {
  const auto order =
      GENERATE(msg::placement::order::append, msg::placement::order::prepend, msg::placement::order::interleave);
  const bool tied = GENERATE(true, false);
  CAPTURE(static_cast<int>(order), tied);
  const fresh_values wild = fresh_values::all(init::normal(30));
  const trial means(small(family::gpt, tied), {{"hidden", 7}}, msg::average{.fresh = wild}, {order, {}});
  CHECK(means.plan.keeps() == msg::strictness::rounding);
  CHECK(means.apart().rounding());
  const trial zeros(small(family::llama, tied), {{"hidden", 7}}, msg::zero_block{.fresh = wild}, {order, {}});
  CHECK(zeros.plan.keeps() == msg::strictness::rounding);
  CHECK(zeros.apart().rounding());
}

// -- zero blocks -----------------------------------------------------------------------------------------------------

TEST_CASE("composable leaves new units unread and every bit as it was", "[presets][composable]") {
  const family kind = GENERATE(from_range(families));
  const bool tied = GENERATE(true, false);
  const bool llama = kind == family::llama;
  const sizes s = small(kind, tied);
  const targets to{{"ffn", 11}, {"heads", llama ? 9 : 3}, {"kv_heads", 3}, {"value_dim", 5}};
  const trial t(s, to, presets::composable(fresh_values::all(init::normal(30))));
  growth g{{"ffn", unread(6, 11)},
           {"heads", llama ? placed(4, in_groups(2, 2, 3, 3)) : appended(2, 3)},
           {"kv_heads", appended(2, 3)},
           {"value_dim", unread(2, 5)}};
  g["heads"].readers = 0;
  CHECK(difference(grown(t.old, g), t.now) == "");
  CHECK(t.moments_differ(g) == "");
  CHECK(t.plan.keeps() == msg::strictness::exact);
  CHECK(t.apart().none());
}

TEST_CASE("composable widens keys with the root of the ratio", "[presets][composable]") {
  const index K = GENERATE(3, 4, 7);
  const sizes s = small(family::bert);
  const trial t(s, {{"key_dim", K}}, presets::composable(fresh_values::all(init::normal(3))));
  model expected = grown(t.old, {{"key_dim", appended(2, K)}});
  for (const char* name : {"key", "key.bias"}) {
    for (real& one : expected.numbers.at(name)) {
      one = std::isnan(one) ? 0 : std::sqrt(static_cast<real>(K) / 2) * one;
    }
  }
  CHECK(difference(expected, t.now, 3) == "");
  CHECK(t.plan.keeps() == msg::strictness::rounding);
  CHECK(t.apart().rounding());
}

TEST_CASE("composable widens whole heads of a fused projection", "[presets][composable]") {
  const index D = GENERATE(3, 4);
  const sizes s = small(family::gpt);
  const trial t(s, {{"head_dim", D}}, presets::composable(fresh_values::all(init::normal(3))));
  growth g{{"head_dim", unread(2, D)}}; // values: new rows free, their columns of the output projection 0
  model expected = grown(t.old, g);
  for (const char* name : {"qkv", "qkv.bias"}) { // the second third writes keys
    std::vector<real>& all = expected.numbers.at(name);
    for (index i = 0; i < std::ssize(all); ++i) {
      real& one = all[static_cast<std::size_t>(i)];
      if (i % (3 * 2 * D) / (2 * D) == 1) { one = std::isnan(one) ? 0 : std::sqrt(static_cast<real>(D) / 2) * one; }
    }
  }
  CHECK(difference(expected, t.now, 3) == "");
  CHECK(t.plan.keeps() == msg::strictness::rounding);
  CHECK(t.apart().rounding());
}

TEST_CASE("rotary heads widen by whole pairs behind the old ones and only with a table of frequencies",
          "[presets][composable]") {
  sizes s = small(family::llama);
  s.head_dim = 4;
  const auto by = presets::composable(fresh_values::all(init::normal(3)));
  CHECK(says(refusal(s, {{"head_dim", 6}}, by), "head_dim")); // every frequency would change
  s.listed = true;
  CHECK(says(refusal(s, {{"head_dim", 5}}, by), "head_dim")); // half a pair
  const trial t(s, {{"head_dim", 6}}, by);
  // half-split pairs are (i, i + half): old ones (0 2) (1 3) become (0 3) (1 4), the new pair is (2 5)
  CHECK(t.plan.axis("head_dim").old_of == std::vector<index>{0, 1, -1, 2, 3, -1});
  setting before{.frequencies = {1, 0.01}}, how = keeping(t.plan);
  how.frequencies = {1, 0.01, 0.3};
  CHECK(between(t.old, t.now, how, before).rounding());
  how.frequencies = {1, 0.3, 0.01}; // not the old ones first
  CHECK(between(t.old, t.now, how, before).visible());
}

TEST_CASE("heads do not widen by copies or masks", "[presets]") {
  for (const msg::rule& by : {msg::rule(presets::net2net()), msg::rule(presets::hypercloning()),
                              msg::rule(presets::lemon()), msg::rule(presets::msg()), msg::rule(presets::staged())}) {
    CAPTURE(by.name());
    CHECK(says(refusal(small(family::gpt), {{"head_dim", 4}}, by), "head_dim"));
    CHECK(says(refusal(small(family::bert), {{"key_dim", 4}}, by), "key_dim"));
  }
}

TEST_CASE("composable adds silent layers in front of a norm and refuses what cannot be exact",
          "[presets][composable]") {
  const family kind = GENERATE(family::gpt, family::llama);
  const trial t(small(kind), {{"layers", 5}}, presets::composable(fresh_values::all(init::normal(30))));
  for (const char* name : {"join", "down"}) {
    const std::vector<real>&before = t.old.numbers.at(name), &now = t.now.numbers.at(name);
    for (std::size_t i = 0; i < now.size(); ++i) { CHECK(now[i] == (i < before.size() ? before[i] : 0)); }
  }
  CHECK(t.plan.keeps() == msg::strictness::exact);
  CHECK(t.apart().none());
  CHECK(refused_or_lossy(small(family::bert), {{"layers", 4}}, presets::composable()));
  CHECK(says(refusal(small(family::bert), {{"hidden", 8}}, presets::composable()), "hidden"));
  CHECK(says(refusal(small(family::gpt), {{"hidden", 8}}, presets::composable()), "hidden"));
}

// -- depth -----------------------------------------------------------------------------------------------------------

namespace {

/// The layers of a grown model must be those of the old one in this order, whatever the family.
void check_layers(const msg::rule& by, index old, const std::vector<index>& order) {
  for (const family kind : families) {
    sizes s = small(kind);
    s.layers = old;
    CAPTURE(by.name(), static_cast<int>(kind), order);
    const trial t(s, {{"layers", std::ssize(order)}}, by);
    expansion e = layers_from(old, order, std::vector<bool>(order.size(), false));
    CHECK(difference(grown(t.old, {{"layers", e}}), t.now) == "");
    CHECK(t.plan.keeps() == msg::strictness::none);
    CHECK_FALSE(t.plan.strict());
    CHECK(t.apart().visible());
    // moments of old layers stay with them; those of added ones are 0
    e.newborn = true;
    e.added = flags(t.plan.axis("layers").old_of);
    CHECK(std::count(e.added.begin(), e.added.end(), false) == old);
    CHECK(t.moments_differ({{"layers", e}}) == "");
  }
}

} // namespace

TEST_CASE("stacking repeats the old layers in turn", "[presets][stackbert][mslt][g_stack][compound][bert2bert]") {
  const auto by = GENERATE(as<msg::rule>{}, presets::stackbert(), presets::mslt(), presets::g_stack(),
                           presets::compound_grow(), presets::bert2bert_fpi(), presets::bert2bert_aki());
  check_layers(by, 2, {0, 1, 0, 1});
  check_layers(by, 3, {0, 1, 2, 0, 1});
  check_layers(by, 2, {0, 1, 0, 1, 0, 1, 0});
}

TEST_CASE("solar cuts the seam out of two whole models", "[presets][solar]") {
  check_layers(presets::solar(), 4, {0, 1, 2, 1, 2, 3}); // m = 1: 0..n-m-1 and m..n-1
  check_layers(presets::solar(), 4, {0, 1, 2, 3, 0, 1, 2, 3});
  check_layers(presets::solar(), 8, {0, 1, 2, 3, 4, 5, 2, 3, 4, 5, 6, 7});
  CHECK(says(refusal(small(family::gpt), {{"layers", 5}}, presets::solar()), "layers")); // more than twice
}

TEST_CASE("midas repeats the middle layers", "[presets][midas]") {
  check_layers(presets::midas(), 3, {0, 1, 1, 2});
  check_layers(presets::midas(), 4, {0, 1, 1, 2, 3}); // of an even number the lower middle
  check_layers(presets::midas(), 4, {0, 1, 2, 1, 2, 3});
  check_layers(presets::midas(), 6, {0, 1, 2, 3, 2, 3, 4, 5});
}

TEST_CASE("llama pro puts a silent copy behind every group of layers", "[presets][llama_pro]") {
  const family kind = GENERATE(family::gpt, family::llama);
  const auto [old, order, added] = GENERATE(table<index, std::vector<index>, std::vector<bool>>({
      {2, {0, 0, 1, 1}, {false, true, false, true}},
      {4, {0, 1, 1, 2, 3, 3}, {false, false, true, false, false, true}},
      {4, {0, 1, 2, 3, 3}, {false, false, false, false, true}},
  }));
  CAPTURE(static_cast<int>(kind), old, order);
  sizes s = small(kind);
  s.layers = old;
  const trial t(s, {{"layers", std::ssize(order)}}, presets::llama_pro());
  expansion e = layers_from(old, order, added);
  e.silent = true;
  CHECK(difference(grown(t.old, {{"layers", e}}), t.now) == "");
  CHECK(t.moments_differ({{"layers", e}}) == "");
  CHECK(t.plan.keeps() == msg::strictness::exact);
  CHECK(t.apart().none());
}

TEST_CASE("layers that are an identity are exact in front of a norm and refused behind one",
          "[presets][net2net][lemon][staged][llama_pro]") {
  const auto by =
      GENERATE(as<msg::rule>{}, presets::net2net(), presets::lemon(), presets::staged(), presets::llama_pro());
  CAPTURE(by.name());
  for (const family kind : {family::gpt, family::llama}) {
    const trial t(small(kind), {{"layers", 4}}, by);
    CHECK(t.plan.keeps() == msg::strictness::exact);
    CHECK(t.apart().none());
    CHECK(between(t.old, t.now).none());
  }
  CHECK(refused_or_lossy(small(family::bert), {{"layers", 4}}, by)); // LN(x + 0) is not x
}

// -- bert2BERT, advanced knowledge -----------------------------------------------------------------------------------

TEST_CASE("advanced knowledge writes new units as the next layer does", "[presets][bert2bert]") {
  const family kind = GENERATE(from_range(families));
  const bool llama = kind == family::llama;
  sizes s = small(kind);
  s.layers = 3;
  const trial t(s, {{"ffn", 10}, {"heads", llama ? 8 : 3}, {"kv_heads", 4}}, presets::bert2bert_aki());
  const growth g = even_copies(t, {"ffn", "heads", "kv_heads"});
  const model even = grown(t.old, g);
  for (const form& array : forms(s)) {
    const side& slices = array.sides.front();
    std::vector<real> expected = even.numbers.at(array.name);
    if (slices.does == 's') {
      // added rows: those of the next layer's matrix after its own expansion; the last layer's from itself
      growth marked = g;
      for (auto& [axis, e] : marked) { e.writers = anything; } // NaN where an added unit is written
      const std::vector<real> written = grown(array, t.old.numbers.at(array.name), s, marked, number::value);
      const std::size_t slice = expected.size() / 3;
      for (std::size_t i = 0; i < 2 * slice; ++i) {
        if (std::isnan(written[i])) { expected[i] = even.numbers.at(array.name)[i + slice]; }
      }
    }
    const model wanted{even.size, {{array.name, expected}}},
        found{even.size, {{array.name, t.now.numbers.at(array.name)}}};
    CHECK(difference(wanted, found, 3) == "");
  }
  CHECK(t.plan.keeps() == msg::strictness::none);
  CHECK(t.apart().visible());
}

// -- experts ---------------------------------------------------------------------------------------------------------

TEST_CASE("upcycled experts act as one where their gates sum to 1", "[presets][upcycle]") {
  const index experts = GENERATE(2, 3, 8);
  const index top = GENERATE(1, 2);
  sizes s = small(family::llama);
  s.experts = 1;
  const trial t(s, {{"experts", experts}}, presets::upcycle());
  for (const char* name : {"up", "down"}) { // (layer, expert, ...): every expert is the one there was
    const std::vector<real>&before = t.old.numbers.at(name), &now = t.now.numbers.at(name);
    const std::size_t one = before.size() / 2, all = now.size() / 2;
    for (std::size_t i = 0; i < now.size(); ++i) { CHECK(now[i] == before[i / all * one + i % one]); }
  }
  CHECK(t.plan.contract()[0].gates_sum_to_one);
  CHECK(t.plan.keeps() == msg::strictness::rounding);
  setting how = keeping(t.plan);
  how.top = top;
  CHECK(between(t.old, t.now, how).rounding());
  how.normalised = false;
  CHECK(between(t.old, t.now, how).visible() == (top < experts));
}

TEST_CASE("experts that are copied with their router rows are chosen as often more", "[presets][upcycle]") {
  const auto [old, size, top] = GENERATE(table<index, index, index>({{2, 4, 1}, {3, 6, 2}, {2, 6, 1}, {3, 6, 3}}));
  const bool normalised = GENERATE(true, false);
  CAPTURE(old, size, top, normalised);
  sizes s = small(family::llama);
  s.experts = old;
  const trial t(s, {{"experts", size}}, presets::upcycle());
  expansion e = copies(old, tiled(old, size));
  CHECK(difference(grown(t.old, {{"experts", e}}), t.now) == "");
  CHECK(t.plan.contract()[0].chosen_factor == static_cast<double>(size) / static_cast<double>(old));
  CHECK(t.apart(0, {.top = top, .normalised = normalised}).rounding());
  // choosing as many as before takes the copies of half of them
  CHECK(between(t.old, t.now, {.top = top}, {.top = top}).visible() == (top > 1));
}

TEST_CASE("copies of some experts only are not said to keep the function", "[presets][upcycle]") {
  sizes s = small(family::llama);
  s.experts = 2;
  const trial t(s, {{"experts", 3}}, presets::upcycle());
  CHECK(t.plan.keeps() == msg::strictness::none);
  CHECK(t.apart().visible());
}

TEST_CASE("a mask keeps new experts out of the gates", "[presets][msg]") {
  const index top = GENERATE(0, 1, 2);
  const bool normalised = GENERATE(true, false);
  sizes s = small(family::llama);
  s.experts = 2;
  const trial t(s, {{"experts", 5}}, presets::msg(fresh_values::all(init::normal(1))));
  CHECK(t.plan.keeps() == msg::strictness::exact);
  CHECK(t.apart(0, {.top = top, .normalised = normalised}).none());
  if (top == 0) { CHECK(t.apart(1, {.normalised = normalised}).visible()); } // all act
}

// -- what a preset does not do ---------------------------------------------------------------------------------------

TEST_CASE("a preset refuses axes its paper says nothing about", "[presets]") {
  const sizes s = small(family::gpt);
  for (const msg::rule& by :
       {msg::rule(presets::stackbert()), msg::rule(presets::mslt()), msg::rule(presets::g_stack()),
        msg::rule(presets::midas()), msg::rule(presets::llama_pro()), msg::rule(presets::solar())}) {
    CAPTURE(by.name());
    for (const char* axis : {"hidden", "ffn", "heads"}) { CHECK(says(refusal(s, {{axis, 12}}, by), "layers")); }
  }
  CHECK(says(refusal(s, {{"layers", 4}}, presets::hypercloning()), "width"));
  for (const char* axis : {"hidden", "ffn", "heads", "layers"}) {
    CHECK(says(refusal(s, {{axis, 12}}, presets::upcycle()), "experts"));
  }
}
