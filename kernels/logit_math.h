// What happens to single logits around a draw: the same bits on every device. As kernels/draw_math.h, whose
// rules hold here too.
#ifndef YOIO_KERNELS_LOGIT_MATH_H_
#define YOIO_KERNELS_LOGIT_MATH_H_

#include <cstdint>
#include <limits>

#include "kernels/draw_math.h"
#include "kernels/ops.h"

namespace yoio::kernels {

inline constexpr float kBanned = -std::numeric_limits<float>::infinity();

// `history` is the token's word in the history of the sequence.
constexpr float Penalize(float logit, uint32_t history, const AdjustRow& row) {
  if (history == 0) return logit;
  logit = logit > 0 ? logit / row.repetition_penalty : logit * row.repetition_penalty;
  const uint32_t count = history & ~kSeenBit;
  if (count == 0) return logit;
  logit -= row.frequency_penalty * static_cast<float>(count);
  return logit - row.presence_penalty;
}

// A sum of opposite infinities is a ban; only a NaN gives NaN.
constexpr float AddBias(float logit, float bias) {
  if (logit != logit) return logit;
  const float sum = logit + bias;
  return sum != sum ? kBanned : sum;
}

constexpr float Ban(float logit) { return logit != logit ? logit : kBanned; }

// Once `id` has been output.
constexpr uint32_t Recorded(uint32_t history) { return (history | kSeenBit) + 1; }

// Log-probabilities of a row without NaN, from its highest logit and what all of its logits weigh relative to
// that one.
class LogSoftmax {
 public:
  // With a finite highest logit, `weight` is the sum of FixedWeight(PortableExp(x - highest)); with an
  // infinite one, the number of logits that equal it.
  constexpr LogSoftmax(float highest, int64_t weight)
      : highest_(highest),
        log_sum_(PortableLog(IsInfinite(highest) ? static_cast<double>(weight)
                                                 : static_cast<double>(weight) / kWeightOne)) {}

  constexpr float operator()(float logit) const {
    if (logit == kBanned) return kBanned;
    if (highest_ == -kBanned) return logit == highest_ ? static_cast<float>(-log_sum_) : kBanned;
    return static_cast<float>(static_cast<double>(logit) - highest_ - log_sum_);
  }

  static constexpr bool IsInfinite(float x) { return x == kBanned || x == -kBanned; }

 private:
  float highest_;
  double log_sum_;
};

}  // namespace yoio::kernels

#endif  // YOIO_KERNELS_LOGIT_MATH_H_
