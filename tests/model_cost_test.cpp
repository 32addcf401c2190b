// Parameters, FLOPs, activations and bytes of a schema, against formulas written out by hand.
#include "support/catch.hpp"
#include "support/thrown.hpp"

#include <msg/model_cost.hpp>
#include <msg/schemas/gpt2.hpp>

#include <string>

namespace {

using msg::index;

double part(const msg::model_cost& cost, const std::string& axes) {
  for (const auto& gemm : cost.gemm) {
    if (gemm.axes == axes) { return gemm.flops_per_token; }
  }
  return -1;
}

const msg::gpt2_sizes tiny{.vocab = 11, .positions = 8, .hidden = 6, .ffn = 20, .heads = 3, .head_dim = 4, .layers = 5};

} // namespace

TEST_CASE("a GPT costs 6 per weight that multiplies and 12 T per unit of attention", "[model_cost]") {
  const double T = 8, V = 11, C = 6, F = 20, W = 3 * 4, L = 5;
  const msg::model_cost cost = msg::schema_cost{msg::gpt2(tiny), {.tokens = 8}}();
  CHECK(cost.parameters == msg::gpt2(tiny).size());
  CHECK(part(cost, "head_dim*heads*hidden") == 6 * L * 4 * C * W);
  CHECK(part(cost, "ffn*hidden") == 6 * L * 2 * C * F);
  CHECK(part(cost, "hidden*vocab") == 6 * V * C); // the tied head; its table as such costs nothing
  CHECK(cost.gemm.size() == 3);                   // nothing for positions
  CHECK(cost.attention == 12 * L * W * T);
  CHECK(cost.flops_per_token() == 6 * (L * (4 * C * W + 2 * C * F) + V * C) + 12 * L * W * T);
  // embeddings C each, per layer: two norms, q k v, projection, FFN up and down; final norm, logits
  CHECK(cost.written == C + C + L * (2 * C + 3 * W + C + F + C) + C + V);
}

TEST_CASE("other sizes are those of the resized schema", "[model_cost]") {
  const msg::schema_cost cost{msg::gpt2(tiny), {.tokens = 8}};
  msg::gpt2_sizes larger = tiny;
  larger.hidden = 12;
  larger.layers = 7;
  const msg::model_cost direct = msg::schema_cost{msg::gpt2(larger), {.tokens = 8}}();
  const msg::model_cost grown = cost({{"hidden", 12}, {"layers", 7}, {"nothing", 3}});
  CHECK(grown.parameters == direct.parameters);
  CHECK(grown.flops_per_token() == direct.flops_per_token());
  CHECK(grown.written == direct.written);
}

TEST_CASE("a head that isn't tied is a product, its table isn't", "[model_cost]") {
  const msg::axis vocab{"vocab", 10};
  const msg::axis hidden{"hidden", 4};
  msg::schema s;
  s.weight("embed", in(vocab), out(hidden)).weight("head", out(vocab), in(hidden)).bias("bias", out(vocab));
  s.logits(vocab);
  CHECK(msg::schema_cost{s}().flops_per_token() == 6 * 40);
}

TEST_CASE("a vocabulary bias doesn't make a tied head free", "[model_cost]") {
  const msg::axis vocab{"vocab", 10};
  const msg::axis hidden{"hidden", 4};
  msg::schema s;
  s.weight("embed", in(vocab), out(hidden)).bias("bias", out(vocab));
  s.logits(vocab);
  CHECK(msg::schema_cost{s}().flops_per_token() == 6 * 40);
}

TEST_CASE("dense inputs are multiplied, one-hot inputs looked up", "[model_cost]") {
  const msg::axis pixels{"pixels", 10};
  const msg::axis hidden{"hidden", 4};
  msg::schema s;
  s.weight("first", out(hidden), in(pixels));
  CHECK(msg::schema_cost{s}().flops_per_token() == 0);
  CHECK(msg::schema_cost{s, {.dense_inputs = {"pixels"}}}().flops_per_token() == 6 * 40);
}

TEST_CASE("of experts only the active ones cost, and a parameter costs as often as it is met", "[model_cost]") {
  const msg::axis hidden{"hidden", 4};
  const msg::axis ffn{"ffn", 16};
  const msg::axis experts{"experts", 8};
  msg::schema s;
  s.weight("up", each(experts), out(ffn), in(hidden)).weight("down", each(experts), out(hidden), in(ffn));
  s.weight("pooler", out(hidden), in(hidden));
  const msg::model_cost cost = msg::schema_cost{s, {.active = {{"experts", 2}}, .per_token = {{"pooler", 0.125}}}}();
  CHECK(cost.parameters == 8 * 2 * 64 + 16);
  CHECK(cost.flops_per_token() == 6 * 2 * 2 * 64 + 6 * 16 / 8.0);
}

TEST_CASE("attention without a sequence length is refused", "[model_cost]") {
  const auto findings = testing::findings_of([] { (void)msg::schema_cost{msg::gpt2(tiny)}; });
  CHECK(testing::codes_of(findings) == std::vector{msg::errc::bad_argument});
  CHECK(findings[0].parameter == "h.*.attn.c_proj.weight");
}

TEST_CASE("memory is parameters, gradients, moments and activations", "[model_cost]") {
  const msg::model_cost cost{.parameters = 100};
  const msg::memory_bytes mixed = msg::memory_of(cost, {.value_bytes = 2,
                                                        .gradient_bytes = 4,
                                                        .moments = 2,
                                                        .moment_bytes = 8,
                                                        .activation_bytes_per_token = 50,
                                                        .tokens_at_once = 3});
  CHECK(mixed.parameters == 200);
  CHECK(mixed.gradients == 400);
  CHECK(mixed.moments == 1600);
  CHECK(mixed.activations == 150);
  CHECK(mixed.total() == 2350);
}
