// One call of a generated stub, as the clients of this folder make them.
#ifndef YOIO_CLIENT_CALL_H_
#define YOIO_CLIENT_CALL_H_

#include <grpcpp/client_context.h>
#include <grpcpp/support/sync_stream.h>

#include <chrono>
#include <memory>

#include "absl/status/statusor.h"
#include "client/call_options.h"
#include "client/error_details.h"

namespace yoio {

// Its context, with deadline and metadata set, registered for cancellation while this object lives.
class Call {
 public:
  explicit Call(const CallOptions& options) : registration_(options.cancellation, context_) {
    if (options.timeout) {
      const auto timeout = std::chrono::duration_cast<std::chrono::system_clock::duration>(*options.timeout);
      context_.set_deadline(std::chrono::system_clock::now() + timeout);
    }
    if (!options.traceparent.empty()) context_.AddMetadata("traceparent", options.traceparent);
  }

  grpc::ClientContext* context() { return &context_; }
  absl::Status Result(const grpc::Status& status) const { return FromGrpc(status, context_); }

 private:
  grpc::ClientContext context_;
  Cancellation::Registration registration_;
};

// A unary call of `stub` by a pointer to its method.
template <typename Stub, typename Request, typename Response>
absl::StatusOr<Response> Unary(Stub& stub,
                               grpc::Status (Stub::*method)(grpc::ClientContext*, const Request&, Response*),
                               const Request& request, const CallOptions& options) {
  Call call(options);
  Response response;
  const absl::Status status = call.Result((stub.*method)(call.context(), request, &response));
  if (!status.ok()) return status;
  return response;
}

// Reads a stream to its end; a callback that returns false cancels it.
template <typename Response, typename Callback>
absl::Status Stream(Call& call, std::unique_ptr<grpc::ClientReader<Response>> reader, Callback on_event) {
  Response event;
  while (reader->Read(&event)) {
    if (!on_event(event)) {
      call.context()->TryCancel();
      while (reader->Read(&event)) continue;
      reader->Finish();
      return absl::CancelledError("the callback ended the call");
    }
  }
  return call.Result(reader->Finish());
}

}  // namespace yoio

#endif  // YOIO_CLIENT_CALL_H_
