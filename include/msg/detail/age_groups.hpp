// Entries of parameters by what an optimizer has to know of them: those that came to be together and are equally awake
// are a group, of which all change together. So a device is told their places once, and every step of the groups alone.
#pragma once

#include <msg/ages.hpp>
#include <msg/config.hpp>
#include <msg/detail/update_layout.hpp>
#include <msg/error.hpp>
#include <msg/kernels/optimizer.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

MSG_NAMESPACE_BEGIN

namespace detail {

inline constexpr std::size_t most_age_groups = 32;

/// What tells groups apart.
struct age_key {
  index birth = 0;
  float mask = 1;
  bool operator==(const age_key&) const = default;
};

/// Groups of positions and of runs, one parameter after the other.
template <class Real>
struct age_places {
  std::vector<std::uint8_t> group{};     // of every position of every special dimension
  std::vector<update_run<Real>> runs{};  // ages and masks are for the step to say
  std::vector<std::uint8_t> run_group{}; // of every run
};

/// How parameters are divided, from a growth to the next.
class age_groups {
public:
  struct dimension {
    index extent = 1;
    index first = -1; // in age_places::group; -1: nothing special
  };
  struct parameter {
    std::vector<index> shape{};
    index size = 1;
    index rows = 0;
    index length = 0;
    std::vector<dimension> outer{};
    dimension inner{};
    index first_run = 0; // in age_places::runs
    index run_count = 0;
    std::vector<std::vector<std::uint8_t>> group{}; // by dimension, of every position; empty: nothing special
  };

  age_groups() = default;
  /// ages    of each parameter, with its shape
  /// places  is appended to
  /// Throws error{shape_mismatch, bad_argument, unsupported} (32 groups at most).
  template <class Real>
  age_groups(const std::vector<parameter_ages>& ages, age_places<Real>& places) {
    std::vector<index> births; // seen so far
    for (const parameter_ages& a : ages) { add(a, places, births); }
  }

  [[nodiscard]] const std::vector<parameter>& parameters() const noexcept { return parameters_; }
  [[nodiscard]] const std::vector<age_key>& keys() const noexcept { return keys_; } // of the groups

  /// Masks of the groups at a step: 1 where none of a group is left.
  ///
  /// ages  of each parameter: births as they were, masks as they have become
  /// Throws error{bad_argument, shape_mismatch} where groups are groups no more.
  [[nodiscard]] std::vector<float> masks_at(index step, const std::vector<parameter_ages>& ages) const {
    std::vector<age_key> found(keys_.size(), age_key{-1, 1});
    for (std::size_t p = 0; p < ages.size(); ++p) { compare(parameters_[p], ages[p], step, found); }
    std::vector<float> masks;
    for (const age_key& k : found) { masks.push_back(k.mask); }
    return masks;
  }

private:
  static age_key key_at(const parameter_ages& a, std::size_t d, std::size_t position) {
    age_key result;
    if (d < a.birth.size() && !a.birth[d].empty()) { result.birth = a.birth[d][position]; }
    if (d < a.mask.size() && !a.mask[d].empty()) { result.mask = a.mask[d][position]; }
    return result;
  }

  template <class Real>
  void add(const parameter_ages& a, age_places<Real>& places, std::vector<index>& seen) {
    parameter p;
    p.shape = a.shape;
    for (const index extent : p.shape) { p.size *= extent; }
    index latest = 0;
    for (const auto& births : a.birth) {
      for (const index birth : births) { latest = std::max(latest, birth); }
    }
    std::vector<diagnostic> findings = age_findings(a, p.shape, p.size, latest);
    if (!findings.empty()) { throw error(std::move(findings)); }
    // Every birth counts as different here, whatever its factors will be.
    const auto layout = layout_of<Real>(a, p.shape, p.size, [&](index birth) {
      const auto known = std::find(seen.begin(), seen.end(), birth);
      const auto code = static_cast<Real>(known - seen.begin());
      if (known == seen.end()) { seen.push_back(birth); }
      return age_factors<Real>{code, code};
    });
    p.rows = layout.rows;
    p.length = layout.length;
    p.group.resize(p.shape.size());
    const auto place = [&](std::size_t d, const update_dimension<Real>& special) {
      dimension result{special.extent, -1};
      if (special.age == nullptr && special.mask == nullptr) { return result; }
      result.first = static_cast<index>(places.group.size());
      for (index i = 0; i < special.extent; ++i) {
        p.group[d].push_back(group_of(key_at(a, d, static_cast<std::size_t>(i))));
      }
      places.group.insert(places.group.end(), p.group[d].begin(), p.group[d].end());
      return result;
    };
    for (std::size_t d = 0; d < layout.outer.size(); ++d) { p.outer.push_back(place(d, layout.outer[d])); }
    const std::size_t last = p.shape.empty() ? 0 : p.shape.size() - 1;
    if (layout.inner.age != nullptr) { p.inner = place(last, layout.inner); }
    p.first_run = static_cast<index>(places.runs.size());
    p.run_count = static_cast<index>(layout.runs.size());
    for (const update_run<Real>& r : layout.runs) {
      const std::uint8_t group = group_of(key_at(a, last, static_cast<std::size_t>(r.begin)));
      places.runs.push_back(r);
      places.run_group.push_back(group);
      p.group[last].insert(p.group[last].end(), static_cast<std::size_t>(r.length), group);
    }
    parameters_.push_back(std::move(p));
  }

  std::uint8_t group_of(const age_key& k) {
    const auto found = std::find(keys_.begin(), keys_.end(), k);
    if (found != keys_.end()) { return static_cast<std::uint8_t>(found - keys_.begin()); }
    if (keys_.size() == most_age_groups) {
      throw error(
          diagnostic{.code = errc::unsupported,
                     .expected = "at most " + std::to_string(most_age_groups) + " different pairs of birth and mask",
                     .found = "more",
                     .hint = "give old entries one birth: bias correction forgets births after some steps"});
    }
    keys_.push_back(k);
    return static_cast<std::uint8_t>(keys_.size() - 1);
  }

  // Births are as they were, groups are still groups; notes their masks.
  void compare(const parameter& p, const parameter_ages& a, index step, std::vector<age_key>& found) const {
    std::vector<diagnostic> findings = age_findings(a, a.shape, p.size, step);
    if (findings.empty() && a.shape != p.shape) {
      findings.push_back({.code = errc::shape_mismatch, .expected = "the shape of before", .found = "another"});
    }
    for (std::size_t d = 0; d < p.shape.size() && findings.empty(); ++d) {
      const index extent = p.shape[d];
      for (index i = 0; i < extent && findings.empty(); ++i) {
        const age_key k = key_at(a, d, static_cast<std::size_t>(i));
        if (p.group[d].empty()) {
          if (k == age_key{}) { continue; }
        } else {
          const std::size_t group = p.group[d][static_cast<std::size_t>(i)];
          const bool first = found[group].birth < 0;
          if (first) { found[group] = k; }
          if (k.birth == keys_[group].birth && k.mask == found[group].mask) { continue; }
        }
        findings.push_back({.code = errc::bad_argument,
                            .dimension = static_cast<index>(d),
                            .expected = "births of before, and one mask for each group",
                            .found = "birth " + std::to_string(k.birth) + ", mask " + std::to_string(k.mask) +
                                     " at position " + std::to_string(i),
                            .hint = "after a growth make new device_ages"});
      }
    }
    if (!findings.empty()) { throw error(std::move(findings)); }
  }

  std::vector<parameter> parameters_;
  std::vector<age_key> keys_;
};

} // namespace detail

MSG_NAMESPACE_END
