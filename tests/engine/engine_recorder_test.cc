// What an engine remembers of its steps and requests.
#include <algorithm>
#include <memory>
#include <numeric>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "engine/errors.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/engine/engine_harness.h"

namespace yoio {
namespace {

using std::chrono::milliseconds;
using test::Call;
using test::ExpectAllReturned;
using test::Generate;
using test::IdsRequest;
using test::MakeEngine;
using test::MicroOptions;
using test::StreamOutput;
using test::Submit;
using testing::ElementsAre;

// More tokens than a request gets whose reader holds.
constexpr int kLong = 3000;

RequestRecord RecordOf(const Engine& engine, const std::string& id) {
  const std::vector<RequestRecord> records = engine.recorder()->RequestsById(id);
  EXPECT_EQ(records.size(), 1) << id;
  return records.empty() ? RequestRecord() : records[0];
}

// Tokens that the steps have computed for it.
int32_t TokensOf(const Engine& engine, RequestNumber request) {
  int32_t tokens = 0;
  for (const StepRecord& step : engine.recorder()->StepsOf(request)) {
    int times = 0;
    for (const StepMember& member : step.members) {
      if (member.request != request) continue;
      tokens += member.tokens;
      ++times;
    }
    EXPECT_EQ(times, 1) << "a request is one member of a step";
  }
  return tokens;
}

TEST(EngineRecorderTest, ARequestAloneIsInEveryStep) {
  const auto engine = MakeEngine(MicroOptions());
  Request request = IdsRequest("alone", 70, 9);
  request.tenant = "acme";
  request.trace.trace[0] = 1;
  request.trace.span[7] = 2;
  request.trace.sampled = true;
  const StreamOutput output = Generate(*engine, request);

  const RequestRecord record = RecordOf(*engine, "alone");
  EXPECT_EQ(record.number, output.accepted->number);
  EXPECT_EQ(record.tenant, "acme");
  EXPECT_EQ(record.trace.trace, request.trace.trace);
  EXPECT_EQ(record.trace.span, request.trace.span);
  EXPECT_TRUE(record.trace.sampled);
  EXPECT_EQ(record.arrival, request.arrival);
  EXPECT_EQ(record.code, absl::StatusCode::kOk);
  EXPECT_EQ(record.reason, "");
  EXPECT_EQ(record.usage.prompt_tokens, 70);
  EXPECT_EQ(record.usage.completion_tokens, 9);
  EXPECT_EQ(record.ended, record.arrival + record.timing.total);
  EXPECT_EQ(record.first_step, 0);
  EXPECT_EQ(record.last_step, 8);

  const std::vector<StepRecord> steps = engine->recorder()->StepsOf(record.number);
  ASSERT_EQ(steps.size(), 9);
  for (const StepRecord& step : steps) {
    const bool first = step.step == 0;
    EXPECT_THAT(step.members, ElementsAre(StepMember{record.number, first ? 70 : 1}));
    EXPECT_EQ(step.requests, 1);
    EXPECT_EQ(step.running, 1);
    EXPECT_EQ(step.waiting, 0);
    EXPECT_EQ(step.prompt_tokens, first ? 70 : 0);
    EXPECT_EQ(step.generated_tokens, first ? 0 : 1);
    EXPECT_EQ(step.output_rows, 1);
    EXPECT_LT(step.free_blocks, engine->load().total_blocks);
    ASSERT_TRUE(step.ended.has_value());
    EXPECT_LE(step.begin, step.submitted);
    EXPECT_LE(step.submitted, *step.ended);
    const TimePoint before = first ? TimePoint{} : *steps[step.step - 1].ended;
    EXPECT_EQ(step.took, *step.ended - std::max(step.submitted, before));
  }
}

TEST(EngineRecorderTest, SeveralChoicesAreOneMember) {
  const auto engine = MakeEngine(MicroOptions());
  Request request = IdsRequest("many", 40, 5);
  request.n = 3;
  const StreamOutput output = Generate(*engine, request);
  const std::vector<StepRecord> steps = engine->recorder()->Steps(0, 100);
  ASSERT_EQ(steps.size(), 5);
  for (const StepRecord& step : steps) {
    EXPECT_THAT(step.members, ElementsAre(StepMember{output.accepted->number, step.step == 0 ? 40 : 3}));
    EXPECT_EQ(step.requests, 1);
    EXPECT_EQ(step.generated_tokens, step.step == 0 ? 0 : 3);
  }
  EXPECT_EQ(RecordOf(*engine, "many").usage.completion_tokens, 15);
}

TEST(EngineRecorderTest, StepsThatAreSharedAddUp) {
  for (const int depth : {1, 2}) {
    EngineOptions options = MicroOptions();
    options.pipeline_depth = depth;
    options.max_sequences = 3;  // some wait
    options.prefix_cache = false;
    const auto engine = MakeEngine(options);
    std::vector<std::shared_ptr<Call>> calls;
    for (int i = 0; i < 6; ++i) calls.push_back(Submit(*engine, IdsRequest(absl::StrCat(i), 30 + i, 20 + i)));
    for (int i = 0; i < 6; ++i) {
      const StreamOutput output = calls[i]->Wait();
      // The last token that it drew went into no step, unless that was submitted before its end was known.
      const int32_t least = 30 + i + 20 + i - 1;
      const int32_t tokens = TokensOf(*engine, output.accepted->number);
      EXPECT_GE(tokens, least);
      EXPECT_LT(tokens, least + depth);
    }
    ExpectAllReturned(*engine);
    for (const StepRecord& step : engine->recorder()->StepsSince(TimePoint::min())) {
      int32_t tokens = 0;
      for (const StepMember& member : step.members) tokens += member.tokens;
      EXPECT_EQ(tokens, step.prompt_tokens + step.generated_tokens);
      EXPECT_EQ(std::ssize(step.members), step.requests);
      EXPECT_GE(step.running, step.requests);
    }
    EXPECT_EQ(engine->recorder()->last_step() + 1, engine->load().steps);
  }
}

TEST(EngineRecorderTest, WhatFailedSaysHow) {
  EngineOptions options = MicroOptions();
  options.max_sequences = 1;
  const auto engine = MakeEngine(options);
  const auto running = Submit(*engine, IdsRequest("running", 20, kLong), /*hold_after=*/5);
  running->WaitForTokens(5);
  Request late = IdsRequest("late", 20, 5);
  late.deadline = Clock::now() + milliseconds(20);
  EXPECT_EQ(Submit(*engine, late)->Wait().end->code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_FALSE(RecordOf(*engine, "running").code.has_value());
  EXPECT_TRUE(engine->Cancel("default", "running", absl::CancelledError("enough")).ok());
  running->Resume();
  running->Wait();

  RequestRecord record = RecordOf(*engine, "late");
  EXPECT_EQ(record.code, absl::StatusCode::kDeadlineExceeded);
  EXPECT_EQ(record.reason, kReasonExpired);
  EXPECT_EQ(record.first_step, -1);
  EXPECT_EQ(record.timing.total, record.timing.queue);
  record = RecordOf(*engine, "running");
  EXPECT_EQ(record.code, absl::StatusCode::kCancelled);
  EXPECT_EQ(record.first_step, 0);
  EXPECT_GE(record.usage.completion_tokens, 5);
}

TEST(EngineRecorderTest, StatsCountWhatHasHappened) {
  const auto count = [](const LatencyHistogram& histogram) {
    return std::accumulate(histogram.counts().begin(), histogram.counts().end(), int64_t{0});
  };
  const auto engine = MakeEngine(MicroOptions());
  Generate(*engine, IdsRequest("one", 40, 9));
  Request three = IdsRequest("three", 40, 5, /*seed=*/2);
  three.n = 3;
  Generate(*engine, three);
  ExpectAllReturned(*engine);
  const EngineStats stats = engine->stats();
  EXPECT_EQ(count(stats.inter_token), 8 + 4) << "choices get their tokens together";
  EXPECT_EQ(count(stats.step), 9 + 5);
  EXPECT_EQ(count(stats.plan), 9 + 5);
  Duration took{};
  for (const StepRecord& step : engine->recorder()->Steps(0, 100)) took += step.took;
  EXPECT_NEAR(stats.step.sum(), ToSeconds(took), 1e-6);
  EXPECT_LE(ToSeconds(engine->recorder()->RequestsById("one").at(0).timing.decode), stats.inter_token.sum());
  EXPECT_GT(engine->load().scheduler_seconds_p99, 0);
}

// Tokenizing, queue, prefill and decode leave only what came after the last token, if there was one.
void ExpectPhasesAddUp(const RequestRecord& record) {
  const Timing& timing = record.timing;
  for (const Duration phase : {timing.tokenize, timing.queue, timing.prefill, timing.decode}) {
    EXPECT_GE(phase, Duration::zero());
  }
  const Duration rest = timing.total - timing.tokenize - timing.queue - timing.prefill - timing.decode;
  EXPECT_GE(rest, Duration::zero());
  if (timing.time_to_first_token == Duration::zero()) {
    EXPECT_EQ(rest, Duration::zero());
  } else {
    EXPECT_EQ(timing.time_to_first_token, timing.tokenize + timing.queue + timing.prefill);
  }
  EXPECT_EQ(timing.deliver, Duration::zero()) << "the server's to say";
  EXPECT_EQ(*record.ended - record.arrival, timing.total);
}

TEST(EngineRecorderTest, PhasesAddUpHoweverARequestEnds) {
  EngineOptions options = MicroOptions();
  options.max_step_tokens = 64;
  const auto engine = MakeEngine(options);
  Generate(*engine, IdsRequest("plain", 150, 9));
  Generate(*engine, IdsRequest("cached", 150, 9));
  EXPECT_GT(RecordOf(*engine, "cached").usage.cached_tokens, 0);
  Generate(*engine, IdsRequest("one token", 10, 1, /*seed=*/2));
  Request request = IdsRequest("choices", 100, 9, /*seed=*/3);
  request.n = 4;
  Generate(*engine, request);
  request = IdsRequest("score", 200, 1, /*seed=*/4);
  request.max_tokens.reset();
  request.score_only = true;
  Generate(*engine, request);
  EXPECT_GT(RecordOf(*engine, "score").timing.prefill, Duration::zero());
  request = IdsRequest("in its prompt", 3000, 9, /*seed=*/5);
  request.time_budget = milliseconds(2);
  Generate(*engine, request);
  const auto call = Submit(*engine, IdsRequest("cancelled", 20, kLong), /*hold_after=*/5);
  call->WaitForTokens(5);
  EXPECT_TRUE(engine->Cancel("default", "cancelled", absl::CancelledError("enough")).ok());
  call->Resume();
  call->Wait();
  for (const char* id : {"plain", "cached", "one token", "choices", "score", "in its prompt", "cancelled"}) {
    SCOPED_TRACE(id);
    ExpectPhasesAddUp(RecordOf(*engine, id));
  }
}

TEST(EngineRecorderTest, PhasesOfThoseWhoGaveWayAddUp) {
  constexpr int kRequests = 6;
  EngineOptions options = MicroOptions();
  options.max_sequences = kRequests;
  options.max_model_len = 320;
  options.prefix_cache = false;
  options.swap_bytes = 0;
  options.pipeline_depth = 1;
  // Of the micro model: two window layers and a memory store of 4 heads of 16, index keys of 16; 11 blocks.
  options.kv_cache_bytes = kRequests * 2 * 128 * 2 * 4 * 16 * 4 + 11 * 64 * (2 * 4 * 16 + 16) * 4;
  const auto engine = MakeEngine(options);
  std::vector<std::shared_ptr<Call>> calls;
  for (int i = 0; i < kRequests; ++i) {
    calls.push_back(Submit(*engine, IdsRequest(absl::StrCat(i), 80 + 7 * i, 180, i)));
  }
  for (const auto& call : calls) call->Wait();
  int32_t preemptions = 0;
  for (int i = 0; i < kRequests; ++i) {
    SCOPED_TRACE(i);
    const RequestRecord record = RecordOf(*engine, absl::StrCat(i));
    ExpectPhasesAddUp(record);
    preemptions += record.timing.preemptions;
    EXPECT_EQ(TokensOf(*engine, record.number), 80 + 7 * i + 179 + record.timing.recomputed_tokens);
  }
  EXPECT_GT(preemptions, 0) << "the cache was large enough";
}

}  // namespace
}  // namespace yoio
