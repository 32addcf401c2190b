// Pre-trains a GPT-2 or a Llama that grows, on any text: examples/run.sh, or train_gpt --help.

#include "transformer/train_program.hpp"

int main(int count, char** arguments) {
  using reference::architecture;
  const reference::program what{
      .name = "train_gpt",
      .about = "Pre-trains a GPT that grows while it trains (Masked Structural Growth).\n"
               "Without options: the default job, a growth in all four dimensions on the Eigen headers.",
      .architectures = {architecture::gpt2, architecture::llama},
      .run_prefix = "gpt"};
  return reference::run_program(what, count, arguments);
}
