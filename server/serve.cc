#include "server/serve.h"

#include <cstdio>
#include <optional>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "server/follower_server.h"
#include "server/follower_token.h"
#include "server/memory_report.h"
#include "server/server.h"
#include "server/shutdown_signal.h"
#include "server/warm_up.h"

namespace yoio {
namespace {

// After the engine has drained, streams have only their last messages to send.
constexpr Duration kFinishGrace = std::chrono::seconds(5);
constexpr Duration kFailedGrace = std::chrono::milliseconds(500);

// The listeners that are open while the engine loads; either may be null. They outlive the engine.
struct EarlyListeners {
  std::unique_ptr<HealthServer> health;
  std::unique_ptr<FollowerServer> followers;

  void SetReady(bool ready) const {
    if (health != nullptr) health->health().SetReady(ready);
  }
  void SetDead() const {
    if (health != nullptr) health->health().SetAlive(false);
    if (followers != nullptr) followers->Refuse(absl::UnavailableError("the leader's engine has failed"));
  }
};

void PrintReadyLine(const DataServer& data, const HealthServer* health, const ServedModel& model) {
  std::printf("yoio-server ready listen=%s health=%s model=%s\n", data.address().ToString().c_str(),
              health != nullptr ? health->address().ToString().c_str() : "off", model.names.front().c_str());
  std::fflush(stdout);
}

// Returns when a signal asks for a drain (true) or the engine has failed (false).
bool WaitForSignal(const Engine& engine, const Logger& log) {
  while (engine.health().ok()) {
    if (!PollShutdownSignal()) continue;
    log.Write(LogLine(LogLevel::kInfo, "draining"));
    return true;
  }
  return false;
}

// Finishes what runs. A second signal meanwhile ends the process.
void Drain(Engine& engine, DataServer& data, Duration timeout, const Logger& log) {
  const auto drain = [&] {
    const absl::Status status = engine.Drain(Clock::now() + timeout);
    if (!status.ok()) {
      log.Write(std::move(LogLine(LogLevel::kWarning, "drain ended requests")
                              .With("message", std::string(status.message()))));
    }
    data.Shutdown(kFinishGrace);
  };
  RunWatched(drain, [&] { Leave(kExitKilled, LogLine(LogLevel::kError, "killed by a second signal"), log); });
}

// The engine is dead: says so to those who ask, and leaves without touching it again.
[[noreturn]] void LeaveFailed(const Engine& engine, DataServer& data, const EarlyListeners& listeners,
                              const Logger& log) {
  listeners.SetDead();
  LogLine line(LogLevel::kError, "engine failed");
  line.With("message", std::string(engine.health().message()));
  data.Shutdown(kFailedGrace);
  Leave(kExitEngineFailed, std::move(line), log);
}

std::optional<int> CheckBeforeLoading(const ServerOptions& options) {
  if (const auto code = CheckModelDirectory(options.engine)) return code;
  if (const auto code = CheckListen("--listen", options.listen)) return code;
  if (const auto code = CheckListen("--health-listen", options.health_listen)) return code;
  return CheckListen("--followers-listen", options.followers_listen);
}

void WarnOfPlaintext(const Address& address, const std::string& listener, const std::string& message,
                     const Logger& log) {
  if (address.IsLoopback()) return;
  log.Write(std::move(
      LogLine(LogLevel::kWarning, "plaintext").With(listener, address.ToString()).With("message", message)));
}

// Where followers come in, and the line that tells them where that is.
absl::StatusOr<std::unique_ptr<FollowerServer>> OpenToFollowers(const ServerOptions& options,
                                                                std::string token, const Logger& log) {
  YOIO_ASSIGN_OR_RETURN(auto followers,
                        FollowerServer::Start(*options.followers_listen, std::move(token), log));
  WarnOfPlaintext(followers->address(), "followers-listen", "nothing is encrypted, the token included", log);
  std::printf("yoio-server waiting followers=%s nnodes=%d\n", followers->address().ToString().c_str(),
              options.engine.nnodes);
  std::fflush(stdout);
  return followers;
}

// Serves with a loaded engine that is warm, to the end.
int ServeEngine(Engine& engine, const ServerOptions& options, const EarlyListeners& listeners,
                const Logger& log) {
  ServingCore core{.engine = engine,
                   .model = {.info = &engine.model(), .names = options.served_model_names},
                   .stall_timeout = options.engine.stall_timeout,
                   .log = log};
  auto data = DataServer::Start(core, {.listen = options.listen,
                                       .reflection = options.reflection,
                                       .max_request_bytes = options.engine.max_request_bytes});
  if (!data.ok()) return FailToListen("--listen", data.status());
  WarnOfPlaintext((*data)->address(), "listen", "nothing is encrypted and anybody who reaches it is served",
                  log);
  listeners.SetReady(true);
  PrintReadyLine(**data, listeners.health.get(), core.model);

  const bool drain = WaitForSignal(engine, log);
  listeners.SetReady(false);
  if (!drain) LeaveFailed(engine, **data, listeners, log);
  Drain(engine, **data, options.drain_timeout, log);
  if (!engine.health().ok()) LeaveFailed(engine, **data, listeners, log);
  log.Write(std::move(LogLine(LogLevel::kInfo, "drained")
                          .With("ok", core.counters.ok.load())
                          .With("failed", core.counters.failed.load())));
  return kExitDrained;
}

}  // namespace

int Serve(const ParsedOptions& parsed, const EngineFactory& create_engine, const Logger& log) {
  const ServerOptions& options = parsed.options;
  if (const std::optional<int> code = CheckBeforeLoading(options)) return *code;
  std::string token;
  if (options.followers_listen) {
    auto read = ReadFollowerToken(options.follower_token_file);
    if (!read.ok()) return FailToReadToken(read.status());
    token = *std::move(read);
  }
  LogSettings(parsed, log);
  EarlyListeners listeners;
  if (options.health_listen) {
    auto started = HealthServer::Start(*options.health_listen);
    if (!started.ok()) return FailToListen("--health-listen", started.status());
    listeners.health = *std::move(started);
  }
  EngineOptions engine_options = WithStartUpLog(options.engine, log);
  if (options.followers_listen) {
    auto started = OpenToFollowers(options, std::move(token), log);
    if (!started.ok()) return FailToListen("--followers-listen", started.status());
    listeners.followers = *std::move(started);
    engine_options.doorway = listeners.followers.get();
    engine_options.group_host = options.followers_listen->host;
    engine_options.on_refusal = [&log](const absl::Status& reason) {
      log.Write(std::move(LogLine(LogLevel::kWarning, "follower turned away")
                              .With("message", std::string(reason.message()))));
    };
  }
  absl::StatusOr<std::unique_ptr<Engine>> engine;
  absl::Status warm;
  RunWatched(
      [&] {
        engine = create_engine(engine_options);
        if (engine.ok()) warm = WarmUp(**engine);
      },
      [&] { Leave(kExitDrained, LogLine(LogLevel::kInfo, "stopped while loading"), log); });
  if (!engine.ok()) return FailToLoad(engine.status(), options.engine.nnodes);
  if (!warm.ok()) {
    Leave(kExitEngineFailed,
          std::move(LogLine(LogLevel::kError, "warm-up failed").With("message", std::string(warm.message()))),
          log);
  }
  return ServeEngine(**engine, options, listeners, log);
}

int DryRun(const ServerOptions& options, const MemoryPlanner& plan_memory, const Logger& log) {
  const absl::StatusOr<MemoryPlan> plan = plan_memory(WithStartUpLog(options.engine, log));
  if (!plan.ok()) return FailToLoad(plan.status(), options.engine.nnodes);
  std::fputs(FormatMemoryPlan(*plan).c_str(), stdout);
  return kExitDrained;
}

}  // namespace yoio
