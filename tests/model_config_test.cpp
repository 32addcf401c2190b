#include "support/catch.hpp"
#include "support/tiny_transformer.hpp"
#include "transformer/config.hpp"
#include "transformer/cpu_backend.hpp"
#include "transformer/model.hpp"
#include "transformer/tensors.hpp"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <numeric>
#include <vector>

namespace {

using reference::architecture;
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
  SECTION("what an architecture has no place for") {
    config wrong = tiny::as(tiny::form::llama, small);
    wrong.kv_heads = 4;
    wrong.head_dim = 3;
    CHECK(findings_of([&] { transformer<float>(wrong, 2, 7); }).size() == 2);
    wrong = tiny::as(tiny::form::mixture, small);
    wrong.chosen = 4;
    CHECK(findings_of([&] { transformer<float>(wrong, 2, 7); }).size() == 1);
    wrong = small;
    wrong.kv_heads = 1;
    wrong.tied = false;
    wrong.experts = 2;
    CHECK(findings_of([&] { transformer<float>(wrong, 2, 7); }).size() == 3);
    wrong = tiny::as(tiny::form::bert, small);
    wrong.parallel = true;
    CHECK(findings_of([&] { transformer<float>(wrong, 2, 7); }).size() == 1);
    const std::vector<std::int32_t> one(1, 0);
    CHECK(findings_of([&] {
            model.forward(parameters, {.tokens = text, .types = text, .next_sentence = one});
          }).size() == 2);
    const std::vector<std::int32_t> too_long(2, 8);
    CHECK(findings_of([&] { model.forward(parameters, {.tokens = text, .lengths = too_long}); }).size() == 1);
    CHECK(findings_of([&] { model.forward(parameters, {.tokens = text, .lengths = one}); }).size() == 1);
    const config bert = tiny::as(tiny::form::bert, small);
    transformer<float> other(bert, 2, 7);
    const auto of_bert = tiny::random_parameters<float>(bert, 15);
    CHECK(findings_of([&] {
            other.forward(of_bert, {.tokens = text, .types = too_long, .next_sentence = too_long});
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
  config wider = c;
  wider.initializer_range = 0.14;
  const auto wide = reference::initial_parameters<double>(wider, 1);
  for (const char* name : {"wte.weight", "h.*.mlp.c_proj.weight"}) {
    CHECK(wide[name].data[5] == Approx(7 * set[name].data[5]).epsilon(1e-12)); // the same numbers, seven times as far
  }
  const auto single = reference::initial_parameters<float>(c, 1);
  CHECK(single["wpe.weight"].data[17] == static_cast<float>(set["wpe.weight"].data[17]));
  CHECK(reference::initial_parameters<float>(c, 2)["wpe.weight"].data != single["wpe.weight"].data);
}

TEST_CASE("first values of BERT and Llama are normal with deviation 0.02, biases 0, gains 1", "[config]") {
  const tiny::form f = GENERATE(tiny::form::bert, tiny::form::llama);
  const config c =
      tiny::as(f, {.vocab = 50, .positions = 40, .hidden = 60, .ffn = 240, .heads = 4, .head_dim = 15, .layers = 8});
  const auto set = reference::initial_parameters<double>(c, 1);
  for (const msg::schema schema = reference::schema_of(c); const msg::parameter& p : schema.parameters()) {
    CAPTURE(p.name);
    const auto& data = set[p.name].data;
    const auto count = static_cast<double>(data.size());
    const double spread = std::sqrt(std::inner_product(data.begin(), data.end(), data.begin(), 0.0) / count);
    if (p.what == msg::kind::weight) {
      CHECK(std::fabs(spread / 0.02 - 1) < 5 / std::sqrt(2 * count));
    } else {
      CHECK(spread == (p.what == msg::kind::norm_gain ? 1 : 0));
    }
  }
}

TEST_CASE("published models have their published numbers of parameters", "[config]") {
  // formats.md, section 2: GPT-2 small, BERT-base (with the heads of pre-training), Llama-2-7B, SmolLM2-135M
  const auto sized = [](architecture a, config sizes) {
    const config constants = reference::defaults_of(a);
    sizes.arch = a;
    sizes.tied = constants.tied;
    return reference::parameter_count(sizes);
  };
  CHECK(
      sized(
          architecture::gpt2,
          {.vocab = 50257, .positions = 1024, .hidden = 768, .ffn = 3072, .heads = 12, .head_dim = 64, .layers = 12}) ==
      124439808);
  // 109,482,240 of BertModel, the transform and its norm, the vocabulary's bias, the classes of pairs
  CHECK(
      sized(
          architecture::bert,
          {.vocab = 30522, .positions = 512, .hidden = 768, .ffn = 3072, .heads = 12, .head_dim = 64, .layers = 12}) ==
      109482240 + 768 * 768 + 3 * 768 + 30522 + 2 * 768 + 2);
  CHECK(sized(architecture::llama, {.vocab = 32000,
                                    .positions = 4096,
                                    .hidden = 4096,
                                    .ffn = 11008,
                                    .heads = 32,
                                    .head_dim = 128,
                                    .layers = 32}) == 6738415616);
  CHECK(reference::parameter_count({.arch = architecture::llama,
                                    .vocab = 49152,
                                    .positions = 2048,
                                    .hidden = 576,
                                    .ffn = 1536,
                                    .heads = 9,
                                    .kv_heads = 3,
                                    .head_dim = 64,
                                    .layers = 30,
                                    .tied = true}) == 134515008);
}

TEST_CASE("FLOPs count every weight that meets a token", "[config]") {
  for (const tiny::form f : tiny::forms) {
    CAPTURE(tiny::name_of(f));
    const config c = tiny::as(f, small);
    double weights = 0; // matrices of the layers, and the decoder; BERT's pooler sees one token of 7, its transform all
    for (const msg::schema schema = reference::schema_of(c); const msg::parameter& p : schema.parameters()) {
      const bool embedding = p.name.find("wpe") != std::string::npos || p.name.find("embed") != std::string::npos;
      const bool head = p.name.find("pooler") != std::string::npos || p.name.find("seq_rel") != std::string::npos;
      const double active = p.name.find("experts") == std::string::npos ? 1 : 2.0 / 3; // two of three are chosen
      if (p.what == msg::kind::weight && !embedding && p.name != "lm_head.weight" && p.name != "wte.weight") {
        weights += active * static_cast<double>(p.size()) / (head ? 7 : 1);
      }
    }
    weights += static_cast<double>(c.vocab * c.hidden);
    CHECK(reference::training_flops_per_token(c, 7) ==
          Approx(6 * weights + 12.0 * static_cast<double>(c.layers * c.heads * c.head_dim) * 7).epsilon(1e-14));
  }
  const config bert = tiny::as(tiny::form::bert, small);
  const double head = 6.0 * static_cast<double>(bert.hidden * (bert.vocab + bert.hidden));
  CHECK(reference::training_flops_per_token(bert, 7) - reference::training_flops_per_token(bert, 7, 0.25) ==
        Approx(0.75 * head));
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
