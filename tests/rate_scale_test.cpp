// Learning rates that follow the width, per parameter.
#include "support/catch.hpp"
#include "support/thrown.hpp"

#include <msg/rate_scale.hpp>
#include <msg/schemas/gpt2.hpp>

#include <string>
#include <utility>
#include <vector>

namespace {

msg::schema gpt(msg::index hidden, msg::index ffn, msg::index heads) {
  return msg::gpt2(
      {.vocab = 11, .positions = 8, .hidden = hidden, .ffn = ffn, .heads = heads, .head_dim = 4, .layers = 3});
}

double rate_of(const msg::schema& model, const std::vector<double>& rates, const std::string& name) {
  return rates[static_cast<std::size_t>(&model.at(name) - model.parameters().data())];
}

} // namespace

TEST_CASE("under adam matrices slow down by their own fan-in, and nothing else does", "[rate_scale]") {
  const msg::schema now = gpt(32, 128, 6); // hidden x 2, ffn x 4, heads x 3
  const auto rates = msg::width_rates(now, gpt(16, 32, 2));
  CHECK(rate_of(now, rates, "h.*.attn.c_attn.weight") == 1.0 / 2); // reads hidden
  CHECK(rate_of(now, rates, "h.*.attn.c_proj.weight") == 1.0 / 3); // reads heads
  CHECK(rate_of(now, rates, "h.*.mlp.c_fc.weight") == 1.0 / 2);
  CHECK(rate_of(now, rates, "h.*.mlp.c_proj.weight") == 1.0 / 4); // reads ffn
  for (const char* name : {"wte.weight", "wpe.weight", "h.*.ln_1.weight", "h.*.attn.c_attn.bias", "ln_f.weight"}) {
    CHECK(rate_of(now, rates, name) == 1);
  }
}

TEST_CASE("under sgd rates follow fan-out over fan-in", "[rate_scale]") {
  const msg::schema now = gpt(32, 128, 6);
  const auto rates = msg::width_rates(now, gpt(16, 32, 2), msg::rate_rule::sgd);
  CHECK(rate_of(now, rates, "h.*.attn.c_attn.weight") == 3.0 / 2);
  CHECK(rate_of(now, rates, "h.*.mlp.c_fc.weight") == 4.0 / 2);
  CHECK(rate_of(now, rates, "h.*.mlp.c_proj.weight") == 2.0 / 4);
  CHECK(rate_of(now, rates, "wte.weight") == 2);
  CHECK(rate_of(now, rates, "ln_f.weight") == 2);
  CHECK(rate_of(now, rates, "h.*.mlp.c_fc.bias") == 4);
}

TEST_CASE("an untied head reads a width and writes none", "[rate_scale]") {
  const auto model = [](msg::index width) {
    const msg::axis vocab{"vocab", 7};
    const msg::axis hidden{"hidden", width};
    msg::schema s;
    s.weight("embed", in(vocab), out(hidden)).weight("head", out(vocab), in(hidden));
    s.logits(vocab);
    return s;
  };
  CHECK(msg::width_rates(model(64), model(16)) == std::vector<double>{1, 0.25});
  CHECK(msg::width_rates(model(64), model(16), msg::rate_rule::sgd) == std::vector<double>{4, 0.25});
}

TEST_CASE("at the base width, and for more layers, every rate is 1", "[rate_scale]") {
  const msg::schema base = gpt(16, 32, 2);
  for (const double rate : msg::width_rates(base.resized({{"layers", 9}}), base)) { CHECK(rate == 1); }
  for (const double rate : msg::width_rates(base, base, msg::rate_rule::sgd)) { CHECK(rate == 1); }
}

TEST_CASE("a base with other parameters is refused", "[rate_scale]") {
  msg::schema other = gpt(16, 32, 2);
  other.bias("more", out(msg::axis{"hidden", 16}));
  const auto findings = testing::findings_of([&] { (void)msg::width_rates(gpt(16, 32, 2), other); });
  CHECK(testing::codes_of(findings) == std::vector{msg::errc::shape_mismatch});
  msg::schema renamed;
  renamed.weight("a", out(msg::axis{"hidden", 2}));
  msg::schema named;
  named.weight("b", out(msg::axis{"hidden", 2}));
  CHECK(testing::codes_of(testing::findings_of([&] { (void)msg::width_rates(named, renamed); })) ==
        std::vector{msg::errc::unknown_parameter});
}
