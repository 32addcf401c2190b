// Thousands of random growths: each plan is refused for the reason it was made wrong, or satisfies every invariant and
// writes, cell by cell, what the law says.
#include "support/catch.hpp"
#include "support/oracle_law.hpp"
#include "support/poisoned.hpp"
#include "support/random_model.hpp"
#include "support/thrown.hpp"

#include <msg/apply.hpp>
#include <msg/plan.hpp>

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

using msg::index;
using msg::payload;
using testing::random_case;
using testing::random_model;

namespace {

constexpr payload payloads[] = {payload::value, payload::moment1, payload::moment2};

testing::layout random_layout(random_model& draw, std::size_t rank) {
  return {draw.permutation(static_cast<index>(rank)), draw.below(3), draw.below(2) == 0};
}

/// Broken invariant of a grown axis, in words; empty: none.
std::string broken(const msg::axis_plan& a) {
  const auto size = static_cast<std::size_t>(a.new_size);
  const msg::axis_growth& g = a.growth;
  if (a.old_of.size() != size || g.source.size() != size || g.split.size() != size) { return "sizes"; }
  index next = 0;
  for (std::size_t j = 0; j < size; ++j) {
    if (a.old_of[j] == msg::fresh_unit) { continue; }
    if (a.old_of[j] != next++) { return "order of old units"; }
    if (g.source[j] != a.old_of[j] || g.is_newborn(static_cast<index>(j))) { return "old unit without its source"; }
  }
  return next == a.old_size ? "" : "old unit lost";
}

/// One parameter with numbers in random places of memory, against the law.
template <class T>
std::string check_parameter(random_model& draw, const msg::plan& growth, const msg::param_plan& p, payload what) {
  const std::vector<T> old = draw.numbers<T>(p.old_size());
  testing::poisoned<T> from(p.old_shape(), random_layout(draw, p.dims.size()));
  from.fill(old);
  testing::poisoned<T> to(p.new_shape(), random_layout(draw, p.dims.size()));
  msg::apply(p, from.view, to.view, what);
  if (!testing::exactly_written(to)) { return "written cells are not the destination's"; }
  if (from.values() != old) { return "the source was changed"; }
  const std::string difference = oracle::difference(oracle::law(growth)(p.name, old, what), to.values());
  if (!difference.empty() || p.dims.size() < 2) { return difference; }

  if (msg::detail::looks_at_old(p)) { return {}; } // a slice looks at the one slice it is given
  const std::vector<T> whole = to.values();
  const index slice_size = p.old_size() / p.dims[0].old_size;
  for (index j = 0; j < p.dims[0].new_size(); ++j) {
    if (p.donated || (!p.dims[0].groups.of.empty() && p.dims[0].groups.of[static_cast<std::size_t>(j)] >= 0)) {
      if (testing::codes_of(testing::findings_of([&] { (void)p.at(j); })) != std::vector{msg::errc::unsupported}) {
        return "a slice of several old slices is not refused";
      }
      continue;
    }
    const msg::param_plan slice = p.at(j);
    const index source = p.source_of(j);
    std::vector<T> part(old.begin() + std::max<index>(source, 0) * slice_size,
                        old.begin() + (source < 0 ? 0 : source + 1) * slice_size);
    std::vector<T> grown(static_cast<std::size_t>(slice.size()));
    msg::apply(slice, part, grown, what);
    if (!std::equal(grown.begin(), grown.end(), whole.begin() + j * slice.size())) {
      return "slice " + std::to_string(j) + " differs from the whole";
    }
  }
  return {};
}

/// The packed buffer against its parameters one by one.
template <class T>
std::string check_packed(random_model& draw, const msg::plan& growth, payload what) {
  const std::vector<T> old = draw.numbers<T>(growth.before().size());
  testing::poisoned<T> all({growth.after().size()});
  msg::apply(growth, old, all.view, what);
  if (!testing::exactly_written(all)) { return "written cells are not the buffer's"; }
  const std::vector<T> found = all.values();
  for (const msg::param_plan& p : growth.parameters()) {
    std::vector<T> alone(static_cast<std::size_t>(p.size()));
    msg::apply(p, msg::view(old.data() + growth.before().offset(p.name), p.old_size()), alone, what);
    if (!std::equal(alone.begin(), alone.end(), found.begin() + growth.after().offset(p.name))) {
      return p.name + " differs in the packed buffer";
    }
  }
  return {};
}

} // namespace

TEST_CASE("every random growth is refused for its fault, or obeys the law in every cell", "[property][plan][apply]") {
  const int thousands = GENERATE(range(0, 10));
  int refused = 0;
  for (std::uint64_t seed = static_cast<std::uint64_t>(thousands) * 1000, end = seed + 1000; seed < end; ++seed) {
    CAPTURE(seed);
    random_model draw(seed);
    const random_case made = draw.make();
    const auto findings = msg::diagnose(made.before, made.requests, msg::mask{}, made.options);
    if (made.wrong) {
      const auto codes = testing::codes_of(findings);
      REQUIRE(std::count(codes.begin(), codes.end(), *made.wrong) > 0);
      REQUIRE(testing::codes_of(testing::findings_of([&] {
                msg::plan{made.before, made.requests, msg::mask{}, made.options};
              })) == codes);
      ++refused;
      continue;
    }
    for (const msg::diagnostic& finding : findings) { UNSCOPED_INFO(to_string(finding)); }
    REQUIRE(findings.empty());
    const msg::plan growth{made.before, made.requests, msg::mask{}, made.options};
    for (const msg::axis_plan& a : growth.axes()) { REQUIRE(broken(a) == ""); }
    index size = 0;
    for (const msg::param_plan& p : growth.parameters()) {
      CAPTURE(p.name);
      REQUIRE(growth.after().offset(p.name) == size);
      REQUIRE(growth.after().at(p.name).shape() == p.new_shape());
      size += p.size();
      const payload moment = seed % 2 == 0 ? payload::moment1 : payload::moment2; // one a case, both over all cases
      if (seed % 4 < 2) {
        REQUIRE(check_parameter<double>(draw, growth, p, payload::value) == "");
        REQUIRE(check_parameter<float>(draw, growth, p, moment) == "");
      } else {
        REQUIRE(check_parameter<float>(draw, growth, p, payload::value) == "");
        REQUIRE(check_parameter<double>(draw, growth, p, moment) == "");
      }
    }
    REQUIRE(growth.after().size() == size);
    REQUIRE(check_packed<float>(draw, growth, payloads[seed % 3]) == "");
  }
  CHECK(refused > 50); // the faults are really drawn
}
