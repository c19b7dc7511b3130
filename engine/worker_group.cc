#include "engine/worker_group.h"

#include <algorithm>
#include <utility>

#include "base/check.h"
#include "base/status.h"

namespace yoio {

absl::StatusOr<std::unique_ptr<WorkerGroup>> WorkerGroup::Create(const WorkerGroupOptions& options) {
  auto group = std::unique_ptr<WorkerGroup>(new WorkerGroup(options.worker.sizing.limits.depth));
  const std::vector<kernels::Backend*> backends(options.world, options.worker.backend);
  YOIO_ASSIGN_OR_RETURN(auto comms,
                        MakeCommunicators({.world = options.world, .num_ranks = options.world}, backends));
  group->ranks_.resize(options.world);
  for (int rank = 0; rank < options.world; ++rank) {
    group->ranks_[rank].comm = std::move(comms[rank]);
    group->ranks_[rank].plans =
        std::make_unique<BoundedQueue<std::shared_ptr<const StepPlan>>>(options.worker.sizing.limits.depth);
  }
  BoundedQueue<absl::Status> ready(options.world);
  for (int rank = 0; rank < options.world; ++rank) {
    WorkerOptions worker = options.worker;
    worker.comm = group->ranks_[rank].comm.get();
    const int spare = rank < options.threads % options.world ? 1 : 0;
    worker.threads = std::max(1, options.threads / options.world + spare);
    if (rank != 0) worker.progress = nullptr;
    group->ranks_[rank].thread =
        std::thread([group = group.get(), rank, worker, &ready] { group->RunRank(rank, worker, ready); });
  }
  absl::Status first_error;
  for (int rank = 0; rank < options.world; ++rank) first_error.Update(*ready.Pop());
  if (!first_error.ok()) return first_error;
  return group;
}

void WorkerGroup::RunRank(int rank, const WorkerOptions& options, BoundedQueue<absl::Status>& ready) {
  auto worker = Worker::Create(options);
  ready.Push(worker.status());  // `ready` may be gone from here on
  if (!worker.ok()) return;
  RunSteps(rank, **worker);
}

// Begins plans as they come and hands on results as they end. Without steps it sleeps; while a device works
// it looks again and again, because a late look at an end is time without work, and a late plan too. After a
// failure every plan is answered with it.
void WorkerGroup::RunSteps(int rank, Worker& worker) {
  auto& plans = *ranks_[rank].plans;
  absl::Status failure;
  int under_way = 0;
  const auto hand_on = [&](absl::StatusOr<StepResult> result) {
    --under_way;
    if (rank == 0) results_.Push(std::move(result));
  };
  for (;;) {
    auto plan = under_way == 0 ? plans.Pop() : plans.TryPop();
    if (!plan.has_value() && under_way == 0) return;  // closed
    if (plan.has_value()) {
      ++under_way;
      if (failure.ok()) failure = worker.Begin(*std::move(plan));
    }
    const absl::StatusOr<bool> ended = failure.ok() ? worker.Ended() : failure;
    if (!ended.ok()) {
      failure = ended.status();
      while (under_way > 0) hand_on(failure);
    } else if (*ended) {
      hand_on(worker.Take());
    } else {
      std::this_thread::yield();
    }
  }
}

WorkerGroup::~WorkerGroup() {
  for (Rank& rank : ranks_) rank.plans->Close();
  results_.Close();
  for (Rank& rank : ranks_) {
    if (rank.thread.joinable()) rank.thread.join();
  }
}

void WorkerGroup::Submit(StepPlan plan) {
  const auto shared = std::make_shared<const StepPlan>(std::move(plan));
  for (Rank& rank : ranks_) YOIO_CHECK(rank.plans->Push(shared));
}

absl::StatusOr<StepResult> WorkerGroup::Wait() {
  auto result = results_.Pop();
  YOIO_CHECK(result.has_value());
  return *std::move(result);
}

}  // namespace yoio
