#include "server/thread_stacks.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <thread>

#include "base/bounded_queue.h"

namespace yoio {

// Not in an unnamed namespace: its name is looked for.
[[gnu::noinline]] void WaitInAPlaceWithAName(BoundedQueue<int>& until) {
  until.Pop();
  std::atomic_signal_fence(std::memory_order_seq_cst);  // no tail call
}

namespace {

using testing::Contains;
using testing::HasSubstr;
using testing::IsEmpty;

constexpr Duration kPatience = std::chrono::seconds(10);

// A thread that waits, and its number.
class Waiter {
 public:
  explicit Waiter(bool block_signals = false) {
    thread_ = std::thread([this, block_signals] {
      sigset_t all;
      sigfillset(&all);
      if (block_signals) pthread_sigmask(SIG_BLOCK, &all, nullptr);
      started_.Push(static_cast<int>(syscall(SYS_gettid)));
      WaitInAPlaceWithAName(end_);
    });
    number_ = *started_.Pop();
  }
  ~Waiter() {
    end_.Close();
    thread_.join();
  }
  int number() const { return number_; }

 private:
  BoundedQueue<int> started_{1}, end_{1};
  std::thread thread_;
  int number_ = 0;
};

const ThreadStack* StackOf(const std::vector<ThreadStack>& stacks, int thread) {
  for (const ThreadStack& stack : stacks) {
    if (std::find(stack.threads.begin(), stack.threads.end(), thread) != stack.threads.end()) return &stack;
  }
  return nullptr;
}

// The stack of a thread that is on its way to where it waits is another one.
std::vector<std::string> FunctionsOnceThere(int thread) {
  const TimePoint deadline = Clock::now() + kPatience;
  std::vector<std::string> functions;
  while (Clock::now() < deadline) {
    const std::vector<ThreadStack> stacks = CaptureThreadStacks(kPatience);
    const ThreadStack* stack = StackOf(stacks, thread);
    if (stack == nullptr) continue;
    functions = FunctionsOf(*stack, deadline);
    for (const std::string& name : functions) {
      if (name.find("WaitInAPlaceWithAName") != std::string::npos) return functions;
    }
  }
  return functions;
}

TEST(ThreadStacksTest, NamesWhereEveryThreadIs) {
  const Waiter one, other;
  EXPECT_THAT(FunctionsOnceThere(one.number()), Contains(HasSubstr("yoio::WaitInAPlaceWithAName")));
  EXPECT_THAT(FunctionsOnceThere(other.number()), Contains(HasSubstr("yoio::WaitInAPlaceWithAName")));
}

TEST(ThreadStacksTest, TheCallerIsAmongThem) {
  const std::vector<ThreadStack> stacks = CaptureThreadStacks(kPatience);
  const ThreadStack* own = StackOf(stacks, static_cast<int>(syscall(SYS_gettid)));
  ASSERT_NE(own, nullptr);
  EXPECT_THAT(FunctionsOf(*own, Clock::now() + kPatience), Contains(HasSubstr("CaptureThreadStacks")));
}

TEST(ThreadStacksTest, AThreadThatTakesNoSignalsIsNotWaitedFor) {
  const Waiter deaf(/*block_signals=*/true);
  const std::vector<ThreadStack> stacks = CaptureThreadStacks(std::chrono::milliseconds(50));
  ASSERT_NE(StackOf(stacks, deaf.number()), nullptr);
  EXPECT_THAT(StackOf(stacks, deaf.number())->frames, IsEmpty());
}

TEST(ThreadStacksTest, WithoutTimeFunctionsAreLibrariesAndOffsets) {
  const std::vector<ThreadStack> stacks = CaptureThreadStacks(kPatience);
  const ThreadStack* own = StackOf(stacks, static_cast<int>(syscall(SYS_gettid)));
  ASSERT_NE(own, nullptr);
  EXPECT_THAT(FunctionsOf(*own, TimePoint::min()), testing::Each(HasSubstr("0x")));
}

}  // namespace
}  // namespace yoio
