// Random schemas, requests, rules and placements; some of them wrong on purpose, with the code that has to answer.
#pragma once

#include "support/test_rules.hpp"

#include <msg/plan.hpp>
#include <msg/presets.hpp>

#include <algorithm>
#include <cstdint>
#include <optional>
#include <random>
#include <string>
#include <vector>

namespace testing {

struct random_case {
  msg::schema before{};
  std::vector<msg::request> requests{};
  msg::plan_options options{};
  std::optional<msg::errc> wrong{}; // the plan must be refused, with this code among its findings
};

class random_model {
public:
  explicit random_model(std::uint64_t seed) : draw_(seed) {}

  [[nodiscard]] random_case make() {
    random_case made;
    axes_.clear();
    const msg::index axes = 1 + below(5);
    for (msg::index a = 0; a < axes; ++a) {
      axes_.push_back({std::string(1, static_cast<char>('a' + a)), 1 + below(4)});
    }
    const msg::index parameters = 1 + below(5);
    for (msg::index p = 0; p < parameters; ++p) { add_parameter(made.before, "p" + std::to_string(p)); }
    for (const msg::axis& a : axes_) { describe(made.before, a); }
    group_two(made.before);
    axes_ = made.before.axes(); // an axis may have stayed without a use
    made.options = {.seed = draw_(), .placement = placement_for(nullptr, 0)};
    for (const msg::axis& a : axes_) {
      if (below(4) != 0) { made.requests.push_back(request_for(made, a)); }
    }
    keep_groups(made);
    if (made.before.groups().empty() && below(6) == 0) { spoil(made); }
    return made;
  }

  [[nodiscard]] msg::index below(msg::index n) {
    return static_cast<msg::index>(draw_() % static_cast<std::uint64_t>(n));
  }
  /// Distinct enough, never NaN, never 0.
  template <class T>
  [[nodiscard]] std::vector<T> numbers(msg::index count) {
    std::vector<T> result;
    for (msg::index i = 0; i < count; ++i) {
      const double size = 0.5 + static_cast<double>(draw_() >> 11) * 0x1p-53;
      result.push_back(static_cast<T>(below(2) == 0 ? size : -size));
    }
    return result;
  }
  [[nodiscard]] std::vector<msg::index> permutation(msg::index n) {
    std::vector<msg::index> order;
    for (msg::index i = 0; i < n; ++i) { order.insert(order.begin() + static_cast<std::ptrdiff_t>(below(i + 1)), i); }
    return order;
  }

private:
  [[nodiscard]] const msg::axis& any_axis() { return axes_[static_cast<std::size_t>(below(std::ssize(axes_)))]; }

  [[nodiscard]] msg::expression any_product() {
    msg::expression result = any_axis();
    if (below(3) == 0) { result = result * any_axis(); }
    if (below(4) == 0) { result = below(2) == 0 ? (1 + below(3)) * result : result * (1 + below(3)); }
    return result;
  }
  [[nodiscard]] msg::dimension any_dimension() {
    msg::expression extent = any_product();
    while (below(4) == 0) { extent = extent | any_product(); }
    const msg::index what = below(5);
    return {what < 2 ? msg::role::out : what < 4 ? msg::role::in : msg::role::each, extent};
  }
  void add_parameter(msg::schema& s, const std::string& name) {
    msg::parameter p{name, static_cast<msg::kind>(below(4)), {}};
    const msg::index rank = 1 + below(4);
    msg::index size = 1;
    for (msg::index d = 0; d < rank; ++d) {
      msg::dimension dim = any_dimension();
      if (d > 0 && size * dim.size() > 48) { continue; } // keep a case small
      size *= dim.size();
      p.dims.push_back(std::move(dim));
    }
    s.add(std::move(p));
  }
  void describe(msg::schema& s, const msg::axis& a) {
    const msg::index what = below(6);
    if (what == 0) { s.normed(a, static_cast<msg::norm_kind>(below(3)), static_cast<msg::norm_position>(below(2))); }
    if (what == 1) { s.logits(a); }
    if (what == 2) {
      s.scored(a);
      for (const msg::parameter& p : s.parameters()) {
        const msg::index parts = p.parts(msg::role::out);
        if (parts > 0 && below(2) == 0) { s.keys(p.name, below(parts)); }
      }
    }
  }

  /// Query heads and key-value heads, where two axes have sizes for it.
  void group_two(msg::schema& s) {
    const std::vector<msg::axis> used = s.axes();
    if (used.size() < 2 || below(3) != 0) { return; }
    const auto heads = static_cast<std::size_t>(below(std::ssize(used)));
    const std::size_t kv = (heads + 1) % used.size();
    if (used[heads].size % used[kv].size == 0) { s.grouped(used[heads], used[kv]); }
  }
  /// Sizes that keep the groups whole, in an order that every group can have.
  void keep_groups(random_case& made) {
    for (const msg::head_groups& pair : made.before.groups()) {
      const msg::index kv = made.before.axis_at(pair.kv_heads).size, heads = made.before.axis_at(pair.heads).size;
      drop_requests_of(made, pair.heads);
      msg::index groups = kv;
      for (const msg::request& r : made.requests) { groups = r.axis == pair.kv_heads ? r.new_size : groups; }
      const msg::index new_heads = groups * (heads / kv + below(2));
      if (new_heads == heads && below(2) == 0) { continue; }
      made.requests.push_back(
          made.before.axis_at(pair.heads)
              .grow_to(new_heads, {.rule = arbitrary{draw_()}, .placement = placement_for(nullptr, 0)}));
    }
  }

  /// `a` null: no given order, which fits one axis alone.
  [[nodiscard]] msg::placement placement_for(const msg::axis* a, msg::index new_size) {
    switch (below(a == nullptr ? 3 : 4)) {
      case 0: return msg::placement::append();
      case 1: return msg::placement::prepend();
      case 2: return msg::placement::interleave();
      default: break;
    }
    std::vector<msg::index> order;
    for (msg::index unit = 0; unit < a->size; ++unit) { order.push_back(unit); }
    while (std::ssize(order) < new_size) {
      order.insert(order.begin() + static_cast<std::ptrdiff_t>(below(std::ssize(order) + 1)), msg::fresh_unit);
    }
    return msg::placement::given(std::move(order));
  }
  [[nodiscard]] msg::rule rule_for(bool scored) {
    switch (below(6)) {
      case 0:
        if (scored) { return arbitrary{draw_()}; } // no mask makes a head wider
        return msg::mask{.fresh = below(2) == 0 ? msg::fresh_values{} : msg::fresh_values::all(msg::init::normal(30)),
                         .width = below(2) == 0 ? msg::mask::start::fresh : msg::mask::start::copy,
                         .layers = below(2) == 0 ? msg::mask::start::fresh : msg::mask::start::copy};
      case 1: return copies{below(2) == 0 ? 0.0 : 0.625};
      case 2: return identity_layers{};
      case 3: return blocks{.fills = {.in = msg::fill::zero}};
      default: return arbitrary{draw_()};
    }
  }
  /// A rule of the library's own, or a preset, with its defaults or others.
  [[nodiscard]] msg::rule library_rule() {
    switch (below(5)) {
      case 0:
        return msg::duplicate{.split = msg::uneven{0.25},
                              .from = msg::duplicate::sources::random,
                              .noise = msg::init::normal(0.5),
                              .seed = draw_()};
      case 1: return msg::duplicate{.writes = msg::duplicate::donor::next_layer, .noise = msg::init::spread(0.5)};
      case 2: return msg::mask{.fresh = msg::fresh_values::all(msg::init::like_units())};
      default: return msg::rule_by_name(msg::named_rules[below(std::ssize(msg::named_rules))].name);
    }
  }
  [[nodiscard]] msg::request request_for(const random_case& made, const msg::axis& a) {
    const msg::index new_size = a.size + below(5);
    const msg::request published = a.grow_to(new_size, {.rule = library_rule()});
    // Which axes a rule refuses is for other tests; here all others are wanted.
    if (below(2) == 0 && msg::diagnose(made.before, {published}, msg::mask{}, made.options).empty()) {
      return published;
    }
    msg::grow_options options{.rule = rule_for(made.before.is_scored(a.name))};
    if (below(2) == 0) { options.placement = placement_for(&a, new_size); }
    return a.grow_to(new_size, options);
  }
  void spoil(random_case& made) {
    switch (below(6)) {
      case 0:
        made.requests.push_back({"nobody", 3, {}});
        made.wrong = msg::errc::unknown_axis;
        break;
      case 1: {
        const msg::parameter& p = made.before.parameters().front();
        msg::parameter again = p;
        made.before.add(std::move(again));
        made.wrong = msg::errc::duplicate_name;
        break;
      }
      case 2:
        made.before.weight("other", msg::out(msg::axis{axes_[0].name, axes_[0].size + 1}));
        made.wrong = msg::errc::size_conflict;
        break;
      case 3:
        drop_requests_of(made, axes_[0].name);
        made.requests.push_back(axes_[0].grow_to(axes_[0].size - 1));
        made.wrong = msg::errc::shrink;
        break;
      case 4:
        drop_requests_of(made, axes_[0].name);
        made.requests.push_back(axes_[0].grow_to(axes_[0].size + 1, {.placement = msg::placement::given({0})}));
        made.wrong = msg::errc::bad_placement;
        break;
      default:
        drop_requests_of(made, axes_[0].name);
        made.requests.push_back(
            axes_[0].grow_to(axes_[0].size + 1, {.rule = msg::rule{"off by one", [](const msg::rule_request& asked) {
                                                                     msg::axis_growth bad{.source = asked.old_of};
                                                                     bad.source.front() = asked.old_size;
                                                                     return bad;
                                                                   }}}));
        made.wrong = msg::errc::bad_rule;
        break;
    }
  }
  static void drop_requests_of(random_case& made, const std::string& axis_name) {
    made.requests.erase(std::remove_if(made.requests.begin(), made.requests.end(),
                                       [&](const msg::request& r) { return r.axis == axis_name; }),
                        made.requests.end());
  }

  std::mt19937_64 draw_;
  std::vector<msg::axis> axes_{};
};

} // namespace testing
