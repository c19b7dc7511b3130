// The samplers of several ranks, each with a part of the vocabulary, against one that has all of it: the same
// tokens and the same log-probabilities, bit by bit.
#include <algorithm>
#include <limits>
#include <vector>

#include "gtest/gtest.h"
#include "tests/support/one_slot_sampler.h"
#include "tests/support/random.h"
#include "tests/support/random_sampling.h"
#include "tests/support/sampler_group.h"

namespace yoio {
namespace {

using test::Greedy;
using test::Plain;
using test::PlanOf;
using test::Random;
using test::Row;
using test::SamplerGroup;
using test::SamplerStep;
using One = test::OneSlotSampler;

constexpr float kInfinity = std::numeric_limits<float>::infinity();

// Bell-shaped; some with few distinct values, some with infinities, some with a NaN.
std::vector<float> RandomLogits(Random& random, int num_rows, int vocab) {
  std::vector<float> logits = random.Normals(static_cast<size_t>(num_rows) * vocab, 4.0f);
  for (auto row = logits.begin(); row != logits.end(); row += vocab) {
    const int kind = random.Below(12);
    for (int id = 0; id < vocab && kind == 0; ++id) row[id] = static_cast<float>(static_cast<int>(row[id]));
    if (kind == 1) row[random.Below(vocab)] = row[random.Below(vocab)] = kInfinity;
    if (kind == 2) std::fill(row, row + vocab / 2, -kInfinity);
    if (kind == 3) row[random.Below(vocab)] = std::numeric_limits<float>::quiet_NaN();
  }
  return logits;
}

std::vector<SamplerStep> RandomSteps(Random& random, int count, int vocab, int slots) {
  std::vector<SamplerStep> steps;
  for (int step = 0; step < count; ++step) {
    steps.push_back({test::RandomStep(random, step, vocab, slots), {}, slots + 10});
    steps.back().logits = RandomLogits(random, slots + 10, vocab);
  }
  return steps;
}

void ExpectEqual(const std::vector<StepResult>& actual, const std::vector<StepResult>& expected) {
  ASSERT_EQ(actual.size(), expected.size());
  for (size_t step = 0; step < expected.size(); ++step) {
    SCOPED_TRACE(testing::Message() << "step " << step);
    test::ExpectEqual(actual[step], expected[step]);
  }
}

constexpr int kManySlots = 100;  // two tiles, the first of more samples than are drawn at once

TEST(SamplerPartsTest, DrawAndScoreAsTheWholeDoes) {
  for (const int vocab : {5, 37, 1003}) {
    Random random(vocab);
    const std::vector<SamplerStep> steps = RandomSteps(random, 8, vocab, kManySlots);
    SamplerGroup whole(1, vocab, kManySlots);
    const std::vector<StepResult> expected = whole.Run(steps);
    EXPECT_EQ(whole.traffic().broadcasts + whole.traffic().gathers, 0) << "one rank has nobody to ask";
    for (const int world : {2, 3, 4, 8}) {
      SCOPED_TRACE(testing::Message() << "world " << world << ", vocabulary " << vocab);
      ExpectEqual(SamplerGroup(world, vocab, kManySlots).Run(steps), expected);
    }
  }
}

TEST(SamplerPartsTest, SeveralGpusDrawAndScoreAsOneCpuDoes) {
  if (!kernels::MakeBackend(kernels::DeviceKind::kCuda, 1).ok()) GTEST_SKIP() << "no two GPUs";
  for (const int vocab : {1003, 50257}) {
    Random random(vocab);
    const std::vector<SamplerStep> steps = RandomSteps(random, 6, vocab, kManySlots);
    ExpectEqual(SamplerGroup(2, vocab, kManySlots, kernels::DeviceKind::kCuda).Run(steps),
                SamplerGroup(1, vocab, kManySlots).Run(steps));
  }
}

// Ids on both sides of every border, and the last one.
TEST(SamplerPartsTest, BiasesAndBansAtTheBordersOfParts) {
  constexpr int kVocab = 37;
  SamplerGroup group(3, kVocab, 1);
  ASSERT_EQ(group.ShardOf(1).vocab_begin, 16);
  ASSERT_EQ(group.ShardOf(2).vocab, kVocab - 32);
  std::vector<float> logits(kVocab, -1.0f);
  logits[20] = 0.5f;
  for (const int32_t id : {0, 15, 16, 31, 32, 36}) {
    SlotAdmission admission = One::Admission(Greedy());
    admission.sampling.logit_bias = {{id, 2.0f}};
    admission.stop_ids = {id};
    admission.min_tokens = 1;
    const std::vector<StepResult> results =
        group.Run({{PlanOf({Row(0)}, {admission}), logits, 1}, {PlanOf({Row(1)}), logits, 1}});
    ASSERT_EQ(results.size(), 2u);
    EXPECT_EQ(results[0].samples[0].record.id, 20) << "banned: " << id;
    EXPECT_EQ(results[1].samples[0].record.id, id);
  }
}

TEST(SamplerPartsTest, EveryRankKnowsWhatWasOutput) {
  constexpr int kVocab = 37;
  std::vector<float> logits(kVocab, -9.0f);
  logits[3] = 2.0f;
  logits[17] = 2.5f;
  logits[36] = 2.75f;
  for (const int top_k : {0, 30}) {  // drawn by all ranks, drawn by rank 0
    SlotAdmission admission = One::Admission(Plain());
    admission.sampling.temperature = 1e-6f;
    admission.sampling.top_k = top_k;
    admission.sampling.frequency_penalty = 1.0f;
    admission.output_ids = {36, 17};
    std::vector<SamplerStep> steps(6, {PlanOf({Row(0)}), logits, 1});
    steps[0].plan.admitted = {admission};
    std::vector<int32_t> ids;
    for (const StepResult& result : SamplerGroup(3, kVocab, 1).Run(steps)) {
      ids.push_back(result.samples[0].record.id);
    }
    EXPECT_EQ(ids, (std::vector<int32_t>{3, 36, 17, 3, 36, 17})) << "top-k " << top_k;
  }
}

// --- What is exchanged ---

constexpr int kWorld = 4, kVocab = 1000, kSlots = 5;

// A step in which every slot draws from a row of its own.
SamplerStep FirstStep(const SamplingParams& sampling) {
  Random random(3);
  SamplerStep step{{}, random.Normals(size_t{kSlots} * kVocab), kSlots};
  for (int slot = 0; slot < kSlots; ++slot) {
    step.plan.admitted.push_back(One::Admission(sampling));
    step.plan.admitted.back().slot = slot;
    step.plan.samples.push_back(Row(0, 0, slot));
    step.plan.samples.back().output_row = slot;
  }
  return step;
}

TEST(SamplerPartsTest, PlainRowsExchangeOneCandidateAPart) {
  for (SamplingParams sampling : {Greedy(), Plain()}) {
    sampling.presence_penalty = 1.0f;
    SamplerGroup group(kWorld, kVocab, kSlots);
    group.Run({FirstStep(sampling)});
    EXPECT_EQ(group.traffic().broadcasts, 0);
    EXPECT_EQ(group.traffic().gathers, kWorld) << "one of each rank";
    EXPECT_EQ(group.traffic().gathered_bytes, kWorld * kSlots * sizeof(kernels::Candidate));
  }
}

TEST(SamplerPartsTest, OnlyTheRowsThatNeedItAreGathered) {
  SamplerGroup group(kWorld, kVocab, kSlots);
  SamplerStep step = FirstStep(Plain());
  step.plan.admitted[1].sampling.top_k = 5;
  step.plan.admitted[3].sampling.top_p = 0.5f;
  step.plan.admitted[3].sampling.logit_bias = {{3, 1.0f}};
  step.plan.samples[1].logprob = true;
  step.plan.samples[4].logprob = true;
  group.Run({step});
  EXPECT_EQ(group.traffic().broadcasts, kWorld);
  const size_t row = group.ShardOf(0).vocab_stride * sizeof(float);
  EXPECT_EQ(group.traffic().gathered_bytes, kWorld * (kSlots * sizeof(kernels::Candidate) + 3 * row))
      << "1 and 4 as they are, 3 adjusted";
}

}  // namespace
}  // namespace yoio
