// Ids and decisions for calls.
#include "server/trace/tracer.h"

#include <gtest/gtest.h>

#include <string>

#include "tests/server/in_process.h"
#include "tests/server/trace/test_collector.h"

namespace yoio {
namespace {

const std::string kParent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0";

class TracerTest : public testing::Test {
 protected:
  std::unique_ptr<Tracer> Start(const SamplerOptions& sampler) {
    TraceOptions options;
    options.enabled = true;
    options.sampler = sampler;
    options.otlp.target = collector_.target();
    return Tracer::Start(options, log_.logger).value();
  }

  LogCapture log_;
  TestCollector collector_;
};

TEST_F(TracerTest, DisabledItDoesNothing) {
  Tracer tracer;
  EXPECT_FALSE(tracer.enabled());
  const std::string sampled = kParent + "1";
  const CallTrace call = tracer.StartCall(CallMetadata{{"traceparent", sampled}}, "t");
  EXPECT_FALSE(call.id.valid());
  EXPECT_TRUE(call.trace_state.empty());
  EXPECT_FALSE(tracer.StartTrace().valid());
  tracer.Export(std::vector<Span>(3));
  EXPECT_TRUE(tracer.Flush(Clock::now()));
  EXPECT_EQ(tracer.counts().dropped, 0);
  EXPECT_FALSE(Tracer::Start({}, log_.logger).value()->enabled());
}

TEST_F(TracerTest, ACallContinuesItsCallersTrace) {
  const auto tracer = Start({.parent_based = true, .ratio = 0});
  const std::string sampled = kParent + "1";
  const CallTrace call =
      tracer->StartCall(CallMetadata{{"traceparent", sampled}, {"tracestate", "a=1"}}, "t");
  const TraceId parent = *ParseTraceparent(sampled);
  EXPECT_EQ(call.id.trace, parent.trace);
  EXPECT_EQ(call.parent_span, parent.span);
  EXPECT_NE(call.id.span, parent.span);
  EXPECT_NE(call.id.span, (std::array<uint8_t, 8>{}));
  EXPECT_TRUE(call.id.sampled);
  EXPECT_EQ(call.trace_state, "a=1");
  const std::string unsampled = kParent + "0";
  EXPECT_FALSE(tracer->StartCall(CallMetadata{{"traceparent", unsampled}}, "t").id.sampled);
}

TEST_F(TracerTest, ACallWithoutACallersTraceBeginsOne) {
  const auto tracer = Start({.parent_based = true, .ratio = 0});
  const CallTrace call = tracer->StartCall(CallMetadata{{"traceparent", "malformed"}}, "t");
  EXPECT_TRUE(call.id.valid());
  EXPECT_EQ(call.parent_span, (std::array<uint8_t, 8>{}));
  EXPECT_FALSE(call.id.sampled);
  EXPECT_NE(tracer->StartTrace().trace, call.id.trace);
  EXPECT_NE(tracer->NewSpanId(), tracer->NewSpanId());
  EXPECT_TRUE(Start({.ratio = 1})->StartCall(CallMetadata{}, "t").id.sampled);
  EXPECT_TRUE(Start({.ratio = 1})->StartTrace().sampled);
}

TEST_F(TracerTest, ExportsWhatItIsGiven) {
  const auto tracer = Start({.ratio = 0});
  Span span;
  span.id = tracer->StartTrace();
  span.name = "late";
  tracer->Export({span});
  EXPECT_TRUE(tracer->Flush(Clock::now() + std::chrono::seconds(20)));
  EXPECT_EQ(tracer->counts().exported, 1);
  EXPECT_EQ(SpanNames(collector_.requests().at(0)), std::vector<std::string>{"late"});
}

// gRPC keeps some metadata to itself: what callers send must reach a service.
TEST_F(TracerTest, WhatCallersSendReachesTheService) {
  const auto channel = grpc::CreateChannel(collector_.target(), grpc::InsecureChannelCredentials());
  const auto stub = opentelemetry::proto::collector::trace::v1::TraceService::NewStub(channel);
  grpc::ClientContext context;
  const std::string binary =
      std::string(2, '\0') + std::string(16, 'a') + "\1" + std::string(8, 'b') + "\2\1";
  context.AddMetadata("traceparent", kParent + "1");
  context.AddMetadata("tracestate", "a=1");
  context.AddMetadata("grpc-trace-bin", binary);
  TestCollector::Response response;
  ASSERT_TRUE(stub->Export(&context, {}, &response).ok());
  const auto metadata = collector_.metadata().at(0);
  EXPECT_EQ(metadata.count("traceparent"), 1u);
  EXPECT_EQ(metadata.count("tracestate"), 1u);
  ASSERT_EQ(metadata.count("grpc-trace-bin"), 1u);
  EXPECT_TRUE(ParseGrpcTraceBin(metadata.find("grpc-trace-bin")->second));
}

}  // namespace
}  // namespace yoio
