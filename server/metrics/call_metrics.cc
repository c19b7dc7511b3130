#include "server/metrics/call_metrics.h"

#include <algorithm>
#include <functional>
#include <optional>
#include <string>
#include <thread>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "engine/latency_histogram.h"
#include "server/metrics/families.h"
#include "yoio/v1/errors.pb.h"

namespace yoio {
namespace {

constexpr int kNumCodes = 17;  // of gRPC
constexpr std::array<int64_t, kNumPromptClasses - 1> kMostTokens = {2048, 8192, 32768, 131072};
constexpr std::array<std::string_view, kNumPromptClasses> kClassNames = {"2k", "8k", "32k", "128k", "more"};

// As FinishReason; the last is for what failed before its output ended, or has none.
constexpr std::array<std::string_view, 5> kFinishReasons = {"stop", "eos", "length", "time_budget", "none"};
constexpr size_t kNoFinish = kFinishReasons.size() - 1;

constexpr char kReasonPrefix[] = "ERROR_REASON_";

// Each time of a request has a histogram by prompt class.
enum Time : uint8_t { kTimeToFirstToken, kQueue, kPrefill, kDecode, kDuration };
constexpr int kNumTimes = 5;
template <typename T>
using ByTimeAndClass = std::array<std::array<T, kNumPromptClasses>, kNumTimes>;

// What is known of the times of one request; those that it has not are empty.
using Times = std::array<std::optional<Duration>, kNumTimes>;

Times TimesOf(const CallRecord& record) {
  Times times;
  if (record.accepted) times[kDuration] = record.ended - record.arrival;
  if (!record.summary) return times;
  const Timing& timing = record.summary->timing;
  times[kQueue] = timing.queue;
  const bool has_token = timing.time_to_first_token > Duration::zero();
  if (has_token) times[kTimeToFirstToken] = timing.time_to_first_token;
  // Of what has no first token, the time until it failed says nothing of prompts.
  if (has_token || record.code == grpc::StatusCode::OK) times[kPrefill] = timing.prefill;
  if (has_token && record.summary->usage.completion_tokens > 1) times[kDecode] = timing.decode;
  return times;
}

int64_t PromptTokensOf(const CallRecord& record) {
  if (record.summary) return record.summary->usage.prompt_tokens;
  return record.request ? record.request->prompt_tokens : 0;
}

// ERROR_REASON_UNSPECIFIED for one that the protocol does not know.
v1::ErrorReason ReasonNamed(const std::string& name) {
  v1::ErrorReason reason = v1::ERROR_REASON_UNSPECIFIED;
  v1::ErrorReason_Parse(absl::StrCat(kReasonPrefix, name), &reason);
  return reason;
}

using ByReason = std::array<int64_t, v1::ErrorReason_ARRAYSIZE>;

void WriteByReason(const Family& family, const ByReason& counts, Exposition& exposition) {
  exposition.Begin(family);
  for (int reason = 0; reason < v1::ErrorReason_ARRAYSIZE; ++reason) {
    if (!v1::ErrorReason_IsValid(reason)) continue;
    const std::string name = v1::ErrorReason_Name(static_cast<v1::ErrorReason>(reason));
    exposition.Add({std::string_view(name).substr(sizeof(kReasonPrefix) - 1)},
                   static_cast<double>(counts[reason]));
  }
}

double SecondsSinceEpoch() {
  return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
}

void MergeExemplars(const Exemplars& from, Exemplars& into) {
  for (size_t bucket = 0; bucket < into.size(); ++bucket) {
    if (from[bucket].time > into[bucket].time) into[bucket] = from[bucket];
  }
}

}  // namespace

struct CallMetrics::Counts {
  std::array<std::array<int64_t, kFinishReasons.size()>, kNumCodes> requests{};
  ByReason refusals{};
  ByReason failures{};
  ByTimeAndClass<LatencyHistogram> times{};

  void Add(const CallRecord& record, const Times& observed, PromptClass prompt_class) {
    const size_t finish = record.finish_reason ? static_cast<size_t>(*record.finish_reason) : kNoFinish;
    ++requests[std::clamp<int>(record.code, 0, kNumCodes - 1)][finish];
    if (record.code != grpc::StatusCode::OK) {
      ++(record.accepted ? failures : refusals)[ReasonNamed(record.reason)];
    }
    for (int time = 0; time < kNumTimes; ++time) {
      if (observed[time]) times[time][static_cast<size_t>(prompt_class)].Add(*observed[time]);
    }
  }

  void Merge(const Counts& other) {
    for (int code = 0; code < kNumCodes; ++code) {
      for (size_t finish = 0; finish < kFinishReasons.size(); ++finish) {
        requests[code][finish] += other.requests[code][finish];
      }
    }
    for (size_t reason = 0; reason < refusals.size(); ++reason) {
      refusals[reason] += other.refusals[reason];
      failures[reason] += other.failures[reason];
    }
    for (int time = 0; time < kNumTimes; ++time) {
      for (int prompt_class = 0; prompt_class < kNumPromptClasses; ++prompt_class) {
        times[time][prompt_class].Merge(other.times[time][prompt_class]);
      }
    }
  }
};

// Aligned so that no two threads write to one cache line.
struct alignas(64) CallMetrics::Shard {
  mutable Mutex mutex;
  Counts counts ABSL_GUARDED_BY(mutex);
};

struct CallMetrics::LatestSampled {
  ByTimeAndClass<Exemplars> exemplars{};

  void Add(const CallRecord& record, const Times& observed, PromptClass prompt_class) {
    const double now = SecondsSinceEpoch();
    for (int time = 0; time < kNumTimes; ++time) {
      if (!observed[time]) continue;
      const double seconds = ToSeconds(*observed[time]);
      exemplars[time][static_cast<size_t>(prompt_class)][LatencyHistogram::BucketOf(seconds)] = {
          .trace = record.trace.trace, .value = seconds, .time = now};
    }
  }
};

PromptClass PromptClassOf(int64_t prompt_tokens) {
  return static_cast<PromptClass>(std::lower_bound(kMostTokens.begin(), kMostTokens.end(), prompt_tokens) -
                                  kMostTokens.begin());
}

std::string_view NameOf(PromptClass prompt_class) { return kClassNames[static_cast<size_t>(prompt_class)]; }

CallMetrics::CallMetrics()
    : shards_(std::make_unique<Shard[]>(kNumShards)), sampled_(std::make_unique<LatestSampled>()) {}
CallMetrics::~CallMetrics() = default;

CallMetrics::Shard& CallMetrics::ShardOfThisThread() {
  return shards_[std::hash<std::thread::id>{}(std::this_thread::get_id()) % kNumShards];
}

void CallMetrics::Ended(const CallRecord& record) {
  const Times times = TimesOf(record);
  const PromptClass prompt_class = PromptClassOf(PromptTokensOf(record));
  {
    Shard& shard = ShardOfThisThread();
    MutexLock lock(shard.mutex);
    shard.counts.Add(record, times, prompt_class);
  }
  if (!record.trace.sampled) return;
  MutexLock lock(mutex_);
  sampled_->Add(record, times, prompt_class);
}

void CallMetrics::Write(Exposition& exposition) const {
  const auto counts = std::make_unique<Counts>();
  for (int i = 0; i < kNumShards; ++i) {
    MutexLock lock(shards_[i].mutex);
    counts->Merge(shards_[i].counts);
  }
  LatestSampled sampled;
  {
    MutexLock lock(mutex_);
    sampled = *sampled_;
  }

  exposition.Begin(families::kRequests);
  for (int code = 0; code < kNumCodes; ++code) {
    const std::string name = absl::StatusCodeToString(static_cast<absl::StatusCode>(code));
    for (size_t finish = 0; finish < kFinishReasons.size(); ++finish) {
      const int64_t count = counts->requests[code][finish];
      // Usual ones are there from the start, so that their increase is seen from the first on.
      const bool usual = code == grpc::StatusCode::OK || finish == kNoFinish;
      if (usual || count > 0) exposition.Add({name, kFinishReasons[finish]}, static_cast<double>(count));
    }
  }
  WriteByReason(families::kRefusals, counts->refusals, exposition);
  WriteByReason(families::kFailures, counts->failures, exposition);

  const auto write_by_class = [&](const Family& family, Time time) {
    exposition.Begin(family);
    for (int i = 0; i < kNumPromptClasses; ++i) {
      exposition.Add({kClassNames[i]}, counts->times[time][i], &sampled.exemplars[time][i]);
    }
  };
  const auto write_all = [&](const Family& family, Time time) {
    LatencyHistogram histogram;
    Exemplars exemplars;
    for (int i = 0; i < kNumPromptClasses; ++i) {
      histogram.Merge(counts->times[time][i]);
      MergeExemplars(sampled.exemplars[time][i], exemplars);
    }
    exposition.AddFamily(family, histogram, &exemplars);
  };
  write_by_class(families::kTimeToFirstToken, kTimeToFirstToken);
  write_by_class(families::kQueueTime, kQueue);
  write_by_class(families::kPrefillTime, kPrefill);
  write_all(families::kDecodeTime, kDecode);
  write_all(families::kRequestDuration, kDuration);
}

}  // namespace yoio
