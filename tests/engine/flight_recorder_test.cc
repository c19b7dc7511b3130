#include "engine/flight_recorder.h"

#include <algorithm>
#include <atomic>
#include <limits>
#include <numeric>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "engine/errors.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace yoio {
namespace {

using std::chrono::hours;
using std::chrono::microseconds;
using std::chrono::milliseconds;
using std::chrono::nanoseconds;
using testing::ElementsAre;
using testing::IsEmpty;

constexpr int kSteps = FlightRecorder::kSteps;
constexpr int kRequests = FlightRecorder::kRequests;

// The steps of these tests begin one millisecond after the other, and take half of it.
TimePoint BeginOf(int64_t step) { return TimePoint(hours(1)) + step * milliseconds(1); }

class FlightRecorderTest : public testing::Test {
 protected:
  RequestNumber Accept(const std::string& id) {
    return recorder_.Accepted(id, "tenant", {}, TimePoint(hours(1)));
  }

  void Plan(int64_t step, const std::vector<StepMember>& members) {
    recorder_.Planned({.step = step,
                       .begin = BeginOf(step),
                       .submitted = BeginOf(step) + microseconds(100),
                       .requests = static_cast<int32_t>(members.size())},
                      members);
  }

  // Which takes so long from its submission.
  void RunStep(int64_t step, const std::vector<StepMember>& members, Duration took = microseconds(500)) {
    Plan(step, members);
    EXPECT_EQ(recorder_.Delivered(step, BeginOf(step) + microseconds(100) + took), took);
  }

  void End(RequestNumber request, Duration total, const absl::Status& status = absl::OkStatus()) {
    SummaryEvent summary;
    summary.timing.total = total;
    recorder_.Ended(request, status, summary, TimePoint(hours(1)) + total);
  }

  FlightRecorder recorder_{2};
};

std::vector<int64_t> NumbersOf(const std::vector<StepRecord>& steps) {
  std::vector<int64_t> numbers;
  for (const StepRecord& step : steps) numbers.push_back(step.step);
  return numbers;
}

std::vector<std::string> IdsOf(const std::vector<RequestRecord>& requests) {
  std::vector<std::string> ids;
  for (const RequestRecord& request : requests) ids.push_back(request.id);
  return ids;
}

TEST_F(FlightRecorderTest, BeforeTheFirstThereIsNothing) {
  EXPECT_EQ(recorder_.last_step(), -1);
  EXPECT_THAT(recorder_.Steps(0, 10), IsEmpty());
  EXPECT_THAT(recorder_.StepsSince(TimePoint::min()), IsEmpty());
  EXPECT_THAT(recorder_.StepsOf(1), IsEmpty());
  EXPECT_THAT(recorder_.StepsOf(0), IsEmpty());
  EXPECT_THAT(recorder_.RequestsById("a"), IsEmpty());
  EXPECT_THAT(recorder_.RequestsById(""), IsEmpty());
  EXPECT_THAT(recorder_.RequestsSince(TimePoint::min()), IsEmpty());
  EXPECT_THAT(recorder_.SlowestRequests(3), IsEmpty());
  EXPECT_FALSE(recorder_.Request(0).has_value());
  EXPECT_FALSE(recorder_.Request(1).has_value());
}

TEST_F(FlightRecorderTest, AStepComesBackAsItWas) {
  const RequestNumber a = Accept("a"), b = Accept("b");
  const StepFacts facts{.step = 0,
                        .begin = BeginOf(0),
                        .submitted = BeginOf(0) + microseconds(3),
                        .prompt_tokens = 7,
                        .generated_tokens = 1,
                        .output_rows = 2,
                        .requests = 2,
                        .running = 3,
                        .waiting = 4,
                        .free_blocks = 5};
  recorder_.Planned(facts, std::vector<StepMember>{{a, 7}, {b, 1}});
  StepTimes times{.total = microseconds(28), .comm_wait = microseconds(2), .recorded = true};
  for (int phase = 0; phase < kNumStepPhases; ++phase) times.phases[phase] = microseconds(1 + phase);
  recorder_.RankEnded(1, 0, times);
  recorder_.Delivered(0, BeginOf(0) + microseconds(53));

  const std::vector<StepRecord> steps = recorder_.Steps(0, 0);
  ASSERT_EQ(steps.size(), 1);
  const StepRecord& step = steps[0];
  EXPECT_EQ(step.step, 0);
  EXPECT_EQ(step.begin, facts.begin);
  EXPECT_EQ(step.submitted, facts.submitted);
  EXPECT_EQ(step.prompt_tokens, 7);
  EXPECT_EQ(step.generated_tokens, 1);
  EXPECT_EQ(step.output_rows, 2);
  EXPECT_EQ(step.requests, 2);
  EXPECT_EQ(step.running, 3);
  EXPECT_EQ(step.waiting, 4);
  EXPECT_EQ(step.free_blocks, 5);
  EXPECT_EQ(step.ended, BeginOf(0) + microseconds(53));
  EXPECT_EQ(step.took, microseconds(50));
  EXPECT_EQ(step.members, (std::vector<StepMember>{{a, 7}, {b, 1}}));
  ASSERT_EQ(step.ranks.size(), 2);
  EXPECT_EQ(step.ranks[0].total, Duration::zero());
  EXPECT_EQ(step.ranks[1].total, times.total);
  EXPECT_EQ(step.ranks[1].phases, times.phases);
  EXPECT_EQ(step.ranks[1].comm_wait, times.comm_wait);
  EXPECT_TRUE(step.ranks[1].recorded);
}

TEST_F(FlightRecorderTest, TimesOfRanksAreKeptToATenthOfAMicrosecondAndWithinTheirRoom) {
  Plan(0, {});
  StepTimes times;
  times.phases = {nanoseconds(149), nanoseconds(150), hours(1000), nanoseconds(-5)};
  times.comm_wait = hours(1000);
  recorder_.RankEnded(0, 0, times);
  const StepTimes kept = recorder_.Steps(0, 0).at(0).ranks[0];
  EXPECT_EQ(kept.phases[0], nanoseconds(100));
  EXPECT_EQ(kept.phases[1], nanoseconds(200));
  EXPECT_GT(kept.phases[2], std::chrono::minutes(7));
  EXPECT_EQ(kept.phases[3], Duration::zero());
  EXPECT_EQ(kept.total, std::accumulate(kept.phases.begin(), kept.phases.end(), Duration::zero()));
  EXPECT_GT(kept.comm_wait, std::chrono::minutes(3));
  EXPECT_FALSE(kept.recorded);
}

TEST_F(FlightRecorderTest, WhatASlotHeldBeforeIsGone) {
  RunStep(0, {{1, 1}});
  recorder_.RankEnded(0, 0, {.phases = {milliseconds(1)}});
  for (int64_t step = 1; step <= kSteps; ++step) Plan(step, {});
  EXPECT_THAT(recorder_.Steps(0, 0), IsEmpty());
  const StepRecord step = recorder_.Steps(kSteps, kSteps).at(0);
  EXPECT_FALSE(step.ended.has_value());
  EXPECT_EQ(step.ranks[0].total, Duration::zero());
  EXPECT_THAT(step.members, IsEmpty());
  recorder_.RankEnded(0, 0, {.phases = {milliseconds(1)}});  // comes too late
  EXPECT_EQ(recorder_.Steps(kSteps, kSteps).at(0).ranks[0].total, Duration::zero());
}

TEST_F(FlightRecorderTest, TheLastStepsAreThere) {
  for (int64_t step = 0; step < 2 * kSteps + 10; ++step) RunStep(step, {});
  EXPECT_EQ(recorder_.last_step(), 2 * kSteps + 9);
  const std::vector<StepRecord> all = recorder_.Steps(-5, std::numeric_limits<int64_t>::max());
  ASSERT_EQ(all.size(), kSteps);
  for (int i = 0; i < kSteps; ++i) EXPECT_EQ(all[i].step, kSteps + 10 + i);
  EXPECT_THAT(NumbersOf(recorder_.Steps(kSteps + 8, kSteps + 11)), ElementsAre(kSteps + 10, kSteps + 11));
  EXPECT_THAT(NumbersOf(recorder_.Steps(2 * kSteps + 8, 2 * kSteps + 12)),
              ElementsAre(2 * kSteps + 8, 2 * kSteps + 9));
  EXPECT_THAT(recorder_.Steps(5, 4), IsEmpty());
  EXPECT_THAT(recorder_.Steps(2 * kSteps + 10, std::numeric_limits<int64_t>::max()), IsEmpty());
  EXPECT_THAT(NumbersOf(recorder_.StepsSince(BeginOf(2 * kSteps + 8) + microseconds(100))),
              ElementsAre(2 * kSteps + 8, 2 * kSteps + 9));
}

TEST_F(FlightRecorderTest, AStepTakesWhatItDoesNotShareWithTheOneBefore) {
  Plan(0, {});
  Plan(1, {});
  EXPECT_EQ(recorder_.Delivered(0, BeginOf(5)), milliseconds(5) - microseconds(100));
  EXPECT_EQ(recorder_.Delivered(1, BeginOf(7)), milliseconds(2));
  EXPECT_EQ(recorder_.Steps(1, 1).at(0).took, milliseconds(2));
}

TEST_F(FlightRecorderTest, AStepUnderWayHasTakenTheTimeUntilNow) {
  recorder_.Planned({.step = 0, .submitted = Clock::now() - hours(2)}, {});
  const StepRecord step = recorder_.Steps(0, 0).at(0);
  EXPECT_FALSE(step.ended.has_value());
  EXPECT_GE(step.took, hours(2));
  EXPECT_LT(step.took, hours(3));
}

TEST_F(FlightRecorderTest, RequestsKnowTheirFirstAndLastStep) {
  const RequestNumber a = Accept("a"), b = Accept("b"), c = Accept("c");
  RunStep(0, {{a, 3}});
  RunStep(1, {{a, 1}, {b, 2}});
  RunStep(2, {{b, 1}});
  EXPECT_EQ(recorder_.Request(a)->first_step, 0);
  EXPECT_EQ(recorder_.Request(a)->last_step, 1);
  EXPECT_EQ(recorder_.Request(b)->first_step, 1);
  EXPECT_EQ(recorder_.Request(b)->last_step, 2);
  EXPECT_EQ(recorder_.Request(c)->first_step, -1);
  EXPECT_EQ(recorder_.Request(c)->last_step, -1);
  EXPECT_THAT(NumbersOf(recorder_.StepsOf(a)), ElementsAre(0, 1));
  EXPECT_THAT(NumbersOf(recorder_.StepsOf(b)), ElementsAre(1, 2));
  EXPECT_THAT(recorder_.StepsOf(c), IsEmpty());
}

TEST_F(FlightRecorderTest, TheSlowestStepsOfARequest) {
  const RequestNumber a = Accept("a"), b = Accept("b");
  RunStep(0, {{a, 1}}, microseconds(50));
  RunStep(1, {{a, 1}}, microseconds(300));
  RunStep(2, {{b, 1}}, microseconds(800));
  RunStep(3, {{a, 1}, {b, 1}}, microseconds(200));
  RunStep(4, {{a, 1}}, microseconds(300));
  EXPECT_THAT(NumbersOf(recorder_.StepsOf(a, 3)), ElementsAre(1, 4, 3));
  EXPECT_THAT(NumbersOf(recorder_.StepsOf(a, 100)), ElementsAre(1, 4, 3, 0));
  EXPECT_THAT(recorder_.StepsOf(a, 0), IsEmpty());
  EXPECT_THAT(recorder_.StepsOf(a, -1), IsEmpty());
  Plan(5, {{b, 1}});  // and never ends
  EXPECT_THAT(NumbersOf(recorder_.StepsOf(b, 1)), ElementsAre(5));
}

TEST_F(FlightRecorderTest, OldStepsLoseTheirMembersFirst) {
  constexpr int kMembers = 1000;
  std::vector<StepMember> members;
  for (int i = 0; i < kMembers; ++i) members.push_back({Accept("a"), i});
  for (int64_t step = 0; step < kSteps; ++step) RunStep(step, members);

  const std::vector<StepRecord> steps = recorder_.Steps(0, kSteps);
  ASSERT_EQ(steps.size(), kSteps);
  size_t left = 0;
  for (const StepRecord& step : steps) {
    EXPECT_EQ(step.requests, kMembers);
    ASSERT_LE(step.members.size(), kMembers);
    // The last ones are left.
    for (size_t i = 0; i < step.members.size(); ++i) {
      EXPECT_EQ(step.members[i], members[kMembers - step.members.size() + i]);
    }
    EXPECT_GE(step.members.size(), steps[std::max<int64_t>(step.step - 1, 0)].members.size());
    left += step.members.size();
  }
  EXPECT_GE(left, 64 * kSteps);
  EXPECT_EQ(steps.front().members.size(), 0);
  EXPECT_EQ(steps.back().members.size(), kMembers);
  const std::vector<StepRecord> last = recorder_.StepsOf(members.back().request);
  EXPECT_EQ(last.size(), (left + kMembers - 1) / kMembers);
  EXPECT_EQ(recorder_.StepsOf(members.front().request).size(), left / kMembers);
}

TEST_F(FlightRecorderTest, OldRequestsAreForgottenAliveOrNot) {
  const RequestNumber first = Accept("first");
  RunStep(0, {{first, 1}});
  for (int i = 1; i < kRequests; ++i) Accept("more");
  EXPECT_TRUE(recorder_.Request(first).has_value());
  const RequestNumber newest = Accept("newest");
  EXPECT_EQ(newest, first + kRequests);
  EXPECT_FALSE(recorder_.Request(first).has_value());
  EXPECT_THAT(recorder_.RequestsById("first"), IsEmpty());
  EXPECT_EQ(recorder_.RequestsSince(TimePoint::max()).size(), kRequests);

  RunStep(1, {{first, 1}, {newest, 2}});
  End(first, milliseconds(1));
  recorder_.Closed(first, absl::StatusCode::kInternal, "", {}, {});
  EXPECT_THAT(NumbersOf(recorder_.StepsOf(first)), ElementsAre(0, 1));  // these are still known
  EXPECT_EQ(recorder_.Steps(1, 1).at(0).members, (std::vector<StepMember>{{first, 1}, {newest, 2}}));
  EXPECT_EQ(recorder_.Request(newest)->first_step, 1);
  EXPECT_FALSE(recorder_.Request(newest)->ended.has_value());
  EXPECT_FALSE(recorder_.Request(newest)->code.has_value());
}

TEST_F(FlightRecorderTest, ARequestFromItsBeginToItsEnd) {
  TraceId trace{.sampled = true};
  trace.trace[3] = 7;
  trace.span[1] = 9;
  const RequestNumber number = recorder_.Accepted("id", "acme", trace, BeginOf(3));
  std::optional<RequestRecord> record = recorder_.Request(number);
  ASSERT_TRUE(record.has_value());
  EXPECT_EQ(record->number, number);
  EXPECT_EQ(record->id, "id");
  EXPECT_EQ(record->tenant, "acme");
  EXPECT_EQ(record->trace.trace, trace.trace);
  EXPECT_EQ(record->trace.span, trace.span);
  EXPECT_TRUE(record->trace.sampled);
  EXPECT_EQ(record->arrival, BeginOf(3));
  EXPECT_FALSE(record->ended.has_value());
  EXPECT_FALSE(record->code.has_value());

  SummaryEvent summary;
  summary.usage = {.prompt_tokens = 5, .cached_tokens = 2, .completion_tokens = 3};
  summary.timing.queue = milliseconds(4);
  recorder_.Ended(number, WithReason(absl::StatusCode::kAborted, kReasonSlowReader, "too slow"), summary,
                  BeginOf(9));
  record = recorder_.Request(number);
  EXPECT_EQ(record->ended, BeginOf(9));
  EXPECT_EQ(record->code, absl::StatusCode::kAborted);
  EXPECT_EQ(record->reason, "SLOW_READER");
  EXPECT_EQ(record->usage.prompt_tokens, 5);
  EXPECT_EQ(record->usage.completion_tokens, 3);
  EXPECT_EQ(record->timing.queue, milliseconds(4));

  Timing told;
  told.deliver = milliseconds(6);
  recorder_.Closed(number, absl::StatusCode::kCancelled, "", {.completion_tokens = 2}, told);
  record = recorder_.Request(number);
  EXPECT_EQ(record->ended, BeginOf(9));
  EXPECT_EQ(record->code, absl::StatusCode::kCancelled);
  EXPECT_EQ(record->reason, "");
  EXPECT_EQ(record->usage.completion_tokens, 2);
  EXPECT_EQ(record->timing.deliver, milliseconds(6));
}

TEST_F(FlightRecorderTest, WhatTheCallerWasToldHoldsWhenTheEngineEndsItLater) {
  const RequestNumber number = Accept("a");
  recorder_.Closed(number, absl::StatusCode::kCancelled, "", {.prompt_tokens = 1}, {});
  EXPECT_FALSE(recorder_.Request(number)->ended.has_value());
  EXPECT_EQ(recorder_.Request(number)->code, absl::StatusCode::kCancelled);
  End(number, milliseconds(2), absl::InternalError("late"));
  EXPECT_TRUE(recorder_.Request(number)->ended.has_value());
  EXPECT_EQ(recorder_.Request(number)->code, absl::StatusCode::kCancelled);
  EXPECT_EQ(recorder_.Request(number)->usage.prompt_tokens, 1);
}

TEST_F(FlightRecorderTest, UnknownRequestsChangeNothing) {
  Accept("a");
  for (const RequestNumber unknown : {RequestNumber{0}, RequestNumber{2}, RequestNumber{1} + kRequests}) {
    End(unknown, milliseconds(1));
    recorder_.Closed(unknown, absl::StatusCode::kInternal, "X", {}, {});
    EXPECT_FALSE(recorder_.Request(unknown).has_value());
  }
  EXPECT_FALSE(recorder_.Request(1)->ended.has_value());
  EXPECT_FALSE(recorder_.Request(1)->code.has_value());
}

TEST_F(FlightRecorderTest, RequestsByIdAndTime) {
  const RequestNumber a = Accept("same");
  Accept("alive");
  const RequestNumber b = Accept("same");
  End(a, milliseconds(10));
  End(b, milliseconds(20));
  const std::vector<RequestRecord> same = recorder_.RequestsById("same");
  ASSERT_EQ(same.size(), 2);
  EXPECT_EQ(same[0].number, a);
  EXPECT_EQ(same[1].number, b);
  EXPECT_THAT(IdsOf(recorder_.RequestsSince(TimePoint(hours(1)) + milliseconds(20))),
              ElementsAre("alive", "same"));
  EXPECT_THAT(IdsOf(recorder_.RequestsSince(TimePoint(hours(1)) + milliseconds(10))),
              ElementsAre("same", "alive", "same"));
}

TEST_F(FlightRecorderTest, TheSlowestRequests) {
  const TimePoint now = Clock::now();
  const auto accept = [&](const char* id, Duration ago) { return recorder_.Accepted(id, "", {}, now - ago); };
  const RequestNumber quick = accept("quick", hours(9));
  accept("alive", hours(5));
  const RequestNumber slow = accept("slow", hours(9));
  const RequestNumber told = accept("told", hours(9));
  recorder_.Ended(quick, absl::OkStatus(), {}, now - hours(8));
  recorder_.Ended(slow, absl::OkStatus(), {}, now - hours(3));
  recorder_.Ended(told, absl::OkStatus(), {}, now - hours(8));
  Timing timing;
  timing.total = hours(7);
  recorder_.Closed(told, absl::StatusCode::kOk, "", {}, timing);
  EXPECT_THAT(IdsOf(recorder_.SlowestRequests(4)), ElementsAre("told", "slow", "alive", "quick"));
  EXPECT_THAT(IdsOf(recorder_.SlowestRequests(2)), ElementsAre("told", "slow"));
  EXPECT_THAT(recorder_.SlowestRequests(0), IsEmpty());
}

TEST_F(FlightRecorderTest, NamesThatAreTooLongAreCutBetweenCharacters) {
  const std::string longest(128, 'x');
  std::string umlauts = "x";
  for (int i = 0; i < 100; ++i) umlauts += "\u00fc";  // two bytes
  const RequestNumber number = recorder_.Accepted(longest + "y", umlauts, {}, {});
  EXPECT_EQ(recorder_.Request(number)->id, longest);
  EXPECT_EQ(recorder_.Request(number)->tenant, umlauts.substr(0, 127));
  EXPECT_THAT(IdsOf(recorder_.RequestsById(longest)), ElementsAre(longest));
  EXPECT_THAT(IdsOf(recorder_.RequestsById(longest + "y")), ElementsAre(longest));
  recorder_.Closed(number, absl::StatusCode::kInternal, longest, {}, {});
  EXPECT_EQ(recorder_.Request(number)->reason, longest.substr(0, 32));
}

TEST(FlightRecorderMemoryTest, StaysWithinItsBound) {
  size_t before = 0;
  for (const int ranks : {1, 8, 16, FlightRecorder::kMaxRanks}) {
    const FlightRecorder recorder(ranks);
    EXPECT_LE(recorder.bytes(), FlightRecorder::kMaxBytes) << ranks << " ranks";
    EXPECT_GT(recorder.bytes(), before);
    before = recorder.bytes();
  }
}

TEST(FlightRecorderMemoryTest, RanksBeyondTheLastAreNotRemembered) {
  FlightRecorder recorder(FlightRecorder::kMaxRanks + 5);
  EXPECT_LE(recorder.bytes(), FlightRecorder::kMaxBytes);
  recorder.Planned({.step = 0}, {});
  recorder.RankEnded(FlightRecorder::kMaxRanks, 0, {.phases = {milliseconds(1)}});
  recorder.RankEnded(FlightRecorder::kMaxRanks - 1, 0, {.phases = {milliseconds(1)}});
  const StepRecord step = recorder.Steps(0, 0).at(0);
  ASSERT_EQ(step.ranks.size(), FlightRecorder::kMaxRanks);
  EXPECT_EQ(step.ranks.back().total, milliseconds(1));
}

// Whatever a reader gets is one step or request as it was written, never half of one and half of another.
TEST(FlightRecorderThreadsTest, ReadersSeeWholeRecords) {
  constexpr int64_t kEnd = 3 * kSteps;
  FlightRecorder recorder(2);
  std::atomic<int64_t> planned{-1};
  std::thread rank([&] {
    for (int64_t step = 0; step < kEnd; ++step) {
      while (planned.load() < step) std::this_thread::yield();
      recorder.RankEnded(1, step, {.phases = {microseconds(step + 1)}});
    }
  });
  std::vector<std::thread> readers;
  const auto check = [](const std::vector<StepRecord>& steps) {
    for (const StepRecord& step : steps) {
      EXPECT_EQ(step.prompt_tokens, step.step);
      const Duration total = step.ranks[1].total;
      EXPECT_TRUE(total == Duration::zero() || total == microseconds(step.step + 1));
      for (const StepMember& member : step.members) {
        EXPECT_EQ(member.tokens, step.step);
        EXPECT_LE(member.request, static_cast<RequestNumber>(step.step + 1));
      }
    }
  };
  for (int i = 0; i < 2; ++i) {
    readers.emplace_back([&] {
      while (planned.load() < kEnd - 1) {
        const int64_t last = recorder.last_step();
        check(recorder.Steps(last - 300, last));
        check(recorder.StepsSince(TimePoint(nanoseconds(last - 100))));
        check(recorder.StepsOf(static_cast<RequestNumber>(std::max<int64_t>(last, 1)), 3));
        for (const RequestRecord& request : recorder.SlowestRequests(50)) {
          EXPECT_EQ(request.id, std::to_string(request.number));
        }
        if (const auto request = recorder.Request(static_cast<RequestNumber>(last / 2 + 1))) {
          EXPECT_EQ(request->id, std::to_string(request->number));
          recorder.Closed(request->number, absl::StatusCode::kOk, "", {}, {});
        }
      }
    });
  }
  for (int64_t step = 0; step < kEnd; ++step) {
    std::vector<StepMember> members;
    const int32_t tokens = static_cast<int32_t>(step);
    const RequestNumber number = recorder.Accepted(std::to_string(step + 1), "tenant", {}, {});
    for (RequestNumber request = number; request > 0 && number - request < 400; --request) {
      members.push_back({request, tokens});
    }
    recorder.Planned({.step = step, .submitted = TimePoint(nanoseconds(step)), .prompt_tokens = tokens},
                     members);
    planned = step;
    recorder.Delivered(step, TimePoint(nanoseconds(step + 1)));
    if (number > 400) recorder.Ended(number - 400, absl::OkStatus(), {}, TimePoint(nanoseconds(step)));
  }
  rank.join();
  for (std::thread& reader : readers) reader.join();
  EXPECT_EQ(recorder.last_step(), kEnd - 1);
}

}  // namespace
}  // namespace yoio
