#include "engine/step_pace.h"

#include <limits>

#include "gtest/gtest.h"

namespace yoio {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr int32_t kNoBound = std::numeric_limits<int32_t>::max();
constexpr int64_t kEndless = int64_t{1} << 40;  // prompt tokens to run
constexpr TimePoint kBegin = TimePoint(std::chrono::hours(5));

StepPlan PlanOf(int32_t prompt_tokens) {
  StepPlan plan;
  plan.num_prompt_tokens = prompt_tokens;
  return plan;
}

// Steps one after the other.
struct Steps {
  StepPace& pace;
  TimePoint now = kBegin;

  void Run(const StepPlan& plan, Duration duration) {
    pace.Submitted(plan, now);
    now += duration;
    pace.Ended(now);
  }
  void Run(int32_t prompt_tokens, Duration duration) { Run(PlanOf(prompt_tokens), duration); }
};

TEST(StepPaceTest, AQuarterOfTheStepTimeout) {
  StepPace pace(seconds(40), {seconds(1), /*even=*/true});
  EXPECT_EQ(pace.MaxPromptTokens(false, 0), kNoBound);
  pace.Submitted(PlanOf(1000), kBegin);
  EXPECT_EQ(pace.MaxPromptTokens(false, 0), kNoBound);
  pace.Ended(kBegin + seconds(20));  // 50 tokens a second, of which ten seconds are allowed
  EXPECT_EQ(pace.MaxPromptTokens(false, 0), 500);
}

TEST(StepPaceTest, TheTimeOfTheStepBeforeDoesNotCount) {
  StepPace pace(seconds(40), {seconds(10), /*even=*/true});
  pace.Submitted(PlanOf(0), kBegin);
  pace.Submitted(PlanOf(1000), kBegin);
  pace.Ended(kBegin + seconds(100));
  EXPECT_EQ(pace.MaxPromptTokens(false, 0), kNoBound) << "nothing is known of prompt tokens yet";
  pace.Ended(kBegin + seconds(110));
  EXPECT_EQ(pace.MaxPromptTokens(false, 0), 1000);
}

TEST(StepPaceTest, SlowerAtOnceFasterSlowly) {
  StepPace pace(seconds(40), {seconds(10), /*even=*/true});
  Steps steps{pace};
  const auto run = [&](Duration duration) {
    steps.Run(1000, duration);
    return pace.MaxPromptTokens(false, 0);
  };
  EXPECT_EQ(run(seconds(1)), 10000);
  EXPECT_EQ(run(seconds(10)), 1000);
  const int32_t better = run(seconds(1));
  EXPECT_GT(better, 1000);
  EXPECT_LT(better, 2000);
  for (int i = 0; i < 100; ++i) run(seconds(1));
  EXPECT_NEAR(pace.MaxPromptTokens(false, 0), 10000, 100);
  EXPECT_EQ(run(seconds(100000)), 64) << "a step always gets on";
}

TEST(StepPaceTest, WhoGeneratesWaitsNoLongerThanTheGap) {
  StepPace pace(seconds(60), {milliseconds(100), /*even=*/true});
  Steps steps{pace};
  EXPECT_EQ(pace.MaxPromptTokens(true, kEndless), kNoBound) << "nothing is known yet";
  steps.Run(0, milliseconds(20));
  steps.Run(1000, milliseconds(220));  // of which 20 for the step itself
  EXPECT_NEAR(pace.costs().seconds_per_prompt_token, 200e-6, 1e-9);
  EXPECT_NEAR(pace.costs().seconds_per_step, 20e-3, 1e-9);
  EXPECT_NEAR(pace.MaxPromptTokens(true, kEndless), 400, 1) << "20 + 400 x 0.2 ms";
  EXPECT_NEAR(pace.MaxPromptTokens(false, 0), 68181, 1) << "nobody generates";
  for (int i = 0; i < 100; ++i) steps.Run(0, milliseconds(150));
  EXPECT_NEAR(pace.MaxPromptTokens(true, kEndless), 750, 1)
      << "prompts get as long as a step takes without them";
}

TEST(StepPaceTest, FewPromptsTakeAsLongAsWhoGenerates) {
  StepPace pace(seconds(60), {milliseconds(500), /*even=*/true});
  Steps steps{pace};
  steps.Run(0, milliseconds(100));
  steps.Run(1000, milliseconds(200));  // 0.1 ms a token
  EXPECT_NEAR(pace.MaxPromptTokens(true, 100), 1000, 1);
  EXPECT_NEAR(pace.MaxPromptTokens(true, 5'000), 1000, 1) << "half of the time for half a second of work";
  EXPECT_NEAR(pace.MaxPromptTokens(true, 5'500), 1222, 2) << "55 to 45";
  EXPECT_NEAR(pace.MaxPromptTokens(true, 6'000), 1500, 2);
  EXPECT_NEAR(pace.MaxPromptTokens(true, 39'000), 1500, 2);
  EXPECT_NEAR(pace.MaxPromptTokens(true, 41'000), 4000, 2) << "more than four seconds wait: all of the gap";
}

TEST(StepPaceTest, AChosenGapIsFilledByFewPromptsToo) {
  StepPace pace(seconds(60), {milliseconds(500), /*even=*/false});
  Steps steps{pace};
  steps.Run(0, milliseconds(100));
  steps.Run(1000, milliseconds(200));
  EXPECT_NEAR(pace.MaxPromptTokens(true, 100), 4000, 2);
}

TEST(StepPaceTest, NoChunkIsShorterThanATenthOfTheGap) {
  StepPace pace(seconds(60), {milliseconds(500), /*even=*/true});
  Steps steps{pace};
  steps.Run(0, milliseconds(1));
  steps.Run(1000, milliseconds(101));
  EXPECT_NEAR(pace.MaxPromptTokens(true, 100), 500, 1);
}

TEST(StepPaceTest, LongChunksTellMoreThanShortOnes) {
  StepPace pace(seconds(60), {milliseconds(100), /*even=*/true});
  Steps steps{pace};
  steps.Run(8000, milliseconds(800));
  steps.Run(100, milliseconds(50));
  EXPECT_LT(pace.costs().seconds_per_prompt_token, 120e-6);
}

TEST(StepPaceTest, FewTokensAndSwapsAreNotMeasured) {
  StepPace pace(seconds(60), {milliseconds(100), /*even=*/true});
  Steps steps{pace};
  StepPlan swaps = PlanOf(1000);
  swaps.swap_in_blocks.push_back({});
  steps.Run(swaps, seconds(5));
  steps.Run(63, seconds(5));
  EXPECT_EQ(pace.costs().seconds_per_prompt_token, 0);
  EXPECT_EQ(pace.MaxPromptTokens(true, kEndless), kNoBound);
}

TEST(StepPaceTest, PredictsOnceEnoughIsKnown) {
  StepPace pace(seconds(60), {milliseconds(100), /*even=*/true});
  Steps steps{pace};
  for (int i = 0; i < 100; ++i) steps.Run(i % 2, milliseconds(1));
  EXPECT_FALSE(pace.can_predict());
  for (int i = 0; i < 16; ++i) {
    EXPECT_FALSE(pace.can_predict());
    steps.Run(100, milliseconds(10));
  }
  EXPECT_TRUE(pace.can_predict());
}

}  // namespace
}  // namespace yoio
