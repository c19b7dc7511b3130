// What the service config does to calls, how several servers share them, TLS and API keys.
#include "client/channel.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cctype>
#include <chrono>
#include <memory>
#include <mutex>
#include <set>
#include <string>

#include "client/client.h"
#include "client/error_details.h"
#include "client/service_config.h"
#include "tests/client/certificate.h"
#include "tests/client/scripted_server.h"

namespace yoio {
namespace {

using std::chrono::milliseconds;
using testing::HasSubstr;

grpc::Status QueueFull() {
  return RichStatus(grpc::StatusCode::RESOURCE_EXHAUSTED, "the queue is full", "QUEUE_FULL", {}, 1);
}

absl::Status Generate(Client& client, const v1::GenerateRequest& request = {}) {
  return client.Generate(request, [](const auto&) { return true; });
}

// Makes the first `failures` calls fail like a full queue that names a pause. Counts all calls.
void FailAtFirst(ScriptedServer& server, int failures, const std::string& pushback_ms,
                 std::atomic<int>& attempts) {
  server.generate = [=, &attempts](grpc::ServerContext* context, const auto&, auto* writer) {
    if (++attempts > failures) {
      WriteStream(writer, {"x"});
      return grpc::Status::OK;
    }
    context->AddTrailingMetadata("grpc-retry-pushback-ms", pushback_ms);
    return QueueFull();
  };
}

TEST(ChannelTest, ARetryWaitsAsLongAsTheServerSays) {
  ScriptedServer server;
  std::atomic<int> attempts = 0;
  FailAtFirst(server, 1, "700", attempts);  // the config's own first pause is at most 0.24 s
  Client client(server.address());
  const auto start = std::chrono::steady_clock::now();
  const absl::Status status = Generate(client);
  EXPECT_TRUE(status.ok()) << status;
  EXPECT_EQ(attempts, 2);
  EXPECT_GE(std::chrono::steady_clock::now() - start, milliseconds(690));
}

TEST(ChannelTest, RetriesAreBounded) {
  ScriptedServer server;
  std::atomic<int> attempts = 0;
  FailAtFirst(server, 1000, "1", attempts);
  Client client(server.address());
  const absl::Status status = Generate(client);
  EXPECT_TRUE(absl::IsResourceExhausted(status)) << status;
  EXPECT_EQ(DetailsOf(status).reason, "QUEUE_FULL");
  EXPECT_EQ(attempts, 4);
}

TEST(ChannelTest, TheDeadlineBoundsRetriesToo) {
  ScriptedServer server;
  std::atomic<int> attempts = 0;
  FailAtFirst(server, 1000, "60000", attempts);
  Client client(server.address());
  CallOptions options;
  options.timeout = milliseconds(100);
  const absl::Status status = client.Generate(
      {}, [](const auto&) { return true; }, options);
  EXPECT_TRUE(absl::IsDeadlineExceeded(status)) << status;
  EXPECT_EQ(attempts, 1);
}

TEST(ChannelTest, AServerCanForbidRetries) {
  ScriptedServer server;
  std::atomic<int> attempts = 0;
  FailAtFirst(server, 1, "-1", attempts);
  Client client(server.address());
  EXPECT_TRUE(absl::IsResourceExhausted(Generate(client)));
  EXPECT_EQ(attempts, 1);
}

TEST(ChannelTest, ACallerCanSwitchRetriesOff) {
  ScriptedServer server;
  std::atomic<int> attempts = 0;
  FailAtFirst(server, 1, "1", attempts);
  ChannelOptions options{server.address()};
  options.retries = false;
  Client client(options);
  EXPECT_TRUE(absl::IsResourceExhausted(Generate(client)));
  EXPECT_EQ(attempts, 1);
}

TEST(ChannelTest, ALongPromptIsRetriedToo) {
  ScriptedServer server;
  std::atomic<int> attempts = 0;
  FailAtFirst(server, 2, "1", attempts);
  Client client(server.address());
  v1::GenerateRequest request;
  request.set_text(std::string(2 << 20, 'x'));
  const absl::Status status = Generate(client, request);
  EXPECT_TRUE(status.ok()) << status;
  EXPECT_EQ(attempts, 3);
}

TEST(ChannelTest, NothingIsRetriedAfterAccepted) {
  ScriptedServer server;
  std::atomic<int> attempts = 0;
  server.generate = [&](grpc::ServerContext* context, const auto&, auto* writer) {
    ++attempts;
    v1::GenerateResponse event;
    event.mutable_accepted()->set_request_id("r-1");
    writer->Write(event);
    context->AddTrailingMetadata("grpc-retry-pushback-ms", "1");
    return RichStatus(grpc::StatusCode::UNAVAILABLE, "draining", "DRAINING", {{"accepted", "true"}});
  };
  Client client(server.address());
  int accepted = 0;
  const absl::Status status = client.Generate({}, [&](const v1::GenerateResponse& event) {
    accepted += event.has_accepted();
    return true;
  });
  EXPECT_TRUE(absl::IsUnavailable(status)) << status;
  EXPECT_TRUE(DetailsOf(status).accepted);
  EXPECT_EQ(attempts, 1);
  EXPECT_EQ(accepted, 1);
}

TEST(ChannelTest, ARefusalThatWouldComeAgainIsNotRetried) {
  ScriptedServer server;
  std::atomic<int> attempts = 0;
  server.generate = [&](auto*, auto&, auto*) {
    ++attempts;
    return RichStatus(grpc::StatusCode::INVALID_ARGUMENT, "n: expected 1 or more", "BAD_VALUE", {});
  };
  Client client(server.address());
  EXPECT_TRUE(absl::IsInvalidArgument(Generate(client)));
  EXPECT_EQ(attempts, 1);
}

// Two servers behind one name, which count their calls.
class TwoServersTest : public testing::Test {
 protected:
  TwoServersTest() : client_(absl::StrCat("ipv4:", servers_[0].address(), ",", servers_[1].address())) {
    for (int i : {0, 1}) {
      servers_[i].generate = [this, i](auto*, auto&, auto* writer) {
        ++calls_[i];
        WriteStream(writer, {"a", "b"});
        return grpc::Status::OK;
      };
    }
  }

  // Calls until both servers have answered, which means that both connections stand.
  void CallUntilBothAnswer() {
    for (int i = 0; i < 10'000 && (calls_[0] == 0 || calls_[1] == 0); ++i) {
      const absl::Status status = Generate(client_);
      ASSERT_TRUE(status.ok()) << status;
    }
    ASSERT_TRUE(calls_[0] > 0 && calls_[1] > 0);
  }

  std::atomic<int> calls_[2] = {0, 0};
  ScriptedServer servers_[2];
  Client client_;
};

TEST_F(TwoServersTest, ShareCallsInTurn) {
  CallUntilBothAnswer();
  const int before[2] = {calls_[0], calls_[1]};
  for (int i = 0; i < 20; ++i) ASSERT_TRUE(Generate(client_).ok());
  EXPECT_EQ(calls_[0] - before[0], 10);
  EXPECT_EQ(calls_[1] - before[1], 10);
}

TEST_F(TwoServersTest, OneThatDrainsLosesNoCall) {
  CallUntilBothAnswer();
  servers_[0].Drain();
  const int drained = calls_[0];
  for (int i = 0; i < 6; ++i) {
    const absl::Status status = Generate(client_);
    EXPECT_TRUE(status.ok()) << status;
  }
  EXPECT_EQ(calls_[0], drained);
}

TEST(ChannelTest, ConnectionsThatTheServerClosesForTheirAgeLoseNoCall) {
  ScriptedServer server(grpc::InsecureServerCredentials(), milliseconds(20));
  std::mutex mutex;
  std::set<std::string> connections;
  server.generate = [&](grpc::ServerContext* context, const auto&, auto* writer) {
    WriteStream(writer, {"a", "b"});
    const std::lock_guard<std::mutex> lock(mutex);
    connections.insert(context->peer());
    return grpc::Status::OK;
  };
  Client client(server.address());
  for (bool enough = false; !enough;) {
    const absl::Status status = Generate(client);
    ASSERT_TRUE(status.ok()) << status;
    const std::lock_guard<std::mutex> lock(mutex);
    enough = connections.size() >= 3;
  }
}

// Makes Generate keep the metadata that came under `authorization`.
void KeepAuthorization(ScriptedServer& server, std::string& authorization) {
  server.generate = [&](grpc::ServerContext* context, auto&, auto* writer) {
    const auto& metadata = context->client_metadata();
    if (const auto entry = metadata.find("authorization"); entry != metadata.end()) {
      authorization = std::string(entry->second.data(), entry->second.size());
    }
    WriteStream(writer, {"x"});
    return grpc::Status::OK;
  };
}

TEST(ChannelTest, AnApiKeyComesWithEveryCallInPlaintextToo) {
  ScriptedServer server;
  std::string authorization;
  KeepAuthorization(server, authorization);
  ChannelOptions options{server.address()};
  options.api_key = "k-123";
  Client client(options);
  ASSERT_TRUE(Generate(client).ok());
  EXPECT_EQ(authorization, "Bearer k-123");
  authorization.clear();
  Client without(server.address());
  ASSERT_TRUE(Generate(without).ok());
  EXPECT_EQ(authorization, "");
}

std::shared_ptr<grpc::ServerCredentials> ServerTls(const Certificate& server, const std::string& client_ca) {
  grpc::SslServerCredentialsOptions options(client_ca.empty()
                                                ? GRPC_SSL_DONT_REQUEST_CLIENT_CERTIFICATE
                                                : GRPC_SSL_REQUEST_AND_REQUIRE_CLIENT_CERTIFICATE_AND_VERIFY);
  options.pem_root_certs = client_ca;
  options.pem_key_cert_pairs.push_back({server.key, server.certificate});
  return grpc::SslServerCredentials(options);
}

TEST(ChannelTest, TlsTrustsTheCaThatWasGivenAndNoOther) {
  const Certificate own("channel_test_server"), other("channel_test_other");
  ScriptedServer server(ServerTls(own, ""));
  std::string authorization;
  KeepAuthorization(server, authorization);
  ChannelOptions options{server.address()};
  options.api_key = "k-456";
  options.tls.emplace().ca = own.certificate;
  Client right(options);
  const absl::Status good = Generate(right);
  EXPECT_TRUE(good.ok()) << good;
  EXPECT_EQ(authorization, "Bearer k-456");
  for (const std::string& ca : {other.certificate, std::string()}) {  // the system does not know it either
    options.tls->ca = ca;
    Client wrong(options);
    const absl::Status bad = Generate(wrong);
    EXPECT_TRUE(absl::IsUnavailable(bad)) << bad;
  }
}

TEST(ChannelTest, AServerCanAskForTheClientsCertificate) {
  const Certificate own("channel_test_mutual"), mine("channel_test_client");
  ScriptedServer server(ServerTls(own, mine.certificate));
  std::string authorization;
  KeepAuthorization(server, authorization);
  ChannelOptions options{server.address()};
  options.tls.emplace().ca = own.certificate;
  Client without(options);
  EXPECT_TRUE(absl::IsUnavailable(Generate(without)));
  options.tls->certificate = mine.certificate;
  options.tls->private_key = mine.key;
  Client with(options);
  const absl::Status status = Generate(with);
  EXPECT_TRUE(status.ok()) << status;
}

std::string WithoutSpaces(std::string text) {
  text.erase(std::remove_if(text.begin(), text.end(), [](unsigned char c) { return std::isspace(c); }),
             text.end());
  return text;
}

TEST(ServiceConfigTest, TheManualAndItsProgramsShowTheOneThatThisClientUses) {
  EXPECT_THAT(Contents(YOIO_SOURCE_DIR "/docs/clients.md"),
              HasSubstr(absl::StrCat("```json\n", kServiceConfig, "\n```")));
  for (const char* program : {"python/generate.py", "java/Generate.java", "go/generate.go"}) {
    EXPECT_THAT(WithoutSpaces(Contents(absl::StrCat(YOIO_SOURCE_DIR "/examples/", program))),
                HasSubstr(WithoutSpaces(kServiceConfig)))
        << program;
  }
}

}  // namespace
}  // namespace yoio
