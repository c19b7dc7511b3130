// How long something took, many times over, in little memory.
#ifndef YOIO_ENGINE_DURATION_HISTOGRAM_H_
#define YOIO_ENGINE_DURATION_HISTOGRAM_H_

#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>

#include "base/clock.h"

namespace yoio {

// Counts durations in buckets each 1/8 of a power of two wide, from a nanosecond to some 18 minutes; what is
// longer counts as that. Not thread-safe.
class DurationHistogram {
 public:
  void Add(Duration duration) {
    ++counts_[BucketOf(duration)];
    ++total_;
  }

  int64_t count() const { return total_; }

  // The least duration, rounded up to its bucket, that this share (0 to 1) of all does not exceed; zero
  // before the first.
  Duration Quantile(double share) const {
    const int64_t wanted = static_cast<int64_t>(share * static_cast<double>(total_));
    int64_t seen = 0;
    for (size_t bucket = 0; bucket < kBuckets; ++bucket) {
      seen += counts_[bucket];
      if (seen > 0 && seen >= wanted) return UpperEnd(bucket);
    }
    return Duration::zero();
  }

 private:
  static constexpr size_t kPowers = 40;
  static constexpr size_t kParts = 8;  // of each power of two
  static constexpr size_t kBuckets = kPowers * kParts;

  static size_t BucketOf(Duration duration) {
    const int64_t nanos = std::chrono::duration_cast<std::chrono::nanoseconds>(duration).count();
    const uint64_t value = static_cast<uint64_t>(std::max<int64_t>(nanos, 1)) * kParts;
    const size_t power = std::bit_width(value) - std::bit_width(kParts);
    return std::min(power * kParts + (value >> power) - kParts, kBuckets - 1);
  }
  static Duration UpperEnd(size_t bucket) {
    const uint64_t end = ((kParts + bucket % kParts + 1) << (bucket / kParts)) / kParts;
    return std::chrono::duration_cast<Duration>(std::chrono::nanoseconds(end));
  }

  std::array<int64_t, kBuckets> counts_{};
  int64_t total_ = 0;
};

}  // namespace yoio

#endif  // YOIO_ENGINE_DURATION_HISTOGRAM_H_
