// All ranks of this process, behind one pair of queues.
#ifndef YOIO_ENGINE_WORKER_GROUP_H_
#define YOIO_ENGINE_WORKER_GROUP_H_

#include <functional>
#include <memory>
#include <optional>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/bounded_queue.h"
#include "base/mutex.h"
#include "engine/comm/watched_communicator.h"
#include "engine/rank_progress.h"
#include "engine/watchdog.h"
#include "engine/worker.h"

namespace yoio {

struct WorkerGroupOptions {
  WorkerOptions worker;                     // backend, comm, threads, rank_progress are set per rank
  GroupOptions group;                       // world, and which ranks are this process's
  std::vector<kernels::Backend*> backends;  // of these ranks, in order
  int threads = 1;                          // of these ranks together
  Duration step_timeout{0};
  bool watch_all = false;  // the watchdog also waits for other processes' ranks (Ended)
  // A rank of this process has ended a step. Called on its thread, for rank 0 before Wait returns the result.
  // May be empty.
  std::function<void(int rank, int64_t step, const StepTimes& times)> on_ended;
  // The group has failed, and nothing has been aborted yet: `ranks` are those that are watched. Called once,
  // by whichever thread has found out. May be empty.
  std::function<void(const absl::Status&, const std::vector<RankState>& ranks)> on_failing;
  // The same when communicators are aborted. Called once, by whichever thread has found out. May be empty.
  std::function<void(const absl::Status&)> on_failure;
};

// One thread per rank, and a watchdog. Start, Submit, Wait and Stop belong to one thread at a time; Fail,
// Ended and, once Start has returned, ranks are for any.
//
// The first failure, whoever finds it, is the end of the group: its communicators are aborted, Wait returns
// it, nothing more is computed. Ranks that the abort does not wake are left alone: as long as one of them is
// stuck the group cannot be destroyed, and only the end of the process gets rid of it.
class WorkerGroup {
 public:
  explicit WorkerGroup(const WorkerGroupOptions& options);
  // Stops.
  ~WorkerGroup();

  // Meets the ranks of other processes, then blocks until every rank of this one has loaded. Returns the
  // group's failure; that every rank has loaded by `deadline` is part of it.
  absl::Status Start(TimePoint deadline);

  // Never blocks. At most `worker.sizing.limits.depth` plans may be submitted and not yet ended.
  void Submit(std::shared_ptr<const StepPlan> plan);
  // In the process of rank 0: the result of the oldest submitted plan, or the group's failure.
  absl::StatusOr<StepResult> Wait();

  // Of the slowest of this process's ranks, once they have loaded (Worker).
  double seconds_per_swapped_block() const;
  // What Start has spent its time on, as the first of these ranks saw it; once it has returned.
  std::vector<LoadTime> load_times() const;

  void Fail(absl::Status status);
  // A rank of another process has ended a step.
  void Ended(int rank, int64_t step) { watchdog_.Ended(rank, step); }
  absl::Status failure() const;
  // The watched ranks, in order. Waits for no rank.
  std::vector<RankState> ranks() const { return watchdog_.Ranks(); }

  // Takes no more plans, lets steps under way finish, and joins ranks and watchdog. False when that is not
  // done by `deadline`: it may then be called again.
  bool Stop(TimePoint deadline);

 private:
  struct Rank {
    std::unique_ptr<RankProgress> progress;  // set by Start, then only read
    std::unique_ptr<WatchedCommunicator> watched;
    Communicator* comm = nullptr;  // one of comms_, or `watched` before it
    std::unique_ptr<BoundedQueue<std::shared_ptr<const StepPlan>>> plans;
    std::thread thread;
  };

  absl::Status Meet();
  std::optional<RankState> Look(int rank) const;
  void NoteLoaded(int index, const Worker& worker);
  void RunRank(int index, const WorkerOptions& options, BoundedQueue<absl::Status>& ready);
  void RunSteps(int index, Worker& worker);
  absl::Status RunStepsUntilClosed(int index, Worker& worker);

  const WorkerGroupOptions options_;
  std::vector<Rank> ranks_;
  BoundedQueue<StepResult> results_;  // rank 0's; closed by the failure
  mutable Mutex mutex_;
  CondVar changed_;
  std::vector<std::unique_ptr<Communicator>> comms_ ABSL_GUARDED_BY(mutex_);  // set once, then only read
  absl::Status failure_ ABSL_GUARDED_BY(mutex_);
  int running_ ABSL_GUARDED_BY(mutex_) = 0;  // ranks whose threads have not come to their end
  double seconds_per_swapped_block_ ABSL_GUARDED_BY(mutex_) = 0;
  std::vector<LoadTime> load_times_ ABSL_GUARDED_BY(mutex_);
  Watchdog watchdog_;
};

}  // namespace yoio

#endif  // YOIO_ENGINE_WORKER_GROUP_H_
