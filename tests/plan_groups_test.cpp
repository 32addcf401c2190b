// Query heads that share key-value heads: where fresh ones lie, what copies copy, and which sizes make no groups.
#include "support/catch.hpp"
#include "support/test_rules.hpp"
#include "support/thrown.hpp"

#include <msg/plan.hpp>
#include <msg/rules/mask.hpp>

#include <string>
#include <vector>

using msg::axis;
using msg::errc;
using msg::fresh_unit;
using msg::index;
using msg::placement;
using testing::message_of;

namespace {

const axis heads{"heads", 4};
const axis kv_heads{"kv_heads", 2}; // heads 0 and 1 read key-value head 0, heads 2 and 3 read 1

msg::schema attention() {
  msg::schema s;
  s.weight("q", out(heads * 2))
      .weight("k", out(kv_heads * 2))
      .weight("v", out(kv_heads * 2))
      .weight("o", in(heads * 2));
  return s.grouped(heads, kv_heads);
}

std::vector<index> order(const std::vector<msg::request>& requests, const placement& where = {}) {
  return msg::plan{attention(), requests, msg::mask{}, {.placement = where}}.axis("heads").old_of;
}
std::vector<index> copied(const std::vector<msg::request>& requests, const placement& where = {}) {
  const msg::mask rule{.width = msg::mask::start::copy};
  return msg::plan{attention(), requests, rule, {.placement = where}}.axis("heads").growth.source;
}

constexpr index f = fresh_unit;

} // namespace

TEST_CASE("fresh query heads lie at the end of each group, whose key-value head stays", "[plan][groups]") {
  CHECK(order({heads.grow_to(6)}) == std::vector<index>{0, 1, f, 2, 3, f});
  CHECK(order({heads.grow_to(8)}) == std::vector<index>{0, 1, f, f, 2, 3, f, f});
  CHECK(order({heads.grow_to(6)}, placement::prepend()) == std::vector<index>{f, 0, 1, f, 2, 3});
  CHECK(order({heads.grow_to(8)}, placement::interleave()) == std::vector<index>{0, f, 1, f, 2, f, 3, f});
  CHECK(copied({heads.grow_to(10)}) == std::vector<index>{0, 1, 0, 1, 0, 2, 3, 2, 3, 2});
  CHECK(copied({heads.grow_to(8)}, placement::interleave()) == std::vector<index>{0, 0, 1, 1, 2, 2, 3, 3});
}

TEST_CASE("heads and key-value heads that grow together bring whole fresh groups", "[plan][groups]") {
  const std::vector<msg::request> same{heads.grow_to(6), kv_heads.grow_to(3)};
  CHECK(order(same) == std::vector<index>{0, 1, 2, 3, f, f});
  CHECK(order({kv_heads.grow_to(3), heads.grow_to(6)}) == std::vector<index>{0, 1, 2, 3, f, f});
  CHECK(order(same, placement::prepend()) == std::vector<index>{f, f, 0, 1, 2, 3});
  CHECK(copied(same) == std::vector<index>{0, 1, 2, 3, 0, 1}); // key-value head 2 is a copy of 0
  // three heads to a group instead of two, and a group more
  const std::vector<msg::request> more{heads.grow_to(9), kv_heads.grow_to(3)};
  CHECK(order(more) == std::vector<index>{0, 1, f, 2, 3, f, f, f, f});
  CHECK(copied(more) == std::vector<index>{0, 1, 0, 2, 3, 2, 0, 1, 0});
}

TEST_CASE("a plan lists its axes as they were asked for, whichever is decided first", "[plan][groups]") {
  const msg::plan growth{attention(), {heads.grow_to(6), kv_heads.grow_to(3)}};
  CHECK(growth.axes()[0].name == "heads");
  CHECK(growth.axes()[1].name == "kv_heads");
  CHECK(growth.after().groups().size() == 1);
}

TEST_CASE("sizes that make no whole groups are refused", "[plan][groups][error]") {
  const auto refused = [](const std::vector<msg::request>& requests) {
    return message_of([&] { msg::plan{attention(), requests}; });
  };
  CHECK(refused({heads.grow_to(5)}) == "msg: bad size: axis 'heads', expected a multiple of 2 'kv_heads', found 5");
  CHECK(refused({kv_heads.grow_to(3)}) == "msg: bad size: axis 'heads', expected a multiple of 3 'kv_heads', found 4");
  CHECK(refused({kv_heads.grow_to(4)}) ==
        "msg: unsupported: axis 'heads', expected at least 2 for each of 'kv_heads', found 1 (an old query head would "
        "change its key-value head)");
  CHECK(refused({heads.grow_to(6, {.placement = placement::given({0, 1, 2, 3, f, f})})}) ==
        "msg: bad placement: axis 'heads', expected an order that holds for every group of 'kv_heads', found 6 "
        "positions: 0 1 2 3 -1 -1 (append, prepend or interleave)");
  msg::schema s;
  s.weight("q", out(axis{"heads", 5})).grouped(axis{"heads", 5}, kv_heads);
  REQUIRE(s.diagnose().size() == 1);
  CHECK(to_string(s.diagnose()[0]) == "bad size: axis 'heads', expected a multiple of 2 'kv_heads', found 5");
}

TEST_CASE("fresh key-value heads need no mask of their own, but sleep with their readers", "[plan][groups][contract]") {
  const msg::plan growth{attention(), {heads.grow_to(6), kv_heads.grow_to(3)}};
  CHECK(growth.axis("heads").growth.contract.mask_activations);
  const msg::axis_contract& kv = growth.axis("kv_heads").growth.contract;
  CHECK_FALSE(kv.mask_activations);
  CHECK(kv.masked_by_readers);
  CHECK(kv.masked());
}
