// What the load generator makes of its measurements: counts, tables, JSON, charts.
#include "client/load/load_report.h"

#include <gmock/gmock.h>
#include <google/protobuf/struct.pb.h>
#include <google/protobuf/util/json_util.h>
#include <gtest/gtest.h>

#include <chrono>
#include <cmath>
#include <string>
#include <vector>

#include "client/load/axis.h"
#include "client/load/json_writer.h"
#include "client/load/measurements.h"
#include "client/load/plot.h"
#include "tests/client/well_formed.h"

namespace yoio {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using testing::ElementsAre;
using testing::HasSubstr;

constexpr TimePoint kStart{seconds(100)};

// Feeds one request into `measurements`: due at `due`, four messages with `tokens` tokens in all.
void Feed(Measurements& measurements, const RequestPlan& plan, TimePoint due, Duration ttft, Duration gap,
          const absl::Status& status = absl::OkStatus(), bool cut_off = false) {
  RequestOutcome outcome;
  outcome.due = due;
  outcome.sent = due + milliseconds(1);
  measurements.Sent(plan, due, outcome.sent);
  std::optional<TimePoint> last;
  outcome.first_token = due + ttft;
  for (TimePoint now = outcome.first_token; now <= outcome.first_token + 3 * gap; now += gap) {
    measurements.Message(plan, due, 2, now, last);
    last = now;
    outcome.tokens += 2;
  }
  outcome.last_token = *last;
  outcome.ended = *last + milliseconds(1);
  outcome.status = status;
  outcome.cut_off = cut_off;
  outcome.injected = plan.injection != Injection::kNone;
  measurements.Ended(plan, outcome);
}

RequestPlan PlanOf(Injection injection = Injection::kNone, int length_class = 0) {
  RequestPlan plan;
  plan.prompt_tokens = 50;
  plan.output_tokens = 8;
  plan.length_class = length_class;
  plan.injection = injection;
  return plan;
}

TEST(MeasurementsTest, CountsWhatWasDueInsideTheWindow) {
  Measurements measurements({"short", "long"}, {}, kStart, kStart + seconds(10));
  Feed(measurements, PlanOf(), kStart - seconds(1), milliseconds(100), milliseconds(10));  // warm-up
  Feed(measurements, PlanOf(), kStart + seconds(1), milliseconds(100), milliseconds(10));
  Feed(measurements, PlanOf(Injection::kNone, 1), kStart + seconds(2), milliseconds(300), milliseconds(20));
  Feed(measurements, PlanOf(), kStart + seconds(9), seconds(5), milliseconds(10));  // ends after the window
  const LoadResult result = measurements.Result(kStart + seconds(20));
  EXPECT_EQ(result.seconds, 10);
  EXPECT_EQ(result.sent, 3);
  EXPECT_EQ(result.completed, 3);
  EXPECT_EQ(result.completed_per_second, 0.2);
  EXPECT_EQ(result.output_tokens_per_second, 1.6);
  EXPECT_EQ(result.prompt_tokens_per_second, 10);
  EXPECT_EQ(result.tokens_per_message, 2);
  EXPECT_EQ(result.all.ttft.count, 3);
  EXPECT_EQ(result.all.ttft.max, 5);
  EXPECT_EQ(result.all.itl.count, 9);
  ASSERT_EQ(result.classes.size(), 2);
  EXPECT_NEAR(result.classes[1].ttft.p50, 0.3, 0.002);
  EXPECT_NEAR(result.classes[1].itl.p99, 0.02, 0.0001);
  EXPECT_NEAR(result.classes[1].tpot.p50, 0.06 / 7, 0.0001);
  EXPECT_NEAR(result.classes[1].e2e.max, 0.361, 1e-9);
  EXPECT_EQ(result.wrong_length, 0);
}

TEST(MeasurementsTest, GoodputNeedsEveryTarget) {
  Targets targets{.ttft = milliseconds(200), .itl = milliseconds(10), .e2e = milliseconds(240)};
  Measurements measurements({"all"}, targets, kStart, kStart + seconds(10));
  const auto feed = [&](int ttft_ms, int gap_ms) {
    Feed(measurements, PlanOf(), kStart, milliseconds(ttft_ms), milliseconds(gap_ms));
  };
  feed(100, 10);  // good: 30 ms for 7 further tokens
  feed(201, 10);  // late first token
  feed(50, 30);   // slow tokens
  feed(200, 20);  // late end
  Feed(measurements, PlanOf(), kStart + milliseconds(9900), milliseconds(100),
       milliseconds(10));  // ends later
  EXPECT_EQ(measurements.Result(kStart + seconds(10)).good, 1);
}

TEST(MeasurementsTest, FailuresInjectionsAndCutOffsAreApart) {
  Measurements measurements({"all"}, {}, kStart, TimePoint::max());
  const auto feed = [&](Injection injection, const absl::Status& status, bool cut_off = false) {
    Feed(measurements, PlanOf(injection), kStart, milliseconds(40), milliseconds(10), status, cut_off);
  };
  feed(Injection::kCancel, absl::CancelledError("gone"));
  feed(Injection::kCancel, absl::OkStatus());
  feed(Injection::kCancel, absl::InternalError("broken"));
  feed(Injection::kExpire, absl::DeadlineExceededError("late"));
  feed(Injection::kNone, absl::DeadlineExceededError("late"));
  feed(Injection::kNone, absl::CancelledError("stop"), /*cut_off=*/true);
  feed(Injection::kNone, absl::ResourceExhaustedError("full"));
  feed(Injection::kNone, absl::ResourceExhaustedError("full again"));
  const LoadResult result = measurements.Result(kStart + seconds(1));
  EXPECT_EQ(result.cancels.sent, 3);
  EXPECT_EQ(result.cancels.happened, 1);
  EXPECT_EQ(result.cancels.completed, 1);
  EXPECT_EQ(result.expiries.happened, 1);
  EXPECT_EQ(result.cut_off, 1);
  EXPECT_EQ(result.failed, 4);
  EXPECT_EQ(result.rejected, 2);
  EXPECT_EQ(result.expired, 1);
  EXPECT_EQ(result.rejected_latency.count, 2);
  ASSERT_EQ(result.errors.size(), 3);
  EXPECT_EQ(result.errors[2].code, "RESOURCE_EXHAUSTED");
  EXPECT_EQ(result.errors[2].message, "full");
  EXPECT_EQ(result.errors[2].count, 2);
  EXPECT_EQ(result.all.e2e.count, 0);
}

google::protobuf::Struct Parsed(const std::string& json) {
  google::protobuf::Struct object;
  const auto status = google::protobuf::util::JsonStringToMessage(json, &object);
  EXPECT_TRUE(status.ok()) << status.ToString() << json;
  return object;
}

TEST(JsonWriterTest, WritesWhatAParserReads) {
  JsonWriter json;
  json.BeginObject().Field("text", "a\"b\\c\n\x01").Field("count", int64_t{-3}).Field("half", 0.5);
  json.Field("none", NAN).Field("yes", true).Key("list").BeginArray().Value(1).BeginObject().EndObject();
  json.EndArray().Key("empty").BeginArray().EndArray().EndObject();
  auto parsed = Parsed(json.text());
  auto& fields = *parsed.mutable_fields();
  EXPECT_EQ(fields["text"].string_value(), "a\"b\\c\n\x01");
  EXPECT_EQ(fields["count"].number_value(), -3);
  EXPECT_EQ(fields["half"].number_value(), 0.5);
  EXPECT_TRUE(fields["none"].has_null_value());
  EXPECT_TRUE(fields["yes"].bool_value());
  EXPECT_EQ(fields["list"].list_value().values_size(), 2);
}

LoadResult SomeResult(double rate, double ttft) {
  Measurements measurements({"short", "long"}, {}, kStart, kStart + seconds(10));
  Feed(measurements, PlanOf(), kStart + seconds(1), FromSeconds(ttft), milliseconds(10));
  Feed(measurements, PlanOf(), kStart + seconds(1), FromSeconds(ttft), milliseconds(10),
       absl::UnavailableError("a \"quoted\" <reason>"));
  LoadResult result = measurements.Result(kStart + seconds(10));
  result.rate = rate;
  result.warnings = {"mind this"};
  return result;
}

TEST(ReportTest, JsonHoldsEveryNumber) {
  auto parsed = Parsed(ResultJson(SomeResult(12.5, 0.25)));
  auto& fields = *parsed.mutable_fields();
  EXPECT_EQ(fields["rate"].number_value(), 12.5);
  EXPECT_EQ(fields["completed"].number_value(), 1);
  auto& all = *fields["all"].mutable_struct_value()->mutable_fields();
  EXPECT_EQ((*all["ttft"].mutable_struct_value()->mutable_fields())["max"].number_value(), 0.25);
  EXPECT_EQ(fields["classes"].list_value().values_size(), 2);
  EXPECT_EQ(fields["errors"].list_value().values_size(), 1);
  EXPECT_EQ(fields["warnings"].list_value().values(0).string_value(), "mind this");
}

TEST(ReportTest, TableNamesWhatFailedAndWarns) {
  const std::string table = ResultTable(SomeResult(12.5, 0.25));
  EXPECT_THAT(table, HasSubstr("open loop, 12.5 requests/s"));
  EXPECT_THAT(table, HasSubstr("1 x UNAVAILABLE"));
  EXPECT_THAT(table, HasSubstr("250ms"));
  EXPECT_THAT(table, HasSubstr("warning: mind this"));
}

TEST(AxisTest, TicksCoverAllValues) {
  EXPECT_THAT(AxisOver({3, 47}, false).ticks(), ElementsAre(0, 10, 20, 30, 40, 50));
  EXPECT_THAT(AxisOver({0.03, 4}, true).ticks(),
              ElementsAre(testing::DoubleEq(0.02), testing::DoubleEq(0.05), testing::DoubleEq(0.1),
                          testing::DoubleEq(0.2), testing::DoubleEq(0.5), 1, 2, 5));
  for (const double value : {1e-6, 0.2, 1.0, 7.0, 1e5}) {
    for (const bool logarithmic : {false, true}) {
      const Axis axis = AxisOver({value}, logarithmic);
      EXPECT_GE(axis.Place(value), -1e-9) << value;
      EXPECT_LE(axis.Place(value), 1 + 1e-9) << value;
    }
  }
  EXPECT_EQ(AxisOver({}, true).ticks().size(), 2);
  EXPECT_EQ(SecondsLabel(0.05), "50 ms");
}

TEST(PlotTest, ASweepIsAWellFormedDrawing) {
  std::vector<LoadResult> results;
  for (const double rate : {1, 4, 16, 64}) results.push_back(SomeResult(rate, 0.01 * rate));
  const std::string svg = SweepPlot(results);
  ExpectWellFormed(svg);
  EXPECT_THAT(svg, HasSubstr("first token p99"));
  EXPECT_THAT(svg, HasSubstr("prefers-color-scheme: dark"));
  EXPECT_THAT(svg, testing::Not(testing::AnyOf(HasSubstr("nan"), HasSubstr("inf,"))));
}

TEST(PlotTest, DrawsNothingOfNothingAndEscapesNames) {
  ExpectWellFormed(SweepPlot({}));
  const std::string svg = ToSvg("a < b & c", {{"t", "x", false, false, false, {{"<s>", {{1, 2}}}}}});
  ExpectWellFormed(svg);
  EXPECT_THAT(svg, HasSubstr("a &lt; b &amp; c"));
}

}  // namespace
}  // namespace yoio
