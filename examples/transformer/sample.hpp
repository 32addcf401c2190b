// Text from a causal model, one token after another.
#pragma once

#include "transformer/cpu_backend.hpp"
#include "transformer/grow_model.hpp"
#include "transformer/model.hpp"
#include "transformer/tokenizer.hpp"

#include <msg/random.hpp>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

namespace reference {

namespace detail {

// What a terminal can show: control characters and bytes that are no character become '?'.
[[nodiscard]] inline std::string shown(const std::string& text) {
  std::string result;
  for (std::size_t at = 0; at < text.size();) {
    const utf8_char c = decode_utf8(text, at);
    const bool control = c.code < 0x20 || (c.code >= 0x7f && c.code < 0xa0) || c.code == replacement_character;
    const bool kept = c.code == '\n' || c.code == '\t' || !control;
    result += kept ? text.substr(at, c.size) : "?";
    at += c.size;
  }
  return result;
}

} // namespace detail

/// `count` tokens drawn from softmax(logits / temperature), beginning where a document or a line begins; the same for
/// the same seed. The model sees at most the last `window` tokens. Special tokens are not drawn.
template <class T>
[[nodiscard]] std::string sample_text(const model_state<T>& state, index step, const tokenizer& words, index window,
                                      index count, std::uint64_t seed, double temperature = 0.8) {
  const live_masks masks = state.masks(step);
  const msg::random_stream stream{seed, msg::stream_of("sample")};
  const auto vocab = static_cast<std::size_t>(state.sizes.vocab);
  std::vector<std::int32_t> text = words.special.end >= 0 ? std::vector{words.special.end} : words.encode("\n");
  if (text.empty()) { text.push_back(0); } // a vocabulary without a line end
  const std::size_t start = text.size();
  std::vector<std::int32_t> context(static_cast<std::size_t>(window));
  transformer<T> model(state.sizes, 1, window);
  for (index made = 0; made < count; ++made) {
    const std::size_t length = std::min(text.size(), context.size());
    std::fill(context.begin(), context.end(), 0); // what stands behind the last token cannot be seen: causal
    std::copy(text.end() - static_cast<std::ptrdiff_t>(length), text.end(), context.begin());
    (void)model.forward(state.values, {context}, masks.view());
    const auto logits = model.logits().subspan((length - 1) * vocab, vocab);
    const T greatest = *std::max_element(logits.begin(), logits.end());
    std::vector<double> sums;
    double sum = 0;
    for (std::size_t id = 0; id < vocab; ++id) {
      const bool special =
          std::binary_search(words.specials.begin(), words.specials.end(), static_cast<std::int32_t>(id));
      sums.push_back(sum += special ? 0 : std::exp(static_cast<double>(logits[id] - greatest) / temperature));
    }
    const double drawn = msg::random_uniform(stream, static_cast<std::uint64_t>(made)) * sum;
    text.push_back(static_cast<std::int32_t>(std::upper_bound(sums.begin(), sums.end() - 1, drawn) - sums.begin()));
  }
  return detail::shown(words.decode(std::span(text).subspan(start)));
}

} // namespace reference
