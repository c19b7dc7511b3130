// Draws tokens from logits as requests ask for: the same token for the same (logits, parameters, seed,
// position) on every device, batch and world size.
#ifndef YOIO_ENGINE_SAMPLER_H_
#define YOIO_ENGINE_SAMPLER_H_

#include <cstdint>
#include <span>
#include <vector>

#include "engine/step_plan.h"
#include "kernels/ops.h"

namespace yoio {

// In order (docs/architecture.md, "Sampling"): log-probabilities from the raw logits; repetition penalty over
// prompt and output (divide positive, multiply negative); frequency and presence penalties over output; bias;
// ban of stop ids below min_tokens; then the draw of kernels/draw.h: temperature; top-k, top-p, min-p, each
// on the renormalised rest; argmax(logit / T + Gumbel noise), the noise by Philox4x32-10 keyed by (seed,
// sample index, output position, token id). T = 0 is greedy, ties to the lowest id.
//
// What that leaves open:
// - A ban is a logit of minus infinity. When all are banned the lowest id is drawn, and log-probabilities are
//   minus infinity.
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

  // Whether Sample(row) is Backend::Draw(RowFor(row)) of the raw logits and nothing more: no penalty, bias or
  // ban, and no log-probabilities. Does not depend on what was recorded: true ahead of time as well.
  bool IsPlain(const SampleRow& row) const;
  kernels::DrawRow RowFor(const SampleRow& row) const;

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

  static bool Bans(const Slot& slot, const SampleRow& row) {
    return row.output_position < slot.min_tokens && !slot.stop_ids.empty();
  }
  void See(Slot& slot, int32_t id) const;
  // The logits after penalties, bias and ban: `logits` itself, or a copy in scratch.logits.
  std::span<const float> Adjust(const Slot& slot, const SampleRow& row, std::span<const float> logits,
                                Scratch& scratch) const;

  const int vocab_;
  std::vector<Slot> slots_;
};

}  // namespace yoio

#endif  // YOIO_ENGINE_SAMPLER_H_
