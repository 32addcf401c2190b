// What a plan is made of, as plain data: a grown axis, a dimension position by position, a parameter.
#pragma once

#include <msg/kernels/grow.hpp>
#include <msg/request.hpp>
#include <msg/schema.hpp>

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

/// One dimension of a parameter, position by position.
struct dimension_map {
  role what = role::out;
  index old_size = 0;
  std::vector<index> source{};        // (new size): old position, or -1
  std::vector<double> split{};        // (new size)
  std::vector<std::uint16_t> flags{}; // (new size): detail::cell_flag
  std::vector<std::uint8_t> filler{}; // (new size): which of param_plan::fillers a fresh cell takes

  [[nodiscard]] index new_size() const noexcept { return static_cast<index>(source.size()); }
};

/// One parameter of a plan: plain data that apply() turns into a grow_row.
struct param_plan {
  std::string name{};
  msg::kind kind = msg::kind::weight;
  std::vector<dimension_map> dims{};
  std::vector<grow_run> runs{}; // of the last dimension
  std::vector<init> fillers{};
  double scale = 1; // of copied values (norm gains under a gain factor)
  std::uint64_t seed = 0;
  // A slice at one index of the leading dimension, see at().
  bool sliced = false;
  index first_element = 0;
  std::uint16_t base_flags = 0;
  int base_filler = -1;
  role base_role = role::each; // role and split of the sliced index
  double base_split = 1;

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
  /// the stacked tensor, but for init::matched(), which then matches the one layer it is given (and so needs one).
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
    param_plan slice = *this;
    slice.dims.erase(slice.dims.begin());
    slice.sliced = true;
    slice.first_element = j * slice.size();
    slice.base_flags = lead.flags[at];
    if ((lead.flags[at] & detail::fresh_any) != 0) { slice.base_filler = lead.filler[at]; }
    slice.base_role = lead.what;
    slice.base_split = lead.split[at];
    return slice;
  }
};

MSG_NAMESPACE_END
