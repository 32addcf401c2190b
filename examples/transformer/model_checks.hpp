// The reference Transformer: what it refuses, and how it takes a batch in; include model.hpp.
#pragma once

#include "transformer/model.hpp"

#include <limits>

namespace reference {

template <class T, backend_for<T> Backend>
const config& transformer<T, Backend>::checked(const config& sizes, index batch, index tokens) {
  check(sizes);
  std::vector<msg::diagnostic> findings;
  if (batch < 1) {
    findings.push_back(
        {.code = msg::errc::bad_size, .axis = "batch", .expected = "at least 1", .found = std::to_string(batch)});
  }
  if (tokens < 1 || tokens > sizes.positions) {
    findings.push_back({.code = msg::errc::bad_size,
                        .axis = "tokens",
                        .expected = "1 to " + std::to_string(sizes.positions) + ", the positions",
                        .found = std::to_string(tokens)});
  }
  if (!findings.empty()) { throw msg::error(std::move(findings)); }
  return sizes;
}

template <class T, backend_for<T> Backend>
void transformer<T, Backend>::check_batch(const model_input& input, const masks& silence) const {
  using numbers = std::span<const std::int32_t>;
  std::vector<msg::diagnostic> findings;
  const auto expect = [&](const char* what, index expected, index found) {
    if (expected != found) {
      findings.push_back({.code = msg::errc::shape_mismatch,
                          .axis = what,
                          .expected = std::to_string(expected),
                          .found = std::to_string(found)});
    }
  };
  const auto expect_mask = [&](const char* what, index expected, const msg::mask_view& mask) {
    if (mask) { expect(what, expected, mask.size); }
  };
  const auto within = [&](const char* what, const char* things, numbers values, index least, index end) {
    if (!std::all_of(values.begin(), values.end(), [&](std::int32_t v) { return v >= least && v < end; })) {
      findings.push_back({.code = msg::errc::bad_argument,
                          .axis = what,
                          .expected = std::string(things) + " below " + std::to_string(end),
                          .found = "one outside"});
    }
  };
  const auto unused = [&](const char* what, numbers values) {
    if (!values.empty()) {
      findings.push_back({.code = msg::errc::unsupported,
                          .axis = what,
                          .expected = "none: " + std::string(name_of(config_.arch)) + " has no such input",
                          .found = std::to_string(values.size())});
    }
  };
  constexpr index any = std::numeric_limits<std::int32_t>::min();
  expect("inputs", rows(), static_cast<index>(input.tokens.size()));
  if (!input.targets.empty()) { expect("targets", rows(), static_cast<index>(input.targets.size())); }
  within("vocab", "tokens", input.tokens, 0, config_.vocab);
  within("vocab", "targets", input.targets, any, config_.vocab);
  if (!input.lengths.empty()) {
    expect("lengths", batch_, static_cast<index>(input.lengths.size()));
    within("lengths", "lengths", input.lengths, 0, tokens_ + 1);
  }
  if (features_.masked_language) {
    if (!input.types.empty()) { expect("types", rows(), static_cast<index>(input.types.size())); }
    within("types", "token types", input.types, 0, config_.types);
    if (!input.next_sentence.empty()) {
      expect("next_sentence", batch_, static_cast<index>(input.next_sentence.size()));
    }
    within("next_sentence", "classes", input.next_sentence, any, 2);
  } else {
    unused("types", input.types);
    unused("next_sentence", input.next_sentence);
  }
  if (!(input.drop.rate >= 0 && input.drop.rate < 1)) {
    findings.push_back({.code = msg::errc::bad_argument,
                        .axis = "dropout",
                        .expected = "a rate from 0 to below 1",
                        .found = std::to_string(input.drop.rate)});
  }
  expect_mask("mask of hidden", config_.hidden, silence.hidden);
  expect_mask("weights of norm statistics", config_.hidden, silence.norms);
  expect_mask("mask of ffn", config_.ffn, silence.ffn);
  expect_mask("mask of heads", config_.heads, silence.heads);
  expect_mask("mask of kv_heads", kv_heads_of(config_), silence.kv_heads);
  expect_mask("mask of vocab", config_.vocab, silence.vocab);
  expect_mask("mask of experts", config_.experts, silence.experts);
  if (silence.experts && silence.experts.size == config_.experts) {
    const index open =
        config_.experts - std::count(silence.experts.value, silence.experts.value + config_.experts, 0.0F);
    if (open < config_.chosen) {
      findings.push_back({.code = msg::errc::bad_argument,
                          .axis = "mask of experts",
                          .expected = "at least " + std::to_string(config_.chosen) + " above 0, as many as are chosen",
                          .found = std::to_string(open)});
    }
  }
  if (!findings.empty()) { throw msg::error(std::move(findings)); }
}

/// Notes what the forward was given, on the backend's side.
template <class T, backend_for<T> Backend>
void transformer<T, Backend>::take(const model_input& input, const masks& silence) {
  using numbers = std::span<const std::int32_t>;
  masks_ = {.hidden = on_.place(0, silence.hidden),
            .ffn = on_.place(1, silence.ffn),
            .heads = on_.place(2, silence.heads),
            .layers = silence.layers,
            .kv_heads = on_.place(3, silence.kv_heads),
            .vocab = on_.place(4, silence.vocab),
            .experts = on_.place(6, silence.experts),
            .released = silence.released,
            .norms = on_.place(7, silence.norms)};
  gates_ = silence.layers == nullptr
               ? nullptr
               : on_.place(5, std::span<const float>(silence.layers, static_cast<std::size_t>(config_.layers)));
  const auto count = [](numbers values) {
    return std::count_if(values.begin(), values.end(), [](std::int32_t value) { return value >= 0; });
  };
  counted_ = count(input.targets);
  counted_sentences_ = count(input.next_sentence);
  predicts_tokens_ = !input.targets.empty();
  predicts_next_ = !input.next_sentence.empty();
  padded_ = !input.lengths.empty();
  drop_ = input.drop;
  on_.copy_in(input.tokens, work_.tokens);
  if (padded_) { on_.copy_in(input.lengths, work_.lengths); }
  head_rows_ = rows();
  if (!features_.masked_language) { return on_.copy_in(input.targets, work_.targets); }
  const std::vector<std::int32_t> zeros(input.types.empty() ? static_cast<std::size_t>(rows()) : 0);
  on_.copy_in(input.types.empty() ? numbers(zeros) : input.types, work_.types);
  on_.copy_in(input.next_sentence, work_.next_sentence);
  std::vector<std::int32_t> predicted;
  std::vector<std::int32_t> targets;
  for (index r = 0; r < rows(); ++r) {
    const std::int32_t target = predicts_tokens_ ? input.targets[static_cast<std::size_t>(r)] : 0;
    if (target < 0) { continue; }
    predicted.push_back(static_cast<std::int32_t>(r));
    targets.push_back(target);
  }
  head_rows_ = static_cast<index>(predicted.size());
  on_.copy_in(numbers(predicted), work_.predicted);
  on_.copy_in(numbers(targets), work_.targets);
  work_.prepare_head(config_, head_rows_);
}

} // namespace reference
