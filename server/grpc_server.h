// What the gRPC servers of this process have in common.
#ifndef YOIO_SERVER_GRPC_SERVER_H_
#define YOIO_SERVER_GRPC_SERVER_H_

#include <chrono>
#include <memory>

#include "absl/status/statusor.h"
#include "base/clock.h"
#include "server/address.h"

namespace grpc {
class Server;
class ServerBuilder;
class ServerCredentials;
}  // namespace grpc

namespace yoio {

// How a peer that vanished without a word is noticed.
struct Keepalive {
  std::chrono::milliseconds time;          // after this much silence it is asked
  std::chrono::milliseconds timeout;       // and has this long to answer
  std::chrono::milliseconds min_interval;  // it may ask this often itself; more is taken for an attack
};

// Builds and starts, in plaintext without `credentials`; the port that was bound goes into `address`. Errors
// as CheckCanBind (server/address.h).
absl::StatusOr<std::unique_ptr<grpc::Server>> StartGrpcServer(
    grpc::ServerBuilder& builder, std::shared_ptr<grpc::ServerCredentials> credentials,
    const Keepalive& keepalive, Address& address);

// `duration` from now, as gRPC counts time.
std::chrono::system_clock::time_point After(Duration duration);

}  // namespace yoio

#endif  // YOIO_SERVER_GRPC_SERVER_H_
