#include "server/server.h"

#include <grpcpp/ext/proto_server_reflection_plugin.h>
#include <grpcpp/impl/server_builder_option.h>
#include <grpcpp/impl/service_type.h>
#include <grpcpp/security/server_credentials.h>
#include <grpcpp/server.h>
#include <grpcpp/server_builder.h>

#include <chrono>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "server/inference_service.h"
#include "server/limits.h"

namespace yoio {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

// A client that vanished without a word is noticed after this much silence and this long a wait for its
// answer.
constexpr milliseconds kKeepaliveTime = seconds(60);
constexpr milliseconds kKeepaliveTimeout = seconds(20);
// A client may ping this often; more is taken for an attack and closes its connection.
constexpr milliseconds kMinPingInterval = seconds(10);
// For streams that had nothing left to do but to end.
constexpr Duration kShutdownGrace = seconds(1);

// Takes reflection out of one server: linking its library puts it into every one.
class NoReflection final : public grpc::ServerBuilderOption {
 public:
  void UpdateArguments(grpc::ChannelArguments*) override {}
  void UpdatePlugins(std::vector<std::unique_ptr<grpc::ServerBuilderPlugin>>* plugins) override {
    const std::string name = grpc::reflection::ProtoServerReflectionPlugin().name();
    std::erase_if(*plugins, [&name](const auto& plugin) { return plugin->name() == name; });
  }
};

void SetTransportLimits(grpc::ServerBuilder& builder) {
  builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);  // a port in use is an error, not a shared port
  builder.AddChannelArgument(GRPC_ARG_MAX_METADATA_SIZE, kMaxMetadataBytes);
  builder.AddChannelArgument(GRPC_ARG_MAX_CONCURRENT_STREAMS, kMaxConcurrentStreams);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIME_MS, static_cast<int>(kKeepaliveTime.count()));
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, static_cast<int>(kKeepaliveTimeout.count()));
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
  builder.AddChannelArgument(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS,
                             static_cast<int>(kMinPingInterval.count()));
  // gRPC checks the length limit after inflation, so a small message could grow without bound.
  builder.SetCompressionAlgorithmSupportStatus(GRPC_COMPRESS_DEFLATE, false);
  builder.SetCompressionAlgorithmSupportStatus(GRPC_COMPRESS_GZIP, false);
}

// Builds and starts; the port that was bound goes into `address`.
absl::StatusOr<std::unique_ptr<grpc::Server>> BuildAndStart(grpc::ServerBuilder& builder, Address& address) {
  YOIO_RETURN_IF_ERROR(CheckCanBind(address));
  int port = 0;
  builder.AddListeningPort(address.ToString(), grpc::InsecureServerCredentials(), &port);
  SetTransportLimits(builder);
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

}  // namespace

DataServer::DataServer() = default;

absl::StatusOr<std::unique_ptr<DataServer>> DataServer::Start(ServingCore& core, const Options& options) {
  std::unique_ptr<DataServer> data(new DataServer);
  data->address_ = options.listen;
  data->service_ = MakeInferenceService(core);
  grpc::ServerBuilder builder;
  builder.RegisterService(data->service_.get());
  builder.SetMaxReceiveMessageSize(static_cast<int>(options.max_request_bytes));
  builder.SetMaxSendMessageSize(kMaxResponseBytes);
  if (!options.reflection) builder.SetOption(std::make_unique<NoReflection>());
  YOIO_ASSIGN_OR_RETURN(data->server_, BuildAndStart(builder, data->address_));
  return data;
}

void DataServer::Shutdown(Duration grace) { server_->Shutdown(After(grace)); }

DataServer::~DataServer() {
  if (server_ != nullptr) Shutdown(kShutdownGrace);
}

HealthServer::HealthServer() = default;

absl::StatusOr<std::unique_ptr<HealthServer>> HealthServer::Start(const Address& listen) {
  std::unique_ptr<HealthServer> health(new HealthServer);
  health->address_ = listen;
  health->health_ = MakeHealthService();
  grpc::ServerBuilder builder;
  builder.RegisterService(&health->health_->service());
  builder.SetOption(std::make_unique<NoReflection>());
  YOIO_ASSIGN_OR_RETURN(health->server_, BuildAndStart(builder, health->address_));
  return health;
}

HealthServer::~HealthServer() {
  if (server_ == nullptr) return;
  health_->Close();
  server_->Shutdown(After(kShutdownGrace));
}

}  // namespace yoio
