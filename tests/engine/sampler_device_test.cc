// A GPU's sampler against a CPU's: the same tokens and the same log-probabilities, bit by bit.
#include <cstdint>
#include <vector>

#include "engine/model/activations.h"
#include "engine/sampler.h"
#include "gtest/gtest.h"
#include "tests/support/one_slot_sampler.h"
#include "tests/support/random.h"

namespace yoio {
namespace {

using test::Random;
using test::SamplerRunner;

constexpr int kSlots = 40;

std::vector<int32_t> RandomIds(Random& random, int vocab, int most) {
  std::vector<int32_t> ids(random.Below(most + 1));
  for (int32_t& id : ids) id = random.Below(vocab);
  return ids;
}

SlotAdmission RandomAdmission(Random& random, int slot, int vocab) {
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
  const int biases = random.Below(3) == 0 ? random.Below(300) : 0;
  for (int i = 0; i < biases; ++i) sampling.logit_bias.emplace_back(ids[i], 3.0f * random.Normal());
  admission.stop_ids = RandomIds(random, vocab, 4);
  admission.min_tokens = random.Below(6);
  if (sampling.NeedsHistory()) {
    admission.prompt_ids = RandomIds(random, vocab, 20000);  // more than the first steps have room for
    admission.output_ids = RandomIds(random, vocab, 50);
  }
  return admission;
}

// The samples of all slots in rows of their own, some rows read twice, and scores behind them.
StepPlan RandomStep(Random& random, int step, int vocab, bool admit_all) {
  StepPlan plan;
  plan.step = step;
  int row = 0;
  for (int slot = 0; slot < kSlots; ++slot) {
    if (admit_all || random.Below(10) == 0) {
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

void ExpectEqual(const TokenRecord& actual, const TokenRecord& expected) {
  EXPECT_EQ(actual.id, expected.id);
  EXPECT_EQ(actual.logprob, expected.logprob);
  ASSERT_EQ(actual.top.size(), expected.top.size());
  for (size_t i = 0; i < actual.top.size(); ++i) {
    EXPECT_EQ(actual.top[i].id, expected.top[i].id);
    EXPECT_EQ(actual.top[i].logprob, expected.top[i].logprob);
  }
}

TEST(SamplerDeviceTest, DrawsAndScoresAsACpuDoes) {
  if (!kernels::MakeBackend(kernels::DeviceKind::kCuda, 0).ok()) GTEST_SKIP() << "no GPU";
  constexpr int kSteps = 25;
  for (const int vocab : {1000, 50257}) {
    Random random(vocab);
    SamplerRunner cpu(vocab, kSlots, 64), gpu(vocab, kSlots, 64, kernels::DeviceKind::kCuda);
    for (int step = 0; step < kSteps; ++step) {
      const StepPlan plan = RandomStep(random, step, vocab, step == 0);
      const std::vector<float> logits = random.Normals(size_t{kLogitsTile} * vocab, 4.0f);
      const StepResult expected = cpu.Run(plan, logits, kLogitsTile);
      const StepResult actual = gpu.Run(plan, logits, kLogitsTile);
      ASSERT_EQ(actual.samples.size(), expected.samples.size());
      ASSERT_EQ(actual.scores.size(), expected.scores.size());
      for (size_t i = 0; i < expected.samples.size(); ++i) {
        SCOPED_TRACE(testing::Message() << "vocabulary " << vocab << ", step " << step << ", sample " << i);
        EXPECT_EQ(actual.samples[i].invalid, expected.samples[i].invalid);
        ExpectEqual(actual.samples[i].record, expected.samples[i].record);
      }
      for (size_t i = 0; i < expected.scores.size(); ++i) ExpectEqual(actual.scores[i], expected.scores[i]);
    }
  }
}

}  // namespace
}  // namespace yoio
