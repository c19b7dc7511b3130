// Runs of the load generator, and `yoio bench`, against a server whose answers the test writes.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <thread>
#include <vector>

#include "base/mutex.h"
#include "client/channel.h"
#include "client/load/runner.h"
#include "tests/client/run_command.h"
#include "tests/client/scripted_server.h"

namespace yoio {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::StartsWith;

using Writer = grpc::ServerWriter<v1::GenerateResponse>;

// Writes an event with `count` ids. False: the call has ended.
bool WriteTokens(Writer* writer, int count) {
  v1::GenerateResponse event;
  for (int i = 0; i < count; ++i) event.mutable_delta()->add_ids(i);
  return writer->Write(event);
}

// Answers as asked: `accepted`, all tokens in messages of `merged`, `summary`.
grpc::Status Answer(const v1::GenerateRequest& request, Writer* writer, int merged = 1) {
  v1::GenerateResponse event;
  event.mutable_accepted()->set_request_id("r");
  writer->Write(event);
  for (int left = request.stop().max_tokens(); left > 0; left -= merged) {
    if (!WriteTokens(writer, std::min(left, merged))) return grpc::Status::CANCELLED;
  }
  event.mutable_summary();
  writer->Write(event);
  return grpc::Status::OK;
}

class LoadRunTest : public testing::Test {
 protected:
  LoadRunTest() {
    workload_.prompt_lengths = *Lengths::Parse("20:60");
    workload_.output_lengths = *Lengths::Parse("6");
    workload_.vocab_size = 1000;
    workload_.max_model_len = 128;
    workload_.seed = 5;
    load_.concurrency = 4;
    load_.requests = 30;
    load_.stream.slow_for = milliseconds(20);
    server_.generate = [this](grpc::ServerContext* context, const auto& request, Writer* writer) {
      Note(request);
      const int now = running_.fetch_add(1) + 1;
      int most = most_running_.load();
      while (now > most && !most_running_.compare_exchange_weak(most, now)) continue;
      const grpc::Status status = answer_(context, request, writer);
      running_.fetch_sub(1);
      return status;
    };
    server_.get_model_info = [](const auto&, v1::GetModelInfoResponse* model) {
      model->set_vocab_size(1000);
      model->set_max_model_len(128);
      return grpc::Status::OK;
    };
  }

  void Note(const v1::GenerateRequest& request) {
    MutexLock lock(mutex_);
    requests_.push_back(request);
  }

  LoadResult Run() {
    const Workload workload(workload_);
    LoadChannels channels;
    for (int i = 0; i < 2; ++i) {
      channels.in_turn.push_back(OpenChannel({.server = server_.address(), .own_connection = true}));
    }
    channels.slow_readers =
        OpenChannel({.server = server_.address(), .own_connection = true, .read_ahead_bytes = 1024});
    Runner runner(channels, workload, load_);
    return runner.Run(cancellation_, [](Duration, const auto&, int64_t) {});
  }

  std::vector<v1::GenerateRequest> Requests() {
    MutexLock lock(mutex_);
    return std::exchange(requests_, {});
  }

  size_t Seen() {
    MutexLock lock(mutex_);
    return requests_.size();
  }

  // Makes an open loop of `rate` requests a second.
  void SetRate(double rate) {
    load_.concurrency = 0;
    load_.rate = RateOptions{rate, rate, {}, false};
  }

  WorkloadOptions workload_;
  LoadOptions load_;
  Cancellation cancellation_;
  std::function<grpc::Status(grpc::ServerContext*, const v1::GenerateRequest&, Writer*)> answer_ =
      [](auto*, const auto& request, Writer* writer) { return Answer(request, writer); };
  std::atomic<int> running_{0}, most_running_{0};
  Mutex mutex_;
  std::vector<v1::GenerateRequest> requests_ ABSL_GUARDED_BY(mutex_);
  ScriptedServer server_;  // last: its handlers use what is above
};

TEST_F(LoadRunTest, ClosedLoopSendsExactlyWhatWasAsked) {
  load_.request.mutable_stop()->set_ignore_eos(true);
  const LoadResult result = Run();
  EXPECT_EQ(result.sent, 30);
  EXPECT_EQ(result.completed, 30);
  EXPECT_EQ(result.failed, 0);
  EXPECT_EQ(result.wrong_length, 0);
  EXPECT_LE(result.peak_live, 4);
  EXPECT_EQ(result.all.ttft.count, 30);
  EXPECT_EQ(result.all.itl.count, 30 * 5);
  EXPECT_EQ(result.all.e2e.count, 30);
  EXPECT_EQ(result.tokens_per_message, 1);
  EXPECT_LE(most_running_, 4);
  const std::vector<v1::GenerateRequest> requests = Requests();
  ASSERT_EQ(requests.size(), 30);
  for (const v1::GenerateRequest& request : requests) {
    EXPECT_EQ(request.stop().max_tokens(), 6);
    EXPECT_TRUE(request.stop().ignore_eos());
    EXPECT_GE(request.token_ids().ids_size(), 20);
    EXPECT_LE(request.token_ids().ids_size(), 60);
  }
}

TEST_F(LoadRunTest, TheSameSeedSendsTheSameRequests) {
  const auto sorted = [this] {
    std::vector<std::string> prompts;
    for (const auto& request : Requests()) prompts.push_back(request.SerializeAsString());
    std::sort(prompts.begin(), prompts.end());
    return prompts;
  };
  Run();
  const std::vector<std::string> first = sorted();
  Run();
  EXPECT_EQ(sorted(), first);
  workload_.seed = 6;
  Run();
  EXPECT_NE(sorted(), first);
}

TEST_F(LoadRunTest, MergedTokensCountAsOneMessage) {
  answer_ = [](auto*, const auto& request, Writer* writer) { return Answer(request, writer, 4); };
  const LoadResult result = Run();
  EXPECT_EQ(result.completed, 30);
  EXPECT_EQ(result.wrong_length, 0);
  EXPECT_EQ(result.all.itl.count, 30);
  EXPECT_EQ(result.tokens_per_message, 3);
}

TEST_F(LoadRunTest, ShortAnswersAreNoticed) {
  answer_ = [](auto*, auto& request, Writer* writer) {
    WriteTokens(writer, request.stop().max_tokens() - 1);
    return grpc::Status::OK;
  };
  const LoadResult result = Run();
  EXPECT_EQ(result.wrong_length, 30);
  EXPECT_EQ(result.warnings.size(), 1);
}

TEST_F(LoadRunTest, CancelledRequestsAreNoErrors) {
  // Answers all but the last token, then waits for the end of the call.
  answer_ = [](grpc::ServerContext* context, const auto& request, Writer* writer) {
    for (int i = 1; i < request.stop().max_tokens(); ++i) WriteTokens(writer, 1);
    while (!context->IsCancelled()) std::this_thread::sleep_for(milliseconds(1));
    return grpc::Status::CANCELLED;
  };
  workload_.injections[static_cast<int>(Injection::kCancel)] = 1;
  for (const bool timed : {false, true}) {
    if (timed) load_.stream.cancel_within = milliseconds(30);
    const LoadResult result = Run();
    EXPECT_EQ(result.cancels.sent, 30);
    EXPECT_EQ(result.cancels.happened, 30);
    EXPECT_EQ(result.failed, 0);
    EXPECT_EQ(result.all.e2e.count, 0);
  }
}

TEST_F(LoadRunTest, ShortDeadlinesExpire) {
  answer_ = [](grpc::ServerContext* context, const auto&, Writer*) {
    while (!context->IsCancelled()) std::this_thread::sleep_for(milliseconds(1));
    return grpc::Status::CANCELLED;
  };
  workload_.injections[static_cast<int>(Injection::kExpire)] = 1;
  load_.stream.expire_within = milliseconds(20);
  const LoadResult result = Run();
  EXPECT_EQ(result.expiries.happened, 30);
  EXPECT_EQ(result.failed, 0);
}

TEST_F(LoadRunTest, SlowReadersTakeTheirTimeAndGetEverything) {
  workload_.injections[static_cast<int>(Injection::kSlowReader)] = 1;
  const TimePoint start = Clock::now();
  const LoadResult result = Run();
  EXPECT_EQ(result.slow_readers.completed, 30);
  EXPECT_EQ(result.wrong_length, 0);
  EXPECT_EQ(result.failed, 0);
  // 15 stop for 20 ms, 15 wait 6 times 2 ms; four at a time.
  EXPECT_GE(Clock::now() - start, milliseconds((15 * 20 + 15 * 12) / 4));
}

TEST_F(LoadRunTest, AnOpenLoopDoesNotWaitForAStalledServer) {
  std::atomic<bool> stalled{true};
  answer_ = [&](grpc::ServerContext* context, const auto& request, Writer* writer) {
    while (stalled && !context->IsCancelled()) std::this_thread::sleep_for(milliseconds(1));
    return Answer(request, writer);
  };
  SetRate(200);
  load_.requests = 20;
  std::thread release([&] {
    while (running_ < 20) std::this_thread::sleep_for(milliseconds(1));
    std::this_thread::sleep_for(milliseconds(100));
    stalled = false;
  });
  const LoadResult result = Run();
  release.join();
  EXPECT_EQ(result.completed, 20);
  EXPECT_EQ(result.peak_live, 20);
  // The first was due 95 ms before the last, and all of them waited for 100 ms more.
  EXPECT_GE(result.all.ttft.max, 0.195);
  EXPECT_GE(result.all.ttft.p50, 0.100);
}

TEST_F(LoadRunTest, CallsThatWaitForAConnectionAreNoticed) {
  load_.max_concurrent_streams = 1;
  load_.concurrency = 8;
  answer_ = [this](auto*, const auto& request, Writer* writer) {
    while (running_ < 8 && Seen() < 30) std::this_thread::sleep_for(milliseconds(1));
    return Answer(request, writer);
  };
  const LoadResult result = Run();
  EXPECT_EQ(result.completed, 30);
  ASSERT_EQ(result.warnings.size(), 1);
  EXPECT_THAT(result.warnings[0], HasSubstr("8 requests at a time over connections that take 2"));
}

TEST_F(LoadRunTest, WhatTheWarmUpSendsIsNotMeasured) {
  SetRate(100);
  load_.requests = 10;
  load_.warm_up = milliseconds(200);
  const LoadResult result = Run();
  EXPECT_EQ(result.sent, 10);
  EXPECT_EQ(Requests().size(), 30);
}

TEST_F(LoadRunTest, RejectionsHaveTheirOwnLatency) {
  answer_ = [](auto*, auto&, Writer*) {
    return RichStatus(grpc::StatusCode::RESOURCE_EXHAUSTED, "the queue is full", "QUEUE_FULL", {}, 1);
  };
  const LoadResult result = Run();
  EXPECT_EQ(result.completed, 0);
  EXPECT_EQ(result.rejected, 30);
  EXPECT_EQ(result.rejected_latency.count, 30);
  ASSERT_EQ(result.errors.size(), 1);
  EXPECT_EQ(result.errors[0].code, "RESOURCE_EXHAUSTED");
  EXPECT_EQ(result.errors[0].reason, "QUEUE_FULL");
  EXPECT_EQ(result.errors[0].count, 30);
}

TEST_F(LoadRunTest, TheEndOfTheRunCutsOffWhatStillRuns) {
  answer_ = [](grpc::ServerContext* context, const auto&, Writer*) {
    while (!context->IsCancelled()) std::this_thread::sleep_for(milliseconds(1));
    return grpc::Status::CANCELLED;
  };
  load_.requests = 0;
  load_.duration = milliseconds(400);
  load_.drain = Duration::zero();
  const LoadResult result = Run();
  EXPECT_EQ(result.sent, 4);
  EXPECT_EQ(result.cut_off, 4);
  EXPECT_EQ(result.failed, 0);
  EXPECT_NEAR(result.seconds, 0.4, 1e-9);
}

TEST_F(LoadRunTest, CancellationEndsARun) {
  load_.requests = 1'000'000'000;
  std::thread interrupt([this] {
    while (running_ == 0) std::this_thread::sleep_for(milliseconds(1));
    cancellation_.Cancel();
  });
  const LoadResult result = Run();
  interrupt.join();
  EXPECT_GT(result.sent, 0);
  EXPECT_EQ(result.failed, 0);
}

TEST_F(LoadRunTest, ATraceIsSentOnceAtItsTimes) {
  workload_.trace = *ParseTrace("0,10,2\n0.05,20,3\n0.15,30,4\n");
  load_.concurrency = 0;
  load_.requests = 0;
  load_.trace_times = true;
  const TimePoint start = Clock::now();
  const LoadResult result = Run();
  EXPECT_GE(Clock::now() - start, milliseconds(150));
  EXPECT_EQ(result.completed, 3);
  std::vector<int> lengths;
  for (const auto& request : Requests()) lengths.push_back(request.token_ids().ids_size());
  EXPECT_THAT(lengths, ElementsAre(10, 20, 30));
}

class BenchCommandTest : public LoadRunTest {
 protected:
  CommandResult Bench(std::vector<std::string> arguments) {
    arguments.insert(arguments.begin(), {YOIO_BINARY, "bench", "--server", server_.address()});
    return RunCommand(arguments);
  }
};

TEST_F(BenchCommandTest, PrintsATable) {
  const CommandResult result = Bench({"--concurrency", "2", "--requests", "5", "--prompt-tokens", "10:1,20:1",
                                      "--output-tokens", "3", "--cancel", "0.2"});
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_EQ(result.err, "");
  EXPECT_THAT(result.out, HasSubstr("closed loop, 2 at a time"));
  EXPECT_THAT(result.out, HasSubstr("time to first token"));
  EXPECT_THAT(result.out, HasSubstr("prompt 20:"));
  EXPECT_EQ(Requests().size(), 5);
}

TEST_F(BenchCommandTest, ASweepPrintsALineForEachRunAndDrawsThem) {
  const std::string plot = testing::TempDir() + "load_run_test.svg";
  const CommandResult result = Bench({"--sweep", "50:100:2", "--duration", "0.1", "--prompt-tokens", "10",
                                      "--output-tokens", "3", "--json", "--plot", plot});
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_THAT(result.out, StartsWith("{\"rate\": 50"));
  EXPECT_THAT(result.out, HasSubstr("\n{\"rate\": 100"));
  EXPECT_EQ(std::count(result.out.begin(), result.out.end(), '\n'), 2);
  FILE* file = fopen(plot.c_str(), "r");
  ASSERT_NE(file, nullptr);
  fclose(file);
  remove(plot.c_str());
}

TEST_F(BenchCommandTest, SaturationIsFoundInSixRuns) {
  const CommandResult result = Bench({"--saturation", "--concurrency", "2", "--duration", "0.1", "--json",
                                      "--prompt-tokens", "10", "--output-tokens", "3"});
  EXPECT_THAT(result.out, HasSubstr("{\"saturation_rate\": ")) << result.err;
  EXPECT_EQ(std::count(result.out.begin(), result.out.end(), '\n'), 7) << result.out;
}

TEST_F(BenchCommandTest, FailuresGiveExitCodeOneAndRejectionsDoNot) {
  const std::vector<std::string> arguments = {"--concurrency",   "1",  "--requests",      "2",
                                              "--prompt-tokens", "10", "--output-tokens", "3"};
  answer_ = [](auto*, auto&, Writer*) { return grpc::Status(grpc::StatusCode::INTERNAL, "broken"); };
  EXPECT_EQ(Bench(arguments).exit_code, 1);
  answer_ = [](auto*, auto&, Writer*) { return grpc::Status(grpc::StatusCode::RESOURCE_EXHAUSTED, "full"); };
  EXPECT_EQ(Bench(arguments).exit_code, 0);
}

TEST_F(BenchCommandTest, WrongOptionsAreNamed) {
  const std::vector<std::vector<std::string>> wrong = {
      {},
      {"--concurrency", "1", "--rate", "2"},
      {"--concurrency", "0"},
      {"--rate", "-1"},
      {"--ramp", "1:2"},
      {"--sweep", "1:2"},
      {"--rate", "1", "--plot", "x.svg"},
      {"--rate", "1", "--cancel", "2"},
      {"--rate", "1", "--cancel", "0.6", "--expire", "0.6"},
      {"--rate", "1", "--prompt-tokens", "x"},
      {"--rate", "1", "--prompt-tokens", "127", "--output-tokens", "2"},
      {"--rate", "1", "--priority", "urgent:1"},
      {"--rate", "1", "--shared-prefix", "8"},
      {"--trace", "/nowhere"},
  };
  for (const auto& arguments : wrong) {
    const CommandResult result = Bench(arguments);
    EXPECT_EQ(result.exit_code, 2) << testing::PrintToString(arguments);
    EXPECT_EQ(std::count(result.err.begin(), result.err.end(), '\n'), 2) << result.err;
  }
  EXPECT_TRUE(Requests().empty());
}

}  // namespace
}  // namespace yoio
