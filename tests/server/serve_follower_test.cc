// The life of a follower's process: join, ready line, exit codes.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include <thread>

#include "server/follower_server.h"
#include "server/serve.h"
#include "server/shutdown_signal.h"
#include "tests/server/in_process.h"
#include "tests/support/temporary_directory.h"

namespace yoio {
namespace {

using std::chrono::seconds;
using testing::AllOf;
using testing::ContainsRegex;
using testing::HasSubstr;

constexpr char kToken[] = "0123456789abcdef";

class ServeFollowerTest : public testing::Test {
 protected:
  ServeFollowerTest() {
    CatchShutdownSignals();
    leader_ = FollowerServer::Start({.host = "127.0.0.1", .port = 0}, kToken, log_.logger).value();
    ServerOptions& options = parsed_.options;
    options.engine.model_dir = YOIO_SOURCE_DIR;  // a directory; nothing here looks into it
    options.engine.nnodes = 2;
    options.engine.node_rank = 1;
    options.engine.load_timeout = seconds(20);
    options.health_listen->port = 0;
    options.leader_address = leader_->address();
    options.follower_token_file = directory_.Write("token", kToken);
  }

  // Serves with a follower that gets ready and then ends with what `follow` returns.
  int Run(const std::function<absl::Status(Pipe&)>& follow) {
    return ServeFollower(
        parsed_,
        [&](const EngineOptions& options, std::unique_ptr<Pipe> pipe, const std::function<void()>& on_ready) {
          EXPECT_EQ(options.group_host, "127.0.0.1");
          on_ready();
          return follow(*pipe);
        },
        log_.logger);
  }

  // The two lines of a follower that is refused.
  std::string Refusal() {
    testing::internal::CaptureStderr();
    EXPECT_EQ(Run([](Pipe&) { return absl::OkStatus(); }), kExitConfiguration);
    return testing::internal::GetCapturedStderr();
  }

  const test::TemporaryDirectory directory_;
  LogCapture log_;
  std::unique_ptr<FollowerServer> leader_;
  ParsedOptions parsed_;
};

using ServeFollowerDeathTest = ServeFollowerTest;

TEST_F(ServeFollowerTest, EndsWithItsLeader) {
  testing::internal::CaptureStdout();
  const int code = Run([&](Pipe& pipe) {
    auto other = leader_->Accept(Clock::now() + seconds(10)).value();
    other->Send("bye");
    EXPECT_EQ(pipe.Receive(Clock::now() + seconds(10)).value(), "bye");
    return absl::OkStatus();
  });
  EXPECT_EQ(code, kExitDrained);
  EXPECT_THAT(testing::internal::GetCapturedStdout(),
              ContainsRegex("^yoio-server follower ready health=127.0.0.1:[0-9]+ node-rank=1 "
                            "leader=127.0.0.1:[0-9]+\n$"));
  EXPECT_THAT(log_.text(), HasSubstr("the leader has drained"));
}

TEST_F(ServeFollowerTest, ARefusalIsAConfigurationError) {
  testing::internal::CaptureStderr();
  testing::internal::CaptureStdout();
  const int code = Run([](Pipe&) { return absl::InvalidArgumentError("the version of node 1 is 2"); });
  testing::internal::GetCapturedStdout();
  EXPECT_EQ(code, kExitConfiguration);
  EXPECT_THAT(testing::internal::GetCapturedStderr(),
              HasSubstr("yoio-server: cannot load the model: the version"));
}

TEST_F(ServeFollowerTest, AnotherTokenIsAConfigurationError) {
  parsed_.options.follower_token_file = directory_.Write("other", "fedcba9876543210");
  EXPECT_THAT(Refusal(), AllOf(HasSubstr("yoio-server: cannot join the leader at 127.0.0.1:"),
                               HasSubstr("--follower-token-file")));
}

TEST_F(ServeFollowerTest, ABadTokenFileIsAConfigurationError) {
  parsed_.options.follower_token_file = directory_.Write("empty", "");
  EXPECT_THAT(Refusal(),
              AllOf(HasSubstr("yoio-server: --follower-token-file "), HasSubstr("/empty: expected")));
}

TEST_F(ServeFollowerTest, ALeaderThatIsNotThereIsAConfigurationError) {
  leader_.reset();
  parsed_.options.engine.load_timeout = seconds(1);
  EXPECT_THAT(Refusal(), AllOf(HasSubstr("no leader at 127.0.0.1:"), HasSubstr("--leader-address")));
}

TEST_F(ServeFollowerTest, TheFirstSignalWaitsForTheLeader) {
  testing::internal::CaptureStdout();
  const int code = Run([&](Pipe&) {
    kill(getpid(), SIGTERM);
    while (log_.text().find("leaving when the leader does") == std::string::npos) std::this_thread::yield();
    return absl::OkStatus();
  });
  testing::internal::GetCapturedStdout();
  EXPECT_EQ(code, kExitDrained);
}

TEST_F(ServeFollowerDeathTest, AFailedGroupExitsWithTwo) {
  testing::FLAGS_gtest_death_test_style = "threadsafe";
  const auto fail = [](const EngineOptions&, std::unique_ptr<Pipe>, const std::function<void()>& on_ready) {
    on_ready();
    return absl::UnavailableError("node 2: gone");
  };
  EXPECT_EXIT(ServeFollower(parsed_, fail, Logger()), testing::ExitedWithCode(kExitEngineFailed),
              "engine failed.*node 2: gone");
}

}  // namespace
}  // namespace yoio
