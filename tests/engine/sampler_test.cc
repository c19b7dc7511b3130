#include "engine/sampler.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <random>
#include <set>
#include <utility>
#include <vector>

#include "gtest/gtest.h"
#include "kernels/draw_math.h"
#include "tests/support/one_slot_sampler.h"

namespace yoio {
namespace {

using kernels::GumbelNoise;
using kernels::Philox4x32;
using test::Greedy;
using test::LogOf;
using test::Plain;
using test::Row;
using test::SamplerRunner;
using One = test::OneSlotSampler;

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

// Pearson's statistic against `probabilities`; tokens of probability 0 must not occur.
double ChiSquare(const std::vector<int>& count, const std::vector<double>& probabilities) {
  int draws = 0;
  for (int c : count) draws += c;
  double statistic = 0;
  for (size_t id = 0; id < count.size(); ++id) {
    const double expected = probabilities[id] * draws;
    if (expected == 0) {
      EXPECT_EQ(count[id], 0) << "token " << id;
      continue;
    }
    statistic += (count[id] - expected) * (count[id] - expected) / expected;
  }
  return statistic;
}

// Quantiles at 0.999 of the chi-square distribution, by degrees of freedom.
constexpr double kChi1 = 10.83, kChi2 = 13.82, kChi7 = 24.32;

TEST(SamplerTest, GreedyTakesTheLowestIdOfTheHighest) {
  One one(5, Greedy());
  EXPECT_EQ(one.Draw({1, 3, 2, 3, 0}), 1);
  EXPECT_EQ(one.Draw({-5, -3, -4, -7, -3}), 1);
}

TEST(SamplerTest, ANanIsInvalidWhateverElseHolds) {
  for (const SamplingParams& sampling : {Greedy(), Plain()}) {
    One one(4, sampling);
    for (size_t at = 0; at < 4; ++at) {
      std::vector<float> logits = {1, kInfinity, -kInfinity, 2};
      logits[at] = kNan;
      EXPECT_TRUE(one.Sample(logits, Row(0)).invalid);
    }
  }
}

TEST(SamplerTest, PlusInfinitiesShareAllTheProbability) {
  const std::vector<float> logits = {5, kInfinity, -kInfinity, kInfinity, 100};
  EXPECT_EQ(One(5, Greedy()).Draw(logits), 1);
  EXPECT_LT(ChiSquare(One(5, Plain()).Count(logits, 4000), {0, 0.5, 0, 0.5, 0}), kChi1);
  SamplingParams top_p = Plain();
  top_p.top_p = 0.9f;
  EXPECT_EQ(One(5, top_p).Support(logits), (std::set<int32_t>{1, 3}));
}

TEST(SamplerTest, MinusInfinityIsNeverDrawnBesideOthers) {
  EXPECT_EQ(One(3, Greedy()).Draw({-kInfinity, -1e30f, -kInfinity}), 1);
  for (float top_p : {1.0f, 0.999f}) {
    SamplingParams sampling = Plain();
    sampling.temperature = 1000;
    sampling.top_p = top_p;
    EXPECT_EQ(One(4, sampling).Support({-kInfinity, 0, -kInfinity, 0}), (std::set<int32_t>{1, 3}));
  }
}

TEST(SamplerTest, WhenEverythingIsBannedTheLowestIdIsDrawn) {
  const std::vector<float> nothing(70, -kInfinity);
  for (SamplingParams sampling : {Greedy(), Plain()}) {
    for (int top_k : {0, 3}) {
      sampling.top_k = top_k;
      EXPECT_EQ(One(70, sampling).Draw(nothing), 0);
    }
  }
}

TEST(SamplerTest, TinyTemperaturesAreGreedyAmongEquals) {
  for (float temperature : {1e-3f, 1e-30f, 1e-44f}) {
    SamplingParams sampling = Plain();
    sampling.temperature = temperature;
    EXPECT_EQ(One(4, sampling).Support({20, 21, 21, -kInfinity}), (std::set<int32_t>{1, 2})) << temperature;
  }
}

// --- The draw ---

// The definition, word by word: every token gets its noise, the best sum wins.
int32_t DrawByDefinition(const std::vector<float>& logits, const SamplingParams& sampling, uint32_t position,
                         uint32_t sample_index) {
  const float highest = *std::max_element(logits.begin(), logits.end());
  int32_t best = -1;
  double best_sum = 0;
  for (uint32_t id = 0; id < logits.size(); ++id) {
    const std::array<uint32_t, 4> noise =
        Philox4x32({id / 4, position, sample_index, 0},
                   {static_cast<uint32_t>(sampling.seed), static_cast<uint32_t>(sampling.seed >> 32)});
    const double sum = (logits[id] - highest) / sampling.temperature + GumbelNoise(noise[id % 4]);
    if (best >= 0 && sum <= best_sum) continue;
    best = static_cast<int32_t>(id);
    best_sum = sum;
  }
  return best;
}

TEST(SamplerTest, SkippingTokensThatCannotWinChangesNothing) {
  std::mt19937 random(17);
  for (int round = 0; round < 300; ++round) {
    const int vocab = 1 + static_cast<int>(random() % 700);
    const float spread = static_cast<float>(1 << random() % 8);
    std::vector<float> logits(vocab);
    for (float& logit : logits) logit = spread * static_cast<float>(random() % 1000) / 1000.0f;
    SamplingParams sampling = Plain((uint64_t{random()} << 32) | random());
    sampling.temperature = 0.25f * static_cast<float>(1 + random() % 8);
    One one(vocab, sampling);
    for (int draw = 0; draw < 5; ++draw) {
      const uint32_t position = random() % 100000, sample_index = random() % 16;
      EXPECT_EQ(one.Draw(logits, position, sample_index),
                DrawByDefinition(logits, sampling, position, sample_index))
          << "vocabulary " << vocab << ", spread " << spread;
    }
  }
}

TEST(SamplerTest, TemperatureShapesTheDistribution) {
  const std::vector<float> logits = {0, 0.5f, 1, 1.5f, 2, -1, -2, 0.25f};
  for (float temperature : {0.5f, 1.0f, 2.0f}) {
    std::vector<double> probabilities;
    double sum = 0;
    for (float logit : logits) probabilities.push_back(std::exp(logit / temperature));
    for (double p : probabilities) sum += p;
    for (double& p : probabilities) p /= sum;
    SamplingParams sampling = Plain(5);
    sampling.temperature = temperature;
    EXPECT_LT(ChiSquare(One(8, sampling).Count(logits, 20000), probabilities), kChi7) << temperature;
  }
}

// Two draws of four equal tokens agree in one case of four, whatever coordinate tells them apart.
TEST(SamplerTest, SeedSampleIndexAndPositionAreIndependent) {
  const std::vector<float> logits(4, 0.0f);
  One base(4, Plain(1)), low_word(4, Plain(2)), high_word(4, Plain(1 + (uint64_t{1} << 32)));
  constexpr int kDraws = 4000;
  std::vector<int> equal_seed(2), equal_high(2), equal_sample(2), equal_next(2);
  for (int position = 0; position < kDraws; ++position) {
    const int32_t drawn = base.Draw(logits, position);
    ++equal_seed[drawn == low_word.Draw(logits, position)];
    ++equal_high[drawn == high_word.Draw(logits, position)];
    ++equal_sample[drawn == base.Draw(logits, position, 1)];
    ++equal_next[drawn == base.Draw(logits, position + 1)];
  }
  for (const std::vector<int>& equal : {equal_seed, equal_high, equal_sample, equal_next}) {
    EXPECT_LT(ChiSquare(equal, {0.75, 0.25}), kChi1);
  }
}

TEST(SamplerTest, ADrawDependsOnNothingElse) {
  std::mt19937 random(23);
  SamplerRunner runner(300, 4);
  StepPlan plan;
  std::vector<std::vector<float>> logits(4, std::vector<float>(300));
  for (int slot = 0; slot < 4; ++slot) {
    for (float& logit : logits[slot]) logit = static_cast<float>(random() % 8000) / 1000.0f;
    SlotAdmission admission = One::Admission(Plain(7));
    admission.slot = slot;
    admission.sampling.top_k = slot == 1 ? 20 : 0;
    admission.sampling.top_p = slot == 2 ? 0.7f : 1.0f;
    if (slot == 3) admission.sampling.logit_bias = {{7, 3.0f}, {250, 2.5f}};
    plan.admitted.push_back(admission);
  }
  std::map<std::pair<int, int>, int32_t> first;
  std::vector<std::pair<int, int>> rows;  // slot, position
  for (int i = 0; i < 200; ++i) rows.emplace_back(i % 4, i / 4);
  for (const auto& [slot, position] : rows) {
    plan.samples = {Row(position, 0, slot)};
    first[{slot, position}] = runner.Run(plan, logits[slot], 1).samples[0].record.id;
    plan.admitted.clear();
  }
  std::shuffle(rows.begin(), rows.end(), random);
  for (const auto& [slot, position] : rows) {
    plan.samples = {Row(position, 0, slot)};
    const int32_t id = runner.Run(plan, logits[slot], 1).samples[0].record.id;
    EXPECT_EQ(id, (first[{slot, position}])) << "slot " << slot << ", position " << position;
  }
}

// --- top-k, top-p, min-p ---

TEST(SamplerTest, TopKKeepsExactlyKTiesToTheLowestId) {
  const std::vector<float> logits = {1, 2, 1, 2, 2, 1};
  SamplingParams sampling = Plain();
  sampling.temperature = 10;
  for (const auto& [k, support] : std::map<int, std::set<int32_t>>{
           {1, {1}}, {2, {1, 3}}, {4, {0, 1, 3, 4}}, {6, {0, 1, 2, 3, 4, 5}}, {99, {0, 1, 2, 3, 4, 5}}}) {
    sampling.top_k = k;
    EXPECT_EQ(One(6, sampling).Support(logits), support) << "k " << k;
  }
}

TEST(SamplerTest, TopKLeavesTheRestInProportion) {
  SamplingParams sampling = Plain();
  sampling.top_k = 3;
  const std::vector<int> count = One(5, sampling).Count(LogOf({0.1, 0.3, 0.15, 0.4, 0.05}), 8000);
  EXPECT_LT(ChiSquare(count, {0, 0.3 / 0.85, 0.15 / 0.85, 0.4 / 0.85, 0}), kChi2);
}

TEST(SamplerTest, TopPKeepsTheSmallestSetThatReachesIt) {
  const std::vector<float> logits = LogOf({0.1, 0.4, 0.2, 0.3});
  SamplingParams sampling = Plain();
  for (const auto& [top_p, support] : std::map<float, std::set<int32_t>>{{1e-9f, {1}},
                                                                         {0.39f, {1}},
                                                                         {0.41f, {1, 3}},
                                                                         {0.69f, {1, 3}},
                                                                         {0.71f, {1, 2, 3}},
                                                                         {0.91f, {0, 1, 2, 3}}}) {
    sampling.top_p = top_p;
    EXPECT_EQ(One(4, sampling).Support(logits), support) << "top_p " << top_p;
  }
  sampling.top_p = 0.69f;
  EXPECT_LT(ChiSquare(One(4, sampling).Count(logits, 8000), {0, 4.0 / 7, 0, 3.0 / 7}), kChi1);
}

TEST(SamplerTest, TopPSeesTheTemperature) {
  SamplingParams sampling = Plain();
  sampling.top_p = 0.6f;
  sampling.temperature = 1.0f;  // 0.64, 0.16, 0.16, 0.04
  const std::vector<float> logits = LogOf({0.64, 0.16, 0.16, 0.04});
  EXPECT_EQ(One(4, sampling).Support(logits), (std::set<int32_t>{0}));
  sampling.temperature = 2.0f;  // square roots: 0.444, 0.222, 0.222, 0.111
  EXPECT_EQ(One(4, sampling).Support(logits), (std::set<int32_t>{0, 1})) << "ties to the lowest id";
}

TEST(SamplerTest, TopPOfAFlatDistribution) {
  SamplingParams sampling = Plain();
  sampling.top_p = 0.505f;
  std::set<int32_t> first_101;
  for (int id = 0; id < 101; ++id) first_101.insert(id);
  EXPECT_EQ(One(200, sampling).Support(std::vector<float>(200, 1.0f), 5000), first_101);
}

TEST(SamplerTest, TopPCountsWhatTopKLeft) {
  SamplingParams sampling = Plain();
  sampling.top_p = 0.5f;
  const std::vector<float> logits = LogOf({0.4, 0.3, 0.2, 0.1});
  EXPECT_EQ(One(4, sampling).Support(logits), (std::set<int32_t>{0, 1}));
  sampling.top_k = 2;  // 0.4 of 0.7 is 0.57
  EXPECT_EQ(One(4, sampling).Support(logits), (std::set<int32_t>{0}));
}

TEST(SamplerTest, MinPIsRelativeToTheBest) {
  const std::vector<float> logits = LogOf({0.2, 0.5, 0.3});
  SamplingParams sampling = Plain();
  for (const auto& [min_p, support] : std::map<float, std::set<int32_t>>{
           {0.39f, {0, 1, 2}}, {0.41f, {1, 2}}, {0.59f, {1, 2}}, {0.61f, {1}}, {1.0f, {1}}}) {
    sampling.min_p = min_p;
    sampling.top_k = 0;
    EXPECT_EQ(One(3, sampling).Support(logits), support) << "min_p " << min_p;
    sampling.top_k = 2;
    std::set<int32_t> of_two = support;
    of_two.erase(0);
    EXPECT_EQ(One(3, sampling).Support(logits), of_two) << "top 2 and min_p " << min_p;
  }
}

}  // namespace
}  // namespace yoio
