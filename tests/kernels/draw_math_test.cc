#include "kernels/draw_math.h"

#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace yoio::kernels {
namespace {

using ::testing::ElementsAre;

// The known answers that the authors of the algorithm publish with Random123.
TEST(PhiloxTest, KnownAnswers) {
  EXPECT_THAT(Philox4x32({0, 0, 0, 0}, {0, 0}), ElementsAre(0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8));
  constexpr uint32_t kOnes = 0xffffffff;
  EXPECT_THAT(Philox4x32({kOnes, kOnes, kOnes, kOnes}, {kOnes, kOnes}),
              ElementsAre(0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd));
  EXPECT_THAT(Philox4x32({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}),
              ElementsAre(0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1));
}

TEST(PortableLogTest, IsAccurateEverywhere) {
  std::mt19937_64 random(3);
  for (int i = 0; i < 100000; ++i) {
    const double x = std::ldexp(1.0 + static_cast<double>(random() >> 12) * 0x1p-52,
                                static_cast<int>(random() % 400) - 200);
    const double expected = std::log(x);
    EXPECT_NEAR(PortableLog(x), expected, 1e-15 * std::max(1.0, std::fabs(expected))) << x;
  }
  EXPECT_EQ(PortableLog(1.0), 0.0);
}

TEST(PortableExpTest, IsAccurateAndEndsAtNothing) {
  for (int i = 0; i <= 86000; ++i) {
    const float x = static_cast<float>(-i) / 1000.0f;
    const double expected = std::exp(static_cast<double>(x));
    EXPECT_NEAR(PortableExp(x), expected, 2e-7 * expected) << x;
  }
  EXPECT_EQ(PortableExp(0.0f), 1.0f);
  EXPECT_EQ(PortableExp(-1e30f), PortableExp(-86.0f));
  EXPECT_EQ(PortableExp(-std::numeric_limits<float>::infinity()), PortableExp(-86.0f));
}

// The bits themselves: another machine, compiler or device must print the same.
TEST(GumbelNoiseTest, IsPinnedToTheBit) {
  EXPECT_EQ(GumbelNoise(0), -0x1.90a3aa15a0b5dp+1);
  EXPECT_EQ(GumbelNoise(0x12345678), -0x1.f1b82b00c771cp-1);
  EXPECT_EQ(GumbelNoise(0x80000000), 0x1.774f29c39c0bdp-2);
  EXPECT_EQ(GumbelNoise(0xdeadbeef), 0x1.f8564bfa1e55fp+0);
  EXPECT_EQ(GumbelNoise(0xffffffff), 0x1.6dfb516f1cbbfp+4);
}

TEST(GumbelNoiseTest, AgreesWithTheLibrary) {
  std::mt19937 random(9);
  for (int i = 0; i < 100000; ++i) {
    const uint32_t bits = random();
    const long double u = (bits + 0.5L) / 4294967296.0L;
    EXPECT_NEAR(GumbelNoise(bits), static_cast<double>(-std::log(-std::log(u))), 1e-13) << bits;
  }
}

TEST(GumbelBoundTest, HoldsAtItsTightestAndEverywhere) {
  for (int ones = 0; ones < 32; ++ones) {
    // The highest number with that many leading ones.
    const uint32_t bits = ~(uint32_t{1} << (31 - ones));
    EXPECT_LE(GumbelNoise(bits), GumbelBound(bits)) << ones;
  }
  std::mt19937 random(13);
  for (int i = 0; i < 100000; ++i) {
    const uint32_t bits = random();
    EXPECT_LE(GumbelNoise(bits), GumbelBound(bits)) << bits;
    EXPECT_LE(GumbelBound(bits), kMaxGumbelNoise);
  }
  EXPECT_LE(GumbelBound(0xffffffff), kMaxGumbelNoise);
}

TEST(GumbelBoundTest, TheLeastNoiseIsThatOfNoOnes) { EXPECT_GE(GumbelNoise(0), kMinGumbelNoise); }

TEST(FixedWeightTest, SumsOfAMillionDoNotOverflow) {
  EXPECT_EQ(FixedWeight(1.0f), int64_t{1} << 42);
  EXPECT_EQ(FixedWeight(PortableExp(-86.0f)), 0);
  EXPECT_GT(FixedWeight(PortableExp(-29.0f)), 0);
}

TEST(WeightGoalTest, IsTheLeastSumThatReachesTheShare) {
  EXPECT_EQ(WeightGoal(0.5f, 10), 5);
  EXPECT_EQ(WeightGoal(0.5f, 11), 6);
  EXPECT_EQ(WeightGoal(1e-30f, 11), 1) << "at least one token's";
  for (int64_t total : {int64_t{1} << 42, int64_t{1} << 62, (int64_t{1} << 62) - 1}) {
    EXPECT_LE(WeightGoal(0x1.fffffep-1f, total), total) << "never more than there is";
  }
}

}  // namespace
}  // namespace yoio::kernels
