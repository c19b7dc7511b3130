#include "engine/step_pace.h"

#include <limits>

#include "gtest/gtest.h"

namespace yoio {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr int32_t kNoBound = std::numeric_limits<int32_t>::max();
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
  StepPace pace(seconds(40), seconds(1));
  EXPECT_EQ(pace.MaxPromptTokens(false), kNoBound);
  pace.Submitted(PlanOf(1000), kBegin);
  EXPECT_EQ(pace.MaxPromptTokens(false), kNoBound);
  pace.Ended(kBegin + seconds(20));  // 50 tokens a second, of which ten seconds are allowed
  EXPECT_EQ(pace.MaxPromptTokens(false), 500);
}

TEST(StepPaceTest, TheTimeOfTheStepBeforeDoesNotCount) {
  StepPace pace(seconds(40), seconds(10));
  pace.Submitted(PlanOf(0), kBegin);
  pace.Submitted(PlanOf(1000), kBegin);
  pace.Ended(kBegin + seconds(100));
  EXPECT_EQ(pace.MaxPromptTokens(false), kNoBound) << "nothing is known of prompt tokens yet";
  pace.Ended(kBegin + seconds(110));
  EXPECT_EQ(pace.MaxPromptTokens(false), 1000);
}

TEST(StepPaceTest, SlowerAtOnceFasterSlowly) {
  StepPace pace(seconds(40), seconds(10));
  Steps steps{pace};
  const auto run = [&](Duration duration) {
    steps.Run(1000, duration);
    return pace.MaxPromptTokens(false);
  };
  EXPECT_EQ(run(seconds(1)), 10000);
  EXPECT_EQ(run(seconds(10)), 1000);
  const int32_t better = run(seconds(1));
  EXPECT_GT(better, 1000);
  EXPECT_LT(better, 2000);
  for (int i = 0; i < 100; ++i) run(seconds(1));
  EXPECT_NEAR(pace.MaxPromptTokens(false), 10000, 100);
  EXPECT_EQ(run(seconds(100000)), 64) << "a step always gets on";
}

TEST(StepPaceTest, WhoGeneratesWaitsNoLongerThanTheGap) {
  StepPace pace(seconds(60), milliseconds(100));
  Steps steps{pace};
  EXPECT_EQ(pace.MaxPromptTokens(true), kNoBound) << "nothing is known yet";
  steps.Run(0, milliseconds(20));
  steps.Run(1000, milliseconds(220));  // of which 20 for the step itself
  EXPECT_NEAR(pace.costs().seconds_per_prompt_token, 200e-6, 1e-9);
  EXPECT_NEAR(pace.costs().seconds_per_step, 20e-3, 1e-9);
  EXPECT_NEAR(pace.MaxPromptTokens(true), 400, 1) << "20 + 400 x 0.2 ms";
  EXPECT_NEAR(pace.MaxPromptTokens(false), 68181, 1) << "nobody generates";
  for (int i = 0; i < 100; ++i) steps.Run(0, milliseconds(150));
  EXPECT_NEAR(pace.MaxPromptTokens(true), 750, 1) << "prompts get as long as a step takes without them";
}

TEST(StepPaceTest, LongChunksTellMoreThanShortOnes) {
  StepPace pace(seconds(60), milliseconds(100));
  Steps steps{pace};
  steps.Run(8000, milliseconds(800));
  steps.Run(100, milliseconds(50));
  EXPECT_LT(pace.costs().seconds_per_prompt_token, 120e-6);
}

TEST(StepPaceTest, FewTokensAndSwapsAreNotMeasured) {
  StepPace pace(seconds(60), milliseconds(100));
  Steps steps{pace};
  StepPlan swaps = PlanOf(1000);
  swaps.swap_in_blocks.push_back({});
  steps.Run(swaps, seconds(5));
  steps.Run(63, seconds(5));
  EXPECT_EQ(pace.costs().seconds_per_prompt_token, 0);
  EXPECT_EQ(pace.MaxPromptTokens(true), kNoBound);
}

TEST(StepPaceTest, PredictsOnceEnoughIsKnown) {
  StepPace pace(seconds(60), milliseconds(100));
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
