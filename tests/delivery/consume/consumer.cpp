// The smallest use of the library that can go wrong: plan a growth, apply it, look at the result.
#include <msg/grow.hpp>

#include <vector>

int main() {
  const msg::axis hidden{"hidden", 4}, ffn{"ffn", 8};
  msg::schema mlp;
  mlp.weight("w1", out(ffn), in(hidden));
  mlp.bias("b1", out(ffn));
  mlp.weight("w2", out(hidden), in(ffn));

  const msg::plan plan{mlp, {ffn.grow_to(16)}, msg::mask{}};
  const std::vector<float> w1(8 * 4, 2.0F);
  std::vector<float> grown(static_cast<std::size_t>(plan["w1"].size()), -1.0F);
  msg::apply(plan["w1"], w1, grown);

  bool right = grown.size() == 16 * 4;
  for (std::size_t i = 0; i < w1.size(); ++i) { right = right && grown[i] == 2.0F; }
  for (const float value : grown) { right = right && value != -1.0F; }
  return right ? 0 : 1;
}
