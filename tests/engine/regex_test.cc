#include "engine/tokenizer/regex.h"

#include "engine/tokenizer/regex_syntax.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace yoio {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

std::vector<std::string> Matches(const std::string& pattern, const std::string& text) {
  const auto regex = Regex::Compile(pattern);
  if (!regex.ok()) return {std::string(regex.status().message())};
  std::vector<std::string> matches;
  RegexScratch scratch;
  for (size_t from = 0;;) {
    const auto match = regex->Find(text, from, scratch);
    if (!match.ok()) return {std::string(match.status().message())};
    if (!*match) return matches;
    matches.push_back(text.substr((*match)->begin, (*match)->end - (*match)->begin));
    from = (*match)->end;
  }
}

TEST(RegexTest, WhiteSpaceIsTheUnicodeProperty) {
  EXPECT_THAT(Matches("\\s", "a\u0085b\u00a0c\u2003\u180e\u200b"), ElementsAre("\u0085", "\u00a0", "\u2003"));
  EXPECT_THAT(Matches("\\S+", "a\u180eb\u3000c"), ElementsAre("a\u180eb", "c"));
  EXPECT_THAT(Matches("[\\s.]+", "a. \u2028b"), ElementsAre(". \u2028"));
  EXPECT_THAT(Matches("[^\\s.]+", "a. \u2028b"), ElementsAre("a", "b"));
  EXPECT_THAT(Matches("[^\\S\\n]+", "a \t\n\u1680b\u180e"), ElementsAre(" \t", "\u1680"));
}

TEST(RegexTest, DigitsAndLettersAreUnicode) {
  EXPECT_THAT(Matches("\\d", "1٣½Ⅷ"), ElementsAre("1", "٣"));
  EXPECT_THAT(Matches("\\D", "1x½"), ElementsAre("x", "½"));
  EXPECT_THAT(Matches("\\p{N}{1,2}", "1٣½"), ElementsAre("1٣", "½"));
  EXPECT_THAT(Matches("(?i:'s)", "'s 'S 'ſ"), ElementsAre("'s", "'S", "'ſ"));
}

TEST(RegexTest, LinesEndAtNewlinesOnly) { EXPECT_THAT(Matches("^.+$", "a\rb\nc"), ElementsAre("a\rb", "c")); }

TEST(RegexTest, ADashAfterASetIsItself) {
  EXPECT_THAT(Matches("[\\s-z]", "-z m"), ElementsAre("-", "z", " "));
  EXPECT_THAT(Matches("[\\p{Lu}-z]", "-zAm"), ElementsAre("-", "z", "A"));
  EXPECT_THAT(Matches("[-\\s]", "a-b c"), ElementsAre("-", " "));
  EXPECT_THAT(Matches("[^-\\s]+", "a-b c"), ElementsAre("a", "b", "c"));
  EXPECT_THAT(Matches("[+\\-\\s]", "a-b c+,"), ElementsAre("-", " ", "+"));
}

TEST(RegexTest, LiteralsMeanThemselves) {
  const auto regex = Regex::CompileLiteral(".*");
  ASSERT_TRUE(regex.ok());
  RegexScratch scratch;
  EXPECT_FALSE(regex->Find("abc", 0, scratch)->has_value());
  EXPECT_EQ((*regex->Find("é.*", 0, scratch))->begin, 2u);
  EXPECT_FALSE(Regex::CompileLiteral("").ok());
}

class TranslationTest : public testing::TestWithParam<std::pair<const char*, const char*>> {};

TEST_P(TranslationTest, GivesThisPattern) {
  const auto translated = TranslateOnigurumaPattern(GetParam().first);
  ASSERT_TRUE(translated.ok()) << translated.status();
  EXPECT_EQ(*translated, GetParam().second);
}

INSTANTIATE_TEST_SUITE_P(
    Patterns, TranslationTest,
    testing::Values(std::pair("(?i)a(?:b|c)(?=d)(?!e)(?<=f)(?<!g)(?>h)(i)",
                              "(?i)a(?:b|c)(?=d)(?!e)(?<=f)(?<!g)(?>h)(i)"),
                    std::pair("a{2}b{2,}c{2,3}?d++e*+f?+", "a{2}b{2,}c{2,3}?d++e*+f?+"),
                    std::pair("\\u00e9\\x{1F642}\\.\\[[\\]\\\\]", "\\x{00e9}\\x{1F642}\\.\\[[\\]\\\\]"),
                    std::pair("[^\\r\\n\\p{L}\\P{^N}]|你", "[^\\r\\n\\p{L}\\P{^N}]|你")));

class RefusalTest : public testing::TestWithParam<const char*> {};

TEST_P(RefusalTest, NamesTheConstruct) {
  const auto translated = TranslateOnigurumaPattern(GetParam());
  EXPECT_TRUE(absl::IsInvalidArgument(translated.status())) << *translated;
  EXPECT_THAT(translated.status().message(), HasSubstr("is not supported"));
}

INSTANTIATE_TEST_SUITE_P(Patterns, RefusalTest,
                         testing::Values("\\w", "\\b", "\\h", "\\R", "\\X", "\\G", "\\K", "\\1", "\\v",
                                         "\\x41", "\\x{}", "\\x{zz}", "\\u12", "\\pL", "\\p{L", "\\", "[",
                                         "[]", "[]a]", "[^]]", "[a[b]]", "[a&&b]", "[a-\\s]", "[a", "x(?i)y",
                                         "(?m:x)", "(?<n>x)", "(?#x)", "(?x)a", "a{", "a{}", "a{,3}", "a{2",
                                         "a{x}", "a{2}?", "a{2,3}+", "a{1,2x}"));

}  // namespace
}  // namespace yoio
