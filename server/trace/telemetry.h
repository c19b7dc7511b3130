// All that is traced of a server, from its start to its end.
#ifndef YOIO_SERVER_TRACE_TELEMETRY_H_
#define YOIO_SERVER_TRACE_TELEMETRY_H_

#include <memory>
#include <utility>

#include "absl/status/statusor.h"
#include "base/clock.h"
#include "engine/engine.h"
#include "server/call.h"
#include "server/log.h"
#include "server/trace/request_tracer.h"
#include "server/trace/step_tracer.h"
#include "server/trace/tracer.h"

namespace yoio {

// Owned by main's thread, which alone calls it unless it says otherwise.
class Telemetry {
 public:
  struct Options {
    TraceOptions trace;
    Duration slow{};   // as of RequestTracer
    double steps = 0;  // as of StepTracer
  };

  // Before anything is loaded. Errors as Tracer::Start. `log` outlives it.
  static absl::StatusOr<std::unique_ptr<Telemetry>> Start(const Options& options, const Logger& log);

  // Exports what start-up took, which began at `begin` and has ended; the warm-up request, at `warm_up`.
  void ExportLoad(const Engine& engine, const ServedModel& model, TimePoint begin, TimePoint warm_up);

  // From now on calls of `core` are traced, and the steps of its engine, which outlives this.
  void Watch(ServingCore& core);

  // Thread-safe.
  ExportCounts span_counts() const { return tracer_->counts(); }

  // Sends what there is; gives up after `patience`.
  void Flush(Duration patience) { tracer_->Flush(Clock::now() + patience); }

  // Once no call is left: Flush, and a log line that tells how many spans were exported and lost.
  void Finish(Duration patience, const Logger& log);

 private:
  Telemetry(const Options& options, std::unique_ptr<Tracer> tracer)
      : options_(options), tracer_(std::move(tracer)) {}

  const Options options_;
  const std::unique_ptr<Tracer> tracer_;
  std::unique_ptr<RequestTracer> requests_;  // null until Watch, or while nothing is traced
  std::unique_ptr<StepTracer> steps_;
};

}  // namespace yoio

#endif  // YOIO_SERVER_TRACE_TELEMETRY_H_
