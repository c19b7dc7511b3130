// All ranks of an engine, behind one pair of queues: those of this process and those of its followers.
#ifndef YOIO_ENGINE_LEADER_H_
#define YOIO_ENGINE_LEADER_H_

#include <functional>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/clock.h"
#include "base/mutex.h"
#include "engine/engine.h"
#include "engine/followers.h"
#include "engine/memory_plan.h"
#include "engine/node.h"
#include "engine/step_plan.h"
#include "engine/worker_group.h"

namespace yoio {

// Submit and Wait belong to the engine thread.
class Leader {
 public:
  // Told that a rank of the engine, of whichever node, has ended a step: on a thread of the leader, for rank
  // 0 before Wait returns the step's result, for the others at about that time.
  using StepTimesListener = std::function<void(int rank, int64_t step, const StepTimes& times)>;

  // Blocks until all followers have come and every rank of the engine has loaded. `node` outlives the leader;
  // its weights are needed only during the call. `on_step_times` may be empty. Errors as Engine::Create's.
  static absl::StatusOr<std::unique_ptr<Leader>> Create(const EngineOptions& options, const Node& node,
                                                        StepTimesListener on_step_times = {});
  // Says Bye to the followers and lets steps under way finish. As long as a rank of this process is stuck it
  // blocks: an engine that has failed is left by the end of the process.
  ~Leader();

  const Sizing& sizing() const { return sizing_; }
  Duration step_timeout() const { return step_timeout_; }
  // What one block takes to the host's memory and back, as measured at the start; 0 without room there.
  double seconds_per_swapped_block() const { return workers_->seconds_per_swapped_block(); }
  // What Create has spent its time on, as rank 0 saw it, in order.
  std::vector<LoadTime> load_times() const;
  // All ranks of the engine, in order; of those of other nodes only what they have ended. Any thread, also
  // when ranks hang: waits for none.
  std::vector<RankState> ranks() const { return workers_->ranks(); }

  // Never blocks. At most `sizing().limits.depth` plans may be submitted and not yet waited for.
  void Submit(StepPlan plan);
  // The result of the oldest submitted plan, or why the engine has failed: that is final, and comes within
  // the step timeout whatever is stuck.
  absl::StatusOr<StepResult> Wait() { return workers_->Wait(); }

  using Listener = std::function<void(const absl::Status&)>;
  // `listener` is told once why the engine has failed, now if it has, by whichever thread finds out; it must
  // not call back. Null takes it away: from the return of this call on it is not called.
  void OnFailure(Listener listener);

 private:
  Leader() = default;
  void Spread(const absl::Status& failure);
  absl::Status Gather(const EngineOptions& options, const Node& node, TimePoint deadline);
  absl::Status Start(const EngineOptions& options, const Node& node, CommunicatorKind kind,
                     TimePoint deadline);
  void Note(const Ended& ended);

  Sizing sizing_;
  Duration step_timeout_{0};
  StepTimesListener on_step_times_;
  std::vector<LoadTime> gather_times_;
  Mutex mutex_;
  Listener listener_ ABSL_GUARDED_BY(mutex_);
  // The followers' threads speak to the workers, and the workers' to the followers: the latter are stopped
  // first, and then destroyed last.
  std::unique_ptr<WorkerGroup> workers_;
  std::unique_ptr<Followers> followers_;  // null when there is one node
};

}  // namespace yoio

#endif  // YOIO_ENGINE_LEADER_H_
