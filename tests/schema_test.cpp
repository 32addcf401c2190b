// Schemas: sizes, offsets of the packed buffer, and findings.
#include "support/catch.hpp"
#include "support/thrown.hpp"

#include <msg/schema.hpp>
#include <msg/schemas/gpt2.hpp>

#include <string>
#include <utility>
#include <vector>

using msg::axis;
using msg::errc;
using msg::index;

namespace {

const axis hidden{"hidden", 4};
const axis ffn{"ffn", 6};

msg::schema mlp() {
  msg::schema s;
  s.weight("w1", out(ffn), in(hidden)).bias("b1", out(ffn)).weight("w2", out(hidden), in(ffn));
  return s;
}

} // namespace

TEST_CASE("parameters lie in the packed buffer in the order they were added", "[schema]") {
  const msg::schema s = mlp();
  CHECK(s.size() == 24 + 6 + 24);
  CHECK(s.offset("w1") == 0);
  CHECK(s.offset("b1") == 24);
  CHECK(s.offset("w2") == 30);
  CHECK(s.at("w2").shape() == std::vector<index>{4, 6});
  CHECK(s.at("w2").size() == 24);
  CHECK(s.find("w3") == nullptr);
  CHECK(s.diagnose().empty());
}

TEST_CASE("axes are listed once, in the order of their first use", "[schema]") {
  const msg::schema s = mlp();
  REQUIRE(s.axes().size() == 2);
  CHECK(s.axes()[0].name == "ffn");
  CHECK(s.axes()[1].name == "hidden");
  CHECK(s.axis_at("hidden").size == 4);
  CHECK(s.find_axis("layers") == nullptr);
}

TEST_CASE("a parameter knows in which roles it uses an axis", "[schema]") {
  msg::schema s;
  s.weight("qkv", out(3 * ffn), in(hidden)).weight("square", out(hidden), in(hidden)).norm_gain("gain", out(hidden));
  CHECK(s.at("qkv").uses("ffn", msg::role::out));
  CHECK_FALSE(s.at("qkv").uses("ffn", msg::role::in));
  CHECK(s.at("square").uses("hidden", msg::role::out));
  CHECK(s.at("square").uses("hidden", msg::role::in));
  CHECK(s.at("gain").what == msg::kind::norm_gain);
  CHECK(msg::decays(msg::kind::weight));
  CHECK_FALSE(msg::decays(msg::kind::bias));
  CHECK_FALSE(msg::decays(msg::kind::norm_gain));
  CHECK_FALSE(msg::decays(msg::kind::norm_bias));
}

TEST_CASE("a schema tells where norms, softmax and attention scores run", "[schema]") {
  msg::schema s = mlp();
  s.normed(hidden, msg::norm_kind::rms, msg::norm_position::post).logits(ffn).scored(hidden);
  CHECK(s.norm_of("hidden") == msg::norm_kind::rms);
  CHECK(s.norm_position_of("hidden") == msg::norm_position::post);
  CHECK(s.norm_of("ffn") == msg::norm_kind::none);
  CHECK(s.norm_position_of("ffn") == msg::norm_position::pre);
  CHECK(s.has_logits("ffn"));
  CHECK_FALSE(s.has_logits("hidden"));
  CHECK(s.is_scored("hidden"));
  CHECK_FALSE(s.is_scored("ffn"));
}

TEST_CASE("resizing changes the named axes and keeps everything else", "[schema]") {
  msg::schema s = mlp();
  s.weight("fused", out(2 * ffn | hidden), in(hidden)).normed(hidden).logits(ffn).scored(hidden);
  const msg::schema grown = s.resized({{"ffn", 10}});
  CHECK(grown.at("w1").shape() == std::vector<index>{10, 4});
  CHECK(grown.at("b1").shape() == std::vector<index>{10});
  CHECK(grown.at("w2").shape() == std::vector<index>{4, 10});
  CHECK(grown.at("fused").shape() == std::vector<index>{24, 4});
  CHECK(grown.size() == 40 + 10 + 40 + 96);
  CHECK(grown.axis_at("hidden").size == 4);
  CHECK(grown.axis_at("ffn").size == 10);
  CHECK(grown.norm_of("hidden") == msg::norm_kind::layer);
  CHECK(grown.has_logits("ffn"));
  CHECK(grown.is_scored("hidden"));
}

TEST_CASE("building a schema collects every finding and throws none", "[schema]") {
  msg::schema s = mlp();
  s.bias("b1", out(ffn));                                            // the name again
  s.weight("w3", out(axis{"ffn", 7}), in(axis{"empty", 0}));         // another size; no units
  s.weight("w4", out(0 * hidden));                                   // nothing, nothing times
  s.add({"scalar", msg::kind::weight, {}});                          // no dimensions
  s.weight("deep", out(ffn), in(ffn), in(ffn), in(ffn), in(hidden)); // too many
  s.normed(axis{"hidden", 5});
  REQUIRE(testing::codes_of(s.diagnose()) == std::vector<errc>{errc::duplicate_name, errc::size_conflict,
                                                               errc::bad_size, errc::bad_size, errc::unsupported,
                                                               errc::unsupported, errc::size_conflict});
  CHECK(to_string(s.diagnose()[0]) == "duplicate name: parameter 'b1'");
  CHECK(to_string(s.diagnose()[1]) == "size conflict: parameter 'w3', dimension 0, axis 'ffn', expected 6, found 7");
  CHECK(to_string(s.diagnose()[2]) ==
        "bad size: parameter 'w3', dimension 1, axis 'empty', expected at least 1, found 0");
  CHECK(to_string(s.diagnose()[3]) == "bad size: parameter 'w4', dimension 0, expected at least 1, found 0");
  CHECK(to_string(s.diagnose()[4]) == "unsupported: parameter 'scalar', expected 1 to 4 dimensions, found 0");
  CHECK(to_string(s.diagnose()[5]) == "unsupported: parameter 'deep', expected 1 to 4 dimensions, found 5");
  CHECK(to_string(s.diagnose()[6]) == "size conflict: axis 'hidden', expected 4, found 5");
}

TEST_CASE("an unknown name is answered with the names there are", "[schema]") {
  const msg::schema s = mlp();
  CHECK(testing::message_of([&] { (void)s.at("w9"); }) ==
        "msg: unknown parameter: parameter 'w9', expected one of w1, b1, w2");
  CHECK(testing::message_of([&] { (void)s.offset("w9"); }) ==
        "msg: unknown parameter: parameter 'w9', expected one of w1, b1, w2");
  CHECK(testing::message_of([&] { (void)s.axis_at("heads"); }) ==
        "msg: unknown axis: axis 'heads', expected one of ffn, hidden");
}

TEST_CASE("the GPT-2 schema has GPT-2's parameters", "[schema][gpt2]") {
  const msg::schema s = msg::gpt2({});
  CHECK(s.diagnose().empty());
  CHECK(s.size() == 124439808); // the published count of the smallest GPT-2, head tied
  CHECK(s.at("wte.weight").shape() == std::vector<index>{50257, 768});
  CHECK(s.at("h.*.attn.c_attn.weight").shape() == std::vector<index>{12, 768, 2304});
  CHECK(s.at("h.*.attn.c_proj.weight").shape() == std::vector<index>{12, 768, 768});
  CHECK(s.at("h.*.mlp.c_fc.weight").shape() == std::vector<index>{12, 768, 3072});
  CHECK(s.at("h.*.mlp.c_proj.weight").shape() == std::vector<index>{12, 3072, 768});
  CHECK(s.at("ln_f.weight").dims[0].what == msg::role::in);
  CHECK(msg::gpt2({.hidden = 1024, .ffn = 4096, .heads = 16, .layers = 24}).size() == 354823168); // medium
}

TEST_CASE("the width of GPT-2's heads does not depend on the hidden width", "[schema][gpt2]") {
  const msg::schema s =
      msg::gpt2({.vocab = 10, .positions = 8, .hidden = 6, .ffn = 5, .heads = 3, .head_dim = 4, .layers = 2});
  CHECK(s.at("h.*.attn.c_attn.weight").shape() == std::vector<index>{2, 6, 36});
  CHECK(s.at("h.*.attn.c_proj.weight").shape() == std::vector<index>{2, 12, 6});
}

TEST_CASE("what attention means is told, and checked, axis by axis", "[schema][attention]") {
  const axis heads{"heads", 4}, kv_heads{"kv_heads", 2}, head_dim{"head_dim", 2};
  msg::schema s;
  s.weight("q", out(heads * head_dim)).weight("fused", out(2 * kv_heads * head_dim | ffn));
  s.scored(head_dim).keys("fused", 1).grouped(heads, kv_heads).rotary(head_dim, msg::rotary_layout::half_split);
  s.normed(hidden, msg::norm_kind::none);
  CHECK(s.diagnose().empty());
  const msg::schema grown = s.resized({{"heads", 6}});
  for (const msg::schema* one : {&std::as_const(s), &grown}) {
    CHECK(one->writes_keys("fused", 1));
    CHECK(one->writes_keys("fused"));
    CHECK_FALSE(one->writes_keys("fused", 0));
    CHECK_FALSE(one->writes_keys("q"));
    CHECK(one->groups().size() == 1);
    CHECK(one->rotary_of("head_dim").first == msg::rotary_layout::half_split);
    CHECK(one->rotary_of("ffn").first == msg::rotary_layout::none);
    CHECK(one->is_residual("hidden"));
    CHECK_FALSE(one->is_residual("ffn"));
  }
  CHECK(s.at("fused").parts(msg::role::out) == 3);
  s.keys("k").keys("fused", 3);
  REQUIRE(s.diagnose().size() == 2);
  CHECK(to_string(s.diagnose()[0]) ==
        "unknown parameter: parameter 'k', expected a parameter added before keys() names it");
  CHECK(to_string(s.diagnose()[1]) ==
        "bad argument: parameter 'fused', expected a part below 3 of what it writes, found 3");
}
