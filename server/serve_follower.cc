// The life of a follower's process; see server/serve.h.
#include <atomic>
#include <cstdio>
#include <optional>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/failure_report.h"
#include "server/join_leader.h"
#include "server/serve.h"
#include "server/token.h"

namespace yoio {
namespace {

std::optional<int> CheckBeforeLoading(const ServerOptions& options) {
  if (const auto code = CheckModelDirectory(options.engine)) return code;
  return CheckListen("--health-listen", options.health_listen);
}

void PrintReadyLine(const HealthServer* health, const ServerOptions& options) {
  std::printf("yoio-server follower ready health=%s node-rank=%d leader=%s\n",
              health != nullptr ? health->address().ToString().c_str() : "off", options.engine.node_rank,
              options.leader_address->ToString().c_str());
  std::fflush(stdout);
}

// What the first signals do. Before the ranks are loaded nothing is lost by leaving at once; later the leader
// needs them for as long as it drains.
class SignalPolicy {
 public:
  explicit SignalPolicy(const Logger& log) : log_(log) {}

  void SetReady() { ready_ = true; }
  bool asked_to_leave() const { return asked_to_leave_; }

  void OnSignal() {
    if (!ready_) Leave(kExitDrained, LogLine(LogLevel::kInfo, "stopped while loading"), log_);
    if (asked_to_leave_) Leave(kExitKilled, LogLine(LogLevel::kError, "killed by a second signal"), log_);
    asked_to_leave_ = true;
    log_.Write(LogLine(LogLevel::kInfo, "leaving when the leader does"));
  }

 private:
  const Logger& log_;
  std::atomic<bool> ready_{false};
  std::atomic<bool> asked_to_leave_{false};
};

// The exit code for how RunFollower ended. When the engine has failed the ranks may be stuck, so that nothing
// can be torn down any more.
int LeaveAfter(const absl::Status& ended, const ServerOptions& options, const SignalPolicy& signals,
               const Logger& log) {
  if (ended.ok()) {
    log.Write(LogLine(LogLevel::kInfo, "the leader has drained"));
    return kExitDrained;
  }
  if (!absl::IsUnavailable(ended)) return FailToLoad(ended, options.engine.nnodes);
  Leave(signals.asked_to_leave() ? kExitDrained : kExitEngineFailed,
        std::move(LogLine(LogLevel::kError, "engine failed").With("message", std::string(ended.message()))),
        log);
}

int FailToJoin(const absl::Status& status, const ServerOptions& options) {
  const std::string what =
      absl::StrCat("cannot join the leader at ", options.leader_address->ToString(), ": ", status.message());
  if (absl::IsUnauthenticated(status)) {
    return Fail(kExitConfiguration, what, "All nodes need the same token in --follower-token-file.");
  }
  return Fail(kExitConfiguration, what,
              "Check that the leader runs and that --leader-address is its --followers-listen.");
}

}  // namespace

int ServeFollower(const ParsedOptions& parsed, const FollowerRunner& run_follower, const Logger& log) {
  const ServerOptions& options = parsed.options;
  if (const std::optional<int> code = CheckBeforeLoading(options)) return *code;
  absl::StatusOr<std::string> token = ReadToken(options.follower_token_file);
  if (!token.ok()) return FailToReadToken("--follower-token-file", token.status());
  std::optional<TlsMaterial> tls;
  if (!options.followers_tls.empty()) {
    absl::StatusOr<TlsMaterial> read = ReadTls(options.followers_tls);
    if (!read.ok()) return FailToReadTls("--followers-tls-cert", read.status());
    tls = *std::move(read);
  }
  LogSettings(parsed, log);
  std::unique_ptr<HealthServer> health;
  if (options.health_listen) {
    auto started = HealthServer::Start(*options.health_listen);
    if (!started.ok()) return FailToListen("--health-listen", started.status());
    health = *std::move(started);
  }
  EngineOptions engine_options = WithStartUpLog(options.engine, log);
  engine_options.group_host = options.leader_address->host;
  FailureReport failure_report(options.termination_log, log);
  engine_options.on_failing = [&](const absl::Status& failure, const auto& ranks) {
    failure_report.Write(failure, ranks);
  };
  SignalPolicy signals(log);
  const auto on_ready = [&] {
    signals.SetReady();
    failure_report.Arm(nullptr);
    if (health != nullptr) health->health().SetReady(true);
    PrintReadyLine(health.get(), options);
  };
  const JoinOptions join{.leader = *options.leader_address,
                         .token = *std::move(token),
                         .timeout = options.engine.load_timeout,
                         .tls = std::move(tls)};
  int code = kExitDrained;
  RunWatched(
      [&] {
        auto pipe = JoinLeader(join, log);
        code = pipe.ok() ? LeaveAfter(run_follower(engine_options, *std::move(pipe), on_ready), options,
                                      signals, log)
                         : FailToJoin(pipe.status(), options);
      },
      [&] { signals.OnSignal(); });
  return code;
}

}  // namespace yoio
