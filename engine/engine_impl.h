// The engine behind engine/engine.h: admission on the caller's thread and the text pool, everything else on
// one engine thread.
#ifndef YOIO_ENGINE_ENGINE_IMPL_H_
#define YOIO_ENGINE_ENGINE_IMPL_H_

#include <memory>
#include <string>
#include <vector>

#include "engine/engine.h"
#include "engine/leader.h"
#include "engine/live_request.h"
#include "engine/mailbox.h"
#include "engine/node.h"
#include "engine/queue_gate.h"
#include "engine/registry.h"
#include "engine/scheduler.h"
#include "engine/step_loop.h"
#include "engine/step_notes.h"
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
  TokenGap token_gap;
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
  EngineStats stats() const override { return notes_.stats(); }
  FlightRecorder* recorder() const override { return &notes_.recorder(); }
  absl::StatusOr<EngineState> DumpState(int32_t max_requests, TimePoint deadline) override;
  absl::Status health() const override { return loop_.health(); }
  absl::Status Drain(TimePoint deadline) override;

 private:
  // Past the gate and the checks that need no tokenizer, then on to Prepare, here or on the text pool.
  absl::Status Admit(const std::shared_ptr<LiveRequest>& live);
  // Text pool, or the caller's thread for a prompt of ids: the last stop before the queue.
  // When it fails the request has not reached the engine thread and never will.
  absl::Status Prepare(const std::shared_ptr<LiveRequest>& live);
  // The prompt's ids, from its text where that is what came.
  absl::StatusOr<std::vector<int32_t>> TakePrompt(LiveRequest& live);
  std::shared_ptr<Responder> MakeResponder(const std::shared_ptr<LiveRequest>& live);
  // It never reached the engine thread.
  void Withdraw(LiveRequest& live);

  EngineParts parts_;
  Scheduler scheduler_;  // the engine thread's; outlives every request, as its blocks must
  Registry registry_;
  QueueGate gate_;
  Mailbox mailbox_;
  TextPool text_pool_;
  mutable StepNotes notes_;  // the engine thread and the ranks write there
  StepLoop loop_;
};

}  // namespace yoio

#endif  // YOIO_ENGINE_ENGINE_IMPL_H_
