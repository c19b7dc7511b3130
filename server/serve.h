// The life of the server process, from its settings to its exit code.
#ifndef YOIO_SERVER_SERVE_H_
#define YOIO_SERVER_SERVE_H_

#include <functional>
#include <memory>

#include "absl/status/statusor.h"
#include "engine/engine.h"
#include "server/log.h"
#include "server/options.h"

namespace yoio {

enum ExitCode { kExitDrained = 0, kExitConfiguration = 1, kExitEngineFailed = 2, kExitKilled = 3 };

using EngineFactory = std::function<absl::StatusOr<std::unique_ptr<Engine>>(const EngineOptions&)>;

using MemoryPlanner = std::function<absl::StatusOr<MemoryPlan>(const EngineOptions&)>;

// Loads the model, serves until SIGTERM or SIGINT, drains, and returns the exit code of the process. Once
// calls are taken it prints one line to standard output: "yoio-server ready listen=HOST:PORT health=HOST:PORT
// model=NAME". A second signal ends the process from inside. BlockShutdownSignals() was called.
int Serve(const ParsedOptions& parsed, const EngineFactory& create_engine, const Logger& log);

// Prints how memory would be used, and returns the exit code of the process.
int DryRun(const ServerOptions& options, const MemoryPlanner& plan_memory, const Logger& log);

}  // namespace yoio

#endif  // YOIO_SERVER_SERVE_H_
