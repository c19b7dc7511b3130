// The engine behind engine/engine.h: admission on the caller's thread and the text pool, everything else on
// one engine thread.
#ifndef YOIO_ENGINE_ENGINE_IMPL_H_
#define YOIO_ENGINE_ENGINE_IMPL_H_

#include <atomic>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "engine/engine.h"
#include "engine/leader.h"
#include "engine/live_request.h"
#include "engine/mailbox.h"
#include "engine/node.h"
#include "engine/registry.h"
#include "engine/scheduler.h"
#include "engine/step_pace.h"
#include "engine/text_pool.h"
#include "engine/tokenizer/tokenizer.h"

namespace yoio {

// What Engine::Create has put together.
struct EngineParts {
  EngineOptions options;
  ModelInfo model;
  Limits limits;
  MemoryPlan memory;
  int depth = 1;
  SchedulerOptions scheduler;
  std::unique_ptr<Tokenizer> tokenizer;  // may be null
  std::unique_ptr<Node> node;
  std::unique_ptr<Leader> leader;
};

class EngineImpl : public Engine {
 public:
  explicit EngineImpl(EngineParts parts);
  // Ends whatever lives with UNAVAILABLE and joins. Blocks as long as a rank of this process is stuck: an
  // engine that has failed is left by the end of the process.
  ~EngineImpl() override;

  absl::Status Submit(Request request, std::shared_ptr<Outbox> outbox) override;
  absl::Status Cancel(std::string_view tenant, std::string_view request_id, absl::Status reason) override;
  absl::StatusOr<std::vector<int32_t>> Tokenize(std::string_view text) const override;
  absl::StatusOr<std::string> Detokenize(const std::vector<int32_t>& ids,
                                         bool skip_special_tokens) const override;
  absl::Status RunText(std::function<void()> work) override;
  const ModelInfo& model() const override { return parts_.model; }
  const Limits& limits() const override { return parts_.limits; }
  const MemoryPlan& memory() const override { return parts_.memory; }
  Load load() const override;
  absl::Status health() const override;
  absl::Status Drain(TimePoint deadline) override;

 private:
  // Text pool, or the caller's thread for a prompt of ids: the last stop before the queue.
  // When it fails the request has not reached the engine thread and never will.
  absl::Status Prepare(const std::shared_ptr<LiveRequest>& live);

  // Everything below: engine thread.
  void Run();
  void TakeCommands();
  void Handle(SubmitCommand command);
  void Handle(StopCommand command);
  void Handle(CancelCommand command);
  void Handle(CancelAllCommand command);
  void Handle(FailureCommand command);
  // Deadlines, budgets, slow readers; returns when to look again.
  TimePoint Police(TimePoint now);
  void ReportProgress(LiveRequest& live, TimePoint now);
  void Deliver(absl::StatusOr<StepResult> result);
  void DeliverSample(const Scheduler::Sample& sample, int64_t step, TimePoint now);
  void DeliverScores(Scheduler::Scores& scores, TimePoint now);
  void EndChoice(LiveRequest& live, int32_t choice);
  void Complete(LiveRequest& live);
  void Fail(LiveRequest& live, absl::Status status);
  // No choice of it is open any more.
  void Close(LiveRequest& live);
  void FailAll(const absl::Status& status);
  void ForgetRetired();
  void PublishLoad();
  void Die(absl::Status status);

  EngineParts parts_;
  Scheduler scheduler_;  // outlives every request, as its blocks must
  StepPace pace_;
  Registry registry_;
  Mailbox mailbox_;
  TextPool text_pool_;
  // Alive, or ended but with blocks still in a step under way.
  absl::flat_hash_map<SequenceGroup*, std::shared_ptr<LiveRequest>> live_;
  std::vector<Command> commands_;
  absl::Status refusal_;  // not OK: whatever still arrives ends with it
  bool dead_ = false;     // a step has failed: results mean nothing any more
  int64_t generated_tokens_ = 0;
  int64_t prompt_tokens_ = 0;
  int64_t steps_ = 0;

  mutable Mutex mutex_;
  Load load_ ABSL_GUARDED_BY(mutex_);
  absl::Status health_ ABSL_GUARDED_BY(mutex_);
  std::thread thread_;
};

}  // namespace yoio

#endif  // YOIO_ENGINE_ENGINE_IMPL_H_
