// What the gRPC servers of this process have in common.
#ifndef YOIO_SERVER_GRPC_SERVER_H_
#define YOIO_SERVER_GRPC_SERVER_H_

#include <atomic>
#include <chrono>
#include <memory>

#include "absl/status/statusor.h"
#include "base/clock.h"
#include "server/address.h"
#include "server/tls.h"

namespace grpc {
class Server;
class ServerBuilder;
}  // namespace grpc

namespace yoio {

// How a peer that vanished without a word is noticed.
struct Keepalive {
  std::chrono::milliseconds time;          // after this much silence it is asked
  std::chrono::milliseconds timeout;       // and has this long to answer
  std::chrono::milliseconds min_interval;  // it may ask this often itself; more is taken for an attack
};

// Whether a listener takes calls. gRPC breaks off as CANCELLED, which nobody tries again, what arrives while
// it shuts down; at a closed gate a call ends UNAVAILABLE before gRPC comes to that. What has passed the gate
// needs a moment to reach its handler, and shutting down within that moment breaks it off. Thread-safe.
class Gate {
 public:
  void Close() { closed_ = true; }
  bool closed() const { return closed_.load(std::memory_order_relaxed); }

 private:
  std::atomic<bool> closed_{false};
};

// Builds and starts. In plaintext where `tls` is null; never closed where `gate` is; both outlive the server.
// The port that was bound goes into `address`. Errors as CheckCanBind (server/address.h).
absl::StatusOr<std::unique_ptr<grpc::Server>> StartGrpcServer(grpc::ServerBuilder& builder, ServerTls* tls,
                                                              Gate* gate, const Keepalive& keepalive,
                                                              Address& address);

// `duration` from now, as gRPC counts time.
std::chrono::system_clock::time_point After(Duration duration);

}  // namespace yoio

#endif  // YOIO_SERVER_GRPC_SERVER_H_
