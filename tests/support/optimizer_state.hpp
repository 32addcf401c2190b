// Parameters with gradient and moments, and ages of every pattern, for the tests of the optimizers.
#pragma once

#include <msg/ages.hpp>
#include <msg/config.hpp>

#include <algorithm>
#include <cstddef>
#include <functional>
#include <numeric>
#include <random>
#include <utility>
#include <vector>

namespace testing {

using msg::index;
using msg::parameter_ages;
using shape = std::vector<index>;

template <class T>
std::vector<T> numbers(std::size_t n, unsigned seed, double low, double high) {
  std::mt19937 bits{seed};
  std::uniform_real_distribution<double> uniform{low, high};
  std::vector<T> result(n);
  for (T& x : result) { x = static_cast<T>(uniform(bits)); }
  return result;
}

inline std::size_t size_of(const shape& extents) {
  return static_cast<std::size_t>(std::accumulate(extents.begin(), extents.end(), index{1}, std::multiplies<>{}));
}

template <class T>
struct state {
  std::vector<T> w, g, m, v;
  explicit state(std::size_t n, unsigned seed = 1)
      : w(numbers<T>(n, seed, -1, 1)), g(numbers<T>(n, seed + 1, -1, 1)), m(numbers<T>(n, seed + 2, -1, 1)),
        v(numbers<T>(n, seed + 3, 0, 1)) {}
  bool operator==(const state&) const = default;
};

// Ages of every pattern: none, appended, interleaved, several growths, in some of the dimensions, with masks or
// without.
inline parameter_ages some_ages(const shape& extents, unsigned seed, index step) {
  std::mt19937 bits{seed};
  parameter_ages ages;
  ages.shape = extents;
  for (const index extent : extents) {
    std::vector<index> birth;
    std::vector<float> mask;
    const auto pattern = bits() % 4;
    for (index j = 0; pattern > 0 && j < extent; ++j) {
      const bool fresh = pattern == 1 ? j >= extent / 2 : pattern == 2 ? j % 2 == 1 : bits() % 3 == 0;
      birth.push_back(fresh ? step - static_cast<index>(bits() % 3) : 0);
      mask.push_back(fresh ? static_cast<float>(bits() % 5) / 4 : 1.0F);
    }
    ages.birth.push_back(birth);
    ages.mask.push_back(bits() % 2 == 0 ? mask : std::vector<float>{});
  }
  return ages;
}

// Birth and mask of one entry, from their definition.
inline std::pair<index, float> of_entry(const parameter_ages& ages, const shape& extents, std::size_t entry) {
  index birth = 0;
  float mask = 1;
  auto rest = static_cast<index>(entry);
  for (std::size_t d = extents.size(); d-- > 0;) {
    const auto j = static_cast<std::size_t>(rest % extents[d]);
    rest /= extents[d];
    if (d < ages.birth.size() && !ages.birth[d].empty()) { birth = std::max(birth, ages.birth[d][j]); }
    if (d < ages.mask.size() && !ages.mask[d].empty()) { mask = std::min(mask, ages.mask[d][j]); }
  }
  return {birth, mask};
}

// Shapes of one to four dimensions, around the sizes of vectors and of stretches.
inline const std::vector<shape> shapes{{1},      {7},       {100},      {5000},       {3, 5},   {9, 64},
                                       {31, 33}, {2, 3, 4}, {3, 8, 40}, {2, 2, 3, 5}, {1, 200}, {200, 1}};

} // namespace testing
