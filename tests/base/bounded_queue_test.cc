#include "base/bounded_queue.h"

#include <memory>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "gtest/gtest.h"

namespace yoio {
namespace {

using std::chrono::milliseconds;

TEST(BoundedQueueTest, FirstInFirstOut) {
  BoundedQueue<int> queue(3);
  EXPECT_TRUE(queue.Push(1));
  EXPECT_TRUE(queue.Push(2));
  EXPECT_EQ(queue.Pop(), 1);
  EXPECT_TRUE(queue.Push(3));
  EXPECT_EQ(queue.TryPop(), 2);
  EXPECT_EQ(queue.TryPop(), 3);
  EXPECT_EQ(queue.TryPop(), std::nullopt);
}

TEST(BoundedQueueTest, TryPushLeavesTheValueWhenFull) {
  BoundedQueue<std::unique_ptr<std::string>> queue(1);
  auto first = std::make_unique<std::string>("first");
  auto second = std::make_unique<std::string>("second");
  EXPECT_TRUE(queue.TryPush(first));
  EXPECT_EQ(first, nullptr);
  EXPECT_FALSE(queue.TryPush(second));
  ASSERT_NE(second, nullptr);
  EXPECT_EQ(*second, "second");
}

TEST(BoundedQueueTest, PushWaitsForRoom) {
  BoundedQueue<int> queue(1);
  ASSERT_TRUE(queue.Push(1));
  std::thread producer([&] { EXPECT_TRUE(queue.Push(2)); });
  EXPECT_EQ(queue.Pop(), 1);
  EXPECT_EQ(queue.Pop(), 2);
  producer.join();
}

TEST(BoundedQueueTest, CloseKeepsWhatIsInside) {
  BoundedQueue<int> queue(2);
  int value = 2;
  ASSERT_TRUE(queue.Push(1));
  EXPECT_FALSE(queue.closed());
  queue.Close();
  EXPECT_TRUE(queue.closed());
  EXPECT_FALSE(queue.Push(2));
  EXPECT_FALSE(queue.TryPush(value));
  EXPECT_EQ(queue.Pop(), 1);
  EXPECT_EQ(queue.Pop(), std::nullopt);
}

TEST(BoundedQueueTest, CloseWakesThoseWhoWait) {
  BoundedQueue<int> full(1), empty(1);
  ASSERT_TRUE(full.Push(1));
  std::thread producer([&] { EXPECT_FALSE(full.Push(2)); });
  std::thread consumer([&] { EXPECT_EQ(empty.Pop(), std::nullopt); });
  std::thread waiter([&] { EXPECT_FALSE(empty.WaitUntil(Clock::now() + std::chrono::hours(1))); });
  full.Close();
  empty.Close();
  producer.join();
  consumer.join();
  waiter.join();
}

TEST(BoundedQueueTest, WaitUntilEndsWithItsDeadlineOrAValue) {
  BoundedQueue<int> queue(1);
  const TimePoint deadline = Clock::now() + milliseconds(20);
  EXPECT_FALSE(queue.WaitUntil(deadline));
  EXPECT_GE(Clock::now(), deadline);
  std::thread producer([&] { queue.Push(1); });
  EXPECT_TRUE(queue.WaitUntil(Clock::now() + std::chrono::hours(1)));
  producer.join();
  EXPECT_EQ(queue.TryPop(), 1);
}

TEST(BoundedQueueTest, ManyThreadsLoseAndDuplicateNothing) {
  constexpr int kProducers = 3, kConsumers = 3, kEach = 2000;
  BoundedQueue<int> queue(4);
  std::vector<std::thread> producers, consumers;
  std::vector<std::vector<int>> taken(kConsumers);
  for (int i = 0; i < kProducers; ++i) {
    producers.emplace_back([&queue, i] {
      for (int j = 0; j < kEach; ++j) queue.Push(i * kEach + j);
    });
  }
  for (int i = 0; i < kConsumers; ++i) {
    consumers.emplace_back([&queue, &mine = taken[i]] {
      while (const std::optional<int> value = queue.Pop()) mine.push_back(*value);
    });
  }
  for (std::thread& thread : producers) thread.join();
  queue.Close();
  for (std::thread& thread : consumers) thread.join();
  std::multiset<int> all;
  for (const std::vector<int>& mine : taken) all.insert(mine.begin(), mine.end());
  ASSERT_EQ(all.size(), static_cast<size_t>(kProducers * kEach));
  for (int value = 0; value < kProducers * kEach; ++value) ASSERT_EQ(all.count(value), 1u) << value;
}

}  // namespace
}  // namespace yoio
