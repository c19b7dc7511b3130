// AdminService over a real gRPC connection, with an engine that follows a script.
#include <gmock/gmock.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include <array>
#include <ctime>
#include <thread>

#include "base/bounded_queue.h"
#include "nlohmann/json.hpp"
#include "server/admin/admin_server.h"
#include "tests/server/gunzip.h"
#include "tests/server/in_process.h"
#include "tests/server/recording_engine.h"
#include "yoio/v1/admin.grpc.pb.h"

namespace yoio {
namespace {

using std::chrono::milliseconds;
using std::chrono::minutes;
using std::chrono::seconds;
using testing::ElementsAre;
using testing::HasSubstr;

constexpr char kToken[] = "the-token-of-these-tests";

class AdminTest : public testing::Test {
 protected:
  AdminTest() {
    auto started = AdminServer::Start({.serving = core_,
                                       .log = log_.logger,
                                       .drain = [](std::optional<Duration>) {},
                                       .draining = [] { return true; }},
                                      {.listen = {.host = "127.0.0.1", .port = 0}, .token = kToken});
    if (!started.ok()) std::abort();
    server_ = *std::move(started);
    stub_ = v1::AdminService::NewStub(
        grpc::CreateChannel(server_->address().ToString(), grpc::InsecureChannelCredentials()));
  }

  // Reads an answer to its end.
  template <typename Response, typename Request, typename Method>
  grpc::Status Read(const Method& method, const Request& request, std::vector<Response>& responses) {
    grpc::ClientContext context;
    context.AddMetadata("authorization", std::string("Bearer ") + kToken);
    auto reader = (stub_.get()->*method)(&context, request);
    Response response;
    while (reader->Read(&response)) responses.push_back(response);
    return reader->Finish();
  }
  grpc::Status GetTraces(const v1::GetTracesRequest& request) {
    traces_.clear();
    return Read(&v1::AdminService::Stub::GetTraces, request, traces_);
  }
  grpc::Status DumpState(const v1::DumpStateRequest& request = {}) {
    return Read(&v1::AdminService::Stub::DumpState, request, states_);
  }
  grpc::Status Profile(const v1::ProfileRequest& request, std::string& profile) {
    std::vector<v1::ProfileResponse> responses;
    const grpc::Status status = Read(&v1::AdminService::Stub::Profile, request, responses);
    for (const v1::ProfileResponse& response : responses) profile += response.chunk();
    return status;
  }
  std::vector<std::string> Ids() const {
    std::vector<std::string> ids;
    for (const v1::GetTracesResponse& response : traces_) ids.push_back(response.trace().request_id());
    return ids;
  }

  LogCapture log_;
  RecordingEngine engine_;
  ServingCore core_{.engine = engine_,
                    .model = {.info = &engine_.model(), .names = {"tiny"}},
                    .stall_timeout = seconds(60),
                    .log = log_.logger};
  std::unique_ptr<AdminServer> server_;
  std::unique_ptr<v1::AdminService::Stub> stub_;
  std::vector<v1::GetTracesResponse> traces_;
  std::vector<v1::DumpStateResponse> states_;
};

v1::GetTracesRequest ById(const std::string& id, bool steps = false) {
  v1::GetTracesRequest request;
  request.set_request_id(id);
  request.set_steps(steps);
  return request;
}

TEST_F(AdminTest, AnIdFindsAllWhoHadItTheNewestFirst) {
  const TimePoint now = Clock::now();
  engine_.End(engine_.Accept("twice", now - seconds(2)), milliseconds(10));
  engine_.End(engine_.Accept("once", now - seconds(1)), milliseconds(20));
  engine_.Accept("twice", now);
  ASSERT_TRUE(GetTraces(ById("twice")).ok());
  ASSERT_THAT(Ids(), ElementsAre("twice", "twice"));
  EXPECT_FALSE(traces_[0].trace().has_code());
  EXPECT_EQ(traces_[1].trace().code(), 0);
  EXPECT_EQ(traces_[1].trace().tenant(), "tenant-a");
  EXPECT_EQ(traces_[1].trace().timing().total().nanos(), 10'000'000);
  EXPECT_NEAR(static_cast<double>(traces_[0].trace().arrival().seconds()),
              static_cast<double>(std::time(nullptr)), 60);

  const grpc::Status unknown = GetTraces(ById("never"));
  EXPECT_EQ(unknown.error_code(), grpc::NOT_FOUND);
  EXPECT_EQ(ErrorInfoOf(unknown).reason(), "UNKNOWN_REQUEST");
}

TEST_F(AdminTest, TheSlowestComeInOrder) {
  const TimePoint now = Clock::now();
  for (const int millis : {10, 40, 20, 30}) {
    const RequestNumber number = engine_.Accept("took-" + std::to_string(millis), now - milliseconds(millis));
    engine_.End(number, milliseconds(millis), now);
  }
  v1::GetTracesRequest request;
  request.set_slowest(3);
  ASSERT_TRUE(GetTraces(request).ok());
  EXPECT_THAT(Ids(), ElementsAre("took-40", "took-30", "took-20"));
}

TEST_F(AdminTest, FiveMinutesUnlessSaid) {
  const TimePoint now = Clock::now();
  engine_.End(engine_.Accept("long-ago", now - minutes(20)), seconds(1), now - minutes(10));
  engine_.End(engine_.Accept("lately", now - minutes(5)), seconds(1), now - minutes(1));
  engine_.Accept("alive", now - minutes(3));
  ASSERT_TRUE(GetTraces({}).ok());
  EXPECT_THAT(Ids(), ElementsAre("alive", "lately"));
  EXPECT_GE(traces_[0].trace().timing().total().seconds(), 180);
  v1::GetTracesRequest request;
  request.mutable_since()->set_seconds(900);
  ASSERT_TRUE(GetTraces(request).ok());
  EXPECT_THAT(Ids(), ElementsAre("alive", "lately", "long-ago"));
}

TEST_F(AdminTest, StepsComeInPartsThatFit) {
  constexpr int kSteps = 2500;
  const RequestNumber request = engine_.Accept("watched");
  const RequestNumber other = engine_.Accept("other");
  for (int step = 0; step < kSteps; ++step) engine_.RunStep(step, {{request, 2}, {other, 3}});
  ASSERT_TRUE(GetTraces(ById("watched")).ok());
  EXPECT_EQ(traces_[0].trace().steps_size(), 0);
  EXPECT_EQ(traces_[0].trace().last_step(), kSteps - 1);

  ASSERT_TRUE(GetTraces(ById("watched", /*steps=*/true)).ok());
  EXPECT_GE(traces_.size(), 3u);
  int next = 0;
  for (const v1::GetTracesResponse& response : traces_) {
    EXPECT_EQ(response.trace().request_id(), "watched");
    EXPECT_LE(response.trace().steps_size(), 1024);
    EXPECT_LE(response.ByteSizeLong(), size_t{1} << 20);
    for (const v1::StepTrace& step : response.trace().steps()) {
      EXPECT_EQ(step.step(), next++);
      EXPECT_EQ(step.tokens(), 2);
    }
  }
  EXPECT_EQ(next, kSteps);
  const v1::StepTrace& step = traces_.back().trace().steps(0);
  EXPECT_EQ(step.batch_tokens(), 5);
  EXPECT_EQ(step.duration().nanos(), 2'000'000);
  EXPECT_EQ(step.plan().nanos(), 100'000);
  EXPECT_EQ(step.waiting(), 4);
  EXPECT_EQ(step.free_blocks(), 9);
  ASSERT_EQ(step.members_size(), 2);
  EXPECT_EQ(step.members(1).request_id(), "other");
  ASSERT_EQ(step.ranks_size(), RecordingEngine::kRanks);
  ASSERT_EQ(step.ranks(1).phases_size(), 2);
  EXPECT_EQ(step.ranks(1).phases(0).phase(), "self_decoder");
  EXPECT_EQ(step.ranks(1).phases(0).duration().nanos(), 600'000);
  EXPECT_EQ(step.ranks(1).comm_wait().nanos(), 200'000);
}

TEST_F(AdminTest, ValuesOutOfRangeAreNamed) {
  v1::GetTracesRequest slowest, since;
  slowest.set_slowest(0);
  since.mutable_since();
  EXPECT_THAT(GetTraces(slowest).error_message(), HasSubstr("slowest"));
  EXPECT_EQ(GetTraces(since).error_code(), grpc::INVALID_ARGUMENT);
  v1::DumpStateRequest none;
  none.set_max_requests(0);
  EXPECT_THAT(DumpState(none).error_message(), HasSubstr("max_requests"));
  for (const int steps : {0, 4097}) {
    v1::ProfileRequest profile;
    profile.set_steps(steps);
    std::string bytes;
    EXPECT_EQ(Profile(profile, bytes).error_code(), grpc::INVALID_ARGUMENT);
  }
}

TEST_F(AdminTest, AStateNamesRanksAndRequests) {
  engine_.state = EngineState{.load = {.running = 1, .waiting = 2, .waiting_tokens = 3, .total_blocks = 5},
                              .step = 7,
                              .ranks = engine_.ranks(),
                              .requests = {{.id = "alive",
                                            .tenant = "tenant-a",
                                            .age = milliseconds(1500),
                                            .phase = Phase::kPrefill,
                                            .prompt_tokens = 10,
                                            .prompt_tokens_done = 4}}};
  ASSERT_TRUE(DumpState().ok());
  ASSERT_EQ(states_.size(), 2u);
  const v1::EngineState& engine = states_[0].engine();
  EXPECT_EQ(engine.step(), 7);
  EXPECT_EQ(engine.waiting_tokens(), 3);
  EXPECT_FALSE(engine.draining());
  ASSERT_EQ(engine.ranks_size(), 2);
  EXPECT_EQ(engine.ranks(0).ended_step(), 6);
  EXPECT_EQ(engine.ranks(0).phase(), "cross_decoder");
  EXPECT_EQ(engine.ranks(0).collective(), "all_reduce");
  EXPECT_FALSE(engine.ranks(1).has_step());
  EXPECT_EQ(states_[1].request().request_id(), "alive");
  EXPECT_EQ(states_[1].request().phase(), "prefill");
  EXPECT_EQ(states_[1].request().age().nanos(), 500'000'000);
}

TEST_F(AdminTest, ASilentEngineIsShownAsFarAsItIsKnown) {
  engine_.state = absl::DeadlineExceededError("the engine thread has not answered");
  const RequestNumber alive = engine_.Accept("alive");
  engine_.End(engine_.Accept("ended"), milliseconds(1));
  engine_.RunStep(0, {{alive, 1}});
  const grpc::Status status = DumpState();
  EXPECT_EQ(status.error_code(), grpc::UNAVAILABLE);
  EXPECT_THAT(status.error_message(), HasSubstr("has not answered"));
  ASSERT_EQ(states_.size(), 2u);
  EXPECT_EQ(states_[0].engine().step(), 0);
  EXPECT_EQ(states_[0].engine().ranks_size(), 2);
  EXPECT_TRUE(states_[0].engine().draining());
  EXPECT_EQ(states_[1].request().request_id(), "alive");
}

TEST_F(AdminTest, AProfileEndsWithItsSteps) {
  const RequestNumber request = engine_.Accept("profiled");
  engine_.RunStep(0, {{request, 1}});
  std::atomic<bool> done{false};
  std::thread steps([&] {
    for (int step = 1; !done; ++step) {
      engine_.RunStep(step, {{request, 1}});
      std::this_thread::sleep_for(milliseconds(1));
    }
  });
  v1::ProfileRequest wanted;
  wanted.set_steps(3);
  wanted.mutable_duration()->set_seconds(60);
  std::string profile;
  const grpc::Status status = Profile(wanted, profile);
  done = true;
  steps.join();
  ASSERT_TRUE(status.ok()) << status.error_message();
  std::vector<int64_t> seen;
  const nlohmann::json trace = nlohmann::json::parse(Gunzip(profile));
  for (const auto& event : trace["traceEvents"]) {
    if (event["ph"] == "X" && event["pid"] == 1 && event["name"] == "step")
      seen.push_back(event["args"]["step"]);
  }
  ASSERT_EQ(seen.size(), 3u);
  EXPECT_GT(seen[0], 0);
  EXPECT_EQ(seen[2], seen[0] + 2);
}

TEST_F(AdminTest, AProfileOfAnIdleEngineEndsWithItsDuration) {
  v1::ProfileRequest wanted;
  wanted.mutable_duration()->set_nanos(50'000'000);
  std::string profile;
  ASSERT_TRUE(Profile(wanted, profile).ok());
  EXPECT_NE(Gunzip(profile).find("traceEvents"), std::string::npos);
}

// One answer more than there are places: it is refused, and the others give theirs back when they are
// cancelled.
TEST_F(AdminTest, AnswersAreBoundedAndGivenUpWithTheirClients) {
  constexpr int kCalls = 17;
  v1::ProfileRequest wanted;
  wanted.mutable_duration()->set_seconds(60);
  std::array<grpc::ClientContext, kCalls> contexts;
  BoundedQueue<grpc::StatusCode> codes(kCalls);
  std::vector<std::thread> callers;
  for (grpc::ClientContext& context : contexts) {
    context.AddMetadata("authorization", std::string("Bearer ") + kToken);
    callers.emplace_back([&] { codes.Push(stub_->Profile(&context, wanted)->Finish().error_code()); });
  }
  EXPECT_EQ(codes.Pop(), grpc::RESOURCE_EXHAUSTED);
  for (grpc::ClientContext& context : contexts) context.TryCancel();
  for (std::thread& caller : callers) caller.join();
  for (int i = 1; i < kCalls; ++i) EXPECT_EQ(codes.Pop(), grpc::CANCELLED);
  const TimePoint deadline = Clock::now() + seconds(20);
  while (!DumpState().ok()) ASSERT_LT(Clock::now(), deadline);
}

}  // namespace
}  // namespace yoio
