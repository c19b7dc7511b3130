#include "kernels/logit_scan.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <random>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kernels/draw_math.h"

namespace yoio::kernels {
namespace {

using ::testing::ElementsAre;
using ::testing::ElementsAreArray;
using ::testing::IsEmpty;

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

// Few distinct values, so that there are ties everywhere.
std::vector<float> WithTies(size_t count, std::mt19937& random) {
  std::vector<float> logits(count);
  for (float& logit : logits) logit = static_cast<float>(random() % 40) - 20.0f;
  return logits;
}

TEST(FindPeakTest, FindsTheLowestIdOfTheHighest) {
  std::mt19937 random(1);
  for (int count = 1; count < 700; ++count) {
    const std::vector<float> logits = WithTies(count, random);
    const auto highest = std::max_element(logits.begin(), logits.end());  // the first of equals
    const Peak peak = FindPeak(logits);
    EXPECT_EQ(peak.value, *highest);
    EXPECT_EQ(peak.id, highest - logits.begin());
    EXPECT_FALSE(peak.nan);
    EXPECT_EQ(MaxOf(logits), *highest);
  }
}

TEST(FindPeakTest, SeesANanAtEveryPlace) {
  for (size_t count : {1, 16, 17, 256, 300}) {
    for (size_t at = 0; at < count; ++at) {
      std::vector<float> logits(count, 1.0f);
      logits[at] = kNan;
      EXPECT_TRUE(FindPeak(logits).nan) << at << " of " << count;
    }
  }
}

TEST(FindPeakTest, KnowsInfinities) {
  std::vector<float> logits(300, -kInfinity);
  EXPECT_EQ(FindPeak(logits).id, 0);
  EXPECT_EQ(FindPeak(logits).value, -kInfinity);
  logits[290] = -1e38f;
  EXPECT_EQ(FindPeak(logits).id, 290);
  logits[299] = kInfinity;
  EXPECT_EQ(FindPeak(logits).id, 299);
}

TEST(SelectTopTest, TiesGoToTheLowestId) {
  const std::vector<float> logits = {1, 5, 3, 5, -kInfinity, 3, 5};
  std::vector<int32_t> order(logits.size());
  EXPECT_THAT(SelectTop(logits, 2, order), ElementsAre(1, 3));
  EXPECT_THAT(SelectTop(logits, 4, order), ElementsAre(1, 3, 6, 2));
  EXPECT_THAT(SelectTop(logits, 0, order), IsEmpty());
  EXPECT_THAT(SelectTop(logits, 7, order), ElementsAre(1, 3, 6, 2, 5, 0)) << "nothing has minus infinity";
}

TEST(SelectTopTest, AgreesWithASort) {
  std::mt19937 random(2);
  for (int round = 0; round < 600; ++round) {
    std::vector<float> logits = WithTies(1 + random() % 2000, random);
    if (round % 3 == 0) std::sort(logits.begin(), logits.end());  // every token is a candidate
    for (size_t i = 0; i < logits.size(); i += 1 + random() % 50) logits[i] = -kInfinity;
    const int k = static_cast<int>(random() % (round % 2 == 0 ? 12 : logits.size() + 5));
    std::vector<int32_t> expected(logits.size());
    std::iota(expected.begin(), expected.end(), 0);
    std::erase_if(expected, [&](int32_t id) { return logits[id] == -kInfinity; });
    std::stable_sort(expected.begin(), expected.end(),
                     [&](int32_t a, int32_t b) { return logits[a] > logits[b]; });
    expected.resize(std::min<size_t>(k, expected.size()));
    std::vector<int32_t> order(logits.size());
    EXPECT_THAT(SelectTop(logits, k, order), ElementsAreArray(expected)) << "k " << k;
  }
}

TEST(SumWeightsTest, AgreesWithTheLibraryForEverySize) {
  std::mt19937 random(5);
  for (int count : {1, 2, 15, 16, 17, 255, 256, 257, 1000, 5003}) {
    std::vector<float> x(count);
    for (float& value : x) value = -static_cast<float>(random() % 20000) / 1000.0f;
    double expected = 0;
    for (float value : x) expected += std::exp((static_cast<double>(value) - 1.5) / 0.8);
    const double sum = static_cast<double>(SumWeights(x, 1.5f, 0.8f)) / kWeightOne;
    EXPECT_NEAR(sum, expected, 1e-6 * expected + count * 0x1p-42) << count;
  }
}

TEST(SumWeightsTest, IsExactInAnyOrder) {
  std::mt19937 random(7);
  for (int count : {1, 2, 255, 256, 257, 5003}) {
    std::vector<float> x(count);
    int64_t expected = 0;
    for (float& value : x) {
      value = -static_cast<float>(random() % 40000) / 1000.0f;
      expected += FixedWeight(PortableExp((value - 1.5f) / 0.8f));
    }
    EXPECT_EQ(SumWeights(x, 1.5f, 0.8f), expected);
    std::shuffle(x.begin(), x.end(), random);
    EXPECT_EQ(SumWeights(x, 1.5f, 0.8f), expected);
  }
  EXPECT_EQ(SumWeights(std::vector<float>(3, -kInfinity), 0.0f, 1.0f), 0);
}

}  // namespace
}  // namespace yoio::kernels
