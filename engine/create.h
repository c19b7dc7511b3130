// Engines and followers on devices that the caller has made.
#ifndef YOIO_ENGINE_CREATE_H_
#define YOIO_ENGINE_CREATE_H_

#include <functional>
#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/devices.h"
#include "engine/engine.h"
#include "engine/pipe.h"

namespace yoio {

// As Engine::Create, whatever `options.device` says.
absl::StatusOr<std::unique_ptr<Engine>> CreateEngine(const EngineOptions& options, Devices devices);

// As RunFollower of engine/follower.h.
absl::Status RunFollower(const EngineOptions& options, Devices devices, std::unique_ptr<Pipe> pipe,
                         const std::function<void()>& on_ready);

}  // namespace yoio

#endif  // YOIO_ENGINE_CREATE_H_
