// Batches, retries, and collectors that are slow, hang, refuse or are not there.
#include "server/trace/otlp_exporter.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <string>
#include <thread>

#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"
#include "server/version.h"
#include "tests/server/in_process.h"
#include "tests/server/trace/test_collector.h"

namespace yoio {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;

constexpr char kNobody[] = "127.0.0.1:1";  // nothing listens there

std::vector<Span> Named(const std::vector<std::string>& names) {
  std::vector<Span> spans;
  for (const std::string& name : names) {
    Span& span = spans.emplace_back();
    span.id = {.trace = {1}, .span = {2}, .sampled = true};
    span.name = name;
  }
  return spans;
}

TraceOptions OptionsFor(const std::string& target) {
  TraceOptions options;
  options.enabled = true;
  options.otlp.target = target;
  options.otlp.schedule_delay = seconds(60);
  options.resource = {{"service.name", "test"}};
  return options;
}

std::unique_ptr<OtlpExporter> StartFor(const TraceOptions& options, const LogCapture& log) {
  return OtlpExporter::Start(options, log.logger).value();
}

TimePoint In(Duration duration) { return Clock::now() + duration; }

// Blocks until the condition holds; false when it has not in 20 seconds.
template <typename Condition>
bool Eventually(Condition condition) {
  const TimePoint deadline = In(seconds(20));
  while (!condition() && Clock::now() < deadline) std::this_thread::sleep_for(milliseconds(2));
  return condition();
}

grpc::Status WithRetryInfo(grpc::StatusCode code, milliseconds delay) {
  google::rpc::RetryInfo info;
  info.mutable_retry_delay()->set_nanos(static_cast<int>(std::chrono::nanoseconds(delay).count()));
  google::rpc::Status status;
  status.set_code(code);
  status.add_details()->PackFrom(info);
  return {code, "later", status.SerializeAsString()};
}

TEST(OtlpExporterTest, SendsTheProcessAndItsSpans) {
  LogCapture log;
  TestCollector collector;
  TraceOptions options = OptionsFor(collector.target());
  options.otlp.headers = {{"authorization", "s3cret"}};
  options.otlp.gzip = true;
  const auto exporter = StartFor(options, log);
  exporter->Enqueue(Named({"a", "b"}));
  EXPECT_TRUE(exporter->Flush(In(seconds(20))));
  EXPECT_EQ(exporter->counts().exported, 2);
  ASSERT_EQ(collector.requests().size(), 1u);
  const TestCollector::Request request = collector.requests()[0];
  EXPECT_THAT(SpanNames(request), ElementsAre("a", "b"));
  EXPECT_EQ(request.resource_spans(0).resource().attributes(0).value().string_value(), "test");
  EXPECT_EQ(request.resource_spans(0).scope_spans(0).scope().name(), "yoio");
  EXPECT_EQ(request.resource_spans(0).scope_spans(0).scope().version(), kVersion);
  const auto metadata = collector.metadata()[0];
  EXPECT_EQ(metadata.find("authorization")->second, "s3cret");
  EXPECT_THAT(metadata.find("user-agent")->second, HasSubstr("OTel-OTLP-Exporter-yoio/"));
  EXPECT_EQ(log.text(), "");
}

TEST(OtlpExporterTest, AFullBatchWaitsForNothing) {
  LogCapture log;
  TestCollector collector;
  TraceOptions options = OptionsFor(collector.target());
  options.otlp.max_batch = 3;
  const auto exporter = StartFor(options, log);
  exporter->Enqueue(Named({"a", "b"}));
  exporter->Enqueue(Named({"c", "d"}));
  ASSERT_TRUE(collector.WaitForCalls(1));
  EXPECT_THAT(SpanNames(collector.requests()[0]), ElementsAre("a", "b", "c"));
  EXPECT_TRUE(exporter->Flush(In(seconds(20))));
  EXPECT_THAT(SpanNames(collector.requests()[1]), ElementsAre("d"));
}

TEST(OtlpExporterTest, ASmallBatchWaitsForItsDelay) {
  LogCapture log;
  TestCollector collector;
  TraceOptions options = OptionsFor(collector.target());
  options.otlp.schedule_delay = milliseconds(50);
  const auto exporter = StartFor(options, log);
  const TimePoint start = Clock::now();
  exporter->Enqueue(Named({"a"}));
  ASSERT_TRUE(collector.WaitForCalls(1));
  EXPECT_GE(Clock::now() - start, milliseconds(50));
}

TEST(OtlpExporterTest, ALargeBatchIsSentInPartsThatCollectorsTake) {
  LogCapture log;
  TestCollector collector;
  const auto exporter = StartFor(OptionsFor(collector.target()), log);
  std::vector<Span> spans = Named({"a", "b", "c", "d", "e"});
  for (Span& span : spans) span.attributes = {{"large", std::string(1'200'000, 'x')}};
  exporter->Enqueue(std::move(spans));
  EXPECT_TRUE(exporter->Flush(In(seconds(20))));
  EXPECT_EQ(exporter->counts().exported, 5);
  ASSERT_EQ(collector.requests().size(), 3u);
  EXPECT_THAT(SpanNames(collector.requests()[0]), ElementsAre("a", "b"));
  EXPECT_THAT(SpanNames(collector.requests()[2]), ElementsAre("e"));
}

TEST(OtlpExporterTest, RetriesWhatMayPass) {
  LogCapture log;
  TestCollector collector([](int call, auto&, auto&) {
    if (call == 0) return WithRetryInfo(grpc::UNAVAILABLE, milliseconds(1));
    if (call == 1) return WithRetryInfo(grpc::RESOURCE_EXHAUSTED, milliseconds(1));
    return grpc::Status::OK;
  });
  const auto exporter = StartFor(OptionsFor(collector.target()), log);
  exporter->Enqueue(Named({"a"}));
  EXPECT_TRUE(exporter->Flush(In(seconds(20))));
  EXPECT_EQ(exporter->counts().exported, 1);
  EXPECT_EQ(exporter->counts().failed, 0);
  EXPECT_EQ(collector.requests().size(), 3u);
  EXPECT_THAT(log.text(), HasSubstr("\"event\":\"spans are not exported\",\"code\":\"UNAVAILABLE\""));
  EXPECT_THAT(log.text(), HasSubstr("\"event\":\"spans are exported again\""));
}

TEST(OtlpExporterTest, RetriesByItselfAfterAPause) {
  LogCapture log;
  TestCollector collector(
      [](int call, auto&, auto&) { return call == 0 ? grpc::Status(grpc::ABORTED, "") : grpc::Status::OK; });
  const auto exporter = StartFor(OptionsFor(collector.target()), log);
  const TimePoint start = Clock::now();
  exporter->Enqueue(Named({"a"}));
  EXPECT_TRUE(exporter->Flush(In(seconds(20))));
  EXPECT_GE(Clock::now() - start, milliseconds(500));
  EXPECT_EQ(exporter->counts().exported, 1);
}

TEST(OtlpExporterTest, GivesUpAtOnceWhereARetryWouldNotHelp) {
  for (const grpc::StatusCode code :
       {grpc::INVALID_ARGUMENT, grpc::UNAUTHENTICATED, grpc::UNIMPLEMENTED, grpc::RESOURCE_EXHAUSTED}) {
    LogCapture log;
    TestCollector collector(
        [code](int, auto&, auto&) { return grpc::Status(code, "the key s3cret is wrong"); });
    const auto exporter = StartFor(OptionsFor(collector.target()), log);
    exporter->Enqueue(Named({"a", "b"}));
    EXPECT_TRUE(exporter->Flush(In(seconds(20))));
    EXPECT_EQ(exporter->counts().exported, 0);
    EXPECT_EQ(exporter->counts().failed, 2);
    EXPECT_EQ(collector.requests().size(), 1u);
    EXPECT_THAT(log.text(), Not(HasSubstr("s3cret")));
  }
}

TEST(OtlpExporterTest, CountsWhatWasPartlyRefused) {
  LogCapture log;
  TestCollector collector([](int, auto&, TestCollector::Response& response) {
    response.mutable_partial_success()->set_rejected_spans(2);
    return grpc::Status::OK;
  });
  const auto exporter = StartFor(OptionsFor(collector.target()), log);
  exporter->Enqueue(Named({"a", "b", "c"}));
  EXPECT_TRUE(exporter->Flush(In(seconds(20))));
  EXPECT_EQ(exporter->counts().exported, 1);
  EXPECT_EQ(exporter->counts().failed, 2);
}

TEST(OtlpExporterTest, NoCollectorCostsSpansAfterTheTimeout) {
  LogCapture log;
  TraceOptions options = OptionsFor(kNobody);
  options.otlp.timeout = milliseconds(100);
  const auto exporter = StartFor(options, log);
  exporter->Enqueue(Named({"a"}));
  EXPECT_TRUE(exporter->Flush(In(seconds(20))));
  EXPECT_EQ(exporter->counts().failed, 1);
  exporter->Enqueue(Named({"b"}));
  EXPECT_TRUE(exporter->Flush(In(seconds(20))));
  EXPECT_EQ(exporter->counts().failed, 2);
  const std::string text = log.text();
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 1) << text;  // said once
}

// Hangs until it is let go, or the caller is gone.
struct Hanging {
  std::atomic<bool> go{false};
  TestCollector collector{[this](int, grpc::ServerContext& context, auto&) {
    while (!go && !context.IsCancelled()) std::this_thread::sleep_for(milliseconds(1));
    return grpc::Status::OK;
  }};
};

TEST(OtlpExporterTest, ACollectorThatHangsCostsWhatFindsNoRoom) {
  LogCapture log;
  Hanging hanging;
  TraceOptions options = OptionsFor(hanging.collector.target());
  options.otlp.max_batch = 2;
  options.otlp.max_queue = 5;
  const auto exporter = StartFor(options, log);
  exporter->Enqueue(Named({"1", "2"}));
  ASSERT_TRUE(hanging.collector.WaitForCalls(1));  // and hangs
  exporter->Enqueue(Named({"3", "4", "5"}));
  exporter->Enqueue(Named({"6", "7", "8"}));
  exporter->Enqueue(Named({"9"}));
  EXPECT_EQ(exporter->counts().dropped, 2);
  hanging.go = true;
  EXPECT_TRUE(exporter->Flush(In(seconds(20))));
  EXPECT_EQ(exporter->counts().exported, 7);
  EXPECT_EQ(exporter->counts().dropped, 2);
}

TEST(OtlpExporterTest, AHangingCallEndsAtItsTimeout) {
  LogCapture log;
  Hanging hanging;
  TraceOptions options = OptionsFor(hanging.collector.target());
  options.otlp.timeout = milliseconds(100);
  const auto exporter = StartFor(options, log);
  exporter->Enqueue(Named({"a"}));
  EXPECT_TRUE(exporter->Flush(In(seconds(20))));
  EXPECT_EQ(exporter->counts().failed, 1);
}

TEST(OtlpExporterTest, NeitherFlushNorTheEndWaitsForACollectorThatHangs) {
  LogCapture log;
  Hanging hanging;
  TraceOptions options = OptionsFor(hanging.collector.target());
  options.otlp.max_batch = 1;
  options.otlp.timeout = seconds(60);
  auto exporter = StartFor(options, log);
  exporter->Enqueue(Named({"a", "b"}));
  ASSERT_TRUE(hanging.collector.WaitForCalls(1));
  const TimePoint start = Clock::now();
  EXPECT_FALSE(exporter->Flush(In(milliseconds(50))));
  exporter.reset();
  EXPECT_LT(Clock::now() - start, seconds(20));
}

TEST(OtlpExporterTest, AnEndDuringAPauseIsPrompt) {
  LogCapture log;
  TestCollector collector(
      [](int, auto&, auto&) { return WithRetryInfo(grpc::UNAVAILABLE, milliseconds(900)); });
  TraceOptions options = OptionsFor(collector.target());
  options.otlp.timeout = seconds(600);
  auto exporter = StartFor(options, log);
  exporter->Enqueue(Named({"a"}));
  EXPECT_FALSE(exporter->Flush(In(milliseconds(100))));
  const TimePoint start = Clock::now();
  exporter.reset();
  EXPECT_LT(Clock::now() - start, seconds(20));
}

TEST(OtlpExporterTest, ACollectorThatComesBackIsFound) {
  LogCapture log;
  auto first = std::make_unique<TestCollector>();
  const int port = first->port();
  const auto exporter = StartFor(OptionsFor(first->target()), log);
  exporter->Enqueue(Named({"a"}));
  EXPECT_TRUE(exporter->Flush(In(seconds(20))));
  first.reset();
  exporter->Enqueue(Named({"b"}));
  EXPECT_FALSE(exporter->Flush(In(milliseconds(100))));
  TestCollector second([](int, auto&, auto&) { return grpc::Status::OK; }, port);
  EXPECT_TRUE(exporter->Flush(In(seconds(20))));
  EXPECT_EQ(exporter->counts().exported, 2);
}

TEST(OtlpExporterTest, ManyThreadsLoseNothingUncounted) {
  LogCapture log;
  TestCollector collector;
  TraceOptions options = OptionsFor(collector.target());
  options.otlp.max_queue = 100;
  options.otlp.max_batch = 16;
  const auto exporter = StartFor(options, log);
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < 500; ++i) exporter->Enqueue(Named({"a", "b"}));
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_TRUE(exporter->Flush(In(seconds(20))));
  const ExportCounts counts = exporter->counts();
  EXPECT_EQ(counts.exported + counts.dropped + counts.failed, 4000);
  size_t received = 0;
  for (const auto& request : collector.requests()) received += SpanNames(request).size();
  EXPECT_EQ(received, static_cast<size_t>(counts.exported));
}

TEST(OtlpExporterTest, FilesOfTlsAreReadAtStart) {
  LogCapture log;
  TraceOptions options = OptionsFor("localhost:4317");
  options.otlp.tls = true;
  options.otlp.ca_file = "/nowhere/ca.pem";
  const absl::Status status = OtlpExporter::Start(options, log.logger).status();
  EXPECT_TRUE(absl::IsNotFound(status)) << status;
  EXPECT_THAT(std::string(status.message()),
              testing::AllOf(HasSubstr("OTEL_EXPORTER_OTLP_CERTIFICATE"), HasSubstr("/nowhere/ca.pem")));
}

}  // namespace
}  // namespace yoio
