#include "server/server.h"

#include <grpc/grpc.h>
#include <grpcpp/impl/service_type.h>
#include <grpcpp/server.h>
#include <grpcpp/server_builder.h>

#include <chrono>
#include <thread>
#include <utility>

#include "base/status.h"
#include "server/grpc_server.h"
#include "server/inference_service.h"
#include "server/limits.h"
#include "server/reflection.h"

namespace yoio {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr Keepalive kKeepalive{.time = seconds(60), .timeout = seconds(20), .min_interval = seconds(10)};
// How long a call may take from the gate to its handler. It takes microseconds; gRPC does not say when none
// is left between the two.
constexpr Duration kPastGate = milliseconds(50);
// For streams that had nothing left to do but to end.
constexpr Duration kShutdownGrace = seconds(1);
// A client that does nothing may not even notice that the server goes.
constexpr Duration kHealthGrace = milliseconds(100);

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
  if (options.reflection) {
    data->reflection_ = MakeReflectionService(core);
    builder.RegisterService(data->reflection_.get());
  }
  // The grace after it has no end: what runs goes on.
  builder.AddChannelArgument(
      GRPC_ARG_MAX_CONNECTION_AGE_MS,
      static_cast<int>(std::chrono::duration_cast<milliseconds>(options.max_connection_age).count()));
  YOIO_ASSIGN_OR_RETURN(data->server_,
                        StartGrpcServer(builder, options.tls, &data->gate_, kKeepalive, data->address_));
  return data;
}

void DataServer::Shutdown(Duration grace) {
  gate_.Close();
  std::this_thread::sleep_for(kPastGate);
  server_->Shutdown(After(grace));
}

void DataServer::Cut() { grpc_server_cancel_all_calls(server_->c_server()); }

DataServer::~DataServer() {
  if (server_ != nullptr && !gate_.closed()) Shutdown(kShutdownGrace);
}

HealthServer::HealthServer() = default;

absl::StatusOr<std::unique_ptr<HealthServer>> HealthServer::Start(const Address& listen) {
  std::unique_ptr<HealthServer> health(new HealthServer);
  health->address_ = listen;
  health->health_ = MakeHealthService();
  grpc::ServerBuilder builder;
  builder.RegisterService(&health->health_->service());
  YOIO_ASSIGN_OR_RETURN(health->server_,
                        StartGrpcServer(builder, nullptr, nullptr, kKeepalive, health->address_));
  return health;
}

HealthServer::~HealthServer() {
  if (server_ == nullptr) return;
  health_->Close();
  server_->Shutdown(After(kHealthGrace));
}

}  // namespace yoio
