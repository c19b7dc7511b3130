// The gRPC server reflection protocol, for callers who may call InferenceService. gRPC's own has no door that
// could be closed.
#ifndef YOIO_SERVER_REFLECTION_H_
#define YOIO_SERVER_REFLECTION_H_

#include <memory>

#include "server/call.h"

namespace grpc {
class Service;
}

namespace yoio {

// Describes InferenceService and itself, from the descriptors in this program. `core` outlives it.
std::unique_ptr<grpc::Service> MakeReflectionService(ServingCore& core);

}  // namespace yoio

#endif  // YOIO_SERVER_REFLECTION_H_
