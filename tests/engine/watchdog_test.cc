#include "engine/watchdog.h"

#include <memory>
#include <string>
#include <thread>

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
  void Watch(int first_rank, int num_ranks) {
    watchdog_ = std::make_unique<Watchdog>(WatchdogOptions{
        .first_rank = first_rank,
        .num_ranks = num_ranks,
        .ranks_per_node = 2,
        .timeout = kTimeout,
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
