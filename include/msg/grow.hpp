// MSG: growth operators for neural networks in the middle of training. Umbrella of all host code; needs the standard
// library alone.
#pragma once

#include <msg/ages.hpp>
#include <msg/apply.hpp>
#include <msg/axis.hpp>
#include <msg/config.hpp>
#include <msg/cost.hpp>
#include <msg/decision.hpp>
#include <msg/error.hpp>
#include <msg/growth.hpp>
#include <msg/learning_rate.hpp>
#include <msg/loss_curve.hpp>
#include <msg/loss_model.hpp>
#include <msg/mask.hpp>
#include <msg/masked.hpp>
#include <msg/masked_norm.hpp>
#include <msg/model_cost.hpp>
#include <msg/optimizer.hpp>
#include <msg/plan.hpp>
#include <msg/propose.hpp>
#include <msg/ramp.hpp>
#include <msg/random.hpp>
#include <msg/rate_scale.hpp>
#include <msg/request.hpp>
#include <msg/rules/mask.hpp>
#include <msg/rules/stack.hpp>
#include <msg/schedule.hpp>
#include <msg/schedule_presets.hpp>
#include <msg/schedule_state.hpp>
#include <msg/schema.hpp>
#include <msg/stage.hpp>
#include <msg/step_time.hpp>
#include <msg/tensor.hpp>
#include <msg/trigger.hpp>
