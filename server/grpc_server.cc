#include "server/grpc_server.h"

#include <grpc/grpc.h>
#include <grpc/grpc_security.h>
#include <grpcpp/security/server_credentials.h>
#include <grpcpp/server.h>
#include <grpcpp/server_builder.h>

#include <string>

#include "absl/strings/str_cat.h"
#include "base/check.h"
#include "base/status.h"
#include "server/limits.h"

namespace yoio {
namespace {

// Called by gRPC for each call, before it looks for a handler.
void PassGate(void* state, grpc_auth_context*, const grpc_metadata*, size_t,
              grpc_process_auth_metadata_done_cb done, void* user_data) {
  const bool closed = static_cast<const Gate*>(state)->closed();
  done(user_data, nullptr, 0, nullptr, 0, closed ? GRPC_STATUS_UNAVAILABLE : GRPC_STATUS_OK,
       closed ? "the server takes no more calls" : nullptr);
}

// gRPC's C++ classes have neither certificates that are read again nor a gate; its C functions do.
class ListenerCredentials final : public grpc::ServerCredentials {
 public:
  ListenerCredentials(ServerTls* tls, Gate* gate)
      : credentials_(tls == nullptr ? grpc_insecure_server_credentials_create() : tls->MakeCredentials()) {
    if (gate != nullptr) {
      grpc_server_credentials_set_auth_metadata_processor(
          credentials_, {.process = PassGate, .destroy = nullptr, .state = gate});
    }
  }
  ~ListenerCredentials() override { grpc_server_credentials_release(credentials_); }

  void SetAuthMetadataProcessor(const std::shared_ptr<grpc::AuthMetadataProcessor>&) override {
    YOIO_CHECK(false) << "the gate has its place";
  }

 private:
  int AddPortToServer(const std::string& address, grpc_server* server) override {
    return grpc_server_add_http2_port(server, address.c_str(), credentials_);
  }

  grpc_server_credentials* const credentials_;
};

void SetTransportLimits(grpc::ServerBuilder& builder, const Keepalive& keepalive) {
  builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);  // a port in use is an error, not a shared port
  builder.AddChannelArgument(GRPC_ARG_MAX_METADATA_SIZE, kMaxMetadataBytes);
  builder.AddChannelArgument(GRPC_ARG_MAX_CONCURRENT_STREAMS, kMaxConcurrentStreams);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIME_MS, static_cast<int>(keepalive.time.count()));
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, static_cast<int>(keepalive.timeout.count()));
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
  builder.AddChannelArgument(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS,
                             static_cast<int>(keepalive.min_interval.count()));
  // gRPC checks the length limit after inflation, so a small message could grow without bound.
  builder.SetCompressionAlgorithmSupportStatus(GRPC_COMPRESS_DEFLATE, false);
  builder.SetCompressionAlgorithmSupportStatus(GRPC_COMPRESS_GZIP, false);
}

}  // namespace

absl::StatusOr<std::unique_ptr<grpc::Server>> StartGrpcServer(grpc::ServerBuilder& builder, ServerTls* tls,
                                                              Gate* gate, const Keepalive& keepalive,
                                                              Address& address) {
  YOIO_RETURN_IF_ERROR(CheckCanBind(address));
  int port = 0;
  builder.AddListeningPort(address.ToString(), std::make_shared<ListenerCredentials>(tls, gate), &port);
  SetTransportLimits(builder, keepalive);
  std::unique_ptr<grpc::Server> server = builder.BuildAndStart();
  if (server == nullptr || port == 0) {
    return absl::AlreadyExistsError(absl::StrCat(address.ToString(), ": gRPC could not listen on it"));
  }
  address.port = port;
  return server;
}

std::chrono::system_clock::time_point After(Duration duration) {
  return std::chrono::system_clock::now() +
         std::chrono::duration_cast<std::chrono::system_clock::duration>(duration);
}

}  // namespace yoio
