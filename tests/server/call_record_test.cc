// What observers are told of calls, over a real gRPC connection.
#include "server/call_record.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <memory>
#include <thread>
#include <vector>

#include "engine/errors.h"
#include "tests/server/in_process.h"

namespace yoio {
namespace {

// Keeps what it is told. Thread-safe.
class Records : public CallObserver {
 public:
  void Ended(const CallRecord& record) override {
    MutexLock lock(mutex_);
    records_.push_back(record);
  }
  std::vector<CallRecord> all() const {
    MutexLock lock(mutex_);
    return records_;
  }

 private:
  mutable Mutex mutex_;
  std::vector<CallRecord> records_ ABSL_GUARDED_BY(mutex_);
};

class CallRecordTest : public testing::Test {
 protected:
  CallRecordTest() { server_.core.observers.push_back(&records_); }

  // Starts a call of Generate; the engine's part is the test's.
  std::shared_ptr<ScriptedRequest> Start() {
    v1::GenerateRequest request;
    request.set_text("a prompt");
    request.set_request_id("r");
    reader_ = server_.stub->Generate(&context_, request);
    return server_.engine.WaitForRequest();
  }

  // Reads to the end. The only record there is then.
  CallRecord Finish() {
    v1::GenerateResponse response;
    while (reader_->Read(&response)) {
      if (response.has_summary()) summary_ = response.summary();
    }
    status_ = reader_->Finish();
    const std::vector<CallRecord> all = records_.all();
    EXPECT_EQ(all.size(), 1u);
    return all.at(0);
  }

  Records records_;
  InProcess server_;
  grpc::ClientContext context_;
  std::unique_ptr<grpc::ClientReader<v1::GenerateResponse>> reader_;
  v1::Summary summary_;
  grpc::Status status_;
};

Duration SumOf(const Timing& timing) {
  return timing.tokenize + timing.queue + timing.prefill + timing.decode + timing.deliver;
}

TEST_F(CallRecordTest, TellsOfACallThatEndedWell) {
  const auto request = Start();
  AcceptedEvent accepted{
      .request_id = "r", .number = 9, .prompt_tokens = 3, .sampling = {}, .max_tokens = 16, .n = 1};
  accepted.sampling.seed = 7;
  accepted.sampling.logit_bias = {{5, 1.0f}};
  request->Send(accepted);
  request->SendText(0, "hello", 2);
  request->FinishChoice(0, FinishReason::kEos);
  request->Complete(3, 2);
  const CallRecord record = Finish();
  EXPECT_EQ(record.method, "Generate");
  EXPECT_EQ(record.tenant, "default");
  EXPECT_EQ(record.request_id, "r");
  EXPECT_EQ(record.number, 9u);
  EXPECT_EQ(record.code, grpc::StatusCode::OK);
  EXPECT_TRUE(record.accepted);
  EXPECT_EQ(record.tokens_sent, 2);
  EXPECT_EQ(record.finish_reason, FinishReason::kEos);
  ASSERT_TRUE(record.request.has_value());
  EXPECT_EQ(record.request->sampling.seed, 7u);
  EXPECT_TRUE(record.request->sampling.logit_bias.empty());  // ids of tokens
  EXPECT_FALSE(record.trace.valid());
  EXPECT_FALSE(record.deadline_left.has_value());
  EXPECT_LE(record.arrival, record.first_sent);
  EXPECT_LE(record.first_sent, record.ended);
}

TEST_F(CallRecordTest, WhatFollowsTheLastTokenIsDelivery) {
  const auto request = Start();
  request->Accept();
  std::this_thread::sleep_for(std::chrono::milliseconds(10));
  request->FinishChoice(0);
  request->Complete();  // 2 ms in the queue
  const CallRecord record = Finish();
  ASSERT_TRUE(record.summary.has_value());
  const Timing& timing = record.summary->timing;
  EXPECT_EQ(timing.total, record.ended - record.arrival);
  EXPECT_EQ(SumOf(timing), timing.total);
  EXPECT_GE(timing.deliver, std::chrono::milliseconds(8));
  EXPECT_GE(summary_.timing().deliver().nanos(), 8'000'000);
  EXPECT_LE(summary_.timing().total().nanos(), timing.total.count());  // made before the stream was closed
}

TEST_F(CallRecordTest, TellsHowFarAFailureCame) {
  context_.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(30));
  const auto request = Start();
  request->Accept();
  request->SendText(0, "abc", 3);
  SummaryEvent so_far;
  so_far.timing.decode = std::chrono::microseconds(1);
  request->End(WithReason(absl::StatusCode::kAborted, kReasonSlowReader, "slow"), so_far);
  const CallRecord record = Finish();
  EXPECT_EQ(record.code, grpc::StatusCode::ABORTED);
  EXPECT_EQ(record.reason, "SLOW_READER");
  EXPECT_EQ(record.tokens_sent, 3);
  EXPECT_FALSE(record.finish_reason.has_value());
  ASSERT_TRUE(record.summary.has_value());
  EXPECT_EQ(SumOf(record.summary->timing), record.summary->timing.total);
  ASSERT_TRUE(record.deadline_left.has_value());
  EXPECT_GT(*record.deadline_left, Duration::zero());
}

TEST_F(CallRecordTest, TellsOfARefusalToo) {
  server_.engine.RefuseWith(WithReason(absl::StatusCode::kResourceExhausted, kReasonQueueFull, "full"));
  v1::GenerateRequest request;
  request.set_text("a prompt");
  reader_ = server_.stub->Generate(&context_, request);
  const CallRecord record = Finish();
  EXPECT_EQ(record.code, grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_EQ(record.reason, "QUEUE_FULL");
  EXPECT_FALSE(record.accepted);
  EXPECT_EQ(record.number, 0u);
  EXPECT_FALSE(record.request.has_value());
  EXPECT_FALSE(record.summary.has_value());
}

}  // namespace
}  // namespace yoio
