#include "client/client.h"

#include "client/call.h"

namespace yoio {

using Stub = v1::InferenceService::Stub;

Client::Client(const std::string& server) : Client(ChannelOptions{server}) {}

Client::Client(const ChannelOptions& options) : stub_(v1::InferenceService::NewStub(OpenChannel(options))) {}

absl::Status Client::Generate(const v1::GenerateRequest& request, GenerateCallback on_event,
                              const CallOptions& options) {
  Call call(options);
  return Stream<v1::GenerateResponse>(call, stub_->Generate(call.context(), request), on_event);
}

absl::Status Client::Score(const v1::ScoreRequest& request, ScoreCallback on_event,
                           const CallOptions& options) {
  Call call(options);
  return Stream<v1::ScoreResponse>(call, stub_->Score(call.context(), request), on_event);
}

absl::StatusOr<v1::GenerateOnceResponse> Client::GenerateOnce(const v1::GenerateRequest& request,
                                                              const CallOptions& options) {
  v1::GenerateOnceRequest once;
  *once.mutable_request() = request;
  return Unary(*stub_, &Stub::GenerateOnce, once, options);
}

absl::StatusOr<v1::TokenizeResponse> Client::Tokenize(const v1::TokenizeRequest& request,
                                                      const CallOptions& options) {
  return Unary(*stub_, &Stub::Tokenize, request, options);
}

absl::StatusOr<v1::DetokenizeResponse> Client::Detokenize(const v1::DetokenizeRequest& request,
                                                          const CallOptions& options) {
  return Unary(*stub_, &Stub::Detokenize, request, options);
}

absl::StatusOr<v1::GetModelInfoResponse> Client::GetModelInfo(const v1::GetModelInfoRequest& request,
                                                              const CallOptions& options) {
  return Unary(*stub_, &Stub::GetModelInfo, request, options);
}

absl::StatusOr<v1::GetServerInfoResponse> Client::GetServerInfo(const CallOptions& options) {
  return Unary(*stub_, &Stub::GetServerInfo, v1::GetServerInfoRequest(), options);
}

absl::StatusOr<v1::GetLoadResponse> Client::GetLoad(const CallOptions& options) {
  return Unary(*stub_, &Stub::GetLoad, v1::GetLoadRequest(), options);
}

absl::Status Client::Abort(const std::string& request_id, const CallOptions& options) {
  v1::AbortRequest request;
  request.set_request_id(request_id);
  return Unary(*stub_, &Stub::Abort, request, options).status();
}

absl::StatusOr<::grpc::health::v1::HealthCheckResponse> CheckHealth(const std::string& server,
                                                                    const std::string& service,
                                                                    const CallOptions& options) {
  const auto stub = ::grpc::health::v1::Health::NewStub(OpenChannel({server}));
  ::grpc::health::v1::HealthCheckRequest request;
  request.set_service(service);
  return Unary(*stub, &::grpc::health::v1::Health::Stub::Check, request, options);
}

}  // namespace yoio
