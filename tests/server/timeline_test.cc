#include "server/timeline.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <set>

#include "nlohmann/json.hpp"
#include "tests/server/gunzip.h"
#include "tests/server/recording_engine.h"

namespace yoio {
namespace {

using nlohmann::json;
using testing::UnorderedElementsAre;

constexpr int kSteps = 20;

using ThreadOfTrace = std::pair<int, int>;  // process and thread
ThreadOfTrace ThreadOf(const json& event) { return {event["pid"].get<int>(), event["tid"].get<int>()}; }

class TimelineTest : public testing::Test {
 protected:
  TimelineTest() {
    const RequestNumber request = engine_.Accept("a-request");
    for (int step = 0; step < kSteps; ++step) engine_.RunStep(step, {{request, 5}});
    engine_.PlanStep(kSteps, {{request, 5}});  // under way: it has no length yet
    trace_ = json::parse(Gunzip(RenderTimeline(engine_.recorder()->Steps(0, kSteps), *engine_.recorder())));
  }

  std::vector<json> Events(const std::string& phase) const {
    std::vector<json> found;
    for (const json& event : trace_["traceEvents"]) {
      if (event["ph"] == phase) found.push_back(event);
    }
    return found;
  }

  RecordingEngine engine_;
  json trace_;
};

TEST_F(TimelineTest, EveryThreadHasAName) {
  std::set<ThreadOfTrace> named, used;
  for (const json& event : Events("M")) {
    if (event["name"] == "thread_name") named.insert(ThreadOf(event));
  }
  for (const json& event : Events("X")) used.insert(ThreadOf(event));
  EXPECT_EQ(used.size(), 1u + RecordingEngine::kRanks);
  EXPECT_EQ(named, used);
}

TEST_F(TimelineTest, SpansOfAThreadComeInOrderAndNest) {
  std::map<ThreadOfTrace, std::vector<std::pair<double, double>>> open;  // begin and end of enclosing spans
  std::map<ThreadOfTrace, double> last_begin;
  constexpr double kRounding = 1e-3;
  for (const json& event : Events("X")) {
    const ThreadOfTrace thread = ThreadOf(event);
    const double begin = event["ts"], end = begin + event["dur"].get<double>();
    if (last_begin.contains(thread)) {
      EXPECT_GE(begin, last_begin[thread]);
    }
    last_begin[thread] = begin;
    auto& enclosing = open[thread];
    while (!enclosing.empty() && enclosing.back().second <= begin + kRounding) enclosing.pop_back();
    if (!enclosing.empty()) {
      EXPECT_LE(end, enclosing.back().second + kRounding) << event;
    }
    enclosing.push_back({begin, end});
  }
}

TEST_F(TimelineTest, PhasesHaveTheirLengths) {
  std::map<std::string, double> sums;
  for (const json& event : Events("X")) {
    if (event["pid"] == 2 && event["tid"] == 1) sums[event["name"]] += event["dur"].get<double>();
  }
  EXPECT_EQ(sums.size(), 3u);
  EXPECT_NEAR(sums["step"], 1000 * kSteps, 1);
  EXPECT_NEAR(sums["self_decoder"], 600 * kSteps, 1);
  EXPECT_NEAR(sums["sampling"], 400 * kSteps, 1);
}

TEST_F(TimelineTest, StepsNameTheirMembers) {
  int steps = 0, plans = 0;
  for (const json& event : Events("X")) {
    if (event["pid"] != 1) continue;
    plans += event["name"] == "plan";
    if (event["name"] != "step") continue;
    ++steps;
    EXPECT_EQ(event["args"]["members"], json::parse(R"([{"id": "a-request", "tokens": 5}])"));
    EXPECT_EQ(event["args"]["prompt_tokens"], 5);
  }
  EXPECT_EQ(steps, kSteps);
  EXPECT_EQ(plans, kSteps + 1);
}

TEST_F(TimelineTest, CountersFollowTheEngine) {
  std::map<std::string, std::set<int>> values;
  for (const json& event : Events("C"))
    values[event["name"]].insert(event["args"][event["name"].get<std::string>()].get<int>());
  EXPECT_THAT(values, UnorderedElementsAre(testing::Pair("running", std::set<int>{1}),
                                           testing::Pair("waiting", std::set<int>{4}),
                                           testing::Pair("free_blocks", std::set<int>{9})));
}

TEST(EmptyTimelineTest, IsStillATrace) {
  RecordingEngine engine;
  const json trace = json::parse(Gunzip(RenderTimeline({}, *engine.recorder())));
  EXPECT_TRUE(trace["traceEvents"].is_array());
}

}  // namespace
}  // namespace yoio
