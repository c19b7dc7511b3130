#include "engine/live_request.h"

#include <memory>
#include <utility>
#include <vector>

#include "gtest/gtest.h"

namespace yoio {
namespace {

using std::chrono::hours;
using std::chrono::milliseconds;
using std::chrono::minutes;
using std::chrono::seconds;

constexpr TimePoint kArrival = TimePoint(hours(5));

class LiveRequestTest : public testing::Test {
 protected:
  LiveRequestTest() { live_.request.arrival = kArrival; }

  // How long after its arrival its next token is due.
  Duration Due() {
    SetTimes(live_, hours(1));
    return live_.due - kArrival;
  }

  LiveRequest live_;
};

TEST_F(LiveRequestTest, EveryRequestIsDueSomeTime) {
  EXPECT_EQ(Due(), hours(1));
  EXPECT_EQ(live_.request.deadline, kArrival + hours(1));
  EXPECT_EQ(live_.budget_end, TimePoint::max());
}

TEST_F(LiveRequestTest, TheEarliestEndCounts) {
  live_.request.deadline = kArrival + minutes(30);
  EXPECT_EQ(Due(), minutes(30));
  live_.request.time_budget = minutes(20);
  EXPECT_EQ(Due(), minutes(20));
  EXPECT_EQ(live_.budget_end, kArrival + minutes(20));
  live_.request.targets.total = minutes(10);
  EXPECT_EQ(Due(), minutes(10));
  live_.request.targets.total = minutes(25);
  EXPECT_EQ(Due(), minutes(20));
}

TEST_F(LiveRequestTest, EndlessTimesAreNoLongerThanAnyOther) {
  live_.request.time_budget = Duration::max();
  live_.request.targets = {Duration::max(), Duration::max(), Duration::max()};
  EXPECT_EQ(Due(), hours(1));
  live_.first_token = live_.last_token = kArrival + minutes(59);
  UpdateDue(live_);
  EXPECT_EQ(live_.due, kArrival + hours(1));
}

TEST_F(LiveRequestTest, AfterTheFirstTokenTheNextOneIsDue) {
  live_.request.targets = {
      .time_to_first_token = seconds(3), .time_per_output_token = milliseconds(100), .total = seconds(10)};
  EXPECT_EQ(Due(), seconds(3));
  live_.first_token = live_.last_token = kArrival + seconds(5);
  UpdateDue(live_);
  EXPECT_EQ(live_.due, kArrival + milliseconds(5100));
  live_.last_token = kArrival + milliseconds(9950);
  UpdateDue(live_);
  EXPECT_EQ(live_.due, kArrival + seconds(10));
}

// A request that goes from phase to phase, a second each; tokenizing takes two, one of them the wait for it.
class TimingTest : public LiveRequestTest {
 protected:
  TimingTest() {
    live_.tokenizing = kArrival + seconds(1);
    live_.tokenized = kArrival + seconds(2);
    live_.tokens_of_choice = {0};
    live_.outbox = std::make_shared<Outbox>(nullptr);
  }
  void Schedule() { live_.first_scheduled = kArrival + seconds(3); }
  void DrawTokens(std::vector<int32_t> tokens_of_choice) {
    live_.first_token = kArrival + seconds(4);
    live_.last_token = kArrival + seconds(5);
    live_.tokens_of_choice = std::move(tokens_of_choice);
  }
  Timing TimingAfter(int total) { return SummaryOf(live_, kArrival + seconds(total)).timing; }

  // What is left of its time when all phases are over.
  static Duration Rest(const Timing& timing) {
    return timing.total - timing.tokenize - timing.queue - timing.prefill - timing.decode;
  }
};

TEST_F(TimingTest, EndsInTheQueue) {
  const Timing timing = TimingAfter(10);
  EXPECT_EQ(timing.tokenize, seconds(2));
  EXPECT_EQ(timing.waited_tokenizer, seconds(1));
  EXPECT_EQ(timing.queue, seconds(8));
  EXPECT_EQ(timing.prefill, Duration::zero());
  EXPECT_EQ(timing.total, seconds(10));
  EXPECT_EQ(Rest(timing), Duration::zero());
}

TEST_F(TimingTest, EndsInItsPrompt) {
  Schedule();
  const Timing timing = TimingAfter(10);
  EXPECT_EQ(timing.queue, seconds(1));
  EXPECT_EQ(timing.prefill, seconds(7));
  EXPECT_EQ(timing.time_to_first_token, Duration::zero());
  EXPECT_EQ(timing.decode, Duration::zero());
  EXPECT_EQ(Rest(timing), Duration::zero());
}

TEST_F(TimingTest, EndsAfterItsTokens) {
  Schedule();
  DrawTokens({3, 5});
  const Timing timing = TimingAfter(10);
  EXPECT_EQ(timing.prefill, seconds(1));
  EXPECT_EQ(timing.time_to_first_token, seconds(4));
  EXPECT_EQ(timing.decode, seconds(1));
  EXPECT_EQ(timing.time_per_output_token, milliseconds(250)) << "of the longest choice";
  EXPECT_EQ(Rest(timing), seconds(5));
  EXPECT_EQ(timing.deliver, Duration::zero()) << "known to whoever delivers";
  EXPECT_EQ(SummaryOf(live_, kArrival).usage.completion_tokens, 8);
}

TEST_F(TimingTest, StatesNameThePhase) {
  EXPECT_EQ(StateOf(live_, 3, kArrival + seconds(2)).phase, Phase::kQueued);
  EXPECT_EQ(StateOf(live_, 3, kArrival + seconds(2)).queue_position, 4);
  EXPECT_EQ(StateOf(live_, 3, kArrival + seconds(2)).age, seconds(2));
  Schedule();
  live_.prompt = {1, 2, 3};
  live_.choices.resize(1);
  live_.choices[0].planned_tokens = 2;
  EXPECT_EQ(StateOf(live_, -1, kArrival).phase, Phase::kPrefill);
  EXPECT_EQ(StateOf(live_, -1, kArrival).queue_position, 0);
  EXPECT_EQ(StateOf(live_, -1, kArrival).prompt_tokens, 3);
  EXPECT_EQ(StateOf(live_, -1, kArrival).prompt_tokens_done, 2);
  DrawTokens({2});
  live_.choices[0].planned_tokens = 5;
  EXPECT_EQ(StateOf(live_, -1, kArrival).phase, Phase::kDecode);
  EXPECT_EQ(StateOf(live_, -1, kArrival).prompt_tokens_done, 3);
  EXPECT_EQ(StateOf(live_, -1, kArrival).completion_tokens, 2);
  EXPECT_EQ(StateOf(live_, 0, kArrival).phase, Phase::kQueued) << "it gave way";
}

}  // namespace
}  // namespace yoio
