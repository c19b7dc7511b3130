#include "engine/duration_histogram.h"

#include <algorithm>
#include <vector>

#include "gtest/gtest.h"
#include "tests/support/random.h"

namespace yoio {
namespace {

using std::chrono::hours;
using std::chrono::microseconds;
using std::chrono::nanoseconds;

TEST(DurationHistogramTest, NothingIsZero) {
  EXPECT_EQ(DurationHistogram().Quantile(0.99), Duration::zero());
}

TEST(DurationHistogramTest, QuantilesLieInTheirBucket) {
  test::Random random(1);
  for (const int range : {10, 1000, 1000000, 1000000000}) {
    DurationHistogram histogram;
    std::vector<Duration> all;
    for (int i = 0; i < 1000; ++i) {
      all.push_back(nanoseconds(random.Below(range)));
      histogram.Add(all.back());
    }
    std::sort(all.begin(), all.end());
    for (const double share : {0.1, 0.5, 0.9, 0.99, 1.0}) {
      const Duration exact = all[static_cast<size_t>(share * 1000) - 1];
      EXPECT_GE(histogram.Quantile(share), exact);
      EXPECT_LE(ToSeconds(histogram.Quantile(share)), ToSeconds(exact) * 1.126 + 2e-9);
    }
    EXPECT_EQ(histogram.count(), 1000);
  }
}

TEST(DurationHistogramTest, OneInAHundredIsBeyondTheNinetyNinth) {
  DurationHistogram histogram;
  for (int i = 0; i < 99; ++i) histogram.Add(microseconds(10));
  histogram.Add(microseconds(1000));
  EXPECT_LT(histogram.Quantile(0.99), microseconds(12));
  EXPECT_GE(histogram.Quantile(1), microseconds(1000));
}

TEST(DurationHistogramTest, TakesWhateverComes) {
  DurationHistogram histogram;
  histogram.Add(Duration(-5));
  histogram.Add(Duration::zero());
  EXPECT_LE(histogram.Quantile(1), nanoseconds(2));
  histogram.Add(hours(100));
  EXPECT_GT(histogram.Quantile(1), std::chrono::minutes(10));
}

}  // namespace
}  // namespace yoio
