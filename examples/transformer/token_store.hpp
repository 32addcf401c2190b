// Token ids in memory, one, two or four bytes each.
#pragma once

#include "transformer/errors.hpp"

#include <msg/config.hpp>

#include <algorithm>
#include <cstdint>
#include <span>
#include <utility>
#include <variant>
#include <vector>

namespace reference {

using msg::index;

/// A growing list of ids, each as wide as the vocabulary needs.
class token_store {
public:
  using narrow = std::vector<std::uint8_t>;
  using middle = std::vector<std::uint16_t>;
  using wide = std::vector<std::uint32_t>;

  token_store() = default;
  explicit token_store(narrow ids) : ids_(std::move(ids)) {}
  explicit token_store(middle ids) : ids_(std::move(ids)) {}
  explicit token_store(wide ids) : ids_(std::move(ids)) {}
  /// An empty one for ids below `vocab`.
  [[nodiscard]] static token_store for_vocabulary(index vocab) {
    if (vocab <= 256) { return token_store(narrow{}); }
    return vocab <= 65536 ? token_store(middle{}) : token_store(wide{});
  }

  [[nodiscard]] index size() const noexcept {
    return std::visit([](const auto& ids) { return static_cast<index>(ids.size()); }, ids_);
  }
  [[nodiscard]] std::int32_t operator[](index at) const {
    return std::visit([&](const auto& ids) { return static_cast<std::int32_t>(ids[static_cast<std::size_t>(at)]); },
                      ids_);
  }
  /// Writes `count` ids from `begin` on.
  void copy(index begin, index count, std::int32_t* to) const {
    std::visit(
        [&](const auto& ids) {
          std::transform(ids.begin() + begin, ids.begin() + begin + count, to,
                         [](auto id) { return static_cast<std::int32_t>(id); });
        },
        ids_);
  }
  void append(std::span<const std::int32_t> more) {
    std::visit(
        [&](auto& ids) {
          using id_type = typename std::decay_t<decltype(ids)>::value_type;
          for (const std::int32_t id : more) { ids.push_back(static_cast<id_type>(id)); }
        },
        ids_);
  }
  /// The first position of an id that is not below `vocab`, or -1.
  [[nodiscard]] index first_outside(index vocab) const {
    return std::visit(
        [&](const auto& ids) {
          const auto found =
              std::find_if(ids.begin(), ids.end(), [&](auto id) { return static_cast<index>(id) >= vocab; });
          return found == ids.end() ? index{-1} : static_cast<index>(found - ids.begin());
        },
        ids_);
  }
  /// One more than the largest id; 0 if there is none.
  [[nodiscard]] index least_vocabulary() const {
    return std::visit(
        [](const auto& ids) {
          return ids.empty() ? index{0} : static_cast<index>(*std::max_element(ids.begin(), ids.end())) + 1;
        },
        ids_);
  }

private:
  std::variant<narrow, middle, wide> ids_;
};

} // namespace reference
