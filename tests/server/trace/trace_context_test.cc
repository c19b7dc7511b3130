// Trace contexts from the wire: what the formats have, and anything else.
#include "server/trace/trace_context.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

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

std::string BytesOf(const TraceId& id) {
  return "\0\0"s + std::string(id.trace.begin(), id.trace.end()) + "\1" +
         std::string(id.span.begin(), id.span.end()) + "\2" + (id.sampled ? "\1" : "\0"s);
}

void ExpectIs(const std::optional<TraceId>& id, const TraceId& expected) {
  ASSERT_TRUE(id.has_value());
  EXPECT_EQ(id->trace, expected.trace);
  EXPECT_EQ(id->span, expected.span);
  EXPECT_EQ(id->sampled, expected.sampled);
}

TEST(TraceparentTest, IsReadAndWritten) {
  ExpectIs(ParseTraceparent(kSampled), kId);
  EXPECT_EQ(FormatTraceparent(kId), kSampled);
  TraceId unsampled = kId;
  unsampled.sampled = false;
  EXPECT_EQ(FormatTraceparent(unsampled), kSampled.substr(0, 53) + "00");
  ExpectIs(ParseTraceparent(FormatTraceparent(unsampled)), unsampled);
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

TEST(TraceparentTest, NoPrefixAndNoSingleWrongCharacterPasses) {
  for (size_t size = 0; size < kSampled.size(); ++size)
    EXPECT_FALSE(ParseTraceparent(kSampled.substr(0, size)));
  for (size_t i = 0; i < kSampled.size(); ++i) {
    for (const char wrong : {'\0', ' ', 'G', 'F', 'g', '-', '\x80', '\xff'}) {
      std::string text = kSampled;
      if (text[i] == wrong) continue;
      text[i] = wrong;
      EXPECT_FALSE(ParseTraceparent(text)) << text;
    }
  }
}

TEST(GrpcTraceBinTest, IsRead) {
  ExpectIs(ParseGrpcTraceBin(BytesOf(kId)), kId);
  TraceId unsampled = kId;
  unsampled.sampled = false;
  ExpectIs(ParseGrpcTraceBin(BytesOf(unsampled)), unsampled);
  ExpectIs(ParseGrpcTraceBin(BytesOf(kId).substr(0, 27)), unsampled);  // no options
  ExpectIs(ParseGrpcTraceBin(BytesOf(kId) + "\3of a later version"), kId);
}

TEST(GrpcTraceBinTest, AnythingElseIsIgnored) {
  const std::string good = BytesOf(kId);
  const std::string trace = good.substr(1, 17);
  const std::string span = good.substr(18, 9);
  for (const std::string& bad :
       {""s, "\0"s, "\1" + good.substr(1), "\0"s + trace, "\0"s + span, "\0"s + span + trace,
        "\0"s + trace + trace, good.substr(0, 20), good.substr(0, 28), BytesOf(TraceId{.trace = kId.trace}),
        BytesOf(TraceId{.span = kId.span})}) {
    EXPECT_FALSE(ParseGrpcTraceBin(bad)) << testing::PrintToString(bad);
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
  for (int i = 0; i < kMaxTraceStateMembers; ++i) members += "k" + std::to_string(i) + "=v,";
  EXPECT_TRUE(IsTraceState(members));
  EXPECT_FALSE(IsTraceState(members + "one=more"));
  const std::string half = std::string(255, 'v');
  EXPECT_FALSE(IsTraceState("a=" + half + ",b=" + half));
}

TEST(ReadTraceParentTest, TraceparentGoesBeforeTheBinaryForm) {
  TraceId other = kId;
  other.span[0] = 9;
  const std::string binary = BytesOf(other);
  const CallMetadata both = {{"grpc-trace-bin", binary}, {"traceparent", kSampled}, {"tracestate", "a=1"}};
  const auto parent = ReadTraceParent(both);
  ASSERT_TRUE(parent.has_value());
  ExpectIs(parent->id, kId);
  EXPECT_EQ(parent->trace_state, "a=1");
  const CallMetadata malformed = {{"grpc-trace-bin", binary}, {"traceparent", "00-x"}, {"tracestate", "a=1"}};
  ASSERT_TRUE(ReadTraceParent(malformed).has_value());
  ExpectIs(ReadTraceParent(malformed)->id, other);
  EXPECT_EQ(ReadTraceParent(malformed)->trace_state, "");
}

TEST(ReadTraceParentTest, StatesAreJoinedAndBadOnesDropped) {
  const CallMetadata several = {{"traceparent", kSampled}, {"tracestate", "a=1,b=2"}, {"tracestate", "c=3"}};
  EXPECT_EQ(ReadTraceParent(several)->trace_state, "a=1,b=2,c=3");
  const CallMetadata twice = {{"traceparent", kSampled}, {"tracestate", "a=1"}, {"tracestate", "a=2"}};
  EXPECT_EQ(ReadTraceParent(twice)->trace_state, "");
  const std::string long_one = "a=" + std::string(255, 'v');
  const std::string other_long_one = "b=" + std::string(255, 'v');
  const CallMetadata long_ones = {
      {"traceparent", kSampled}, {"tracestate", long_one}, {"tracestate", other_long_one}};
  EXPECT_EQ(ReadTraceParent(long_ones)->trace_state, "");
}

TEST(ReadTraceParentTest, SeveralParentsAreNone) {
  EXPECT_FALSE(ReadTraceParent({{"traceparent", kSampled}, {"traceparent", kSampled}}));
  EXPECT_FALSE(ReadTraceParent({{"tracestate", "a=1"}, {"user-agent", "x"}}));
  EXPECT_FALSE(ReadTraceParent({}));
}

// Any bytes are read or ignored, and what is read is an id that reads the same when it is written.
TEST(ReadTraceParentTest, SurvivesRandomBytes) {
  test::Random random(7);
  const std::string good_bytes = BytesOf(kId);
  int read = 0;
  for (int i = 0; i < 200'000; ++i) {
    std::string text = i % 2 == 0 ? kSampled : good_bytes;
    for (int changes = random.Below(4); changes > 0; --changes) {
      const int at = random.Below(static_cast<int>(text.size()) + 1);
      const char byte =
          random.Below(2) == 0 ? "0123456789abcdef-"[random.Below(17)] : char(random.Below(256));
      const int how = random.Below(3);
      if (how == 0) text.insert(at, 1, byte);
      if (how == 1) text.erase(at, 1);
      if (how == 2 && at < static_cast<int>(text.size())) text[at] = byte;
    }
    IsTraceState(text);
    const auto id = i % 2 == 0 ? ParseTraceparent(text) : ParseGrpcTraceBin(text);
    if (!id) continue;
    ++read;
    ASSERT_TRUE(id->valid());
    ASSERT_NE(id->span, (std::array<uint8_t, 8>{}));
    ExpectIs(ParseTraceparent(FormatTraceparent(*id)), *id);
  }
  EXPECT_GT(read, 50'000);
  EXPECT_LT(read, 200'000);
}

}  // namespace
}  // namespace yoio
