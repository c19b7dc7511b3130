// Exports the spans of some steps, far from the engine's thread.
#ifndef YOIO_SERVER_TRACE_STEP_TRACER_H_
#define YOIO_SERVER_TRACE_STEP_TRACER_H_

#include <cstdint>
#include <thread>

#include "base/clock.h"
#include "base/mutex.h"
#include "engine/flight_recorder.h"
#include "server/trace/span_maker.h"
#include "server/trace/tracer.h"

namespace yoio {

// Looks into the flight recorder every so often, from construction to destruction, which looks once more. Of
// the steps that have ended and computed a sampled request, a part gets a trace of its own.
class StepTracer {
 public:
  // `ratio`: that part; chosen by the step's number. The tracer and the recorder outlive it.
  StepTracer(Tracer& tracer, const FlightRecorder& recorder, double ratio);
  ~StepTracer();

 private:
  void Run();
  // Exports what is new of the steps that ended by `end`.
  void Look(TimePoint end);
  void Export(const StepRecord& step);
  bool Chosen(int64_t step) const;

  Tracer& tracer_;
  const SpanMaker maker_;
  const FlightRecorder& recorder_;
  const double ratio_;
  int64_t next_ = 0;  // the first step that has not been looked at; of the thread alone

  Mutex mutex_;
  CondVar stopped_;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread thread_;
};

}  // namespace yoio

#endif  // YOIO_SERVER_TRACE_STEP_TRACER_H_
