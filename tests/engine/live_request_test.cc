#include "engine/live_request.h"

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

}  // namespace
}  // namespace yoio
