// The life of the process: start, ready line, drain, exit codes.
#include "server/serve.h"

#include <gmock/gmock.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <optional>
#include <thread>

#include "engine/errors.h"
#include "server/shutdown_signal.h"
#include "tests/server/in_process.h"

namespace yoio {
namespace {

using testing::AllOf;
using testing::ContainsRegex;
using testing::HasSubstr;

ParsedOptions AnyPort() {
  ParsedOptions parsed;
  parsed.options.engine.model_dir =
      YOIO_SOURCE_DIR;  // a directory; the scripted engine does not look into it
  parsed.options.served_model_names = {"tiny"};
  parsed.options.listen.port = 0;
  parsed.options.health_listen->port = 0;
  parsed.options.drain_timeout = std::chrono::seconds(5);
  parsed.settings = {{"--max-sequences", "64", "default"}};
  return parsed;
}

// Sends SIGTERM to this process in a moment: made while the engine loads, it comes when the scripted engine,
// which loads in no time, is served.
class SignalLater {
 public:
  SignalLater()
      : thread_([] {
          std::this_thread::sleep_for(std::chrono::milliseconds(300));
          kill(getpid(), SIGTERM);
        }) {}
  ~SignalLater() { thread_.join(); }

 private:
  std::thread thread_;
};

TEST(ServeTest, SignalDrainsAndExitsWithZero) {
  CatchShutdownSignals();
  LogCapture log;
  std::optional<SignalLater> signal;
  testing::internal::CaptureStdout();
  const int code = Serve(
      AnyPort(),
      [&](const EngineOptions& options) -> absl::StatusOr<std::unique_ptr<Engine>> {
        options.on_progress("loading weights", 1, 2);
        auto engine = std::make_unique<ScriptedEngine>();
        engine->AnswerWith("x");
        signal.emplace();
        return engine;
      },
      log.logger);
  const std::string out = testing::internal::GetCapturedStdout();
  EXPECT_EQ(code, kExitDrained);
  EXPECT_THAT(
      out, ContainsRegex("^yoio-server ready listen=127.0.0.1:[0-9]+ health=127.0.0.1:[0-9]+ model=tiny\n$"));
  EXPECT_THAT(log.text(), HasSubstr("\"max-sequences\":\"64 (default)\""));
  EXPECT_THAT(log.text(), HasSubstr("\"event\":\"loading\""));
  EXPECT_THAT(log.text(), HasSubstr("\"event\":\"draining\""));
  EXPECT_THAT(log.text(), HasSubstr("\"event\":\"drained\""));
}

TEST(ServeTest, FailedLoadIsAConfigurationError) {
  CatchShutdownSignals();
  LogCapture log;
  testing::internal::CaptureStderr();
  const int code = Serve(
      AnyPort(),
      [](const EngineOptions&) -> absl::StatusOr<std::unique_ptr<Engine>> {
        return absl::NotFoundError("/m/config.json: no such file");
      },
      log.logger);
  EXPECT_EQ(code, kExitConfiguration);
  EXPECT_THAT(testing::internal::GetCapturedStderr(),
              HasSubstr("yoio-server: cannot load the model: /m/config.json: no such file\n"));
}

// The mistake that is told before anything is loaded; it takes two lines and nothing else.
std::string MistakeBeforeLoading(const ParsedOptions& options) {
  LogCapture log;
  testing::internal::CaptureStderr();
  const int code = Serve(
      options,
      [](const EngineOptions&) -> absl::StatusOr<std::unique_ptr<Engine>> {
        ADD_FAILURE() << "loaded";
        return absl::InternalError("");
      },
      log.logger);
  const std::string errors = testing::internal::GetCapturedStderr();
  EXPECT_EQ(code, kExitConfiguration);
  EXPECT_EQ(std::count(errors.begin(), errors.end(), '\n'), 2) << errors;
  EXPECT_EQ(log.text(), "");
  return errors;
}

TEST(ServeTest, MistakesAreToldBeforeLoading) {
  InProcess other;
  ParsedOptions options = AnyPort();
  options.options.listen = other.server->address();
  EXPECT_THAT(MistakeBeforeLoading(options), AllOf(HasSubstr("--listen 127.0.0.1:"), HasSubstr("in use")));
  options = AnyPort();
  options.options.health_listen = other.server->address();
  EXPECT_THAT(MistakeBeforeLoading(options), HasSubstr("--health-listen 127.0.0.1:"));
  options = AnyPort();
  options.options.listen.host = "192.0.2.1";
  EXPECT_THAT(MistakeBeforeLoading(options), HasSubstr("--listen 192.0.2.1:0"));
  options = AnyPort();
  options.options.engine.model_dir = "/nowhere";
  EXPECT_THAT(MistakeBeforeLoading(options), HasSubstr("--model /nowhere: no such directory"));
}

TEST(ServeDeathTest, DeadEngineExitsWithTwo) {
  testing::FLAGS_gtest_death_test_style = "threadsafe";
  EXPECT_EXIT(
      {
        CatchShutdownSignals();
        Serve(
            AnyPort(),
            [](const EngineOptions&) -> absl::StatusOr<std::unique_ptr<Engine>> {
              auto engine = std::make_unique<ScriptedEngine>();
              engine->AnswerWith("x");
              engine->FailWith(absl::InternalError("rank 1 is gone"));
              return engine;
            },
            Logger());
      },
      testing::ExitedWithCode(kExitEngineFailed), "engine failed.*rank 1 is gone");
}

TEST(ServeDeathTest, SecondSignalExitsWithThree) {
  testing::FLAGS_gtest_death_test_style = "threadsafe";
  EXPECT_EXIT(
      {
        CatchShutdownSignals();
        // Its Drain hangs, as a drain with a long request would.
        struct Hanging : ScriptedEngine {
          absl::Status Drain(TimePoint) override {
            kill(getpid(), SIGTERM);
            std::this_thread::sleep_for(std::chrono::hours(1));
            return absl::OkStatus();
          }
        };
        std::optional<SignalLater> first;
        Serve(
            AnyPort(),
            [&](const EngineOptions&) -> absl::StatusOr<std::unique_ptr<Engine>> {
              auto engine = std::make_unique<Hanging>();
              engine->AnswerWith("x");
              first.emplace();
              return engine;
            },
            Logger());
      },
      testing::ExitedWithCode(kExitKilled), "killed by a second signal");
}

}  // namespace
}  // namespace yoio
