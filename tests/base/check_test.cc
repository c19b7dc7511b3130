#include "base/check.h"

#include <string>

#include "gtest/gtest.h"

namespace yoio {
namespace {

TEST(CheckTest, PassesInSilence) {
  YOIO_CHECK(true) << "never seen";
  YOIO_CHECK_EQ(1 + 1, 2);
  YOIO_CHECK_LT(1, 2) << "never seen";
}

TEST(CheckTest, EvaluatesTheConditionOnce) {
  int calls = 0;
  YOIO_CHECK(++calls > 0);
  EXPECT_EQ(calls, 1);
}

TEST(CheckTest, MessageIsNotBuiltWhenTheConditionHolds) {
  int built = 0;
  const auto message = [&] { return ++built; };
  YOIO_CHECK(true) << message();
  EXPECT_EQ(built, 0);
}

// A check is one expression: it may stand alone between if and else.
TEST(CheckTest, NestsInIfWithoutBraces) {
  bool reached = false;
  if (false)
    YOIO_CHECK(false);
  else
    reached = true;
  EXPECT_TRUE(reached);
}

TEST(CheckDeathTest, PrintsWhereWhatAndBothValues) {
  const int blocks = 3;
  EXPECT_DEATH(YOIO_CHECK(blocks > 4) << "after drain",
               "check_test.cc:.*CHECK failed: blocks > 4 after drain");
  EXPECT_DEATH(YOIO_CHECK_EQ(blocks, 4) << "leaked",
               "CHECK failed: \\(blocks\\) ?== ?\\(4\\).*\\(3 vs. 4\\) leaked");
  EXPECT_DEATH(YOIO_CHECK_GE(blocks, 4), "\\(3 vs. 4\\)");
  EXPECT_DEATH(YOIO_CHECK_NE(std::string("a"), "a"), "\\(a vs. a\\)");
}

}  // namespace
}  // namespace yoio
