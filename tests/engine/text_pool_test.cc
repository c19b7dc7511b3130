#include "engine/text_pool.h"

#include <atomic>
#include <functional>
#include <memory>
#include <numeric>
#include <vector>

#include "base/bounded_queue.h"
#include "gtest/gtest.h"

namespace yoio {
namespace {

// Holds one thread of a pool until it is opened. Outlives the pool.
class Gate {
 public:
  std::function<void()> Work() {
    return [this] {
      entered_.Push(true);
      open_.Pop();
    };
  }
  void AwaitEntry() { entered_.Pop(); }
  void Open() { open_.Push(true); }

 private:
  BoundedQueue<bool> entered_{1};
  BoundedQueue<bool> open_{1};
};

TEST(TextPoolTest, RunsInOrderOnOneThread) {
  std::vector<int> order;
  {
    TextPool pool(1, 4);
    for (int i = 0; i < 100; ++i) pool.Run([&order, i] { order.push_back(i); });
  }
  std::vector<int> expected(100);
  std::iota(expected.begin(), expected.end(), 0);
  EXPECT_EQ(order, expected);
}

TEST(TextPoolTest, TryRunIsBoundedAndRunIsNot) {
  std::atomic<int> ran{0};
  const auto count = [&ran] { ran.fetch_add(1); };
  Gate gate;
  {
    TextPool pool(1, 2);
    pool.Run(gate.Work());
    gate.AwaitEntry();
    EXPECT_TRUE(pool.TryRun(count));
    EXPECT_TRUE(pool.TryRun(count));
    EXPECT_FALSE(pool.TryRun(count));
    pool.Run(count);
    gate.Open();
  }
  EXPECT_EQ(ran.load(), 3);
}

TEST(TextPoolTest, ThreadsRunSideBySide) {
  Gate first, second;
  TextPool pool(2, 8);
  pool.Run(first.Work());
  pool.Run(second.Work());
  first.AwaitEntry();
  second.AwaitEntry();  // would never come if the first held the only thread
  first.Open();
  second.Open();
}

TEST(TextPoolTest, DestructionRunsWhatWorkAddsAndFreesIt) {
  const auto held = std::make_shared<int>(0);
  std::atomic<int> ran{0};
  std::function<void(int)> chain;
  {
    TextPool pool(3, 1);
    chain = [&](int left) {
      ran.fetch_add(1);
      if (left > 0) pool.Run([&chain, left, held] { chain(left - 1); });
    };
    pool.Run([&chain] { chain(50); });
  }
  EXPECT_EQ(ran.load(), 51);
  EXPECT_EQ(held.use_count(), 1);
}

}  // namespace
}  // namespace yoio
