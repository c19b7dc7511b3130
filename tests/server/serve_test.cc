// The life of the process: start, ready line, drain, exit codes.
#include "server/serve.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <thread>

#include "absl/strings/str_cat.h"
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
  parsed.options.metrics_listen->port = 0;
  parsed.options.drain_timeout = std::chrono::seconds(5);
  parsed.settings = {{"--max-sequences", "64", "default"}};
  return parsed;
}

// Answers every request, and sends SIGTERM to its own process when it is asked for its health, which Serve
// does first when it has begun to wait for signals.
class SignallingEngine : public ScriptedEngine {
 public:
  SignallingEngine() { AnswerWith("x"); }
  absl::Status health() const override {
    if (!sent_.exchange(true)) kill(getpid(), SIGTERM);
    return ScriptedEngine::health();
  }

 private:
  mutable std::atomic<bool> sent_{false};
};

// Its drain never comes to an end, and a second signal arrives meanwhile.
class HangingEngine : public SignallingEngine {
 public:
  absl::Status Drain(TimePoint) override {
    kill(getpid(), SIGTERM);
    std::this_thread::sleep_for(std::chrono::hours(1));
    return absl::OkStatus();
  }
};

TEST(ServeTest, SignalDrainsAndExitsWithZero) {
  CatchShutdownSignals();
  LogCapture log;
  testing::internal::CaptureStdout();
  const int code = Serve(
      AnyPort(),
      [&](const EngineOptions& options) -> absl::StatusOr<std::unique_ptr<Engine>> {
        options.on_progress("loading weights", 1, 2);
        return std::make_unique<SignallingEngine>();
      },
      log.logger);
  const std::string out = testing::internal::GetCapturedStdout();
  EXPECT_EQ(code, kExitDrained);
  EXPECT_THAT(out, ContainsRegex("^yoio-server ready listen=127.0.0.1:[0-9]+ health=127.0.0.1:[0-9]+ "
                                 "metrics=127.0.0.1:[0-9]+ model=tiny\n$"));
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

TEST(ServeTest, RefusedDeviceIsAConfigurationError) {
  CatchShutdownSignals();
  for (const absl::Status& refusal :
       {absl::UnavailableError("no driver"), absl::UnimplementedError("built without CUDA"),
        absl::FailedPreconditionError("no code for sm_75")}) {
    LogCapture log;
    testing::internal::CaptureStderr();
    const int code = Serve(
        AnyPort(), [&](const EngineOptions&) -> absl::StatusOr<std::unique_ptr<Engine>> { return refusal; },
        log.logger);
    EXPECT_EQ(code, kExitConfiguration);
    EXPECT_THAT(testing::internal::GetCapturedStderr(),
                AllOf(HasSubstr(absl::StrCat("yoio-server: cannot use the GPU: ", refusal.message(), "\n")),
                      HasSubstr("--device cpu")));
  }
}

TEST(ServeTest, FallbackIsOneLineThatNamesTheReason) {
  CatchShutdownSignals();
  LogCapture log;
  testing::internal::CaptureStdout();
  const int code = Serve(
      AnyPort(),
      [&](const EngineOptions& options) -> absl::StatusOr<std::unique_ptr<Engine>> {
        options.on_fallback(absl::UnavailableError("no driver"));
        return std::make_unique<SignallingEngine>();
      },
      log.logger);
  testing::internal::GetCapturedStdout();
  EXPECT_EQ(code, kExitDrained);
  EXPECT_THAT(log.text(), HasSubstr("\"level\":\"warning\",\"event\":\"device\",\"device\":\"cpu\","
                                    "\"message\":\"--device auto serves on the CPU: no driver\""));
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
  options.options.metrics_listen = other.server->address();
  EXPECT_THAT(MistakeBeforeLoading(options), HasSubstr("--metrics-listen 127.0.0.1:"));
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
        Logger log;
        Serve(
            AnyPort(),
            [](const EngineOptions&) -> absl::StatusOr<std::unique_ptr<Engine>> {
              auto engine = std::make_unique<ScriptedEngine>();
              engine->AnswerWith("x");
              engine->FailWith(absl::InternalError("rank 1 is gone"));
              return engine;
            },
            log);
      },
      testing::ExitedWithCode(kExitEngineFailed), "engine failed.*rank 1 is gone");
}

TEST(ServeDeathTest, SecondSignalExitsWithThree) {
  testing::FLAGS_gtest_death_test_style = "threadsafe";
  EXPECT_EXIT(
      {
        CatchShutdownSignals();
        Logger log;
        Serve(
            AnyPort(),
            [](const EngineOptions&) -> absl::StatusOr<std::unique_ptr<Engine>> {
              return std::make_unique<HangingEngine>();
            },
            log);
      },
      testing::ExitedWithCode(kExitKilled), "killed by a second signal");
}

TEST(ServeDeathTest, SignalWhileLoadingExitsWithZero) {
  testing::FLAGS_gtest_death_test_style = "threadsafe";
  EXPECT_EXIT(
      {
        CatchShutdownSignals();
        Logger log;
        Serve(
            AnyPort(),
            [](const EngineOptions&) -> absl::StatusOr<std::unique_ptr<Engine>> {
              kill(getpid(), SIGTERM);
              std::this_thread::sleep_for(std::chrono::hours(1));
              return absl::InternalError("");
            },
            log);
      },
      testing::ExitedWithCode(kExitDrained), "stopped while loading");
}

}  // namespace
}  // namespace yoio
