// One parameter of a model: its name, what it is, and what its dimensions mean.
#pragma once

#include <msg/axis.hpp>

#include <algorithm>
#include <string>
#include <string_view>
#include <vector>

MSG_NAMESPACE_BEGIN

/// What a parameter is; decides its fresh values (a fresh bias is 0, a fresh gain 1) and its optimizer group.
enum class kind { weight, bias, norm_gain, norm_bias };

/// Weight decay is for matrices; biases and norms are left alone.
[[nodiscard]] constexpr bool decays(kind what) noexcept { return what == kind::weight; }

struct parameter {
  std::string name;
  kind what = kind::weight;
  std::vector<dimension> dims; // row-major storage order, at most max_rank

  [[nodiscard]] std::vector<index> shape() const {
    std::vector<index> result;
    for (const dimension& d : dims) { result.push_back(d.size()); }
    return result;
  }
  [[nodiscard]] index size() const noexcept {
    index result = 1;
    for (const dimension& d : dims) { result *= d.size(); }
    return result;
  }
  /// Parts that fused dimensions of this role consist of: concatenated terms, each as often as its multiplicity says.
  [[nodiscard]] index parts(role what_role) const {
    index most = 0;
    for (const dimension& d : dims) {
      index count = 0;
      for (const product& t : d.extent.terms) {
        index times = 1;
        for (const factor& f : t.factors) { times *= f.axis.empty() ? f.size : 1; }
        count += times;
      }
      most = d.what == what_role && count > most ? count : most;
    }
    return most;
  }
  /// The axis is used in one of the dimensions with this role.
  [[nodiscard]] bool uses(std::string_view axis_name, role what_role) const {
    return std::any_of(dims.begin(), dims.end(), [&](const dimension& d) {
      return d.what == what_role && std::any_of(d.extent.terms.begin(), d.extent.terms.end(), [&](const product& t) {
               return std::any_of(t.factors.begin(), t.factors.end(),
                                  [&](const factor& f) { return f.axis == axis_name; });
             });
    });
  }
};

MSG_NAMESPACE_END
