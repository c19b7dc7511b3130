// What a failed call says beside its code and message.
#ifndef YOIO_CLIENT_ERROR_DETAILS_H_
#define YOIO_CLIENT_ERROR_DETAILS_H_

#include <cstdint>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "base/clock.h"
#include "yoio/v1/timing.pb.h"

namespace grpc {
class ClientContext;
class Status;
}  // namespace grpc

namespace yoio {

// All fields are empty for an error that no yoio service made, for instance when no server answered.
struct ErrorDetails {
  std::string reason;       // a yoio.v1.ErrorReason without its prefix: "BAD_VALUE", "DRAINING", ...
  std::string request_id;   // empty when the call has none
  bool accepted = false;    // the `accepted` event was sent
  int64_t tokens_sent = 0;  // generated tokens that the server sent
  bool suspect = false;     // was in a batch that broke the engine: retry it at most once
  std::optional<Duration> retry_after;  // wait this long before a retry
  std::optional<v1::Timing> timing;     // of a stream that failed after `accepted`
};

// Reads the details back from an error of Client. OK and foreign statuses give empty ones.
ErrorDetails DetailsOf(const absl::Status& status);

// Turns the end of a call into an absl::Status: code and message as they are, each detail of the trailer
// `grpc-status-details-bin` and the timing of `yoio-timing-bin` as a payload under its type URL. `context` is
// that of the call, which has ended.
absl::Status FromGrpc(const grpc::Status& status, const grpc::ClientContext& context);

}  // namespace yoio

#endif  // YOIO_CLIENT_ERROR_DETAILS_H_
