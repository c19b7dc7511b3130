// Draws tokens from logits: the same token for the same (logits, parameters, seed, position) on every device,
// batch and world size.
#ifndef YOIO_ENGINE_SAMPLER_H_
#define YOIO_ENGINE_SAMPLER_H_

#include <cstdint>
#include <vector>

#include "engine/step_plan.h"

namespace yoio {

// In order (docs/architecture.md, "Sampling"): log-probabilities from the raw logits; repetition penalty over
// prompt and output (divide positive, multiply negative); frequency and presence penalties over output; bias;
// ban of stop ids below min_tokens; temperature; top-k, top-p, min-p, each on the renormalised rest; then
// argmax(logit / T + Gumbel noise), the noise by Philox4x32-10 keyed by (seed, sample index, output position,
// token id). T = 0 is greedy, ties to the lowest id.
//
// Lives on rank 0. Admit, Release and Record belong to the rank's thread; Sample and Score are const apart
// from the scratch they are given, and may run for different rows on several threads at once.
class Sampler {
 public:
  Sampler(int vocab, int max_sequences);

  void Admit(const SlotAdmission& admission);
  void Release(int slot);

  // Working memory of one thread, sized once.
  struct Scratch {
    std::vector<float> logits;   // [vocab]
    std::vector<int32_t> order;  // [vocab]
  };
  Scratch NewScratch() const;

  // `logits` [vocab], raw fp32. Does not change the sampler: call Record for each drawn token afterwards, in
  // order.
  SampledToken Sample(const SampleRow& row, const float* logits, Scratch& scratch) const;
  // Adds a drawn token to the history of its slot.
  void Record(int slot, int32_t id);

  TokenRecord Score(const ScoreRow& row, const float* logits, Scratch& scratch) const;

 private:
  struct Slot {
    SlotAdmission admission;
    bool has_history = false;
    std::vector<uint8_t> in_prompt;      // [vocab] when has_history
    std::vector<uint32_t> output_count;  // [vocab] when has_history
  };

  const int vocab_;
  std::vector<Slot> slots_;
};

}  // namespace yoio

#endif  // YOIO_ENGINE_SAMPLER_H_
