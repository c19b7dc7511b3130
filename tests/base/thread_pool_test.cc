#include "base/thread_pool.h"

#include <chrono>
#include <numeric>
#include <set>
#include <thread>
#include <vector>

#include "gtest/gtest.h"

namespace yoio {
namespace {

class ThreadPoolTest : public ::testing::TestWithParam<int> {};

TEST_P(ThreadPoolTest, RunOnAllCallsEachThreadOnce) {
  ThreadPool pool(GetParam());
  ASSERT_EQ(pool.num_threads(), GetParam());
  std::vector<std::thread::id> ids(GetParam());
  std::vector<int> calls(GetParam(), 0);
  for (int round = 0; round < 200; ++round) {
    pool.RunOnAll([&](int thread) {
      ++calls[thread];  // unguarded: what the loop before wrote must be visible
      ids[thread] = std::this_thread::get_id();
    });
  }
  EXPECT_EQ(calls, std::vector<int>(GetParam(), 200));
  EXPECT_EQ(ids[0], std::this_thread::get_id());
  EXPECT_EQ(std::set<std::thread::id>(ids.begin(), ids.end()).size(), ids.size());
}

TEST_P(ThreadPoolTest, ParallelForCallsEachIndexOnce) {
  ThreadPool pool(GetParam());
  for (int count : {0, 1, 2, 7, 1000}) {
    std::vector<int> calls(count, 0);
    pool.ParallelFor(count, [&](int64_t i) { ++calls[i]; });
    EXPECT_EQ(calls, std::vector<int>(count, 1));
  }
}

// A caller reads what the workers wrote as soon as the loop has returned, and its next loop sees it too.
TEST_P(ThreadPoolTest, LoopsAreOrdered) {
  ThreadPool pool(GetParam());
  std::vector<int64_t> values(256, 1);
  for (int round = 0; round < 100; ++round) {
    pool.ParallelFor(256, [&](int64_t i) { values[i] += round; });
    const int64_t sum = std::accumulate(values.begin(), values.end(), int64_t{0});
    ASSERT_EQ(sum, 256 + 256 * round * (round + 1) / 2);
  }
}

// Workers that went to sleep are woken by the next loop.
TEST_P(ThreadPoolTest, WakesSleepers) {
  ThreadPool pool(GetParam());
  for (int round = 0; round < 3; ++round) {
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
    std::vector<int> calls(GetParam(), 0);
    pool.RunOnAll([&](int thread) { ++calls[thread]; });
    EXPECT_EQ(calls, std::vector<int>(GetParam(), 1));
  }
}

TEST_P(ThreadPoolTest, EndsAwakeOrAsleep) {
  { ThreadPool unused(GetParam()); }
  ThreadPool pool(GetParam());
  pool.RunOnAll([](int) {});
}

INSTANTIATE_TEST_SUITE_P(Threads, ThreadPoolTest, ::testing::Values(1, 2, 3, 8));

TEST(ThreadPoolDeathTest, NeedsAThread) {
  EXPECT_DEATH(ThreadPool pool(0), "thread_pool.cc:.*\\(0 vs. 1\\)");
}

}  // namespace
}  // namespace yoio
