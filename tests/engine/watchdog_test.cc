#include "engine/watchdog.h"

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "base/bounded_queue.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace yoio {
namespace {

using testing::HasSubstr;

constexpr Duration kTimeout = std::chrono::milliseconds(500);

// A watchdog over the ranks [first_rank, first_rank + num_ranks), and what it says.
class WatchdogTest : public testing::Test {
 protected:
  using Look = std::function<std::optional<RankState>(int rank)>;

  void Watch(int first_rank, int num_ranks, Look look = {}) {
    watchdog_ = std::make_unique<Watchdog>(WatchdogOptions{
        .first_rank = first_rank,
        .num_ranks = num_ranks,
        .ranks_per_node = 2,
        .timeout = kTimeout,
        .look = std::move(look),
        .on_late = [this](absl::Status late) { EXPECT_TRUE(said_.TryPush(late)) << "once"; }});
  }
  // What it has said by a moment when it must have; OK when it has said nothing.
  absl::Status Said(Duration wait) {
    return said_.WaitUntil(Clock::now() + wait) ? *said_.TryPop() : absl::OkStatus();
  }

  BoundedQueue<absl::Status> said_{1};
  std::unique_ptr<Watchdog> watchdog_;
};

TEST_F(WatchdogTest, ARankThatIsLateIsTold) {
  Watch(2, 2);
  for (const int rank : {2, 3}) watchdog_->Ended(rank, 0);
  watchdog_->Submitted(1);
  watchdog_->Submitted(2);
  watchdog_->Ended(2, 1);
  const absl::Status late = Said(100 * kTimeout);
  EXPECT_EQ(late.code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_EQ(
      late.message(),
      "step 1 has taken longer than 0.5 s (--step-timeout): rank 2 of node 1 has ended step 1; rank 3 of "
      "node 1 has ended step 0");
}

TEST_F(WatchdogTest, ARankThatNeverEndedAnything) {
  Watch(0, 1);
  watchdog_->Submitted(0);
  EXPECT_THAT(std::string(Said(100 * kTimeout).message()), HasSubstr("rank 0 of node 0 has ended no step"));
}

TEST_F(WatchdogTest, WhatItsRanksAreDoingIsTold) {
  Watch(0, 3, [](int rank) -> std::optional<RankState> {
    if (rank == 2) return std::nullopt;  // another process's
    RankState state{.rank = rank, .step = 6, .phase = StepPhase::kTopK};
    if (rank == 1) {
      state.phase = StepPhase::kIndexBroadcast;
      state.collective = Collective::kBroadcast;
    }
    return state;
  });
  for (int rank = 0; rank < 3; ++rank) watchdog_->Ended(rank, 5);
  watchdog_->Submitted(6);
  EXPECT_THAT(
      std::string(Said(100 * kTimeout).message()),
      HasSubstr("rank 0 of node 0 has ended step 5, is in top_k of step 6; rank 1 of node 0 has ended "
                "step 5, is in index_broadcast of step 6, waits in broadcast; rank 2 of node 1 has "
                "ended step 5"));
  const std::vector<RankState> ranks = watchdog_->Ranks();
  ASSERT_EQ(ranks.size(), 3u);
  for (int rank = 0; rank < 3; ++rank) {
    EXPECT_EQ(ranks[rank].rank, rank);
    EXPECT_EQ(ranks[rank].ended_step, 5);
    EXPECT_EQ(ranks[rank].step, rank < 2 ? 6 : -1);
  }
  EXPECT_EQ(ranks[0].phase, StepPhase::kTopK);
  EXPECT_EQ(ranks[1].collective, Collective::kBroadcast);
}

TEST_F(WatchdogTest, AStepsTimeBeginsWhenTheOneBeforeItHasEnded) {
  Watch(0, 1);
  // Four steps, submitted at once, that together take longer than one may.
  for (int step = 0; step < 4; ++step) watchdog_->Submitted(step);
  for (int step = 0; step < 4; ++step) {
    std::this_thread::sleep_for(kTimeout / 3);
    watchdog_->Ended(0, step);
  }
  EXPECT_EQ(Said(kTimeout * 3 / 2), absl::OkStatus()) << "nor does rest count";
}

TEST_F(WatchdogTest, NothingIsSaidAfterStop) {
  Watch(0, 1);
  watchdog_->Submitted(0);
  watchdog_->Stop();
  EXPECT_EQ(Said(kTimeout * 3 / 2), absl::OkStatus());
}

}  // namespace
}  // namespace yoio
