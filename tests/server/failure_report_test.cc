#include "server/failure_report.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <map>
#include <sstream>

#include "nlohmann/json.hpp"
#include "server/flight_dump.h"
#include "tests/server/in_process.h"
#include "tests/server/recording_engine.h"
#include "tests/support/temporary_directory.h"

namespace yoio {
namespace {

using nlohmann::json;
using testing::ElementsAre;
using testing::HasSubstr;

std::string Contents(const std::string& path) {
  std::ostringstream text;
  text << std::ifstream(path).rdbuf();
  return text.str();
}

class FailureReportTest : public testing::Test {
 protected:
  FailureReportTest() {
    const RequestNumber one = engine_.Accept("one"), other = engine_.Accept("other"),
                        third = engine_.Accept("third");
    engine_.RunStep(0, {{third, 5}});
    engine_.PlanStep(1, {{other, 1}, {one, 2}});
  }

  test::TemporaryDirectory directory_;
  const std::string file_ = directory_.path() + "/termination-log";
  LogCapture log_;
  RecordingEngine engine_;
};

TEST_F(FailureReportTest, OneRecordSaysWhereEverythingIs) {
  FailureReport report(file_, log_.logger);
  report.Arm(engine_.recorder());
  report.Write(absl::DeadlineExceededError("step 1 has taken longer than 3 s"), engine_.ranks());
  report.Write(absl::UnavailableError("what comes of it"), engine_.ranks());
  const std::string text = log_.text();
  ASSERT_EQ(std::count(text.begin(), text.end(), '\n'), 1) << text;
  const json record = json::parse(text);
  EXPECT_EQ(record["event"], "engine failing");
  EXPECT_EQ(record["message"], "step 1 has taken longer than 3 s");
  EXPECT_EQ(record["step"], 1);
  EXPECT_EQ(record["ranks"], json::parse(R"([
      {"rank": 0, "ended_step": 6, "step": 7, "phase": "cross_decoder", "collective": "all_reduce"},
      {"rank": 1, "ended_step": 6}])"));
  EXPECT_THAT(record["requests"], ElementsAre("one", "other"));
  EXPECT_THAT(record["stacks"].dump(), HasSubstr("FailureReportTest"));
  EXPECT_EQ(json::parse(Contents(file_))["requests"], record["requests"]);
}

TEST_F(FailureReportTest, TheTerminationLogHasRoomForFourThousandBytes) {
  std::vector<StepMember> members;
  for (int i = 0; i < 100; ++i)
    members.push_back({engine_.Accept(std::string(100, 'x') + std::to_string(i)), 1});
  engine_.PlanStep(2, members);
  FailureReport report(file_, log_.logger);
  report.Arm(engine_.recorder());
  report.Write(absl::InternalError(std::string(3000, 'm')), engine_.ranks());
  EXPECT_LT(Contents(file_).size(), 4096u);
  const json record = json::parse(Contents(file_));
  EXPECT_EQ(record["ranks"].size(), 2u);
  EXPECT_GT(record["requests"].size(), 5u);
  EXPECT_EQ(record["requests"].size() + record["requests_left_out"].get<size_t>(), 102u);
  EXPECT_EQ(json::parse(log_.text())["requests"].size(), 102u);
}

TEST_F(FailureReportTest, NothingIsReportedBeforeAndAfter) {
  FailureReport report(file_, log_.logger);
  report.Write(absl::InternalError("while loading"), engine_.ranks());
  report.Arm(engine_.recorder());
  report.Disarm();
  report.Write(absl::InternalError("while leaving"), engine_.ranks());
  EXPECT_EQ(log_.text(), "");
  EXPECT_EQ(Contents(file_), "");
}

TEST_F(FailureReportTest, AProcessWithoutARecorderHasItsStacks) {
  FailureReport report("", log_.logger);
  report.Arm(nullptr);
  report.Write(absl::UnavailableError("the leader has gone"), {});
  const json record = json::parse(log_.text());
  EXPECT_FALSE(record.contains("step"));
  EXPECT_FALSE(record["stacks"].empty());
}

TEST_F(FailureReportTest, ADumpHasALineForEverything) {
  const std::string file = directory_.path() + "/dump.json";
  WriteFlightDump(engine_, file, "SIGUSR1", log_.logger);
  EXPECT_EQ(json::parse(log_.text())["file"], file);
  std::map<std::string, std::vector<json>> kinds;
  std::istringstream lines(Contents(file));
  for (std::string line; std::getline(lines, line);) {
    const json object = json::parse(line);
    kinds[object["kind"]].push_back(object);
  }
  ASSERT_EQ(kinds["server"].size(), 1u);
  EXPECT_EQ(kinds["server"][0]["reason"], "SIGUSR1");
  EXPECT_EQ(kinds["rank"].size(), 2u);
  ASSERT_EQ(kinds["request"].size(), 3u);
  EXPECT_EQ(kinds["request"][0]["request_id"], "one");
  ASSERT_EQ(kinds["step"].size(), 2u);
  EXPECT_EQ(kinds["step"][0]["total_us"], 2000);
  EXPECT_EQ(kinds["step"][0]["ranks"][1]["phases_us"]["self_decoder"], 600);
  EXPECT_EQ(kinds["step"][1]["members"], json::parse("[[2, 1], [1, 2]]"));
  EXPECT_FALSE(kinds["step"][1].contains("total_us"));
}

TEST_F(FailureReportTest, ADumpThatCannotBeWrittenIsAWarning) {
  WriteFlightDump(engine_, directory_.path() + "/none/dump.json", "SIGUSR1", log_.logger);
  const json line = json::parse(log_.text());
  EXPECT_EQ(line["level"], "warning");
  EXPECT_THAT(line["message"].get<std::string>(), HasSubstr("No such file or directory"));
}

}  // namespace
}  // namespace yoio
