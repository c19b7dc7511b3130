#include "server/place.h"

#include <algorithm>
#include <initializer_list>
#include <string_view>

#include "absl/strings/ascii.h"

namespace yoio {
namespace {

bool IsName(const std::string& value) {
  constexpr size_t kMaxCharacters = 253;
  return value.size() <= kMaxCharacters && std::all_of(value.begin(), value.end(), [](char c) {
           return absl::ascii_isalnum(static_cast<unsigned char>(c)) || c == '-' || c == '.';
         });
}

// The first of `names` that is set.
std::string Find(const Environment& environment, std::initializer_list<std::string_view> names) {
  for (const std::string_view name : names) {
    for (const auto& [variable, value] : environment) {
      if (variable == name && IsName(value)) return value;
    }
  }
  return "";
}

}  // namespace

Place PlaceOf(const Environment& environment) {
  return {.pod = Find(environment, {"K8S_POD_NAME", "POD_NAME"}),
          .node = Find(environment, {"K8S_NODE_NAME", "NODE_NAME"})};
}

}  // namespace yoio
