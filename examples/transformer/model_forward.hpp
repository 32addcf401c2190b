// The reference Transformer, forward: definitions of transformer's members; include model.hpp.
#pragma once

#include "transformer/model.hpp"

namespace reference {

/// Calls f(activation function) for one on a single input, f() for a gated one.
template <class Plain, class Gated>
void with_activation(activation act, const Plain& plain, const Gated& gated) {
  switch (act) {
    case activation::gelu_tanh: return plain(msg::gelu_tanh{});
    case activation::gelu_erf: return plain(msg::gelu_erf{});
    case activation::swiglu: return gated();
  }
}

template <class T, backend_for<T> Backend>
double transformer<T, Backend>::forward(const parameter_set& parameters, const model_input& input,
                                        const masks& silence) {
  run_forward(parameters, input, silence);
  const auto mean = [&](const auto& losses, index rows, index counted) {
    return counted == 0 ? 0.0 : on_.sum(losses.data(), rows) / static_cast<double>(counted);
  };
  return mean(work_.loss, head_rows_, counted_) + mean(work_.sentence_loss, batch_, counted_sentences_);
}

template <class T, backend_for<T> Backend>
void transformer<T, Backend>::forward_into(double factor, double* total, const parameter_set& parameters,
                                           const model_input& input, const masks& silence) {
  run_forward(parameters, input, silence);
  const auto add_mean = [&](const auto& losses, index rows, index counted) {
    if (counted > 0) { on_.add_sum(losses.data(), rows, factor / static_cast<double>(counted), total); }
  };
  add_mean(work_.loss, head_rows_, counted_);
  add_mean(work_.sentence_loss, batch_, counted_sentences_);
}

// One parallel region per stretch between attentions: a block of rows goes from the heads of one layer to the queries,
// keys and values of the next while it is in the cache.
template <class T, backend_for<T> Backend>
void transformer<T, Backend>::run_forward(const parameter_set& parameters, const model_input& input,
                                          const masks& silence) {
  check_batch(input, silence);
  const pointers p = reference::bind<const T>(config_, schema_, parameters);
  take(input, silence);
  if (p.head.matrices[0].bias != nullptr || masks_.vocab) {
    work_.logit_shift.resize(static_cast<std::size_t>(config_.vocab));
    on_.run({0, 1}, config_.vocab,
            logit_shift_row<T>{p.head.matrices[0].bias, work_.logit_shift.data(), config_.vocab, masks_.vocab});
  } else {
    work_.logit_shift.resize(0);
  }
  std::vector<index> active;
  for (index l = 0; l < config_.layers; ++l) {
    if (gate(l) != 0.0F) { active.push_back(l); }
  }
  for (std::size_t a = 0; a <= active.size(); ++a) {
    on_.blocks(rows(), [&](row_range block) {
      if (a == 0) {
        embed(p, block);
      } else {
        out_of_attention(p, active[a - 1], block);
      }
      if (a < active.size()) {
        into_attention(p, active[a], block);
      } else if (!features_.masked_language) {
        into_logits(p, stream(config_.layers), block);
      }
    });
    if (a < active.size()) {
      auto& x = layer(active[a]);
      on_.template attention_forward<T>(attention(active[a]), x.qkv.data(),
                                        masks_.released ? msg::mask_view{} : masks_.heads, x.heads.data(),
                                        x.log_sum.data());
    }
  }
  if (features_.masked_language) {
    predict_hidden_tokens(p);
    if (predicts_next_ || !predicts_tokens_) { predict_next_sentence(p); }
  }
}

template <class T, backend_for<T> Backend>
void transformer<T, Backend>::norm(row_range block, const T* x, const norm_pointers<const T>& w, norm_state& to) {
  const index hidden = config_.hidden;
  if (features_.norm == msg::norm_kind::rms) {
    on_.run(block, hidden,
            msg::rms_norm_forward<T>{x, w.gain, to.out.data(), to.rstd.data(), hidden, config_.norm_eps, norm_weight(),
                                     masks_.hidden});
  } else {
    on_.run(block, hidden,
            msg::layer_norm_forward<T>{x, w.gain, w.bias, to.out.data(), to.mean.data(), to.rstd.data(), hidden,
                                       config_.norm_eps, norm_weight(), masks_.hidden});
  }
}

template <class T, backend_for<T> Backend>
void transformer<T, Backend>::embed(const pointers& p, row_range block) {
  on_.run(block, config_.hidden,
          embedding_forward<T>{p.words, p.types, p.places, work_.tokens.data(), work_.types.data(), work_.places.data(),
                               work_.embedded.data(), config_.hidden});
  if (!pre_norm()) { norm(block, work_.embedded.data(), p.embedding_norm, work_.embedding_norm); }
  if (drop_.rate != 0 && features_.drops_embedding) {
    T* const x = (pre_norm() ? work_.embedded : work_.embedding_norm.out).data();
    drop(block, dropout_place::embedding, 0, x, x);
  }
}

template <class T, backend_for<T> Backend>
void transformer<T, Backend>::into_attention(const pointers& p, index l, row_range block) {
  auto& x = layer(l);
  const auto& w = layer_of(p, l);
  if (pre_norm()) { norm(block, stream(l), w.norm_1, x.norm_1); }
  linear_forward(on_, block, w.qkv, attention_input(l), x.qkv.data());
  add_bias(on_, block, w.qkv, x.qkv.data());
  if (masks_.released) { mask_heads(block, w.qkv, x.qkv.data()); }
  if (features_.rotary) { turn(block, x.qkv.data(), 1); }
}

/// Masks queries, keys and values, or their gradients.
template <class T, backend_for<T> Backend>
void transformer<T, Backend>::mask_heads(row_range block, const projection<const T>& w, T* qkv) {
  const bool grouped = kv_heads_of(config_) != config_.heads;
  mask_pieces(on_, block, w, qkv, config_.head_dim,
              [&](index matrix) { return matrix > 0 && grouped ? masks_.kv_heads : masks_.heads; });
}

/// Rotary positions of queries and keys, which lie side by side.
template <class T, backend_for<T> Backend>
void transformer<T, Backend>::turn(row_range block, T* qkv, int direction) {
  const index width = attention(0).row_width();
  on_.run(block, width,
          rotary_row<T>{qkv, work_.cosines.data(), work_.sines.data(), work_.places.data(),
                        config_.heads + kv_heads_of(config_), config_.head_dim, width, direction});
}

template <class T, backend_for<T> Backend>
void transformer<T, Backend>::out_of_attention(const pointers& p, index l, row_range block) {
  const index hidden = config_.hidden;
  auto& x = layer(l);
  const auto& w = layer_of(p, l);
  T* const branch = work_.branch.data();
  const float* const branch_gate = pre_norm() ? gate_pointer(l) : nullptr;
  linear_forward(on_, block, w.attention_out, x.heads.data(), branch);
  const T* bias = dropped_branch(block, dropout_place::after_attention, l, w.attention_out, branch);
  on_.run(block, hidden, msg::residual_forward<T>{stream(l), branch, bias, x.sum_1.data(), hidden, branch_gate});
  if (pre_norm()) {
    norm(block, before_ffn(l), w.norm_2, x.norm_2);
  } else {
    norm(block, x.sum_1.data(), w.norm_1, x.norm_1);
  }
  if (w.router.count == 0) {
    run_ffn(block, w.ffns[0], x, ffn_input(l), branch);
  } else {
    run_experts(p, l, block);
  }
  bias = dropped_branch(block, dropout_place::after_ffn, l, w.ffns[0].out, branch);
  on_.run(block, hidden,
          msg::residual_forward<T>{pre_norm() ? x.sum_1.data() : x.norm_1.out.data(), branch, bias, x.sum_2.data(),
                                   hidden, branch_gate});
  if (!pre_norm()) {
    norm(block, x.sum_2.data(), w.norm_2, x.norm_2);
    if (gate(l) != 1.0F) {
      T* const out = x.norm_2.out.data();
      on_.run(block, hidden, msg::blend_forward<T>{stream(l), out, out, hidden, gate_pointer(l)});
    }
  }
}

/// An FFN on some rows, without the last bias: in (rows, C) to out (rows, C) by way of x.before and x.after.
template <class T, backend_for<T> Backend>
void transformer<T, Backend>::run_ffn(row_range rows, const ffn_pointers<const T>& w, layer_state& x, const T* in,
                                      T* out) {
  const index ffn = config_.ffn;
  T* const before = x.before.data();
  const T* bias = w.in.matrices[0].bias;
  msg::mask_view mask = masks_.ffn;
  linear_forward(on_, rows, w.in, in, before);
  if (masks_.released && mask) {
    add_bias(on_, rows, w.in, before);
    mask_pieces(on_, rows, w.in, before, 1, [&](index) { return mask; });
    bias = nullptr;
    mask = {};
  }
  with_activation(
      features_.act,
      [&](auto act) {
        on_.run(rows, ffn, msg::activation_forward<T, decltype(act)>{before, bias, x.after.data(), ffn, mask});
      },
      [&] {
        on_.run(rows, ffn, msg::gated_forward<T>{before, x.after.data(), ffn, mask});
      });
  linear_forward(on_, rows, w.out, x.after.data(), out);
}

/// The head's last norm, logits and losses on a block of its rows, from x.
template <class T, backend_for<T> Backend>
void transformer<T, Backend>::into_logits(const pointers& p, const T* x, row_range block) {
  const index vocab = config_.vocab;
  T* const logits = work_.logits.data();
  norm(block, x, p.final_norm, work_.final_norm);
  linear_forward(on_, block, p.head, work_.final_norm.out.data(), logits);
  if (work_.logit_shift.size() != 0) {
    on_.run(block, vocab, shift_logits<T>{logits, work_.logit_shift.data(), vocab});
  }
  if (predicts_tokens_) {
    on_.run(block, vocab,
            cross_entropy_forward<T>{logits, work_.targets.data(), work_.loss.data(), work_.log_sum.data(), vocab});
  }
}

/// BERT's head for hidden tokens, on the rows that count.
template <class T, backend_for<T> Backend>
void transformer<T, Backend>::predict_hidden_tokens(const pointers& p) {
  const index hidden = config_.hidden;
  on_.blocks(head_rows_, [&](row_range block) {
    on_.run(block, hidden, gather_row<T>{stream(config_.layers), work_.predicted.data(), work_.chosen.data(), hidden});
    linear_forward(on_, block, p.transform, work_.chosen.data(), work_.transform_before.data());
    on_.run(block, hidden,
            msg::activation_forward<T, msg::gelu_erf>{
                work_.transform_before.data(), p.transform.matrices[0].bias, work_.transform.data(), hidden, {}});
    into_logits(p, work_.transform.data(), block);
  });
}

/// BERT's pooler and head for pairs of sentences, on the first token of each sequence.
template <class T, backend_for<T> Backend>
void transformer<T, Backend>::predict_next_sentence(const pointers& p) {
  const index hidden = config_.hidden;
  on_.blocks(batch_, [&](row_range block) {
    on_.run(block, hidden, gather_row<T>{stream(config_.layers), work_.first_rows.data(), work_.first.data(), hidden});
    linear_forward(on_, block, p.pooler, work_.first.data(), work_.pooled_before.data());
    on_.run(block, hidden,
            msg::activation_forward<T, msg::hyperbolic_tangent>{work_.pooled_before.data(), p.pooler.matrices[0].bias,
                                                                work_.pooled.data(), hidden, masks_.hidden});
    linear_forward(on_, block, p.next_sentence, work_.pooled.data(), work_.sentence_logits.data());
    add_bias(on_, block, p.next_sentence, work_.sentence_logits.data());
    if (predicts_next_) {
      on_.run(block, p.next_sentence.out,
              cross_entropy_forward<T>{work_.sentence_logits.data(), work_.next_sentence.data(),
                                       work_.sentence_loss.data(), work_.sentence_log_sum.data(), p.next_sentence.out});
    }
  });
}

} // namespace reference
