// Two translation units include every header: what is not inline is defined twice, and does not link. What is inline
// has one address and one identity in both.
#include "all_headers.hpp"

#include <typeinfo>

using to_string_type = std::string (*)(const msg::diagnostic&);
to_string_type to_string_of_the_other_unit();
const std::type_info& error_of_the_other_unit();

int main() {
  const bool same_function = static_cast<to_string_type>(msg::to_string) == to_string_of_the_other_unit();
  const bool same_type = typeid(msg::error) == error_of_the_other_unit();
  return same_function && same_type ? 0 : 1;
}
