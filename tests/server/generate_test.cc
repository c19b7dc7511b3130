// Generate, GenerateOnce and Score over a real gRPC connection, with an engine that follows a script.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <string>
#include <thread>

#include "engine/errors.h"
#include "tests/server/in_process.h"

namespace yoio {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;

v1::GenerateRequest TextRequest(const std::string& id = "") {
  v1::GenerateRequest request;
  request.set_text("a prompt");
  if (!id.empty()) request.set_request_id(id);
  return request;
}

// One Generate call from the client's side.
struct Stream {
  Stream(InProcess& server, const v1::GenerateRequest& request)
      : reader(server.stub->Generate(&context, request)) {}

  // Reads to the end; events by their names, the texts of deltas in `text`.
  grpc::Status ReadAll() {
    v1::GenerateResponse response;
    while (reader->Read(&response)) {
      const auto* field = response.GetDescriptor()->FindFieldByNumber(response.event_case());
      events.push_back(field->name());
      text += response.delta().text();
      if (response.has_accepted()) accepted = response.accepted();
      if (response.has_summary()) summary = response.summary();
    }
    return reader->Finish();
  }

  bool TrailersOnly() const { return context.GetServerInitialMetadata().empty() && events.empty(); }
  std::string Trailer(const std::string& key) const {
    const auto found = context.GetServerTrailingMetadata().find(key);
    return found == context.GetServerTrailingMetadata().end()
               ? ""
               : std::string(found->second.data(), found->second.size());
  }

  grpc::ClientContext context;
  std::unique_ptr<grpc::ClientReader<v1::GenerateResponse>> reader;
  std::vector<std::string> events;
  std::string text;
  v1::Accepted accepted;
  v1::Summary summary;
};

TEST(GenerateTest, EventsArriveInOrder) {
  InProcess server;
  Stream stream(server, TextRequest("my-id"));
  auto request = server.engine.WaitForRequest();
  EXPECT_EQ(request->request().id, "my-id");
  EXPECT_EQ(request->request().tenant, "default");
  EXPECT_EQ(request->request().deadline, TimePoint::max());
  request->Accept();
  request->SendText(0, "hel");
  request->Send(ProgressEvent{.phase = Phase::kDecode, .queue_position = 0, .prompt_tokens_done = 3});
  request->FinishChoice(0);
  request->Complete(3, 1);
  EXPECT_TRUE(stream.ReadAll().ok());
  EXPECT_THAT(stream.events, ElementsAre("accepted", "delta", "progress", "finished", "summary"));
  EXPECT_EQ(stream.text, "hel");
  EXPECT_EQ(stream.accepted.request_id(), "my-id");
  EXPECT_EQ(stream.accepted.model(), "tiny");
  EXPECT_EQ(stream.accepted.model_revision(), "r1");
  EXPECT_EQ(stream.accepted.sampling().seed(), 7u);
  EXPECT_EQ(stream.summary.usage().prompt_tokens(), 3);
}

TEST(GenerateTest, EventsSentOneByOneArriveOneByOne) {
  InProcess server;
  Stream stream(server, TextRequest());
  auto request = server.engine.WaitForRequest();
  request->Accept();
  v1::GenerateResponse response;
  ASSERT_TRUE(stream.reader->Read(&response));
  EXPECT_TRUE(response.has_accepted());
  for (const char* piece : {"a", "b", "c"}) {
    request->SendText(0, piece);
    ASSERT_TRUE(stream.reader->Read(&response));
    EXPECT_EQ(response.delta().text(), piece);
    EXPECT_EQ(response.delta().ids_size(), 0);
  }
  request->FinishChoice(0);
  request->Complete();
  EXPECT_TRUE(stream.ReadAll().ok());
}

TEST(GenerateTest, DrawnIdsDifferAndAreValid) {
  InProcess server;
  server.engine.AnswerWith("x");
  Stream first(server, TextRequest()), second(server, TextRequest());
  EXPECT_TRUE(first.ReadAll().ok());
  EXPECT_TRUE(second.ReadAll().ok());
  EXPECT_TRUE(CheckRequestId(first.accepted.request_id(), 128).ok());
  EXPECT_NE(first.accepted.request_id(), second.accepted.request_id());
}

TEST(GenerateTest, RefusalBeforeAcceptedIsTrailersOnly) {
  InProcess server;
  server.engine.RefuseWith(WithReason(absl::StatusCode::kInvalidArgument, "PROMPT_TOO_LONG", "too long"));
  Stream stream(server, TextRequest("r"));
  const grpc::Status status = stream.ReadAll();
  EXPECT_EQ(status.error_code(), grpc::INVALID_ARGUMENT);
  EXPECT_TRUE(stream.TrailersOnly());
  EXPECT_EQ(ErrorInfoOf(status).reason(), "PROMPT_TOO_LONG");
  EXPECT_EQ(ErrorInfoOf(status).metadata().at("request_id"), "r");
  EXPECT_EQ(ErrorInfoOf(status).metadata().at("accepted"), "false");
  EXPECT_EQ(stream.Trailer("yoio-timing-bin"), "");
}

TEST(GenerateTest, LateRefusalBeforeAcceptedIsTrailersOnlyToo) {
  InProcess server;
  Stream stream(server, TextRequest());
  server.engine.WaitForRequest()->End(absl::InvalidArgumentError("prompt: empty"));
  const grpc::Status status = stream.ReadAll();
  EXPECT_EQ(status.error_code(), grpc::INVALID_ARGUMENT);
  EXPECT_TRUE(stream.TrailersOnly());
}

// gRPC retries a stream only if the failure came trailers-only: the proof that nothing is sent before
// `accepted`.
TEST(GenerateTest, ClientRetryPolicyAppliesBeforeAccepted) {
  InProcess server;
  grpc::ChannelArguments arguments;
  arguments.SetServiceConfigJSON(R"({"methodConfig": [{
      "name": [{"service": "yoio.v1.InferenceService"}],
      "retryPolicy": {"maxAttempts": 5, "initialBackoff": "0.01s", "maxBackoff": "0.01s",
                      "backoffMultiplier": 1, "retryableStatusCodes": ["UNAVAILABLE"]}}]})");
  server.stub = v1::InferenceService::NewStub(grpc::CreateCustomChannel(
      server.server->address().ToString(), grpc::InsecureChannelCredentials(), arguments));
  Stream stream(server, TextRequest());
  std::thread engine([&server] {
    server.engine.WaitForRequest()->End(absl::UnavailableError("not yet"));
    auto again = server.engine.WaitForRequest();
    again->Accept();
    again->End(absl::UnavailableError("not any more"));  // after `accepted` nothing is retried
  });
  EXPECT_EQ(stream.ReadAll().error_code(), grpc::UNAVAILABLE);
  engine.join();
  EXPECT_THAT(stream.events, ElementsAre("accepted"));
}

TEST(GenerateTest, FailureAfterAcceptedTellsHowFarItCame) {
  InProcess server;
  Stream stream(server, TextRequest("r"));
  auto request = server.engine.WaitForRequest();
  request->Accept();
  request->SendText(0, "abc", 3);
  request->SendText(1, "d", 1);
  SummaryEvent so_far;
  so_far.timing.time_to_first_token = std::chrono::milliseconds(250);
  request->End(WithReason(absl::StatusCode::kAborted, kReasonSlowReader, "the reader is too slow"), so_far);
  const grpc::Status status = stream.ReadAll();
  EXPECT_EQ(status.error_code(), grpc::ABORTED);
  EXPECT_EQ(stream.text, "abcd");
  EXPECT_EQ(ErrorInfoOf(status).reason(), "SLOW_READER");
  EXPECT_EQ(ErrorInfoOf(status).metadata().at("accepted"), "true");
  EXPECT_EQ(ErrorInfoOf(status).metadata().at("tokens_sent"), "4");
  v1::Timing timing;
  ASSERT_TRUE(timing.ParseFromString(stream.Trailer("yoio-timing-bin")));
  EXPECT_TRUE(timing.has_total());
  EXPECT_EQ(timing.time_to_first_token().nanos(), 250'000'000);
}

TEST(GenerateTest, QueueFullCarriesPushback) {
  InProcess server;
  server.engine.RefuseWith(WithReason(absl::StatusCode::kResourceExhausted, kReasonQueueFull, "full"));
  Stream stream(server, TextRequest());
  EXPECT_EQ(stream.ReadAll().error_code(), grpc::RESOURCE_EXHAUSTED);
  EXPECT_EQ(stream.Trailer("grpc-retry-pushback-ms"), "1000");
}

TEST(GenerateTest, DeadEngineIsToldFromADrainingOne) {
  InProcess server;
  server.engine.RefuseWith(absl::UnavailableError("no"));
  Stream draining(server, TextRequest());
  EXPECT_EQ(ErrorInfoOf(draining.ReadAll()).reason(), "DRAINING");
  server.engine.FailWith(absl::InternalError("rank 1 is gone"));
  Stream failed(server, TextRequest());
  EXPECT_EQ(ErrorInfoOf(failed.ReadAll()).reason(), "ENGINE_FAILED");
}

TEST(GenerateTest, CancelReachesTheEngine) {
  InProcess server;
  Stream stream(server, TextRequest());
  auto request = server.engine.WaitForRequest();
  request->Accept();
  v1::GenerateResponse response;
  ASSERT_TRUE(stream.reader->Read(&response));
  stream.context.TryCancel();
  EXPECT_EQ(server.engine.WaitForCancel().code(), absl::StatusCode::kCancelled);
  EXPECT_EQ(stream.ReadAll().error_code(), grpc::CANCELLED);
}

TEST(GenerateTest, DeadlineReachesTheEngineBeforeAndAfterItPasses) {
  InProcess server;
  v1::GenerateResponse response;
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + std::chrono::milliseconds(300));
  auto reader = server.stub->Generate(&context, TextRequest());
  auto request = server.engine.WaitForRequest();
  const Duration left = request->request().deadline - Clock::now();
  EXPECT_GT(left, Duration::zero());
  EXPECT_LT(left, std::chrono::milliseconds(400));
  request->Accept();
  const absl::Status reason = server.engine.WaitForCancel();
  EXPECT_TRUE(reason.code() == absl::StatusCode::kDeadlineExceeded ||
              reason.code() == absl::StatusCode::kCancelled)
      << reason;
  while (reader->Read(&response)) {
  }
  EXPECT_EQ(reader->Finish().error_code(), grpc::DEADLINE_EXCEEDED);
}

TEST(GenerateTest, SlowReaderLosesNothingAndMergesDeltas) {
  InProcess server;
  v1::GenerateRequest message = TextRequest();
  message.mutable_output()->set_ids(true);
  Stream stream(server, message);
  auto request = server.engine.WaitForRequest();
  request->Accept();
  // As the engine does: nothing more while the outbox is full. It fills once all buffers on the way have.
  int pieces = 0;
  const std::string piece(400, 'x');
  const auto send_until_full = [&] {
    for (; !request->outbox().full(); ++pieces) request->SendText(0, piece);
  };
  send_until_full();
  std::thread engine([&] {
    const int before = pieces;
    while (pieces < before + 1000) {
      send_until_full();
      std::this_thread::yield();
    }
    request->FinishChoice(0);
    request->Complete();
  });

  int64_t ids = 0, bytes = 0, deltas = 0;
  v1::GenerateResponse response;
  while (stream.reader->Read(&response)) {
    ids += response.delta().ids_size();
    bytes += static_cast<int64_t>(response.delta().text().size());
    deltas += response.has_delta();
  }
  engine.join();
  EXPECT_TRUE(stream.reader->Finish().ok());
  EXPECT_EQ(ids, pieces);
  EXPECT_EQ(bytes, pieces * 400);
  EXPECT_LT(deltas, pieces);
}

TEST(GenerateTest, IdIsTakenUntilTheStreamIsClosed) {
  InProcess server;
  Stream first(server, TextRequest("same"));
  auto request = server.engine.WaitForRequest();
  request->Accept();
  Stream second(server, TextRequest("same"));
  const grpc::Status refused = second.ReadAll();
  EXPECT_EQ(refused.error_code(), grpc::ALREADY_EXISTS);
  EXPECT_EQ(ErrorInfoOf(refused).reason(), "REQUEST_ID_IN_USE");
  // The refused call's end must not reach the request whose id it wanted.
  request->FinishChoice(0);
  request->Complete();
  EXPECT_TRUE(first.ReadAll().ok());
  server.engine.AnswerWith("again");
  Stream third(server, TextRequest("same"));
  EXPECT_TRUE(third.ReadAll().ok());
}

TEST(GenerateTest, BadRequestsNeverReachTheEngine) {
  InProcess server;
  server.engine.RefuseWith(absl::InternalError("reached the engine"));
  v1::GenerateRequest bad_id = TextRequest("not valid");
  v1::GenerateRequest unsupported = TextRequest();
  unsupported.set_regex("a+");
  v1::GenerateRequest unknown = TextRequest();
  unknown.GetReflection()->MutableUnknownFields(&unknown)->AddVarint(999, 1);
  EXPECT_EQ(Stream(server, bad_id).ReadAll().error_code(), grpc::INVALID_ARGUMENT);
  EXPECT_EQ(Stream(server, unsupported).ReadAll().error_code(), grpc::UNIMPLEMENTED);
  const grpc::Status status = Stream(server, unknown).ReadAll();
  EXPECT_EQ(status.error_code(), grpc::UNIMPLEMENTED);
  EXPECT_THAT(status.error_message(), HasSubstr("#999"));
}

TEST(GenerateTest, AbortEndsTheStream) {
  InProcess server;
  Stream stream(server, TextRequest("victim"));
  server.engine.WaitForRequest()->Accept();
  v1::AbortRequest abort;
  v1::AbortResponse response;
  {
    grpc::ClientContext context;
    abort.set_request_id("victim");
    EXPECT_TRUE(server.stub->Abort(&context, abort, &response).ok());
  }
  const grpc::Status status = stream.ReadAll();
  EXPECT_EQ(status.error_code(), grpc::CANCELLED);
  EXPECT_EQ(ErrorInfoOf(status).reason(), "ABORTED_BY_CALL");
  grpc::ClientContext context;
  const grpc::Status again = server.stub->Abort(&context, abort, &response);
  EXPECT_EQ(again.error_code(), grpc::NOT_FOUND);
  EXPECT_EQ(ErrorInfoOf(again).reason(), "UNKNOWN_REQUEST");
}

TEST(GenerateTest, ManyStreamsAtOnce) {
  InProcess server;
  server.engine.AnswerWith("answer");
  std::vector<std::thread> clients;
  std::atomic<int> good{0};
  for (int i = 0; i < 8; ++i) {
    clients.emplace_back([&] {
      for (int j = 0; j < 50; ++j) {
        Stream stream(server, TextRequest());
        good += stream.ReadAll().ok() && stream.text == "answer";
      }
    });
  }
  for (std::thread& client : clients) client.join();
  EXPECT_EQ(good, 400);
  EXPECT_EQ(server.core.counters.ok, 400);
}

// A client that starts calls and cancels them at once, at every point of their start, leaves nothing behind.
TEST(GenerateTest, CancelStormLeavesNothingBehind) {
  InProcess server;
  for (int i = 0; i < 300; ++i) {
    Stream stream(server, TextRequest("storm"));
    if (i % 3 == 1) std::this_thread::yield();
    if (i % 3 == 2) std::this_thread::sleep_for(std::chrono::microseconds(200));
    stream.context.TryCancel();
    EXPECT_FALSE(stream.ReadAll().ok());
  }
  const TimePoint deadline = Clock::now() + std::chrono::seconds(20);
  while (server.engine.num_live() > 0 && Clock::now() < deadline) std::this_thread::yield();
  EXPECT_EQ(server.engine.num_live(), 0);
  server.engine.AnswerWith("x");
  grpc::Status status(grpc::ALREADY_EXISTS, "");
  while (status.error_code() == grpc::ALREADY_EXISTS && Clock::now() < deadline) {
    status = Stream(server, TextRequest("storm")).ReadAll();  // the id is free again
  }
  EXPECT_TRUE(status.ok()) << status.error_message();
}

TEST(GenerateTest, NothingOfTheCallersTextIsLogged) {
  InProcess server;
  constexpr char kCanary[] = "canary-7f3a";
  server.engine.AnswerWith(std::string("output ") + kCanary);
  v1::GenerateRequest request = TextRequest("visible-id");
  request.set_text(kCanary);
  request.mutable_stop()->add_stop_strings(kCanary);
  EXPECT_TRUE(Stream(server, request).ReadAll().ok());
  request.set_model(kCanary);
  EXPECT_THAT(Stream(server, request).ReadAll().error_message(), Not(HasSubstr(kCanary)));
  request.set_request_id(std::string("bad id ") + kCanary);
  EXPECT_THAT(Stream(server, request).ReadAll().error_message(), Not(HasSubstr(kCanary)));
  server.server.reset();  // all calls have ended and were logged
  EXPECT_THAT(server.log.text(), HasSubstr("visible-id"));
  EXPECT_THAT(server.log.text(), Not(HasSubstr(kCanary)));
}

TEST(GenerateOnceTest, ReturnsTheWholeAnswer) {
  InProcess server;
  server.engine.AnswerWith("whole");
  v1::GenerateOnceRequest request;
  *request.mutable_request() = TextRequest();
  v1::GenerateOnceResponse response;
  grpc::ClientContext context;
  ASSERT_TRUE(server.stub->GenerateOnce(&context, request, &response).ok());
  ASSERT_EQ(response.choices_size(), 1);
  EXPECT_EQ(response.choices(0).text(), "whole");
  EXPECT_EQ(response.choices(0).finish_reason(), v1::FINISH_REASON_LENGTH);
  EXPECT_EQ(response.summary().usage().completion_tokens(), 1);
}

TEST(GenerateOnceTest, TooLargeAnswerNamesGenerateAndStopsTheEngine) {
  InProcess server;
  v1::GenerateOnceRequest request;
  *request.mutable_request() = TextRequest();
  std::thread engine([&] {
    auto scripted = server.engine.WaitForRequest();
    scripted->Accept();
    scripted->SendText(0, std::string(kMaxResponseBytes + 1, 'x'));
  });
  v1::GenerateOnceResponse response;
  grpc::ClientContext context;
  const grpc::Status status = server.stub->GenerateOnce(&context, request, &response);
  engine.join();
  EXPECT_EQ(status.error_code(), grpc::INVALID_ARGUMENT);
  EXPECT_EQ(ErrorInfoOf(status).reason(), "ANSWER_TOO_LARGE");
  EXPECT_THAT(status.error_message(), HasSubstr("Generate"));
  EXPECT_EQ(server.engine.WaitForCancel().code(), absl::StatusCode::kInvalidArgument);
}

TEST(GenerateOnceTest, FailureAfterItWasAcceptedForbidsRetries) {
  InProcess server;
  v1::GenerateOnceRequest request;
  *request.mutable_request() = TextRequest();
  std::thread engine([&] {
    auto scripted = server.engine.WaitForRequest();
    scripted->Accept();
    scripted->SendText(0, "abc", 3);
    scripted->End(WithReason(absl::StatusCode::kUnavailable, kReasonEngineFailed, "the engine failed"), {});
  });
  v1::GenerateOnceResponse response;
  grpc::ClientContext context;
  const grpc::Status status = server.stub->GenerateOnce(&context, request, &response);
  engine.join();
  EXPECT_EQ(status.error_code(), grpc::UNAVAILABLE);
  EXPECT_EQ(ErrorInfoOf(status).metadata().at("accepted"), "true");
  EXPECT_EQ(ErrorInfoOf(status).metadata().at("tokens_sent"), "0");
  EXPECT_EQ(ErrorInfoOf(status).metadata().at("suspect"), "true");
  const auto& trailers = context.GetServerTrailingMetadata();
  ASSERT_EQ(trailers.count("grpc-retry-pushback-ms"), 1);
  EXPECT_EQ(trailers.find("grpc-retry-pushback-ms")->second, "-1");
}

TEST(GenerateOnceTest, EmptyRequestIsRefused) {
  InProcess server;
  v1::GenerateOnceResponse response;
  grpc::ClientContext context;
  const grpc::Status status = server.stub->GenerateOnce(&context, {}, &response);
  EXPECT_EQ(status.error_code(), grpc::INVALID_ARGUMENT);
  EXPECT_THAT(status.error_message(), HasSubstr("prompt"));
}

TEST(ScoreTest, StreamsRecordsAndNoFinished) {
  InProcess server;
  v1::ScoreRequest message;
  message.set_text("abc");
  message.set_top_logprobs(1);
  grpc::ClientContext context;
  auto reader = server.stub->Score(&context, message);
  auto request = server.engine.WaitForRequest();
  EXPECT_TRUE(request->request().score_only);
  request->Send(AcceptedEvent{
      .request_id = request->request().id, .prompt_tokens = 3, .sampling = {}, .max_tokens = 0, .n = 1});
  request->Send(PromptScoresEvent{
      .first_position = 1,
      .tokens = {{.id = 5, .logprob = -2, .top = {}}, {.id = 6, .logprob = -3, .top = {}}}});
  request->FinishChoice(0);
  request->Complete();
  std::vector<v1::ScoreResponse> responses(1);
  while (reader->Read(&responses.back())) responses.emplace_back();
  ASSERT_TRUE(reader->Finish().ok());
  ASSERT_EQ(responses.size(), 4u);  // the last one is empty
  EXPECT_TRUE(responses[0].has_accepted());
  EXPECT_FALSE(responses[0].accepted().has_sampling());
  EXPECT_EQ(responses[1].scores().first_position(), 1);
  EXPECT_EQ(responses[1].scores().tokens(0).logprob(), -2.0f);
  EXPECT_TRUE(responses[2].has_summary());
}

}  // namespace
}  // namespace yoio
