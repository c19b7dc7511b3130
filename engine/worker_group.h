// All ranks of this process, behind one pair of queues.
#ifndef YOIO_ENGINE_WORKER_GROUP_H_
#define YOIO_ENGINE_WORKER_GROUP_H_

#include <memory>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/bounded_queue.h"
#include "engine/worker.h"

namespace yoio {

struct WorkerGroupOptions {
  WorkerOptions worker;  // comm and threads are set per rank
  int world = 1;
  int threads = 1;  // of all ranks together
};

// One thread per rank. Submit and Wait belong to the engine thread.
class WorkerGroup {
 public:
  // Blocks until every rank has loaded. The first error of any rank is returned.
  static absl::StatusOr<std::unique_ptr<WorkerGroup>> Create(const WorkerGroupOptions& options);
  // Lets steps under way finish, then joins.
  ~WorkerGroup();

  // At most `worker.sizing.limits.depth` plans may be submitted and not yet waited for.
  void Submit(StepPlan plan);
  // The result of the oldest submitted plan. An error is final.
  absl::StatusOr<StepResult> Wait();

 private:
  struct Rank {
    std::unique_ptr<Communicator> comm;
    std::unique_ptr<BoundedQueue<std::shared_ptr<const StepPlan>>> plans;
    std::thread thread;
  };

  explicit WorkerGroup(int depth) : results_(depth) {}
  void RunRank(int rank, const WorkerOptions& options, BoundedQueue<absl::Status>& ready);
  void RunSteps(int rank, Worker& worker);

  std::vector<Rank> ranks_;
  BoundedQueue<absl::StatusOr<StepResult>> results_;  // rank 0's
};

}  // namespace yoio

#endif  // YOIO_ENGINE_WORKER_GROUP_H_
