#include "server/serve.h"

#include <atomic>
#include <cstdio>
#include <optional>
#include <string>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "server/admin/admin_server.h"
#include "server/auth.h"
#include "server/doorkeepers.h"
#include "server/drain.h"
#include "server/follower_server.h"
#include "server/memory_report.h"
#include "server/server.h"
#include "server/shutdown_signal.h"
#include "server/warm_up.h"
#include "server/watchers.h"

namespace yoio {
namespace {

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

// The listeners that are open while calls are taken.
struct Doors {
  std::unique_ptr<DataServer> data;
  std::unique_ptr<AdminServer> admin;  // null: off
};

// " admin=HOST:PORT"; empty for a listener that is off.
template <typename Listener>
std::string ListenerWord(const char* name, const Listener* listener) {
  return listener != nullptr ? absl::StrCat(" ", name, "=", listener->address().ToString()) : "";
}

void PrintReadyLine(const Doors& doors, const HealthServer* health, const MetricsListener* metrics,
                    const ServedModel& model) {
  std::printf("yoio-server ready listen=%s health=%s%s%s model=%s\n",
              doors.data->address().ToString().c_str(),
              health != nullptr ? health->address().ToString().c_str() : "off",
              ListenerWord("admin", doors.admin.get()).c_str(), ListenerWord("metrics", metrics).c_str(),
              model.names.front().c_str());
  std::fflush(stdout);
}

// Returns when a drain is asked for (true) or the engine has failed (false).
bool WaitForDrain(const Engine& engine, const Watchers& watchers, const DrainSwitch& drain_switch,
                  const CallCounters& counters, const Logger& log) {
  while (engine.health().ok()) {
    const bool signalled = PollShutdownSignal();
    watchers.DumpIfAsked();
    if (!signalled && !drain_switch.asked()) continue;
    log.Write(std::move(LogLine(LogLevel::kInfo, "draining")
                            .With("asked_by", signalled ? "signal" : "Drain")
                            .With("live_requests", counters.live.load())));
    return true;
  }
  return false;
}

// Finishes what runs. A second signal meanwhile ends the process: the first is that which began the drain, or
// follows a Drain, as where both are part of stopping a process.
void DrainWatched(ServingCore& core, DataServer& data, const DrainTimes& times, bool asked_by_call,
                  const Watchers& watchers) {
  bool first_to_come = asked_by_call;
  RunWatched([&] { Drain(core, data, times); },
             [&] {
               if (!std::exchange(first_to_come, false)) {
                 Leave(kExitKilled, LogLine(LogLevel::kError, "killed by a second signal"), core.log);
               }
             },
             [&] { watchers.DumpIfAsked(); });
}

// The engine is dead: says so to those who ask, writes down what is known, and leaves without waiting for
// anything longer than a second.
[[noreturn]] void LeaveFailed(const Engine& engine, DataServer& data, const EarlyListeners& listeners,
                              const Watchers& watchers, const Logger& log) {
  listeners.SetDead();
  LogLine line(LogLevel::kError, "engine failed");
  line.With("message", std::string(engine.health().message()));
  std::thread recording([&watchers] { watchers.RecordFailure(); });
  data.Shutdown(kFailedGrace);
  recording.join();
  Leave(kExitEngineFailed, std::move(line), log);
}

std::optional<int> CheckBeforeLoading(const ServerOptions& options) {
  if (const auto code = CheckModelDirectory(options.engine)) return code;
  if (const auto code = CheckListen("--listen", options.listen)) return code;
  if (const auto code = CheckListen("--health-listen", options.health_listen)) return code;
  if (const auto code = CheckListen("--metrics-listen", options.metrics_listen)) return code;
  if (const auto code = CheckListen("--admin-listen", options.admin_listen)) return code;
  return CheckListen("--followers-listen", options.followers_listen);
}

// Where followers come in, and the line that tells them where that is.
absl::StatusOr<std::unique_ptr<FollowerServer>> OpenToFollowers(const ServerOptions& options,
                                                                Doorkeepers& keepers, const Logger& log) {
  YOIO_ASSIGN_OR_RETURN(auto followers,
                        FollowerServer::Start(*options.followers_listen, keepers.follower_token, log,
                                              keepers.followers_tls.get()));
  WarnOfPlaintext(followers->address(), "followers-listen",
                  keepers.followers_tls == nullptr ? "nothing is encrypted, the token included"
                                                   : "what ranks of several nodes compute is not encrypted",
                  log);
  std::printf("yoio-server waiting followers=%s nnodes=%d\n", followers->address().ToString().c_str(),
              options.engine.nnodes);
  std::fflush(stdout);
  return followers;
}

// The exit code when one of them cannot be opened.
std::optional<int> OpenDoors(ServingCore& core, const AdminCore& admin_core, const ServerOptions& options,
                             Doorkeepers& keepers, Doors& doors) {
  auto data = DataServer::Start(core, {.listen = options.listen,
                                       .reflection = options.reflection,
                                       .max_request_bytes = options.engine.max_request_bytes,
                                       .tls = keepers.tls.get(),
                                       .max_connection_age = options.max_connection_age});
  if (!data.ok()) return FailToListen("--listen", data.status());
  doors.data = *std::move(data);
  if (keepers.tls == nullptr) {
    WarnOfPlaintext(doors.data->address(), "listen",
                    keepers.keys == nullptr ? "nothing is encrypted and anybody who reaches it is served"
                                            : "nothing is encrypted, keys included",
                    core.log);
  }
  if (!options.admin_listen) return std::nullopt;
  auto admin = AdminServer::Start(
      admin_core, {.listen = *options.admin_listen, .token = keepers.admin_token, .tls = keepers.tls.get()});
  if (!admin.ok()) return FailToListen("--admin-listen", admin.status());
  doors.admin = *std::move(admin);
  if (keepers.tls == nullptr) {
    WarnOfPlaintext(doors.admin->address(), "admin-listen", "nothing is encrypted, the token included",
                    core.log);
  }
  return std::nullopt;
}

// Serves with a loaded engine that is warm, to the end.
int ServeEngine(Engine& engine, const ServerOptions& options, const EarlyListeners& listeners,
                Doorkeepers& keepers, Watchers& watchers, Logger& log) {
  const ServerAuthenticator authenticator({.keys = keepers.keys.get(),
                                           .client_certificates = !options.tls.ca.empty(),
                                           .trust_tenant_header = options.trust_tenant_header,
                                           .limits = options.engine.tenant_limits});
  ServingCore core{.engine = engine,
                   .model = {.info = &engine.model(), .names = options.served_model_names},
                   .stall_timeout = options.engine.stall_timeout,
                   .log = log,
                   .authenticator = &authenticator,
                   .place = PlaceOf(ProcessEnvironment())};
  watchers.Warm(engine, core.model);
  watchers.Watch(core);
  DrainSwitch drain_switch;
  std::atomic<bool> draining{false};
  const AdminCore admin_core{.serving = core,
                             .log = log,
                             .drain = [&](std::optional<Duration> t) { drain_switch.Ask(t); },
                             .draining = [&] { return draining.load(); }};
  Doors doors;
  if (const auto code = OpenDoors(core, admin_core, options, keepers, doors)) return *code;
  listeners.SetReady(true);
  PrintReadyLine(doors, listeners.health.get(), watchers.metrics(), core.model);

  const bool drain = WaitForDrain(engine, watchers, drain_switch, core.counters, log);
  draining = drain;
  listeners.SetReady(false);
  if (!drain) LeaveFailed(engine, *doors.data, listeners, watchers, log);
  DrainWatched(
      core, *doors.data,
      {.delay = options.drain_delay, .timeout = drain_switch.timeout().value_or(options.drain_timeout)},
      drain_switch.asked(), watchers);
  if (!engine.health().ok()) LeaveFailed(engine, *doors.data, listeners, watchers, log);
  LogCallCounts(core, log);
  watchers.Finish();
  return kExitDrained;
}

}  // namespace

int Serve(const ParsedOptions& parsed, const EngineFactory& create_engine, Logger& log) {
  const ServerOptions& options = parsed.options;
  if (const std::optional<int> code = CheckBeforeLoading(options)) return *code;
  Doorkeepers keepers;
  if (const std::optional<int> code = OpenDoorkeepers(options, log, keepers)) return *code;
  std::unique_ptr<Watchers> watchers;
  if (const std::optional<int> code = Watchers::Open(options, log, watchers)) return *code;
  LogSettings(parsed, log);
  EarlyListeners listeners;
  if (options.health_listen) {
    auto started = HealthServer::Start(*options.health_listen);
    if (!started.ok()) return FailToListen("--health-listen", started.status());
    listeners.health = *std::move(started);
  }
  EngineOptions engine_options = WithStartUpLog(options.engine, log);
  watchers->Hook(engine_options);
  if (options.followers_listen) {
    auto started = OpenToFollowers(options, keepers, log);
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
        if (!engine.ok()) return;
        watchers->Created(**engine);
        warm = WarmUp(**engine);
      },
      [&] { Leave(kExitDrained, LogLine(LogLevel::kInfo, "stopped while loading"), log); });
  if (!engine.ok()) return FailToLoad(engine.status(), options.engine.nnodes);
  if (!warm.ok()) {
    Leave(kExitEngineFailed,
          std::move(LogLine(LogLevel::kError, "warm-up failed").With("message", std::string(warm.message()))),
          log);
  }
  const int code = ServeEngine(**engine, options, listeners, keepers, *watchers, log);
  watchers->Forget();
  return code;
}

int DryRun(const ServerOptions& options, const MemoryPlanner& plan_memory, const Logger& log) {
  const absl::StatusOr<MemoryPlan> plan = plan_memory(WithStartUpLog(options.engine, log));
  if (!plan.ok()) return FailToLoad(plan.status(), options.engine.nnodes);
  std::fputs(FormatMemoryPlan(*plan).c_str(), stdout);
  return kExitDrained;
}

}  // namespace yoio
