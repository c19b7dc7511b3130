// Draws tokens from logits: the same token for the same (logits, parameters, seed, position) on every device,
// batch and world size.
#ifndef YOIO_ENGINE_SAMPLER_H_
#define YOIO_ENGINE_SAMPLER_H_

#include <cstdint>
#include <span>
#include <vector>

#include "engine/logit_scan.h"
#include "engine/step_plan.h"

namespace yoio {

// In order (docs/architecture.md, "Sampling"): log-probabilities from the raw logits; repetition penalty over
// prompt and output (divide positive, multiply negative); frequency and presence penalties over output; bias;
// ban of stop ids below min_tokens; temperature; top-k, top-p, min-p, each on the renormalised rest; then
// argmax(logit / T + Gumbel noise), the noise by Philox4x32-10 keyed by (seed, sample index, output position,
// token id). T = 0 is greedy, ties to the lowest id.
//
// What that leaves open:
// - Logits below are adjusted ones less the highest of them, divided by T in float; the noise is added in
//   double. A tie of the sums goes to the lowest id.
// - Philox: key = (seed's low word, its high word), counter = (id / 4, output position, sample index, 0); the
//   noise of a token is GumbelNoise (engine/sampler_math.h) of word id mod 4.
// - top-k keeps exactly k tokens, ties to the lowest id. top-p then keeps the fewest, in the same order,
//   whose weights reach p of the sum of all that were left, at least one. min-p then keeps tokens of at least
//   min_p times the probability of the best.
// - A token at minus infinity is never drawn while there is another. When all are, banned or not, all are
//   equal: the lowest id is drawn, and log-probabilities are minus infinity.
// - When logits are plus infinity they are equal among themselves and the others have no probability.
// - NaN in a raw logit makes the sample invalid. NaN made by a bias (of opposite infinities) is a ban.
//
// Lives on rank 0. Admit, Release and Record belong to the rank's thread; Sample and Score are const apart
// from the scratch they are given, and may run for different rows on several threads at once.
class Sampler {
 public:
  Sampler(int vocab, int max_sequences);

  // Every id of the admission lies inside the vocabulary. A slot may be admitted again without a release.
  void Admit(const SlotAdmission& admission);
  void Release(int slot);

  // Working memory of one thread, sized once.
  struct Scratch {
    std::vector<float> logits;   // [vocab]
    std::vector<int32_t> order;  // [vocab]
  };
  Scratch NewScratch() const;

  // `logits` [vocab], raw fp32. Does not change the sampler: call Record for each drawn token afterwards, in
  // order. Greedy without adjustments reads the logits once.
  SampledToken Sample(const SampleRow& row, const float* logits, Scratch& scratch) const;
  // Adds a drawn token to the history of its slot.
  void Record(int slot, int32_t id);

  // The log-probability is NaN, and there are no alternatives, when a logit is NaN.
  TokenRecord Score(const ScoreRow& row, const float* logits, Scratch& scratch) const;

 private:
  struct Slot {
    SamplingParams sampling;
    std::vector<int32_t> stop_ids;
    int32_t min_tokens = 0;
    bool has_history = false;            // the rest is kept when a penalty needs it
    std::vector<int32_t> seen;           // distinct ids of prompt and output
    std::vector<uint8_t> is_seen;        // [vocab]
    std::vector<uint32_t> output_count;  // [vocab]
  };

  void See(Slot& slot, int32_t id) const;
  // The logits after penalties, bias and ban: `logits` itself, or a copy in scratch.logits.
  std::span<const float> Adjust(const Slot& slot, const SampleRow& row, std::span<const float> logits,
                                Scratch& scratch) const;
  int32_t Draw(const SamplingParams& sampling, const SampleRow& row, std::span<const float> logits, Peak peak,
               Scratch& scratch) const;

  const int vocab_;
  std::vector<Slot> slots_;
};

}  // namespace yoio

#endif  // YOIO_ENGINE_SAMPLER_H_
