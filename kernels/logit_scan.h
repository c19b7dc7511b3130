// Passes over one row of logits in host memory: its peak, its best few, and the sum of its weights.
#ifndef YOIO_KERNELS_LOGIT_SCAN_H_
#define YOIO_KERNELS_LOGIT_SCAN_H_

#include <cstdint>
#include <span>

namespace yoio::kernels {

struct Peak {
  float value;  // highest logit; minus infinity when there is no higher one
  int32_t id;   // the lowest id that has it
  bool nan;     // some logit is NaN: the rest is meaningless
};

// One pass at the speed of memory.
Peak FindPeak(std::span<const float> logits);

// Highest of `logits`, which hold no NaN and are not empty.
float MaxOf(std::span<const float> logits);

// The order of tokens by logit: highest first, ties to the lowest id.
struct BetterToken {
  const float* logits;
  bool operator()(int32_t a, int32_t b) const {
    return logits[a] != logits[b] ? logits[a] > logits[b] : a < b;
  }
};

// The `k` best tokens, best first; never one whose logit is minus infinity, hence fewer when there are no
// more. The result lies in `order` ([vocab], overwritten). One pass, in which blocks without a candidate are
// skipped, and partial selections of 2k candidates at a time.
std::span<int32_t> SelectTop(std::span<const float> logits, int k, std::span<int32_t> order);

// Sum of e^((x - shift) / temperature) in fixed point (FixedWeight of kernels/draw_math.h), exact. No logit
// exceeds shift.
int64_t SumWeights(std::span<const float> logits, float shift, float temperature);

}  // namespace yoio::kernels

#endif  // YOIO_KERNELS_LOGIT_SCAN_H_
