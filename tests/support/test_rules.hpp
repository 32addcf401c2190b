// Rules as a user would write them, for what the library's own rules do not exercise: copies whose splits sum to 1,
// zeros in every place, identity layers, rescaled gains, and any mixture of them.
#pragma once

#include <msg/request.hpp>

#include <cstdint>
#include <random>
#include <vector>

namespace testing {

/// Fresh units are copies of the old ones in turn, and live from the start. The copies of a unit share its outgoing
/// weight: evenly, or the first of them gets `first` of it.
struct copies {
  static constexpr const char* name = "copies";
  double first = 0; // 0: evenly

  [[nodiscard]] msg::axis_growth operator()(const msg::rule_request& asked) const {
    msg::axis_growth result;
    std::vector<msg::index> count(static_cast<std::size_t>(asked.old_size), 0);
    msg::index turn = 0;
    for (const msg::index unit : asked.old_of) {
      result.source.push_back(unit == msg::fresh_unit ? turn++ % asked.old_size : unit);
      ++count[static_cast<std::size_t>(result.source.back())];
    }
    std::vector<bool> seen(count.size(), false);
    for (const msg::index unit : result.source) {
      const auto u = static_cast<std::size_t>(unit);
      const auto n = static_cast<double>(count[u]);
      result.split.push_back(first == 0 || count[u] == 1 ? 1 / n : seen[u] ? (1 - first) / (n - 1) : first);
      seen[u] = true;
    }
    result.newborn.assign(result.source.size(), 0);
    result.contract.keeps = msg::strictness::rounding;
    return result;
  }
};

/// Fresh units are any numbers, or zeros: by where the unit stands.
struct blocks {
  static constexpr const char* name = "blocks";
  msg::fresh_fills fills{};
  msg::fresh_values fresh = msg::fresh_values::all(msg::init::normal(1));

  [[nodiscard]] msg::axis_growth operator()(const msg::rule_request& asked) const {
    return {.source = asked.old_of, .fills = fills, .fresh = fresh};
  }
};

/// New layers are copies of old ones that write nothing.
struct identity_layers {
  static constexpr const char* name = "identity_layers";

  [[nodiscard]] msg::axis_growth operator()(const msg::rule_request& asked) const {
    msg::axis_growth result{.source = asked.old_of, .fills = {.zero_writers = true}};
    for (msg::index& unit : result.source) {
      result.newborn.push_back(unit == msg::fresh_unit ? 1 : 0);
      if (unit == msg::fresh_unit) { unit = asked.old_size - 1; }
    }
    return result;
  }
};

/// Any answer the law allows, drawn from a seed: fresh units, means and copies, newborn or not, donated or not, with
/// splits of any size, noise in pairs and factors.
struct arbitrary {
  static constexpr const char* name = "arbitrary";
  std::uint64_t seed = 0;

  [[nodiscard]] msg::axis_growth operator()(const msg::rule_request& asked) const {
    std::mt19937_64 draw(seed);
    const auto below = [&draw](msg::index n) {
      return static_cast<msg::index>(draw() % static_cast<std::uint64_t>(n));
    };
    const auto real = [&draw] { return static_cast<double>(draw() >> 11) * 0x1p-53; };
    const auto fill = [&] { return below(2) == 0 ? msg::fill::init : msg::fill::zero; };
    const auto number = [&] {
      switch (below(6)) {
        case 0: return msg::init::zeros();
        case 1: return msg::init::constant(real() - 0.5);
        case 2: return msg::init::matched();
        case 3: return msg::init::spread(real());
        case 4: return msg::init::like_units(below(2) == 0 ? 0 : real());
        default: return msg::init::normal(0.5 + real());
      }
    };
    msg::axis_growth result{.source = asked.old_of,
                            .from_next_layer = below(3) == 0,
                            .fresh_writers = below(4) == 0,
                            .fills = {fill(), fill(), fill(), below(2) == 0, below(2) == 0},
                            .fresh = {number(), number(), number(), number()}};
    result.contract.mask_activations = below(3) == 0;
    result.contract.gain_factor = below(2) == 0 ? 1 : 0.5 + real();
    result.contract.key_factor = below(2) == 0 ? 1 : 0.5 + real();
    std::vector<double> sum(static_cast<std::size_t>(asked.old_size), 0);
    for (msg::index& unit : result.source) {
      const bool fresh = unit == msg::fresh_unit;
      if (fresh && below(2) == 0) {
        unit = below(asked.old_size);
      } else if (fresh && !asked.as_each && below(2) == 0) {
        unit = msg::mean_unit;
      }
      const bool newborn = fresh && (unit < 0 || result.contract.masked() || below(2) == 0);
      result.newborn.push_back(newborn ? 1 : 0);
      result.split.push_back(0.25 + real());
      if (!newborn) { sum[static_cast<std::size_t>(unit)] += result.split.back(); }
    }
    for (std::size_t j = 0; j < result.source.size(); ++j) {
      if (result.newborn[j] == 0) { result.split[j] /= sum[static_cast<std::size_t>(result.source[j])]; }
    }
    if (below(2) == 0) {
      result.noise = below(2) == 0 ? msg::init::normal(real()) : msg::init::spread(real());
      result.partner.assign(result.source.size(), msg::fresh_unit);
      for (std::size_t j = 0; j < result.source.size(); ++j) {
        for (std::size_t k = j + 1; k < result.source.size(); ++k) {
          const bool free = result.partner[j] < 0 && result.partner[k] < 0;
          if (free && result.source[j] >= 0 && result.source[j] == result.source[k]) {
            result.partner[j] = static_cast<msg::index>(k);
            result.partner[k] = static_cast<msg::index>(j);
          }
        }
      }
    }
    return result;
  }
};

} // namespace testing
