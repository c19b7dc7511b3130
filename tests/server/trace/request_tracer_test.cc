// Which requests are exported once it is known what came of them.
#include "server/trace/request_tracer.h"

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
using testing::ElementsAre;
using testing::IsEmpty;
using testing::SizeIs;

class RequestTracerTest : public testing::Test {
 protected:
  RequestTracerTest() {
    TraceOptions options;
    options.enabled = true;
    options.otlp.target = collector_.target();
    tracer_ = Tracer::Start(options, log_.logger).value();
    Watch(seconds(30));
  }

  void Watch(Duration slow) {
    observer_ = std::make_unique<RequestTracer>(*tracer_, &recorder_, ModelLabel{"tiny", "r1"}, slow);
  }

  // A request that took `took`, ended just now.
  static CallRecord Record(bool sampled, grpc::StatusCode code, Duration took = milliseconds(1)) {
    CallRecord record;
    record.method = "Generate";
    record.tenant = "t";
    record.trace.trace.fill(1);
    record.trace.span.fill(2);
    record.trace.sampled = sampled;
    record.ended = Clock::now();
    record.arrival = record.ended - took;
    record.code = code;
    return record;
  }

  // What has been exported.
  std::vector<std::string> Exported() {
    EXPECT_TRUE(tracer_->Flush(Clock::now() + seconds(20)));
    std::vector<std::string> names;
    for (const auto& request : collector_.requests()) {
      for (std::string& name : SpanNames(request)) names.push_back(std::move(name));
    }
    return names;
  }

  LogCapture log_;
  TestCollector collector_;
  FlightRecorder recorder_{1};
  std::unique_ptr<Tracer> tracer_;
  std::unique_ptr<RequestTracer> observer_;
};

TEST_F(RequestTracerTest, SampledRequestsAreExported) {
  observer_->Ended(Record(true, grpc::StatusCode::OK));
  EXPECT_THAT(Exported(), ElementsAre("text_completion tiny"));
}

TEST_F(RequestTracerTest, OthersAreNotUnlessTheyFailOrAreSlow) {
  observer_->Ended(Record(false, grpc::StatusCode::OK));
  observer_->Ended(Record(false, grpc::StatusCode::CANCELLED));
  CallRecord none = Record(true, grpc::StatusCode::INTERNAL);
  none.trace = {};
  observer_->Ended(none);
  EXPECT_THAT(Exported(), IsEmpty());
  observer_->Ended(Record(false, grpc::StatusCode::INTERNAL));
  EXPECT_THAT(Exported(), SizeIs(1));
  observer_->Ended(Record(false, grpc::StatusCode::OK, seconds(31)));
  EXPECT_THAT(Exported(), SizeIs(2));
}

TEST_F(RequestTracerTest, WithoutALimitNothingIsSlow) {
  Watch(Duration::zero());
  observer_->Ended(Record(false, grpc::StatusCode::OK, std::chrono::hours(1)));
  EXPECT_THAT(Exported(), IsEmpty());
}

TEST_F(RequestTracerTest, AnOutageDoesNotDrownTheCollector) {
  const CallRecord record = Record(false, grpc::StatusCode::UNAVAILABLE);
  for (int i = 0; i < 1000; ++i) observer_->Ended(record);
  EXPECT_THAT(Exported(), SizeIs(static_cast<size_t>(RequestTracer::kLateRate)));
}

TEST_F(RequestTracerTest, LateOnesBringTheirSlowestSteps) {
  CallRecord record = Record(false, grpc::StatusCode::INTERNAL, seconds(1));
  record.number = recorder_.Accepted("r", "t", record.trace, record.arrival);
  for (int64_t step = 0; step < 15; ++step) {
    StepFacts facts;
    facts.step = step;
    facts.begin = facts.submitted = record.arrival + milliseconds(10 * step);
    facts.requests = 1;
    const StepMember member{.request = record.number, .tokens = 1};
    recorder_.Planned(facts, {&member, 1});
    recorder_.Delivered(step, facts.begin + milliseconds(step % 8 + 1));
  }
  observer_->Ended(record);
  const std::vector<std::string> names = Exported();
  EXPECT_EQ(std::count(names.begin(), names.end(), "slow_step"), RequestTracer::kSlowestSteps);
}

}  // namespace
}  // namespace yoio
