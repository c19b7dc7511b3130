// How the text of an OTEL_* variable becomes a value and back, where flags have nothing of the kind.
#ifndef YOIO_SERVER_TRACE_OTLP_VALUES_H_
#define YOIO_SERVER_TRACE_OTLP_VALUES_H_

#include <cstddef>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "server/flag_values.h"

namespace yoio {

using KeyValues = std::vector<std::pair<std::string, std::string>>;

// Where spans go: "http://HOST:PORT", "https://HOST:PORT" or "HOST:PORT".
struct Endpoint {
  std::string target = "localhost:4317";
  std::optional<bool> tls = false;  // nullopt: not said
};

FlagValue EndpointValue(Endpoint& target);
// "true" or "false", in any case.
FlagValue BooleanValue(bool& target);
// A whole number of milliseconds, at least `min`.
FlagValue MillisecondsValue(Duration& target, int64_t min);
// A whole number, at least `min`.
FlagValue SizeValue(size_t& target, int64_t min, const std::string& unlimited = "");
// In [0, 1].
FlagValue FractionValue(double& target);
// "key=value,key=value", percent-encoded: headers of calls, which may be secret and are shown as "set", and
// attributes of a resource.
FlagValue HeadersValue(KeyValues& target);
FlagValue AttributesValue(KeyValues& target);

}  // namespace yoio

#endif  // YOIO_SERVER_TRACE_OTLP_VALUES_H_
