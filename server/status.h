// The one place where an absl::Status becomes a gRPC status. proto/yoio/v1/errors.proto holds the reasons;
// engine/errors.h attaches one to a status.
#ifndef YOIO_SERVER_STATUS_H_
#define YOIO_SERVER_STATUS_H_

#include <grpcpp/support/status.h>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "base/clock.h"

namespace yoio {

// What is known of a call when it fails.
struct ErrorContext {
  std::string_view request_id = {};  // empty: the call has none, or it was not valid
  bool accepted = false;             // the `accepted` event was sent
  int64_t tokens_sent = 0;           // generated tokens that were sent
  bool engine_failed = false;        // the engine is dead: UNAVAILABLE then means that, else draining
};

// What a failed call ends with.
struct CallError {
  grpc::Status status;                  // code, message, serialised google.rpc.Status
  std::string reason;                   // as in ErrorInfo
  std::optional<Duration> retry_after;  // goes into the trailer grpc-retry-pushback-ms
};

// `status` is not OK. Codes outside the contract become INTERNAL, reason BUG.
CallError ToCallError(const absl::Status& status, const ErrorContext& context);

}  // namespace yoio

#endif  // YOIO_SERVER_STATUS_H_
