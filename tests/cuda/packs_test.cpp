// Every kernel on the CUDA team beside the serial team, bit by bit: three element types, aligned and misaligned arrays,
// widths around packs, lanes and warps, all masks, several teams and orders of threads, guard bands around everything.
// (That the serial team is right is what the tests of the kernels say, against loops in long double.)
#include "cuda/every_kernel.hpp"
#include "kernels/device.hpp"
#include "kernels/rows.hpp"
#include "support/bfloat16.hpp"
#include "support/catch.hpp"

#include <cstddef>
#include <string>
#include <vector>

using testing::arrays;
using testing::bfloat16;
using testing::every_kernel;

TEMPLATE_TEST_CASE("kernels on the CUDA team have the bits of the serial team", "[cuda][packs]", float, double,
                   bfloat16) {
  using T = TestType;
  const auto width =
      GENERATE(msg::index{0}, msg::index{1}, msg::index{31}, msg::index{32}, msg::index{33}, msg::index{63},
               msg::index{64}, msg::index{65}, msg::index{127}, msg::index{768}, msg::index{1023});
  const auto shift = GENERATE(msg::index{0}, msg::index{1});
  const auto which = GENERATE(0, 1, 2);
  const rows::unit_mask mask = which == 0   ? rows::unit_mask{}
                               : which == 1 ? rows::mixed(width)
                                            : rows::appended(width / 2, width, 0.0F);
  for (const msg::index row_count : {msg::index{1}, msg::index{67}}) {
    if (row_count > 1 && width > 127) { continue; }
    CAPTURE(width, shift, which, row_count);
    // Both go through all kernels in step, each of which reads what earlier ones left.
    arrays<T> serial(row_count, width, shift);
    arrays<T> simt(row_count, width, shift);
    std::vector<arrays<T>> steps;
    every_kernel(serial, mask.view(), [&](const char*, msg::index number, const auto& kernel) {
      msg::host{1}.run(number, width, kernel);
      steps.push_back(serial);
    });
    std::size_t step = 0;
    std::string different;
    every_kernel(simt, mask.view(), [&](const char* name, msg::index number, const auto& kernel) {
      rows::device{}.run(number, width, kernel);
      if (different.empty() && !(simt == steps[step])) { different = name; }
      ++step;
    });
    CHECK(different == "");
  }
}

TEST_CASE("masked units may hold anything on the CUDA team", "[cuda][packs]") {
  const auto width = GENERATE(msg::index{33}, msg::index{64}, msg::index{127});
  const msg::index old_width = width / 2;
  const rows::unit_mask mask = rows::appended(old_width, width, 0.0F);
  arrays<float> clean(3, width, 0);
  arrays<float> dirty(3, width, 0);
  for (msg::index i = old_width; i < width; ++i) {
    dirty.gain.data()[i] = dirty.bias.data()[i] = rows::nan<float>;
    for (msg::index row = 0; row < 3; ++row) {
      dirty.x.data()[row * width + i] = rows::infinity<float>;
      dirty.dy.data()[row * width + i] = rows::nan<float>;
    }
  }
  const auto old_part_of = [&](arrays<float>& a) {
    rows::device{}.run(3, width,
                       msg::layer_norm_forward<float>{a.x.data(), a.gain.data(), a.bias.data(), a.y.data(),
                                                      a.mean.data(), a.rstd.data(), width, 1e-5, mask.view(),
                                                      mask.view()});
    rows::device{}.run(3, width,
                       msg::layer_norm_backward<float>{a.x.data(), a.gain.data(), a.mean.data(), a.rstd.data(),
                                                       a.dy.data(), a.dx.data(), width, false, mask.view(),
                                                       mask.view()});
    rows::device{}.run(3, width,
                       msg::activation_forward<float>{a.x.data(), a.bias.data(), a.z.data(), width, mask.view()});
    std::vector<float> result;
    for (float* const out : {a.y.data(), a.dx.data(), a.z.data()}) {
      result.insert(result.end(), out, out + 3 * width);
    }
    return result;
  };
  const auto expected = old_part_of(clean);
  const auto found = old_part_of(dirty);
  for (std::size_t i = 0; i < found.size(); ++i) {
    const bool fresh = static_cast<msg::index>(i) % width >= old_width;
    REQUIRE((fresh ? found[i] == 0 : rows::same_bits(found[i], expected[i])));
  }
}
