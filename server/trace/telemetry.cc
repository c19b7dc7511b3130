#include "server/trace/telemetry.h"

#include <utility>

#include "base/status.h"
#include "server/trace/load_spans.h"

namespace yoio {
namespace {

ModelLabel LabelOf(const ServedModel& model) {
  return {.name = model.names.front(), .revision = model.info->revision};
}

}  // namespace

absl::StatusOr<std::unique_ptr<Telemetry>> Telemetry::Start(const Options& options, const Logger& log) {
  YOIO_ASSIGN_OR_RETURN(std::unique_ptr<Tracer> tracer, Tracer::Start(options.trace, log));
  return std::unique_ptr<Telemetry>(new Telemetry(options, std::move(tracer)));
}

void Telemetry::ExportLoad(const Engine& engine, const ServedModel& model, TimePoint begin,
                           TimePoint warm_up) {
  if (!tracer_->enabled()) return;
  const TimePoint end = Clock::now();
  std::vector<LoadTime> parts = engine.load_times();
  parts.push_back({.phase = "warm_up_request", .begin = warm_up, .end = end});
  TraceId id = tracer_->StartTrace();
  id.sampled = true;
  tracer_->Export(LoadSpans(id, begin, end, parts, LabelOf(model), SpanMaker(*tracer_)));
}

void Telemetry::Watch(ServingCore& core) {
  if (!tracer_->enabled()) return;
  const FlightRecorder* recorder = core.engine.recorder();
  requests_ = std::make_unique<RequestTracer>(*tracer_, recorder, LabelOf(core.model), options_.slow);
  core.tracer = tracer_.get();
  core.observers.push_back(requests_.get());
  if (recorder == nullptr || options_.steps == 0) return;
  steps_ = std::make_unique<StepTracer>(*tracer_, *recorder, options_.steps);
}

void Telemetry::Finish(Duration patience, const Logger& log) {
  if (!tracer_->enabled()) return;
  steps_.reset();
  Flush(patience);
  const ExportCounts counts = tracer_->counts();
  log.Write(std::move(LogLine(LogLevel::kInfo, "spans")
                          .With("exported", counts.exported)
                          .With("dropped", counts.dropped)
                          .With("failed", counts.failed)));
}

}  // namespace yoio
