#include "server/delivery_thread.h"

#include <functional>
#include <memory>
#include <thread>
#include <utility>
#include <vector>

#include "base/bounded_queue.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace yoio {
namespace {

class Task final : public DeliveryThread::Delivery {
 public:
  explicit Task(std::function<void()> work) : work_(std::move(work)) {}
  void Deliver() override { work_(); }

 private:
  const std::function<void()> work_;
};

void Schedule(DeliveryThread& thread, std::function<void()> work) {
  thread.Schedule(std::make_shared<Task>(std::move(work)));
}

TEST(DeliveryThreadTest, DeliversInOrderOnItsOwnThread) {
  BoundedQueue<std::pair<int, std::thread::id>> delivered(1000);
  DeliveryThread thread;
  for (int i = 0; i < 1000; ++i) {
    Schedule(thread, [&delivered, i] { delivered.Push({i, std::this_thread::get_id()}); });
  }
  const std::thread::id first = delivered.Pop()->second;
  EXPECT_NE(first, std::this_thread::get_id());
  for (int i = 1; i < 1000; ++i) EXPECT_EQ(*delivered.Pop(), std::pair(i, first));
}

TEST(DeliveryThreadTest, TakesWordFromAllThreadsAndFromItself) {
  constexpr int kThreads = 4, kEach = 500;
  BoundedQueue<int> delivered(2 * kThreads * kEach);
  DeliveryThread thread;
  std::vector<std::thread> callers;
  for (int caller = 0; caller < kThreads; ++caller) {
    callers.emplace_back([&, caller] {
      for (int i = 0; i < kEach; ++i) {
        Schedule(thread, [&, caller, i] {
          delivered.Push(caller);
          Schedule(thread, [&, caller] { delivered.Push(caller); });
        });
      }
    });
  }
  for (std::thread& caller : callers) caller.join();
  std::vector<int> counts(kThreads);
  for (int i = 0; i < 2 * kThreads * kEach; ++i) ++counts[*delivered.Pop()];
  EXPECT_THAT(counts, testing::Each(2 * kEach));
}

TEST(DeliveryThreadTest, TheEndDeliversWhatIsLeft) {
  int delivered = 0;
  {
    DeliveryThread thread;
    for (int i = 0; i < 100; ++i) Schedule(thread, [&delivered] { ++delivered; });
  }
  EXPECT_EQ(delivered, 100);
}

}  // namespace
}  // namespace yoio
