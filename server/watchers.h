// All that looks at what a server does: metrics, traces, and what is left behind when an engine dies.
#ifndef YOIO_SERVER_WATCHERS_H_
#define YOIO_SERVER_WATCHERS_H_

#include <memory>
#include <optional>

#include "base/clock.h"
#include "engine/engine.h"
#include "server/call.h"
#include "server/failure_report.h"
#include "server/log.h"
#include "server/metrics/metrics_listener.h"
#include "server/metrics/server_metrics.h"
#include "server/options.h"
#include "server/profile_file.h"
#include "server/trace/telemetry.h"

namespace yoio {

// Made before the engine and destroyed after it; in between, Forget ends what touches it. Main's thread,
// which alone calls it unless it says otherwise.
class Watchers {
 public:
  // The exit code when a setting of theirs cannot be used. `options` and `log` outlive them.
  static std::optional<int> Open(const ServerOptions& options, const Logger& log,
                                 std::unique_ptr<Watchers>& watchers);

  // Before the engine is created with `options`: its progress and its failure are seen.
  void Hook(EngineOptions& options);
  // It is created. Thread-safe.
  void Created(Engine& engine);
  // It has answered its first request; everything about it can be asked for from now on.
  void Warm(Engine& engine, const ServedModel& model);
  // The calls of `core`, which has not taken any yet.
  void Watch(ServingCore& core);
  // The engine goes away next.
  void Forget();

  // Null: off.
  const MetricsListener* metrics() const { return listener_.get(); }

  // Writes down what the engine did lately, when SIGUSR1 has come.
  void DumpIfAsked() const;
  // The engine has failed: writes down all that is known. Takes a second at most, whatever hangs. Any thread.
  void RecordFailure() const;
  // Once no call is left: the last spans leave.
  void Finish();

 private:
  Watchers(const ServerOptions& options, const Logger& log, std::unique_ptr<Telemetry> telemetry);

  const ServerOptions& options_;
  const Logger& log_;
  const TimePoint begin_ = Clock::now();
  TimePoint created_{};
  mutable FailureReport failure_report_;
  std::unique_ptr<Telemetry> telemetry_;  // null once the engine is forgotten
  ServerMetrics metrics_;
  std::unique_ptr<MetricsListener> listener_;
  const Engine* engine_ = nullptr;
  std::unique_ptr<ProfileFile> profile_;
};

}  // namespace yoio

#endif  // YOIO_SERVER_WATCHERS_H_
