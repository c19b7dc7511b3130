// How requests end before they are done, and what is left of them: nothing.
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "engine/engine.h"
#include "engine/errors.h"
#include "gtest/gtest.h"
#include "tests/engine/engine_harness.h"

namespace yoio {
namespace {

using test::Call;
using test::ExpectAllReturned;
using test::Generate;
using test::IdsRequest;
using test::MakeEngine;
using test::MicroOptions;
using test::Refusal;
using test::StreamOutput;
using test::Submit;

// More tokens than a request gets whose reader holds.
constexpr int kLong = 3000;

absl::Status Cancelled() { return absl::CancelledError("the test changed its mind"); }

TEST(EngineEndTest, CancelEndsAStreamAndFreesItsBlocks) {
  const auto engine = MakeEngine(MicroOptions());
  const auto call = Submit(*engine, IdsRequest("long", 100, kLong), /*hold_after=*/5);
  call->WaitForTokens(5);
  EXPECT_LT(engine->load().free_blocks, engine->load().total_blocks);
  EXPECT_EQ(engine->Cancel("default", "other", Cancelled()).code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(engine->Cancel("stranger", "long", Cancelled()).code(), absl::StatusCode::kNotFound);
  EXPECT_TRUE(engine->Cancel("default", "long", Cancelled()).ok());
  call->Resume();
  const StreamOutput output = call->Wait();
  EXPECT_EQ(output.end, Cancelled());
  EXPECT_GE(output.choices[0].tokens.size(), 5u);
  ExpectAllReturned(*engine);
  EXPECT_EQ(engine->Cancel("default", "long", Cancelled()).code(), absl::StatusCode::kNotFound);
}

// A request whose time is over after 30 ms: its reader takes nothing meanwhile, so that it cannot be done.
StreamOutput RunToItsTime(Engine& engine, const Request& request) {
  const auto call = Submit(engine, request, /*hold_after=*/0);
  std::this_thread::sleep_for(std::chrono::milliseconds(31));
  ExpectAllReturned(engine);
  call->Resume();
  return call->Wait();
}

TEST(EngineEndTest, DeadlinesEndWithAnErrorAndBudgetsEndWell) {
  const auto engine = MakeEngine(MicroOptions());
  Request request = IdsRequest("deadline", 20, kLong);
  request.deadline = Clock::now() + std::chrono::milliseconds(30);
  const StreamOutput late = RunToItsTime(*engine, request);
  EXPECT_EQ(late.end->code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_EQ(ReasonOf(*late.end), kReasonExpired);

  request = IdsRequest("budget", 20, kLong);
  request.n = 2;
  request.time_budget = std::chrono::milliseconds(30);
  const StreamOutput ended = RunToItsTime(*engine, request);
  EXPECT_EQ(ended.end, absl::OkStatus());
  int32_t tokens = 0;
  for (const auto& choice : ended.choices) {
    EXPECT_EQ(choice.finished->reason, FinishReason::kTimeBudget);
    tokens += static_cast<int32_t>(choice.tokens.size());
  }
  EXPECT_EQ(ended.summary->usage.completion_tokens, tokens);

  request = IdsRequest("at once", 3000, 5);
  request.time_budget = std::chrono::nanoseconds(1);  // over before its prompt is
  EXPECT_EQ(Generate(*engine, request).choices[0].finished->reason, FinishReason::kTimeBudget);
  request = IdsRequest("endless", 20, 5);
  request.time_budget = Duration::max();
  EXPECT_EQ(Generate(*engine, request).choices[0].finished->reason, FinishReason::kLength);
  ExpectAllReturned(*engine);
}

TEST(EngineEndTest, MaxRequestTimeBoundsRequestsWithoutADeadline) {
  EngineOptions options = MicroOptions();
  options.max_request_time = std::chrono::milliseconds(30);
  const auto engine = MakeEngine(options);
  const StreamOutput output = RunToItsTime(*engine, IdsRequest("x", 20, kLong));
  EXPECT_EQ(output.end->code(), absl::StatusCode::kDeadlineExceeded);
}

// Waits until `counter` has passed `least` and then stands still for a while, and returns it.
int64_t WaitForStandstill(const Engine& engine, int64_t Load::*counter, int64_t least) {
  int64_t value = 0;
  for (int quiet = 0; quiet < 10; std::this_thread::sleep_for(std::chrono::milliseconds(5))) {
    const int64_t now = engine.load().*counter;
    quiet = now == value && now > least ? quiet + 1 : 0;
    value = now;
  }
  return value;
}

TEST(EngineEndTest, ASlowReaderPausesItsRequestAndNobodyElse) {
  EngineOptions options = MicroOptions();
  options.pipeline_depth = 2;
  const auto engine = MakeEngine(options);
  const auto call = Submit(*engine, IdsRequest("slow", 20, 1000), /*hold_after=*/0);
  const int64_t reached = WaitForStandstill(*engine, &Load::generated_tokens, Outbox::kMaxTokens);
  EXPECT_LT(reached, 2 * Outbox::kMaxTokens + 16) << "outbox, text pool and the steps in flight";
  Generate(*engine, IdsRequest("fast", 20, 50));
  call->Resume();
  const StreamOutput output = call->Wait();
  EXPECT_EQ(output.end, absl::OkStatus());
  EXPECT_EQ(output.choices[0].tokens.size(), 1000u);
  EXPECT_GT(output.summary->timing.blocked_on_client, Duration::zero());
  EXPECT_EQ(output.choices[0].ids(), Generate(*engine, IdsRequest("again", 20, 1000)).choices[0].ids());
  ExpectAllReturned(*engine);
}

TEST(EngineEndTest, ASlowReaderOfScoresPausesThem) {
  EngineOptions options = MicroOptions();
  options.max_output_rows = 100;
  const auto engine = MakeEngine(options);
  Request request = IdsRequest("score", 4000, 1);
  request.max_tokens.reset();
  request.score_only = true;
  const auto call = Submit(*engine, request, /*hold_after=*/0);
  EXPECT_LT(WaitForStandstill(*engine, &Load::steps, 10), 39)
      << "3,999 records of 40 bytes are more than 64 KiB";
  call->Resume();
  const StreamOutput output = call->Wait();
  EXPECT_EQ(output.end, absl::OkStatus());
  EXPECT_EQ(output.scores.size(), 3999u);
  ExpectAllReturned(*engine);
  EXPECT_EQ(engine->load().steps, 40);
}

TEST(EngineEndTest, AReaderThatStaysAwayIsAborted) {
  EngineOptions options = MicroOptions();
  options.stall_timeout = std::chrono::milliseconds(20);
  const auto engine = MakeEngine(options);
  const auto call = Submit(*engine, IdsRequest("gone", 20, kLong), /*hold_after=*/0);
  WaitForStandstill(*engine, &Load::generated_tokens, Outbox::kMaxTokens);
  ExpectAllReturned(*engine);
  call->Resume();
  const StreamOutput output = call->Wait();
  EXPECT_EQ(output.end->code(), absl::StatusCode::kAborted);
  EXPECT_EQ(ReasonOf(*output.end), kReasonSlowReader);
  EXPECT_GT(output.choices[0].tokens.size(), static_cast<size_t>(Outbox::kMaxTokens)) << "nothing is dropped";
}

TEST(EngineEndTest, DrainWaitsForThoseThatLive) {
  const auto engine = MakeEngine(MicroOptions());
  const auto call = Submit(*engine, IdsRequest("short", 20, 100));
  EXPECT_TRUE(engine->Drain(Clock::now() + std::chrono::seconds(30)).ok());
  EXPECT_EQ(call->Wait().end, absl::OkStatus());
  const absl::Status refused = Refusal(*engine, IdsRequest("late", 5, 5));
  EXPECT_EQ(refused.code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(ReasonOf(refused), kReasonDraining);
  EXPECT_TRUE(engine->health().ok());
}

TEST(EngineEndTest, DrainEndsTheRestAtItsDeadline) {
  const auto engine = MakeEngine(MicroOptions());
  const auto call = Submit(*engine, IdsRequest("long", 20, kLong), /*hold_after=*/0);
  const absl::Status drained = engine->Drain(Clock::now() + std::chrono::milliseconds(5));
  EXPECT_EQ(drained.code(), absl::StatusCode::kDeadlineExceeded);
  call->Resume();
  const StreamOutput output = call->Wait();
  EXPECT_EQ(output.end->code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(ReasonOf(*output.end), kReasonDraining);
  ExpectAllReturned(*engine);
}

TEST(EngineEndTest, DestructionEndsWhateverLives) {
  for (const int depth : {1, 2}) {
    EngineOptions options = MicroOptions();
    options.pipeline_depth = depth;
    options.max_sequences = 4;
    auto engine = MakeEngine(options);
    std::vector<std::shared_ptr<Call>> calls;
    for (int i = 0; i < 10; ++i) calls.push_back(Submit(*engine, IdsRequest(absl::StrCat(i), 20, kLong), 3));
    calls[0]->WaitForTokens(3);
    engine.reset();
    for (const auto& call : calls) {
      call->Resume();
      const StreamOutput output = call->Wait();
      EXPECT_EQ(output.end->code(), absl::StatusCode::kUnavailable);
      EXPECT_EQ(ReasonOf(*output.end), kReasonDraining);
    }
  }
}

TEST(EngineEndTest, SixtyFourStreamsAndSixteenCancels) {
  for (const int depth : {1, 2}) {
    EngineOptions options = MicroOptions();
    options.pipeline_depth = depth;
    options.max_step_tokens = 128;
    options.max_sequences = 40;  // some wait
    const auto engine = MakeEngine(options);
    std::vector<std::shared_ptr<Call>> calls;
    for (int i = 0; i < 64; ++i) {
      const bool cancelled = i % 4 == 1;
      Request request = IdsRequest(absl::StrCat(i), 10 + 7 * i % 200, cancelled ? kLong : 30 + i / 2, i);
      request.n = 1 + i % 3;
      request.temperature = 1.0f;
      request.seed = i;
      calls.push_back(Submit(*engine, request, cancelled ? 3 : Call::kNeverHold));
    }
    for (int i = 1; i < 64; i += 4) {
      if (i % 8 == 1) calls[i]->WaitForTokens(3);
      EXPECT_TRUE(engine->Cancel("default", absl::StrCat(i), Cancelled()).ok());
      calls[i]->Resume();
    }
    for (int i = 0; i < 64; ++i) {
      const StreamOutput output = calls[i]->Wait();
      if (i % 4 == 1) {
        EXPECT_EQ(output.end, Cancelled());
        continue;
      }
      EXPECT_EQ(output.end, absl::OkStatus());
      for (const auto& choice : output.choices) EXPECT_EQ(choice.tokens.size(), 30u + i / 2);
    }
    ExpectAllReturned(*engine);
  }
}

}  // namespace
}  // namespace yoio
