#include "server/serve.h"

#include <cstdio>
#include <optional>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "server/admin.h"
#include "server/auth.h"
#include "server/drain.h"
#include "server/follower_server.h"
#include "server/memory_report.h"
#include "server/metrics/metrics_listener.h"
#include "server/metrics/server_metrics.h"
#include "server/server.h"
#include "server/shutdown_signal.h"
#include "server/tls.h"
#include "server/token.h"
#include "server/version.h"
#include "server/warm_up.h"

namespace yoio {
namespace {

constexpr Duration kFailedGrace = std::chrono::milliseconds(500);

// The listeners that are open while the engine loads; each may be null. They outlive the engine.
struct EarlyListeners {
  std::unique_ptr<HealthServer> health;
  std::unique_ptr<MetricsListener> metrics;
  std::unique_ptr<FollowerServer> followers;

  void SetReady(bool ready) const {
    if (health != nullptr) health->health().SetReady(ready);
  }
  void SetDead() const {
    if (health != nullptr) health->health().SetAlive(false);
    if (followers != nullptr) followers->Refuse(absl::UnavailableError("the leader's engine has failed"));
  }
};

// What was read to tell who may come in. Outlives the listeners.
struct Doorkeepers {
  std::unique_ptr<ServerTls> tls;            // null: plaintext
  std::unique_ptr<ServerTls> followers_tls;  // likewise
  std::unique_ptr<Reloaded<ApiKeys>> keys;   // null: no keys are needed
  std::string follower_token;
  std::string admin_token;
};

std::optional<int> OpenTls(const char* flag, const TlsFiles& files, const Logger& log,
                           std::unique_ptr<ServerTls>& tls) {
  if (files.empty()) return std::nullopt;
  auto opened = ServerTls::Open(flag, files, log);
  if (!opened.ok()) return FailToReadTls(flag, opened.status());
  tls = *std::move(opened);
  return std::nullopt;
}

std::optional<int> OpenToken(const char* flag, const std::string& path, std::string& token) {
  if (path.empty()) return std::nullopt;
  absl::StatusOr<std::string> read = ReadToken(path);
  if (!read.ok()) return FailToReadToken(flag, read.status());
  token = *std::move(read);
  return std::nullopt;
}

// The exit code when a flag of security cannot be enforced.
std::optional<int> OpenDoorkeepers(const ServerOptions& options, const Logger& log, Doorkeepers& keepers) {
  if (const auto code = OpenTls("--tls-cert", options.tls, log, keepers.tls)) return code;
  if (const auto code = OpenTls("--followers-tls-cert", options.followers_tls, log, keepers.followers_tls)) {
    return code;
  }
  if (!options.api_keys.empty()) {
    const auto load = [path = options.api_keys, defaults = options.engine.tenant_limits] {
      return ApiKeys::Read(path, defaults);
    };
    auto keys = Reloaded<ApiKeys>::Open("--api-keys", {options.api_keys}, load, log);
    if (!keys.ok()) return FailToReadKeys(keys.status());
    keepers.keys = *std::move(keys);
  }
  if (const auto code =
          OpenToken("--follower-token-file", options.follower_token_file, keepers.follower_token)) {
    return code;
  }
  return OpenToken("--admin-token-file", options.admin_token_file, keepers.admin_token);
}

// The listeners that are open while calls are taken.
struct Doors {
  std::unique_ptr<DataServer> data;
  std::unique_ptr<AdminServer> admin;  // null: off
};

// " admin=HOST:PORT"; empty for a listener that is off.
template <typename Listener>
std::string ListenerWord(const char* name, const std::unique_ptr<Listener>& listener) {
  return listener != nullptr ? absl::StrCat(" ", name, "=", listener->address().ToString()) : "";
}

void PrintReadyLine(const Doors& doors, const EarlyListeners& early, const ServedModel& model) {
  std::printf("yoio-server ready listen=%s health=%s%s%s model=%s\n",
              doors.data->address().ToString().c_str(),
              early.health != nullptr ? early.health->address().ToString().c_str() : "off",
              ListenerWord("admin", doors.admin).c_str(), ListenerWord("metrics", early.metrics).c_str(),
              model.names.front().c_str());
  std::fflush(stdout);
}

// Returns when a drain is asked for (true) or the engine has failed (false).
bool WaitForDrain(const Engine& engine, const DrainSwitch& drain_switch, const CallCounters& counters,
                  const Logger& log) {
  while (engine.health().ok()) {
    const bool signalled = PollShutdownSignal();
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
void DrainWatched(ServingCore& core, DataServer& data, const DrainTimes& times, bool asked_by_call) {
  bool first_to_come = asked_by_call;
  RunWatched([&] { Drain(core, data, times); },
             [&] {
               if (!std::exchange(first_to_come, false)) {
                 Leave(kExitKilled, LogLine(LogLevel::kError, "killed by a second signal"), core.log);
               }
             });
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
  if (const auto code = CheckListen("--metrics-listen", options.metrics_listen)) return code;
  if (const auto code = CheckListen("--admin-listen", options.admin_listen)) return code;
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
                ServerMetrics& metrics, Doorkeepers& keepers, Logger& log) {
  const ServerAuthenticator authenticator({.keys = keepers.keys.get(),
                                           .client_certificates = !options.tls.ca.empty(),
                                           .trust_tenant_header = options.trust_tenant_header,
                                           .limits = options.engine.tenant_limits});
  ServingCore core{.engine = engine,
                   .model = {.info = &engine.model(), .names = options.served_model_names},
                   .stall_timeout = options.engine.stall_timeout,
                   .log = log,
                   .authenticator = &authenticator,
                   .observers = {&metrics.calls()}};
  DrainSwitch drain_switch;
  const AdminCore admin_core{
      .serving = core, .log = log, .drain = [&](std::optional<Duration> t) { drain_switch.Ask(t); }};
  Doors doors;
  if (const auto code = OpenDoors(core, admin_core, options, keepers, doors)) return *code;
  listeners.SetReady(true);
  PrintReadyLine(doors, listeners, core.model);

  const bool drain = WaitForDrain(engine, drain_switch, core.counters, log);
  listeners.SetReady(false);
  if (!drain) LeaveFailed(engine, *doors.data, listeners, log);
  DrainWatched(
      core, *doors.data,
      {.delay = options.drain_delay, .timeout = drain_switch.timeout().value_or(options.drain_timeout)},
      drain_switch.asked());
  if (!engine.health().ok()) LeaveFailed(engine, *doors.data, listeners, log);
  LogCallCounts(core, log);
  return kExitDrained;
}

}  // namespace

int Serve(const ParsedOptions& parsed, const EngineFactory& create_engine, Logger& log) {
  const ServerOptions& options = parsed.options;
  if (const std::optional<int> code = CheckBeforeLoading(options)) return *code;
  Doorkeepers keepers;
  if (const std::optional<int> code = OpenDoorkeepers(options, log, keepers)) return *code;
  LogSettings(parsed, log);
  ServerMetrics metrics({.version = kVersion, .model = options.served_model_names.front()});
  EarlyListeners listeners;
  if (options.metrics_listen) {
    auto started = MetricsListener::Start(*options.metrics_listen, metrics);
    if (!started.ok()) return FailToListen("--metrics-listen", started.status());
    listeners.metrics = *std::move(started);
    WarnOfPlaintext(listeners.metrics->address(), "metrics-listen",
                    "anybody who reaches it reads the metrics", log);
  }
  if (options.health_listen) {
    auto started = HealthServer::Start(*options.health_listen);
    if (!started.ok()) return FailToListen("--health-listen", started.status());
    listeners.health = *std::move(started);
  }
  EngineOptions engine_options = WithStartUpLog(options.engine, log);
  engine_options.on_progress = [&metrics, logged = std::move(engine_options.on_progress)](
                                   std::string_view what, int64_t done, int64_t total) {
    metrics.NoteProgress(done, total);
    logged(what, done, total);
  };
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
        if (engine.ok()) warm = WarmUp(**engine);
      },
      [&] { Leave(kExitDrained, LogLine(LogLevel::kInfo, "stopped while loading"), log); });
  if (!engine.ok()) return FailToLoad(engine.status(), options.engine.nnodes);
  if (!warm.ok()) {
    Leave(kExitEngineFailed,
          std::move(LogLine(LogLevel::kError, "warm-up failed").With("message", std::string(warm.message()))),
          log);
  }
  metrics.SetEngine(engine->get());
  const int code = ServeEngine(**engine, options, listeners, metrics, keepers, log);
  metrics.SetEngine(nullptr);
  return code;
}

int DryRun(const ServerOptions& options, const MemoryPlanner& plan_memory, const Logger& log) {
  const absl::StatusOr<MemoryPlan> plan = plan_memory(WithStartUpLog(options.engine, log));
  if (!plan.ok()) return FailToLoad(plan.status(), options.engine.nnodes);
  std::fputs(FormatMemoryPlan(*plan).c_str(), stdout);
  return kExitDrained;
}

}  // namespace yoio
