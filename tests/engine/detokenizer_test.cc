
#include "engine/tokenizer/tokenizer.h"
#include "engine/tokenizer/utf8.h"
#include "gtest/gtest.h"
#include "tests/support/byte_tokenizer.h"
#include "tests/support/random_text.h"

namespace yoio {
namespace {

using test::ByteTokenizer;

TEST(Utf8Test, ReplacesEachMaximalSubpartOnce) {
  const std::string r = "\uFFFD";
  EXPECT_EQ(ReplaceMalformedUtf8("plain é 你 🙂"), "plain é 你 🙂");
  EXPECT_EQ(ReplaceMalformedUtf8("\xC0\xAF"), r + r);          // overlong
  EXPECT_EQ(ReplaceMalformedUtf8("\xE0\x80\x80"), r + r + r);  // overlong
  EXPECT_EQ(ReplaceMalformedUtf8("\xED\xA0\x80"), r + r + r);  // a surrogate
  EXPECT_EQ(ReplaceMalformedUtf8("\xF4\x91\x92\x93\xFF"
                                 "A\x80\xBF"
                                 "B"),
            r + r + r + r + r + "A" + r + r + "B");
  EXPECT_EQ(ReplaceMalformedUtf8("\xE1\x80\xE2\xF0\x91\x92\xF1\xBF"
                                 "A"),
            r + r + r + r + "A");
  EXPECT_EQ(ReplaceMalformedUtf8("a\xF0\x9F\x99"), "a" + r);  // unfinished
  EXPECT_EQ(ReplaceMalformedUtf8(std::string("\0x", 2)), std::string("\0x", 2));
}

TEST(Utf8Test, FindsUnfinishedTails) {
  EXPECT_EQ(UnfinishedUtf8Tail(""), 0u);
  EXPECT_EQ(UnfinishedUtf8Tail("a🙂"), 0u);
  EXPECT_EQ(UnfinishedUtf8Tail("a\xF0"), 1u);
  EXPECT_EQ(UnfinishedUtf8Tail("a\xF0\x9F"), 2u);
  EXPECT_EQ(UnfinishedUtf8Tail("a\xF0\x9F\x99"), 3u);
  EXPECT_EQ(UnfinishedUtf8Tail("a\xF0\x80"), 0u);  // overlong: malformed already
  EXPECT_EQ(UnfinishedUtf8Tail("\x99\x99\x99"), 0u);
}

TEST(DetokenizerTest, HoldsACharacterBackUntilItIsWhole) {
  const ByteTokenizer tokenizer;
  Detokenizer detokenizer(tokenizer, true);
  EXPECT_EQ(detokenizer.Append('a'), "a");
  EXPECT_EQ(detokenizer.Append(0xF0), "");
  EXPECT_EQ(detokenizer.Append(0x9F), "");
  EXPECT_EQ(detokenizer.Append(ByteTokenizer::kEos), "");  // skipped, as if it were not there
  EXPECT_EQ(detokenizer.Append(0x99), "");
  EXPECT_EQ(detokenizer.Append(0x82), "🙂");
  EXPECT_EQ(detokenizer.Flush(), "");
}

TEST(DetokenizerTest, GivesUpOnACharacterAsSoonAsItIsMalformed) {
  const ByteTokenizer tokenizer;
  Detokenizer detokenizer(tokenizer, false);
  EXPECT_EQ(detokenizer.Append(0xE4), "");
  EXPECT_EQ(detokenizer.Append('x'), "\uFFFDx");
  EXPECT_EQ(detokenizer.Append(0xE4), "");
  EXPECT_EQ(detokenizer.Append(ByteTokenizer::kEos), "\uFFFD</s>");
  EXPECT_EQ(detokenizer.Append(0xE4), "");
  EXPECT_EQ(detokenizer.Flush(), "\uFFFD");
  EXPECT_EQ(detokenizer.Flush(), "");
}

TEST(DetokenizerTest, PiecesMakeTheWholeText) {
  const ByteTokenizer tokenizer;
  test::Random random(17);
  for (int round = 0; round < 3000; ++round) {
    const bool skip = random.Below(2) == 0;
    Detokenizer detokenizer(tokenizer, skip);
    std::string streamed, bytes;
    const auto append = [&](int32_t id) {
      const std::string piece = detokenizer.Append(id);
      EXPECT_TRUE(IsValidUtf8(piece));
      streamed += piece;
      if (!(skip && tokenizer.IsSpecial(id))) bytes += tokenizer.TokenBytes(id);
    };
    const int length = random.Below(30);
    for (const char byte :
         round % 2 == 0 ? test::RandomText(random, length) : test::RandomBytes(random, length)) {
      append(static_cast<uint8_t>(byte));
      if (random.Below(16) == 0) append(ByteTokenizer::kEos);
    }
    streamed += detokenizer.Flush();
    EXPECT_EQ(streamed, ReplaceMalformedUtf8(bytes));
  }
}

}  // namespace
}  // namespace yoio
