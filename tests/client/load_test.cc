// The parts of the load generator that need no server: schedules, lengths, workloads, traces, histograms.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <memory>
#include <string>
#include <vector>

#include "client/load/arrivals.h"
#include "client/load/histogram.h"
#include "client/load/lengths.h"
#include "client/load/saturation.h"
#include "client/load/trace.h"
#include "client/load/workload.h"

namespace yoio {
namespace {

using std::chrono::milliseconds;
using std::chrono::nanoseconds;
using std::chrono::seconds;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

TEST(ArrivalsTest, FixedRateIsEven) {
  Arrivals arrivals({.from = 4, .to = 4}, 1);
  EXPECT_EQ(arrivals.Next(), milliseconds(0));
  EXPECT_EQ(arrivals.Next(), milliseconds(250));
  EXPECT_EQ(arrivals.Next(), milliseconds(500));
}

TEST(ArrivalsTest, PoissonHasTheRateAndItsSpread) {
  Arrivals arrivals({.from = 100, .to = 100, .poisson = true}, 1);
  constexpr int kCount = 20000;
  double last = 0, squares = 0;
  for (int i = 0; i < kCount; ++i) {
    const double now = ToSeconds(arrivals.Next());
    ASSERT_GE(now, last);
    squares += (now - last) * (now - last);
    last = now;
  }
  EXPECT_NEAR(last, kCount / 100.0, 5.7);                  // four deviations of the sum
  EXPECT_NEAR(squares / kCount, 2 / (100.0 * 100), 2e-5);  // of exponential gaps: 2 / rate^2
}

TEST(ArrivalsTest, SameSeedSameTimes) {
  const RateOptions options = {.from = 10, .to = 10, .poisson = true};
  Arrivals a(options, 7), b(options, 7), other(options, 8);
  int same = 0;
  for (int i = 0; i < 100; ++i) {
    const Duration due = a.Next();
    EXPECT_EQ(due, b.Next());
    same += due == other.Next();
  }
  EXPECT_EQ(same, 0);
}

TEST(ArrivalsTest, RampSendsTheAreaUnderItsRate) {
  const auto ramp = ParseRamp("10:30:5");
  ASSERT_TRUE(ramp.ok()) << ramp.status();
  Arrivals arrivals(*ramp, 1);
  int first_half = 0, second_half = 0, next_second = 0;
  for (Duration due = arrivals.Next(); due < seconds(6); due = arrivals.Next()) {
    ++(due < milliseconds(2500) ? first_half : due < seconds(5) ? second_half : next_second);
  }
  EXPECT_NEAR(first_half, 37.5, 1);
  EXPECT_NEAR(second_half, 62.5, 1);
  EXPECT_NEAR(next_second, 30, 1);
}

TEST(ArrivalsTest, WrongRamps) {
  for (const char* text : {"", "1:2", "1:2:0", "0:2:3", "1:x:3", "1:2:3:4", "1:inf:3"}) {
    EXPECT_FALSE(ParseRamp(text).ok()) << text;
  }
}

// Counts how often each length comes in `count` draws.
std::vector<int32_t> Drawn(const std::string& text, int count) {
  const absl::StatusOr<Lengths> lengths = Lengths::Parse(text);
  EXPECT_TRUE(lengths.ok()) << lengths.status();
  Random random(3);
  std::vector<int32_t> drawn;
  for (int i = 0; i < count; ++i) drawn.push_back(lengths->Next(random).tokens);
  std::sort(drawn.begin(), drawn.end());
  return drawn;
}

TEST(LengthsTest, FixedAndUniform) {
  EXPECT_THAT(Drawn("2K", 3), ElementsAre(2048, 2048, 2048));
  const std::vector<int32_t> uniform = Drawn("10:19", 10000);
  EXPECT_EQ(uniform.front(), 10);
  EXPECT_EQ(uniform.back(), 19);
  for (int length = 10; length < 20; ++length) {
    EXPECT_NEAR(std::count(uniform.begin(), uniform.end(), length), 1000, 150) << length;
  }
}

TEST(LengthsTest, ListFollowsItsWeights) {
  const std::vector<int32_t> drawn = Drawn("100:5,200:3,4K:2", 10000);
  EXPECT_NEAR(std::count(drawn.begin(), drawn.end(), 100), 5000, 250);
  EXPECT_NEAR(std::count(drawn.begin(), drawn.end(), 200), 3000, 250);
  EXPECT_NEAR(std::count(drawn.begin(), drawn.end(), 4096), 2000, 250);
  const auto lengths = Lengths::Parse("100:5,200:3,4K:2");
  EXPECT_THAT(lengths->listed(), ElementsAre(100, 200, 4096));
  EXPECT_EQ(lengths->longest(), 4096);
}

TEST(LengthsTest, OpenEndedDistributions) {
  const std::vector<int32_t> lognormal = Drawn("lognormal:1000:0.5", 10001);
  EXPECT_NEAR(lognormal[5000], 1000, 30);
  EXPECT_NEAR(lognormal[8413], 1000 * std::exp(0.5), 60);  // one deviation above
  const std::vector<int32_t> exponential = Drawn("exponential:1000", 10001);
  EXPECT_NEAR(exponential[5000], 1000 * std::log(2), 40);
  EXPECT_GE(exponential.front(), 1);
}

TEST(LengthsTest, WrongTexts) {
  for (const char* text : {"", "0", "-1", "x", "5:4", "1:2:3", "lognormal", "lognormal:0:1", "exponential:x",
                           "1:0.5,", "1:-1,2:1", "2000000K"}) {
    EXPECT_FALSE(Lengths::Parse(text).ok()) << text;
  }
}

WorkloadOptions TinyWorkload() {
  WorkloadOptions options;
  options.prompt_lengths = *Lengths::Parse("20:60");
  options.output_lengths = *Lengths::Parse("5:10");
  options.vocab_size = 1000;
  options.max_model_len = 128;
  options.seed = 5;
  return options;
}

std::vector<int32_t> PromptOf(const Workload& workload, const RequestPlan& plan) {
  google::protobuf::RepeatedField<int32_t> ids;
  workload.FillPrompt(plan, &ids);
  return {ids.begin(), ids.end()};
}

TEST(WorkloadTest, RequestsDependOnSeedAndIndexAlone) {
  const Workload a(TinyWorkload()), b(TinyWorkload());
  for (const int64_t index : {5, 0, 3}) {
    const RequestPlan plan = a.Plan(index);
    EXPECT_EQ(plan.prompt_tokens, b.Plan(index).prompt_tokens);
    const std::vector<int32_t> prompt = PromptOf(a, plan);
    EXPECT_EQ(prompt, PromptOf(b, b.Plan(index)));
    EXPECT_EQ(prompt.size(), plan.prompt_tokens);
    EXPECT_THAT(prompt, testing::Each(testing::AllOf(testing::Ge(0), testing::Lt(1000))));
  }
  EXPECT_NE(PromptOf(a, a.Plan(1)), PromptOf(a, a.Plan(2)));
}

TEST(WorkloadTest, SharesOfEverythingInjected) {
  WorkloadOptions options = TinyWorkload();
  options.injections = {0, 0.2, 0.05, 0.1};
  options.priorities = {{v1::PRIORITY_HIGH, 0.3}};
  options.shared_prefix = {10, 0.5, 2};
  const Workload workload(options);
  std::vector<int> injections(kInjections);
  int high = 0, prefixed = 0;
  constexpr int kCount = 20000;
  for (int i = 0; i < kCount; ++i) {
    const RequestPlan plan = workload.Plan(i);
    ++injections[static_cast<int>(plan.injection)];
    high += plan.priority == v1::PRIORITY_HIGH;
    prefixed += plan.prefix_tokens == 10;
  }
  EXPECT_NEAR(injections[static_cast<int>(Injection::kCancel)], 0.2 * kCount, 300);
  EXPECT_NEAR(injections[static_cast<int>(Injection::kExpire)], 0.05 * kCount, 300);
  EXPECT_NEAR(injections[static_cast<int>(Injection::kSlowReader)], 0.1 * kCount, 300);
  EXPECT_NEAR(high, 0.3 * kCount, 300);
  EXPECT_NEAR(prefixed, 0.5 * kCount, 300);
}

TEST(WorkloadTest, PromptsOfAGroupBeginAlikeAndEndApart) {
  WorkloadOptions options = TinyWorkload();
  options.shared_prefix = {16, 1, 3};
  const Workload workload(options);
  std::vector<std::vector<int32_t>> prefixes(3);
  for (int i = 0; i < 30; ++i) {
    const RequestPlan plan = workload.Plan(i);
    const std::vector<int32_t> prompt = PromptOf(workload, plan);
    const std::vector<int32_t> prefix(prompt.begin(), prompt.begin() + 16);
    std::vector<int32_t>& expected = prefixes.at(plan.prefix);
    if (expected.empty()) expected = prefix;
    EXPECT_EQ(prefix, expected);
    EXPECT_NE(std::vector<int32_t>(prompt.begin() + 16, prompt.begin() + 20),
              std::vector<int32_t>(prefix.begin(), prefix.begin() + 4));
  }
  EXPECT_NE(prefixes[0], prefixes[1]);
}

TEST(WorkloadTest, LengthsWithoutAnEndAreCutToTheModel) {
  WorkloadOptions options = TinyWorkload();
  options.prompt_lengths = *Lengths::Parse("lognormal:500:3");
  options.output_lengths = *Lengths::Parse("exponential:100");
  const Workload workload(options);
  for (int i = 0; i < 1000; ++i) {
    const RequestPlan plan = workload.Plan(i);
    EXPECT_GE(plan.prompt_tokens, 1);
    EXPECT_GE(plan.output_tokens, 1);
    EXPECT_LE(plan.prompt_tokens + plan.output_tokens, 128);
  }
}

TEST(WorkloadTest, ClassesAreTheListedLengths) {
  WorkloadOptions options = TinyWorkload();
  EXPECT_THAT(Workload(options).ClassNames(), ElementsAre("all"));
  options.output_lengths = *Lengths::Parse("5:1,6:1");
  EXPECT_THAT(Workload(options).ClassNames(), ElementsAre("output 5", "output 6"));
  options.prompt_lengths = *Lengths::Parse("20:1,40:1");
  const Workload workload(options);
  EXPECT_THAT(workload.ClassNames(), ElementsAre("prompt 20", "prompt 40"));
  for (int i = 0; i < 20; ++i) {
    const RequestPlan plan = workload.Plan(i);
    EXPECT_EQ(plan.prompt_tokens, plan.length_class == 0 ? 20 : 40);
  }
}

TEST(WorkloadTest, WrongTexts) {
  for (const char* text : {"", "5", "5:2", "0:1", "5:0.5:0", "5:0.5:1:1"}) {
    EXPECT_FALSE(ParseSharedPrefix(text).ok()) << text;
  }
  for (const char* text : {"", "high", "urgent:0.5", "high:0.6,low:0.6", "high:-1"}) {
    EXPECT_FALSE(ParsePriorities(text).ok()) << text;
  }
}

TEST(TraceTest, ReadsJsonAndCsv) {
  const char* const texts[] = {
      "{\"time\": 1.5, \"prompt_tokens\": 100, \"output_tokens\": 7, \"prefix\": 3}\n"
      "{\"time\": 0.5, \"prompt_tokens\": 40, \"output_tokens\": 5}\n",
      "time,prompt_tokens,output_tokens,prefix\n1.5, 100, 7, 3\n0.5,40,5\n"};
  for (const char* text : texts) {
    const absl::StatusOr<Trace> trace = ParseTrace(text);
    ASSERT_TRUE(trace.ok()) << trace.status();
    ASSERT_EQ(trace->size(), 2);
    EXPECT_EQ((*trace)[0].at, milliseconds(500));
    EXPECT_EQ((*trace)[0].prompt_tokens, 40);
    EXPECT_EQ((*trace)[0].prefix_tokens, 0);
    EXPECT_EQ((*trace)[1].output_tokens, 7);
    EXPECT_EQ((*trace)[1].prefix, 3);
    EXPECT_EQ((*trace)[1].prefix_tokens, 50);
  }
}

TEST(TraceTest, AWrongLineIsNamed) {
  for (const char* line : {"{\"time\": 1}", "{\"time\": 1, \"tokens\": 5}", "1,2", "1,0,5", "-1,2,5", "1,x,5",
                           "1,2,3,4,5,6", "1,10,5,1,11", "nan,1,1", "{"}) {
    const absl::StatusOr<Trace> trace = ParseTrace("0,1,1\n" + std::string(line));
    EXPECT_THAT(trace.status().message(), HasSubstr("line 2")) << line;
  }
  EXPECT_FALSE(ParseTrace("").ok());
}

TEST(HistogramTest, PercentilesAreExactToWhatTheHeaderSays) {
  auto histogram = std::make_unique<Histogram>();
  Random random(1);
  std::vector<double> values;
  for (int i = 0; i < 20000; ++i) {
    const auto value = nanoseconds(std::llround(std::exp(25 * random.Uniform())));
    values.push_back(ToSeconds(value));
    histogram->Add(value);
  }
  std::sort(values.begin(), values.end());
  for (const double share : {0.001, 0.1, 0.5, 0.9, 0.99, 0.999, 1.0}) {
    const double exact = values[std::max<int64_t>(std::ceil(share * 20000), 1) - 1];
    EXPECT_NEAR(histogram->Percentile(share), exact, exact / 256) << share;
  }
  EXPECT_EQ(histogram->Summary().max, values.back());
  EXPECT_EQ(histogram->Summary().count, 20000);
}

TEST(HistogramTest, Extremes) {
  auto histogram = std::make_unique<Histogram>();
  EXPECT_EQ(histogram->Summary().p50, 0);
  histogram->Add(seconds(-1));
  EXPECT_EQ(histogram->Summary().max, 0);
  histogram->Add(std::chrono::hours(100));
  EXPECT_EQ(histogram->Summary().max, 360000);
  EXPECT_GT(histogram->Percentile(1), 4 * 3600);
}

TEST(HistogramTest, MergeIsAsIfAllWereAddedToOne) {
  auto a = std::make_unique<Histogram>(), b = std::make_unique<Histogram>();
  a->Add(milliseconds(1));
  b->Add(milliseconds(3));
  b->Add(milliseconds(8));
  a->Merge(*b);
  EXPECT_EQ(a->count(), 3);
  EXPECT_NEAR(a->Summary().mean, 4e-3, 1e-12);
  EXPECT_NEAR(a->Percentile(0.5), 3e-3, 1.2e-5);
  EXPECT_EQ(a->Summary().max, 8e-3);
}

TEST(SaturationTest, FindsWhatAServerCarries) {
  int runs = 0;
  const double found = FindSaturation(10, [&runs](double rate) {
    ++runs;
    LoadResult result;
    result.seconds = 10;
    result.sent = std::llround(rate * 10);
    result.completed_per_second = std::min(rate, 9.0);
    return result;
  });
  EXPECT_EQ(runs, 5);
  EXPECT_NEAR(found, 9 / 0.95, 0.25);
  EXPECT_EQ(FindSaturation(10, [](double) { return LoadResult(); }), 0);
}

}  // namespace
}  // namespace yoio
