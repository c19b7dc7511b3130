#include "engine/waiting_queue.h"

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "gtest/gtest.h"

namespace yoio {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr TimePoint kStart = TimePoint{} + std::chrono::hours(1);

class WaitingQueueTest : public testing::Test {
 protected:
  SequenceGroup* Add(Duration arrival, Priority priority = Priority::kNormal, const std::string& tenant = "t",
                     int prompt_tokens = 10, double weight = 1) {
    groups_.push_back(std::make_unique<SequenceGroup>());
    SequenceGroup* group = groups_.back().get();
    group->prompt.resize(prompt_tokens);
    group->priority = priority;
    group->tenant = tenant;
    group->tenant_limits.weight = weight;
    group->arrival = kStart + arrival;
    queue_.Add(group, group->arrival, /*resumes=*/false);
    return group;
  }

  // Everybody in the order in which they would start, each charged its prompt.
  std::vector<SequenceGroup*> Drain(Duration now) {
    std::vector<SequenceGroup*> order;
    while (queue_.size() > 0) {
      queue_.Arrange(kStart + now);
      order.push_back(queue_[0]);
      queue_.Start(order.back(), order.back()->prompt_tokens(), kStart + now);
    }
    return order;
  }

  std::vector<std::unique_ptr<SequenceGroup>> groups_;
  WaitingQueue queue_{/*ageing=*/seconds(10)};
};

TEST_F(WaitingQueueTest, ClassesThenDeadlinesThenArrival) {
  SequenceGroup* low = Add(seconds(0), Priority::kLow);
  SequenceGroup* first = Add(milliseconds(1));
  SequenceGroup* second = Add(milliseconds(2));
  groups_.push_back(std::make_unique<SequenceGroup>());
  SequenceGroup* due = groups_.back().get();
  due->arrival = kStart + milliseconds(3);
  due->due = kStart + seconds(2);
  due->tenant = "t";
  queue_.Add(due, due->arrival, /*resumes=*/false);
  SequenceGroup* high = Add(milliseconds(4), Priority::kHigh);
  EXPECT_EQ(Drain(milliseconds(5)), (std::vector<SequenceGroup*>{high, due, first, second, low}));
}

TEST_F(WaitingQueueTest, WhoWaitsRisesUntilNobodyIsAbove) {
  SequenceGroup* low = Add(seconds(0), Priority::kLow);
  SequenceGroup* normal = Add(seconds(9));
  queue_.Arrange(kStart + seconds(9));
  EXPECT_EQ(queue_[0], normal);
  queue_.Arrange(kStart + seconds(10));
  EXPECT_EQ(queue_[0], low) << "of the same class now, and earlier";
  queue_.Remove(normal, kStart + seconds(10));
  SequenceGroup* high = Add(seconds(19), Priority::kHigh);
  queue_.Arrange(kStart + seconds(19));
  EXPECT_EQ(queue_[0], high);
  queue_.Arrange(kStart + seconds(20));
  EXPECT_EQ(queue_[0], low);
  queue_.Start(low, 10, kStart + seconds(20));
  EXPECT_EQ(low->risen, 2) << "it stays where it has risen to when it gives way";
}

TEST_F(WaitingQueueTest, NoStreamOfEarlierDeadlinesStarvesWhoNamesNone) {
  SequenceGroup* patient = Add(seconds(0));
  for (int i = 1; i <= 100; ++i) {
    SequenceGroup* other = Add(seconds(i));
    queue_.Remove(other, kStart + seconds(i));
    other->due = kStart + seconds(i + 5);
    queue_.Add(other, other->arrival, /*resumes=*/false);
    queue_.Arrange(kStart + seconds(i));
    if (queue_[0] == patient) return;
    queue_.Start(queue_[0], 10, kStart + seconds(i));
  }
  FAIL() << "starved";
}

TEST_F(WaitingQueueTest, TenantsShareByWeight) {
  std::vector<SequenceGroup*> heavy, light;
  for (int i = 0; i < 60; ++i) heavy.push_back(Add(seconds(0), Priority::kNormal, "heavy", 10, 3));
  for (int i = 0; i < 20; ++i) light.push_back(Add(milliseconds(1), Priority::kNormal, "light", 10, 1));
  const std::vector<SequenceGroup*> order = Drain(milliseconds(2));
  int heavy_started = 0;
  for (int i = 0; i < 40; ++i) heavy_started += order[i]->tenant == "heavy" ? 1 : 0;
  EXPECT_NEAR(heavy_started, 30, 1) << "three to one";
}

TEST_F(WaitingQueueTest, GeneratedTokensCountAndIdleTimeGivesNoCredit) {
  SequenceGroup* busy = Add(seconds(0), Priority::kNormal, "busy");
  queue_.Arrange(kStart);
  queue_.Start(busy, 10, kStart);
  queue_.Charge(*busy, 1000);
  SequenceGroup* again = Add(seconds(1), Priority::kNormal, "busy");
  SequenceGroup* other = Add(seconds(2), Priority::kNormal, "other");
  queue_.Arrange(kStart + seconds(2));
  EXPECT_EQ(queue_[0], other) << "it has had less";
  EXPECT_EQ(Drain(seconds(2)), (std::vector<SequenceGroup*>{other, again}));
  // A third one that comes now begins where the others are, not a thousand tokens behind them.
  std::vector<SequenceGroup*> late;
  for (int i = 0; i < 10; ++i) late.push_back(Add(seconds(3), Priority::kNormal, "late"));
  SequenceGroup* third = Add(seconds(3) + milliseconds(1), Priority::kNormal, "busy");
  const std::vector<SequenceGroup*> order = Drain(seconds(4));
  EXPECT_EQ(order[0], late[0]);
  EXPECT_LT(std::find(order.begin(), order.end(), third) - order.begin(), 3);
}

TEST_F(WaitingQueueTest, PlacesAndCountsFollowWhoLeaves) {
  SequenceGroup* first = Add(seconds(0), Priority::kNormal, "a", 5);
  SequenceGroup* second = Add(seconds(1), Priority::kNormal, "a", 7);
  SequenceGroup* third = Add(seconds(2), Priority::kNormal, "a", 11);
  queue_.Arrange(kStart + seconds(2));
  EXPECT_EQ(queue_.Place(third), 2);
  EXPECT_EQ(queue_.tokens(), 23);
  EXPECT_EQ(queue_.tokens("a"), 23);
  EXPECT_EQ(queue_.size("a"), 3);
  EXPECT_EQ(queue_.size("b"), 0);
  EXPECT_TRUE(queue_.Remove(second, kStart + seconds(2)));
  EXPECT_FALSE(queue_.Remove(second, kStart + seconds(2)));
  EXPECT_EQ(queue_.Place(first), 0);
  EXPECT_EQ(queue_.Place(third), 1);
  EXPECT_EQ(queue_.Place(second), -1);
  EXPECT_EQ(queue_.tokens("a"), 16);
}

TEST_F(WaitingQueueTest, KeepsTheTimeByWhatWasMissing) {
  SequenceGroup* group = Add(seconds(0));
  queue_.Arrange(kStart);
  queue_.SetCause(0, WaitCause::kSlots, kStart + seconds(1));
  queue_.SetCause(0, WaitCause::kSlots, kStart + seconds(2));
  queue_.SetCause(0, WaitCause::kBlocks, kStart + seconds(4));
  queue_.Remove(group, kStart + seconds(9));
  EXPECT_EQ(group->waited[static_cast<int>(WaitCause::kNothing)], seconds(1));
  EXPECT_EQ(group->waited[static_cast<int>(WaitCause::kSlots)], seconds(3));
  EXPECT_EQ(group->waited[static_cast<int>(WaitCause::kBlocks)], seconds(5));
}

}  // namespace
}  // namespace yoio
