// How long something took, in the buckets that metrics show.
#ifndef YOIO_ENGINE_LATENCY_HISTOGRAM_H_
#define YOIO_ENGINE_LATENCY_HISTOGRAM_H_

#include <algorithm>
#include <array>
#include <cstdint>

#include "base/clock.h"

namespace yoio {

// From 100 us to 10 min, six buckets to a power of ten, so that quantiles of neighbours differ by half at
// most. Not thread-safe.
class LatencyHistogram {
 public:
  // Upper ends in seconds, each part of its bucket; the last bucket has none.
  static constexpr std::array<double, 40> kBounds = {
      1e-4, 1.5e-4, 2e-4, 3e-4, 5e-4, 7e-4, 1e-3, 1.5e-3, 2e-3, 3e-3, 5e-3, 7e-3, 1e-2, 1.5e-2,
      2e-2, 3e-2,   5e-2, 7e-2, 0.1,  0.15, 0.2,  0.3,    0.5,  0.7,  1,    1.5,  2,    3,
      5,    7,      10,   15,   20,   30,   50,   70,     100,  150,  300,  600};

  void Add(Duration duration) {
    const double seconds = ToSeconds(duration);
    ++counts_[BucketOf(seconds)];
    sum_ += seconds;
  }

  // As if all that `other` was told of had been added here.
  void Merge(const LatencyHistogram& other) {
    for (size_t bucket = 0; bucket < counts_.size(); ++bucket) counts_[bucket] += other.counts_[bucket];
    sum_ += other.sum_;
  }

  // The index of a duration in counts().
  static size_t BucketOf(double seconds) {
    return std::lower_bound(kBounds.begin(), kBounds.end(), seconds) - kBounds.begin();
  }

  // Not cumulative; the last is of what is longer than every bound.
  const std::array<int64_t, kBounds.size() + 1>& counts() const { return counts_; }
  double sum() const { return sum_; }  // seconds

 private:
  std::array<int64_t, kBounds.size() + 1> counts_{};
  double sum_ = 0;
};

}  // namespace yoio

#endif  // YOIO_ENGINE_LATENCY_HISTOGRAM_H_
