// The reference GPT, forward: definitions of gpt's members; include model.hpp.
#pragma once

#include "transformer/model.hpp"

namespace reference {

// One parallel region per stretch between attentions: a block of rows goes from the heads of one layer to the queries,
// keys and values of the next while it is in the cache.
template <class T>
double gpt<T>::forward(const tensor_set<T>& parameters, std::span<const std::int32_t> inputs,
                       std::span<const std::int32_t> targets, const masks& silence) {
  check_batch(inputs, targets, silence);
  const pointers p = bind<const T>(config_, names_, parameters);
  masks_ = silence;
  inputs_.assign(inputs.begin(), inputs.end());
  targets_.assign(targets.begin(), targets.end());
  counted_ = std::count_if(targets.begin(), targets.end(), [](std::int32_t target) { return target >= 0; });

  std::vector<index> active;
  for (index l = 0; l < config_.layers; ++l) {
    if (gate(l) != 0.0F) { active.push_back(l); }
  }
  for (std::size_t a = 0; a <= active.size(); ++a) {
    for_row_blocks(rows(), [&](row_range block) {
      if (a == 0) {
        run_rows(block,
                 embedding_forward<T>{p.wte, p.wpe, inputs_.data(), work_.embedded.data(), tokens_, config_.hidden});
      } else {
        out_of_attention(p, active[a - 1], block);
      }
      if (a < active.size()) {
        into_attention(p, active[a], block);
      } else {
        into_logits(p, block);
      }
    });
    if (a < active.size()) {
      layer_activations<T>& x = layer(active[a]);
      attention_forward(attention(), x.qkv.data(), masks_.heads, x.heads.data(), x.log_sum.data());
    }
  }
  return mean_loss();
}

template <class T>
void gpt<T>::into_attention(const pointers& p, index l, row_range block) {
  const index hidden = config_.hidden;
  const index width = 3 * config_.heads * config_.head_dim;
  layer_activations<T>& x = layer(l);
  run_rows(block,
           msg::layer_norm_forward<T>{stream(l), p.ln_1_gain[l], p.ln_1_bias[l], x.normed_1.data(), x.mean_1.data(),
                                      x.rstd_1.data(), hidden, config_.norm_eps, masks_.hidden, masks_.hidden});
  linear_forward(block, hidden, width, x.normed_1.data(), p.attn_weight[l], x.qkv.data());
  run_rows(block,
           msg::activation_forward<T, msg::no_activation>{x.qkv.data(), p.attn_bias[l], x.qkv.data(), width, {}});
}

template <class T>
void gpt<T>::out_of_attention(const pointers& p, index l, row_range block) {
  const index hidden = config_.hidden;
  const index ffn = config_.ffn;
  layer_activations<T>& x = layer(l);
  T* const branch = work_.branch.data();
  linear_forward(block, config_.heads * config_.head_dim, hidden, x.heads.data(), p.attn_out_weight[l], branch);
  run_rows(block,
           msg::residual_forward<T>{stream(l), branch, p.attn_out_bias[l], x.middle.data(), hidden, gate_pointer(l)});
  run_rows(block, msg::layer_norm_forward<T>{x.middle.data(), p.ln_2_gain[l], p.ln_2_bias[l], x.normed_2.data(),
                                             x.mean_2.data(), x.rstd_2.data(), hidden, config_.norm_eps, masks_.hidden,
                                             masks_.hidden});
  linear_forward(block, hidden, ffn, x.normed_2.data(), p.fc_weight[l], x.before.data());
  run_rows(block, msg::activation_forward<T>{x.before.data(), p.fc_bias[l], x.after.data(), ffn, masks_.ffn});
  linear_forward(block, ffn, hidden, x.after.data(), p.proj_weight[l], branch);
  run_rows(block,
           msg::residual_forward<T>{x.middle.data(), branch, p.proj_bias[l], x.out.data(), hidden, gate_pointer(l)});
}

template <class T>
void gpt<T>::into_logits(const pointers& p, row_range block) {
  const index hidden = config_.hidden;
  const index vocab = config_.vocab;
  run_rows(block, msg::layer_norm_forward<T>{stream(config_.layers), p.ln_f_gain, p.ln_f_bias, work_.normed.data(),
                                             work_.mean.data(), work_.rstd.data(), hidden, config_.norm_eps,
                                             masks_.hidden, masks_.hidden});
  gemm<T>(false, true, block.count, vocab, hidden, 1, work_.normed.data() + block.first * hidden, hidden, p.wte, hidden,
          0, work_.logits.data() + block.first * vocab, vocab);
  if (!targets_.empty()) {
    run_rows(block, cross_entropy_forward<T>{work_.logits.data(), targets_.data(), work_.loss.data(),
                                             work_.log_sum.data(), vocab});
  }
}

template <class T>
double gpt<T>::mean_loss() const noexcept {
  if (counted_ == 0) { return 0; }
  double sum = 0;
  for (const T loss : work_.loss) { sum += static_cast<double>(loss); }
  return sum / static_cast<double>(counted_);
}

} // namespace reference
