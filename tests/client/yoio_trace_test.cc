// `yoio trace`, `yoio debug` and `yoio generate --trace` against a scripted server.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>

#include <algorithm>
#include <atomic>
#include <fstream>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "tests/client/run_command.h"
#include "tests/client/scripted_server.h"

namespace yoio {
namespace {

using testing::HasSubstr;
using testing::MatchesRegex;
using testing::Not;
using testing::StartsWith;

std::string WriteFile(const std::string& name, const std::string& content) {
  const std::string path = testing::TempDir() + "/yoio_trace_test_" + name;
  std::ofstream(path) << content;
  return path;
}

void SetMilliseconds(int milliseconds, google::protobuf::Duration* duration) {
  duration->set_nanos(milliseconds * 1'000'000);
}

// A request of 300 ms.
v1::RequestTrace Trace(const std::string& id, int64_t arrival) {
  v1::RequestTrace trace;
  trace.set_request_id(id);
  trace.set_tenant("blue");
  trace.mutable_arrival()->set_seconds(arrival);
  trace.set_code(0);
  SetMilliseconds(300, trace.mutable_timing()->mutable_total());
  SetMilliseconds(100, trace.mutable_timing()->mutable_prefill());
  SetMilliseconds(200, trace.mutable_timing()->mutable_decode());
  return trace;
}

void AddSteps(v1::RequestTrace& trace, int64_t first, int count, int64_t arrival) {
  for (int i = 0; i < count; ++i) {
    v1::StepTrace& step = *trace.add_steps();
    step.set_step(first + i);
    step.mutable_start()->set_seconds(arrival);
    SetMilliseconds(static_cast<int>(first) + i, step.mutable_duration());
  }
}

class YoioTraceTest : public testing::Test {
 protected:
  YoioTraceTest() {
    setenv("LC_ALL", "C.UTF-8", 1);
    server_.admin_token = "the-token-of-these-operators";
  }

  CommandResult Yoio(std::vector<std::string> arguments) {
    arguments.insert(arguments.begin() + 1, {"--server", server_.address(), "--admin-token-file", token_});
    arguments.insert(arguments.begin(), YOIO_BINARY);
    return RunCommand(arguments);
  }

  // Makes GetTraces answer with these and keep the request.
  void Remember(std::vector<v1::RequestTrace> traces) {
    server_.get_traces = [this, traces](const auto& request, auto* writer) {
      request_ = request;
      for (const v1::RequestTrace& trace : traces) {
        v1::GetTracesResponse response;
        *response.mutable_trace() = trace;
        writer->Write(response);
      }
      return grpc::Status::OK;
    };
  }

  ScriptedServer server_;
  v1::GetTracesRequest request_;
  const std::string token_ = WriteFile("token", "the-token-of-these-operators\n");
};

void ExpectTwoLines(const CommandResult& result, int exit_code, const std::string& what,
                    const std::string& what_to_do) {
  EXPECT_EQ(result.exit_code, exit_code);
  EXPECT_THAT(result.err, StartsWith("yoio: "));
  EXPECT_EQ(std::count(result.err.begin(), result.err.end(), '\n'), 2) << result.err;
  EXPECT_THAT(result.err, HasSubstr(what));
  EXPECT_THAT(result.err.substr(result.err.find('\n')), HasSubstr(what_to_do));
}

TEST_F(YoioTraceTest, TheSelectionReachesTheServer) {
  Remember({Trace("a", 100)});
  EXPECT_EQ(Yoio({"trace", "a"}).exit_code, 0);
  EXPECT_EQ(request_.request_id(), "a");
  EXPECT_TRUE(request_.steps());  // for the place of the longest gap
  EXPECT_EQ(Yoio({"trace", "--slowest", "7"}).exit_code, 0);
  EXPECT_EQ(request_.slowest(), 7);
  EXPECT_FALSE(request_.steps());
  EXPECT_EQ(Yoio({"trace", "--since", "1m30s", "--steps"}).exit_code, 0);
  EXPECT_EQ(request_.since().seconds(), 90);
  EXPECT_TRUE(request_.steps());
  EXPECT_EQ(Yoio({"trace"}).exit_code, 0);
  EXPECT_EQ(request_.selection_case(), v1::GetTracesRequest::SELECTION_NOT_SET);
}

TEST_F(YoioTraceTest, ARequestIsDrawnWithItsSlowestSteps) {
  // In two messages, as a server sends many steps, and another request of the same id.
  v1::RequestTrace first = Trace("a", 100), rest, other = Trace("a", 50);
  AddSteps(first, 1, 12, 100);
  rest.set_request_id("a");
  AddSteps(rest, 13, 3, 100);
  Remember({first, rest, other});
  const CommandResult result = Yoio({"trace", "a", "--steps"});
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_THAT(result.out, StartsWith("request a of blue: OK, 0 prompt tokens, 0 generated\n"
                                     "arrived 1970-01-01 00:01:40.000 UTC\n\n"));
  EXPECT_THAT(result.out, HasSubstr("\nprefill    100 ms  █"));
  EXPECT_THAT(result.out, HasSubstr("the slowest 10 of 15 steps"));
  EXPECT_THAT(result.out, HasSubstr("step 15: 15.0 ms"));
  EXPECT_THAT(result.out, Not(HasSubstr("step 5: ")));
  EXPECT_THAT(result.out, HasSubstr("arrived 1970-01-01 00:00:50.000 UTC\n"));
  EXPECT_THAT(result.out, HasSubstr("no steps of it are remembered"));
  const CommandResult ascii = Yoio({"trace", "a", "--ascii"});
  EXPECT_TRUE(std::all_of(ascii.out.begin(), ascii.out.end(), [](char c) { return c > 0; })) << ascii.out;
}

TEST_F(YoioTraceTest, SeveralRequestsAreATable) {
  Remember({Trace("a", 100), Trace("b", 90)});
  const CommandResult result = Yoio({"trace", "--slowest", "2"});
  EXPECT_THAT(result.out, StartsWith("request  ended  prompt"));
  EXPECT_THAT(result.out, HasSubstr("\na        OK "));
  EXPECT_THAT(result.out, HasSubstr("\nb        OK "));
  EXPECT_THAT(result.out, Not(HasSubstr("arrived")));
  EXPECT_THAT(Yoio({"trace", "--slowest", "2", "--steps"}).out, HasSubstr("arrived"));
}

TEST_F(YoioTraceTest, ATableCanBeSorted) {
  v1::RequestTrace stalled = Trace("stalled", 90), late = Trace("late", 80);
  SetMilliseconds(150, stalled.mutable_timing()->mutable_longest_gap());
  SetMilliseconds(250, late.mutable_timing()->mutable_time_to_first_token());
  Remember({Trace("latest", 100), stalled, late});
  const auto first = [&](std::vector<std::string> arguments) {
    const std::string table = Yoio(std::move(arguments)).out;
    const size_t line = table.find('\n') + 1;
    return table.substr(line, table.find(' ', line) - line);
  };
  EXPECT_EQ(first({"trace"}), "latest");
  EXPECT_EQ(first({"trace", "--sort", "total"}), "latest");
  EXPECT_EQ(first({"trace", "--sort", "gap"}), "stalled");
  EXPECT_EQ(first({"trace", "--sort", "first-token"}), "late");
}

TEST_F(YoioTraceTest, JsonIsOneMessageALine) {
  Remember({Trace("a", 100), Trace("b", 90)});
  const CommandResult result = Yoio({"trace", "a", "--json"});
  EXPECT_EQ(std::count(result.out.begin(), result.out.end(), '\n'), 2) << result.out;
  EXPECT_THAT(result.out, StartsWith(R"({"trace":{"request_id":"a",)"));
  EXPECT_FALSE(request_.steps());
}

TEST_F(YoioTraceTest, AnUnknownRequestSaysWhereToLook) {
  Remember({});
  ExpectTwoLines(Yoio({"trace", "gone"}), 1, "no request gone", "yoio trace --since");
  server_.get_traces = [](auto&, auto*) {
    return RichStatus(grpc::StatusCode::NOT_FOUND, "request_id: none has it", "UNKNOWN_REQUEST", {});
  };
  ExpectTwoLines(Yoio({"trace", "gone"}), 1, "no request gone", "yoio trace --since");
  Remember({});
  const CommandResult none = Yoio({"trace", "--slowest", "3"});
  EXPECT_EQ(none.exit_code, 0);
  EXPECT_EQ(none.out, "no requests\n");
}

TEST_F(YoioTraceTest, WhoIsNotLetInIsToldOfTheToken) {
  server_.admin_token = "another";
  for (const char* command : {"trace", "debug"}) {
    ExpectTwoLines(Yoio({command}), 1, "UNAUTHENTICATED, BAD_CREDENTIAL", "--admin-token-file");
  }
  for (const char* command : {"trace", "debug"}) {
    ExpectTwoLines(RunCommand({YOIO_BINARY, command, "--server", "127.0.0.1:1"}), 3,
                   "no answer from 127.0.0.1:1", "--admin-listen");
    ExpectTwoLines(RunCommand({YOIO_BINARY, command, "--admin-token-file", "/nonexistent"}), 2,
                   "/nonexistent cannot be opened", "--admin-token-file");
  }
}

TEST_F(YoioTraceTest, WrongOptionsMakeNoCall) {
  for (const auto& [arguments, said] : std::vector<std::pair<std::vector<std::string>, std::string>>{
           {{"trace", "a", "--slowest", "2"}, "slowest"},
           {{"trace", "--slowest", "0"}, "slowest"},
           {{"trace", "--since", "5"}, "expected a time as 5m"},
           {{"trace", "--duration", "5s"}, "timeline"},
           {{"trace", "--sort", "age"}, "expected total, gap or first-token"},
           {{"debug", "--watch", "0"}, "watch"},
           {{"generate", "x", "--traceparent", "00-1-2-3"}, "expected 00-TRACE-SPAN-FLAGS"}}) {
    std::vector<std::string> all = arguments;
    all.insert(all.begin(), YOIO_BINARY);
    ExpectTwoLines(RunCommand(all), 2, said, "--help");
  }
}

TEST_F(YoioTraceTest, ATimelineGoesIntoAFile) {
  v1::ProfileRequest seen;
  server_.profile = [&](const v1::ProfileRequest& request, auto* writer) {
    seen = request;
    for (const char* piece : {"one ", "two"}) {
      v1::ProfileResponse response;
      response.set_chunk(piece);
      writer->Write(response);
    }
    return grpc::Status::OK;
  };
  const std::string path = testing::TempDir() + "/yoio_trace_test_profile.json.gz";
  const CommandResult result =
      Yoio({"trace", "--timeline", path, "--duration", "1500ms", "--max-steps", "64"});
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_THAT(result.out, HasSubstr("ui.perfetto.dev"));
  EXPECT_EQ(std::count(result.out.begin(), result.out.end(), '\n'), 1);
  std::ostringstream content;
  content << std::ifstream(path).rdbuf();
  EXPECT_EQ(content.str(), "one two");
  EXPECT_EQ(seen.duration().seconds(), 1);
  EXPECT_EQ(seen.duration().nanos(), 500'000'000);
  EXPECT_EQ(seen.steps(), 64);
  ExpectTwoLines(Yoio({"trace", "--timeline", "/nonexistent/file"}), 2, "/nonexistent/file cannot be written",
                 "--timeline");
}

TEST_F(YoioTraceTest, DebugShowsTheStateOrItsMessages) {
  server_.dump_state = [](const auto&, auto* writer) {
    v1::DumpStateResponse response;
    response.mutable_engine()->mutable_time()->set_seconds(0);
    response.mutable_engine()->set_step(4711);
    writer->Write(response);
    response.mutable_request()->set_request_id("alive");
    writer->Write(response);
    return grpc::Status::OK;
  };
  const CommandResult tables = Yoio({"debug"});
  EXPECT_EQ(tables.exit_code, 0) << tables.err;
  EXPECT_THAT(tables.out, HasSubstr("4,711"));
  EXPECT_THAT(tables.out, HasSubstr("\nalive "));
  EXPECT_EQ(Yoio({"debug", "--json"}).out,
            "{\"engine\":{\"time\":\"1970-01-01T00:00:00Z\",\"step\":\"4711\"}}\n{\"request\":{\"request_"
            "id\":\"alive\"}}\n");
}

TEST_F(YoioTraceTest, DebugShowsWhatIsKnownOfAnEngineThatHangs) {
  server_.dump_state = [](const auto&, auto* writer) {
    v1::DumpStateResponse response;
    response.mutable_engine()->mutable_time()->set_seconds(0);
    response.mutable_engine()->set_step(4711);
    writer->Write(response);
    return RichStatus(grpc::StatusCode::UNAVAILABLE, "the engine thread hangs", "ENGINE_FAILED", {});
  };
  const CommandResult result = Yoio({"debug"});
  EXPECT_EQ(result.exit_code, 3);
  EXPECT_THAT(result.out, HasSubstr("4,711"));
  EXPECT_THAT(result.err, HasSubstr("the engine thread hangs"));
}

TEST_F(YoioTraceTest, DebugWatchesUntilItIsStopped) {
  std::atomic<int> calls = 0;
  server_.dump_state = [&](const auto&, auto*) {
    return ++calls < 3 ? grpc::Status::OK : grpc::Status::CANCELLED;
  };
  EXPECT_EQ(Yoio({"debug", "--watch", "0.01"}).exit_code, 130);
  EXPECT_EQ(calls, 3);
}

// What Generate was sent as `traceparent`; empty without.
std::string TraceparentOf(const grpc::ServerContext& context) {
  const auto sent = context.client_metadata().find("traceparent");
  return sent == context.client_metadata().end() ? "" : std::string(sent->second.data(), sent->second.size());
}

TEST_F(YoioTraceTest, GenerateDrawsWhatTheSummarySays) {
  std::string traceparent;
  server_.generate = [&](grpc::ServerContext* context, const auto&, auto* writer) {
    traceparent = TraceparentOf(*context);
    WriteStream(writer, {"one", " two"});
    return grpc::Status::OK;
  };
  const auto generate = [&](std::vector<std::string> arguments) {
    arguments.insert(arguments.begin(), {YOIO_BINARY, "generate", "--server", server_.address(), "x"});
    return RunCommand(arguments);
  };
  EXPECT_EQ(generate({}).err, "");
  EXPECT_EQ(traceparent, "");

  const CommandResult result = generate({"--trace"});
  EXPECT_EQ(result.out, "one two\n");
  EXPECT_THAT(traceparent, MatchesRegex("00-[0-9a-f]{32}-[0-9a-f]{16}-01"));
  EXPECT_THAT(result.err, StartsWith("request r-1: OK, 1,234 prompt tokens, 2 generated\ntrace " +
                                     traceparent.substr(3, 32) + "\n\n"));
  EXPECT_THAT(result.err, HasSubstr("\nprefill    500 ms  █"));

  const std::string given = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00";
  EXPECT_EQ(generate({"--traceparent", given}).err, "");
  EXPECT_EQ(traceparent, given);
  EXPECT_THAT(generate({"--trace", "--traceparent", given}).err,
              HasSubstr("trace 0af7651916cd43dd8448eb211c80319c\n"));
}

TEST_F(YoioTraceTest, GenerateAsksTheAdminListenerForSteps) {
  server_.generate = [](auto*, const auto&, auto* writer) {
    WriteStream(writer, {"x"});
    return grpc::Status::OK;
  };
  v1::RequestTrace trace = Trace("r-1", 100);
  AddSteps(trace, 40, 2, 100);
  Remember({trace});
  const std::vector<std::string> command = {YOIO_BINARY,
                                            "generate",
                                            "x",
                                            "--server",
                                            server_.address(),
                                            "--trace",
                                            "--admin-server",
                                            server_.address(),
                                            "--admin-token-file",
                                            token_};
  const CommandResult result = RunCommand(command);
  EXPECT_EQ(result.exit_code, 0);
  EXPECT_EQ(request_.request_id(), "r-1");
  EXPECT_THAT(result.err, HasSubstr("\nprefill    500 ms"));
  EXPECT_THAT(result.err, HasSubstr("the slowest 2 of 2 steps"));

  server_.admin_token = "another";  // the answer came: that its steps did not is said, and no failure
  const CommandResult refused = RunCommand(command);
  EXPECT_EQ(refused.exit_code, 0);
  EXPECT_THAT(refused.err, HasSubstr("UNAUTHENTICATED"));
  EXPECT_THAT(refused.err, HasSubstr("\nprefill    500 ms"));
}

TEST_F(YoioTraceTest, AFailedStreamIsDrawnFromItsTrailer) {
  server_.generate = [](grpc::ServerContext* context, const auto&, auto* writer) {
    v1::GenerateResponse event;
    event.mutable_accepted()->set_request_id("r-3");
    event.mutable_accepted()->set_prompt_tokens(77);
    writer->Write(event);
    v1::Timing timing;
    SetMilliseconds(900, timing.mutable_total());
    SetMilliseconds(900, timing.mutable_queue());
    context->AddTrailingMetadata("yoio-timing-bin", timing.SerializeAsString());
    return RichStatus(grpc::StatusCode::UNAVAILABLE, "the engine failed", "ENGINE_FAILED",
                      {{"request_id", "r-3"}, {"accepted", "true"}, {"tokens_sent", "5"}});
  };
  const CommandResult result =
      RunCommand({YOIO_BINARY, "generate", "x", "--server", server_.address(), "--trace"});
  EXPECT_EQ(result.exit_code, 3);
  EXPECT_THAT(result.err,
              StartsWith("request r-3: UNAVAILABLE, ENGINE_FAILED, 77 prompt tokens, 5 generated\n"));
  EXPECT_THAT(result.err, HasSubstr("\nqueue    900 ms  █"));
  EXPECT_THAT(result.err, HasSubstr("\nyoio: UNAVAILABLE, ENGINE_FAILED: the engine failed"));
}

}  // namespace
}  // namespace yoio
