#include "client/load/histogram.h"

#include <algorithm>
#include <bit>
#include <chrono>
#include <cmath>

namespace yoio {
namespace {

constexpr auto kRelaxed = std::memory_order_relaxed;

int64_t Nanos(Duration duration) {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(duration).count();
}

}  // namespace

int Histogram::BucketOf(uint64_t nanos) {
  constexpr uint64_t kMost = (uint64_t{1} << kTopBits) - 1;
  nanos = std::min(nanos, kMost);
  if (nanos < (2u << kSubBits)) return static_cast<int>(nanos);
  const int shift = std::bit_width(nanos) - kSubBits - 1;
  return (shift << kSubBits) + static_cast<int>(nanos >> shift);
}

double Histogram::MiddleOf(int bucket) {
  if (bucket < (2 << kSubBits)) return 1e-9 * bucket;
  const int shift = (bucket >> kSubBits) - 1;
  const double least = std::ldexp((1 << kSubBits) + (bucket & ((1 << kSubBits) - 1)), shift);
  return 1e-9 * (least + std::ldexp(0.5, shift));
}

void Histogram::RaiseMax(int64_t nanos) {
  int64_t seen = max_nanos_.load(kRelaxed);
  while (nanos > seen && !max_nanos_.compare_exchange_weak(seen, nanos, kRelaxed)) continue;
}

void Histogram::Add(Duration duration) {
  const int64_t nanos = std::max<int64_t>(Nanos(duration), 0);
  buckets_[BucketOf(nanos)].fetch_add(1, kRelaxed);
  count_.fetch_add(1, kRelaxed);
  sum_nanos_.fetch_add(nanos, kRelaxed);
  RaiseMax(nanos);
}

void Histogram::Merge(const Histogram& other) {
  for (int i = 0; i < kBuckets; ++i) {
    const int64_t count = other.buckets_[i].load(kRelaxed);
    if (count != 0) buckets_[i].fetch_add(count, kRelaxed);
  }
  count_.fetch_add(other.count(), kRelaxed);
  sum_nanos_.fetch_add(other.sum_nanos_.load(kRelaxed), kRelaxed);
  RaiseMax(other.max_nanos_.load(kRelaxed));
}

void Histogram::Clear() {
  for (auto& bucket : buckets_) bucket.store(0, kRelaxed);
  count_.store(0, kRelaxed);
  sum_nanos_.store(0, kRelaxed);
  max_nanos_.store(0, kRelaxed);
}

double Histogram::Percentile(double share) const {
  const auto rank = std::max<int64_t>(1, std::ceil(share * static_cast<double>(count())));
  const double max = 1e-9 * static_cast<double>(max_nanos_.load(kRelaxed));
  int64_t below = 0;
  for (int i = 0; i < kBuckets; ++i) {
    below += buckets_[i].load(kRelaxed);
    if (below >= rank) return std::min(MiddleOf(i), max);
  }
  return max;
}

Percentiles Histogram::Summary() const {
  Percentiles result;
  result.count = count();
  if (result.count == 0) return result;
  result.mean = 1e-9 * static_cast<double>(sum_nanos_.load(kRelaxed)) / static_cast<double>(result.count);
  result.p50 = Percentile(0.5);
  result.p90 = Percentile(0.9);
  result.p99 = Percentile(0.99);
  result.p999 = Percentile(0.999);
  result.max = 1e-9 * static_cast<double>(max_nanos_.load(kRelaxed));
  return result;
}

}  // namespace yoio
