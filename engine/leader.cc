#include "engine/leader.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "base/status.h"

namespace yoio {
namespace {

constexpr Duration kCpuStepTimeout = std::chrono::seconds(60);
constexpr Duration kGpuStepTimeout = std::chrono::seconds(30);
// For followers to finish their last step and leave.
constexpr Duration kByeTimeout = std::chrono::seconds(2);

Duration StepTimeout(const EngineOptions& options, const Node& node) {
  if (options.step_timeout > Duration{0}) return options.step_timeout;
  return node.devices.kind() == kernels::DeviceKind::kCuda ? kGpuStepTimeout : kCpuStepTimeout;
}

}  // namespace

absl::StatusOr<std::unique_ptr<Leader>> Leader::Create(const EngineOptions& options, const Node& node,
                                                       StepTimesListener on_step_times) {
  YOIO_RETURN_IF_ERROR(node.checkpoint.status());
  YOIO_ASSIGN_OR_RETURN(const CommunicatorKind kind, ChooseCommunicator(options, node.devices.kind()));
  const TimePoint deadline = Clock::now() + options.load_timeout;
  auto leader = std::unique_ptr<Leader>(new Leader());
  leader->on_step_times_ = std::move(on_step_times);
  YOIO_RETURN_IF_ERROR(leader->Gather(options, node, deadline));
  YOIO_RETURN_IF_ERROR(leader->Start(options, node, kind, deadline));
  return leader;
}

// Plans with this process's devices alone before it waits for others: what does not fit here fits nowhere.
absl::Status Leader::Gather(const EngineOptions& options, const Node& node, TimePoint deadline) {
  YOIO_ASSIGN_OR_RETURN(sizing_, PlanMemory(options, *node.config, node.memory));
  if (options.nnodes == 1) return absl::OkStatus();
  if (options.doorway == nullptr) {
    return absl::InvalidArgumentError("--nnodes is more than 1, but there is no --followers-listen");
  }
  followers_ = std::make_unique<Followers>(FollowersOptions{
      .doorway = options.doorway, .leader = HelloOf(options, node), .on_refusal = options.on_refusal});
  const TimePoint begin = Clock::now();
  YOIO_ASSIGN_OR_RETURN(const std::vector<Hello> hellos, followers_->Gather(deadline));
  gather_times_.push_back({"followers", begin, Clock::now()});
  DeviceMemory all = node.memory;
  for (const Hello& hello : hellos) {
    all.available.insert(all.available.end(), hello.available_bytes.begin(), hello.available_bytes.end());
    all.host_available = std::min(all.host_available, hello.host_bytes);
  }
  YOIO_ASSIGN_OR_RETURN(sizing_, PlanMemory(options, *node.config, all));
  return absl::OkStatus();
}

absl::Status Leader::Start(const EngineOptions& options, const Node& node, CommunicatorKind kind,
                           TimePoint deadline) {
  WorkerGroupOptions workers = WorkersOf(options, node);
  std::unique_ptr<Rendezvous> rendezvous;  // until all have met
  if (kind != CommunicatorKind::kLocal) {
    YOIO_ASSIGN_OR_RETURN(rendezvous, MakeRendezvous(kind, workers.group.host));
    workers.group.ticket = rendezvous->ticket();
    workers.group.rendezvous = rendezvous.get();
  }
  workers.worker.checkpoint = node.checkpoint->get();
  workers.worker.sizing = sizing_;
  workers.worker.index_by_rows = options.index_sharding == IndexSharding::kRows;
  workers.worker.check_index = options.check_index;
  workers.group.kind = kind;
  step_timeout_ = StepTimeout(options, node);
  workers.step_timeout = step_timeout_;
  workers.watch_all = true;
  workers.on_ended = on_step_times_;
  workers.on_failure = [this](const absl::Status& failure) { Spread(failure); };
  workers_ = std::make_unique<WorkerGroup>(workers);
  if (followers_ == nullptr) return workers_->Start(deadline);

  followers_->Welcome({.communicator = kind,
                       .ticket = workers.group.ticket,
                       .dummy_weights = options.load_format == LoadFormat::kDummy,
                       .index_sharding = options.index_sharding,
                       .check_index = options.check_index,
                       .step_timeout_ns = std::chrono::nanoseconds(step_timeout_).count(),
                       .max_model_len = sizing_.max_model_len,
                       .limits = sizing_.limits,
                       .cache = sizing_.cache},
                      {.on_ended = [this](const Ended& ended) { Note(ended); },
                       .on_failure = [this](absl::Status failure) { workers_->Fail(std::move(failure)); }});
  YOIO_RETURN_IF_ERROR(workers_->Start(deadline));
  const absl::Status loaded = followers_->AwaitLoaded(deadline);
  if (!loaded.ok()) workers_->Fail(loaded);
  return workers_->failure();
}

void Leader::Note(const Ended& ended) {
  if (on_step_times_) on_step_times_(ended.rank, ended.step, ended.times);
  workers_->Ended(ended.rank, ended.step);
}

std::vector<LoadTime> Leader::load_times() const {
  std::vector<LoadTime> times = gather_times_;
  const std::vector<LoadTime> own = workers_->load_times();
  times.insert(times.end(), own.begin(), own.end());
  return times;
}

Leader::~Leader() {
  const bool in_order = workers_ != nullptr && workers_->failure().ok();
  if (followers_ != nullptr && in_order) followers_->SayBye();
  if (workers_ != nullptr) workers_->Stop(TimePoint::max());
  if (followers_ != nullptr && in_order) followers_->AwaitGone(Clock::now() + kByeTimeout);
}

void Leader::Spread(const absl::Status& failure) {
  if (followers_ != nullptr) followers_->Break(failure);
  MutexLock lock(mutex_);
  if (listener_) std::exchange(listener_, nullptr)(failure);
}

void Leader::OnFailure(Listener listener) {
  MutexLock lock(mutex_);
  listener_ = std::move(listener);
  const absl::Status failure = workers_->failure();
  if (listener_ && !failure.ok()) std::exchange(listener_, nullptr)(failure);
}

void Leader::Submit(StepPlan plan) {
  if (followers_ != nullptr) followers_->Send(plan);
  workers_->Submit(std::make_shared<const StepPlan>(std::move(plan)));
}

}  // namespace yoio
