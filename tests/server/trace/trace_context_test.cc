// Trace contexts from the wire: what the formats have, and anything else.
#include "server/trace/trace_context.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "tests/support/random.h"

namespace yoio {
namespace {

using std::string_literals::operator""s;

constexpr char kTrace[] = "4bf92f3577b34da6a3ce929d0e0e4736";
constexpr char kSpan[] = "00f067aa0ba902b7";
const std::string kSampled = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
const TraceId kId{
    .trace = {0x4b, 0xf9, 0x2f, 0x35, 0x77, 0xb3, 0x4d, 0xa6, 0xa3, 0xce, 0x92, 0x9d, 0x0e, 0x0e, 0x47, 0x36},
    .span = {0x00, 0xf0, 0x67, 0xaa, 0x0b, 0xa9, 0x02, 0xb7},
    .sampled = true};

std::string Hex(const std::string& bytes) { return absl::BytesToHexString(bytes); }

void ExpectIs(const std::optional<TraceId>& id, const TraceId& expected) {
  ASSERT_TRUE(id.has_value());
  EXPECT_EQ(id->trace, expected.trace);
  EXPECT_EQ(id->span, expected.span);
  EXPECT_EQ(id->sampled, expected.sampled);
}

TEST(TraceparentTest, IsRead) {
  ExpectIs(ParseTraceparent(kSampled), kId);
  TraceId unsampled = kId;
  unsampled.sampled = false;
  ExpectIs(ParseTraceparent(kSampled.substr(0, 53) + "00"), unsampled);
}

TEST(TraceparentTest, OfTheFlagsOnlySampledCounts) {
  EXPECT_TRUE(ParseTraceparent(kSampled.substr(0, 53) + "ff")->sampled);
  EXPECT_FALSE(ParseTraceparent(kSampled.substr(0, 53) + "fe")->sampled);
}

TEST(TraceparentTest, LaterVersionsMayBeLonger) {
  const std::string later = "cc" + kSampled.substr(2);
  ExpectIs(ParseTraceparent(later), kId);
  ExpectIs(ParseTraceparent(later + "-what-the-future-brings"), kId);
  EXPECT_FALSE(ParseTraceparent(later + "what"));
  EXPECT_FALSE(ParseTraceparent(later + "."));
}

TEST(TraceparentTest, AnythingElseIsIgnored) {
  const std::string zero_trace = "00-" + std::string(32, '0') + "-" + kSpan + "-01";
  const std::string zero_span = std::string("00-") + kTrace + "-" + std::string(16, '0') + "-01";
  std::string upper = kSampled;
  upper[3 + 1] = 'B';
  for (const std::string& bad :
       {""s, "00"s, kSampled + "-", kSampled + "0", " " + kSampled, kSampled + " ", "ff" + kSampled.substr(2),
        "0x" + kSampled.substr(2), kSampled.substr(1), kSampled.substr(0, 54), zero_trace, zero_span, upper,
        "00_" + kSampled.substr(3), kSampled.substr(0, 53) + "0g", "00-" + kSampled}) {
    EXPECT_FALSE(ParseTraceparent(bad)) << bad;
  }
}

TEST(TraceparentTest, NoPrefixPasses) {
  for (size_t size = 0; size < kSampled.size(); ++size) {
    EXPECT_FALSE(ParseTraceparent(kSampled.substr(0, size)));
  }
}

// Of each character in each place: digits may be any, nothing else may.
TEST(TraceparentTest, EachCharacterIsChecked) {
  const std::string_view digits = "0123456789abcdef";
  for (size_t i = 0; i < kSampled.size(); ++i) {
    for (int byte = 0; byte < 256; ++byte) {
      std::string text = kSampled;
      text[i] = static_cast<char>(byte);
      const bool good = kSampled[i] == '-' ? byte == '-' : digits.find(text[i]) != std::string_view::npos;
      EXPECT_EQ(ParseTraceparent(text).has_value(), good) << text;
    }
  }
}

TEST(TraceStateTest, MembersAreWhatTheFormatHas) {
  for (const std::string& good :
       {""s, "rojo=00f067aa0ba902b7"s, "congo=t61rcWkgMzE,rojo=1"s, " a=1 ,\tb=2\t, ,"s,
        "fw529a3039@dt=FfAe4h"s, "a_-*/0=!\"#$%&'()*+-./:;<>?@[\\]^_`{|}~ x"s, std::string(256, 'k') + "=v",
        "k=" + std::string(256, 'v')}) {
    EXPECT_TRUE(IsTraceState(good)) << good;
  }
  for (const std::string& bad : {"rojo"s, "=1"s, "a="s, "A=1"s, "a=1,a=2"s, "a=1=2"s, "a=\xc3\xa4"s, "a=\1"s,
                                 "a b=1"s, "@b=1"s, "a@=1"s, "a@b@c=1"s, "a@" + std::string(15, 'b') + "=1",
                                 std::string(257, 'k') + "=v", "k=" + std::string(257, 'v')}) {
    EXPECT_FALSE(IsTraceState(bad)) << bad;
  }
}

TEST(TraceStateTest, IsBounded) {
  std::string members;
  for (size_t i = 0; i < kMaxTraceStateMembers; ++i) absl::StrAppend(&members, "k", i, "=v,");
  EXPECT_TRUE(IsTraceState(members));
  EXPECT_FALSE(IsTraceState(members + "one=more"));
  const std::string half = std::string(255, 'v');
  EXPECT_FALSE(IsTraceState("a=" + half + ",b=" + half));
}

TEST(ReadTraceParentTest, TakesTheIdAndTheState) {
  const CallMetadata metadata = {{"traceparent", kSampled}, {"tracestate", "a=1"}};
  ExpectIs(ReadTraceParent(metadata), kId);
  EXPECT_EQ(ReadTraceState(metadata), "a=1");
  EXPECT_FALSE(ReadTraceParent({{"traceparent", "00-x"}, {"tracestate", "a=1"}}));
}

TEST(ReadTraceParentTest, StatesAreJoinedAndBadOnesDropped) {
  const CallMetadata several = {{"traceparent", kSampled}, {"tracestate", "a=1,b=2"}, {"tracestate", "c=3"}};
  EXPECT_EQ(ReadTraceState(several), "a=1,b=2,c=3");
  const CallMetadata twice = {{"traceparent", kSampled}, {"tracestate", "a=1"}, {"tracestate", "a=2"}};
  EXPECT_EQ(ReadTraceState(twice), "");
  const std::string long_one = "a=" + std::string(255, 'v');
  const std::string other_long_one = "b=" + std::string(255, 'v');
  const CallMetadata long_ones = {
      {"traceparent", kSampled}, {"tracestate", long_one}, {"tracestate", other_long_one}};
  EXPECT_EQ(ReadTraceState(long_ones), "");
}

TEST(ReadTraceParentTest, SeveralParentsAreNone) {
  EXPECT_FALSE(ReadTraceParent({{"traceparent", kSampled}, {"traceparent", kSampled}}));
  EXPECT_FALSE(ReadTraceParent({{"tracestate", "a=1"}, {"user-agent", "x"}}));
  EXPECT_FALSE(ReadTraceParent({}));
}

// Any bytes are read or ignored, and what is read is what was written.
TEST(ReadTraceParentTest, SurvivesRandomBytes) {
  test::Random random(7);
  int read = 0;
  constexpr int kTries = 200'000;
  for (int i = 0; i < kTries; ++i) {
    std::string text = kSampled;
    for (int changes = random.Below(4); changes > 0; --changes) {
      const int at = random.Below(static_cast<int>(text.size()) + 1);
      const char byte =
          random.Below(2) == 0 ? "0123456789abcdef-"[random.Below(17)] : static_cast<char>(random.Below(256));
      const int how = random.Below(3);
      if (how == 0) text.insert(at, 1, byte);
      if (how == 1) text.erase(at, 1);
      if (how == 2 && at < static_cast<int>(text.size())) text[at] = byte;
    }
    const std::optional<TraceId> parent = ReadTraceParent({{"traceparent", text}});
    if (!parent) continue;
    ++read;
    ASSERT_TRUE(parent->valid());
    ASSERT_NE(parent->span, (std::array<uint8_t, 8>{}));
    ASSERT_EQ(text.substr(3, 32), Hex({parent->trace.begin(), parent->trace.end()}));
    ASSERT_EQ(text.substr(36, 16), Hex({parent->span.begin(), parent->span.end()}));
  }
  EXPECT_GT(read, kTries / 4);
  EXPECT_LT(read, kTries);
}

// A state that is taken has members with keys and values, whatever was sent.
TEST(TraceStateTest, SurvivesRandomBytes) {
  test::Random random(8);
  int good = 0;
  constexpr int kTries = 200'000;
  for (int i = 0; i < kTries; ++i) {
    std::string text = "a=1,";
    for (int size = random.Below(12); size > 0; --size) {
      text += random.Below(10) > 0 ? "ab=,@ 1\t"[random.Below(8)] : static_cast<char>(random.Below(256));
    }
    if (!IsTraceState(text)) continue;
    ++good;
    for (const char c : text) ASSERT_TRUE(c == '\t' || (c >= ' ' && c <= '~')) << text;
  }
  EXPECT_GT(good, 1000);
  EXPECT_LT(good, kTries / 2);
}

}  // namespace
}  // namespace yoio
