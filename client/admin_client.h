// The C++ client of AdminService.
#ifndef YOIO_CLIENT_ADMIN_CLIENT_H_
#define YOIO_CLIENT_ADMIN_CLIENT_H_

#include <memory>
#include <string>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "client/call_options.h"
#include "client/channel.h"
#include "yoio/v1/admin.grpc.pb.h"

namespace yoio {

// Talks to the admin listener of one server; ChannelOptions::api_key is the admin token. Thread-safe. Every
// call blocks until it has ended; nothing is tried again. An error status carries what DetailsOf reads.
class AdminClient {
 public:
  // Does not connect yet.
  explicit AdminClient(const ChannelOptions& options);

  // Call back for each message, in order, on the thread that called. Returning false cancels the call.
  absl::Status DumpState(const v1::DumpStateRequest& request,
                         absl::FunctionRef<bool(const v1::DumpStateResponse&)> on_item,
                         const CallOptions& options = {});
  absl::Status GetTraces(const v1::GetTracesRequest& request,
                         absl::FunctionRef<bool(const v1::GetTracesResponse&)> on_trace,
                         const CallOptions& options = {});

  // The whole profile: a gzip-compressed Chrome trace. Takes as long as `request` says.
  absl::StatusOr<std::string> Profile(const v1::ProfileRequest& request, const CallOptions& options = {});

 private:
  std::unique_ptr<v1::AdminService::Stub> stub_;
};

}  // namespace yoio

#endif  // YOIO_CLIENT_ADMIN_CLIENT_H_
