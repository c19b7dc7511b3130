// The health protocol: three names, Check and Watch.
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include <future>

#include "grpc/health/v1/health.grpc.pb.h"
#include "server/server.h"

namespace yoio {
namespace {

namespace health = ::grpc::health::v1;
using health::HealthCheckResponse;

class HealthTest : public testing::Test {
 protected:
  HealthTest() {
    server_ = HealthServer::Start({.host = "127.0.0.1", .port = 0}).value();
    channel_ = grpc::CreateChannel(server_->address().ToString(), grpc::InsecureChannelCredentials());
    stub_ = health::Health::NewStub(channel_);
  }

  static health::HealthCheckRequest For(const std::string& service) {
    health::HealthCheckRequest request;
    request.set_service(service);
    return request;
  }

  grpc::Status Check(const std::string& service, HealthCheckResponse::ServingStatus* status = nullptr) {
    grpc::ClientContext context;
    HealthCheckResponse response;
    const grpc::Status result = stub_->Check(&context, For(service), &response);
    if (status != nullptr) *status = response.status();
    return result;
  }

  HealthCheckResponse::ServingStatus StatusOf(const std::string& service) {
    HealthCheckResponse::ServingStatus status = HealthCheckResponse::UNKNOWN;
    EXPECT_TRUE(Check(service, &status).ok());
    return status;
  }

  std::unique_ptr<HealthServer> server_;
  std::shared_ptr<grpc::Channel> channel_;
  std::unique_ptr<health::Health::Stub> stub_;
};

TEST_F(HealthTest, ReadinessAndLivenessAreApart) {
  EXPECT_EQ(StatusOf(""), HealthCheckResponse::NOT_SERVING);
  EXPECT_EQ(StatusOf("liveness"), HealthCheckResponse::SERVING);
  server_->health().SetReady(true);
  EXPECT_EQ(StatusOf(""), HealthCheckResponse::SERVING);
  EXPECT_EQ(StatusOf("yoio.v1.InferenceService"), HealthCheckResponse::SERVING);
  server_->health().SetReady(false);
  server_->health().SetAlive(false);
  EXPECT_EQ(StatusOf("yoio.v1.InferenceService"), HealthCheckResponse::NOT_SERVING);
  EXPECT_EQ(StatusOf("liveness"), HealthCheckResponse::NOT_SERVING);
}

TEST_F(HealthTest, UnknownNameIsNotFound) { EXPECT_EQ(Check("yoio.v1.Other").error_code(), grpc::NOT_FOUND); }

TEST_F(HealthTest, WatchTellsOfEveryChange) {
  grpc::ClientContext context;
  auto reader = stub_->Watch(&context, For("yoio.v1.InferenceService"));
  HealthCheckResponse response;
  ASSERT_TRUE(reader->Read(&response));
  EXPECT_EQ(response.status(), HealthCheckResponse::NOT_SERVING);
  for (const bool ready : {true, false, true}) {
    server_->health().SetReady(ready);
    server_->health().SetAlive(!ready);  // none of this stream's business
    ASSERT_TRUE(reader->Read(&response));
    EXPECT_EQ(response.status(), ready ? HealthCheckResponse::SERVING : HealthCheckResponse::NOT_SERVING);
  }
  context.TryCancel();
  EXPECT_FALSE(reader->Read(&response));
}

TEST_F(HealthTest, WatchOfAnUnknownNameStaysOpen) {
  grpc::ClientContext context;
  auto reader = stub_->Watch(&context, For("other"));
  HealthCheckResponse response;
  ASSERT_TRUE(reader->Read(&response));
  EXPECT_EQ(response.status(), HealthCheckResponse::SERVICE_UNKNOWN);
  context.TryCancel();
  EXPECT_EQ(reader->Finish().error_code(), grpc::CANCELLED);
}

TEST_F(HealthTest, ShutdownEndsWatchers) {
  grpc::ClientContext context;
  auto reader = stub_->Watch(&context, For(""));
  HealthCheckResponse response;
  ASSERT_TRUE(reader->Read(&response));
  server_.reset();
  EXPECT_FALSE(reader->Read(&response));
  EXPECT_EQ(reader->Finish().error_code(), grpc::UNAVAILABLE);
}

TEST_F(HealthTest, WatchersComeAndGoWhileTheStatusChanges) {
  std::vector<std::future<void>> clients;
  for (int i = 0; i < 4; ++i) {
    clients.push_back(std::async(std::launch::async, [this] {
      for (int j = 0; j < 25; ++j) {
        grpc::ClientContext context;
        auto reader = stub_->Watch(&context, For(""));
        HealthCheckResponse response;
        EXPECT_TRUE(reader->Read(&response));
        context.TryCancel();
      }
    }));
  }
  for (int i = 0; i < 200; ++i) server_->health().SetReady(i % 2 == 0);
  for (auto& client : clients) client.get();
}

}  // namespace
}  // namespace yoio
