// InferenceService: hands each call to its reactor.
#ifndef YOIO_SERVER_INFERENCE_SERVICE_H_
#define YOIO_SERVER_INFERENCE_SERVICE_H_

#include <memory>

#include "server/call.h"

namespace grpc {
class Service;
}

namespace yoio {

// A yoio.v1.InferenceService over `core`, which outlives it. Stateless; its methods run on gRPC's threads and
// never block.
std::unique_ptr<grpc::Service> MakeInferenceService(ServingCore& core);

}  // namespace yoio

#endif  // YOIO_SERVER_INFERENCE_SERVICE_H_
