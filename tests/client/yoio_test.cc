// The `yoio` binary against a scripted server: what it sends, what it prints, how it exits.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <fstream>
#include <string>
#include <thread>
#include <vector>

#include "tests/client/run_command.h"
#include "tests/client/scripted_server.h"

namespace yoio {
namespace {

using testing::HasSubstr;
using testing::StartsWith;

class YoioTest : public testing::Test {
 protected:
  // Runs `yoio COMMAND --server ... ARGUMENTS`.
  CommandResult Yoio(std::vector<std::string> arguments, const std::string& input = "",
                     const std::function<void(pid_t)>& while_running = {}) {
    arguments.insert(arguments.begin() + 1, {"--server", server_.address()});
    arguments.insert(arguments.begin(), YOIO_BINARY);
    return RunCommand(arguments, input, while_running);
  }

  // Makes Generate answer with `pieces` and keep the request.
  void Say(std::vector<std::string> pieces) {
    server_.generate = [this, pieces](auto*, const auto& request, auto* writer) {
      request_ = request;
      WriteStream(writer, pieces);
      return grpc::Status::OK;
    };
  }

  // Makes Generate fail.
  void Fail(grpc::Status status) {
    server_.generate = [status](auto*, auto&, auto*) { return status; };
  }

  ScriptedServer server_;
  v1::GenerateRequest request_;
};

void ExpectTwoLines(const std::string& text) {
  EXPECT_THAT(text, StartsWith("yoio: "));
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 2) << text;
  EXPECT_EQ(text.back(), '\n') << text;
}

TEST_F(YoioTest, GenerateStreamsTextToStandardOutput) {
  Say({"The", " amber", " code"});
  const CommandResult result = Yoio({"generate", "hello"});
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_EQ(result.out, "The amber code\n");
  EXPECT_EQ(result.err, "");
  EXPECT_EQ(request_.text(), "hello");
}

TEST_F(YoioTest, OptionsThatAreNotGivenStayAbsent) {
  Say({"x"});
  Yoio({"generate", "hello"});
  EXPECT_EQ(request_.sampling().ByteSizeLong(), 0) << request_.DebugString();
  EXPECT_EQ(request_.stop().ByteSizeLong(), 0) << request_.DebugString();
  EXPECT_EQ(request_.output().ByteSizeLong(), 0) << request_.DebugString();
  EXPECT_FALSE(request_.has_n() || request_.has_model() || request_.has_request_id());
}

TEST_F(YoioTest, EveryOptionReachesItsField) {
  Say({"x"});
  const CommandResult result = Yoio({"generate",
                                     "--prompt-ids",
                                     "5,6,7",
                                     "--model",
                                     "tiny",
                                     "--request-id",
                                     "mine",
                                     "-n",
                                     "2",
                                     "--temperature",
                                     "0",
                                     "--top-p",
                                     "0.5",
                                     "--top-k",
                                     "40",
                                     "--min-p",
                                     "0.25",
                                     "--repetition-penalty",
                                     "1.5",
                                     "--frequency-penalty",
                                     "-0.5",
                                     "--presence-penalty",
                                     "0.125",
                                     "--seed",
                                     "18446744073709551615",
                                     "--logit-bias",
                                     "3=-1.5",
                                     "--logit-bias",
                                     "4=2",
                                     "--max-tokens",
                                     "9",
                                     "--min-tokens",
                                     "2",
                                     "--stop",
                                     "end",
                                     "--stop",
                                     "\n",
                                     "--stop-id",
                                     "11",
                                     "--include-stop",
                                     "--ignore-eos",
                                     "--ids",
                                     "--logprobs",
                                     "--prompt-logprobs",
                                     "--top-logprobs",
                                     "3",
                                     "--special-tokens",
                                     "--time-budget",
                                     "1.5",
                                     "--json"});
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_THAT(request_.token_ids().ids(), testing::ElementsAre(5, 6, 7));
  EXPECT_EQ(request_.model(), "tiny");
  EXPECT_EQ(request_.request_id(), "mine");
  EXPECT_EQ(request_.n(), 2);
  const v1::SamplingOptions& sampling = request_.sampling();
  EXPECT_TRUE(sampling.has_temperature());
  EXPECT_EQ(sampling.temperature(), 0);
  EXPECT_EQ(sampling.top_p(), 0.5f);
  EXPECT_EQ(sampling.top_k(), 40);
  EXPECT_EQ(sampling.min_p(), 0.25f);
  EXPECT_EQ(sampling.repetition_penalty(), 1.5f);
  EXPECT_EQ(sampling.frequency_penalty(), -0.5f);
  EXPECT_EQ(sampling.presence_penalty(), 0.125f);
  EXPECT_EQ(sampling.seed(), 18446744073709551615u);
  EXPECT_EQ(sampling.logit_bias().at(3), -1.5f);
  EXPECT_EQ(sampling.logit_bias().at(4), 2.0f);
  const v1::StopOptions& stop = request_.stop();
  EXPECT_EQ(stop.max_tokens(), 9);
  EXPECT_EQ(stop.min_tokens(), 2);
  EXPECT_THAT(stop.stop_strings(), testing::ElementsAre("end", "\n"));
  EXPECT_THAT(stop.stop_ids(), testing::ElementsAre(11));
  EXPECT_TRUE(stop.include_stop() && stop.ignore_eos());
  const v1::OutputOptions& output = request_.output();
  EXPECT_TRUE(output.ids() && output.logprobs() && output.prompt_logprobs());
  EXPECT_TRUE(output.has_skip_special_tokens() && !output.skip_special_tokens());
  EXPECT_EQ(output.top_logprobs(), 3);
  EXPECT_EQ(request_.time_budget().seconds(), 1);
  EXPECT_EQ(request_.time_budget().nanos(), 500'000'000);
}

TEST_F(YoioTest, ThePromptComesFromAFileOrStandardInput) {
  Say({"x"});
  const std::string path = testing::TempDir() + "/yoio_test_prompt.txt";
  std::ofstream(path) << "from a file\n";
  Yoio({"generate", "--file", path});
  EXPECT_EQ(request_.text(), "from a file\n");
  Yoio({"generate"}, "from a pipe, \u00e9\U0001F600");
  EXPECT_EQ(request_.text(), "from a pipe, \u00e9\U0001F600");
  Yoio({"generate", "--file", "-"}, "named");
  EXPECT_EQ(request_.text(), "named");
}

TEST_F(YoioTest, AWrongPromptIsTwoLinesAndNoCall) {
  Say({"x"});
  for (const auto& [arguments, input, said] :
       std::vector<std::tuple<std::vector<std::string>, std::string, std::string>>{
           {{"generate", "a", "--prompt-ids", "1"}, "", "more than once"},
           {{"generate", "--file", "/nonexistent"}, "", "/nonexistent"},
           {{"generate"}, "ab\xC0\x80", "byte 2"},
           {{"tokenize"}, "\xED\xA0\x80", "byte 0"},
           {{"score"}, "abc\xF0\x9F\x98", "byte 3"},
           {{"generate", "a", "--ids"}, "", "JSON"},
           {{"generate", "a", "--logit-bias", "7"}, "", "ID=VALUE"},
           {{"generate", "a", "--max-tokens", "many"}, "", "max-tokens"},
           {{"generate", "a", "--timeout", "-1"}, "", "timeout"}}) {
    const CommandResult result = Yoio(arguments, input);
    EXPECT_EQ(result.exit_code, 2) << said;
    ExpectTwoLines(result.err);
    EXPECT_THAT(result.err, HasSubstr(said));
    EXPECT_EQ(result.out, "");
  }
}

TEST_F(YoioTest, UnknownCommandsAndOptionsAreTwoLines) {
  for (const std::vector<std::string>& arguments :
       {std::vector<std::string>{}, {"dance"}, {"generate", "--dance"}, {"--dance"}}) {
    std::vector<std::string> all = {YOIO_BINARY};
    all.insert(all.end(), arguments.begin(), arguments.end());
    const CommandResult result = RunCommand(all);
    EXPECT_EQ(result.exit_code, 2);
    ExpectTwoLines(result.err);
    EXPECT_THAT(result.err, HasSubstr("--help"));
  }
}

TEST_F(YoioTest, HelpNamesEveryCommandAndExitCode) {
  const CommandResult result = RunCommand({YOIO_BINARY, "--help"});
  EXPECT_EQ(result.exit_code, 0);
  for (const char* word : {"generate", "score", "tokenize", "info", "health", "trace", "debug", "130",
                           "YOIOCLI_ADMIN_TOKEN_FILE"}) {
    EXPECT_THAT(result.out, HasSubstr(word));
  }
}

TEST_F(YoioTest, AServerThatIsNotThereIsTwoLinesAndExitCode3) {
  const CommandResult result = RunCommand({YOIO_BINARY, "info", "--server", "127.0.0.1:1"});
  EXPECT_EQ(result.exit_code, 3);
  ExpectTwoLines(result.err);
  EXPECT_THAT(result.err, HasSubstr("127.0.0.1:1"));
}

TEST_F(YoioTest, ARefusalNamesCodeReasonMessageAndRequest) {
  Fail(RichStatus(grpc::StatusCode::INVALID_ARGUMENT, "sampling.top_p: expected above 0,\ngot 0", "BAD_VALUE",
                  {{"request_id", "r-9"}}));
  const CommandResult result = Yoio({"generate", "x"});
  EXPECT_EQ(result.exit_code, 1);
  ExpectTwoLines(result.err);
  EXPECT_THAT(result.err, HasSubstr("INVALID_ARGUMENT, BAD_VALUE: sampling.top_p: expected above 0, got 0"));
  EXPECT_THAT(result.err, HasSubstr("r-9"));
}

TEST_F(YoioTest, AFullQueueSaysHowLongToWait) {
  Fail(RichStatus(grpc::StatusCode::RESOURCE_EXHAUSTED, "the queue is full", "QUEUE_FULL", {}, 4));
  const CommandResult result = Yoio({"generate", "x"});
  EXPECT_EQ(result.exit_code, 1);
  ExpectTwoLines(result.err);
  EXPECT_THAT(result.err, HasSubstr("Try again in 4 s."));
}

TEST_F(YoioTest, TextThatCameBeforeAFailureIsShown) {
  server_.generate = [](auto*, const auto&, auto* writer) {
    v1::GenerateResponse event;
    event.mutable_delta()->set_text("half of");
    writer->Write(event);
    return RichStatus(grpc::StatusCode::UNAVAILABLE, "the engine failed", "ENGINE_FAILED",
                      {{"suspect", "true"}});
  };
  const CommandResult result = Yoio({"generate", "x"});
  EXPECT_EQ(result.exit_code, 3);
  EXPECT_EQ(result.out, "half of\n");
  EXPECT_THAT(result.err, HasSubstr("at most once"));
}

TEST_F(YoioTest, JsonIsOneMessageALineWithOriginalFieldNames) {
  Say({"a", "\n"});
  const CommandResult result = Yoio({"generate", "x", "--json"});
  EXPECT_EQ(result.exit_code, 0);
  EXPECT_EQ(std::count(result.out.begin(), result.out.end(), '\n'), 5) << result.out;
  EXPECT_THAT(result.out, StartsWith(R"({"accepted":{"request_id":"r-1","prompt_tokens":1234}})"));
  EXPECT_THAT(result.out, HasSubstr(R"({"delta":{"text":"\n"}})"));
  EXPECT_THAT(result.out, HasSubstr(R"("time_to_first_token":"0.501s")"));
}

TEST_F(YoioTest, TimingIsAnAlignedBlockOnStandardError) {
  Say({"a", "b"});
  const CommandResult result = Yoio({"generate", "x", "--timing"});
  EXPECT_EQ(result.out, "ab\n");
  EXPECT_EQ(result.err,
            "request              r-1\n"
            "prompt               1,234 tokens\n"
            "output               2 tokens  EOS\n"
            "queue                0.25 ms\n"
            "prefill              500 ms    2,468 tokens/s\n"
            "time to first token  501 ms\n"
            "time per token       12.5 ms   80 tokens/s\n");
}

TEST_F(YoioTest, ProgressSaysOnceASecondWhatItWaitsFor) {
  server_.generate = [](auto*, const auto&, auto* writer) {
    v1::GenerateResponse event;
    event.mutable_accepted()->set_prompt_tokens(16'384);
    writer->Write(event);
    std::this_thread::sleep_for(std::chrono::milliseconds(1300));
    WriteStream(writer, {"x"});
    return grpc::Status::OK;
  };
  const CommandResult result = Yoio({"generate", "x", "--progress"});
  EXPECT_EQ(result.out, "x\n");
  EXPECT_THAT(result.err, StartsWith("... "));
  EXPECT_THAT(result.err, HasSubstr("... reading the prompt, 16,384 tokens: "));
  EXPECT_THAT(result.err, testing::EndsWith(" s\n"));
}

TEST_F(YoioTest, CtrlCCancelsTheStream) {
  std::atomic<bool> cancelled = false;
  std::atomic<bool> started = false;
  server_.generate = [&](grpc::ServerContext* context, const auto&, auto* writer) {
    v1::GenerateResponse event;
    event.mutable_delta()->set_text("endless ");
    while (!context->IsCancelled() && writer->Write(event)) {
      started = true;
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
    cancelled = context->IsCancelled();
    return grpc::Status::CANCELLED;
  };
  const CommandResult result = Yoio({"generate", "x"}, "", [&](pid_t pid) {
    while (!started) std::this_thread::sleep_for(std::chrono::milliseconds(5));
    kill(pid, SIGINT);
  });
  EXPECT_EQ(result.exit_code, 130);
  EXPECT_EQ(result.err, "");
  for (int i = 0; i < 400 && !cancelled; ++i) std::this_thread::sleep_for(std::chrono::milliseconds(5));
  EXPECT_TRUE(cancelled);
}

TEST_F(YoioTest, TheTimeoutIsReported) {
  server_.generate = [](grpc::ServerContext* context, const auto&, auto*) {
    while (!context->IsCancelled()) std::this_thread::sleep_for(std::chrono::milliseconds(5));
    return grpc::Status::CANCELLED;
  };
  const CommandResult result = Yoio({"generate", "x", "--timeout", "0.1"});
  EXPECT_EQ(result.exit_code, 1);
  ExpectTwoLines(result.err);
  EXPECT_THAT(result.err, HasSubstr("DEADLINE_EXCEEDED"));
  EXPECT_THAT(result.err, HasSubstr("--time-budget"));
}

TEST_F(YoioTest, ScoreSumsLogProbabilities) {
  server_.score = [](const auto&, auto* writer) {
    v1::ScoreResponse event;
    event.mutable_scores()->set_first_position(1);
    for (const float logprob : {-1.0f, -2.0f, -0.5f}) {
      v1::TokenRecord* token = event.mutable_scores()->add_tokens();
      token->set_id(8);
      token->set_logprob(logprob);
    }
    writer->Write(event);
    return grpc::Status::OK;
  };
  const CommandResult result = Yoio({"score", "x", "--tokens"});
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_THAT(result.out, StartsWith("      1       8   -1.00000\n      2       8   -2.00000\n"));
  EXPECT_THAT(result.out, HasSubstr("sum of log-probabilities  -3.5000\n"));
  EXPECT_THAT(result.out, HasSubstr("mean loss                 1.166667"));
}

TEST_F(YoioTest, TokenizePrintsIdsOrTheirCount) {
  server_.tokenize = [](const v1::TokenizeRequest& request, v1::TokenizeResponse* response) {
    response->set_count(2);
    if (!request.count_only()) {
      response->add_ids(17);
      response->add_ids(4);
    }
    return grpc::Status::OK;
  };
  EXPECT_EQ(Yoio({"tokenize", "x"}).out, "17 4\n");
  EXPECT_EQ(Yoio({"tokenize", "x", "--count"}).out, "2\n");
  EXPECT_EQ(Yoio({"tokenize", "x", "--json"}).out, "{\"count\":2,\"ids\":[17,4]}\n");
}

TEST_F(YoioTest, InfoShowsModelServerAndLoad) {
  server_.get_model_info = [](const auto&, v1::GetModelInfoResponse* response) {
    response->add_names("tiny");
    response->set_index_top_k(256);
    return grpc::Status::OK;
  };
  server_.get_server_info = [](const auto&, v1::GetServerInfoResponse* response) {
    response->mutable_limits()->set_max_request_bytes(16 << 20);
    return grpc::Status::OK;
  };
  server_.get_load = [](const auto&, v1::GetLoadResponse* response) {
    response->set_free_blocks(12345);
    return grpc::Status::OK;
  };
  const CommandResult table = Yoio({"info"});
  EXPECT_EQ(table.exit_code, 0) << table.err;
  for (const char* word : {"tiny", "256", "16,777,216", "12,345"}) EXPECT_THAT(table.out, HasSubstr(word));
  const CommandResult json = Yoio({"info", "--json"});
  EXPECT_EQ(std::count(json.out.begin(), json.out.end(), '\n'), 3) << json.out;
  EXPECT_THAT(json.out, HasSubstr(R"("index_top_k":256)"));
}

TEST_F(YoioTest, HealthTellsByItsExitCode) {
  using ::grpc::health::v1::HealthCheckResponse;
  server_.health = {{"", HealthCheckResponse::NOT_SERVING}, {"liveness", HealthCheckResponse::SERVING}};
  const CommandResult readiness = Yoio({"health"});
  EXPECT_EQ(readiness.exit_code, 3);
  EXPECT_EQ(readiness.out, "NOT_SERVING\n");
  const CommandResult liveness = Yoio({"health", "--service", "liveness"});
  EXPECT_EQ(liveness.exit_code, 0);
  EXPECT_EQ(liveness.out, "SERVING\n");
  EXPECT_EQ(Yoio({"health", "--service", "nobody"}).exit_code, 1);
}

}  // namespace
}  // namespace yoio
