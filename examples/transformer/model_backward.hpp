// The reference Transformer, backward: definitions of transformer's members; include model.hpp.
#pragma once

#include "transformer/model.hpp"

#include <msg/kernels/column_sum.hpp>

#include <utility>

namespace reference {

template <class T, backend_for<T> Backend>
void transformer<T, Backend>::backward(const parameter_set& parameters, parameter_set& gradients, double scale) {
  if (!predicts_tokens_ && !predicts_next_) {
    throw msg::error(msg::diagnostic{
        .code = msg::errc::bad_state, .expected = "a forward with targets", .found = "none since the last backward"});
  }
  const pointers p = reference::bind<const T>(config_, schema_, parameters);
  const gradient_pointers d = reference::bind<T>(config_, schema_, gradients);
  work_.prepare_backward(config_, rows());
  const auto share = [&](index counted) {
    return counted == 0 ? T(0) : static_cast<T>(scale / static_cast<double>(counted));
  };
  if (features_.masked_language) {
    on_.fill_zero(work_.stream_top.data(), rows() * config_.hidden);
    if (counted_ > 0) { hidden_tokens_back(p, d, share(counted_)); }
    if (counted_sentences_ > 0) { next_sentence_back(p, d, share(counted_sentences_)); }
  } else {
    const T* const x = stream(config_.layers);
    on_.blocks(rows(), [&](row_range block) { logits_back(p, d, x, work_.stream_top.data(), share(counted_), block); });
    tasks work(on_);
    add_gradient(work, rows(), d.head, work_.final_norm.out.data(), work_.logits.data(), work_.head_partial.data());
    add_norm_gradient(work, rows(), d.final_norm, 0);
    work.run();
  }
  for (index l = config_.layers - 1; l >= 0; --l) {
    if (gate(l) != 0.0F) { layer_back(p, d, l); }
  }
  embedding_back(p, d);
  predicts_tokens_ = predicts_next_ = false;
}

/// Gradient of a norm in its input, and the first half of that of its gain and bias, in sums(s) and sums(s + 1).
template <class T, backend_for<T> Backend>
void transformer<T, Backend>::norm_back(row_range block, index rows, const T* x, const norm_pointers<const T>& w,
                                        const norm_state& n, const T* dy, T* dx, bool accumulate, std::size_t s) {
  const index hidden = config_.hidden;
  const bool rms = features_.norm == msg::norm_kind::rms;
  on_.run_chunks(block, hidden,
                 msg::norm_gain_partial<T>{x, dy, rms ? nullptr : n.mean.data(), n.rstd.data(), sums(s),
                                           rms ? nullptr : sums(s + 1), rows, hidden, masks_.hidden});
  if (rms) {
    on_.run(
        block, hidden,
        msg::rms_norm_backward<T>{x, w.gain, n.rstd.data(), dy, dx, hidden, accumulate, norm_weight(), masks_.hidden});
  } else {
    on_.run(block, hidden,
            msg::layer_norm_backward<T>{x, w.gain, n.mean.data(), n.rstd.data(), dy, dx, hidden, accumulate,
                                        norm_weight(), masks_.hidden});
  }
}

template <class T, backend_for<T> Backend>
void transformer<T, Backend>::add_norm_gradient(tasks& work, index rows, const norm_pointers<T>& d, std::size_t s) {
  work.add_join(rows, config_.hidden, sums(s), d.gain);
  if (d.bias != nullptr) { work.add_join(rows, config_.hidden, sums(s + 1), d.bias); }
}

/// From the losses of a block of the head's rows to the gradient dx of what its last norm read; the norm's sums are
/// sums(0) and sums(1).
template <class T, backend_for<T> Backend>
void transformer<T, Backend>::logits_back(const pointers& p, const gradient_pointers& d, const T* x, T* dx, T scale,
                                          row_range block) {
  T* const logits = work_.logits.data();
  T* const dnormed = work_.dnormed.data();
  on_.run(block, config_.vocab,
          cross_entropy_backward<T>{logits, work_.targets.data(), work_.log_sum.data(), scale, config_.vocab});
  bias_sums(on_, block, head_rows_, d.head, logits, work_.head_partial.data());
  linear_backward(on_, block, p.head, logits, dnormed);
  norm_back(block, head_rows_, x, p.final_norm, work_.final_norm, dnormed, dx, false, 0);
}

/// Adds to stream_top, the gradient of the stream behind the last layer, what comes from the hidden tokens.
template <class T, backend_for<T> Backend>
void transformer<T, Backend>::hidden_tokens_back(const pointers& p, const gradient_pointers& d, T scale) {
  const index hidden = config_.hidden;
  T* const dtransform = work_.stream_middle.data(); // the stream's buffers are free until the first layer
  T* const dchosen = work_.stream_low.data();
  if (d.head.matrices[0].bias != nullptr) {
    work_.head_partial.resize(static_cast<std::size_t>(msg::chunk_count(head_rows_) * config_.vocab));
  }
  on_.blocks(head_rows_, [&](row_range block) {
    logits_back(p, d, work_.transform.data(), dtransform, scale, block);
    on_.run(block, hidden,
            msg::activation_backward<T, msg::gelu_erf>{
                work_.transform_before.data(), p.transform.matrices[0].bias, dtransform, dtransform, hidden, {}});
    bias_sums(on_, block, head_rows_, d.transform, dtransform, sums(2));
    linear_backward(on_, block, p.transform, dtransform, dchosen);
    on_.run(block, hidden, scatter_row<T>{dchosen, work_.predicted.data(), work_.stream_top.data(), hidden});
  });
  tasks work(on_);
  add_gradient(work, head_rows_, d.head, work_.final_norm.out.data(), work_.logits.data(), work_.head_partial.data());
  add_gradient(work, head_rows_, d.transform, work_.chosen.data(), dtransform, sums(2));
  add_norm_gradient(work, head_rows_, d.final_norm, 0);
  work.run();
}

/// The same for the pairs of sentences.
template <class T, backend_for<T> Backend>
void transformer<T, Backend>::next_sentence_back(const pointers& p, const gradient_pointers& d, T scale) {
  const index hidden = config_.hidden;
  const index classes = p.next_sentence.out;
  T* const dlogits = work_.sentence_logits.data();
  T* const dpooled = work_.stream_middle.data();
  T* const dfirst = work_.stream_low.data();
  on_.blocks(batch_, [&](row_range block) {
    on_.run(
        block, classes,
        cross_entropy_backward<T>{dlogits, work_.next_sentence.data(), work_.sentence_log_sum.data(), scale, classes});
    bias_sums(on_, block, batch_, d.next_sentence, dlogits, sums(0));
    linear_backward(on_, block, p.next_sentence, dlogits, dpooled);
    on_.run(block, hidden,
            msg::activation_backward<T, msg::hyperbolic_tangent>{work_.pooled_before.data(), p.pooler.matrices[0].bias,
                                                                 dpooled, dpooled, hidden, masks_.hidden});
    bias_sums(on_, block, batch_, d.pooler, dpooled, sums(1));
    linear_backward(on_, block, p.pooler, dpooled, dfirst);
    on_.run(block, hidden, scatter_row<T>{dfirst, work_.first_rows.data(), work_.stream_top.data(), hidden});
  });
  tasks work(on_);
  add_gradient(work, batch_, d.next_sentence, work_.pooled.data(), dlogits, sums(0));
  add_gradient(work, batch_, d.pooler, work_.first.data(), dpooled, sums(1));
  work.run();
}

/// From the gradient `dout` of an FFN's output to that of its input, written to `din` or added to it; sums(0) and
/// sums(1) take its biases, dbefore() the gradient of what comes before the activation.
template <class T, backend_for<T> Backend>
void transformer<T, Backend>::ffn_back(row_range rows, const ffn_pointers<const T>& w, const ffn_pointers<T>& d,
                                       layer_state& x, const T* dout, T* din, bool accumulate) {
  const index ffn = config_.ffn;
  T* const dafter = work_.dafter.data();
  const bool before_activation = masks_.released && masks_.ffn; // where the mask stands, and the bias has been added
  const T* const bias = before_activation ? nullptr : w.in.matrices[0].bias;
  const msg::mask_view mask = before_activation ? msg::mask_view{} : masks_.ffn;
  bias_sums(on_, rows, this->rows(), d.out, dout, sums(0));
  linear_backward(on_, rows, w.out, dout, dafter);
  with_activation(
      features_.act,
      [&](auto act) {
        on_.run(rows, ffn,
                msg::activation_backward<T, decltype(act)>{x.before.data(), bias, dafter, dbefore(), ffn, mask});
      },
      [&] {
        on_.run(rows, ffn, msg::gated_backward<T>{x.before.data(), dafter, dbefore(), ffn, mask});
      });
  if (before_activation) {
    mask_pieces(on_, rows, w.in, dbefore(), 1, [&](index) { return masks_.ffn; });
  }
  bias_sums(on_, rows, this->rows(), d.in, dbefore(), sums(1));
  linear_backward(on_, rows, w.in, dbefore(), din, accumulate);
}

// Takes the gradient of the stream behind layer l in stream_top, and leaves there that of the stream before it.
template <class T, backend_for<T> Backend>
void transformer<T, Backend>::layer_back(const pointers& p, const gradient_pointers& d, index l) {
  const index hidden = config_.hidden;
  const bool gated = gate(l) != 1.0F;
  const bool drops = drop_.rate != 0;
  const bool apart = gated || drops; // a sub-layer's output gets another gradient than the stream
  auto& x = layer(l);
  const auto& w = layer_of(p, l);
  T* const top = work_.stream_top.data();
  T* const middle = work_.stream_middle.data();
  T* const low = work_.stream_low.data();
  T* const dnormed = work_.dnormed.data();
  T* const branch = work_.branch.data();
  T* const branch_2 = work_.branch_2.data();
  // what reaches the sub-layers' outputs: the gradient of the stream itself, or what gate and dropout leave of it
  const T* const dffn = pre_norm() ? (apart ? branch : top) : drops ? branch : middle;
  const T* const dattention = pre_norm() ? (config_.parallel && !drops ? dffn
                                            : apart                    ? branch_2
                                                                       : middle)
                                         : (drops ? middle : branch_2);
  const auto to_branch = [&](row_range block, dropout_place place, const T* from, T* to) {
    if (gated) { on_.run(block, hidden, msg::residual_backward<T>{from, to, hidden, gate_pointer(l)}); }
    if (drops) { drop(block, place, l, gated ? to : from, to); }
  };
  const auto through_ffn = [&](row_range block, bool accumulate) {
    if (w.router.count == 0) {
      ffn_back(block, w.ffns[0], layer_of(d, l).ffns[0], x, dffn, dnormed, accumulate);
    } else {
      experts_back(p, l, block, dffn, dnormed, accumulate);
    }
  };
  const auto copy = [&](row_range block, const T* from, T* to) {
    on_.run(block, hidden, gather_row<T>{from, nullptr, to, hidden});
  };

  on_.blocks(rows(), [&](row_range block) {
    if (pre_norm()) {
      to_branch(block, dropout_place::after_ffn, top, branch);
      through_ffn(block, false);
      copy(block, top, middle);
      norm_back(block, rows(), before_ffn(l), w.norm_2, x.norm_2, dnormed, middle, true, 2);
      if (dattention == branch_2) {
        to_branch(block, dropout_place::after_attention, config_.parallel ? top : middle, branch_2);
      }
    } else {
      // top becomes (1 - g) top, which goes past the layer
      if (gated) { on_.run(block, hidden, msg::blend_backward<T>{top, top, branch, hidden, gate_pointer(l)}); }
      norm_back(block, rows(), x.sum_2.data(), w.norm_2, x.norm_2, gated ? branch : top, middle, false, 2);
      copy(block, middle, dnormed);
      if (drops) { drop(block, dropout_place::after_ffn, l, middle, branch); }
      through_ffn(block, true);
      norm_back(block, rows(), x.sum_1.data(), w.norm_1, x.norm_1, dnormed, branch_2, false, 6);
      if (drops) { drop(block, dropout_place::after_attention, l, branch_2, middle); }
    }
    bias_sums(on_, block, rows(), layer_of(d, l).attention_out, dattention, sums(4));
    linear_backward(on_, block, w.attention_out, dattention, work_.dheads.data());
  });
  T* const dqkv = work_.dqkv.data();
  on_.template attention_backward<T>(attention(l), x.qkv.data(), masks_.released ? msg::mask_view{} : masks_.heads,
                                     x.heads.data(), x.log_sum.data(), work_.dheads.data(), dqkv);
  on_.blocks(rows(), [&](row_range block) {
    if (features_.rotary) { turn(block, dqkv, -1); }
    if (masks_.released) { mask_heads(block, w.qkv, dqkv); }
    bias_sums(on_, block, rows(), layer_of(d, l).qkv, dqkv, sums(5));
    if (pre_norm()) {
      linear_backward(on_, block, w.qkv, dqkv, dnormed);
      copy(block, middle, low);
      norm_back(block, rows(), stream(l), w.norm_1, x.norm_1, dnormed, low, true, 6);
    } else {
      if (gated) {
        on_.run(block, hidden, msg::residual_forward<T>{branch_2, top, nullptr, low, hidden, nullptr});
      } else {
        copy(block, branch_2, low);
      }
      linear_backward(on_, block, w.qkv, dqkv, low, true);
    }
  });

  tasks work(on_);
  const auto& g = layer_of(d, l);
  if (w.router.count == 0) {
    add_gradient(work, rows(), g.ffns[0].out, x.after.data(), dffn, sums(0));
    add_gradient(work, rows(), g.ffns[0].in, ffn_input(l), dbefore(), sums(1));
  } else {
    add_expert_gradients(work, d, l);
  }
  add_gradient(work, rows(), g.attention_out, x.heads.data(), dattention, sums(4));
  add_gradient(work, rows(), g.qkv, attention_input(l), dqkv, sums(5));
  add_norm_gradient(work, rows(), g.norm_2, 2);
  add_norm_gradient(work, rows(), g.norm_1, 6);
  work.run();
  std::swap(work_.stream_top, work_.stream_low);
}

/// From stream_top, the gradient of the stream before the first layer, to the embeddings.
template <class T, backend_for<T> Backend>
void transformer<T, Backend>::embedding_back(const pointers& p, const gradient_pointers& d) {
  const index hidden = config_.hidden;
  if (drop_.rate != 0 && features_.drops_embedding) {
    on_.blocks(rows(), [&](row_range block) {
      drop(block, dropout_place::embedding, 0, work_.stream_top.data(), work_.stream_top.data());
    });
  }
  if (!pre_norm()) {
    on_.blocks(rows(), [&](row_range block) {
      norm_back(block, rows(), work_.embedded.data(), p.embedding_norm, work_.embedding_norm, work_.stream_top.data(),
                work_.stream_low.data(), false, 0);
    });
    tasks work(on_);
    add_norm_gradient(work, rows(), d.embedding_norm, 0);
    work.run();
    std::swap(work_.stream_top, work_.stream_low);
  }
  const T* const dx = work_.stream_top.data();
  on_.scatter_add(rows(), hidden, work_.tokens.data(), dx, d.words);
  if (d.places != nullptr) { on_.scatter_add(rows(), hidden, work_.places.data(), dx, d.places); }
  if (d.types != nullptr) { on_.scatter_add(rows(), hidden, work_.types.data(), dx, d.types); }
}

} // namespace reference
