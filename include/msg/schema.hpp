// What every dimension of every parameter means; sizes and offsets of a packed buffer.
#pragma once

#include <msg/axis.hpp>
#include <msg/error.hpp>
#include <msg/parameter.hpp>
#include <msg/tensor.hpp>

#include <algorithm>
#include <concepts>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

MSG_NAMESPACE_BEGIN

/// Which statistics a norm takes over an axis.
enum class norm_kind { none, layer, rms };

/// Whether the norm stands before a sub-layer, on its input, or after it, on the residual stream itself.
enum class norm_position { pre, post };

/// Query heads in groups that share one key-value head each: head a reads group a / (heads / kv_heads).
struct head_groups {
  std::string heads;
  std::string kv_heads;
};

/// Where the two channels of a rotated pair lie in a head, and where their frequencies come from.
enum class rotary_layout {
  none,
  half_split, // i and i + head_dim / 2 (Llama)
  adjacent    // 2 i and 2 i + 1 (GPT-J)
};
enum class rotary_frequencies {
  computed, // theta^(-2i / head_dim): a wider head would change all of them
  listed    // a table of the model's own, to which a growth appends
};

/// The parameters of a model, in the order of its packed buffer. Building one never throws for bad input: findings are
/// kept and reported by diagnose() and by the plan, all at once.
class schema {
public:
  /// Adds a parameter: weight("w1", out(ffn), in(hidden)). Dimensions in storage order, row-major.
  template <std::same_as<dimension>... Dimensions>
  schema& weight(std::string name, Dimensions... dims) {
    return add({std::move(name), kind::weight, {std::move(dims)...}});
  }
  template <std::same_as<dimension>... Dimensions>
  schema& bias(std::string name, Dimensions... dims) {
    return add({std::move(name), kind::bias, {std::move(dims)...}});
  }
  template <std::same_as<dimension>... Dimensions>
  schema& norm_gain(std::string name, Dimensions... dims) {
    return add({std::move(name), kind::norm_gain, {std::move(dims)...}});
  }
  template <std::same_as<dimension>... Dimensions>
  schema& norm_bias(std::string name, Dimensions... dims) {
    return add({std::move(name), kind::norm_bias, {std::move(dims)...}});
  }

  schema& add(parameter p) {
    if (find(p.name) != nullptr) { findings_.push_back({.code = errc::duplicate_name, .parameter = p.name}); }
    if (p.dims.empty() || p.dims.size() > static_cast<std::size_t>(max_rank)) {
      findings_.push_back({.code = errc::unsupported,
                           .parameter = p.name,
                           .expected = "1 to " + std::to_string(max_rank) + " dimensions",
                           .found = std::to_string(p.dims.size())});
    }
    for (std::size_t d = 0; d < p.dims.size(); ++d) { note_axes(p, d); }
    offsets_.push_back(size_);
    size_ += p.size();
    parameters_.push_back(std::move(p));
    return *this;
  }

  /// This axis is a residual stream, and norms take their statistics over it, so its units are coupled (the hidden axis
  /// of a Transformer). norm_kind::none: a stream without norms.
  schema& normed(const axis& a, norm_kind norm = norm_kind::layer, norm_position where = norm_position::pre) {
    norms_[a.name] = {norm, where};
    note_axis(a.name, a.size, {}, -1);
    return *this;
  }
  /// A softmax runs over this axis: its fresh units need a mask on the logits (the vocabulary).
  schema& logits(const axis& a) {
    logits_.push_back(a.name);
    note_axis(a.name, a.size, {}, -1);
    return *this;
  }

  /// Units of this axis are summed in an attention score that is scaled by the axis size (head_dim).
  schema& scored(const axis& a) {
    scored_.push_back(a.name);
    note_axis(a.name, a.size, {}, -1);
    return *this;
  }
  /// This parameter (a weight, or its bias: name both) writes the keys of such a score: what zero_block needs to know
  /// to widen a head. A fused parameter says which part of it: keys("c_attn", 1) for out(3 * heads * head_dim) and for
  /// out(q | k | v).
  schema& keys(const std::string& parameter_name, index part = 0) {
    const parameter* p = find(parameter_name);
    if (p == nullptr) {
      findings_.push_back({.code = errc::unknown_parameter,
                           .parameter = parameter_name,
                           .expected = "a parameter added before keys() names it"});
    } else if (part < 0 || part >= p->parts(role::out)) {
      findings_.push_back({.code = errc::bad_argument,
                           .parameter = parameter_name,
                           .expected = "a part below " + std::to_string(p->parts(role::out)) + " of what it writes",
                           .found = std::to_string(part)});
    }
    keys_.emplace_back(parameter_name, part);
    return *this;
  }
  /// Units of this axis are rotated in pairs by their position (RoPE).
  schema& rotary(const axis& a, rotary_layout layout, rotary_frequencies from = rotary_frequencies::computed) {
    rotary_[a.name] = {layout, from};
    note_axis(a.name, a.size, {}, -1);
    return *this;
  }

  /// Query head a reads key-value head a / (heads / kv_heads). Growths keep the groups whole: see
  /// positions_in_groups().
  schema& grouped(const axis& heads, const axis& kv_heads) {
    groups_.push_back({heads.name, kv_heads.name});
    note_axis(heads.name, heads.size, {}, -1);
    note_axis(kv_heads.name, kv_heads.size, {}, -1);
    if (heads.name == kv_heads.name || kv_heads.size < 1 || heads.size % kv_heads.size != 0) {
      findings_.push_back({.code = errc::bad_size,
                           .axis = heads.name,
                           .expected = "a multiple of " + std::to_string(kv_heads.size) + " '" + kv_heads.name + "'",
                           .found = std::to_string(heads.size)});
    }
    return *this;
  }

  // Not on a temporary: a range-for over gpt2(sizes).parameters() would run over a destroyed schema.
  [[nodiscard]] const std::vector<parameter>& parameters() const& noexcept { return parameters_; }
  const std::vector<parameter>& parameters() const&& = delete;
  [[nodiscard]] const std::vector<axis>& axes() const& noexcept { return axes_; }
  const std::vector<axis>& axes() const&& = delete;
  [[nodiscard]] const std::vector<diagnostic>& diagnose() const noexcept { return findings_; }
  [[nodiscard]] norm_kind norm_of(std::string_view axis_name) const {
    const auto found = norms_.find(axis_name);
    return found == norms_.end() ? norm_kind::none : found->second.first;
  }
  [[nodiscard]] norm_position norm_position_of(std::string_view axis_name) const {
    const auto found = norms_.find(axis_name);
    return found == norms_.end() ? norm_position::pre : found->second.second;
  }
  [[nodiscard]] bool has_logits(std::string_view axis_name) const {
    return std::find(logits_.begin(), logits_.end(), axis_name) != logits_.end();
  }
  /// Some parameter has an independent slice for each unit of the axis: layers, experts.
  [[nodiscard]] bool has_slices(std::string_view axis_name) const {
    return std::any_of(parameters_.begin(), parameters_.end(),
                       [&](const parameter& p) { return p.uses(axis_name, role::each); });
  }
  [[nodiscard]] bool is_scored(std::string_view axis_name) const {
    return std::find(scored_.begin(), scored_.end(), axis_name) != scored_.end();
  }
  [[nodiscard]] bool is_residual(std::string_view axis_name) const { return norms_.find(axis_name) != norms_.end(); }
  [[nodiscard]] bool writes_keys(std::string_view parameter_name, index part) const {
    return std::any_of(keys_.begin(), keys_.end(),
                       [&](const auto& k) { return k.first == parameter_name && k.second == part; });
  }
  [[nodiscard]] bool writes_keys(std::string_view parameter_name) const {
    return std::any_of(keys_.begin(), keys_.end(), [&](const auto& k) { return k.first == parameter_name; });
  }
  [[nodiscard]] std::pair<rotary_layout, rotary_frequencies> rotary_of(std::string_view axis_name) const {
    const auto found = rotary_.find(axis_name);
    return found == rotary_.end() ? std::pair{rotary_layout::none, rotary_frequencies::computed} : found->second;
  }
  [[nodiscard]] const std::vector<head_groups>& groups() const& noexcept { return groups_; }
  const std::vector<head_groups>& groups() const&& = delete;

  /// nullptr where there is none.
  [[nodiscard]] const parameter* find(std::string_view name) const noexcept {
    const auto found =
        std::find_if(parameters_.begin(), parameters_.end(), [&](const parameter& p) { return p.name == name; });
    return found == parameters_.end() ? nullptr : &*found;
  }
  [[nodiscard]] const axis* find_axis(std::string_view name) const noexcept {
    const auto found = std::find_if(axes_.begin(), axes_.end(), [&](const axis& a) { return a.name == name; });
    return found == axes_.end() ? nullptr : &*found;
  }
  /// Throw error{unknown_parameter} or error{unknown_axis}, listing what there is.
  [[nodiscard]] const parameter& at(std::string_view name) const {
    if (const parameter* p = find(name)) { return *p; }
    std::string names;
    for (const parameter& p : parameters_) { names += (names.empty() ? "one of " : ", ") + p.name; }
    throw error(diagnostic{.code = errc::unknown_parameter, .parameter = std::string(name), .expected = names});
  }
  [[nodiscard]] const axis& axis_at(std::string_view name) const {
    if (const axis* a = find_axis(name)) { return *a; }
    throw error(diagnostic{.code = errc::unknown_axis, .axis = std::string(name), .expected = axis_names()});
  }
  [[nodiscard]] std::string axis_names() const {
    std::string names;
    for (const axis& a : axes_) { names += (names.empty() ? "" : ", ") + a.name; }
    return "one of " + names;
  }

  /// Packed buffer: elements in total, and where a parameter begins.
  [[nodiscard]] index size() const noexcept { return size_; }
  [[nodiscard]] index offset(std::string_view name) const {
    return offsets_[static_cast<std::size_t>(&at(name) - parameters_.data())];
  }

  /// The same schema with other axis sizes (axes not named keep theirs).
  [[nodiscard]] schema resized(const std::map<std::string, index, std::less<>>& sizes) const {
    schema result;
    const auto size_of = [&](const std::string& name, index old) {
      const auto found = sizes.find(name);
      return found == sizes.end() ? old : found->second;
    };
    for (parameter p : parameters_) {
      for (dimension& d : p.dims) {
        for (product& t : d.extent.terms) {
          for (factor& f : t.factors) { f.size = f.axis.empty() ? f.size : size_of(f.axis, f.size); }
        }
      }
      result.add(std::move(p));
    }
    for (const axis& a : axes_) { result.note_axis(a.name, size_of(a.name, a.size), {}, -1); }
    result.norms_ = norms_;
    result.logits_ = logits_;
    result.scored_ = scored_;
    result.keys_ = keys_;
    result.rotary_ = rotary_;
    result.groups_ = groups_;
    return result;
  }

private:
  void note_axes(const parameter& p, std::size_t d) {
    for (const product& term : p.dims[d].extent.terms) {
      for (const factor& f : term.factors) {
        if (!f.axis.empty()) {
          note_axis(f.axis, f.size, p.name, static_cast<index>(d));
        } else if (f.size < 1) {
          note_bad_size({}, f.size, p.name, static_cast<index>(d));
        }
      }
    }
  }
  void note_axis(const std::string& name, index size, const std::string& parameter_name, index d) {
    const axis* known = find_axis(name);
    if (known == nullptr) {
      axes_.push_back({name, size});
      if (size < 1) { note_bad_size(name, size, parameter_name, d); }
    } else if (known->size != size) {
      findings_.push_back({.code = errc::size_conflict,
                           .parameter = parameter_name,
                           .dimension = d,
                           .axis = name,
                           .expected = std::to_string(known->size),
                           .found = std::to_string(size)});
    }
  }
  void note_bad_size(const std::string& axis_name, index size, const std::string& parameter_name, index d) {
    findings_.push_back({.code = errc::bad_size,
                         .parameter = parameter_name,
                         .dimension = d,
                         .axis = axis_name,
                         .expected = "at least 1",
                         .found = std::to_string(size)});
  }

  std::vector<parameter> parameters_;
  std::vector<index> offsets_;
  index size_ = 0;
  std::vector<axis> axes_;
  std::map<std::string, std::pair<norm_kind, norm_position>, std::less<>> norms_;
  std::vector<std::string> logits_;
  std::vector<std::string> scored_;
  std::vector<std::pair<std::string, index>> keys_; // parameter and part
  std::map<std::string, std::pair<rotary_layout, rotary_frequencies>, std::less<>> rotary_;
  std::vector<head_groups> groups_;
  std::vector<diagnostic> findings_;
};

MSG_NAMESPACE_END
