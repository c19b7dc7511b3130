// What happens to logits before a draw, and the log-probabilities, which see none of it.
#include <cmath>
#include <limits>
#include <random>
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
using test::Row;
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
  One frequency(3, admission);
  EXPECT_EQ(frequency.Draw({1, 0.9f, 0}), 0);
  frequency.sampler().Record(0, 0);
  EXPECT_EQ(frequency.Draw({1, 0.6f, 0}), 1) << "1 - 0.5 < 0.6";
  EXPECT_EQ(frequency.Draw({1, 0.4f, 0}), 0);
  frequency.sampler().Record(0, 0);
  EXPECT_EQ(frequency.Draw({1, 0.1f, 0}), 1) << "1 - 2 * 0.5 < 0.1";

  admission.sampling.frequency_penalty = 0.0f;
  admission.sampling.presence_penalty = 0.5f;
  One presence(3, admission);
  EXPECT_EQ(presence.Draw({1, 0.9f, 0}), 0);
  presence.sampler().Record(0, 0);
  presence.sampler().Record(0, 0);
  EXPECT_EQ(presence.Draw({1, 0.4f, 0}), 0) << "once, however often it occurred";
  EXPECT_EQ(presence.Draw({1, 0.6f, 0}), 1);
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
    const int32_t id = continuous.Draw(logits, position);
    EXPECT_EQ(restored.Draw(logits, position), id) << "position " << position;
    continuous.sampler().Record(0, id);
    admission.output_ids.push_back(id);
  }
}

TEST(SamplerAdjustTest, ANewLifeOfASlotForgetsTheFormer) {
  SlotAdmission admission = One::Admission(Greedy());
  admission.sampling.presence_penalty = 2.0f;
  admission.output_ids = {0};
  One one(2, admission);
  EXPECT_EQ(one.Draw({1, 0}), 1);
  admission.output_ids.clear();
  one.sampler().Admit(admission);
  EXPECT_EQ(one.Draw({1, 0}), 0) << "admitted over a live slot";
  one.sampler().Record(0, 0);
  one.sampler().Release(0);
  one.sampler().Admit(admission);
  EXPECT_EQ(one.Draw({1, 0}), 0) << "admitted after a release";
}

TEST(SamplerAdjustTest, ATokenIsRecordedOnlyWhenAPenaltyNeedsIt) {
  One one(2, Greedy());
  one.sampler().Record(0, 0);
  EXPECT_EQ(one.Draw({1, 0.99f}), 0);
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

TEST(SamplerPlainTest, ARowIsPlainWhenRawLogitsAreAllItNeeds) {
  const auto is_plain = [](const SlotAdmission& admission, const SampleRow& row) {
    return One(4, admission).sampler().IsPlain(row);
  };
  const SlotAdmission plain = One::Admission(Plain());
  EXPECT_TRUE(is_plain(plain, Row(0)));
  EXPECT_TRUE(is_plain(One::Admission(Greedy()), Row(0)));

  SampleRow logprob = Row(0), alternatives = Row(0);
  logprob.logprob = true;
  alternatives.top_n = 1;
  EXPECT_FALSE(is_plain(plain, logprob));
  EXPECT_FALSE(is_plain(plain, alternatives));

  SlotAdmission bias = plain, penalty = plain, ban = plain;
  bias.sampling.logit_bias = {{1, 1.0f}};
  penalty.sampling.presence_penalty = 0.5f;
  ban.min_tokens = 2;
  EXPECT_TRUE(is_plain(ban, Row(1))) << "nothing to ban";
  ban.stop_ids = {3};
  EXPECT_FALSE(is_plain(bias, Row(0)));
  EXPECT_FALSE(is_plain(penalty, Row(0))) << "before anything was recorded, too";
  EXPECT_FALSE(is_plain(ban, Row(1)));
  EXPECT_TRUE(is_plain(ban, Row(2)));
}

TEST(SamplerPlainTest, APlainRowIsTheDrawOfItsParameters) {
  SamplingParams sampling = Plain((uint64_t{7} << 32) + 9);
  sampling.temperature = 0.5f;
  sampling.top_k = 3;
  sampling.top_p = 0.875f;
  sampling.min_p = 0.125f;
  One one(4, sampling);
  SampleRow row = Row(/*position=*/11, /*sample_index=*/2);
  row.output_row = 5;
  const kernels::DrawRow draw = one.sampler().RowFor(row);
  EXPECT_EQ(draw.logits_row, 5);
  EXPECT_EQ(draw.temperature, 0.5f);
  EXPECT_EQ(draw.top_k, 3);
  EXPECT_EQ(draw.top_p, 0.875f);
  EXPECT_EQ(draw.min_p, 0.125f);
  EXPECT_EQ(draw.seed_low, 9u);
  EXPECT_EQ(draw.seed_high, 7u);
  EXPECT_EQ(draw.sample_index, 2u);
  EXPECT_EQ(draw.output_position, 11u);
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
  const TokenRecord record = one.sampler().Sample(row, logits.data(), one.scratch()).record;
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
    const TokenRecord record =
        one.sampler().Score({.output_row = 0, .target = target, .top_n = 20}, logits.data(), one.scratch());
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
  const auto score = [&](std::vector<float> logits, int32_t target) {
    return one.sampler().Score({.output_row = 0, .target = target, .top_n = 3}, logits.data(), one.scratch());
  };
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
  const TokenRecord record =
      one.sampler().Score({.output_row = 0, .target = 0, .top_n = 4}, logits.data(), one.scratch());
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
