#include "engine/step_pace.h"

#include <limits>

#include "gtest/gtest.h"

namespace yoio {
namespace {

using std::chrono::seconds;

constexpr int32_t kNoBound = std::numeric_limits<int32_t>::max();
constexpr TimePoint kBegin = TimePoint(std::chrono::hours(5));

StepPlan PlanOf(int32_t prompt_tokens) {
  StepPlan plan;
  plan.num_prompt_tokens = prompt_tokens;
  return plan;
}

TEST(StepPaceTest, AQuarterOfTheStepTimeout) {
  StepPace pace(seconds(40));
  EXPECT_EQ(pace.MaxPromptTokens(), kNoBound);
  pace.Submitted(PlanOf(1000), kBegin);
  EXPECT_EQ(pace.MaxPromptTokens(), kNoBound);
  pace.Ended(kBegin + seconds(20));  // 50 tokens a second, of which ten seconds are allowed
  EXPECT_EQ(pace.MaxPromptTokens(), 500);
}

TEST(StepPaceTest, TheTimeOfTheStepBeforeDoesNotCount) {
  StepPace pace(seconds(40));
  pace.Submitted(PlanOf(0), kBegin);
  pace.Submitted(PlanOf(1000), kBegin);
  pace.Ended(kBegin + seconds(100));
  EXPECT_EQ(pace.MaxPromptTokens(), kNoBound) << "generated tokens are not measured";
  pace.Ended(kBegin + seconds(110));
  EXPECT_EQ(pace.MaxPromptTokens(), 1000);
}

TEST(StepPaceTest, SlowerAtOnceFasterSlowly) {
  StepPace pace(seconds(40));
  TimePoint now = kBegin;
  const auto run = [&](int32_t tokens, Duration duration) {
    pace.Submitted(PlanOf(tokens), now);
    now += duration;
    pace.Ended(now);
    return pace.MaxPromptTokens();
  };
  EXPECT_EQ(run(1000, seconds(1)), 10000);
  EXPECT_EQ(run(1000, seconds(10)), 1000);
  const int32_t better = run(1000, seconds(1));
  EXPECT_GT(better, 1000);
  EXPECT_LT(better, 2000);
  for (int i = 0; i < 100; ++i) run(1000, seconds(1));
  EXPECT_NEAR(pace.MaxPromptTokens(), 10000, 100);
  EXPECT_EQ(run(1000, seconds(100000)), 64) << "a step always gets on";
}

}  // namespace
}  // namespace yoio
