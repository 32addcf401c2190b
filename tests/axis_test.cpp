// Dimension expressions: sizes, storage order, and what cannot be written.
#include "support/catch.hpp"
#include "support/thrown.hpp"

#include <msg/axis.hpp>
#include <msg/request.hpp>

#include <concepts>
#include <string>
#include <type_traits>
#include <vector>

using msg::axis;
using msg::expression;
using msg::index;

namespace {

const axis heads{"heads", 2};
const axis head_dim{"head_dim", 3};
const axis kv_heads{"kv_heads", 1};

/// Every position of a dimension as "term:unit,unit,...".
std::vector<std::string> positions(const expression& extent) {
  std::vector<std::string> list;
  msg::for_each_position(extent, [&](index position, const msg::product& term, const std::vector<index>& units) {
    REQUIRE(position == static_cast<index>(list.size()));
    std::string text = std::to_string(&term - extent.terms.data()) + ":";
    for (const index unit : units) { text += std::to_string(unit) + ","; }
    list.push_back(text);
  });
  return list;
}

} // namespace

TEST_CASE("an axis alone is a dimension of its size", "[axis]") {
  const expression one = heads;
  CHECK(one.size() == 2);
  CHECK(positions(one) == std::vector<std::string>{"0:0,", "0:1,"});
}

TEST_CASE("the left factor of a product is outermost", "[axis]") {
  CHECK((heads * head_dim).size() == 6);
  CHECK(positions(heads * head_dim) ==
        std::vector<std::string>{"0:0,0,", "0:0,1,", "0:0,2,", "0:1,0,", "0:1,1,", "0:1,2,"});
  CHECK(positions(head_dim * heads) ==
        std::vector<std::string>{"0:0,0,", "0:0,1,", "0:1,0,", "0:1,1,", "0:2,0,", "0:2,1,"});
}

TEST_CASE("a fixed multiplicity is a factor without a name, wherever it stands", "[axis]") {
  const expression gpt2 = 3 * heads * head_dim;
  const expression pythia = heads * 3 * head_dim;
  CHECK(gpt2.size() == 18);
  CHECK(pythia.size() == 18);
  CHECK(positions(gpt2)[7] == "0:1,0,1,");   // 7 = (1 * 2 + 0) * 3 + 1
  CHECK(positions(pythia)[7] == "0:0,2,1,"); // 7 = (0 * 3 + 2) * 3 + 1
  REQUIRE(gpt2.terms.size() == 1);
  CHECK(gpt2.terms[0].factors[0].axis.empty());
  CHECK(gpt2.terms[0].factors[0].size == 3);
}

TEST_CASE("a multiplicity is any integer and no floating-point number", "[axis]") {
  CHECK((std::size_t{2} * expression(heads)).size() == 4);
  STATIC_REQUIRE(std::is_convertible_v<int, expression>);
  STATIC_REQUIRE(std::is_convertible_v<unsigned, expression>);
  STATIC_REQUIRE(!std::is_convertible_v<double, expression>);
}

TEST_CASE("a concatenation holds its terms one after another", "[axis]") {
  const expression qkv = heads * head_dim | kv_heads * head_dim | kv_heads * head_dim;
  CHECK(qkv.size() == 12);
  REQUIRE(qkv.terms.size() == 3);
  const auto list = positions(qkv);
  REQUIRE(list.size() == 12);
  CHECK(list[5] == "0:1,2,");
  CHECK(list[6] == "1:0,0,");
  CHECK(list[11] == "2:0,2,");
}

TEST_CASE("a product distributes over a concatenation on its left alone", "[axis]") {
  const expression both = (expression(heads) | expression(kv_heads)) * head_dim;
  CHECK(both.terms.size() == 2);
  CHECK(both.size() == 9);
  const auto findings = testing::findings_of([] { (void)(head_dim * (expression(heads) | expression(kv_heads))); });
  REQUIRE(findings.size() == 1);
  CHECK(findings[0].code == msg::errc::bad_argument);
  CHECK(findings[0].expected == "one product on the right of '*'");
  CHECK(findings[0].found == "a concatenation of 2");
}

TEST_CASE("a role wraps an expression", "[axis]") {
  CHECK(out(heads).what == msg::role::out);
  CHECK(in(3 * heads).what == msg::role::in);
  CHECK(each(heads | head_dim).what == msg::role::each);
  CHECK(in(3 * heads).size() == 6);
  CHECK(std::string(msg::to_string(msg::role::out)) == "out");
  CHECK(std::string(msg::to_string(msg::role::in)) == "in");
  CHECK(std::string(msg::to_string(msg::role::each)) == "each");
}

TEST_CASE("a request remembers the axis by name, the new size and the options", "[axis]") {
  const msg::request plain = heads.grow_to(5);
  CHECK(plain.axis == "heads");
  CHECK(plain.new_size == 5);
  CHECK_FALSE(plain.options.rule.has_value());
  CHECK_FALSE(plain.options.placement.has_value());
  const msg::request told = heads.grow_to(5, {.placement = msg::placement::prepend()});
  REQUIRE(told.options.placement.has_value());
  CHECK(told.options.placement->what == msg::placement::order::prepend);
}
