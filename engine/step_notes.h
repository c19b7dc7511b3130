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

  // Engine thread. Before the scheduler plans or takes in a step.
  void SchedulerBegins() {
    if (times_scheduler_) scheduler_began_ = ThreadTime();
  }
  // In this order for each step: the scheduler, at work since `begin`, has planned it, and it is submitted
  // next; its result has come at `now`, and the scheduler has taken it in; somebody got a token of it so long
  // after the one before; all that has been said.
  void Planned(const StepPlan& plan, const Scheduler& scheduler, TimePoint begin);
  void Delivered(int64_t step, TimePoint now);
  void TokenGap(Duration gap) { inter_token_.Add(gap); }
  void Publish();

  // Any thread.
  void RankEnded(int rank, int64_t step, const StepTimes& times);
  EngineStats stats() const;
  // Processor time, of every sixteenth step: what others take from the engine's thread is not the
  // scheduler's.
  double scheduler_seconds_p99() const;
  FlightRecorder& recorder() { return recorder_; }

 private:
  void NoteSchedulerTime();

  FlightRecorder recorder_;

  // The engine thread's alone.
  std::vector<StepMember> members_;  // of the step that is noted
  LatencyHistogram inter_token_;
  Duration planning_{};  // since the last result
  // The same as processor time, where it is taken.
  bool times_scheduler_ = true;
  Duration scheduler_began_{}, scheduler_time_{};
  int64_t delivered_ = 0;

  mutable Mutex mutex_;
  EngineStats stats_ ABSL_GUARDED_BY(mutex_);
  DurationHistogram scheduler_times_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace yoio

#endif  // YOIO_ENGINE_STEP_NOTES_H_
