// Which steps are exported.
#include "server/trace/step_tracer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "tests/server/in_process.h"
#include "tests/server/trace/test_collector.h"

namespace yoio {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

class StepTracerTest : public testing::Test {
 protected:
  StepTracerTest() {
    TraceOptions options;
    options.enabled = true;
    options.otlp.target = collector_.target();
    tracer_ = Tracer::Start(options, log_.logger).value();
    now_ = Clock::now();
  }

  RequestNumber Accept(bool sampled) {
    TraceId trace;
    trace.trace.fill(3);
    trace.span.fill(4);
    trace.sampled = sampled;
    return recorder_.Accepted("r", "t", trace, now_);
  }

  void Run(int64_t step, RequestNumber request, bool ends = true) {
    StepFacts facts;
    facts.step = step;
    facts.begin = facts.submitted = now_;
    facts.requests = 1;
    const StepMember member{.request = request, .tokens = 1};
    recorder_.Planned(facts, {&member, 1});
    if (ends) recorder_.Delivered(step, now_ += milliseconds(1));
  }

  // The steps that a tracer exports whose life falls in now.
  std::vector<int64_t> Exported(double ratio) {
    { const StepTracer steps(*tracer_, recorder_, ratio); }
    EXPECT_TRUE(tracer_->Flush(Clock::now() + seconds(20)));
    std::vector<int64_t> numbers;
    for (const auto& request : collector_.requests()) {
      for (const auto& span : request.resource_spans(0).scope_spans(0).spans()) {
        if (span.name() != "step") continue;
        EXPECT_EQ(span.links_size(), 1);
        for (const auto& attribute : span.attributes()) {
          if (attribute.key() == "yoio.step") numbers.push_back(attribute.value().int_value());
        }
      }
    }
    return numbers;
  }

  LogCapture log_;
  TestCollector collector_;
  FlightRecorder recorder_{1};
  TimePoint now_{};
  std::unique_ptr<Tracer> tracer_;
};

TEST_F(StepTracerTest, StepsWithASampledRequestThatHaveEnded) {
  const RequestNumber sampled = Accept(true), other = Accept(false);
  Run(0, other);
  Run(1, sampled);
  Run(2, sampled);
  Run(3, other);
  Run(4, sampled, /*ends=*/false);
  EXPECT_THAT(Exported(1), testing::ElementsAre(1, 2));
}

TEST_F(StepTracerTest, APartOfThem) {
  const RequestNumber sampled = Accept(true);
  for (int64_t step = 0; step < 1000; ++step) Run(step, sampled);
  const std::vector<int64_t> tenth = Exported(0.1);
  EXPECT_GT(tenth.size(), 60u);  // chosen by their numbers: always the same
  EXPECT_LT(tenth.size(), 140u);
}

TEST_F(StepTracerTest, WhatIsForgottenIsPassedOver) {
  const RequestNumber sampled = Accept(true);
  const int64_t steps = FlightRecorder::kSteps + 100;
  for (int64_t step = 0; step < steps; ++step) Run(step, sampled);
  const std::vector<int64_t> exported = Exported(0.05);
  ASSERT_FALSE(exported.empty());
  EXPECT_GE(*std::min_element(exported.begin(), exported.end()), 100);
}

}  // namespace
}  // namespace yoio
