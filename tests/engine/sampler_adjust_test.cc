// What happens to logits before a draw, and the log-probabilities, which see none of it.
#include <cmath>
#include <limits>
#include <random>
#include <utility>
#include <vector>

#include "engine/sampler.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/one_slot_sampler.h"

namespace yoio {
namespace {

using test::Greedy;
using test::LogOf;
using test::Plain;
using test::PlanOf;
using test::Row;
using test::SamplerRunner;
using ::testing::ElementsAre;
using ::testing::IsEmpty;
using One = test::OneSlotSampler;

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

TEST(SamplerAdjustTest, RepetitionPenaltyDividesPositiveAndMultipliesNegative) {
  SlotAdmission admission = One::Admission(Greedy());
  admission.sampling.repetition_penalty = 2.0f;
  admission.prompt_ids = {0, 3, 3};
  admission.output_ids = {2};
  One one(4, admission);
  EXPECT_EQ(one.Draw({4, 2.1f, -9, -9}), 1) << "4 / 2 < 2.1";
  EXPECT_EQ(one.Draw({4, 1.9f, -9, -9}), 0) << "4 / 2 > 1.9";
  EXPECT_EQ(one.Draw({-9, -9, -1, -1.9f}), 2) << "-1 * 2 > -1.9 * 2";
  EXPECT_EQ(one.Draw({-9, -1.9f, -1, -9}), 1) << "-1 * 2 < -1.9";
}

TEST(SamplerAdjustTest, FrequencyAndPresenceCountOutputOnly) {
  SlotAdmission admission = One::Admission(Greedy());
  admission.sampling.frequency_penalty = 0.5f;
  admission.prompt_ids = {0, 0, 0};
  const auto draw = [&](std::vector<int32_t> output_ids, const std::vector<float>& logits) {
    admission.output_ids = std::move(output_ids);
    return One(3, admission).Draw(logits);
  };
  EXPECT_EQ(draw({}, {1, 0.9f, 0}), 0);
  EXPECT_EQ(draw({0}, {1, 0.6f, 0}), 1) << "1 - 0.5 < 0.6";
  EXPECT_EQ(draw({0}, {1, 0.4f, 0}), 0);
  EXPECT_EQ(draw({0, 0}, {1, 0.1f, 0}), 1) << "1 - 2 * 0.5 < 0.1";

  admission.sampling.frequency_penalty = 0.0f;
  admission.sampling.presence_penalty = 0.5f;
  EXPECT_EQ(draw({}, {1, 0.9f, 0}), 0);
  EXPECT_EQ(draw({0, 0}, {1, 0.4f, 0}), 0) << "once, however often it occurred";
  EXPECT_EQ(draw({0, 0}, {1, 0.6f, 0}), 1);
}

TEST(SamplerAdjustTest, WhatIsDrawnIsRecorded) {
  SamplingParams sampling = Greedy();
  sampling.frequency_penalty = 0.5f;
  One one(3, sampling);
  const std::vector<float> logits = {1, 0.8f, -1};
  for (const int32_t id : {0, 1, 0, 1, 0, 1}) EXPECT_EQ(one.Continue(logits, 0), id);
}

TEST(SamplerAdjustTest, NegativePenaltiesFavour) {
  SlotAdmission admission = One::Admission(Greedy());
  admission.sampling.presence_penalty = -1.0f;
  admission.output_ids = {2};
  EXPECT_EQ(One(3, admission).Draw({1, 1.5f, 0.6f}), 2);
}

TEST(SamplerAdjustTest, ReadmissionRestoresTheHistory) {
  std::mt19937 random(29);
  SlotAdmission admission = One::Admission(Plain(3));
  admission.sampling.repetition_penalty = 1.3f;
  admission.sampling.frequency_penalty = 0.2f;
  admission.sampling.presence_penalty = 0.4f;
  admission.prompt_ids = {5, 6, 7};
  std::vector<float> logits(50);
  for (float& logit : logits) logit = static_cast<float>(random() % 4000) / 1000.0f - 2.0f;
  One continuous(50, admission);
  for (int position = 0; position < 40; ++position) {
    One restored(50, admission);
    const int32_t id = continuous.Continue(logits, position);
    EXPECT_EQ(restored.Draw(logits, position), id) << "position " << position;
    admission.output_ids.push_back(id);
  }
}

TEST(SamplerAdjustTest, ANewLifeOfASlotForgetsTheFormer) {
  SlotAdmission admission = One::Admission(Greedy());
  admission.sampling.presence_penalty = 2.0f;
  admission.output_ids = {0};
  One one(2, admission);
  EXPECT_EQ(one.Continue({1, 0}, 0), 1);
  admission.output_ids.clear();
  StepPlan plan = PlanOf({Row(0)}, {admission});
  EXPECT_EQ(one.Run(plan, {1, 0}).samples[0].record.id, 0) << "admitted over a live slot";
  plan.released_slots = {0};
  EXPECT_EQ(one.Run(plan, {1, 0}).samples[0].record.id, 0) << "admitted after a release";
}

TEST(SamplerAdjustTest, BiasIsAddedAfterPenalties) {
  SlotAdmission admission = One::Admission(Greedy());
  admission.sampling.repetition_penalty = 2.0f;
  admission.sampling.logit_bias = {{0, 1.0f}};
  admission.prompt_ids = {0};
  One one(2, admission);
  EXPECT_EQ(one.Draw({1, 1.4f}), 0) << "1 / 2 + 1, not (1 + 1) / 2";
  EXPECT_EQ(one.Draw({1, 1.6f}), 1);
}

TEST(SamplerAdjustTest, BiasOfOppositeInfinityIsABan) {
  SamplingParams sampling = Greedy();
  sampling.logit_bias = {{0, -kInfinity}};
  EXPECT_EQ(One(2, sampling).Draw({kInfinity, 0}), 1);
}

TEST(SamplerAdjustTest, StopIdsAreBannedBelowMinTokens) {
  for (const SamplingParams& sampling : {Greedy(), Plain()}) {
    SlotAdmission admission = One::Admission(sampling);
    admission.stop_ids = {2, 0};
    admission.min_tokens = 3;
    admission.sampling.logit_bias = {{0, 100.0f}};
    One one(3, admission);
    for (int position : {0, 1, 2}) EXPECT_EQ(one.Draw({0, 0, 50}, position), 1);
    EXPECT_EQ(one.Draw({0, 0, 50}, 3), 0);
  }
}

TEST(SamplerAdjustTest, RowsOfOneStepAreAdjustedApart) {
  constexpr int kVocab = 40, kChoices = 70;  // more than are adjusted at once
  SamplerRunner runner(kVocab, kChoices + 1);
  StepPlan plan;
  for (int slot = 0; slot <= kChoices; ++slot) {
    SlotAdmission admission = One::Admission(Greedy());
    admission.slot = slot;
    if (slot % 3 == 1) admission.sampling.logit_bias = {{slot % kVocab, 10.0f}};
    if (slot % 3 == 2) admission.sampling.presence_penalty = 2.0f;
    plan.admitted.push_back(admission);
    plan.samples.push_back(Row(0, slot, slot));
    plan.samples.back().output_row = slot == kChoices ? 1 : 0;
  }
  std::vector<float> logits(2 * kVocab);
  logits[3] = 1.5f;
  logits[4] = 1.0f;
  logits[kVocab + 9] = 1.5f;
  const StepResult first = runner.Run(plan, logits, 2);
  plan.admitted.clear();
  const StepResult second = runner.Run(plan, logits, 2);
  for (int slot = 0; slot < kChoices; ++slot) {
    EXPECT_EQ(first.samples[slot].record.id, slot % 3 == 1 ? slot % kVocab : 3) << slot;
    EXPECT_EQ(second.samples[slot].record.id, slot % 3 == 2 ? 4 : first.samples[slot].record.id) << slot;
  }
  EXPECT_EQ(first.samples[kChoices].record.id, 70 % kVocab) << "biased";
}

TEST(SamplerLogprobTest, LogprobsComeFromTheRawLogits) {
  const std::vector<float> logits = LogOf({0.1, 0.4, 0.2, 0.3});
  SlotAdmission admission = One::Admission(Greedy());
  admission.sampling.logit_bias = {{0, 100.0f}};
  admission.sampling.top_k = 1;
  One one(4, admission);
  SampleRow row = Row(0);
  row.logprob = true;
  row.top_n = 2;
  const TokenRecord record = one.Sample(logits, row).record;
  EXPECT_EQ(record.id, 0);
  EXPECT_NEAR(record.logprob, std::log(0.1), 1e-6);
  ASSERT_EQ(record.top.size(), 2u);
  EXPECT_EQ(record.top[0].id, 1);
  EXPECT_NEAR(record.top[0].logprob, std::log(0.4), 1e-6);
  EXPECT_EQ(record.top[1].id, 3);
  EXPECT_NEAR(record.top[1].logprob, std::log(0.3), 1e-6);
}

TEST(SamplerLogprobTest, ScoresAWholeVocabulary) {
  std::mt19937 random(31);
  constexpr int kVocab = 5000;
  std::vector<float> logits(kVocab);
  for (float& logit : logits) logit = static_cast<float>(random() % 30000) / 1000.0f - 12.0f;
  double sum = 0;
  for (float logit : logits) sum += std::exp(static_cast<double>(logit));
  One one(kVocab, Plain());
  for (int32_t target : {0, 1, 777, kVocab - 1}) {
    const TokenRecord record = one.Score(logits, target, 20);
    EXPECT_EQ(record.id, target);
    EXPECT_NEAR(record.logprob, logits[target] - std::log(sum), 2e-6);
    ASSERT_EQ(record.top.size(), 20u);
    for (size_t i = 1; i < record.top.size(); ++i) {
      EXPECT_GE(record.top[i - 1].logprob, record.top[i].logprob);
    }
  }
}

TEST(SamplerLogprobTest, LogprobsAtTheEdges) {
  One one(3, Plain());
  const auto score = [&](std::vector<float> logits, int32_t target) { return one.Score(logits, target, 3); };
  EXPECT_NEAR(score({kInfinity, 0, kInfinity}, 2).logprob, std::log(0.5), 1e-6);
  EXPECT_EQ(score({kInfinity, 0, kInfinity}, 1).logprob, -kInfinity);
  EXPECT_EQ(score({-kInfinity, 0, 0}, 0).logprob, -kInfinity);
  EXPECT_EQ(score({-kInfinity, 0, 0}, 0).top.size(), 2u) << "no alternative without probability";
  EXPECT_EQ(score({-kInfinity, -kInfinity, -kInfinity}, 1).logprob, -kInfinity);
  EXPECT_EQ(score({7, -kInfinity, -kInfinity}, 0).logprob, 0.0f);
  EXPECT_TRUE(std::isnan(score({1, kNan, 2}, 0).logprob));
  EXPECT_THAT(score({1, kNan, 2}, 0).top, IsEmpty());
}

TEST(SamplerLogprobTest, AlternativesTieToTheLowestId) {
  One one(5, Plain());
  const std::vector<float> logits = {1, 2, 2, 1, 2};
  const TokenRecord record = one.Score(logits, 0, 4);
  std::vector<int32_t> ids;
  for (const TopLogprob& top : record.top) ids.push_back(top.id);
  EXPECT_THAT(ids, ElementsAre(1, 2, 4, 0));
}

TEST(SamplerDeathTest, IdsOutsideTheVocabularyAreABug) {
  SlotAdmission admission = One::Admission(Greedy());
  admission.stop_ids = {3};
  EXPECT_DEATH(One(3, admission), "stop id 3");
}

}  // namespace
}  // namespace yoio
