// One request from the server to itself.
#ifndef YOIO_SERVER_WARM_UP_H_
#define YOIO_SERVER_WARM_UP_H_

#include "absl/status/status.h"
#include "engine/engine.h"

namespace yoio {

// Generates two tokens and waits for them, so that readiness means that tokens can be had, and that the first
// caller does not pay for what happens once. Returns how that request ended.
absl::Status WarmUp(Engine& engine);

}  // namespace yoio

#endif  // YOIO_SERVER_WARM_UP_H_
