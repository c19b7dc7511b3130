#include "kernels/contender.h"

#include <limits>
#include <vector>

#include "gtest/gtest.h"

namespace yoio::kernels {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();

DrawRow RowAt(float temperature) {
  DrawRow row{};
  row.temperature = temperature;
  row.seed_low = 3;
  return row;
}

TEST(ContenderTest, TheHigherSumWins) {
  const Contender low{0.5, 1.0f, 0}, high{1.0, 0.75f, 1};
  EXPECT_TRUE(high.Beats(low));
  EXPECT_FALSE(low.Beats(high));
  EXPECT_FALSE(low.Beats(low));
}

TEST(ContenderTest, ASumThatCannotFeelTheLiftLeavesItToTheLift) {
  const Contender little{1e-30, 20.0f, 0}, more{2e-30, 20.0f, 1}, other{9e-30, 19.0f, 2};
  EXPECT_TRUE(more.Beats(little));
  EXPECT_FALSE(little.Beats(more));
  EXPECT_TRUE(little.Beats(other));
}

TEST(ContenderTest, EqualsGoToTheLowestId) {
  EXPECT_TRUE((Contender{0.0, -0.0f, 1}).Beats({0.0, 0.0f, 2}));
  EXPECT_FALSE((Contender{0.0, 0.0f, 2}).Beats({0.0, -0.0f, 1}));
}

TEST(ContenderTest, AnyTokenBeatsNone) {
  for (const float temperature : {0.0f, 1.0f}) {
    for (const float logit : {-kInf, -1e30f, 0.0f, kInf}) {
      EXPECT_TRUE(ContenderOf(RowAt(temperature), {7, logit}).Beats(Contender())) << logit;
      EXPECT_FALSE(Contender().Beats(ContenderOf(RowAt(temperature), {7, logit}))) << logit;
    }
  }
}

TEST(ContenderTest, GreedyRowsAndMinusInfinityAreNotLifted) {
  EXPECT_EQ(ContenderOf(RowAt(0.0f), {7, 1.0f}).lift, 0.0);
  EXPECT_EQ(ContenderOf(RowAt(2.0f), {7, -kInf}).lift, 0.0);
  const DrawRow row = RowAt(2.0f);
  EXPECT_EQ(ContenderOf(row, {7, 1.0f}).lift, 2.0 * GumbelNoise(NoiseBits(row, 1)[3]));
  EXPECT_EQ(ContenderOf(row, {7, kInf}).lift, ContenderOf(row, {7, 1.0f}).lift);
}

// Of two tokens one wins, and who beats a winner beats whom it beat.
TEST(ContenderTest, TheOrderIsTotal) {
  for (const float temperature : {0.0f, 1e-44f, 1e-15f, 1.0f, 3e38f}) {
    const DrawRow row = RowAt(temperature);
    std::vector<Contender> all;
    for (const float logit : {-kInf, -3.0f, 0.0f, 1e-30f, 20.0f, 20.000002f, 1e37f, kInf}) {
      for (const int32_t id : {0, 5, 6})
        all.push_back(ContenderOf(row, {id + 8 * static_cast<int>(all.size()), logit}));
    }
    for (const Contender& a : all) {
      for (const Contender& b : all) {
        EXPECT_EQ(a.Beats(b) || b.Beats(a), &a != &b);
        EXPECT_FALSE(a.Beats(b) && b.Beats(a));
        for (const Contender& c : all) EXPECT_TRUE(!(a.Beats(b) && b.Beats(c)) || a.Beats(c));
      }
    }
  }
}

}  // namespace
}  // namespace yoio::kernels
