// How an optimizer update of a parameter with ages is cut into rows and runs.
#pragma once

#include <msg/ages.hpp>
#include <msg/config.hpp>
#include <msg/error.hpp>
#include <msg/kernels/optimizer.hpp>
#include <msg/tensor.hpp>

#include <algorithm>
#include <cstddef>
#include <map>
#include <string>
#include <vector>

MSG_NAMESPACE_BEGIN

namespace detail {

inline constexpr index update_chunk = 4096; // elements of a row where no dimension is special
inline constexpr index least_run = 16;      // mean length from which on runs are faster than single positions

/// Faults of ages against the shape of their parameter, at a step.
[[nodiscard]] inline std::vector<diagnostic> age_findings(const parameter_ages& ages, const std::vector<index>& shape,
                                                          index size, index step) {
  std::vector<diagnostic> findings;
  const auto add = [&](errc code, std::size_t d, std::string expected, std::string found, const char* hint) {
    findings.push_back({code, {}, static_cast<index>(d), {}, std::move(expected), std::move(found), hint});
  };
  index product = 1;
  for (const index extent : shape) { product *= extent; }
  const auto fits = [&](std::size_t dims) { return dims == 0 || dims == shape.size(); };
  if (!fits(ages.birth.size()) || !fits(ages.mask.size()) || product != size ||
      shape.size() > static_cast<std::size_t>(max_rank)) {
    findings.push_back({.code = errc::shape_mismatch,
                        .expected = "a shape of " + std::to_string(std::max(ages.birth.size(), ages.mask.size())) +
                                    " dimensions (at most 4), " + std::to_string(size) + " elements",
                        .found = std::to_string(shape.size()) + " dimensions, " + std::to_string(product) + " elements",
                        .hint = "parameter_ages::shape, or the tensor's own"});
    return findings;
  }
  for (std::size_t d = 0; d < shape.size(); ++d) {
    const auto check = [&](const auto& entries, const char* name, const char* range, const auto& good) {
      if (entries.size() <= d || entries[d].empty()) { return; }
      if (static_cast<index>(entries[d].size()) != shape[d]) {
        add(errc::shape_mismatch, d, std::to_string(shape[d]) + " entries", std::to_string(entries[d].size()), name);
      }
      const auto bad = std::find_if_not(entries[d].begin(), entries[d].end(), good);
      if (bad != entries[d].end()) { add(errc::bad_argument, d, range, std::to_string(*bad), name); }
    };
    check(ages.birth, "birth", "from 0 to the step", [step](index birth) { return birth >= 0 && birth <= step; });
    check(ages.mask, "mask", "from 0 to 1", [](float mask) { return mask >= 0 && mask <= 1; });
  }
  return findings;
}

/// What update_row has to know of ages; its pointers are into this layout and into the ages it was made of.
template <class Real>
struct update_layout {
  age_factors<Real> oldest{};
  std::vector<std::vector<age_factors<Real>>> age{}; // by dimension and position; empty: nothing special
  std::vector<float> mask{};                         // of the innermost dimension
  std::vector<update_run<Real>> runs{};
  std::vector<update_dimension<Real>> outer{};
  update_dimension<Real> inner{};
  index length = 0; // of a row
  index rows = 0;
};

/// factors   birth to age_factors, at least those of birth 0. Births whose factors have become equal need no
/// distinction.
template <class Real, class Factors>
[[nodiscard]] update_layout<Real> layout_of(const parameter_ages& ages, const std::vector<index>& shape, index size,
                                            const Factors& factors) {
  const auto same = [](const age_factors<Real>& a, const age_factors<Real>& b) {
    return a.step == b.step && a.root == b.root && a.rate == b.rate && a.born == b.born;
  };
  update_layout<Real> result;
  result.oldest = factors(0);
  result.age.resize(shape.size());
  std::vector<const float*> mask(shape.size(), nullptr);
  std::map<index, age_factors<Real>> known;
  std::size_t end = 0; // behind the last special dimension
  for (std::size_t d = 0; d < shape.size(); ++d) {
    std::vector<age_factors<Real>>& age = result.age[d];
    bool special = false;
    if (d < ages.birth.size()) {
      for (const index birth : ages.birth[d]) {
        auto at = known.find(birth);
        if (at == known.end()) { at = known.emplace(birth, factors(birth)).first; }
        special = special || !same(at->second, result.oldest);
        age.push_back(at->second);
      }
    }
    if (!special) { age.clear(); }
    if (d < ages.mask.size()) {
      const std::vector<float>& given = ages.mask[d];
      if (std::any_of(given.begin(), given.end(), [](float m) { return m != 1; })) { mask[d] = given.data(); }
    }
    if (special || mask[d] != nullptr) { end = d + 1; }
  }
  if (end == 0 || size == 0) {
    result.length = std::min(size, update_chunk);
    result.rows = (size + update_chunk - 1) / update_chunk;
    return result;
  }
  const bool cut = end == shape.size(); // the innermost dimension is special
  for (std::size_t d = 0; d < end - (cut ? 1 : 0); ++d) {
    result.outer.push_back({shape[d], result.age[d].empty() ? nullptr : result.age[d].data(), mask[d]});
  }
  result.length = cut ? shape.back() : 1;
  for (std::size_t d = end; d < shape.size(); ++d) { result.length *= shape[d]; }
  result.rows = size / result.length;
  if (!cut) { return result; }
  std::vector<age_factors<Real>>& age = result.age.back();
  age.resize(static_cast<std::size_t>(result.length), result.oldest); // where only the masks are special
  if (mask.back() == nullptr) { result.mask.resize(age.size(), 1); }
  result.inner = {result.length, age.data(), mask.back() == nullptr ? result.mask.data() : mask.back()};
  for (index j = 0; j < result.length; ++j) {
    const age_factors<Real>& a = result.inner.age[j];
    const float m = result.inner.mask[j];
    if (j == 0 || !same(result.runs.back().age, a) || result.runs.back().mask != m) {
      result.runs.push_back({j, 0, a, m});
    }
    ++result.runs.back().length;
  }
  if (static_cast<index>(result.runs.size()) * least_run <= result.length) {
    result.inner = {};
  } else {
    result.runs.clear();
  }
  return result;
}

} // namespace detail

MSG_NAMESPACE_END
