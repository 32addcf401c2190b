// expect: conversion from .my_rule. to
// A rule is a function with a name, which contracts and messages print.
#include <msg/plan.hpp>

struct my_rule {
#ifdef MSG_VALID
  static constexpr const char* name = "mine";
#endif
  msg::axis_growth operator()(const msg::rule_request& asked) const {
    msg::axis_growth result;
    result.source = asked.old_of;
    return result;
  }
};

const msg::rule chosen = my_rule{};
