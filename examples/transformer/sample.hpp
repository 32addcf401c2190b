// Text from a byte-level model, one byte after another.
#pragma once

#include "transformer/grow_model.hpp"
#include "transformer/model.hpp"

#include <msg/random.hpp>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

namespace reference {

/// `count` bytes drawn from softmax(logits / temperature), beginning after a line end; the same for the same seed. The
/// model sees at most the last `window` bytes. Bytes that are no printable ASCII are shown as '?'.
template <class T>
[[nodiscard]] std::string sample_text(const model_state<T>& state, index step, index window, index count,
                                      std::uint64_t seed, double temperature = 0.8) {
  const live_masks masks = state.masks(step);
  const msg::random_stream stream{seed, msg::stream_of("sample")};
  std::string text = "\n";
  std::vector<std::int32_t> context(static_cast<std::size_t>(window));
  transformer<T> model(state.sizes, 1, window);
  for (index made = 0; made < count; ++made) {
    const auto length = std::min(static_cast<index>(text.size()), window);
    std::fill(context.begin(), context.end(), 0); // what stands behind the last byte cannot be seen: causal
    for (index t = 0; t < length; ++t) {
      context[static_cast<std::size_t>(t)] =
          static_cast<unsigned char>(text[text.size() - static_cast<std::size_t>(length - t)]);
    }
    (void)model.forward(state.values, {context}, masks.view());
    const auto logits = model.logits().subspan(static_cast<std::size_t>((length - 1) * state.sizes.vocab),
                                               static_cast<std::size_t>(state.sizes.vocab));
    const T greatest = *std::max_element(logits.begin(), logits.end());
    std::vector<double> sums;
    double sum = 0;
    for (const T logit : logits) {
      sums.push_back(sum += std::exp(static_cast<double>(logit - greatest) / temperature));
    }
    const double drawn = msg::random_uniform(stream, static_cast<std::uint64_t>(made)) * sum;
    const auto byte = std::upper_bound(sums.begin(), sums.end() - 1, drawn) - sums.begin();
    text += static_cast<char>(byte);
  }
  text.erase(0, 1);
  for (char& c : text) { c = c == '\n' || c == '\t' || (c >= ' ' && c <= '~') ? c : '?'; }
  return text;
}

} // namespace reference
