// An engine that does what a test tells it to.
#ifndef YOIO_TESTS_SERVER_SCRIPTED_ENGINE_H_
#define YOIO_TESTS_SERVER_SCRIPTED_ENGINE_H_

#include <deque>
#include <memory>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "base/mutex.h"
#include "engine/engine.h"

namespace yoio {

// One request that was submitted; the test plays the engine's part through it. Thread-safe.
class ScriptedRequest {
 public:
  ScriptedRequest(Request request, std::shared_ptr<Outbox> outbox)
      : request_(std::move(request)), outbox_(std::move(outbox)) {}

  const Request& request() const { return request_; }
  Outbox& outbox() { return *outbox_; }

  void Accept(int n = 1);
  void Send(Event event);
  void SendText(int choice, std::string text, int num_tokens = 1);
  void FinishChoice(int choice, FinishReason reason = FinishReason::kLength);
  // Summary and OK.
  void Complete(int prompt_tokens = 3, int completion_tokens = 1);
  // Ends the stream unless it has ended. Returns whether it had not.
  bool End(absl::Status status, std::optional<SummaryEvent> so_far = std::nullopt);
  bool ended() const {
    MutexLock lock(mutex_);
    return ended_;
  }

 private:
  const Request request_;
  const std::shared_ptr<Outbox> outbox_;
  mutable Mutex mutex_;
  bool ended_ ABSL_GUARDED_BY(mutex_) = false;
};

// Keeps what is submitted until the test asks for it. Tokenizes a text to its bytes. Thread-safe.
class ScriptedEngine : public Engine {
 public:
  ScriptedEngine();
  ~ScriptedEngine() override;

  // The next request in the order of their submission; blocks until it comes.
  std::shared_ptr<ScriptedRequest> WaitForRequest();
  // Later Submits return this and take nothing.
  void RefuseWith(absl::Status status);
  // Later submissions are answered at once: accepted, `text` as one delta, finished.
  void AnswerWith(std::string text);
  // Blocks until a request is cancelled, and returns why. Cancelled requests end with that reason.
  absl::Status WaitForCancel();
  // Requests that were submitted and have not ended.
  int num_live() const;
  void FailWith(absl::Status status);
  // RunText then refuses.
  void FillTextPool();

  ModelInfo& mutable_model() { return model_; }

  absl::Status Submit(Request request, std::shared_ptr<Outbox> outbox) override;
  absl::Status Cancel(std::string_view tenant, std::string_view request_id, absl::Status reason) override;
  absl::StatusOr<std::vector<int32_t>> Tokenize(std::string_view text) const override;
  absl::StatusOr<std::string> Detokenize(const std::vector<int32_t>& ids,
                                         bool skip_special_tokens) const override;
  absl::Status RunText(std::function<void()> work) override;
  const ModelInfo& model() const override { return model_; }
  const Limits& limits() const override { return limits_; }
  const MemoryPlan& memory() const override { return memory_; }
  Load load() const override { return {.running = 1, .waiting = 2, .waiting_tokens = 3}; }
  absl::Status health() const override;
  absl::Status Drain(TimePoint deadline) override;

 private:
  ModelInfo model_{};
  Limits limits_{};
  MemoryPlan memory_{};

  mutable Mutex mutex_;
  CondVar changed_;
  std::deque<std::shared_ptr<ScriptedRequest>> submitted_ ABSL_GUARDED_BY(mutex_);
  std::vector<std::shared_ptr<ScriptedRequest>> live_ ABSL_GUARDED_BY(mutex_);
  std::deque<absl::Status> cancelled_ ABSL_GUARDED_BY(mutex_);
  absl::Status refusal_ ABSL_GUARDED_BY(mutex_);
  absl::Status health_ ABSL_GUARDED_BY(mutex_);
  std::optional<std::string> answer_ ABSL_GUARDED_BY(mutex_);
  bool text_pool_full_ ABSL_GUARDED_BY(mutex_) = false;
  std::vector<std::thread> text_threads_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace yoio

#endif  // YOIO_TESTS_SERVER_SCRIPTED_ENGINE_H_
