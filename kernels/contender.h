// What the tokens of a row compete with in a draw: the same bits on every device, and whatever part of the
// vocabulary they are drawn from. As kernels/draw_math.h, whose rules hold here too.
#ifndef YOIO_KERNELS_CONTENDER_H_
#define YOIO_KERNELS_CONTENDER_H_

#include <array>
#include <cstdint>
#include <limits>

#include "kernels/draw_math.h"
#include "kernels/ops.h"

namespace yoio::kernels {

// The random bits of the tokens 4 * group .. 4 * group + 3.
constexpr std::array<uint32_t, 4> NoiseBits(const DrawRow& row, uint32_t group) {
  return Philox4x32({group, row.output_position, row.sample_index, 0}, {row.seed_low, row.seed_high});
}

// One token of a row. By default one that loses against every token.
struct Contender {
  double lift = 0;  // temperature * noise
  float logit = -std::numeric_limits<float>::infinity();
  int32_t id = std::numeric_limits<int32_t>::max();

  // The higher logit + lift wins, each rounded to double. At a temperature so low that the sum does not feel
  // the lift, and at infinite logits, the higher lift does; then the lower id.
  // Free of branches: on a GPU the lanes of a warp disagree.
  constexpr bool Beats(const Contender& other) const {
    const double sum = logit + lift, other_sum = other.logit + other.lift;
    const bool wins_tie = (lift > other.lift) | ((lift == other.lift) & (id < other.id));
    return (sum > other_sum) | ((sum == other_sum) & wins_tie);
  }
};

// Greedy rows have no noise, and nothing lifts a token that has no probability.
constexpr Contender ContenderOf(const DrawRow& row, const Candidate& candidate) {
  Contender contender{0.0, candidate.logit, candidate.id};
  if (row.temperature == 0.0f || candidate.logit == -std::numeric_limits<float>::infinity()) return contender;
  const std::array<uint32_t, 4> bits = NoiseBits(row, candidate.id / 4);
  contender.lift = row.temperature * GumbelNoise(bits[candidate.id % 4]);
  return contender;
}

}  // namespace yoio::kernels

#endif  // YOIO_KERNELS_CONTENDER_H_
