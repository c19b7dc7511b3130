#include "engine/scheduler.h"

#include <algorithm>
#include <vector>

#include "gtest/gtest.h"
#include "tests/engine/scheduler_simulation.h"

namespace yoio {
namespace {

using test::Random;
using test::Simulation;
using test::TestGroup;

constexpr SchedulerOptions kRoomy{.block_tokens = 64,
                                  .num_blocks = 64,
                                  .max_sequences = 8,
                                  .max_step_tokens = 64,
                                  .max_output_rows = 16,
                                  .ring_tokens = 192};

// Tests that hold for any number of steps in flight.
class SchedulerDepthTest : public testing::TestWithParam<int> {};
INSTANTIATE_TEST_SUITE_P(Depth, SchedulerDepthTest, testing::Values(1, 2, 3));

TEST_P(SchedulerDepthTest, OneRequestRunsInChunksToItsEnd) {
  Simulation sim(kRoomy, GetParam());
  TestGroup* group = sim.Submit(sim.Add(/*prompt_tokens=*/150, /*max_tokens=*/70));
  sim.RunUntilIdle();
  EXPECT_EQ(group->outputs[0].size(), 70u);
  EXPECT_EQ(group->prefill_chunks, 3) << "150 tokens at 64 a step";
  // The steps planned before the last token was seen are counted too.
  EXPECT_GE(group->decode_steps, 69);
  EXPECT_EQ(sim.steps(), group->prefill_chunks + group->decode_steps);
  sim.ExpectAllReturned();
}

TEST_P(SchedulerDepthTest, ForksAtEveryKindOfBoundary) {
  for (const int32_t prompt : {1, 63, 64, 65, 127, 128, 129, 150}) {
    for (const int32_t max_tokens : {1, 2, 3, 64, 70}) {
      Simulation sim(kRoomy, GetParam());
      TestGroup* group = sim.Submit(sim.Add(prompt, max_tokens, /*n=*/4));
      const int32_t needed = sim.scheduler().BlocksNeeded(*group);
      const int32_t whole = (prompt + max_tokens - 1 + 63) / 64;
      EXPECT_EQ(needed, 4 * whole - 3 * (prompt / 64)) << "full prompt blocks are shared";
      sim.Turn();
      EXPECT_GE(sim.scheduler().free_blocks(), kRoomy.num_blocks - needed);
      sim.RunUntilIdle();
      for (const auto& output : group->outputs) EXPECT_EQ(output.size(), static_cast<size_t>(max_tokens));
      EXPECT_LE(group->decode_steps, max_tokens + GetParam()) << "all choices decode in the same steps";
      sim.ExpectAllReturned();
    }
  }
}

TEST_P(SchedulerDepthTest, ChoicesEndOneByOne) {
  std::vector<int32_t> lengths{1, 2, 5, 30};
  do {
    Simulation sim(kRoomy, GetParam());
    TestGroup* group = sim.Add(100, 40, 4);
    group->stop_after = lengths;
    sim.Submit(group);
    sim.RunUntilIdle();
    for (int choice = 0; choice < 4; ++choice) {
      EXPECT_EQ(group->outputs[choice].size(), static_cast<size_t>(lengths[choice]));
    }
    sim.ExpectAllReturned();
  } while (std::next_permutation(lengths.begin(), lengths.end()));
}

TEST_P(SchedulerDepthTest, BlocksOfAnEndedChoiceReturnBeforeTheGroupEnds) {
  Simulation sim(kRoomy, GetParam());
  TestGroup* group = sim.Add(65, 1000, 2);
  group->stop_after = {3, 1000};
  sim.Submit(group);
  sim.TurnTimes(3 + 2 * GetParam() + 3);
  EXPECT_FALSE(group->open[0]);
  EXPECT_TRUE(group->open[1]);
  // What is left: choice 1's whole table, one block of it shared before.
  EXPECT_EQ(sim.scheduler().free_blocks(), kRoomy.num_blocks - (65 + 999 + 63) / 64);
  EXPECT_EQ(sim.scheduler().free_slots(), kRoomy.max_sequences - 1);
  sim.Cancel(group);
  sim.RunUntilIdle();
  sim.ExpectAllReturned();
}

TEST_P(SchedulerDepthTest, CancelInEveryPhaseFreesEverythingWithinTheStepsInFlight) {
  for (int turns = 0; turns < 14; ++turns) {
    for (const int32_t n : {1, 3}) {
      Simulation sim(kRoomy, GetParam());
      TestGroup* other = sim.Submit(sim.Add(10, 30));
      TestGroup* group = sim.Submit(sim.Add(200, 50, n));
      sim.TurnTimes(turns);
      sim.Cancel(group);
      sim.TurnTimes(GetParam());
      EXPECT_TRUE(group->retired) << "after " << turns << " turns";
      EXPECT_EQ(sim.scheduler().free_slots(), kRoomy.max_sequences - 1);
      sim.RunUntilIdle();
      EXPECT_EQ(other->outputs[0].size(), 30u) << "the other request never notices";
      sim.ExpectAllReturned();
    }
  }
}

TEST_P(SchedulerDepthTest, CancelBetweenTheFirstTokensAndTheForksCopies) {
  Simulation sim(kRoomy, GetParam());
  TestGroup* group = sim.Submit(sim.Add(70, 50, 4));
  while (group->outputs[0].empty()) sim.Turn();
  sim.Cancel(group);
  sim.RunUntilIdle();
  sim.ExpectAllReturned();
}

TEST_P(SchedulerDepthTest, AWaitingRequestLeavesTheQueue) {
  SchedulerOptions options = kRoomy;
  options.max_sequences = 1;
  Simulation sim(options, GetParam());
  TestGroup* first = sim.Submit(sim.Add(10, 5));
  TestGroup* second = sim.Submit(sim.Add(20, 5));
  TestGroup* third = sim.Submit(sim.Add(30, 5));
  sim.Turn();
  EXPECT_EQ(sim.scheduler().QueuePosition(first), -1);
  EXPECT_EQ(sim.scheduler().QueuePosition(second), 0);
  EXPECT_EQ(sim.scheduler().QueuePosition(third), 1);
  EXPECT_EQ(sim.scheduler().waiting_tokens(), 50);
  sim.Cancel(second);
  EXPECT_TRUE(second->retired) << "it held nothing";
  EXPECT_EQ(sim.scheduler().QueuePosition(third), 0);
  EXPECT_EQ(sim.scheduler().waiting_tokens(), 30);
  sim.RunUntilIdle();
  EXPECT_EQ(third->outputs[0].size(), 5u);
  sim.ExpectAllReturned();
}

TEST_P(SchedulerDepthTest, PausedGroupsStandStillAndContinue) {
  Simulation sim(kRoomy, GetParam());
  TestGroup* slow = sim.Submit(sim.Add(100, 20, 2));
  TestGroup* fast = sim.Submit(sim.Add(20, 60));
  while (slow->outputs[1].size() < 5) sim.Turn();
  slow->paused = true;
  sim.TurnTimes(GetParam());  // what was in flight still arrives
  const size_t reached = slow->outputs[0].size();
  EXPECT_LE(reached, 5u + GetParam());
  sim.TurnTimes(10);
  EXPECT_EQ(slow->outputs[0].size(), reached);
  slow->paused = false;
  sim.RunUntilIdle();
  EXPECT_EQ(slow->outputs[0].size(), 20u);
  EXPECT_EQ(slow->outputs[1].size(), 20u);
  EXPECT_EQ(fast->outputs[0].size(), 60u);
  sim.ExpectAllReturned();
}

TEST_P(SchedulerDepthTest, PauseBetweenTheFirstTokensAndTheFirstDecode) {
  Simulation sim(kRoomy, GetParam());
  TestGroup* group = sim.Submit(sim.Add(64 + 5, 10, 3));
  sim.TurnTimes(2);  // both chunks are planned, and no copy yet
  group->paused = true;
  sim.RunUntilIdle();
  EXPECT_EQ(group->outputs[2].size(), 1u);
  sim.Submit(sim.Add(5, 5));  // its steps make the copies
  sim.RunUntilIdle();
  group->paused = false;
  sim.RunUntilIdle();
  for (const auto& output : group->outputs) EXPECT_EQ(output.size(), 10u);
  sim.ExpectAllReturned();
}

TEST_P(SchedulerDepthTest, TightBudgetGoesAroundTheDecodes) {
  SchedulerOptions options = kRoomy;
  options.max_output_rows = 3;
  Simulation sim(options, GetParam());
  for (int i = 0; i < 7; ++i) sim.Submit(sim.Add(4, 40));
  sim.TurnTimes(30);
  size_t least = 1000, most = 0;
  for (const auto& group : sim.groups()) {
    if (group->outputs[0].empty()) continue;  // waits for a row of its own
    least = std::min(least, group->outputs[0].size());
    most = std::max(most, group->outputs[0].size());
  }
  EXPECT_GT(most, 0u);
  sim.RunUntilIdle();
  for (const auto& group : sim.groups()) EXPECT_EQ(group->outputs[0].size(), 40u);
  sim.ExpectAllReturned();
}

TEST_P(SchedulerDepthTest, PromptScoresKeepToTheRowBudget) {
  Simulation sim(kRoomy, GetParam());
  TestGroup* scored = sim.Submit(sim.Add(/*prompt_tokens=*/100, /*max_tokens=*/0));
  TestGroup* both = sim.Add(50, 7, 2);
  both->logprobs.prompt = true;
  sim.Submit(both);
  sim.RunUntilIdle();
  EXPECT_EQ(scored->scores.size(), 99u);
  EXPECT_GE(scored->prefill_chunks, 7) << "99 rows at 16 a step";
  EXPECT_EQ(both->scores.size(), 49u);
  EXPECT_EQ(both->outputs[1].size(), 7u);
  sim.ExpectAllReturned();
}

TEST(SchedulerTest, ScoringTwoTokensRunsOne) {
  Simulation sim(kRoomy);
  TestGroup* group = sim.Submit(sim.Add(2, 0));
  sim.Turn();
  EXPECT_EQ(sim.plan().token_ids.size(), 1u) << "nothing follows the last token";
  EXPECT_TRUE(sim.plan().samples.empty());
  sim.RunUntilIdle();
  EXPECT_EQ(group->scores.size(), 1u);
  sim.ExpectAllReturned();
}

TEST(SchedulerTest, DecodesComeBeforePrompts) {
  Simulation sim(kRoomy);
  for (int i = 0; i < 3; ++i) sim.Submit(sim.Add(5, 50));
  sim.TurnTimes(2);
  TestGroup* late = sim.Submit(sim.Add(500, 5));
  sim.Turn();
  EXPECT_EQ(sim.plan().num_prompt_tokens, kRoomy.max_step_tokens - 3) << "the rest of the budget";
  EXPECT_EQ(sim.plan().token_ids.size() - sim.plan().num_prompt_tokens, 3u);
  EXPECT_EQ(late->prefill_chunks, 1);
  sim.RunUntilIdle();
  sim.ExpectAllReturned();
}

TEST(SchedulerTest, PromptTokensAlsoKeepToTheirOwnBound) {
  Simulation sim(kRoomy);
  for (int i = 0; i < 3; ++i) sim.Submit(sim.Add(5, 50));
  sim.TurnTimes(2);
  sim.max_prompt_tokens = 7;
  TestGroup* first = sim.Submit(sim.Add(10, 5));
  sim.Submit(sim.Add(10, 5));
  sim.Turn();
  EXPECT_EQ(sim.plan().num_prompt_tokens, 7);
  EXPECT_EQ(sim.plan().token_ids.size(), 7u + 3) << "generated tokens are not bound";
  EXPECT_EQ(sim.scheduler().num_waiting(), 1) << "nobody is admitted who could not run";
  sim.Turn();
  EXPECT_EQ(sim.plan().num_prompt_tokens, 7) << "the rest of the first, and some of the second";
  EXPECT_EQ(first->prefill_chunks, 2);
  sim.RunUntilIdle();
  sim.ExpectAllReturned();
}

TEST(SchedulerTest, PromptsRunInOrderOfArrival) {
  Simulation sim(kRoomy);
  std::vector<TestGroup*> groups;
  for (int i = 0; i < 4; ++i) groups.push_back(sim.Submit(sim.Add(40, 3)));
  sim.Turn();
  EXPECT_EQ(groups[0]->choices[0].planned_tokens, 40);
  EXPECT_EQ(groups[1]->choices[0].planned_tokens, 24) << "what was left of 64";
  sim.Turn();
  EXPECT_EQ(groups[1]->choices[0].planned_tokens, 40);
  EXPECT_EQ(groups[2]->choices[0].planned_tokens, 40);
  EXPECT_EQ(groups[3]->choices[0].planned_tokens, 64 - 1 - 16 - 40);
  EXPECT_LT(groups[0]->first_scheduled, groups[2]->first_scheduled);
  sim.RunUntilIdle();
  sim.ExpectAllReturned();
}

TEST(SchedulerTest, AdmissionWaitsForBlocksAndIsNotOvertaken) {
  SchedulerOptions options = kRoomy;
  options.num_blocks = 4;
  Simulation sim(options);
  TestGroup* first = sim.Submit(sim.Add(50, 20));   // 1 block, then 2
  TestGroup* large = sim.Submit(sim.Add(200, 10));  // 4 blocks
  TestGroup* small = sim.Submit(sim.Add(10, 10));   // 1 block, which is free all the time
  while (!first->done()) {
    sim.Turn();
    EXPECT_EQ(sim.scheduler().QueuePosition(small), 1) << "the order of arrival holds";
  }
  sim.RunUntilIdle();
  EXPECT_LT(large->first_scheduled, small->first_scheduled);
  EXPECT_EQ(small->outputs[0].size(), 10u);
  sim.ExpectAllReturned();
}

TEST(SchedulerTest, AdmissionNeedsASlotForEveryChoice) {
  Simulation sim(kRoomy);
  TestGroup* first = sim.Submit(sim.Add(5, 30, 6));
  TestGroup* second = sim.Submit(sim.Add(5, 5, 3));
  sim.TurnTimes(5);
  EXPECT_EQ(sim.scheduler().num_running(), 1);
  EXPECT_EQ(sim.scheduler().QueuePosition(second), 0);
  sim.Cancel(first);
  sim.RunUntilIdle();
  EXPECT_EQ(second->outputs[2].size(), 5u);
  sim.ExpectAllReturned();
}

TEST(SchedulerTest, SaysWhatCanNeverRun) {
  SchedulerOptions options = kRoomy;
  options.num_blocks = 4;
  Simulation sim(options);
  EXPECT_TRUE(sim.scheduler().CanEverRun(*sim.Add(128, 129)));
  EXPECT_FALSE(sim.scheduler().CanEverRun(*sim.Add(128, 130)));
  EXPECT_TRUE(sim.scheduler().CanEverRun(*sim.Add(128, 1, 8))) << "forks add nothing to two shared blocks";
  EXPECT_FALSE(sim.scheduler().CanEverRun(*sim.Add(64, 1, 9))) << "8 slots";
  EXPECT_FALSE(sim.scheduler().CanEverRun(*sim.Add(128, 2, 3))) << "each fork needs a block of its own";
}

TEST(SchedulerTest, OnlyPenaltiesSendThePrompt) {
  Simulation sim(kRoomy);
  TestGroup* plain = sim.Submit(sim.Add(5, 2));
  TestGroup* penalised = sim.Add(6, 2, 2);
  penalised->sampling.repetition_penalty = 1.5f;
  penalised->stop_ids = {3};
  penalised->min_tokens = 1;
  sim.Submit(penalised);
  sim.Turn();
  ASSERT_EQ(sim.plan().admitted.size(), 3u);
  EXPECT_TRUE(sim.plan().admitted[0].prompt_ids.empty());
  EXPECT_EQ(sim.plan().admitted[1].prompt_ids, penalised->prompt);
  EXPECT_EQ(sim.plan().admitted[2].prompt_ids, penalised->prompt) << "each choice has a slot of its own";
  EXPECT_EQ(sim.plan().admitted[2].stop_ids, penalised->stop_ids);
  EXPECT_EQ(sim.plan().admitted[2].min_tokens, 1);
  EXPECT_EQ(plain->outputs[0].size(), 1u);
  sim.RunUntilIdle();
  sim.ExpectAllReturned();
}

TEST(SchedulerTest, APlanNamesRowsOfThePreviousStepUntilTheirTokensAreKnown) {
  Simulation sim(kRoomy, /*depth=*/2);
  sim.Submit(sim.Add(5, 10));
  sim.Submit(sim.Add(5, 10));
  sim.Turn();
  sim.Turn();
  EXPECT_EQ(sim.plan().token_ids, (std::vector<int32_t>{-1, -2}));
  sim.RunUntilIdle();
  sim.ExpectAllReturned();
}

TEST(SchedulerDeathTest, AGroupThatCannotRunIsNotAdded) {
  Simulation sim(kRoomy);
  EXPECT_DEATH(sim.Submit(sim.Add(5000, 5)), "CanEverRun");
}

TEST(SchedulerDeathTest, AChoiceDoesNotEndAloneInItsPrompt) {
  Simulation sim(kRoomy);
  TestGroup* group = sim.Submit(sim.Add(100, 5, 2));
  sim.Turn();
  EXPECT_DEATH(sim.scheduler().End(group, 0), "ends alone in its prompt");
  sim.Cancel(group);
}

// Long random lives: everything at once, small blocks so that boundaries are frequent.
class SchedulerRandomTest : public testing::TestWithParam<int> {};
INSTANTIATE_TEST_SUITE_P(Seed, SchedulerRandomTest, testing::Range(1, 41));

TEST_P(SchedulerRandomTest, EveryTokenIsRightAndEverythingReturns) {
  Random random(static_cast<uint64_t>(GetParam()));
  const int32_t window = 1 + random.Below(9);
  const SchedulerOptions options{.block_tokens = 4,
                                 .num_blocks = 20 + random.Below(60),
                                 .max_sequences = 4 + random.Below(8),
                                 .max_step_tokens = 1 + random.Below(40),
                                 .max_output_rows = 1 + random.Below(12),
                                 .ring_tokens = ((window + 3) / 4 + 1) * 4};
  Simulation sim(options, /*depth=*/1 + GetParam() % 3, window);
  for (int turn = 0; turn < 600; ++turn) {
    if (random.Below(6) == 0) {
      TestGroup* group = sim.Add(2 + random.Below(40), random.Below(12), 1);
      if (group->max_tokens > 0) {
        group->n = 1 + random.Below(4);
        for (int i = 0; i < group->n; ++i) group->stop_after.push_back(1 + random.Below(12));
        group->outputs.resize(group->n);
        group->open.assign(group->n, true);
        group->logprobs.prompt = random.Below(4) == 0;
      }
      if (sim.scheduler().CanEverRun(*group)) {
        sim.Submit(group);
      } else {
        group->open.assign(group->n, false);
        group->retired = true;
      }
    }
    if (!sim.groups().empty()) {
      TestGroup& any = *sim.groups()[random.Below(static_cast<int>(sim.groups().size()))];
      if (random.Below(30) == 0 && !any.done()) sim.Cancel(&any);
      any.paused = random.Below(3) == 0;
    }
    sim.Turn();
    ASSERT_FALSE(HasFatalFailure());
  }
  for (const auto& group : sim.groups()) group->paused = false;
  sim.RunUntilIdle();
  for (const auto& group : sim.groups()) EXPECT_TRUE(group->done());
  sim.ExpectAllReturned();
}

}  // namespace
}  // namespace yoio
