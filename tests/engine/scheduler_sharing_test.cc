// What a scheduler does when there is not enough for all: giving way, classes, tenants, long prompts; and
// what the prefix cache saves.
#include <algorithm>
#include <string>
#include <vector>

#include "engine/scheduler.h"
#include "gtest/gtest.h"
#include "tests/engine/scheduler_simulation.h"

namespace yoio {
namespace {

using test::Prefix;
using test::Simulation;
using test::TestGroup;

constexpr int32_t kWindow = 20;
constexpr SchedulerOptions kTight{.block_tokens = 16,
                                  .num_blocks = 12,
                                  .max_sequences = 4,
                                  .max_step_tokens = 64,
                                  .max_output_rows = 16,
                                  .ring_tokens = 48,
                                  .replay_tokens = 40,
                                  .snapshot_interval = 64};

SchedulerOptions WithHost(SchedulerOptions options) {
  options.host_blocks = 64;
  options.host_rings = 4;
  return options;
}

SchedulerOptions WithCache(SchedulerOptions options) {
  options.num_blocks = 64;
  options.prefix_cache = true;
  options.num_snapshots = 4;
  return options;
}

class GiveWayTest : public testing::TestWithParam<int> {};
INSTANTIATE_TEST_SUITE_P(Depth, GiveWayTest, testing::Values(1, 2, 3));

TEST_P(GiveWayTest, TheLatestGivesWayToTheHostAndGoesOn) {
  Simulation sim(WithHost(kTight), GetParam(), kWindow);
  TestGroup* first = sim.Submit(sim.Add(70, 90));
  sim.Turn();
  TestGroup* second = sim.Submit(sim.Add(60, 90));
  size_t out = 0, in = 0;
  while (sim.Turn()) {
    out += sim.plan().swap_out_blocks.size();
    in += sim.plan().swap_in_blocks.size();
  }
  EXPECT_EQ(first->preemptions, 0);
  EXPECT_GT(second->preemptions, 0);
  EXPECT_EQ(second->recomputed_tokens, 0);
  EXPECT_GT(out, 0u);
  EXPECT_EQ(in, out);
  EXPECT_EQ(second->outputs[0].size(), 90u);
  sim.ExpectAllReturned();
}

TEST_P(GiveWayTest, OrComputesAgainWhenThatIsCheaper) {
  Simulation sim(WithHost(kTight), GetParam(), kWindow);
  sim.costs = {.seconds_per_prompt_token = 1e-6, .seconds_per_step = 1e-6, .seconds_per_swapped_block = 1};
  TestGroup* first = sim.Submit(sim.Add(70, 90));
  sim.Turn();
  TestGroup* second = sim.Submit(sim.Add(60, 90));
  second->sampling.presence_penalty = 1;
  int32_t longest = 0, history = 0;
  while (sim.Turn()) {
    EXPECT_TRUE(sim.plan().swap_out_blocks.empty());
    for (const StepSequence& sequence : sim.plan().sequences) {
      if (sequence.token_begin >= sim.plan().num_prompt_tokens) {
        longest = std::max(longest, sequence.token_count);
      }
    }
    for (const SlotAdmission& admission : sim.plan().admitted) {
      history = std::max(history, static_cast<int32_t>(admission.output_ids.size()));
    }
  }
  EXPECT_EQ(first->preemptions, 0);
  EXPECT_GT(second->preemptions, 0);
  EXPECT_GE(second->recomputed_tokens, 60);
  EXPECT_GT(longest, 1) << "generated tokens run together when they are known";
  EXPECT_GT(history, 0) << "penalties need what was generated before";
  EXPECT_EQ(second->outputs[0].size(), 90u);
  sim.ExpectAllReturned();
}

TEST_P(GiveWayTest, WhoHasGivenWayCanBeCancelled) {
  for (const bool host : {false, true}) {
    Simulation sim(host ? WithHost(kTight) : kTight, GetParam(), kWindow);
    sim.Submit(sim.Add(70, 90));
    sim.Turn();
    TestGroup* second = sim.Submit(sim.Add(60, 90));
    while (second->preemptions == 0) ASSERT_TRUE(sim.Turn());
    sim.Cancel(second);
    sim.TurnTimes(GetParam());
    EXPECT_TRUE(second->retired);
    sim.RunUntilIdle();
    sim.ExpectAllReturned();
  }
}

TEST_P(GiveWayTest, AHigherClassTakesTheSlotOfALowerOne) {
  SchedulerOptions options = WithHost(kTight);
  options.max_sequences = 1;
  Simulation sim(options, GetParam(), kWindow);
  TestGroup* low = sim.Add(20, 60);
  low->priority = Priority::kLow;
  sim.Submit(low);
  sim.TurnTimes(10);
  TestGroup* equal = sim.Add(20, 5);
  equal->priority = Priority::kLow;
  sim.Submit(equal);
  sim.TurnTimes(5);
  EXPECT_EQ(low->preemptions, 0) << "nobody gives way to its own class";
  TestGroup* high = sim.Add(20, 5);
  high->priority = Priority::kHigh;
  sim.Submit(high);
  sim.RunUntilIdle();
  EXPECT_EQ(low->preemptions, 1);
  EXPECT_EQ(high->preemptions, 0);
  EXPECT_EQ(low->outputs[0].size(), 60u);
  EXPECT_GT(equal->first_scheduled, high->first_scheduled);
  sim.ExpectAllReturned();
}

TEST_P(GiveWayTest, RequestsWithSeveralChoicesOrScoresNeverDo) {
  Simulation sim(WithHost(kTight), GetParam(), kWindow);
  TestGroup* forked = sim.Add(20, 40, 2);
  forked->priority = Priority::kLow;
  TestGroup* scored = sim.Add(40, 0);
  scored->priority = Priority::kLow;
  sim.Submit(forked);
  sim.Submit(scored);
  sim.Turn();
  TestGroup* high = sim.Add(100, 60);
  high->priority = Priority::kHigh;
  sim.Submit(high);
  sim.RunUntilIdle();
  EXPECT_EQ(forked->preemptions + scored->preemptions, 0);
  EXPECT_EQ(high->outputs[0].size(), 60u);
  sim.ExpectAllReturned();
}

TEST(SharingTest, ALowClassIsServedUnderAStreamOfHighOnes) {
  SchedulerOptions options = kTight;
  options.max_sequences = 2;
  options.ageing = std::chrono::milliseconds(50);
  Simulation sim(options, 1, kWindow);
  TestGroup* low = sim.Add(20, 20);
  low->priority = Priority::kLow;
  sim.Submit(low);
  for (int turn = 0; !low->done(); ++turn) {
    ASSERT_LT(turn, 1000) << "starved";
    TestGroup* high = sim.Add(20, 10);
    high->priority = Priority::kHigh;
    sim.Submit(high);
    sim.Turn();
  }
  sim.RunUntilIdle();
  sim.ExpectAllReturned();
}

TEST(SharingTest, AShortPromptDoesNotWaitForTheWholeOfALongOne) {
  SchedulerOptions options = kTight;
  options.num_blocks = 1000;
  Simulation sim(options, 1, kWindow);
  TestGroup* large = sim.Submit(sim.Add(6400, 2));  // 100 steps alone
  sim.TurnTimes(3);
  TestGroup* small = sim.Submit(sim.Add(128, 2));
  sim.TurnTimes(4);
  EXPECT_EQ(small->outputs[0].size(), 1u) << "half of the budget for four steps";
  EXPECT_EQ(large->choices[0].planned_tokens, 64 * 3 + 32 * 4) << "and half for the one that came first";
  sim.RunUntilIdle();
  sim.ExpectAllReturned();
}

TEST(SharingTest, ATenantWaitsWithinItsShareAndOthersPass) {
  Simulation sim(kTight, 1, kWindow);
  const auto add = [&](const char* tenant) {
    TestGroup* group = sim.Add(30, 10);
    group->tenant = tenant;
    group->tenant_limits.max_cache_share = 0.3;  // 3 of 12 blocks
    return sim.Submit(group);
  };
  TestGroup* first = add("a");
  TestGroup* second = add("a");
  TestGroup* other = add("b");
  sim.TurnTimes(2);
  EXPECT_EQ(sim.scheduler().QueuePosition(first), -1);
  EXPECT_EQ(sim.scheduler().QueuePosition(other), -1);
  ASSERT_EQ(sim.scheduler().QueuePosition(second), 0);
  EXPECT_EQ(sim.scheduler().waiting().cause(0), WaitCause::kTenantShare);
  sim.RunUntilIdle();
  EXPECT_GT(second->waited[static_cast<int>(WaitCause::kTenantShare)], Duration::zero());
  TestGroup* large = sim.Add(40, 20);
  large->tenant_limits.max_cache_share = 0.25;
  EXPECT_FALSE(sim.scheduler().CanEverRun(*large)) << "4 blocks of 3";
  large->open = {false};
  large->retired = true;
  sim.ExpectAllReturned();
}

TEST(SharingTest, SaysWhatTheQueueWaitsFor) {
  SchedulerOptions options = kTight;
  options.max_sequences = 2;
  Simulation sim(options, 1, kWindow);
  sim.Submit(sim.Add(100, 20));
  TestGroup* second = sim.Submit(sim.Add(100, 20));
  sim.Turn();
  ASSERT_EQ(sim.scheduler().QueuePosition(second), 0);
  EXPECT_EQ(sim.scheduler().waiting().cause(0), WaitCause::kTokenBudget);
  sim.TurnTimes(3);
  EXPECT_EQ(sim.scheduler().waiting().cause(0), WaitCause::kBlocks);
  sim.Submit(sim.Add(10, 20));
  sim.RunUntilIdle();
  EXPECT_GT(second->waited[static_cast<int>(WaitCause::kBlocks)], Duration::zero());
  sim.ExpectAllReturned();
}

// --- The prefix cache ---

TEST(SharingTest, ASharedPrefixIsComputedOnce) {
  Simulation sim(WithCache(kTight), 1, kWindow);
  TestGroup* first = sim.Submit(sim.Add(100, 10));
  sim.RunUntilIdle();
  EXPECT_EQ(sim.scheduler().free_blocks(), 64) << "cached blocks count as free";
  EXPECT_EQ(sim.scheduler().cached_blocks(), 6) << "whole blocks of 100 + 9";
  std::vector<int32_t> prompt = first->prompt;
  prompt.insert(prompt.end(), {1, 2, 3});
  TestGroup* second = sim.Submit(sim.Add(prompt, 10));
  TestGroup* bypassing = sim.Add(prompt, 10);
  bypassing->cache.bypass = true;
  sim.Submit(bypassing);
  TestGroup* salted = sim.Add(prompt, 10);
  salted->cache.salt = "other";
  sim.Submit(salted);
  TestGroup* stranger = sim.Add(prompt, 10);
  stranger->tenant = "other";
  sim.Submit(stranger);
  sim.RunUntilIdle();
  EXPECT_EQ(second->cached_tokens, 96);
  EXPECT_EQ(bypassing->cached_tokens, 0);
  EXPECT_EQ(salted->cached_tokens, 0);
  EXPECT_EQ(stranger->cached_tokens, 0);
  sim.ExpectAllReturned();
}

TEST(SharingTest, ASnapshotSparesTheReplay) {
  for (const int32_t snapshots : {0, 4}) {
    SchedulerOptions options = WithCache(kTight);
    options.num_snapshots = snapshots;
    Simulation sim(options, 1, kWindow);
    TestGroup* first = sim.Submit(sim.Add(96, 1));
    sim.RunUntilIdle();
    std::vector<int32_t> prompt = first->prompt;
    prompt.insert(prompt.end(), {1, 2, 3});
    sim.Submit(sim.Add(prompt, 1));
    sim.Turn();
    const int32_t replayed = snapshots > 0 ? 0 : options.replay_tokens;
    EXPECT_EQ(sim.plan().num_prompt_tokens, 3 + replayed);
    EXPECT_EQ(sim.plan().ring_copies.size(), snapshots > 0 ? 1u : 0u);
    sim.RunUntilIdle();
    sim.ExpectAllReturned();
  }
}

TEST(SharingTest, ASecondTurnFindsWhatWasGenerated) {
  Simulation sim(WithCache(kTight), 2, kWindow);
  TestGroup* first = sim.Submit(sim.Add(50, 60));
  sim.RunUntilIdle();
  std::vector<int32_t> prompt = first->prompt;
  prompt.insert(prompt.end(), first->outputs[0].begin(), first->outputs[0].end());
  prompt.insert(prompt.end(), {1, 2, 3});
  TestGroup* second = sim.Add(prompt, 10);
  second->continues_another = true;
  sim.Submit(second);
  sim.RunUntilIdle();
  EXPECT_EQ(second->cached_tokens, 96) << "of 50 + 59 that were computed";
  sim.ExpectAllReturned();
}

}  // namespace
}  // namespace yoio
