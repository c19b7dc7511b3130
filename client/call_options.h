// What holds for one call.
#ifndef YOIO_CLIENT_CALL_OPTIONS_H_
#define YOIO_CLIENT_CALL_OPTIONS_H_

#include <optional>
#include <string>

#include "base/clock.h"
#include "client/cancellation.h"

namespace yoio {

struct CallOptions {
  // The gRPC deadline, from the start of the call: past it the call fails with DEADLINE_EXCEEDED, and what
  // the server knows of usage and timing is lost (a `time_budget` in the request keeps it). Absent: none.
  std::optional<Duration> timeout;

  // Ends the call from another thread. Not owned; may be null; must outlive the call.
  Cancellation* cancellation = nullptr;

  // The trace that the call is a part of, as W3C Trace Context writes it: sent in the metadata `traceparent`.
  // Empty: none.
  std::string traceparent = "";
};

}  // namespace yoio

#endif  // YOIO_CLIENT_CALL_OPTIONS_H_
