// What calls that have ended add to the metrics.
#ifndef YOIO_SERVER_METRICS_CALL_METRICS_H_
#define YOIO_SERVER_METRICS_CALL_METRICS_H_

#include <array>
#include <cstdint>
#include <memory>
#include <string_view>

#include "absl/base/thread_annotations.h"
#include "base/mutex.h"
#include "server/call_record.h"
#include "server/metrics/exposition.h"

namespace yoio {

// By the tokens of a prompt: up to 2,048, 8,192, 32,768, 131,072, or more.
enum class PromptClass : uint8_t { k2k, k8k, k32k, k128k, kMore };
inline constexpr int kNumPromptClasses = 5;

PromptClass PromptClassOf(int64_t prompt_tokens);
std::string_view NameOf(PromptClass prompt_class);

// Counts every call, and keeps the latest sampled request of each bucket as its exemplar. Thread-safe:
// threads count in shards, which only Write takes together.
class CallMetrics : public CallObserver {
 public:
  CallMetrics();
  ~CallMetrics() override;

  void Ended(const CallRecord& record) override;

  // Adds the families of calls.
  void Write(Exposition& exposition) const;

 private:
  struct Counts;
  struct Shard;
  struct LatestSampled;

  Shard& ShardOfThisThread();

  static constexpr int kNumShards = 16;
  const std::unique_ptr<Shard[]> shards_;
  mutable Mutex mutex_;
  const std::unique_ptr<LatestSampled> sampled_ ABSL_PT_GUARDED_BY(mutex_);
};

}  // namespace yoio

#endif  // YOIO_SERVER_METRICS_CALL_METRICS_H_
