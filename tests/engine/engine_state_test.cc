// What Engine::DumpState says, whatever the engine is doing.
#include <atomic>
#include <limits>
#include <memory>
#include <thread>
#include <utility>
#include <vector>

#include "engine/create.h"
#include "gtest/gtest.h"
#include "tests/engine/engine_harness.h"
#include "tests/engine/failing_backend.h"
#include "tests/engine/hanging_backend.h"

namespace yoio {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using test::Call;
using test::ExpectAllReturned;
using test::FailingBackend;
using test::Gate;
using test::HangingBackend;
using test::IdsRequest;
using test::MakeEngine;
using test::MicroOptions;
using test::Submit;

// More tokens than a request gets whose reader holds.
constexpr int kLong = 3000;

EngineState StateOf(Engine& engine, int32_t max_requests = 100) {
  const auto state = engine.DumpState(max_requests, Clock::now() + seconds(30));
  EXPECT_TRUE(state.ok()) << state.status();
  return state.value_or(EngineState());
}

std::unique_ptr<Engine> EngineOn(std::unique_ptr<kernels::Backend> backend) {
  std::vector<std::unique_ptr<kernels::Backend>> backends;
  backends.push_back(std::move(backend));
  auto engine = CreateEngine(MicroOptions(), Devices(kernels::DeviceKind::kCpu, std::move(backends)));
  EXPECT_TRUE(engine.ok()) << engine.status();
  return *std::move(engine);
}

std::unique_ptr<kernels::Backend> Cpu() { return *kernels::MakeBackend(kernels::DeviceKind::kCpu, 0); }

TEST(EngineStateTest, NothingLives) {
  const auto engine = MakeEngine(MicroOptions());
  const EngineState state = StateOf(*engine);
  EXPECT_EQ(state.step, -1);
  EXPECT_FALSE(state.draining);
  EXPECT_TRUE(state.requests.empty());
  EXPECT_EQ(state.load.free_blocks, state.load.total_blocks);
}

TEST(EngineStateTest, TellsWhoRunsAndWhoWaits) {
  EngineOptions options = MicroOptions();
  options.max_sequences = 2;
  const auto engine = MakeEngine(options);
  Request two = IdsRequest("two", 100, kLong);
  two.n = 2;
  two.tenant = "acme";
  const auto running = Submit(*engine, two, /*hold_after=*/10);
  running->WaitForTokens(10);
  const auto first = Submit(*engine, IdsRequest("first", 30, 5));
  const auto second = Submit(*engine, IdsRequest("second", 40, 5));
  EngineState state = StateOf(*engine);
  for (int quiet = 0; quiet < 10;) {  // the reader holds, so that no step comes any more
    std::this_thread::sleep_for(milliseconds(5));
    const int64_t step = std::exchange(state, StateOf(*engine)).step;
    quiet = state.step == step ? quiet + 1 : 0;
  }
  EXPECT_EQ(state.load.running, 1);
  EXPECT_EQ(state.load.waiting, 2);
  EXPECT_GT(state.step, 3);
  ASSERT_EQ(state.requests.size(), 3);
  const RequestState& runs = state.requests[0];
  EXPECT_EQ(runs.id, "two");
  EXPECT_EQ(runs.tenant, "acme");
  EXPECT_GT(runs.age, Duration::zero());
  EXPECT_EQ(runs.phase, Phase::kDecode);
  EXPECT_EQ(runs.queue_position, 0);
  EXPECT_EQ(runs.prompt_tokens, 100);
  EXPECT_EQ(runs.prompt_tokens_done, 100);
  EXPECT_GE(runs.completion_tokens, 10);
  EXPECT_GT(runs.unread_bytes, 0);
  EXPECT_EQ(runs.blocks, state.load.total_blocks - state.load.free_blocks) << "the prompt's only once";
  EXPECT_EQ(state.requests[1].id, "first");
  EXPECT_EQ(state.requests[1].phase, Phase::kQueued);
  EXPECT_EQ(state.requests[1].queue_position, 1);
  EXPECT_EQ(state.requests[1].prompt_tokens, 30);
  EXPECT_EQ(state.requests[1].prompt_tokens_done, 0);
  EXPECT_EQ(state.requests[1].blocks, 0);
  EXPECT_EQ(state.requests[2].id, "second");
  EXPECT_EQ(state.requests[2].queue_position, 2);
  EXPECT_LE(state.requests[1].age, runs.age);

  ASSERT_EQ(StateOf(*engine, 1).requests.size(), 1) << "the oldest";
  EXPECT_EQ(StateOf(*engine, 1).requests[0].id, "two");
  EXPECT_TRUE(StateOf(*engine, 0).requests.empty());
  EXPECT_TRUE(engine->Cancel("acme", "two", absl::CancelledError("enough")).ok());
  running->Resume();
  for (const auto& call : {running, first, second}) call->Wait();
  ExpectAllReturned(*engine);
  EXPECT_TRUE(StateOf(*engine).requests.empty());
}

TEST(EngineStateTest, TellsOfADrain) {
  const auto engine = MakeEngine(MicroOptions());
  const auto call = Submit(*engine, IdsRequest("live", 20, kLong), /*hold_after=*/5);
  std::thread drain([&] { EXPECT_TRUE(engine->Drain(TimePoint::max()).ok()); });
  while (!StateOf(*engine).draining) std::this_thread::sleep_for(milliseconds(1));
  EXPECT_EQ(StateOf(*engine).requests.size(), 1);
  EXPECT_TRUE(engine->Cancel("default", "live", absl::CancelledError("enough")).ok());
  drain.join();
  call->Resume();
  call->Wait();
}

TEST(EngineStateTest, AStepThatHangsLeavesTheCallerAndNothingElse) {
  const auto gate = std::make_shared<Gate>();
  const auto engine = EngineOn(std::make_unique<HangingBackend>(Cpu(), gate));
  gate->Close();
  const auto call = Submit(*engine, IdsRequest("stuck", 20, 5));
  while (engine->recorder()->last_step() < 0) std::this_thread::sleep_for(milliseconds(1));
  EXPECT_EQ(engine->DumpState(100, Clock::now() + milliseconds(20)).status().code(),
            absl::StatusCode::kDeadlineExceeded);
  const StepRecord step = engine->recorder()->Steps(0, 0).at(0);
  EXPECT_FALSE(step.ended.has_value());
  EXPECT_GE(step.took, milliseconds(20));
  EXPECT_EQ(step.members.size(), 1) << "it is known who waits for it";
  gate->Open();
  call->Wait();
  EXPECT_TRUE(StateOf(*engine).requests.empty());
}

TEST(EngineStateTest, AnEngineThatHasFailedStillAnswers) {
  std::atomic<int> countdown{std::numeric_limits<int>::max()};
  const auto engine = EngineOn(std::make_unique<FailingBackend>(Cpu(), countdown));
  const auto call = Submit(*engine, IdsRequest("first", 20, kLong), /*hold_after=*/5);
  call->WaitForTokens(5);
  countdown = 0;
  call->Resume();
  EXPECT_EQ(call->Wait().end->code(), absl::StatusCode::kUnavailable);
  const EngineState state = StateOf(*engine);
  EXPECT_TRUE(state.draining);
  EXPECT_TRUE(state.requests.empty());
  EXPECT_FALSE(engine->recorder()->Steps(state.step, state.step).at(0).ended.has_value()) << "it failed";
  EXPECT_EQ(engine->recorder()->RequestsById("first").at(0).reason, "ENGINE_FAILED");
}

}  // namespace
}  // namespace yoio
