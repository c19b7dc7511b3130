// A sampler with one slot in use, and the calls that tests of it make.
#ifndef YOIO_TESTS_SUPPORT_ONE_SLOT_SAMPLER_H_
#define YOIO_TESTS_SUPPORT_ONE_SLOT_SAMPLER_H_

#include <cmath>
#include <cstdint>
#include <set>
#include <vector>

#include "engine/sampler.h"
#include "gtest/gtest.h"

namespace yoio::test {

inline SamplingParams Greedy() { return {.temperature = 0.0f, .logit_bias = {}}; }
inline SamplingParams Plain(uint64_t seed = 1) { return {.seed = seed, .logit_bias = {}}; }

inline SampleRow Row(int position, int sample_index = 0, int slot = 0) {
  return {.output_row = 0,
          .slot = slot,
          .sample_index = sample_index,
          .output_position = position,
          .logprob = false,
          .top_n = 0};
}

// Logits of those probabilities, up to a constant.
inline std::vector<float> LogOf(std::vector<double> probabilities) {
  std::vector<float> logits;
  for (double p : probabilities) logits.push_back(static_cast<float>(std::log(p)) + 3.0f);
  return logits;
}

class OneSlotSampler {
 public:
  OneSlotSampler(int vocab, const SamplingParams& sampling) : OneSlotSampler(vocab, Admission(sampling)) {}
  OneSlotSampler(int vocab, const SlotAdmission& admission)
      : sampler_(vocab, 2), scratch_(sampler_.NewScratch()) {
    sampler_.Admit(admission);
  }

  static SlotAdmission Admission(const SamplingParams& sampling) {
    return {.slot = 0, .sampling = sampling, .stop_ids = {}, .prompt_ids = {}, .output_ids = {}};
  }

  int32_t Draw(const std::vector<float>& logits, int position = 0, int sample_index = 0) {
    const SampledToken token = sampler_.Sample(Row(position, sample_index), logits.data(), scratch_);
    EXPECT_FALSE(token.invalid);
    return token.record.id;
  }

  // How often each token is drawn at positions 0 .. draws - 1.
  std::vector<int> Count(const std::vector<float>& logits, int draws) {
    std::vector<int> count(logits.size());
    for (int position = 0; position < draws; ++position) ++count[Draw(logits, position)];
    return count;
  }

  // The tokens that are drawn at all.
  std::set<int32_t> Support(const std::vector<float>& logits, int draws = 2000) {
    const std::vector<int> count = Count(logits, draws);
    std::set<int32_t> support;
    for (size_t id = 0; id < count.size(); ++id) {
      if (count[id] > 0) support.insert(static_cast<int32_t>(id));
    }
    return support;
  }

  Sampler& sampler() { return sampler_; }
  Sampler::Scratch& scratch() { return scratch_; }

 private:
  Sampler sampler_;
  Sampler::Scratch scratch_;
};

}  // namespace yoio::test

#endif  // YOIO_TESTS_SUPPORT_ONE_SLOT_SAMPLER_H_
