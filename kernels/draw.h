// How a token is drawn from logits: the same token for the same logits and DrawRow on every device.
#ifndef YOIO_KERNELS_DRAW_H_
#define YOIO_KERNELS_DRAW_H_

#include <cstdint>
#include <span>

#include "kernels/logit_scan.h"
#include "kernels/ops.h"

namespace yoio::kernels {

// The definition. In order: temperature; top-k, top-p, min-p, each on the renormalised rest; then
// argmax(logit / T + Gumbel noise). T = 0 is greedy, ties to the lowest id. In detail:
// - Logits below are less the highest of them, divided by T in float (`scaled`); the noise is added in
//   double. A tie of the sums goes to the lowest id.
// - The noise is Philox4x32-10 of key (seed's low word, its high word) and counter (id / 4, output position,
//   sample index, 0); a token's is GumbelNoise (kernels/draw_math.h) of word id mod 4.
// - top-k keeps exactly k tokens, ties to the lowest id. top-p then keeps the fewest, in the same order,
//   whose weights reach p of the sum of all that were left, at least one; weights are FixedWeight of
//   e^scaled, whose sums are exact. min-p then keeps tokens of at least min_p times the probability of the
//   best: scaled >= log(min_p).
// - A token at minus infinity is never drawn while there is another. When all are, all are equal: the lowest
//   id is drawn.
// - When logits are plus infinity they are equal among themselves and the others have no probability.

struct DrawScratch {
  std::span<float> logits;   // [vocab]
  std::span<int32_t> order;  // [vocab]
};

// The draw of the CPU backend. `peak` is FindPeak(logits), without NaN. `logits` may be scratch.logits.
// row.logits_row and row.is_adjusted are not used.
int32_t DrawToken(const DrawRow& row, std::span<const float> logits, Peak peak, const DrawScratch& scratch);

}  // namespace yoio::kernels

#endif  // YOIO_KERNELS_DRAW_H_
