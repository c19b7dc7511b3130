#include "server/watchers.h"

#include <memory>
#include <string_view>
#include <thread>
#include <utility>

#include "base/bounded_queue.h"
#include "server/flight_dump.h"
#include "server/process.h"
#include "server/shutdown_signal.h"
#include "server/version.h"

namespace yoio {
namespace {

// What the collector gets to take the last spans, after a drain and after a failure.
constexpr Duration kPatience = std::chrono::seconds(2);
constexpr Duration kFailedPatience = std::chrono::milliseconds(500);
constexpr Duration kFailedTime = std::chrono::seconds(1);

}  // namespace

Watchers::Watchers(const ServerOptions& options, const Logger& log, std::unique_ptr<Telemetry> telemetry)
    : options_(options),
      log_(log),
      failure_report_(options.termination_log, log),
      telemetry_(std::move(telemetry)),
      metrics_({.version = kVersion,
                .model = options.served_model_names.front(),
                .spans = [this] { return telemetry_->span_counts(); },
                .log = &log}) {}

std::optional<int> Watchers::Open(const ServerOptions& options, const Logger& log,
                                  std::unique_ptr<Watchers>& watchers) {
  auto telemetry = Telemetry::Start(
      {.trace = options.trace, .slow = options.trace_slow, .steps = options.trace_steps}, log);
  if (!telemetry.ok()) return FailToTrace(telemetry.status());
  watchers.reset(new Watchers(options, log, *std::move(telemetry)));
  if (!options.metrics_listen) return std::nullopt;
  auto listener = MetricsListener::Start(*options.metrics_listen, watchers->metrics_);
  if (!listener.ok()) return FailToListen("--metrics-listen", listener.status());
  watchers->listener_ = *std::move(listener);
  WarnOfPlaintext(watchers->listener_->address(), "metrics-listen",
                  "anybody who reaches it reads the metrics", log);
  return std::nullopt;
}

void Watchers::Hook(EngineOptions& options) {
  options.on_progress = [this, logged = std::move(options.on_progress)](std::string_view what, int64_t done,
                                                                        int64_t total) {
    metrics_.NoteProgress(done, total);
    if (logged) logged(what, done, total);
  };
  options.on_failing = [this](const absl::Status& failure, const auto& ranks) {
    failure_report_.Write(failure, ranks);
  };
}

void Watchers::Created(Engine& engine) {
  created_ = Clock::now();
  failure_report_.Arm(engine.recorder());
}

void Watchers::Warm(Engine& engine, const ServedModel& model) {
  engine_ = &engine;
  metrics_.SetEngine(&engine);
  telemetry_->ExportLoad(engine, model, begin_, created_);
  profile_ =
      std::make_unique<ProfileFile>(engine.recorder(), options_.profile_steps, options_.profile_file, log_);
}

void Watchers::Watch(ServingCore& core) {
  core.observers.push_back(&metrics_.calls());
  telemetry_->Watch(core);
}

void Watchers::Forget() {
  failure_report_.Disarm();
  profile_.reset();
  listener_.reset();
  metrics_.SetEngine(nullptr);
  telemetry_.reset();
  engine_ = nullptr;
}

void Watchers::DumpIfAsked() const {
  if (engine_ != nullptr && TakeDumpSignal())
    WriteFlightDump(*engine_, options_.flight_dump, "SIGUSR1", log_);
}

void Watchers::RecordFailure() const {
  const TimePoint deadline = Clock::now() + kFailedTime;
  const auto written = std::make_shared<BoundedQueue<bool>>(1);
  // On a thread that can be left alone: the process ends whatever holds it up.
  std::thread([this, written] {
    // Costs nothing where the engine's own hook was first.
    failure_report_.Write(engine_->health(), engine_->ranks());
    WriteFlightDump(*engine_, options_.flight_dump, "engine failed", log_);
    written->Push(true);
  }).detach();
  telemetry_->Flush(kFailedPatience);
  written->WaitUntil(deadline);
}

void Watchers::Finish() { telemetry_->Finish(kPatience, log_); }

}  // namespace yoio
