// The spans of a request: names, nesting, times and attributes.
#include "server/trace/request_spans.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <string>

namespace yoio {
namespace {

using std::chrono::milliseconds;
using testing::ElementsAre;
using testing::IsSupersetOf;
using testing::Key;
using testing::Pair;

constexpr TimePoint kArrival{std::chrono::hours(1)};

// A request that went through every phase: 1 + 2 + 4 + 8 ms, and 16 ms until its stream was closed.
CallRecord WholeRecord() {
  Timing timing{.tokenize = milliseconds(1),
                .queue = milliseconds(2),
                .prefill = milliseconds(4),
                .time_to_first_token = milliseconds(7),
                .decode = milliseconds(8)};
  timing.longest_gap = milliseconds(5);
  timing.longest_gap_step = 77;
  timing.deliver = milliseconds(16);
  timing.blocked_on_client = milliseconds(3);
  timing.total = milliseconds(31);
  timing.prefill_chunks = 2;
  timing.decode_steps = 6;
  timing.queue_length_on_arrival = 9;
  timing.queue_position_on_arrival = 4;
  timing.preemptions = 1;
  timing.recomputed_tokens = 70;
  timing.waited_blocks = milliseconds(2);
  CallRecord record;
  record.method = "Generate";
  record.tenant = "search";
  record.request_id = "r-1";
  record.number = 12;
  record.trace.trace.fill(0xab);
  record.trace.span.fill(0xcd);
  record.trace.sampled = true;
  record.parent_span.fill(0xef);
  record.trace_state = "vendor=1";
  record.arrival = kArrival;
  record.ended = kArrival + milliseconds(31);
  record.accepted = true;
  record.tokens_sent = 7;
  record.deadline_left = milliseconds(500);
  record.first_sent = kArrival + milliseconds(2);
  record.request = AcceptedEvent{
      .request_id = "r-1", .number = 12, .prompt_tokens = 90, .sampling = {}, .max_tokens = 7, .n = 1};
  record.request->sampling.seed = 5;
  record.finish_reason = FinishReason::kLength;
  record.summary = SummaryEvent{.usage = {.prompt_tokens = 90, .cached_tokens = 64, .completion_tokens = 7},
                                .timing = timing};
  return record;
}

std::vector<std::string> NamesOf(const std::vector<Span>& spans) {
  std::vector<std::string> names;
  for (const Span& span : spans) names.push_back(span.name);
  return names;
}

std::map<std::string, AttributeValue> AttributesOf(const Span& span) {
  std::map<std::string, AttributeValue> attributes;
  for (const Attribute& each : span.attributes) {
    EXPECT_TRUE(attributes.emplace(each.key, each.value).second) << each.key << " comes twice";
  }
  return attributes;
}

class RequestSpansTest : public testing::Test {
 protected:
  std::vector<Span> SpansOf(const CallRecord& record) {
    return RequestSpans(record, {.name = "tiny", .revision = "r9"}, maker_);
  }
  // When it begins and ends, in milliseconds since the arrival.
  std::pair<double, double> When(const Span& span) const {
    const auto since = [&](int64_t ns) { return (ns - tracer_.UnixNanos(kArrival)) / 1e6; };
    return {since(span.start_unix_ns), since(span.end_unix_ns)};
  }

  Tracer tracer_;
  SpanMaker maker_{tracer_};
};

TEST_F(RequestSpansTest, PhasesFollowEachOther) {
  const std::vector<Span> spans = SpansOf(WholeRecord());
  ASSERT_THAT(NamesOf(spans),
              ElementsAre("text_completion tiny", "tokenize", "queue", "stream", "prefill", "decode"));
  EXPECT_THAT(When(spans[0]), Pair(0, 31));
  EXPECT_THAT(When(spans[1]), Pair(0, 1));
  EXPECT_THAT(When(spans[2]), Pair(1, 3));
  EXPECT_THAT(When(spans[3]), Pair(2, 31));
  EXPECT_THAT(When(spans[4]), Pair(3, 7));
  EXPECT_THAT(When(spans[5]), Pair(7, 15));
}

TEST_F(RequestSpansTest, ChildrenAreOfTheServersSpanAndThatOfTheCallers) {
  const CallRecord record = WholeRecord();
  const std::vector<Span> spans = SpansOf(record);
  EXPECT_EQ(spans[0].id.span, record.trace.span);
  EXPECT_EQ(spans[0].parent, record.parent_span);
  EXPECT_TRUE(spans[0].remote_parent);
  EXPECT_EQ(spans[0].kind, SpanKind::kServer);
  for (const Span& span : spans) {
    EXPECT_EQ(span.id.trace, record.trace.trace);
    EXPECT_EQ(span.trace_state, "vendor=1");
    if (&span == &spans[0]) continue;
    EXPECT_EQ(span.parent, record.trace.span);
    EXPECT_FALSE(span.remote_parent);
    EXPECT_EQ(span.kind, SpanKind::kInternal);
    EXPECT_NE(span.id.span, record.trace.span);
  }
}

TEST_F(RequestSpansTest, AttributesFollowTheConventions) {
  const auto attributes = AttributesOf(SpansOf(WholeRecord())[0]);
  EXPECT_THAT(attributes,
              IsSupersetOf({
                  Pair("rpc.system", AttributeValue("grpc")),
                  Pair("rpc.service", AttributeValue("yoio.v1.InferenceService")),
                  Pair("rpc.method", AttributeValue("Generate")),
                  Pair("rpc.grpc.status_code", AttributeValue(int64_t{0})),
                  Pair("gen_ai.operation.name", AttributeValue("text_completion")),
                  Pair("gen_ai.provider.name", AttributeValue("yoio")),
                  Pair("gen_ai.request.model", AttributeValue("tiny")),
                  Pair("gen_ai.request.max_tokens", AttributeValue(int64_t{7})),
                  Pair("gen_ai.request.seed", AttributeValue(int64_t{5})),
                  Pair("gen_ai.request.temperature", AttributeValue(1.0)),
                  Pair("gen_ai.response.id", AttributeValue("r-1")),
                  Pair("gen_ai.response.finish_reasons", AttributeValue(std::vector<std::string>{"length"})),
                  Pair("gen_ai.usage.input_tokens", AttributeValue(int64_t{90})),
                  Pair("gen_ai.usage.output_tokens", AttributeValue(int64_t{7})),
                  Pair("gen_ai.usage.cache_read.input_tokens", AttributeValue(int64_t{64})),
                  Pair("gen_ai.latency.e2e", AttributeValue(0.031)),
                  Pair("gen_ai.latency.time_to_first_token", AttributeValue(0.007)),
                  Pair("gen_ai.latency.time_in_queue", AttributeValue(0.002)),
                  Pair("gen_ai.latency.time_in_model_prefill", AttributeValue(0.004)),
                  Pair("gen_ai.latency.time_in_model_decode", AttributeValue(0.008)),
                  Pair("gen_ai.latency.time_in_model_inference", AttributeValue(0.012)),
              }));
}

TEST_F(RequestSpansTest, AllThatExplainsLatencyIsThere) {
  const std::vector<Span> spans = SpansOf(WholeRecord());
  EXPECT_THAT(AttributesOf(spans[0]), IsSupersetOf({
                                          Pair("yoio.tenant", AttributeValue("search")),
                                          Pair("yoio.queue.length", AttributeValue(int64_t{9})),
                                          Pair("yoio.queue.position", AttributeValue(int64_t{4})),
                                          Pair("yoio.waited.blocks", AttributeValue(0.002)),
                                          Pair("yoio.longest_gap", AttributeValue(0.005)),
                                          Pair("yoio.longest_gap_step", AttributeValue(int64_t{77})),
                                          Pair("yoio.blocked_on_client", AttributeValue(0.003)),
                                          Pair("yoio.deliver", AttributeValue(0.016)),
                                          Pair("yoio.deadline_left", AttributeValue(0.5)),
                                          Pair("yoio.preemptions", AttributeValue(int64_t{1})),
                                          Pair("yoio.recomputed_tokens", AttributeValue(int64_t{70})),
                                          Pair("yoio.model_revision", AttributeValue("r9")),
                                      }));
  EXPECT_THAT(AttributesOf(spans[2]), testing::Contains(Key("yoio.waited.blocks")));
  EXPECT_THAT(AttributesOf(spans[4]),
              IsSupersetOf({Pair("yoio.chunks", AttributeValue(int64_t{2})),
                            Pair("yoio.cached_tokens", AttributeValue(int64_t{64}))}));
  EXPECT_THAT(AttributesOf(spans[5]), IsSupersetOf({Pair("yoio.steps", AttributeValue(int64_t{6})),
                                                    Pair("yoio.preemptions", AttributeValue(int64_t{1}))}));
}

TEST_F(RequestSpansTest, WhatWasNotReachedHasNoSpan) {
  CallRecord refused;
  refused.method = "Generate";
  refused.tenant = "search";
  refused.trace.trace.fill(1);
  refused.arrival = refused.ended = kArrival;
  refused.code = grpc::StatusCode::RESOURCE_EXHAUSTED;
  refused.reason = "QUEUE_FULL";
  const std::vector<Span> spans = SpansOf(refused);
  ASSERT_THAT(NamesOf(spans), ElementsAre("text_completion tiny"));
  EXPECT_FALSE(spans[0].remote_parent);
  EXPECT_EQ(spans[0].status, SpanStatus::kUnset);
  EXPECT_THAT(AttributesOf(spans[0]), IsSupersetOf({Pair("error.type", AttributeValue("RESOURCE_EXHAUSTED")),
                                                    Pair("yoio.reason", AttributeValue("QUEUE_FULL"))}));

  CallRecord waited = WholeRecord();
  waited.summary = SummaryEvent{.usage = {}, .timing = {.queue = milliseconds(9)}};
  EXPECT_THAT(NamesOf(SpansOf(waited)), ElementsAre("text_completion tiny", "queue", "stream"));
}

TEST_F(RequestSpansTest, WhatTheServerIsToBlameForIsAnError) {
  CallRecord record = WholeRecord();
  record.code = grpc::StatusCode::UNAVAILABLE;
  record.reason = "ENGINE_FAILED";
  const Span span = SpansOf(record)[0];
  EXPECT_EQ(span.status, SpanStatus::kError);
  EXPECT_EQ(span.status_message, "ENGINE_FAILED");
}

TEST_F(RequestSpansTest, AUnaryAnswerHasNoStreamAndScoreItsOwnName) {
  CallRecord record = WholeRecord();
  record.method = "GenerateOnce";
  EXPECT_THAT(NamesOf(SpansOf(record)), testing::Not(testing::Contains("stream")));
  record.method = "Score";
  EXPECT_EQ(SpansOf(record)[0].name, "score tiny");
}

TEST_F(RequestSpansTest, LateSampledRequestsCarryTheirSlowSteps) {
  CallRecord record = WholeRecord();
  record.trace.sampled = false;
  std::vector<Span> spans = SpansOf(record);
  const size_t before = spans.size();
  StepRecord step;
  step.step = 77;
  step.begin = kArrival + milliseconds(8);
  step.submitted = kArrival + milliseconds(9);
  step.ended = kArrival + milliseconds(13);
  step.waiting = 3;
  step.members = {{.request = 11, .tokens = 1}, {.request = 12, .tokens = 2}};
  step.ranks.resize(2);
  step.ranks[1].total = milliseconds(3);
  step.ranks[1].phases[static_cast<int>(StepPhase::kTopK)] = milliseconds(3);
  MarkLate(record, {step}, maker_, spans);
  EXPECT_THAT(AttributesOf(spans[0]), testing::Contains(Pair("yoio.sampled_late", AttributeValue(true))));
  ASSERT_EQ(spans.size(), before + 1);
  const Span& slow = spans.back();
  EXPECT_EQ(slow.name, "slow_step");
  EXPECT_EQ(slow.parent, record.trace.span);
  EXPECT_THAT(When(slow), Pair(8, 13));
  EXPECT_THAT(AttributesOf(slow), IsSupersetOf({Pair("yoio.step", AttributeValue(int64_t{77})),
                                                Pair("yoio.own_tokens", AttributeValue(int64_t{2})),
                                                Pair("yoio.waiting", AttributeValue(int64_t{3})),
                                                Pair("yoio.plan", AttributeValue(0.001)),
                                                Pair("yoio.phase.top_k", AttributeValue(0.003)),
                                                Pair("yoio.slowest_rank", AttributeValue(int64_t{1}))}));
}

}  // namespace
}  // namespace yoio
