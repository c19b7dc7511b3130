// What gRPC itself can do: a service that writes one message again and again.
#ifndef YOIO_BENCH_BARE_SERVICE_H_
#define YOIO_BENCH_BARE_SERVICE_H_

#include <memory>

#include "yoio/v1/event.pb.h"

namespace grpc {
class Service;
}

namespace yoio::bench {

// Generate writes `message` max_tokens times, each as soon as gRPC has taken the one before, and ends well.
// Every other method is unimplemented.
std::unique_ptr<grpc::Service> MakeBareService(v1::GenerateResponse message);

}  // namespace yoio::bench

#endif  // YOIO_BENCH_BARE_SERVICE_H_
