#include "client/client.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <string>
#include <thread>
#include <vector>

#include "client/error_details.h"
#include "tests/client/scripted_server.h"

namespace yoio {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

// Writes deltas until the client has gone, as a server does for a request without an end.
grpc::Status WriteUntilCancelled(grpc::ServerContext* context, const v1::GenerateRequest&,
                                 grpc::ServerWriter<v1::GenerateResponse>* writer) {
  v1::GenerateResponse event;
  event.mutable_delta()->set_text("x");
  while (!context->IsCancelled() && writer->Write(event)) std::this_thread::sleep_for(milliseconds(1));
  return grpc::Status::CANCELLED;
}

TEST(ClientTest, GenerateDeliversEveryEventInOrder) {
  ScriptedServer server;
  v1::GenerateRequest seen;
  server.generate = [&](auto*, const auto& request, auto* writer) {
    seen = request;
    WriteStream(writer, {"The", " code"});
    return grpc::Status::OK;
  };
  Client client(server.address());
  v1::GenerateRequest request;
  request.set_text("hello");
  std::string log;
  const absl::Status status = client.Generate(request, [&](const v1::GenerateResponse& event) {
    if (event.has_accepted()) log += "accepted;";
    if (event.has_delta()) log += event.delta().text() + ";";
    if (event.has_finished()) log += "finished;";
    if (event.has_summary()) log += "summary;";
    return true;
  });
  EXPECT_TRUE(status.ok()) << status;
  EXPECT_EQ(log, "accepted;The; code;finished;summary;");
  EXPECT_EQ(seen.text(), "hello");
}

TEST(ClientTest, ErrorsAreDecoded) {
  ScriptedServer server;
  server.generate = [](grpc::ServerContext* context, auto&, auto*) {
    v1::Timing timing;
    timing.mutable_queue()->set_seconds(3);
    context->AddTrailingMetadata("yoio-timing-bin", timing.SerializeAsString());
    return RichStatus(
        grpc::StatusCode::UNAVAILABLE, "the engine failed", "ENGINE_FAILED",
        {{"request_id", "r-7"}, {"accepted", "true"}, {"tokens_sent", "42"}, {"suspect", "true"}}, 5);
  };
  Client client(server.address());
  const absl::Status status = client.Generate({}, [](const auto&) { return true; });
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(status.message(), "the engine failed");
  const ErrorDetails details = DetailsOf(status);
  EXPECT_EQ(details.reason, "ENGINE_FAILED");
  EXPECT_EQ(details.request_id, "r-7");
  EXPECT_TRUE(details.accepted);
  EXPECT_TRUE(details.suspect);
  EXPECT_EQ(details.tokens_sent, 42);
  ASSERT_TRUE(details.retry_after.has_value());
  EXPECT_EQ(*details.retry_after, seconds(5));
  ASSERT_TRUE(details.timing.has_value());
  EXPECT_EQ(details.timing->queue().seconds(), 3);
}

TEST(ClientTest, AForeignErrorHasNoDetails) {
  Client client("127.0.0.1:1");  // nothing listens there
  const absl::Status status = client.GetLoad().status();
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
  const ErrorDetails details = DetailsOf(status);
  EXPECT_EQ(details.reason, "");
  EXPECT_FALSE(details.retry_after.has_value());
  EXPECT_FALSE(details.timing.has_value());
}

TEST(ClientTest, ACallbackEndsTheCall) {
  ScriptedServer server;
  server.generate = &WriteUntilCancelled;
  Client client(server.address());
  int events = 0;
  const absl::Status status = client.Generate({}, [&](const auto&) { return ++events < 3; });
  EXPECT_TRUE(absl::IsCancelled(status)) << status;
  EXPECT_EQ(events, 3);
}

TEST(ClientTest, ACancellationEndsCallsFromAnotherThreadAndLaterOnes) {
  ScriptedServer server;
  server.generate = &WriteUntilCancelled;
  Client client(server.address());
  Cancellation cancellation;
  CallOptions options;
  options.cancellation = &cancellation;
  std::thread canceller;
  const auto cancel_once = [&](const auto&) {
    if (!canceller.joinable()) canceller = std::thread([&] { cancellation.Cancel(); });
    return true;
  };
  EXPECT_TRUE(absl::IsCancelled(client.Generate({}, cancel_once, options)));
  canceller.join();
  EXPECT_TRUE(cancellation.cancelled());
  EXPECT_TRUE(absl::IsCancelled(client.GetLoad(options).status()));
}

TEST(ClientTest, TheTimeoutIsTheDeadline) {
  ScriptedServer server;
  std::atomic<bool> had_deadline = false;
  server.generate = [&](grpc::ServerContext* context, const auto& request, auto* writer) {
    had_deadline = context->deadline() < std::chrono::system_clock::now() + seconds(1);
    return WriteUntilCancelled(context, request, writer);
  };
  Client client(server.address());
  CallOptions options;
  options.timeout = milliseconds(50);
  const absl::Status status = client.Generate(
      {}, [](const auto&) { return true; }, options);
  EXPECT_TRUE(absl::IsDeadlineExceeded(status)) << status;
  EXPECT_TRUE(had_deadline);
}

TEST(ClientTest, EveryUnaryCallReachesItsMethod) {
  ScriptedServer server;
  server.generate_once = [](const auto& request, auto* response) {
    response->add_choices()->set_text(request.request().text() + "!");
    return grpc::Status::OK;
  };
  server.tokenize = [](const auto& request, auto* response) {
    response->set_count(static_cast<int32_t>(request.text().size()));
    return grpc::Status::OK;
  };
  server.detokenize = [](const auto& request, auto* response) {
    response->set_text(absl::StrCat(request.token_ids().ids_size()));
    return grpc::Status::OK;
  };
  server.get_model_info = [](const auto&, auto* response) {
    response->add_names("tiny");
    return grpc::Status::OK;
  };
  server.get_server_info = [](const auto&, auto* response) {
    response->set_version("9");
    return grpc::Status::OK;
  };
  server.get_load = [](const auto&, auto* response) {
    response->set_free_blocks(7);
    return grpc::Status::OK;
  };
  server.abort = [](const v1::AbortRequest& request, auto*) {
    return request.request_id() == "mine" ? grpc::Status::OK : grpc::Status(grpc::StatusCode::NOT_FOUND, "");
  };
  Client client(server.address());
  v1::GenerateRequest generate;
  generate.set_text("hi");
  EXPECT_EQ(client.GenerateOnce(generate)->choices(0).text(), "hi!");
  v1::TokenizeRequest tokenize;
  tokenize.set_text("four");
  EXPECT_EQ(client.Tokenize(tokenize)->count(), 4);
  v1::DetokenizeRequest detokenize;
  detokenize.mutable_token_ids()->add_ids(1);
  EXPECT_EQ(client.Detokenize(detokenize)->text(), "1");
  EXPECT_EQ(client.GetModelInfo()->names(0), "tiny");
  EXPECT_EQ(client.GetServerInfo()->version(), "9");
  EXPECT_EQ(client.GetLoad()->free_blocks(), 7);
  EXPECT_TRUE(client.Abort("mine").ok());
  EXPECT_TRUE(absl::IsNotFound(client.Abort("other")));
}

TEST(ClientTest, ScoreDeliversEvents) {
  ScriptedServer server;
  server.score = [](const auto& request, auto* writer) {
    v1::ScoreResponse event;
    event.mutable_scores()->set_first_position(request.token_ids().ids_size());
    writer->Write(event);
    return grpc::Status::OK;
  };
  Client client(server.address());
  v1::ScoreRequest request;
  request.mutable_token_ids()->add_ids(5);
  int position = 0;
  const absl::Status status = client.Score(request, [&](const v1::ScoreResponse& event) {
    position = event.scores().first_position();
    return true;
  });
  EXPECT_TRUE(status.ok()) << status;
  EXPECT_EQ(position, 1);
}

TEST(ClientTest, HealthIsAskedByServiceName) {
  using ::grpc::health::v1::HealthCheckResponse;
  ScriptedServer server;
  server.health = {{"", HealthCheckResponse::NOT_SERVING}, {"liveness", HealthCheckResponse::SERVING}};
  EXPECT_EQ(CheckHealth(server.address(), "")->status(), HealthCheckResponse::NOT_SERVING);
  EXPECT_EQ(CheckHealth(server.address(), "liveness")->status(), HealthCheckResponse::SERVING);
  EXPECT_TRUE(absl::IsNotFound(CheckHealth(server.address(), "nobody").status()));
}

}  // namespace
}  // namespace yoio
