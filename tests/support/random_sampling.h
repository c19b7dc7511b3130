// Random admissions and steps for tests of samplers: sampling parameters of every kind, alone and together.
#ifndef YOIO_TESTS_SUPPORT_RANDOM_SAMPLING_H_
#define YOIO_TESTS_SUPPORT_RANDOM_SAMPLING_H_

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <vector>

#include "engine/step_plan.h"
#include "gtest/gtest.h"
#include "tests/support/random.h"

namespace yoio::test {

inline std::vector<int32_t> RandomIds(Random& random, int vocab, int most) {
  std::vector<int32_t> ids(random.Below(most + 1));
  for (int32_t& id : ids) id = random.Below(vocab);
  return ids;
}

inline SlotAdmission RandomAdmission(Random& random, int slot, int vocab) {
  SlotAdmission admission{.slot = slot, .sampling = {}, .stop_ids = {}, .prompt_ids = {}, .output_ids = {}};
  SamplingParams& sampling = admission.sampling;
  constexpr float kTemperatures[] = {0.0f, 1.0f, 0.7f, 1.5f};
  sampling.temperature = kTemperatures[random.Below(4)];
  if (random.Below(2) == 0) sampling.top_p = 0.9f;
  if (random.Below(3) == 0) sampling.top_k = 1 + random.Below(60);
  if (random.Below(4) == 0) sampling.min_p = 0.02f;
  sampling.seed = random.Bits();
  if (random.Below(3) == 0) sampling.repetition_penalty = 1.2f;
  if (random.Below(3) == 0) sampling.frequency_penalty = 0.4f;
  if (random.Below(3) == 0) sampling.presence_penalty = -0.6f;
  const std::vector<int32_t> ids = random.Permutation(vocab);
  const int biases = random.Below(3) == 0 ? random.Below(std::min(vocab, 300)) : 0;
  for (int i = 0; i < biases; ++i) sampling.logit_bias.emplace_back(ids[i], 3.0f * random.Normal());
  admission.stop_ids = RandomIds(random, vocab, 4);
  admission.min_tokens = random.Below(6);
  if (sampling.NeedsHistory()) {
    admission.prompt_ids = RandomIds(random, vocab, 20000);  // more than the first steps have room for
    admission.output_ids = RandomIds(random, vocab, 50);
  }
  return admission;
}

// The samples of all slots in rows of their own, some rows read twice, and scores behind them: fewer than
// slots + 10 rows.
inline StepPlan RandomStep(Random& random, int step, int vocab, int slots) {
  StepPlan plan;
  plan.step = step;
  int row = 0;
  for (int slot = 0; slot < slots; ++slot) {
    if (step == 0 || random.Below(10) == 0) {
      if (random.Below(2) == 0) plan.released_slots.push_back(slot);
      plan.admitted.push_back(RandomAdmission(random, slot, vocab));
    }
    const bool logprob = random.Below(3) == 0;
    plan.samples.push_back({.output_row = row,
                            .slot = slot,
                            .sample_index = slot % 3,
                            .output_position = step,
                            .logprob = logprob,
                            .top_n = logprob ? random.Below(kMaxTopLogprobs + 1) : 0});
    row += random.Below(8) == 0 ? 0 : 1;
  }
  for (int i = random.Below(10); i > 0; --i) {
    plan.scores.push_back({.output_row = ++row, .target = random.Below(vocab), .top_n = random.Below(6)});
  }
  return plan;
}

// To the bit: a log-probability of NaN equals itself.
inline void ExpectEqual(const TokenRecord& actual, const TokenRecord& expected) {
  const auto same = [](float a, float b) { return std::memcmp(&a, &b, sizeof(a)) == 0; };
  EXPECT_EQ(actual.id, expected.id);
  EXPECT_TRUE(same(actual.logprob, expected.logprob)) << actual.logprob << ", expected " << expected.logprob;
  ASSERT_EQ(actual.top.size(), expected.top.size());
  for (size_t i = 0; i < actual.top.size(); ++i) {
    EXPECT_EQ(actual.top[i].id, expected.top[i].id);
    EXPECT_TRUE(same(actual.top[i].logprob, expected.top[i].logprob)) << "alternative " << i;
  }
}

inline void ExpectEqual(const StepResult& actual, const StepResult& expected) {
  ASSERT_EQ(actual.samples.size(), expected.samples.size());
  ASSERT_EQ(actual.scores.size(), expected.scores.size());
  for (size_t i = 0; i < expected.samples.size(); ++i) {
    SCOPED_TRACE(testing::Message() << "sample " << i);
    EXPECT_EQ(actual.samples[i].invalid, expected.samples[i].invalid);
    ExpectEqual(actual.samples[i].record, expected.samples[i].record);
  }
  for (size_t i = 0; i < expected.scores.size(); ++i) {
    SCOPED_TRACE(testing::Message() << "score " << i);
    ExpectEqual(actual.scores[i], expected.scores[i]);
  }
}

}  // namespace yoio::test

#endif  // YOIO_TESTS_SUPPORT_RANDOM_SAMPLING_H_
