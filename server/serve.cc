#include "server/serve.h"

#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <filesystem>
#include <optional>
#include <string>
#include <system_error>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "server/memory_report.h"
#include "server/server.h"
#include "server/shutdown_signal.h"
#include "server/warm_up.h"

namespace yoio {
namespace {

// After the engine has drained, streams have only their last messages to send.
constexpr Duration kFinishGrace = std::chrono::seconds(5);
constexpr Duration kFailedGrace = std::chrono::seconds(1);
constexpr Duration kProgressInterval = std::chrono::seconds(1);

void LogSettings(const ParsedOptions& parsed, const Logger& log) {
  LogLine line(LogLevel::kInfo, "settings");
  for (const Setting& setting : parsed.settings) {
    line.With(setting.flag.substr(2), absl::StrCat(setting.value, " (", setting.origin, ")"));
  }
  log.Write(std::move(line));
}

// Two lines: what happened, what to do.
int Fail(int code, const std::string& what, const std::string& what_to_do) {
  std::fprintf(stderr, "yoio-server: %s\n%s\n", what.c_str(), what_to_do.c_str());
  return code;
}

int FailToListen(const std::string& flag, const absl::Status& status) {
  return Fail(kExitConfiguration, absl::StrCat(flag, " ", status.message()),
              absl::StrCat("Give ", flag, " another address; port 0 takes any that is free."));
}

// Whether the engine could not have its device, so that no other model or setting would help.
bool IsDeviceRefusal(const absl::Status& status) {
  return absl::IsUnimplemented(status) || absl::IsUnavailable(status) || absl::IsFailedPrecondition(status);
}

int FailToLoad(const absl::Status& status) {
  if (IsDeviceRefusal(status)) {
    return Fail(kExitConfiguration, absl::StrCat("cannot use the GPU: ", status.message()),
                "Give --device cpu to serve without it; --device auto takes whatever can be used.");
  }
  const bool memory = absl::IsResourceExhausted(status);
  return Fail(
      kExitConfiguration, absl::StrCat("cannot load the model: ", status.message()),
      memory ? "Lower --kv-cache-bytes, --max-model-len or --max-sequences; --dry-run prints the plan."
             : "Check --model and the file or flag named above; yoio-server --help lists every setting.");
}

// Passes start-up progress on to the log, at most once a second.
std::function<void(std::string_view, int64_t, int64_t)> ProgressLogger(const Logger& log) {
  return [&log, last = TimePoint::min()](std::string_view what, int64_t done, int64_t total) mutable {
    const TimePoint now = Clock::now();
    if (done < total && last != TimePoint::min() && now - last < kProgressInterval) return;
    last = now;
    log.Write(std::move(
        LogLine(LogLevel::kInfo, "loading").With("what", what).With("done", done).With("total", total)));
  };
}

// One line that names the reason why a GPU is not used.
std::function<void(const absl::Status&)> FallbackLogger(const Logger& log) {
  return [&log](const absl::Status& reason) {
    log.Write(
        std::move(LogLine(LogLevel::kWarning, "device")
                      .With("device", "cpu")
                      .With("message", absl::StrCat("--device auto serves on the CPU: ", reason.message()))));
  };
}

void PrintReadyLine(const DataServer& data, const HealthServer* health, const ServedModel& model) {
  std::printf("yoio-server ready listen=%s health=%s model=%s\n", data.address().ToString().c_str(),
              health != nullptr ? health->address().ToString().c_str() : "off", model.names.front().c_str());
  std::fflush(stdout);
}

// Ends at once: another thread may be busy or stuck, so nothing is torn down.
[[noreturn]] void Leave(int code, LogLine&& line, const Logger& log) {
  log.Write(std::move(line));
  _exit(code);
}

// Runs `work` on a thread of its own; the first signal meanwhile calls `on_signal`, which does not return.
void RunWatched(const std::function<void()>& work, const std::function<void()>& on_signal) {
  std::atomic<bool> done{false};
  std::thread worker([&] {
    work();
    done = true;
  });
  while (!done) {
    if (PollShutdownSignal()) on_signal();
  }
  worker.join();
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
[[noreturn]] void LeaveFailed(const Engine& engine, DataServer& data, HealthServer* health,
                              const Logger& log) {
  if (health != nullptr) health->health().SetAlive(false);
  LogLine line(LogLevel::kError, "engine failed");
  line.With("message", std::string(engine.health().message()));
  data.Shutdown(kFailedGrace);
  Leave(kExitEngineFailed, std::move(line), log);
}

// Mistakes that need no loading to be found are told before minutes of it, not after.
std::optional<int> CheckBeforeLoading(const ServerOptions& options) {
  std::error_code ignored;
  if (!std::filesystem::is_directory(options.engine.model_dir, ignored)) {
    return Fail(kExitConfiguration, absl::StrCat("--model ", options.engine.model_dir, ": no such directory"),
                "Give --model a directory that holds config.json, *.safetensors and tokenizer.json.");
  }
  if (const absl::Status status = CheckCanBind(options.listen); !status.ok()) {
    return FailToListen("--listen", status);
  }
  if (!options.health_listen) return std::nullopt;
  if (const absl::Status status = CheckCanBind(*options.health_listen); !status.ok()) {
    return FailToListen("--health-listen", status);
  }
  return std::nullopt;
}

// Serves with a loaded engine that is warm, to the end.
int ServeEngine(Engine& engine, const ServerOptions& options, HealthServer* health, const Logger& log) {
  ServingCore core{.engine = engine,
                   .model = {.info = &engine.model(), .names = options.served_model_names},
                   .stall_timeout = options.engine.stall_timeout,
                   .log = log};
  auto data = DataServer::Start(core, {.listen = options.listen,
                                       .reflection = options.reflection,
                                       .max_request_bytes = options.engine.max_request_bytes});
  if (!data.ok()) return FailToListen("--listen", data.status());
  if (!options.listen.IsLoopback()) {
    log.Write(std::move(LogLine(LogLevel::kWarning, "plaintext")
                            .With("listen", (*data)->address().ToString())
                            .With("message", "nothing is encrypted and anybody who reaches it is served")));
  }
  if (health != nullptr) health->health().SetReady(true);
  PrintReadyLine(**data, health, core.model);

  const bool drain = WaitForSignal(engine, log);
  if (health != nullptr) health->health().SetReady(false);
  if (!drain) LeaveFailed(engine, **data, health, log);
  Drain(engine, **data, options.drain_timeout, log);
  if (!engine.health().ok()) LeaveFailed(engine, **data, health, log);
  log.Write(std::move(LogLine(LogLevel::kInfo, "drained")
                          .With("ok", core.counters.ok.load())
                          .With("failed", core.counters.failed.load())));
  return kExitDrained;
}

}  // namespace

int Serve(const ParsedOptions& parsed, const EngineFactory& create_engine, const Logger& log) {
  const ServerOptions& options = parsed.options;
  if (const std::optional<int> code = CheckBeforeLoading(options)) return *code;
  LogSettings(parsed, log);
  std::unique_ptr<HealthServer> health;
  if (options.health_listen) {
    auto started = HealthServer::Start(*options.health_listen);
    if (!started.ok()) return FailToListen("--health-listen", started.status());
    health = *std::move(started);
  }
  EngineOptions engine_options = options.engine;
  engine_options.on_progress = ProgressLogger(log);
  engine_options.on_fallback = FallbackLogger(log);
  absl::StatusOr<std::unique_ptr<Engine>> engine;
  absl::Status warm;
  RunWatched(
      [&] {
        engine = create_engine(engine_options);
        if (engine.ok()) warm = WarmUp(**engine);
      },
      [&] { Leave(kExitDrained, LogLine(LogLevel::kInfo, "stopped while loading"), log); });
  if (!engine.ok()) return FailToLoad(engine.status());
  if (!warm.ok()) {
    return Fail(kExitEngineFailed, absl::StrCat("the warm-up request failed: ", warm.message()),
                "The model or the hardware does not work as it should; see the log above.");
  }
  return ServeEngine(**engine, options, health.get(), log);
}

int DryRun(const ServerOptions& options, const MemoryPlanner& plan_memory, const Logger& log) {
  EngineOptions engine_options = options.engine;
  engine_options.on_fallback = FallbackLogger(log);
  const absl::StatusOr<MemoryPlan> plan = plan_memory(engine_options);
  if (!plan.ok()) return FailToLoad(plan.status());
  std::fputs(FormatMemoryPlan(*plan).c_str(), stdout);
  return kExitDrained;
}

}  // namespace yoio
