// Loss, logits and every gradient against PyTorch's, computed by tests/reference/transformer.py. Without PyTorch the
// tests are skipped, with a message and exit code 77.
#include "support/catch.hpp"
#include "support/files_support.hpp"
#include "support/program.hpp"
#include "support/python.hpp"
#include "support/tiny_transformer.hpp"
#include "transformer/model.hpp"
#include "transformer/safetensors.hpp"

#include <msg/optimizer.hpp>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

namespace {

using msg::index;
using reference::config;
using tiny::form;

/// A model and a batch that both implementations run.
template <class T>
struct shared_case {
  std::string name;
  config sizes;
  tiny::batch data;
  reference::tensor_set<T> parameters;
  tiny::growth_masks masks;
};

template <class T>
void write_case(const shared_case<T>& c, const std::filesystem::path& folder) {
  std::vector<std::vector<std::int64_t>> numbers; // what the sources point at
  std::vector<reference::tensor_source> sources;
  numbers.reserve(8);
  const auto add_numbers = [&](const std::string& name, const std::vector<std::int32_t>& values,
                               const std::vector<index>& shape) {
    if (values.empty()) { return; }
    numbers.emplace_back(values.begin(), values.end());
    sources.push_back({"input/" + name, reference::dtype::i64, shape, std::as_bytes(std::span(numbers.back()))});
  };
  const std::vector<index> rows{c.data.sequences, c.data.length};
  add_numbers("tokens", c.data.tokens, rows);
  add_numbers("targets", c.data.targets, rows);
  add_numbers("types", c.data.types, rows);
  add_numbers("lengths", c.data.lengths, {c.data.sequences});
  add_numbers("next_sentence", c.data.next_sentence, {c.data.sequences});
  for (const auto& t : c.parameters) {
    sources.push_back({t.name, reference::dtype_of<T>, t.shape, std::as_bytes(std::span(t.data))});
  }
  const std::pair<const char*, const tiny::mask&> masks[] = {
      {"hidden", c.masks.hidden},     {"ffn", c.masks.ffn},     {"heads", c.masks.heads},    {"layers", c.masks.layers},
      {"kv_heads", c.masks.kv_heads}, {"vocab", c.masks.vocab}, {"experts", c.masks.experts}};
  for (const auto& [axis, mask] : masks) {
    if (mask.value.empty()) { continue; }
    sources.push_back({std::string("mask/") + axis,
                       reference::dtype::f32,
                       {static_cast<index>(mask.value.size())},
                       std::as_bytes(std::span(mask.value))});
  }
  const config& s = c.sizes;
  const std::map<std::string, std::string> metadata{{"arch", std::string(reference::name_of(s.arch))},
                                                    {"heads", std::to_string(s.heads)},
                                                    {"kv_heads", std::to_string(kv_heads_of(s))},
                                                    {"head_dim", std::to_string(s.head_dim)},
                                                    {"layers", std::to_string(s.layers)},
                                                    {"released", c.masks.released ? "1" : "0"},
                                                    {"chosen", std::to_string(s.chosen)},
                                                    {"parallel", s.parallel ? "1" : "0"},
                                                    {"norm_eps", s.arch == tiny::architecture::bert ? "1e-12" : "1e-5"},
                                                    {"rope_theta", "10000"}};
  reference::output_file out(folder / (c.name + ".case.safetensors"));
  reference::write_safetensors(out, std::move(sources), metadata);
  out.finish();
}

/// |found - expected| over |expected|, norms of the whole tensor. Logits of hidden tokens are -infinity on both sides.
template <class T>
double relative_error(std::span<const T> found, const std::vector<double>& expected, double least = 0) {
  REQUIRE(found.size() == expected.size());
  double off = 0;
  double size = 0;
  for (std::size_t i = 0; i < expected.size(); ++i) {
    const auto is = static_cast<double>(found[i]);
    if (is == expected[i]) { // infinities too
      size += std::isfinite(is) ? is * is : 0;
      continue;
    }
    off += (is - expected[i]) * (is - expected[i]);
    size += expected[i] * expected[i];
  }
  return off == 0 ? 0 : std::sqrt(off) / std::max(std::sqrt(size), least);
}

/// Small models of every form: no mask, every mask at 0, 0.3, 1, and in the released places.
template <class T>
std::vector<shared_case<T>> cases() {
  const config before{.vocab = 29, .positions = 21, .hidden = 20, .ffn = 33, .heads = 2, .head_dim = 8, .layers = 2};
  const config after{.vocab = 31, .positions = 21, .hidden = 28, .ffn = 50, .heads = 3, .head_dim = 8, .layers = 3};
  std::vector<shared_case<T>> all;
  for (const form f : tiny::forms) {
    config from = tiny::as(f, before);
    if (from.experts > 0) { from.experts = 2; }
    const config to = tiny::as(f, after);
    const auto add = [&](const std::string& name, const tiny::growth_masks& masks) {
      const std::string file = std::to_string(all.size()) + "-" + std::string(reference::name_of(to.arch)) + name;
      all.push_back({file, to, tiny::batch(to, 4, 19), tiny::random_parameters<T>(to, 91, 0.2), masks});
      for (auto& target : all.back().data.targets) { target = std::min(target, 28); } // no token that a mask hides
    };
    add("-plain", {});
    for (const float c : {0.0F, 0.3F, 1.0F}) { add("-masks", tiny::growth_masks(from, to, c)); }
    tiny::growth_masks released(from, to, 0.3F);
    released.released = true;
    add("-released", released);
  }
  return all;
}

template <class T>
void compare_with_torch(double bound) {
  support::need_python("torch, numpy", "PyTorch (apt install python3-torch)");
  const files_test::temporary_folder folder;
  const std::vector<shared_case<T>> all = cases<T>();
  for (const auto& c : all) { write_case(c, folder.path()); }
  const support::outcome ran =
      support::run_python(std::string(MSG_SOURCE_DIR) + "/tests/reference/transformer.py .", folder.path());
  CAPTURE(ran.error);
  REQUIRE(ran.code == 0);
  for (const auto& c : all) {
    const reference::safetensors_file expected(folder.path() / (c.name + ".result.safetensors"));
    const tiny::outcome<T> found = tiny::run(c.sizes, c.data, c.parameters, c.masks.view());
    std::map<std::string, double> off;
    const double loss = expected.read<double>("loss")[0];
    off["loss"] = std::abs(found.loss - loss) / loss;
    off["logits"] = relative_error<T>(found.logits, expected.read<double>("logits"));
    if (!found.sentence_logits.empty()) {
      off["sentence logits"] = relative_error<T>(found.sentence_logits, expected.read<double>("sentence_logits"));
    }
    for (const auto& t : found.gradients) {
      // BERT's keys' biases have no gradient but rounding, as softmax does not see them: measured against the matrix'.
      const auto bias = t.name.find("key.bias");
      const double least =
          bias == std::string::npos
              ? 0
              : std::sqrt(msg::sum_of_squares(found.gradients[t.name.substr(0, bias) + "key.weight"].data));
      off[t.name] = relative_error<T>(t.data, expected.read<double>(t.name), least);
    }
    const auto worst =
        std::max_element(off.begin(), off.end(), [](const auto& a, const auto& b) { return a.second < b.second; });
    CAPTURE(c.name, worst->first);
    CHECK(worst->second <= bound);
  }
}

} // namespace

TEST_CASE("in double, loss, logits and gradients are PyTorch's to 1e-10", "[model][torch]") {
  compare_with_torch<double>(1e-10);
}

TEST_CASE("in float, loss, logits and gradients are those of PyTorch in double to 1e-5", "[model][torch]") {
  compare_with_torch<float>(1e-5);
}
