// The follower link over loopback: messages both ways, breaks, refusals, and peers that vanish.
#include "server/link.h"

#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <thread>

#include "server/follower_server.h"
#include "server/token.h"
#include "server/join_leader.h"
#include "tests/server/in_process.h"
#include "tests/support/temporary_directory.h"

namespace yoio {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using testing::AllOf;
using testing::HasSubstr;

constexpr char kToken[] = "0123456789abcdef";

TimePoint In(Duration duration) { return Clock::now() + duration; }

class LinkTest : public testing::Test {
 protected:
  void SetUp() override { Start(0); }

  void Start(int port) {
    server_ = FollowerServer::Start({.host = "127.0.0.1", .port = port}, kToken, log_.logger).value();
  }

  absl::StatusOr<std::unique_ptr<Pipe>> Join(const std::string& token = kToken,
                                             Duration timeout = seconds(10)) {
    return JoinLeader({.leader = server_->address(), .token = token, .timeout = timeout}, log_.logger);
  }

  // Both ends of a new link.
  void Connect() {
    follower_ = Join().value();
    leader_ = server_->Accept(In(seconds(10))).value();
  }

  LogCapture log_;
  std::unique_ptr<FollowerServer> server_;
  std::unique_ptr<Pipe> leader_;
  std::unique_ptr<Pipe> follower_;
};

std::string Next(Pipe& pipe) { return pipe.Receive(In(seconds(10))).value(); }

TEST_F(LinkTest, MessagesTravelBothWaysInOrder) {
  Connect();
  constexpr int kMessages = 500;
  const auto talk = [](Pipe& pipe, const std::string& mine, const std::string& theirs) {
    for (int i = 0; i < kMessages; ++i) pipe.Send(mine + std::to_string(i));
    for (int i = 0; i < kMessages; ++i) EXPECT_EQ(Next(pipe), theirs + std::to_string(i));
  };
  std::thread other([&] { talk(*follower_, "f", "l"); });
  talk(*leader_, "l", "f");
  other.join();
}

TEST_F(LinkTest, MessagesMayBeLargeOrEmpty) {
  Connect();
  std::string large(20 << 20, 'x');
  for (size_t i = 0; i < large.size(); ++i) large[i] = static_cast<char>(i * 31 >> 3);
  leader_->Send(large);
  leader_->Send("");
  EXPECT_TRUE(Next(*follower_) == large);
  EXPECT_EQ(Next(*follower_), "");
  follower_->Send(large);
  EXPECT_TRUE(Next(*leader_) == large);
}

TEST_F(LinkTest, ReceiveEndsAtItsDeadline) {
  Connect();
  EXPECT_TRUE(absl::IsDeadlineExceeded(leader_->Receive(In(milliseconds(20))).status()));
  EXPECT_TRUE(absl::IsDeadlineExceeded(server_->Accept(In(milliseconds(20))).status()));
}

// Sends, breaks, and expects that the other end reads all that was sent and then the reason.
void ExpectBreakBehindMessages(Pipe& breaking, Pipe& other) {
  breaking.Send("1");
  breaking.Send("2");
  breaking.Break(absl::InvalidArgumentError("the model differs"));
  breaking.Break(absl::InternalError("too late"));
  breaking.Send("lost");
  EXPECT_EQ(Next(other), "1");
  EXPECT_EQ(Next(other), "2");
  const absl::Status reason = absl::InvalidArgumentError("the model differs");
  EXPECT_EQ(other.Receive(In(seconds(10))).status(), reason);
  EXPECT_EQ(other.Receive(In(seconds(10))).status(), reason);
  EXPECT_EQ(breaking.Receive(In(seconds(10))).status(), reason);
  other.Send("lost");
}

TEST_F(LinkTest, TheLeaderBreaksBehindWhatItSent) {
  Connect();
  ExpectBreakBehindMessages(*leader_, *follower_);
}

TEST_F(LinkTest, TheFollowerBreaksBehindWhatItSent) {
  Connect();
  ExpectBreakBehindMessages(*follower_, *leader_);
}

TEST_F(LinkTest, ABreakArrivesThoughItsPipeIsDestroyed) {
  Connect();
  follower_->Send("last");
  follower_->Break(absl::FailedPreconditionError("no GPU"));
  follower_.reset();
  EXPECT_EQ(Next(*leader_), "last");
  EXPECT_EQ(leader_->Receive(In(seconds(10))).status(), absl::FailedPreconditionError("no GPU"));
}

TEST_F(LinkTest, ADestroyedPipeBreaks) {
  Connect();
  leader_->Send("last");
  leader_.reset();
  EXPECT_EQ(Next(*follower_), "last");
  EXPECT_FALSE(follower_->Receive(In(seconds(10))).ok());
}

TEST_F(LinkTest, ABreakWakesTheReceiver) {
  Connect();
  std::thread receiver([&] {
    EXPECT_EQ(leader_->Receive(TimePoint::max()).status(), absl::UnavailableError("a rank has failed"));
  });
  leader_->Break(absl::UnavailableError("a rank has failed"));
  receiver.join();
}

TEST_F(LinkTest, AServerThatEndsIsALeaderThatIsGone) {
  Connect();
  std::thread closing([&] { server_.reset(); });
  const absl::Status status = follower_->Receive(In(seconds(10))).status();
  EXPECT_TRUE(absl::IsUnavailable(status)) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("127.0.0.1:"));
  EXPECT_TRUE(absl::IsUnavailable(leader_->Receive(In(seconds(10))).status()));
  closing.join();
}

TEST_F(LinkTest, AnotherTokenIsRefusedAtOnceAndLogged) {
  for (const std::string token : {"0123456789abcdeX", "0123456789abcdef0", "x"}) {
    const TimePoint start = Clock::now();
    EXPECT_EQ(Join(token).status().code(), absl::StatusCode::kUnauthenticated);
    EXPECT_LT(Clock::now() - start, seconds(5));
  }
  EXPECT_THAT(log_.text(), AllOf(HasSubstr("\"event\":\"follower refused\""), HasSubstr("127.0.0.1:")));
  EXPECT_THAT(log_.text(), testing::Not(HasSubstr(kToken)));
  EXPECT_TRUE(absl::IsDeadlineExceeded(server_->Accept(In(milliseconds(20))).status()));
}

TEST_F(LinkTest, RefusalsReachThoseWhoWaitAndThoseWhoCome) {
  const std::unique_ptr<Pipe> waiting = Join().value();
  const absl::Status reason = absl::FailedPreconditionError("all have come");
  server_->Refuse(reason);
  EXPECT_EQ(waiting->Receive(In(seconds(10))).status(), reason);
  EXPECT_EQ(Join().status(), reason);
  EXPECT_EQ(server_->Accept(In(seconds(10))).status(), reason);
}

TEST_F(LinkTest, AFollowerWaitsForItsLeader) {
  const int port = server_->address().port;
  server_.reset();
  std::thread starting([&] {
    std::this_thread::sleep_for(milliseconds(300));
    Start(port);
  });
  const auto joined = JoinLeader(
      {.leader = {.host = "127.0.0.1", .port = port}, .token = kToken, .timeout = seconds(20)}, log_.logger);
  starting.join();
  EXPECT_TRUE(joined.ok()) << joined.status();
  EXPECT_THAT(log_.text(), HasSubstr("\"event\":\"waiting for the leader\""));
}

TEST_F(LinkTest, AFollowerWithoutALeaderGivesUp) {
  const Address nobody = server_->address();
  server_.reset();
  const auto joined =
      JoinLeader({.leader = nobody, .token = kToken, .timeout = milliseconds(500)}, log_.logger);
  EXPECT_TRUE(absl::IsDeadlineExceeded(joined.status())) << joined.status();
  EXPECT_THAT(std::string(joined.status().message()), HasSubstr(nobody.ToString()));
}

TEST_F(LinkTest, AServerOfCallsTakesNoFollowers) {
  InProcess calls;
  const auto joined =
      JoinLeader({.leader = calls.server->address(), .token = kToken, .timeout = seconds(10)}, log_.logger);
  EXPECT_EQ(joined.status().code(), absl::StatusCode::kUnimplemented) << joined.status();
}

// Passes bytes on between one client and a server, until it is told to lose the connection or to let it hang.
class Relay {
 public:
  explicit Relay(int server_port) : listener_(socket(AF_INET, SOCK_STREAM, 0)), server_port_(server_port) {
    sockaddr_in address = Loopback(0);
    socklen_t size = sizeof(address);
    EXPECT_EQ(bind(listener_, reinterpret_cast<sockaddr*>(&address), size), 0);
    EXPECT_EQ(listen(listener_, 1), 0);
    getsockname(listener_, reinterpret_cast<sockaddr*>(&address), &size);
    port_ = ntohs(address.sin_port);
    accepting_ = std::thread([this] { Accept(); });
  }
  ~Relay() {
    Lose();
    for (const int fd : {client_, server_, listener_}) close(fd);
  }

  int port() const { return port_; }

  // Both ends see the connection close.
  void Lose() {
    if (accepting_.joinable()) accepting_.join();
    for (const int fd : {client_, server_}) shutdown(fd, SHUT_RDWR);
    for (std::thread& thread : copying_) thread.join();
    copying_.clear();
  }

 private:
  static sockaddr_in Loopback(int port) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    address.sin_port = htons(static_cast<uint16_t>(port));
    return address;
  }

  void Accept() {
    client_ = accept(listener_, nullptr, nullptr);
    server_ = socket(AF_INET, SOCK_STREAM, 0);
    const sockaddr_in address = Loopback(server_port_);
    EXPECT_EQ(connect(server_, reinterpret_cast<const sockaddr*>(&address), sizeof(address)), 0);
    copying_.emplace_back([this] { Copy(client_, server_); });
    copying_.emplace_back([this] { Copy(server_, client_); });
  }

  static void Copy(int from, int to) {
    char buffer[4096];
    for (ssize_t count; (count = read(from, buffer, sizeof(buffer))) > 0;) {
      if (send(to, buffer, static_cast<size_t>(count), MSG_NOSIGNAL) != count) return;
    }
  }

  const int listener_;
  const int server_port_;
  int port_ = 0;
  int client_ = -1;
  int server_ = -1;
  std::thread accepting_;
  std::vector<std::thread> copying_;
};

TEST_F(LinkTest, ALostConnectionBreaksBothEnds) {
  Relay relay(server_->address().port);
  follower_ =
      JoinLeader(
          {.leader = {.host = "127.0.0.1", .port = relay.port()}, .token = kToken, .timeout = seconds(10)},
          log_.logger)
          .value();
  leader_ = server_->Accept(In(seconds(10))).value();
  leader_->Send("1");
  EXPECT_EQ(Next(*follower_), "1");
  relay.Lose();
  const absl::Status follower = follower_->Receive(In(seconds(10))).status();
  EXPECT_TRUE(absl::IsUnavailable(follower)) << follower;
  EXPECT_THAT(std::string(follower.message()), HasSubstr("the leader at 127.0.0.1:"));
  const absl::Status leader = leader_->Receive(In(seconds(10))).status();
  EXPECT_TRUE(absl::IsUnavailable(leader)) << leader;
  EXPECT_THAT(std::string(leader.message()), HasSubstr("the follower at ipv4:127.0.0.1:"));
  leader_->Send("lost");
}

TEST(FollowerTokenTest, IsOneLineOfEnoughCharacters) {
  const test::TemporaryDirectory directory;
  const std::string path = directory.path() + "/token";
  const auto read = [&](const std::string& content) {
    return ReadToken(directory.Write("token", content));
  };
  EXPECT_EQ(read("0123456789abcdef\n").value(), kToken);
  EXPECT_EQ(read("0123456789abcdef").value(), kToken);
  for (const std::string& bad : {std::string(), std::string("0123456789abcde\n"), std::string(5000, 'x'),
                                 std::string("0123456789 abcdef"), std::string("0123456789abcdef\nx"),
                                 std::string("0123456789abcdef\xc3\xa4")}) {
    const absl::Status status = read(bad).status();
    EXPECT_TRUE(absl::IsInvalidArgument(status)) << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr(path));
  }
  EXPECT_TRUE(absl::IsNotFound(ReadToken(path + "x").status()));
  EXPECT_TRUE(absl::IsNotFound(ReadToken(directory.path()).status()));
}

}  // namespace
}  // namespace yoio
