// The C++ client of a yoio server: the generated stubs, with deadlines, cancellation and decoded errors.
#ifndef YOIO_CLIENT_CLIENT_H_
#define YOIO_CLIENT_CLIENT_H_

#include <memory>
#include <string>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "client/call_options.h"
#include "client/channel.h"
#include "grpc/health/v1/health.grpc.pb.h"
#include "yoio/v1/inference.grpc.pb.h"

namespace yoio {

// Talks to the data listener of a server, or to those of all servers behind one name in turn. Thread-safe:
// calls may run at the same time from any threads, and share one connection to each server. Every call blocks
// until it has ended. Owned by the caller.
//
// Connections are made by the first call and made again when they were lost. A call that fails before
// `accepted` with one of the codes of client/service_config.h is tried again as that says; after `accepted`
// nothing is. An error status carries what DetailsOf (client/error_details.h) reads.
class Client {
 public:
  // Do not connect yet. `server` is ChannelOptions::server, without TLS or an API key.
  explicit Client(const std::string& server);
  explicit Client(const ChannelOptions& options);

  // Called once for each event, in order, on the thread that called. Returning false cancels the call.
  using GenerateCallback = absl::FunctionRef<bool(const v1::GenerateResponse&)>;
  using ScoreCallback = absl::FunctionRef<bool(const v1::ScoreResponse&)>;

  // Return OK after `summary` was delivered, and CANCELLED when the callback or `cancellation` ended the
  // call.
  absl::Status Generate(const v1::GenerateRequest& request, GenerateCallback on_event,
                        const CallOptions& options = {});
  absl::Status Score(const v1::ScoreRequest& request, ScoreCallback on_event,
                     const CallOptions& options = {});

  absl::StatusOr<v1::GenerateOnceResponse> GenerateOnce(const v1::GenerateRequest& request,
                                                        const CallOptions& options = {});
  absl::StatusOr<v1::TokenizeResponse> Tokenize(const v1::TokenizeRequest& request,
                                                const CallOptions& options = {});
  absl::StatusOr<v1::DetokenizeResponse> Detokenize(const v1::DetokenizeRequest& request,
                                                    const CallOptions& options = {});
  absl::StatusOr<v1::GetModelInfoResponse> GetModelInfo(const v1::GetModelInfoRequest& request = {},
                                                        const CallOptions& options = {});
  absl::StatusOr<v1::GetServerInfoResponse> GetServerInfo(const CallOptions& options = {});
  absl::StatusOr<v1::GetLoadResponse> GetLoad(const CallOptions& options = {});

  // Ends a live request of this caller, whichever connection it came over. NOT_FOUND when there is none.
  absl::Status Abort(const std::string& request_id, const CallOptions& options = {});

 private:
  std::unique_ptr<v1::InferenceService::Stub> stub_;
};

// Asks the health listener of a server, a port of its own, how `service` is: "" and
// "yoio.v1.InferenceService" are readiness, "liveness" is the engine's heartbeat. In plaintext, without a
// key, never retried. Blocks. NOT_FOUND for a service that it does not know. Thread-safe.
absl::StatusOr<::grpc::health::v1::HealthCheckResponse> CheckHealth(const std::string& server,
                                                                    const std::string& service,
                                                                    const CallOptions& options = {});

}  // namespace yoio

#endif  // YOIO_CLIENT_CLIENT_H_
