// How an engine of several processes ends when one of them is lost or stuck: soon, everywhere, with the
// evidence.
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "engine/create.h"
#include "engine/errors.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/engine/engine_harness.h"
#include "tests/engine/group_harness.h"

namespace yoio {
namespace {

using test::Call;
using test::FollowerOptions;
using test::FollowerThread;
using test::Gate;
using test::Generate;
using test::GroupOptionsFor;
using test::HangingDevices;
using test::IdsRequest;
using test::MakeEngine;
using test::MemoryDoorway;
using test::Submit;
using testing::HasSubstr;

constexpr Duration kStepTimeout = std::chrono::milliseconds(500);
// For what must happen at once after that, on a busy machine.
constexpr Duration kSlack = std::chrono::seconds(20);

// Streams of which the first has begun; all would go on for long.
std::vector<std::shared_ptr<Call>> SubmitLongOnes(Engine& engine) {
  std::vector<std::shared_ptr<Call>> calls;
  for (int i = 0; i < 4; ++i) calls.push_back(Submit(engine, IdsRequest(absl::StrCat(i), 30, 4000)));
  calls[0]->WaitForTokens(5);
  return calls;
}

void ExpectAllFailed(const std::vector<std::shared_ptr<Call>>& calls, const Engine& engine) {
  const TimePoint begin = Clock::now();
  for (const auto& call : calls) {
    const auto end = call->Wait().end;
    ASSERT_TRUE(end.has_value());
    EXPECT_EQ(end->code(), absl::StatusCode::kUnavailable) << *end;
    EXPECT_EQ(ReasonOf(*end), kReasonEngineFailed);
  }
  EXPECT_LT(Clock::now() - begin, kSlack);
  EXPECT_EQ(ReasonOf(engine.health()), kReasonEngineFailed);
}

TEST(GroupEndTest, AFollowerThatVanishesEndsAll) {
  EngineOptions options = GroupOptionsFor(4, 1);
  MemoryDoorway doorway;
  FollowerThread first(doorway, FollowerOptions(options, 1));
  FollowerThread second(doorway, FollowerOptions(options, 2));
  FollowerThread third(doorway, FollowerOptions(options, 3));
  options.doorway = &doorway;
  const auto engine = MakeEngine(options);
  const auto calls = SubmitLongOnes(*engine);
  second.Cut();
  ExpectAllFailed(calls, *engine);
  // The pipe says it, or rank 1's communicator, whichever comes first.
  EXPECT_THAT(std::string(engine->health().message()), testing::HasSubstr("the connection is lost"));
  for (FollowerThread* follower : {&first, &second, &third}) {
    EXPECT_EQ(follower->Join().code(), absl::StatusCode::kUnavailable) << follower->Join();
  }
}

TEST(GroupEndTest, AnIdleEngineNoticesToo) {
  EngineOptions options = GroupOptionsFor(2, 1);
  MemoryDoorway doorway;
  FollowerThread follower(doorway, FollowerOptions(options, 1));
  options.doorway = &doorway;
  const auto engine = MakeEngine(options);
  Generate(*engine, IdsRequest("x", 10, 5));
  follower.Cut();
  EXPECT_EQ(follower.Join().code(), absl::StatusCode::kUnavailable);
  const TimePoint deadline = Clock::now() + kSlack;
  while (engine->health().ok() && Clock::now() < deadline) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  EXPECT_EQ(ReasonOf(engine->health()), kReasonEngineFailed);
}

// Rank `rank` of this process is stuck in the middle of a stream.
class StuckRankTest : public testing::TestWithParam<int> {};
INSTANTIATE_TEST_SUITE_P(Ranks, StuckRankTest, testing::Values(0, 1));

TEST_P(StuckRankTest, OfTheOnlyProcess) {
  EngineOptions options = GroupOptionsFor(1, 2);
  options.step_timeout = kStepTimeout;
  const auto gate = std::make_shared<Gate>();
  auto engine = CreateEngine(options, HangingDevices(2, GetParam(), gate));
  ASSERT_TRUE(engine.ok()) << engine.status();
  const auto calls = SubmitLongOnes(**engine);
  gate->Close();
  ExpectAllFailed(calls, **engine);
  const std::string evidence((*engine)->health().message());
  EXPECT_THAT(evidence, HasSubstr("has taken longer than 0.5 s (--step-timeout)"));
  EXPECT_THAT(evidence, HasSubstr("rank 0 of node 0 has ended step"));
  EXPECT_THAT(evidence, HasSubstr("rank 1 of node 0 has ended step"));
  gate->Open();  // else the engine could not be destroyed
}

TEST_P(StuckRankTest, OfTheLeader) {
  EngineOptions options = GroupOptionsFor(2, 2);
  options.step_timeout = kStepTimeout;
  MemoryDoorway doorway;
  FollowerThread follower(doorway, FollowerOptions(options, 1));
  options.doorway = &doorway;
  const auto gate = std::make_shared<Gate>();
  auto engine = CreateEngine(options, HangingDevices(2, GetParam(), gate));
  ASSERT_TRUE(engine.ok()) << engine.status();
  const auto calls = SubmitLongOnes(**engine);
  gate->Close();
  ExpectAllFailed(calls, **engine);
  EXPECT_EQ(follower.Join().code(), absl::StatusCode::kUnavailable);
  gate->Open();
}

TEST_P(StuckRankTest, OfAFollower) {
  EngineOptions options = GroupOptionsFor(2, 2);
  options.step_timeout = kStepTimeout;
  MemoryDoorway doorway;
  const auto gate = std::make_shared<Gate>();
  FollowerThread follower(doorway, FollowerOptions(options, 1), HangingDevices(2, GetParam(), gate));
  options.doorway = &doorway;
  {
    const auto engine = MakeEngine(options);
    const auto calls = SubmitLongOnes(*engine);
    gate->Close();
    ExpectAllFailed(calls, *engine);
    // Its rank still stands still.
    EXPECT_EQ(follower.Join().code(), absl::StatusCode::kUnavailable);
    EXPECT_THAT(std::string(engine->health().message()), HasSubstr("has taken longer than 0.5 s"));
  }
  gate->Open();
  EXPECT_TRUE(gate->AwaitAlone(Clock::now() + kSlack));  // the rank that was left behind has come to its end
}

TEST(WatchdogTest, StartUpMayTakeLonger) {
  EngineOptions options = GroupOptionsFor(2, 1);
  options.step_timeout = kStepTimeout;
  MemoryDoorway doorway;
  FollowerThread follower(doorway, FollowerOptions(options, 1));
  options.doorway = &doorway;
  options.on_progress = [](std::string_view, int64_t done, int64_t total) {
    if (done == total) std::this_thread::sleep_for(2 * kStepTimeout);
  };
  const auto engine = MakeEngine(options);
  EXPECT_EQ(Generate(*engine, IdsRequest("x", 10, 5)).choices[0].tokens.size(), 5u);
  std::this_thread::sleep_for(2 * kStepTimeout);  // nor does it mind rest
  EXPECT_EQ(Generate(*engine, IdsRequest("y", 10, 5)).choices[0].tokens.size(), 5u);
}

}  // namespace
}  // namespace yoio
