#include "client/admin_client.h"

#include "client/call.h"

namespace yoio {

AdminClient::AdminClient(const ChannelOptions& options)
    : stub_(v1::AdminService::NewStub(OpenChannel(options))) {}

absl::Status AdminClient::DumpState(const v1::DumpStateRequest& request,
                                    absl::FunctionRef<bool(const v1::DumpStateResponse&)> on_item,
                                    const CallOptions& options) {
  Call call(options);
  return Stream<v1::DumpStateResponse>(call, stub_->DumpState(call.context(), request), on_item);
}

absl::Status AdminClient::GetTraces(const v1::GetTracesRequest& request,
                                    absl::FunctionRef<bool(const v1::GetTracesResponse&)> on_trace,
                                    const CallOptions& options) {
  Call call(options);
  return Stream<v1::GetTracesResponse>(call, stub_->GetTraces(call.context(), request), on_trace);
}

absl::StatusOr<std::string> AdminClient::Profile(const v1::ProfileRequest& request,
                                                 const CallOptions& options) {
  Call call(options);
  std::string profile;
  const auto on_piece = [&](const v1::ProfileResponse& piece) {
    profile += piece.chunk();
    return true;
  };
  const absl::Status status =
      Stream<v1::ProfileResponse>(call, stub_->Profile(call.context(), request), on_piece);
  if (!status.ok()) return status;
  return profile;
}

}  // namespace yoio
