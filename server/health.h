// The gRPC health checking protocol (grpc.health.v1) for three names.
#ifndef YOIO_SERVER_HEALTH_H_
#define YOIO_SERVER_HEALTH_H_

#include <memory>

namespace grpc {
class Service;
}

namespace yoio {

// Answers Check and Watch: "" and "yoio.v1.InferenceService" are readiness, "liveness" is liveness; any other
// name is NOT_FOUND for Check and SERVICE_UNKNOWN for Watch. Thread-safe. Owned by HealthServer; outlives the
// gRPC server that serves it.
class HealthService {
 public:
  virtual ~HealthService() = default;

  // Not ready and alive to begin with. Everyone who watches is told of a change.
  virtual void SetReady(bool ready) = 0;
  virtual void SetAlive(bool alive) = 0;

  // Ends all Watch streams, and those that come later, with UNAVAILABLE. Call it before the gRPC server shuts
  // down, which would wait for them.
  virtual void Close() = 0;

  virtual grpc::Service& service() = 0;
};

std::unique_ptr<HealthService> MakeHealthService();

}  // namespace yoio

#endif  // YOIO_SERVER_HEALTH_H_
