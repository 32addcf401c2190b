// What a trainer and the engine that computes its model tell each other.
#pragma once

#include <msg/ages.hpp>
#include <msg/config.hpp>
#include <msg/optimizer.hpp>

#include <span>

namespace reference {

using msg::index;

/// One optimizer step as the trainer asks for it.
struct step_request {
  msg::adamw optimizer;
  double lr = 0;
  index step = 0;
  double clip = 0;                          // largest norm of the gradient; 0: no clipping
  std::span<const msg::birth_rate> rates{}; // see msg::update_step::rates
};

/// What the host learns of it.
struct step_numbers {
  double loss = 0;    // mean over the batches since the last step
  double squares = 0; // of the gradient before clipping, summed
};

} // namespace reference
