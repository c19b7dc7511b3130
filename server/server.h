// The gRPC servers for callers and for those who watch over this process: one serves InferenceService, the
// other health alone. They are objects of their own because one gRPC server serves every service on all of
// its ports.
#ifndef YOIO_SERVER_SERVER_H_
#define YOIO_SERVER_SERVER_H_

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "base/clock.h"
#include "server/address.h"
#include "server/call.h"
#include "server/grpc_server.h"
#include "server/health.h"

namespace grpc {
class Server;
class Service;
}  // namespace grpc

namespace yoio {

// Serves InferenceService from Start to Shutdown or destruction.
class DataServer {
 public:
  struct Options {
    Address listen;
    bool reflection = true;
    size_t max_request_bytes = 16 << 20;
    ServerTls* tls = nullptr;                                // null: plaintext; outlives the server
    Duration max_connection_age = std::chrono::minutes(10);  // then clients are to connect anew, calls go on
  };
  // Errors as CheckCanBind (server/address.h). `core` outlives the server.
  static absl::StatusOr<std::unique_ptr<DataServer>> Start(ServingCore& core, const Options& options);
  ~DataServer();

  // The address in use, with the port that port 0 became.
  const Address& address() const { return address_; }

  // Takes no new call and tells clients to go elsewhere (GOAWAY); returns when all calls have ended and all
  // clients have gone, and after `grace` cancels what is left. Once.
  void Shutdown(Duration grace);
  // While Shutdown waits: cancels what is left now. Thread-safe.
  void Cut();

 private:
  DataServer();
  Address address_;
  Gate gate_;
  std::unique_ptr<grpc::Service> service_;
  std::unique_ptr<grpc::Service> reflection_;  // null: off
  std::unique_ptr<grpc::Server> server_;
};

// Serves grpc.health.v1, in plaintext, from Start to destruction.
class HealthServer {
 public:
  static absl::StatusOr<std::unique_ptr<HealthServer>> Start(const Address& listen);
  ~HealthServer();

  const Address& address() const { return address_; }
  HealthService& health() { return *health_; }

 private:
  HealthServer();
  Address address_;
  std::unique_ptr<HealthService> health_;
  std::unique_ptr<grpc::Server> server_;
};

}  // namespace yoio

#endif  // YOIO_SERVER_SERVER_H_
