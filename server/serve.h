// The life of the server process, from its settings to its exit code.
#ifndef YOIO_SERVER_SERVE_H_
#define YOIO_SERVER_SERVE_H_

#include <functional>
#include <memory>

#include "absl/status/statusor.h"
#include "engine/engine.h"
#include "engine/pipe.h"
#include "server/log.h"
#include "server/options.h"
#include "server/process.h"

namespace yoio {

using EngineFactory = std::function<absl::StatusOr<std::unique_ptr<Engine>>(const EngineOptions&)>;

using MemoryPlanner = std::function<absl::StatusOr<MemoryPlan>(const EngineOptions&)>;

// Loads the model, serves until SIGTERM or SIGINT, drains, and returns the exit code of the process. Once
// calls are taken it prints one line to standard output: "yoio-server ready listen=HOST:PORT health=HOST:PORT
// model=NAME" (with admin=HOST:PORT and metrics=HOST:PORT before the model when those listeners are on);
// before, the leader of several nodes prints "yoio-server waiting followers=HOST:PORT nnodes=N". A second
// signal ends the process from inside. CatchShutdownSignals() was called.
int Serve(const ParsedOptions& parsed, const EngineFactory& create_engine, Logger& log);

// The part of a follower that computes: RunFollower of engine/follower.h.
using FollowerRunner = std::function<absl::Status(const EngineOptions&, std::unique_ptr<Pipe>,
                                                  const std::function<void()>& on_ready)>;

// The same for a follower: joins the leader, computes until the leader has ended, and returns the exit code.
// Once its ranks are loaded it prints "yoio-server follower ready health=HOST:PORT node-rank=N
// leader=HOST:PORT". The first signal waits for the leader, who drains; a second one, or a failure of the
// engine, ends the process from inside.
int ServeFollower(const ParsedOptions& parsed, const FollowerRunner& run_follower, const Logger& log);

// Prints how memory would be used, and returns the exit code of the process.
int DryRun(const ServerOptions& options, const MemoryPlanner& plan_memory, const Logger& log);

}  // namespace yoio

#endif  // YOIO_SERVER_SERVE_H_
