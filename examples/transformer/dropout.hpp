// Dropout: which units a training step leaves out, from counters alone, so that nothing has to be kept for the
// backward.
#pragma once

#include <msg/config.hpp>
#include <msg/random.hpp>
#include <msg/tensor.hpp>

#include <algorithm>
#include <cmath>
#include <cstdint>

namespace reference {

using msg::index;

/// Dropout of one forward and its backward. What is left out is a function of these numbers, the layer, the place and
/// the unit: the same for any number of threads, on any device, and in a run that was resumed.
struct dropout {
  double rate = 0; // share of units left out, in [0, 1); 0: none, and no code of it runs
  std::uint64_t seed = 0;
  index step = 0;
  index part = 0; // of the step's batch: the micro-batch
};

/// Where units are left out. Source: Vaswani et al. 2017, sec. 5.4; the places of transformers' GPT2 and Bert models.
enum class dropout_place {
  embedding,       // of what the first layer reads; not where positions are rotary
  attention,       // of the weights of values, one for each pair of a query and a key
  after_attention, // of what attention adds to the stream
  after_ffn        // of what the FFN adds to it
};

/// The units that one place leaves out: x becomes 0 with probability `rate`, else x / (1 - rate). What kernels take.
struct dropped_units {
  msg::random_stream source;
  std::uint32_t below = 0; // rate * 2^32: a unit whose random word is below it is left out; 0: none is
  double scale = 1;

  dropped_units() = default;
  dropped_units(const dropout& d, dropout_place place, index layer)
      : below(static_cast<std::uint32_t>(std::min(std::nearbyint(d.rate * 0x1p32), 0x1p32 - 1))),
        scale(1 / (1 - d.rate)) {
    // a cipher's output as the next one's key, so that streams of different numbers have nothing in common
    const auto next = [](const msg::random_stream& from, index number) {
      const msg::random_block b = msg::random_words(from, static_cast<std::uint64_t>(number));
      return msg::random_stream{(std::uint64_t{b.word[0]} << 32) | b.word[1],
                                (std::uint64_t{b.word[2]} << 32) | b.word[3]};
    };
    const msg::random_stream of_step = next({d.seed, msg::stream_of("dropout")}, d.step);
    source = next(next(next(of_step, d.part), layer), static_cast<index>(place));
  }
  [[nodiscard]] MSG_HOST_DEVICE explicit operator bool() const noexcept { return below != 0; }

  /// Units [4 i, 4 i + 4) of a row; a row's units keep their numbers when it gets more of them.
  [[nodiscard]] MSG_HOST_DEVICE msg::random_block words(index row, index i) const noexcept {
    return msg::random_words(source, (static_cast<std::uint64_t>(row) << 24U) | static_cast<std::uint64_t>(i));
  }
};

/// to = what the units left out leave of `from`: n numbers of a row, known to every member; `to` may be `from`.
///
/// row   as the units count it, below 2^39
/// n     at most 2^26
template <class Team, class T>
MSG_HOST_DEVICE void drop_units(const Team& team, const dropped_units& units, index row, const T* from, T* to,
                                index n) {
  using A = msg::accumulate_t<T>;
  const A scale = A(units.scale);
  team.each((n + 3) / 4, [=](index i) {
    const msg::random_block bits = units.words(row, i);
    for (index k = 0; k < 4; ++k) { // a fixed count, so that the words stay in registers
      const index j = 4 * i + k;
      if (j < n) { to[j] = bits.word[k] < units.below ? T(0) : T(scale * A(from[j])); }
    }
  });
}

/// to[r] = what is left of from[r], rows of `width`: forward, and backward with their gradients.
template <class T>
struct drop_row {
  dropped_units units;
  const T* from;
  T* to; // may be from
  index width;

  template <class Team>
  MSG_HOST_DEVICE void operator()(const Team& team, index row) const {
    drop_units(team, units, row, from + row * width, to + row * width, width);
  }
};

} // namespace reference
