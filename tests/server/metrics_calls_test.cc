// What a call that has ended adds to the metrics.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "server/metrics/call_metrics.h"
#include "server/metrics/server_metrics.h"
#include "tests/server/scripted_engine.h"

namespace yoio {
namespace {

using std::chrono::milliseconds;
using testing::HasSubstr;
using testing::Not;

CallRecord Completed(int32_t prompt_tokens = 3000) {
  CallRecord record;
  record.method = "Generate";
  record.arrival = Clock::now();
  record.ended = record.arrival + milliseconds(900);
  record.accepted = true;
  record.finish_reason = FinishReason::kLength;
  record.summary = SummaryEvent{.usage = {.prompt_tokens = prompt_tokens, .completion_tokens = 5},
                                .timing = {.queue = milliseconds(40),
                                           .prefill = milliseconds(200),
                                           .time_to_first_token = milliseconds(250),
                                           .decode = milliseconds(600)}};
  return record;
}

CallRecord Refused(grpc::StatusCode code, const std::string& reason) {
  CallRecord record;
  record.method = "Generate";
  record.arrival = Clock::now();
  record.ended = record.arrival + milliseconds(1);
  record.code = code;
  record.reason = reason;
  return record;
}

std::string Scrape(const CallMetrics& metrics, ExpositionFormat format = ExpositionFormat::kText) {
  Exposition exposition(format);
  metrics.Write(exposition);
  return std::move(exposition).Finish();
}

TEST(CallMetricsTest, WhatAlertsUseIsThereFromTheStart) {
  const std::string text = Scrape(CallMetrics());
  for (const char* series :
       {"yoio_requests_total{code=\"OK\",finish_reason=\"length\"} 0\n",
        "yoio_requests_total{code=\"INTERNAL\",finish_reason=\"none\"} 0\n",
        "yoio_refusals_total{reason=\"INFEASIBLE\"} 0\n", "yoio_failures_total{reason=\"SLOW_READER\"} 0\n",
        "yoio_time_to_first_token_seconds_count{prompt_class=\"more\"} 0\n",
        "yoio_request_duration_seconds_count 0\n"}) {
    EXPECT_THAT(text, HasSubstr(series));
  }
}

TEST(CallMetricsTest, CompletedRequestIsInEveryHistogram) {
  CallMetrics metrics;
  metrics.Ended(Completed());
  const std::string text = Scrape(metrics);
  for (const char* series : {"yoio_requests_total{code=\"OK\",finish_reason=\"length\"} 1\n",
                             "yoio_time_to_first_token_seconds_sum{prompt_class=\"8k\"} 0.25\n",
                             "yoio_queue_seconds_sum{prompt_class=\"8k\"} 0.04\n",
                             "yoio_prefill_seconds_sum{prompt_class=\"8k\"} 0.2\n",
                             "yoio_decode_seconds_sum 0.6\n", "yoio_request_duration_seconds_sum 0.9\n"}) {
    EXPECT_THAT(text, HasSubstr(series));
  }
}

TEST(CallMetricsTest, RefusalsCountByReasonAndAreInNoHistogram) {
  CallMetrics metrics;
  metrics.Ended(Refused(grpc::StatusCode::RESOURCE_EXHAUSTED, "QUEUE_FULL"));
  metrics.Ended(Refused(grpc::StatusCode::INTERNAL, "NOBODY_KNOWS_IT"));
  const std::string text = Scrape(metrics);
  EXPECT_THAT(text, HasSubstr("yoio_requests_total{code=\"RESOURCE_EXHAUSTED\",finish_reason=\"none\"} 1\n"));
  EXPECT_THAT(text, HasSubstr("yoio_refusals_total{reason=\"QUEUE_FULL\"} 1\n"));
  EXPECT_THAT(text, HasSubstr("yoio_refusals_total{reason=\"UNSPECIFIED\"} 1\n"));
  EXPECT_THAT(text, HasSubstr("yoio_failures_total{reason=\"QUEUE_FULL\"} 0\n"));
  EXPECT_THAT(text, HasSubstr("yoio_request_duration_seconds_count 0\n"));
}

TEST(CallMetricsTest, WhoFailsBeforeItsFirstTokenHasNoTimeToIt) {
  CallMetrics metrics;
  CallRecord record = Completed(100);
  record.code = grpc::StatusCode::CANCELLED;
  record.reason = "CLIENT_CANCELLED";
  record.finish_reason.reset();
  record.summary->timing.time_to_first_token = Duration::zero();
  record.summary->usage.completion_tokens = 0;
  metrics.Ended(record);
  const std::string text = Scrape(metrics);
  EXPECT_THAT(text, HasSubstr("yoio_failures_total{reason=\"CLIENT_CANCELLED\"} 1\n"));
  EXPECT_THAT(text, HasSubstr("yoio_time_to_first_token_seconds_count{prompt_class=\"2k\"} 0\n"));
  EXPECT_THAT(text, HasSubstr("yoio_prefill_seconds_count{prompt_class=\"2k\"} 0\n"));
  EXPECT_THAT(text, HasSubstr("yoio_decode_seconds_count 0\n"));
  EXPECT_THAT(text, HasSubstr("yoio_queue_seconds_count{prompt_class=\"2k\"} 1\n"));
  EXPECT_THAT(text, HasSubstr("yoio_request_duration_seconds_count 1\n"));
}

TEST(CallMetricsTest, PromptClassesEndAtTheirNames) {
  for (const auto& [tokens, name] :
       std::vector<std::pair<int64_t, std::string>>{{0, "2k"},
                                                    {2048, "2k"},
                                                    {2049, "8k"},
                                                    {8192, "8k"},
                                                    {32768, "32k"},
                                                    {131072, "128k"},
                                                    {131073, "more"},
                                                    {int64_t{1} << 40, "more"}}) {
    EXPECT_EQ(NameOf(PromptClassOf(tokens)), name) << tokens;
  }
}

TEST(CallMetricsTest, ExemplarsAreOfSampledRequests) {
  CallMetrics metrics;
  CallRecord record = Completed();
  record.trace.trace.fill(0xab);
  metrics.Ended(record);
  EXPECT_THAT(Scrape(metrics, ExpositionFormat::kOpenMetrics), Not(HasSubstr("trace_id")));
  record.trace.sampled = true;
  metrics.Ended(record);
  const std::string text = Scrape(metrics, ExpositionFormat::kOpenMetrics);
  const std::string trace = " # {trace_id=\"abababababababababababababababab\"} ";
  for (const std::string& series :
       {absl::StrCat("yoio_time_to_first_token_seconds_bucket{prompt_class=\"8k\",le=\"0.3\"} 2", trace,
                     "0.25 "),
        absl::StrCat("yoio_request_duration_seconds_bucket{le=\"1.0\"} 2", trace, "0.9 "),
        absl::StrCat("yoio_decode_seconds_bucket{le=\"0.7\"} 2", trace, "0.6 ")}) {
    EXPECT_THAT(text, HasSubstr(series));
  }
}

TEST(CallMetricsTest, ThreadsLoseNothing) {
  constexpr int kThreads = 8;
  constexpr int kCalls = 500;
  CallMetrics metrics;
  std::vector<std::thread> threads;
  for (int i = 0; i < kThreads; ++i) {
    threads.emplace_back([&] {
      CallRecord record = Completed();
      record.trace = {.trace = {1}, .sampled = true};
      for (int call = 0; call < kCalls; ++call) metrics.Ended(record);
    });
  }
  for (int i = 0; i < 20; ++i) Scrape(metrics, ExpositionFormat::kOpenMetrics);
  for (std::thread& thread : threads) thread.join();
  EXPECT_THAT(Scrape(metrics),
              HasSubstr(absl::StrCat("yoio_request_duration_seconds_count ", kThreads * kCalls)));
}

// The names of the public contract.
constexpr const char* kContract[] = {"yoio_requests_running",
                                     "yoio_requests_waiting",
                                     "yoio_waiting_tokens",
                                     "yoio_cache_usage_ratio{group=\"global\"}",
                                     "yoio_cache_usage_ratio{group=\"window\"}",
                                     "yoio_requests_total{code=\"OK\",finish_reason=\"stop\"}",
                                     "yoio_prompt_tokens_total",
                                     "yoio_cached_tokens_total",
                                     "yoio_generated_tokens_total",
                                     "yoio_time_to_first_token_seconds_count{prompt_class=\"2k\"}",
                                     "yoio_inter_token_latency_seconds_count",
                                     "yoio_request_duration_seconds_count",
                                     "yoio_queue_seconds_count{prompt_class=\"8k\"}",
                                     "yoio_prefill_seconds_count{prompt_class=\"32k\"}",
                                     "yoio_decode_seconds_count",
                                     "yoio_step_seconds_count{phase=\"total\"}",
                                     "yoio_step_seconds_count{phase=\"plan\"}",
                                     "yoio_step_seconds_count{phase=\"top_k\"}",
                                     "yoio_step_seconds_count{phase=\"index_broadcast\"}",
                                     "yoio_step_seconds_count{phase=\"comm_wait\"}",
                                     "yoio_preemptions_total",
                                     "yoio_engine_healthy"};

TEST(ServerMetricsTest, NamesOfTheContract) {
  ScriptedEngine engine;
  ServerMetrics metrics({.version = "1", .model = "tiny"});
  EXPECT_THAT(metrics.Scrape(ExpositionFormat::kText), HasSubstr("\nyoio_engine_healthy 0\n"));
  for (const bool loaded : {false, true}) {
    metrics.SetEngine(loaded ? &engine : nullptr);
    const std::string text = metrics.Scrape(ExpositionFormat::kText);
    for (const char* series : kContract) EXPECT_THAT(text, HasSubstr(absl::StrCat("\n", series, " ")));
  }
  const std::string text = metrics.Scrape(ExpositionFormat::kText);
  EXPECT_THAT(text, HasSubstr("\nyoio_engine_healthy 1\n"));
  EXPECT_THAT(text, HasSubstr("\nyoio_requests_waiting 2\n"));
  EXPECT_THAT(text, HasSubstr("\nyoio_build_info{version=\"1\",model=\"tiny\",revision="));
  EXPECT_THAT(text, HasSubstr("\n# TYPE yoio_model_load_seconds gauge\n"));
}

TEST(ServerMetricsTest, EngineThatFailedOrWentAway) {
  ScriptedEngine engine;
  ServerMetrics metrics({.version = "1", .model = "tiny"});
  metrics.SetEngine(&engine);
  engine.FailWith(absl::InternalError("gone"));
  EXPECT_THAT(metrics.Scrape(ExpositionFormat::kText), HasSubstr("\nyoio_engine_healthy 0\n"));
  metrics.SetEngine(nullptr);
  EXPECT_THAT(metrics.Scrape(ExpositionFormat::kText), HasSubstr("\nyoio_requests_running 0\n"));
}

TEST(ServerMetricsTest, NoSeriesTwice) {
  ScriptedEngine engine;
  ServerMetrics metrics({.version = "1", .model = "tiny", .spans = [] { return SpanCounts{.dropped = 7}; }});
  metrics.SetEngine(&engine);
  const std::string text = metrics.Scrape(ExpositionFormat::kText);
  EXPECT_THAT(text, HasSubstr("yoio_trace_spans_total{result=\"dropped\"} 7\n"));
  std::set<std::string> seen;
  for (const absl::string_view line : absl::StrSplit(text, '\n', absl::SkipEmpty())) {
    if (absl::StartsWith(line, "# HELP")) continue;
    const std::string series(line.substr(0, line.rfind(' ')));
    EXPECT_TRUE(seen.insert(series).second) << series;
  }
  EXPECT_GT(seen.size(), 1000u);
}

}  // namespace
}  // namespace yoio
