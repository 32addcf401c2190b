// What a plan is made of, as plain data: a grown axis, a dimension position by position, a parameter.
#pragma once

#include <msg/error.hpp>
#include <msg/kernels/grow_data.hpp>
#include <msg/request.hpp>
#include <msg/schema.hpp>

#include <algorithm>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

MSG_NAMESPACE_BEGIN

struct plan_options {
  std::uint64_t seed = 0;        // of fresh weights and of rules that draw; another one for every growth of a model
  msg::placement placement = {}; // of the requests that name none
};

/// One grown axis of a plan.
struct axis_plan {
  std::string name{};
  index old_size = 0;
  index new_size = 0;
  msg::placement::order placement{};
  std::vector<index> old_of{}; // (new_size): old unit at each position, or fresh_unit
  axis_growth growth{};
};

/// A parameter whose moments after the growth are not exactly those of the grown model's own gradients.
struct approximate_moment {
  std::string parameter{};
  std::string reason{};
};

/// Positions of one dimension that average over the same old positions, as grow_groups has them.
struct position_groups {
  std::vector<index> of{}; // (new size): group, or -1; empty: no groups
  std::vector<index> member_begin{0}, member{}, target_begin{0}, target{};

  [[nodiscard]] grow_groups view() const noexcept {
    if (of.empty()) { return {}; }
    return {of.data(),
            member_begin.data(),
            member.data(),
            target_begin.data(),
            target.data(),
            static_cast<index>(member_begin.size()) - 1,
            static_cast<index>(member.size()),
            static_cast<index>(target.size())};
  }
};

/// One dimension of a parameter, position by position.
struct dimension_map {
  role what = role::out;
  index old_size = 0;
  std::vector<index> source{};        // (new size): old position, or -1
  std::vector<double> split{};        // (new size): factor of values
  std::vector<double> dual{};         // (new size): factor of moments
  std::vector<std::uint16_t> flags{}; // (new size): detail::cell_flag
  std::vector<std::uint8_t> filler{}; // (new size): which of param_plan::fillers a fresh cell takes, or whose noise
  std::vector<index> donor{};         // (new size): old position of the next layer; empty: nothing is donated
  std::vector<index> twin{};          // (new size): position whose noise this one takes, or -1; empty: none
  position_groups groups{};

  [[nodiscard]] index new_size() const noexcept { return static_cast<index>(source.size()); }
};

/// One parameter of a plan: plain data that apply() turns into a grow_row.
struct param_plan {
  std::string name{};
  msg::kind kind = msg::kind::weight;
  std::vector<dimension_map> dims{};
  std::vector<grow_run> runs{}; // of the last dimension
  std::vector<init> fillers{};  // by axis of the plan
  std::vector<init> noise{};    // by axis of the plan; zeros: none
  double scale = 1;             // of copied values (norm gains under a gain factor)
  std::uint64_t seed = 0;
  bool donated = false; // some rows of a layer come from the next layer
  // A slice at one index of the leading dimension, see at().
  bool sliced = false;
  index first_element = 0;
  index first_noise = 0;
  std::uint16_t base_flags = 0;
  int base_filler = -1;
  int base_noise = -1;
  double base_split = 1;
  double base_dual = 1;

  [[nodiscard]] std::vector<index> old_shape() const {
    std::vector<index> shape;
    for (const dimension_map& d : dims) { shape.push_back(d.old_size); }
    return shape;
  }
  [[nodiscard]] std::vector<index> new_shape() const {
    std::vector<index> shape;
    for (const dimension_map& d : dims) { shape.push_back(d.new_size()); }
    return shape;
  }
  [[nodiscard]] index old_size() const noexcept {
    index size = 1;
    for (const dimension_map& d : dims) { size *= d.old_size; }
    return size;
  }
  /// Elements of the grown parameter.
  [[nodiscard]] index size() const noexcept {
    index size = 1;
    for (const dimension_map& d : dims) { size *= d.new_size(); }
    return size;
  }
  /// Old index that new index `j` of the leading dimension is made from, or -1: fresh.
  [[nodiscard]] index source_of(index j) const { return dims.front().source.at(static_cast<std::size_t>(j)); }

  /// The slice at new index `j` of the leading dimension, for trainers that keep one tensor per layer: apply it with
  /// the old tensor of layer source_of(j); where that is -1, with any old layer's or an empty one. Same bits as growing
  /// the stacked tensor, but for init::matched() and init::spread(), which then look at the one layer they are given
  /// (and so need one). Throws error{unsupported} where the slice is made of more than one old slice: rows donated by
  /// the next layer, averages over the leading dimension.
  [[nodiscard]] param_plan at(index j) const {
    if (dims.size() < 2 || sliced || j < 0 || j >= dims.front().new_size()) {
      throw error(diagnostic{.code = errc::bad_argument,
                             .parameter = name,
                             .dimension = 0,
                             .expected = "a whole parameter of two dimensions or more and an index in [0, " +
                                         std::to_string(dims.empty() ? 0 : dims.front().new_size()) + ")",
                             .found = std::to_string(j)});
    }
    const dimension_map& lead = dims.front();
    const auto at = static_cast<std::size_t>(j);
    if (donated || (!lead.groups.of.empty() && lead.groups.of[at] >= 0)) {
      throw error(diagnostic{.code = errc::unsupported,
                             .parameter = name,
                             .dimension = 0,
                             .found = "slice " + std::to_string(j),
                             .hint = donated ? "its copies are rows of the next layer; grow the tensor of all layers"
                                             : "it averages over old slices; grow the whole tensor"});
    }
    param_plan slice = *this;
    slice.dims.erase(slice.dims.begin());
    slice.sliced = true;
    slice.first_element = j * slice.size();
    const index twin = lead.twin.empty() ? -1 : lead.twin[at];
    slice.first_noise = (twin >= 0 ? twin : j) * slice.size();
    slice.base_flags = lead.flags[at];
    if ((lead.flags[at] & detail::fresh_any) != 0) { slice.base_filler = lead.filler[at]; }
    if (twin >= 0) { slice.base_noise = lead.filler[at]; }
    slice.base_split = lead.split[at];
    slice.base_dual = lead.dual[at];
    return slice;
  }
};

MSG_NAMESPACE_END
