// The median of measurements.
#pragma once

#include <algorithm>
#include <cstddef>
#include <vector>

namespace reference {

/// The middle value, or the mean of the two in the middle; of one value or more.
[[nodiscard]] inline double median_of(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  const std::size_t half = values.size() / 2;
  return values.size() % 2 != 0 ? values[half] : (values[half - 1] + values[half]) / 2;
}

} // namespace reference
