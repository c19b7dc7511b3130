// The text that Prometheus reads, in both formats.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_split.h"
#include "server/metrics/exposition.h"

namespace yoio {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;

constexpr Family kGauge{"yoio_things", MetricType::kGauge, {}, "Things."};
constexpr Family kCounter{"yoio_work_seconds_total", MetricType::kCounter, {"kind", "who"}, "Work."};
constexpr Family kInfo{"yoio_thing_info", MetricType::kInfo, {"version"}, "The thing."};
constexpr Family kHistogram{"yoio_wait_seconds", MetricType::kHistogram, {"kind"}, "Waits."};

std::string Write(ExpositionFormat format, const std::function<void(Exposition&)>& write) {
  Exposition exposition(format);
  write(exposition);
  return std::move(exposition).Finish();
}

std::vector<std::string> LinesWith(const std::string& text, const std::string& part) {
  std::vector<std::string> found;
  for (const absl::string_view line : absl::StrSplit(text, '\n')) {
    if (absl::StrContains(line, part)) found.emplace_back(line);
  }
  return found;
}

void WriteEveryType(Exposition& exposition) {
  exposition.AddFamily(kGauge, -2.5);
  exposition.Begin(kCounter);
  exposition.Add({"a", "b"}, 3);
  exposition.Begin(kInfo);
  exposition.Add({"1.2"}, 1);
}

TEST(ExpositionTest, TextFormat) {
  EXPECT_EQ(Write(ExpositionFormat::kText, WriteEveryType),
            "# HELP yoio_things Things.\n"
            "# TYPE yoio_things gauge\n"
            "yoio_things -2.5\n"
            "# HELP yoio_work_seconds_total Work.\n"
            "# TYPE yoio_work_seconds_total counter\n"
            "yoio_work_seconds_total{kind=\"a\",who=\"b\"} 3\n"
            "# HELP yoio_thing_info The thing.\n"
            "# TYPE yoio_thing_info gauge\n"
            "yoio_thing_info{version=\"1.2\"} 1\n");
}

TEST(ExpositionTest, OpenMetricsNamesFamiliesWithoutSuffixAndEnds) {
  EXPECT_EQ(Write(ExpositionFormat::kOpenMetrics, WriteEveryType),
            "# HELP yoio_things Things.\n"
            "# TYPE yoio_things gauge\n"
            "yoio_things -2.5\n"
            "# HELP yoio_work_seconds Work.\n"
            "# TYPE yoio_work_seconds counter\n"
            "# UNIT yoio_work_seconds seconds\n"
            "yoio_work_seconds_total{kind=\"a\",who=\"b\"} 3\n"
            "# HELP yoio_thing The thing.\n"
            "# TYPE yoio_thing info\n"
            "yoio_thing_info{version=\"1.2\"} 1\n"
            "# EOF\n");
}

TEST(ExpositionTest, LabelsAreEscaped) {
  const std::string text = Write(ExpositionFormat::kText, [](Exposition& exposition) {
    exposition.Begin(kInfo);
    exposition.Add({"a\\b\"c\nd"}, 1);
  });
  EXPECT_THAT(text, HasSubstr("\nyoio_thing_info{version=\"a\\\\b\\\"c\\nd\"} 1\n"));
}

TEST(ExpositionTest, NumbersReadBackAsTheyWere) {
  for (const double value : {0.0, 1e15, 9007199254740991.0, 1e300, 0.1, 1.0 / 3, 123456.789}) {
    const std::string text =
        Write(ExpositionFormat::kText, [&](Exposition& exposition) { exposition.AddFamily(kGauge, value); });
    EXPECT_EQ(std::stod(LinesWith(text, "yoio_things ").back().substr(12)), value) << text;
  }
}

TEST(ExpositionTest, BucketsAreCumulative) {
  LatencyHistogram histogram;
  histogram.Add(std::chrono::milliseconds(1));  // the end of a bucket is part of it
  histogram.Add(std::chrono::microseconds(1001));
  histogram.Add(std::chrono::minutes(11));
  const std::string text = Write(ExpositionFormat::kText, [&](Exposition& exposition) {
    exposition.Begin(kHistogram);
    exposition.Add({"x"}, histogram);
  });
  EXPECT_EQ(LinesWith(text, "_bucket{kind=\"x\",le=").size(), LatencyHistogram::kBounds.size() + 1);
  EXPECT_THAT(LinesWith(text, "le=\"0.0007\""),
              ElementsAre("yoio_wait_seconds_bucket{kind=\"x\",le=\"0.0007\"} 0"));
  EXPECT_THAT(LinesWith(text, "le=\"0.001\""),
              ElementsAre("yoio_wait_seconds_bucket{kind=\"x\",le=\"0.001\"} 1"));
  EXPECT_THAT(LinesWith(text, "le=\"0.0015\""),
              ElementsAre("yoio_wait_seconds_bucket{kind=\"x\",le=\"0.0015\"} 2"));
  EXPECT_THAT(LinesWith(text, "le=\"600.0\""),
              ElementsAre("yoio_wait_seconds_bucket{kind=\"x\",le=\"600.0\"} 2"));
  EXPECT_THAT(LinesWith(text, "le=\"+Inf\""),
              ElementsAre("yoio_wait_seconds_bucket{kind=\"x\",le=\"+Inf\"} 3"));
  EXPECT_THAT(LinesWith(text, "_sum"), ElementsAre("yoio_wait_seconds_sum{kind=\"x\"} 660.002001"));
  EXPECT_THAT(LinesWith(text, "_count"), ElementsAre("yoio_wait_seconds_count{kind=\"x\"} 3"));
}

TEST(ExpositionTest, ExemplarsAreOfOpenMetricsAlone) {
  LatencyHistogram histogram;
  histogram.Add(std::chrono::milliseconds(4));
  Exemplars exemplars{};
  exemplars[LatencyHistogram::BucketOf(0.004)] = {
      .trace = {0x0a, 0xff}, .value = 0.004, .time = 1700000000.1234};
  const auto write = [&](Exposition& exposition) {
    exposition.Begin(kHistogram);
    exposition.Add({"x"}, histogram, &exemplars);
  };
  EXPECT_THAT(LinesWith(Write(ExpositionFormat::kOpenMetrics, write), "#"),
              testing::Contains("yoio_wait_seconds_bucket{kind=\"x\",le=\"0.005\"} 1 # "
                                "{trace_id=\"0aff0000000000000000000000000000\"} 0.004 1700000000.123"));
  EXPECT_THAT(LinesWith(Write(ExpositionFormat::kOpenMetrics, write), "trace_id"), testing::SizeIs(1));
  EXPECT_THAT(Write(ExpositionFormat::kText, write), Not(HasSubstr("trace_id")));
}

TEST(ExpositionDeathTest, EveryLabelHasAValue) {
  Exposition exposition(ExpositionFormat::kText);
  exposition.Begin(kCounter);
  EXPECT_DEATH(exposition.Add({"a"}, 1), "labels");
}

TEST(ChooseFormatTest, AsClientsPrefer) {
  const auto choose = [](std::string_view accept) {
    return ChooseFormat(accept) == ExpositionFormat::kOpenMetrics;
  };
  EXPECT_FALSE(choose(""));
  EXPECT_FALSE(choose("*/*"));
  EXPECT_FALSE(choose("text/html, application/xhtml+xml, */*;q=0.8"));
  EXPECT_TRUE(choose("application/openmetrics-text"));
  EXPECT_TRUE(choose("application/openmetrics-text; version=1.0.0; charset=utf-8"));
  EXPECT_FALSE(choose("application/openmetrics-text; version=0.0.1"));
  EXPECT_FALSE(choose("application/openmetrics-text;q=0"));
  EXPECT_FALSE(choose("application/openmetrics-text;q=nonsense"));
  EXPECT_FALSE(choose("application/openmetrics-text;q=0.5,text/plain"));
  // Prometheus 2.42, with and without OpenMetrics, and 3.
  EXPECT_TRUE(
      choose("application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;"
             "q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1"));
  EXPECT_FALSE(choose("text/plain;version=0.0.4;q=1,*/*;q=0.1"));
  EXPECT_TRUE(
      choose("application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,"
             "application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;q=0.4,"
             "text/plain;version=0.0.4;q=0.3,*/*;q=0.2"));
}

}  // namespace
}  // namespace yoio
