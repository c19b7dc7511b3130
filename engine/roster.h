// The requests that the engine thread knows of: how they come, who watches their times, and how they end.
#ifndef YOIO_ENGINE_ROSTER_H_
#define YOIO_ENGINE_ROSTER_H_

#include <cstdint>
#include <memory>
#include <set>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "base/clock.h"
#include "engine/engine.h"
#include "engine/flight_recorder.h"
#include "engine/live_request.h"
#include "engine/queue_gate.h"
#include "engine/registry.h"
#include "engine/scheduler.h"
#include "engine/step_plan.h"

namespace yoio {

// Engine thread only. A request is here until its blocks have returned, which can be a few steps after its
// end.
class Roster {
 public:
  struct Options {
    Duration progress_interval;  // of silence, then the caller hears how far the request is
    Duration stall_timeout;      // of a reader that takes nothing, then the request ends
  };

  // All outlive the roster.
  Roster(const Options& options, Scheduler& scheduler, QueueGate& gate, Registry& registry,
         FlightRecorder& recorder)
      : options_(options), scheduler_(scheduler), gate_(gate), registry_(registry), recorder_(recorder) {}

  // The request joins the queue, and its caller is told.
  void Add(const std::shared_ptr<LiveRequest>& live, TimePoint now);
  bool Contains(const LiveRequest& live) const { return live_.contains(&live); }

  // Tells the gate of those who begin with this plan, and of prompts that have got on.
  void NotePlan(const StepPlan& plan);
  // The request was given something at `now`, and goes on: it waits for its reader when that is behind.
  void NoteDelivery(LiveRequest& live, TimePoint now);
  // Deadlines, budgets, slow readers, long silence; returns when to look again.
  TimePoint Police(TimePoint now);

  // The choice has ended, and with the last one its request.
  void EndChoice(LiveRequest& live, int32_t choice);
  // Nothing happens to a request that has ended.
  void Fail(LiveRequest& live, absl::Status status);
  void FailAll(const absl::Status& status);
  // Those whose blocks have all returned.
  void ForgetRetired();

  // The `most` oldest requests that live, those that are still being tokenized among them.
  std::vector<RequestState> States(int32_t most, TimePoint now);

  // Since the start.
  struct Counts {
    int64_t completed = 0;
    int64_t failed = 0;
    int64_t cancelled = 0;
    int64_t cached_tokens = 0;  // of prompts that have begun, found in the prefix cache
    int64_t preemptions = 0;    // of requests that have ended
  };
  const Counts& counts() const { return counts_; }
  // What share of recent prompts was not found in the cache.
  double uncached_share() const { return recent_prompts_ > 0 ? recent_uncached_ / recent_prompts_ : 1; }

 private:
  // Ends the request if its time is over; whether it has.
  bool EndIfOver(LiveRequest& live, TimePoint now);
  void ReportProgress(LiveRequest& live, TimePoint now);
  void LookAt(LiveRequest& live, TimePoint when);
  void Started(LiveRequest& live);
  void Complete(LiveRequest& live);
  // No choice of it is open any more; returns what there is to say of it.
  SummaryEvent Close(LiveRequest& live, const absl::Status& status);

  const Options options_;
  Scheduler& scheduler_;
  QueueGate& gate_;
  Registry& registry_;
  FlightRecorder& recorder_;
  // Alive, or ended but with blocks still in a step under way.
  absl::flat_hash_map<const SequenceGroup*, std::shared_ptr<LiveRequest>> live_;
  // Of those alive:
  std::set<std::pair<TimePoint, LiveRequest*>> looks_;  // by LiveRequest::next_look
  std::vector<LiveRequest*> unstarted_;                 // in no plan yet
  std::vector<LiveRequest*> prompts_;                   // begun, and part of the prompt is left
  std::vector<LiveRequest*> paused_;                    // their readers are behind
  Counts counts_;
  double recent_prompts_ = 0, recent_uncached_ = 0;  // tokens; older ones count less
};

}  // namespace yoio

#endif  // YOIO_ENGINE_ROSTER_H_
