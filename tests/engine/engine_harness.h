// A whole engine on a tiny model, and callers that read what it says.
#ifndef YOIO_TESTS_ENGINE_ENGINE_HARNESS_H_
#define YOIO_TESTS_ENGINE_ENGINE_HARNESS_H_

#include <cstdint>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "base/mutex.h"
#include "engine/engine.h"
#include "engine/event.h"
#include "engine/outbox.h"
#include "engine/request.h"

namespace yoio::test {

// What one choice has produced.
struct ChoiceOutput {
  std::string text;
  std::vector<TokenRecord> tokens;
  std::optional<FinishedEvent> finished;

  std::vector<int32_t> ids() const;
};

// Everything that one stream has said. The harness fails the test when the order of events is wrong.
struct StreamOutput {
  std::optional<AcceptedEvent> accepted;
  std::vector<ChoiceOutput> choices;
  std::vector<TokenRecord> scores;  // of prompt positions 1, 2, ...
  int progress = 0;
  std::optional<SummaryEvent> summary;
  std::optional<absl::Status> end;
};

// One stream and its reader: takes events as they come, or only when told to. Thread-safe.
class Call final : public Transport, public std::enable_shared_from_this<Call> {
 public:
  static constexpr int kNeverHold = std::numeric_limits<int>::max();

  // The reader takes nothing any more once `hold_after` tokens have come: the engine then pauses the request
  // when some 256 more wait, so that a longer one lives until somebody ends it or the reader resumes.
  static std::shared_ptr<Call> Make(int hold_after = kNeverHold);

  void Ready() override;
  std::shared_ptr<Outbox> outbox() const { return outbox_; }

  // From now on the reader takes whatever comes.
  void Resume();

  // Waits until the stream has ended, or for a minute, and returns what it said.
  StreamOutput Wait();
  // Waits until `count` tokens of all choices have come, or the stream has ended.
  void WaitForTokens(int count);

 private:
  void Take();
  void Note(Event& event) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  std::shared_ptr<Outbox> outbox_;
  Mutex mutex_;
  CondVar changed_;
  int hold_after_ ABSL_GUARDED_BY(mutex_) = kNeverHold;
  bool ready_ ABSL_GUARDED_BY(mutex_) = false;  // something waits while the reader holds
  int tokens_ ABSL_GUARDED_BY(mutex_) = 0;
  StreamOutput output_ ABSL_GUARDED_BY(mutex_);
};

// The golden checkpoint of tests/golden/micro: 2 + 2 layers, window 24, top-k 32, vocabulary 256, ids only.
EngineOptions MicroOptions();
std::unique_ptr<Engine> MakeEngine(const EngineOptions& options);

// A greedy request for `max_tokens` ids, whatever they are, with a prompt drawn from `seed`.
Request IdsRequest(const std::string& id, int prompt_tokens, int max_tokens, uint64_t seed = 1);

// Submits; the request must be taken.
std::shared_ptr<Call> Submit(Engine& engine, Request request, int hold_after = Call::kNeverHold);
// Submits a request that must be refused at once: its stream says nothing. Returns why.
absl::Status Refusal(Engine& engine, Request request);
// Submits and waits; the stream must end well.
StreamOutput Generate(Engine& engine, Request request);

// Nothing runs, nothing waits and every block is free, soon.
void ExpectAllReturned(const Engine& engine);

// Same ids, and log-probabilities equal to the last bit.
void ExpectSameTokens(const std::vector<TokenRecord>& actual, const std::vector<TokenRecord>& expected);

}  // namespace yoio::test

#endif  // YOIO_TESTS_ENGINE_ENGINE_HARNESS_H_
