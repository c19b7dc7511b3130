// Who is sampled, how often, and the ids.
#include "server/trace/sampler.h"

#include <gtest/gtest.h>

#include <set>
#include <string>

#include "tests/support/random.h"

namespace yoio {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

TraceId WithLowBytes(uint64_t low) {
  TraceId id{.trace = {1}};
  for (int i = 15; i >= 8; --i, low >>= 8) id.trace[i] = static_cast<uint8_t>(low);
  return id;
}

TEST(IdSourceTest, NoIdIsDrawnTwice) {
  IdSource ids;
  std::set<std::array<uint8_t, 16>> traces;
  std::set<std::array<uint8_t, 8>> spans;
  constexpr int kDraws = 20'000;
  for (int i = 0; i < kDraws; ++i) {
    const TraceId id = ids.NewTrace();
    EXPECT_TRUE(id.valid());
    EXPECT_FALSE(id.sampled);
    traces.insert(id.trace);
    spans.insert(id.span);
    spans.insert(ids.NewSpan());
  }
  EXPECT_EQ(traces.size(), static_cast<size_t>(kDraws));
  EXPECT_EQ(spans.size(), 2u * kDraws);
}

TEST(IdSourceTest, EachProcessDrawsItsOwn) {
  EXPECT_NE(IdSource().NewTrace().trace, IdSource().NewTrace().trace);
  EXPECT_EQ(IdSource({1, 2, 3}).NewTrace().trace, IdSource({1, 2, 3}).NewTrace().trace);
}

TEST(IdSourceTest, EveryBitIsDrawnAlikeOften) {
  IdSource ids({11, 12, 13});
  constexpr int kDraws = 20'000;
  std::array<int, 128> ones{};
  for (int i = 0; i < kDraws; ++i) {
    const TraceId id = ids.NewTrace();
    for (int bit = 0; bit < 128; ++bit) ones[bit] += id.trace[bit / 8] >> (bit % 8) & 1;
  }
  for (const int count : ones) EXPECT_NEAR(count, kDraws / 2, 5 * 71);  // of the deviation, sqrt(20000) / 2
}

TEST(TraceSamplerTest, RootsAreSampledByTheirRatio) {
  EXPECT_TRUE(TraceSampler({.ratio = 1}, 0).SampleRoot(WithLowBytes(~0ull)));
  EXPECT_FALSE(TraceSampler({.ratio = 0}, 0).SampleRoot(WithLowBytes(0)));
  const TraceSampler quarter({.ratio = 0.25}, 0);
  EXPECT_TRUE(quarter.SampleRoot(WithLowBytes(0x3fff'ffff'ffff'ffff)));
  EXPECT_FALSE(quarter.SampleRoot(WithLowBytes(0x4000'0000'0000'0000)));
  IdSource ids({1, 2, 3});
  int sampled = 0;
  for (int i = 0; i < 10'000; ++i) sampled += quarter.SampleRoot(ids.NewTrace());
  EXPECT_NEAR(sampled, 2500, 220);
}

TEST(TraceSamplerTest, AParentsDecisionIsTakenOver) {
  TraceSampler none({.parent_based = true, .ratio = 0}, 10);
  EXPECT_TRUE(none.Sample(WithLowBytes(0), true, "t"));
  EXPECT_FALSE(none.Sample(WithLowBytes(0), std::nullopt, "t"));
  TraceSampler all({.parent_based = true, .ratio = 1}, 10);
  EXPECT_FALSE(all.Sample(WithLowBytes(0), false, "t"));
  EXPECT_TRUE(all.Sample(WithLowBytes(0), std::nullopt, "t"));
}

TEST(TraceSamplerTest, UnlessTheSamplerDoesNotAskForIt) {
  TraceSampler none({.parent_based = false, .ratio = 0}, 10);
  EXPECT_FALSE(none.Sample(WithLowBytes(0), true, "t"));
  TraceSampler all({.parent_based = false, .ratio = 1}, 0);
  EXPECT_TRUE(all.Sample(WithLowBytes(0), false, "t"));
}

TEST(TraceSamplerTest, ATenantThatSamplesEverythingIsSampledUpToItsRate) {
  TraceSampler sampler({.parent_based = true, .ratio = 0}, 5);
  int sampled = 0;
  for (int i = 0; i < 100; ++i) sampled += sampler.Sample(WithLowBytes(0), true, "greedy");
  EXPECT_GE(sampled, 5);
  EXPECT_LT(sampled, 100);
  EXPECT_TRUE(sampler.Sample(WithLowBytes(0), true, "modest"));
}

TEST(TenantBudgetTest, FillsUpAtItsRate) {
  TenantBudget budget(10);
  const TimePoint start{seconds(100)};
  for (int i = 0; i < 10; ++i) EXPECT_TRUE(budget.Take("a", start)) << i;
  EXPECT_FALSE(budget.Take("a", start));
  EXPECT_FALSE(budget.Take("a", start + milliseconds(90)));
  EXPECT_TRUE(budget.Take("a", start + milliseconds(101)));
  EXPECT_FALSE(budget.Take("a", start + milliseconds(110)));
  for (int i = 0; i < 10; ++i) EXPECT_TRUE(budget.Take("a", start + seconds(60))) << i;
  EXPECT_FALSE(budget.Take("a", start + seconds(60)));
}

TEST(TenantBudgetTest, ZeroIsNever) {
  TenantBudget budget(0);
  EXPECT_FALSE(budget.Take("a", TimePoint{seconds(1)}));
  EXPECT_FALSE(budget.Take("a", TimePoint{seconds(1'000'000)}));
}

TEST(TenantBudgetTest, AnyNumberOfTenantsTakesBoundedRoom) {
  TenantBudget budget(1);
  const TimePoint start{seconds(100)};
  for (size_t i = 0; i < TenantBudget::kMaxTenants; ++i) EXPECT_TRUE(budget.Take(std::to_string(i), start));
  EXPECT_TRUE(budget.Take("one more", start));
  EXPECT_FALSE(budget.Take("and another", start));  // they share
  EXPECT_FALSE(budget.Take("0", start));
  EXPECT_TRUE(budget.Take("later", start + seconds(2)));  // budgets are whole again and forgotten
  EXPECT_TRUE(budget.Take("later still", start + seconds(2)));
}

}  // namespace
}  // namespace yoio
