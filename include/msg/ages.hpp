// How old and how awake every index of every dimension of one parameter is: what an optimizer wants to know of growth.
#pragma once

#include <msg/config.hpp>

#include <vector>

MSG_NAMESPACE_BEGIN

/// One inner vector per dimension of the parameter, one entry per index of that dimension; an empty one says that
/// nothing is special there: birth 0, mask 1. An entry of the parameter was born at the latest of the births of its
/// indices, and its mask is the least of theirs. No vectors at all: one age everywhere.
struct parameter_ages {
  std::vector<std::vector<index>> birth{}; // optimizer step before whose forward the index came to be
  std::vector<std::vector<float>> mask{};  // 0 asleep .. 1 awake; scales weight decay
  std::vector<index> shape{};              // extents of the parameter; empty: those of the tensor given with it
};

/// Learning-rate factor of the entries born at a step.
struct birth_rate {
  index birth = 0;
  double factor = 1;
};

MSG_NAMESPACE_END
