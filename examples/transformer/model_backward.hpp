// The reference GPT, backward: definitions of gpt's members; include model.hpp.
#pragma once

#include "transformer/model.hpp"

#include <msg/kernels/column_sum.hpp>

#include <utility>

namespace reference {

template <class T>
void gpt<T>::backward(const tensor_set<T>& parameters, tensor_set<T>& gradients, double scale) {
  if (targets_.empty()) {
    throw msg::error(msg::diagnostic{
        .code = msg::errc::bad_state, .expected = "a forward with targets", .found = "none since the last backward"});
  }
  const pointers p = bind<const T>(config_, names_, parameters);
  const gpt_pointers<T> d = bind<T>(config_, names_, gradients);
  work_.prepare_backward(config_, rows());
  through_logits(p, d, counted_ == 0 ? T(0) : static_cast<T>(scale / static_cast<double>(counted_)));
  for (index l = config_.layers - 1; l >= 0; --l) {
    if (gate(l) != 0.0F) { through_layer(p, d, l); }
  }
  embedding_backward(rows(), tokens_, config_.hidden, inputs_.data(), work_.stream_top.data(), d.wte, d.wpe);
  targets_.clear();
}

// Leaves the gradient of the stream behind the last layer in stream_top.
template <class T>
void gpt<T>::through_logits(const pointers& p, const gpt_pointers<T>& d, T scale) {
  const index hidden = config_.hidden;
  const index vocab = config_.vocab;
  const T* const x = stream(config_.layers);
  T* const dnormed = work_.dnormed.data();
  T* const gain_sums = work_.partial[0].data();
  T* const bias_sums = work_.partial[1].data();
  for_row_blocks(rows(), [&](row_range block) {
    run_rows(block,
             cross_entropy_backward<T>{work_.logits.data(), targets_.data(), work_.log_sum.data(), scale, vocab});
    gemm<T>(false, false, block.count, hidden, vocab, 1, work_.logits.data() + block.first * vocab, vocab, p.wte,
            hidden, 0, dnormed + block.first * hidden, hidden);
    run_chunks(block, msg::norm_gain_partial<T>{x, dnormed, work_.mean.data(), work_.rstd.data(), gain_sums, bias_sums,
                                                rows(), hidden, masks_.hidden});
    run_rows(block, msg::layer_norm_backward<T>{x, p.ln_f_gain, work_.mean.data(), work_.rstd.data(), dnormed,
                                                work_.stream_top.data(), hidden, false, masks_.hidden, masks_.hidden});
  });
  gradient_tasks<T> tasks(rows());
  tasks.add_product(vocab, hidden, work_.logits.data(), work_.normed.data(), d.wte);
  tasks.add_join(hidden, gain_sums, d.ln_f_gain);
  tasks.add_join(hidden, bias_sums, d.ln_f_bias);
  tasks.run();
}

// Takes the gradient of the stream behind layer l in stream_top, and leaves there that of the stream before it.
template <class T>
void gpt<T>::through_layer(const pointers& p, const gpt_pointers<T>& d, index l) {
  const index hidden = config_.hidden;
  const index ffn = config_.ffn;
  const index width = config_.heads * config_.head_dim;
  const bool gated = gate(l) != 1.0F;
  layer_activations<T>& x = layer(l);
  const T* const below = stream(l);
  T* const top = work_.stream_top.data();
  T* const middle = work_.stream_middle.data();
  T* const low = work_.stream_low.data();
  T* const dnormed = work_.dnormed.data();
  T* const dffn = work_.dffn.data();
  // what reaches the sub-layers: the gradient of the stream itself, or g times it
  const T* const dproj = gated ? work_.branch.data() : top;
  const T* const dattn = gated ? work_.branch_2.data() : middle;
  const auto partial = [&](std::size_t i) { return work_.partial[i].data(); };
  const auto through_norm = [&](row_range block, const T* from, const T* gain, const storage<T>& mean,
                                const storage<T>& rstd, std::size_t sums, const T* before, T* after) {
    run_chunks(block, msg::norm_gain_partial<T>{from, dnormed, mean.data(), rstd.data(), partial(sums),
                                                partial(sums + 1), rows(), hidden, masks_.hidden});
    std::copy_n(before + block.first * hidden, block.count * hidden, after + block.first * hidden);
    run_rows(block, msg::layer_norm_backward<T>{from, gain, mean.data(), rstd.data(), dnormed, after, hidden, true,
                                                masks_.hidden, masks_.hidden});
  };
  const auto through_bias = [&](row_range block, const T* dy, index columns, std::size_t sums) {
    run_chunks(block, msg::column_sum_partial<T>{dy, partial(sums), rows(), columns, columns});
  };

  for_row_blocks(rows(), [&](row_range block) {
    if (gated) { run_rows(block, msg::residual_backward<T>{top, work_.branch.data(), hidden, gate_pointer(l)}); }
    through_bias(block, dproj, hidden, 0);
    linear_backward(block, ffn, hidden, dproj, p.proj_weight[l], dffn);
    run_rows(block, msg::activation_backward<T>{x.before.data(), p.fc_bias[l], dffn, dffn, ffn, masks_.ffn});
    through_bias(block, dffn, ffn, 1);
    linear_backward(block, hidden, ffn, dffn, p.fc_weight[l], dnormed);
    through_norm(block, x.middle.data(), p.ln_2_gain[l], x.mean_2, x.rstd_2, 2, top, middle);
    if (gated) { run_rows(block, msg::residual_backward<T>{middle, work_.branch_2.data(), hidden, gate_pointer(l)}); }
    through_bias(block, dattn, hidden, 4);
    linear_backward(block, width, hidden, dattn, p.attn_out_weight[l], work_.dheads.data());
  });
  attention_backward(attention(), x.qkv.data(), masks_.heads, x.heads.data(), x.log_sum.data(), work_.dheads.data(),
                     work_.dqkv.data());
  for_row_blocks(rows(), [&](row_range block) {
    through_bias(block, work_.dqkv.data(), 3 * width, 5);
    linear_backward(block, hidden, 3 * width, work_.dqkv.data(), p.attn_weight[l], dnormed, 3);
    through_norm(block, below, p.ln_1_gain[l], x.mean_1, x.rstd_1, 6, middle, low);
  });

  gradient_tasks<T> tasks(rows());
  tasks.add_product(ffn, hidden, x.after.data(), dproj, d.proj_weight[l]);
  tasks.add_product(hidden, ffn, x.normed_2.data(), dffn, d.fc_weight[l]);
  tasks.add_product(width, hidden, x.heads.data(), dattn, d.attn_out_weight[l]);
  tasks.add_product(hidden, 3 * width, x.normed_1.data(), work_.dqkv.data(), d.attn_weight[l]);
  tasks.add_join(hidden, partial(0), d.proj_bias[l]);
  tasks.add_join(ffn, partial(1), d.fc_bias[l]);
  tasks.add_join(hidden, partial(2), d.ln_2_gain[l]);
  tasks.add_join(hidden, partial(3), d.ln_2_bias[l]);
  tasks.add_join(hidden, partial(4), d.attn_out_bias[l]);
  tasks.add_join(3 * width, partial(5), d.attn_bias[l]);
  tasks.add_join(hidden, partial(6), d.ln_1_gain[l]);
  tasks.add_join(hidden, partial(7), d.ln_1_bias[l]);
  tasks.run();
  std::swap(work_.stream_top, work_.stream_low);
}

} // namespace reference
