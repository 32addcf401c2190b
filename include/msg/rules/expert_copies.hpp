// Mixtures of experts from a dense model, or from fewer experts: copies behind gates that sum to what they did.
#pragma once

#include <msg/request.hpp>
#include <msg/rules/sources.hpp>

#include <vector>

MSG_NAMESPACE_BEGIN

/// New experts are copies of old ones. The axis is `each` for the experts' tensors and `out` for the router's rows, and
/// schema::logits names it, since the router's softmax runs over it.
///
///   from one     all experts are equal, so any router will do if its gates sum to 1: its fresh rows are initialised
///   from more    router rows are copied; the forward chooses n times as many experts (chosen_factor), so that it
///                chooses all n copies of each that it chose before; needs as many copies of each
///
/// Source: Komatsuzaki et al. 2023, Sparse Upcycling; He et al. 2024, Upcycling LLMs into MoE (virtual groups).
struct expert_copies {
  static constexpr const char* name = "expert_copies";

  fresh_values fresh{};

  [[nodiscard]] axis_growth operator()(const rule_request& asked) const {
    axis_growth result{.fresh = fresh};
    if (!asked.is_experts() || asked.as_in) {
      result.refused = "experts are slices (role 'each') with a softmax over them (schema::logits), read by nothing";
      return result;
    }
    result.source = copied_from(asked);
    if (asked.new_size == asked.old_size) { return result; }
    axis_contract& contract = result.contract;
    contract.keeps = strictness::rounding;
    if (asked.old_size == 1) {
      result.newborn = new_positions(asked.old_of);
      result.fresh_writers = true;
      contract.gates_sum_to_one = true;
      contract.reason = "gates of the chosen experts sum to 1";
      result.approximate = "each copy gets the gradient of the tokens that its gate chooses";
      return result;
    }
    const std::vector<index> counts = copy_counts(result.source, asked.old_size);
    result.split = splits_of(result.source, asked, even{});
    contract.chosen_factor = static_cast<double>(counts.front());
    if (!all_equal(counts)) {
      contract.chosen_factor = 1;
      contract.keeps = strictness::none;
      contract.reason = "experts with more copies than others get more of the gates";
    }
    return result;
  }
};

MSG_NAMESPACE_END
