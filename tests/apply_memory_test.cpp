// Any tensor in any memory layout, slices and packed buffers; nothing is written that should not be.
#include "support/catch.hpp"
#include "support/growth_model.hpp"
#include "support/poisoned.hpp"
#include "support/test_rules.hpp"
#include "support/thrown.hpp"

#include <msg/apply.hpp>
#include <msg/plan.hpp>
#include <msg/rules/mask.hpp>

#include <algorithm>
#include <array>
#include <span>
#include <string>
#include <vector>

using msg::errc;
using msg::index;
using msg::init;
using msg::payload;
using msg::placement;
using testing::all_axes;
using testing::grown;
using testing::growth_model;
using testing::hidden;
using testing::layers;
using testing::numbers;

TEST_CASE("slices at a layer are the slices of the stacked tensor", "[apply][slice]") {
  const msg::rule rule = GENERATE(as<msg::rule>{}, msg::mask{}, msg::mask{.layers = msg::mask::start::fresh},
                                  testing::copies{0.75}, testing::identity_layers{}, testing::blocks{});
  const msg::plan growth{growth_model(), all_axes, rule, {.seed = 8, .placement = placement::interleave()}};
  for (const char* name : {"gpt2", "gate_up", "kernel", "gain", "square"}) {
    for (const payload what : {payload::value, payload::moment1, payload::moment2}) {
      CAPTURE(rule.name(), name, static_cast<int>(what));
      const msg::param_plan& p = growth[name];
      const auto old = numbers<float>(p.old_size());
      const auto whole = grown(p, old, what);
      const index part = p.old_size() / p.dims[0].old_size;
      for (index j = 0; j < p.dims[0].new_size(); ++j) {
        const msg::param_plan slice = p.at(j);
        const index from = p.source_of(j);
        testing::poisoned<float> to(slice.new_shape(), {.gap = 1});
        if (from < 0) {
          msg::apply(slice, msg::view(static_cast<const float*>(nullptr), 0), to.view, what); // nothing to read
        } else {
          msg::apply(slice,
                     std::span(old).subspan(static_cast<std::size_t>(from * part), static_cast<std::size_t>(part)),
                     to.view, what);
        }
        CHECK(testing::exactly_written(to));
        const auto found = to.values();
        CHECK(std::equal(found.begin(), found.end(), whole.begin() + j * slice.size()));
      }
    }
  }
}

TEST_CASE("a fresh slice with matched values needs an old layer to match", "[apply][slice][init]") {
  const msg::plan growth{
      growth_model(),
      {layers.grow_to(3)},
      msg::mask{.fresh = msg::fresh_values::all(init::matched()), .layers = msg::mask::start::fresh}};
  const msg::param_plan slice = growth["gate_up"].at(2);
  std::vector<double> to(static_cast<std::size_t>(slice.size()));
  const auto findings = testing::findings_of([&] { msg::apply(slice, std::vector<double>{}, to); });
  CHECK(findings[0].code == errc::shape_mismatch);
  msg::apply(slice, std::vector<double>(static_cast<std::size_t>(slice.old_size()), 2.5), to);
  CHECK(to == std::vector<double>(to.size(), 2.5));
  CHECK_NOTHROW(msg::apply(slice, std::vector<double>{}, to, payload::moment1)); // moments match nothing
  CHECK(to == std::vector<double>(to.size(), 0.0));
}

TEST_CASE("a packed buffer is its parameters one after another", "[apply][packed]") {
  const msg::plan growth{growth_model(), all_axes, testing::arbitrary{4}, {.seed = 2}};
  const auto old = numbers<float>(growth.before().size());
  for (const payload what : {payload::value, payload::moment1, payload::moment2}) {
    testing::poisoned<float> to({growth.after().size()});
    msg::apply(growth, old, to.view, what);
    CHECK(testing::exactly_written(to));
    const auto packed = to.values();
    for (const msg::param_plan& p : growth.parameters()) {
      CAPTURE(p.name, static_cast<int>(what));
      const auto from = old.begin() + growth.before().offset(p.name);
      const auto alone = grown(p, std::vector<float>(from, from + p.old_size()), what);
      CHECK(std::equal(alone.begin(), alone.end(), packed.begin() + growth.after().offset(p.name)));
    }
  }
}

TEST_CASE("any memory layout holds the same numbers, and nothing beside them is written", "[apply][layout]") {
  const msg::plan growth{growth_model(), all_axes, testing::copies{0.25}, {.placement = placement::interleave()}};
  const msg::param_plan& p = growth["kernel"];
  const auto old = numbers<double>(p.old_size());
  const auto expected = grown(p, old);
  const testing::layout from_layout =
      GENERATE(testing::layout{}, testing::layout{{3, 2, 1, 0}}, testing::layout{{1, 3, 0, 2}, 2, true});
  const testing::layout to_layout =
      GENERATE(testing::layout{}, testing::layout{{3, 2, 1, 0}}, testing::layout{{2, 0, 3, 1}, 1, true});
  testing::poisoned<double> from(p.old_shape(), from_layout);
  from.fill(old);
  testing::poisoned<double> to(p.new_shape(), to_layout);
  msg::apply(p, from.view, to.view);
  CHECK(testing::exactly_written(to));
  CHECK(to.values() == expected);
}

TEST_CASE("any contiguous range is read as row-major of the planned shape", "[apply][tensor]") {
  const msg::plan growth{growth_model(), {hidden.grow_to(4)}, testing::blocks{}};
  const std::array<float, 9> old{1, 2, 3, 4, 5, 6, 7, 8, 9};
  std::vector<float> expected(16);
  msg::apply(growth["square"], msg::view(old.data(), 3, 3), msg::view(expected.data(), 4, 4));
  std::vector<float> from_array(16);
  msg::apply(growth["square"], old, from_array);
  CHECK(from_array == expected);
  float raw[16] = {};
  msg::apply(growth["square"], std::span<const float>(old), std::span<float>(raw));
  CHECK(std::equal(expected.begin(), expected.end(), raw));
  CHECK(raw[0] == 1);
  CHECK(raw[10] == 9);
}

TEST_CASE("wrong shapes are refused before anything is written", "[apply][error]") {
  const msg::plan growth{growth_model(), {hidden.grow_to(5)}};
  const auto old = numbers<double>(9);
  testing::poisoned<double> to({5, 5});
  const auto said = [&](const auto& src, const auto& dst) {
    const std::string message = testing::message_of([&] { msg::apply(growth["square"], src, dst); });
    CHECK(to.written() == 0);
    return message;
  };
  CHECK(said(msg::view(old.data(), 3, 2), to.view) ==
        "msg: shape mismatch: parameter 'square', expected (3, 3), found (3, 2) (old tensor)");
  CHECK(said(msg::view(old.data(), 8), to.view) ==
        "msg: shape mismatch: parameter 'square', expected (3, 3), found (8) (old tensor)");
  CHECK(said(old, msg::view(to.view.data, 5, 4)) ==
        "msg: shape mismatch: parameter 'square', expected (5, 5), found (5, 4) (new tensor)");
  CHECK(said(old, msg::strided(to.view.data, {25}, {-1})) ==
        "msg: shape mismatch: parameter 'square', expected (5, 5), found (25) (new tensor)"); // no run of 25
  CHECK(said(old, msg::view(to.view.data, 1, 5, 5)) ==
        "msg: shape mismatch: parameter 'square', expected (5, 5), found (1, 5, 5) (new tensor)");
  msg::tensor_view<double> five_dimensional = msg::view(to.view.data, 1, 1, 5, 5);
  five_dimensional.rank = 5;
  CHECK(said(old, five_dimensional) ==
        "msg: shape mismatch: parameter 'square', expected (5, 5), found (1, 1, 5, 5, ...) (new tensor)");
}

TEST_CASE("a packed buffer of another size or with gaps is refused before anything is written", "[apply][error]") {
  const msg::plan growth{growth_model(), {hidden.grow_to(5)}};
  const auto old = numbers<float>(growth.before().size());
  const index size = growth.after().size();
  testing::poisoned<float> to({2 * size});
  const auto code_of = [&](const auto& src, const auto& dst) {
    const auto findings = testing::findings_of([&] { msg::apply(growth, src, dst); });
    CHECK(to.written() == 0);
    return findings[0].code;
  };
  CHECK(code_of(std::span(old).first(5), msg::view(to.view.data, size)) == errc::shape_mismatch);
  CHECK(code_of(old, msg::view(to.view.data, size - 1)) == errc::shape_mismatch);
  CHECK(code_of(old, msg::strided(to.view.data, {size}, {2})) == errc::bad_argument);
}

TEST_CASE("overlapping tensors are refused before anything is written", "[apply][error]") {
  const msg::plan growth{growth_model(), {hidden.grow_to(5)}};
  std::vector<double> storage = numbers<double>(200);
  const std::vector<double> before = storage;
  double* const p = storage.data();
  const auto refused = [&](const auto& src, const auto& dst) {
    const auto findings = testing::findings_of([&] { msg::apply(growth["square"], src, dst); });
    CHECK(storage == before);
    return findings[0].code == errc::bad_argument && findings[0].found == "overlapping tensors";
  };
  CHECK(refused(msg::view(p, 3, 3), msg::view(p, 5, 5)));
  CHECK(refused(msg::view(p, 3, 3), msg::view(p + 8, 5, 5)));                      // the last old element
  CHECK(refused(msg::view(p + 24, 3, 3), msg::view(p, 5, 5)));                     // the last new element
  CHECK(refused(msg::view(p + 40, 3, 3), msg::strided(p + 64, {5, 5}, {-5, -1}))); // reaches back to p + 40
  CHECK(refused(msg::strided(p + 48, {3, 3}, {-3, -1}), msg::view(p + 20, 5, 5))); // p + 40 .. p + 48
  msg::apply(growth["square"], msg::view(p, 3, 3), msg::view(p + 9, 5, 5));        // side by side: fine
  CHECK(std::equal(before.begin(), before.begin() + 9, storage.begin()));
  CHECK(storage[9] == before[0]);
  std::vector<float> packed(500);
  CHECK(testing::findings_of([&] {
          msg::apply(growth, std::span(packed).first(static_cast<std::size_t>(growth.before().size())),
                     std::span(packed).subspan(1, static_cast<std::size_t>(growth.after().size())));
        })[0]
            .code == errc::bad_argument);
}
