// The spans of a step and of start-up.
#include "server/trace/step_spans.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <utility>

#include "server/trace/load_spans.h"

namespace yoio {
namespace {

using std::chrono::milliseconds;
using testing::ElementsAre;
using testing::Pair;

constexpr TimePoint kBegin{std::chrono::hours(1)};

StepRecord TwoRanks() {
  StepRecord step;
  step.step = 40;
  step.begin = kBegin;
  step.submitted = kBegin + milliseconds(1);
  step.ended = kBegin + milliseconds(20);
  step.requests = 2;
  step.ranks.resize(2);
  for (StepTimes& times : step.ranks) {
    times.total = milliseconds(10);
    times.comm_wait = milliseconds(2);
    times.phases[static_cast<int>(StepPhase::kSelfDecoder)] = milliseconds(6);
    times.phases[static_cast<int>(StepPhase::kSampling)] = milliseconds(4);
  }
  return step;
}

TraceId IdOf(uint8_t byte) {
  TraceId id;
  id.trace.fill(byte);
  id.span.fill(byte);
  id.sampled = true;
  return id;
}

class StepSpansTest : public testing::Test {
 protected:
  std::pair<double, double> When(const Span& span) const {
    const auto since = [&](int64_t ns) { return (ns - tracer_.UnixNanos(kBegin)) / 1e6; };
    return {since(span.start_unix_ns), since(span.end_unix_ns)};
  }

  Tracer tracer_;
  SpanMaker maker_{tracer_};
};

TEST_F(StepSpansTest, EachRankHasItsPhases) {
  const std::vector<TraceId> requests = {IdOf(2), IdOf(3)};
  const std::vector<Span> spans = StepSpans(TwoRanks(), IdOf(1), requests, maker_);
  std::vector<std::string> names;
  for (const Span& span : spans) names.push_back(span.name);
  ASSERT_THAT(names, ElementsAre("step", "plan", "rank", "self_decoder", "sampling", "rank", "self_decoder",
                                 "sampling"));
  EXPECT_THAT(When(spans[0]), Pair(0, 20));
  EXPECT_THAT(When(spans[1]), Pair(0, 1));
  for (const int rank : {2, 5}) {
    EXPECT_THAT(When(spans[rank]), Pair(10, 20));
    EXPECT_EQ(spans[rank].parent, spans[0].id.span);
    EXPECT_THAT(When(spans[rank + 1]), Pair(10, 16));
    EXPECT_THAT(When(spans[rank + 2]), Pair(16, 20));
    EXPECT_EQ(spans[rank + 1].parent, spans[rank].id.span);
  }
  ASSERT_EQ(spans[0].links.size(), 2u);
  EXPECT_EQ(spans[0].links[1].to.trace, requests[1].trace);
  EXPECT_EQ(spans[0].dropped_links, 0u);
}

TEST_F(StepSpansTest, TimesByAnotherClockStayInsideTheStep) {
  StepRecord step = TwoRanks();
  step.ranks[0].total = milliseconds(26);
  step.ranks[0].phases[static_cast<int>(StepPhase::kSelfDecoder)] = milliseconds(22);
  const std::vector<Span> spans = StepSpans(step, IdOf(1), {}, maker_);
  EXPECT_THAT(When(spans[2]), Pair(0, 20));
  EXPECT_THAT(When(spans[3]), Pair(0, 16));
  EXPECT_THAT(When(spans[4]), Pair(16, 20));
}

TEST_F(StepSpansTest, LinksBeyondTheLimitAreCounted) {
  const std::vector<TraceId> requests(kMaxStepLinks + 5, IdOf(2));
  const Span step = StepSpans(TwoRanks(), IdOf(1), requests, maker_)[0];
  EXPECT_EQ(step.links.size(), static_cast<size_t>(kMaxStepLinks));
  EXPECT_EQ(step.dropped_links, 5u);
}

TEST_F(StepSpansTest, RanksThatHaveNotToldAreLeftOut) {
  StepRecord step = TwoRanks();
  step.ranks[0] = {};
  const std::vector<Span> spans = StepSpans(step, IdOf(1), {}, maker_);
  ASSERT_EQ(spans.size(), 5u);
  EXPECT_EQ(std::get<int64_t>(spans[2].attributes[0].value), 1);
}

TEST_F(StepSpansTest, StartUpIsATrace) {
  const std::vector<LoadTime> parts = {{"weights", kBegin, kBegin + milliseconds(5)},
                                       {"cache", kBegin + milliseconds(5), kBegin + milliseconds(6)}};
  const std::vector<Span> spans =
      LoadSpans(IdOf(1), kBegin, kBegin + milliseconds(9), parts, {.name = "tiny", .revision = "r1"}, maker_);
  ASSERT_EQ(spans.size(), 3u);
  EXPECT_EQ(spans[0].name, "load");
  EXPECT_EQ(spans[2].name, "cache");
  EXPECT_EQ(spans[2].parent, spans[0].id.span);
  EXPECT_THAT(When(spans[2]), Pair(5, 6));
}

}  // namespace
}  // namespace yoio
