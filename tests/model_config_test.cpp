#include "support/catch.hpp"
#include "support/tiny_gpt.hpp"
#include "transformer/config.hpp"
#include "transformer/model.hpp"
#include "transformer/tensors.hpp"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <numeric>
#include <vector>

namespace {

using reference::config;
using reference::transformer;

const config small{.vocab = 11, .positions = 8, .hidden = 10, .ffn = 13, .heads = 3, .head_dim = 5, .layers = 3};

} // namespace

TEST_CASE("what does not fit is refused before anything is computed, all findings at once", "[config][errors]") {
  auto parameters = tiny::random_parameters<float>(small, 15);
  transformer<float> model(small, 2, 7);
  const auto text = tiny::random_tokens(small, model.rows(), 1);
  const auto findings_of = [](const auto& action) -> std::vector<msg::diagnostic> {
    try {
      action();
    } catch (const msg::error& e) { return e.findings(); }
    return {};
  };
  SECTION("sizes") {
    const auto findings = findings_of([&] { transformer<float>({.vocab = 3, .hidden = 2}, 1, 1); });
    CHECK(findings.size() == 5); // positions, ffn, heads, head_dim, layers
    CHECK(findings_of([&] { transformer<float>(small, 0, 9); }).size() == 2);
  }
  SECTION("parameters") {
    parameters["wpe.weight"].name = "other";
    parameters["ln_f.bias"].shape = {11};
    const auto findings = findings_of([&] { model.forward(parameters, {text, text}); });
    REQUIRE(findings.size() == 2);
    CHECK(findings[0].code == msg::errc::unknown_parameter);
    CHECK(findings[0].parameter == "wpe.weight");
    CHECK(findings[1].code == msg::errc::shape_mismatch);
    CHECK(findings[1].expected == "(10)");
    CHECK(findings[1].found == "(11)");
  }
  SECTION("tokens and masks") {
    const std::vector<std::int32_t> few(3, 0);
    const std::vector<std::int32_t> outside(static_cast<std::size_t>(model.rows()), 11);
    const tiny::mask wrong(2, 4, 0.5F);
    CHECK(findings_of([&] { model.forward(parameters, {few, few}); }).size() == 2);
    CHECK(findings_of([&] { model.forward(parameters, {outside, text}); }).size() == 1);
    CHECK(findings_of([&] { model.forward(parameters, {text, outside}); }).size() == 1);
    CHECK(findings_of([&] {
            model.forward(parameters, {text, text}, {wrong.view(), wrong.view(), wrong.view()});
          }).size() == 3);
  }
  SECTION("a backward without a loss") {
    auto gradients = parameters.like();
    CHECK(findings_of([&] { model.backward(parameters, gradients); }).size() == 1);
    model.forward(parameters, {text});
    CHECK(findings_of([&] { model.backward(parameters, gradients); }).size() == 1);
    model.forward(parameters, {text, text});
    model.backward(parameters, gradients);
    CHECK(findings_of([&] { model.backward(parameters, gradients); }).size() == 1);
  }
}

TEST_CASE("first values are GPT-2's, the same for float and double, whatever the other sizes", "[config]") {
  const config c{.vocab = 50, .positions = 40, .hidden = 60, .ffn = 240, .heads = 4, .head_dim = 15, .layers = 8};
  const auto set = reference::initial_parameters<double>(c, 1);
  CHECK(set.size() == reference::parameter_count(c));
  const auto spread = [&](const char* name) {
    const auto& data = set[name].data;
    return std::sqrt(std::inner_product(data.begin(), data.end(), data.begin(), 0.0) /
                     static_cast<double>(data.size()));
  };
  // the spread of n normal numbers is known to 1 / sqrt(2 n); five times that
  CHECK(std::fabs(spread("h.*.mlp.c_fc.weight") / 0.02 - 1) < 5 / std::sqrt(2.0 * 8 * 60 * 240));
  CHECK(std::fabs(spread("h.*.mlp.c_proj.weight") / (0.02 / 4) - 1) < 5 / std::sqrt(2.0 * 8 * 60 * 240));
  CHECK(std::fabs(spread("wte.weight") / 0.02 - 1) < 5 / std::sqrt(2.0 * 50 * 60));
  CHECK(spread("h.*.attn.c_attn.bias") == 0);
  CHECK(spread("ln_f.weight") == 1);
  const auto single = reference::initial_parameters<float>(c, 1);
  CHECK(single["wpe.weight"].data[17] == static_cast<float>(set["wpe.weight"].data[17]));
  CHECK(reference::initial_parameters<float>(c, 2)["wpe.weight"].data != single["wpe.weight"].data);
}

TEST_CASE("FLOPs follow the published formula", "[config]") {
  // configuration B of cpu-speed.md, section 5: 42.7 GFLOP per step of 2048 tokens
  const config b{.vocab = 256, .positions = 128, .hidden = 256, .ffn = 1024, .heads = 4, .head_dim = 64, .layers = 4};
  CHECK(reference::training_flops_per_token(b, 128) == 6.0 * (4 * 12 * 256 * 256 + 256 * 256) + 12.0 * 4 * 256 * 128);
  CHECK(reference::training_flops_per_token(b, 128) * 2048 == Approx(42.7e9).epsilon(0.002));
}

TEST_CASE("a tensor is seen by the library as its whole shape, row-major", "[config][tensors]") {
  auto t = reference::make_tensor<float>("x", {2, 3, 4});
  const auto v = msg::view_of(t);
  CHECK(v.rank == 3);
  CHECK(v.extent[1] == 3);
  CHECK(v.stride[0] == 12);
  CHECK(v.contiguous());
  CHECK(v.data == t.data.data());
  CHECK(reinterpret_cast<std::uintptr_t>(v.data) % 64 == 0);
  reference::tensor_set<float> set{{t}};
  CHECK(set.find("y") == nullptr);
  CHECK_THROWS_AS(set["y"], msg::error);
  set["x"].data[5] = 2;
  CHECK(set.like()["x"].data == t.data);
  set.zero();
  CHECK(set["x"].data == t.data);
}
