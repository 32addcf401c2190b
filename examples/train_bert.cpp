// Pre-trains a BERT that grows, on any text: hidden tokens, and whether one segment follows another. train_bert --help.

#include "transformer/train_program.hpp"

int main(int count, char** arguments) {
  const reference::program what{
      .name = "train_bert",
      .about = "Pre-trains a BERT that grows while it trains (Masked Structural Growth).\n"
               "Without options: the default job, the growth of MSG's BERT scaled down, on the Eigen headers.",
      .architectures = {reference::architecture::bert},
      .run_prefix = "bert"};
  return reference::run_program(what, count, arguments);
}
