// Which requests are traced, and the ids of their spans.
#ifndef YOIO_SERVER_TRACE_SAMPLER_H_
#define YOIO_SERVER_TRACE_SAMPLER_H_

#include <array>
#include <atomic>
#include <cstdint>
#include <string>

#include "absl/container/flat_hash_map.h"
#include "base/clock.h"
#include "base/mutex.h"
#include "engine/trace_id.h"

namespace yoio {

// OpenTelemetry's standard samplers.
struct SamplerOptions {
  bool parent_based = true;  // a caller's decision is taken over
  double ratio = 1;          // of traces that nobody has decided on: 0 always_off, 1 always_on
};

// Draws ids that no other process draws, as far as anybody can tell: numbered from a place that the operating
// system chose, and scrambled. Thread-safe; lock-free.
class IdSource {
 public:
  IdSource();
  // For tests: always the same ids.
  explicit IdSource(std::array<uint64_t, 3> start) : start_(start) {}

  // A span that begins a trace; not sampled yet.
  TraceId NewTrace();
  std::array<uint8_t, 8> NewSpan();

 private:
  std::array<uint64_t, 3> start_;
  std::atomic<uint64_t> drawn_{0};
};

// How often each tenant may have its requests traced: as many as come in a second at once, and after that
// `rate` a second. Thread-safe.
class TenantBudget {
 public:
  // More tenants than these at a time share one budget.
  static constexpr size_t kMaxTenants = 4096;

  // Per second; 0: never.
  explicit TenantBudget(double rate) : rate_(rate) {}

  // Takes one from the tenant's budget, if it has one.
  bool Take(const std::string& tenant, TimePoint now);

 private:
  struct Bucket {
    double tokens;
    TimePoint filled;
  };
  // Makes room for another tenant by forgetting those whose budgets are whole again.
  void Forget(TimePoint now) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  double Capacity() const { return rate_ < 1 ? (rate_ > 0 ? 1 : 0) : rate_; }

  const double rate_;
  Mutex mutex_;
  absl::flat_hash_map<std::string, Bucket> buckets_ ABSL_GUARDED_BY(mutex_);
};

// Decides at the beginning of a request whether its spans are exported, whatever comes of it. Thread-safe.
class TraceSampler {
 public:
  // `tenant_rate`: for how many requests a second a tenant may decide that they are traced.
  TraceSampler(const SamplerOptions& options, double tenant_rate);

  // For a span whose caller sent `sampled`. Beyond the tenant's rate a decision for sampling counts as one
  // against it.
  bool Sample(const TraceId& id, bool sampled, const std::string& tenant);
  // For one that begins a trace: the same for each of its spans, wherever they are.
  bool SampleRoot(const TraceId& id) const;

 private:
  const SamplerOptions options_;
  const uint64_t sampled_below_;  // the lower half of a trace's id, at a ratio below 1
  TenantBudget budget_;
};

}  // namespace yoio

#endif  // YOIO_SERVER_TRACE_SAMPLER_H_
