#include "engine/stop_matcher.h"

#include <algorithm>
#include <random>

#include "gtest/gtest.h"

namespace yoio {
namespace {

struct Result {
  std::string text;
  std::optional<int> stop;
  bool operator==(const Result&) const = default;
  friend std::ostream& operator<<(std::ostream& out, const Result& result) {
    return out << "'" << result.text << "', stop " << result.stop.value_or(-1);
  }
};

// Feeds `text` in pieces whose sizes `next_size` draws, until a stop string ends it.
template <typename NextSize>
Result Stream(const std::string& text, const std::vector<std::string>& stops, bool include_stop,
              NextSize next_size) {
  size_t longest = 0;
  for (const std::string& stop : stops) longest = std::max(longest, stop.size());
  StopMatcher matcher(stops, include_stop);
  std::string out;
  for (size_t at = 0; at < text.size();) {
    const std::string piece = text.substr(at, next_size());
    at += piece.size();
    StopMatcher::Output output = matcher.Append(piece);
    out += output.text;
    if (output.stop) return {out, output.stop};
    EXPECT_LT(at - out.size(), longest) << "held back too much of '" << text << "'";
  }
  return {out + matcher.Flush(), std::nullopt};
}

Result ByteByByte(const std::string& text, const std::vector<std::string>& stops, bool include_stop = false) {
  return Stream(text, stops, include_stop, [] { return 1; });
}

// The definition: looks at every end of the text in turn.
Result Naive(const std::string& text, const std::vector<std::string>& stops, bool include_stop) {
  for (size_t end = 1; end <= text.size(); ++end) {
    const std::string_view head = std::string_view(text).substr(0, end);
    for (size_t i = 0; i < stops.size(); ++i) {
      if (!head.ends_with(stops[i])) continue;
      return {text.substr(0, include_stop ? end : end - stops[i].size()), static_cast<int>(i)};
    }
  }
  return {text, std::nullopt};
}

TEST(StopMatcherTest, CutsTheStopString) {
  EXPECT_EQ(ByteByByte("one END two", {"END"}), (Result{"one ", 0}));
  EXPECT_EQ(ByteByByte("one END two", {"END"}, true), (Result{"one END", 0}));
  EXPECT_EQ(ByteByByte("one two", {"END"}), (Result{"one two", std::nullopt}));
}

TEST(StopMatcherTest, WithoutStopStringsEverythingGoes) {
  StopMatcher matcher({}, false);
  EXPECT_EQ(matcher.Append("text").text, "text");
  EXPECT_EQ(matcher.Flush(), "");
}

TEST(StopMatcherTest, HoldsBackOnlyWhatMayBeginAStop) {
  StopMatcher matcher({"abc", "bd"}, false);
  EXPECT_EQ(matcher.Append("xxab").text, "xx") << "ab may become abc";
  EXPECT_EQ(matcher.Append("x").text, "abx");
  EXPECT_EQ(matcher.Append("ab").text, "");
  EXPECT_EQ(matcher.Append("ab").text, "ab");
  EXPECT_EQ(matcher.Flush(), "ab");
}

TEST(StopMatcherTest, TheMatchThatEndsFirstWins) {
  EXPECT_EQ(ByteByByte("abcd", {"abcd", "bc"}), (Result{"a", 1}))
      << "bc ends before abcd, which begins first";
  EXPECT_EQ(ByteByByte("xabc", {"bc", "abc"}), (Result{"xa", 0})) << "both end here: the first given";
  EXPECT_EQ(ByteByByte("xabc", {"abc", "bc"}), (Result{"x", 0}));
}

TEST(StopMatcherTest, FallsBackInsideAPattern) {
  EXPECT_EQ(ByteByByte("aaaab", {"aab"}), (Result{"aa", 0}));
  EXPECT_EQ(ByteByByte("ababac!", {"abac"}), (Result{"ab", 0}));
}

TEST(StopMatcherTest, LetsThroughWholeCharacters) {
  StopMatcher matcher({"€!"}, false);  // three bytes and one
  EXPECT_EQ(matcher.Append("5 €").text, "5 ");
  EXPECT_EQ(matcher.Append("é").text, "€é");
  EXPECT_EQ(matcher.Append("€").text, "");
  const StopMatcher::Output end = matcher.Append("!…");
  EXPECT_EQ(end.text, "");
  EXPECT_EQ(end.stop, 0);
}

// Small alphabets make overlaps frequent; every cut into pieces must give what the whole text gives.
TEST(StopMatcherTest, AgreesWithTheNaiveSearch) {
  std::mt19937 random(11);
  const auto word = [&](size_t longest, int letters) {
    std::string text(1 + random() % longest, ' ');
    for (char& c : text) c = static_cast<char>('a' + random() % letters);
    return text;
  };
  int matches = 0;
  constexpr int kCases = 20000;
  for (int i = 0; i < kCases; ++i) {
    const int letters = 1 + static_cast<int>(random() % 4);
    const std::string text = word(40, letters);
    std::vector<std::string> stops(1 + random() % 4);
    for (std::string& stop : stops) stop = word(8, letters);
    const bool include_stop = random() % 2 == 0;
    const Result expected = Naive(text, stops, include_stop);
    const Result actual = Stream(text, stops, include_stop, [&] { return 1 + random() % 5; });
    ASSERT_EQ(actual, expected) << "text '" << text << "', first stop '" << stops[0] << "'";
    matches += expected.stop.has_value();
  }
  EXPECT_GT(matches, kCases / 4);
  EXPECT_LT(matches, kCases * 3 / 4 + kCases / 8) << "texts without a match must be tried too";
}

TEST(StopMatcherDeathTest, AnEmptyStopStringIsABug) {
  EXPECT_DEATH(StopMatcher({""}, false), "an empty stop string");
}

}  // namespace
}  // namespace yoio
