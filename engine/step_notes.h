// What the engine notes of its steps, for metrics and in the flight recorder.
#ifndef YOIO_ENGINE_STEP_NOTES_H_
#define YOIO_ENGINE_STEP_NOTES_H_

#include <cstdint>
#include <vector>

#include "base/clock.h"
#include "base/mutex.h"
#include "engine/duration_histogram.h"
#include "engine/engine.h"
#include "engine/flight_recorder.h"
#include "engine/scheduler.h"
#include "engine/step_plan.h"
#include "engine/step_times.h"

namespace yoio {

// Takes no lock for a token, a few for a step.
class StepNotes {
 public:
  explicit StepNotes(int num_ranks) : recorder_(num_ranks) {}

  // Engine thread, in this order for each step: the scheduler, at work since `begin`, has planned it, and it
  // is submitted next; its result has come at `now`, and the scheduler has taken it in; somebody got a token
  // of it so long after the one before; all that has been said.
  void Planned(const StepPlan& plan, const Scheduler& scheduler, TimePoint begin);
  void Delivered(int64_t step, TimePoint now);
  void TokenGap(Duration gap) { inter_token_.Add(gap); }
  void Publish();

  // Any thread.
  void RankEnded(int rank, int64_t step, const StepTimes& times);
  EngineStats stats() const;
  double scheduler_seconds_p99() const;
  FlightRecorder& recorder() { return recorder_; }

 private:
  FlightRecorder recorder_;

  // The engine thread's alone.
  std::vector<StepMember> members_;  // of the step that is noted
  LatencyHistogram inter_token_;
  Duration scheduler_time_{};  // since the last result

  mutable Mutex mutex_;
  EngineStats stats_ ABSL_GUARDED_BY(mutex_);
  DurationHistogram scheduler_times_ ABSL_GUARDED_BY(mutex_);  // finer than those in stats_
};

}  // namespace yoio

#endif  // YOIO_ENGINE_STEP_NOTES_H_
