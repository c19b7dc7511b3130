// The engine thread: plans a step, has it computed, and hands out what came of it.
#ifndef YOIO_ENGINE_STEP_LOOP_H_
#define YOIO_ENGINE_STEP_LOOP_H_

#include <cstdint>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/mutex.h"
#include "engine/engine.h"
#include "engine/leader.h"
#include "engine/mailbox.h"
#include "engine/queue_gate.h"
#include "engine/registry.h"
#include "engine/roster.h"
#include "engine/scheduler.h"
#include "engine/step_notes.h"
#include "engine/step_pace.h"

namespace yoio {

// Owns its thread, which runs until the mailbox is closed.
class StepLoop {
 public:
  // `depth` steps in flight. The rest outlives the loop, and the mailbox is closed before
  // its destructor, which joins.
  StepLoop(const EngineOptions& options, int depth, const TokenGap& gap, Leader& leader, Scheduler& scheduler,
           Mailbox& mailbox, QueueGate& gate, Registry& registry, StepNotes& notes);
  ~StepLoop() { thread_.join(); }

  // As of the last step. Who waits and who runs is the gate's to say. Any thread.
  Load load() const;
  Forecast forecast() const;
  absl::Status health() const;

 private:
  void Run();
  void TakeCommands();
  void Handle(SubmitCommand command);
  void Handle(StopCommand command);
  void Handle(CancelCommand command);
  void Handle(CancelAllCommand command);
  void Handle(FailureCommand command);
  void Handle(DumpCommand command);

  // Plans and submits a step; false when there is nothing to do.
  bool Submit();
  void Deliver(absl::StatusOr<StepResult> result);
  void DeliverSample(const Scheduler::Sample& sample, int64_t step, TimePoint now);
  void DeliverScores(Scheduler::Scores& scores, TimePoint now);
  void NoteToken(LiveRequest& live, int64_t step, TimePoint now);
  void Publish();
  void Die(absl::Status status);

  const int depth_;
  const TimePoint first_prediction_;
  const double seconds_per_swapped_block_;
  Leader& leader_;
  Scheduler& scheduler_;
  Mailbox& mailbox_;
  Registry& registry_;
  StepNotes& notes_;

  // The engine thread's alone.
  StepPace pace_;
  Roster roster_;
  std::vector<Command> commands_;
  absl::Status refusal_;  // not OK: whatever still arrives ends with it
  bool dead_ = false;     // a step has failed: results mean nothing any more
  int64_t generated_tokens_ = 0;
  int64_t prompt_tokens_ = 0;
  int64_t steps_ = 0;

  mutable Mutex mutex_;
  Load load_ ABSL_GUARDED_BY(mutex_);
  Forecast forecast_ ABSL_GUARDED_BY(mutex_);
  absl::Status health_ ABSL_GUARDED_BY(mutex_);
  std::thread thread_;
};

}  // namespace yoio

#endif  // YOIO_ENGINE_STEP_LOOP_H_
