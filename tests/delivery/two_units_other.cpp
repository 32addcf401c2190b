// The second translation unit of two_units_main.cpp.
#include "all_headers.hpp"

#include <typeinfo>

using to_string_type = std::string (*)(const msg::diagnostic&);
to_string_type to_string_of_the_other_unit();
const std::type_info& error_of_the_other_unit();

to_string_type to_string_of_the_other_unit() { return static_cast<to_string_type>(msg::to_string); }

const std::type_info& error_of_the_other_unit() { return typeid(msg::error); }
