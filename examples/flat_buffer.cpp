// A trainer that keeps all parameters in one buffer, as llm.c does: growth is one call for the parameters and one for
// each of Adam's buffers. The schema lists the tensors in the order in which the buffer holds them.
//
//   wte (V, C)  wpe (maxT, C)  ln1w ln1b (L, C)  qkvw (L, 3C, C)  qkvb (L, 3C)  attprojw (L, C, C)  attprojb (L, C)
//   ln2w ln2b (L, C)  fcw (L, F, C)  fcb (L, F)  fcprojw (L, C, F)  fcprojb (L, C)  lnfw lnfb (C)
//
// In llm.c heads * head size = C and F = 4 C, so these axes grow together. Weights are (out, in).
#include <msg/grow.hpp>

#include <cstddef>
#include <cstdio>
#include <vector>

namespace {

using msg::index;

struct gpt2_config {
  index max_seq_len, padded_vocab_size, num_layers, num_heads, channels;
};

/// What llm.c computes in fill_in_parameter_sizes, in one sum.
index num_parameters(const gpt2_config& config) {
  const index C = config.channels, L = config.num_layers;
  return (config.padded_vocab_size + config.max_seq_len) * C + // wte, wpe
         L * (4 * C + 3 * C * C + 3 * C + C * C + C) +         // two norms, qkv, attproj
         L * (4 * C * C + 4 * C + 4 * C * C + C) +             // fc, fcproj
         2 * C;                                                // the last norm
}

/// The same tensors as named dimensions.
msg::schema llm_c(const gpt2_config& config) {
  const msg::axis V{"vocab", config.padded_vocab_size}, T{"positions", config.max_seq_len};
  const msg::axis C{"hidden", config.channels}, L{"layers", config.num_layers}, F{"ffn", 4 * config.channels};
  const msg::axis NH{"heads", config.num_heads}, HS{"head_dim", config.channels / config.num_heads};
  msg::schema s;
  s.weight("wte", in(V), out(C)).weight("wpe", in(T), out(C));
  s.norm_gain("ln1w", each(L), out(C)).norm_bias("ln1b", each(L), out(C));
  s.weight("qkvw", each(L), out(3 * NH * HS), in(C)).bias("qkvb", each(L), out(3 * NH * HS));
  s.weight("attprojw", each(L), out(C), in(NH * HS)).bias("attprojb", each(L), out(C));
  s.norm_gain("ln2w", each(L), out(C)).norm_bias("ln2b", each(L), out(C));
  s.weight("fcw", each(L), out(F), in(C)).bias("fcb", each(L), out(F));
  s.weight("fcprojw", each(L), out(C), in(F)).bias("fcprojb", each(L), out(C));
  s.norm_gain("lnfw", in(C)).norm_bias("lnfb", in(C));
  s.normed(C).logits(V).scored(HS);
  return s;
}

/// Element (l, k, h, d, c) of qkvw: layer, query-key-value, head, channel of the head; c is the channel read.
std::size_t qkvw(const msg::schema& s, const gpt2_config& config, index l, index k, index h, index d, index c) {
  const index hs = config.channels / config.num_heads;
  const index row = (k * config.num_heads + h) * hs + d;
  return static_cast<std::size_t>(s.offset("qkvw") + (l * 3 * config.channels + row) * config.channels + c);
}

} // namespace

int main() {
  const gpt2_config small{.max_seq_len = 8, .padded_vocab_size = 32, .num_layers = 2, .num_heads = 2, .channels = 8};
  const gpt2_config large{.max_seq_len = 8, .padded_vocab_size = 32, .num_layers = 4, .num_heads = 3, .channels = 12};

  const msg::schema model = llm_c(small);
  const msg::plan plan{
      model,
      {model.axis_at("hidden").grow_to(large.channels), model.axis_at("heads").grow_to(large.num_heads),
       model.axis_at("ffn").grow_to(4 * large.channels), model.axis_at("layers").grow_to(large.num_layers)},
      msg::mask{},
      {.seed = 7}};

  // llm.c's params_memory, m_memory and v_memory, filled with numbers that can be told apart.
  const auto old_size = static_cast<std::size_t>(num_parameters(small));
  const auto new_size = static_cast<std::size_t>(num_parameters(large));
  std::vector<float> params(old_size), m(old_size), v(old_size);
  for (std::size_t i = 0; i < old_size; ++i) {
    params[i] = static_cast<float>(i + 1);
    m[i] = -params[i];
    v[i] = 0.5F * params[i];
  }
  std::vector<float> grown_params(new_size), grown_m(new_size), grown_v(new_size);
  msg::apply(plan, params, grown_params); // one call per buffer; a wrong size throws before anything is written
  msg::apply(plan, m, grown_m, msg::payload::moment1);
  msg::apply(plan, v, grown_v, msg::payload::moment2);
  std::printf("%zu parameters became %zu\n", old_size, new_size);

  for (const msg::axis_contract& axis : plan.contract()) { // what the forward pass has to do from now on
    std::printf("  %-7s %s%s%s\n", axis.axis.c_str(), axis.mask_activations ? "mask activations" : "",
                axis.mask_norm_statistics ? ", mask norm statistics" : "", axis.blend_layers ? "blend layers" : "");
  }

  // Every old weight of query, key and value is where the larger model looks for it, in every layer; a new layer holds
  // a copy of an old one, and its moments start at zero.
  const msg::schema& after = plan.after();
  const index head_size = small.channels / small.num_heads;
  bool right = after.size() == num_parameters(large);
  for (index l = 0; l < large.num_layers; ++l) {
    const bool copy = l >= small.num_layers;
    const index from = plan["qkvw"].source_of(l);
    for (index k = 0; k < 3; ++k) {
      for (index h = 0; h < small.num_heads; ++h) {
        for (index d = 0; d < head_size; ++d) {
          for (index c = 0; c < small.channels; ++c) {
            const std::size_t there = qkvw(after, large, l, k, h, d, c), here = qkvw(model, small, from, k, h, d, c);
            right = right && grown_params[there] == params[here];
            right = right && grown_m[there] == (copy ? 0 : m[here]) && grown_v[there] == (copy ? 0 : v[here]);
          }
        }
      }
    }
  }
  std::printf("old weights and moments are %s\n", right ? "in place" : "LOST");
  return right ? 0 : 1;
}
