// How a token is drawn from logits: the same token for the same logits and DrawRow on every device.
#ifndef YOIO_KERNELS_DRAW_H_
#define YOIO_KERNELS_DRAW_H_

#include <cstdint>
#include <span>

#include "kernels/logit_scan.h"
#include "kernels/ops.h"

namespace yoio::kernels {

// The definition. In order: temperature; top-k, top-p, min-p, each on the renormalised rest; then
// argmax(logit / T + Gumbel noise), computed as argmax(logit + T * noise). T = 0 is greedy, ties to the
// lowest id. In detail:
// - The noise is Philox4x32-10 of key (seed's low word, its high word) and counter (id / 4, output position,
//   sample index, 0); a token's is GumbelNoise (kernels/draw_math.h) of word id mod 4.
// - T * noise and its sum with the logit are doubles. Which of two tokens wins depends on nothing but the two
//   (kernels/contender.h), so that the best of the whole is the best of the best of any parts.
// - Weights are of logits less the highest of them, divided by T in float (`scaled`): FixedWeight of
//   e^scaled, whose sums are exact.
// - top-k keeps exactly k tokens, ties to the lowest id. top-p then keeps the fewest, in the same order,
//   whose weights reach p of the sum of all that were left, at least one. min-p then keeps tokens of at least
//   min_p times the probability of the best: scaled >= log(min_p).
// - A token at minus infinity is never drawn while there is another. When all are, all are equal: the lowest
//   id is drawn.
// - When logits are plus infinity they are equal among themselves and the others have no probability.
// - Finite logits differ by less than the largest float.

struct DrawScratch {
  std::span<float> logits;   // [vocab]
  std::span<int32_t> order;  // [vocab]
};

// The draw of the CPU backend: the place in `logits` of the token drawn. `peak` is FindPeak(logits), without
// NaN. `logits` may be scratch.logits. row.logits_row and row.is_adjusted are not used. `first_id`, a
// multiple of 4, is the id of the first logit.
int32_t DrawToken(const DrawRow& row, std::span<const float> logits, Peak peak, const DrawScratch& scratch,
                  int32_t first_id = 0);

}  // namespace yoio::kernels

#endif  // YOIO_KERNELS_DRAW_H_
