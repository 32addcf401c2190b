// Small Transformers of three kinds, as the msg::schema a user would write and as arrays with a table of their own.
//
// The tests of published operators grow these arrays with the loops of published_growth.hpp and run them through
// published_forward.hpp; nothing of the library but the schema's type is used here.
#pragma once

#include <msg/schema.hpp>

#include <cstddef>
#include <cstdint>
#include <map>
#include <random>
#include <string>
#include <utility>
#include <vector>

namespace published {

using msg::index;

enum class family {
  gpt,   // pre-LN, learned positions, fused query-key-value stored (in, out), GELU
  bert,  // post-LN, token types, separate projections stored (out, in), pooler, MLM transform, two heads
  llama, // pre-RMSNorm, rotary positions, grouped queries in one concatenated projection, SwiGLU, no biases
};

/// Sizes of a small Transformer. gpt and llama have one head_dim, bert may have keys and values of two widths.
struct sizes {
  family kind = family::gpt;
  bool tied = true;
  index vocab = 5, positions = 3, hidden = 4, ffn = 6, heads = 2, kv_heads = 2, head_dim = 2, layers = 2;
  index key_dim = 2, value_dim = 2; // bert
  index experts = 0;                // llama: 0 is one dense FFN without a router
  bool listed = false;              // llama: rotary frequencies are a table of the model's own
  bool last_reads = true;           // a tied head's last norm is declared on the reading side

  [[nodiscard]] index of(const std::string& axis) const {
    const std::map<std::string, index> all{{"vocab", vocab},       {"positions", positions}, {"hidden", hidden},
                                           {"ffn", ffn},           {"heads", heads},         {"layers", layers},
                                           {"kv_heads", kv_heads}, {"head_dim", head_dim},   {"key_dim", key_dim},
                                           {"experts", experts},   {"value_dim", value_dim}};
    const auto found = all.find(axis);
    return found == all.end() ? std::stoll(axis) : found->second; // "3": a fixed multiplicity
  }
};

inline const std::vector<family> families{family::gpt, family::bert, family::llama};

/// Two heads; a llama has two query heads to each of two KV heads.
[[nodiscard]] inline sizes small(family kind, bool tied = true) {
  return {.kind = kind, .tied = tied, .heads = kind == family::llama ? index(4) : index(2)};
}

/// One dimension of an array: what it does with the units of its axes ('w' writes, 'r' reads, 's' is sliced by them),
/// and the axes: products, one after another.
struct side {
  char does = 'w';
  std::vector<std::vector<std::string>> terms{};
};

struct form {
  std::string name;
  msg::kind what = msg::kind::weight;
  std::vector<side> sides;
};

/// What the arrays of a model are, from the published architectures (not from the schema).
[[nodiscard]] inline std::vector<form> forms(const sizes& s) {
  using msg::kind;
  const side L{'s', {{"layers"}}};
  const side write{'w', {{"hidden"}}}, read{'r', {{"hidden"}}};
  const side write_ffn{'w', {{"ffn"}}}, read_ffn{'r', {{"ffn"}}};
  const side tokens{'r', {{"vocab"}}}, logits{'w', {{"vocab"}}}, places{'r', {{"positions"}}};
  const side last = s.tied && s.last_reads ? read : write; // the last norm before a tied head belongs to the head
  std::vector<form> all;
  const auto add = [&](const char* name, kind what, std::vector<side> sides) {
    all.push_back({name, what, std::move(sides)});
  };
  add("token", kind::weight, {tokens, write});
  if (s.kind == family::gpt) {
    const side fused{'w', {{"3", "heads", "head_dim"}}}, joined{'r', {{"heads", "head_dim"}}};
    add("position", kind::weight, {places, write});
    add("first.gain", kind::norm_gain, {L, write});
    add("first.bias", kind::norm_bias, {L, write});
    add("qkv", kind::weight, {L, read, fused});
    add("qkv.bias", kind::bias, {L, fused});
    add("join", kind::weight, {L, joined, write});
    add("join.bias", kind::bias, {L, write});
    add("second.gain", kind::norm_gain, {L, write});
    add("second.bias", kind::norm_bias, {L, write});
    add("up", kind::weight, {L, read, write_ffn});
    add("up.bias", kind::bias, {L, write_ffn});
    add("down", kind::weight, {L, read_ffn, write});
    add("down.bias", kind::bias, {L, write});
    add("last.gain", kind::norm_gain, {last});
    add("last.bias", kind::norm_bias, {last});
    if (!s.tied) { add("head", kind::weight, {logits, read}); }
  } else if (s.kind == family::bert) {
    const side keys{'w', {{"heads", "key_dim"}}}, values{'w', {{"heads", "value_dim"}}};
    const side joined{'r', {{"heads", "value_dim"}}};
    add("position", kind::weight, {places, write});
    add("type", kind::weight, {side{'r', {{"2"}}}, write});
    add("embedding.gain", kind::norm_gain, {write});
    add("embedding.bias", kind::norm_bias, {write});
    add("query", kind::weight, {L, keys, read});
    add("query.bias", kind::bias, {L, keys});
    add("key", kind::weight, {L, keys, read});
    add("key.bias", kind::bias, {L, keys});
    add("value", kind::weight, {L, values, read});
    add("value.bias", kind::bias, {L, values});
    add("join", kind::weight, {L, write, joined});
    add("join.bias", kind::bias, {L, write});
    add("first.gain", kind::norm_gain, {L, write});
    add("first.bias", kind::norm_bias, {L, write});
    add("up", kind::weight, {L, write_ffn, read});
    add("up.bias", kind::bias, {L, write_ffn});
    add("down", kind::weight, {L, write, read_ffn});
    add("down.bias", kind::bias, {L, write});
    add("second.gain", kind::norm_gain, {L, write});
    add("second.bias", kind::norm_bias, {L, write});
    add("pooler", kind::weight, {write, read});
    add("pooler.bias", kind::bias, {write});
    add("pair", kind::weight, {side{'w', {{"2"}}}, read});
    add("pair.bias", kind::bias, {side{'w', {{"2"}}}});
    add("transform", kind::weight, {write, read});
    add("transform.bias", kind::bias, {write});
    add("last.gain", kind::norm_gain, {last});
    add("last.bias", kind::norm_bias, {last});
    if (!s.tied) { add("head", kind::weight, {logits, read}); }
    add("head.bias", kind::bias, {logits});
  } else {
    const side qkv{'w', {{"heads", "head_dim"}, {"kv_heads", "head_dim"}, {"kv_heads", "head_dim"}}};
    const side gated{'w', {{"2", "ffn"}}}, joined{'r', {{"heads", "head_dim"}}};
    add("first.gain", kind::norm_gain, {L, write});
    add("qkv", kind::weight, {L, qkv, read});
    add("join", kind::weight, {L, write, joined});
    add("second.gain", kind::norm_gain, {L, write});
    if (s.experts == 0) {
      add("up", kind::weight, {L, gated, read});
      add("down", kind::weight, {L, write, read_ffn});
    } else {
      const side E{'s', {{"experts"}}};
      add("router", kind::weight, {L, side{'w', {{"experts"}}}, read});
      add("up", kind::weight, {L, E, gated, read});
      add("down", kind::weight, {L, E, write, read_ffn});
    }
    add("last.gain", kind::norm_gain, {last});
    if (!s.tied) { add("head", kind::weight, {logits, read}); }
  }
  return all;
}

/// The same model as a user of the library writes it down.
[[nodiscard]] inline msg::schema schema_of(const sizes& sz) {
  const msg::axis vocab{"vocab", sz.vocab}, positions{"positions", sz.positions}, hidden{"hidden", sz.hidden};
  const msg::axis ffn{"ffn", sz.ffn}, heads{"heads", sz.heads}, head_dim{"head_dim", sz.head_dim};
  const msg::axis layers{"layers", sz.layers};
  const msg::dimension last = sz.tied && sz.last_reads ? in(hidden) : out(hidden);
  msg::schema s;
  s.weight("token", in(vocab), out(hidden));
  if (sz.kind == family::gpt) {
    s.weight("position", in(positions), out(hidden));
    s.norm_gain("first.gain", each(layers), out(hidden)).norm_bias("first.bias", each(layers), out(hidden));
    s.weight("qkv", each(layers), in(hidden), out(3 * (heads * head_dim)));
    s.bias("qkv.bias", each(layers), out(3 * (heads * head_dim)));
    s.weight("join", each(layers), in(heads * head_dim), out(hidden)).bias("join.bias", each(layers), out(hidden));
    s.norm_gain("second.gain", each(layers), out(hidden)).norm_bias("second.bias", each(layers), out(hidden));
    s.weight("up", each(layers), in(hidden), out(ffn)).bias("up.bias", each(layers), out(ffn));
    s.weight("down", each(layers), in(ffn), out(hidden)).bias("down.bias", each(layers), out(hidden));
    s.norm_gain("last.gain", last);
    s.norm_bias("last.bias", last);
    if (!sz.tied) { s.weight("head", out(vocab), in(hidden)); }
    return s.normed(hidden).logits(vocab).scored(head_dim).keys("qkv", 1).keys("qkv.bias", 1);
  }
  if (sz.kind == family::bert) {
    const msg::axis key_dim{"key_dim", sz.key_dim}, value_dim{"value_dim", sz.value_dim};
    s.weight("position", in(positions), out(hidden)).weight("type", msg::in(2), out(hidden));
    s.norm_gain("embedding.gain", out(hidden)).norm_bias("embedding.bias", out(hidden));
    s.weight("query", each(layers), out(heads * key_dim), in(hidden));
    s.bias("query.bias", each(layers), out(heads * key_dim));
    s.weight("key", each(layers), out(heads * key_dim), in(hidden));
    s.bias("key.bias", each(layers), out(heads * key_dim));
    s.weight("value", each(layers), out(heads * value_dim), in(hidden));
    s.bias("value.bias", each(layers), out(heads * value_dim));
    s.weight("join", each(layers), out(hidden), in(heads * value_dim)).bias("join.bias", each(layers), out(hidden));
    s.norm_gain("first.gain", each(layers), out(hidden)).norm_bias("first.bias", each(layers), out(hidden));
    s.weight("up", each(layers), out(ffn), in(hidden)).bias("up.bias", each(layers), out(ffn));
    s.weight("down", each(layers), out(hidden), in(ffn)).bias("down.bias", each(layers), out(hidden));
    s.norm_gain("second.gain", each(layers), out(hidden)).norm_bias("second.bias", each(layers), out(hidden));
    s.weight("pooler", out(hidden), in(hidden)).bias("pooler.bias", out(hidden));
    s.weight("pair", msg::out(2), in(hidden)).bias("pair.bias", msg::out(2));
    s.weight("transform", out(hidden), in(hidden)).bias("transform.bias", out(hidden));
    s.norm_gain("last.gain", last);
    s.norm_bias("last.bias", last);
    if (!sz.tied) { s.weight("head", out(vocab), in(hidden)); }
    s.bias("head.bias", out(vocab));
    s.normed(hidden, msg::norm_kind::layer, msg::norm_position::post).logits(vocab);
    return s.scored(key_dim).keys("key").keys("key.bias");
  }
  const msg::axis kv_heads{"kv_heads", sz.kv_heads};
  s.norm_gain("first.gain", each(layers), out(hidden));
  s.weight("qkv", each(layers), out(heads * head_dim | kv_heads * head_dim | kv_heads * head_dim), in(hidden));
  s.weight("join", each(layers), out(hidden), in(heads * head_dim));
  s.norm_gain("second.gain", each(layers), out(hidden));
  if (sz.experts == 0) {
    s.weight("up", each(layers), out(2 * ffn), in(hidden));
    s.weight("down", each(layers), out(hidden), in(ffn));
  } else {
    const msg::axis experts{"experts", sz.experts};
    s.logits(experts); // a gate chooses from them
    s.weight("router", each(layers), out(experts), in(hidden));
    s.weight("up", each(layers), each(experts), out(2 * ffn), in(hidden));
    s.weight("down", each(layers), each(experts), out(hidden), in(ffn));
  }
  s.norm_gain("last.gain", last);
  if (!sz.tied) { s.weight("head", out(vocab), in(hidden)); }
  s.normed(hidden, msg::norm_kind::rms).logits(vocab).grouped(heads, kv_heads);
  return s.scored(head_dim).keys("qkv", 1).rotary(head_dim, msg::rotary_layout::half_split,
                                                  sz.listed ? msg::rotary_frequencies::listed
                                                            : msg::rotary_frequencies::computed);
}

/// Numbers of a model by the name of their array, row-major.
template <class Number>
using values = std::map<std::string, std::vector<Number>>;

/// Numbers are kept wide, so that a division by three is no reason for a difference.
struct model {
  sizes size{};
  values<long double> numbers{};
};

[[nodiscard]] inline index extent_of(const side& one, const sizes& s) {
  index extent = 0;
  for (const std::vector<std::string>& term : one.terms) {
    index product = 1;
    for (const std::string& axis : term) { product *= s.of(axis); }
    extent += product;
  }
  return extent;
}

[[nodiscard]] inline index size_of(const form& array, const sizes& s) {
  index size = 1;
  for (const side& one : array.sides) { size *= extent_of(one, s); }
  return size;
}

/// As after some training: no number is 0, no gain 1, no two alike.
[[nodiscard]] inline model random_model(const sizes& s, std::uint64_t seed) {
  std::mt19937_64 draw(seed);
  model made{s, {}};
  for (const form& array : forms(s)) {
    std::vector<long double>& numbers = made.numbers[array.name];
    for (index i = 0; i < size_of(array, s); ++i) {
      const double uniform = static_cast<double>(draw() >> 11) * 0x1p-52 - 1; // in [-1, 1)
      numbers.push_back(array.what == msg::kind::norm_gain ? 1 + 0.5 * uniform : uniform);
    }
  }
  return made;
}

/// One buffer in the order of the schema, as msg::apply takes it, and back.
template <class Number>
[[nodiscard]] std::vector<double> packed(const values<Number>& numbers, const msg::schema& s) {
  std::vector<double> all;
  for (const msg::parameter& p : s.parameters()) {
    for (const Number& one : numbers.at(p.name)) { all.push_back(static_cast<double>(one)); }
  }
  return all;
}
[[nodiscard]] inline values<long double> unpacked(const std::vector<double>& all, const msg::schema& s) {
  values<long double> numbers;
  auto next = all.begin();
  for (const msg::parameter& p : s.parameters()) {
    numbers[p.name].assign(next, next + p.size());
    next += p.size();
  }
  return numbers;
}

} // namespace published
