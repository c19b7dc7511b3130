// A process that holds some ranks of an engine whose doors are another's.
#ifndef YOIO_ENGINE_FOLLOWER_H_
#define YOIO_ENGINE_FOLLOWER_H_

#include <functional>
#include <memory>

#include "absl/status/status.h"
#include "engine/engine.h"
#include "engine/pipe.h"

namespace yoio {

// Joins the group of the leader behind `pipe`, loads this process's ranks and computes the steps that it is
// told to. Of `options`, model, device, nodes, threads and what start-up tells are this process's own; the
// rest comes from the leader. `on_ready` is called once when all ranks of this process are loaded.
//
// Blocks. OK when the leader has ended in good order; else why it ended, with the pipe broken by that status:
// INVALID_ARGUMENT or FAILED_PRECONDITION when the leader refuses this process, as does CreateEngine's for
// what this process cannot load; UNAVAILABLE when the leader, another follower or a device has failed: the
// process is then good for nothing but to exit, because its ranks may be stuck.
absl::Status RunFollower(const EngineOptions& options, std::unique_ptr<Pipe> pipe,
                         const std::function<void()>& on_ready);

}  // namespace yoio

#endif  // YOIO_ENGINE_FOLLOWER_H_
