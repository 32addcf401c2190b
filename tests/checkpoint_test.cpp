// Checkpoints: what is in the folder, and that every bit of it comes back.
#include "support/catch.hpp"
#include "support/files_checkpoint.hpp"

#include <cmath>
#include <limits>
#include <string>
#include <vector>

using namespace reference;
using namespace files_test;

TEMPLATE_TEST_CASE("parameters, moments and births come back bit for bit", "[checkpoint]", float, double) {
  const temporary_folder run;
  tiny_checkpoint<TestType> saved(1);
  const fs::path folder = saved.save(run.path());
  CHECK(folder == run / "step-00000010");
  CHECK(loaded<TestType>(folder).same_tensors(saved));
}

TEST_CASE("a checkpoint folder holds the five files of the design and nothing else", "[checkpoint]") {
  const temporary_folder run;
  const fs::path folder = tiny_checkpoint<float>(1).save(run.path());
  CHECK(names_in(folder) == std::vector<std::string>{"config.json", "growth.json", "model.safetensors",
                                                     "optimizer.safetensors", "trainer_state.json"});
  CHECK(names_in(run.path()) == std::vector<std::string>{"latest", "step-00000010"});
  CHECK(read_bytes(run / "latest") == "step-00000010\n");
}

TEST_CASE("the model file has one tensor per layer under Hugging Face's names", "[checkpoint]") {
  const temporary_folder run;
  tiny_checkpoint<float> saved(1);
  const safetensors_file model(saved.save(run.path()) / "model.safetensors");
  std::vector<std::string> names;
  for (const tensor_entry& entry : model.tensors()) { names.push_back(entry.name); }
  CHECK(names == std::vector<std::string>{"transformer.h.0.mlp.c_fc.bias", "transformer.h.0.mlp.c_fc.weight",
                                          "transformer.h.1.mlp.c_fc.bias", "transformer.h.1.mlp.c_fc.weight",
                                          "transformer.ln_f.bias", "transformer.wte.weight"});
  CHECK(model.metadata() == std::map<std::string, std::string>{{"format", "pt"}});
  const tensor_entry& second = model.at("transformer.h.1.mlp.c_fc.weight");
  CHECK(second.type == dtype::f32);
  CHECK(second.shape == std::vector<msg::index>{3, 4});
  const std::vector<float>& stacked = saved.parameters[1].value; // (2, 3, 4)
  CHECK(model.read<float>(second.name) == std::vector<float>(stacked.begin() + 12, stacked.end()));
}

TEST_CASE("the optimizer file has exp_avg, exp_avg_sq and birth", "[checkpoint]") {
  const temporary_folder run;
  tiny_checkpoint<double> saved(1);
  const safetensors_file optimizer(saved.save(run.path()) / "optimizer.safetensors");
  CHECK(optimizer.tensors().size() == 2 * 6 + 2);
  CHECK(optimizer.read<double>("exp_avg/transformer.wte.weight") == saved.parameters[0].exp_avg);
  CHECK(optimizer.read<double>("exp_avg_sq/transformer.ln_f.bias") == saved.parameters[3].exp_avg_sq);
  CHECK(optimizer.at("exp_avg/transformer.h.0.mlp.c_fc.bias").type == dtype::f64);
  CHECK(optimizer.read<msg::index>("birth/ffn") == std::vector<msg::index>{0, 0, 7, 7});
}

TEST_CASE("an optimizer with one moment or none stores just that", "[checkpoint]") {
  const temporary_folder run;
  tiny_checkpoint<float> saved(1);
  for (auto& p : saved.parameters) { p.exp_avg_sq.clear(); }
  const fs::path folder = saved.save(run.path());
  CHECK(safetensors_file(folder / "optimizer.safetensors").tensors().size() == 6 + 2);
  tiny_checkpoint<float> other(2);
  for (auto& p : other.parameters) { p.exp_avg_sq.clear(); }
  auto views = other.views();
  CHECK(load_checkpoint<float>(folder, views, 10) == saved.births);
  CHECK(other.same_tensors(saved));
  tiny_checkpoint<float> with_both(2);
  views = with_both.views();
  CHECK(input_message([&] { (void)load_checkpoint<float>(folder, views, 10); }) ==
        containing("optimizer.safetensors: missing tensor 'exp_avg_sq/transformer.wte.weight'"));
}

TEST_CASE("the documents come back as they were", "[checkpoint]") {
  const temporary_folder run;
  tiny_checkpoint<float> saved(1);
  saved.documents.config.why = "hidden 3 is not heads 1 * head_dim 2";
  saved.documents.config.sizes.head_dim = 2;
  const fs::path folder = saved.save(run.path());
  const checkpoint_documents& was = saved.documents;
  const checkpoint_documents is = read_checkpoint_documents(folder);
  CHECK(config_json<float>(is.config) == config_json<float>(was.config));
  CHECK(is.config.sizes.ffn == 4);
  CHECK(trainer_state_json(is.state) == trainer_state_json(was.state));
  CHECK(is.state.flops == was.state.flops); // to the bit, through decimal text
  CHECK(is.state.seed == was.state.seed);
  CHECK(is.state.log == was.state.log);
  REQUIRE(is.state.seen.steps.size() == 2);
  CHECK(is.state.seen.steps[1].flops == was.state.seen.steps[1].flops);
  CHECK(is.state.seen.steps[1].loss == was.state.seen.steps[1].loss);
  CHECK(std::isnan(is.state.seen.steps[0].validation_loss)); // it wasn't taken
  REQUIRE(is.state.seen.probes.size() == 1);
  CHECK(is.state.seen.probes[0].flops == was.state.seen.probes[0].flops);
  CHECK(std::isnan(is.state.seen.probes[0].loss_after));
  REQUIRE(is.state.seen.expected.size() == 1);
  CHECK(is.state.seen.expected[0].points[1].loss == was.state.seen.expected[0].points[1].loss);
  CHECK(growth_json(is.growths, 10) == growth_json(was.growths, 10));
  REQUIRE(is.growths.size() == 2);
  CHECK(is.growths[0].masked);
  CHECK(is.growths[0].ramp.shape == msg::ramp_shape::cosine);
  CHECK(is.growths[0].value(17) == was.growths[0].value(17));
  CHECK(is.growths[1].placement == msg::placement::order::interleave);
  CHECK_FALSE(is.growths[1].masked);
  CHECK(is.growths[1].seed == ~std::uint64_t{0});
}

TEST_CASE("a checkpoint of the same step replaces the first", "[checkpoint]") {
  const temporary_folder run;
  tiny_checkpoint<float> first(1);
  tiny_checkpoint<float> second(2);
  first.save(run.path());
  const fs::path folder = second.save(run.path());
  CHECK(loaded<float>(folder).same_tensors(second));
  CHECK(names_in(run.path()) == std::vector<std::string>{"latest", "step-00000010"});
}

TEST_CASE("a float model doesn't load a double checkpoint: the message says what is stored", "[checkpoint]") {
  const temporary_folder run;
  const fs::path folder = tiny_checkpoint<double>(1).save(run.path());
  CHECK(input_message([&] { (void)loaded<float>(folder); }) ==
        containing((folder / "model.safetensors").string() +
                   ": tensor 'transformer.wte.weight': expected F32 [5,3], found F64 [5,3]"));
}

TEST_CASE("tensors that are missing, unexpected or of another shape are all named before anything is read",
          "[checkpoint]") {
  const temporary_folder run;
  tiny_checkpoint<float> saved(1);
  saved.parameters[0].name = "transformer.other.weight";
  saved.parameters[1].shape = {2, 4, 3};
  const fs::path folder = saved.save(run.path());
  tiny_checkpoint<float> target(2);
  const auto views = target.views();
  CHECK(input_message([&] { (void)load_checkpoint<float>(folder, views, 10); }) ==
        (folder / "model.safetensors").string() +
            ": missing tensor 'transformer.wte.weight'; "
            "tensor 'transformer.h.0.mlp.c_fc.weight': expected F32 [3,4], found F32 [4,3]; "
            "tensor 'transformer.h.1.mlp.c_fc.weight': expected F32 [3,4], found F32 [4,3]; "
            "unexpected tensor 'transformer.other.weight'");
  CHECK(target.same_tensors(tiny_checkpoint<float>(2)));
}

TEST_CASE("a value that is not finite is refused, and where it is", "[checkpoint]") {
  const temporary_folder run;
  tiny_checkpoint<float> saved(1);
  saved.parameters[1].exp_avg[17] = std::numeric_limits<float>::infinity();
  const fs::path folder = saved.save(run.path());
  CHECK(input_message([&] { (void)loaded<float>(folder); }) ==
        (folder / "optimizer.safetensors").string() +
            ": tensor 'exp_avg/transformer.h.1.mlp.c_fc.weight': expected finite values, found inf at element 5");
}

TEST_CASE("births outside the run are refused", "[checkpoint]") {
  const temporary_folder run;
  const auto shown = [&](std::vector<msg::index> births) {
    tiny_checkpoint<float> saved(1);
    saved.births["ffn"] = std::move(births);
    const fs::path folder = saved.save(run.path());
    const std::string message = input_message([&] { (void)loaded<float>(folder); });
    return message.substr(message.find("tensor '"));
  };
  CHECK(shown({0, 11}) == "tensor 'birth/ffn': expected births from 0 to 10, found 11");
  CHECK(shown({-1, 0}) == "tensor 'birth/ffn': expected births from 0 to 10, found -1");
}
