#include "engine/queue_gate.h"

#include <atomic>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "engine/errors.h"
#include "gtest/gtest.h"
#include "tests/support/random.h"

namespace yoio {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using Place = QueueGate::Place;

constexpr TimePoint kNow = TimePoint(std::chrono::hours(5));
constexpr Forecast kUnknown{};
constexpr Forecast kThousandASecond{.seconds_per_prompt_token = 1e-3};

QueueGate::Entry Entry(int64_t tokens, const std::string& tenant = "default", TenantLimits limits = {}) {
  return {.tenant = tenant, .limits = limits, .tokens = tokens};
}

QueueGate::Entry WithDeadline(int64_t tokens, Duration left, const std::string& tenant = "default") {
  QueueGate::Entry entry = Entry(tokens, tenant);
  entry.due = entry.deadline = kNow + left;
  return entry;
}

class QueueGateTest : public testing::Test {
 protected:
  std::string Enter(Place& place, const QueueGate::Entry& entry, const Forecast& forecast = kUnknown) {
    const absl::Status status = gate_.Enter(place, entry, forecast, kNow);
    return status.ok() ? "" : ReasonOf(status);
  }
  // Enters and stays.
  Place& In(const QueueGate::Entry& entry) {
    Place& place = *places_.emplace_back(std::make_unique<Place>());
    EXPECT_EQ(Enter(place, entry), "");
    return place;
  }
  // What a request that goes away at once is told.
  std::string Try(const QueueGate::Entry& entry, const Forecast& forecast = kUnknown) {
    Place place;
    const std::string reason = Enter(place, entry, forecast);
    gate_.Leave(place);
    return reason;
  }

  QueueGate gate_{3, 1000};
  std::vector<std::unique_ptr<Place>> places_;
};

TEST_F(QueueGateTest, SoManyRequestsWait) {
  Place& first = In(Entry(1));
  In(Entry(1));
  In(Entry(1));
  EXPECT_EQ(Try(Entry(1)), kReasonQueueFull);
  gate_.Started(first);
  EXPECT_EQ(gate_.counts().waiting, 2);
  EXPECT_EQ(gate_.counts().live, 3);
  Place& last = In(Entry(1));
  EXPECT_EQ(Try(Entry(1)), kReasonQueueFull);
  gate_.Leave(last);
  EXPECT_EQ(Try(Entry(1)), "");
}

TEST_F(QueueGateTest, SoManyTokensWait) {
  Place& first = In(Entry(600));
  EXPECT_EQ(Try(Entry(401)), kReasonQueueFull);
  In(Entry(400));
  EXPECT_EQ(Try(Entry(1)), kReasonQueueFull);
  gate_.Started(first);
  EXPECT_EQ(gate_.counts().waiting_tokens, 400);
  EXPECT_EQ(Try(Entry(600)), "");
}

TEST_F(QueueGateTest, APromptLongerThanTheQueueWaitsAlone) {
  Place& long_one = In(Entry(5000));
  EXPECT_EQ(Try(Entry(1)), kReasonQueueFull);
  gate_.Started(long_one);
  EXPECT_EQ(Try(Entry(5000)), "");
  In(Entry(1));
  EXPECT_EQ(Try(Entry(5000)), kReasonQueueFull);
}

TEST_F(QueueGateTest, ATenantHasLimitsOfItsOwn) {
  const TenantLimits limits{.max_requests = 2, .max_queued_tokens = 100};
  Place& first = In(Entry(60, "small", limits));
  EXPECT_EQ(Try(Entry(41, "small", limits)), kReasonTenantLimit);
  EXPECT_EQ(Try(Entry(41, "other", limits)), "") << "nobody else's";
  gate_.Started(first);
  EXPECT_EQ(Try(Entry(5000, "small", limits)), "") << "nobody of the tenant waits";
  In(Entry(1, "small", limits));
  EXPECT_EQ(Try(Entry(1, "small", limits)), kReasonTenantLimit) << "two live ones, one of which runs";
  gate_.Leave(first);
  EXPECT_EQ(Try(Entry(1, "small", limits)), "");
  EXPECT_EQ(Try(Entry(1, "small", {.max_requests = 1})), kReasonTenantLimit) << "the newest limits hold";
}

TEST_F(QueueGateTest, TextIsCountedTwice) {
  In(Entry(500));
  Place& text = In(Entry(100));
  EXPECT_TRUE(gate_.Correct(text, 400, kUnknown, kNow).ok());
  EXPECT_EQ(gate_.counts().waiting_tokens, 900);
  EXPECT_EQ(ReasonOf(gate_.Correct(text, 501, kUnknown, kNow)), kReasonQueueFull);
  gate_.Leave(text);
  EXPECT_EQ(gate_.counts().waiting_tokens, 500);
  gate_.Leave(text);  // changes nothing
  EXPECT_EQ(gate_.counts().live, 1);
}

TEST_F(QueueGateTest, TheLimitsHoldExactlyHoweverManyCome) {
  constexpr int kThreads = 4, kTries = 300;
  QueueGate gate(50, 2000);
  std::vector<std::vector<std::unique_ptr<Place>>> taken(kThreads);
  std::atomic<int> refused{0};
  std::vector<std::thread> threads;
  for (int i = 0; i < kThreads; ++i) {
    threads.emplace_back([&, i] {
      for (int j = 0; j < kTries; ++j) {
        auto place = std::make_unique<Place>();
        if (gate.Enter(*place, Entry(1), kUnknown, kNow).ok()) {
          taken[i].push_back(std::move(place));
        } else {
          ++refused;
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(gate.counts().waiting, 50);
  EXPECT_EQ(refused, kThreads * kTries - 50);

  threads.clear();
  for (int i = 0; i < kThreads; ++i) {
    threads.emplace_back([&, i] {
      for (size_t j = 0; j < taken[i].size(); ++j) {
        if (j % 2 == 0) gate.Started(*taken[i][j]);
        gate.Leave(*taken[i][j]);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(gate.counts().live, 0);
  EXPECT_EQ(gate.counts().waiting, 0);
  EXPECT_EQ(gate.counts().waiting_tokens, 0);
}

TEST_F(QueueGateTest, ADeadlineThatHasPassed) {
  EXPECT_EQ(Try(WithDeadline(1, Duration::zero())), kReasonExpired);
  EXPECT_EQ(Try(WithDeadline(1, seconds(-3))), kReasonExpired);
  EXPECT_EQ(Try(WithDeadline(1, Duration(1))), "");
  EXPECT_EQ(gate_.counts().live, 0) << "nobody was entered";
}

TEST_F(QueueGateTest, ADeadlineThatCannotBeMet) {
  EXPECT_EQ(Try(WithDeadline(500, milliseconds(999)), kThousandASecond), kReasonInfeasible);
  EXPECT_EQ(Try(WithDeadline(500, milliseconds(1001)), kThousandASecond), "") << "at half the speed";
  EXPECT_EQ(Try(WithDeadline(500, Duration(1)), kUnknown), "") << "nothing is known";
  Place& before = In(WithDeadline(300, milliseconds(500)));
  EXPECT_EQ(Try(WithDeadline(200, milliseconds(999)), kThousandASecond), kReasonInfeasible);
  EXPECT_EQ(Try(WithDeadline(200, milliseconds(1001)), kThousandASecond), "");
  EXPECT_EQ(Try(WithDeadline(200, milliseconds(499)), kThousandASecond), "") << "it goes first";
  gate_.Started(before);
  gate_.Computed(before, 100);
  EXPECT_EQ(Try(WithDeadline(200, milliseconds(601)), kThousandASecond), "");
  EXPECT_EQ(Try(WithDeadline(200, milliseconds(599)), kThousandASecond), kReasonInfeasible);
  gate_.Computed(before, 0);
  EXPECT_EQ(Try(WithDeadline(200, milliseconds(599)), kThousandASecond), "");
}

TEST_F(QueueGateTest, AHigherClassDoesNotWaitForALowerOne) {
  QueueGate::Entry urgent = WithDeadline(100, milliseconds(600));
  In(WithDeadline(500, milliseconds(100)));
  EXPECT_EQ(Try(urgent, kThousandASecond), kReasonInfeasible);
  urgent.priority = Priority::kHigh;
  EXPECT_EQ(Try(urgent, kThousandASecond), "");
}

TEST_F(QueueGateTest, ATenantHasItsShareWhateverOthersHaveWaiting) {
  In(WithDeadline(800, milliseconds(1), "greedy"));
  EXPECT_EQ(Try(WithDeadline(100, milliseconds(401), "modest"), kThousandASecond), "") << "half the steps";
  EXPECT_EQ(Try(WithDeadline(100, milliseconds(399), "modest"), kThousandASecond), kReasonInfeasible);
  QueueGate::Entry heavy = WithDeadline(100, milliseconds(270), "heavy");
  heavy.limits.weight = 3;
  EXPECT_EQ(Try(heavy, kThousandASecond), "") << "three quarters";
}

TEST_F(QueueGateTest, WhatTheCacheHasIsNotComputed) {
  const Forecast mostly_cached{.seconds_per_prompt_token = 1e-3, .uncached_share = 0.1};
  In(WithDeadline(500, milliseconds(10)));
  EXPECT_EQ(Try(WithDeadline(500, milliseconds(201)), mostly_cached), "");
  EXPECT_EQ(Try(WithDeadline(500, milliseconds(199)), mostly_cached), kReasonInfeasible);
}

TEST_F(QueueGateTest, CountsStayTrueInAnyOrder) {
  test::Random random(7);
  QueueGate gate(20, 500);
  std::vector<std::unique_ptr<Place>> places;
  for (int i = 0; i < 5000; ++i) {
    const int action = random.Below(4);
    if (action == 0 || places.empty()) {
      auto place = std::make_unique<Place>();
      const auto entry =
          WithDeadline(random.Below(50), seconds(1 + random.Below(5)), random.Below(2) ? "a" : "b");
      if (gate.Enter(*place, entry, kThousandASecond, kNow).ok()) places.push_back(std::move(place));
      continue;
    }
    auto& place = places[random.Below(static_cast<int>(places.size()))];
    if (action == 1) gate.Started(*place);
    if (action == 2) gate.Computed(*place, random.Below(3));
    if (action == 3) {
      gate.Leave(*place);
      std::swap(place, places.back());
      places.pop_back();
    }
    const QueueGate::Counts counts = gate.counts();
    ASSERT_EQ(counts.live, static_cast<int>(places.size()));
    ASSERT_LE(counts.waiting, 20);
    ASSERT_GE(counts.waiting_tokens, 0);
  }
  for (auto& place : places) gate.Leave(*place);
  EXPECT_EQ(gate.counts().live, 0);
  EXPECT_EQ(gate.counts().waiting, 0);
  EXPECT_EQ(gate.counts().waiting_tokens, 0);
}

}  // namespace
}  // namespace yoio
