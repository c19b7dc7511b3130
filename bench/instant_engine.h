// An engine that has every token at once.
#ifndef YOIO_BENCH_INSTANT_ENGINE_H_
#define YOIO_BENCH_INSTANT_ENGINE_H_

#include <memory>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "base/mutex.h"
#include "engine/engine.h"
#include "engine/responder.h"
#include "engine/text_pool.h"
#include "engine/tokenizer/tokenizer.h"

namespace yoio::bench {

// Waits until `streams` requests have come, then gives each of them max_tokens tokens in rounds of one
// thread, as an engine's steps do, and ends them. A token is always the same one. Thread-safe.
class InstantEngine final : public Engine {
 public:
  struct Options {
    int streams = 64;
    // A stream gets its next token once its reader has taken the one before, so that each is a message of its
    // own. Otherwise as soon as its outbox is not full: what waits merges.
    bool one_by_one = true;
    // Detokenise with this on a text pool, as the real engine does; null: events go straight to the outbox.
    const Tokenizer* tokenizer = nullptr;
    int32_t token = 0;  // the id of every token
    std::string text;   // and its text
  };
  explicit InstantEngine(Options options);
  ~InstantEngine() override;

  absl::Status Submit(Request request, std::shared_ptr<Outbox> outbox) override;
  // Nobody cancels here.
  absl::Status Cancel(std::string_view, std::string_view, absl::Status) override;
  absl::StatusOr<std::vector<int32_t>> Tokenize(std::string_view text) const override;
  absl::StatusOr<std::string> Detokenize(const std::vector<int32_t>& ids, bool) const override;
  absl::Status RunText(std::function<void()> work) override;
  const ModelInfo& model() const override { return model_; }
  const Limits& limits() const override { return limits_; }
  const MemoryPlan& memory() const override { return memory_; }
  Load load() const override { return {}; }
  absl::Status health() const override { return absl::OkStatus(); }
  absl::Status Drain(TimePoint) override { return absl::OkStatus(); }

 private:
  struct Stream {
    std::shared_ptr<Outbox> outbox;
    std::shared_ptr<Responder> responder;  // with a tokenizer
    std::string id;
    int32_t max_tokens;
    int32_t given = 0;
  };
  void Run();
  // One token for every stream that can take one; streams that have ended leave. False when none could.
  bool Round(std::vector<Stream>& streams) const;
  bool CanTake(const Stream& stream) const;
  void Accept(Stream& stream) const;
  void Give(Stream& stream) const;
  void End(Stream& stream) const;

  const Options options_;
  ModelInfo model_{};
  Limits limits_{};
  MemoryPlan memory_{};
  TextPool text_pool_;
  Mutex mutex_;
  CondVar changed_;
  std::vector<Stream> submitted_ ABSL_GUARDED_BY(mutex_);
  bool closing_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread thread_;
};

}  // namespace yoio::bench

#endif  // YOIO_BENCH_INSTANT_ENGINE_H_
