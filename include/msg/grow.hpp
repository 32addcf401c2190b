// MSG: growth operators for neural networks in the middle of training. Umbrella of all host code; needs the standard
// library alone.
#pragma once

#include <msg/ages.hpp>
#include <msg/apply.hpp>
#include <msg/axis.hpp>
#include <msg/config.hpp>
#include <msg/contract.hpp>
#include <msg/cost.hpp>
#include <msg/difference.hpp>
#include <msg/error.hpp>
#include <msg/fresh.hpp>
#include <msg/growth.hpp>
#include <msg/learning_rate.hpp>
#include <msg/mask.hpp>
#include <msg/masked.hpp>
#include <msg/masked_norm.hpp>
#include <msg/optimizer.hpp>
#include <msg/parameter.hpp>
#include <msg/plan.hpp>
#include <msg/presets.hpp>
#include <msg/random.hpp>
#include <msg/request.hpp>
#include <msg/rules/average.hpp>
#include <msg/rules/duplicate.hpp>
#include <msg/rules/expert_copies.hpp>
#include <msg/rules/identity.hpp>
#include <msg/rules/mask.hpp>
#include <msg/rules/stack.hpp>
#include <msg/rules/zero_block.hpp>
#include <msg/schedule.hpp>
#include <msg/schema.hpp>
#include <msg/tensor.hpp>
#include <msg/verification.hpp>
#include <msg/verify.hpp>
