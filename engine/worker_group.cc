#include "engine/worker_group.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/check.h"
#include "base/status.h"

namespace yoio {
namespace {

WatchdogOptions WatchWhom(const WorkerGroupOptions& options,
                          std::function<std::optional<RankState>(int)> look,
                          std::function<void(absl::Status)> on_late) {
  const GroupOptions& group = options.group;
  return {.first_rank = options.watch_all ? 0 : group.first_rank,
          .num_ranks = options.watch_all ? group.world : group.num_ranks,
          .ranks_per_node = group.num_ranks,
          .timeout = options.step_timeout,
          .look = std::move(look),
          .on_late = std::move(on_late)};
}

}  // namespace

WorkerGroup::WorkerGroup(const WorkerGroupOptions& options)
    : options_(options),
      ranks_(options.group.num_ranks),
      results_(options.worker.sizing.limits.depth),
      watchdog_(WatchWhom(
          options, [this](int rank) { return Look(rank); },
          [this](absl::Status late) { Fail(std::move(late)); })) {
  YOIO_CHECK_EQ(options.backends.size(), ranks_.size());
  // Rank 0 ends no step that another has not begun: what waits for that one is at most `depth` plans, and one
  // more in a process without rank 0, which may lag one step behind those who submit.
  for (Rank& rank : ranks_) {
    rank.plans = std::make_unique<BoundedQueue<std::shared_ptr<const StepPlan>>>(
        options.worker.sizing.limits.depth + 1);
  }
}

WorkerGroup::~WorkerGroup() { Stop(TimePoint::max()); }

absl::Status WorkerGroup::Start(TimePoint deadline) {
  if (absl::Status met = Meet(); !met.ok()) {
    Fail(std::move(met));
    return failure();
  }
  const int count = options_.group.num_ranks;
  BoundedQueue<absl::Status> ready(count);
  {
    MutexLock lock(mutex_);
    running_ = count;
  }
  for (int index = 0; index < count; ++index) {
    WorkerOptions worker = options_.worker;
    worker.backend = options_.backends[index];
    worker.comm = ranks_[index].comm;
    worker.rank_progress = ranks_[index].progress.get();
    worker.threads = std::max(1, options_.threads / count + (index < options_.threads % count ? 1 : 0));
    if (index != 0) worker.progress = nullptr;
    ranks_[index].thread = std::thread([this, index, worker, &ready] { RunRank(index, worker, ready); });
  }
  for (int loaded = 0; loaded < count; ++loaded) {
    if (!ready.WaitUntil(deadline)) {
      Fail(absl::DeadlineExceededError(
          absl::StrCat(count - loaded, " of ", count, " ranks have not loaded within --load-timeout")));
    }
    if (absl::Status status = *ready.Pop(); !status.ok()) Fail(std::move(status));
  }
  return failure();
}

absl::Status WorkerGroup::Meet() {
  const TimePoint begin = Clock::now();
  GroupOptions group = options_.group;
  for (size_t index = 0; index < ranks_.size(); ++index) {
    Rank& rank = ranks_[index];
    const int number = group.first_rank + static_cast<int>(index);
    YOIO_ASSIGN_OR_RETURN(rank.progress, RankProgress::Create(number, *options_.backends[index]));
    if (group.world > 1) group.watches.push_back(rank.progress.get());
  }
  YOIO_ASSIGN_OR_RETURN(auto comms, MakeCommunicators(group, options_.backends));
  for (size_t index = 0; index < ranks_.size(); ++index) ranks_[index].comm = comms[index].get();
  MutexLock lock(mutex_);
  if (options_.group.world > 1) load_times_.push_back({"connect", begin, Clock::now()});
  comms_ = std::move(comms);
  return failure_;
}

void WorkerGroup::RunRank(int index, const WorkerOptions& options, BoundedQueue<absl::Status>& ready) {
  {
    auto worker = Worker::Create(options);
    if (!worker.ok()) Fail(worker.status());  // ranks that load may wait for this one
    if (worker.ok()) NoteLoaded(index, **worker);
    ready.Push(worker.status());  // `ready` may be gone from here on
    if (worker.ok()) RunSteps(index, **worker);
  }
  MutexLock lock(mutex_);
  --running_;
  changed_.NotifyAll();
}

void WorkerGroup::RunSteps(int index, Worker& worker) {
  absl::Status status = RunStepsUntilClosed(index, worker);
  if (status.ok()) return;
  Fail(std::move(status));
  // Other ranks may be at work in this one's memory until all of them have ended.
  while (ranks_[index].plans->Pop().has_value()) {
  }
}

// Begins plans as they come and hands on results as they end. Without steps it sleeps; while a device works
// it looks again and again, because a late look at an end is time without work, and a late plan too. A plan
// waits while this rank has all the steps under way that it may have: rank 0, whose results bring new plans,
// may have seen the end of one before this rank has.
absl::Status WorkerGroup::RunStepsUntilClosed(int index, Worker& worker) {
  const int rank = options_.group.first_rank + index;
  auto& plans = *ranks_[index].plans;
  int under_way = 0;
  for (;;) {
    std::optional<std::shared_ptr<const StepPlan>> plan;
    if (under_way < options_.worker.sizing.limits.depth) {
      plan = under_way == 0 ? plans.Pop() : plans.TryPop();
      if (!plan.has_value() && under_way == 0) return absl::OkStatus();  // closed
    }
    if (plan.has_value()) {
      ++under_way;
      YOIO_RETURN_IF_ERROR(worker.Begin(*std::move(plan)));
    }
    YOIO_RETURN_IF_ERROR(ranks_[index].comm->health());
    YOIO_ASSIGN_OR_RETURN(const bool ended, worker.Ended());
    if (!ended) {
      std::this_thread::yield();
      continue;
    }
    --under_way;
    Worker::Outcome outcome = worker.Take();
    const int64_t step = outcome.result.step;
    if (options_.on_ended) options_.on_ended(rank, step, outcome.times);
    if (rank == 0) results_.Push(std::move(outcome.result));
    watchdog_.Ended(rank, step);
  }
}

void WorkerGroup::Submit(std::shared_ptr<const StepPlan> plan) {
  if (!failure().ok()) return;
  watchdog_.Submitted(plan->step);
  for (Rank& rank : ranks_) {
    auto copy = plan;
    if (rank.plans->TryPush(copy)) continue;
    return Fail(
        absl::InternalError(absl::StrCat("step ", plan->step, " was submitted before room was made for it")));
  }
}

absl::StatusOr<StepResult> WorkerGroup::Wait() {
  auto result = results_.Pop();
  if (!result.has_value()) return failure();
  return *std::move(result);
}

std::optional<RankState> WorkerGroup::Look(int rank) const {
  const int index = rank - options_.group.first_rank;
  if (index < 0 || index >= options_.group.num_ranks || ranks_[index].progress == nullptr) {
    return std::nullopt;
  }
  return ranks_[index].progress->state();
}

void WorkerGroup::NoteLoaded(int index, const Worker& worker) {
  MutexLock lock(mutex_);
  seconds_per_swapped_block_ = std::max(seconds_per_swapped_block_, worker.seconds_per_swapped_block());
  const std::vector<LoadTime>& times = worker.load_times();
  if (index == 0) load_times_.insert(load_times_.end(), times.begin(), times.end());
}

std::vector<LoadTime> WorkerGroup::load_times() const {
  MutexLock lock(mutex_);
  return load_times_;
}

double WorkerGroup::seconds_per_swapped_block() const {
  MutexLock lock(mutex_);
  return seconds_per_swapped_block_;
}

void WorkerGroup::Fail(absl::Status status) {
  YOIO_CHECK(!status.ok()) << "a failure needs an error";
  std::vector<Communicator*> comms;
  {
    MutexLock lock(mutex_);
    if (!failure_.ok()) return;
    failure_ = status;
    for (const auto& comm : comms_) comms.push_back(comm.get());
  }
  if (options_.on_failing) options_.on_failing(status, ranks());
  for (Communicator* comm : comms) comm->Abort(status);
  results_.Close();
  if (options_.on_failure) options_.on_failure(status);
}

absl::Status WorkerGroup::failure() const {
  MutexLock lock(mutex_);
  return failure_;
}

bool WorkerGroup::Stop(TimePoint deadline) {
  for (Rank& rank : ranks_) rank.plans->Close();
  {
    MutexLock lock(mutex_);
    while (running_ > 0 && Clock::now() < deadline) changed_.WaitUntil(mutex_, deadline);
    if (running_ > 0) return false;
  }
  for (Rank& rank : ranks_) {
    if (rank.thread.joinable()) rank.thread.join();
  }
  watchdog_.Stop();
  return true;
}

}  // namespace yoio
