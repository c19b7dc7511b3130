// Durations counted in buckets.
#ifndef YOIO_CLIENT_LOAD_HISTOGRAM_H_
#define YOIO_CLIENT_LOAD_HISTOGRAM_H_

#include <array>
#include <atomic>
#include <cstdint>

#include "base/clock.h"

namespace yoio {

// What a histogram says, in seconds. All zero when nothing was counted.
struct Percentiles {
  int64_t count = 0;
  double mean = 0, p50 = 0, p90 = 0, p99 = 0, p999 = 0, max = 0;
};

// Counts durations from 0 to five hours; longer ones count as that. Up to 256 ns a bucket is one nanosecond
// wide; above, each power of two has 128 buckets, so that a percentile is off by at most 1/256 (0.4%) of
// itself. Mean and maximum are exact. 39 KiB, whatever is counted.
//
// Add is lock-free and may be called from any threads. What is read while others add may miss their last
// ones.
class Histogram {
 public:
  void Add(Duration duration);
  // Adds what `other` has counted.
  void Merge(const Histogram& other);
  void Clear();

  int64_t count() const { return count_.load(std::memory_order_relaxed); }
  // The shortest time that at least `share` (0 to 1) of those counted do not exceed. 0 when there are none.
  double Percentile(double share) const;
  Percentiles Summary() const;

 private:
  static constexpr int kSubBits = 7;   // 128 buckets for each power of two
  static constexpr int kTopBits = 44;  // 2^44 ns are five hours
  static constexpr int kBuckets = (kTopBits - kSubBits + 1) << kSubBits;

  static int BucketOf(uint64_t nanos);
  static double MiddleOf(int bucket);  // in seconds
  void RaiseMax(int64_t nanos);

  std::array<std::atomic<int64_t>, kBuckets> buckets_{};
  std::atomic<int64_t> count_{0}, sum_nanos_{0}, max_nanos_{0};
};

}  // namespace yoio

#endif  // YOIO_CLIENT_LOAD_HISTOGRAM_H_
