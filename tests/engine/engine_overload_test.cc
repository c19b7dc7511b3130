// What an engine says to more requests than it can take, and to deadlines that it cannot meet.
#include <atomic>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "engine/engine.h"
#include "engine/errors.h"
#include "gtest/gtest.h"
#include "tests/engine/engine_harness.h"
#include "tests/support/random.h"

namespace yoio {
namespace {

using test::Call;
using test::ExpectAllReturned;
using test::Generate;
using test::IdsRequest;
using test::MakeEngine;
using test::MicroOptions;
using test::Random;
using test::Refusal;
using test::StreamOutput;
using test::Submit;

// More tokens than a request gets whose reader holds.
constexpr int kLong = 3000;

absl::Status Cancelled() { return absl::CancelledError("the test changed its mind"); }

EngineOptions OneSlot() {
  EngineOptions options = MicroOptions();
  options.max_sequences = 1;
  return options;
}

// Has the only slot until it is told to resume.
std::shared_ptr<Call> Occupy(Engine& engine) {
  const auto call = Submit(engine, IdsRequest("occupies", 20, kLong), /*hold_after=*/1);
  call->WaitForTokens(1);
  return call;
}

void Release(Engine& engine, Call& call) {
  EXPECT_TRUE(engine.Cancel("default", "occupies", Cancelled()).ok());
  call.Resume();
  call.Wait();
}

TEST(EngineOverloadTest, TheQueueIsAsLongAsItMayBeHoweverManyCome) {
  EngineOptions options = OneSlot();
  options.max_queued_requests = 20;
  const auto engine = MakeEngine(options);
  const auto occupier = Occupy(*engine);
  constexpr int kThreads = 4, kEach = 15;
  std::vector<std::vector<std::shared_ptr<Call>>> taken(kThreads);
  std::atomic<int> refused{0};
  std::vector<std::thread> threads;
  for (int i = 0; i < kThreads; ++i) {
    threads.emplace_back([&, i] {
      for (int j = 0; j < kEach; ++j) {
        const auto call = Call::Make();
        const absl::Status status =
            engine->Submit(IdsRequest(absl::StrCat(i, ".", j), 20, 2), call->outbox());
        if (status.ok()) {
          taken[i].push_back(call);
        } else {
          EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
          EXPECT_EQ(ReasonOf(status), kReasonQueueFull);
          call->outbox()->End(status);  // lets go of the call, which holds it
          ++refused;
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(refused, kThreads * kEach - 20);
  EXPECT_EQ(engine->load().waiting, 20);
  EXPECT_EQ(engine->load().waiting_tokens, 400);
  EXPECT_EQ(engine->load().running, 1);
  Release(*engine, *occupier);
  for (const auto& calls : taken) {
    for (const auto& call : calls) EXPECT_EQ(call->Wait().end, absl::OkStatus());
  }
  ExpectAllReturned(*engine);
  const Load load = engine->load();
  EXPECT_EQ(load.completed, 20);
  EXPECT_EQ(load.cancelled, 1);
  EXPECT_EQ(load.failed, 0) << "those that were refused are not counted";
  EXPECT_GT(load.scheduler_seconds_p99, 0);
}

TEST(EngineOverloadTest, PromptTokensThatWaitAreCapped) {
  EngineOptions options = OneSlot();
  options.max_queued_tokens = 100;
  const auto engine = MakeEngine(options);
  const auto occupier = Occupy(*engine);
  const auto first = Submit(*engine, IdsRequest("first", 60, 2));
  EXPECT_EQ(ReasonOf(Refusal(*engine, IdsRequest("second", 41, 2))), kReasonQueueFull);
  const auto third = Submit(*engine, IdsRequest("third", 40, 2));
  Release(*engine, *occupier);
  EXPECT_EQ(first->Wait().end, absl::OkStatus());
  EXPECT_EQ(third->Wait().end, absl::OkStatus());
  Generate(*engine, IdsRequest("long", 500, 2));  // alone it may be longer
}

TEST(EngineOverloadTest, ATenantBeyondItsLimitsDisturbsNobodyElse) {
  EngineOptions options = MicroOptions();
  options.tenant_limits.max_requests = 1;
  const auto engine = MakeEngine(options);
  const auto occupier = Occupy(*engine);
  EXPECT_EQ(ReasonOf(Refusal(*engine, IdsRequest("second", 20, 2))), kReasonTenantLimit);
  Request neighbour = IdsRequest("second", 20, 2);
  neighbour.tenant = "neighbour";
  Generate(*engine, neighbour);
  Request generous = IdsRequest("second", 20, 2);
  generous.tenant_limits = {.max_requests = 2};
  Generate(*engine, generous);
  Release(*engine, *occupier);
  Generate(*engine, IdsRequest("second", 20, 2));
}

TEST(EngineOverloadTest, ADeadlineThatHasPassedCostsNothing) {
  const auto engine = MakeEngine(MicroOptions());
  Request request = IdsRequest("late", 20, 2);
  request.deadline = Clock::now() - std::chrono::seconds(1);
  const absl::Status status = Refusal(*engine, request);
  EXPECT_EQ(status.code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_EQ(ReasonOf(status), kReasonExpired);
  EXPECT_EQ(engine->load().steps, 0);
}

TEST(EngineOverloadTest, ADeadlineThatCannotBeMetIsRefusedOnceThePaceIsKnown) {
  EngineOptions options = MicroOptions();
  options.prediction_delay = Duration::zero();
  const auto engine = MakeEngine(options);
  // 4,000 prompt tokens in a microsecond or so: no machine does that.
  const auto hurried = [&] {
    Request request = IdsRequest("hurried", 4000, 2);
    request.deadline = Clock::now() + std::chrono::milliseconds(1);
    return request;
  };
  const auto call = Call::Make();
  if (const absl::Status early = engine->Submit(hurried(), call->outbox()); early.ok()) {
    EXPECT_EQ(ReasonOf(*call->Wait().end), kReasonExpired) << "nothing was known yet";
  } else {
    EXPECT_EQ(ReasonOf(early), kReasonExpired);
  }
  for (int i = 0; i < 20; ++i) Generate(*engine, IdsRequest("measured", 200, 2, 10 + i));

  const absl::Status refused = Refusal(*engine, hurried());
  EXPECT_EQ(refused.code(), absl::StatusCode::kDeadlineExceeded);
  Request patient = hurried();
  patient.deadline = Clock::now() + std::chrono::minutes(10);
  Generate(*engine, patient);
  Request budget = hurried();
  budget.deadline = TimePoint::max();
  budget.time_budget = std::chrono::milliseconds(1);
  Generate(*engine, budget);  // ends well, however little comes of it
  ExpectAllReturned(*engine);
}

TEST(EngineOverloadTest, QueuedRequestsExpireInTheQueue) {
  const auto engine = MakeEngine(OneSlot());
  const auto occupier = Occupy(*engine);
  std::vector<std::shared_ptr<Call>> calls;
  for (int i = 0; i < 200; ++i) {
    Request request = IdsRequest(absl::StrCat(i), 20, 2);
    request.deadline = Clock::now() + std::chrono::milliseconds(20 + i % 10);
    calls.push_back(Submit(*engine, request));
  }
  for (const auto& call : calls) {
    const StreamOutput output = call->Wait();
    EXPECT_EQ(ReasonOf(*output.end), kReasonExpired);
    EXPECT_TRUE(output.accepted.has_value());
  }
  EXPECT_EQ(engine->load().waiting, 0);
  Release(*engine, *occupier);
  ExpectAllReturned(*engine);
}

TEST(EngineOverloadTest, TheSummaryTellsOfTheQueue) {
  const auto engine = MakeEngine(OneSlot());
  const auto occupier = Occupy(*engine);
  const auto first = Submit(*engine, IdsRequest("first", 20, 2));
  const auto second = Submit(*engine, IdsRequest("second", 20, 2));
  std::this_thread::sleep_for(std::chrono::milliseconds(5));
  Release(*engine, *occupier);
  const Timing timing = second->Wait().summary->timing;
  EXPECT_EQ(timing.queue_length_on_arrival, 1);
  EXPECT_EQ(timing.queue_position_on_arrival, 1);
  EXPECT_GE(timing.queue, std::chrono::milliseconds(5));
  const Duration waited =
      timing.waited_slots + timing.waited_blocks + timing.waited_token_budget + timing.waited_tenant_share;
  EXPECT_GE(timing.waited_slots, std::chrono::milliseconds(4)) << "the only one was taken";
  EXPECT_LE(waited, timing.total);
  EXPECT_EQ(first->Wait().summary->timing.queue_position_on_arrival, 0);
}

// Cancels come at every moment of a request's life: while it is submitted, queued, computed, read and done.
TEST(EngineOverloadTest, CancelsAtEveryMomentLeaveNothingBehind) {
  for (const int depth : {1, 2}) {
    EngineOptions options = MicroOptions();
    options.max_sequences = 5;
    options.kv_cache_bytes = 6 * (128 << 10) + 30 * 36864;  // 5 rings, a snapshot and 30 blocks
    options.max_model_len = 600;
    options.max_step_tokens = 70;
    options.pipeline_depth = depth;
    const auto engine = MakeEngine(options);
    Random random(depth);
    std::vector<std::shared_ptr<Call>> calls;
    for (int i = 0; i < 300; ++i) {
      const std::string id = absl::StrCat(i);
      Request request = IdsRequest(id, 1 + random.Below(300), 1 + random.Below(60), random.Below(8));
      request.n = 1 + random.Below(3);
      request.priority = static_cast<Priority>(random.Below(3));
      request.cache.bypass = random.Below(4) == 0;
      request.logprobs.prompt = random.Below(4) == 0;
      const Duration moment = std::chrono::microseconds(random.Below(3) == 0 ? 0 : random.Below(4000));
      const auto call = Call::Make(random.Below(3) == 0 ? random.Below(20) : Call::kNeverHold);
      std::thread canceller([&] {
        std::this_thread::sleep_for(moment);
        engine->Cancel("default", id, Cancelled()).IgnoreError();  // it may be over, or not have begun
      });
      EXPECT_TRUE(engine->Submit(std::move(request), call->outbox()).ok());
      canceller.join();
      call->Resume();
      calls.push_back(call);
    }
    int64_t cancelled = 0;
    for (const auto& call : calls) {
      const absl::Status end = *call->Wait().end;
      EXPECT_TRUE(end.ok() || end == Cancelled()) << end;
      cancelled += !end.ok();
    }
    EXPECT_GT(cancelled, 0);
    ExpectAllReturned(*engine);
    EXPECT_EQ(engine->load().cancelled, cancelled);
    EXPECT_EQ(engine->load().completed, 300 - cancelled);
  }
}

}  // namespace
}  // namespace yoio
