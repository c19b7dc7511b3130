// What clients of the metrics listener get, the rude ones too.
#include "server/metrics/metrics_listener.h"

#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/clock.h"

namespace yoio {
namespace {

using testing::AllOf;
using testing::EndsWith;
using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;

// A connection to a loopback port.
class Client {
 public:
  explicit Client(int port) : fd_(socket(AF_INET, SOCK_STREAM, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(static_cast<uint16_t>(port));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    connected_ = connect(fd_, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0;
  }
  ~Client() { close(fd_); }
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;

  bool connected() const { return connected_; }
  void Send(const std::string& text) const { send(fd_, text.data(), text.size(), MSG_NOSIGNAL); }
  // All that comes until the server closes the connection.
  std::string Receive() const {
    std::string all;
    char part[4096];
    for (ssize_t got = 0; (got = recv(fd_, part, sizeof(part), 0)) > 0;) all.append(part, got);
    return all;
  }

 private:
  const int fd_;
  bool connected_ = false;
};

struct Listening {
  Listening() {
    auto started = MetricsListener::Start({.host = "127.0.0.1", .port = 0}, metrics);
    EXPECT_TRUE(started.ok()) << started.status();
    listener = *std::move(started);
  }
  int port() const { return listener->address().port; }
  std::string Ask(const std::string& request) const {
    const Client client(port());
    client.Send(request);
    return client.Receive();
  }

  ServerMetrics metrics{{.version = "1", .model = "tiny"}};
  std::unique_ptr<MetricsListener> listener;
};

TEST(MetricsListenerTest, Scrape) {
  const Listening server;
  ASSERT_GT(server.port(), 0);
  const std::string text = server.Ask("GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n");
  EXPECT_THAT(text,
              StartsWith("HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\n"));
  EXPECT_THAT(text, HasSubstr("\nyoio_engine_healthy 0\n"));
  const std::string open = server.Ask(
      "GET /metrics HTTP/1.1\r\nHost: a\r\nAccept: application/openmetrics-text;version=1.0.0\r\n\r\n");
  EXPECT_THAT(open, AllOf(HasSubstr("Content-Type: application/openmetrics-text; version=1.0.0"),
                          EndsWith("\n# EOF\n")));
}

TEST(MetricsListenerTest, HeadHasTheHeaderAlone) {
  const Listening server;
  const std::string text = server.Ask("HEAD /metrics HTTP/1.1\r\nHost: a\r\n\r\n");
  EXPECT_THAT(text, AllOf(StartsWith("HTTP/1.1 200 OK\r\n"), HasSubstr("Content-Length: "),
                          EndsWith("\r\n\r\n"), Not(HasSubstr("yoio_"))));
}

TEST(MetricsListenerTest, NothingElseIsThere) {
  const Listening server;
  for (const char* path :
       {"/", "/metrics/", "/metric", "/../metrics/x", "/etc/passwd", "/%2e%2e/etc/passwd"}) {
    EXPECT_THAT(server.Ask(absl::StrCat("GET ", path, " HTTP/1.1\r\nHost: a\r\n\r\n")),
                StartsWith("HTTP/1.1 404 "))
        << path;
  }
  for (const char* method : {"POST", "PUT", "DELETE", "OPTIONS"}) {
    EXPECT_THAT(
        server.Ask(absl::StrCat(method, " /metrics HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n")),
        AllOf(StartsWith("HTTP/1.1 405 "), HasSubstr("Allow: GET, HEAD")))
        << method;
  }
}

TEST(MetricsListenerTest, NonsenseAndTooLongRequestsAreTurnedAway) {
  const Listening server;
  EXPECT_THAT(server.Ask("nonsense\r\n\r\n"), Not(HasSubstr("yoio_")));
  EXPECT_THAT(server.Ask(absl::StrCat("GET /metrics HTTP/1.1\r\nHost: a\r\nX: ", std::string(20000, 'x'),
                                      "\r\n\r\n")),
              Not(HasSubstr("yoio_")));
  EXPECT_THAT(server.Ask("GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n"), HasSubstr("yoio_"));
}

TEST(MetricsListenerTest, SlowClientsAreCutOffAndOthersServed) {
  const Listening server;
  std::vector<std::unique_ptr<Client>> slow;
  for (int i = 0; i < 12; ++i) {
    slow.push_back(std::make_unique<Client>(server.port()));
    slow.back()->Send("GET /metrics HTTP/1.1\r\nX: ");  // and never the rest
  }
  const std::string text = server.Ask("GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n");
  EXPECT_THAT(text, HasSubstr("yoio_engine_healthy"));
  for (const auto& client : slow) EXPECT_THAT(client->Receive(), Not(HasSubstr("yoio_")));
}

TEST(MetricsListenerTest, AddressInUse) {
  const Listening server;
  const auto second = MetricsListener::Start(server.listener->address(), server.metrics);
  ASSERT_FALSE(second.ok());
  EXPECT_EQ(second.status().code(), absl::StatusCode::kAlreadyExists);
  EXPECT_THAT(std::string(second.status().message()), HasSubstr("in use"));
}

TEST(MetricsListenerTest, StopsAlthoughClientsHangOn) {
  auto server = std::make_unique<Listening>();
  const Client idle(server->port());
  ASSERT_TRUE(idle.connected());
  server->Ask("GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n");
  server.reset();
  EXPECT_EQ(idle.Receive(), "");
}

}  // namespace
}  // namespace yoio
