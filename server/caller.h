// Who calls, and what that caller may do.
#ifndef YOIO_SERVER_CALLER_H_
#define YOIO_SERVER_CALLER_H_

#include <string>

#include "absl/status/statusor.h"
#include "engine/request.h"
#include "engine/tenant.h"

namespace grpc {
class CallbackServerContext;
}

namespace yoio {

// Without authentication everybody is this one.
struct Caller {
  std::string tenant = "default";
  TenantLimits limits;
  Priority max_priority = Priority::kHigh;  // and that of requests without one, if it is below kNormal
};

// Thread-safe; never blocks. Outlives every call.
class Authenticator {
 public:
  virtual ~Authenticator() = default;
  // UNAUTHENTICATED when the call brings no credential or one that is not known. Says nothing of it.
  virtual absl::StatusOr<Caller> Authenticate(const grpc::CallbackServerContext& context) const = 0;
};

}  // namespace yoio

#endif  // YOIO_SERVER_CALLER_H_
