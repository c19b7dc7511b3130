#include "engine/follower.h"

#include <atomic>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <variant>

#include "absl/strings/str_cat.h"
#include "base/bounded_queue.h"
#include "base/status.h"
#include "engine/create.h"
#include "engine/group_messages.h"
#include "engine/node.h"
#include "engine/worker_group.h"

namespace yoio {
namespace {

// For the ranks of a group that has failed to notice. A process that is no longer needed ends within a
// second.
constexpr Duration kStopTimeout = std::chrono::seconds(1);

// Everything that the ranks of a follower use, also when they are stuck and nobody waits for them any more.
class Follower {
 public:
  Follower(const EngineOptions& options, Node node, std::unique_ptr<Pipe> pipe,
           std::function<void()> on_ready)
      : options_(options), node_(std::move(node)), pipe_(std::move(pipe)), on_ready_(std::move(on_ready)) {}
  ~Follower() {
    if (loader_.joinable()) loader_.join();
  }

  // As RunFollower, but for the ranks' end.
  absl::Status Run();
  // Waits for all threads to come to their end. False when the group has failed and some seem to be stuck.
  bool Leave();

 private:
  absl::Status JoinAndFollow();
  absl::StatusOr<Welcome> Join();
  absl::StatusOr<WorkerGroupOptions> Workers(const Welcome& welcome);
  // The loader's thread.
  void Load();
  // Until Bye, which is OK, or until the pipe breaks.
  absl::Status Follow();
  absl::StatusOr<GroupMessage> Receive(TimePoint deadline);
  // What the process ends with, and the leader hears.
  absl::Status Final(const absl::Status& failure) const;

  const EngineOptions options_;
  Node node_;
  const std::unique_ptr<Pipe> pipe_;
  const std::function<void()> on_ready_;
  std::unique_ptr<WorkerGroup> workers_;
  std::thread loader_;
  BoundedQueue<absl::Status> started_{1};  // what Load has come to
  std::atomic<bool> up_{false};            // all ranks of this process have loaded
};

absl::Status Follower::Run() {
  absl::Status end = JoinAndFollow();
  if (end.ok()) return end;
  end = Final(end);
  pipe_->Break(end);
  if (workers_ != nullptr) workers_->Fail(end);
  return end;
}

absl::Status Follower::JoinAndFollow() {
  YOIO_ASSIGN_OR_RETURN(const Welcome welcome, Join());
  YOIO_ASSIGN_OR_RETURN(const WorkerGroupOptions workers, Workers(welcome));
  workers_ = std::make_unique<WorkerGroup>(workers);
  // The leader is heard meanwhile: ranks that load may wait for those of a process that has gone.
  loader_ = std::thread([this] { Load(); });
  return Follow();
}

bool Follower::Leave() {
  if (workers_ == nullptr) return true;
  for (;;) {
    const bool failed = !workers_->failure().ok();
    const TimePoint deadline = Clock::now() + kStopTimeout;
    if (started_.WaitUntil(deadline) && workers_->Stop(deadline)) return true;
    if (failed) return false;
  }
}

absl::Status Follower::Final(const absl::Status& failure) const {
  return up_ ? absl::UnavailableError(failure.message()) : failure;
}

absl::StatusOr<Welcome> Follower::Join() {
  pipe_->Send(SerializeMessage(HelloOf(options_, node_)));
  YOIO_ASSIGN_OR_RETURN(const GroupMessage message, Receive(Clock::now() + options_.load_timeout));
  if (const auto* welcome = std::get_if<Welcome>(&message)) return *welcome;
  return absl::InvalidArgumentError("the leader's first message is no Welcome");
}

absl::StatusOr<WorkerGroupOptions> Follower::Workers(const Welcome& welcome) {
  if (welcome.first_rank != node_.ranks.first) {
    return absl::InvalidArgumentError(absl::StrCat("the leader gives this node the ranks from ",
                                                   welcome.first_rank, " on, expected ", node_.ranks.first));
  }
  WorkerGroupOptions workers = WorkersOf(options_, node_);
  if (!welcome.dummy_weights) {
    YOIO_RETURN_IF_ERROR(node_.checkpoint.status());
    workers.worker.checkpoint = node_.checkpoint->get();
  }
  workers.worker.sizing.max_model_len = welcome.max_model_len;
  workers.worker.sizing.limits = welcome.limits;
  workers.worker.sizing.cache = welcome.cache;
  workers.worker.index_by_rows = welcome.index_sharding == IndexSharding::kRows;
  workers.worker.check_index = welcome.check_index;
  workers.group.kind = welcome.communicator;
  workers.group.ticket = welcome.ticket;
  workers.step_timeout = std::chrono::nanoseconds(welcome.step_timeout_ns);
  workers.on_ended = [this](int rank, int64_t step, const StepTimes& times) {
    pipe_->Send(SerializeMessage(Ended{rank, step, times}));
  };
  workers.on_failure = [this](const absl::Status& failure) { pipe_->Break(Final(failure)); };
  return workers;
}

void Follower::Load() {
  absl::Status status = workers_->Start(Clock::now() + options_.load_timeout);
  if (status.ok()) {
    up_ = true;
    if (on_ready_) on_ready_();
    pipe_->Send(SerializeMessage(Loaded{}));
  }
  started_.Push(std::move(status));
}

absl::Status Follower::Follow() {
  for (;;) {
    YOIO_ASSIGN_OR_RETURN(GroupMessage message, Receive(TimePoint::max()));
    if (std::holds_alternative<Bye>(message)) return absl::OkStatus();
    auto* plan = std::get_if<StepPlan>(&message);
    if (plan == nullptr) return absl::InvalidArgumentError("a message that no leader sends here");
    workers_->Submit(std::make_shared<const StepPlan>(std::move(*plan)));
  }
}

absl::StatusOr<GroupMessage> Follower::Receive(TimePoint deadline) {
  YOIO_ASSIGN_OR_RETURN(const std::string bytes, pipe_->Receive(deadline));
  return DeserializeMessage(bytes);
}

absl::Status RunOn(const EngineOptions& options, absl::StatusOr<Node> node, std::unique_ptr<Pipe> pipe,
                   const std::function<void()>& on_ready) {
  if (!node.ok()) {
    pipe->Break(node.status());
    return node.status();
  }
  auto follower = std::make_unique<Follower>(options, *std::move(node), std::move(pipe), on_ready);
  absl::Status end = follower->Run();
  // Stuck ranks are left to the end of the process, with all that they use.
  if (!follower->Leave()) std::thread([stuck = std::move(follower)] {}).detach();
  return end;
}

}  // namespace

absl::Status RunFollower(const EngineOptions& options, std::unique_ptr<Pipe> pipe,
                         const std::function<void()>& on_ready) {
  return RunOn(options, OpenNode(options), std::move(pipe), on_ready);
}

absl::Status RunFollower(const EngineOptions& options, Devices devices, std::unique_ptr<Pipe> pipe,
                         const std::function<void()>& on_ready) {
  return RunOn(options, OpenNode(options, std::move(devices)), std::move(pipe), on_ready);
}

}  // namespace yoio
