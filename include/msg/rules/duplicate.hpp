// Growth by copies: fresh units compute what old ones do, and share what reads those (Net2Net and its many heirs).
#pragma once

#include <msg/request.hpp>
#include <msg/rules/sources.hpp>

#include <cstdint>
#include <string>
#include <vector>

MSG_NAMESPACE_BEGIN

/// Fresh units are copies of old ones and act at once; the copies of a unit share its outgoing weight. Moments follow
/// the dual of the law, so that Adam goes on as it was.
///
///   norms        nothing to do where all units have as many copies; else norms weight their statistics by the split
///   query heads  copy a head of the group whose key-value head they share
///   tied head    reads copies undivided unless the final norm's gain and bias are `in(hidden)`: then logits are n
///   times
///                too large, and the contract's logit_scale is 1 / n
///
/// Source: Chen et al. 2016, Net2Net, sec. 2; Chen et al. 2022, bert2BERT (FPI, AKI); Wang et al. 2024, LEMON (uneven
/// split); Samragh et al. 2024, HyperCloning (tiling, paired noise).
struct duplicate {
  static constexpr const char* name = "duplicate";
  enum class sources {
    cyclic, // old units in turn; with interleaved placement, the one before
    random, // drawn from the seed
    tiling  // as cyclic, to an integer multiple of the old size only
  };
  enum class donor {
    self,      // a copy writes what its unit writes
    next_layer // it writes what that unit of the next layer writes (AKI): breaks symmetry, and the function
  };

  copy_split split = even{};
  sources from = sources::cyclic;
  donor writes = donor::self;
  init noise = init::zeros(); // +N and -N on the columns that read a pair of copies: normal, or spread
  bool reset_moments = false; // copies start with moments of 0 and an age of their own, which breaks symmetry, too
  std::uint64_t seed = 0;     // of random sources, beside the plan's

  [[nodiscard]] axis_growth operator()(const rule_request& asked) const {
    axis_growth result;
    result.refused = refusal(asked);
    if (!result.refused.empty()) { return result; }
    const random_stream draw{asked.seed + seed, stream_of(asked.axis)};
    result.source = copied_from(asked, from == sources::random ? &draw : nullptr);
    result.split = splits_of(result.source, asked, split);
    const bool next_layer = writes == donor::next_layer;
    const bool reborn = reset_moments || next_layer;
    result.newborn = reborn ? new_positions(asked.old_of) : std::vector<std::uint8_t>(result.source.size(), 0);
    result.from_next_layer = next_layer;
    const bool noisy = noise.what != init::kind::zeros;
    if (noisy) {
      result.noise = noise;
      result.partner = partners_of(result.source, asked.old_size);
    }
    promise(asked, noisy, result);
    return result;
  }

private:
  [[nodiscard]] std::string refusal(const rule_request& asked) const {
    if (asked.is_experts()) { return "experts are copied by rule expert_copies"; }
    if (asked.logits) { return "a softmax runs over the axis, and a copy would take its share of it; rule mask"; }
    if (asked.is_layers()) { return "layers are no units of one sum; rule stack, identity or mask"; }
    if (asked.as_each) { return "the axis is both slices and units"; }
    if (asked.scored) { return "a head made wider by copies changes the scale of attention scores; rule zero_block"; }
    if (asked.is_input()) { return "nothing writes the axis, so its inputs cannot be copied; rule mask or zero_block"; }
    if (split.first < 0 || split.first >= 1) { return "the first copy's share must be in (0, 1)"; }
    const head_grouping& groups = asked.groups;
    for (const index group : groups.source) {
      if (group < 0) { return "the key-value heads they read must be copies, too"; }
    }
    const bool multiple =
        groups.old_size == 0 ? asked.new_size % asked.old_size == 0 : groups.new_size % groups.old_size == 0;
    if (from == sources::tiling && !multiple) { return "tiling needs an integer multiple of the old size"; }
    return {};
  }

  void promise(const rule_request& asked, bool noisy, axis_growth& result) const {
    if (asked.new_size == asked.old_size) { return; }
    axis_contract& contract = result.contract;
    const std::vector<index> counts = copy_counts(result.source, asked.old_size);
    const bool equal = all_equal(counts);
    contract.keeps = strictness::rounding;
    contract.weight_norm_statistics = asked.norm != norm_kind::none && !equal;
    if (asked.tied) {
      if (equal) {
        contract.logit_scale = 1 / static_cast<double>(counts.front());
      } else {
        contract.keeps = strictness::none;
        contract.reason = "a tied head reads copies undivided, and units have unequally many: untie it, or declare the "
                          "final norm's gain and bias in(" +
                          asked.axis + ")";
      }
    }
    if (writes == donor::next_layer) {
      contract.keeps = strictness::none;
      contract.reason = "copies write what the next layer writes";
    }
    if (noisy) {
      result.approximate = "the two columns that read a pair pass different gradients back";
      result.approximate_norms = true;
    } else if (asked.tied && split.first != 0) {
      result.approximate = "a tied head reads copies equally, and all else unequally";
      result.approximate_norms = true;
    } else if (asked.norm != norm_kind::none && equal && split.first != 0) {
      result.approximate = "a norm mixes the gradients of copies that are read unequally";
      result.approximate_norms = asked.position == norm_position::post;
    }
  }
};

MSG_NAMESPACE_END
