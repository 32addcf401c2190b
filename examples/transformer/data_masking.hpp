// Masked-language targets: which tokens of a sequence are hidden, and behind what.
#pragma once

#include "transformer/tokenizer.hpp"

#include <msg/random.hpp>

#include <algorithm>
#include <cstdint>
#include <span>
#include <vector>

namespace reference {

/// 15 % of the ordinary tokens are predicted: 80 % of them stand behind [MASK], 10 % behind a random ordinary token, 10
/// % as they are. Source: Devlin et al. 2019, sec. 3.1; drawn anew each pass, Liu et al. 2019 (RoBERTa), sec. 4.1.
struct token_hiding {
  index vocab = 0;
  std::int32_t mask = -1;
  std::vector<std::int32_t> specials{}; // rising; neither predicted nor drawn
  double predicted = 0.15;
  double masked = 0.8;
  double random = 0.1;

  [[nodiscard]] bool ordinary(std::int32_t id) const {
    return !std::binary_search(specials.begin(), specials.end(), id);
  }
};

/// Hides tokens of one sequence in place. Each token is drawn for itself, so their number varies around the share;
/// where none is drawn one is chosen, as a sequence without targets teaches nothing.
///
/// source   numbers from element `first` on, one element for each token
/// targets  the token where it is predicted, -1 elsewhere; every element is written
inline void hide_tokens(const token_hiding& how, const msg::random_stream& source, std::uint64_t first,
                        std::span<std::int32_t> tokens, std::span<std::int32_t> targets) {
  const auto share = [](std::uint32_t word) { return static_cast<double>(word) * 0x1p-32; };
  const auto hide = [&](std::size_t t, const msg::random_block& drawn) {
    targets[t] = tokens[t];
    const double place = share(drawn.word[1]);
    if (place < how.masked) {
      tokens[t] = how.mask;
    } else if (place < how.masked + how.random) {
      const auto ordinary = static_cast<std::uint64_t>(how.vocab) - how.specials.size();
      auto id = static_cast<std::int32_t>((drawn.word[2] * ordinary) >> 32U);
      for (const std::int32_t special : how.specials) { id += id >= special ? 1 : 0; }
      tokens[t] = id;
    }
  };
  std::vector<std::size_t> left;
  bool any = false;
  for (std::size_t t = 0; t < tokens.size(); ++t) {
    targets[t] = -1;
    if (!how.ordinary(tokens[t])) { continue; }
    const msg::random_block drawn = msg::random_words(source, first + t);
    if (share(drawn.word[0]) < how.predicted) {
      hide(t, drawn);
      any = true;
    } else {
      left.push_back(t);
    }
  }
  if (any || left.empty()) { return; }
  const msg::random_block drawn = msg::random_words(source, first);
  hide(left[drawn.word[3] % left.size()], drawn);
}

} // namespace reference
